"""Design and priors -> the `instructions.Program` that states the same model as data.

It is the PyMC model's density in another form: the same free parameters on the same unconstrained
scales, apart from effects that are integrated out and constants that are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesmixed.compress import Sums, add_up, unique_rows
from bayesmixed.design import Design
from bayesmixed.family import Parameter
from bayesmixed.geometry import Carried, carry
from bayesmixed.groups import parents
from bayesmixed.instructions import COLUMN, EFFECT, FLOAT_FIELDS, FORM, LOG, Program
from bayesmixed.layout import Layout
from bayesmixed.likelihoods import Kernel
from bayesmixed.names import effect_names, suffix
from bayesmixed.predictor import INTERCEPT, PredictorDesign

type Floats = NDArray[np.float64]


class Writer:
    """Collects a program's arrays."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.positions = layout.positions
        self._columns: list[Floats] = []
        self._indices: list[NDArray[np.int32]] = []
        self._lengths = [0, 0]
        self._instructions: list[list[int]] = []
        self.forms: list[list[int]] = []
        self.place = 0
        # Sampled effects only; the others have no values at a point.
        sampled = [key for key, e in layout.effects.items() if e.at >= 0]
        self.effects = {key: i for i, key in enumerate(sampled)}
        self.means: dict[str, int] = {}

    def column(self, values: Floats) -> int:
        """Keep a column; returns its place."""
        self._columns.append(np.asarray(values, dtype=np.float64))
        self._lengths[0] += len(values)
        return self._lengths[0] - len(values)

    def index(self, values: NDArray[Any]) -> int:
        """Keep an index; returns its place."""
        self._indices.append(np.asarray(values, dtype=np.int32))
        self._lengths[1] += len(values)
        return self._lengths[1] - len(values)

    def form(
        self,
        length: int,
        steps: Sequence[tuple[int, int, int, Any, Any]],
        offset: Floats | None = None,
        place: int | None = None,
    ) -> int:
        """Add a linear form; returns its number.

        Parameters
        ----------
        length : int
        steps : sequence of (kind, what, effect, index or None, column or None)
        offset : array, shape (length,), optional
        place : int, optional
            Where its values go; behind all others unless given.
        """
        first = len(self._instructions)
        for kind, what, effect, index, column in steps:
            where = -1 if index is None else self.index(index)
            multiplier = -1 if column is None else self.column(column)
            self._instructions.append([kind, what, effect, where, multiplier])
        if place is None:
            place, self.place = self.place, self.place + length
        at = -1 if offset is None or not offset.any() else self.column(offset)
        self.forms.append([length, place, at, first, len(steps)])
        return len(self.forms) - 1

    def program(self, **others: Any) -> Program:
        """All arrays; those of parts that the model does not have are empty."""
        layout = self.layout
        covariances, members, etas = _covariances(layout)
        effects = [
            [
                len(e.random.groups.labels),
                e.random.size,
                e.at,
                e.covariance,
                self.means.get(key, -1),
            ]
            for key, e in layout.effects.items()
            if e.at >= 0
        ]
        known = {
            "origin": layout.origin,
            "unit": layout.unit,
            "numbers": np.array([e.numbers for e in layout.encoded.values()]),
            "columns": np.concatenate([np.zeros(0), *self._columns]),
            "etas": etas,
            "weights": [
                number
                for e in layout.effects.values()
                if e.at >= 0
                for number in (*e.weights, *e.units)
            ],
            "covariances": np.reshape(covariances, (-1, 3)),
            "members": members,
            "effects": np.reshape(effects, (-1, 5)),
            "forms": np.reshape(self.forms, (-1, 5)),
            "instructions": np.reshape(self._instructions, (-1, 5)),
            "directions": np.concatenate([[], *(m.ravel() for m in layout.directions.values())]),
            "turned": [(first, len(m)) for first, m in layout.directions.items()],
            "indices": np.concatenate([np.zeros(0, np.int32), *self._indices]),
        } | others
        fields: list[Any] = []
        for i, name in enumerate(Program._fields):
            dtype = np.float64 if i < FLOAT_FIELDS else np.int32
            array = np.ascontiguousarray(known.get(name, []), dtype=dtype)
            fields.append(array if name in _TABLES else array.ravel())
        return Program(*fields)


_TABLES = frozenset({"numbers", "covariances", "effects", "forms", "instructions"})


