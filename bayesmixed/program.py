"""Design and priors -> the `evaluator.Program` that states the same model as data.

It is the PyMC model's density in another form: the same free parameters on the same unconstrained
scales, apart from effects that are integrated out and constants that are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesmixed.compress import Unique, unique_rows
from bayesmixed.design import Design
from bayesmixed.evaluator import COLUMN, EFFECT, FLOAT_FIELDS, FORM, LOG, LOGIT, Program
from bayesmixed.family import Parameter
from bayesmixed.geometry import Carried, carry
from bayesmixed.groups import parents
from bayesmixed.kernels import Kernel
from bayesmixed.layout import Layout
from bayesmixed.names import effect_names, suffix
from bayesmixed.predictor import INTERCEPT, PredictorDesign

type Floats = NDArray[np.float64]

_LINKS = {"identity": COLUMN, "log": LOG, "logit": LOGIT}


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
                0,
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
            "covariances": np.reshape(covariances, (-1, 3)),
            "members": members,
            "effects": np.reshape(effects, (-1, 6)),
            "forms": np.reshape(self.forms, (-1, 5)),
            "instructions": np.reshape(self._instructions, (-1, 5)),
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
    columns : array, shape (rows, coefficients)
        What they are multiplied by: centred, and without what the groups' values carry.
    carried : mapping of str to Carried
        What centred groupings carry.
    slopes : tuple of str
        Names of all slopes' priors, in the order of `Carried.coefficients`.
    """

    names: tuple[str, ...]
    columns: Floats
    carried: Mapping[str, Carried]
    slopes: tuple[str, ...]


def population(design: Design, name: str, layout: Layout) -> Population:
    """Columns that coefficients multiply in a parameter's predictor."""
    predictor, tail = design.predictors[name], suffix(design, name)
    X, means = predictor.X[:, int(predictor.has_intercept) :], design.means(name)
    centred = [e.random.name for e in layout.effects.values() if e.centred]
    integrated = [e.random.name for e in layout.effects.values() if e.at < 0]
    carried = {} if tail else carry(design, centred, integrated)
    free = np.ones(X.shape[1], dtype=bool)
    for part in carried.values():
        for weights in part.coefficients.values():
            free &= ~weights.any(axis=0)
    slopes = tuple(f"beta{tail}[{term}]" for term in predictor.slopes)
    names = [n for n, f in zip(slopes, free, strict=True) if f]
    columns = (X - means)[:, free]
    if predictor.has_intercept and not any(p.intercept for p in carried.values()):
        names = [f"Intercept{tail}", *names]
        columns = np.column_stack([np.ones(len(X)), columns])
    return Population(tuple(names), columns, carried, slopes)


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
    writer: Writer, predictor: PredictorDesign, part: Population, tail: str, rows: NDArray[np.intp]
) -> list[tuple[int, int, int, Any, Any]]:
    """What the sampled effects add to some rows of a predictor."""
    absorbed = {key for carried in part.carried.values() for key in carried.outer}
    steps: list[tuple[int, int, int, Any, Any]] = []
    for random in predictor.random:
        number = writer.effects.get(f"{tail}_{random.name}")
        if number is None:
            continue
        index = random.groups.index[rows]
        for k, effect in enumerate(random.effects):
            if (effect, random.name) in absorbed:
                continue
            z = random.Z[rows, k]
            steps.append((EFFECT, number, k, index, None if (z == 1).all() else z))
    return steps


def add_predictor(
    writer: Writer, design: Design, name: str, rows: Unique, place: int | None = None
) -> int:
    """A whole linear predictor at distinct rows."""
    predictor, tail = design.predictors[name], suffix(design, name)
    part = population(design, name, writer.layout)
    add_means(writer, part, tail)
    columns, at = part.columns[rows.first], [writer.positions[n] for n in part.names]
    steps = random_steps(writer, predictor, part, tail, rows.first)
    table = unique_rows(list(columns.T), len(rows))
    few = len(table) <= len(rows) // 2
    used = columns[table.first] if few else columns
    fixed = [
        (COLUMN, j, 0, None, None if (c == 1).all() else c) for j, c in zip(at, used.T, strict=True)
    ]
    if few and fixed:
        steps = [(FORM, writer.form(len(table), fixed), 0, table.index, None), *steps]
    else:
        steps = [*fixed, *steps]
    return writer.form(len(rows), steps, predictor.offset[rows.first], place)


def add_constant(writer: Writer, parameter: Parameter, place: int | None = None) -> int:
    """A parameter without a formula, on its link's scale."""
    step = (_LINKS[parameter.links[0].name], writer.positions[parameter.name], 0, None, None)
    return writer.form(1, [step], place=place)


def sorting(predictor: PredictorDesign) -> list[NDArray[Any]]:
    """Columns that tell the rows of a predictor apart, the finest grouping first."""
    finest_first = sorted(predictor.random, key=lambda r: -len(r.groups.labels))
    found: list[NDArray[Any]] = [r.groups.index for r in finest_first]
    found += [z for r in finest_first for z in r.Z.T]
    return [*found, *predictor.X.T, predictor.offset]


def kernel_program(design: Design, layout: Layout, kernel: Kernel) -> Program:
    """A program whose likelihood is a family's kernel."""
    known_sd = design.sampling_sd
    first = design.family.parameters[0].name
    names = [p.name for p in design.family.parameters]
    varies = [n in design.predictors or (n == "sigma" and known_sd is not None) for n in names]
    columns = [
        c for n in (first, *names) if n in design.predictors for c in sorting(design.predictors[n])
    ]
    columns += [] if known_sd is None else [known_sd]
    columns += [] if kernel.sufficient(varies) else [design.y]
    rows = unique_rows(columns, len(design.y))
    writer = Writer(layout)
    count = len(rows)
    writer.place = count * len(names)
    for p, parameter in enumerate(design.family.parameters):
        place = p * count
        if parameter.name in design.predictors:
            add_predictor(writer, design, parameter.name, rows, place)
        elif varies[p] and known_sd is not None:
            writer.form(count, [], np.log(known_sd)[rows.first], place)
        else:
            add_constant(writer, parameter, place)
    y = np.asarray(design.family.working(design.y), dtype=float)
    stats, extra = kernel.collapse(y, design.trials, rows.index, count, kernel.sufficient(varies))
    shape = [len(names), count, extra, -1, 0]
    return writer.program(stats=stats, shape=shape, varies=varies)
