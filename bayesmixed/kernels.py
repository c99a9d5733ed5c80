r"""Log-likelihoods and their gradients in one pass over the rows, as machine code.

A kernel takes the linear predictors of a family's parameters and gives the log-likelihood, without
the terms that no parameter enters, and its derivative by every linear predictor::

    double kernel(int64 rows, int64* varies, double* eta, double* stats, int64 extra, double* d_eta)

``eta`` and ``d_eta`` hold one stretch of `rows` numbers for each of the family's parameters, in the
family's order. Where ``varies[p]`` is 0 the parameter is one number: only the first of its stretch
is read, and only the first of its stretch in ``d_eta`` counts, which gets the sum over the rows.
``stats`` is what `likelihoods.Kernel.collapse` makes of the outcomes: columns of `rows` numbers,
then `extra` further numbers. Predictors are on the scale of the link: eta, log alpha. A kernel
never raises; it gives minus infinity or NaN where that is the log-likelihood.

Speed comes from loops without branches or calls, which LLVM turns into vector code. Hence the
exponential and the logarithm below: polynomials of least maximal error, computed by the Remez
algorithm at 50 digits, after the usual reduction of the argument [1]_; both are within 2.1 units in
the last place. Only loops over rows may be summed in another order (``reassoc``); the functions
themselves may not, since their exactness rests on the order.

References
----------
.. [1] Muller (2016), Elementary Functions, 3rd ed., Birkhaeuser, ch. 3 and 11.
"""

from __future__ import annotations

from math import inf, log, nan, pi, sqrt

import numba
import numpy as np
from numba import types

_DOUBLES = types.CPointer(types.float64)
SIGNATURE = types.float64(
    types.int64, types.CPointer(types.int64), _DOUBLES, _DOUBLES, types.int64, _DOUBLES
)

# NaN and infinity keep their meaning everywhere.
SUMS = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
_elementary = numba.njit(error_model="numpy", fastmath={"contract"}, forceinline=True)
_over_rows = numba.njit(**SUMS, forceinline=True)
# Written into its caller once for each value of its first argument, so that no loop asks for it.
_twice = numba.njit(**SUMS, inline="always")

# Coefficients from the highest power down.
# exp(r) = 1 + r + r^2 p(r) for |r| < log(2) / 2; error 4e-18.
_EXP = (
    2.5117135579372e-08, 2.7630009579895814e-07, 2.7557218890265378e-06, 2.4801493874576125e-05,
    0.0001984126991404214, 0.0013888888942740472, 0.008333333333309033, 0.041666666666534326,
    0.16666666666666696, 0.500000000000001,
)  # fmt: skip
# log((1 + s) / (1 - s)) = 2 s + s z p(z) with z = s^2, for |s| < 0.1716; error 2e-18.
_LOG = (
    0.14756922167731445, 0.15318193800761418, 0.18183390733588603, 0.22222202197901988,
    0.2857142870338002, 0.3999999999961364, 0.6666666666666698,
)  # fmt: skip
# (1 + x) Phi(-x) / phi(x) of the standard normal, x >= 0, as p(t^2) + t q(t^2) with
# t = (x - 5) / (x + 5); error 2e-17.
_MILLS_EVEN = (
    -7.159387548330173e-10, 9.13857206965901e-09, -6.599689994035231e-08, 3.206836718976248e-07,
    -1.764465511334295e-07, -2.480577901238729e-05, 0.0004570439037586919, -0.004201290325079894,
    -0.038026592186336104, -0.06617760077906588, 0.07778159886873696, 1.1568486282918946,
)  # fmt: skip
_MILLS_ODD = (
    -9.34848911346023e-10, 1.0910476652513638e-08, -7.728862083669116e-08, 4.915847676586261e-07,
    -3.2769300606594314e-06, 2.270941067247314e-05, -0.00013437420396698315, 1.953062075085907e-05,
    0.016348231283561353, 0.061505045839985374, 0.025072179301646128, -0.22948753825211324,
)  # fmt: skip
# r / (1 - exp(-r)) = 1 + r / 2 + r^2 p(r^2) for 0 <= r < log(2); error 2e-17.
_RATIO = (
    -5.073966295631958e-10, 2.0863761810180708e-08, -8.267156729486161e-07, 3.306878249177094e-05,
    -0.0013888888888518914, 0.08333333333333266,
)  # fmt: skip
# Stirling's series of log Gamma and its derivative, in 1 / x^2.
_STIRLING = (-1 / 1680, 1 / 1260, -1 / 360, 1 / 12)
_STIRLING_SLOPE = (1 / 240, -1 / 252, 1 / 120, -1 / 12)
# From here on it gives 14 decimals.
LARGE = 16

