"""Pairs of rows of one series, and how values of rows go together over them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesmixed.reports._lags import FEWEST_PAIRS, Rows, times_of
from bayesmixed.series import Series

type Floats = NDArray[np.float64]
type Integers = NDArray[np.intp]


@dataclass(frozen=True)
class RowPairs:
    """Pairs of rows of one series at different times, by what is told apart.

    Parameters
    ----------
    one, other : array of int, shape (pairs,)
        The rows, the earlier first.
    which : array of int, shape (pairs,)
        To what each belongs, such as two visits or a lag.
    count : int
        How many such there are.
    """

    one: Integers
    other: Integers
    which: Integers
    count: int

    @classmethod
    def of(cls, series: Series, index: Integers, rows: Rows) -> RowPairs:
        """Find the pairs.

        Parameters
        ----------
        series : Series
            Of groups, such as the times of a process.
        index : array of int, shape (rows,)
            Each row's group.
        rows : dict
            What is told apart, as `by_pair` and `by_lag` have it.
        """
        visit, arm = _visits(series)
        size = len(times_of(series))
        which = np.full((len(series.arms), size, size), -1, dtype=np.int32)
        for k, (a, at) in enumerate(rows.values()):
            which[a][at] = k
        parts = []
        for one, other in _within(series, index):
            mine = which[arm[index[one]], visit[index[one]], visit[index[other]]]
            kept = mine >= 0
            parts.append((one[kept], other[kept], mine[kept]))
        first, second, mine = (np.concatenate(each) for each in zip(*parts, strict=True))
        return cls(first, second, mine.astype(np.intp), len(rows))

    @property
    def sizes(self) -> Integers:
        """Number of pairs of each, shape (count,)."""
        return np.bincount(self.which, minlength=self.count)

    def correlation(self, values: Floats) -> Floats:
        """Pearson's, over all pairs; (rows,) to (count,), NaN of too few pairs."""
        n, one, other, first, second, product = self._moments(values)
        with np.errstate(all="ignore"):
            variances = (first - one**2) * (second - other**2)
            found = (product - one * other) / np.sqrt(variances)
        return np.where((n >= FEWEST_PAIRS) & (variances > 0), found, np.nan)

    def semivariance(self, values: Floats) -> Floats:
        """Half the mean square of differences; (rows,) to (count,), NaN of too few pairs."""
        n, _, _, first, second, product = self._moments(values)
        return np.where(n >= FEWEST_PAIRS, (first + second) / 2 - product, np.nan)

    def _moments(self, values: Floats) -> list[Floats]:
        """Number of pairs, means, mean squares and mean products."""
        n = self.sizes.astype(np.float64)
        x, y = values[self.one], values[self.other]

        def mean(v: Floats) -> Floats:
            return np.bincount(self.which, v, self.count) / np.maximum(n, 1)

        return [n, mean(x), mean(y), mean(x**2), mean(y**2), mean(x * y)]


def _visits(series: Series) -> tuple[Integers, Integers]:
    """Place of each group among the distinct times, and its arm."""
    times = np.empty((len(series.order), series.times.shape[2]))
    arm, first = np.empty(len(series.order), dtype=np.intp), 0
    patterns = zip(series.lengths, series.counts, series.arm, series.times, strict=True)
    for length, count, own, at in patterns:
        groups = series.order[first : first + length * count].reshape(count, length)
        times[groups], arm[groups] = at[:length], own
        first += length * count
    return np.unique(times, axis=0, return_inverse=True)[1].ravel(), arm


def _within(series: Series, index: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Pairs of rows of one series, those of all series with so many rows together."""
    place = np.empty(len(series.order), dtype=np.intp)
    place[series.order] = np.arange(len(series.order))
    order = np.argsort(place[index], kind="stable")
    whose = series.index[index[order]]
    sizes = np.bincount(whose)
    starts = np.cumsum(sizes) - sizes
    for size in np.unique(sizes[sizes > 1]):
        rows = order[starts[sizes == size][:, None] + np.arange(size)]
        i, j = np.triu_indices(size, 1)
        yield rows[:, i].ravel(), rows[:, j].ravel()
