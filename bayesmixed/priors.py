"""Prior distributions as plain values: a PyMC name with parameters, checked when written."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from bayesmixed._errors import PriorError, listed, lookup, unknown

type Support = Literal["real", "positive", "unit", "ordered", "correlation"]
type Interval = tuple[float, float]

# PyMC's own names, and LogStudentT, a number whose logarithm is Student's t. Each distribution
# lists the sets of parameters that it can be given by; one that ends in "?" may be left out.
_DISTRIBUTIONS: Mapping[str, tuple[Support, tuple[str, ...]]] = MappingProxyType(
    {
        "Normal": ("real", ("mu? sigma",)),
        "StudentT": ("real", ("nu mu? sigma",)),
        "Cauchy": ("real", ("alpha beta",)),
        "Laplace": ("real", ("mu b",)),
        "Logistic": ("real", ("mu? s",)),
        "SkewNormal": ("real", ("alpha mu? sigma",)),
        "TruncatedNormal": ("real", ("mu? sigma lower? upper?",)),
        "Uniform": ("real", ("lower upper",)),
        "Flat": ("real", ("",)),
        "HalfNormal": ("positive", ("sigma",)),
        "HalfStudentT": ("positive", ("nu sigma",)),
        "HalfCauchy": ("positive", ("beta",)),
        "HalfFlat": ("positive", ("",)),
        "Exponential": ("positive", ("lam", "scale")),
        "Gamma": ("positive", ("alpha beta", "mu sigma")),
        "InverseGamma": ("positive", ("alpha beta", "mu sigma")),
        "LogNormal": ("positive", ("mu? sigma",)),
        "LogStudentT": ("positive", ("nu mu? sigma",)),
        "Weibull": ("positive", ("alpha beta",)),
        "Beta": ("unit", ("alpha beta", "mu sigma", "mu nu")),
        "LKJ": ("correlation", ("eta",)),
    }
)

# Their mu is that of the logarithm.
_OF_LOGS = frozenset({"LogNormal", "LogStudentT"})

# Everything else is positive: scales, shapes, rates, degrees of freedom.
_ANY_SIGN = frozenset({"mu", "lower", "upper"})
_ANY_SIGN_IN = frozenset({("Cauchy", "alpha"), ("SkewNormal", "alpha")})

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
        correlations of random effects; ``"LogStudentT"``, which is not PyMC's, for a number
        whose logarithm has Student's t distribution.
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
    >>> import bayesmixed as bm
    >>> prior = bm.Prior("Normal", mu=0, sigma=20)
    >>> prior
    Normal(mu=0, sigma=20)
    >>> data = bm.datasets.load("sleepstudy")
    >>> model = bm.Model("Reaction ~ Days", data, priors={"beta[Days]": prior})
    >>> model.priors.loc["beta[Days]", "source"]
    'yours'
    """

    distribution: str
    parameters: tuple[tuple[str, float], ...]

    def __init__(self, distribution: str, **parameters: float) -> None:
        support, sets = lookup(_DISTRIBUTIONS, distribution, "prior distribution")
        valid = list(dict.fromkeys(n.rstrip("?") for names in sets for n in names.split()))
        for name, value in parameters.items():
            if name not in valid:
                raise unknown(name, valid, f"parameter of {distribution}")
            _check_number(distribution, name, value)
        if not any(_complete(names.split(), parameters) for names in sets):
            ways = " or ".join(
                names.replace(" ", ", ").replace("?", " (optional)") for names in sets
            )
            given = listed(parameters) or "nothing"
            raise PriorError(f"{distribution} needs {ways or 'no parameters'}; given: {given}.")
        lower, upper = parameters.get("lower", -inf), parameters.get("upper", inf)
        if not lower < upper or (distribution == "Uniform" and not isfinite(upper - lower)):
            finite = " and both finite" if distribution == "Uniform" else ""
            raise PriorError(
                f"{distribution}: lower must be below upper{finite}; given {lower} and {upper}."
            )
        if "mu" in parameters and support != "real" and distribution not in _OF_LOGS:
            _check_mean(distribution, support, parameters)
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
    def bounds(self) -> Interval:
        """The interval where the distribution lives."""
        lower = {"positive": 0.0, "unit": 0.0}.get(_DISTRIBUTIONS[self.distribution][0], -inf)
        upper = {"unit": 1.0}.get(_DISTRIBUTIONS[self.distribution][0], inf)
        values = dict(self.parameters)
        return max(lower, values.get("lower", lower)), min(upper, values.get("upper", upper))

    @property
    def is_proper(self) -> bool:
        """Whether it integrates to 1, so that it can be sampled from."""
        return self.distribution not in ("Flat", "HalfFlat")

    def check_support(self, name: str, support: Support | Interval) -> None:
        """Refuse the prior for a parameter that lives on a narrower support.

        Raises
        ------
        PriorError
            Naming the parameter, its support, and distributions that live there.
        """
        if isinstance(support, tuple):
            lower, upper = self.bounds
            if self.support == "correlation" or lower < support[0] or upper > support[1]:
                raise PriorError(
                    f"{name} lies between {support[0]:.4g} and {support[1]:.4g}, and {self} can "
                    "lie outside. Valid there: Uniform or TruncatedNormal with these bounds (and "
                    "Beta where they are 0 and 1)."
                )
        elif self.support not in _WITHIN[support]:
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
        """Create the PyMC random variable `name` in the model of the current context.

        Its parameters are data, so that compiled functions do not depend on them.
        """
        shared = importlib.import_module("pytensor").shared
        # A bound that is infinite is another distribution: it has to be known beforehand.
        values = {
            key: shared(np.float64(value)) if isfinite(value) else value
            for key, value in self.parameters
        }
        return pymc_distribution(self.distribution)(name, **values, **kwargs)

    def __repr__(self) -> str:
        """As one would write it."""
        inner = ", ".join(f"{name}={value:.4g}" for name, value in self.parameters)
        return f"{self.distribution}({inner})"


