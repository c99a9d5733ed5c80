"""How residuals of a series go together, pair of visits by pair, or by their distance in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesmixed.fit import Fit
from bayesmixed.series import Series

type Floats = NDArray[np.float64]

FEWEST_PAIRS = 3


def times_of(series: Series) -> Floats:
    """Coordinates of the distinct visits, shape (visits, columns)."""
    if series.structure.counted:
        return np.arange(series.size, dtype=np.float64)[:, None]
    inside = np.arange(series.times.shape[1]) < series.lengths[:, None]
    return np.unique(series.times[inside], axis=0)


def fitted(fit: Fit, series: Series, times: Floats) -> Floats:
    """Correlations of the visits, shape (chain, draw, arm, visit, visit)."""
    posterior = fit.posterior
    names = [p.name for p in series.parameters]
    shape = (posterior.sizes["chain"], posterior.sizes["draw"])
    values = {name: posterior[name].to_numpy() for name in names}
    found = np.empty((*shape, len(series.arms), len(times), len(times)))
    for at in np.ndindex(*shape, len(series.arms)):
        own = at if series.structure.by is not None else at[:2]
        found[at] = series.structure.matrix({n: v[own] for n, v in values.items()}, times)
    return found


@dataclass(frozen=True)
class Pairs:
    """Moments of the residuals r of series that have both of two visits, each (arm, visit, other).

    Parameters
    ----------
    products : array
        Sums of r_visit r_other.
    sums, squares : array
        Sums of r_visit, and of its square, where there is an r_other.
    counts : array of int
        Number of such series.
    """

    products: Floats
    sums: Floats
    squares: Floats
    counts: NDArray[np.intp]

    def semivariance(self, arm: int, at: tuple[Any, Any]) -> float:
        """Half the mean square of r_visit - r_other (Diggle et al. 2002, section 3.4)."""
        n = float(self.counts[arm][at].sum())
        if n < FEWEST_PAIRS:
            return np.nan
        squares = self.squares[arm][at].sum() + self.squares[arm][at[::-1]].sum()
        return float((squares / 2 - self.products[arm][at].sum()) / n)

    def correlation(self, arm: int, at: tuple[Any, Any]) -> float:
        """Pearson's, over all pairs of the visits ``at[0]`` with the visits ``at[1]``."""
        back = at[::-1]
        n = float(self.counts[arm][at].sum())
        if n < FEWEST_PAIRS:
            return np.nan
        one, other = self.sums[arm][at].sum() / n, self.sums[arm][back].sum() / n
        first = self.squares[arm][at].sum() / n - one**2
        second = self.squares[arm][back].sum() / n - other**2
        if min(first, second) <= 0:
            return np.nan
        return float((self.products[arm][at].sum() / n - one * other) / np.sqrt(first * second))


def residuals_of(fit: Fit) -> Floats:
    """Residuals at posterior means, with the groups' effects, over the sd; shape (rows,)."""
    design, links = fit.design, fit.design.links
    parameters = fit.parameters()
    mean = np.asarray(links["mu"].inverse(parameters["mu"])).mean(axis=(0, 1))
    return np.asarray((design.y - mean) / sd_of(fit))


def sd_of(fit: Fit) -> Floats:
    """Posterior mean of the residual standard deviation, shape (rows,) or (1,)."""
    sigma = fit.parameters()["sigma"]
    return np.asarray(fit.design.links["sigma"].inverse(sigma)).mean(axis=(0, 1))


def pairs_of(series: Series, times: Floats, residual: Floats) -> Pairs:
    """Moments of residuals, shape (rows,)."""
    where = {tuple(time): i for i, time in enumerate(times)}
    shape = (len(series.arms), len(times), len(times))
    found = Pairs(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape, np.intp))
    first = 0
    patterns = zip(series.lengths, series.counts, series.arm, series.times, strict=True)
    for length, count, arm, visits in patterns:
        at = np.array([where[tuple(v)] for v in visits[:length]])
        here = np.ix_(at, at)
        r = residual[series.order[first : first + length * count]].reshape(count, length)
        found.products[arm][here] += r.T @ r
        found.sums[arm][here] += r.sum(axis=0)[:, None]
        found.squares[arm][here] += (r**2).sum(axis=0)[:, None]
        found.counts[arm][here] += count
        first += length * count
    return found


type Where = tuple[int, tuple[NDArray[np.intp], NDArray[np.intp]]]


def by_pair(series: Series) -> dict[tuple[object, ...], Where]:
    """Every pair of visits, by arm and labels."""
    labels = series.labels("visit")
    return {
        (arm, labels[i], labels[j]): (a, (np.array([i]), np.array([j])))
        for a, arm in enumerate(series.arms)
        for i in range(len(labels))
        for j in range(i + 1, len(labels))
    }


def by_lag(series: Series, times: Floats) -> dict[tuple[object, ...], Where]:
    """Pairs of visits in up to 30 classes of distance; of counted visits each lag is one."""
    i, j = np.triu_indices(len(times), 1)
    apart = np.linalg.norm(times[i] - times[j], axis=1)
    if series.structure.counted:
        classes: dict[float, NDArray[np.bool_]] = {
            int(lag): apart == lag for lag in np.unique(apart)
        }
    else:
        edges = np.linspace(0, apart.max(), 31)
        which = np.digitize(apart, edges[1:-1])
        classes = {round(float(apart[which == k].mean()), 3): which == k for k in np.unique(which)}
    return {
        (arm, lag): (a, (i[mine], j[mine]))
        for a, arm in enumerate(series.arms)
        for lag, mine in classes.items()
    }
