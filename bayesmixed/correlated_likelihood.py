"""The likelihood of a program whose residuals are correlated within series.

Effects that are integrated out are so beside the correlations, or drawn given all else (see
`correlated`). It is machine code of its own, which the log-density calls by its address.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
from numba import njit

from bayesmixed.correlated import Rows, draw_given, log_density
from bayesmixed.edition import EDITION, on_disk
from bayesmixed.elimination import Tree, scale
from bayesmixed.glue import Glue
from bayesmixed.group_effects import (
    factor_of_levels,
    factor_of_levels_backward,
    places_of_factors,
)
from bayesmixed.instructions import (
    ADDRESSES,
    CONSTANTS,
    COUNTS,
    FORMS,
    FURTHER,
    KEYS,
    LEAF,
    LENGTHS,
    MEMBERS_OF_TABLES,
    NOISE,
    ORDER,
    PARENTS,
    PLACES,
    REPEATS,
    SHAPE,
    SIZES,
    STATS,
    TABLES,
    Z,
    rows_of,
)
from bayesmixed.pointers import CALLED, CALLED_WITH, addresses, call, floats, integers

# Places of what the likelihood is called with; see `evaluator`.
_VALUES, _U, _T, _OUT, _D_VALUES, _D_U, _D_T, _D_OUT, _PROGRAM = np.arange(CALLED_WITH // 2)


@njit(error_model="numpy")
def _work_out(values, d_values, table, d_table, program):
    """Have the kernels fill all tables, or bring their slopes to the parameters.

    For the first `d_values` and `d_table` are empty, for the second `table`. Returns the
    log-density of the priors that kernels know.
    """
    tables, members = rows_of(integers(program, TABLES), 4), integers(program, MEMBERS_OF_TABLES)
    keys, constants = floats(program, KEYS), floats(program, CONSTANTS)
    entries, total = floats(program, ADDRESSES), 0.0
    theta = np.empty(len(members))
    for i in range(len(members)):
        theta[i] = values[members[i]]
    at_theta, at_constants, at_keys, at = 0, 0, 0, 0
    for t in range(len(tables)):
        parameters, further, count, size = tables[t, 0], tables[t, 1], tables[t, 2], tables[t, 3]
        d_theta = np.zeros(parameters if len(d_values) else 0)
        own = table[at : at + size]
        slopes = d_table[at : at + size]
        where, k = np.empty(CALLED_WITH, np.int64), 0
        for array in (
            theta[at_theta : at_theta + parameters],
            constants[at_constants : at_constants + further],
            keys[at_keys : at_keys + count],
            own,
            d_theta,
            slopes,
        ):
            where[k], where[k + 1] = array.ctypes.data, array.size
            k += 2
        total += call(np.int64(entries[t]), where)
        for i in range(len(d_theta)):
            d_values[members[at_theta + i]] += d_theta[i]
        at_theta += parameters
        at_constants += further
        at_keys += count
        at += size
    # Mentioned, so that it lives until here: kernels know its address only.
    return total + 0.0 * len(theta)


@njit(error_model="numpy")
def _gather(table, places, P):
    """Every pair's correlation: the product over the factors; flat arrays."""
    cells = len(P)
    for i in range(cells):
        P[i] = 1.0
        for f in range(len(places) // cells):
            k = places[f * cells + i]
            if k >= 0:
                P[i] *= table[k]


@njit(error_model="numpy")
def _scatter(table, places, d_P, d_table):
    """The reverse of `_gather`."""
    cells = len(d_P)
    factors = len(places) // cells
    for i in range(cells):
        for f in range(factors):
            k = places[f * cells + i]
            if k >= 0:
                slope = d_P[i]
                for g in range(factors):
                    other = places[g * cells + i]
                    if g != f and other >= 0:
                        slope *= table[other]
                d_table[k] += slope


@njit(error_model="numpy")
def _correlations(program):
    """Zeros, in the shape of the correlations."""
    lengths, shape = integers(program, LENGTHS), integers(program, SHAPE)
    patterns, longest = len(lengths), lengths.max()
    if shape[1]:
        return np.zeros((patterns, longest - 1, 1))
    return np.zeros((patterns, longest, longest))


@njit(error_model="numpy")
def _data(program):
    """The outcome, what effects multiply, the rows of the series, and the groups."""
    y, sizes = floats(program, STATS), integers(program, SIZES)
    columns = floats(program, Z).reshape((len(y), np.int64(sizes.sum())))
    rows = Rows(
        integers(program, ORDER),
        integers(program, LENGTHS),
        integers(program, REPEATS),
        integers(program, LEAF),
        integers(program, FURTHER),
    )
    return y, columns, rows, Tree(sizes, integers(program, COUNTS), integers(program, PARENTS))


@njit(error_model="numpy")
def _of_rows(out, form, rows):
    """A form's value in each row; it may have one for all."""
    values = np.empty(rows)
    for i in range(rows):
        values[i] = out[form[1] + (i if form[0] > 1 else 0)]
    return values


@njit(error_model="numpy")
def _of_rows_backward(d_out, form, slopes):
    for i in range(len(slopes)):
        d_out[form[1] + (i if form[0] > 1 else 0)] += slopes[i]


@cache
def likelihood():
    """The compiled likelihood, whose address goes behind a program; as `marginal.likelihood`."""
    edition = EDITION

    def run(pointers):
        # The edition has to be mentioned to be part of what numba knows the function by.
        where = numba.carray(pointers, CALLED_WITH if edition else 0)
        values, T, out = floats(where, _VALUES), floats(where, _T), floats(where, _OUT)
        d_values, d_T = floats(where, _D_VALUES), floats(where, _D_T)
        d_out, program = floats(where, _D_OUT), addresses(where, _PROGRAM)
        forms, shape = rows_of(integers(program, FORMS), 5), integers(program, SHAPE)
        mean, spread, at_T = forms[shape[0]], forms[shape[3]], places_of_factors(program)
        places, noise = integers(program, PLACES), floats(program, NOISE)
        y, columns, rows, tree = _data(program)
        table, nothing = np.empty(shape[2]), np.empty(0)
        value = _work_out(values, nothing, table, nothing, program)
        P = _correlations(program)
        _gather(table, places, P.ravel())
        whole = factor_of_levels(T, at_T, program)
        mu, log_sd = _of_rows(out, mean, len(y)), _of_rows(out, spread, len(y))
        if len(noise):
            draw_given(y, mu, log_sd, P, columns, whole, rows, tree, noise)
            scale(noise, tree, whole)
            return value
        density, d_mu, d_log_sd, d_P, d_whole = log_density(
            y, mu, log_sd, P, columns, whole, rows, tree
        )
        _of_rows_backward(d_out, mean, d_mu)
        _of_rows_backward(d_out, spread, d_log_sd)
        factor_of_levels_backward(d_whole, d_T, at_T, program)
        d_table = np.zeros(len(table))
        _scatter(table, places, d_P.ravel(), d_table)
        _work_out(values, d_values, nothing, d_table, program)
        return value + density

    return on_disk(lambda cache: numba.cfunc(CALLED, cache=cache, pipeline_class=Glue)(run))


def compiled():
    """Compile it, or load it from disk."""
    likelihood()
