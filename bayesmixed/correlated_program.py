"""A model with correlated residuals as a program, effects of whole series integrated out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesmixed.compress import unique_rows
from bayesmixed.correlation_tables import Tables, matrices
from bayesmixed.defaults import AssignedPrior
from bayesmixed.design import Design
from bayesmixed.encoded import IDENTITY, TRANSFORM
from bayesmixed.groups import enclosing
from bayesmixed.instructions import COLUMN, FORM, LOG, Program
from bayesmixed.layout import Layout, Priors
from bayesmixed.pooled import Pooled
from bayesmixed.preconditioner import preconditioner
from bayesmixed.program import (
    Population,
    Writer,
    add_constant,
    add_predictor,
    population,
    sorting,
)

type Floats = NDArray[np.float64]


def tables_of(design: Design, priors: Priors) -> Tables | None:
    """The correlations of a normal outcome's residuals, where machine code can work them out."""
    series = design.series
    if series is None or not design.spec.is_normal or design.spec.covariances:
        return None
    return Tables.of(series, {name: priors[name].prior for name in matrices(series)})


def directions(
    design: Design, layout: Layout, priors: Mapping[str, AssignedPrior]
) -> dict[int, Floats]:
    """See `Layout.directions`: of coefficients without bounds, those of `preconditioner`."""
    found = {}
    for name, matrix in preconditioner(design, priors).items():
        tail = name.removeprefix("slopes")
        names = [n for n in layout.encoded if n.startswith(f"beta{tail}[")]
        if all(layout.encoded[n].numbers[TRANSFORM] == IDENTITY for n in names):
            found[layout.positions[names[0]]] = matrix
    return found


def correlated_program(
    design: Design, layout: Layout, tables: Tables, levels: Sequence[str]
) -> Program:
    """A program whose likelihood is that of correlated series.

    Parameters
    ----------
    design : Design
    layout : Layout
    tables : Tables
        Correlations within the series.
    levels : sequence of str
        Groupings whose effects are integrated out, from the inside out.
    """
    series, parameter = design.series, design.family.parameters[0].name
    assert series is not None
    predictor = design.predictors[parameter]
    nested = [next(r for r in predictor.random if r.name == name) for name in levels]
    indices = [r.groups.index for r in nested]
    writer, pooled = Writer(layout), _pooled(design, layout)
    if pooled is None:
        mean = add_predictor(writer, design, parameter, sorting(predictor))
        spread = _add_spread(writer, design, np.arange(len(design.y)))
        y, order, counts = design.y, series.order, series.counts
    else:
        mean = _add_mean(writer, population(design, parameter, layout), pooled)
        spread = _add_spread(writer, design, pooled.of_row)
        y, order, counts = pooled.y, np.arange(len(pooled.y)), pooled.counts
    shape = [mean, tables.places.shape[-1] == 1, sum(t.size for t in tables.tables), spread, 1]
    return writer.program(
        shape=shape,
        stats=y,
        Z=np.column_stack([np.zeros((len(y), 0)), *(r.Z for r in nested)]),
        sizes=[r.size for r in nested],
        counts=[len(r.groups.labels) for r in nested],
        parents=enclosing(indices),
        levels=[layout.effects[f"_{name}"].covariance for name in levels],
        order=order,
        lengths=series.lengths,
        repeats=counts,
        further=series.counts - counts,
        leaf=indices[0][series.order] if nested else np.zeros(len(y)),
        tables=[(len(t.names), len(t.constants), len(t.keys), t.size) for t in tables.tables],
        members_of_tables=[writer.positions[name] for t in tables.tables for name in t.names],
        constants=np.concatenate([[], *(t.constants for t in tables.tables)]),
        keys=np.concatenate([[], *(t.keys for t in tables.tables)]),
        addresses=[t.kernel.address for t in tables.tables],
        places=tables.places,
    )


def _pooled(design: Design, layout: Layout) -> Pooled | None:
    """What stands for the series, where they differ in nothing but the population's part."""
    parameter, spread = (p.name for p in design.family.parameters)
    predictor = design.predictors[parameter]
    if predictor.random or spread in design.predictors or design.sampling_sd is not None:
        return None
    X = population(design, parameter, layout).columns(predictor)
    assert design.series is not None
    pooled = Pooled.of(design.series, design.y - predictor.offset, X)
    return pooled if pooled.further.any() else None


def _add_mean(writer: Writer, part: Population, pooled: Pooled) -> int:
    """The means of pooled rows."""
    X = np.concatenate([pooled.X, np.zeros((1, pooled.X.shape[1]))])
    distinct = unique_rows(list(X.T), len(X))
    steps = [
        (COLUMN, writer.positions[name], 0, None, column)
        for name, column in zip(part.names, X[distinct.first].T, strict=True)
    ]
    # The last row, 0, is that of rows without a mean.
    index = distinct.index[pooled.carrying]
    return writer.form(len(index), [(FORM, writer.form(len(distinct), steps), 0, index, None)])


def _add_spread(writer: Writer, design: Design, rows: NDArray[np.integer[Any]]) -> int:
    """The logarithm of the residual standard deviation in some rows, or one for all."""
    parameter = design.family.parameters[1]
    if parameter.name in design.predictors:
        keys = sorting(design.predictors[parameter.name])
        return add_predictor(writer, design, parameter.name, keys)
    if design.sampling_sd is not None:
        return writer.form(len(rows), [], np.log(design.sampling_sd))
    if design.spreads is None:
        return add_constant(writer, parameter)
    names = design.spreads.names
    own = [
        (LOG, writer.positions[name], 0, None, column)
        for name, column in zip(names, np.eye(len(names)), strict=True)
    ]
    index = design.spreads.index[rows]
    return writer.form(len(rows), [(FORM, writer.form(len(names), own), 0, index, None)])
