"""Rows that a model cannot tell apart, each kept once with how many there are of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bayesmixed.compress import Unique, unique_rows
from bayesmixed.data import Table
from bayesmixed.design import Design
from bayesmixed.predictor import PredictorDesign

type Floats = NDArray[np.float64]
type Integers = NDArray[np.intp]


@dataclass(frozen=True)
class Profiles:
    """Distinct rows of a design.

    Parameters
    ----------
    design : Design
        The distinct rows.
    counts : sparse array, shape (totals, distinct rows)
        How often each occurs in what is added up.
    """

    design: Design
    counts: sparse.csr_array

    def total(self, values: Floats) -> Floats:
        """Sums over all rows of a function of them.

        Parameters
        ----------
        values : array, shape (chain, draw, distinct row)

        Returns
        -------
        array, shape (chain, draw, total)
        """
        every = np.broadcast_to(values, (*values.shape[:2], len(self.design.y)))
        flat = self.counts @ every.reshape(-1, every.shape[-1]).T
        return np.asarray(flat.T).reshape(*values.shape[:2], -1)


def profiles(
    design: Design, without: Collection[str], totals: Integers, alike: bool = True
) -> Profiles:
    """The distinct rows of a design.

    Parameters
    ----------
    design : Design
        All rows.
    without : collection of str
        Groupings whose groups make no difference.
    totals : array of int, shape (rows,)
        The total that each row is added to.
    alike : bool
        Whether rows that look alike here are so; otherwise all are kept.
    """
    columns: list[NDArray[np.generic]] = []
    for predictor in design.predictors.values():
        columns += [*predictor.X.T, predictor.offset]
        for random in predictor.random:
            columns += [*random.Z.T]
            if random.name not in without:
                columns.append(random.groups.index)
    columns += [known for known in (design.trials, design.sampling_sd) if known is not None]
    rows = len(design.y)
    every = np.arange(rows)
    found = unique_rows(columns, rows) if alike else Unique(every, every)
    counts = sparse.csr_array(
        (np.ones(rows), (totals, found.index)), shape=(int(totals.max()) + 1, len(found))
    )
    return Profiles(take(design, found.first), counts)


def take(design: Design, rows: Integers) -> Design:
    """The design of some of its rows."""
    table = Table(design.table.frame.iloc[rows], {}, 0)
    return replace(
        design,
        table=table,
        y=design.y[rows],
        predictors={name: _take(p, rows) for name, p in design.predictors.items()},
        trials=None if design.trials is None else design.trials[rows],
        sampling_sd=None if design.sampling_sd is None else design.sampling_sd[rows],
    )


def _take(predictor: PredictorDesign, rows: Integers) -> PredictorDesign:
    random = tuple(
        replace(r, Z=r.Z[rows], groups=replace(r.groups, index=r.groups.index[rows]))
        for r in predictor.random
    )
    return replace(predictor, X=predictor.X[rows], offset=predictor.offset[rows], random=random)


def of_group(design: Design, places: dict[str, int]) -> Design:
    """The same rows, all of them in one group of each of some groupings."""

    def moved(predictor: PredictorDesign) -> PredictorDesign:
        random = tuple(
            replace(r, groups=replace(r.groups, index=np.full(len(design.y), places[r.name])))
            if r.name in places
            else r
            for r in predictor.random
        )
        return replace(predictor, random=random)

    return replace(design, predictors={name: moved(p) for name, p in design.predictors.items()})
