"""Groups' effects: their covariances, the values that are sampled, and the priors of both.

An effect is sampled as x, which is partly centred: with L the Cholesky factor of the correlations,
m the mean that the values carry, and on diagonals the standard deviations D, weights W from 0 to 1,
and units U in which the data vary,

    u = m + D B (x - W m / U),    B = (D / U)^-W (W + (1 - W) L).

With W = 0 the x are standard normal, with W = 1 they are the values u / U; between these the
prior of x loses its dependence on D and m by as much as its likelihood gains it (Papaspiliopoulos,
Roberts & Skoeld 2007, Statistical Science 22:59, section 5, with powers of D for several effects).
Whatever is of all groups lies flat, covariance by covariance and effect by effect; `at_T` and
`at_u` say where each begins.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bayesmixed import lkj
from bayesmixed.elimination import FAST
from bayesmixed.instructions import (
    COVARIANCES,
    EFFECTS,
    ETAS,
    FORMS,
    LEVELS,
    MEMBERS,
    SIZES,
    WEIGHTS,
    rows_of,
)
from bayesmixed.pointers import floats, integers


@njit(error_model="numpy")
def places_of_factors(program):
    """Where each covariance's factor begins, and how many numbers all of them have."""
    table = rows_of(integers(program, COVARIANCES), 3)
    at = np.zeros(len(table) + 1, np.int64)
    for c in range(len(table)):
        at[c + 1] = at[c] + table[c, 0] * table[c, 0]
    return at


@njit(error_model="numpy")
def factors_of(x, values, program):
    """Factors T of every covariance, and F of its correlations: T = diag(sd) F."""
    etas = floats(program, ETAS)
    table, members = rows_of(integers(program, COVARIANCES), 3), integers(program, MEMBERS)
    at = places_of_factors(program)
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


@njit(error_model="numpy")
def places_of(program):
    """Where each grouping's values begin, and how many there are."""
    effects = rows_of(integers(program, EFFECTS), 5)
    at = np.zeros(len(effects) + 1, np.int64)
    for e in range(len(effects)):
        at[e + 1] = at[e] + effects[e, 0] * effects[e, 1]
    return at


@njit(error_model="numpy")
def _scaling(e, F, at_T, values, program):
    """Standard deviations s, weights w and units of a grouping's effects, and its L and B."""
    effects = rows_of(integers(program, EFFECTS), 5)
    q, c = effects[e, 1], effects[e, 3]
    first = 0
    for other in range(e):
        first += effects[other, 1]
    weights = floats(program, WEIGHTS)
    w, unit = weights[2 * first : 2 * first + q], weights[2 * first + q : 2 * (first + q)]
    covariance = rows_of(integers(program, COVARIANCES), 3)[c]
    members = integers(program, MEMBERS)
    L = F[at_T[c] : at_T[c + 1]].reshape((q, q))
    s, B = np.empty(q), np.zeros((q, q))
    for k in range(q):
        s[k] = values[members[covariance[1] + k]]
        for j in range(k + 1):
            B[k, j] = (1.0 - w[k]) * L[k, j]
        B[k, k] += w[k]
        if w[k] != 0.0:
            for j in range(k + 1):
                B[k, j] *= (s[k] / unit[k]) ** -w[k]
    return s, w, unit, L, B


@njit(error_model="numpy")
def _solved(L, B):
    """A = L^-1 B, which takes x - W m to standard normal numbers."""
    q = len(L)
    A = np.zeros((q, q))
    for k in range(q):
        for j in range(k + 1):
            rest = B[k, j]
            for i in range(j, k):
                rest -= L[k, i] * A[i, j]
            A[k, j] = rest / L[k, k]
    return A


@njit(fastmath=FAST, error_model="numpy")
def values_of(e, x, F, at_T, values, u, at_u, out, program):
    """Write a grouping's values, given their means in `out`; returns their log-prior."""
    effects = rows_of(integers(program, EFFECTS), 5)
    forms = rows_of(integers(program, FORMS), 5)
    groups, q, place, first = effects[e, 0], effects[e, 1], effects[e, 2], effects[e, 4]
    s, w, unit, L, B = _scaling(e, F, at_T, values, program)
    A = _solved(L, B)
    total, r = 0.0, np.empty(q)
    for k in range(q):
        total += groups * np.log(A[k, k])
    for g in range(groups):
        for k in range(q):
            mean = out[forms[first + k, 1] + g] if first >= 0 else 0.0
            r[k] = x[place + g * q + k] - w[k] * mean / unit[k]
            value, normal = 0.0, 0.0
            for j in range(k + 1):
                value += B[k, j] * r[j]
                normal += A[k, j] * r[j]
            u[at_u[e] + k * groups + g] = mean + s[k] * value
            total -= 0.5 * normal * normal
    return total


