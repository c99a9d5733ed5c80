"""Priors of the variance between studies as priors of their standard deviation."""

from __future__ import annotations

from bayesmixed._errors import PriorError
from bayesmixed.priors import Prior


def of_root(prior: Prior) -> Prior:
    """The prior of tau where that of tau squared is given.

    Raises
    ------
    PriorError
        If the root's distribution has no name.
    """
    values = dict(prior.parameters)
    match prior.distribution:
        case "LogNormal" | "LogStudentT":
            halves = {"mu": values.get("mu", 0.0) / 2, "sigma": values["sigma"] / 2}
            return Prior(prior.distribution, **(values | halves))
        case "Exponential":
            return Prior(
                "Weibull", alpha=2.0, beta=values.get("scale", 1 / values.get("lam", 1.0)) ** 0.5
            )
        case "Weibull":
            return Prior("Weibull", alpha=2 * values["alpha"], beta=values["beta"] ** 0.5)
    raise PriorError(
        f"A prior of tau2 may be LogNormal, LogStudentT, Exponential or Weibull, whose roots have "
        f"distributions with names; not {prior}. Give a prior of tau itself, such as "
        'priors={"tau": Prior("HalfNormal", sigma=0.5)}.'
    )
