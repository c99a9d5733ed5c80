"""Standard deviations of residuals, or of a process, that differ between visits and arms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import DataError, listed
from bayesmixed.known import stored, text_of
from bayesmixed.structure import Structure, dim_of

type Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Spreads:
    """Which standard deviation each row has, of its residual or of a process.

    Parameters
    ----------
    structure : Structure
        Whose visits or arms have standard deviations of their own.
    labels : tuple
        Of visits, of arms, or of both as ``"arm,visit"``: those that the data have. Of a product
        visits may be outcomes, or outcomes and visits.
    index : array of int, shape (rows,)
        Position in `labels` of each row's; -1 for a visit or arm that is not among them.
    """

    structure: Structure
    labels: tuple[Any, ...]
    index: Integers

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that say which."""
        return _columns(self.structure)

    @property
    def dim(self) -> str:
        """Name of the dimension."""
        arm = ["arm"] if self.structure.by is not None else []
        of = [dim_of("visit", column) for column, _ in _heterogeneous(self.structure)]
        along = [*arm, *of]
        return f"residual_{along[0] if len(along) == 1 else 'cell'}"

    @property
    def names(self) -> list[str]:
        """Names of their priors."""
        return [f"sigma[{label}]" for label in self.labels]

    def at(self, frame: pd.DataFrame) -> Spreads:
        """The same for other rows: means exist between visits, standard deviations do not."""
        if not set(self.columns) <= set(frame.columns):
            return replace(self, index=np.full(len(frame), -1))
        places = {label: i for i, label in enumerate(self.labels)}
        labels = _labels(self.structure, frame)
        return replace(self, index=np.array([places.get(label, -1) for label in labels]))

    def check(self) -> None:
        """Refuse rows whose standard deviation is not known.

        Raises
        ------
        DataError
            If there are such.
        """
        count = int((self.index < 0).sum())
        if count:
            raise DataError(
                f"In {count:,} rows the standard deviation of the process is not known, as the fit "
                f"has no such row; it has one for each of {listed(self.labels)} "
                f"({', '.join(self.columns)})."
            )

    def of_rows(self, values: NDArray[Any]) -> NDArray[Any]:
        """Each row's of values whose last axis runs over `labels`; NaN where it has none."""
        return np.where(self.index < 0, np.nan, values[..., self.index])

    @classmethod
    def of(cls, structure: Structure, frame: pd.DataFrame) -> Spreads | None:
        """Those of a table; None where all rows have the same.

        Raises
        ------
        DataError
            If rows hardly share any.
        """
        if not _columns(structure):
            return None
        labels = _labels(structure, frame)
        _, first = np.unique(_order(structure, frame), return_index=True)
        found = tuple(labels[i] for i in first)
        if 2 * len(found) > len(frame):
            raise DataError(
                f"{structure}: {len(found):,} residual standard deviations for {len(frame):,} "
                "rows, which can tell little of each. Name a column of visits that patients share, "
                "or use heterogeneous=False."
            )
        return cls(structure, found, np.zeros(len(frame), dtype=np.int64)).at(frame)


def _columns(structure: Structure) -> tuple[str, ...]:
    arm = (structure.by,) if structure.by is not None else ()
    return (*arm, *(factor.columns[0] for _, factor in _heterogeneous(structure)))


def _heterogeneous(structure: Structure) -> list[tuple[str, Structure]]:
    """The factors whose visits have standard deviations of their own."""
    return [each for each in structure.factors.items() if each[1].heterogeneous]


def _labels(structure: Structure, frame: pd.DataFrame) -> list[Any]:
    columns = [stored(frame[name].tolist()) for name in _columns(structure)]
    if len(columns) == 1:
        return columns[0]
    return [",".join(map(text_of, each)) for each in zip(*columns, strict=True)]


def _order(structure: Structure, frame: pd.DataFrame) -> Integers:
    """A number for each row that grows with arm and visit."""
    codes = [pd.factorize(frame[name], sort=True)[0] for name in _columns(structure)]
    total = np.zeros(len(frame), dtype=np.int64)
    for code in codes:
        total = total * (int(code.max()) + 1) + code
    return total
