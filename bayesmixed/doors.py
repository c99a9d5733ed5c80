"""Both doors, formula and hierarchy, lead to one `ModelSpec`; arguments are checked on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from bayesmixed import formula
from bayesmixed._errors import BayesmixedError, PriorError, listed, lookup
from bayesmixed.budget import VarianceBudget
from bayesmixed.covariance import STRUCTURES
from bayesmixed.family import Family
from bayesmixed.hierarchy import Hierarchy
from bayesmixed.known import KnownCovariance
from bayesmixed.links import Link
from bayesmixed.priors import Prior
from bayesmixed.spec import PROCESS, Grouping, ModelSpec, PredictorSpec, RandomTerm
from bayesmixed.structure import Structure

type Covariances = Mapping[str, Structure | KnownCovariance | pd.DataFrame]
type Priors = Mapping[str, Prior | VarianceBudget]

BUDGET = "variance_budget"


def _check_types(hierarchy: object, parameters: object, priors: object) -> None:
    """Refuse arguments of a wrong type, saying how they are written."""
    if not isinstance(hierarchy, Hierarchy | None):
        raise BayesmixedError(
            f"hierarchy={hierarchy!r}: write "
            'hierarchy=bm.Hierarchy({"unit": "1", "patient": "1 + years"}).'
        )
    if not isinstance(parameters, Mapping | None):
        raise BayesmixedError(f'parameters={parameters!r}: write parameters={{"sigma": "~ x"}}.')
    if not isinstance(priors, Mapping | None):
        raise BayesmixedError(
            f"priors={priors!r}: write priors by name, such as "
            '{"sigma": Prior("HalfNormal", sigma=1)} or {"variance_budget": VarianceBudget(...)}.'
        )


def build_spec(
    text: str,
    frame: pd.DataFrame,
    family: Family,
    link: str | Link | None,
    hierarchy: Hierarchy | None,
    parameters: Mapping[str, str] | None,
    priors: Priors | None,
    sampling_sd: str | None,
    center: bool,
    residual: Structure | None = None,
    covariances: Covariances | None = None,
) -> tuple[ModelSpec, tuple[str, ...]]:
    """What was asked, and notes on what the hierarchy recognised in the data."""
    _check_types(hierarchy, parameters, priors)
    parsed = formula.parse(text)
    if parsed.response is None:
        raise BayesmixedError(f"The formula {text!r} has no outcome; write 'y ~ ...'.")
    first, levels, notes = _with_hierarchy(parsed.predictor, hierarchy, frame)
    others = _others(family, parameters or {})
    related: Covariances = _mapping(covariances)
    if residual is not None:
        _check_residual(family, residual, "sigma" in others or sampling_sd is not None)
        if not (family.is_normal and family.working(2.0) == 2.0):
            if any(term.grouping.name == PROCESS for term in first.random):
                raise BayesmixedError(
                    f"A grouping cannot be called {PROCESS!r} where residual= adds a process; "
                    "rename the column."
                )
            grouping = Grouping((residual.within, *residual.columns), PROCESS)
            first = replace(first, random=(*first.random, RandomTerm("1", grouping)))
            related, residual = {**related, PROCESS: residual}, None
    given, budget = _chosen(priors or {})
    return ModelSpec(
        response=parsed.response,
        predictors={family.parameters[0].name: first, **others},
        family=family,
        link=family.link(family.parameters[0].name, link),
        trials=parsed.trials,
        sampling_sd=sampling_sd,
        center=center,
        levels=levels,
        priors=given,
        budget=budget,
        residual=residual,
        covariances=_related(related, first),
    ), notes


def _with_hierarchy(
    first: PredictorSpec, hierarchy: Hierarchy | None, frame: pd.DataFrame
) -> tuple[PredictorSpec, tuple[str, ...], tuple[str, ...]]:
    """The predictor with the hierarchy's terms, the names of its levels, and notes."""
    if hierarchy is None:
        return first, (), ()
    if first.random:
        raise BayesmixedError(
            f"Random effects are given twice: {listed(first.random)} in the formula and a "
            "hierarchy. Use one of the two."
        )
    terms, notes = hierarchy.terms(frame)
    levels = tuple(name for name, _ in hierarchy.levels)
    return PredictorSpec(first.fixed, terms, first.offsets), levels, notes


