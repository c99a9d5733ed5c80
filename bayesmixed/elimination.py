r"""Gaussian effects of nested groupings integrated out, from the inside out.

Given :math:`y = X\beta + \sum_l Z_l T_l z_l + e`, with :math:`z \sim N(0, I)` for every group,
:math:`T_l T_l'` the covariance of a group's effects and independent normal errors, the posterior of
:math:`z` has the precision :math:`I + T'Z'WZT`. Groups that lie in one another make it a tree:
each group's block, with those of the groups around it, is a small dense front, factorised and
handed on to the group around it (the multifrontal method, Duff & Reid 1983, ACM TOMS 9:302). Cost
follows the number of groups; a standard deviation of 0 is as good as any, since nothing is divided
by it.

Levels are counted from the inside out. A front of level l has the effects of level l first, and
then those of the levels around it. Groups are the last axis everywhere, so that each step is a loop
over groups, which becomes vector code.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int32]

FAST = {"reassoc", "contract", "nsz", "arcp"}


class Tree(NamedTuple):
    """Groups that lie in one another.

    Parameters
    ----------
    sizes : array of int, shape (levels,)
        Number of effects of a group at each level.
    counts : array of int, shape (levels,)
        Number of groups.
    parents : array of int, shape (sum of counts of all levels but the last,)
        For every group its group at the next level.
    """

    sizes: Integers
    counts: Integers
    parents: Integers


class Records(NamedTuple):
    """Cross-products of the rows of each innermost group, apart for rows of another error variance.

    Parameters
    ----------
    leaf, stratum : array of int, shape (records,)
        The innermost group, in increasing order, and which error variance.
    ZZ : array, shape (effects, effects, records)
        Weighted cross-products of the effects of all levels.
    ZX : array, shape (effects, terms, records)
        With the terms that coefficients multiply.
    """

    leaf: Integers
    stratum: Integers
    ZZ: Floats
    ZX: Floats


@njit
def starts_of(tree):
    """How many effects a front of each level has, and where each level's numbers begin."""
    levels = len(tree.sizes)
    width = np.zeros(levels + 1, np.int64)
    for level in range(levels - 1, -1, -1):
        width[level] = width[level + 1] + tree.sizes[level]
    fronts = np.zeros(levels + 1, np.int64)
    vectors, above = fronts.copy(), fronts.copy()
    for level in range(levels):
        n, f = tree.counts[level], width[level]
        fronts[level + 1] = fronts[level] + n * f * f
        vectors[level + 1] = vectors[level] + n * f
        above[level + 1] = above[level] + n
    return width, fronts, vectors, above


@njit
def level_of(tree, starts, level, K, h):
    """One level's fronts (effects, effects, groups) and vectors (effects, groups)."""
    width, fronts, vectors, _ = starts
    f, n = width[level], np.int64(tree.counts[level])
    matrix = K[fronts[level] : fronts[level + 1]].reshape((f, f, n))
    return matrix, h[vectors[level] : vectors[level + 1]].reshape((f, n))


@njit(fastmath=FAST, error_model="numpy")
def add(out, factor, x):
    """Do out += factor x; nothing at all where the factor is 0."""
    if factor != 0.0:
        for g in range(len(out)):
            out[g] += factor * x[g]


@njit(fastmath=FAST, error_model="numpy")
def subtract(out, x, y):
    """Do out -= x y."""
    for g in range(len(out)):
        out[g] -= x[g] * y[g]


@njit(fastmath=FAST, error_model="numpy")
def eliminate(tree, records, rhs, T, precision):
    r"""Factorise every group's front.

    Parameters
    ----------
    tree : Tree
    records : Records
    rhs : array, shape (effects, records)
        Weighted cross-products of the effects with the residuals.
    T : array, shape (effects, effects)
        Factors of the covariances, block-diagonal by level.
    precision : array, shape (strata,)
        One over the error variances.

    Returns
    -------
    K : array, flat
        Of each front the rows of the upper factor R that belong to the group's own effects.
    h : array, flat
        Vectors: :math:`R^{-T}` times the right-hand side.
    value : float
        :math:`(h'h - \log|I + T'Z'WZT|) / 2`.
    """
    levels = len(tree.sizes)
    starts = starts_of(tree)
    K, h = np.zeros(starts[1][levels]), np.zeros(starts[2][levels])
    _innermost(tree, starts, records, rhs, T, precision, K, h)
    value = 0.0
    for level in range(levels):
        F, v = level_of(tree, starts, level, K, h)
        q = tree.sizes[level]
        value += _factorise(F, v, q)
        if level + 1 < levels:
            up, v_up = level_of(tree, starts, level + 1, K, h)
            above = tree.parents[starts[3][level] : starts[3][level + 1]]
            for a in range(q, len(v)):
                for g in range(len(above)):
                    v_up[a - q, above[g]] += v[a, g]
                for b in range(a, len(v)):
                    for g in range(len(above)):
                        up[a - q, b - q, above[g]] += F[a, b, g]
    return K, h, value


@njit(fastmath=FAST, error_model="numpy")
def _innermost(tree, starts, records, rhs, T, precision, K, h):
    """Fill in T'Z'WZT (its upper half) and T'Z'Wr, summed over each group's records."""
    F, v = level_of(tree, starts, np.int64(0), K, h)
    f, n = v.shape
    weight = precision[records.stratum]
    total, sums = np.zeros((f, f, n)), np.zeros((f, n))
    for a in range(f):
        for r in range(len(weight)):
            sums[a, records.leaf[r]] += weight[r] * rhs[a, r]
        for b in range(a, f):
            for r in range(len(weight)):
                total[a, b, records.leaf[r]] += weight[r] * records.ZZ[a, b, r]
            # A loop: numba takes seconds to compile an assignment to a slice.
            for g in range(n):
                total[b, a, g] = total[a, b, g]
    half = np.zeros(n)
    for b in range(f):
        for c in range(f):
            half[:] = 0.0
            for d in range(f):
                add(half, T[d, b], total[c, d])
            for a in range(b + 1):
                add(F[a, b], T[c, a], half)
        for c in range(f):
            add(v[b], T[c, b], sums[c])


