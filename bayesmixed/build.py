"""Design -> `pymc.Model`; the only place where random variables are created.

The model reads as one would write it by hand: named dims, one variable for each prior, non-centred
effects. Data are `pymc.Data`, so that the compiled functions do not depend on them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayesmixed.correlated_outcome import correlated_outcome
from bayesmixed.defaults import AssignedPrior
from bayesmixed.design import Design
from bayesmixed.family import Parameter
from bayesmixed.geometry import Carried, Centring, carry
from bayesmixed.groups import parents
from bayesmixed.names import coords, effect_dim, effect_names, suffix
from bayesmixed.predictor import INTERCEPT, PredictorDesign, RandomDesign
from bayesmixed.priors import Prior

type Priors = Mapping[str, AssignedPrior]


def build_model(
    design: Design,
    priors: Priors,
    centred: Centring = MappingProxyType({}),
    integrated: Collection[str] = (),
) -> pm.Model:
    """State the model in PyMC.

    Parameters
    ----------
    design : Design
        The data.
    priors : mapping of str to AssignedPrior
        The prior of every parameter.
    centred : Centring
        How far effects of the first parameter are sampled centred.
    integrated : collection of str
        Groupings whose effects are not sampled at all; their centring never matters.

    Returns
    -------
    pymc.Model
        With deterministics under the names of the posterior (``beta``, ``u_<group>``, ...), and
        free variables ``Intercept_centered`` (the intercept at the predictors' means),
        ``slopes``, ``sd_<group>``, ``chol_<group>`` (Cholesky factor of the correlations), and
        ``z_<group>`` (standardised effects) or, wholly or partly centred, ``value_<group>`` in
        units in which the data vary.
    """
    with pm.Model(coords=coords(design)) as model:
        eta: dict[str, Any] = {}
        carried = carry(design, centred, integrated)
        for parameter in design.family.parameters:
            predictor = design.predictors.get(parameter.name)
            if predictor is not None:
                part = {} if suffix(design, parameter.name) else carried
                eta[parameter.name] = _predictor(
                    design, predictor, parameter.name, priors, part, centred
                )
        for parameter in design.family.parameters:
            if parameter.name not in eta:
                eta[parameter.name] = _constant(design, parameter, priors)
        if design.series is None:
            _likelihood(design, eta)
        else:
            correlated_outcome(design, eta, priors)
    return model


def _predictor(
    design: Design,
    predictor: PredictorDesign,
    name: str,
    priors: Priors,
    carried: Mapping[str, Carried],
    centred: Centring,
) -> Any:
    """Population part and random part of one linear predictor, shape (rows,)."""
    tail = suffix(design, name)
    ordered = [p for p in design.family.parameters if p.support == "ordered"]
    replaced = not tail and bool(ordered)
    X, means = predictor.X[:, int(predictor.has_intercept) :], design.means(name)
    taken = np.zeros(X.shape[1], dtype=bool)
    for part in carried.values():
        taken |= np.any([c.any(axis=0) for c in part.coefficients.values()], axis=0)
    eta: Any = pm.Data(f"offset{tail}", predictor.offset, dims="row")
    slopes: Any = None
    shift: Any = pt.constant(0.0)
    parts = []
    if predictor.slopes:
        names = [f"beta{tail}[{term}]" for term in predictor.slopes]
        slopes = _vector(f"slopes{tail}", [priors[n].prior for n in names], f"slope{tail}")
        shift = pm.Data(f"means{tail}", means, dims=f"slope{tail}") @ slopes
        parts = [slopes]
        # What the groups' values carry does not enter a second time.
        if not taken.all():
            rest = np.where(taken, 0.0, X - means)
            eta = eta + pm.Data(f"X{tail}", rest, dims=("row", f"slope{tail}")) @ slopes
    intercept: Any = pt.constant(0.0)
    if predictor.has_intercept:
        label = f"Intercept_centered{tail}" if design.spec.center else f"Intercept{tail}"
        intercept = priors[f"Intercept{tail}"].prior.variable(label)
        parts = [(intercept - shift)[None], *parts]
        if not any(part.intercept for part in carried.values()):
            eta = eta + intercept
    if replaced:
        _thresholds(ordered[0], priors, shift)
    if parts:
        pm.Deterministic(f"beta{tail}", pt.concatenate(parts), dims=f"term{tail}")
    return eta + _random_part(predictor, tail, priors, carried, centred, slopes, intercept)


def _random_part(
    predictor: PredictorDesign,
    tail: str,
    priors: Priors,
    carried: Mapping[str, Carried],
    centred: Centring,
    slopes: Any,
    intercept: Any,
) -> Any:
    """Sum over the groupings of their effects times what they multiply, shape (rows,)."""
    values: dict[str, Any] = {}
    by_name = {random.name: random for random in predictor.random}
    for random in sorted(predictor.random, key=lambda r: len(r.groups.labels)):
        part, mean = carried.get(random.name), None
        if part is not None:
            columns = []
            inside = {
                outer: _index_inside(random, by_name[outer])
                for outer in dict.fromkeys(outer for _, outer in part.outer)
            }
            for effect in random.effects:
                column = pt.zeros(len(random.groups.labels))
                weights = part.coefficients[effect]
                if weights.any():
                    label = f"X_{random.name}_{effect}"
                    column = column + pm.Data(label, weights, dims=(random.name, "slope")) @ slopes
                if part.intercept and effect == INTERCEPT:
                    column = column + intercept
                for name, outer in part.outer:
                    if name == effect:
                        at = by_name[outer].effects.index(effect)
                        column = column + values[outer][inside[outer], at]
                columns.append(column)
            mean = pt.stack(columns, axis=-1)
        share = centred.get(random.name) if mean is not None else None
        values[random.name] = _effects(random, tail, priors, mean, share)
    absorbed = {key for part in carried.values() for key in part.outer}
    total: Any = pt.constant(0.0)
    for random in predictor.random:
        own = [k for k, e in enumerate(random.effects) if (e, random.name) not in absorbed]
        if own:
            total = total + _contribution(random, tail, values[random.name], own)
    return total


def _index_inside(inner: RandomDesign, outer: RandomDesign) -> Any:
    """The outer group that each inner group lies in, as data."""
    above = parents(inner.groups.index, outer.groups.index)
    return pm.Data(f"index_{outer.name}_of_{inner.name}", above, dims=inner.name)


def _contribution(random: RandomDesign, tail: str, values: Any, own: list[int]) -> Any:
    """Values of each row's group times what they multiply, shape (rows,)."""
    index = pm.Data(f"index{tail}_{random.name}", random.groups.index, dims="row")
    if [random.effects[k] for k in own] == [INTERCEPT]:
        return values[index, own[0]]
    Z = np.zeros_like(random.Z)
    Z[:, own] = random.Z[:, own]
    dims = ("row", effect_dim(tail, random))
    return (values[index] * pm.Data(f"Z{tail}_{random.name}", Z, dims=dims)).sum(axis=-1)


def _vector(name: str, priors: Sequence[Prior], dim: str) -> Any:
    """A vector whose elements have these priors, in as few random variables as there are kinds."""

    def kind(i: int) -> tuple[str, tuple[str, ...]]:
        return priors[i].distribution, tuple(n for n, _ in priors[i].parameters)

    order = sorted(range(len(priors)), key=kind)
    kinds = [(k, list(members)) for k, members in groupby(order, key=kind)]

    def variable(label: str, members: list[int], **kwargs: Any) -> Any:
        distribution, parameters = kind(members[0])
        table = [dict(priors[i].parameters) for i in members]
        values = {n: np.array([row[n] for row in table], dtype=float) for n in parameters}
        return getattr(pm, distribution)(label, **values, **kwargs)

    if len(kinds) == 1:
        return variable(name, order, dims=dim)
    pieces = [
        variable(f"{name}_{i}_{k[0]}", members, shape=len(members))
        for i, (k, members) in enumerate(kinds)
    ]
    return pm.Deterministic(name, pt.concatenate(pieces)[np.argsort(order)], dims=dim)


def _effects(
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
    sd = _vector(f"sd{tail}_{group}", [priors[n].prior for n in effect_names(tail, random)], dim)
    factor = _cholesky(random, tail, priors, dim) if random.is_correlated else None
    if mean is None or weights is None:
        z = pm.Normal(f"z{tail}_{group}", dims=(group, dim))
        values = (z if factor is None else z @ factor.T) * sd
        return pm.Deterministic(f"u{tail}_{group}", values, dims=(group, dim))
    w = pm.Data(f"weights_{group}", np.array(weights), dims=dim)
    unit = np.array([priors[n].unit for n in effect_names(tail, random)])
    value = _centred(f"value_{group}", mean / unit, sd / unit, factor, w, (group, dim))
    off = _columns(value - w * mean / unit, random.size)
    scaled = pt.stack(_scaled(off, _columns(w, random.size), factor), axis=-1)
    u = pm.Deterministic(f"u_{group}", scaled * sd * (sd / unit) ** -w, dims=(group, dim))
    return mean + u


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


def _thresholds(parameter: Parameter, priors: Priors, shift: Any) -> None:
    """Ordered cut-points with independent priors, restricted to increasing order."""
    prior = priors[parameter.name].prior
    base = getattr(pm, prior.distribution).dist(**dict(prior.parameters))
    count = len(pm.modelcontext(None).coords["threshold"])

    def random(rng: np.random.Generator | None = None, size: Any = None) -> Any:
        # Independent draws in increasing order are draws from the restricted prior.
        generator = rng if rng is not None else np.random.default_rng()
        seed = int(generator.integers(2**31))
        draws = pm.draw(base, draws=int(np.prod(size or (count,))), random_seed=seed)
        return np.sort(np.reshape(draws, size or (count,)), axis=-1)

    centred = pm.CustomDist(
        f"{parameter.name}_centered",
        logp=lambda value: pm.logp(base, value),
        random=random,
        dims="threshold",
        transform=pm.distributions.transforms.ordered,
        initval=np.linspace(-1.0, 1.0, count),
    )
    pm.Deterministic(parameter.name, centred + shift, dims="threshold")


def _constant(design: Design, parameter: Parameter, priors: Priors) -> Any:
    """A parameter without a formula, on its link's scale."""
    if parameter.name == "sigma" and design.sampling_sd is not None:
        return pm.Data("log_sampling_sd", np.log(design.sampling_sd), dims="row")
    if parameter.support == "ordered":
        return pm.modelcontext(None)[f"{parameter.name}_centered"]
    return parameter.links[0].forward(priors[parameter.name].prior.variable(parameter.name))


def _likelihood(design: Design, eta: Mapping[str, Any]) -> None:
    """The outcome, whose log-probability and simulation are the family's own."""
    family, links = design.family, design.links
    known = {k: pm.Data(k, v, dims="row") for k, v in design.known.items()}
    ordered = {p.name for p in family.parameters if p.support == "ordered"}
    names = [*eta, *known]

    def named(arguments: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        paired = dict(zip(names, arguments, strict=True))
        # Cut-points may come back with a leading axis of length 1.
        predictors = {n: paired[n].ravel() if n in ordered else paired[n] for n in eta}
        return predictors, {n: paired[n] for n in known}

    def logp(value: Any, *arguments: Any) -> Any:
        predictors, others = named(arguments)
        return family.evaluate(family.loglik, predictors, links, y=value, **others)

    def random(*arguments: Any, rng: np.random.Generator, size: Any = None) -> Any:
        predictors, others = named(arguments)
        full = {
            n: v if n in ordered else np.broadcast_to(v, len(design.y))
            for n, v in predictors.items()
        }
        drawn = family.evaluate(family.simulate, full, links, rng=rng, **others)
        return np.asarray(drawn, dtype=float)

    cores = ",".join("(k)" if name in ordered else "()" for name in names)
    pm.CustomDist(
        "y",
        *(pt.as_tensor(v) for v in [*eta.values(), *known.values()]),
        logp=logp,
        random=random,
        signature=f"{cores}->()",
        dtype="float64",
        class_name=family.name,
        observed=design.y,
        dims="row",
    )
