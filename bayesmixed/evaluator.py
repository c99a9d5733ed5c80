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
from numpy.typing import NDArray

from bayesmixed import lkj
from bayesmixed.edition import EDITION, on_disk
from bayesmixed.elimination import FAST, Records, Tree, draw, eliminate
from bayesmixed.forms import backward, forward
from bayesmixed.instructions import (
    COUNTS,
    COVARIANCES,
    EFFECTS,
    ETAS,
    FORMS,
    LEAF,
    LEVELS,
    LINK,
    LINK_COLUMN,
    LINK_RECORD,
    MEMBERS,
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

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int32]


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
    T, F, at_T, lkj_density = _factors(x, values, program)
    u, at_u, prior = _values(x, T, at_T, program)
    out = forward(values, u, at_u, program)
    total += lkj_density + prior
    d_out = np.zeros_like(out)
    d_values = np.zeros_like(values)
    d_T = np.zeros_like(T)
    d_u = np.zeros_like(u)
    total += _centred(u, at_u, T, at_T, out, d_u, d_T, d_out, program)
    if shape[4]:
        total += _integrated(values, u, T, at_T, out, d_values, d_u, d_T, d_out, program)
    else:
        total += _kernel(out, d_out, program)
    backward(values, u, d_values, d_u, at_u, out, d_out, program)
    _effects_backward(x, gradient, T, d_T, at_T, d_u, at_u, program)
    _factors_backward(x, gradient, F, d_T, at_T, values, d_values, program)
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


