"""Design -> `pymc.Model`; the only place where random variables are created.

The model reads as one would write it by hand: named dims, one variable for each prior, non-centred
effects. Data are `pymc.Data`, so that the compiled functions do not depend on them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
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
from bayesmixed.names import coords, effect_dim, suffix
from bayesmixed.predictor import INTERCEPT, PredictorDesign, RandomDesign
from bayesmixed.priors import pymc_distribution
from bayesmixed.random_effects import effects, factor_of, vector

type Priors = Mapping[str, AssignedPrior]


def build_model(
    design: Design,
    priors: Priors,
    centred: Centring = MappingProxyType({}),
    integrated: Collection[str] = (),
    *,
    marginal: bool = False,
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
    marginal : bool
        Whether their effects are left out, and integrated out of the density of an outcome with
        correlated residuals. The posterior of all else is the same; effects have to be drawn.

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
        first = design.family.parameters[0].name
        randoms = {r.name: r for r in design.predictors[first].random}
        out = [randoms[name] for name in integrated] if marginal else []
        carried = carry(design, centred, integrated)
        for parameter in design.family.parameters:
            predictor = design.predictors.get(parameter.name)
            if predictor is not None:
                tail = suffix(design, parameter.name)
                kept = [r for r in predictor.random if tail or all(r is not o for o in out)]
                eta[parameter.name] = _predictor(
                    design,
                    replace(predictor, random=tuple(kept)),
                    parameter.name,
                    priors,
                    {} if tail else carried,
                    centred,
                )
        for parameter in design.family.parameters:
            if parameter.name not in eta:
                eta[parameter.name] = _constant(design, parameter, priors)
        if design.series is None and out:
            # The outcome is stated by `rotated_density`.
            for random in out:
                factor_of(random, "", priors)
        elif design.series is None:
            _likelihood(design, eta)
        else:
            factors = [factor_of(random, "", priors) for random in out]
            correlated_outcome(design, eta, priors, out, factors)
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
        slopes = vector(f"slopes{tail}", [priors[n].prior for n in names], f"slope{tail}")
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
                column = pt.zeros(pm.modelcontext(None).dim_lengths[random.name])
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
        values[random.name] = effects(random, tail, priors, mean, share)
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


def _thresholds(parameter: Parameter, priors: Priors, shift: Any) -> None:
    """Ordered cut-points with independent priors, restricted to increasing order."""
    prior = priors[parameter.name].prior
    base = pymc_distribution(prior.distribution).dist(**dict(prior.parameters))
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
    if parameter.name == "sigma" and design.spreads is not None:
        spreads = design.spreads
        each = vector("sigma", [priors[name].prior for name in spreads.names], spreads.dim)
        index = pm.Data("index_sigma", spreads.index, dims="row")
        return parameter.links[0].forward(each)[index]
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
        if any(np.isnan(v).any() for v in full.values()):
            # Correlations of a process that are not positive definite together: see `_possible`.
            return np.full(len(design.y), np.nan)
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
        observed=pm.Data("outcome_of_rows", design.y, dims="row"),
        dims="row",
    )
