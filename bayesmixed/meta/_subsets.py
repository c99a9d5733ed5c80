"""The posteriors of many subsets of the studies at once, from sums that they share.

Given the heterogeneity a subset enters by sums over its studies alone. Running sums from both ends
give those of every subset with one study left out, and running sums those of the first studies, at
the cost of one analysis; only positive terms are added, so that no digits are lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize.elementwise import find_root
from scipy.special import expit, ndtri, sici

from bayesmixed.meta._grid import GridPosterior
from bayesmixed.meta._heterogeneity import _interval
from bayesmixed.meta._mixture import NormalMixture

type Floats = NDArray[np.float64]
type Sums = Callable[[Floats], Floats]

# As for one analysis; see `heterogeneity`.
_NEGLIGIBLE, _REACH, _NODES, _TOLERANCE = 38.0, 80.0, (33, 9_000), 3e-12
# Of sums of squares, the share of which their differences know nothing.
_ROUNDING = 1e-14
# Numbers that are worked on at once.
_CHUNK = 4_000_000
_GOLDEN = 0.5 * (5**0.5 - 1)

UNIDENTIFIED = "flat priors leave coefficients undetermined by so few studies"
IMPROPER = "so few studies do not bound tau under its prior, and the posterior is improper"
ROUGH = "the posterior of tau is too rough to be integrated"


def all_but_one(terms: Floats) -> Floats:
    """Sums over all studies, and over all but each of them in turn."""
    nothing = np.zeros_like(terms[:, :1])
    before = np.concatenate([nothing, np.cumsum(terms[:, :-1], axis=1)], axis=1)
    after = np.cumsum(terms[:, :0:-1], axis=1)[:, ::-1]
    every = terms.sum(axis=1, keepdims=True)
    return np.concatenate([every, before + np.concatenate([after, nothing], axis=1)], axis=1)


def first_ones(order: NDArray[np.intp]) -> Sums:
    """Sums over the first study, the first two and so on, in an order."""
    return lambda terms: np.cumsum(terms[:, order], axis=1)


@dataclass(frozen=True, eq=False)
class Subsets:
    """One posterior for every subset of the studies, all on the same nodes of tau.

    Parameters
    ----------
    grid : GridPosterior
        All studies, with the priors.
    sums : callable
        From terms of the studies, shape (nodes, studies, ...), to their sums over every subset,
        shape (nodes, subsets, ...).
    x : array, shape (terms,)
        Moderators at which the average effect is looked at.
    """

    grid: GridPosterior
    sums: Sums
    x: Floats

    @cached_property
    def problems(self) -> list[str]:
        """What stands against the posterior of each subset; empty where nothing does."""
        found = np.where(self._identified, "", UNIDENTIFIED).astype(object)
        if self.grid.prior is not None:
            found[self._identified] = np.where(self._moments > 1e-3, "", IMPROPER)
        if (found == "").any():
            kept = np.flatnonzero(found == "")
            found[kept] = np.where(self._nodes[2], "", ROUGH)
        return [str(problem) for problem in found]

    @property
    def effect(self) -> NormalMixture:
        """The average effect in each subset without a problem."""
        x, values, good = self._nodes
        _, mean, variance, _ = self._given(self._tau(x))
        flat = bool((self.grid.regression.precision == 0).any())
        moments = self._kept_moments[good] if flat else np.inf
        shares = _shares(values[:, good])
        kept = self._kept[good]
        return NormalMixture(shares, mean[:, kept], np.sqrt(variance[:, kept]), moments)

    @property
    def tau_median(self) -> Floats:
        """Median of tau in each subset without a problem."""
        x, values, good = self._nodes
        shares = _shares(values[:, good])
        if len(x) == 1:
            return np.zeros(shares.shape[1])
        step = x[1] - x[0]

        def above(at: Floats, j: NDArray[np.intp]) -> Floats:
            smooth = 0.5 + sici(np.pi * (at[None] - x[:, None]) / step)[0] / np.pi
            return np.asarray((smooth * shares[:, j]).sum(axis=0) - 0.5)

        every = np.arange(shares.shape[1])
        ends = np.full(len(every), x[0]), np.full(len(every), x[-1])
        found = find_root(above, ends, args=(every,), tolerances={"xatol": 1e-12, "xrtol": 1e-13})
        return self._tau(np.asarray(found.x))

    @cached_property
    def _identified(self) -> NDArray[np.bool_]:
        """Whether proper priors and the studies together determine the coefficients."""
        X, proper = self.grid.regression.X, self.grid.regression.precision > 0
        cross = self.sums((X[:, :, None] * X[:, None, :])[None])[0]
        values = np.linalg.eigvalsh(cross + len(X) * np.diag(proper.astype(float)))
        return np.asarray(values[:, 0] > 1e-10 * values[:, -1])

    @property
    def _support(self) -> tuple[float, float]:
        assert self.grid.prior is not None
        return self.grid.prior.support()

    def _tau(self, x: Floats) -> Floats:
        if self.grid.prior is None:
            return np.zeros(len(x))
        return _interval(x, *self._support)

    @cached_property
    def _ends(self) -> tuple[float, float]:
        y, sd = self.grid.regression.y, np.sqrt(self.grid.regression.v)
        scales = np.append(sd, np.ptp(y) or sd.max())
        lower, upper = self._support
        unit = 1.0 if np.isinf(upper) else upper - lower
        low, high = float(np.log(scales.min() / unit)), float(np.log(scales.max() / unit))
        return low - _REACH, high + _REACH

    @cached_property
    def _moments(self) -> Floats:
        """Moments of tau of lower order than this exist, of each identified subset."""
        if np.isfinite(self._support[1]):
            return np.full(int(self._identified.sum()), np.inf)
        near, far = self._density(self._ends[1] - np.array([40.0, 39.0]), self._identified)
        rate = np.where(np.isneginf(far), np.inf, np.round(near - far, 6))
        return np.where(rate < 100, rate, np.inf)

    @property
    def _kept(self) -> NDArray[np.intp]:
        """The subsets that have a posterior."""
        every = np.flatnonzero(self._identified)
        return every if self.grid.prior is None else every[self._moments > 1e-3]

    @property
    def _kept_moments(self) -> Floats:
        if self.grid.prior is None:
            return np.full(len(self._kept), np.inf)
        return self._moments[self._moments > 1e-3]

    @cached_property
    def _nodes(self) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Nodes, log-densities there (nodes, kept subsets), and whether their sums converged."""
        kept = self._kept
        if self.grid.prior is None or not len(kept):
            return np.zeros(1), np.zeros((1, len(kept))), np.ones(len(kept), dtype=bool)
        first, last = self._bracket(kept)
        has_mean = np.isinf(self._support[1]) & (self._kept_moments > 1)
        count, before, middle = _NODES[0], np.full((3, len(kept)), np.nan), None
        while True:
            x = np.linspace(first, last, count)
            values, rounding = self._with_rounding(x, kept)
            peak, shares = values.max(axis=0), _shares(values)
            middle = x[values.argmax(axis=0)] if middle is None else middle
            moment = np.exp(np.where(has_mean, x[:, None] - last, 0.0))
            evidence = peak + np.log(np.exp(values - peak).sum(axis=0) * (x[1] - x[0]))
            halves = (expit(x[:, None] - middle) * shares).sum(axis=0)
            sums = np.stack([evidence, np.log(halves), np.log((moment * shares).sum(axis=0))])
            least = _TOLERANCE * np.maximum(1.0, np.abs(peak) / 100)
            # Where tails of a prior outlast the line, no sum knows more than what is left.
            left = np.exp(values[0] - peak) + np.exp(values[-1] - peak)
            known = np.maximum(np.maximum(least, left), (rounding * shares).sum(axis=0))
            near = np.abs(sums - before) < known
            if near.all() or count >= _NODES[1]:
                return x, values, near.all(axis=0)
            before, count = sums, 2 * count - 1

    def _bracket(self, kept: NDArray[np.intp]) -> tuple[float, float]:
        """The part of the line outside of which no subset has mass or moments left."""
        power = np.searchsorted([1.0, 2.0], self._kept_moments).astype(float)
        power = power if np.isinf(self._support[1]) else np.zeros(len(kept))
        first, last = self._ends
        while True:
            x = np.linspace(first, last, 400)
            values = self._density(x, kept)
            values = np.where(np.isnan(values), -np.inf, values)
            moments = values + power * x[:, None]
            inside = (values > values.max(axis=0) - _NEGLIGIBLE) | (
                moments > moments.max(axis=0) - _NEGLIGIBLE
            )
            at = np.flatnonzero(inside.any(axis=1))
            low, high = float(x[max(at[0] - 1, 0)]), float(x[min(at[-1] + 1, len(x) - 1)])
            if high - low > 0.8 * (last - first):
                return low, high
            first, last = low, high

    def _density(self, x: Floats, kept: NDArray[np.intp] | NDArray[np.bool_]) -> Floats:
        """Log of prior, likelihood and Jacobian on the whole line, shape (nodes, kept)."""
        return self._with_rounding(x, kept)[0]

    def _with_rounding(
        self, x: Floats, kept: NDArray[np.intp] | NDArray[np.bool_]
    ) -> tuple[Floats, Floats]:
        """As `_density`, and how far rounding may have moved it."""
        assert self.grid.prior is not None
        lower, upper = self._support
        tau = self._tau(x)
        if np.isinf(upper):
            jacobian = x
        else:
            jacobian = np.log(upper - lower) - np.logaddexp(0, x) - np.logaddexp(0, -x)
        prior = np.asarray(self.grid.prior.logpdf(tau)) + jacobian
        given = self._given(tau)
        return prior[:, None] + given[0][:, kept], given[3][:, kept]

    def _given(self, tau: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Log-likelihood, mean and variance of the effect, and rounding, of subsets given tau."""
        studies, terms = self.grid.regression.X.shape
        step = max(1, _CHUNK // (studies * (terms + 1) ** 2))
        parts = [self._part(tau[i : i + step]) for i in range(0, len(tau), step)]
        first, second, third, fourth = (np.concatenate(part) for part in zip(*parts, strict=True))
        return first, second, third, fourth

    def _part(self, tau: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        regression = self.grid.regression
        X, precision = regression.X, regression.precision
        terms, proper = len(precision), precision > 0
        # About the coefficients of all studies, so that squares are of small numbers.
        centre = regression.given(tau)[1]
        y, prior = regression.y - centre @ X.T, regression.mean - centre
        total = regression.v + tau[:, None] ** 2
        both = np.concatenate([np.broadcast_to(X, (*y.shape, terms)), y[..., None]], axis=-1)
        sums = self.sums(both[..., :, None] * both[..., None, :] / total[..., None, None])
        information = sums[..., :terms, :terms] + np.diag(precision)
        information[:, ~self._identified] = np.eye(terms)
        right = sums[..., :terms, terms] + (precision * prior)[:, None]
        covariance = np.linalg.inv(information)
        mean = np.einsum("tsij,tsj->tsi", covariance, right)
        squares = sums[..., terms, terms] + ((prior**2) @ precision)[:, None]
        count = self.sums(np.ones((1, len(X))))
        constant = np.log(precision[proper]).sum() - np.log(2 * np.pi) * (count - (~proper).sum())
        determinant = np.linalg.slogdet(information)[1] + self.sums(np.log(total))
        fit = np.einsum("tsi,tsi->ts", right, mean)
        row = self.grid.raw.T @ self.x
        variance = np.einsum("i,tsij,j->ts", row, covariance, row)
        log_likelihood = 0.5 * (constant - determinant - (squares - fit))
        return log_likelihood, (mean + centre[:, None]) @ row, variance, _ROUNDING * squares


def _shares(values: Floats) -> Floats:
    """Weights of the nodes from log-densities, adding up to 1."""
    found = np.exp(values - values.max(axis=0))
    return np.asarray(found / found.sum(axis=0))


def stratified(mixture: NormalMixture, draws: int) -> Floats:
    """Equally weighted draws of each number, shape (draws, numbers), in random order.

    Components and deviations are stratified, so that means have less noise than independent
    draws would give.
    """
    # Points of a lattice: stratified in every part of the components too.
    rng, place = np.random.default_rng(0), np.arange(draws) + 0.5
    uniform, z = place / draws, ndtri(place * _GOLDEN % 1)
    total = np.cumsum(np.broadcast_to(mixture.weights.T, mixture.means.T.shape), axis=1)
    found = np.empty((draws, len(total)))
    for j, shares in enumerate(total):
        at = np.minimum(np.searchsorted(shares, uniform * shares[-1]), len(shares) - 1)
        found[:, j] = rng.permutation(mixture.means[at, j] + mixture.sds[at, j] * z)
    return found
