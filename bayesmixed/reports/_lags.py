"""How residuals of a series go together, pair of visits by pair, or by their distance in time.

Of a product's factors each is an axis of its own: pairs along it differ in nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesmixed.axes import Axis
from bayesmixed.fit import Fit
from bayesmixed.series import Series
from bayesmixed.structure import dim_of

type Floats = NDArray[np.float64]

FEWEST_PAIRS = 3
MOST_VISITS = 12
LAG = "lag"

type Where = tuple[int, tuple[NDArray[np.intp], NDArray[np.intp]]]
type Rows = dict[tuple[Any, ...], Where]


def in_lags(axis: Axis) -> bool:
    """Whether an axis has too many visits for pairs of them, or places in space."""
    return axis.size > MOST_VISITS or len(axis.structure.columns) > 1


def rows_of(series: Series, times: Floats) -> Rows:
    """What the table has a row for, by arm and, of a product, by factor."""
    if len(series.axes) == 1:
        (axis,) = series.axes
        return by_lag(series, times) if in_lags(axis) else by_pair(series, times)
    found: Rows = {}
    for k, axis in enumerate(series.axes):
        way, mark = (by_lag, (LAG,)) if in_lags(axis) else (by_pair, ())
        if axis.size > 1:
            own = way(series, times, k)
            found |= {(arm, axis.name, *mark, *key): at for (arm, *key), at in own.items()}
    return found


def levels_of(series: Series) -> list[str]:
    """Names of the table's levels."""
    if len(series.axes) > 1:
        return ["arm", "factor", "visit", "other"]
    return ["arm", "lag"] if in_lags(series.axes[0]) else ["arm", "visit", "other"]


def subject_of(series: Series) -> str:
    """Whose residuals they are, and where two of them differ."""
    if len(series.axes) == 1:
        return f"{series.structure.within} at two visits"
    names = " or two of ".join(axis.name for axis in series.axes)
    return f"{series.structure.within} at two of {names}, the other being the same"


def times_of(series: Series) -> Floats:
    """Coordinates of the distinct visits, shape (visits, columns)."""
    inside = np.arange(series.times.shape[1]) < series.lengths[:, None]
    return np.unique(series.times[inside], axis=0)


def fitted(
    fit: Fit, series: Series, times: Floats, rows: Rows
) -> tuple[dict[tuple[Any, ...], Floats], Floats]:
    """Correlation in every draw, the mean over each row's pairs, and posterior means of all.

    Of the matrices one is in memory at a time.

    Returns
    -------
    by_row : dict
        By the keys of `rows`, arrays of shape (chain, draw).
    mean : array, shape (arm, visit, visit)
    """
    posterior, size = fit.posterior, len(times)
    shape = (posterior.sizes["chain"], posterior.sizes["draw"])
    values = {p.name: posterior[p.name].to_numpy() for p in series.parameters}
    mean = np.zeros((len(series.arms), size, size))
    found = {key: np.empty(shape) for key in rows}
    for a in range(len(series.arms)):
        mine = {key: i * size + j for key, (arm, (i, j)) in rows.items() if arm == a}
        places = np.concatenate(list(mine.values()))
        counts = np.array([len(each) for each in mine.values()])
        own = np.empty((len(mine), *shape))
        for at in np.ndindex(*shape):
            where = at if series.structure.by is None else (*at, a)
            P = series.structure.matrix({n: v[where] for n, v in values.items()}, times)
            mean[a] += P
            sums = np.add.reduceat(np.broadcast_to(P, (size, size)).ravel()[places],
                                   np.cumsum(counts) - counts)  # fmt: skip
            own[:, *at] = sums / counts
        found |= dict(zip(mine, own, strict=True))
    return found, mean / np.prod(shape)


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


def by_pair(series: Series, times: Floats, which: int = 0) -> Rows:
    """Every pair of visits of an axis, by arm and labels, all else the same."""
    i, j = _alike(series, times, which)
    labels = series.axes[which].labels[dim_of("visit", series.axes[which].column)]
    own = times[:, _columns(series, which)]
    visit = np.unique(own, axis=0, return_inverse=True)[1].ravel()
    first, last = visit[i], visit[j]
    found: Rows = {}
    for a, arm in enumerate(series.arms):
        for one, other in combinations(range(len(labels)), 2):
            mine = (first == one) & (last == other)
            if mine.any():
                found[arm, labels[one], labels[other]] = (a, (i[mine], j[mine]))
    return found


def by_lag(series: Series, times: Floats, which: int = 0) -> Rows:
    """Pairs of visits of an axis in up to 30 classes of distance; counted, each lag is one."""
    i, j = _alike(series, times, which)
    own = times[:, _columns(series, which)]
    apart = np.linalg.norm(own[i] - own[j], axis=1)
    if series.axes[which].structure.counted:
        classes: dict[float, NDArray[np.bool_]] = {
            int(lag): apart == lag for lag in np.unique(apart)
        }
    else:
        edges = np.linspace(0, apart.max(), 31)
        inside = np.digitize(apart, edges[1:-1])
        classes = {
            round(float(apart[inside == k].mean()), 3): inside == k for k in np.unique(inside)
        }
    return {
        (arm, lag): (a, (i[mine], j[mine]))
        for a, arm in enumerate(series.arms)
        for lag, mine in classes.items()
    }


def _columns(series: Series, which: int) -> slice:
    """Where the times of an axis are among the columns."""
    widths = [len(axis.structure.columns) for axis in series.axes]
    return slice(sum(widths[:which]), sum(widths[: which + 1]))


def _alike(series: Series, times: Floats, which: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of visits that differ along one axis only."""
    i, j = np.triu_indices(len(times), 1)
    rest = np.delete(times, np.r_[_columns(series, which)], axis=1)
    same = (rest[i] == rest[j]).all(axis=1)
    return i[same], j[same]
