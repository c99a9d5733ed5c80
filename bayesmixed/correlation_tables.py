"""Which correlations series have: the distinct ones in tables, and where in them each pair's is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesmixed.axes import Axis
from bayesmixed.correlation_kernels import CorrelationKernel, kernel_of
from bayesmixed.distances import lags_of, since
from bayesmixed.priors import Prior
from bayesmixed.series import Series
from bayesmixed.structure import CorrelationParameter

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Table:
    """The distinct correlations of one arm, of a product those of one of its factors.

    Parameters
    ----------
    kernel : CorrelationKernel
        Works them out.
    names : tuple of str
        The numbers of which it does, by the names of their priors (see `elements`).
    constants : array
        Further numbers that the kernel takes.
    keys : array, shape (entries,) or (2 * entries,)
        Distances, or the first and then the second visits of pairs.
    size : int
        Number of entries.
    """

    kernel: CorrelationKernel
    names: tuple[str, ...]
    constants: Floats
    keys: Floats
    size: int


@dataclass(frozen=True)
class Tables:
    """All correlations of some series.

    Parameters
    ----------
    tables : tuple of Table
    places : array of int, shape (factors, patterns, longest, longest) or (factors, patterns,
        longest - 1, 1)
        Where in all tables together the correlation of two times is, or of a time with the one
        before where the series are Markov processes; -1 where it is 1. Of a product's factors
        correlations are multiplied.
    """

    tables: tuple[Table, ...]
    places: Integers

    @classmethod
    def of(cls, series: Series, priors: Mapping[str, Prior]) -> Tables | None:
        """Those of the series; None where a structure has no kernel.

        Parameters
        ----------
        series : Series
        priors : mapping of str to Prior
            Of correlation matrices, by their names.
        """
        kernels = [kernel_of(axis.structure, axis.own) for axis in series.axes]
        known = [kernel for kernel in kernels if kernel is not None]
        if len(known) < len(kernels):
            return None
        markov = _is_markov(series)
        shape = (len(series.lengths), *_shape(series, markov))
        tables, places, begin = [], np.full((len(known), *shape), -1), 0
        columns = np.cumsum([0, *(len(axis.structure.columns) for axis in series.axes)])
        for f, (axis, kernel) in enumerate(zip(series.axes, known, strict=True)):
            times = series.times[..., columns[f] : columns[f + 1]]
            for a in range(len(series.arms)):
                mine = np.flatnonzero(series.arm == a)
                keys, apart = _keys(times[mine], series.lengths[mine], kernel.pairs, markov)
                distinct, index = np.unique(keys[apart], axis=0, return_inverse=True)
                own = np.full(apart.shape, -1)
                own[apart] = begin + index.ravel()
                places[f, mine] = own
                begin += len(distinct)
                names, matrix = _names(series, axis, a)
                constants = kernel.constants(axis.structure, axis.size, priors.get(matrix))
                entry = distinct.T.ravel().astype(np.float64)
                tables.append(Table(kernel, names, np.array(constants), entry, len(distinct)))
        return cls(tuple(tables), places)


def elements(name: str, size: int) -> list[str]:
    """Names of the unconstrained numbers of a correlation matrix."""
    return [f"{name}#{k}" for k in range(size * (size - 1) // 2)]


def matrices(series: Series) -> dict[str, int]:
    """The correlation matrices that are parameters, by name, and their sizes."""
    return {
        name: len(series.labels[parameter.dim])
        for parameter in series.parameters
        if parameter.is_matrix
        for (name,) in series.names(parameter)
    }


def _is_markov(series: Series) -> bool:
    values = {p.name: _typical(series, p) for p in series.parameters}
    return series.structure.steps(values, series.times) is not None


def _typical(series: Series, parameter: CorrelationParameter) -> Any:
    if parameter.is_matrix:
        return np.eye(len(series.labels[parameter.dim]))
    lower, upper = parameter.support
    middle = (lower + upper) / 2 if np.isfinite(upper) else lower + 1.0
    vector = isinstance(parameter.prior, tuple)
    return np.full(len(parameter.priors), middle) if vector else np.float64(middle)


def _shape(series: Series, markov: bool) -> tuple[int, int]:
    longest = series.times.shape[1]
    return (longest - 1, 1) if markov else (longest, longest)


def _keys(
    times: Floats, lengths: Integers, pairs: bool, markov: bool
) -> tuple[Floats, NDArray[np.bool_]]:
    """What each correlation depends on, shape (..., 1 or 2), and whether it is not 1 or nothing."""
    at = np.arange(times.shape[1])
    if markov:
        inside = (at[1:] < lengths[:, None])[..., None]
        lags, ends = since(times)[..., None], (times[:, :-1], times[:, 1:])
    else:
        inside = (at < lengths[:, None])[..., None] & (at < lengths[:, None])[:, None]
        lags, ends = lags_of(times), (times[..., :1], times[..., 0][:, None])
    if not pairs:
        return np.asarray(lags)[..., None], inside & (lags > 0)
    both = np.broadcast_arrays(*ends)
    return np.stack([np.minimum(*both), np.maximum(*both)], axis=-1), inside & (lags > 0)


def _names(series: Series, axis: Axis, arm: int) -> tuple[tuple[str, ...], str]:
    """Names of the numbers that a table is worked out from, and of the matrix that they make."""
    found, matrix = [], ""
    for parameter in axis.parameters:
        names = series.names(parameter)[arm]
        if parameter.is_matrix:
            matrix = names[0]
            names = elements(matrix, axis.size)
        found += names
    return tuple(found), matrix
