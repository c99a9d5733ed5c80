"""Log-density of a model with correlated residuals, effects integrated out, and their draws.

`build` states the same model with these effects as variables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayesmixed.build import build_model
from bayesmixed.correlated import Rows, draw_effects
from bayesmixed.correlated_outcome import ARGUMENTS, arrays
from bayesmixed.defaults import AssignedPrior
from bayesmixed.design import Design
from bayesmixed.elimination import Tree
from bayesmixed.geometry import Centring
from bayesmixed.graph import log_density
from bayesmixed.logdensity import LogDensity
from bayesmixed.names import public_names
from bayesmixed.preconditioner import preconditioner
from bayesmixed.predictor import RandomDesign

type Floats = NDArray[np.float64]
type Recover = Callable[[Floats, np.random.Generator], dict[str, Floats]]

# Numbers that are worked on at once.
_CHUNK = 20_000_000


def correlated_density(
    design: Design,
    priors: Mapping[str, AssignedPrior],
    centred: Centring,
    integrated: Sequence[str],
) -> LogDensity:
    """Compile the log-density of a model with correlated residuals.

    Parameters
    ----------
    design : Design
    priors : mapping of str to AssignedPrior
    centred : Centring
        How far sampled effects are centred.
    integrated : sequence of str
        Groupings whose effects are integrated out, from the inside out.
    """
    model = build_model(design, priors, centred, integrated, marginal=True)
    effects = [f"u_{name}" for name in integrated]
    kept = [name for name in public_names(design) if name not in effects]
    density = log_density(model, [*kept, *ARGUMENTS], preconditioner(design, priors))
    predictor = design.predictors[design.family.parameters[0].name]
    randoms = {r.name: r for r in predictor.random}
    levels = tuple(randoms[name] for name in integrated)
    return replace(density, recover=_Effects(design, levels, density.recover))


@dataclass(frozen=True)
class _Effects:
    """The way from draws to variables, the effects drawn given all else.

    Parameters
    ----------
    design : Design
    levels : tuple of RandomDesign
        Whose effects were integrated out, from the inside out.
    given : callable
        From draws to all other variables, and to what the density of the outcome takes.
    """

    design: Design
    levels: tuple[RandomDesign, ...]
    given: Recover

    def __call__(self, x: Floats, rng: np.random.Generator) -> dict[str, Floats]:
        """Variables of the posterior from draws of shape (draws, size)."""
        size = sum(array.size for array in self.given(x[:1], rng).values())
        step = max(1, _CHUNK // size)
        parts = [self._some(x[i : i + step], rng) for i in range(0, len(x), step)]
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {name: found[name] for name in public_names(self.design)}

    def _some(self, x: Floats, rng: np.random.Generator) -> dict[str, Floats]:
        found = self.given(x, rng)
        mu, log_sd, P, T = (found.pop(name) for name in ARGUMENTS)
        known = arrays(self.design, self.levels)
        Z = known.pop("Z")
        names = iter(known.values())
        rows, tree = Rows(*(next(names) for _ in Rows._fields)), Tree(*names)
        counts = [len(r.groups.labels) * r.size for r in self.levels]
        z = rng.standard_normal((len(x), sum(counts)))
        draw_effects()(self.design.y, mu, log_sd, P, Z, T, rows, tree, z)
        first = 0
        for random, part in zip(self.levels, np.split(z, np.cumsum(counts)[:-1], 1), strict=True):
            own = slice(first, first + random.size)
            first += random.size
            standard = part.reshape((len(x), -1, random.size))
            found[f"u_{random.name}"] = np.einsum("dgj,dkj->dgk", standard, T[:, own, own])
        return found
