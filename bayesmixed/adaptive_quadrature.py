"""Averages of exp(f) over a few standard normal variables, with nodes about f's own mode.

A likelihood of many rows is narrow as a function of its group's effects, and fixed nodes would miss
it; placed about its mode, and spread as its curvature says, few suffice.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

from bayesmixed.quadrature import nodes

type Floats = NDArray[np.float64]

# Nodes spread out faster than evenly, to reach tails that are wider than the curvature says.
_BEND = 0.3
_DIFFERENCE = 0.05
_MOST_STEPS = 30


def log_average(
    function: Callable[[Floats], Floats], start: Floats, step: float
) -> tuple[Floats, Floats]:
    r"""Log of the average of exp(f) over standard normal variables, and the integrand's modes.

    Parameters
    ----------
    function : callable
        From z, shape (draws, groups, size), to f, shape (draws, groups).
    start : array, shape (draws, groups, size)
        Where to look for the modes first.
    step : float
        Distance of the nodes, one of `quadrature.STEPS`, in units of the integrand's own spread.

    References
    ----------
    Pinheiro & Bates (1995), J. Comput. Graph. Stat. 4:12, section 2.4, with the equally spaced rule
    of `quadrature` in place of Gauss and Hermite's.
    """

    def integrand(z: Floats) -> Floats:
        return np.asarray(function(z) - 0.5 * (z**2).sum(axis=-1))

    mode, root = _peak(integrand, start)
    size = start.shape[-1]
    t, _ = nodes(step)
    x, log_weight = np.sinh(_BEND * t) / _BEND, np.log(step * np.cosh(_BEND * t))
    total = np.full(start.shape[:2], -np.inf)
    for at in product(range(len(t)), repeat=size):
        pick = list(at)
        if (t[pick] ** 2).sum() <= t[-1] ** 2:
            value = integrand(mode + root @ x[pick]) + log_weight[pick].sum()
            total = np.logaddexp(total, value)
    volume = np.linalg.slogdet(root)[1] - 0.5 * size * np.log(2 * np.pi)
    return total + volume, mode


def _peak(integrand: Callable[[Floats], Floats], start: Floats) -> tuple[Floats, Floats]:
    """Modes of log-integrands by Newton's method, and a root of the inverse curvature there.

    They only place the nodes, so differences serve as derivatives and a tenth of a standard
    deviation is near enough.
    """
    z, value = start, integrand(start)
    for _ in range(_MOST_STEPS):
        gradient, curvature = _derivatives(integrand, z, value)
        values, vectors = np.linalg.eigh(curvature)
        # The normal density alone gives 1; less is noise, or a hollow between two modes.
        root = vectors / np.sqrt(np.maximum(values, 0.5))[..., None, :]
        move = (root @ (root.mT @ gradient[..., None]))[..., 0]
        if (gradient * move).sum(axis=-1).max() < 0.01:
            break
        length = np.linalg.norm(move, axis=-1, keepdims=True)
        move = move * np.minimum(1.0, 3 / np.maximum(length, 1e-300))
        for _ in range(6):
            trial = integrand(z + move)
            worse = ~(trial >= value)
            if not worse.any():
                break
            move = np.where(worse[..., None], 0.3 * move, move)
        z = np.where(worse[..., None], z, z + move)
        value = np.where(worse, value, trial)
    return z, root


def _derivatives(
    function: Callable[[Floats], Floats], z: Floats, value: Floats
) -> tuple[Floats, Floats]:
    """Gradient and minus the Hessian by differences, shapes (..., size) and (..., size, size)."""
    size, h = z.shape[-1], _DIFFERENCE
    shift = h * np.eye(size)
    up = [function(z + shift[i]) for i in range(size)]
    down = [function(z - shift[i]) for i in range(size)]
    gradient = np.stack([(u - d) / (2 * h) for u, d in zip(up, down, strict=True)], axis=-1)
    curvature = np.zeros((*z.shape, size))
    for i in range(size):
        curvature[..., i, i] = (2 * value - up[i] - down[i]) / h**2
        for j in range(i):
            both = function(z + shift[i] + shift[j])
            mixed = (up[i] + up[j] - both - value) / h**2
            curvature[..., i, j] = curvature[..., j, i] = mixed
    return gradient, curvature
