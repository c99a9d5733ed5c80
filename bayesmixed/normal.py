"""The density of a normal outcome with effects integrated out, and its gradient.

Gradients come from posterior moments, by Fisher's identity: the gradient of the integrated
log-density is the posterior mean of that of the joint one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bayesmixed.elimination import (
    FAST,
    add,
    draw,
    eliminate,
    level_of,
    moments,
    starts_of,
)

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int32]


class Coupling(NamedTuple):
    """Cross-products that involve sampled effects: sparse, one entry for each pair that meets.

    A column is the place of one group's effect among the values of all sampled effects.

    Parameters
    ----------
    link_record, link_column : array of int, shape (links,)
    link : array, shape (effects, links)
        Sampled with integrated effects.
    sum_stratum, sum_column : array of int, shape (sums,)
    sum_y : array, shape (sums,)
        Sampled effects with the outcome.
    sum_X : array, shape (terms, sums)
        And with the terms.
    pair_stratum, pair_first, pair_second : array of int, shape (pairs,)
    pair : array, shape (pairs,)
        Sampled effects with one another, each pair once; twice the cross-product off the diagonal.
    """

    link_record: Integers
    link_column: Integers
    link: Floats
    sum_stratum: Integers
    sum_column: Integers
    sum_y: Floats
    sum_X: Floats
    pair_stratum: Integers
    pair_first: Integers
    pair_second: Integers
    pair: Floats


class Totals(NamedTuple):
    """Cross-products over all rows of an error variance.

    Parameters
    ----------
    rows : array, shape (strata,)
        Number of rows.
    yy : array, shape (strata,)
    Xy : array, shape (strata, terms)
    XX : array, shape (strata, terms, terms)
    Zy : array, shape (effects, records)
    """

    rows: Floats
    yy: Floats
    Xy: Floats
    XX: Floats
    Zy: Floats


@njit(fastmath=FAST, error_model="numpy")
def residuals(records, totals, coupling, delta, u):
    """Cross-products of the effects with what coefficients and sampled effects leave over.

    Returns
    -------
    rhs : array, shape (effects, records)
    squares : array, shape (strata,)
        Weighted sums of squared residuals.
    """
    rhs = totals.Zy.copy()
    f, p = len(rhs), len(delta)
    for a in range(f):
        for c in range(p):
            add(rhs[a], -delta[c], records.ZX[a, c])
        for i in range(len(coupling.link_record)):
            rhs[a, coupling.link_record[i]] -= coupling.link[a, i] * u[coupling.link_column[i]]
    squares = totals.yy.copy()
    for s in range(len(squares)):
        for a in range(p):
            x = -2.0 * totals.Xy[s, a]
            for b in range(p):
                x += totals.XX[s, a, b] * delta[b]
            squares[s] += x * delta[a]
    for i in range(len(coupling.sum_y)):
        x = coupling.sum_y[i]
        for a in range(p):
            x -= coupling.sum_X[a, i] * delta[a]
        squares[coupling.sum_stratum[i]] -= 2.0 * x * u[coupling.sum_column[i]]
    for i in range(len(coupling.pair)):
        x = u[coupling.pair_first[i]] * u[coupling.pair_second[i]]
        squares[coupling.pair_stratum[i]] += coupling.pair[i] * x
    return rhs, squares


@njit(fastmath=FAST, error_model="numpy")
def _coupled(coupling, precision, delta, u, fitted, d_delta, d_u):
    """What the sampled effects add to the gradient."""
    for i in range(len(coupling.sum_y)):
        w, column = precision[coupling.sum_stratum[i]], coupling.sum_column[i]
        x = coupling.sum_y[i]
        for a in range(len(delta)):
            x -= coupling.sum_X[a, i] * delta[a]
            d_delta[a] -= w * coupling.sum_X[a, i] * u[column]
        d_u[column] += w * x
    for i in range(len(coupling.pair)):
        x = 0.5 * precision[coupling.pair_stratum[i]] * coupling.pair[i]
        d_u[coupling.pair_first[i]] -= x * u[coupling.pair_second[i]]
        d_u[coupling.pair_second[i]] -= x * u[coupling.pair_first[i]]
    for a in range(len(fitted)):
        for i in range(len(coupling.link_record)):
            x = coupling.link[a, i] * fitted[a, coupling.link_record[i]]
            d_u[coupling.link_column[i]] -= x


@njit(fastmath=FAST, error_model="numpy")
def integrated(
    tree,
    records,
    totals,
    coupling,
    T,
    delta,
    u,
    log_sigma,
    d_T,
    d_delta,
    d_u,
    d_log_sigma,
    noise,
):
    """Log-density of the outcome with the effects integrated out, and its gradient or their draws.

    Constants are left out. Gradients are written to `d_T`, `d_delta` and `d_log_sigma`, and added
    to `d_u`; none where effects are drawn.

    Parameters
    ----------
    tree, records, totals, coupling
        The data.
    T : array, shape (effects, effects)
        Factors of the covariances, block-diagonal by level.
    delta : array, shape (terms,)
        Coefficients, as differences from those that the outcome was reduced by.
    u : array
        The sampled effects.
    log_sigma : array, shape (strata,)
        Logarithms of the errors' standard deviations.
    noise : array, flat
        Where effects are to be drawn, see `elimination.draw`; of length 0 for the gradient.
    """
    p, f = len(delta), len(T)
    precision = np.exp(-2.0 * log_sigma)
    rhs, squares = residuals(records, totals, coupling, delta, u)
    value = 0.0
    d_delta[:] = 0.0
    for s in range(len(log_sigma)):
        value -= totals.rows[s] * log_sigma[s] + 0.5 * squares[s] * precision[s]
        for a in range(p):
            x = totals.Xy[s, a]
            for b in range(p):
                x -= totals.XX[s, a, b] * delta[b]
            d_delta[a] += precision[s] * x
    d_T[:] = 0.0
    fitted = np.zeros((f, len(records.leaf)))
    if f:
        K, h, quadratic = eliminate(tree, records, rhs, T, precision)
        value += quadratic
        if len(noise):
            draw(tree, K, h, noise)
            return value
        mean, cov = moments(tree, K, h)
        _expected(tree, records, rhs, T, precision, mean, cov, squares, d_T, d_delta, fitted)
    for s in range(len(log_sigma)):
        d_log_sigma[s] = squares[s] * precision[s] - totals.rows[s]
    # What the records' precision multiplies is weighted once, here.
    for r in range(len(records.leaf)):
        for a in range(f):
            fitted[a, r] *= precision[records.stratum[r]]
    _coupled(coupling, precision, delta, u, fitted, d_delta, d_u)
    return value


@njit(fastmath=FAST, error_model="numpy")
def _expected(tree, records, rhs, T, precision, mean, cov, squares, d_T, d_delta, fitted):
    """Posterior means of the joint log-density's gradient, summed over the records."""
    V, m = level_of(tree, starts_of(tree), np.int64(0), cov, mean)
    f, p, n = len(T), len(d_delta), len(records.leaf)
    weight = precision[records.stratum]
    if n != V.shape[2]:
        V, m = V[:, :, records.leaf], m[:, records.leaf]
    for a in range(f):
        for b in range(f):
            add(fitted[a], T[a, b], m[b])
        for c in range(p):
            x = 0.0
            for r in range(n):
                x += weight[r] * fitted[a, r] * records.ZX[a, c, r]
            d_delta[c] -= x
        for r in range(n):
            squares[records.stratum[r]] -= 2.0 * fitted[a, r] * rhs[a, r]
    for a in range(f):
        for b in range(a, f):
            for r in range(n):
                V[a, b, r] += m[a, r] * m[b, r]
    first = 0
    TE, product = np.empty((f, n)), np.empty(n)
    for level in range(len(tree.sizes)):
        last = first + tree.sizes[level]
        for b in range(first, last):
            # Column b of T E(zz'), and then the rows of ZZ times it.
            TE[:] = 0.0
            for c in range(f):
                for d in range(f):
                    add(TE[c], T[c, d], V[min(b, d), max(b, d)])
            for a in range(b, last):
                product[:] = 0.0
                for c in range(f):
                    for r in range(n):
                        product[r] += records.ZZ[a, c, r] * TE[c, r]
                x = 0.0
                for r in range(n):
                    x += weight[r] * (rhs[a, r] * m[b, r] - product[r])
                d_T[a, b] += x
                for r in range(n):
                    squares[records.stratum[r]] += product[r] * T[a, b]
        first = last
