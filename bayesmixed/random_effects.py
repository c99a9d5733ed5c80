"""Effects of the groups of one grouping, stated in PyMC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor import shared

from bayesmixed.correlations import correlations
from bayesmixed.defaults import AssignedPrior
from bayesmixed.names import effect_dim, effect_names, sd_dim
from bayesmixed.predictor import RandomDesign
from bayesmixed.priors import Prior, pymc_distribution
from bayesmixed.process import Correlate

type Priors = Mapping[str, AssignedPrior]


def vector(name: str, priors: Sequence[Prior], dim: str) -> Any:
    """A vector whose elements have these priors, in as few random variables as there are kinds."""

    def kind(i: int) -> tuple[str, tuple[str, ...]]:
        return priors[i].distribution, tuple(n for n, _ in priors[i].parameters)

    order = sorted(range(len(priors)), key=kind)
    kinds = [(k, list(members)) for k, members in groupby(order, key=kind)]

    def variable(label: str, members: list[int], **kwargs: Any) -> Any:
        distribution, parameters = kind(members[0])
        table = [dict(priors[i].parameters) for i in members]
        arrays = {n: np.array([row[n] for row in table], dtype=float) for n in parameters}
        values = {n: shared(a) if np.isfinite(a).all() else a for n, a in arrays.items()}
        return pymc_distribution(distribution)(label, **values, **kwargs)

    if len(kinds) == 1:
        return variable(name, order, dims=dim)
    pieces = [
        variable(f"{name}_{i}_{k[0]}", members, shape=len(members))
        for i, (k, members) in enumerate(kinds)
    ]
    return pm.Deterministic(name, pt.concatenate(pieces)[np.argsort(order)], dims=dim)


def effects(
    random: RandomDesign,
    tail: str,
    priors: Priors,
    mean: Any | None,
    weights: Sequence[float] | None,
) -> Any:
    """Values of the groups of one grouping, shape (groups, effects).

    With `mean`, of the same shape, they are sampled about it, centred by the effects' weights.
    """
    group, dim = random.name, effect_dim(tail, random)
    sd, factor = _covariance(random, tail, priors)
    if mean is None or weights is None:
        z = _standard(random, tail, priors)
        if random.spreads is not None:
            own = random.spreads.index[random.first]
            sd = sd[pm.Data(f"index_sd{tail}_{group}", own.astype("int32"), dims=group)][:, None]
        values = (z if factor is None else z @ factor.T) * sd
        return pm.Deterministic(f"u{tail}_{group}", values, dims=(group, dim))
    w = pm.Data(f"weights_{group}", np.array(weights), dims=dim)
    unit = shared(np.array([priors[n].unit for n in effect_names(tail, random)]))
    value = _centred(f"value_{group}", mean / unit, sd / unit, factor, w, (group, dim))
    off = _columns(value - w * mean / unit, random.size)
    scaled = pt.stack(_scaled(off, _columns(w, random.size), factor), axis=-1)
    u = pm.Deterministic(f"u_{group}", scaled * sd * (sd / unit) ** -w, dims=(group, dim))
    return mean + u


def _standard(random: RandomDesign, tail: str, priors: Priors) -> Any:
    """Effects with standard deviation 1, as correlated between groups as these are."""
    name, group, between = f"z{tail}_{random.name}", random.name, random.between
    dim = effect_dim(tail, random)
    if between is None:
        return pm.Normal(name, dims=(group, dim))
    if between.mixed:
        # I and K have the same eigenvectors, so a gradient takes no factorisation.
        values, vectors = between.spectrum
        z, phi = pm.Normal(name, dims=(group, dim)), priors[between.share].prior
        share = phi.variable(between.share)
        sd = pt.sqrt(1 - share + share * pm.Data(f"eigenvalues{tail}_{group}", values))
        return pm.Data(f"eigenvectors{tail}_{group}", vectors) @ (sd[:, None] * z)
    if between.known is not None:
        z = pm.Normal(name, shape=(between.root.shape[1], random.size))
        return pm.Data(f"factor{tail}_{group}", between.root) @ z
    z, series = pm.Normal(name, dims=(group, dim)), between.series
    assert series is not None
    P = correlations(series, priors, between)
    where = [
        pm.Data(f"{part}{tail}_{group}", getattr(series, part).astype("int32"))
        for part in ("order", "lengths", "counts")
    ]
    columns = [Correlate()(P, column, *where) for column in _columns(z, random.size)]
    return pt.stack(columns, axis=-1)


def _covariance(random: RandomDesign, tail: str, priors: Priors) -> tuple[Any, Any | None]:
    """Standard deviations of a grouping's effects, and the factor of their correlations."""
    dim, names = effect_dim(tail, random), effect_names(tail, random)
    every = [priors[n].prior for n in names]
    sd = vector(f"sd{tail}_{random.name}", every, sd_dim(tail, random))
    return sd, _cholesky(random, tail, priors, dim) if random.is_correlated else None


