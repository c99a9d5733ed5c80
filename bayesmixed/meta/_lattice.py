"""A posterior of two or three numbers on equally spaced nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from bayesmixed._errors import PriorError

type Floats = NDArray[np.float64]

# Nodes along each axis, by the number of axes: to look where the posterior is, and to add it up.
_COARSE = {1: 200, 2: 30, 3: 15}
_FINE = {1: 201, 2: 61, 3: 35}
# exp(-16) of the peak is left out, and ends at which more than exp(-7) is left have no end.
_NEGLIGIBLE, _UNENDING = 16.0, 7.0


@dataclass(frozen=True, eq=False)
class Lattice:
    """Weights of a posterior on the nodes of a box.

    Parameters
    ----------
    axes : sequence of array
        Equally spaced nodes along each axis.
    weights : array, shape of the axes
        Adding up to 1.
    """

    axes: Sequence[Floats]
    weights: Floats

    @property
    def points(self) -> Floats:
        """All nodes, shape (nodes, axes)."""
        return _points(self.axes)

    def margin(self, axis: int) -> Floats:
        """Weights along one axis."""
        others = tuple(k for k in range(len(self.axes)) if k != axis)
        return np.asarray(self.weights.sum(axis=others))

    def sample(self, draws: int, rng: np.random.Generator) -> Floats:
        """Stratified draws, spread evenly about their nodes; shape (draws, axes)."""
        uniform = (np.arange(draws) + rng.random(draws)) / draws
        total = np.cumsum(self.weights.ravel())
        at = np.minimum(np.searchsorted(total, uniform * total[-1]), total.size - 1)
        widths = np.array([axis[1] - axis[0] for axis in self.axes])
        spread = rng.uniform(-0.5, 0.5, (draws, len(widths))) * widths
        return np.asarray(rng.permutation(self.points[at] + spread))


def lattice(log_density: Callable[[Floats], Floats], ends: Floats, what: str) -> Lattice:
    """Find the box that carries a posterior with one mode, and evaluate it there.

    Parameters
    ----------
    log_density : callable
        Of points, shape (nodes, axes).
    ends : array, shape (axes, 2)
        Where to look; at an end that is not negligible the posterior is taken to have none.
    what : str
        What the numbers are, for the error.

    Raises
    ------
    PriorError
        If the posterior goes on beyond `ends`.
    """
    count = len(ends)
    axes = [np.linspace(low, high, _COARSE[count]) for low, high in ends]
    values = _evaluate(log_density, axes)
    best, peak = _points(axes)[values.argmax()], float(values.max())
    widths = np.array([axis[1] - axis[0] for axis in axes])
    for _ in range(3):
        best, peak = _climb(log_density, best, widths, peak)
        widths = widths / 10
    box = np.array(
        [[_reach(log_density, best, peak, k, end, ends) for end in ends[k]] for k in range(count)]
    )
    axes = [np.linspace(low, high, _FINE[count]) for low, high in box]
    values = _evaluate(log_density, axes)
    shares = np.exp(values - values.max())
    found = Lattice(axes, shares / shares.sum())
    _refuse_unending(found, ends, what)
    return found


def _reach(
    log_density: Callable[[Floats], Floats],
    best: Floats,
    peak: float,
    axis: int,
    end: float,
    ends: Floats,
) -> float:
    """How far towards an end the posterior goes along one axis, the others at their best."""
    others = [k for k in range(len(best)) if k != axis]
    widths = 1e-3 * np.ptp(ends, axis=1)[others]

    def profile(at: float, start: Floats) -> tuple[Floats, float]:
        def inner(points: Floats) -> Floats:
            every = np.insert(points, axis, at, axis=1)
            return log_density(every)

        value = float(inner(start[None])[0])
        return _climb(inner, start, widths, value) if others else (start, value)

    inside, start, step = best[axis], best[others], 1e-4 * abs(end - best[axis])
    while True:
        at = inside + np.sign(end - inside) * step
        if (at - end) * np.sign(end - best[axis]) >= 0:
            at = end
        found, value = profile(at, start)
        if peak - value > 1.5 * _NEGLIGIBLE and step > 1e-7 * abs(end - best[axis]):
            step /= 3
        elif at == end or peak - value > _NEGLIGIBLE:
            return float(at)
        else:
            inside, start, step = at, found, 1.6 * step


def _points(axes: Sequence[Floats]) -> Floats:
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return np.asarray(grid.reshape(-1, len(axes)))


def _evaluate(log_density: Callable[[Floats], Floats], axes: Sequence[Floats]) -> Floats:
    values = log_density(_points(axes)).reshape([len(axis) for axis in axes])
    return np.where(np.isnan(values), -np.inf, values)


def _climb(
    log_density: Callable[[Floats], Floats], start: Floats, widths: Floats, value: float
) -> tuple[Floats, float]:
    """The mode near the best node, which may be much narrower than the distance of nodes."""
    simplex = start + np.vstack([np.zeros(len(start)), np.diag(0.5 * widths)])
    options: Any = {"initial_simplex": simplex, "xatol": 1e-4, "fatol": 1e-4, "maxiter": 400}

    def negative(x: Floats) -> float:
        return -float(log_density(x[None])[0])

    found = minimize(negative, start, method="Nelder-Mead", options=options)
    better = np.isfinite(found.fun) and -found.fun > value
    return (found.x, -float(found.fun)) if better else (start, value)


def _refuse_unending(found: Lattice, ends: Floats, what: str) -> None:
    for k, axis in enumerate(found.axes):
        share = found.margin(k)
        least = np.exp(-_UNENDING) * share.max()
        if any(axis[i] == ends[k, i] and share[i] > least for i in (0, -1)):
            raise PriorError(
                f"With these priors the posterior of {what} does not end: the studies do not bound "
                'it. Use narrower priors, or method="nuts" to see where it goes.'
            )
