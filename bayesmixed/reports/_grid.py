"""The values that predictors take in a reference grid, and the mean outcome in each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from bayesmixed import formula
from bayesmixed._errors import BayesmixedError, DataError, listed, lookup
from bayesmixed.data import is_numeric
from bayesmixed.design import Design
from bayesmixed.expressions import variables
from bayesmixed.fit import Fit
from bayesmixed.linpred import Whose
from bayesmixed.reports._estimand import Estimand
from bayesmixed.reports._standard import (
    base_rows,
    exposure,
    for_one_unit,
    standardised,
    with_values,
)

type Population = Literal["average", "data", "new"]

POPULATIONS: Mapping[str, Whose] = {"average": "average", "data": "existing", "new": "new"}
"""The groups of `linpred` that each population has."""

_MOST_VALUES = 12


@dataclass(frozen=True)
class Axis:
    """A column of the grid and what it is set to.

    Parameters
    ----------
    column : str
        Its name.
    labels : tuple
        What the settings are called.
    settings : tuple
        For each a value, or an array of shape (rows,).
    """

    column: str
    labels: tuple[Any, ...]
    settings: tuple[Any, ...]


def column_of(fit: Fit, name: str) -> str:
    """The predictor's column; ``"factor(type)"`` stands for ``type``.

    Raises
    ------
    UnknownNameError
        If no predictor of the model has that name.
    """
    names = predictors(fit.design)
    inside = variables(name) if name in _calls(fit.design) else ()
    if len(inside) == 1:
        return inside[0]
    return lookup({n: n for n in names}, name, "predictor")


def predictors(design: Design) -> list[str]:
    """The columns that some predictor depends on."""
    found: dict[str, None] = {}
    for text in _texts(design):
        found |= dict.fromkeys(formula.variables(text))
    for code in (c for p in design.spec.predictors.values() for c in p.offsets):
        found |= dict.fromkeys(variables(code))
    return list(found)


def _texts(design: Design) -> list[str]:
    every = design.spec.predictors.values()
    return [text for p in every for text in (p.fixed, *(t.effects for t in p.random))]


def _calls(design: Design) -> set[str]:
    """What stands as a call of a function in the formulas, such as ``factor(type)``."""
    parts = [p for text in _texts(design) for p in formula.plain(text)[1].values()]
    return {part for part, is_call in parts if is_call}


def is_factor(design: Design, column: str) -> bool:
    """Whether a column has levels: text, categories, or numbers inside ``factor(...)``."""
    if not is_numeric(design.table.frame[column]):
        return True
    calls = [c for c in _calls(design) if variables(c) == (column,)]
    encoders = [p.encoder for p in design.predictors.values()]
    encoders += [e for p in design.predictors.values() for r in p.random for e in r.encoders]
    states = [e.encoder_state.get(call, (None, {}))[1] for e in encoders for call in calls]
    return any("categories" in state for state in states)


def levels(design: Design, column: str) -> tuple[Any, ...]:
    """The values of a column in the data of the fit, in their order."""
    values = design.table.frame[column]
    if isinstance(values.dtype, pd.CategoricalDtype):
        return tuple(values.cat.categories)
    return tuple(np.unique(values.to_numpy()).tolist())


def checked(design: Design, column: str, values: Sequence[Any]) -> tuple[Any, ...]:
    """Values that a column can take.

    Raises
    ------
    UnknownNameError
        If one is not among a factor's levels.
    DataError
        If one is not a finite number where numbers are needed.
    """
    if is_factor(design, column):
        known = levels(design, column)
        by_text = {str(level): level for level in known}
        return tuple(
            v if v in known else lookup(by_text, str(v), f"level of {column}") for v in values
        )
    for value in values:
        if not isinstance(value, int | float | np.number) or not np.isfinite(value):
            raise DataError(f"{column} holds numbers; {value!r} is not a finite one.")
    return tuple(float(v) if float(v) % 1 else int(v) for v in values)


def axes(
    fit: Fit, by: str | Sequence[str] | None, at: Mapping[str, Any] | None
) -> tuple[list[Axis], dict[str, Any]]:
    """The grid of `by` and `at`, and the columns that are held at one value.

    Parameters
    ----------
    fit : Fit
        The fit.
    by : str or sequence of str, optional
        Columns that take each of their values in the data.
    at : mapping of str to value or sequence, optional
        Columns that take these values; several values of a column in `by` stand for all of its.

    Raises
    ------
    UnknownNameError
        If a column is not a predictor, or a level not one of its levels.
    BayesmixedError
        If a column is given twice, or has too many values to take them all.
    """
    every, held = list[Axis](), dict[str, Any]()
    several = {name for name, given in (at or {}).items() if not _is_alone(given)}
    for name in [by] if isinstance(by, str) else by or ():
        if name in several:
            continue
        column = column_of(fit, name)
        values = few_levels(fit.design, column)
        every.append(Axis(column, values, values))
    for name, given in (at or {}).items():
        column = column_of(fit, name)
        alone = _is_alone(given)
        values = checked(fit.design, column, [given] if alone else list(given))
        if not values:
            raise BayesmixedError(f"at={{{name!r}: ...}} holds no value; give one or more.")
        if alone:
            held[column] = values[0]
        else:
            every.append(Axis(column, values, values))
    names = [*(axis.column for axis in every), *held]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise BayesmixedError(f"{listed(sorted(twice))} is set twice; give it in by or in at.")
    return every, held


def _is_alone(given: Any) -> bool:
    """Whether a column is set to one value in place of several."""
    return isinstance(given, str) or not isinstance(given, Sequence | np.ndarray | pd.Series)


def only(grid: Sequence[Axis]) -> str:
    """The one column of a grid, between whose values something is compared.

    Raises
    ------
    BayesmixedError
        If there is none, or there are several.
    """
    if len(grid) != 1 or len(grid[0].labels) < 2:
        raise BayesmixedError(
            "interaction=True compares effects between the values of one column; name it, such as "
            'by="sex" or at={"age": [40, 60]}.'
        )
    return grid[0].column


def few_levels(design: Design, column: str) -> tuple[Any, ...]:
    """The values of a column where they are few enough for a grid.

    Raises
    ------
    BayesmixedError
        If a numeric column has many.
    """
    values = levels(design, column)
    if not is_factor(design, column) and len(values) > _MOST_VALUES:
        raise BayesmixedError(
            f"{column} takes {len(values):,} values; say which, such as "
            f"at={{{column!r}: [{values[0]:g}, {values[-1]:g}]}}."
        )
    return values


def choose(fit: Fit, population: str | None) -> list[Population]:
    """The populations asked for; all that differ unless one is named.

    Raises
    ------
    UnknownNameError
        If there is no such population.
    """
    known: dict[str, Population] = {"average": "average", "data": "data", "new": "new"}
    if population is not None:
        return [lookup(known, population, "population")]
    return list(known.values()) if fit.design.groups else ["data"]


@dataclass(frozen=True)
class Cells:
    """Mean outcomes over a grid.

    Parameters
    ----------
    base : Design
        The rows over which is averaged.
    estimand : Estimand
        What is averaged.
    populations : list of str
        Whose effects the rows have.
    """

    base: Design
    estimand: Estimand
    populations: list[Population]

    def mean(self, fit: Fit, grid: Sequence[Axis], held: Mapping[str, Any]) -> xr.DataArray:
        """Mean outcome in every cell.

        Returns
        -------
        DataArray (population, column of the grid ..., chain, draw)
        """
        share = exposure(self.base)
        share = share / share.sum()
        cells = []
        for settings in product(*(axis.settings for axis in grid)):
            values = {a.column: s for a, s in zip(grid, settings, strict=True)}
            rows = for_one_unit(with_values(self.base, {**held, **values}))
            cells.append(
                [
                    standardised(fit, rows, share, POPULATIONS[p], self.estimand).to_numpy()
                    for p in self.populations
                ]
            )
        shape = tuple(len(axis.labels) for axis in grid)
        stack = np.moveaxis(np.array(cells), 0, 1)
        stack = stack.reshape(len(self.populations), *shape, *stack.shape[2:])
        dims = ("population", *(axis.column for axis in grid), "chain", "draw")
        coords = {a.column: _labels(a.labels) for a in grid} | {"population": self.populations}
        return xr.DataArray(stack, dims=dims, coords=coords)


def _labels(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    mixed = any(isinstance(v, str) for v in values)
    return np.array([str(v) for v in values] if mixed else values)


def cells(fit: Fit, over: Any, estimand: Estimand, population: str | None) -> Cells:
    """The rows, outcome and populations that were asked for.

    Raises
    ------
    UnknownNameError
        If there is no such population.
    DataError
        If rows of `over` are in groups that are not in the fit, and their own effects are needed.
    """
    base, populations = base_rows(fit, over), choose(fit, population)
    unknown = [g.name for g in base.groups if (g.index < 0).any()]
    if unknown and "data" in populations:
        raise DataError(
            f"Some rows of over= belong to a {listed(unknown)} that is not in the fit, so that it "
            'has no effects of its own. Use population="new" or "average".'
        )
    return Cells(base, estimand, populations)


def in_words(
    fit: Fit, populations: Sequence[Population], over: Any, held: Mapping[str, Any]
) -> str:
    """Whom a standardised number is about, as a sentence."""
    names = listed(g.name for g in fit.design.groups)
    who = {
        "average": f'"average": with the effects of {names} at 0, as those of the average one',
        "data": f'"data": each {names} in the data with its own effects',
        "new": f'"new": averaged over the effects of new {names} from the population, by '
        "quadrature in every draw",
    }
    rows = "the rows of the data" if over is None else "the rows of the table given"
    unit = "" if fit.design.trials is None else ", weighted by their trials"
    at = f", with {', '.join(f'{n} = {v}' for n, v in held.items())}" if held else ""
    if not fit.design.groups:
        return f"Averaged over {rows}{unit}, each with its own other covariates{at}."
    whose = "; ".join(who[p] for p in populations)
    return (
        f"Averaged over {rows}{unit}, each with its own other covariates{at}. Population {whose}."
    )
