"""Inverses of the correlations of every pattern of times."""

from __future__ import annotations

import numpy as np
from numba import njit

# A conditional variance of standardised residuals that is smaller is 0 but for rounding.
_LEAST = 1e-14


@njit(error_model="numpy")
def factor(P, m, L):
    """Cholesky factor of the leading part; False where it is not positive definite."""
    for i in range(m):
        for j in range(i + 1):
            total = P[i, j]
            for k in range(j):
                total -= L[i, k] * L[j, k]
            if i == j:
                if not total > _LEAST:
                    return False
                L[i, i] = np.sqrt(total)
            else:
                L[i, j] = total / L[j, j]
    return True


@njit(error_model="numpy")
def _inverse(L, m, Q):
    """Inverse of LL'."""
    R = np.zeros((m, m))
    for j in range(m):
        R[j, j] = 1.0 / L[j, j]
        for i in range(j + 1, m):
            total = 0.0
            for k in range(j, i):
                total -= L[i, k] * R[k, j]
            R[i, j] = total / L[i, i]
    for i in range(m):
        for j in range(i + 1):
            total = 0.0
            for k in range(i, m):
                total += R[k, i] * R[k, j]
            Q[i, j] = total
            Q[j, i] = total


@njit(error_model="numpy")
def inverses(P, lengths):
    """Inverses of all patterns' matrices, and half the logarithms of their determinants.

    A Markov process has no inverses here: its correlations with the time before say all. A
    logarithm that is infinite says that a matrix is not positive definite.
    """
    longest = P.shape[1]
    markov = P.shape[2] == 1
    Q = np.zeros((0, 0, 0)) if markov else np.zeros((len(lengths), longest, longest))
    logs = np.zeros(len(lengths))
    L = np.zeros((longest, longest)) if not markov else np.zeros((0, 0))
    for p in range(len(lengths)):
        m = lengths[p]
        if markov:
            for i in range(m - 1):
                left = 1.0 - P[p, i, 0] ** 2
                logs[p] += 0.5 * np.log(left) if left > _LEAST else np.inf
        elif factor(P[p], m, L):
            _inverse(L, m, Q[p])
            for i in range(m):
                logs[p] += np.log(L[i, i])
        else:
            logs[p] = np.inf
    return Q, logs
