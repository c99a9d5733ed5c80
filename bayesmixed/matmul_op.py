"""Products of matrices in a compiled graph, as loops.

PyTensor calls a BLAS for them, around which numba takes about 13 s to compile for each layout of
the arguments. The matrices here are tall and multiply a vector, or are small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numba import njit
from pytensor.compile.mode import Mode, get_mode
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import in2out, node_rewriter
from pytensor.link.numba.dispatch.basic import register_funcify_default_op_cache_key
from pytensor.tensor.math import Dot

from bayesmixed.edition import EDITION
from bayesmixed.elimination import FAST

# Behind PyTensor's own rewrites of products, before elementwise operations are fused.
_POSITION = 48.9


@njit(fastmath=FAST, error_model="numpy")
def _matmul(A, B):
    n, k = A.shape
    m = B.shape[1]
    out = np.zeros((n, m))
    by_row = A.strides[0] >= A.strides[1]
    for j in range(m):
        if by_row:
            for i in range(n):
                total = 0.0
                for a in range(k):
                    total += A[i, a] * B[a, j]
                out[i, j] = total
        else:
            for a in range(k):
                for i in range(n):
                    out[i, j] += A[i, a] * B[a, j]
    return out


class Matmul(Op):
    """The product of two matrices of float64."""

    __props__ = ()

    def make_node(self, *inputs: Any) -> Apply:
        """Take the matrices, shapes (n, k) and (k, m)."""
        A, B = (pt.as_tensor(v) for v in inputs)
        shape = (A.type.shape[0], B.type.shape[1])
        return Apply(self, [A, B], [pt.tensor(dtype="float64", shape=shape)])

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: Any) -> None:
        """Evaluate without a graph compiler."""
        output_storage[0][0] = inputs[0] @ inputs[1]

    def infer_shape(self, node: Apply, shapes: Any) -> Any:
        """Rows of the first, columns of the second."""
        return [(shapes[0][0], shapes[1][1])]


@register_funcify_default_op_cache_key(Matmul)
def _to_numba(op: Matmul, node: Apply, **_: Any) -> Any:
    return _matmul, EDITION


@node_rewriter([Dot])
def _as_loops(fgraph: Any, node: Apply) -> Any:
    if any(v.type.dtype != "float64" for v in node.inputs):
        return False
    return [Matmul()(*node.inputs)]


def mode() -> Mode:
    """PyTensor's mode for numba, with these products."""
    return get_mode("NUMBA").register((in2out(_as_loops, name="products_as_loops"), _POSITION))
