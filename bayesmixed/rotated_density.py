"""Log-density of a normal outcome whose groups have a known covariance, and their effects' draws.

`build` states the same model with these effects as variables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray

from bayesmixed.build import build_model
from bayesmixed.defaults import AssignedPrior
from bayesmixed.design import Design
from bayesmixed.graph import log_density
from bayesmixed.logdensity import LogDensity
from bayesmixed.names import public_names, sd_name
from bayesmixed.preconditioner import preconditioner
from bayesmixed.rotation import Rotation

type Floats = NDArray[np.float64]
type Recover = Callable[[Floats, np.random.Generator], dict[str, Floats]]

# Numbers that are worked on at once.
_CHUNK = 20_000_000


def rotated_density(design: Design, priors: Mapping[str, AssignedPrior]) -> LogDensity:
    """Compile the log-density of a model for which `rotation.rotated` names a grouping."""
    rotation = Rotation.of(design)
    name = rotation.random.name
    model = build_model(design, priors, MappingProxyType({}), (name,), marginal=True)
    with model:
        _outcome(rotation)
    kept = [n for n in public_names(design) if n != f"u_{name}"]
    density = log_density(model, kept, preconditioner(design, priors))
    return replace(density, recover=_Effects(design, rotation, density.recover))


def _outcome(rotation: Rotation) -> None:
    """The outcome's density, direction by direction."""
    model = pm.modelcontext(None)
    spread = model[sd_name("", rotation.random.name)][0] ** 2
    noise = model["sigma"] ** 2
    off, rest = pm.Data("rotated_y", rotation.y), pm.Data("rest_y", rotation.rest_y)
    if "beta" in model.named_vars:
        off = off - pm.Data("rotated_X", rotation.X) @ model["beta"]
        rest = rest - pm.Data("rest_X", rotation.rest_X) @ model["beta"]
    variance = noise + spread * pm.Data("eigenvalues", rotation.values)
    others = pm.Data("others", float(rotation.others))
    total = pt.log(variance).sum() + (off**2 / variance).sum()
    total = total + others * pt.log(noise) + (rest**2).sum() / noise
    count = pm.Data("rows", float(rotation.others + len(rotation.y)))
    pm.Potential("y", -0.5 * (total + count * np.log(2 * np.pi)))


@dataclass(frozen=True)
class _Effects:
    """The way from draws to variables, the effects drawn given all else.

    Parameters
    ----------
    design : Design
    rotation : Rotation
    given : callable
        From draws to all other variables.
    """

    design: Design
    rotation: Rotation
    given: Recover

    def __call__(self, x: Floats, rng: np.random.Generator) -> dict[str, Floats]:
        """Variables of the posterior from draws of shape (draws, size)."""
        found, turned = self.given(x, rng), self.rotation
        beta = found.get("beta", np.zeros((len(x), 0)))
        sd, sigma = found[sd_name("", turned.random.name)][:, 0], found["sigma"]
        u = np.empty((len(x), len(turned.y), 1))
        step = max(1, _CHUNK // len(turned.y))
        for first in range(0, len(x), step):
            some = slice(first, first + step)
            off = turned.y - beta[some] @ turned.X.T
            u[some, :, 0] = turned.draw(off, sd[some], sigma[some], rng)
        found[f"u_{turned.random.name}"] = u
        return {name: found[name] for name in public_names(self.design)}
