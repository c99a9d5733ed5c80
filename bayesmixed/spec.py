"""What was asked, as plain values: no data, no PyMC."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bayesmixed.budget import VarianceBudget
from bayesmixed.covariance import structure_from
from bayesmixed.families import OURS, get_family
from bayesmixed.family import Family
from bayesmixed.known import KnownCovariance
from bayesmixed.links import LINKS, Link, get_link
from bayesmixed.priors import Prior
from bayesmixed.structure import Structure

#: The grouping of a process that stands for correlated residuals where the outcome is not normal.
PROCESS = "process"


def quoted(name: str) -> str:
    """A column's name as it stands in a formula: in backquotes unless it is a plain word."""
    return name if name.replace(".", "_").isidentifier() else f"`{name}`"


@dataclass(frozen=True)
class Grouping:
    """The columns whose combinations are the groups.

    Parameters
    ----------
    factors : tuple of str
        Column names, outer to inner; more than one for an interaction such as ``batch:cask``.
    name : str, optional
        Name in the posterior; the factors joined by ``":"`` unless given.
    """

    factors: tuple[str, ...]
    name: str = ""

    def __post_init__(self) -> None:
        """Name it after its factors unless it has a name."""
        object.__setattr__(self, "name", self.name or ":".join(self.factors))

    @property
    def is_process(self) -> bool:
        """Whether it stands for correlated residuals, rather than being one of the user's."""
        return self.name == PROCESS != ":".join(self.factors)


@dataclass(frozen=True)
class RandomTerm:
    """Effects that vary between groups: the two sides of lme4's bar.

    Parameters
    ----------
    effects : str
        Right-hand side of a formula, such as ``"1 + years"``.
    grouping : Grouping
        The groups.
    correlated : bool
        Whether the effects are correlated (``|``) or independent (``||``).
    """

    effects: str
    grouping: Grouping
    correlated: bool = True

    def __str__(self) -> str:
        """As in a formula."""
        bar = "|" if self.correlated else "||"
        return f"({self.effects} {bar} {':'.join(map(quoted, self.grouping.factors))})"


