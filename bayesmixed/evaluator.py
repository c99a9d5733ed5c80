"""A whole log-density with its gradient, as one function that is compiled once for all models.

What differs between models is data: a `Program` lists the parameters with their priors, the
covariances of the effects, the linear forms that make the predictors, and what the likelihood
needs. Numba compiles the function when it is first met on a machine and keeps it on disk, so no
model has to wait for a compiler.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from bayesmixed.edition import EDITION, on_disk
from bayesmixed.elimination import Records, Tree, draw, eliminate
from bayesmixed.forms import backward, forward, size_of
from bayesmixed.group_effects import (
    effects_backward,
    factors_backward,
    factors_of,
    places_of,
    values_of,
)
from bayesmixed.instructions import (
    COUNTS,
    EFFECTS,
    FORMS,
    LEAF,
    LEVELS,
    LINK,
    LINK_COLUMN,
    LINK_RECORD,
    NUMBERS,
    ORIGIN,
    PAIR,
    PAIR_FIRST,
    PAIR_SECOND,
    PAIR_STRATUM,
    PARENTS,
    REFERENCE,
    ROWS,
    SHAPE,
    SIZES,
    STATS,
    STRATUM,
    SUM_COLUMN,
    SUM_STRATUM,
    SUM_X,
    SUM_Y,
    TERMS,
    UNIT,
    VARIES,
    XX,
    XY,
    YY,
    ZX,
    ZY,
    ZZ,
    rows_of,
)
from bayesmixed.normal import Coupling, Totals, integrated, residuals
from bayesmixed.pointers import floats, integers
from bayesmixed.univariate import WIDTH, log_prior


@njit(error_model="numpy")
def log_density(z, gradient, program):
    """Log-density at a point, up to a constant; the gradient is written to `gradient`.

    Parameters
    ----------
    z, gradient : array, shape (size,)
    program : array of int
        `pointers` to a `Program`, and the address of the family's kernel behind them.
    """
    shape = integers(program, SHAPE)
    unit = floats(program, UNIT)
    x = floats(program, ORIGIN) + unit * z
    gradient[:] = 0.0
    values, slopes, total = _parameters(x, gradient, program)
    T, F, at_T, lkj_density = factors_of(x, values, program)
    u, at_u, out, prior = _forms(x, values, F, at_T, program)
    total += lkj_density + prior
    d_out, d_values, d_u = np.zeros_like(out), np.zeros_like(values), np.zeros_like(u)
    d_T, d_F = np.zeros_like(T), np.zeros_like(F)
    if shape[4]:
        total += _integrated(values, u, T, at_T, out, d_values, d_u, d_T, d_out, program)
    else:
        total += _kernel(out, d_out, program)
    effects = rows_of(integers(program, EFFECTS), 5)
    means, every = _means(effects), len(integers(program, FORMS)) // 5
    backward(means, every, values, u, d_values, d_u, at_u, d_out, program)
    for e in range(len(effects) - 1, -1, -1):
        effects_backward(
            e, x, gradient, F, d_F, at_T, values, d_values, d_u, at_u, out, d_out, program
        )
        first = effects[e, 4]
        if first >= 0:
            last = first + effects[e, 1]
            backward(first, last, values, u, d_values, d_u, at_u, d_out, program)
    factors_backward(x, gradient, F, d_F, d_T, at_T, values, d_values, program)
    for j in range(len(values)):
        gradient[j] += d_values[j] * slopes[j]
    gradient *= unit
    return total


@njit(error_model="numpy")
def _parameters(x, gradient, program):
    """Values of the parameters, their slopes, and the log of their prior densities."""
    numbers = rows_of(floats(program, NUMBERS), WIDTH)
    count = len(numbers)
    values, slopes, total = np.empty(count), np.empty(count), 0.0
    for j in range(count):
        value, slope, density, change = log_prior(x[j], numbers[j])
        values[j], slopes[j] = value, slope
        gradient[j] = change
        total += density
    return values, slopes, total


@njit
def _means(effects):
    """Number of forms that are means of sampled values; they stand first."""
    count = 0
    for e in range(len(effects)):
        if effects[e, 4] >= 0:
            count += effects[e, 1]
    return count


@njit(error_model="numpy")
def _forms(x, values, F, at_T, program):
    """Values of the sampled effects, of all linear forms, and the effects' log-prior."""
    effects = rows_of(integers(program, EFFECTS), 5)
    at_u, out, total = places_of(program), np.empty(size_of(program)), 0.0
    u = np.empty(at_u[-1])
    for e in range(len(effects)):
        first = effects[e, 4]
        if first >= 0:
            forward(first, first + effects[e, 1], values, u, at_u, out, program)
        total += values_of(e, x, F, at_T, values, u, at_u, out, program)
    every = len(integers(program, FORMS)) // 5
    forward(_means(effects), every, values, u, at_u, out, program)
    return u, at_u, out, total


@njit(error_model="numpy")
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


@njit(error_model="numpy")
def _integrated(values, u, T, at_T, out, d_values, d_u, d_T, d_out, program):
    forms = rows_of(integers(program, FORMS), 5)
    shape = integers(program, SHAPE)
    terms = integers(program, TERMS)
    sizes = integers(program, SIZES)
    levels = integers(program, LEVELS)
    tree, records, totals, coupling, whole, delta, log_sigma = _gaussian(
        values, T, at_T, out, program
    )
    d_whole, d_delta = np.empty_like(whole), np.empty_like(delta)
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
    first = 0
    for level in range(len(levels)):
        q, at = sizes[level], at_T[levels[level]]
        for i in range(q):
            for j in range(i + 1):
                d_T[at + i * q + j] += d_whole[first + i, first + j]
        first += q
    begin = forms[shape[3], 1]
    d_out[begin : begin + len(log_sigma)] += d_log_sigma
    return value


@intrinsic
def _call(context, address, rows, varies, eta, stats, extra, d_eta):
    """Call a family's kernel at an address: see `kernels`."""

    def generate(_, builder, signature, given):
        integer, double = ir.IntType(64), ir.DoubleType().as_pointer()
        kinds = [integer, integer.as_pointer(), double, double, integer, double]
        function = ir.FunctionType(ir.DoubleType(), kinds)
        pointer = builder.inttoptr(given[0], function.as_pointer())
        values = [
            builder.inttoptr(v, kind) if isinstance(kind, ir.PointerType) else v
            for v, kind in zip(given[1:], kinds, strict=True)
        ]
        return builder.call(pointer, values)

    return types.float64(*[types.int64] * 7), generate


@njit
def _kernel(out, d_out, program):
    stats, shape = floats(program, STATS), integers(program, SHAPE)
    varies = integers(program, VARIES).astype(np.int64)
    return _call(
        program[-1],
        np.int64(shape[1]),
        np.int64(varies.ctypes.data),
        np.int64(out.ctypes.data),
        np.int64(stats.ctypes.data),
        np.int64(shape[2]),
        np.int64(d_out.ctypes.data),
    )


@njit(error_model="numpy")
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
        values, _, _ = _parameters(points[i], scratch, program)
        T, F, at_T, _ = factors_of(points[i], values, program)
        u, _, out, _ = _forms(points[i], values, F, at_T, program)
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

    return on_disk(lambda cache: njit(cache=cache)(run))
