r"""The normal density of correlated series, effects of groups integrated out, and its gradient.

A series has :math:`y = \mu + Z T z + D r`, with :math:`D` the residual standard deviations,
:math:`r \sim N(0, P)`, and :math:`z \sim N(0, I)` the standardised effects of the groups that it
lies in, :math:`T T'` their covariance. With :math:`e = D^{-1}(y - \mu)`, :math:`W = D^{-1} Z` and
:math:`Q = P^{-1}`, the sums of :math:`W'QW` and :math:`W'Qe` over the series of a group are all
that its effects need; `elimination` integrates them out. Slopes are posterior means of those of
the joint density (Fisher's identity): with :math:`x = e - W T z` and :math:`C = E(x x')` that of
:math:`P` is :math:`(Q C Q - Q)/2`, and that of :math:`\log D_{ii}` is :math:`(Q C)_{ii} - 1`.

Series measured at the same times share one factor of P. Where P is that of a Markov process, it is
given by the correlations of each time with the one before; Q is then a band, and cost is linear in
the length (Rue & Held 2005, Gaussian Markov Random Fields, ch. 2).
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bayesmixed.edition import EDITION, on_disk
from bayesmixed.elimination import Records, draw, eliminate, level_of, moments, starts_of
from bayesmixed.glue import glue
from bayesmixed.precisions import inverses

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int32]

_LOG_2PI = float(np.log(2 * np.pi))


class Rows(NamedTuple):
    """Where the rows of the series are.

    Parameters
    ----------
    order : array of int, shape (rows,)
        The rows, pattern by pattern, series by series, each in order of time.
    lengths, counts : array of int, shape (patterns,)
        Measurements in each series of a pattern, and how many series have it.
    leaf : array of int, shape (rows,)
        In the same order, the innermost group whose effects are integrated out.
    further : array of int, shape (patterns,)
        How many more series of the pattern there were, for which those here stand (see `pooled`).
    """

    order: Integers
    lengths: Integers
    counts: Integers
    leaf: Integers
    further: Integers


@njit(error_model="numpy")
def _multiply(P, Q, rows, x):
    """Multiply what stands in the order of the series by the inverses, series by series."""
    out, first = np.zeros(len(x)), 0
    for p in range(len(rows.lengths)):
        m = rows.lengths[p]
        for _ in range(rows.counts[p]):
            if P.shape[2] > 1:
                for j in range(m):
                    for i in range(m):
                        out[first + i] += Q[p, j, i] * x[first + j]
            else:
                out[first] = x[first]
                for i in range(1, m):
                    r = P[p, i - 1, 0]
                    new = (x[first + i] - r * x[first + i - 1]) / (1.0 - r * r)
                    out[first + i] = new
                    out[first + i - 1] -= r * new
            first += m
    return out


@njit(error_model="numpy")
def _standardise(y, mu, log_sd, P, Q, Z, rows):
    """Residuals and effects' columns over the standard deviations, in the order of the series.

    Returns
    -------
    e : array, shape (rows,)
    W : array, shape (effects, rows)
    Qe, QW : array
        The same multiplied by the inverses.
    scale : array, shape (rows,)
        One over the standard deviations.
    """
    n, f = Z.shape
    scale, e, W, QW = np.empty(n), np.empty(n), np.empty((f, n)), np.empty((f, n))
    for i in range(n):
        row = rows.order[i]
        scale[i] = np.exp(-log_sd[row])
        e[i] = (y[row] - mu[row]) * scale[i]
        for a in range(f):
            W[a, i] = Z[row, a] * scale[i]
    for a in range(f):
        QW[a] = _multiply(P, Q, rows, W[a])
    return e, W, _multiply(P, Q, rows, e), QW, scale


@njit(error_model="numpy")
def _sums(W, Qe, QW, leaf, groups):
    """W'QW and W'Qe, summed by innermost group."""
    f, n = W.shape
    WW, We = np.zeros((f, f, groups)), np.zeros((f, groups))
    for a in range(f):
        for i in range(n):
            We[a, leaf[i]] += W[a, i] * Qe[i]
        for b in range(f):
            for i in range(n):
                WW[a, b, leaf[i]] += W[a, i] * QW[b, i]
    return WW, We


@njit(error_model="numpy")
def _records(WW):
    groups = np.arange(WW.shape[2]).astype(np.int32)
    return Records(groups, np.zeros(len(groups), np.int32), WW, np.zeros((len(WW), 0, len(groups))))


@glue
def _posterior(tree, WW, We, T, d_T):
    """Integrate the effects out.

    Returns
    -------
    value : float
        What that adds to the log-density; its slope is written to `d_T`.
    mean : array, shape (effects, groups)
    covariance : array, shape (effects, effects, groups)
        Of the effects of each innermost group and those around it.
    """
    f, groups = We.shape
    mean, covariance = np.zeros((f, groups)), np.zeros((f, f, groups))
    if f == 0:
        return 0.0, mean, covariance
    K, h, value = eliminate(tree, _records(WW), We, T, np.ones(1))
    m, v = moments(tree, K, h)
    V, z = level_of(tree, starts_of(tree), 0, v, m)
    _of_groups(WW, We, T, V, z, mean, covariance, d_T)
    return value, mean, covariance


@njit(error_model="numpy")
def _of_groups(WW, We, T, V, z, mean, covariance, d_T):
    """Means and covariances of effects, not standardised, and the slope of T."""
    f, groups = We.shape
    half = np.empty((f, f))
    for g in range(groups):
        for a in range(f):
            for b in range(f):
                mean[a, g] += T[a, b] * z[b, g]
                half[a, b] = 0.0
                for c in range(f):
                    half[a, b] += T[a, c] * V[min(b, c), max(b, c), g]
        for a in range(f):
            for b in range(f):
                for c in range(f):
                    covariance[a, b, g] += half[a, c] * T[b, c]
                # What W'Q(e - WTz)z' is expected to be.
                d_T[a, b] += We[a, g] * z[b, g]
                for c in range(f):
                    d_T[a, b] -= WW[a, c, g] * (half[c, b] + mean[c, g] * z[b, g])


@njit(error_model="numpy")
def _product(covariance, W, leaf):
    """Multiply each row's columns by the covariance of its group's effects."""
    out = np.zeros(W.shape)
    for a in range(len(W)):
        for b in range(len(W)):
            for i in range(len(leaf)):
                out[a, i] += covariance[a, b, leaf[i]] * W[b, i]
    return out


@njit(error_model="numpy")
def _outer(d, x, y, m, first):
    """Add to d half the product of two series' numbers."""
    for i in range(m):
        half = 0.5 * x[first + i]
        for j in range(m):
            d[i, j] += half * y[first + j]