def _covariances(layout: Layout) -> tuple[list[list[int]], list[int], list[float]]:
    positions = layout.positions
    table, members, etas = [], list[int](), list[float]()
    for key, e in layout.effects.items():
        blocks = layout.blocks[key]
        table.append([e.random.size, len(members), len(blocks)])
        members += [positions[name] for name in effect_names(e.tail, e.random)]
        for block, at in blocks:
            members += [len(block), at, e.covariance, *block]
        etas.append(layout.etas.get(key, 1.0))
    return table, members, etas


@dataclass(frozen=True)
class Population:
    """The population's part of a linear predictor.

    Parameters
    ----------
    names : tuple of str
        Names of the coefficients' priors.
    intercept : bool
        Whether the first of them is the intercept.
    free : array of bool, shape (slopes,)
        The slopes that the groups' values do not carry.
    means : array, shape (slopes,)
        What is subtracted from the columns of the slopes.
    carried : mapping of str to Carried
        What centred groupings carry.
    slopes : tuple of str
        Names of all slopes' priors, in the order of `Carried.coefficients`.
    """

    names: tuple[str, ...]
    intercept: bool
    free: NDArray[np.bool_]
    means: Floats
    carried: Mapping[str, Carried]
    slopes: tuple[str, ...]

    def columns(self, predictor: PredictorDesign) -> Floats:
        """What the coefficients are multiplied by, shape (rows, coefficients)."""
        X = predictor.X[:, int(predictor.has_intercept) :]
        columns = (X - self.means)[:, self.free]
        return np.column_stack([np.ones(len(X)), columns]) if self.intercept else columns


def population(design: Design, name: str, layout: Layout) -> Population:
    """What coefficients multiply in a parameter's predictor."""
    predictor, tail = design.predictors[name], suffix(design, name)
    X, means = predictor.X[:, int(predictor.has_intercept) :], design.means(name)
    centred = [e.random.name for e in layout.effects.values() if e.carries]
    integrated = [e.random.name for e in layout.effects.values() if e.at < 0]
    carried = {} if tail else carry(design, centred, integrated)
    free = np.ones(X.shape[1], dtype=bool)
    for part in carried.values():
        for weights in part.coefficients.values():
            free &= ~weights.any(axis=0)
    slopes = tuple(f"beta{tail}[{term}]" for term in predictor.slopes)
    names = [n for n, f in zip(slopes, free, strict=True) if f]
    intercept = predictor.has_intercept and not any(p.intercept for p in carried.values())
    names = [f"Intercept{tail}", *names] if intercept else names
    return Population(tuple(names), intercept, free, means, carried, slopes)


def add_means(writer: Writer, part: Population, tail: str) -> None:
    """The means that the values of centred groupings are about, a form for each effect."""
    effects = writer.layout.effects
    for name, carried in part.carried.items():
        random = effects[f"{tail}_{name}"].random
        writer.means[f"{tail}_{name}"] = len(writer.forms)
        for effect in random.effects:
            weights = carried.coefficients[effect]
            steps: list[tuple[int, int, int, Any, Any]] = [
                (COLUMN, writer.positions[slope], 0, None, weights[:, k])
                for k, slope in enumerate(part.slopes)
                if weights[:, k].any()
            ]
            if carried.intercept and effect == INTERCEPT:
                steps.append((COLUMN, writer.positions[f"Intercept{tail}"], 0, None, None))
            for own, outer in carried.outer:
                if own == effect:
                    around = effects[f"{tail}_{outer}"].random
                    inside = parents(random.groups.index, around.groups.index)
                    at = around.effects.index(effect)
                    steps.append((EFFECT, writer.effects[f"{tail}_{outer}"], at, inside, None))
            writer.form(len(random.groups.labels), steps)


def random_steps(
    writer: Writer, predictor: PredictorDesign, part: Population, tail: str
) -> list[tuple[int, int, int, Any, Any]]:
    """What the sampled effects add to the rows of a predictor."""
    absorbed = {key for carried in part.carried.values() for key in carried.outer}
    steps: list[tuple[int, int, int, Any, Any]] = []
    for random in predictor.random:
        number = writer.effects.get(f"{tail}_{random.name}")
        if number is None:
            continue
        for k, effect in enumerate(random.effects):
            if (effect, random.name) in absorbed:
                continue
            z = random.Z[:, k]
            steps.append((EFFECT, number, k, random.groups.index, None if (z == 1).all() else z))
    return steps


