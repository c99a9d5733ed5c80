"""Evidence and posterior of a model with bias, by sums over its grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from bayesmixed.meta._bias_models import Bias
from bayesmixed.meta._heterogeneity import Density, _interval, _line
from bayesmixed.meta._nodes import cdf

type Floats = NDArray[np.float64]

_MU, _TAU = 81, 100
_COARSE = 41
# exp(-24) is what may be left outside.
_NEGLIGIBLE = 24.0
# The lower tail of log tau falls slowly, and has nothing in it.
_LOW = 14.0
_REACH = 25.0
# Standard deviations that bias may shift the average effect.
_FAR = 100.0


@dataclass(frozen=True, eq=False)
class Studies:
    """What the models are given, turned so that positive effects are the expected ones.

    Parameters
    ----------
    y, se : array, shape (studies,)
    mean, sd : float
        Of the normal prior of the average effect.
    prior : Density
        Of tau.
    """

    y: Floats
    se: Floats
    mean: float
    sd: float
    prior: Density

    def mu(self, z: Floats, tau: Floats) -> tuple[Floats, Floats]:
        """Average effects, `z` sds from where they are without bias, shape (z, tau).

        Beside them the logarithm of prior times the nodes' distance.
        """
        centre, sd = self.centre(tau)
        mu = centre + sd * z[:, None]
        away = (mu - self.mean) / self.sd
        prior = -0.5 * away**2 - np.log(self.sd * np.sqrt(2 * np.pi))
        return mu, np.asarray(prior + np.log(sd * (z[1] - z[0])))

    def centre(self, tau: Floats) -> tuple[Floats, Floats]:
        """Mean and sd of the average effect given tau, without bias: where to put its nodes."""
        weight = 1 / (self.se**2 + tau[:, None] ** 2)
        precision = weight.sum(axis=1) + self.sd**-2
        return (weight @ self.y + self.mean / self.sd**2) / precision, precision**-0.5

    def tau(self, x: Floats) -> tuple[Floats, Floats]:
        """Heterogeneity at points of the whole line, and the log of prior times Jacobian."""
        lower, upper = self.prior.support()
        tau = _interval(x, lower, upper)
        with np.errstate(divide="ignore"):
            prior = np.asarray(self.prior.logpdf(tau))
        if np.isinf(upper):
            return tau, prior + x
        return tau, prior + np.log(upper - lower) - np.logaddexp(0, x) - np.logaddexp(0, -x)


@dataclass(frozen=True, eq=False)
class Cell:
    """One model: with or without effect, with or without heterogeneity, one way to bias.

    Parameters
    ----------
    log_evidence : float
        Logarithm of the marginal likelihood.
    weights : array, shape (mu, tau)
        Posterior at the nodes.
    nuisance : array, shape (nodes,)
        Posterior at the nodes of the bias's parameters.
    mu : array, shape (mu, tau)
        Equally spaced for every tau; or 0 without an effect.
    x : array, shape (tau,)
        Equally spaced; the heterogeneity on the whole line.
    tau : array, shape (tau,)
        The heterogeneity there; or 0.
    bounds : tuple of float
        Support of the prior of tau.
    """

    log_evidence: float
    weights: Floats
    nuisance: Floats
    mu: Floats
    x: Floats
    tau: Floats
    bounds: tuple[float, float]

    @property
    def step(self) -> Floats:
        """Distance of the nodes of the average effect, shape (tau,)."""
        return np.asarray(self.mu[1] - self.mu[0])

    def tau_power(self, power: int) -> float:
        """Posterior mean of a power of tau."""
        return float(self.weights.sum(axis=0) @ self.tau**power)

    def mu_power(self, power: int) -> float:
        """Posterior mean of a power of the average effect."""
        return float((self.weights * self.mu**power).sum())

    def mu_cdf(self, at: float) -> float:
        """Posterior probability of an average effect up to a number."""
        if len(self.mu) == 1:
            return float(at >= 0)
        return cdf(self.mu, self.step, self.weights, at)

    def tau_cdf(self, at: float) -> float:
        """Posterior probability of heterogeneity up to a number."""
        if len(self.tau) == 1:
            return float(at >= 0)
        if at <= self.tau[0] or at >= self.tau[-1]:
            return float(at >= self.tau[-1])
        x = float(_line(np.array([at]), *self.bounds)[0])
        return cdf(self.x, self.x[1] - self.x[0], self.weights.sum(axis=0), x)

    def mu_pdf(self, x: Floats) -> Floats:
        """Posterior density of the average effect, shape of `x`."""
        found = np.zeros_like(x)
        for mu, step, weights in zip(self.mu.T, self.step, self.weights.T, strict=True):
            inside = np.sinc((x[:, None] - mu) / step) @ weights / step
            found += np.where((x > mu[0]) & (x < mu[-1]), np.maximum(inside, 0), 0)
        return found


def cells(studies: Studies, bias: Bias) -> dict[tuple[bool, bool], Cell]:
    """The four models of one way to bias, by whether there are effect and heterogeneity."""
    first, last, low, high = _box(studies, bias)
    z, x = np.linspace(first, last, _MU), np.linspace(low, high, _TAU)
    tau, log_tau = studies.tau(x)
    log_tau = log_tau + np.log(x[1] - x[0])
    nodes, weights = bias.nodes(coarse=False)
    zero, found = np.zeros(1), {}
    for effect in (False, True):
        for varies in (False, True):
            spread, prior_tau = (tau, log_tau) if varies else (zero, zero)
            at, prior_mu = studies.mu(z, spread) if effect else (np.zeros((1, len(spread))), zero)
            joint = bias.log_likelihood(studies.y, studies.se, at, spread, nodes)
            joint += np.log(weights)[:, None, None] + prior_mu + prior_tau
            evidence = float(logsumexp(joint))
            posterior = np.exp(joint - evidence)
            found[effect, varies] = Cell(
                evidence,
                posterior.sum(axis=0),
                posterior.sum(axis=(1, 2)),
                at,
                x if varies else zero,
                spread,
                studies.prior.support(),
            )
    return found


def _box(studies: Studies, bias: Bias) -> tuple[float, float, float, float]:
    """Bounds of average effect and heterogeneity outside of which nothing is left."""
    nodes, weights = bias.nodes(coarse=True)
    first, last = -_FAR, _FAR
    low = float(np.log(studies.se.min())) - _REACH
    high = float(np.log(studies.se.max() + np.ptp(studies.y))) + _REACH
    for _ in range(12):
        z, x = np.linspace(first, last, _COARSE), np.linspace(low, high, _COARSE)
        tau, log_tau = studies.tau(x)
        # Without heterogeneity the average effect must have its place too.
        spread = np.append(tau, 0.0)
        mu, log_mu = studies.mu(z, spread)
        joint = bias.log_likelihood(studies.y, studies.se, mu, spread, nodes)
        joint += np.log(weights)[:, None, None] + log_mu
        table = logsumexp(joint, axis=0)
        varying = table[:, :-1] + log_tau
        a = (_within(varying.max(axis=1)) | _within(table[:, -1])).nonzero()[0]
        t = _within(varying.max(axis=0), _LOW).nonzero()[0]
        ends = z[max(a[0] - 1, 0)], z[min(a[-1] + 1, _COARSE - 1)]
        sides = x[max(t[0] - 1, 0)], x[min(t[-1] + 1, _COARSE - 1)]
        narrower = max((ends[1] - ends[0]) / (last - first), (sides[1] - sides[0]) / (high - low))
        first, last, low, high = (float(e) for e in (*ends, *sides))
        if narrower > 0.8:
            break
    return first, last, low, high


def _within(values: Floats, most: float = _NEGLIGIBLE) -> NDArray[np.bool_]:
    return np.asarray(values > values.max() - most)