@njit(error_model="numpy")
def _slope_of_inverses(Q, rows, a, QW, BQW, d_P):
    """The slope for P, from Qx and the posterior covariance of the effects."""
    first = 0
    for p in range(len(rows.lengths)):
        m = rows.lengths[p]
        weight = -0.5 * (rows.counts[p] + rows.further[p])
        for i in range(m):
            for j in range(m):
                d_P[p, i, j] = weight * Q[p, i, j]
        for _ in range(rows.counts[p]):
            _outer(d_P[p], a, a, m, first)
            for k in range(len(QW)):
                _outer(d_P[p], QW[k], BQW[k], m, first)
            first += m


@njit(error_model="numpy")
def _slope_of_steps(P, rows, x, W, BW, d_P):
    """The slope for a Markov process's correlations with the time before."""
    first = 0
    for p in range(len(rows.lengths)):
        m = rows.lengths[p]
        for i in range(m - 1):
            r = P[p, i, 0]
            d_P[p, i, 0] = rows.further[p] * r / (1.0 - r * r)
        for _ in range(rows.counts[p]):
            for i in range(1, m):
                now, last, r = first + i, first + i - 1, P[p, i - 1, 0]
                new = x[now] - r * x[last]
                square, product = new * new, new * x[last]
                for k in range(len(W)):
                    own = W[k, now] - r * W[k, last]
                    square += own * (BW[k, now] - r * BW[k, last])
                    product += own * BW[k, last]
                left = 1.0 - r * r
                d_P[p, i - 1, 0] += (product - r * square / left + r) / left
            first += m


@njit(error_model="numpy")
def _subtract(W, QW, mean, leaf, x, a):
    """Take the effects' means out of standardised residuals and of their products with Q."""
    for k in range(len(W)):
        for i in range(len(leaf)):
            x[i] -= W[k, i] * mean[k, leaf[i]]
            a[i] -= QW[k, i] * mean[k, leaf[i]]


@njit(error_model="numpy")
def _slopes_of_rows(x, a, QW, BW, scale, order, d_mu, d_log_sd):
    for i in range(len(order)):
        row = order[i]
        d_mu[row] = a[i] * scale[i]
        d_log_sd[row] += a[i] * x[i]
        for k in range(len(QW)):
            d_log_sd[row] += QW[k, i] * BW[k, i]


