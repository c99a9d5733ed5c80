"""Groups in the order of their estimates, as a drawing whose marks say their values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from bayesmixed.page._bars import written

# Places along the drawing in percent of its width, heights in pixels.
HEIGHT, TOP, BOTTOM, LEFT, RIGHT = 320.0, 14.0, 10.0, 9.0, 0.5


@dataclass(frozen=True)
class Mark:
    """One group: places in the drawing, and what to say of it."""

    x: float
    low: float
    high: float
    mean: float
    raw: float | None
    text: str


@dataclass(frozen=True)
class Units:
    """All groups.

    Parameters
    ----------
    marks : tuple of Mark
    ticks : tuple of (float, str)
        Heights with their labels.
    """

    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, str], ...]

    @classmethod
    def of(cls, table: pd.DataFrame) -> Units | None:
        """From a table of `shrinkage`; None where it has other columns."""
        needed = ["shrunken", "eti95_lb", "eti95_ub"]
        if not set(needed) <= set(table.columns) or table[needed].isna().to_numpy().any():
            return None
        table = table.sort_values("shrunken")
        least, most = float(table["eti95_lb"].min()), float(table["eti95_ub"].max())
        if not most > least:
            return None
        scale = (HEIGHT - BOTTOM - TOP) / (most - least)

        def height(value: float) -> float:
            inside = min(max(value, least), most)
            return round(HEIGHT - BOTTOM - (inside - least) * scale, 1)

        step = (100 - LEFT - RIGHT) / len(table)
        marks = []
        for i, (label, row) in enumerate(table.iterrows()):
            raw = row.get("raw", np.nan)
            known = isinstance(raw, float) and np.isfinite(raw)
            words = f"{label}: {written(row['shrunken'], row['eti95_lb'], row['eti95_ub'])}"
            words += f", raw {raw:.3g}" if known else ""
            words += f", n = {row['n']:,.0f}" if "n" in table.columns else ""
            marks.append(
                Mark(
                    round(LEFT + (i + 0.5) * step, 2),
                    height(row["eti95_lb"]),
                    height(row["eti95_ub"]),
                    height(row["shrunken"]),
                    height(raw) if known else None,
                    words,
                )
            )
        round_values = MaxNLocator(5).tick_values(least, most)
        ticks = tuple((height(v), f"{v:.6g}") for v in round_values if least <= v <= most)
        return cls(tuple(marks), ticks)
