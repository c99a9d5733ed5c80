"""Durbin and Levinson's recursion as machine code, with slopes; see `levinson`."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(error_model="numpy")
def recursion(partial):
    """Autocorrelations, and their slopes for the partial ones, shape (lags, lags)."""
    n = len(partial)
    rho, slopes = np.zeros(n), np.zeros((n, n))
    weights, of_weights = np.zeros(n), np.zeros((n, n))
    left, of_left = 1.0, np.zeros(n)
    for k in range(n):
        value = partial[k]
        rho[k] = value * left
        for i in range(k):
            slopes[k, i] = value * of_left[i]
        slopes[k, k] = left
        for j in range(k):
            rho[k] += weights[j] * rho[k - 1 - j]
            for i in range(k):
                slopes[k, i] += (
                    of_weights[j, i] * rho[k - 1 - j] + weights[j] * slopes[k - 1 - j, i]
                )
        # The weights from both ends at once, since each needs the other's old value.
        for j in range((k + 1) // 2):
            end = k - 1 - j
            a, b = weights[j], weights[end]
            weights[j], weights[end] = a - value * b, b - value * a
            for i in range(k):
                c, d = of_weights[j, i], of_weights[end, i]
                of_weights[j, i], of_weights[end, i] = c - value * d, d - value * c
            of_weights[j, k], of_weights[end, k] = -b, -a
        weights[k] = value
        of_weights[k, k] = 1.0
        for i in range(k):
            of_left[i] *= 1.0 - value * value
        of_left[k] = -2.0 * value * left
        left *= 1.0 - value * value
    return rho, slopes
