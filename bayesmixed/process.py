"""Standard normal numbers -> values that are correlated within series, in a PyTensor graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numba import njit
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import register_funcify_default_op_cache_key

from bayesmixed.edition import EDITION
from bayesmixed.precisions import factor


@njit(error_model="numpy")
def _factor(P, m, L):
    """Cholesky factor of the leading part; not-a-number where there is none."""
    if not factor(P, m, L):
        for i in range(m):
            L[i, i] = np.nan


@njit(error_model="numpy")
def _rest(r):
    """Standard deviation of a time given the one before."""
    left = 1.0 - r * r
    return np.sqrt(left) if left > 0.0 else 0.0


@njit(error_model="numpy")
def correlate(P, z, order, lengths, counts):
    """Values x = L z of every series, with L the factor of its pattern's correlations P.

    Parameters
    ----------
    P : array, shape (patterns, longest, longest) or (patterns, longest - 1, 1)
        Correlations of all times, or of each time with the one before (see `Structure.steps`).
    z : array, shape (rows,)
        Standard normal numbers.
    order, lengths, counts : array of int
        See `Series`.
    """
    x, at, longest = np.empty(len(z)), 0, P.shape[1]
    L = np.zeros((longest, longest))
    for p in range(len(lengths)):
        m = lengths[p]
        if P.shape[2] > 1:
            _factor(P[p], m, L)
        for _ in range(counts[p]):
            x[order[at]] = z[order[at]]
            for i in range(1, m):
                o = order[at + i]
                if P.shape[2] == 1:
                    r = P[p, i - 1, 0]
                    x[o] = r * x[order[at + i - 1]] + _rest(r) * z[o]
                else:
                    x[o] = 0.0
                    for j in range(i + 1):
                        x[o] += L[i, j] * z[order[at + j]]
            at += m
    return x


@njit(error_model="numpy")
def _factor_backward(L, d_L, m, d_P):
    """Slopes of the correlations from those of their factor (Murray 2016, arXiv:1602.07527)."""
    S = np.zeros((m, m))
    for i in range(m):
        for j in range(i + 1):
            for k in range(i, m):
                S[i, j] += L[k, i] * d_L[k, j]
            S[i, j] *= 0.5
            S[j, i] = S[i, j]
    # L'^-1 S L^-1, column by column and then row by row.
    for j in range(m):
        for i in range(m - 1, -1, -1):
            for k in range(i + 1, m):
                S[i, j] -= L[k, i] * S[k, j]
            S[i, j] /= L[i, i]
    for i in range(m):
        for j in range(m - 1, -1, -1):
            for k in range(j + 1, m):
                S[i, j] -= L[k, j] * S[i, k]
            S[i, j] /= L[j, j]
            d_P[i, j] = S[i, j]


@njit(error_model="numpy")
def correlate_backward(P, z, d_x, order, lengths, counts):
    """Slopes of P and z from those of x (see `correlate`)."""
    d_P, d_z, at, longest = np.zeros(P.shape), np.zeros(len(z)), 0, P.shape[1]
    L, d_L = np.zeros((longest, longest)), np.zeros((longest, longest))
    x = correlate(P, z, order, lengths, counts)
    for p in range(len(lengths)):
        m = lengths[p]
        if P.shape[2] > 1:
            _factor(P[p], m, L)
            for i in range(m):
                for j in range(m):
                    d_L[i, j] = 0.0
        for _ in range(counts[p]):
            if P.shape[2] == 1:
                pull = 0.0
                for i in range(m - 1, 0, -1):
                    o, before, r = order[at + i], order[at + i - 1], P[p, i - 1, 0]
                    rest = _rest(r)
                    pull += d_x[o]
                    d_z[o] = rest * pull
                    d_P[p, i - 1, 0] += pull * (x[before] - r * z[o] / rest)
                    pull *= r
                d_z[order[at]] = pull + d_x[order[at]]
            else:
                for i in range(m):
                    slope = d_x[order[at + i]]
                    for j in range(i + 1):
                        d_z[order[at + j]] += L[i, j] * slope
                        d_L[i, j] += slope * z[order[at + j]]
            at += m
        if P.shape[2] > 1:
            _factor_backward(L, d_L, m, d_P[p])
    return d_P, d_z


class Correlate(Op):
    """`correlate` in a PyTensor graph."""

    __props__ = ()

    def make_node(self, *inputs: Any) -> Apply:
        """Take P, z, order, lengths, counts."""
        given = [pt.as_tensor(v).astype("float64") for v in inputs[:2]]
        whole = [pt.as_tensor(v).astype("int32") for v in inputs[2:]]
        return Apply(self, [*given, *whole], [pt.dvector()])

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: Any) -> None:
        """Evaluate without a graph compiler."""
        output_storage[0][0] = correlate(*inputs)

    def pullback(
        self, inputs: Sequence[Any], outputs: Sequence[Any], cotangents: Sequence[Any]
    ) -> list[Any]:
        """Slopes of P and z."""
        P, z, *whole = inputs
        slopes = _CorrelateSlopes()(P, z, cotangents[0], *whole)
        return [*slopes, *(disconnected_type() for _ in whole)]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        """The series are no numbers to differentiate by."""
        return [[k < 2] for k in range(len(node.inputs))]


class _CorrelateSlopes(Op):
    __props__ = ()

    def make_node(self, *inputs: Any) -> Apply:
        given = [pt.as_tensor(v).astype("float64") for v in inputs[:3]]
        whole = [pt.as_tensor(v).astype("int32") for v in inputs[3:]]
        return Apply(self, [*given, *whole], [pt.dtensor3(), pt.dvector()])

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: Any) -> None:
        output_storage[0][0], output_storage[1][0] = correlate_backward(*inputs)


@register_funcify_default_op_cache_key(Correlate)
def _correlate_to_numba(op: Correlate, node: Apply, **_: Any) -> Any:
    return correlate, EDITION


@register_funcify_default_op_cache_key(_CorrelateSlopes)
def _slopes_to_numba(op: _CorrelateSlopes, node: Apply, **_: Any) -> Any:
    return correlate_backward, EDITION