def _others(family: Family, parameters: Mapping[str, str]) -> dict[str, PredictorSpec]:
    """Predictors of the family's other parameters."""
    for name in parameters:
        if family.parameter(name).support == "ordered":
            raise BayesmixedError(
                f"{name!r} cannot have a formula; predictors go into the model's."
            )
    if family.parameters[0].name in parameters:
        raise BayesmixedError(
            f"{family.parameters[0].name!r} is what the model's own formula is for; in parameters "
            f"give formulas for {listed(p.name for p in family.parameters[1:])}."
        )
    return {name: formula.parse_predictor(code) for name, code in parameters.items()}


def _chosen(priors: Priors) -> tuple[dict[str, Prior], VarianceBudget | None]:
    """The user's priors by name, and the budget among them."""
    given = dict(priors)
    budget = given.pop(BUDGET, None)
    found: dict[str, Prior] = {}
    for name, prior in given.items():
        if not isinstance(prior, Prior):
            raise PriorError(
                f'The prior of {name!r} must be a Prior, such as Prior("Normal", mu=0,'
                f" sigma=1), not {prior!r}."
            )
        found[name] = prior
    if budget is not None and not isinstance(budget, VarianceBudget):
        raise PriorError(f"{BUDGET!r} must be a VarianceBudget, not {budget!r}.")
    return found, budget


def _mapping(covariances: Any) -> Covariances:
    """What was given for each grouping; a matrix alone does not say of which it is."""
    if covariances is not None and not isinstance(covariances, Mapping):
        given = "a table" if isinstance(covariances, pd.DataFrame) else repr(covariances)
        raise BayesmixedError(
            f"covariances is {given}: write covariances={{group: matrix or structure}}, such as "
            '{"id": bm.kinship(pedigree)}.'
        )
    return covariances or {}


def _related(
    covariances: Covariances, predictor: PredictorSpec
) -> dict[str, Structure | KnownCovariance]:
    """Check that covariances are of groupings of the predictor, and can be of groups."""
    groupings = {term.grouping.name: term for term in predictor.random}
    found: dict[str, Structure | KnownCovariance] = {}
    for group, covariance in covariances.items():
        lookup(groupings, group, "grouping (of covariances=)")
        if isinstance(covariance, KnownCovariance):
            found[group] = covariance
            continue
        if not isinstance(covariance, Structure):
            found[group] = KnownCovariance.of(covariance, group)
            continue
        if not covariance.within:
            raise BayesmixedError(
                f"{covariance} does not say whose groups are a series: within=, a column."
            )
        found[group] = covariance
    return found


def _check_residual(family: Family, residual: Structure, own_sigma: bool) -> None:
    """Refuse what is no structure, residuals of another shape, or sigma given twice."""
    if not isinstance(residual, Structure):
        raise BayesmixedError(
            f'residual={residual!r}: write residual=bm.AR1(time="visit", within="Subject"), or '
            f"another of {listed(STRUCTURES)}."
        )
    if not residual.within:
        raise BayesmixedError(
            f"{residual} does not say whose rows are a series: within=, the column of the patients."
        )
    normal = family.is_normal and family.working(2.0) == 2.0
    if not normal and any(p.name == "sigma" for p in family.parameters):
        raise BayesmixedError(
            f"Residuals of family {family.name} cannot be correlated: residual= is for "
            'family="gaussian", and for counts and yes/no outcomes, where it adds a process to the '
            "predictor. For a lognormal outcome write log(y) on the left."
        )
    if own_sigma and (residual.heterogeneous or residual.by is not None):
        raise BayesmixedError(
            "The residual standard deviation is given twice: by heterogeneous=True or by=, and by "
            "a formula for sigma or sampling_sd. Use one of them."
        )
