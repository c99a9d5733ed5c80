"""What `fit_many` is given, one outcome or data set at a time, each with a fingerprint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import chain
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import DataError
from bayesmixed.data import Table, to_pandas

_FORMS = (
    "Outcomes are a table with a column for each, or a mapping from names to columns; data sets "
    "are a mapping from names to tables; either may be an iterable of (name, values) too."
)


@dataclass(frozen=True)
class Outcome:
    """One outcome, or one data set, as it is sent to a worker.

    Parameters
    ----------
    name : str
        Its name.
    position : int
        Its place among all.
    table : DataFrame
        One column with a row for each of the model's, or a whole table.
    fingerprint : str
        Hash of the values.
    reason : str
        Why it cannot be fitted; empty if it can.
    """

    name: str
    position: int
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    fingerprint: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Outcomes:
    """Outcomes or data sets, taken one after the other.

    Parameters
    ----------
    pairs : callable
        Starts to go through the names with their values.
    table : Table
        The rows and columns of the model.
    whole : bool
        Whether they are data sets, rather than outcomes of the model's rows.
    count : int, optional
        How many there are, where that is known.
    repeatable : bool
        Whether one can go through them a second time.
    """

    pairs: Callable[[], Iterator[tuple[Any, Any]]]
    table: Table
    whole: bool
    count: int | None
    repeatable: bool = True

    def __iter__(self) -> Iterator[Outcome]:
        """Each in turn; what does not fit the model has a reason in the place of values.

        Raises
        ------
        DataError
            If a name occurs twice.
        """
        seen: set[str] = set()
        for position, (name, values) in enumerate(self.pairs()):
            if str(name) in seen:
                raise DataError(f"The name {str(name)!r} occurs twice; names must be unique.")
            seen.add(str(name))
            try:
                table = self._dataset(values) if self.whole else self._aligned(values)
                yield Outcome(str(name), position, table, fingerprint(table))
            except (DataError, TypeError) as error:
                yield Outcome(str(name), position, reason=str(error))

    def _dataset(self, values: Any) -> pd.DataFrame:
        """The columns of a data set that the model uses."""
        table = to_pandas(values)
        used = [name for name in self.table.frame.columns if name in table.columns]
        # A column that is missing is reported when the model meets the data.
        return table[used].reset_index(drop=True)

    def _aligned(self, values: Any) -> pd.DataFrame:
        """One column, with the rows of the model in their order."""
        if len(np.shape(values)) != 1:
            raise DataError(f"An outcome is one column, not {type(values).__name__}. {_FORMS}")
        rows = self.table.frame.index
        has_labels = isinstance(values, pd.Series)
        series = values if has_labels else pd.Series(np.asarray(values))
        if has_labels:
            at = _positions(series.index, rows, self.table.rows_dropped)
        else:
            at = _places(len(series), rows, self.table.rows_dropped)
        column = series.iloc[at].reset_index(drop=True)
        if pd.api.types.is_numeric_dtype(column.dtype) and not isinstance(column.dtype, np.dtype):
            column = pd.Series(column.to_numpy(dtype=float, na_value=np.nan))
        return column.to_frame("outcome")


def gather(given: Any, table: Table, whole: bool | None = None) -> Outcomes:
    """Find out what outcomes or data sets were given.

    Parameters
    ----------
    given : table, mapping, array-like or iterable
        See `fit_many`.
    table : Table
        The rows and columns of the model.
    whole : bool, optional
        Whether they are data sets; found from the first one unless given.

    Raises
    ------
    DataError
        If they are neither, or there are none.
    """
    matrix = _matrix(given)
    if matrix is not None:
        if whole:
            raise DataError(f"One table is not several data sets. {_FORMS}")
        pairs, names = matrix
        return Outcomes(pairs, table, False, _some(names))
    if isinstance(given, Mapping):
        first = next(iter(given.values()), None)
        is_whole = _is_table(first) if whole is None else whole
        return Outcomes(lambda: iter(given.items()), table, is_whole, _some(len(given)))
    if not isinstance(given, Iterable) or isinstance(given, str | np.ndarray):
        hint = " Give an array names: pandas.DataFrame(array, columns=names)."
        is_array = isinstance(given, np.ndarray)
        raise DataError(f"{type(given).__name__}: {_FORMS}{hint if is_array else ''}")
    return _lazy(given, table, whole)


def _lazy(given: Iterable[Any], table: Table, whole: bool | None) -> Outcomes:
    """What comes one by one, of which only the first is looked at."""
    iterator = iter(given)
    repeatable = iterator is not given
    first = next(iterator, None)
    _some(0 if first is None else 1)
    if not (isinstance(first, tuple) and len(first) == 2):
        raise DataError(f"The first item is not a pair of name and values. {_FORMS}")
    is_whole = _is_table(first[1]) if whole is None else whole
    count = len(given) if isinstance(given, Sized) else None
    again: Callable[[], Iterator[Any]] = partial(iter, given)
    rest = chain([first], iterator)
    return Outcomes(again if repeatable else lambda: rest, table, is_whole, count, repeatable)


def fingerprint(table: pd.DataFrame) -> str:
    """Hash of a table's columns and values, the same on every machine."""
    digest = sha256()
    for name, column in table.items():
        kind = column.dtype
        is_plain = isinstance(kind, np.dtype) and kind.kind in "biuf"
        levels = list(column.cat.categories) if isinstance(kind, pd.CategoricalDtype) else ""
        digest.update(f"{name}\0{kind if is_plain else levels}\0{len(column)}\0".encode())
        values = column if is_plain else pd.util.hash_pandas_object(column, index=False)
        digest.update(np.ascontiguousarray(values.to_numpy()).tobytes())
    return digest.hexdigest()[:32]


