"""Priors of the heterogeneity as densities for the grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bayesmixed._errors import PriorError
from bayesmixed.meta._heterogeneity import Density
from bayesmixed.priors import Prior

type Floats = NDArray[np.float64]


class Flat:
    """Uniform on the positive numbers, which does not integrate to 1."""

    proper = False

    def logpdf(self, x: Floats) -> Floats:
        """0 everywhere."""
        return np.zeros_like(x)

    def support(self) -> tuple[float, float]:
        """From 0 without end."""
        return 0.0, np.inf


@dataclass(frozen=True)
class LogStudentT:
    """A number whose logarithm has Student's t distribution.

    Parameters
    ----------
    nu : float
        Degrees of freedom.
    mu, sigma : float
        Location and scale of the logarithm.
    """

    nu: float
    mu: float
    sigma: float

    def logpdf(self, x: Floats) -> Floats:
        """Logarithm of the density."""
        log_x = np.log(x)
        return np.asarray(stats.t.logpdf(log_x, self.nu, self.mu, self.sigma) - log_x)

    def support(self) -> tuple[float, float]:
        """From 0 without end."""
        return 0.0, np.inf

    def __str__(self) -> str:
        """As one would write it."""
        return f"LogStudentT(nu={self.nu:g}, mu={self.mu:.4g}, sigma={self.sigma:.4g})"


@dataclass(frozen=True)
class _HalfStudentT:
    """Absolute value of Student's t."""

    nu: float
    sigma: float

    def logpdf(self, x: Floats) -> Floats:
        return np.asarray(np.log(2) + stats.t.logpdf(x, self.nu, 0, self.sigma))

    def support(self) -> tuple[float, float]:
        return 0.0, np.inf


def _gamma(
    *,
    alpha: float | None = None,
    beta: float | None = None,
    mu: float = 1.0,
    sigma: float = 1.0,
) -> Any:
    if alpha is None or beta is None:
        alpha, beta = (mu / sigma) ** 2, mu / sigma**2
    return stats.gamma(alpha, scale=1 / beta)


def _exponential(*, lam: float | None = None, scale: float = 1.0) -> Any:
    return stats.expon(scale=scale if lam is None else 1 / lam)


def _truncated(
    *, mu: float = 0.0, sigma: float, lower: float = -np.inf, upper: float = np.inf
) -> Any:
    return stats.truncnorm((lower - mu) / sigma, (upper - mu) / sigma, mu, sigma)


def _beta(
    *,
    alpha: float | None = None,
    beta: float | None = None,
    mu: float = 0.5,
    sigma: float | None = None,
    nu: float = 1.0,
) -> Any:
    if alpha is None or beta is None:
        total = nu if sigma is None else mu * (1 - mu) / sigma**2 - 1
        alpha, beta = mu * total, (1 - mu) * total
    return stats.beta(alpha, beta)


# PyMC's names and parameters in SciPy's terms.
_DENSITIES: Mapping[str, Callable[..., Any]] = {
    "HalfNormal": lambda *, sigma: stats.halfnorm(scale=sigma),
    "HalfStudentT": _HalfStudentT,
    "HalfCauchy": lambda *, beta: stats.halfcauchy(scale=beta),
    "HalfFlat": Flat,
    "Exponential": _exponential,
    "Gamma": _gamma,
    "InverseGamma": lambda *, alpha, beta: stats.invgamma(alpha, scale=beta),
    "LogNormal": lambda *, sigma, mu=0.0: stats.lognorm(sigma, scale=np.exp(mu)),
    "LogStudentT": lambda *, nu, sigma, mu=0.0: LogStudentT(nu, mu, sigma),
    "Weibull": lambda *, alpha, beta: stats.weibull_min(alpha, scale=beta),
    "Uniform": lambda *, lower, upper: stats.uniform(lower, upper - lower),
    "TruncatedNormal": _truncated,
    "Beta": _beta,
}


def written(prior: Prior | Density) -> str:
    """A prior as one would write it, distributions of `scipy.stats` with their parameters."""
    family = getattr(getattr(prior, "dist", None), "name", "")
    if not family:
        return str(prior)
    frozen: Any = prior
    values = [repr(float(v)) for v in frozen.args]
    values += [f"{name}={float(v)!r}" for name, v in frozen.kwds.items()]
    return f"scipy.stats.{family}({', '.join(values)})"


def density(prior: Prior | Density) -> Density:
    """The density of a prior of tau.

    Parameters
    ----------
    prior : Prior or Density
        A `Prior`, or anything with ``logpdf`` and ``support``, such as ``scipy.stats.halfnorm()``.

    Raises
    ------
    PriorError
        If it is neither, or allows negative numbers.
    """
    if isinstance(prior, Prior):
        prior.check_support("The standard deviation between studies", "positive")
        found: Density = _DENSITIES[prior.distribution](**dict(prior.parameters))
        return found
    if not (hasattr(prior, "logpdf") and hasattr(prior, "support")):
        raise PriorError(
            f"A prior of the heterogeneity is a Prior, such as "
            f'Prior("HalfNormal", sigma=0.5), or a frozen scipy.stats distribution; not {prior!r}.'
        )
    if not prior.support()[0] >= 0:
        raise PriorError(
            f"A standard deviation is from 0; the prior given lives on {prior.support()}."
        )
    return prior
