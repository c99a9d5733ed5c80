"""Weights of studies that are independent given what varies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float64]

# Numbers that are worked on at once.
_CHUNK = 2_000_000


def row_weights(X: Floats, x: Floats, precision: Floats, variance: Floats) -> Floats:
    """Derivative of the estimate of ``x @ beta`` with respect to every row, averaged over draws.

    Parameters
    ----------
    X : array, shape (rows, terms)
    x : array, shape (terms,)
    precision : array, shape (terms,)
        Of the coefficients' normal priors.
    variance : array, shape (draws, rows)
        Of the rows about their regression.
    """
    step, found = max(1, _CHUNK // X.size), np.zeros(len(X))
    for first in range(0, len(variance), step):
        weight = 1 / variance[first : first + step]
        information = np.einsum("dr,ri,rj->dij", weight, X, X, optimize=True) + np.diag(precision)
        left = np.linalg.solve(information, np.broadcast_to(x[:, None], (len(weight), len(x), 1)))
        found += (weight * (left[..., 0] @ X.T)).sum(axis=0)
    return found / len(variance)