@njit(fastmath=FAST, error_model="numpy")
def effects_backward(
    e, x, gradient, F, d_F, at_T, values, d_values, d_u, at_u, out, d_out, program
):
    """The reverse of `values_of`."""
    effects = rows_of(integers(program, EFFECTS), 5)
    forms = rows_of(integers(program, FORMS), 5)
    groups, q, place, first = effects[e, 0], effects[e, 1], effects[e, 2], effects[e, 4]
    s, w, unit, L, B = _scaling(e, F, at_T, values, program)
    A = _solved(L, B)
    d_M, d_A = np.zeros((q, q)), np.zeros((q, q))
    r, pull = np.empty(q), np.empty(q)
    for g in range(groups):
        for k in range(q):
            mean = out[forms[first + k, 1] + g] if first >= 0 else 0.0
            r[k] = x[place + g * q + k] - w[k] * mean / unit[k]
            pull[k] = 0.0
            for j in range(k + 1):
                pull[k] -= A[k, j] * r[j]
        for j in range(q):
            change = 0.0
            for k in range(j, q):
                d = d_u[at_u[e] + k * groups + g]
                change += s[k] * B[k, j] * d + A[k, j] * pull[k]
                d_M[k, j] += d * r[j]
                d_A[k, j] += pull[k] * r[j]
            gradient[place + g * q + j] += change
            if first >= 0:
                d = d_u[at_u[e] + j * groups + g]
                d_out[forms[first + j, 1] + g] += d - w[j] / unit[j] * change
    _scaling_backward(e, s, w, unit, L, B, A, d_M, d_A, groups, d_F, at_T, d_values, program)


@njit(error_model="numpy")
def _scaling_backward(e, s, w, unit, L, B, A, d_M, d_A, groups, d_F, at_T, d_values, program):
    """From slopes of M = D B and A = L^-1 B to those of the sds and of L."""
    q, c = len(s), rows_of(integers(program, EFFECTS), 5)[e, 3]
    covariance = rows_of(integers(program, COVARIANCES), 3)[c]
    members = integers(program, MEMBERS)
    d_L = d_F[at_T[c] : at_T[c + 1]].reshape((q, q))
    d_B = np.zeros((q, q))
    for k in range(q):
        d_A[k, k] += groups / A[k, k]
    for j in range(q):
        for k in range(q - 1, j - 1, -1):
            rest = d_A[k, j]
            for i in range(k + 1, q):
                rest -= L[i, k] * d_B[i, j]
            d_B[k, j] = rest / L[k, k]
    for k in range(q):
        for i in range(k + 1):
            for j in range(i + 1):
                d_L[k, i] -= d_B[k, j] * A[i, j]
    for k in range(q):
        sd = members[covariance[1] + k]
        for j in range(k + 1):
            d_values[sd] += d_M[k, j] * B[k, j]
            d_B[k, j] += s[k] * d_M[k, j]
            if w[k] != 0.0:
                d_values[sd] -= w[k] / s[k] * B[k, j] * d_B[k, j]
                d_L[k, j] += (s[k] / unit[k]) ** -w[k] * (1.0 - w[k]) * d_B[k, j]
            else:
                d_L[k, j] += d_B[k, j]


@njit(error_model="numpy")
def factors_backward(x, gradient, F, d_F, d_T, at_T, values, d_values, program):
    """The reverse of `factors_of`, with the slope of its prior; `d_F` is what F has besides T."""
    etas = floats(program, ETAS)
    table, members = rows_of(integers(program, COVARIANCES), 3), integers(program, MEMBERS)
    for c in range(len(table)):
        q, m = table[c, 0], table[c, 1]
        factor = F[at_T[c] : at_T[c + 1]].reshape((q, q))
        d = d_T[at_T[c] : at_T[c + 1]].reshape((q, q))
        further = d_F[at_T[c] : at_T[c + 1]].reshape((q, q))
        for i in range(q):
            sd = members[m + i]
            for j in range(i + 1):
                d_values[sd] += d[i, j] * factor[i, j]
                d[i, j] = d[i, j] * values[sd] + further[i, j]
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
def factor_of_levels(T, at_T, program):
    """Factors of the covariances of the levels that are integrated out, block-diagonal."""
    sizes, levels = integers(program, SIZES), integers(program, LEVELS)
    f = np.int64(sizes.sum())
    whole, first = np.zeros((f, f)), 0
    for level in range(len(levels)):
        q, at = sizes[level], at_T[levels[level]]
        for i in range(q):
            for j in range(i + 1):
                whole[first + i, first + j] = T[at + i * q + j]
        first += q
    return whole


@njit(error_model="numpy")
def factor_of_levels_backward(d_whole, d_T, at_T, program):
    """The reverse of `factor_of_levels`."""
    sizes, levels = integers(program, SIZES), integers(program, LEVELS)
    first = 0
    for level in range(len(levels)):
        q, at = sizes[level], at_T[levels[level]]
        for i in range(q):
            for j in range(i + 1):
                d_T[at + i * q + j] += d_whole[first + i, first + j]
        first += q
