"""Tables as a page shows them: text to read, and numbers to sort by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayesmixed.tables import formats

_HEADINGS = {"eti95_lb": "95 % from", "eti95_ub": "to", "rhat": "R-hat"}


@dataclass(frozen=True)
class Cell:
    """One value.

    Parameters
    ----------
    text : str
        As it is read.
    value : float, optional
        As it is sorted; None for words.
    """

    text: str
    value: float | None = None

    @property
    def key(self) -> str:
        """What it is sorted by, short: a page may have thousands of rows."""
        return "" if self.value is None else f"{self.value:.7g}"


@dataclass(frozen=True)
class Grid:
    """A table.

    Parameters
    ----------
    caption : str
    index, columns : tuple of str
        Headings of the columns that name a row, and of the others.
    rows : tuple of (tuple of Cell, tuple of Cell)
        What names each row, and its values.
    """

    caption: str
    index: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[Cell, ...], tuple[Cell, ...]], ...]

    @classmethod
    def of(cls, table: pd.DataFrame, caption: str) -> Grid:
        """A table with the decimals that its printed form has."""
        written = formats(table)
        labels = table.index.to_frame(index=False).to_numpy(dtype=object)
        columns = [
            [_cell(value, written.get(name)) for value in table[name]] for name in table.columns
        ]
        rows = tuple(
            (tuple(_label(v) for v in label), values)
            for label, values in zip(labels, zip(*columns, strict=True), strict=True)
        )
        return cls(
            caption,
            tuple(str(name or "") for name in table.index.names),
            tuple(_HEADINGS.get(str(name), str(name)) for name in table.columns),
            rows,
        )


def _label(value: object) -> Cell:
    """What names a row: as the data write it, sorted as a number where it is one."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return Cell(str(value), float(value) if number else None)  # type: ignore[arg-type]


def _cell(value: object, written: object = None) -> Cell:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if number and not np.isfinite(float(value)):  # type: ignore[arg-type]
        return Cell("")
    text = written(value) if callable(written) else f"{value:,}" if number else str(value)
    return Cell(text, float(value) if number else None)  # type: ignore[arg-type]
