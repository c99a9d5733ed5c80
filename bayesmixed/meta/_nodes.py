"""Distributions from weights on equally spaced nodes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import sici

type Floats = NDArray[np.float64]


def cdf(nodes: Floats, step: Floats | float, weights: Floats, at: float) -> float:
    """The integral of the function through the nodes (Stenger 1993, section 4.5).

    Parameters
    ----------
    nodes, weights : array
        Of one shape; several rows of nodes add up.
    step : float or array
        Distance of the nodes, which broadcasts.
    at : float
    """
    z = np.clip(np.pi * (at - nodes) / step, -1e8, 1e8)
    return float(np.clip(((0.5 + sici(z)[0] / np.pi) * weights).sum(), 0, 1))


def quantile(nodes: Floats, weights: Floats, p: float) -> float:
    """Where `cdf` is `p`, for one row of nodes."""
    step = nodes[1] - nodes[0]
    ends = float(nodes[0] - step), float(nodes[-1] + step)
    if cdf(nodes, step, weights, ends[0]) >= p:
        return ends[0]
    return float(brentq(lambda x: cdf(nodes, step, weights, x) - p, *ends, xtol=1e-10))
