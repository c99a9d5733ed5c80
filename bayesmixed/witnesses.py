"""Rows that stand for all: of every label and category, and all that checks of the data look for.

Picked from the rows picked from each part of the data, they are as good as picked from all rows.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import qr

from bayesmixed._errors import DataError
from bayesmixed.compress import unique_rows
from bayesmixed.data import is_numeric, numbers, select
from bayesmixed.design import Design, variables
from bayesmixed.encoding import encode_terms
from bayesmixed.expressions import evaluate
from bayesmixed.formula import plain
from bayesmixed.groups import Groups, group_keys
from bayesmixed.predictor import PredictorDesign, RandomDesign
from bayesmixed.spec import Grouping, ModelSpec, RandomTerm
from bayesmixed.whole import Whole

type Floats = NDArray[np.float64]
type Rows = NDArray[np.intp]

_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`")
_LEVELS = frozenset({"C", "factor"})


def wanted(spec: ModelSpec) -> dict[str, Any]:
    """What rows are picked by: groupings, numbers used as categories, and measured expressions."""
    terms = [t for p in spec.predictors.values() for t in p.random]
    groupings = {t.grouping.name: t.grouping for t in terms}
    coded = {inner for function, _, inner in calls(spec) if function in _LEVELS and inner}
    given = [spec.response, spec.trials, spec.sampling_sd]
    return {
        "groupings": tuple(groupings.values()),
        "coded": tuple(sorted(coded)),
        "measured": tuple(code for code in given if code is not None),
    }


def calls(spec: ModelSpec) -> Iterator[tuple[str, str, str]]:
    """Every call in the formulas: the function, the whole call, and its first argument."""
    parts = [p for text in _formulas(spec) for p, is_call in plain(text)[1].values() if is_call]
    for part in parts:
        plain_names = _QUOTED.sub(lambda m: "_" * len(m[0]) if m[0][0] == "`" else m[0], part)
        source = plain_names.encode()

        def written(node: ast.expr, part: str = part, source: bytes = source) -> str:
            # Python counts bytes.
            first, last = node.col_offset, node.end_col_offset
            return part[len(source[:first].decode()) : len(source[:last].decode())]

        for node in ast.walk(ast.parse(plain_names, mode="eval")):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                yield node.func.id, written(node), written(node.args[0]) if node.args else ""


def _formulas(spec: ModelSpec) -> list[str]:
    every = list(spec.predictors.values())
    return [p.fixed for p in every] + [t.effects for p in every for t in p.random]


def witnesses(
    frame: pd.DataFrame,
    groupings: Sequence[Grouping],
    coded: Sequence[str],
    measured: Sequence[str],
) -> Rows:
    """Rows that hold every label and the range of every number, and show what lies in what.

    Parameters
    ----------
    frame : pandas.DataFrame
        Complete rows.
    groupings : sequence of Grouping
        Whose labels are to be there, and labels that lie in several groups of another one.
    coded, measured : sequence of str
        Expressions of which every value, or the least and the largest, are to be there.

    Returns
    -------
    array of int
        Places of the rows, in increasing order.
    """
    found = [np.zeros(0, dtype=np.intp)]
    keys = {g.name: pd.factorize(group_keys(g, frame))[0] for g in groupings}
    pairs = list(permutations(keys.values(), 2))
    for g in groupings:
        # Two combinations of labels may give the same text.
        pairs += [(keys[g.name], pd.factorize(frame[f])[0]) for f in g.factors[1:]]
    labels = list(keys.values())
    for name in frame.columns:
        if is_numeric(frame[name]):
            found.append(_range(frame[name].to_numpy(dtype=float)))
        else:
            labels.append(pd.factorize(frame[name])[0])
    labels += [pd.factorize(pd.Series(evaluate(code, frame)))[0] for code in coded]
    found += [unique_rows([codes], len(frame)).first for codes in labels]
    for inner, outer in pairs:
        first = unique_rows([inner], len(frame)).first
        other = np.flatnonzero(outer != outer[first][inner])
        found.append(other[unique_rows([inner[other]], len(other)).first] if len(other) else other)
    for code in measured:
        try:
            found.append(_range(numbers(evaluate(code, frame), len(frame), code)))
        except DataError:
            continue  # Checked when the design is built.
    return np.unique(np.concatenate(found))


def _range(values: Floats) -> Rows:
    return np.array([np.argmin(values), np.argmax(values)], dtype=np.intp)


def draft_design(spec: ModelSpec, frame: pd.DataFrame, whole: Whole) -> Design:
    """The right labels and encoders for rows of any part; nothing is checked yet.

    Parameters
    ----------
    spec : ModelSpec
    frame : pandas.DataFrame
        Rows with every label and category.
    whole : Whole
        All rows.
    """
    table = select(frame, variables(spec))
    predictors = {}
    for name, asked in spec.predictors.items():
        X, terms, encoder = encode_terms(asked.fixed, table.frame)
        by_group: dict[Grouping, list[RandomTerm]] = {}
        for term in asked.random:
            by_group.setdefault(term.grouping, []).append(term)
        random = tuple(_draft_random(of_group, table.frame) for of_group in by_group.values())
        offset = np.zeros(len(X))
        predictors[name] = PredictorDesign(terms, X, offset, random, encoder, asked.offsets)
    return Design(spec, table, np.zeros(len(table.frame)), predictors, whole=whole)


def _draft_random(terms: Sequence[RandomTerm], frame: pd.DataFrame) -> RandomDesign:
    groups = Groups.of(terms[0].grouping, frame)
    parts = [encode_terms(term.effects, frame) for term in terms]
    effects = tuple(name for _, names, _ in parts for name in names)
    blocks = (tuple(range(len(effects))),)
    Z = np.column_stack([Z for Z, _, _ in parts])
    return RandomDesign(groups, effects, Z, blocks, tuple(encoder for _, _, encoder in parts))


def telling_rows(design: Design, sampled: Collection[str]) -> pd.DataFrame:
    """Rows that show which columns depend on each other, and which vary within groups.

    Parameters
    ----------
    design : Design
        Some rows, with the right labels and encoders.
    sampled : collection of str
        Groupings of the first parameter that may carry what is the same for a group.
    """
    first = design.predictors[design.family.parameters[0].name]
    found = [np.zeros(0, dtype=np.intp)]
    for predictor in design.predictors.values():
        X = predictor.X
        for random in predictor.random:
            index = random.groups.index
            varying = [z for z in random.Z.T if (z != 1).any()]
            found += [_ranges(index, z) for z in varying]
            if predictor is not first or random.name not in sampled:
                continue
            # Whether a column is a multiple of another one within each group.
            for x in X[:, int(predictor.has_intercept) :].T:
                found.append(_ranges(index, x))
                for z in varying:
                    usable = np.flatnonzero(z)
                    found.append(usable[_ranges(index[usable], x[usable] / z[usable])])
                    beside = np.flatnonzero((z == 0) & (x != 0))
                    found.append(beside[_ranges(index[beside], x[beside])])
        if X.shape[1]:
            scaled = X / np.maximum(np.abs(X).max(axis=0), np.finfo(float).tiny)
            _, _, pivot = qr(scaled.T, mode="economic", pivoting=True)
            found.append(np.asarray(pivot[: X.shape[1]], dtype=np.intp))
    return design.table.frame.iloc[np.unique(np.concatenate(found))]


def _ranges(index: Rows, values: Floats) -> Rows:
    """The rows with the least and the largest value of each group, one where they are the same."""
    if not len(index):
        return np.zeros(0, dtype=np.intp)
    order = np.lexsort((values, index))
    ends = np.flatnonzero(np.diff(index[order]))
    least = order[np.concatenate([[0], ends + 1])]
    largest = order[np.concatenate([ends, [len(order) - 1]])]
    return np.concatenate([least, largest[values[largest] != values[least]]])
