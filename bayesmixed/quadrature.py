r"""Averages over a normal variable.

The integrals that turn a subject-specific mean into a population-averaged one are smooth on the
whole line, and for such the equally spaced rule converges geometrically; beyond a spread of about 1
it takes half the nodes of Gauss and Hermite's, whose convergence the poles of the logistic function
slow down (Trefethen & Weideman 2014, SIAM Review 56:385, section 5).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float64]

# Steps from coarse to fine, in standard deviations of the normal variable. With a pole at distance
# d the error is of the order of exp(-2 pi d / step); the normal density's is exp(-2 pi^2 / step^2).
STEPS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.175, 0.125, 0.0875, 0.0625, 0.044)


@cache
def nodes(step: float) -> tuple[Floats, Floats]:
    """Nodes and weights of the rule with this step; the weights add up to 1.

    Parameters
    ----------
    step : float
        Distance of the nodes in standard deviations.
    """
    # Finer rules serve wider spreads, whose means of exponentials lie further out.
    half = int(np.ceil((6.5 + 2 * (1 - step)) / step))
    z = step * np.arange(-half, half + 1, dtype=np.float64)
    weights: Floats = np.exp(-0.5 * z**2)
    return z, weights / weights.sum()


def normal_average(
    function: Callable[[Floats], Any], centre: Floats, sd: Floats, step: float
) -> Floats:
    r"""Expectation of a function of a normal variable.

    Parameters
    ----------
    function : callable
        Elementwise.
    centre, sd : array
        Mean and standard deviation of the variable, of shapes that broadcast.
    step : float
        One of `STEPS`.

    Returns
    -------
    array
        :math:`\int f(c + s z)\,\varphi(z)\,dz` of the common shape.
    """
    total: Any = 0.0
    for node, weight in zip(*nodes(step), strict=True):
        total = total + weight * function(centre + node * sd)
    return np.asarray(total)


def fine_enough(average: Callable[[float], Floats], tolerance: float = 1e-9) -> float:
    """The coarsest step that a finer one does not improve on.

    Parameters
    ----------
    average : callable
        From a step to averages.
    tolerance : float
        Largest change, in units of the largest average.
    """
    coarse = average(STEPS[0])
    for step, finer in pairwise(STEPS):
        fine = average(finer)
        largest = float(np.abs(fine).max(initial=0.0))
        if not np.abs(fine - coarse).max(initial=0.0) > tolerance * largest:
            return step
        coarse = fine
    return STEPS[-1]