# log(2) in two parts: any exponent times the first is exact.
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_PER_LN2 = 1 / log(2)
# Adding 1.5 * 2^52 rounds to a whole number and leaves it in the lowest bits.
_ROUNDER = 1.5 * 2.0**52
_BIAS = np.uint64(1022)
_FRACTION_BITS = np.uint64(52)
_FRACTION = np.uint64(0x000FFFFFFFFFFFFF)
# The upper bits of sqrt(1/2), and what lifts them to those of 1.
_ROOT_HALF = np.uint64(0x3FE6A09E00000000)
_LIFT = np.uint64(0x3FF0000000000000 - 0x3FE6A09E00000000)
_ZERO_EXPONENT = np.uint64(1023)
# As bits a number of 52 bits above 2^52; as a float that sum.
_TWO_52 = np.uint64(0x4330000000000000)
_TWO_52_AND_BIAS = 2.0**52 + 1023
# What a term beyond the direct ones costs, in direct ones.
FAR_COST = 3
_ROOT_TAU = sqrt(2 * pi)
_LN2 = log(2)


@_elementary
def _polynomial(x, coefficients):
    value = coefficients[0]
    for i in range(1, len(coefficients)):
        value = value * x + coefficients[i]
    return value


@_elementary
def _exp(x):
    """exp(x); 0 below -708, where the result leaves the normal numbers."""
    shifted = np.float64(x * _PER_LN2 + _ROUNDER)
    n = shifted - _ROUNDER
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    # 2^(n - 1), since 2^n is too large for the last of the arguments.
    half = np.uint64((shifted.view(np.uint64) + _BIAS) << _FRACTION_BITS).view(np.float64)
    value = (1.0 + (r + r * r * _polynomial(r, _EXP))) * half * 2.0
    # In this order NaN passes.
    value = 0.0 if x < -708.0 else value
    return inf if x > 710.0 else value


@_elementary
def _log1p(x):
    """log(1 + x) and log(1 + x) - x for x >= 0, both accurate for small x."""
    bits = np.float64(1.0 + x).view(np.uint64) + _LIFT
    exponent = bits >> _FRACTION_BITS
    small = exponent == _ZERO_EXPONENT
    k = np.uint64(exponent | _TWO_52).view(np.float64) - _TWO_52_AND_BIAS
    # 1 + x = 2^k (1 + f), sqrt(1/2) < 1 + f < sqrt(2). With k = 0 the rounding of 1 + x is undone.
    reduced = np.uint64((bits & _FRACTION) + _ROOT_HALF).view(np.float64) - 1.0
    f = x if small else reduced
    s = f / (2.0 + f)
    z = s * s
    half_square = 0.5 * f * f
    beyond_f = s * (half_square + z * _polynomial(z, _LOG)) - half_square
    value = k * _LN2_HIGH + ((beyond_f + k * _LN2_LOW) + f)
    # Bits know neither infinity nor NaN.
    return (value if x < inf else x), (beyond_f if small else value - x)


# Links of a probability p: eta -> log p, log(1 - p) and their derivatives.


@_elementary
def _logit(eta):
    e = _exp(-abs(eta))
    rest, _ = _log1p(e)
    larger = 1.0 / (1.0 + e)
    smaller = e * larger
    positive = eta > 0.0
    return (
        (0.0 if positive else eta) - rest,
        (-eta if positive else 0.0) - rest,
        smaller if positive else larger,
        -larger if positive else -smaller,
    )