@dataclass(frozen=True)
class PredictorSpec:
    """One linear predictor.

    Parameters
    ----------
    fixed : str
        Right-hand side of the population part.
    random : tuple of RandomTerm
        The random part.
    offsets : tuple of str
        Expressions that enter with coefficient 1.
    """

    fixed: str = "1"
    random: tuple[RandomTerm, ...] = ()
    offsets: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As in a formula."""
        offsets = [f"offset({expression})" for expression in self.offsets]
        random = [str(term) for term in self.random if not term.grouping.is_process]
        return " + ".join([self.fixed, *offsets, *random])


@dataclass(frozen=True)
class ModelSpec:
    """A whole model as it was asked for; formulas and hierarchies both end here.

    Parameters
    ----------
    response : str
        The outcome: a column, or an expression such as ``log(sbp)``.
    predictors : mapping of str to PredictorSpec
        For the family's first parameter, and for every other one that has a formula.
    family : Family
        The outcome's distribution.
    link : Link
        Link of the first parameter.
    trials : str, optional
        Column or number of trials.
    sampling_sd : str, optional
        Column or expression with the known standard deviation of each outcome.
    center : bool
        Whether the intercept's prior is for the predictors at their means.
    levels : tuple of str
        Names of the levels of a `Hierarchy`, outer to inner; empty for formulas.
    priors : mapping of str to Prior
        The user's own priors by name.
    budget : VarianceBudget, optional
        The user's variance budget.
    residual : Structure, optional
        How residuals of a series are correlated.
    covariances : mapping of str to Structure or KnownCovariance
        How the groups of a grouping are correlated, where they are.
    """

    response: str
    predictors: Mapping[str, PredictorSpec]
    family: Family
    link: Link
    trials: str | None = None
    sampling_sd: str | None = None
    center: bool = True
    levels: tuple[str, ...] = ()
    priors: Mapping[str, Prior] = field(default_factory=dict)
    budget: VarianceBudget | None = None
    residual: Structure | None = None
    covariances: Mapping[str, Structure | KnownCovariance] = field(default_factory=dict)

    @property
    def is_own(self) -> bool:
        """Whether family or link is the user's own: a changed copy may have another likelihood."""
        ours = OURS.get(self.family.name), LINKS.get(self.link.name)
        return self.family is not ours[0] or self.link is not ours[1]

    @property
    def is_normal(self) -> bool:
        """Whether the outcome is normal about its predictor, so that effects integrate out."""
        return self.family.is_normal and self.link.name == "identity" and not self.is_own

    @property
    def is_exact(self) -> bool:
        """Whether it is normal and rows are independent given the effects, and groups too."""
        return self.is_normal and self.residual is None and not self.covariances

    @property
    def kernel(self) -> str | None:
        """Name of the fast likelihood; None where the PyMC model's graph is compiled."""
        known = not self.is_own and self.residual is None and not self.covariances
        return None if not known else self.family.kernels.get(self.link.name)

    @property
    def information(self) -> Callable[..., Any] | None:
        """A row's information about its linear predictor; None where outcomes matter for it."""
        return None if self.is_own else self.family.information.get(self.link.name)

    @property
    def series(self) -> tuple[str, ...]:
        """The columns that say whose rows are a series, when they were taken, and in which arm."""
        found: list[str] = []
        for structure in (self.residual, *self.covariances.values()):
            if isinstance(structure, Structure):
                by = () if structure.by is None else (structure.by,)
                found += [*structure.columns, structure.within, *by]
        return tuple(found)

    @property
    def process(self) -> Structure | None:
        """The structure of a process that stands for correlated residuals."""
        first = next(iter(self.predictors.values()))
        given = self.covariances.get(PROCESS)
        stands = any(term.grouping.is_process for term in first.random)
        return given if stands and isinstance(given, Structure) else None

    @property
    def formula(self) -> str:
        """The model as lme4-style text."""
        left = self.response + (f" | trials({self.trials})" if self.trials else "")
        first, *others = self.predictors.items()
        lines = [f"{left} ~ {first[1]}", *(f"{name} ~ {p}" for name, p in others)]
        residual, related = self.residual or self.process, dict(self.covariances)
        if self.process is not None:
            del related[PROCESS]
        lines += [f"residual: {residual}"] if residual else []
        lines += [f"covariance of {name}: {given}" for name, given in related.items()]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values (for JSON); the family and link are kept by name."""
        return {
            "response": self.response,
            "predictors": {
                name: {
                    "fixed": p.fixed,
                    "offsets": list(p.offsets),
                    "random": [
                        [t.effects, list(t.grouping.factors), t.grouping.name, t.correlated]
                        for t in p.random
                    ],
                }
                for name, p in self.predictors.items()
            },
            "family": self.family.name,
            "link": self.link.name,
            "trials": self.trials,
            "sampling_sd": self.sampling_sd,
            "center": self.center,
            "levels": list(self.levels),
            "priors": {n: [p.distribution, dict(p.parameters)] for n, p in self.priors.items()},
            "residual": None if self.residual is None else self.residual.to_dict(),
            "covariances": {n: c.to_dict() for n, c in self.covariances.items()},
            "budget": None
            if self.budget is None
            else {
                "shares": {g: list(s) for g, s in self.budget.shares.items()},
                "total_sd": self.budget.total_sd,
                "mass": self.budget.mass,
            },
        }

    @classmethod
    def from_dict(
        cls,
        values: Mapping[str, Any],
        family: Family | None = None,
        link: Link | None = None,
        residual: Structure | None = None,
        covariances: Mapping[str, Structure] | None = None,
    ) -> ModelSpec:
        """Rebuild from `to_dict`.

        Parameters
        ----------
        values : mapping
            What `to_dict` returned.
        family, link, residual, covariances : optional
            The user's own family, link or structures, where the names are not the package's.

        Raises
        ------
        UnknownNameError
            If one of these is not the package's and was not passed.
        """
        predictors = {
            name: PredictorSpec(
                p["fixed"],
                tuple(
                    RandomTerm(effects, Grouping(tuple(factors), group), correlated)
                    for effects, factors, group, correlated in p["random"]
                ),
                tuple(p["offsets"]),
            )
            for name, p in values["predictors"].items()
        }
        own = {**({} if residual is None else {PROCESS: residual}), **(covariances or {})}
        budget, structure = values["budget"], values.get("residual")
        return cls(
            response=values["response"],
            predictors=predictors,
            family=family or get_family(values["family"]),
            link=link or get_link(values["link"]),
            trials=values["trials"],
            sampling_sd=values["sampling_sd"],
            center=values["center"],
            levels=tuple(values["levels"]),
            priors={n: Prior(d, **p) for n, (d, p) in values["priors"].items()},
            budget=budget
            and VarianceBudget(
                {g: (s[0], s[1]) for g, s in budget["shares"].items()},
                tuple(budget["total_sd"])
                if isinstance(budget["total_sd"], list)
                else budget["total_sd"],
                budget["mass"],
            ),
            residual=structure and (residual or structure_from(structure)),
            covariances={
                n: own.get(n) or _covariance_from(c)
                for n, c in values.get("covariances", {}).items()
            },
        )


def _covariance_from(values: Mapping[str, Any]) -> Structure | KnownCovariance:
    """Rebuild from `to_dict` of either."""
    return structure_from(values) if "structure" in values else KnownCovariance.from_dict(values)
