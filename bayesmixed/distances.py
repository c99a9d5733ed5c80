"""Structures whose correlation falls with the distance in time or space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from bayesmixed import backend as bk
from bayesmixed._errors import BayesmixedError
from bayesmixed.backend import Array
from bayesmixed.priors import Prior
from bayesmixed.structure import CorrelationParameter, Structure


def flat(lower: float = -1.0, upper: float = 1.0) -> Prior:
    """All values of an interval alike."""
    return Prior("Uniform", lower=lower, upper=upper)


def lags_of(times: Any) -> Array:
    """Distances between all pairs of times, shape (..., m, m)."""
    off = times[..., :, None, :] - times[..., None, :, :]
    if times.shape[-1] == 1:
        return abs(off[..., 0])
    return bk.sqrt((off**2).sum(axis=-1))


def since(times: Any) -> Array:
    """Distances of all times but the first from the one before, shape (..., m - 1)."""
    off = times[..., 1:, :] - times[..., :-1, :]
    return abs(off[..., 0])


@dataclass(frozen=True, kw_only=True)
class _Distance(Structure):
    """A correlation that falls with the distance, in time or space.

    Parameters
    ----------
    nugget : bool
        Whether a share of the variance, ``nugget``, belongs to each measurement alone.
    """

    nugget: bool = False
    counted = False

    def __post_init__(self) -> None:
        """Check the choice of a nugget besides the rest.

        Raises
        ------
        BayesmixedError
            If it is neither True nor False.
        """
        super().__post_init__()
        self._check_choice("nugget", self.nugget)

    def parameters(self, size: int, spread: float) -> tuple[CorrelationParameter, ...]:
        """``range``, in the units of time, and the share ``nugget`` where there is one."""
        wide = CorrelationParameter("range", Prior("HalfStudentT", nu=3, sigma=spread), (0.0, inf))
        share = CorrelationParameter("nugget", flat(0.0), (0.0, 1.0))
        return (wide, share) if self.nugget else (wide,)

    def matrix(self, parameters: Mapping[str, Array], times: Any) -> Array:
        """The share that is not the nugget's, times a function of distance over range."""
        lags = lags_of(times)
        share = 1 - parameters["nugget"] if self.nugget else 1.0
        apart = bk.where(bk.equal(lags, 0), 1.0, lags)
        fallen = share * self._shape(apart / parameters["range"])
        return bk.where(bk.equal(lags, 0), 1.0, fallen)

    def _shape(self, distance: Array) -> Array:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Exponential(_Distance):
    """exp(-d/range).

    Examples
    --------
    >>> import numpy as np
    >>> import bayesmixed as bm
    >>> years = np.array([[0.0], [1.0], [3.0]])
    >>> bm.Exponential(time="years", within="patient").matrix({"range": 2.0}, years).round(3)
    array([[1.   , 0.607, 0.223],
           [0.607, 1.   , 0.368],
           [0.223, 0.368, 1.   ]])
    """

    def steps(self, parameters: Mapping[str, Array], times: Any) -> Array | None:
        """Of times, not of places, and without a nugget."""
        if self.nugget or len(self.columns) > 1:
            return None
        return self._shape(since(times) / parameters["range"])

    def _shape(self, distance: Array) -> Array:
        return bk.exp(-distance)


@dataclass(frozen=True, kw_only=True)
class SquaredExponential(_Distance):
    """exp(-(d/range)^2), also called Gaussian.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesmixed as bm
    >>> years = np.array([[0.0], [1.0], [3.0]])
    >>> bm.SquaredExponential(time="years", within="patient").matrix({"range": 2.0}, years).round(3)
    array([[1.   , 0.779, 0.105],
           [0.779, 1.   , 0.368],
           [0.105, 0.368, 1.   ]])
    """

    def _shape(self, distance: Array) -> Array:
        return bk.exp(-(distance**2))


@dataclass(frozen=True, kw_only=True)
class Matern(_Distance):
    """Matern's function with smoothness 3/2 or 5/2 (Rasmussen & Williams 2006, eq. 4.17).

    Parameters
    ----------
    smoothness : float
        1.5 or 2.5.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesmixed as bm
    >>> years = np.array([[0.0], [1.0], [3.0]])
    >>> smooth = bm.Matern(time="years", within="patient", smoothness=1.5)
    >>> smooth.matrix({"range": 2.0}, years).round(3)
    array([[1.   , 0.785, 0.268],
           [0.785, 1.   , 0.483],
           [0.268, 0.483, 1.   ]])
    """

    smoothness: float = 1.5

    def __post_init__(self) -> None:
        """Check the smoothness.

        Raises
        ------
        BayesmixedError
            If it is neither 1.5 nor 2.5.
        """
        super().__post_init__()
        if self.smoothness not in (1.5, 2.5):
            raise BayesmixedError(
                f"Matern(smoothness={self.smoothness!r}): 1.5 or 2.5; 0.5 is Exponential, and for "
                "an infinite one there is SquaredExponential."
            )

    def _shape(self, distance: Array) -> Array:
        a = (2 * self.smoothness) ** 0.5 * distance
        return (1 + a + (a**2 / 3 if self.smoothness == 2.5 else 0.0)) * bk.exp(-a)
