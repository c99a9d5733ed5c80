"""Waves of a season for formulas."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np
from formulaic.materializers.types import FactorValues
from formulaic.transforms import stateful_transform

from bayesmixed._errors import DataError


@stateful_transform  # type: ignore[untyped-decorator]
def harmonic(x: Any, period: float | None = None, order: int = 1) -> Any:
    r"""Waves of a season: :math:`\sin(2\pi k x/P)` and :math:`\cos(2\pi k x/P)`, k = 1 to order.

    Parameters
    ----------
    x : array
        Time, in any unit.
    period : float
        Length P of the season in that unit, above 0.
    order : int
        Number of waves; the fastest repeats `order` times a season.

    Raises
    ------
    DataError
        If the period is not above 0, or the order not a whole number from 1.
    """
    is_number = isinstance(period, int | float) and not isinstance(period, bool)
    if period is None or not is_number or not isfinite(period) or period <= 0:
        raise DataError(
            f"harmonic(period={period!r}): a number above 0 is needed, the length of the season in "
            "units of the time, such as harmonic(week, period=52, order=2)."
        )
    if not isinstance(order, int) or isinstance(order, bool) or order < 1:
        raise DataError(f"harmonic(order={order!r}): a whole number from 1 is needed.")
    # Times far from 0 lose digits in large angles; the remainder is exact.
    angle = 2 * np.pi * (np.asarray(x, dtype=np.float64) % period) / period
    waves = [wave(k * angle) for k in range(1, order + 1) for wave in (np.sin, np.cos)]
    names = [f"{wave}{k}" for k in range(1, order + 1) for wave in ("sin", "cos")]
    return FactorValues(np.column_stack(waves), column_names=tuple(names))
