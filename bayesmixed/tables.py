"""How numbers stand in printed tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd


def formats(table: pd.DataFrame) -> dict[Any, Callable[[object], str]]:
    """As many decimals in a column as its middle value needs for three significant digits."""
    formats: dict[Any, Callable[[object], str]] = {}
    for name in table.columns[[pd.api.types.is_float_dtype(t) for t in table.dtypes]]:
        sizes = table[name].abs()
        middle = float(sizes[sizes > 0].median())
        decimals = int(np.clip(2 - np.floor(np.log10(middle)), 0, 5)) if middle > 0 else 0
        formats[name] = f"{{:,.{decimals}f}}".format
    return formats
