"""A posterior of one to four numbers on equally spaced nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.special import sici

from bayesmixed._errors import PriorError

type Floats = NDArray[np.float64]
type Axes = Sequence[Floats]

# Nodes along each axis, by the number of axes: to look where the posterior is, and to add it up.
_COARSE = {1: 201, 2: 31, 3: 15, 4: 9}
_FINE = {1: 201, 2: 51, 3: 31, 4: 21}
# Below exp(-13) of the peak nothing matters, and an end at which more than exp(-7) is left is none.
_NEGLIGIBLE, _UNENDING = 13.0, 7.0
_ROUNDS = 14
_INVERSE = 400


@dataclass(frozen=True, eq=False)
class Lattice:
    """Weights of a posterior on the nodes of a box.

    Parameters
    ----------
    axes : sequence of array
        Equally spaced nodes along each axis.
    weights : array, shape of the axes
        Adding up to 1.
    log_evidence : float
        Logarithm of the density's integral.
    """

    axes: Axes
    weights: Floats
    log_evidence: float

    @cached_property
    def points(self) -> Floats:
        """All nodes, shape (nodes, axes)."""
        grid = np.stack(np.meshgrid(*self.axes, indexing="ij"), axis=-1)
        return np.asarray(grid.reshape(-1, len(self.axes)))

    def margin(self, axis: int) -> Floats:
        """Weights along one axis."""
        others = tuple(k for k in range(len(self.axes)) if k != axis)
        return np.asarray(self.weights.sum(axis=others))

    def sample(self, draws: int, rng: np.random.Generator) -> Floats:
        """Equally weighted draws with the margins of the posterior; shape (draws, axes).

        Nodes are drawn, stratified, and spread about evenly. That keeps how the numbers depend on
        each other; along each axis draws are then moved, in their order, to the quantiles of the
        smooth function through the weights.
        """
        uniform = (np.arange(draws) + rng.random(draws)) / draws
        total = np.cumsum(self.weights.ravel())
        at = np.minimum(np.searchsorted(total, uniform * total[-1]), total.size - 1)
        widths = np.array([axis[1] - axis[0] for axis in self.axes])
        spread = rng.uniform(-0.5, 0.5, (draws, len(widths))) * widths
        drawn = rng.permutation(self.points[at] + spread)
        for k in range(len(self.axes)):
            rank = np.empty(draws)
            rank[drawn[:, k].argsort()] = (np.arange(draws) + rng.random(draws)) / draws
            drawn[:, k] = self._inverse(k, rank)
        return np.asarray(drawn)

    def _inverse(self, axis: int, p: Floats) -> Floats:
        """Quantiles along an axis, to about 1e-6 in probability."""
        nodes, step = self.axes[axis], self.axes[axis][1] - self.axes[axis][0]
        x = np.linspace(nodes[0] - step / 2, nodes[-1] + step / 2, _INVERSE)
        share = 0.5 + sici(np.pi * (x[:, None] - nodes) / step)[0] / np.pi
        found = np.maximum.accumulate(np.clip(share @ self.margin(axis), 0, 1))
        rising = np.flatnonzero(np.diff(found) > 1e-12)
        kept = np.append(rising, rising[-1] + 1)
        back = PchipInterpolator(found[kept], x[kept])
        return np.asarray(back(np.clip(p, found[kept[0]], found[kept[-1]])))


def lattice(log_density: Callable[[Axes], Floats], ends: Floats, what: str) -> Lattice:
    """Find the box that carries a posterior with one mode, and evaluate it there.

    Few nodes in a box that narrows about those that matter find it.

    Parameters
    ----------
    log_density : callable
        Of axes, on all their nodes; shape of the axes.
    ends : array, shape (axes, 2)
        Where to look; at an end that is not negligible the posterior is taken to have none.
    what : str
        What the numbers are, for the error.

    Raises
    ------
    PriorError
        If the posterior goes on beyond `ends`.
    """
    count, box = len(ends), np.array(ends, dtype=float)
    for _ in range(_ROUNDS):
        axes = [np.linspace(low, high, _COARSE[count]) for low, high in box]
        narrower = _kept(axes, _clean(log_density(axes)))
        shares = np.ptp(narrower, axis=1) / np.ptp(box, axis=1)
        box = narrower
        if shares.min() > 0.8:
            break
    axes = [np.linspace(low, high, _FINE[count]) for low, high in box]
    values = _clean(log_density(axes))
    shares = np.exp(values - values.max())
    volume = float(np.prod([axis[1] - axis[0] for axis in axes]))
    evidence = float(values.max() + np.log(shares.sum() * volume))
    found = Lattice(axes, shares / shares.sum(), evidence)
    _refuse_unending(found, ends, what)
    return found


def _kept(axes: Axes, values: Floats) -> Floats:
    """Ends along each axis of the nodes that matter, a node further, shape (axes, 2)."""
    found = []
    for k, axis in enumerate(axes):
        most = values.max(axis=tuple(j for j in range(len(axes)) if j != k))
        at = np.flatnonzero(most > most.max() - _NEGLIGIBLE)
        found.append((axis[max(at[0] - 1, 0)], axis[min(at[-1] + 1, len(axis) - 1)]))
    return np.array(found)


def _clean(values: Floats) -> Floats:
    return np.where(np.isnan(values), -np.inf, values)


def _refuse_unending(found: Lattice, ends: Floats, what: str) -> None:
    for k, axis in enumerate(found.axes):
        share = found.margin(k)
        least = np.exp(-_UNENDING) * share.max()
        if any(axis[i] == ends[k, i] and share[i] > least for i in (0, -1)):
            raise PriorError(
                f"With these priors the posterior of {what} does not end: the studies do not bound "
                'it. Use narrower priors, or method="nuts" to see where it goes.'
            )
