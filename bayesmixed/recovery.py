"""Unconstrained draws of a program -> the posterior's variables.

Effects that were integrated out are drawn from their posterior given everything else, so that
all variables have their joint distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesmixed import lkj
from bayesmixed.correlation_tables import elements, matrices
from bayesmixed.design import Design
from bayesmixed.encoded import constrain
from bayesmixed.groups import parents
from bayesmixed.layout import Layout
from bayesmixed.names import effect_names, public_names, sd_name, suffix
from bayesmixed.predictor import INTERCEPT
from bayesmixed.program import Population, population
from bayesmixed.series import Series
from bayesmixed.structure import CorrelationParameter

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recovery:
    """The way from draws back to named variables.

    Parameters
    ----------
    design : Design
    layout : Layout
    levels : tuple of str
        Groupings whose effects are integrated out, from the inside out.
    draw : callable
        Takes draws (draws, size) and standard normal numbers (draws, effects of all groups), in
        whose place it writes the effects that were integrated out: level by level, inside out.
    """

    design: Design
    layout: Layout
    levels: tuple[str, ...]
    draw: Callable[[Floats, Floats], None]

    def __call__(self, z: Floats, rng: np.random.Generator) -> dict[str, Floats]:
        """Variables of the posterior.

        Parameters
        ----------
        z : array, shape (draws, size)
            Draws in the layout's units.
        rng : numpy.random.Generator
            For the effects that were integrated out.

        Returns
        -------
        dict of str to array, shape (draws, ...)
        """
        x = self.layout.points(z)
        scalars = {
            name: constrain(x[:, i], e) for i, (name, e) in enumerate(self.layout.encoded.items())
        }
        found: dict[str, Floats] = {}
        for parameter in self.design.family.parameters:
            name = parameter.name
            if name in self.design.predictors:
                found |= self._predictor(name, x, scalars)
            elif name in scalars:
                found[name] = scalars[name]
            elif self.design.spreads is not None:
                each = [scalars[of] for of in self.design.spreads.names]
                found[name] = np.stack(each, axis=-1)
        found |= _correlations(self.design.series, scalars)
        found |= self._integrated(z, rng)
        return {name: found[name] for name in public_names(self.design)}

    def _predictor(self, name: str, x: Floats, scalars: Mapping[str, Floats]) -> dict[str, Floats]:
        """Coefficients, covariances and sampled effects of one predictor."""
        design, tail = self.design, suffix(self.design, name)
        predictor = design.predictors[name]
        part = population(design, name, self.layout)
        found: dict[str, Floats] = {}
        if predictor.terms:
            found[f"beta{tail}"] = _coefficients(design, name, part, scalars)
        values: dict[str, Floats] = {}
        for random in sorted(predictor.random, key=lambda r: len(r.groups.labels)):
            key = f"{tail}_{random.name}"
            e = self.layout.effects[key]
            sd = np.stack([scalars[n] for n in effect_names(tail, random)], axis=-1)
            factor = self._factor(key, x)
            found[sd_name(tail, random.name)] = sd
            if random.is_correlated:
                found[f"cor{key}"] = factor @ factor.swapaxes(-1, -2)
            if e.at < 0:
                continue
            count = len(random.groups.labels) * random.size
            own = x[:, e.at : e.at + count].reshape((len(x), -1, random.size))
            mean = np.zeros(1)
            if e.carries:
                mean = self._mean(part, tail, random.name, scalars, values, len(x))
            w, unit = np.array(e.weights), np.array(e.units)
            scaling = (sd * (sd / unit) ** -w)[..., None] * (np.diag(w) + (1 - w)[:, None] * factor)
            u = np.einsum("dgj,dkj->dgk", own - w * mean / unit, scaling)
            values[random.name], found[f"u{key}"] = mean + u, u
        return found

    def _factor(self, key: str, x: Floats) -> Floats:
        """Cholesky factors of a grouping's correlations, shape (draws, effects, effects)."""
        size = self.layout.effects[key].random.size
        factor = np.broadcast_to(np.eye(size), (len(x), size, size)).copy()
        for block, at in self.layout.blocks[key]:
            n = len(block)
            part = lkj.factor(x[:, at : at + n * (n - 1) // 2], n)
            factor[:, np.array(block)[:, None], np.array(block)] = part
        return factor

    def _mean(
        self,
        part: Population,
        tail: str,
        name: str,
        scalars: Mapping[str, Floats],
        values: Mapping[str, Floats],
        draws: int,
    ) -> Floats:
        """What the values of a centred grouping are about, shape (draws, groups, effects)."""
        carried = part.carried[name]
        random = self.layout.effects[f"{tail}_{name}"].random
        mean = np.zeros((draws, len(random.groups.labels), random.size))
        for k, effect in enumerate(random.effects):
            for j, slope in enumerate(part.slopes):
                weights = carried.coefficients[effect][:, j]
                if weights.any():
                    mean[..., k] += scalars[slope][:, None] * weights
            if carried.intercept and effect == INTERCEPT:
                mean[..., k] += scalars[f"Intercept{tail}"][:, None]
            for own, outer in carried.outer:
                if own == effect:
                    around = self.layout.effects[f"{tail}_{outer}"].random
                    inside = parents(random.groups.index, around.groups.index)
                    mean[..., k] += values[outer][:, inside, around.effects.index(effect)]
        return mean

    def _integrated(self, z: Floats, rng: np.random.Generator) -> dict[str, Floats]:
        """Draws of the effects that were integrated out."""
        randoms = [self.layout.effects[f"_{name}"].random for name in self.levels]
        sizes = [len(r.groups.labels) * r.size for r in randoms]
        if not sizes:
            return {}
        total = rng.standard_normal((len(z), sum(sizes)))
        self.draw(z, total)
        pieces = np.split(total, np.cumsum(sizes)[:-1], axis=1)
        return {
            f"u_{r.name}": piece.reshape((len(z), -1, r.size))
            for r, piece in zip(randoms, pieces, strict=True)
        }


def _coefficients(
    design: Design, name: str, part: Population, scalars: Mapping[str, Floats]
) -> Floats:
    """Coefficients on the raw scale, shape (draws, terms)."""
    predictor, tail = design.predictors[name], suffix(design, name)
    columns = [scalars[slope] for slope in part.slopes]
    if predictor.has_intercept:
        intercept = scalars[f"Intercept{tail}"]
        for mean, slope in zip(design.means(name), columns, strict=True):
            intercept = intercept - mean * slope
        columns = [intercept, *columns]
    return np.stack(columns, axis=-1)


def _correlations(series: Series | None, scalars: Mapping[str, Floats]) -> dict[str, Floats]:
    """Parameters of residual correlations, shape (draws, ...), the arms first of the rest."""
    if series is None:
        return {}
    by_arm: list[dict[str, Floats]] = []
    for a in range(len(series.arms)):
        values = {p.name: _values(series, p, a, scalars) for p in series.parameters}
        for name, (_, function) in series.derived.items():
            each = [
                function(dict(zip(values, one, strict=True)))
                for one in zip(*values.values(), strict=True)
            ]
            values[name] = np.array(each)
        by_arm.append(values)
    if series.structure.by is None:
        return by_arm[0]
    return {name: np.stack([each[name] for each in by_arm], axis=1) for name in by_arm[0]}


def _values(
    series: Series, parameter: CorrelationParameter, arm: int, scalars: Mapping[str, Floats]
) -> Floats:
    """One arm's numbers, vectors or matrices, shape (draws, ...)."""
    names = series.names(parameter)[arm]
    if parameter.is_matrix:
        size = matrices(series)[names[0]]
        x = np.stack([scalars[element] for element in elements(names[0], size)], axis=-1)
        factor = lkj.factor(x, size)
        return factor @ factor.swapaxes(-1, -2)
    if isinstance(parameter.prior, tuple):
        return np.stack([scalars[name] for name in names], axis=-1)
    return scalars[names[0]]
