"""Groups' effects: their covariances, the values that are sampled, and the priors of both.

Effects u = T z are sampled as standardised z, or as values v with covariance TT' about a mean.
Whatever is of all groups lies flat, covariance by covariance and effect by effect; `at_T` and
`at_u` say where each begins.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bayesmixed import lkj
from bayesmixed.elimination import FAST
from bayesmixed.instructions import COVARIANCES, EFFECTS, ETAS, FORMS, MEMBERS, rows_of
from bayesmixed.pointers import floats, integers


@njit(error_model="numpy")
def factors_of(x, values, program):
    """Factors T of every covariance, and F of its correlations: T = diag(sd) F."""
    etas = floats(program, ETAS)
    table, members = rows_of(integers(program, COVARIANCES), 3), integers(program, MEMBERS)
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
def values_of(x, T, at_T, program):
    """Values of the sampled effects, each effect's groups together, and their log-prior."""
    table = rows_of(integers(program, EFFECTS), 5)
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
def centred_prior(u, at_u, T, at_T, out, d_u, d_T, d_out, program):
    """Log-prior of the values that are sampled about a mean."""
    effects = rows_of(integers(program, EFFECTS), 5)
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
def effects_backward(x, gradient, T, d_T, at_T, d_u, at_u, program):
    """The reverse of `values_of`, with the slope of its prior."""
    effects = rows_of(integers(program, EFFECTS), 5)
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
def factors_backward(x, gradient, F, d_T, at_T, values, d_values, program):
    """The reverse of `factors_of`, with the slope of its prior."""
    etas = floats(program, ETAS)
    table, members = rows_of(integers(program, COVARIANCES), 3), integers(program, MEMBERS)
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