@njit(error_model="numpy")
def _of_spread(log_sd, logs, rows, d_log_sd):
    """The part of the density that does not depend on the outcome, and its slopes for log_sd."""
    value, first = -0.5 * _LOG_2PI * len(log_sd), 0
    for i in range(len(log_sd)):
        value -= log_sd[i]
        d_log_sd[i] -= 1.0
    for p in range(len(logs)):
        more = rows.further[p]
        value -= (rows.counts[p] + more) * logs[p]
        for row in rows.order[first : first + (rows.lengths[p] if more else 0)]:
            value -= more * (log_sd[row] + 0.5 * _LOG_2PI)
            d_log_sd[row] -= more
        first += rows.lengths[p] * rows.counts[p]
    return value


@glue
def log_density(y, mu, log_sd, P, Z, T, rows, tree):
    """Log-density of all rows, and its slopes for mu, log_sd, P and T.

    Parameters
    ----------
    y, mu, log_sd : array, shape (rows,)
        Outcome, its mean without the effects that are integrated out, and residual sd.
    P : array, shape (patterns, longest, longest) or (patterns, longest - 1, 1)
        Correlations; of a Markov process those of each time with the one before.
    Z : array, shape (rows, effects)
        What the effects multiply, levels from the inside out.
    T : array, shape (effects, effects)
        Factors of their covariances, block-diagonal by level.
    rows : Rows
    tree : elimination.Tree
        The groups; every series lies in one of each level.
    """
    d_mu, d_log_sd = np.zeros(len(y)), np.zeros(len(y))
    d_P, d_T = np.zeros(P.shape), np.zeros(T.shape)
    Q, logs = inverses(P, rows.lengths)
    value = _of_spread(log_sd, logs, rows, d_log_sd)
    if not np.isfinite(value):
        return -np.inf, d_mu, d_log_sd, d_P, d_T
    f, leaf = Z.shape[1], rows.leaf
    x, W, a, QW, scale = _standardise(y, mu, log_sd, P, Q, Z, rows)
    WW, We = _sums(W, a, QW, leaf, np.int64(tree.counts[0]) if f else 1)
    gained, mean, covariance = _posterior(tree, WW, We, T, d_T)
    value += gained - 0.5 * np.sum(x * a)
    _subtract(W, QW, mean, leaf, x, a)
    BW = _product(covariance, W, leaf)
    _slopes_of_rows(x, a, QW, BW, scale, rows.order, d_mu, d_log_sd)
    if P.shape[2] > 1:
        _slope_of_inverses(Q, rows, a, QW, _product(covariance, QW, leaf), d_P)
    else:
        _slope_of_steps(P, rows, x, W, BW, d_P)
    return value, d_mu, d_log_sd, d_P, d_T


@njit(error_model="numpy")
def _draw_effects(y, mu, log_sd, P, Z, T, rows, tree, noise):
    """Draw standardised effects from their posterior, given draws of all else.

    Parameters
    ----------
    y, Z, rows, tree
        See `log_density`.
    mu, log_sd, P, T
        The same with a first axis of draws.
    noise : array, shape (draws, effects of all groups)
        Standard normal numbers, level by level (groups, effects); the effects take their place.
    """
    for i in range(len(noise)):
        draw_given(y, mu[i], log_sd[i], P[i], Z, T[i], rows, tree, noise[i])


@glue
def draw_given(y, mu, log_sd, P, Z, T, rows, tree, noise):
    """A single draw; see `_draw_effects`."""
    Q, _ = inverses(P, rows.lengths)
    _, W, Qe, QW, _ = _standardise(y, mu, log_sd, P, Q, Z, rows)
    WW, We = _sums(W, Qe, QW, rows.leaf, np.int64(tree.counts[0]))
    K, h, _ = eliminate(tree, _records(WW), We, T, np.ones(1))
    draw(tree, K, h, noise)


@cache
def draw_effects() -> Any:
    """The compiled `_draw_effects`; numba finds it on disk unless the edition changed."""
    edition = EDITION

    def run(y, mu, log_sd, P, Z, T, rows, tree, noise):
        if edition:
            _draw_effects(y, mu, log_sd, P, Z, T, rows, tree, noise)

    return on_disk(lambda cache: njit(cache=cache)(run))
