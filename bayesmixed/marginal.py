"""The likelihood of a program whose normal effects are integrated out, or draws of these effects.

It is machine code of its own, which the log-density calls by its address.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np

from bayesmixed.edition import EDITION, on_disk
from bayesmixed.elimination import Records, Tree, scale
from bayesmixed.glue import Glue, glue
from bayesmixed.group_effects import (
    factor_of_levels,
    factor_of_levels_backward,
    places_of_factors,
)
from bayesmixed.instructions import (
    COUNTS,
    FORMS,
    LEAF,
    LINK,
    LINK_COLUMN,
    LINK_RECORD,
    NOISE,
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
from bayesmixed.normal import Coupling, Totals, integrated
from bayesmixed.pointers import CALLED, CALLED_WITH, addresses, floats, integers

# Places of what the likelihood is called with; see `evaluator`.
_VALUES, _U, _T, _OUT, _D_VALUES, _D_U, _D_T, _D_OUT, _PROGRAM = np.arange(CALLED_WITH // 2)


@glue
def _gaussian(values, T, at_T, out, program):
    """What the integrated density needs: the data's tuples and the current values."""
    sizes, terms = integers(program, SIZES), integers(program, TERMS)
    leaf = integers(program, LEAF)
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
    whole = factor_of_levels(T, at_T, program)
    delta = np.empty(p)
    for a in range(p):
        delta[a] = values[terms[a]] - floats(program, REFERENCE)[a]
    begin = forms[shape[3], 1]
    log_sigma = out[begin : begin + strata]
    return tree, records, totals, coupling, whole, delta, log_sigma


@cache
def likelihood():
    """The compiled likelihood, whose address goes behind a program.

    It writes density and slopes, of and into the arrays whose addresses `evaluator` gives. Where
    there is room for them behind the program, effects are drawn from their posterior given all
    else, instead of the slopes; standard normal numbers stand in their place.
    """
    edition = EDITION

    def run(pointers):
        # The edition has to be mentioned to be part of what numba knows the function by.
        where = numba.carray(pointers, CALLED_WITH if edition else 0)
        values, u, T = floats(where, _VALUES), floats(where, _U), floats(where, _T)
        d_values, d_u, d_T = floats(where, _D_VALUES), floats(where, _D_U), floats(where, _D_T)
        out, d_out = floats(where, _OUT), floats(where, _D_OUT)
        program = addresses(where, _PROGRAM)
        forms, at_T = rows_of(integers(program, FORMS), 5), places_of_factors(program)
        shape, terms = integers(program, SHAPE), integers(program, TERMS)
        tree, records, totals, coupling, whole, delta, log_sigma = _gaussian(
            values, T, at_T, out, program
        )
        d_whole, d_delta = np.empty_like(whole), np.empty_like(delta)
        begin = forms[shape[3], 1]
        d_log_sigma, noise = np.empty(len(log_sigma)), floats(program, NOISE)
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
            noise,
        )
        if len(noise):
            scale(noise, tree, whole)
            return value
        for a in range(len(delta)):
            d_values[terms[a]] += d_delta[a]
        for s in range(len(log_sigma)):
            d_out[begin + s] += d_log_sigma[s]
        factor_of_levels_backward(d_whole, d_T, at_T, program)
        return value

    return on_disk(lambda cache: numba.cfunc(CALLED, cache=cache, pipeline_class=Glue)(run))


def compiled():
    """Compile it, or load it from disk."""
    likelihood()
