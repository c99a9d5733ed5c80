"""Rows that a model cannot tell apart, each kept once with how many there are of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bayesmixed.compress import Unique
from bayesmixed.design import Design
from bayesmixed.predictor import PredictorDesign
from bayesmixed.rows import alike as rows_alike
from bayesmixed.rows import take

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
    rows = len(design.y)
    every = np.arange(rows)
    found = rows_alike(design, without=without) if alike else Unique(every, every)
    counts = sparse.csr_array(
        (np.ones(rows), (totals, found.index)), shape=(int(totals.max()) + 1, len(found))
    )
    return Profiles(take(design, found.first), counts)


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
