"""A log-density as machine code, which nutpie's chains call from their own threads."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from numba import types
from numpy.typing import NDArray
from nutpie.compile_pymc import CompiledPyMCModel

from bayesmixed.glue import Glue
from bayesmixed.logdensity import LogDensity
from bayesmixed.pointers import floats, integers

type Floats = NDArray[np.float64]

_DOUBLES = types.CPointer(types.double)
LOGP = types.int64(types.uint64, _DOUBLES, _DOUBLES, _DOUBLES, types.CPointer(types.int64))
# The same as a function of numbers, which are addresses but for the first.
_ADDRESSED = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, *[ctypes.c_void_p] * 4)
_EXPAND = types.int64(types.uint64, types.uint64, _DOUBLES, _DOUBLES, types.voidptr)


def native_model(density: LogDensity) -> CompiledPyMCModel:
    """Make a log-density into a model that nutpie samples.

    The draws come back as one variable ``x`` of unconstrained values, shape (size,).
    """
    size = density.size
    return CompiledPyMCModel(
        dims={},
        _coords={},
        _shapes={"x": (size,)},
        compiled_logp_func=density.entry(),
        compiled_expand_func=_copy(),
        initial_point_func=density.initial,
        shared_data={"data": density.data},
        shared_var_keys={},
        user_data=density.pointers,
        n_expanded=size,
        shape_info=(["x"], [slice(0, size)], [(size,)]),
        logp_func=None,
        expand_func=None,
        _n_dim=size,
        reparameterized_names=[],
    )


@cache
def addressed(entry: Callable[[], Any]) -> Any:
    """Machine code of the type `LOGP` as a function of a size and addresses.

    Parameters
    ----------
    entry : callable
        Makes it, as in `LogDensity`.
    """
    return _ADDRESSED(entry().address)


def evaluate(entry: Callable[[], Any], x: Floats, where: NDArray[np.int64]) -> tuple[float, Floats]:
    """Log-density and its gradient at a point of shape (size,), by machine code."""
    value, gradient = np.empty(1), np.empty(len(x))
    arrays = (np.ascontiguousarray(x, dtype=np.float64), gradient, value, where)
    addressed(entry)(len(x), *(a.ctypes.data for a in arrays))
    return float(value[0]), gradient


@cache
def graph_entry(function: Callable[..., Any]) -> Any:
    """Machine code around a function ``(point, floats, integers) -> (log-density, gradient)``."""

    def logp(size, x, gradient, value, where):
        try:
            data = numba.carray(where, 4)
            result, slope = function(numba.carray(x, size), floats(data, 0), integers(data, 1))
            value[0] = result[()]
            out = numba.carray(gradient, size)
            for i in range(size):
                out[i] = slope[i]
                if not np.isfinite(slope[i]):
                    return 3
            if not np.isfinite(value[0]):
                return 4
        except Exception:  # noqa: BLE001  numba knows no narrower one
            return 1
        return 0

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", numba.NumbaWarning)
        return numba.cfunc(LOGP, pipeline_class=Glue)(logp)


@cache
def _copy() -> Any:
    def copy(size, expanded, x, out, where):
        for i in range(size):
            out[i] = x[i]
        return 0

    return numba.cfunc(_EXPAND)(copy)
