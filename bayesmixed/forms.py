"""Linear forms: sums of parameters and effects times columns, and the reverse.

They are the predictors at the distinct rows, tables of what many rows share, and the means that
the values of centred groupings are about.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bayesmixed.elimination import FAST
from bayesmixed.instructions import (
    COLUMN,
    COLUMNS,
    EFFECT,
    EFFECTS,
    FORM,
    FORMS,
    INDICES,
    INSTRUCTIONS,
    rows_of,
)
from bayesmixed.pointers import floats, integers


@njit
def size_of(program):
    """Number of values of all forms."""
    size = 0
    for form in rows_of(integers(program, FORMS), 5):
        size = max(size, form[1] + form[0])
    return size


@njit(fastmath=FAST, error_model="numpy")
def forward(first, last, values, u, at_u, out, program):
    """Work out the forms from number `first` to before `last`, one after another."""
    columns = floats(program, COLUMNS)
    effects = rows_of(integers(program, EFFECTS), 5)
    forms = rows_of(integers(program, FORMS), 5)
    instructions = rows_of(integers(program, INSTRUCTIONS), 5)
    indices = integers(program, INDICES)
    for form in forms[first:last]:
        n, place, offset = form[0], form[1], form[2]
        o = out[place : place + n]
        # Loops: numba takes seconds to compile an assignment to a slice.
        for i in range(n):
            o[i] = 0.0 if offset < 0 else columns[offset + i]
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
            else:
                _add_column(o, np.log(values[a]), columns, step[4])


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
def backward(first, last, values, u, d_values, d_u, at_u, d_out, program):
    """The reverse of `forward`."""
    columns = floats(program, COLUMNS)
    effects = rows_of(integers(program, EFFECTS), 5)
    forms = rows_of(integers(program, FORMS), 5)
    instructions = rows_of(integers(program, INSTRUCTIONS), 5)
    indices = integers(program, INDICES)
    for f in range(last - 1, first - 1, -1):
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
            else:
                d_values[a] += _dot(d, columns, step[4]) / values[a]


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