@_elementary
def _probit(eta):
    x = abs(eta)
    t = 1.0 - 10.0 / (x + 5.0)
    mills = _polynomial(t * t, _MILLS_EVEN) + t * _polynomial(t * t, _MILLS_ODD)
    # phi / Phi of the tail beyond x.
    tail_slope = (1.0 + x) / mills
    square = 0.5 * x * x
    density = _exp(-square) / _ROOT_TAU
    tail = density / tail_slope
    tail_log, _ = _log1p(_ROOT_TAU * tail_slope - 1.0)
    tail_log = -tail_log - square
    body = 1.0 - tail
    body_log, _ = _log1p(tail / body)
    body_slope = density / body
    positive = eta > 0.0
    return (
        -body_log if positive else tail_log,
        tail_log if positive else -body_log,
        body_slope if positive else tail_slope,
        -tail_slope if positive else -body_slope,
    )


@_elementary
def _cloglog(eta):
    rate = _exp(eta)
    none = _exp(-rate)
    rare = rate < _LN2
    # p = rate / (1 + excess) for a small rate, 1 / (1 + odds) for a large one.
    excess = rate * (0.5 + rate * _polynomial(rate * rate, _RATIO))
    odds = none / (1.0 - none)
    below, _ = _log1p(excess if rare else odds)
    # The product is 0 long before the rate is infinite.
    often = min(rate, 1e3) * odds
    return (
        (eta if rare else 0.0) - below,
        -rate,
        none * (1.0 + excess) if rare else often,
        -rate,
    )


@_over_rows
def _binomial(link, rows, varies, eta, stats, d_eta):
    step = varies[0]
    total = 0.0
    slopes = 0.0
    for i in range(rows):
        k = stats[i]
        failures = stats[rows + i] - k
        log_p, log_q, d_log_p, d_log_q = link(eta[i * step])
        # Nothing times minus infinity is nothing.
        total += (k * log_p if k > 0.0 else 0.0) + (failures * log_q if failures > 0.0 else 0.0)
        slope = (k * d_log_p if k > 0.0 else 0.0) + (failures * d_log_q if failures > 0.0 else 0.0)
        d_eta[i * step] = slope
        slopes += slope
    if step == 0:
        d_eta[0] = slopes
    return total


def binomial_logit(rows, varies, eta, stats, extra, d_eta):
    """Successes out of trials, logit link."""
    return _binomial(_logit, rows, varies, eta, stats, d_eta)


def binomial_probit(rows, varies, eta, stats, extra, d_eta):
    """Successes out of trials, probit link."""
    return _binomial(_probit, rows, varies, eta, stats, d_eta)


def binomial_cloglog(rows, varies, eta, stats, extra, d_eta):
    """Successes out of trials, complementary log-log link."""
    return _binomial(_cloglog, rows, varies, eta, stats, d_eta)


def poisson_log(rows, varies, eta, stats, extra, d_eta):
    """Totals of counts, log link."""
    step = varies[0]
    total = 0.0
    slopes = 0.0
    for i in range(rows):
        x = eta[i * step]
        expected = stats[rows + i] * _exp(x)
        total += stats[i] * x - expected
        slope = stats[i] - expected
        d_eta[i * step] = slope
        slopes += slope
    if step == 0:
        d_eta[0] = slopes
    return total


@_elementary
def _series(x, coefficients):
    return _polynomial(1.0 / (x * x), coefficients)


# Gamma(alpha + y) / Gamma(alpha) is a product of y steps alpha + j, 0 <= j < y. They are taken in
# units of alpha, or of 1 where alpha is below 1, so that their logarithms are small; their slopes
# are those in units of alpha either way.


@_elementary
def _steps(alpha):
    """a, b with (alpha + j) / unit = 1 + a j + b for j >= 1."""
    if alpha < 1.0:
        return 1.0, alpha - 1.0
    return 1.0 / alpha, 0.0