@njit(fastmath=FAST, error_model="numpy")
def _factorise(F, v, q):
    """Factorise the first q rows in place, and leave the Schur complement in the others."""
    f, n = v.shape
    value = 0.0
    for j in range(q):
        for c in range(j):
            for i in range(j, f):
                subtract(F[j, i], F[c, j], F[c, i])
            subtract(v[j], F[c, j], v[c])
        value += _pivot(F[j, j], v[j])
        for i in range(j + 1, f):
            for g in range(n):
                F[j, i, g] /= F[j, j, g]
    for a in range(q, f):
        for c in range(q):
            for b in range(a, f):
                subtract(F[a, b], F[c, a], F[c, b])
            subtract(v[a], F[c, a], v[c])
    return value


@njit(fastmath=FAST, error_model="numpy")
def _pivot(pivot, v):
    """Take the roots of the pivots and divide by them; returns (v'v - log of the pivots) / 2."""
    squares, product, logs = 0.0, 1.0, 0.0
    for g in range(len(v)):
        # 1 is the smallest that it can be; rounding of huge fronts may lead below.
        square = max(pivot[g] + 1.0, 1.0)
        pivot[g] = np.sqrt(square)
        v[g] /= pivot[g]
        squares += v[g] * v[g]
        # Few logarithms: they cost more than all else here.
        if product > 1e100 or square > 1e100:
            logs += np.log(product)
            product = 1.0
        if square > 1e100:
            logs += np.log(square)
        else:
            product *= square
    return 0.5 * (squares - logs - np.log(product))


@njit(fastmath=FAST, error_model="numpy")
def moments(tree, K, h):
    """Posterior mean and covariance of the standardised effects in every front.

    The covariances by the recursion of Takahashi, Fagan & Chen (1973); their upper halves.

    Returns
    -------
    mean, covariance : array, flat
        In the order of the fronts; a group's own effects and those of the groups around it.
    """
    levels = len(tree.sizes)
    starts = starts_of(tree)
    mean, cov = np.empty(len(h)), np.empty(len(K))
    for level in range(levels - 1, -1, -1):
        F, v = level_of(tree, starts, level, K, h)
        V, m = level_of(tree, starts, level, cov, mean)
        f, n = v.shape
        q = tree.sizes[level]
        if level + 1 < levels:
            V_up, m_up = level_of(tree, starts, level + 1, cov, mean)
            above = tree.parents[starts[3][level] : starts[3][level + 1]]
            for a in range(q, f):
                for g in range(n):
                    m[a, g] = m_up[a - q, above[g]]
                for b in range(a, f):
                    for g in range(n):
                        V[a, b, g] = V_up[a - q, b - q, above[g]]
        for i in range(q - 1, -1, -1):
            for g in range(n):
                m[i, g] = v[i, g]
            for c in range(i + 1, f):
                subtract(m[i], F[i, c], m[c])
            for g in range(n):
                m[i, g] /= F[i, i, g]
            for j in range(f - 1, i - 1, -1):
                for g in range(n):
                    V[i, j, g] = 1.0 / F[i, i, g] if i == j else 0.0
                for c in range(i + 1, f):
                    subtract(V[i, j], F[i, c], V[min(c, j), max(c, j)])
                for g in range(n):
                    V[i, j, g] /= F[i, i, g]
    return mean, cov


@njit(fastmath=FAST, error_model="numpy")
def draw(tree, K, h, noise):
    """Draw the standardised effects from their joint posterior.

    Parameters
    ----------
    tree, K, h
        As `eliminate` returned them.
    noise : array, flat
        Standard normal numbers, level by level (groups, effects); the draws take their place.
    """
    levels = len(tree.sizes)
    starts = starts_of(tree)
    draws = np.empty(len(h))
    end = len(noise)
    for level in range(levels - 1, -1, -1):
        F, v = level_of(tree, starts, level, K, h)
        _, z = level_of(tree, starts, level, K, draws)
        f, n = v.shape
        q = tree.sizes[level]
        own = noise[end - n * q : end].reshape((n, np.int64(q)))
        end -= n * q
        if level + 1 < levels:
            _, z_up = level_of(tree, starts, level + 1, K, draws)
            above = tree.parents[starts[3][level] : starts[3][level + 1]]
            for a in range(q, f):
                for g in range(n):
                    z[a, g] = z_up[a - q, above[g]]
        for i in range(q - 1, -1, -1):
            for g in range(n):
                z[i, g] = v[i, g] + own[g, i]
            for c in range(i + 1, f):
                subtract(z[i], F[i, c], z[c])
            for g in range(n):
                z[i, g] /= F[i, i, g]
                own[g, i] = z[i, g]


@njit(error_model="numpy")
def scale(z, tree, T):
    """Multiply standardised effects, as `draw` leaves them, by their covariances' factors."""
    at, first = 0, 0
    for level in range(len(tree.sizes)):
        q = tree.sizes[level]
        for _ in range(tree.counts[level]):
            for k in range(q - 1, -1, -1):
                value = 0.0
                for j in range(k + 1):
                    value += T[first + k, first + j] * z[at + j]
                z[at + k] = value
            at += q
        first += q
