"""Shortest intervals: of a distribution with one mode, those of highest density."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar


def shortest(quantile: Callable[[float], float], prob: float) -> NDArray[np.float64]:
    """Ends of the shortest interval that has a probability, shape (2,).

    Parameters
    ----------
    quantile : callable
        From a probability.
    prob : float
        Between 0 and 1.
    """

    def length(below: float) -> float:
        return quantile(below + prob) - quantile(below)

    least = 1e-9
    found = minimize_scalar(
        length, bounds=(least, 1 - prob - least), method="bounded", options={"xatol": 1e-7}
    )
    # A density that falls everywhere has its shortest interval at the end.
    below = min((least, float(found.x), 1 - prob - least), key=length)
    return np.array([quantile(below), quantile(below + prob)])
