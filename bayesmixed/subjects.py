r"""The normal distribution of all rows of a subject, with its own effects integrated out.

Given the parameters, the outcomes of a subject (or of any unit that holds whole series) are
:math:`\mathrm N(X\beta, \; Z G Z' + D P D)`: :math:`P` correlates the residuals within a series,
:math:`D` holds their standard deviations, and :math:`Z` belongs to the effects of all groupings
that lie inside the unit. Effects of groupings around it keep their values in the draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, listed
from bayesmixed.conditional import square_root
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.groups import Groups, parents
from bayesmixed.linpred import Whose, covariance, linear_predictor
from bayesmixed.places import Places, in_runs
from bayesmixed.places import correlations as correlations_of
from bayesmixed.series import Series
from bayesmixed.spec import Grouping

type Floats = NDArray[np.float64]
type Integers = NDArray[np.intp]


@dataclass(frozen=True)
class Normal:
    """Rows of a model with correlated residuals, normal in every draw.

    Parameters
    ----------
    fit : Fit
        The posterior; one of `Fit.pieces` where draws x rows are many.
    design : Design
        The rows.
    places : Places
        Where they stand.
    inside : tuple of str
        Groupings whose effects are integrated out; the others keep their values.
    """

    fit: Fit
    design: Design
    places: Places
    inside: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is not normal.

        Raises
        ------
        BayesmixedError
            If the residual sd varies between groups that are integrated out.
        """
        spread = self.design.predictors.get("sigma")
        mixed = [r.name for r in spread.random if r.name in self.inside] if spread else []
        if mixed:
            raise BayesmixedError(
                f"sigma varies between groups of {listed(mixed)}, whose effects cannot be "
                "integrated out in closed form; leave that term out of the formula for sigma."
            )

    @property
    def draws(self) -> int:
        """Draws of all chains."""
        return int(self.fit.posterior.sizes["chain"] * self.fit.posterior.sizes["draw"])

    @cached_property
    def _eta(self) -> dict[str, Floats]:
        whose: dict[str, Whose] = dict.fromkeys(self.inside, "average")
        found = linear_predictor(self.fit, self.design, whose).centre
        flat = {n: v.reshape((-1, v.shape[-1])) for n, v in found.items()}
        shape = (self.draws, len(self.design.y))
        return {n: np.broadcast_to(v, shape) for n, v in flat.items()}

    @property
    def mean(self) -> Floats:
        """Expected outcomes, shape (draws, rows)."""
        return np.asarray(self.design.links["mu"].inverse(self._eta["mu"]))

    @property
    def sd(self) -> Floats:
        """Residual standard deviations, shape (draws, rows)."""
        return np.asarray(self.design.links["sigma"].inverse(self._eta["sigma"]))

    @property
    def _groups(self) -> Iterator[tuple[Integers, Floats, Floats]]:
        """Each row's group, its Z, and G in every draw, of the effects integrated out."""
        for r in self.design.predictors["mu"].random:
            if r.name in self.inside:
                G = covariance(self.fit, r)
                labels = r.groups.index
                # Groups that are not in the fit are told apart by their series.
                labels = np.where(labels < 0, -1 - self.places.who, labels)
                yield labels, r.Z, G.reshape((-1, *G.shape[2:]))

    def key(self, rows: Integers) -> bytes:
        """Equal for rows that have equal covariances in every draw."""
        p, spread = self.places, self.design.predictors.get("sigma")
        parts = [p.arm[rows], p.times[rows], _relative(p.who[rows])]
        if spread is not None:
            parts += [spread.X[rows], spread.offset[rows]]
            parts += [r.groups.index[rows] for r in spread.random]
        if self.design.sampling_sd is not None:
            parts.append(self.design.sampling_sd[rows])
        if self.design.spreads is not None:
            parts.append(self.design.spreads.index[rows])
        for r in self.design.predictors["mu"].random:
            if r.name in self.inside:
                parts += [r.Z[rows], _relative(r.groups.index[rows])]
        return b"|".join(np.ascontiguousarray(part).tobytes() for part in parts)

    def covariance(self, rows: Integers, draws: slice = slice(None)) -> Floats:
        """Covariance of some rows, shape (draws, rows, rows)."""
        total = self.residual_covariance(rows, draws)
        for labels, Z, G in self._groups:
            same = labels[rows][:, None] == labels[rows]
            total = total + same * np.einsum("ij,sjk,lk->sil", Z[rows], G[draws], Z[rows])
        return np.asarray(total)

    def residual_covariance(self, rows: Integers, draws: slice = slice(None)) -> Floats:
        """D P D of some rows, shape (draws, rows, rows)."""
        sd = self.sd[draws][:, rows]
        return np.asarray(self._correlation(rows, draws) * sd[:, :, None] * sd[:, None, :])

    def _correlation(self, rows: Integers, draws: slice) -> Floats:
        series, p = self.fit.design.series, self.places
        if series is None:
            return np.broadcast_to(np.eye(len(rows)), (1, len(rows), len(rows)))
        same = p.who[rows][:, None] == p.who[rows]
        chosen = range(*draws.indices(self.draws))
        found = np.zeros((len(chosen), len(rows), len(rows)))
        for a in np.unique(p.arm[rows]):
            mine = np.flatnonzero(p.arm[rows] == a)
            block = correlations(self.fit, int(a), p.times[rows[mine]], draws)
            found[:, mine[:, None], mine] = block
        return np.asarray(found * same)

    def log_likelihood(self, units: list[Integers]) -> Floats:
        """Log-density of the outcomes of each unit's rows, shape (draws, units)."""
        found = np.empty((self.draws, len(units)))
        off = self.design.family.working(self.design.y) - self.mean
        several = [k for k, rows in enumerate(units) if len(set(self.places.who[rows])) > 1]
        alike: dict[bytes, list[int]] = {}
        for number in set(range(len(units))) - set(several):
            alike.setdefault(self.key(units[number]), []).append(number)
        for members in alike.values():
            rows = np.stack([units[k] for k in members])
            for some in self.runs(rows.shape[1] * (rows.shape[1] + len(members))):
                L = np.linalg.cholesky(self.covariance(rows[0], some))
                z = np.linalg.solve(L, np.moveaxis(off[some][:, rows], 1, 2))
                found[some, members] = -0.5 * (z**2).sum(axis=1) - _log_root(L)[:, None]
        for some in self.runs(max((len(units[k]) for k in several), default=1) * 50):
            factors: dict[bytes, Floats] = {}
            for k in several:
                found[some, k] = self._of_several(units[k], some, off[some], factors)
        constant = 0.5 * np.log(2 * np.pi)
        return np.asarray(found - constant * np.array([len(rows) for rows in units]))

    def alike(self) -> list[Integers]:
        """Series with equal covariances: their rows in order of time, each (series, m)."""
        order = np.lexsort((*self.places.times.T[::-1], self.places.who))
        cuts = np.flatnonzero(np.diff(self.places.who[order])) + 1
        found: dict[bytes, list[Integers]] = {}
        for rows in np.split(order, cuts):
            found.setdefault(self.key(rows), []).append(rows)
        return [np.stack(members) for members in found.values()]

    def runs(self, size: int) -> Iterator[slice]:
        """Runs of draws, each of which takes so many numbers."""
        return in_runs(self.draws, size)

    def _of_several(
        self, rows: Integers, draws: slice, off: Floats, factors: dict[bytes, Floats]
    ) -> Floats:
        r"""Log-density, but for its constant, of a unit with several series, shape (draws,).

        Series by series, with :math:`W = R^{-1/2} Z G^{1/2}` and :math:`x = R^{-1/2}(y - \mu)`:
        :math:`|V| = |R| |I + W'W|` and :math:`V^{-1}` by Woodbury's formula.
        """
        groups, width = [], 0
        for labels, Z, G in self._groups:
            own = _relative(labels[rows])
            groups.append((width + own * Z.shape[1], Z[rows], square_root(G[draws])))
            width += (int(own.max()) + 1) * Z.shape[1]
        count = len(off)
        A, b = np.tile(np.eye(width), (count, 1, 1)), np.zeros((count, width))
        total = np.zeros(count)
        cuts = np.flatnonzero(np.diff(self.places.who[rows])) + 1
        for at in np.split(np.arange(len(rows)), cuts):
            mine, key = rows[at], self.key(rows[at])
            if key not in factors:
                factors[key] = np.linalg.cholesky(self.residual_covariance(mine, draws))
            columns, parts = [], []
            for first, Z, root in groups:
                for start in np.unique(first[at]):
                    parts.append((first[at] == start)[:, None] * Z[at] @ root)
                    columns.append(start + np.arange(Z.shape[1]))
            L = factors[key]
            whole = np.concatenate([*parts, off[:, mine, None]], axis=-1)
            white = np.linalg.solve(L, whole)
            W, x = white[..., :-1], white[..., -1:]
            total -= 0.5 * (x**2).sum(axis=(1, 2)) + _log_root(L)
            if columns:
                c = np.concatenate(columns)
                A[:, c[:, None], c] += W.mT @ W
                b[:, c] += (W.mT @ x)[..., 0]
        gain = (b * np.linalg.solve(A, b[..., None])[..., 0]).sum(axis=1)
        return np.asarray(total + 0.5 * gain - 0.5 * np.linalg.slogdet(A)[1])


