"""A table from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from bayesmixed._errors import DataError

_READERS: Mapping[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": pd.read_csv,
    ".tsv": pd.read_table,
    ".parquet": pd.read_parquet,
}
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")


def read_table(path: Path) -> pd.DataFrame:
    """A CSV, TSV or parquet file as a table; text may be compressed.

    Raises
    ------
    DataError
        If there is no such file, or it cannot be read.
    """
    plain = path.with_suffix("") if path.suffix.lower() in _PACKED else path
    reader = _READERS.get(plain.suffix.lower())
    if reader is None or (plain != path and plain.suffix.lower() == ".parquet"):
        raise DataError(
            f"{path}: tables are read from .csv, .tsv and .parquet files, the first two also "
            "compressed (.csv.gz). Save a spreadsheet as CSV."
        )
    try:
        table = reader(path)
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} cannot be read: it is not UTF-8 text. Save it as UTF-8, or write it anew: "
            f"pandas.read_csv({str(path)!r}, encoding='latin-1').to_csv(..., index=False)."
        ) from error
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path} is empty.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    _check_separator(path, table)
    return table


def _check_separator(path: Path, table: pd.DataFrame) -> None:
    only = str(table.columns[0]) if len(table.columns) == 1 else ""
    other = next((sign for sign in ";\t|" if sign in only), None)
    if other is None:
        return
    # What stands behind a comma is a second column to pandas, and the first its index.
    commas = "" if isinstance(table.index, pd.RangeIndex) else ", decimal=','"
    raise DataError(
        f"{path} has one column, {only!r}: its values are separated by {other!r}, and a CSV file's "
        f"by commas. Write it anew: pandas.read_csv({str(path)!r}, sep={other!r}{commas})"
        ".to_csv(..., index=False)."
    )
