"""Groups of rows: who is in which, and which groups lie inside which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import DataError
from bayesmixed.spec import Grouping


@dataclass(frozen=True)
class Groups:
    """The groups of one grouping.

    Parameters
    ----------
    grouping : Grouping
        The columns that make them.
    labels : array, shape (groups,)
        The data's own labels in sorted (or categorical) order; for several columns joined by ":".
    index : array of int, shape (rows,)
        Position in `labels` of each row's group; -1 for a group that is not among them.
    """

    grouping: Grouping
    labels: NDArray[Any]
    index: NDArray[np.intp]

    @property
    def name(self) -> str:
        """The grouping's name."""
        return self.grouping.name

    @property
    def sizes(self) -> NDArray[np.intp]:
        """Rows in each group, shape (groups,)."""
        return np.bincount(self.index[self.index >= 0], minlength=len(self.labels))

    @classmethod
    def of(cls, grouping: Grouping, frame: pd.DataFrame) -> Groups:
        """Find the groups in a table."""
        keys = group_keys(grouping, frame)
        combinations = len(frame[list(grouping.factors)].drop_duplicates())
        if len(grouping.factors) > 1 and keys.nunique() < combinations:
            raise DataError(
                f"Labels of {grouping.name!r} that contain ':' make different groups look alike; "
                "replace the ':' in the labels."
            )
        # Sorting follows the order of the categories where there is one.
        index, found = pd.factorize(keys, sort=True)
        labels = np.asarray(found)
        if labels.dtype.kind == "f" and (labels % 1 == 0).all() and (np.abs(labels) < 2**53).all():
            # A gap elsewhere made floats of whole numbers.
            labels = labels.astype(np.int64)
        return cls(grouping, labels, index)

    def match(self, frame: pd.DataFrame) -> NDArray[np.intp]:
        """Position of each row's group of another table among these labels; -1 where unknown."""
        keys = group_keys(self.grouping, frame)
        return np.asarray(pd.Index(self.labels).get_indexer(pd.Index(keys)), dtype=np.intp)


def group_keys(grouping: Grouping, frame: pd.DataFrame) -> pd.Series[Any]:
    """The label of each row's group."""
    first, *others = grouping.factors
    if not others:
        # Dates go by their text, which can be stored.
        dates = frame[first].dtype.kind in "mM" or frame[first].dtype == object
        return frame[first].astype(str) if dates else frame[first]
    keys = _text(frame[first])
    for factor in others:
        keys = keys + ":" + _text(frame[factor])
    return keys


def _text(column: pd.Series[Any]) -> pd.Series[Any]:
    """Labels as text; whole numbers alike, whether or not a gap elsewhere made them floats."""
    if column.dtype.kind == "f" and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return column.astype(str)


def first_rows(index: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """The first row of each group, shape (count,); -1 where it has none."""
    found = np.full(count, -1, dtype=np.intp)
    rows = np.flatnonzero(index >= 0)[::-1]
    found[index[rows]] = rows
    return found


def parents(inner: NDArray[np.intp], outer: NDArray[np.intp]) -> NDArray[np.intp] | None:
    """The outer group that each inner group lies in, or None where one lies in several."""
    count = int(inner.max()) + 1
    first = np.zeros(count, dtype=np.intp)
    first[inner] = outer
    return first if np.array_equal(first[inner], outer) else None


def enclosing(indices: Sequence[NDArray[np.intp]]) -> NDArray[np.intp]:
    """The group around each group, level by level from the inside out, for all but the last."""
    found = [np.zeros(0, dtype=np.intp)]
    for inner, outer in pairwise(indices):
        around = parents(inner, outer)
        assert around is not None, "levels lie in one another"
        found.append(around)
    return np.concatenate(found)


def offenders(inner: NDArray[np.intp], outer: NDArray[np.intp]) -> Mapping[int, NDArray[np.intp]]:
    """Inner groups that lie in more than one outer group, with those outer groups."""
    pairs = np.unique(np.column_stack([inner, outer]), axis=0)
    counts = np.bincount(pairs[:, 0])
    return {int(i): pairs[pairs[:, 0] == i, 1] for i in np.flatnonzero(counts > 1)}


def tree(groups: Sequence[Groups], rows: str = "rows") -> str:
    """Draw which groups lie in which, with their number and sizes.

    Parameters
    ----------
    groups : sequence of Groups
        In any order; those that lie in no other stand at the margin.
    rows : str
        What a row is.
    """
    # From coarse to fine, each hangs below the finest earlier one that contains it.
    ordered = sorted(groups, key=lambda g: len(g.labels))
    above: dict[str, Groups | None] = {}
    for i, inner in enumerate(ordered):
        around = [g for g in ordered[:i] if parents(inner.index, g.index) is not None]
        above[inner.name] = around[-1] if around else None
    lines: list[str] = []

    def draw(parent: Groups | None, indent: str) -> None:
        for group in (g for g in ordered if above[g.name] is parent):
            mark = "" if parent is None else "└─ "
            lines.append(f"{indent}{mark}{_describe(group, parent, rows)}")
            draw(group, indent + ("" if parent is None else "   "))

    draw(None, "")
    return "\n".join(lines)


def _describe(group: Groups, parent: Groups | None, rows: str) -> str:
    count = len(group.labels)
    text = f"{group.name}: {count:,} group{'' if count == 1 else 's'}"
    if parent is not None:
        inside = parents(group.index, parent.index)
        per = np.bincount(inside if inside is not None else [])
        text += f", {_range(per)} per {parent.name}"
    each = rows.removesuffix("s") if group.sizes.max() == 1 else rows
    return f"{text}, {_range(group.sizes)} {each} each"


def _range(counts: NDArray[np.intp]) -> str:
    low, high, middle = int(counts.min()), int(counts.max()), float(np.median(counts))
    return f"{low:,}" if low == high else f"{low:,} to {high:,} (median {middle:,.4g})"
