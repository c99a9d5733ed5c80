"""Rows that the likelihood cannot tell apart, put together without loss.

Rows with equal predictors and groups have the same linear predictor, so their outcomes enter the
likelihood through sums; and where effects are integrated out, all that a group's rows say is in
their cross-products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from bayesmixed.edition import on_disk

type Floats = NDArray[np.float64]
type Integers = NDArray[np.intp]


@dataclass(frozen=True)
class Unique:
    """Which rows are equal.

    Parameters
    ----------
    index : array of int, shape (rows,)
        For each row its place among the distinct ones.
    first : array of int, shape (distinct rows,)
        A row that stands for each.
    """

    index: Integers
    first: Integers

    def __len__(self) -> int:
        """Number of distinct rows."""
        return len(self.first)


def unique_rows(columns: Sequence[NDArray[Any]], rows: int) -> Unique:
    """Find the distinct rows of some columns, in the order of the columns' values.

    Parameters
    ----------
    columns : sequence of array, shape (rows,) each
        The first one sorts first.
    rows : int
        Number of rows, which `columns` do not say when there are none of them.
    """
    code, count = np.zeros(rows, dtype=np.int64), 1
    for column in columns:
        if count == rows:
            break
        part, values = pd.factorize(column, sort=True)
        if len(values) == 1:
            continue
        code, found = pd.factorize(code * len(values) + part, sort=True)
        count = len(found)
    first = np.empty(count, dtype=np.intp)
    first[code[::-1]] = np.arange(rows - 1, -1, -1)
    return Unique(code, first)


@dataclass(frozen=True)
class Sums:
    """Sums over the rows of each distinct key, which add up over parts of the data.

    Parameters
    ----------
    keys : tuple of array, shape (distinct keys,) each
        In increasing order, the first one sorting first.
    sums : tuple of array, shape (distinct keys, ...) each
    """

    keys: tuple[NDArray[Any], ...]
    sums: tuple[NDArray[Any], ...] = ()

    def __len__(self) -> int:
        """Number of distinct keys."""
        return len((*self.keys, *self.sums)[0])


def add_up(parts: Sequence[Sums]) -> Sums:
    """Sums over all rows, from those over the rows of each part."""
    if len(parts) == 1:
        return parts[0]
    keys = [np.concatenate(column) for column in zip(*(p.keys for p in parts), strict=True)]
    found = unique_rows(keys, sum(map(len, parts)))
    totals = []
    for column in zip(*(p.sums for p in parts), strict=True):
        values = np.concatenate(column)
        total = np.zeros((len(found), *values.shape[1:]), dtype=values.dtype)
        np.add.at(total, found.index, values)
        totals.append(total)
    return Sums(tuple(k[found.first] for k in keys), tuple(totals))


def places(keys: Sequence[NDArray[Any]], among: Sequence[NDArray[Any]]) -> Integers:
    """Where each row's key stands among distinct sorted ones that hold it.

    Parameters
    ----------
    keys : sequence of array, shape (rows,) each
    among : sequence of array, shape (distinct keys,) each
    """
    count = len(among[0])
    both = [np.concatenate(pair) for pair in zip(among, keys, strict=True)]
    return unique_rows(both, len(both[0])).index[count:]


@dataclass(frozen=True)
class CrossProducts:
    """Weighted cross-products of the columns [Z, X, y] over the rows of each part of the data.

    Parameters
    ----------
    ZZ : array, shape (parts, effects, effects)
    ZX : array, shape (parts, effects, terms)
    Zy : array, shape (parts, effects)
    """

    ZZ: Floats
    ZX: Floats
    Zy: Floats


def cross_products(
    part: Integers, parts: int, weight: Floats, Z: Floats, X: Floats, y: Floats
) -> CrossProducts:
    """Sum up over the rows of each part.

    Parameters
    ----------
    part : array of int, shape (rows,)
    parts : int
        How many there are.
    weight, y : array, shape (rows,)
    Z : array, shape (rows, effects)
    X : array, shape (rows, terms)
    """
    f, p = Z.shape[1], X.shape[1]
    found = CrossProducts(np.zeros((parts, f, f)), np.zeros((parts, f, p)), np.zeros((parts, f)))
    _accumulate()(part, weight, Z, X, y, found.ZZ, found.ZX, found.Zy)
    return found


def _add_products(part, weight, Z, X, y, ZZ, ZX, Zy):
    for i in range(len(part)):
        k = part[i]
        for a in range(Z.shape[1]):
            wz = weight[i] * Z[i, a]
            Zy[k, a] += wz * y[i]
            for b in range(Z.shape[1]):
                ZZ[k, a, b] += wz * Z[i, b]
            for b in range(X.shape[1]):
                ZX[k, a, b] += wz * X[i, b]


@cache
def _accumulate():
    """The compiled loop over the rows."""
    return on_disk(lambda cache: njit(cache=cache)(_add_products))