@_elementary
def _far_steps(y, first, alpha):
    """Sum of the logarithms of steps first <= j < y and its slope by log alpha, first >= 16.

    Stirling's series at both ends, in differences that stay accurate however large they are.
    """
    a, b = _steps(alpha)
    to_first, _ = _log1p(a * first + b)
    start = alpha + first
    n = y - first
    ratio, excess = _log1p(n / start)
    end = start + n
    value = start * excess + (n - 0.5) * ratio + n * to_first
    value += _series(end, _STIRLING) / end - _series(start, _STIRLING) / start
    slope = 0.5 * n / (start * end)
    slope += _series(end, _STIRLING_SLOPE) / (end * end)
    slope -= _series(start, _STIRLING_SLOPE) / (start * start)
    return value, start * excess - first * ratio + alpha * slope


@_elementary
def _rise(y, log_alpha, alpha):
    """Sum of the logarithms of all steps and its slope by log alpha."""
    a, b = _steps(alpha)
    product, slope = 1.0, 0.0
    near = min(y, LARGE)
    for j in range(1, int(near)):
        product *= 1.0 + (a * j + b)
        slope -= j / (alpha + j)
    value = _log1p(product - 1.0)[0] + (min(log_alpha, 0.0) if y > 0.0 else 0.0)
    if y > LARGE:
        far, far_slope = _far_steps(y, LARGE, alpha)
        return value + far, slope + far_slope
    return value, slope


@_over_rows
def _rises(stats, at, extra, log_alpha, alpha):
    """Sum of `_rise` over all outcomes, from their counts (see `_count_tails`)."""
    a, b = _steps(alpha)
    first = stats[at]
    direct = int(first)
    at += 1
    value, slope = stats[at] * min(log_alpha, 0.0), 0.0
    for j in range(1, direct):
        above = stats[at + j]
        value += above * _log1p(a * j + b)[0]
        slope -= above * (j / (alpha + j))
    far = (extra - 1 - direct) // 2
    for i in range(at + direct, at + direct + far):
        one, one_slope = _far_steps(stats[i], first, alpha)
        value += stats[far + i] * one
        slope += stats[far + i] * one_slope
    return value, slope


@_twice
def _negative_binomial(each, rows, varies, eta, stats, d_eta):
    step, alpha_step = varies[0], varies[1]
    total, slopes, alpha_slopes = 0.0, 0.0, 0.0
    log_alpha = eta[rows]
    alpha = _exp(log_alpha)
    for i in range(rows):
        y = stats[i]
        n = stats[rows + i]
        if each:
            log_alpha = eta[rows + i * alpha_step]
            alpha = _exp(log_alpha)
        x = eta[i * step]
        e = _exp(-abs(x - log_alpha))
        rest, excess = _log1p(e)
        larger = 1.0 / (1.0 + e)
        smaller = e * larger
        above = max(x - log_alpha, 0.0)
        share = larger if x > log_alpha else smaller  # mu / (mu + alpha)
        other = smaller if x > log_alpha else larger
        size = n * alpha
        # log(mu / (mu + alpha)) and the unit of the steps.
        mean = min(x - min(log_alpha, 0.0), max(log_alpha, 0.0)) - rest
        total += y * mean - size * (rest + above)
        slope = y * other - size * share
        d_eta[i * step] = slope
        slopes += slope
        # log(1 + mu / alpha) - share, without cancellation where alpha is large.
        gap = above + rest - share if x > log_alpha else excess + e * smaller
        slope = y * share - size * gap
        if each:
            value, rise = _rise(y / n, log_alpha, alpha)
            total += n * value
            slope += n * rise
            d_eta[rows + i * alpha_step] = slope
        alpha_slopes += slope
    if step == 0:
        d_eta[0] = slopes
    if alpha_step == 0:
        d_eta[rows] = alpha_slopes
    return total


def negative_binomial_log(rows, varies, eta, stats, extra, d_eta):
    """Totals of counts that vary more than Poisson's, log link."""
    if extra == 0:
        return _negative_binomial(True, rows, varies, eta, stats, d_eta)
    if varies[1] != 0:
        return nan
    total = _negative_binomial(False, rows, varies, eta, stats, d_eta)
    value, slope = _rises(stats, 2 * rows, extra, eta[rows], _exp(eta[rows]))
    d_eta[rows] += slope
    return total + value