def factor_of(random: RandomDesign, tail: str, priors: Priors) -> Any:
    """Factor of the covariance of a grouping's effects."""
    sd, factor = _covariance(random, tail, priors)
    return pt.diag(sd) if factor is None else sd[:, None] * factor


def _columns(values: Any, size: int) -> list[Any]:
    return [values[..., k] for k in range(size)]


def _scaled(off: Sequence[Any], weights: Sequence[Any], factor: Any | None) -> list[Any]:
    """Each effect of (W + (1 - W) L) applied to what is sampled less its mean.

    Written out effect by effect: that compiles in no time, a batch of solves does not.
    """
    if factor is None:
        return list(off)
    return [
        w * off[k] + (1 - w) * sum((factor[k, j] * off[j] for j in range(k)), factor[k, k] * off[k])
        for k, w in enumerate(weights)
    ]


def _centred(
    name: str, mean: Any, sd: Any, factor: Any | None, weights: Any, dims: tuple[str, str]
) -> Any:
    """What is sampled of groups whose values are normal about `mean` with these sds and factor.

    See `effects` for the transformation: wholly centred it is the values themselves.
    """
    if factor is None:
        return pm.Normal(name, mu=weights * mean, sigma=sd**weights, dims=dims)
    size = len(pm.modelcontext(None).coords[dims[1]])

    def logp(value: Any, mean: Any, sd: Any, factor: Any, weights: Any) -> Any:
        # All but the first two come with a leading axis of length 1.
        sd, factor, w = sd.ravel(), factor.reshape((size, size)), weights.ravel()
        scaled = _scaled(_columns(value - w * mean, size), _columns(w, size), factor)
        z: list[Any] = []
        total = pt.constant(-size / 2 * np.log(2 * np.pi))
        for k in range(size):
            known = sum((factor[k, j] * z[j] for j in range(k)), start=pt.constant(0.0))
            z.append((scaled[k] * sd[k] ** -w[k] - known) / factor[k, k])
            total = total - 0.5 * z[k] ** 2 - w[k] * pt.log(sd[k])
            total = total + pt.log(w[k] / factor[k, k] + 1 - w[k])
        return total

    def random(
        mean: Any,
        sd: Any,
        factor: Any,
        weights: Any,
        rng: np.random.Generator,
        size: Any = None,
    ) -> np.ndarray:
        factor, w = factor.reshape(factor.shape[-2:]), weights.reshape(weights.shape[-1:])
        z = rng.normal(size=mean.shape) @ factor.T * sd.reshape(w.shape) ** w
        inverse = np.linalg.inv(np.diag(w) + (1 - w)[:, None] * factor)
        return np.asarray(w * mean + z @ inverse.T)

    return pm.CustomDist(
        name,
        mean,
        sd,
        factor,
        weights,
        logp=logp,
        random=random,
        support_point=lambda rv, size, mean, sd, factor, weights: pt.broadcast_to(
            weights * mean, rv.shape
        ),
        signature="(k),(k),(k,k),(k)->(k)",
        dims=dims,
        class_name="CorrelatedNormal",
    )


def _cholesky(random: RandomDesign, tail: str, priors: Priors, dim: str) -> Any:
    """Cholesky factor of the correlation matrix of a grouping's effects."""
    group = random.name
    eta = dict(priors[f"cor{tail}_{group}"].prior.parameters)["eta"]
    size = len(random.effects)
    several = [block for block in random.blocks if len(block) > 1]
    factor: Any = None
    for i, block in enumerate(several):
        label = f"chol{tail}_{group}" + (f"_{i}" if len(several) > 1 else "")
        part = pm.LKJCorr(label, n=len(block), eta=eta)
        if len(block) == size:
            factor = part
        else:
            factor = pt.eye(size) if factor is None else factor
            factor = factor[np.ix_(block, block)].set(part)
    pm.Deterministic(f"cor{tail}_{group}", factor @ factor.T, dims=(dim, f"{dim}_bis"))
    return factor
