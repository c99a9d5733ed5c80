"""How numbers stand in printed tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd


def formats(table: pd.DataFrame) -> dict[Any, Callable[[object], str]]:
    """As many decimals in a column as its lower quartile needs for three significant digits."""
    formats: dict[Any, Callable[[object], str]] = {}
    for name in table.columns[[pd.api.types.is_float_dtype(t) for t in table.dtypes]]:
        sizes = table[name].abs()
        typical = float(sizes[sizes > 0].quantile(0.25))
        decimals = int(np.clip(2 - np.floor(np.log10(typical)), 0, 5)) if typical > 0 else 0
        formats[name] = f"{{:,.{decimals}f}}".format
    return formats
