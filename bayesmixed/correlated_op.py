"""The density of correlated series in a PyTensor graph.

Its machine code is compiled once a machine, and graphs call it by the name of a symbol: linked into
them it would be compiled anew with each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numba
import numpy as np
import pytensor.tensor as pt
from llvmlite import binding
from numba import literal_unroll, njit, types
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import register_funcify_default_op_cache_key

from bayesmixed.correlated import Rows, log_density
from bayesmixed.edition import EDITION, on_disk
from bayesmixed.elimination import Tree
from bayesmixed.pointers import floats, integers, pointers

_SYMBOL = f"bayesmixed_correlated_{EDITION}"
_SIGNATURE = types.void(types.CPointer(types.int64))
_INPUTS, _OUTPUTS = 14, 5


@njit
def _evaluate(where):
    """`correlated.log_density` of arrays at these addresses, to arrays at the last of them."""
    y, Z = floats(where, 0), floats(where, 5)
    lengths = integers(where, 7)
    n, patterns, longest = len(y), len(lengths), lengths.max()
    f, P = len(Z) // n, floats(where, 3)
    markov = len(P) == patterns * (longest - 1)
    shape = (patterns, longest - 1, 1) if markov else (patterns, longest, longest)
    rows = Rows(
        integers(where, 6), lengths, integers(where, 8), integers(where, 9), integers(where, 10)
    )
    tree = Tree(integers(where, 11), integers(where, 12), integers(where, 13))
    value, d_mu, d_log_sd, d_P, d_T = log_density(
        y,
        floats(where, 1),
        floats(where, 2),
        P.reshape(shape),
        Z.reshape((n, f)),
        floats(where, 4).reshape((f, f)),
        rows,
        tree,
    )
    floats(where, 14)[0] = value
    floats(where, 15)[:] = d_mu
    floats(where, 16)[:] = d_log_sd
    floats(where, 17)[:] = d_P.ravel()
    floats(where, 18)[:] = d_T.ravel()


@cache
def _entry() -> Any:
    """Compile `_evaluate`, or load it from disk, and give its address the symbol's name."""
    edition = EDITION

    def evaluate(where):
        # The edition has to be mentioned to be part of what numba knows the function by.
        if edition:
            _evaluate(numba.carray(where, 2 * (_INPUTS + _OUTPUTS)))

    compiled = on_disk(lambda cache: numba.cfunc(_SIGNATURE, cache=cache)(evaluate))
    binding.add_symbol(_SYMBOL, compiled.address)
    return compiled


class CorrelatedNormal(Op):
    """`log_density` in a PyTensor graph; its slopes are further outputs of the same pass."""

    __props__ = ()

    def make_node(self, *inputs: Any) -> Apply:
        """Take y, mu, log_sd, P, T, Z, and the fields of rows and tree."""
        given = [pt.as_tensor(v).astype("float64") for v in inputs[:6]]
        whole = [pt.as_tensor(v).astype("int32") for v in inputs[6:]]
        outputs = [pt.dscalar(), pt.dvector(), pt.dvector(), pt.dtensor3(), pt.dmatrix()]
        return Apply(self, [*given, *whole], outputs)

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: Any) -> None:
        """Evaluate without a graph compiler."""
        arrays = [np.ascontiguousarray(v) for v in inputs]
        found = [np.empty(shape) for shape in ((1,), *(v.shape for v in arrays[1:5]))]
        where = pointers([*arrays, *found])
        _entry().ctypes(where.ctypes.data_as(_entry().ctypes.argtypes[0]))
        for storage, value in zip(output_storage, (found[0].reshape(()), *found[1:]), strict=True):
            storage[0] = value

    def pullback(
        self, inputs: Sequence[Any], outputs: Sequence[Any], cotangents: Sequence[Any]
    ) -> list[Any]:
        """Slopes of the first output; the others are slopes themselves and have none."""
        _, *slopes = outputs
        g = cotangents[0]
        floating = [-g * slopes[0], *(g * slope for slope in slopes)]
        return [*floating, *(disconnected_type() for _ in inputs[len(floating) :])]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        """Only the first output is meant to be differentiated."""
        return [[k < _OUTPUTS, *[False] * (_OUTPUTS - 1)] for k in range(len(node.inputs))]


@register_funcify_default_op_cache_key(CorrelatedNormal)
def _to_numba(op: CorrelatedNormal, node: Apply, **_: Any) -> Any:
    _entry()
    call = types.ExternalFunction(_SYMBOL, types.void(types.intp))

    @njit
    def evaluate(
        y, mu, log_sd, P, T, Z, order, lengths, counts, leaf, further, sizes, groups, parents
    ):
        given = (
            np.ascontiguousarray(y),
            np.ascontiguousarray(mu),
            np.ascontiguousarray(log_sd),
            np.ascontiguousarray(P),
            np.ascontiguousarray(T),
            np.ascontiguousarray(Z),
        )
        value, d_mu, d_log_sd = np.zeros(1), np.empty(len(mu)), np.empty(len(mu))
        d_P, d_T = np.empty(P.shape), np.empty(T.shape)
        where = np.empty(2 * (_INPUTS + _OUTPUTS), np.int64)
        k = 0
        for array in literal_unroll(given):
            where[k], where[k + 1] = array.ctypes.data, array.size
            k += 2
        for array in (order, lengths, counts, leaf, further, sizes, groups, parents):
            where[k], where[k + 1] = array.ctypes.data, array.size
            k += 2
        for array in literal_unroll((value, d_mu, d_log_sd, d_P, d_T)):
            where[k], where[k + 1] = array.ctypes.data, array.size
            k += 2
        call(where.ctypes.data)
        # Mentioned, so that the copies live until here.
        return np.asarray(value[0] + 0.0 * (len(given) + len(where))), d_mu, d_log_sd, d_P, d_T

    return evaluate, EDITION