def pymc_distribution(name: str) -> Any:
    """PyMC's class of a distribution, or what stands for it where PyMC has none."""
    if name == "LogStudentT":
        return _LogStudentT
    return getattr(importlib.import_module("pymc"), name)


class _LogStudentT:
    """The exponential of Student's t, used as PyMC's classes are."""

    def __new__(cls, name: str, *, nu: Any, sigma: Any, mu: Any = 0.0, **kwargs: Any) -> Any:
        pymc = importlib.import_module("pymc")
        return pymc.CustomDist(
            name, nu, mu, sigma, dist=cls._exponential, class_name="LogStudentT",
            default_transform=pymc.distributions.transforms.log, **kwargs,
        )  # fmt: skip

    @classmethod
    def dist(cls, *, nu: Any, sigma: Any, mu: Any = 0.0, **kwargs: Any) -> Any:
        pymc = importlib.import_module("pymc")
        return pymc.CustomDist.dist(
            nu, mu, sigma, dist=cls._exponential, class_name="LogStudentT", **kwargs
        )

    @staticmethod
    def _exponential(nu: Any, mu: Any, sigma: Any, size: Any) -> Any:
        pymc, pt = importlib.import_module("pymc"), importlib.import_module("pytensor.tensor")
        return pt.exp(pymc.StudentT.dist(nu=nu, mu=mu, sigma=sigma, size=size))


def _complete(names: list[str], given: Mapping[str, float]) -> bool:
    """Whether the given parameters are one whole set."""
    needed = {name for name in names if not name.endswith("?")}
    return needed <= set(given) <= {name.rstrip("?") for name in names}


def _check_number(distribution: str, name: str, value: float) -> None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise PriorError(f"{distribution}({name}=...) takes a number, not {value!r}.") from None
    if not (isfinite(number) or (name in ("lower", "upper") and number == number)):
        raise PriorError(f"{distribution}({name}={value!r}): a finite number is needed.")
    positive = name not in _ANY_SIGN and (distribution, name) not in _ANY_SIGN_IN
    if positive and number <= 0:
        raise PriorError(f"{distribution}({name}={value!r}): {name} must be above 0.")


def _check_mean(distribution: str, support: Support, given: Mapping[str, float]) -> None:
    """Refuse a mean, or a standard deviation about it, that the support does not allow."""
    mu = given["mu"]
    if mu <= 0 or (support == "unit" and mu >= 1):
        raise PriorError(f"{distribution}(mu={mu!r}): the mean must be {_SUPPORT_WORDS[support]}.")
    if support == "unit" and given.get("sigma", 0) ** 2 >= mu * (1 - mu):
        raise PriorError(
            f"{distribution}(mu={mu!r}, sigma={given['sigma']!r}): a number between 0 and 1 with "
            f"this mean has sigma below {sqrt(mu * (1 - mu)):.3g}."
        )