def add_predictor(
    writer: Writer,
    design: Design,
    name: str,
    keys: Sequence[NDArray[Any]],
    place: int | None = None,
) -> int:
    """A whole linear predictor at distinct rows, of which the columns of `sorting` are given."""
    predictor, tail = restored(design.predictors[name], keys), suffix(design, name)
    rows = len(predictor.offset)
    part = population(design, name, writer.layout)
    add_means(writer, part, tail)
    columns, at = part.columns(predictor), [writer.positions[n] for n in part.names]
    steps = random_steps(writer, predictor, part, tail)
    table = unique_rows(list(columns.T), rows)
    few = len(table) <= rows // 2
    used = columns[table.first] if few else columns
    fixed = [
        (COLUMN, j, 0, None, None if (c == 1).all() else c) for j, c in zip(at, used.T, strict=True)
    ]
    if few and fixed:
        steps = [(FORM, writer.form(len(table), fixed), 0, table.index, None), *steps]
    else:
        steps = [*fixed, *steps]
    return writer.form(rows, steps, predictor.offset, place)


def add_constant(writer: Writer, parameter: Parameter, place: int | None = None) -> int:
    """The logarithm of a parameter without a formula: they all are scales and shapes."""
    return writer.form(1, [(LOG, writer.positions[parameter.name], 0, None, None)], place=place)


def sorting(predictor: PredictorDesign) -> list[NDArray[Any]]:
    """Columns that tell the rows of a predictor apart, the finest grouping first."""
    finest_first = sorted(predictor.random, key=lambda r: -len(r.groups.labels))
    found: list[NDArray[Any]] = [r.groups.index for r in finest_first]
    found += [z for r in finest_first for z in r.Z.T]
    return [*found, *predictor.X.T, predictor.offset]


def restored(predictor: PredictorDesign, keys: Sequence[NDArray[Any]]) -> PredictorDesign:
    """The predictor at other rows, of which the columns of `sorting` are given."""
    finest_first = sorted(predictor.random, key=lambda r: -len(r.groups.labels))
    at, rows = len(finest_first), len(keys[-1])
    random = {}
    for index, r in zip(keys, finest_first, strict=False):
        Z = np.column_stack(keys[at : at + r.size])
        random[r.name] = replace(r, groups=replace(r.groups, index=index), Z=Z)
        at += r.size
    X = np.column_stack([np.zeros((rows, 0)), *keys[at:-1]])
    every = tuple(random[r.name] for r in predictor.random)
    return replace(predictor, X=X, offset=keys[-1], random=every)


def _telling(design: Design, names: Sequence[str], sufficient: bool) -> list[NDArray[Any]]:
    """Columns that tell apart the rows of all predictors in the likelihood."""
    columns = [c for n in names for c in sorting(design.predictors[n])]
    return columns + ([] if sufficient else [design.y])


def _collapsed(
    design: Design, names: Sequence[str], kernel: Kernel, sufficient: bool
) -> tuple[Sums, Sums]:
    """Statistics of the outcomes that share a row, and how often each outcome occurs."""
    columns = _telling(design, names, sufficient)
    rows = unique_rows(columns, len(design.y))
    y = np.asarray(design.family.working(design.y), dtype=float)
    stats, _ = kernel.statistics(y, design.trials, rows.index, len(rows), sufficient)
    further = sufficient and kernel.further is not None
    outcomes, often = np.unique(y if further else y[:0], return_counts=True)
    keys = tuple(c[rows.first] for c in columns)
    return Sums(keys, tuple(stats)), Sums((outcomes,), (often,))


def _add_collapsed(parts: Sequence[tuple[Sums, Sums]]) -> tuple[Sums, Sums]:
    rows, outcomes = zip(*parts, strict=True)
    return add_up(rows), add_up(outcomes)


def kernel_program(design: Design, layout: Layout, kernel: Kernel) -> Program:
    """A program whose likelihood is a family's kernel."""
    every = [p.name for p in design.family.parameters]
    names = [n for n in every if n in design.predictors]
    varies = [n in names for n in every]
    sufficient = kernel.sufficient(varies)
    collapse = partial(_collapsed, names=names, kernel=kernel, sufficient=sufficient)
    rows, outcomes = design.reduce(collapse, _add_collapsed)
    writer = Writer(layout)
    count, at = len(rows), 0
    writer.place = count * len(every)
    for p, parameter in enumerate(design.family.parameters):
        place = p * count
        if parameter.name in names:
            end = at + len(sorting(design.predictors[parameter.name]))
            add_predictor(writer, design, parameter.name, rows.keys[at:end], place)
            at = end
        else:
            add_constant(writer, parameter, place)
    further = np.zeros(0)
    if sufficient and kernel.further is not None:
        further = kernel.further(outcomes.keys[0], outcomes.sums[0])
    shape = [len(every), count, len(further), -1, 0]
    stats = np.concatenate([*rows.sums, further])
    return writer.program(stats=stats, shape=shape, varies=varies)
