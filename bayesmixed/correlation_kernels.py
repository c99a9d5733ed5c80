"""Correlations of the structures as machine code: values of a table, and slopes back.

Whatever the structure, a correlation is a number that many pairs of measurements share: one for
each distance, or for each pair of visits. A kernel works out all of them from the structure's
parameters. Each is compiled on its own when it is first needed on a machine (about a second).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import numba
import numpy as np
from numba import njit

from bayesmixed import lkj
from bayesmixed.covariance import (
    AR1,
    ARMA11,
    Antedependence,
    CompoundSymmetry,
    ContinuousAR1,
    Toeplitz,
    Unstructured,
    is_known,
)
from bayesmixed.distances import Exponential, Matern, SquaredExponential
from bayesmixed.edition import EDITION, on_disk
from bayesmixed.levinson_slopes import recursion
from bayesmixed.pointers import CALLED, CALLED_WITH, floats
from bayesmixed.priors import Prior
from bayesmixed.structure import CorrelationParameter, Structure


@njit
def _opened(pointers):
    """What a kernel is called with.

    Returns
    -------
    theta : array, shape (parameters,)
    constants : array
    keys : array, shape (entries,) or (2 * entries,)
        Distances, or the first and then the second visits of pairs.
    table : array, shape (entries,) or (0,)
        Where the correlations go.
    d_theta : array, shape (parameters,) or (0,)
        To which slopes are added, if it is they that are asked for.
    d_table : array, shape (entries,) or (0,)
        Slopes of the correlations.
    """
    where = numba.carray(pointers, CALLED_WITH)
    return (
        floats(where, 0),
        floats(where, 1),
        floats(where, 2),
        floats(where, 3),
        floats(where, 4),
        floats(where, 5),
    )


def nothing(pointers):
    """No correlation."""
    _, _, _, table, _, _ = _opened(pointers)
    for k in range(len(table)):
        table[k] = 0.0
    return 0.0


def constant(pointers):
    """The same correlation for all."""
    theta, _, _, table, d_theta, d_table = _opened(pointers)
    for k in range(len(table)):
        table[k] = theta[0]
    for k in range(len(d_table)):
        d_theta[0] += d_table[k]
    return 0.0


def power(pointers):
    """A power of the distance."""
    theta, _, keys, table, d_theta, d_table = _opened(pointers)
    for k in range(len(table)):
        table[k] = theta[0] ** keys[k]
    for k in range(len(d_table)):
        d_theta[0] += d_table[k] * keys[k] * theta[0] ** (keys[k] - 1.0)
    return 0.0


def mixed(pointers):
    """Autoregression and moving average; see `covariance.ARMA11.matrix`."""
    both, _, keys, table, d_theta, d_table = _opened(pointers)
    phi, theta = both[0], both[1]
    top, bottom = (1.0 + phi * theta) * (phi + theta), 1.0 + 2.0 * phi * theta + theta * theta
    gamma = top / bottom
    one, two = theta * (phi + theta) + 1.0 + phi * theta, phi * (phi + theta) + 1.0 + phi * theta
    d_phi = (one - gamma * 2.0 * theta) / bottom
    for k in range(len(table)):
        table[k] = gamma * phi ** (keys[k] - 1.0)
    for k in range(len(d_table)):
        further = keys[k] - 1.0
        fallen = d_table[k] * phi**further
        d_theta[0] += fallen * d_phi
        d_theta[1] += fallen * (two - gamma * 2.0 * (phi + theta)) / bottom
        if further > 0.0:
            d_theta[0] += d_table[k] * gamma * further * phi ** (further - 1.0)
    return 0.0


def bands(pointers):
    """The parameters themselves, lag by lag, and 0 beyond them."""
    theta, _, keys, table, d_theta, d_table = _opened(pointers)
    for k in range(len(keys)):
        lag = np.int64(keys[k]) - 1
        if len(table):
            table[k] = theta[lag] if lag < len(theta) else 0.0
        elif lag < len(theta):
            d_theta[lag] += d_table[k]
    return 0.0


def partial(pointers):
    """Lag by lag, from partial correlations on (0, 1)."""
    theta, _, keys, table, d_theta, d_table = _opened(pointers)
    rho, slopes = recursion(2.0 * theta - 1.0)
    for k in range(len(keys)):
        lag = np.int64(keys[k]) - 1
        if len(table):
            table[k] = rho[lag]
        else:
            for i in range(lag + 1):
                d_theta[i] += 2.0 * d_table[k] * slopes[lag, i]
    return 0.0


def steps(pointers):
    """The product of the correlations from one visit to the next."""
    theta, _, keys, table, d_theta, d_table = _opened(pointers)
    half = len(keys) // 2
    for k in range(half):
        first, last = np.int64(keys[k]), np.int64(keys[half + k])
        if len(table):
            table[k] = 1.0
            for i in range(first, last):
                table[k] *= theta[i]
            continue
        for j in range(first, last):
            others = d_table[k]
            for i in range(first, last):
                others *= theta[i] if i != j else 1.0
            d_theta[j] += others
    return 0.0


def unstructured(pointers):
    """A matrix from unconstrained numbers, with its LKJ prior."""
    theta, constants, keys, table, d_theta, d_table = _opened(pointers)
    n, eta = np.int64(constants[0]), constants[1]
    L, half = np.zeros((n, n)), len(keys) // 2
    density = lkj.forward(theta, n, eta, L)
    d_L = np.zeros((n, n))
    for k in range(half):
        a, b = np.int64(keys[k]), np.int64(keys[half + k])
        total = 0.0
        for i in range(min(a, b) + 1):
            total += L[a, i] * L[b, i]
            if len(d_table):
                d_L[a, i] += d_table[k] * L[b, i]
                d_L[b, i] += d_table[k] * L[a, i]
        if len(table):
            table[k] = total
    if len(d_theta):
        lkj.backward(theta, n, eta, L, d_L, d_theta)
    return density


@njit
def _falling(pointers, value, slope):
    """The share that is not the nugget's, times a function of distance over range."""
    theta, _, keys, table, d_theta, d_table = _opened(pointers)
    share = 1.0 - theta[1] if len(theta) > 1 else 1.0
    for k in range(len(table)):
        table[k] = share * value[k]
    for k in range(len(d_table)):
        d_theta[0] -= d_table[k] * share * slope[k] * keys[k] / theta[0] ** 2
        if len(theta) > 1:
            d_theta[1] -= d_table[k] * value[k]
    return 0.0


