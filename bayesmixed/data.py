"""Any tidy table -> the pandas columns that a model uses, complete and finite."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from numbers import Real
from typing import Any, Literal

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import DataError, UnknownNameError, listed, lookup, unknown

LARGEST = 1e50
"""Larger numbers, which are codes or mistakes, would overflow in fourth powers."""

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
    kept : int, optional
        Number of complete rows where `frame` holds only some of them.
    """

    frame: pd.DataFrame
    dropped: Mapping[str, int]
    rows_dropped: int
    kept: int | None = None

    @property
    def note(self) -> str | None:
        """One line on the dropped rows, or None."""
        if not self.rows_dropped:
            return None
        by = ", ".join(f"{name} {count:,}" for name, count in self.dropped.items())
        kept = len(self.frame) if self.kept is None else self.kept
        total = kept + self.rows_dropped
        return f"{self.rows_dropped:,} of {total:,} rows dropped for missing values ({by})."


def to_pandas(data: Any) -> pd.DataFrame:
    """A pandas table from pandas, polars, or whatever narwhals understands.

    Raises
    ------
    DataError
        If it is not a table, has no rows, or has repeated column names.
    """
    try:
        if isinstance(data, pd.DataFrame | dict):
            frame = pd.DataFrame(data)
        else:
            frame = nw.from_native(data)
    except (ValueError, nw.exceptions.DuplicateError) as error:
        raise DataError(f"data is not a table: {error}") from None
    except TypeError:
        raise DataError(
            "data must be a table (pandas, polars, pyarrow, or a dict of columns), a Dask "
            f"DataFrame, or paths of parquet files, not {type(data).__name__}"
            + (f" {data!r}; a CSV file is pandas.read_csv(...)." if isinstance(data, str) else ".")
        ) from None
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    table = frame if isinstance(frame, pd.DataFrame) else frame.to_pandas()
    table.columns = pd.Index([str(name) for name in table.columns])
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
    check_columns(names, table.columns)
    found = complete_rows(table, names)
    if missing == "raise":
        check_no_gaps(found, table.index[table[list(names)].isna().any(axis=1)])
    check_left(found, len(table))
    frame = found.frame.copy()
    for name in frame.columns:
        frame[name] = _plain(frame[name])
    return Table(frame, found.dropped, found.rows_dropped)


def check_columns(names: Collection[str], columns: Collection[Any]) -> None:
    """Refuse names that are not columns.

    Raises
    ------
    UnknownNameError
        With the nearest ones, or how to make one of several.
    """
    for name in names:
        parts = re.split("[:/]", name)
        if name not in columns and len(parts) > 1 and set(parts) <= set(columns):
            pasted = ' + ":" + '.join(f'data["{part}"].astype(str)' for part in parts)
            raise UnknownNameError(
                f"There is no column {name!r}. Paste the columns together: "
                f'data["{name}"] = {pasted}.'
            )
        if name not in columns:
            raise unknown(name, map(str, columns), "column")


def complete_rows(table: pd.DataFrame, names: Collection[str]) -> Table:
    """The rows that are complete in the columns in `names`, which may be none; as they are.

    Raises
    ------
    DataError
        If values are infinite.
    """
    frame = table[list(names)]
    for name in frame.columns:
        _check_finite(frame[name])
    gaps = frame.isna()
    incomplete = gaps.any(axis=1).to_numpy()
    counts = {str(n): int(c) for n, c in gaps.sum().items() if c}
    return Table(frame.loc[~incomplete], counts, int(incomplete.sum()))


def check_no_gaps(found: Table, labels: Collection[Any] = ()) -> None:
    """Refuse data of which rows are incomplete.

    Parameters
    ----------
    found : Table
        What is complete.
    labels : collection
        Labels of the rows that are not.

    Raises
    ------
    DataError
        Saying what is missing how often.
    """
    if found.rows_dropped:
        where = f", the first at row {listed(labels, 5)}" if len(labels) else ""
        raise DataError(
            f"Missing values in {_count(found.rows_dropped, 'row')} ("
            + ", ".join(f"{n} {c:,}" for n, c in found.dropped.items())
            + f'){where}. Complete them or leave those rows out; a Model does with missing="drop".'
        )


def check_left(found: Table, rows: int) -> None:
    """Refuse data of which no row is complete.

    Parameters
    ----------
    found : Table
        What is complete.
    rows : int
        Number of rows before.

    Raises
    ------
    DataError
        Saying what is missing how often.
    """
    if found.rows_dropped == rows:
        raise DataError(
            "No row is complete in the variables of the model: "
            + ", ".join(f"{n} is missing in {c:,}" for n, c in found.dropped.items())
            + f" of {rows:,} rows."
        )


