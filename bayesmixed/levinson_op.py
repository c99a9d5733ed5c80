"""Durbin and Levinson's recursion in a PyTensor graph.

Written out lag by lag in the graph it would have a node for each pair of lags, and take minutes to
compile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import register_funcify_default_op_cache_key

from bayesmixed.edition import EDITION
from bayesmixed.levinson_slopes import recursion


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
        for storage, value in zip(output_storage, recursion(inputs[0]), strict=True):
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
    return recursion, EDITION
