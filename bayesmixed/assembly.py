"""Tidy data and a spec -> the arrays of a model; every error in the data is raised here."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from bayesmixed._errors import DataError, listed, unknown
from bayesmixed.data import Missing, select
from bayesmixed.design import Design, variables
from bayesmixed.groups import parents
from bayesmixed.outcome import check_support, known_sd, known_trials, response
from bayesmixed.predictor import build_predictor, related
from bayesmixed.series import Series
from bayesmixed.spec import ModelSpec
from bayesmixed.spreads import Spreads
from bayesmixed.whole import Whole

# Names of variables and dimensions in every model; a grouping cannot have one of them too.
_TAKEN = frozenset(
    {
        *("chain", "draw", "row", "term", "slope", "slopes", "beta"),
        *("Intercept", "threshold", "category", "X", "y", "means", "offset", "trials"),
    }
)


def build_design(
    spec: ModelSpec, data: Any, missing: Missing = "drop", whole: Whole | None = None
) -> Design:
    """Check the data against the spec and encode them.

    Parameters
    ----------
    spec : ModelSpec
        What was asked.
    data : table
        pandas, polars, or anything narwhals understands.
    missing : {"drop", "raise"}
        What to do with incomplete rows.
    whole : Whole, optional
        What is known of all rows where `data` holds some of them.

    Raises
    ------
    UnknownNameError
        If a variable is not a column, or a parameter not one of the family's.
    DataError
        If the data cannot identify the model or lie outside the family's support.
    """
    table = select(data, variables(spec), missing)
    frame = table.frame
    family = spec.family
    trials = known_trials(spec, frame)
    y, categories = response(spec, frame)
    check_support(family, y, trials, frame)
    sampling_sd = known_sd(spec, frame)
    ordered = any(p.support == "ordered" for p in family.parameters)
    predictors = {
        name: build_predictor(p, frame, name, ordered and name == family.parameters[0].name)
        for name, p in spec.predictors.items()
    }
    first = family.parameters[0].name
    predictors[first] = related(predictors[first], spec.covariances, frame)
    series = None if spec.residual is None else Series.of(spec.residual, frame)
    spreads = None if spec.residual is None else Spreads.of(spec.residual, frame)
    design = Design(
        spec, table, y, predictors, trials, sampling_sd, categories, whole, series, spreads
    )
    _check_names(design)
    _check_row_effects(design)
    _check_same_groups(design)
    return design


def _check_names(design: Design) -> None:
    """Refuse grouping columns whose name is also the name of a variable or dimension."""
    names = [p.name for p in design.family.parameters]
    taken = _TAKEN | set(names) | {f"{stem}_{n}" for stem in ("term", "slope") for n in names}
    modelled = tuple(f"{name}_" for name in design.predictors if name != names[0])
    for groups in design.groups:
        if groups.name in taken or groups.name.startswith(modelled):
            raise DataError(
                f"A grouping cannot be called {groups.name!r}, which is like a name in every "
                "posterior; rename the column."
            )
        if "/" in groups.name:
            raise DataError(f"A grouping's name cannot hold '/': {groups.name!r}; rename it.")
    correlations = [] if design.series is None else [p.name for p in design.series.parameters]
    for random in design.predictors[names[0]].random:
        if random.between is not None and random.between.series is not None:
            correlations += [random.between.named(p.name) for p in random.between.series.parameters]
        elif random.between is not None and random.between.mixed:
            correlations.append(random.between.share)
    twice = sorted({name for name in correlations if correlations.count(name) > 1})
    if twice:
        raise DataError(
            f"Two structures would both call a parameter {twice[0]!r}; rename a column."
        )
    for parameter in design.spec.predictors:
        if parameter not in {p.name for p in design.family.parameters}:
            raise unknown(
                parameter,
                [p.name for p in design.family.parameters],
                f"parameter of family {design.family.name}",
            )


def _check_row_effects(design: Design) -> None:
    """Refuse an effect for every row where the family's own noise cannot be told from it."""
    if design.sampling_sd is not None:
        return
    several = design.family.row_effects and (
        design.trials is None or bool((design.trials > 1).any())
    )
    for predictor in design.predictors.values():
        for random in predictor.random:
            between = random.between
            # The independent part of a mixed covariance is one more variation of rows.
            related = between is not None and between.relates and not between.mixed
            if len(random.groups.labels) == design.rows and not several and not related:
                raise DataError(
                    f"Every row is its own group of {random.name!r}, and family "
                    f"{design.family.name} cannot tell such effects from its own variation. Use a "
                    "coarser grouping, or give the known sampling_sd."
                )


def _check_same_groups(design: Design) -> None:
    """Refuse two groupings with the same groups, whose effects cannot be told apart."""
    for predictor in design.predictors.values():
        for one, other in combinations(predictor.random, 2):
            shared = [effect for effect in one.effects if effect in other.effects]
            if (
                shared
                and not any(r.between is not None and r.between.relates for r in (one, other))
                and len(one.groups.labels) == len(other.groups.labels)
                and parents(one.groups.index, other.groups.index) is not None
            ):
                raise DataError(
                    f"The groups of {one.name!r} and {other.name!r} are the same rows, so what "
                    f"varies between them ({listed(shared)}) cannot be told apart. Leave one out; "
                    "in a hierarchy, check that the levels go from outer to inner."
                )
