"""Any tidy table -> the pandas columns that a model uses, complete and finite."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import narwhals as nw
import numpy as np
import pandas as pd

from bayesmixed._errors import DataError, listed, lookup, unknown

type Missing = Literal["drop", "raise"]


@dataclass(frozen=True)
class Table:
    """The rows and columns that a model uses.

    Parameters
    ----------
    frame : pandas.DataFrame
        Complete rows, their original row labels as index.
    dropped : mapping of str to int
        Rows dropped because this variable was missing; a row may count for several variables.
    rows_dropped : int
        Rows dropped altogether.
    """

    frame: pd.DataFrame
    dropped: Mapping[str, int]
    rows_dropped: int

    @property
    def note(self) -> str | None:
        """One line on the dropped rows, or None."""
        if not self.rows_dropped:
            return None
        by = ", ".join(f"{name} {count:,}" for name, count in self.dropped.items())
        total = len(self.frame) + self.rows_dropped
        return f"{self.rows_dropped:,} of {total:,} rows dropped for missing values ({by})."


def to_pandas(data: Any) -> pd.DataFrame:
    """A pandas table from pandas, polars, or whatever narwhals understands.

    Raises
    ------
    DataError
        If it is not a table, has no rows, or has repeated column names.
    """
    try:
        frame = pd.DataFrame(data) if isinstance(data, dict) else nw.from_native(data)
    except TypeError:
        raise DataError(
            f"data must be a table (pandas, polars, pyarrow, or a dict of columns), not "
            f"{type(data).__name__}."
        ) from None
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    table = frame if isinstance(frame, pd.DataFrame) else frame.to_pandas()
    if not table.columns.is_unique:
        repeated = table.columns[table.columns.duplicated()]
        raise DataError(f"Column names must be unique; repeated: {listed(repeated)}.")
    if not len(table):
        raise DataError("The data have no rows.")
    return table


def select(data: Any, names: Collection[str], missing: Missing = "drop") -> Table:
    """Keep the columns in `names` and the rows that are complete in them.

    Parameters
    ----------
    data : table
        See `to_pandas`.
    names : collection of str
        The variables that the model uses.
    missing : {"drop", "raise"}
        What to do with rows that miss a value.

    Raises
    ------
    UnknownNameError
        If a name is not a column.
    DataError
        If values are infinite, values are missing and `missing` is "raise", or no row is left.
    """
    lookup({"drop": 0, "raise": 1}, missing, "way to treat missing values")
    table = to_pandas(data)
    for name in names:
        if name not in table.columns:
            raise unknown(name, map(str, table.columns), "column")
    frame = table[list(names)]
    for name in frame.columns:
        _check_finite(frame[name])
    gaps = frame.isna()
    incomplete = gaps.any(axis=1).to_numpy()
    counts = {str(n): int(c) for n, c in gaps.sum().items() if c}
    if incomplete.any() and missing == "raise":
        raise DataError(
            f"{int(incomplete.sum()):,} rows have missing values ("
            + ", ".join(f"{n} {c:,}" for n, c in counts.items())
            + f"), the first at rows {listed(frame.index[incomplete], 5)}. Complete them, or use "
            'missing="drop".'
        )
    if incomplete.all():
        raise DataError(
            "No row is complete in the variables of the model: "
            + ", ".join(f"{n} is missing in {c:,}" for n, c in counts.items())
            + f" of {len(frame):,} rows."
        )
    complete = frame.loc[~incomplete].copy()
    for name in complete.columns:
        if isinstance(complete[name].dtype, pd.CategoricalDtype):
            complete[name] = complete[name].cat.remove_unused_categories()
    return Table(complete, counts, int(incomplete.sum()))


def is_numeric(column: pd.Series[Any]) -> bool:
    """Whether a column holds numbers (or yes/no), rather than labels."""
    return pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_complex_dtype(
        column.dtype
    )


def _check_finite(column: pd.Series[Any]) -> None:
    if is_numeric(column):
        infinite = np.isinf(column.to_numpy(dtype=float, na_value=np.nan))
        if infinite.any():
            raise DataError(
                f"Column {column.name!r} has {int(infinite.sum()):,} infinite values, the first "
                f"at rows {listed(column.index[infinite], 5)}. Correct them or set them missing."
            )
