"""Design -> `pymc.Model`; the only place where random variables are created.

The model reads as one would write it by hand: named dims, one variable for each prior, non-centred
effects. Data are `pymc.Data`, so that the compiled functions do not depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayesmixed.defaults import AssignedPrior, effect_names, sd_name, suffix
from bayesmixed.design import Design
from bayesmixed.families import Parameter
from bayesmixed.predictor import PredictorDesign, RandomDesign
from bayesmixed.priors import Prior

type Priors = Mapping[str, AssignedPrior]


def build_model(design: Design, priors: Priors) -> pm.Model:
    """State the model in PyMC.

    Parameters
    ----------
    design : Design
        The data.
    priors : mapping of str to AssignedPrior
        The prior of every parameter.

    Returns
    -------
    pymc.Model
        With deterministics under the names of the posterior (``beta``, ``u_<group>``, ...), and
        free variables ``Intercept_centered`` (the intercept at the predictors' means),
        ``slopes``, ``sd_<group>``, ``chol_<group>`` (Cholesky factor of the correlations) and
        ``z_<group>`` (standardised effects).
    """
    with pm.Model(coords=_coords(design)) as model:
        eta: dict[str, Any] = {}
        for parameter in design.family.parameters:
            predictor = design.predictors.get(parameter.name)
            if predictor is not None:
                eta[parameter.name] = _predictor(design, predictor, parameter.name, priors)
        for parameter in design.family.parameters:
            if parameter.name not in eta:
                eta[parameter.name] = _constant(design, parameter, priors)
        _likelihood(design, eta)
    return model


def _coords(design: Design) -> dict[str, Any]:
    coords: dict[str, Any] = {"row": np.arange(len(design.y))}
    for name, predictor in design.predictors.items():
        tail = suffix(design, name)
        coords[f"term{tail}"] = list(predictor.terms)
        coords[f"slope{tail}"] = list(predictor.slopes)
        for random in predictor.random:
            coords[random.name] = random.groups.labels
            coords[effect_dim(tail, random)] = list(random.effects)
            coords[f"{effect_dim(tail, random)}_bis"] = list(random.effects)
    if design.categories:
        coords["threshold"] = [
            f"{a}|{b}" for a, b in zip(design.categories, design.categories[1:], strict=False)
        ]
    return coords


def effect_dim(tail: str, random: RandomDesign) -> str:
    """Dimension of a grouping's effects."""
    return f"{random.name}_effect" if not tail else f"{tail[1:]}_{random.name}_effect"


def _predictor(design: Design, predictor: PredictorDesign, name: str, priors: Priors) -> Any:
    """Population part and random part of one linear predictor, shape (rows,)."""
    tail = suffix(design, name)
    slopes_at = int(predictor.has_intercept)
    X = predictor.X[:, slopes_at:]
    ordered = [p for p in design.family.parameters if p.support == "ordered"]
    # With cut-points in the intercept's place the predictors are centred just the same.
    replaced = not tail and bool(ordered)
    centred = design.spec.center and (predictor.has_intercept or replaced)
    means = X.mean(axis=0) if centred else np.zeros(X.shape[1])
    eta: Any = pm.Data(f"offset{tail}", predictor.offset, dims="row")
    parts = []
    shift: Any = pt.constant(0.0)
    if predictor.slopes:
        names = [f"beta{tail}[{term}]" for term in predictor.slopes]
        slopes = _vector(f"slopes{tail}", [priors[n].prior for n in names], f"slope{tail}")
        eta = eta + pm.Data(f"X{tail}", X - means, dims=("row", f"slope{tail}")) @ slopes
        shift = pm.Data(f"means{tail}", means, dims=f"slope{tail}") @ slopes
        parts = [slopes]
    if predictor.has_intercept:
        label = f"Intercept_centered{tail}" if centred else f"Intercept{tail}"
        intercept = priors[f"Intercept{tail}"].prior.variable(label)
        eta = eta + intercept
        parts = [(intercept - shift)[None], *parts]
    if replaced:
        _thresholds(ordered[0], priors, shift)
    if parts:
        pm.Deterministic(f"beta{tail}", pt.concatenate(parts), dims=f"term{tail}")
    for random in predictor.random:
        eta = eta + _effects(random, tail, priors)
    return eta


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


def _effects(random: RandomDesign, tail: str, priors: Priors) -> Any:
    """Random effects of one grouping times their predictors, shape (rows,)."""
    group, dim = random.name, effect_dim(tail, random)
    sd = _vector(f"sd{tail}_{group}", [priors[n].prior for n in effect_names(tail, random)], dim)
    z = pm.Normal(f"z{tail}_{group}", dims=(group, dim))
    if random.is_correlated:
        z = z @ _cholesky(random, tail, priors, dim).T
    u = pm.Deterministic(f"u{tail}_{group}", z * sd, dims=(group, dim))
    index = pm.Data(f"index{tail}_{group}", random.groups.index, dims="row")
    if random.effects == ("Intercept",):
        return u[index, 0]
    return (u[index] * pm.Data(f"Z{tail}_{group}", random.Z, dims=("row", dim))).sum(axis=-1)


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
    family, links = design.family, design.links
    names = list(eta)
    known = {k: pm.Data(k, v, dims="row") for k, v in design.known.items()}
    values = [pt.as_tensor(v) for v in [*eta.values(), *known.values()]]

    def split(arguments: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        paired = dict(zip([*names, *known], arguments, strict=True))
        return {n: paired[n] for n in names}, {n: paired[n] for n in known}

    def logp(value: Any, *arguments: Any) -> Any:
        predictors, others = split(arguments)
        return family.evaluate(family.loglik, predictors, links, y=value, **others)

    def random(*arguments: Any, rng: np.random.Generator, size: Any = None) -> Any:
        predictors, others = split(arguments)
        rows = np.shape(predictors[names[0]])
        spread = {
            n: v if family.parameter(n).support == "ordered" else np.broadcast_to(v, rows)
            for n, v in predictors.items()
        }
        drawn = family.evaluate(family.simulate, spread, links, rng=rng, **others)
        return np.asarray(drawn, dtype=float)

    dims = ",".join(
        "(k)" if v.ndim and n in names and _is_ordered(design, n) else "()"
        for n, v in zip([*names, *known], values, strict=True)
    )
    pm.CustomDist(
        "y",
        *values,
        logp=logp,
        random=random,
        signature=f"{dims}->()",
        dtype="float64",
        class_name=family.name,
        observed=design.y,
        dims="row",
    )


def _is_ordered(design: Design, parameter: str) -> bool:
    return design.family.parameter(parameter).support == "ordered"


def public_names(design: Design) -> list[str]:
    """Names of the variables that a posterior has, whichever way it was sampled."""
    names: list[str] = []
    effects: list[str] = []
    for name, predictor in design.predictors.items():
        tail = suffix(design, name)
        names += [f"beta{tail}"] if predictor.terms else []
        for random in predictor.random:
            names.append(sd_name(tail, random.name))
            names += [f"cor{tail}_{random.name}"] if random.is_correlated else []
            effects.append(f"u{tail}_{random.name}")
    known = {"sigma"} if design.sampling_sd is not None else set()
    constants = [p.name for p in design.family.parameters]
    names += [n for n in constants if n not in design.predictors and n not in known]
    return names + effects
