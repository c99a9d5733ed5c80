"""Priors of the heterogeneity that follow from the studies' standard errors alone.

They are known by the names that the R package bayesmeta gives them, whose manual has the formulas
(Röver 2020, J. Stat. Softw. 93(6), section 2.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import quad

from bayesmixed._errors import lookup

type Floats = NDArray[np.float64]

# Of tau, shape (..., 1), and the sampling variances, shape (studies,).
type LogDensity = Callable[[Floats, Floats], Floats]


def _log_information(tau: Floats, v: Floats) -> Floats:
    """Logarithm of what each study tells of tau, tau / (v + tau^2), without overflow."""
    return np.asarray(np.log(tau) - np.logaddexp(np.log(v), 2 * np.log(tau)))


def _jeffreys(tau: Floats, v: Floats) -> Floats:
    return np.asarray(0.5 * np.logaddexp.reduce(2 * _log_information(tau, v), axis=-1))


def _overall_jeffreys(tau: Floats, v: Floats) -> Floats:
    of_mean = np.logaddexp.reduce(-np.logaddexp(np.log(v), 2 * np.log(tau)), axis=-1)
    return np.asarray(_jeffreys(tau, v) + 0.5 * of_mean)


def _berger_deely(tau: Floats, v: Floats) -> Floats:
    return np.asarray(_log_information(tau, v).mean(axis=-1))


def _conventional(tau: Floats, v: Floats) -> Floats:
    total = np.logaddexp(np.log(v), 2 * np.log(tau))
    return np.asarray((np.log(tau) - 1.5 * total).mean(axis=-1))


def _harmonic(v: Floats) -> float:
    """Harmonic mean of the sampling variances."""
    return float(1 / np.mean(1 / v))


def _typical(v: Floats) -> float:
    """The typical sampling variance of Higgins & Thompson (2002)."""
    w = 1 / v
    return float((len(v) - 1) * w.sum() / (w.sum() ** 2 - (w**2).sum()))


def _dumouchel(tau: Floats, v: Floats) -> Floats:
    s = np.sqrt(_harmonic(v))
    return np.asarray((np.log(s) - 2 * np.log(s + tau))[..., 0])


def _uniform_share(tau: Floats, v: float) -> Floats:
    """With tau^2 / (v + tau^2) uniform from 0 to 1."""
    total = np.logaddexp(np.log(v), 2 * np.log(tau))
    return np.asarray((np.log(2 * v) + np.log(tau) - 2 * total)[..., 0])


@dataclass(frozen=True)
class _Formula:
    """A prior as a function of tau and the sampling variances.

    Parameters
    ----------
    log_density : callable
        Up to a constant.
    proper : bool
        Whether it is a distribution of tau, so that a marginal likelihood means something, as
        bayesmeta has it.
    source : str
    """

    log_density: LogDensity
    proper: bool
    source: str


_FORMULAS: Mapping[str, _Formula] = {
    "uniform": _Formula(lambda tau, v: 0 * tau[..., 0], False, "uniform in tau"),
    "sqrt": _Formula(
        lambda tau, v: -0.5 * np.log(tau[..., 0]), False, "uniform in the square root of tau"
    ),
    "Jeffreys": _Formula(
        _jeffreys, False, "Jeffreys' of tau; Bodnar, Link & Elster (2016), Bayesian Anal. 11:25"
    ),
    "overallJeffreys": _Formula(
        # Its integral over tau is finite, but it is a density of tau and a flat mu together.
        _overall_jeffreys, False,
        "Jeffreys' of mu and tau, improper together with mu; Bodnar, Link & Elster (2016)",
    ),
    "BergerDeely": _Formula(
        _berger_deely, False, "Berger & Deely (1988), J. Am. Stat. Assoc. 83:364"
    ),
    "conventional": _Formula(
        _conventional, True, "the proper form of Berger & Deely's; Röver (2020)"
    ),
    "DuMouchel": _Formula(
        _dumouchel, True, "Spiegelhalter, Abrams & Myles (2004), section 5.7.3"
    ),
    "shrinkage": _Formula(
        lambda tau, v: _uniform_share(tau, _harmonic(v)), True,
        "uniform in the shrinkage of a typical study; Spiegelhalter et al. (2004), section 5.7.3",
    ),
    "I2": _Formula(lambda tau, v: _uniform_share(tau, _typical(v)), True, "uniform in I2"),
}  # fmt: skip


@dataclass(frozen=True)
class ReferencePrior:
    """A prior of tau that is scaled by the standard errors of the studies.

    Parameters
    ----------
    name : str
        One of ``uniform``, ``sqrt``, ``Jeffreys``, ``overallJeffreys``, ``BergerDeely``,
        ``conventional``, ``DuMouchel``, ``shrinkage`` and ``I2``.
    se : sequence of float
        Standard errors.

    Raises
    ------
    UnknownNameError
        If there is no prior of that name.
    """

    name: str
    se: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the name."""
        lookup(_FORMULAS, self.name, "prior of tau")
        object.__setattr__(self, "se", tuple(map(float, self.se)))

    @property
    def proper(self) -> bool:
        """Whether it is a distribution of tau by itself, which integrates to 1."""
        return _FORMULAS[self.name].proper

    def logpdf(self, x: ArrayLike) -> Floats:
        """Logarithm of the density; where it is not `proper` up to a constant."""
        return np.asarray(self._unnormed(np.asarray(x, dtype=float)) - self._log_total)

    def support(self) -> tuple[float, float]:
        """From 0 without end."""
        return 0.0, np.inf

    def __str__(self) -> str:
        """The name and where it is from."""
        return f"{self.name} ({_FORMULAS[self.name].source})"

    def _unnormed(self, tau: Floats) -> Floats:
        v = np.array(self.se) ** 2
        with np.errstate(divide="ignore"):
            return _FORMULAS[self.name].log_density(tau[..., None], v)

    @cached_property
    def _log_total(self) -> float:
        """Only the conventional prior has no closed form; the others are normed already."""
        if self.name != "conventional":
            return 0.0
        # On the scale of log tau, about the typical standard error.
        centre = float(np.mean(np.log(self.se)))
        wide = float(np.ptp(np.log(self.se)))
        most = float(self._unnormed(np.array(np.exp(centre))) + centre)

        def value(u: float) -> float:
            return float(np.exp(self._unnormed(np.array(np.exp(u))) + u - most))

        cuts = centre + np.array([-wide - 40, -wide, 0, wide, wide + 40])
        parts = [
            quad(value, *ends, epsrel=1e-11, epsabs=0, limit=200)[0]
            for ends in pairwise(cuts)
            if ends[1] > ends[0]
        ]
        return most + float(np.log(sum(parts)))


def is_proper(prior: object) -> bool:
    """Whether a prior of tau integrates to 1, so that its marginal likelihood means something."""
    return bool(getattr(prior, "proper", True))
