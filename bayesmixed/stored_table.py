"""A table as plain arrays, which any netCDF file can hold, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr


def encode_table(frame: pd.DataFrame) -> tuple[xr.Dataset, dict[str, Any]]:
    """Columns as plain arrays: labels become codes, and their names go into the attributes."""
    arrays: dict[str, Any] = {}
    kinds: dict[str, Any] = {}
    for i, name in enumerate(frame.columns):
        column = frame[name]
        if pd.api.types.is_bool_dtype(column.dtype):
            arrays[f"column_{i}"], kinds[name] = column.to_numpy(dtype="int8"), {"kind": "bool"}
        elif pd.api.types.is_numeric_dtype(column.dtype):
            arrays[f"column_{i}"], kinds[name] = column.to_numpy(), {"kind": "number"}
        elif column.dtype.kind == "M":
            zone = str(column.dt.tz or "")
            moments = pd.to_datetime(column, utc=bool(zone)).dt.as_unit("us")
            arrays[f"column_{i}"] = moments.to_numpy(dtype="int64")
            kinds[name] = {"kind": "date", "zone": zone}
        else:
            is_category = isinstance(column.dtype, pd.CategoricalDtype)
            category = column if is_category else column.astype("category")
            arrays[f"column_{i}"] = category.cat.codes.to_numpy()
            kinds[name] = {
                "kind": "category" if is_category else "text",
                "levels": [_plain(v) for v in category.cat.categories],
                "ordered": bool(category.cat.ordered),
            }
    return xr.Dataset({n: ("row", v) for n, v in arrays.items()}), kinds


def _plain(level: Any) -> Any:
    """A level as JSON has it; dates go by their text."""
    value = level.item() if isinstance(level, np.generic) else level
    return value if isinstance(value, str | int | float | bool) else str(value)


def decode_table(columns: xr.Dataset, kinds: dict[str, Any]) -> pd.DataFrame:
    """The table that `encode_table` took apart."""
    frame = {}
    for i, (name, kind) in enumerate(kinds.items()):
        values = columns[f"column_{i}"].to_numpy()
        if kind["kind"] == "bool":
            frame[name] = pd.Series(values.astype(bool))
        elif kind["kind"] == "number":
            frame[name] = pd.Series(values)
        elif kind["kind"] == "date":
            moments = pd.Series(pd.to_datetime(values, unit="us", utc=bool(kind["zone"])))
            frame[name] = moments.dt.tz_convert(kind["zone"]) if kind["zone"] else moments
        else:
            levels = pd.Categorical.from_codes(values, kind["levels"], ordered=kind["ordered"])
            is_category = kind["kind"] == "category"
            frame[name] = pd.Series(levels if is_category else np.asarray(levels))
    return pd.DataFrame(frame)
