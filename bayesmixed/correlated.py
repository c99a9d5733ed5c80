r"""The normal density of correlated series, with its gradient in one pass.

Series measured at the same times share one Cholesky factor. With standardised residuals
:math:`e_i = (y - \mu)_i/\sigma_i`, correlations :math:`P` and :math:`a = P^{-1} e`, the slopes are
:math:`a_i/\sigma_i` for the mean, :math:`a_i e_i - 1` for :math:`\log\sigma_i`, and
:math:`(a a' - P^{-1})/2` for :math:`P`.
"""

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

_LOG_2PI = float(np.log(2 * np.pi))


@njit(error_model="numpy")
def _factor(P, m, L):
    """Cholesky factor of the leading part; False where it is not positive definite."""
    for i in range(m):
        for j in range(i + 1):
            total = P[i, j]
            for k in range(j):
                total -= L[i, k] * L[j, k]
            if i == j:
                if not total > 1e-14:
                    return False
                L[i, i] = np.sqrt(total)
            else:
                L[i, j] = total / L[j, j]
    return True


@njit(error_model="numpy")
def _inverse(L, m, Q):
    """Inverse of LL'."""
    R = np.zeros((m, m))
    for j in range(m):
        R[j, j] = 1.0 / L[j, j]
        for i in range(j + 1, m):
            total = 0.0
            for k in range(j, i):
                total -= L[i, k] * R[k, j]
            R[i, j] = total / L[i, i]
    for i in range(m):
        for j in range(i + 1):
            total = 0.0
            for k in range(i, m):
                total += R[k, i] * R[k, j]
            Q[i, j] = total
            Q[j, i] = total


@njit(error_model="numpy")
def log_density(y, mu, log_sd, P, order, lengths, counts):
    """Log-density of all rows, and its slopes for mu, log_sd and P.

    Parameters
    ----------
    y, mu, log_sd : array, shape (rows,)
    P : array, shape (patterns, longest, longest)
        Correlations.
    order, lengths, counts
        See `series.Series`.
    """
    d_mu, d_log_sd, d_P = np.zeros(len(y)), np.zeros(len(y)), np.zeros(P.shape)
    total, at = -0.5 * _LOG_2PI * len(y), 0
    longest = P.shape[1]
    L, Q = np.zeros((longest, longest)), np.zeros((longest, longest))
    e, a = np.empty(longest), np.empty(longest)
    for p in range(len(lengths)):
        m = lengths[p]
        if not _factor(P[p], m, L):
            return -np.inf, d_mu, d_log_sd, d_P
        _inverse(L, m, Q)
        for i in range(m):
            total -= counts[p] * np.log(L[i, i])
        for _ in range(counts[p]):
            for i in range(m):
                row = order[at + i]
                e[i] = (y[row] - mu[row]) * np.exp(-log_sd[row])
            for i in range(m):
                a[i] = 0.0
                for j in range(m):
                    a[i] += Q[i, j] * e[j]
            for i in range(m):
                row = order[at + i]
                total -= 0.5 * a[i] * e[i] + log_sd[row]
                d_mu[row] = a[i] * np.exp(-log_sd[row])
                d_log_sd[row] = a[i] * e[i] - 1.0
                for j in range(m):
                    d_P[p, i, j] += 0.5 * a[i] * a[j]
            at += m
        for i in range(m):
            for j in range(m):
                d_P[p, i, j] -= 0.5 * counts[p] * Q[i, j]
    return total, d_mu, d_log_sd, d_P


class CorrelatedNormal(Op):
    """`log_density` in a PyTensor graph; its slopes are further outputs of the same pass."""

    __props__ = ()

    def make_node(self, *inputs: Any) -> Apply:
        """Take y, mu, log_sd, P, order, lengths and counts."""
        floats = [pt.as_tensor(v).astype("float64") for v in inputs[:4]]
        whole = [pt.as_tensor(v).astype("int64") for v in inputs[4:]]
        outputs = [pt.dscalar(), pt.dvector(), pt.dvector(), pt.dtensor3()]
        return Apply(self, [*floats, *whole], outputs)

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: Any) -> None:
        """Evaluate without a graph compiler."""
        found = log_density(*inputs)
        for storage, value in zip(output_storage, found, strict=True):
            storage[0] = np.asarray(value)

    def pullback(
        self, inputs: Sequence[Any], outputs: Sequence[Any], cotangents: Sequence[Any]
    ) -> list[Any]:
        """Slopes of the first output; the others are slopes themselves and have none."""
        _, d_mu, d_log_sd, d_P = outputs
        g = cotangents[0]
        floats = [-g * d_mu, g * d_mu, g * d_log_sd, g * d_P]
        return [*floats, *(disconnected_type() for _ in inputs[4:])]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        """Only the first output is meant to be differentiated."""
        return [[k < 4, False, False, False] for k in range(len(node.inputs))]


@register_funcify_default_op_cache_key(CorrelatedNormal)
def _to_numba(op: CorrelatedNormal, node: Apply, **_: Any) -> Any:
    @njit
    def evaluate(y, mu, log_sd, P, order, lengths, counts):
        total, d_mu, d_log_sd, d_P = log_density(y, mu, log_sd, P, order, lengths, counts)
        return np.asarray(total), d_mu, d_log_sd, d_P

    return evaluate, 1
