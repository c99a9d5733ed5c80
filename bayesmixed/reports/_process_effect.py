r"""How much the rows of a table whose predictors hold a process are worth together.

Two outcomes whose linear predictors are normal with correlation :math:`\rho` have the covariance
:math:`\sum_{k \ge 1} a_k b_k \rho^k`, where :math:`a_k = E\{f(b + \sqrt V z)\,h_k(z)\}` are the
coefficients of the expected outcome f in normalised Hermite polynomials (Mehler's formula; Liu &
Der Kiureghian 1986, Probabilistic Engineering Mechanics 1:105). Where the expected outcome is
proportional to the exponential of its predictor, the covariance is :math:`m m' (e^c - 1)` of the
means m, m' and the predictors' covariance c: that of the lognormal distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesmixed.fit import Fit
from bayesmixed.linpred import LinearPredictor
from bayesmixed.names import sd_name
from bayesmixed.places import Alike, Places, alike, correlations, in_runs
from bayesmixed.predictor import RandomDesign
from bayesmixed.quadrature import STEPS, nodes
from bayesmixed.reports._average_row import AverageRow

type Floats = NDArray[np.float64]
type Integers = NDArray[np.intp]

# Hermite polynomials.
_TERMS = 40
# Variance on the log scale beyond which squares of outcomes may be too large for a float.
_WIDEST = 100.0


@dataclass(frozen=True)
class _Classes:
    """Rows by the standard deviation of their process, in some draws.

    Parameters
    ----------
    variance : array, shape (classes, draws)
        Of linear predictors.
    outcome : array, shape (classes, draws)
        Variance of outcomes.
    terms : array, shape (terms, classes, draws)
        Coefficients of expected outcomes.
    """

    variance: Floats
    outcome: Floats
    terms: Floats

    def of(self, draws: slice) -> _Classes:
        """The same in some draws."""
        return replace(
            self,
            variance=self.variance[:, draws],
            outcome=self.outcome[:, draws],
            terms=self.terms[..., draws],
        )

    def covariance(self, shared: Floats, one: Integers, other: Integers) -> Floats:
        """Of outcomes of rows of two classes each whose predictors have these covariances.

        Parameters
        ----------
        shared : array, shape (pairs, draws)
        one, other : array of int, shape (pairs,)
        """
        rho = shared / np.sqrt(self.variance[one] * self.variance[other])
        total = np.zeros_like(rho)
        for term in self.terms[:0:-1]:
            total = (total + term[one] * term[other]) * rho
        return total


@dataclass(frozen=True)
class _Lognormal:
    """Rows whose expected outcomes are exponentials, by the standard deviation of their process.

    Parameters
    ----------
    outcome : array, shape (classes, draws)
        Variance of outcomes.
    mean : array, shape (classes, draws)
    """

    outcome: Floats
    mean: Floats

    def of(self, draws: slice) -> _Lognormal:
        """The same in some draws."""
        return _Lognormal(self.outcome[:, draws], self.mean[:, draws])

    def covariance(self, shared: Floats, one: Integers, other: Integers) -> Floats:
        """See `_Classes.covariance`."""
        return np.asarray(self.mean[one] * self.mean[other] * np.expm1(shared))


def process_effect(fit: Fit, rows: AverageRow, process: RandomDesign, cluster: Integers) -> Floats:
    """Variance of the mean outcome over that of as many independent rows, (chain, draw).

    Parameters
    ----------
    fit : Fit
    rows : AverageRow
        The average row.
    process : RandomDesign
    cluster : array of int, shape (rows,)
        Rows of different clusters are independent; each holds whole series.
    """
    design, name = fit.design, fit.design.family.parameters[0].name
    groups = {r.name: r for r in design.predictors[name].random if r is not process}
    own = [rows.variance[n][name][..., 0].ravel() for n in groups]
    sd = fit.posterior[sd_name("", process.name)].to_numpy()
    sd = np.moveaxis(sd, -1, 0).reshape((sd.shape[-1], -1))
    spread = sd**2 + np.sum(own, axis=0)
    classes = _classes(rows, name, spread)
    of_row = np.zeros(len(cluster), dtype=np.intp)
    if process.spreads is not None:
        of_row = process.spreads.index.astype(np.intp)
    alone = np.einsum("cd,c->d", classes.outcome, np.bincount(of_row, minlength=len(sd)))
    pairs = np.zeros_like(alone)
    indices = [r.groups.index for r in groups.values()]
    apart = _counts(indices, cluster, of_row, len(sd))
    variances = {mask: _sum(own, mask, alone) for mask in apart}
    for each in _series(fit, process):
        m, same = len(each.times), process.first[each.coming]
        at, to = np.triu_indices(m, 1)
        one, other = of_row[same[0, at]], of_row[same[0, to]]
        counts = _masks(indices, same[:, at], same[:, to])
        for mask, count in counts.items():
            np.subtract.at(apart[mask], (one, other), count)
            np.subtract.at(apart[mask], (other, one), count)
        for some in in_runs(len(alone), m * m):
            own_sd, here = sd[:, some], classes.of(some)
            along = own_sd[one] * own_sd[other] * _correlations(fit, process, each, some, at, to)
            for mask, count in counts.items():
                shared = variances[mask][some] + along
                pairs[some] += 2 * count @ here.covariance(shared, one, other)
    every = np.arange(len(sd))
    one, other = (each.ravel() for each in np.meshgrid(every, every, indexing="ij"))
    for mask, count in apart.items():
        for some in in_runs(len(alone), len(one)) if mask and count.any() else ():
            shared = np.broadcast_to(variances[mask][some], (len(one), len(alone[some])))
            pairs[some] += count.ravel() @ classes.of(some).covariance(shared, one, other)
    return np.asarray((1 + pairs / alone).reshape(rows.outcome_variance().shape[:2]))


def _classes(rows: AverageRow, name: str, spread: Floats) -> _Classes | _Lognormal:
    """Variances and what covariances follow from, the rest of predictors at the average row."""
    count = rows.centre[name].shape[:2]
    whole = np.moveaxis(spread.reshape((len(spread), *count)), 0, -1)
    lognormal = _lognormal(rows, name, whole)
    if lognormal is not None:
        return lognormal
    further = rows.spread(rows.variance)
    centre = rows.centre
    predictor = LinearPredictor(rows.design, centre, {**further, name: whole})
    outcome = np.moveaxis(np.broadcast_to(predictor.outcome_variance(), whole.shape), -1, 0)
    z, weights = nodes(STEPS[-3])
    terms = np.zeros((_TERMS, *whole.shape))
    for node, weight in zip(z, weights, strict=True):
        eta = {**centre, name: centre[name] + node * np.sqrt(whole)}
        mean = weight * predictor.evaluate(rows.design.family.mean, eta)
        before, now = 0.0, 1.0
        for k in range(_TERMS):
            terms[k] += now * mean
            before, now = now, (node * now - np.sqrt(k) * before) / np.sqrt(k + 1)
    flat = np.moveaxis(terms, -1, 1).reshape((_TERMS, len(spread), -1))
    return _Classes(spread, outcome.reshape((len(spread), -1)), flat)


def _lognormal(rows: AverageRow, name: str, whole: Floats) -> _Lognormal | None:
    """Moments at predictors with these variances; None where no exponentials are expected."""
    family, centre = rows.design.family, rows.centre
    predictor = LinearPredictor(rows.design, centre, {})

    def at(function: Callable[..., Any], off: Floats | float) -> Floats:
        return predictor.evaluate(function, {**centre, name: centre[name] + off})

    middle = at(family.mean, 0.0)
    if float(whole.max()) > _WIDEST or not all(
        np.allclose(at(family.mean, off), middle * np.exp(off), rtol=1e-9, atol=0.0)
        for off in (-1.5, 1.0)
    ):
        return None
    mean, sd = middle * np.exp(whole / 2), np.sqrt(whole)
    # The mean of a square has its mass two standard deviations of the predictor away.
    z = np.arange(-8.0, 8.0 + 2 * float(sd.max()), 0.25)
    weights = 0.25 * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    within = sum(w * at(family.variance, node * sd) for node, w in zip(z, weights, strict=True))
    outcome = within + mean**2 * np.expm1(whole)
    flat = [np.moveaxis(each, -1, 0).reshape((whole.shape[-1], -1)) for each in (outcome, mean)]
    return _Lognormal(*flat)


def _sum(own: list[Floats], mask: int, like: Floats) -> Floats:
    """Variance that some groupings add together."""
    return np.sum([v for k, v in enumerate(own) if mask >> k & 1] or [np.zeros_like(like)], axis=0)


def _counts(
    indices: list[Integers], cluster: Integers, of_row: Integers, classes: int
) -> dict[int, NDArray[np.int64]]:
    """Ordered pairs of different rows that share exactly some groupings, by their classes."""
    least: dict[int, NDArray[np.int64]] = {}
    every = range(len(indices))
    for some in (c for k in range(len(indices) + 1) for c in combinations(every, k)):
        cell = np.unique(
            np.column_stack([cluster, *(indices[k] for k in some)]), axis=0, return_inverse=True
        )[1].ravel()
        table = np.zeros((int(cell.max()) + 1, classes), dtype=np.int64)
        np.add.at(table, (cell, of_row), 1)
        least[sum(1 << k for k in some)] = table.T @ table
    exactly: dict[int, NDArray[np.int64]] = {}
    alone = np.diag(np.bincount(of_row, minlength=classes))
    for mask in sorted(least, key=int.bit_count, reverse=True):
        more = [count for m, count in exactly.items() if m & mask == mask]
        exactly[mask] = least[mask] - alone - np.sum(more, axis=0, dtype=np.int64)
    return exactly


def _masks(indices: list[Integers], one: Integers, other: Integers) -> dict[int, NDArray[np.int64]]:
    """In how many series (series, pairs) each pair of rows shares exactly some groupings."""
    masks = np.zeros(one.shape, dtype=np.intp)
    for k, index in enumerate(indices):
        masks += (1 << k) * (index[one] == index[other])
    return {int(mask): (masks == mask).sum(axis=0) for mask in np.unique(masks)}


def _series(fit: Fit, process: RandomDesign) -> Iterator[Alike]:
    """Series measured alike; what is to come are places in `process.first`."""
    assert process.between is not None
    places = Places.of(process.between.series, fit.design.table.frame.iloc[process.first])
    return alike(Places(places.who[:0], places.arm[:0], places.times[:0]), places)


def _correlations(
    fit: Fit, process: RandomDesign, each: Alike, some: slice, at: Integers, to: Integers
) -> Floats:
    """Of pairs of rows of a series, shape (pairs, draws)."""
    assert process.between is not None
    series, named = process.between.series, process.between.named
    assert series is not None
    return correlations(series, fit.posterior, each.arm, each.times, some, named)[:, at, to].T
