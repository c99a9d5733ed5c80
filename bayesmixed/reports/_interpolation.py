"""Smooth functions of a linear predictor, worked out at few points of every draw."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.fft import dct

type Floats = NDArray[np.float64]

_SIZES = (32, 64, 128)
_TOLERANCE = 1e-11


def interpolated(function: Callable[[Floats], Floats], at: Floats) -> Floats:
    """A function's values, by Chebyshev interpolation over each draw's range where that is cheaper.

    Averages over new groups are analytic in the linear predictor, and so their Chebyshev series
    ends within a few dozen terms; it is lengthened until its last terms are below 1e-11 of the
    first ones in every draw, and given up for the function itself if they never are.

    Parameters
    ----------
    function : callable
        From points of shape (chain, draw, point) to values of that shape; elementwise along the
        last axis.
    at : array, shape (chain, draw, row)
        Where it is wanted.

    Returns
    -------
    array, shape (chain, draw, row)

    References
    ----------
    .. [1] Trefethen (2013), Approximation Theory and Approximation Practice, SIAM, theorem 8.2.
    """
    low, high = at.min(axis=-1, keepdims=True), at.max(axis=-1, keepdims=True)
    middle, half = (low + high) / 2, (high - low) / 2
    for size in _SIZES:
        if at.shape[-1] <= 2 * size:
            break
        nodes = np.cos(np.pi * (np.arange(size) + 0.5) / size)
        coefficients = dct(function(middle + half * nodes), axis=-1) / size
        coefficients[..., 0] /= 2
        sizes = np.abs(coefficients)
        if (sizes[..., -4:].max(axis=-1) <= _TOLERANCE * sizes.max(axis=-1)).all():
            inside = (at - middle) / np.where(half > 0, half, 1.0)
            terms = np.moveaxis(coefficients, -1, 0)[..., None]
            return np.asarray(chebyshev.chebval(inside, terms, tensor=False))
    return function(at)
