"""Autocorrelations of a stationary process from its partial ones, by Durbin and Levinson."""

from __future__ import annotations

import importlib

import numpy as np

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
