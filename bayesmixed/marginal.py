"""The likelihood of a program whose normal effects are integrated out, and draws of these effects.

It is machine code of its own, which the log-density calls by its address.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
from numba import njit, types

from bayesmixed.edition import EDITION, on_disk
from bayesmixed.elimination import Records, Tree, draw, eliminate
from bayesmixed.evaluator import forms_of, parameters_of
from bayesmixed.glue import Glue, glue
from bayesmixed.group_effects import factors_of, places_of_factors
from bayesmixed.instructions import (
    COUNTS,
    FORMS,
    LEAF,
    LEVELS,
    LINK,
    LINK_COLUMN,
    LINK_RECORD,
    PAIR,
    PAIR_FIRST,
    PAIR_SECOND,
    PAIR_STRATUM,
    PARENTS,
    REFERENCE,
    ROWS,
    SHAPE,
    SIZES,
    STRATUM,
    SUM_COLUMN,
    SUM_STRATUM,
    SUM_X,
    SUM_Y,
    TERMS,
    XX,
    XY,
    YY,
    ZX,
    ZY,
    ZZ,
    rows_of,
)
from bayesmixed.normal import Coupling, Totals, integrated, residuals
from bayesmixed.pointers import CALLED, CALLED_WITH, addresses, floats, integers


@glue
def _gaussian(values, T, at_T, out, program):
    """What the integrated density needs: the data's tuples and the current values."""
    sizes, levels = integers(program, SIZES), integers(program, LEVELS)
    terms, leaf = integers(program, TERMS), integers(program, LEAF)
    shape, forms = integers(program, SHAPE), rows_of(integers(program, FORMS), 5)
    rows, sum_y = floats(program, ROWS), floats(program, SUM_Y)
    p, f, n, strata = len(terms), np.int64(sizes.sum()), len(leaf), len(rows)
    tree = Tree(sizes, integers(program, COUNTS), integers(program, PARENTS))
    records = Records(
        leaf,
        integers(program, STRATUM),
        floats(program, ZZ).reshape((f, f, n)),
        floats(program, ZX).reshape((f, p, n)),
    )
    totals = Totals(
        rows,
        floats(program, YY),
        floats(program, XY).reshape((strata, p)),
        floats(program, XX).reshape((strata, p, p)),
        floats(program, ZY).reshape((f, n)),
    )
    links = integers(program, LINK_RECORD)
    coupling = Coupling(
        links,
        integers(program, LINK_COLUMN),
        floats(program, LINK).reshape((f, len(links))),
        integers(program, SUM_STRATUM),
        integers(program, SUM_COLUMN),
        sum_y,
        floats(program, SUM_X).reshape((p, len(sum_y))),
        integers(program, PAIR_STRATUM),
        integers(program, PAIR_FIRST),
        integers(program, PAIR_SECOND),
        floats(program, PAIR),
    )
    whole, first = np.zeros((f, f)), 0
    for level in range(len(levels)):
        q, at = sizes[level], at_T[levels[level]]
        for i in range(q):
            for j in range(i + 1):
                whole[first + i, first + j] = T[at + i * q + j]
        first += q
    delta = np.empty(p)
    for a in range(p):
        delta[a] = values[terms[a]] - floats(program, REFERENCE)[a]
    begin = forms[shape[3], 1]
    log_sigma = out[begin : begin + strata]
    return tree, records, totals, coupling, whole, delta, log_sigma


@glue
def _likelihood(where):
    """Density and slopes, of and into the arrays whose addresses `evaluator` gives."""
    values, u, T, out = floats(where, 0), floats(where, 1), floats(where, 2), floats(where, 3)
    d_values, d_u, d_T = floats(where, 4), floats(where, 5), floats(where, 6)
    d_out, program = floats(where, 7), addresses(where, 8)
    forms, at_T = rows_of(integers(program, FORMS), 5), places_of_factors(program)
    shape, terms = integers(program, SHAPE), integers(program, TERMS)
    sizes, levels = integers(program, SIZES), integers(program, LEVELS)
    tree, records, totals, coupling, whole, delta, log_sigma = _gaussian(
        values, T, at_T, out, program
    )
    d_whole, d_delta = np.empty_like(whole), np.empty_like(delta)
    begin = forms[shape[3], 1]
    d_log_sigma = np.empty(len(log_sigma))
    value = integrated(
        tree,
        records,
        totals,
        coupling,
        whole,
        delta,
        u,
        log_sigma,
        d_whole,
        d_delta,
        d_u,
        d_log_sigma,
    )
    for a in range(len(delta)):
        d_values[terms[a]] += d_delta[a]
    for s in range(len(log_sigma)):
        d_out[begin + s] += d_log_sigma[s]
    first = 0
    for level in range(len(levels)):
        q, at = sizes[level], at_T[levels[level]]
        for i in range(q):
            for j in range(i + 1):
                d_T[at + i * q + j] += d_whole[first + i, first + j]
        first += q
    return value


@cache
def likelihood():
    """The compiled `_likelihood`, whose address goes behind a program."""
    edition = EDITION

    def run(where):
        # The edition has to be mentioned to be part of what numba knows the function by.
        return _likelihood(numba.carray(where, CALLED_WITH)) if edition else 0.0

    return on_disk(lambda cache: numba.cfunc(CALLED, cache=cache, pipeline_class=Glue)(run))


@glue
def _draw_effects(points, noise, program):
    """Draw the integrated effects from their posterior, given draws of all else.

    Parameters
    ----------
    points : array, shape (draws, size)
        Unconstrained draws.
    noise : array, shape (draws, effects of all groups)
        Standard normal numbers; the effects take their place, level by level, inside out.
    """
    sizes = integers(program, SIZES)
    counts = integers(program, COUNTS)
    levels = integers(program, LEVELS)
    scratch = np.empty(points.shape[1])
    for i in range(len(points)):
        values, _, _ = parameters_of(points[i], scratch, program)
        T, F, at_T, _ = factors_of(points[i], values, program)
        u, _, out, _ = forms_of(points[i], values, F, at_T, program)
        tree, records, totals, coupling, whole, delta, log_sigma = _gaussian(
            values, T, at_T, out, program
        )
        rhs, _ = residuals(records, totals, coupling, delta, u)
        K, h, _ = eliminate(tree, records, rhs, whole, np.exp(-2.0 * log_sigma))
        draw(tree, K, h, noise[i])
        at, first = 0, 0
        for level in range(len(levels)):
            q = sizes[level]
            for _ in range(counts[level]):
                for k in range(q - 1, -1, -1):
                    value = 0.0
                    for j in range(k + 1):
                        value += whole[first + k, first + j] * noise[i, at + j]
                    noise[i, at + k] = value
                at += q
            first += q


@cache
def draw_effects():
    """The compiled `_draw_effects`; numba finds it on disk unless the edition changed."""
    edition = EDITION

    def run(points, noise, program):
        if edition:
            _draw_effects(points, noise, program)

    return on_disk(lambda cache: njit(cache=cache, pipeline_class=Glue)(run))


def compiled():
    """Compile all of it, or load it from disk."""
    likelihood()
    points, where = types.Array(types.float64, 2, "C"), types.Array(types.int64, 1, "C")
    draw_effects().compile((points, points, where))
