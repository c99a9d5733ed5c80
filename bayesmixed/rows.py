"""Some rows of a design, and which of its rows a model cannot tell apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesmixed.compress import Unique, unique_rows
from bayesmixed.data import Table
from bayesmixed.design import Design
from bayesmixed.predictor import PredictorDesign, RandomDesign

type Integers = NDArray[np.intp]


def take(design: Design, rows: Integers) -> Design:
    """The same design with some of its rows, in any order."""

    def random(given: RandomDesign) -> RandomDesign:
        groups = replace(given.groups, index=given.groups.index[rows])
        own = given.spreads
        own = None if own is None else replace(own, index=own.index[rows])
        return replace(given, groups=groups, Z=given.Z[rows], spreads=own)

    def predictor(given: PredictorDesign) -> PredictorDesign:
        return replace(
            given,
            X=given.X[rows],
            offset=given.offset[rows],
            random=tuple(map(random, given.random)),
        )

    spreads = design.spreads
    return replace(
        design,
        table=Table(design.table.frame.iloc[rows], {}, 0),
        y=design.y[rows],
        predictors={name: predictor(p) for name, p in design.predictors.items()},
        trials=None if design.trials is None else design.trials[rows],
        sampling_sd=None if design.sampling_sd is None else design.sampling_sd[rows],
        spreads=None if spreads is None else replace(spreads, index=spreads.index[rows]),
    )


def alike(
    design: Design,
    parameters: Collection[str] | None = None,
    without: Collection[str] = (),
    first: Sequence[NDArray[Any]] = (),
    outcome: bool = False,
) -> Unique:
    """Which rows have equal parameters in every draw, whatever the draw.

    Parameters
    ----------
    design : Design
        The rows.
    parameters : collection of str, optional
        The family's parameters that have to be equal; all of them unless given.
    without : collection of str
        Groupings whose groups make no difference.
    first : sequence of array, shape (rows,) each
        Other values that have to be equal; by these the distinct rows are sorted.
    outcome : bool
        Whether outcomes have to be equal too.
    """
    columns = [*first]
    for name, predictor in design.predictors.items():
        if parameters is not None and name not in parameters:
            continue
        columns += [*predictor.X.T, predictor.offset]
        for random in predictor.random:
            columns += [*random.Z.T]
            if random.name not in without:
                columns.append(random.groups.index)
            if random.spreads is not None:
                columns.append(random.spreads.index)
    spread = parameters is None or "sigma" in parameters
    known = [design.trials, design.sampling_sd if spread else None, design.y if outcome else None]
    columns += [column for column in known if column is not None]
    if spread and design.spreads is not None:
        columns.append(design.spreads.index)
    return unique_rows(columns, len(design.y))
