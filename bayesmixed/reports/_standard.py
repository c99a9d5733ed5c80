"""Standardisation: a fit's expectations for rows as they are, or would be, averaged over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import DataError
from bayesmixed.compress import unique_rows
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.linpred import LinearPredictor, Whose, linear_predictor
from bayesmixed.predictor import RandomDesign
from bayesmixed.reports._estimand import Estimand, has_exposure
from bayesmixed.reports._interpolation import interpolated
from bayesmixed.rows import take as some_rows

type Floats = NDArray[np.float64]


def base_rows(fit: Fit, over: Any = None) -> Design:
    """The rows whose covariates stand for the population: the fit's own, or another table's.

    Raises
    ------
    DataError
        If there are none.
    """
    fit.design.need_rows("Standardisation")
    if over is None:
        return fit.design
    design = fit.design.unobserved(over)
    if not len(design.y):
        raise DataError("The table in over= has no rows; give those to standardise over.")
    return design


def with_values(design: Design, values: Mapping[str, Any]) -> Design:
    """The same rows with other values in some columns; their groups stay as they are.

    Parameters
    ----------
    design : Design
        The rows.
    values : mapping of str to value or array, shape (rows,)
        By column.
    """
    if not values:
        return design
    frame = design.table.frame
    changed = {n: pd.Series(v, index=frame.index) for n, v in values.items()}
    # A category alone in its column would lose its place among the others.
    for name, column in changed.items():
        if isinstance(frame[name].dtype, pd.CategoricalDtype):
            changed[name] = column.astype(frame[name].dtype)
    return _in_groups_of(design.unobserved(frame.assign(**changed)), design)


def _in_groups_of(design: Design, other: Design) -> Design:
    def kept(random: RandomDesign, own: RandomDesign) -> RandomDesign:
        return replace(random, groups=own.groups)

    return replace(
        design,
        predictors={
            name: replace(
                p,
                random=tuple(map(kept, p.random, other.predictors[name].random)),
            )
            for name, p in design.predictors.items()
        },
    )


def take(design: Design, rows: NDArray[np.intp]) -> Design:
    """Some rows of a design, in the order given, apart from their series."""
    return replace(some_rows(design, rows), series=None)


def exposure(design: Design) -> Floats:
    """How many trials, or how much exposure, each row stands for; 1 where it has neither."""
    if design.trials is not None:
        return design.trials
    first = design.predictors[design.family.parameters[0].name]
    return np.exp(first.offset) if has_exposure(design) else np.ones(len(design.y))


def for_one_unit(design: Design) -> Design:
    """The same rows for one trial, or for one unit of exposure."""
    if design.trials is not None:
        return replace(design, trials=np.ones(len(design.y)))
    if not has_exposure(design):
        return design
    name = design.family.parameters[0].name
    first = design.predictors[name]
    without = replace(first, offset=np.zeros_like(first.offset))
    return replace(design, predictors={**design.predictors, name: without})


def distinct(design: Design, weight: Floats, groups: Whose) -> tuple[Design, Floats]:
    """The rows that the model tells apart, with their weights added up.

    Parameters
    ----------
    design : Design
        The rows.
    weight : array, shape (rows,)
        Of any sign.
    groups : {"existing", "new", "average"}
        Whether rows of different groups differ.
    """
    columns = [c for p in design.predictors.values() for c in (*p.X.T, p.offset)]
    for random in (r for p in design.predictors.values() for r in p.random):
        columns += [] if groups == "average" else list(random.loadings.T)
        columns += [random.groups.index] if groups == "existing" else []
    columns += [c for c in (design.trials, design.sampling_sd) if c is not None]
    unique = unique_rows(columns, len(weight))
    return take(design, unique.first), np.bincount(unique.index, weights=weight)


def standardised(
    fit: Fit, rows: Design, weight: Floats, groups: Whose, estimand: Estimand
) -> xr.DataArray:
    """Weighted sum over rows of their expected outcome, in every draw.

    Parameters
    ----------
    fit : Fit
        The posterior.
    rows : Design
        The rows, for one unit of exposure.
    weight : array, shape (rows,)
        What each counts for.
    groups : {"existing", "new", "average"}
        Whose effects they have.
    estimand : Estimand
        What is expected.

    Returns
    -------
    DataArray (chain, draw)

    Raises
    ------
    DataError
        If a row's group is not in the fit and its effects are asked for.
    """
    kept, share = distinct(rows, weight, groups)
    parts = [
        expected(linear_predictor(piece, groups=groups), estimand) @ share
        for piece in Fit(kept, fit.tree).pieces()
    ]
    return xr.DataArray(np.concatenate(parts, axis=1), dims=("chain", "draw"))


def expected(predictor: LinearPredictor, estimand: Estimand) -> Floats:
    """Expected outcome of every row, averaged over new groups; shape (chain, draw, row)."""
    design = predictor.design
    first = design.family.parameters[0].name

    def value(eta: Mapping[str, Floats]) -> Floats:
        return estimand.value(design, eta)

    return averaged(predictor, first, lambda some: some.average(value))


def averaged(predictor: LinearPredictor, first: str, average: Any) -> Floats:
    """A function of the linear predictors' averages, interpolated where rows differ in one alone.

    Parameters
    ----------
    predictor : LinearPredictor
        The rows.
    first : str
        The parameter whose predictor may differ.
    average : callable
        From a `LinearPredictor` to an array of shape (chain, draw, row).
    """
    cuts = {p.name for p in predictor.design.family.parameters if p.support == "ordered"}
    others = (v for n, v in predictor.centre.items() if n != first and n not in cuts)
    alone = all(v.shape[-1] == 1 for v in others) and all(
        bool((v == v[..., :1]).all()) for v in predictor.variance.values()
    )
    if not predictor.variance or not alone:
        return np.asarray(average(predictor))
    variance = {n: v[..., :1] for n, v in predictor.variance.items()}

    def along(points: Floats) -> Floats:
        centre = {**predictor.centre, first: points}
        return np.asarray(average(replace(predictor, centre=centre, variance=variance)))

    return interpolated(along, predictor.centre[first])
