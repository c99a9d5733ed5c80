"""Likelihoods by name: a kernel with the sufficient statistics that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from bayesmixed import kernels
from bayesmixed._errors import BayesmixedError

type Floats = NDArray[np.float64]
type Integers = NDArray[np.integer[Any]]
type Columns = tuple[list[Floats], Floats]
_NOTHING = np.empty(0)


def _sums(y: Floats, index: Integers, count: int) -> tuple[Floats, Floats]:
    """Sum of y and number of rows for each unique row."""
    n = np.bincount(index, minlength=count).astype(np.float64)
    return np.bincount(index, weights=y, minlength=count), n


def _successes(
    y: Floats, trials: Floats | None, index: Integers, count: int, sufficient: bool
) -> Columns:
    total, n = _sums(y, index, count)
    return [total, n if trials is None else _sums(trials, index, count)[0]], _NOTHING


def _totals(
    y: Floats, trials: Floats | None, index: Integers, count: int, sufficient: bool
) -> Columns:
    return list(_sums(y, index, count)), _NOTHING


def _counts(
    y: Floats, trials: Floats | None, index: Integers, count: int, sufficient: bool
) -> Columns:
    total, n = _sums(y, index, count)
    if not sufficient and (total[index] != y * n[index]).any():
        raise BayesmixedError(
            "Rows with different outcomes were to become one although alpha differs by row. Give "
            "them an index each."
        )
    return [total, n], _NOTHING


def _count_tails(values: Floats, often: Integers) -> Floats:
    """What the gamma functions need of all outcomes, from the distinct ones and their counts.

    A number J, how many outcomes are above j for 0 <= j < J, then the distinct outcomes above J,
    then how often each occurs. J is where one more term costs less than what it saves.
    """
    least = min(kernels.LARGE, max(values[-1], 1.0))
    bounds = np.concatenate([[least], values[values > least]])
    far = len(values) - np.searchsorted(values, bounds, side="right")
    direct = bounds[np.argmin(bounds + kernels.FAR_COST * far)]
    below = np.concatenate([[0], np.cumsum(often)])
    above = below[-1] - below[np.searchsorted(values, np.arange(direct), side="right")]
    beyond = values > direct
    return np.concatenate([[direct], above, values[beyond], often[beyond]]).astype(np.float64)


@dataclass(frozen=True)
class Kernel:
    """The likelihood of a family with given links.

    Parameters
    ----------
    name : str
        Family and link of its first parameter.
    function : callable
        What is compiled.
    statistics : callable
        ``(y, trials, index, count, sufficient) -> (columns, further numbers)``.
    further : callable, optional
        Where rows may become one: ``(distinct outcomes, how often each occurs) -> further numbers``
        for all rows together.
    sufficient : callable
        ``varies -> bool``: whether rows that differ in nothing but `y` may become one row, given
        which of the family's parameters differ between rows.
    """

    name: str
    function: Callable[..., Any]
    statistics: Callable[[Floats, Floats | None, Integers, int, bool], Columns]
    sufficient: Callable[[Sequence[int]], bool] = lambda varies: True
    further: Callable[[Floats, Integers], Floats] | None = None

    def entry(self) -> Any:
        """The kernel as a ``numba`` C function: ``.address`` is where it is, ``.ctypes`` calls it.

        The first call on a machine compiles it (below a second) and keeps it on disk.
        """
        return _compiled(self.function)

    def collapse(
        self, y: Floats, trials: Floats | None, index: Integers, count: int, sufficient: bool
    ) -> tuple[Floats, int]:
        """Sufficient statistics of the outcomes that share a row of predictors.

        Parameters
        ----------
        y : array (n,)
            Outcomes.
        trials : array (n,), optional
            Trials, for the binomial; 1 where left out.
        index : integer array (n,)
            Position of each outcome's unique row, 0 to ``count - 1``, each of which occurs.
        count : int
            Number of unique rows.
        sufficient : bool
            What `sufficient` said. If false, outcomes that share a row must be equal.

        Returns
        -------
        stats : array
            What the kernel takes: columns of length `count`, then further numbers.
        extra : int
            How many further numbers.

        Raises
        ------
        BayesmixedError
            If outcomes that share a row differ although that is not sufficient.
        """
        columns, further = self.statistics(y, trials, index, count, sufficient)
        if sufficient and self.further is not None:
            further = self.further(*np.unique(y, return_counts=True))
        return np.concatenate([*columns, further]), len(further)


@cache
def _compiled(function: Callable[..., Any]) -> Any:
    try:
        return numba.cfunc(kernels.SIGNATURE, cache=True, **kernels.SUMS)(function)
    except RuntimeError:  # Nowhere to keep it: neither beside this file nor in the user's cache.
        return numba.cfunc(kernels.SIGNATURE, **kernels.SUMS)(function)


KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        kernel.name: kernel
        for kernel in (
            Kernel("binomial_logit", kernels.binomial_logit, _successes),
            Kernel("binomial_probit", kernels.binomial_probit, _successes),
            Kernel("binomial_cloglog", kernels.binomial_cloglog, _successes),
            Kernel("poisson_log", kernels.poisson_log, _totals),
            Kernel(
                "negative_binomial_log",
                kernels.negative_binomial_log,
                _counts,
                lambda varies: not varies[1],
                _count_tails,
            ),
        )
    }
)
