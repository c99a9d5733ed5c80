r"""What an outcome family is: its parameters on their links, and what they imply.

A family's functions ask for what they need *by argument name*. For a parameter called ``mu`` they
may take ``mu`` (its natural value), ``log_mu`` and ``log1m_mu`` (:math:`\log\mu` and
:math:`\log(1-\mu)` computed stably from the linear predictor through the link), ``eta_mu`` (the
linear predictor) and ``link_mu`` (the `Link`); and ``y``, ``trials`` where they apply. The same
function serves NumPy and PyTensor, so a family is written once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from bayesmixed._errors import BayesmixedError, lookup, unknown
from bayesmixed.backend import Array
from bayesmixed.links import Link
from bayesmixed.priors import Prior, Support


# Named functions, so that what has them can be pickled.
def _one(_: float) -> float:
    return 1.0


def _as_it_is(y: Any) -> Any:
    return y


@dataclass(frozen=True)
class Parameter:
    """One parameter of a family.

    Parameters
    ----------
    name : str
        Its name in the posterior and in ``parameters={...}``.
    links : tuple of Link
        The links it may have; the first is the default.
    support : str
        ``"real"``, ``"positive"``, ``"unit"``, or ``"ordered"`` for the cut-points of an ordinal
        outcome, which take the place of the intercept.
    prior : callable, optional
        Response scale -> default `Prior` while the parameter is one number. Not needed for the
        first parameter, which always has a linear predictor.
    typical : callable
        Response scale -> a typical value, where the intercept's prior is centred once the
        parameter has a formula of its own.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> shape = bm.Parameter(
    ...     "shape", (bm.links.log,), "positive", lambda scale: bm.Prior("Gamma", alpha=2, beta=0.1)
    ... )
    >>> shape.prior(1.0)
    Gamma(alpha=2, beta=0.1)
    """

    name: str
    links: tuple[Link, ...]
    support: Support = "real"
    prior: Callable[[float], Prior] | None = None
    typical: Callable[[float], float] = _one


def _needs_no_trials(y: Any, trials: Any) -> Any:
    return np.isfinite(y)


@dataclass(frozen=True)
class Family:
    """A distribution for the outcome.

    Parameters
    ----------
    name : str
        Its name.
    parameters : tuple of Parameter
        The first one carries the model's formula; any other may be given a formula of its own.
    loglik : callable
        Log-density or log-probability of each ``y``, constants included.
    mean, variance : callable
        Expectation and variance of ``y``.
    simulate : callable
        ``simulate(rng, ...)``: one draw for each element, from a `numpy.random.Generator`.
    valid : callable
        ``valid(y, trials)``: for each outcome, whether it is inside the support.
    support : str
        The support in words, used in the error message: "the outcome must be ...".
    working : callable
        The outcome on the scale of an identity-link predictor (log for the lognormal).
    has_trials : bool
        Whether the outcome is ``successes | trials(n)``.
    is_categorical : bool
        Whether the outcome is an ordered category.
    row_effects : bool
        Whether an effect for every single row can be told apart from the family's own noise.
    kernels : mapping of str to str
        For links that have one, the name of the fast likelihood in `likelihoods`. This and
        `is_normal` count for the package's own families only, since they say what `loglik` is.
    information : mapping of str to callable
        For links where it does not depend on the outcome, such as the canonical one: what a row
        says about its linear predictor, minus the second derivative of `loglik` by the first
        parameter's. It counts for the package's own families only, as `kernels` do.
    is_normal : bool
        Whether ``working(y)`` is normal with mean ``mu`` and standard deviation ``sigma``, so that
        effects can be integrated out exactly where mu has the identity link.
    reference : str
        Where the parametrisation is from.

    Examples
    --------
    A family of one's own (the Rayleigh distribution) is one value and works like the built-in
    ones:

    >>> from math import pi
    >>> import numpy as np
    >>> import bayesmixed as bm
    >>> from bayesmixed import backend as bk
    >>> rayleigh = bm.Family(
    ...     name="rayleigh",
    ...     parameters=(bm.Parameter("mu", (bm.links.log,)),),
    ...     loglik=lambda y, mu: bk.log(pi / 2 * y / mu**2) - pi / 4 * (y / mu) ** 2,
    ...     mean=lambda mu: mu,
    ...     variance=lambda mu: (4 / pi - 1) * mu**2,
    ...     simulate=lambda rng, mu: rng.rayleigh(mu * np.sqrt(2 / pi)),
    ...     valid=lambda y, trials: y > 0,
    ...     support="above 0",
    ... )
    >>> waits = {"y": [1.2, 0.4, 2.2, 0.9], "x": [0, 0, 1, 1]}
    >>> bm.Model("y ~ x", waits, family=rayleigh).priors.loc["Intercept", "prior"]
    'Normal(mu=0.1613, sigma=2.5)'
    """

    name: str
    parameters: tuple[Parameter, ...]
    loglik: Callable[..., Array]
    mean: Callable[..., Array]
    variance: Callable[..., Array]
    simulate: Callable[..., Any]
    valid: Callable[[Any, Any], Any] = _needs_no_trials
    support: str = "a finite number"
    working: Callable[[Any], Any] = _as_it_is
    has_trials: bool = False
    is_categorical: bool = False
    row_effects: bool = False
    kernels: Mapping[str, str] = field(default_factory=dict, compare=False)
    information: Mapping[str, Callable[..., Array]] = field(default_factory=dict, compare=False)
    is_normal: bool = False
    reference: str = ""

    def __post_init__(self) -> None:
        """Check that a user's family is whole.

        Raises
        ------
        BayesmixedError
            If it has no parameter, or a parameter that needs a default prior has none.
        """
        if not self.parameters:
            raise BayesmixedError(f"Family {self.name!r} needs at least one Parameter.")
        for parameter in self.parameters:
            if not parameter.links:
                raise BayesmixedError(f"Parameter {parameter.name!r} needs at least one Link.")
        for parameter in self.parameters[1:]:
            if parameter.prior is None:
                raise BayesmixedError(
                    f"Parameter {parameter.name!r} of family {self.name!r} needs a default prior: "
                    f'Parameter({parameter.name!r}, ..., prior=lambda scale: Prior("HalfNormal", '
                    "sigma=scale))."
                )

    def parameter(self, name: str) -> Parameter:
        """The parameter of that name.

        Raises
        ------
        UnknownNameError
            If the family has none.
        """
        return lookup({p.name: p for p in self.parameters}, name, f"parameter of {self.name}")

    def link(self, parameter: str, chosen: str | Link | None = None) -> Link:
        """The parameter's default link, or the chosen one if it suits.

        Raises
        ------
        UnknownNameError
            If the chosen link is not one of the parameter's.
        """
        suitable = self.parameter(parameter).links
        if chosen is None:
            return suitable[0]
        if isinstance(chosen, Link):
            return chosen
        known = {link.name: link for link in suitable}
        if chosen not in known:
            raise unknown(chosen, known, f"link for {parameter} of family {self.name}")
        return known[chosen]

    def evaluate(
        self,
        function: Callable[..., Array],
        eta: Mapping[str, Array],
        link: Mapping[str, Link],
        **other: Any,
    ) -> Array:
        """Call one of the family's functions with the arguments that it names.

        Parameters
        ----------
        function : callable
            ``self.loglik``, ``self.mean``, ``self.variance`` or ``self.simulate``.
        eta : mapping of str to array
            Linear predictor of every parameter.
        link : mapping of str to Link
            Link of every parameter.
        **other
            Whatever else the function may ask for: ``y``, ``trials``, ``rng``.
        """
        arguments = {}
        for name in inspect.signature(function).parameters:
            kind, _, parameter = name.partition("_")
            if name in eta:
                arguments[name] = link[name].inverse(eta[name])
            elif kind in _DERIVED and parameter in eta:
                arguments[name] = _DERIVED[kind](link[parameter], eta[parameter])
            elif name in other:
                arguments[name] = other[name]
            else:
                raise unknown(name, [*eta, *other], f"argument for family {self.name}")
        return function(**arguments)

    def needs(self, function: Callable[..., Array]) -> set[str]:
        """The parameters that one of the family's functions asks for."""
        asked = {part for name in inspect.signature(function).parameters for part in _named(name)}
        return {p.name for p in self.parameters} & asked

    def __repr__(self) -> str:
        """Name it as a user would."""
        return f"Family({self.name!r})"


def _named(argument: str) -> tuple[str, ...]:
    kind, _, parameter = argument.partition("_")
    return (argument, parameter) if kind in _DERIVED else (argument,)


_DERIVED: Mapping[str, Callable[[Link, Array], Any]] = MappingProxyType(
    {
        "log": lambda link, eta: link.log(eta),
        "log1m": lambda link, eta: link.log1m(eta),
        "eta": lambda link, eta: eta,
        "link": lambda link, eta: link,
    }
)