@njit(error_model="numpy")
def _factors(x, values, program):
    """Factors T of every covariance, and F of its correlations: T = diag(sd) F."""
    etas = floats(program, ETAS)
    covariances = rows_of(integers(program, COVARIANCES), 3)
    members = integers(program, MEMBERS)
    table = covariances
    at = np.zeros(len(table) + 1, np.int64)
    for c in range(len(table)):
        at[c + 1] = at[c] + table[c, 0] * table[c, 0]
    T, F, total = np.zeros(at[-1]), np.zeros(at[-1]), 0.0
    for c in range(len(table)):
        q, m = table[c, 0], table[c, 1]
        factor = F[at[c] : at[c + 1]].reshape((q, q))
        for i in range(q):
            factor[i, i] = 1.0
        m += q
        for _ in range(table[c, 2]):
            n, place, eta = members[m], members[m + 1], etas[members[m + 2]]
            L = np.zeros((n, n))
            total += lkj.forward(x[place : place + n * (n - 1) // 2], n, eta, L)
            for i in range(n):
                for j in range(i + 1):
                    factor[members[m + 3 + i], members[m + 3 + j]] = L[i, j]
            m += 3 + n
        for i in range(q):
            sd = values[members[table[c, 1] + i]]
            for j in range(q):
                T[at[c] + i * q + j] = sd * factor[i, j]
    return T, F, at, total


@njit(fastmath=FAST, error_model="numpy")
def _values(x, T, at_T, program):
    """Values of the sampled effects, each effect's groups together, and their log-prior."""
    effects = rows_of(integers(program, EFFECTS), 6)
    table = effects
    at = np.zeros(len(table) + 1, np.int64)
    for e in range(len(table)):
        at[e + 1] = at[e] + table[e, 0] * table[e, 1]
    u, total = np.empty(at[-1]), 0.0
    for e in range(len(table)):
        groups, q, place, c = table[e, 0], table[e, 1], table[e, 2], table[e, 3]
        standardised = table[e, 4] < 0
        for g in range(groups):
            for k in range(q):
                if standardised:
                    value = 0.0
                    for j in range(k + 1):
                        value += T[at_T[c] + k * q + j] * x[place + g * q + j]
                    total -= 0.5 * x[place + g * q + k] ** 2
                else:
                    value = x[place + g * q + k]
                u[at[e] + k * groups + g] = value
    return u, at, total


@njit(fastmath=FAST, error_model="numpy")
def _centred(u, at_u, T, at_T, out, d_u, d_T, d_out, program):
    """Log-prior of the values that are sampled about a mean."""
    effects = rows_of(integers(program, EFFECTS), 6)
    forms = rows_of(integers(program, FORMS), 5)
    total = 0.0
    for e in range(len(effects)):
        row = effects[e]
        groups, q, c, first = row[0], row[1], row[3], row[4]
        if first < 0:
            continue
        factor = T[at_T[c] : at_T[c + 1]].reshape((q, q))
        d_factor = d_T[at_T[c] : at_T[c + 1]].reshape((q, q))
        w = np.empty(q)
        for k in range(q):
            total -= groups * np.log(factor[k, k])
            d_factor[k, k] -= groups / factor[k, k]
        for g in range(groups):
            for k in range(q):
                rest = u[at_u[e] + k * groups + g] - out[forms[first + k, 1] + g]
                for j in range(k):
                    rest -= factor[k, j] * w[j]
                w[k] = rest / factor[k, k]
                total -= 0.5 * w[k] * w[k]
            # s = T^-T w, whose signs are those of a pull towards the mean.
            for k in range(q - 1, -1, -1):
                s = w[k]
                for j in range(k + 1, q):
                    s -= factor[j, k] * d_u[at_u[e] + j * groups + g]
                s /= factor[k, k]
                d_u[at_u[e] + k * groups + g] = s
            for k in range(q):
                s = d_u[at_u[e] + k * groups + g]
                d_out[forms[first + k, 1] + g] += s
                d_u[at_u[e] + k * groups + g] = -s
                for j in range(k + 1):
                    d_factor[k, j] += s * w[j]
    return total


@njit(fastmath=FAST, error_model="numpy")
def _effects_backward(x, gradient, T, d_T, at_T, d_u, at_u, program):
    effects = rows_of(integers(program, EFFECTS), 6)
    for e in range(len(effects)):
        row = effects[e]
        groups, q, place, c = row[0], row[1], row[2], row[3]
        for g in range(groups):
            for j in range(q):
                at = place + g * q + j
                if row[4] >= 0:
                    gradient[at] += d_u[at_u[e] + j * groups + g]
                    continue
                change = -x[at]
                for k in range(j, q):
                    d = d_u[at_u[e] + k * groups + g]
                    change += T[at_T[c] + k * q + j] * d
                    d_T[at_T[c] + k * q + j] += d * x[at]
                gradient[at] += change


@njit(error_model="numpy")
def _factors_backward(x, gradient, F, d_T, at_T, values, d_values, program):
    etas = floats(program, ETAS)
    covariances = rows_of(integers(program, COVARIANCES), 3)
    members = integers(program, MEMBERS)
    table = covariances
    for c in range(len(table)):
        q, m = table[c, 0], table[c, 1]
        factor = F[at_T[c] : at_T[c + 1]].reshape((q, q))
        d = d_T[at_T[c] : at_T[c + 1]].reshape((q, q))
        for i in range(q):
            sd = members[m + i]
            for j in range(i + 1):
                d_values[sd] += d[i, j] * factor[i, j]
                d[i, j] *= values[sd]
        m += q
        for _ in range(table[c, 2]):
            n, place, eta = members[m], members[m + 1], etas[members[m + 2]]
            L, d_L = np.zeros((n, n)), np.zeros((n, n))
            for i in range(n):
                for j in range(i + 1):
                    L[i, j] = factor[members[m + 3 + i], members[m + 3 + j]]
                    d_L[i, j] = d[members[m + 3 + i], members[m + 3 + j]]
            size = n * (n - 1) // 2
            lkj.backward(x[place : place + size], n, eta, L, d_L, gradient[place : place + size])
            m += 3 + n


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
    stats = floats(program, STATS)
    shape = integers(program, SHAPE)
    varies = integers(program, VARIES)
    rows = np.int64(shape[1])
    varies = varies.astype(np.int64)
    return _call(
        program[-1],
        rows,
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
        T, _, at_T, _ = _factors(points[i], values, program)
        u, at_u, _ = _values(points[i], T, at_T, program)
        out = forward(values, u, at_u, program)
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