def _log_root(L: Floats) -> Floats:
    """Half the log-determinant of L L', by draw."""
    return np.asarray(np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1))


def correlations(fit: Fit, arm: int, times: Floats, draws: slice = slice(None)) -> Floats:
    """Correlations of the residuals of one series (see `places.correlations`)."""
    series = fit.design.series
    assert series is not None
    return correlations_of(series, fit.posterior, arm, times, draws)


def _relative(labels: Integers) -> Integers:
    """Labels by the order in which they first appear."""
    return np.asarray(pd.factorize(labels)[0])


def units(design: Design) -> dict[str, Groups]:
    """What can be left out, by name: the groupings, and whose rows make a series.

    A process in the place of residuals is no grouping, as it has a value for each of their rows.
    """
    found = {g.name: g for g in design.groups if not g.grouping.is_process}
    residual = design.spec.residual
    whose = [] if residual is None else [residual.within]
    whose += [r.within for p in design.predictors.values() for r in p.random if r.within]
    for name in whose:
        found.setdefault(name, Groups.of(Grouping((name,)), design.table.frame))
    return found


def need_apart(design: Design, groups: Groups, what: str, argument: str) -> None:
    """Refuse groups that are correlated with each other through effects of other groups.

    Parameters
    ----------
    design : Design
    groups : Groups
    what : str
        What takes independent groups, as the beginning of a sentence.
    argument : str
        What names the groups.

    Raises
    ------
    BayesmixedError
        If a known matrix relates groups, or a series lies in several of these.
    """
    for random in (r for p in design.predictors.values() for r in p.random if r.between):
        between = random.between
        assert between is not None
        if between.series is None:
            design.need_unrelated(what)
        elif parents(between.series.index[random.groups.index], groups.index) is None:
            raise BayesmixedError(
                f"{what} takes {groups.name}s that are independent of each other, but the series "
                f"of one {random.within} ({random.name!r} is correlated within it) lie in several "
                f'of them. Use {argument}="{random.within}", or predict().'
            )


def within(design: Design, outer: Integers) -> tuple[str, ...]:
    """The groupings whose groups each lie inside one of the outer groups."""
    return tuple(g.name for g in design.groups if parents(g.index, outer) is not None)


def unit_rows(series: Series, places: Places, groups: Groups) -> list[Integers]:
    """Rows of every group, its series one after the other, each in order of time.

    Raises
    ------
    BayesmixedError
        If a series lies in several groups.
    """
    if parents(places.who, groups.index) is None:
        raise BayesmixedError(
            f"The series of one {series.structure.within} lie in several groups of "
            f"{groups.name!r}, so these cannot be left out one by one. Leave out "
            f'unit="{series.structure.within}".'
        )
    order = np.lexsort((*places.times.T[::-1], places.who, groups.index))
    return np.split(order, np.cumsum(np.bincount(groups.index))[:-1])
