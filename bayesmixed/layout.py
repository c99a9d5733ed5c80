"""Which number of an unconstrained point is what."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bayesmixed.defaults import AssignedPrior
from bayesmixed.design import Design
from bayesmixed.names import suffix
from bayesmixed.predictor import RandomDesign
from bayesmixed.univariate import Encoded, encode

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
    centred : bool
        Whether values about a mean are sampled, rather than standardised effects.
    """

    random: RandomDesign
    tail: str
    at: int
    covariance: int
    centred: bool


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
    """

    encoded: dict[str, Encoded] = field(default_factory=dict)
    blocks: dict[str, list[tuple[tuple[int, ...], int]]] = field(default_factory=dict)
    etas: dict[str, float] = field(default_factory=dict)
    effects: dict[str, Effects] = field(default_factory=dict)
    size: int = 0

    @property
    def positions(self) -> dict[str, int]:
        """Place of each parameter."""
        return {name: i for i, name in enumerate(self.encoded)}

    @property
    def start(self) -> Floats:
        """A central starting point."""
        begin = np.zeros(self.size)
        begin[: len(self.encoded)] = [e.start for e in self.encoded.values()]
        return begin


def lay_out(
    design: Design, priors: Priors, centred: Collection[str], integrated: Collection[str]
) -> Layout | None:
    """Give every unconstrained number its place; None where a prior has no closed form."""
    layout = Layout()
    for name, assigned in priors.items():
        if assigned.prior.support == "correlation":
            continue
        found = encode(assigned.prior)
        if found is None:
            return None
        layout.encoded[name] = found
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
    for i, (tail, random) in enumerate(randoms):
        name = random.name
        out = not tail and name in integrated
        at = -1 if out else layout.size
        layout.size += 0 if out else len(random.groups.labels) * random.size
        is_centred = not tail and name in centred
        layout.effects[f"{tail}_{name}"] = Effects(random, tail, at, i, is_centred)
    return layout
