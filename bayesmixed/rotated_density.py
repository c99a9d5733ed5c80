"""Log-density of a normal outcome whose groups have a known covariance, and their effects' draws.

`build` states the same model with these effects as variables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from pymc.logprob.transforms import Transform
from pymc.model.transform.conditioning import change_value_transforms

from bayesmixed.build import build_model
from bayesmixed.defaults import AssignedPrior
from bayesmixed.design import Design
from bayesmixed.geometry import Centring
from bayesmixed.graph import log_density
from bayesmixed.logdensity import LogDensity
from bayesmixed.names import public_names, sd_name
from bayesmixed.preconditioner import preconditioner
from bayesmixed.rotation import Rotation, Sums

type Floats = NDArray[np.float64]
type Recover = Callable[[Floats, np.random.Generator], dict[str, Floats]]

# Numbers that are worked on at once.
_CHUNK = 20_000_000

_SUMS = "sums_in_directions"


def rotated_density(
    design: Design,
    priors: Mapping[str, AssignedPrior],
    centred: Centring,
    integrated: Sequence[str],
) -> LogDensity:
    """Compile the log-density of a model for which `rotation.rotated` names a grouping.

    Parameters
    ----------
    design : Design
    priors : mapping of str to AssignedPrior
    centred : Centring
        How far effects of other groupings are sampled centred.
    integrated : sequence of str
        That grouping, and the one that `rotation.twin` names if sums are to be sampled.
    """
    summed = len(integrated) > 1
    rotation = Sums.of(design) if summed else Rotation.of(design)
    model = build_model(design, priors, centred, integrated, marginal=True)
    with model:
        _outcome(rotation)
    free = {rv.name for rv in model.free_RVs}
    levels = {
        f"{stem}_{r.name}": _Level(len(r.groups.labels))
        for r in rotation.beside
        for stem in ("value", "z")
        if f"{stem}_{r.name}" in free and r.between is None and not r.is_correlated
    }
    model = change_value_transforms(model, levels) if levels else model
    without = [f"u_{name}" for name in integrated]
    kept = [n for n in public_names(design) if n not in without]
    if summed:
        kept.append(_SUMS)
    density = log_density(model, kept, preconditioner(design, priors))
    return replace(density, recover=_Effects(design, rotation, density.recover))


class _Level(Transform):  # type: ignore[misc]
    """A reflection that takes the groups' mean to the first coordinate, and is its own inverse.

    Relatives share much of their ancestors' effects, so that the data tell differences between
    other groups far better than their level: with a coordinate of its own it has its own scale.
    """

    name = "level"

    def __init__(self, groups: int) -> None:
        way = -np.full(groups, groups**-0.5)
        way[0] += 1
        self.way = pt.constant(way / np.linalg.norm(way))

    def backward(self, value: Any, *inputs: Any) -> Any:
        return value - 2 * self.way[:, None] * (self.way @ value)

    def forward(self, value: Any, *inputs: Any) -> Any:
        return self.backward(value)

    def log_jac_det(self, value: Any, *inputs: Any) -> Any:
        return pt.zeros_like(value)


def _outcome(rotation: Rotation) -> None:
    """The outcome's density, direction by direction."""
    model = pm.modelcontext(None)
    spread = model[sd_name("", rotation.random.name)][0] ** 2
    noise = model["sigma"] ** 2
    values = pm.Data("eigenvalues", rotation.values)
    off, rest = pm.Data("rotated_y", rotation.y), pm.Data("rest_y", rotation.rest_y)
    inside: Any = pm.Data("inside_y", rotation.inside_y) if isinstance(rotation, Sums) else None
    if "beta" in model.named_vars:
        beta = model["beta"]
        off = off - pm.Data("rotated_X", rotation.X) @ beta
        rest = rest - pm.Data("rest_X", rotation.rest_X) @ beta
        if isinstance(rotation, Sums):
            inside = inside - pm.Data("inside_X", rotation.inside_X) @ beta
    if rotation.beside:
        turned, sums, apart = _beside(rotation)
        off, rest = off - turned, rest - apart
        inside = None if inside is None else inside - sums
    if isinstance(rotation, Sums):
        free = model[sd_name("", rotation.twin.name)][0] ** 2
        total = _summed(rotation, spread * values + free, noise, off, inside)
    else:
        variance = noise + spread * values
        total = pt.log(variance).sum() + (off**2 / variance).sum()
    others = pm.Data("others", float(rotation.others))
    total = total + others * pt.log(noise) + (rest**2).sum() / noise
    count = pm.Data("rows", float(rotation.others + len(rotation.y)))
    pm.Potential("y", -0.5 * (total + count * np.log(2 * np.pi)))


