"""A whole log-density with its gradient, as one function that is compiled once for all models.

What differs between models is data: a `Program` lists the parameters with their priors, the
covariances of the effects, the linear forms that make the predictors, and what the likelihood
needs. Numba compiles the function when it is first met on a machine and keeps it on disk, so no
model has to wait for a compiler.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from bayesmixed.encoded import WIDTH
from bayesmixed.forms import backward, forward, size_of
from bayesmixed.glue import glue
from bayesmixed.group_effects import (
    effects_backward,
    factors_backward,
    factors_of,
    places_of,
    values_of,
)
from bayesmixed.instructions import (
    DIRECTIONS,
    EFFECTS,
    FORMS,
    NUMBERS,
    ORIGIN,
    SHAPE,
    STATS,
    TURNED,
    UNIT,
    VARIES,
    rows_of,
)
from bayesmixed.pointers import CALLED_WITH, call, floats, integers
from bayesmixed.univariate import log_prior


@glue
def log_density(z, gradient, program):
    """Log-density at a point, up to a constant; the gradient is written to `gradient`.

    Parameters
    ----------
    z, gradient : array, shape (size,)
    program : array of int
        `pointers` to a `Program`, those to the effects that are to be drawn or to nothing, and the
        address of the likelihood: the family's kernel, that with effects integrated out (see
        `marginal`), or that of correlated series (see `correlated_likelihood`).
    """
    shape = integers(program, SHAPE)
    x = _point(z, program)
    for i in range(len(z)):
        gradient[i] = 0.0
    values, slopes, total = parameters_of(x, gradient, program)
    T, F, at_T, lkj_density = factors_of(x, values, program)
    u, at_u, out, prior = forms_of(x, values, F, at_T, program)
    total += lkj_density + prior
    d_out, d_values, d_u = np.zeros_like(out), np.zeros_like(values), np.zeros_like(u)
    d_T, d_F = np.zeros_like(T), np.zeros_like(F)
    if shape[4]:
        total += _whole(values, u, T, out, d_values, d_u, d_T, d_out, program)
    else:
        total += _kernel(out, d_out, program)
    effects = rows_of(integers(program, EFFECTS), 5)
    means, every = _means(effects), np.int64(len(integers(program, FORMS)) // 5)
    backward(means, every, values, u, d_values, d_u, at_u, d_out, program)
    for e in range(len(effects) - 1, -1, -1):
        effects_backward(
            e, x, gradient, F, d_F, at_T, values, d_values, d_u, at_u, out, d_out, program
        )
        first = np.int64(effects[e, 4])
        if first >= 0:
            last = first + effects[e, 1]
            backward(first, last, values, u, d_values, d_u, at_u, d_out, program)
    factors_backward(x, gradient, F, d_F, d_T, at_T, values, d_values, program)
    for j in range(len(values)):
        gradient[j] += d_values[j] * slopes[j]
    _point_backward(gradient, program)
    return total


@njit
def _point(z, program):
    """The unconstrained point at what is sampled."""
    unit, origin, x = floats(program, UNIT), floats(program, ORIGIN), np.empty(len(z))
    # Loops: numba takes long to compile sums and products of arrays.
    for i in range(len(z)):
        x[i] = origin[i] + unit[i] * z[i]
    directions, at = floats(program, DIRECTIONS), 0
    for block in rows_of(integers(program, TURNED), 2):
        first, size = block[0], block[1]
        for i in range(first, first + size):
            x[i] = origin[i]
            for j in range(first, first + size):
                x[i] += directions[at] * z[j]
                at += 1
    return x


@njit
def _point_backward(gradient, program):
    """The reverse of `_point`, in place."""
    unit, slopes = floats(program, UNIT), gradient.copy()
    for i in range(len(gradient)):
        gradient[i] *= unit[i]
    directions, at = floats(program, DIRECTIONS), 0
    for block in rows_of(integers(program, TURNED), 2):
        first, size = block[0], block[1]
        for j in range(first, first + size):
            gradient[j] = 0.0
        for i in range(first, first + size):
            for j in range(first, first + size):
                gradient[j] += directions[at] * slopes[i]
                at += 1


@glue
def parameters_of(x, gradient, program):
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
    count = np.int64(0)
    for e in range(len(effects)):
        if effects[e, 4] >= 0:
            count += effects[e, 1]
    return count


@glue
def forms_of(x, values, F, at_T, program):
    """Values of the sampled effects, of all linear forms, and the effects' log-prior."""
    effects = rows_of(integers(program, EFFECTS), 5)
    at_u, out, total = places_of(program), np.empty(size_of(program)), 0.0
    u = np.empty(at_u[-1])
    for e in range(len(effects)):
        first = np.int64(effects[e, 4])
        if first >= 0:
            forward(first, first + effects[e, 1], values, u, at_u, out, program)
        total += values_of(e, x, F, at_T, values, u, at_u, out, program)
    every = len(integers(program, FORMS)) // 5
    forward(_means(effects), every, values, u, at_u, out, program)
    return u, at_u, out, total


@njit
def _whole(values, u, T, out, d_values, d_u, d_T, d_out, program):
    """Call the likelihood that sees the whole program."""
    where = np.empty(CALLED_WITH, np.int64)
    k = 0
    for array in (values, u, T, out, d_values, d_u, d_T, d_out):
        where[k], where[k + 1] = array.ctypes.data, array.size
        k += 2
    where[16], where[17] = program.ctypes.data, program.size
    return call(program[-1], where)


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
    value = _call(
        program[-1],
        np.int64(shape[1]),
        np.int64(varies.ctypes.data),
        np.int64(out.ctypes.data),
        np.int64(stats.ctypes.data),
        np.int64(shape[2]),
        np.int64(d_out.ctypes.data),
    )
    # Mentioned, so that it lives until here: the kernel knows its address only.
    return value + 0.0 * len(varies)
