"""Priors on single numbers as numbers, of which machine code works out densities (`univariate`).

PyMC's default transforms take a number x of the real line to the prior's support: x itself,
``lower + exp(x)``, ``upper - exp(x)``, or a logistic curve between two bounds. Seen from x, with
the transform's Jacobian, the distributions are few: the logarithm of a gamma, half-normal or
Weibull variable is the same density at another location, scale and weight, and so are the log-odds
of a beta, the logarithm of a half-t and a logistic variable. Nothing is lost there in the tails,
where the number itself would round to a bound, to 0 or to infinity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, log, pi, sqrt
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, erfcx, expit, gammaln, log_ndtr

from bayesmixed.priors import Prior

type Floats = NDArray[np.float64]

#: Length of the array that stands for a prior.
WIDTH = 9

# What stands where in the array.
DENSITY, LOCATION, SCALE, P, Q, CONSTANT, TRANSFORM, LOWER, UPPER = range(WIDTH)

# Transforms.
IDENTITY, ABOVE, BELOW, BETWEEN = range(4)

# Densities of u = (x - location) / scale; the truncated normal's u is that of the number itself.
LINEAR, NORMAL, STUDENT_T, LAPLACE, SKEW_NORMAL, LOG_GAMMA, LOG_ODDS, TRUNCATED = range(8)

LOG_SQRT_2PI = 0.5 * log(2 * pi)

# A small enough share of a standard deviation for the normal density to count as constant in it.
_NARROW = 1e-5


@dataclass(frozen=True, eq=False)
class Encoded:
    """A prior as numbers.

    Parameters
    ----------
    numbers : array, shape (WIDTH,)
        What `univariate.log_prior` takes.
    start : float
        The unconstrained number at which PyMC starts: a mean, median or mode.
    """

    numbers: Floats
    start: float

    @property
    def spread(self) -> float | None:
        """Scale of the density; None where the number is transformed, or the density flat."""
        if self.numbers[TRANSFORM] != IDENTITY or self.numbers[SCALE] <= 0:
            return None
        return float(self.numbers[SCALE])


def encode(prior: Prior) -> Encoded:
    """Write a prior of single numbers (any but ``"LKJ"``) as numbers."""
    return _ENCODERS[prior.distribution](**dict(prior.parameters))


def constrain(x: Floats, encoded: Encoded) -> Floats:
    """Bring unconstrained numbers to the prior's support, elementwise, as `log_prior` does.

    Parameters
    ----------
    x : array, any shape
        Such as draws of one parameter.
    encoded : Encoded
        The parameter's prior.
    """
    transform, lower, upper = encoded.numbers[[TRANSFORM, LOWER, UPPER]]
    if transform == IDENTITY:
        return np.array(x, dtype=float)
    if transform == BETWEEN:
        return np.asarray(expit(x) * upper + expit(np.negative(x)) * lower)
    with np.errstate(over="ignore"):
        distance = np.exp(x)
    return np.asarray(lower + distance if transform == ABOVE else upper - distance)


def unconstrain(values: Floats, encoded: Encoded) -> Floats:
    """The inverse of `constrain`, elementwise."""
    transform, lower, upper = encoded.numbers[[TRANSFORM, LOWER, UPPER]]
    if transform == IDENTITY:
        return np.array(values, dtype=float)
    if transform == BETWEEN:
        return np.asarray(np.log(values - lower) - np.log(upper - values))
    return np.asarray(np.log(values - lower if transform == ABOVE else upper - values))


def _encoded(
    density: int,
    location: float = 0.0,
    scale: float = 1.0,
    p: float = 0.0,
    q: float = 0.0,
    *,
    constant: float = 0.0,
    lower: float = -inf,
    upper: float = inf,
    start: float,
) -> Encoded:
    """Lay the numbers out; the bounds say which transform it is."""
    transform = (
        (IDENTITY if upper == inf else BELOW)
        if lower == -inf
        else (ABOVE if upper == inf else BETWEEN)
    )
    row = (density, location, scale, p, q, constant, transform, lower, upper)
    return Encoded(np.array(row, dtype=np.float64), float(start))


def _flat() -> Encoded:
    return _encoded(LINEAR, start=0.0)


def _half_flat() -> Encoded:
    return _encoded(LINEAR, p=1.0, lower=0.0, start=0.0)


def _normal(*, mu: float = 0.0, sigma: float) -> Encoded:
    return _encoded(NORMAL, mu, sigma, constant=-log(sigma) - LOG_SQRT_2PI, start=mu)


def _log_normal(*, mu: float = 0.0, sigma: float) -> Encoded:
    constant, start = -log(sigma) - LOG_SQRT_2PI, mu + 0.5 * sigma**2
    return _encoded(NORMAL, mu, sigma, constant=constant, lower=0.0, start=start)


def _student_t(*, nu: float, mu: float = 0.0, sigma: float) -> Encoded:
    scale = sigma * sqrt(nu)
    constant = -float(betaln(0.5 * nu, 0.5)) - log(scale)
    return _encoded(STUDENT_T, mu, scale, nu, constant=constant, start=mu)


def _log_student_t(*, nu: float, mu: float = 0.0, sigma: float) -> Encoded:
    scale = sigma * sqrt(nu)
    constant = -float(betaln(0.5 * nu, 0.5)) - log(scale)
    return _encoded(STUDENT_T, mu, scale, nu, constant=constant, lower=0.0, start=mu)


def _cauchy(*, alpha: float, beta: float) -> Encoded:
    return _student_t(nu=1.0, mu=alpha, sigma=beta)


def _laplace(*, mu: float, b: float) -> Encoded:
    return _encoded(LAPLACE, mu, b, constant=-log(2 * b), start=mu)


def _skew_normal(*, alpha: float, mu: float = 0.0, sigma: float) -> Encoded:
    constant = log(2) - log(sigma) - LOG_SQRT_2PI
    mean = mu + sigma * sqrt(2 / pi) * alpha / math.hypot(1.0, alpha)
    return _encoded(SKEW_NORMAL, mu, sigma, alpha, constant=constant, start=mean)


def _logistic(*, mu: float = 0.0, s: float) -> Encoded:
    return _encoded(LOG_ODDS, mu, s, 1.0, 1.0, constant=-log(s), start=mu)


def _uniform(*, lower: float, upper: float) -> Encoded:
    return _encoded(LOG_ODDS, p=1.0, q=1.0, lower=lower, upper=upper, start=0.0)


def _beta(
    *,
    alpha: float = 0.0,
    beta: float = 0.0,
    mu: float = 0.0,
    sigma: float = 0.0,
    nu: float = 0.0,
) -> Encoded:
    if mu:
        total = nu or mu * (1 - mu) / sigma**2 - 1
        alpha, beta = mu * total, (1 - mu) * total
    constant, start = -float(betaln(alpha, beta)), log(alpha) - log(beta)
    return _encoded(LOG_ODDS, p=beta, q=alpha, constant=constant, lower=0.0, upper=1.0, start=start)


def _half_student_t(*, nu: float, sigma: float) -> Encoded:
    # The square over sigma^2 nu is beta prime, the log-odds of a beta variable.
    location = log(sigma) + 0.5 * log(nu)
    constant = log(2) - float(betaln(0.5 * nu, 0.5))
    p, q = 0.5 * nu, 0.5
    return _encoded(LOG_ODDS, location, 0.5, p, q, constant=constant, lower=0.0, start=log(sigma))


def _half_cauchy(*, beta: float) -> Encoded:
    return _half_student_t(nu=1.0, sigma=beta)


def _log_gamma(mode: float, scale: float, weight: float, constant: float, start: float) -> Encoded:
    """A positive number whose log is that of a gamma variable, moved and stretched.

    Its log-density at the `mode` is `constant`.
    """
    return _encoded(LOG_GAMMA, mode, scale, weight, constant=constant, lower=0.0, start=start)


def _at_mode(alpha: float) -> float:
    """Log-density of the log of a Gamma(alpha, .) variable at its mode."""
    return alpha * log(alpha) - alpha - float(gammaln(alpha))


def _half_normal(*, sigma: float) -> Encoded:
    return _log_gamma(log(sigma), 0.5, 0.5, 0.5 * log(2 / pi) - 0.5, log(sigma))


def _exponential(*, lam: float = 1.0, scale: float = 1.0) -> Encoded:
    location = log(scale) - log(lam)
    return _log_gamma(location, 1.0, 1.0, _at_mode(1.0), location)


def _gamma(
    *, alpha: float = 0.0, beta: float = 0.0, mu: float = 0.0, sigma: float = 0.0
) -> Encoded:
    if mu:
        alpha = (mu / sigma) ** 2
    mean = log(mu) if mu else log(alpha) - log(beta)
    return _log_gamma(mean, 1.0, alpha, _at_mode(alpha), mean)


def _inverse_gamma(
    *, alpha: float = 0.0, beta: float = 0.0, mu: float = 0.0, sigma: float = 0.0
) -> Encoded:
    if mu:
        alpha = 2 + (mu / sigma) ** 2
        log_beta = log(mu) + log(alpha - 1)
    else:
        log_beta = log(beta)
    # The mean where there is one, otherwise the mode.
    start = log_beta - (log(alpha - 1) if alpha > 1 else log(alpha + 1))
    return _log_gamma(log_beta - log(alpha), -1.0, alpha, _at_mode(alpha), start)


def _weibull(*, alpha: float, beta: float) -> Encoded:
    start = log(beta) + math.lgamma(1 + 1 / alpha)
    return _log_gamma(log(beta), 1 / alpha, 1.0, log(alpha) - 1, start)


def _truncated_normal(
    *, mu: float = 0.0, sigma: float, lower: float = -inf, upper: float = inf
) -> Encoded:
    if lower == -inf and upper == inf:
        return _normal(mu=mu, sigma=sigma)
    mass = _log_mass((lower - mu) / sigma, (upper - mu) / sigma)
    constant = -log(sigma) - LOG_SQRT_2PI - mass
    # PyMC starts halfway between two bounds, and 1 away from a single one: at 0 in each case.
    return _encoded(TRUNCATED, mu, sigma, constant=constant, lower=lower, upper=upper, start=0.0)


def _log_mass(lower: float, upper: float) -> float:
    """Log of the standard normal's probability between two bounds, wherever they are."""
    if lower > 0:  # the lower tail has the digits
        lower, upper = -upper, -lower
    whole = float(log_ndtr(upper))
    if lower == -inf:
        return whole
    middle, width = 0.5 * (lower + upper), upper - lower
    if width * max(1.0, abs(middle)) < _NARROW:
        return log(width) - 0.5 * middle**2 - LOG_SQRT_2PI
    if upper < 0:  # the squares would swamp their difference
        outside = width * middle + log(erfcx(-lower / sqrt(2)) / erfcx(-upper / sqrt(2)))
    else:
        outside = float(log_ndtr(lower)) - whole
    return whole + log(-math.expm1(outside))


_ENCODERS: Mapping[str, Callable[..., Encoded]] = MappingProxyType(
    {
        "Normal": _normal,
        "StudentT": _student_t,
        "Cauchy": _cauchy,
        "Laplace": _laplace,
        "Logistic": _logistic,
        "SkewNormal": _skew_normal,
        "TruncatedNormal": _truncated_normal,
        "Uniform": _uniform,
        "Flat": _flat,
        "HalfNormal": _half_normal,
        "HalfStudentT": _half_student_t,
        "HalfCauchy": _half_cauchy,
        "HalfFlat": _half_flat,
        "Exponential": _exponential,
        "Gamma": _gamma,
        "InverseGamma": _inverse_gamma,
        "LogNormal": _log_normal,
        "LogStudentT": _log_student_t,
        "Weibull": _weibull,
        "Beta": _beta,
    }
)
