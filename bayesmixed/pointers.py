"""Arrays by their address, for machine code that nutpie calls from its own threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray


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
