"""Names of a model's variables and dimensions, and the labels along them."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayesmixed.between import Between
from bayesmixed.design import Design
from bayesmixed.predictor import RandomDesign
from bayesmixed.series import Series
from bayesmixed.structure import CorrelationParameter


def suffix(design: Design, parameter: str) -> str:
    """What a parameter's variables end in: nothing for the first, ``_sigma`` for sigma."""
    return "" if parameter == design.family.parameters[0].name else f"_{parameter}"


def sd_name(tail: str, group: str) -> str:
    """Name of a grouping's standard deviations: ``sd_<group>`` or ``sd_<parameter>_<group>``."""
    return f"sd{tail}_{group}"


def effect_name(tail: str, random: RandomDesign, effect: str) -> str:
    """Name of the prior of one standard deviation of a grouping."""
    name = sd_name(tail, random.name)
    return name if len(random.effects) == 1 else f"{name}[{effect}]"


def effect_names(tail: str, random: RandomDesign) -> list[str]:
    """Names of the priors of a grouping's standard deviations, in the order of its parts."""
    if random.spreads is not None:
        return [f"{sd_name(tail, random.name)}[{label}]" for label in random.parts]
    return [effect_name(tail, random, effect) for effect in random.effects]


def coords(design: Design) -> dict[str, Any]:
    """Labels of every dimension."""
    coords: dict[str, Any] = {"row": np.arange(len(design.y))}
    for name, predictor in design.predictors.items():
        tail = suffix(design, name)
        coords[f"term{tail}"] = list(predictor.terms)
        coords[f"slope{tail}"] = list(predictor.slopes)
        for random in predictor.random:
            coords[random.name] = random.groups.labels
            coords[effect_dim(tail, random)] = list(random.effects)
            coords[f"{effect_dim(tail, random)}_bis"] = list(random.effects)
            coords |= between_coords(random.between)
            if random.spreads is not None:
                coords[sd_dim(tail, random)] = list(random.spreads.labels)
    if design.series is not None:
        coords |= residual_coords(design.series)
    if design.spreads is not None:
        coords[design.spreads.dim] = list(design.spreads.labels)
    if design.categories:
        coords["threshold"] = [
            f"{a}|{b}" for a, b in zip(design.categories, design.categories[1:], strict=False)
        ]
    return coords


def effect_dim(tail: str, random: RandomDesign) -> str:
    """Dimension of a grouping's effects."""
    return f"{random.name}_effect" if not tail else f"{tail[1:]}_{random.name}_effect"


def sd_dim(tail: str, random: RandomDesign) -> str:
    """Dimension of a grouping's standard deviations."""
    if random.spreads is None:
        return effect_dim(tail, random)
    return random.spreads.dim.replace("residual", random.name, 1)


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
            names += between_dims(random.between)
            effects.append(f"u{tail}_{random.name}")
    known = {"sigma"} if design.sampling_sd is not None else set()
    constants = [p.name for p in design.family.parameters]
    names += [n for n in constants if n not in design.predictors and n not in known]
    return [*names, *residual_dims(design.series), *effects]


def residual_coords(series: Series) -> dict[str, Any]:
    """Labels of the dimensions of residual correlations."""
    found = {f"residual_{dim}": labels for dim, labels in series.labels.items() if dim}
    for parameter in series.parameters:
        along = _along(parameter.dim, parameter)
        if isinstance(parameter.prior, tuple):
            found[along[0]] = found[along[0]][: len(parameter.prior)]
        for dim in along[1:]:
            found[dim] = found[along[0]]
    return found


def residual_dims(series: Series | None) -> dict[str, tuple[str, ...]]:
    """Dimensions of every variable of the residual correlations, after chain and draw."""
    if series is None:
        return {}
    arm = () if series.structure.by is None else ("residual_arm",)
    found = {p.name: (*arm, *_along(p.dim, p)) for p in series.parameters}
    return found | {name: (*arm, *_along(dim)) for name, (dim, _) in series.derived.items()}


def between_coords(between: Between | None) -> dict[str, Any]:
    """Labels of the dimensions of correlations between groups."""
    if between is None or between.series is None:
        return {}
    return {_of(between, dim): at for dim, at in residual_coords(between.series).items()}


def between_dims(between: Between | None) -> dict[str, tuple[str, ...]]:
    """Dimensions of every variable of the correlations between groups, after chain and draw."""
    if between is None or between.series is None:
        return {} if between is None or not between.mixed else {between.share: ()}
    found = residual_dims(between.series).items()
    return {between.named(n): tuple(_of(between, dim) for dim in dims) for n, dims in found}


def _of(between: Between, dim: str) -> str:
    return dim.replace("residual", between.group, 1)


def _along(dim: str, parameter: CorrelationParameter | None = None) -> tuple[str, ...]:
    """Dimensions of what runs over `dim`, twice where it is a correlation matrix."""
    if not dim:
        return ()
    once = f"residual_{dim}"
    matrix = parameter is not None and parameter.is_matrix
    return (once, f"{once}_bis") if matrix else (once,)


def dims(design: Design) -> dict[str, tuple[str, ...]]:
    """Dimensions of every variable of a posterior, after chain and draw."""
    found = dict.fromkeys(public_names(design), tuple[str, ...]()) | residual_dims(design.series)
    for name, predictor in design.predictors.items():
        tail = suffix(design, name)
        if predictor.terms:
            found[f"beta{tail}"] = (f"term{tail}",)
        for random in predictor.random:
            dim = effect_dim(tail, random)
            found[sd_name(tail, random.name)] = (sd_dim(tail, random),)
            if random.is_correlated:
                found[f"cor{tail}_{random.name}"] = (dim, f"{dim}_bis")
            found[f"u{tail}_{random.name}"] = (random.name, dim)
            found |= between_dims(random.between)
    for parameter in design.family.parameters:
        if parameter.support == "ordered":
            found[parameter.name] = ("threshold",)
    if design.spreads is not None:
        found["sigma"] = (design.spreads.dim,)
    return found
