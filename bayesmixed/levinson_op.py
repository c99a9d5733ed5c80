"""Durbin and Levinson's recursion in a PyTensor graph.

Written out lag by lag in the graph it would have a node for each pair of lags, and take minutes to
compile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numba import njit
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import register_funcify_default_op_cache_key


@njit(error_model="numpy")
def _recursion(partial):
    """Autocorrelations, and their slopes for the partial ones, shape (lags, lags)."""
    n = len(partial)
    rho, slopes = np.zeros(n), np.zeros((n, n))
    weights, of_weights = np.zeros(n), np.zeros((n, n))
    left, of_left = 1.0, np.zeros(n)
    for k in range(n):
        value = partial[k]
        rho[k] = value * left
        for i in range(k):
            slopes[k, i] = value * of_left[i]
        slopes[k, k] = left
        for j in range(k):
            rho[k] += weights[j] * rho[k - 1 - j]
            for i in range(k):
                slopes[k, i] += (
                    of_weights[j, i] * rho[k - 1 - j] + weights[j] * slopes[k - 1 - j, i]
                )
        # The weights from both ends at once, since each needs the other's old value.
        for j in range((k + 1) // 2):
            end = k - 1 - j
            a, b = weights[j], weights[end]
            weights[j], weights[end] = a - value * b, b - value * a
            for i in range(k):
                c, d = of_weights[j, i], of_weights[end, i]
                of_weights[j, i], of_weights[end, i] = c - value * d, d - value * c
            of_weights[j, k], of_weights[end, k] = -b, -a
        weights[k] = value
        of_weights[k, k] = 1.0
        for i in range(k):
            of_left[i] *= 1.0 - value * value
        of_left[k] = -2.0 * value * left
        left *= 1.0 - value * value
    return rho, slopes


class Levinson(Op):
    """Autocorrelations from partial ones; their slopes are a further output of the same pass."""

    __props__ = ()

    def make_node(self, partial: Any) -> Apply:
        """Take the partial autocorrelations, shape (lags,)."""
        given = pt.as_tensor(partial).astype("float64")
        (lags,) = given.type.shape
        outputs = [pt.tensor(shape=(lags,) * d, dtype="float64") for d in (1, 2)]
        return Apply(self, [given], outputs)

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: Any) -> None:
        """Evaluate without a graph compiler."""
        for storage, value in zip(output_storage, _recursion(inputs[0]), strict=True):
            storage[0] = value

    def pullback(
        self, inputs: Sequence[Any], outputs: Sequence[Any], cotangents: Sequence[Any]
    ) -> list[Any]:
        """Slopes of the autocorrelations; those of the slopes are not needed."""
        return [cotangents[0] @ outputs[1]]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        """Only the first output is meant to be differentiated."""
        return [[True, False]]


@register_funcify_default_op_cache_key(Levinson)
def _to_numba(op: Levinson, node: Apply, **_: Any) -> Any:
    return _recursion, 1
