r"""Series that are measured alike, turned so that few of them carry all that the data say.

The n series of a pattern have the same covariance, so any orthogonal combinations of them are as
good as they are. With :math:`Y` (n, m) their outcomes and :math:`O` (n, q) an orthonormal basis of
all that the predictors' columns hold at any of the m times, :math:`O'Y` has the means
:math:`O'X\beta`, and what is left of :math:`Y` has mean 0: the factor R of its QR decomposition, m
series at most, stands for it (the sufficient statistics of multivariate regression, Anderson 2003,
An Introduction to Multivariate Statistical Analysis, section 8.2). Patients of a trial differ in
arm and baseline: 3 + m series stand for any number of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from bayesmixed.series import Series

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]

# Share of the largest diagonal element of a QR decomposition below which a column is not new.
_NEW = 1e-10
# Share of its level by which a column must vary; less is rounding.
_VARIES = 1e-13


@dataclass(frozen=True)
class Pooled:
    """What stands for the series.

    Parameters
    ----------
    y : array, shape (rows,)
        Outcomes, pattern by pattern, series by series, in order of time.
    X : array, shape (carrying, coefficients)
        What coefficients multiply in the rows that have a mean.
    carrying : array of int, shape (rows,)
        Where in `X` each row is; -1 where its mean is 0.
    of_row : array of int, shape (rows,)
        A row of the table with the same pattern and time.
    counts, further : array of int, shape (patterns,)
        How many series stand for those of a pattern, and how many more those were.
    """

    y: Floats
    X: Floats
    carrying: Integers
    of_row: Integers
    counts: Integers
    further: Integers

    @classmethod
    def of(cls, series: Series, y: Floats, X: Floats) -> Pooled:
        """Find what stands for the series.

        Parameters
        ----------
        series : Series
        y : array, shape (rows,)
            Outcomes less known offsets.
        X : array, shape (rows, coefficients)
        """
        parts, at = [], 0
        for length, count in zip(series.lengths, series.counts, strict=True):
            rows = series.order[at : at + length * count].reshape(count, length)
            at += length * count
            parts.append((*_turned(y[rows], X[rows]), rows))
        ys, Xs, carrying, of_row, first = [], [], [], [], 0
        for outcomes, columns, rows in parts:
            size = columns.shape[0] * columns.shape[1]
            own = np.full(outcomes.size, -1)
            own[:size] = first + np.arange(size)
            first += size
            ys.append(outcomes.ravel())
            Xs.append(columns.reshape(size, -1))
            carrying.append(own)
            of_row.append(np.tile(rows[0], len(outcomes)))
        counts = np.array([len(outcomes) for outcomes, _, _ in parts])
        return cls(
            np.concatenate(ys),
            np.concatenate(Xs),
            np.concatenate(carrying),
            np.concatenate(of_row),
            counts,
            series.counts - counts,
        )


def _turned(Y: Floats, X: Floats) -> tuple[Floats, Floats]:
    """Outcomes (series, times), and columns of the first of them, which have a mean.

    Parameters
    ----------
    Y : array, shape (series, times)
    X : array, shape (series, times, coefficients)
    """
    count, length = Y.shape
    columns = X.reshape(count, -1)
    level = np.abs(columns).max(axis=0)
    off = columns - columns.mean(axis=0)
    columns = off[:, np.abs(off).max(axis=0) > _VARIES * level]
    # Most columns are alike: a baseline's stands at every visit.
    distinct = {c.tobytes(): c for c in (columns / np.abs(columns).max(axis=0)).T}
    basis = _basis(np.column_stack([np.ones(count), *distinct.values()]))
    if basis.shape[1] + length >= count:
        return Y, X
    carried = basis.T @ Y
    rest = np.linalg.qr(Y - basis @ carried, mode="r")
    return np.concatenate([carried, rest]), np.tensordot(basis.T, X, 1)


def _basis(columns: Floats) -> Floats:
    """An orthonormal basis of the space of the columns."""
    Q, R, _ = scipy.linalg.qr(columns, mode="economic", pivoting=True)
    size = np.abs(np.diag(R))
    return np.asarray(Q[:, size > _NEW * size[0]])
