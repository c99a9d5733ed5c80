"""A whole log-density with its gradient, as one function that is compiled once for all models.

What differs between models is data: a `Program` lists the parameters with their priors, the
covariances of the effects, the linear forms that make the predictors, and what the likelihood
needs. Numba compiles the function when it is first met on a machine and keeps it on disk, so no
model has to wait for a compiler.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from bayesmixed import lkj
from bayesmixed.edition import EDITION, on_disk
from bayesmixed.elimination import (
    FAST,
    Coupling,
    Records,
    Totals,
    Tree,
    draw,
    eliminate,
    integrated,
    residuals,
)
from bayesmixed.pointers import floats, integers
from bayesmixed.univariate import WIDTH, log_prior

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int32]

# Kinds of instructions: what is added to a linear form.
COLUMN, EFFECT, FORM, LOG, LOGIT = range(5)


class Program(NamedTuple):
    """A model as data.

    The unconstrained point holds one number for each parameter of `numbers`, and then those that
    the covariances and effects say.

    Parameters
    ----------
    origin, unit : floats (size,)
        The unconstrained point is ``origin + unit * z``, z being what is sampled.
    numbers : floats (parameters, width)
        Prior and transform of each, as `univariate.encode` writes them.
    columns : floats
        Columns, offsets and multipliers that the instructions refer to.
    etas : floats
        Parameter of each correlation prior.
    stats : floats
        What the family's kernel knows of the outcome.
    reference : floats (terms,)
        Coefficients that the outcome was reduced by, where effects are integrated out.
    ZZ, ZX, Zy, rows, yy, Xy, XX : floats
        See `elimination.Records` and `elimination.Totals`.
    link, sum_y, sum_X, pair : floats
        See `elimination.Coupling`.
    covariances : ints (covariances, 3)
        Number of effects, and where `members` begins to say which parameters are the standard
        deviations, and then for each correlated block its size, its place in the point, the place
        in `etas`, and its members; the third number counts the blocks.
    members : ints
    effects : ints (groupings, 6)
        Groups, effects, place in the point, covariance, first form of the means or -1 where
        effects are standardised, place among the values.
    forms : ints (forms, 5)
        Length, place among the outputs, place of the offset in `columns` or -1, first instruction
        and number of instructions.
    instructions : ints (instructions, 5)
        Kind; parameter, grouping or form; effect; place in `indices`; place in `columns` or -1.
    indices : ints
    shape : ints (5,)
        Number of predictors and of rows that the kernel sees, further numbers in `stats`; form of
        the error variances; whether the likelihood is the integrated one.
    varies : ints (predictors,)
        Whether a predictor has a value for each row.
    terms : ints (terms,)
        Parameters that are the coefficients, where effects are integrated out.
    sizes, counts, parents, levels : ints
        See `elimination.Tree`; `levels` are the covariances of its levels.
    leaf, stratum, link_record, link_column, ..., pair_second : ints
        See `elimination.Records` and `elimination.Coupling`.
    """

    origin: Floats
    unit: Floats
    numbers: Floats
    columns: Floats
    etas: Floats
    stats: Floats
    reference: Floats
    ZZ: Floats
    ZX: Floats
    Zy: Floats
    rows: Floats
    yy: Floats
    Xy: Floats
    XX: Floats
    link: Floats
    sum_y: Floats
    sum_X: Floats
    pair: Floats
    covariances: Integers
    members: Integers
    effects: Integers
    forms: Integers
    instructions: Integers
    indices: Integers
    shape: Integers
    varies: Integers
    terms: Integers
    sizes: Integers
    counts: Integers
    parents: Integers
    levels: Integers
    leaf: Integers
    stratum: Integers
    link_record: Integers
    link_column: Integers
    sum_stratum: Integers
    sum_column: Integers
    pair_stratum: Integers
    pair_first: Integers
    pair_second: Integers


FLOAT_FIELDS = 18
# Places of the arrays among the pointers.
(
    ORIGIN,
    UNIT,
    NUMBERS,
    COLUMNS,
    ETAS,
    STATS,
    REFERENCE,
    ZZ,
    ZX,
    ZY,
    ROWS,
    YY,
    XY,
    XX,
    LINK,
    SUM_Y,
    SUM_X,
    PAIR,
    COVARIANCES,
    MEMBERS,
    EFFECTS,
    FORMS,
    INSTRUCTIONS,
    INDICES,
    SHAPE,
    VARIES,
    TERMS,
    SIZES,
    COUNTS,
    PARENTS,
    LEVELS,
    LEAF,
    STRATUM,
    LINK_RECORD,
    LINK_COLUMN,
    SUM_STRATUM,
    SUM_COLUMN,
    PAIR_STRATUM,
    PAIR_FIRST,
    PAIR_SECOND,
) = range(len(Program._fields))


@njit
def _rows(flat, width):
    return flat.reshape((len(flat) // width, width))


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
    out = _forward(values, u, at_u, program)
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
    _backward(values, u, d_values, d_u, at_u, out, d_out, program)
    _effects_backward(x, gradient, T, d_T, at_T, d_u, at_u, program)
    _factors_backward(x, gradient, F, d_T, at_T, values, d_values, program)
    for j in range(len(values)):
        gradient[j] += d_values[j] * slopes[j]
    gradient *= unit
    return total


@njit(error_model="numpy")
def _parameters(x, gradient, program):
    """Values of the parameters, their slopes, and the log of their prior densities."""
    numbers = _rows(floats(program, NUMBERS), WIDTH)
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
    covariances = _rows(integers(program, COVARIANCES), 3)
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
    effects = _rows(integers(program, EFFECTS), 6)
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
def _forward(values, u, at_u, program):
    """All linear forms, one after another."""
    columns = floats(program, COLUMNS)
    effects = _rows(integers(program, EFFECTS), 6)
    forms = _rows(integers(program, FORMS), 5)
    instructions = _rows(integers(program, INSTRUCTIONS), 5)
    indices = integers(program, INDICES)
    size = 0
    for form in forms:
        size = max(size, form[1] + form[0])
    out = np.empty(size)
    for form in forms:
        n, place, offset = form[0], form[1], form[2]
        o = out[place : place + n]
        if offset < 0:
            o[:] = 0.0
        else:
            o[:] = columns[offset : offset + n]
        for i in range(form[3], form[3] + form[4]):
            step = instructions[i]
            kind, a = step[0], step[1]
            if kind == COLUMN:
                _add_column(o, values[a], columns, step[4])
            elif kind == EFFECT:
                begin = at_u[a] + step[2] * effects[a, 0]
                part = u[begin : begin + effects[a, 0]]
                _gather(o, part, indices[step[3] : step[3] + n], columns, step[4])
            elif kind == FORM:
                begin = forms[a, 1]
                part = out[begin : begin + forms[a, 0]]
                _gather(o, part, indices[step[3] : step[3] + n], columns, step[4])
            elif kind == LOG:
                o += np.log(values[a])
            else:
                o += np.log(values[a]) - np.log1p(-values[a])
    return out


@njit(fastmath=FAST)
def _add_column(o, value, columns, at):
    if at < 0:
        for i in range(len(o)):
            o[i] += value
    else:
        column = columns[at : at + len(o)]
        for i in range(len(o)):
            o[i] += value * column[i]


@njit(fastmath=FAST)
def _gather(o, part, index, columns, at):
    if at < 0:
        for i in range(len(o)):
            o[i] += part[index[i]]
    else:
        column = columns[at : at + len(o)]
        for i in range(len(o)):
            o[i] += part[index[i]] * column[i]


@njit(fastmath=FAST, error_model="numpy")
def _backward(values, u, d_values, d_u, at_u, out, d_out, program):
    """The reverse of `_forward`."""
    columns = floats(program, COLUMNS)
    effects = _rows(integers(program, EFFECTS), 6)
    forms = _rows(integers(program, FORMS), 5)
    instructions = _rows(integers(program, INSTRUCTIONS), 5)
    indices = integers(program, INDICES)
    for f in range(len(forms) - 1, -1, -1):
        form = forms[f]
        n = form[0]
        d = d_out[form[1] : form[1] + n]
        for i in range(form[3], form[3] + form[4]):
            step = instructions[i]
            kind, a = step[0], step[1]
            if kind == COLUMN:
                d_values[a] += _dot(d, columns, step[4])
            elif kind == EFFECT:
                begin = at_u[a] + step[2] * effects[a, 0]
                part = d_u[begin : begin + effects[a, 0]]
                _scatter(d, part, indices[step[3] : step[3] + n], columns, step[4])
            elif kind == FORM:
                begin = forms[a, 1]
                part = d_out[begin : begin + forms[a, 0]]
                _scatter(d, part, indices[step[3] : step[3] + n], columns, step[4])
            elif kind == LOG:
                d_values[a] += d.sum() / values[a]
            else:
                d_values[a] += d.sum() / (values[a] * (1.0 - values[a]))


@njit(fastmath=FAST)
def _dot(d, columns, at):
    total = 0.0
    if at < 0:
        for i in range(len(d)):
            total += d[i]
    else:
        column = columns[at : at + len(d)]
        for i in range(len(d)):
            total += d[i] * column[i]
    return total


@njit(fastmath=FAST)
def _scatter(d, part, index, columns, at):
    if at < 0:
        for i in range(len(d)):
            part[index[i]] += d[i]
    else:
        column = columns[at : at + len(d)]
        for i in range(len(d)):
            part[index[i]] += d[i] * column[i]


@njit(fastmath=FAST, error_model="numpy")
def _centred(u, at_u, T, at_T, out, d_u, d_T, d_out, program):
    """Log-prior of the values that are sampled about a mean."""
    effects = _rows(integers(program, EFFECTS), 6)
    forms = _rows(integers(program, FORMS), 5)
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
    effects = _rows(integers(program, EFFECTS), 6)
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
    covariances = _rows(integers(program, COVARIANCES), 3)
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
    shape, forms = integers(program, SHAPE), _rows(integers(program, FORMS), 5)
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
    forms = _rows(integers(program, FORMS), 5)
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
        out = _forward(values, u, at_u, program)
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
