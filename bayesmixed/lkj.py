"""The LKJ prior on correlation matrices as machine code, on PyMC's unconstrained scale.

Row i of the Cholesky factor L is (w, 1) / r: i - 1 unconstrained numbers w, divided by the row's
length r. PyMC's log-density of L and its log-Jacobian together make every row's log(r) count
equally, so that the rows are independent, and each is a multivariate t.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

type Floats = NDArray[np.float64]


# Division by zero gives infinity under NumPy's error model; Python's would raise.
@njit(error_model="numpy")
def forward(x: Floats, n: int, eta: float, L: Floats) -> float:
    """Cholesky factor of a correlation matrix, and its log-density under LKJ(eta), for numba.

    Parameters
    ----------
    x : array, shape (n (n - 1) / 2,)
        Unconstrained numbers in the order of PyMC's ``CholeskyCorrTransform``; zeros give the
        identity matrix, where PyMC starts.
    n : int
        Number of rows of the correlation matrix.
    eta : float
        Shape, above 0; 1 is uniform over correlation matrices.
    L : array, shape (n, n)
        Is overwritten with the lower factor.

    Returns
    -------
    float
        Log-density of ``pymc.LKJCorr(n, eta)`` plus log-Jacobian of its transform.

    References
    ----------
    Lewandowski, Kurowicka and Joe (2009), Journal of Multivariate Analysis 100, 1989-2001.
    """
    density = (n - 1) * math.lgamma(eta + 0.5 * (n - 1)) - 0.25 * n * (n - 1) * math.log(math.pi)
    for i in range(n):
        squares = 0.0
        for j in range(i):
            L[i, j] = x[_place(i, j, n)]
            squares += L[i, j] * L[i, j]
        L[i, i] = 1.0 / math.sqrt(1.0 + squares)
        for j in range(i):
            L[i, j] *= L[i, i]
        L[i, i + 1 :] = 0.0
        density -= 0.5 * (2.0 * eta + n - 1.0) * math.log1p(squares)
        if i > 0:
            density -= math.lgamma(eta + 0.5 * (n - 1 - i))
    return density


@njit(error_model="numpy")
def backward(x: Floats, n: int, eta: float, L: Floats, dL: Floats, dx: Floats) -> None:
    """Bring derivatives with respect to the factor back to the unconstrained numbers, for numba.

    Parameters
    ----------
    x, n, eta, L
        As `forward` took and left them.
    dL : array, shape (n, n)
        Derivatives of something with respect to the lower triangle of `L`.
    dx : array, shape (n (n - 1) / 2,)
        To which is added the gradient of that something plus the log-density.
    """
    weight = 2.0 * eta + n - 1.0
    for i in range(1, n):
        along = 0.0
        for k in range(i + 1):
            along += L[i, k] * dL[i, k]
        for j in range(i):
            # A row has length 1, so only what points away from it counts.
            across = dL[i, j] - along * L[i, j]
            dx[_place(i, j, n)] += L[i, i] * (across - weight * L[i, j])


@njit(error_model="numpy")
def _place(i: int, j: int, n: int) -> int:
    """Where `x` has the number that makes element (i, j), i > j: PyMC's spiral order."""
    at, last = (i - 1) * (n - 1) + j, (n - 1) * (n - 1) - 1
    return at + n - 1 if at < (n - 1) * (n - 2) // 2 else last - at


def factor(x: Floats, n: int) -> Floats:
    """Cholesky factors of correlation matrices, as `forward` makes them.

    Parameters
    ----------
    x : array, shape (draws, n (n - 1) / 2)
        Unconstrained numbers.
    n : int
        Number of rows of a correlation matrix.

    Returns
    -------
    array, shape (draws, n, n)
        Lower factors.
    """
    count = x.shape[1]
    spiral = np.concatenate([np.arange(n - 1, count), np.arange(count)[::-1]])
    rows, columns = np.tril_indices(n - 1)
    L = np.zeros((len(x), n, n))
    L[:, rows + 1, columns] = x[:, spiral.reshape(n - 1, n - 1)[rows, columns]]
    L[:, range(n), range(n)] = 1.0
    return np.asarray(L / np.sqrt((L**2).sum(axis=-1, keepdims=True)))