def exponential(pointers):
    """See `distances.Exponential`."""
    theta, _, keys, _, _, _ = _opened(pointers)
    fallen = np.exp(-keys / theta[0])
    return _falling(pointers, fallen, -fallen)


def squared_exponential(pointers):
    """See `distances.SquaredExponential`."""
    theta, _, keys, _, _, _ = _opened(pointers)
    distance = keys / theta[0]
    fallen = np.exp(-distance * distance)
    return _falling(pointers, fallen, -2.0 * distance * fallen)


def matern(pointers):
    """See `distances.Matern`."""
    theta, constants, keys, _, _, _ = _opened(pointers)
    root = np.sqrt(2.0 * constants[0])
    a = root * keys / theta[0]
    fallen = np.exp(-a)
    if constants[0] == 1.5:
        return _falling(pointers, (1.0 + a) * fallen, -root * a * fallen)
    value = (1.0 + a + a * a / 3.0) * fallen
    return _falling(pointers, value, -root * a * (1.0 + a) / 3.0 * fallen)


@dataclass(frozen=True)
class CorrelationKernel:
    """Machine code for the correlations of a structure.

    Parameters
    ----------
    function : callable
        What is compiled.
    pairs : bool
        Whether a correlation belongs to a pair of visits, and not to a distance.
    constants : callable
        ``(structure, visits, prior of its matrix or None) -> numbers`` that the kernel takes
        besides the parameters.
    """

    function: Callable[..., Any]
    pairs: bool = False
    constants: Callable[[Any, int, Prior | None], Sequence[float]] = lambda *_: ()

    @property
    def address(self) -> int:
        """Where the machine code is."""
        return int(_compiled(self.function).address)


@cache
def _compiled(function: Callable[..., Any]) -> Any:
    # On disk by this name: numba itself would look for changes in this file only.
    function.__qualname__ = f"{function.__name__}_{EDITION}"
    return on_disk(lambda cache: numba.cfunc(CALLED, cache=cache, error_model="numpy")(function))


def _of_matrix(_: Structure, size: int, prior: Prior | None) -> tuple[float, float]:
    assert prior is not None
    return size, dict(prior.parameters)["eta"]


# By a structure and the first of its parameters.
_KERNELS: Mapping[tuple[type[Structure], str], CorrelationKernel] = MappingProxyType(
    {
        (CompoundSymmetry, "rho"): CorrelationKernel(constant),
        (AR1, "phi"): CorrelationKernel(power),
        (ContinuousAR1, "phi"): CorrelationKernel(power),
        (ARMA11, "phi"): CorrelationKernel(mixed),
        (Toeplitz, "partial"): CorrelationKernel(partial),
        (Toeplitz, "rho"): CorrelationKernel(bands),
        (Antedependence, "rho"): CorrelationKernel(steps, pairs=True),
        (Unstructured, "cor_residual"): CorrelationKernel(
            unstructured,
            pairs=True,
            constants=_of_matrix,
        ),
        (Exponential, "range"): CorrelationKernel(exponential),
        (SquaredExponential, "range"): CorrelationKernel(squared_exponential),
        (Matern, "range"): CorrelationKernel(
            matern, constants=lambda structure, *_: (structure.smoothness,)
        ),
    }
)
_NOTHING = CorrelationKernel(nothing)


def kernel_of(
    structure: Structure, parameters: tuple[CorrelationParameter, ...]
) -> CorrelationKernel | None:
    """The kernel of a structure with these parameters; None where there is none for it."""
    if not is_known(structure):
        return None
    return _KERNELS.get((type(structure), parameters[0].name)) if parameters else _NOTHING