def _summed(rotation: Sums, spread: Any, noise: Any, off: Any, inside: Any) -> Any:
    """Minus twice the density of the sums and of the groups' outcomes given them, but for 2 pi.

    In the directions in which K is diagonal the sums have the variances `spread`. If all groups
    had n rows, they would be independent and normal given all else, with the mean and variance that
    take a standard normal number to each here.
    """
    n = pm.Data("typical", rotation.typical)
    z = pm.Flat("z_sums", shape=len(rotation.y))
    share = noise / (noise + n * spread)
    standard = pt.sqrt(spread) / noise * share * off + pt.sqrt(share) * z
    x = pm.Deterministic(_SUMS, pt.sqrt(spread) * standard)
    sums = pm.Data("eigenvectors", rotation.vectors) @ x
    left = inside - pm.Data("rotated_scale", rotation.scale) * sums
    count = pm.Data("groups", float(len(rotation.y)))
    rows = count * pt.log(noise) + (left**2).sum() / noise
    return (standard**2).sum() - pt.log(share).sum() + rows


def _beside(rotation: Rotation) -> tuple[Any, Any, Any]:
    """Effects of other groupings: in the directions, group by group, and what rows have besides."""
    model, random = pm.modelcontext(None), rotation.random
    turned: Any = 0.0
    rows: Any = 0.0
    # What takes fewer multiplications: from their effects, or from their sums within groups.
    narrow = sum(Z.shape[1] for Z in rotation.Z) < len(rotation.y)
    for other, Z in zip(rotation.beside, rotation.Z, strict=True):
        u, name = model[f"u_{other.name}"], other.name
        if narrow:
            turned = turned + pm.Data(f"rotated_Z_{name}", rotation.way @ Z) @ u.ravel()
        own = pm.Data(f"rows_of_{name}", other.groups.index.astype("int32"))
        rows = rows + (u[own] * pm.Data(f"multipliers_of_{name}", other.Z)).sum(axis=-1)
    index = pm.Data("rotated_index", random.groups.index.astype("int32"))
    share = pm.Data("rotated_share", random.Z[:, 0] / rotation.scale[random.groups.index])
    sums = pt.inc_subtensor(pt.zeros_like(model["eigenvalues"])[index], share * rows)
    if not narrow:
        turned = pm.Data("rotated_way", rotation.way) @ sums
    return turned, sums, rows - share * sums[index]


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
        u = {turned.random.name: np.empty((len(x), len(turned.y), 1))}
        if isinstance(turned, Sums):
            u[turned.twin.name] = np.empty_like(u[turned.random.name])
        step = max(1, _CHUNK // len(turned.y))
        for first in range(0, len(x), step):
            some = slice(first, first + step)
            drawn = self._some({name: values[some] for name, values in found.items()}, rng)
            for into, values in zip(u.values(), drawn, strict=True):
                into[some, :, 0] = values
        found |= {f"u_{name}": values for name, values in u.items()}
        return {name: found[name] for name in public_names(self.design)}

    def _some(self, found: Mapping[str, Floats], rng: np.random.Generator) -> tuple[Floats, ...]:
        """Effects in some draws."""
        turned = self.rotation
        sd, sigma = found[sd_name("", turned.random.name)][:, 0], found["sigma"]
        if isinstance(turned, Sums):
            free = found[sd_name("", turned.twin.name)][:, 0]
            return turned.divide(found[_SUMS], sd, free, rng)
        off = turned.y - found["beta"] @ turned.X.T if "beta" in found else turned.y
        for other, Z in zip(turned.beside, turned.Z, strict=True):
            effects = found[f"u_{other.name}"].reshape(len(sd), -1)
            off = off - (Z @ effects.T).T @ turned.way.T
        off = np.broadcast_to(off, (len(sd), len(turned.y)))
        return (turned.draw(off, sd, sigma, rng),)