def alike(frame: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Complete rows with the columns, and the columns' types, of another table.

    Raises
    ------
    DataError
        If a column holds values of another kind there.
    """
    columns = {}
    for name in other.columns:
        try:
            columns[name] = _plain(frame[name]).astype(other[name].dtype)
        except (TypeError, ValueError):
            raise DataError(
                f"Column {name!r} is of type {other[name].dtype} in some parts of the data and "
                f"{frame[name].dtype} in others; make them the same beforehand."
            ) from None
    return pd.DataFrame(columns, index=frame.index)


def is_numeric(column: pd.Series[Any]) -> bool:
    """Whether a column holds numbers (or yes/no), rather than labels."""
    return pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_complex_dtype(
        column.dtype
    )


def numbers(value: Any, rows: int, what: str) -> NDArray[np.float64]:
    """A column or number as one number for each row.

    Raises
    ------
    DataError
        If it holds something else.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" and not (isinstance(value, pd.Series) and is_numeric(value)):
        raise DataError(f"{what} must hold numbers.")
    return np.array(np.broadcast_to(np.asarray(value, dtype=np.float64), rows))


def _plain(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column without gaps in its plain type: numbers, yes/no, text, dates, or categories."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.cat.remove_unused_categories()
        plain = all(isinstance(c, str | Real | np.generic) for c in column.cat.categories)
        # Intervals and dates go by their text, in their order; it can be stored and printed.
        return (
            column if plain else column.cat.rename_categories(list(map(str, column.cat.categories)))
        )
    if pd.api.types.is_complex_dtype(column.dtype):
        raise DataError(f"Column {column.name!r} holds complex numbers; use real ones.")
    if isinstance(column.dtype, pd.PeriodDtype):
        return column.astype("str")
    if column.dtype != object:
        is_text = pd.api.types.is_string_dtype(column.dtype)
        return column.astype("str") if is_text else column
    kinds = {type(value) for value in column}
    if all(issubclass(kind, Real | Decimal) for kind in kinds):
        return column.astype(bool if kinds <= {bool, np.bool_} else float)
    if any(issubclass(kind, str) for kind in kinds) and len(kinds) == 1:
        return column.astype("str")
    if not all(issubclass(kind, date) for kind in kinds):
        named = listed(sorted(kind.__name__ for kind in kinds))
        raise DataError(
            f"Column {column.name!r} holds values of type {named}. Make them all numbers or all "
            f"text, such as data[{column.name!r}].astype(str)."
        )
    return column


def check_predictor(column: pd.Series[Any], is_bare: bool) -> None:
    """Refuse a predictor that cannot have an effect.

    Parameters
    ----------
    column : pandas.Series
        The complete rows.
    is_bare : bool
        Whether it stands by itself, rather than inside a function.

    Raises
    ------
    DataError
        If it is constant, has one level only, or holds dates that nothing turns into numbers.
    """
    if is_bare:
        check_not_dates(column, f"The predictor {column.name!r}")
    if len(column) > 1 and column.nunique() == 1:
        what = (
            f"The predictor {column.name!r} is constant ({column.iloc[0]})"
            if is_numeric(column)
            else f"The factor {column.name!r} has one level only ({column.iloc[0]!r})"
        )
        raise DataError(
            f"{what} in the {len(column):,} rows used, so its effect cannot be estimated; leave it "
            "out."
        )


def check_not_dates(column: pd.Series[Any], what: str) -> None:
    """Refuse dates and durations where numbers or labels are needed.

    Raises
    ------
    DataError
        Saying how to make a number of them.
    """
    if column.dtype.kind in "mM" or isinstance(column.iloc[0], date):
        raise DataError(
            f"{what} holds dates or durations, which have no unit by themselves. Make a number of "
            "them, such as days: (date - date.min()).dt.days."
        )


def _check_finite(column: pd.Series[Any]) -> None:
    if not is_numeric(column):
        return
    values = column.to_numpy(dtype=float, na_value=np.nan)
    for bad, what in ((np.isinf(values), "infinite"), (np.abs(values) > LARGEST, "huge")):
        if bad.any():
            raise DataError(
                f"Column {column.name!r} has {what} values in {_count(int(bad.sum()), 'row')}, the "
                f"first at row {listed(column.index[bad], 5)} ({values[bad][0]:g}). Correct them "
                "or set them missing."
            )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
