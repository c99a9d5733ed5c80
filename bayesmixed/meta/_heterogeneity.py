r"""The posterior of the heterogeneity on nodes whose sums converge exponentially.

With tau on the whole line (its logarithm, or its logit between bounds) the posterior density is
smooth and falls off at both ends. For such functions the equally spaced rule converges faster than
any power of the step (Trefethen & Weideman 2014, SIAM Review 56:385), and so do sums of the sine
integral for the distribution function (Stenger 1993, Numerical Methods Based on Sinc and Analytic
Functions, section 4.5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq
from scipy.special import expit, sici

from bayesmixed._errors import PriorError
from bayesmixed.meta._shortest import shortest

type Floats = NDArray[np.float64]

# exp(-38) is below the rounding error of a sum near 1.
_NEGLIGIBLE = 38.0
_REACH = 80.0
_NODES = (33, 30_000)
_TOLERANCE = 3e-12


class Density(Protocol):
    """A prior of tau: what `scipy.stats` distributions offer."""

    def logpdf(self, x: Floats, /) -> Floats:
        """Logarithm of the density."""

    def support(self) -> tuple[float, float]:
        """Lower and upper end."""


@dataclass(frozen=True, eq=False, repr=False)
class Heterogeneity:
    """Posterior of tau.

    Parameters
    ----------
    log_density : callable
        Logarithm of prior times likelihood at an array of tau.
    lower, upper : float
        Ends of the support; the upper one may be infinite.
    x : array, shape (nodes,)
        Equally spaced nodes on the whole line.
    tau, weights : array, shape (nodes,)
        Values of tau there, and their weights, which add up to 1.
    log_evidence : float
        Logarithm of the integral of prior times likelihood.
    moments : float
        Moments of lower order than this exist; infinite unless the upper tail is heavy.
    """

    log_density: Callable[[Floats], Floats]
    lower: float
    upper: float
    x: Floats
    tau: Floats
    weights: Floats
    log_evidence: float
    moments: float

    @property
    def mean(self) -> float:
        """Posterior mean; infinite where it does not exist."""
        return float(self.weights @ self.tau) if self.moments > 1 else np.inf

    @property
    def sd(self) -> float:
        """Posterior standard deviation; infinite where it does not exist."""
        spread = float(self.weights @ (self.tau - self.weights @ self.tau) ** 2) ** 0.5
        return spread if self.moments > 2 else np.inf

    def pdf(self, tau: ArrayLike) -> Floats:
        """Posterior density at `tau`."""
        at = np.atleast_1d(np.asarray(tau, dtype=float))
        found = np.exp(self.log_density(at) - self.log_evidence)
        return np.asarray(np.where((at >= self.lower) & (at <= self.upper), found, 0.0))

    def cdf(self, tau: ArrayLike) -> Floats:
        """Posterior probability of heterogeneity up to `tau`, shape of `tau`."""
        at = np.atleast_1d(np.asarray(tau, dtype=float))
        inside = np.clip(at, self.tau[0], self.tau[-1])
        found = self._cdf(_line(inside, self.lower, self.upper))
        return np.where(at >= self.tau[-1], 1.0, np.where(at <= self.tau[0], 0.0, found))

    def _cdf(self, x: Floats) -> Floats:
        step = self.x[1] - self.x[0]
        shares = 0.5 + sici(np.pi * (x[:, None] - self.x) / step)[0] / np.pi
        return np.asarray(shares @ self.weights)

    def quantile(self, p: float) -> float:
        """Where `cdf` is `p`."""
        if self.tau[0] == self.tau[-1]:
            return float(self.tau[0])
        x = brentq(
            lambda x: float(self._cdf(np.array([x]))[0]) - p,
            self.x[0],
            self.x[-1],
            xtol=1e-13,
            rtol=1e-13,
        )
        return float(_interval(np.array([x]), self.lower, self.upper)[0])

    def shortest(self, prob: float) -> Floats:
        """Ends of the shortest interval of this probability, shape (2,)."""
        return shortest(self.quantile, prob)

    def inverse(self, p: Floats) -> Floats:
        """Quantiles for draws, to about 1e-6 in probability, shape of `p`."""
        if self.tau[0] == self.tau[-1]:
            return np.full(p.shape, self.tau[0])
        total = np.cumsum(self.weights)
        inside = np.flatnonzero((total > 1e-10) & (total < 1 - 1e-10))
        first, last = max(inside[0] - 1, 0), min(inside[-1] + 2, len(total) - 1)
        x = np.linspace(self.x[first], self.x[last], 600)
        found = np.maximum.accumulate(self._cdf(x))
        rising = np.flatnonzero(np.diff(found) > 1e-15)
        kept = np.append(rising, rising[-1] + 1)
        back = PchipInterpolator(found[kept], x[kept])
        return _interval(back(np.clip(p, found[kept[0]], found[kept[-1]])), self.lower, self.upper)


def _interval(x: Floats, lower: float, upper: float) -> Floats:
    """From the whole line to the support."""
    wide = np.isinf(upper)
    return np.asarray(lower + (np.exp(x) if wide else (upper - lower) * expit(x)))


def _line(tau: Floats, lower: float, upper: float) -> Floats:
    """From the support to the whole line."""
    past = np.log(tau - lower)
    return np.asarray(past if np.isinf(upper) else past - np.log(upper - tau))


def no_heterogeneity(log_likelihood: Callable[[Floats], Floats]) -> Heterogeneity:
    """The common-effect model: tau is 0."""
    zero, one = np.zeros(1), np.ones(1)
    evidence = float(log_likelihood(zero)[0])
    return Heterogeneity(log_likelihood, 0.0, 0.0, zero, zero, one, evidence, np.inf)


def heterogeneity(
    log_likelihood: Callable[[Floats], Floats], prior: Density, scales: Floats
) -> Heterogeneity:
    """Find nodes that carry the whole posterior of tau, finely enough.

    Parameters
    ----------
    log_likelihood : callable
        At an array of tau.
    prior : Density
    scales : array
        Sizes that matter: standard errors and the spread of the effects.

    Raises
    ------
    PriorError
        If the posterior does not integrate to a finite number.
    """
    lower, upper = (float(end) for end in prior.support())

    def log_density(tau: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            return log_likelihood(tau) + np.asarray(prior.logpdf(tau))

    def on_line(x: Floats) -> Floats:
        tau = _interval(x, lower, upper)
        if np.isinf(upper):
            jacobian = x
        else:
            jacobian = np.log(upper - lower) - np.logaddexp(0, x) - np.logaddexp(0, -x)
        return log_density(tau) + jacobian

    unit = 1.0 if np.isinf(upper) else upper - lower
    ends = np.log(scales.min() / unit) - _REACH, np.log(scales.max() / unit) + _REACH
    moments = _tail(on_line, ends[1]) if np.isinf(upper) else np.inf
    if not moments > 1e-3:
        raise PriorError(
            "With this prior of the heterogeneity the posterior does not integrate to 1: so few "
            "studies do not bound it. Use a proper prior, such as HalfNormal or HalfCauchy."
        )
    power = float(np.searchsorted([1.0, 2.0], moments)) if np.isinf(upper) else 0.0
    first, last = _bracket(on_line, ends, power)
    x, values = _refine(on_line, first, last, np.isinf(upper) and moments > 1)
    peak = values.max()
    shares = np.exp(values - peak)
    evidence = float(peak + np.log(shares.sum() * (x[1] - x[0])))
    return Heterogeneity(
        log_density,
        lower,
        upper,
        x,
        _interval(x, lower, upper),
        shares / shares.sum(),
        evidence,
        moments,
    )


def _tail(on_line: Callable[[Floats], Floats], end: float) -> float:
    """Rate of the upper tail: the density of tau falls as tau to the power -1 - rate."""
    near, far = on_line(np.array([end - 40.0, end - 39.0]))
    if np.isneginf(far):
        return np.inf
    rate = round(float(near - far), 6)
    return rate if rate < 100 else np.inf


def _bracket(
    on_line: Callable[[Floats], Floats], ends: tuple[float, float], power: float
) -> tuple[float, float]:
    """The part of the line outside of which neither mass nor moments up to `power` are left."""
    first, last = ends
    while True:
        x = np.linspace(first, last, 400)
        values = on_line(x)
        values = np.where(np.isnan(values), -np.inf, values)
        kept = values > values.max() - _NEGLIGIBLE
        if power:
            moment = values + power * x
            kept |= moment > moment.max() - _NEGLIGIBLE
        at = np.flatnonzero(kept)
        narrower = x[max(at[0] - 1, 0)], x[min(at[-1] + 1, len(x) - 1)]
        if narrower[1] - narrower[0] > 0.8 * (last - first):
            return float(narrower[0]), float(narrower[1])
        first, last = float(narrower[0]), float(narrower[1])


def _refine(
    on_line: Callable[[Floats], Floats], first: float, last: float, has_mean: bool
) -> tuple[Floats, Floats]:
    """Halve the step until sums no longer change.

    The error at half the step is the square of that before, and that of the distribution
    function its root.
    """
    count, before, middle = _NODES[0], np.full(3, np.nan), np.nan
    while count < _NODES[1]:
        x = np.linspace(first, last, count)
        values = on_line(x)
        peak = values.max()
        shares = np.exp(values - peak)
        middle = x[values.argmax()] if np.isnan(middle) else middle
        functions = np.stack([expit(x - middle), np.exp(has_mean * (x - last))])
        evidence = peak + np.log(shares.sum() * (x[1] - x[0]))
        sums = np.array([evidence, *np.log(functions @ shares / shares.sum())])
        # Where the tails of a prior outlast the line, no sum knows more than what is left there.
        left = float(shares[0] + shares[-1])
        if (np.abs(sums - before) < max(_TOLERANCE * max(1.0, abs(peak) / 100), left)).all():
            return x, values
        before, count = sums, 2 * count - 1
    raise PriorError(
        "The posterior of the heterogeneity is too rough to be integrated on a grid; check the "
        'prior of its standard deviation, or use method="nuts".'
    )
