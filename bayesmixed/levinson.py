"""Autocorrelations of a stationary process from its partial ones, by Durbin and Levinson."""

from __future__ import annotations

import importlib

import numpy as np
from numba import njit

from bayesmixed.backend import Array, is_symbolic


def autocorrelations(partial: Array) -> Array:
    """Autocorrelations from lag 1.

    Parameters
    ----------
    partial : array, shape (lags,)
        Partial autocorrelations, each in (-1, 1).

    Returns
    -------
    array, shape (lags,)

    References
    ----------
    .. [1] Barndorff-Nielsen & Schou (1973), J. Multivar. Anal. 3:408.
    """
    if is_symbolic(partial):
        # As in `backend`: PyTensor is imported only where its variables come in.
        return importlib.import_module("bayesmixed.levinson_op").Levinson()(partial)[0]
    rho, weights, left = np.zeros(len(partial)), np.zeros(0), 1.0
    for k, value in enumerate(partial):
        rho[k] = weights @ rho[:k][::-1] + value * left
        weights = np.append(weights - value * weights[::-1], value)
        left *= 1 - value**2
    return rho


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
