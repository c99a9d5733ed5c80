r"""What more rows say of parameters and of the effects of groups that are not in the fit.

With :math:`\theta` the parameters and effects in the fit, :math:`u` the effects of new groups, made
of standard normal numbers :math:`z`, and :math:`y` the new rows' outcomes,

.. math:: p(\theta, z \mid D, y) \propto p(\theta \mid D)\, p(y \mid \theta, z)\, N(z; 0, I).

In every draw of :math:`\theta` a few values of z are proposed (see `proposals`). Importance weights
make the draws exact, and carry what the rows say of :math:`\theta`.

References
----------
Vehtari, Simpson, Gelman, Yao & Gabry (2024), J. Mach. Learn. Res. 25(72), for the smoothed weights
and their diagnostic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.newcomers import Newcomers, runs
from bayesmixed.proposals import PROPOSALS, Target, width

type Floats = NDArray[np.float64]
type Index = NDArray[np.intp]


@dataclass(frozen=True)
class Left:
    """What outcomes leave unknown of the effects of new times of a process.

    Parameters
    ----------
    off : array, shape (samples, group, effect)
        A draw of them, less what is expected.
    variance : array, shape (samples, group, effect)
    """

    off: Floats
    variance: Floats


@dataclass(frozen=True)
class Updated:
    """As many equally weighted draws as the fit has, given more rows.

    Parameters
    ----------
    draw : array of int, shape (samples,)
        Which of the fit's draws each is, chains one after the other; in rising order.
    effects : tuple of array, each (samples, group, effect)
        Effects of the new groups, in the order of `Newcomers`; what is expected of a process at
        times without outcomes.
    left : tuple of Left or None
        What is not known of these, for each of the `Newcomers`.
    effective : float
        Effective number of the fit's draws under the weights.
    khat : float
        Pareto shape of the largest weights: beyond 0.7 the fit's draws are too far from what the
        rows say.
    """

    draw: Index
    effects: tuple[Floats, ...]
    left: tuple[Left | None, ...]
    effective: float
    khat: float


@dataclass(frozen=True)
class Proposals:
    """Values of z for every draw, with their weights.

    Parameters
    ----------
    z : array, shape (chain, draw, proposal, effect)
        Standardised effects of all new groups.
    log_weights : array, shape (chain, draw, proposal)
        Log of p(y | theta, z) N(z) / q(z); the mean weight estimates p(y | theta) without bias.
    """

    z: Floats
    log_weights: Floats


def update(fit: Fit, rows: Design, new: Sequence[Newcomers], rng: np.random.Generator) -> Updated:
    """Draws of parameters and new groups' effects, given the outcomes of more rows.

    Parameters
    ----------
    fit : Fit
        The posterior without these rows.
    rows : Design
        The rows, with outcomes.
    new : sequence of Newcomers
        The rows' groups that are not in the fit.
    rng : numpy.random.Generator
        Source of the proposals and of the resampling.
    """
    found = propose(fit, rows, new, rng)
    chains, draws, proposals = found.log_weights.shape
    samples = chains * draws
    log_weights = found.log_weights.reshape(samples, proposals)
    by_draw, khat = _smoothed(logsumexp(log_weights, axis=1))
    weights = (by_draw[:, None] * softmax(log_weights, axis=1)).ravel()
    # Systematic resampling adds the least noise, and keeps the chains in order.
    at = (np.arange(samples) + rng.random()) / samples
    picked = np.minimum(np.searchsorted(np.cumsum(weights), at), len(weights) - 1)
    draw = picked // proposals
    z = found.z.reshape(samples * proposals, -1)[picked]
    effects, left = _effects(fit, new, draw, z, rng)
    return Updated(draw, effects, left, float(1 / (by_draw**2).sum()), khat)


def drawn(fit: Fit, new: Sequence[Newcomers], rng: np.random.Generator) -> Updated:
    """All draws of the fit, with effects of new groups of which nothing was seen."""
    samples = fit.posterior.sizes["chain"] * fit.posterior.sizes["draw"]
    draw = np.arange(samples)
    z = rng.standard_normal((samples, sum(map(width, new))))
    effects, left = _effects(fit, new, draw, z, rng)
    return Updated(draw, effects, left, float(samples), -np.inf)


def _effects(
    fit: Fit, new: Sequence[Newcomers], draw: Index, z: Floats, rng: np.random.Generator
) -> tuple[tuple[Floats, ...], tuple[Left | None, ...]]:
    """Effects of new groups from their standard normal numbers, shape (samples, numbers)."""
    effects: list[Floats] = []
    left: list[Left | None] = []
    samples, first = len(draw), 0
    for each in new:
        own = z[:, first : first + width(each)]
        first += width(each)
        following = each.following
        if following is None:
            k = each.random.size
            L = each.root(fit).reshape(samples, k, k)[draw]
            effects.append(own.reshape(samples, each.count, k) @ L.mT)
            left.append(None)
            continue
        parts, at = [], 0
        for piece in runs(reordered(fit, draw), each.count * (each.count + 2)):
            count = piece.posterior.sizes["draw"]
            parts.append(following.given(piece, own[at : at + count], rng))
            at += count
        mean, off, variance = (np.concatenate(p)[..., None] for p in zip(*parts, strict=True))
        effects.append(mean)
        left.append(Left(off, variance))
    return tuple(effects), tuple(left)


def reordered(fit: Fit, draw: Index) -> Fit:
    """The fit's draws, chains one after the other, in another order as one chain."""

    def one(values: xr.DataArray) -> tuple[tuple[Any, ...], NDArray[Any]]:
        whole = values.to_numpy()
        return values.dims, whole.reshape((1, -1, *whole.shape[2:]))[:, draw]

    posterior = xr.Dataset({str(n): one(v) for n, v in fit.posterior.data_vars.items()})
    others = {n: c for n, c in fit.posterior.coords.items() if n not in ("chain", "draw")}
    tree = xr.DataTree.from_dict({"posterior": posterior.assign_coords(others)})
    return Fit(fit.design, tree)


def _smoothed(log_weights: Floats) -> tuple[Floats, float]:
    """Pareto-smoothed weights that add up to 1, and the Pareto shape."""
    if np.ptp(log_weights) < 1e-9:
        return np.full(len(log_weights), 1 / len(log_weights)), -np.inf
    # ArviZ smooths weights of draws that leave a row out, and so takes their negative logarithms.
    try:
        with np.errstate(over="raise"):
            smooth, khat = array_stats.psislw(-log_weights)
    except FloatingPointError:
        # Weights over hundreds of powers of ten: their tail is beyond any Pareto's.
        return softmax(log_weights), np.inf
    return softmax(smooth), float(np.nan_to_num(khat, nan=np.inf))


def propose(
    fit: Fit, rows: Design, new: Sequence[Newcomers], rng: np.random.Generator
) -> Proposals:
    """Values of the new groups' standardised effects for every draw, with their weights."""
    size = sum(map(width, new))
    parts = []
    for piece in runs(fit, len(rows.y) * max(size, PROPOSALS)):
        target = Target.of(piece, rows, new)
        shape = piece.posterior.sizes["chain"], piece.posterior.sizes["draw"]
        z, log_weights = target.propose(rng)
        parts.append((z.reshape(*shape, *z.shape[1:]), log_weights.reshape(*shape, -1)))
    z, log_weights = (np.concatenate(every, axis=1) for every in zip(*parts, strict=True))
    return Proposals(z, log_weights)