def _matrix(given: Any) -> tuple[Callable[[], Iterator[tuple[Any, Any]]], int] | None:
    """The columns of a table with a column for each outcome, or None where it is not one."""
    if hasattr(given, "var_names") and hasattr(given, "X"):  # AnnData: cells x genes
        return partial(_genes, given), len(given.var_names)
    if isinstance(given, xr.DataArray) and given.ndim == 2:
        given = given.to_pandas()
    if isinstance(given, pd.DataFrame) or nw.dependencies.is_into_dataframe(given):
        frame = to_pandas(given)
        return lambda: iter(frame.items()), frame.shape[1]
    return None


def _genes(given: Any) -> Iterator[tuple[Any, Any]]:
    values = given.X.tocsc() if hasattr(given.X, "tocsc") else given.X
    for i, name in enumerate(given.var_names):
        column = values[:, [i]]
        dense = column.toarray() if hasattr(column, "toarray") else np.asarray(column)
        yield name, pd.Series(dense.ravel(), index=pd.Index(given.obs_names))


def _some(count: int) -> int:
    if not count:
        raise DataError(f"There is no outcome. {_FORMS}")
    return count


def _is_table(values: Any) -> bool:
    """Whether it is a table, rather than one column."""
    return isinstance(values, Mapping) or not (
        isinstance(values, list | tuple) or len(getattr(values, "shape", (1, 1))) == 1
    )


def _positions(index: pd.Index[Any], rows: pd.Index[Any], dropped: int) -> NDArray[np.intp]:
    """Where the model's rows are in an outcome with labels."""
    if not index.is_unique:
        raise DataError("The outcome's index has a label twice, so rows cannot be told apart.")
    at = index.get_indexer(rows)
    lost, more = int((at < 0).sum()), len(index) - int((at >= 0).sum())
    if lost or more > dropped:
        raise DataError(
            f"The outcome's index is not that of the model's data: {lost:,} of the model's "
            f"{len(rows):,} rows are not in it, and {more:,} of its {len(index):,} labels are not "
            "in the model. Give the outcome the index of the data."
        )
    return np.asarray(at)


def _places(length: int, rows: pd.Index[Any], dropped: int) -> NDArray[np.intp]:
    """Where the model's rows are in an outcome without labels."""
    if length != len(rows) + dropped:
        raise DataError(
            f"The outcome has {length:,} values; the model's data have {len(rows) + dropped:,} "
            "rows."
        )
    if not dropped:
        return np.arange(length)
    numbered = pd.api.types.is_integer_dtype(rows.dtype) and rows.is_monotonic_increasing
    if not (numbered and rows[0] >= 0 and rows[-1] < length):
        raise DataError(
            f"The model left out {dropped:,} rows with missing values, so it takes labels to know "
            "which rows the outcome's are: give a pandas Series or DataFrame with the data's index."
        )
    return rows.to_numpy(dtype=np.intp)
