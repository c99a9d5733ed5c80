"""Arrays by their address, for machine code that nutpie calls from its own threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

#: What machine code is that `call` reaches, and the length of what it is called with.
CALLED = types.float64(types.CPointer(types.int64))
CALLED_WITH = 18


def pointers(arrays: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """Address and length of each array, one after another."""
    return np.array([n for a in arrays for n in (a.ctypes.data, a.size)], dtype=np.int64)


@intrinsic
def _pointer(context, address):
    def generate(_, builder, signature, arguments):
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


@njit
def floats(where, i):
    """Array i of those that `pointers` was given, of float64."""
    return carray(_pointer(where[2 * i]), where[2 * i + 1], np.float64)


@njit
def integers(where, i):
    """Array i of those that `pointers` was given, of int32."""
    return carray(_pointer(where[2 * i]), where[2 * i + 1], np.int32)


@njit
def addresses(where, i):
    """Array i of those that `pointers` was given, of int64, such as `pointers` itself."""
    return carray(_pointer(where[2 * i]), where[2 * i + 1], np.int64)


@intrinsic
def _called(context, address, where):
    def generate(_, builder, signature, given):
        argument = ir.IntType(64).as_pointer()
        function = ir.FunctionType(ir.DoubleType(), [argument])
        pointer = builder.inttoptr(given[0], function.as_pointer())
        return builder.call(pointer, [builder.inttoptr(given[1], argument)])

    return types.float64(types.int64, types.int64), generate


@njit
def call(address, where):
    """Call machine code at an address with an array of `CALLED_WITH` numbers."""
    return _called(address, np.int64(where.ctypes.data))
