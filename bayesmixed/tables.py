"""How numbers stand in printed tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

# What a column called "sd" is the uncertainty of, and is read together with.
_ESTIMATES = ("mean", "raw", "shrunken")


def formats(table: pd.DataFrame) -> dict[Any, Callable[[object], str]]:
    """Decimals for each column of numbers.

    Estimates and their intervals have as many as three significant digits of the smaller standard
    deviations need; other columns as many as three of their own smaller values need.
    """
    numbers = table.columns[[pd.api.types.is_float_dtype(t) for t in table.dtypes]]
    found: dict[Any, Callable[[object], str]] = {}
    for name in numbers:
        together = name == "sd" or name in _ESTIMATES or str(name).startswith("eti")
        if together and "sd" in numbers:
            decimals = _decimals(table["sd"], 3)
        else:
            decimals = _decimals(table[name], 3)
        found[name] = f"{{:,.{decimals}f}}".format
    return found


def _decimals(values: pd.Series[float], digits: int) -> int:
    """Decimals that show the lower quartile of the sizes with this many significant digits."""
    sizes = values[np.isfinite(values)].abs()
    # What is only rounding error is 0.
    sizes = sizes[sizes > 1e-12 * max(float(sizes.max()), 1e-300)] if len(sizes) else sizes
    if not len(sizes):
        return 0
    typical = float(sizes.quantile(0.25))
    return int(np.clip(digits - 1 - np.floor(np.log10(typical)), 0, 5))
