"""Which number of an unconstrained point is what."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bayesmixed.correlation_tables import elements, matrices
from bayesmixed.defaults import AssignedPrior
from bayesmixed.design import Design
from bayesmixed.encoded import Encoded, encode
from bayesmixed.geometry import Centring
from bayesmixed.names import effect_names, suffix
from bayesmixed.predictor import INTERCEPT, RandomDesign
from bayesmixed.priors import Prior

type Floats = NDArray[np.float64]
type Priors = Mapping[str, AssignedPrior]


@dataclass(frozen=True)
class Effects:
    """Where a grouping's effects are.

    Parameters
    ----------
    random : RandomDesign
    tail : str
        Ending of its variables' names.
    at : int
        Place in the point; -1 where the effects are integrated out.
    covariance : int
        Its covariance.
    weights : tuple of float
        How far each effect is sampled centred: from 0, standardised, to 1, as a value about a mean.
    units : tuple of float
        The units of sampled values that are centred.
    """

    random: RandomDesign
    tail: str
    at: int
    covariance: int
    weights: tuple[float, ...]
    units: tuple[float, ...]

    @property
    def carries(self) -> bool:
        """Whether the values carry means (see `geometry.carry`)."""
        return any(self.weights)


@dataclass
class Layout:
    """Which number of the unconstrained point is what.

    Parameters
    ----------
    encoded : dict of str to Encoded
        The parameters by the names of their priors, in the order of the point.
    blocks : dict of str to list of (tuple of int, int)
        By grouping's ``tail_name``: correlated effects and where their numbers begin.
    etas : dict of str to float
        By the same names: parameter of the correlations' prior.
    effects : dict of str to Effects
        By the same names.
    size : int
        Length of the point.
    origin, unit : array, shape (size,)
        Sampling is in these units from this origin, so that the data's own units do not matter.
    directions : dict of int to array, shape (length, length)
        By where a block of the point begins, the matrix that takes what is sampled to it, instead
        of the units.
    """

    encoded: dict[str, Encoded] = field(default_factory=dict)
    blocks: dict[str, list[tuple[tuple[int, ...], int]]] = field(default_factory=dict)
    etas: dict[str, float] = field(default_factory=dict)
    effects: dict[str, Effects] = field(default_factory=dict)
    size: int = 0
    origin: Floats = field(default_factory=lambda: np.zeros(0))
    unit: Floats = field(default_factory=lambda: np.zeros(0))
    directions: dict[int, Floats] = field(default_factory=dict)

    def points(self, z: Floats) -> Floats:
        """Unconstrained points of what is sampled, shape (draws, size) both."""
        x: Floats = self.origin + self.unit * z
        for first, matrix in self.directions.items():
            own = slice(first, first + len(matrix))
            x[:, own] = self.origin[own] + z[:, own] @ matrix.T
        return x

    @property
    def positions(self) -> dict[str, int]:
        """Place of each parameter."""
        return {name: i for i, name in enumerate(self.encoded)}


def lay_out(
    design: Design, priors: Priors, centred: Centring, integrated: Collection[str]
) -> Layout:
    """Give every unconstrained number its place."""
    layout = Layout()
    for name, assigned in priors.items():
        if assigned.prior.support != "correlation":
            layout.encoded[name] = encode(assigned.prior)
    for name, size in matrices(design.series).items() if design.series is not None else ():
        for element in elements(name, size):
            layout.encoded[element] = encode(Prior("Flat"))
    layout.size = len(layout.encoded)
    randoms = [
        (suffix(design, parameter), random)
        for parameter, predictor in design.predictors.items()
        for random in predictor.random
    ]
    for tail, random in randoms:
        several = [block for block in random.blocks if len(block) > 1]
        places = []
        for block in several:
            places.append((block, layout.size))
            layout.size += len(block) * (len(block) - 1) // 2
        key = f"{tail}_{random.name}"
        layout.blocks[key] = places
        if several:
            layout.etas[key] = dict(priors[f"cor{key}"].prior.parameters)["eta"]
    # Outer groupings first: their values are part of the means of inner ones.
    outer_first = sorted(randoms, key=lambda each: len(each[1].groups.labels))
    for i, (tail, random) in enumerate(outer_first):
        name = random.name
        out = not tail and name in integrated
        at = -1 if out else layout.size
        layout.size += 0 if out else len(random.groups.labels) * random.size
        weights = (0.0,) * random.size if tail else centred.get(name, (0.0,) * random.size)
        units = tuple(priors[n].unit for n in effect_names(tail, random))
        layout.effects[f"{tail}_{name}"] = Effects(random, tail, at, i, tuple(weights), units)
    _measure(layout, priors)
    return layout


def _measure(layout: Layout, priors: Priors) -> None:
    """Choose the origin and the units of the point."""
    layout.origin, layout.unit = np.zeros(layout.size), np.ones(layout.size)
    for i, (name, encoded) in enumerate(layout.encoded.items()):
        layout.origin[i] = encoded.start
        if encoded.spread is not None and name in priors:
            layout.unit[i] = min(encoded.spread, priors[name].unit)
    for e in layout.effects.values():
        if e.at < 0 or not e.carries:
            continue
        level = layout.encoded.get(f"Intercept{e.tail}")
        if INTERCEPT in e.random.effects and level is not None:
            k = e.random.effects.index(INTERCEPT)
            end = e.at + len(e.random.groups.labels) * e.random.size
            layout.origin[e.at + k : end : e.random.size] = e.weights[k] * level.start / e.units[k]
