"""The priors that a user gives to a meta-analysis, under the model's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bayesmixed._errors import PriorError, listed
from bayesmixed.design import Design
from bayesmixed.meta._densities import density
from bayesmixed.meta._heterogeneity import Density
from bayesmixed.meta._reference_priors import ReferencePrior
from bayesmixed.meta._variance import of_root
from bayesmixed.names import sd_name
from bayesmixed.priors import Prior


@dataclass(frozen=True)
class Given:
    """What a user gave.

    Parameters
    ----------
    priors : mapping of str to Prior
        By the model's names.
    tau : Density, optional
        The prior of tau where it is no `Prior`; its place among `priors` is then taken by one that
        is flat.
    """

    priors: dict[str, Prior]
    tau: Density | None = None

    def refuse_density(self, why: str) -> None:
        """Refuse a prior of tau that only the grid of the normal model takes.

        Raises
        ------
        PriorError
            If there is one.
        """
        if self.tau is not None:
            raise PriorError(
                f'The prior of tau, {self.tau}, is for method="grid" {why}; give a Prior, such as '
                'priors={"tau": Prior("HalfNormal", sigma=0.5)}.'
            )


def given_priors(design: Design, priors: Mapping[str, Prior | Density | str] | None) -> Given:
    """The user's priors under the model's names.

    Parameters
    ----------
    design : Design
        Of the normal model.
    priors : mapping of str to Prior, Density or str, optional
        Only that of tau may be a density, or the name of a `ReferencePrior`.

    Raises
    ------
    PriorError
        If a prior is none, or there is not one tau.
    """
    found: dict[str, Prior] = {}
    own: Density | None = None
    for name, prior in (priors or {}).items():
        known = {"mu": "Intercept"}.get(name, name)
        if name in ("tau", "tau2"):
            known = _tau_name(design, name)
        if isinstance(prior, Prior):
            found[known] = of_root(prior) if name == "tau2" else prior
        elif known.startswith("sd_") and name != "tau2":
            own, found[known] = _density(design, prior), Prior("HalfFlat")
        else:
            raise PriorError(
                f'The prior of {name} is a Prior, such as Prior("Normal", mu=0, sigma=1); not '
                f"{prior!r}. Names and scipy.stats distributions are for tau."
            )
    return Given(found, own)


def _tau_name(design: Design, name: str) -> str:
    randoms = design.predictors["mu"].random
    if len(randoms) != 1:
        every = listed(sd_name("", r.name) for r in randoms) or "none"
        raise PriorError(
            f'"{name}" stands for the one sd between studies; this model has: {every}.'
        )
    return sd_name("", randoms[0].name)


def _density(design: Design, prior: Density | str) -> Density:
    if isinstance(prior, str):
        assert design.sampling_sd is not None
        return ReferencePrior(prior, tuple(design.sampling_sd))
    return density(prior)
