r"""Log-likelihoods and their gradients in one pass over the rows, as machine code.

A kernel takes the linear predictors of a family's parameters and gives the log-likelihood, without
the terms that no parameter enters, and its derivative by every linear predictor::

    double kernel(int64 rows, int64* varies, double* eta, double* stats, int64 extra, double* d_eta)

``eta`` and ``d_eta`` hold one stretch of `rows` numbers for each of the family's parameters, in the
family's order. Where ``varies[p]`` is 0 the parameter is one number: only the first of its stretch
is read, and only the first of its stretch in ``d_eta`` counts, which gets the sum over the rows.
``stats`` is what `Kernel.collapse` makes of the outcomes: columns of `rows` numbers, then `extra`
further numbers. Predictors are on the scale of the link: eta, log alpha, log sigma. A kernel never
raises; it gives minus infinity or NaN where that is the log-likelihood.

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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf, log, nan, pi, sqrt
from types import MappingProxyType
from typing import Any

import numba
import numpy as np
from numba import types
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError

_DOUBLES = types.CPointer(types.float64)
SIGNATURE = types.float64(
    types.int64, types.CPointer(types.int64), _DOUBLES, _DOUBLES, types.int64, _DOUBLES
)

# NaN and infinity keep their meaning everywhere.
_SUMS = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
_elementary = numba.njit(error_model="numpy", fastmath={"contract"}, forceinline=True)
_over_rows = numba.njit(**_SUMS, forceinline=True)
# Written into its caller once for each value of its first argument, so that no loop asks for it.
_twice = numba.njit(**_SUMS, inline="always")

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
_LARGE = 16

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
_FAR_COST = 3
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


def _binomial_logit(rows, varies, eta, stats, extra, d_eta):
    return _binomial(_logit, rows, varies, eta, stats, d_eta)


def _binomial_probit(rows, varies, eta, stats, extra, d_eta):
    return _binomial(_probit, rows, varies, eta, stats, d_eta)


def _binomial_cloglog(rows, varies, eta, stats, extra, d_eta):
    return _binomial(_cloglog, rows, varies, eta, stats, d_eta)


def _poisson_log(rows, varies, eta, stats, extra, d_eta):
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


@_twice
def _gaussian(each, rows, varies, eta, stats, d_eta):
    step = varies[0]
    total, slopes, sigma_slopes = 0.0, 0.0, 0.0
    log_sigma = eta[rows]
    precision = _exp(-log_sigma)
    for i in range(rows):
        if each:
            log_sigma = eta[rows + i]
            precision = _exp(-log_sigma)
        n = stats[i]
        z = (stats[rows + i] - eta[i * step]) * precision
        squares = stats[2 * rows + i] * precision * precision + n * z * z
        total -= n * log_sigma + 0.5 * squares
        slope = n * z * precision
        d_eta[i * step] = slope
        slopes += slope
        if each:
            d_eta[rows + i] = squares - n
        sigma_slopes += squares - n
    if step == 0:
        d_eta[0] = slopes
    if not each:
        d_eta[rows] = sigma_slopes
    return total


def _gaussian_identity(rows, varies, eta, stats, extra, d_eta):
    if varies[1] == 0:
        return _gaussian(False, rows, varies, eta, stats, d_eta)
    return _gaussian(True, rows, varies, eta, stats, d_eta)


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
    near = min(y, _LARGE)
    for j in range(1, int(near)):
        product *= 1.0 + (a * j + b)
        slope -= j / (alpha + j)
    value = _log1p(product - 1.0)[0] + (min(log_alpha, 0.0) if y > 0.0 else 0.0)
    if y > _LARGE:
        far, far_slope = _far_steps(y, _LARGE, alpha)
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


def _negative_binomial_log(rows, varies, eta, stats, extra, d_eta):
    if extra == 0:
        return _negative_binomial(True, rows, varies, eta, stats, d_eta)
    if varies[1] != 0:
        return nan
    total = _negative_binomial(False, rows, varies, eta, stats, d_eta)
    value, slope = _rises(stats, 2 * rows, extra, eta[rows], _exp(eta[rows]))
    d_eta[rows] += slope
    return total + value


type Floats = NDArray[np.float64]
type Integers = NDArray[np.integer[Any]]
type Columns = tuple[list[Floats], Floats]
_NOTHING = np.empty(0)


def _sums(y: Floats, index: Integers, count: int) -> tuple[Floats, Floats]:
    """Sum of y and number of rows for each unique row."""
    n = np.bincount(index, minlength=count).astype(np.float64)
    return np.bincount(index, weights=y, minlength=count), n


def _successes(
    y: Floats, trials: Floats | None, index: Integers, count: int, sufficient: bool
) -> Columns:
    total, n = _sums(y, index, count)
    return [total, n if trials is None else _sums(trials, index, count)[0]], _NOTHING


def _totals(
    y: Floats, trials: Floats | None, index: Integers, count: int, sufficient: bool
) -> Columns:
    return list(_sums(y, index, count)), _NOTHING


def _moments(
    y: Floats, trials: Floats | None, index: Integers, count: int, sufficient: bool
) -> Columns:
    total, n = _sums(y, index, count)
    mean = total / n
    # A second pass takes away what rounding left in the mean.
    mean += _sums(y - mean[index], index, count)[0] / n
    return [n, mean, _sums((y - mean[index]) ** 2, index, count)[0]], _NOTHING


def _counts(
    y: Floats, trials: Floats | None, index: Integers, count: int, sufficient: bool
) -> Columns:
    total, n = _sums(y, index, count)
    if not sufficient and (total[index] != y * n[index]).any():
        raise BayesmixedError(
            "Rows with different outcomes were to become one although alpha differs by row. Give "
            "them an index each."
        )
    return [total, n], _NOTHING


def _count_tails(values: Floats, often: Integers) -> Floats:
    """What the gamma functions need of all outcomes, from the distinct ones and their counts.

    A number J, how many outcomes are above j for 0 <= j < J, then the distinct outcomes above J,
    then how often each occurs. J is where one more term costs less than what it saves.
    """
    least = min(_LARGE, max(values[-1], 1.0))
    bounds = np.concatenate([[least], values[values > least]])
    far = len(values) - np.searchsorted(values, bounds, side="right")
    direct = bounds[np.argmin(bounds + _FAR_COST * far)]
    below = np.concatenate([[0], np.cumsum(often)])
    above = below[-1] - below[np.searchsorted(values, np.arange(direct), side="right")]
    beyond = values > direct
    return np.concatenate([[direct], above, values[beyond], often[beyond]]).astype(np.float64)


@dataclass(frozen=True)
class Kernel:
    """The likelihood of a family with given links.

    Parameters
    ----------
    name : str
        Family and link of its first parameter.
    function : callable
        What is compiled.
    statistics : callable
        ``(y, trials, index, count, sufficient) -> (columns, further numbers)``.
    further : callable, optional
        Where rows may become one: ``(distinct outcomes, how often each occurs) -> further numbers``
        for all rows together.
    sufficient : callable
        ``varies -> bool``: whether rows that differ in nothing but `y` may become one row, given
        which of the family's parameters differ between rows.
    """

    name: str
    function: Callable[..., Any]
    statistics: Callable[[Floats, Floats | None, Integers, int, bool], Columns]
    sufficient: Callable[[Sequence[int]], bool] = lambda varies: True
    further: Callable[[Floats, Integers], Floats] | None = None

    def entry(self) -> Any:
        """The kernel as a ``numba`` C function: ``.address`` is where it is, ``.ctypes`` calls it.

        The first call on a machine compiles it (below a second) and keeps it on disk.
        """
        return _compiled(self.function)

    def collapse(
        self, y: Floats, trials: Floats | None, index: Integers, count: int, sufficient: bool
    ) -> tuple[Floats, int]:
        """Sufficient statistics of the outcomes that share a row of predictors.

        Parameters
        ----------
        y : array (n,)
            Outcomes.
        trials : array (n,), optional
            Trials, for the binomial; 1 where left out.
        index : integer array (n,)
            Position of each outcome's unique row, 0 to ``count - 1``, each of which occurs.
        count : int
            Number of unique rows.
        sufficient : bool
            What `sufficient` said. If false, outcomes that share a row must be equal.

        Returns
        -------
        stats : array
            What the kernel takes: columns of length `count`, then further numbers.
        extra : int
            How many further numbers.

        Raises
        ------
        BayesmixedError
            If outcomes that share a row differ although that is not sufficient.
        """
        columns, further = self.statistics(y, trials, index, count, sufficient)
        if sufficient and self.further is not None:
            further = self.further(*np.unique(y, return_counts=True))
        return np.concatenate([*columns, further]), len(further)


@cache
def _compiled(function: Callable[..., Any]) -> Any:
    try:
        return numba.cfunc(SIGNATURE, cache=True, **_SUMS)(function)
    except RuntimeError:  # Nowhere to keep it: neither beside this file nor in the user's cache.
        return numba.cfunc(SIGNATURE, **_SUMS)(function)


KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        kernel.name: kernel
        for kernel in (
            Kernel("binomial_logit", _binomial_logit, _successes),
            Kernel("binomial_probit", _binomial_probit, _successes),
            Kernel("binomial_cloglog", _binomial_cloglog, _successes),
            Kernel("poisson_log", _poisson_log, _totals),
            Kernel(
                "negative_binomial_log",
                _negative_binomial_log,
                _counts,
                lambda varies: not varies[1],
                _count_tails,
            ),
            Kernel("gaussian_identity", _gaussian_identity, _moments),
        )
    }
)
