"""Prior distributions as plain values: a PyMC name with parameters, checked when written."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite, log, sqrt
from statistics import NormalDist
from types import MappingProxyType
from typing import Any, Literal

from bayesmixed._errors import PriorError, lookup, unknown

type Support = Literal["real", "positive", "unit", "ordered", "correlation"]

_POSITIVE_PARAMETERS = frozenset({"sigma", "nu", "b", "beta", "alpha", "lam", "s", "eta"})

# PyMC's own names and parameter names. A parameter that ends in "?" may be left out.
_DISTRIBUTIONS: Mapping[str, tuple[Support, tuple[str, ...]]] = MappingProxyType(
    {
        "Normal": ("real", ("mu?", "sigma")),
        "StudentT": ("real", ("nu", "mu?", "sigma")),
        "Cauchy": ("real", ("alpha", "beta")),
        "Laplace": ("real", ("mu", "b")),
        "Logistic": ("real", ("mu?", "s")),
        "SkewNormal": ("real", ("alpha", "mu?", "sigma")),
        "TruncatedNormal": ("real", ("mu?", "sigma", "lower?", "upper?")),
        "Uniform": ("real", ("lower", "upper")),
        "Flat": ("real", ()),
        "HalfNormal": ("positive", ("sigma",)),
        "HalfStudentT": ("positive", ("nu", "sigma")),
        "HalfCauchy": ("positive", ("beta",)),
        "HalfFlat": ("positive", ()),
        "Exponential": ("positive", ("lam?", "scale?")),
        "Gamma": ("positive", ("alpha?", "beta?", "mu?", "sigma?")),
        "InverseGamma": ("positive", ("alpha?", "beta?", "mu?", "sigma?")),
        "LogNormal": ("positive", ("mu?", "sigma")),
        "Weibull": ("positive", ("alpha", "beta")),
        "Beta": ("unit", ("alpha?", "beta?", "mu?", "sigma?", "nu?")),
        "LKJ": ("correlation", ("eta",)),
    }
)

_WITHIN: Mapping[Support, tuple[Support, ...]] = MappingProxyType(
    {
        "real": ("real", "positive", "unit"),
        "ordered": ("real",),
        "positive": ("positive", "unit"),
        "unit": ("unit",),
        "correlation": ("correlation",),
    }
)

_SUPPORT_WORDS: Mapping[Support, str] = MappingProxyType(
    {
        "real": "a number on the real line",
        "ordered": "increasing numbers on the real line",
        "positive": "a number above 0",
        "unit": "a number between 0 and 1",
        "correlation": "a correlation matrix",
    }
)


@dataclass(frozen=True, init=False)
class Prior:
    """A prior distribution under PyMC's name and with PyMC's parameters.

    Parameters
    ----------
    distribution : str
        Such as ``"Normal"``, ``"StudentT"``, ``"HalfNormal"``, ``"Exponential"``; ``"LKJ"`` for
        correlations of random effects.
    **parameters : float
        The distribution's parameters, by PyMC's names.

    Raises
    ------
    PriorError
        If a parameter is missing, not a finite number, or not positive where it must be.
    UnknownNameError
        If the distribution or a parameter does not exist.

    Examples
    --------
    >>> Prior("Normal", mu=0, sigma=20)
    Normal(mu=0, sigma=20)
    """

    distribution: str
    parameters: tuple[tuple[str, float], ...]

    def __init__(self, distribution: str, **parameters: float) -> None:
        _, names = lookup(_DISTRIBUTIONS, distribution, "prior distribution")
        valid = [name.rstrip("?") for name in names]
        for name, value in parameters.items():
            if name not in valid:
                raise unknown(name, valid, f"parameter of {distribution}")
            bound = name in ("lower", "upper")
            try:
                number = float(value)
            except (TypeError, ValueError):
                raise PriorError(
                    f"{distribution}({name}=...) takes a number, not {value!r}."
                ) from None
            if not (isfinite(number) or bound):
                raise PriorError(f"{distribution}({name}={value!r}): a finite number is needed.")
            positive = name in _POSITIVE_PARAMETERS and (distribution, name) not in (
                ("Cauchy", "alpha"),
                ("SkewNormal", "alpha"),
            )
            if positive and number <= 0:
                raise PriorError(f"{distribution}({name}={value!r}): {name} must be above 0.")
        missing = [name for name in names if not name.endswith("?") and name not in parameters]
        if missing or (names and not parameters):
            raise PriorError(
                f"{distribution} needs {', '.join(missing) or 'parameters'}; "
                f"it takes {', '.join(valid)}."
            )
        values = dict(parameters)
        if values.get("lower", -inf) >= values.get("upper", inf):
            raise PriorError(f"{distribution}: lower must be below upper; given {values}.")
        object.__setattr__(self, "distribution", distribution)
        object.__setattr__(self, "parameters", tuple(parameters.items()))

    @property
    def support(self) -> Support:
        """Where the distribution lives, its bounds taken into account."""
        support = _DISTRIBUTIONS[self.distribution][0]
        values = dict(self.parameters)
        lower, upper = values.get("lower", -inf), values.get("upper", inf)
        if support == "real" and lower >= 0:
            return "unit" if upper <= 1 else "positive"
        return support

    @property
    def is_proper(self) -> bool:
        """Whether it integrates to 1, so that it can be sampled from."""
        return self.distribution not in ("Flat", "HalfFlat")

    def check_support(self, name: str, support: Support) -> None:
        """Refuse the prior for a parameter that lives on a narrower support.

        Raises
        ------
        PriorError
            Naming the parameter, its support, and distributions that live there.
        """
        if self.support not in _WITHIN[support]:
            fitting = [d for d, (s, _) in _DISTRIBUTIONS.items() if s in _WITHIN[support]]
            raise PriorError(
                f"{name} is {_SUPPORT_WORDS[support]}, and {self} can lie outside it. "
                f"Valid there: {', '.join(fitting)}"
                + (
                    ", or Uniform and TruncatedNormal with bounds."
                    if support != "correlation"
                    else "."
                )
            )

    def variable(self, name: str, **kwargs: Any) -> Any:
        """Create the PyMC random variable `name` in the model of the current context."""
        pymc = importlib.import_module("pymc")
        return getattr(pymc, self.distribution)(name, **dict(self.parameters), **kwargs)

    def __repr__(self) -> str:
        """As one would write it."""
        inner = ", ".join(f"{name}={value:.4g}" for name, value in self.parameters)
        return f"{self.distribution}({inner})"


@dataclass(frozen=True)
class VarianceBudget:
    r"""Priors for all standard deviations from what is known about the variance and its shares.

    People know "systolic pressure has an SD of about 12 mmHg, and 5 to 15 % of its variance is
    between units" better than they know a standard deviation of unit intercepts. The budget
    turns such sentences into lognormal priors: with :math:`\sigma_l = T \sqrt{s_l}`, both
    :math:`\log T` and :math:`\log s_l` normal with the stated central ranges.

    Parameters
    ----------
    shares : mapping of str to (float, float)
        Range of the share of the total variance for each grouping, as fractions of 1.
    total_sd : float or (float, float), optional
        The outcome's total standard deviation given the predictors, in the outcome's units, or
        a range for it; a single number means within a factor of 1.2. Needed where the family
        has a residual ``sigma``; not used for yes/no outcomes, whose latent residual variance is
        fixed by the link.
    mass : float
        The probability that each stated range holds.

    Examples
    --------
    >>> VarianceBudget({"unit": (0.05, 0.15)}, total_sd=12).priors(None)["sd_unit"]
    LogNormal(mu=1.261, sigma=0.2003)
    """

    shares: Mapping[str, tuple[float, float]]
    total_sd: float | tuple[float, float] | None = None
    mass: float = 0.9

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises
        ------
        PriorError
            If a share is not a range inside (0, 1), the shares leave nothing for the residual,
            or a number is not positive.
        """
        if not 0 < self.mass < 1:
            raise PriorError(f"mass={self.mass!r}: a probability between 0 and 1 is needed.")
        if not self.shares:
            raise PriorError("A variance budget needs the share of at least one grouping.")
        for group, share in self.shares.items():
            if not (isinstance(share, tuple | list) and len(share) == 2):
                raise PriorError(f"shares[{group!r}] must be a range such as (0.05, 0.15).")
            if not 0 < share[0] < share[1] < 1:
                raise PriorError(
                    f"shares[{group!r}] = {share}: two fractions of 1 are needed, the lower first, "
                    "such as (0.05, 0.15) for 5 to 15 %."
                )
        if sum(high for _, high in self.shares.values()) >= 1:
            raise PriorError(
                "The upper ends of the shares add up to 1 or more and leave nothing for the "
                f"residual: {dict(self.shares)}."
            )
        if self.total_sd is not None:
            low, high = self.total_range
            if not 0 < low < high:
                raise PriorError(f"total_sd={self.total_sd!r}: a positive number or a range.")

    @property
    def total_range(self) -> tuple[float, float]:
        """The range of the total standard deviation."""
        if self.total_sd is None:
            raise PriorError(
                "This family has a residual standard deviation, so the variance budget needs "
                "total_sd, the outcome's total SD in its own units, such as total_sd=12."
            )
        if isinstance(self.total_sd, tuple | list):
            low, high = self.total_sd
            return float(low), float(high)
        return self.total_sd / 1.2, self.total_sd * 1.2

    def priors(self, latent_variance: float | None) -> dict[str, Prior]:
        """The priors, by name (``sd_<group>``, and ``sigma`` where it is estimated).

        Parameters
        ----------
        latent_variance : float or None
            The link's fixed residual variance; None where the residual SD is estimated.
        """
        low_rest = 1 - sum(high for _, high in self.shares.values())
        high_rest = 1 - sum(low for low, _ in self.shares.values())
        if latent_variance is None:
            total = self.total_range
            named = {f"sd_{group}": self._sd(total, share) for group, share in self.shares.items()}
            return named | {"sigma": self._sd(total, (low_rest, high_rest))}
        # The residual is known, so a share fixes the ratio of the two variances:
        # s_l / s_residual = sd^2 / latent variance.
        unit = sqrt(latent_variance)
        middle = sqrt(low_rest * high_rest)
        return {
            f"sd_{group}": self._sd((unit, unit), (low / middle, high / middle))
            for group, (low, high) in self.shares.items()
        }

    def _sd(self, total: tuple[float, float], share: tuple[float, float]) -> Prior:
        z = NormalDist().inv_cdf(0.5 + self.mass / 2)
        centre = (log(total[0]) + log(total[1])) / 2 + (log(share[0]) + log(share[1])) / 4
        spread = sqrt(log(total[1] / total[0]) ** 2 + (log(share[1] / share[0]) / 2) ** 2)
        return Prior("LogNormal", mu=centre, sigma=spread / (2 * z))

    def __str__(self) -> str:
        """Summarise the budget in a line."""
        parts = ", ".join(f"{g} {lo:.0%} to {hi:.0%}" for g, (lo, hi) in self.shares.items())
        total = "" if self.total_sd is None else f"total SD {self.total_range[0]:.3g} to "
        total += "" if self.total_sd is None else f"{self.total_range[1]:.3g}; "
        return f"variance budget: {total}{parts} of the variance"
