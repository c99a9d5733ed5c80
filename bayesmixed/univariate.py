"""Priors on single numbers as machine code: log-density and derivative on the unconstrained scale.

`encoded` says what a prior is as numbers. Division by zero gives infinity under NumPy's error
model; Python's would raise.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bayesmixed.encoded import (
    ABOVE,
    BETWEEN,
    CONSTANT,
    DENSITY,
    IDENTITY,
    LAPLACE,
    LOCATION,
    LOG_GAMMA,
    LOG_ODDS,
    LOG_SQRT_2PI,
    LOWER,
    NORMAL,
    SCALE,
    SKEW_NORMAL,
    STUDENT_T,
    TRANSFORM,
    TRUNCATED,
    UPPER,
    P,
    Q,
)

type Floats = NDArray[np.float64]


@njit(error_model="numpy")
def log_prior(x: float, numbers: Floats) -> tuple[float, float, float, float]:
    """Log-density of an unconstrained number under a prior, for numba.

    Parameters
    ----------
    x : float
        The unconstrained number.
    numbers : array, shape (WIDTH,)
        The prior, from `encoded.encode`.

    Returns
    -------
    value : float
        The number on the prior's support.
    slope : float
        Derivative of `value` with respect to `x`.
    density : float
        Log-density at `value` plus log-Jacobian of the transform, normalised as in PyMC. Minus
        infinity where it or its derivative is beyond what a float can hold, or `x` is not finite.
    gradient : float
        Derivative of `density` with respect to `x`; 0 where `density` is minus infinity.
    """
    code = int(numbers[DENSITY])
    location, scale = numbers[LOCATION], numbers[SCALE]
    value, slope, jacobian, d_jacobian = _transformed(x, numbers)
    if code == TRUNCATED:
        u = (value - location) / scale
        density = jacobian - 0.5 * u * u
        gradient = d_jacobian - u / scale * slope
    else:
        u = (x - location) / scale
        density, gradient = _standard(code, u, numbers[P], numbers[Q])
        gradient /= scale
    density += numbers[CONSTANT]
    if not (math.isfinite(density) and math.isfinite(gradient)):
        density, gradient = -math.inf, 0.0
    return value, slope, density, gradient


@njit(error_model="numpy")
def _transformed(x: float, numbers: Floats) -> tuple[float, float, float, float]:
    """The number itself, its derivative, the log of the derivative's size, and that's derivative.

    The last two are 0 for a number that is not transformed, as they should be.
    """
    transform = int(numbers[TRANSFORM])
    lower, upper = numbers[LOWER], numbers[UPPER]
    if transform == IDENTITY:
        return x, 1.0, 0.0, 0.0
    if transform == BETWEEN:
        above, below = _sigmoid(x), _sigmoid(-x)
        value, width = above * upper + below * lower, upper - lower
        jacobian = math.log(width) - _softplus(x) - _softplus(-x)
        return value, width * above * below, jacobian, below - above
    distance = math.exp(x)
    if transform == ABOVE:
        return lower + distance, distance, x, 1.0
    return upper - distance, -distance, x, 1.0


@njit(error_model="numpy")
def _standard(code: int, u: float, p: float, q: float) -> tuple[float, float]:
    """A density of location 0 and scale 1 with shapes `p` and `q`: log, constant apart, and slope.

    All but the linear one are 0 or smaller, and none is a small difference of large numbers.
    """
    if code == NORMAL:
        return -0.5 * u * u, -u
    if code == STUDENT_T:
        return -0.5 * (p + 1.0) * math.log1p(u * u), -(p + 1.0) * u / (1.0 + u * u)
    if code == LAPLACE:
        return -abs(u), -float(np.sign(u))
    if code == SKEW_NORMAL:
        log_cdf, ratio = _normal_cdf(p * u)
        return log_cdf - 0.5 * u * u, p * ratio - u
    if code == LOG_GAMMA:
        excess = math.expm1(u)
        return p * (u - excess), -p * excess
    if code == LOG_ODDS:
        return -p * _softplus(u) - q * _softplus(-u), q * _sigmoid(-u) - p * _sigmoid(u)
    return p * u, p


@njit(error_model="numpy")
def _softplus(x: float) -> float:
    """log(1 + exp(x))."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@njit(error_model="numpy")
def _sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), with all its digits where it is tiny."""
    small = math.exp(-abs(x))
    return (1.0 if x > 0 else small) / (1.0 + small)


@njit(error_model="numpy")
def _normal_cdf(x: float) -> tuple[float, float]:
    """Log of the standard normal's distribution function, and density over it."""
    if x > -30.0:
        cdf = 0.5 * math.erfc(-x / math.sqrt(2.0))
        return math.log(cdf), math.exp(-0.5 * x * x - LOG_SQRT_2PI) / cdf
    ratio = -x  # Laplace's continued fraction; this far out ten terms leave nothing to add
    for k in range(10, 0, -1):
        ratio = k / ratio - x
    return -0.5 * x * x - LOG_SQRT_2PI - math.log(ratio), ratio
