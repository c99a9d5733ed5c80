"""Which effects are integrated out exactly, and the cross-products that this takes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesmixed.compress import cross_products, unique_rows
from bayesmixed.design import Design
from bayesmixed.evaluator import Program
from bayesmixed.groups import parents
from bayesmixed.layout import Layout
from bayesmixed.predictor import PredictorDesign, RandomDesign
from bayesmixed.program import (
    Population,
    Writer,
    add_constant,
    add_means,
    add_predictor,
    population,
    sorting,
)

type Floats = NDArray[np.float64]


def chain(predictor: PredictorDesign) -> tuple[RandomDesign, ...]:
    """Groupings that can be integrated out together, from the inside out.

    The one with the most groups, and those around it that lie in one another. The effects of
    groupings that cross them are sampled.
    """
    found: list[RandomDesign] = []
    for random in sorted(predictor.random, key=lambda r: (-len(r.groups.labels), -r.size)):
        if not found or parents(found[-1].groups.index, random.groups.index) is not None:
            found.append(random)
    return tuple(found)


def gaussian_program(design: Design, layout: Layout, levels: Sequence[str]) -> Program:
    """A program whose likelihood has the effects of nested groupings integrated out.

    Parameters
    ----------
    design : Design
    layout : Layout
    levels : sequence of str
        The groupings, from the inside out; none where all effects are sampled.
    """
    first = design.family.parameters[0]
    predictor = design.predictors[first.name]
    nested = [next(r for r in predictor.random if r.name == name) for name in levels]
    part = population(design, first.name, layout)
    writer = Writer(layout)
    add_means(writer, part, "")
    rows = len(design.y)
    leaf = nested[0].groups.index if nested else np.zeros(rows, dtype=np.intp)
    Z = np.column_stack([r.Z for r in nested]) if nested else np.zeros((rows, 0))
    weight = np.ones(rows) if design.sampling_sd is None else design.sampling_sd**-2.0
    stratum, strata_form = _strata(writer, design)
    # Reduced by a first fit, so that nothing large is subtracted from something large.
    y = np.asarray(design.family.working(design.y), dtype=float) - predictor.offset
    reference = _first_fit(part.columns, y, weight)
    y = y - part.columns @ reference
    records = unique_rows([leaf, stratum], rows)
    strata = int(stratum.max()) + 1
    parts = cross_products(records.index, len(records), weight, Z, part.columns, y)
    totals = cross_products(stratum, strata, weight, part.columns, part.columns, y)
    arrays = {
        "ZZ": np.moveaxis(parts.ZZ, 0, -1),
        "ZX": np.moveaxis(parts.ZX, 0, -1),
        "Zy": parts.Zy.T,
        "rows": np.bincount(stratum, minlength=strata),
        "yy": np.bincount(stratum, weights=weight * y**2, minlength=strata),
        "Xy": totals.Zy,
        "XX": totals.ZZ,
        "reference": reference,
        "terms": [writer.positions[name] for name in part.names],
        "leaf": leaf[records.first],
        "stratum": stratum[records.first],
        "sizes": [r.size for r in nested],
        "counts": [len(r.groups.labels) for r in nested],
        "parents": _parents(nested),
        "levels": [layout.effects[f"_{name}"].covariance for name in levels],
    }
    columns = _columns(writer, predictor, part)
    arrays |= _coupling(columns, records.index, stratum, weight, Z, part.columns, y)
    shape = [0, 0, 0, strata_form, 1]
    return writer.program(shape=shape, **arrays)


def _strata(writer: Writer, design: Design) -> tuple[NDArray[np.intp], int]:
    """For each row which of the distinct error variances it has; and the form that gives them."""
    second = design.family.parameters[1]
    rows = len(design.y)
    if second.name in design.predictors:
        strata = unique_rows(sorting(design.predictors[second.name]), rows)
        return strata.index, add_predictor(writer, design, second.name, strata)
    same = np.zeros(rows, dtype=np.intp)
    if design.sampling_sd is not None:
        return same, writer.form(1, [])
    return same, add_constant(writer, second)


def _columns(
    writer: Writer, predictor: PredictorDesign, part: Population
) -> list[tuple[NDArray[np.intp], Floats]]:
    """For each sampled effect the place of each row's group among the values, and its multiplier.

    The places are those of `evaluator._values`.
    """
    absorbed = {key for carried in part.carried.values() for key in carried.outer}
    found, place = [], 0
    for key in writer.effects:
        e = writer.layout.effects[key]
        groups = len(e.random.groups.labels)
        for k, effect in enumerate(e.random.effects):
            if not e.tail and (effect, e.random.name) not in absorbed:
                found.append((e.random.groups.index + place, e.random.Z[:, k]))
            place += groups
    return found


def _coupling(
    columns: Sequence[tuple[NDArray[np.intp], Floats]],
    record: NDArray[np.intp],
    stratum: NDArray[np.intp],
    weight: Floats,
    Z: Floats,
    X: Floats,
    y: Floats,
) -> dict[str, Any]:
    """The arrays of `elimination.Coupling`."""
    rows = len(y)
    found: dict[str, list[NDArray[Any]]] = {}

    def add(**arrays: NDArray[Any]) -> None:
        for name, array in arrays.items():
            found.setdefault(name, []).append(array)

    for i, (column, z) in enumerate(columns):
        met = unique_rows([record, column], rows)
        sums = cross_products(met.index, len(met), weight, z[:, None], Z, y)
        add(link_record=record[met.first], link_column=column[met.first], link=sums.ZX[:, 0].T)
        met = unique_rows([stratum, column], rows)
        sums = cross_products(met.index, len(met), weight, z[:, None], X, y)
        add(sum_stratum=stratum[met.first], sum_column=column[met.first])
        add(sum_y=sums.Zy[:, 0], sum_X=sums.ZX[:, 0].T)
        for j, (other, x) in enumerate(columns[: i + 1]):
            met = unique_rows([stratum, column, other], rows)
            twice = 1.0 if i == j else 2.0
            total = np.bincount(met.index, weights=twice * weight * z * x, minlength=len(met))
            add(pair_stratum=stratum[met.first], pair=total)
            add(pair_first=column[met.first], pair_second=other[met.first])
    return {name: np.concatenate(parts, axis=-1) for name, parts in found.items()}


def _first_fit(X: Floats, y: Floats, weight: Floats) -> Floats:
    """Weighted least squares; it need not be precise."""
    one = np.zeros(len(y), dtype=np.intp)
    sums = cross_products(one, 1, weight, X, X, y)
    found, *_ = np.linalg.lstsq(sums.ZZ[0], sums.Zy[0], rcond=None)
    return np.asarray(found, dtype=np.float64)


def _parents(nested: Sequence[RandomDesign]) -> NDArray[np.intp]:
    """For every group but the outermost the one around it, level by level."""
    found = [np.zeros(0, dtype=np.intp)]
    for inner, outer in pairwise(nested):
        above = parents(inner.groups.index, outer.groups.index)
        if above is not None:
            found.append(above)
    return np.concatenate(found)
