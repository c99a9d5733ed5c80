"""What a structure of residual correlation is: the base of all of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from bayesmixed._errors import BayesmixedError
from bayesmixed.backend import Array
from bayesmixed.priors import Interval, Prior


@dataclass(frozen=True)
class CorrelationParameter:
    """One parameter of a structure, or a vector of them.

    Parameters
    ----------
    name : str
        As in the posterior.
    prior : Prior or tuple of Prior
        The default, for a vector one for each element. ``LKJ`` makes a correlation matrix.
    support : tuple of float
        The open interval where it lies.
    dim : str
        What a vector or matrix runs over: ``"lag"``, ``"band"`` (some of the lags), ``"step"``
        (from a visit to the next) or ``"visit"``; empty for a single number.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> flat = bm.Prior("Uniform", lower=-1, upper=1)
    >>> bm.CorrelationParameter("phi", flat).support
    (-1.0, 1.0)
    """

    name: str
    prior: Prior | tuple[Prior, ...]
    support: Interval = (-1.0, 1.0)
    dim: str = ""

    @property
    def priors(self) -> tuple[Prior, ...]:
        """The default of each element."""
        return self.prior if isinstance(self.prior, tuple) else (self.prior,)

    @property
    def is_matrix(self) -> bool:
        """Whether it is a correlation matrix."""
        return self.priors[0].support == "correlation"

    def of(self, column: str) -> CorrelationParameter:
        """The same as a parameter of a product's factor, the one over a column."""
        return replace(self, name=name_of(self.name, column), dim=dim_of(self.dim, column))


def name_of(parameter: str, column: str) -> str:
    """Name of a factor's parameter in a product; the parameter's own where there is one factor."""
    return f"{parameter}_{column}" if column else parameter


def dim_of(dim: str, column: str) -> str:
    """What a factor's parameter runs over in a product: the column, or such as its lags."""
    if not (dim and column):
        return dim
    return column if dim == "visit" else f"{column}_{dim}"


type Derived = Callable[[Mapping[str, Array]], Array]


@dataclass(frozen=True, kw_only=True)
class Structure:
    """A correlation structure: the base of all of them.

    Parameters
    ----------
    time : str or tuple of str
        Column with the visit or time; several for places in space.
    within : str
        Column whose values share a series, such as the patient. Different series are independent.
        The factors of a `Product` leave it out.
    heterogeneous : bool
        Whether each visit has a standard deviation of its own.
    by : str, optional
        Column, constant within a series, for each of whose values (arms of a trial) all
        parameters are separate.

    Examples
    --------
    A structure of one's own says what it learns and what its matrix is:

    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> import bayesmixed as bm
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Damped(bm.Structure):
    ...     def parameters(self, size, spread):
    ...         flat = bm.Prior("Uniform", lower=0, upper=1)
    ...         return (bm.CorrelationParameter("phi", flat, (0.0, 1.0)),)
    ...
    ...     def matrix(self, parameters, times):
    ...         lag = abs(times - times[..., 0][..., None, :])
    ...         return parameters["phi"] ** (lag**0.5)
    >>> damped = Damped(time="visit", within="patient")
    >>> damped.matrix({"phi": 0.5}, np.array([[0], [1], [4]]))[0]
    array([1.  , 0.5 , 0.25])
    """

    time: str | tuple[str, ...]
    within: str = ""
    heterogeneous: bool = False
    by: str | None = None

    #: Whether times are counted (first visit, second, ...) rather than measured.
    counted = True
    #: Whether the distance of counted visits enters as a number of steps of one size.
    equally_spaced = False
    #: Whether correlations with visits beyond those in the data follow from the same parameters.
    goes_on = False
    #: Whether all times of a series are alike, so that their number in the longest one matters.
    exchangeable = False
    #: Whether the order of the visits matters.
    ordered = True
    #: The parameter, if any, that is the correlation at a distance of 1, so that units matter.
    at_one = ""

    @property
    def holds_level(self) -> bool:
        """Whether the matrix holds any level of a series, so that effects of series add nothing."""
        return False

    @property
    def is_exact(self) -> bool:
        """Whether all parameters within their supports give positive definite matrices.

        Elsewhere sampling meets a wall, and takes smaller steps.
        """
        return all(factor.is_exact for factor in self.factors.values() if factor is not self)

    @property
    def factors(self) -> Mapping[str, Structure]:
        """What the correlation is a product of, by what the names of its parameters end in."""
        return {"": self}

    def __post_init__(self) -> None:
        """Check what was given; a structure with fields of its own calls this and checks these.

        Raises
        ------
        BayesmixedError
            If a column is not named, or a choice is neither True nor False.
        """
        name, columns = type(self).__name__, self.time
        if isinstance(columns, str):
            columns = (columns,)
        if not isinstance(columns, tuple) or not all(map(_is_name, columns)) or not columns:
            raise BayesmixedError(
                f"{name}(time={self.time!r}): name the column with the visit or time, such as "
                'time="visit"; places in space have several, time=("x", "y").'
            )
        if self.counted and len(columns) > 1:
            raise BayesmixedError(
                f"{name}(time={self.time!r}): {name} counts visits, which are one column; for "
                "places in space use Exponential or Matern."
            )
        if not isinstance(self.within, str):
            raise BayesmixedError(
                f"{name}(within={self.within!r}): name the column whose values share a series, "
                'such as within="patient".'
            )
        if self.by is not None and not _is_name(self.by):
            raise BayesmixedError(
                f"{name}(by={self.by!r}): name one column that is constant within a series, such "
                'as by="arm".'
            )
        self._check_choice("heterogeneous", self.heterogeneous)

    def _check_choice(self, name: str, value: object) -> None:
        if not isinstance(value, bool):
            raise BayesmixedError(f"{type(self).__name__}({name}={value!r}): True or False.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns with times or coordinates."""
        return (self.time,) if isinstance(self.time, str) else self.time

    def parameters(self, size: int, spread: float) -> tuple[CorrelationParameter, ...]:
        """What the structure has to learn.

        Parameters
        ----------
        size : int
            Number of distinct visits; where times are exchangeable, of the longest series.
        spread : float
            Typical distance between the times of a series, in their units.
        """
        raise NotImplementedError

    def matrix(self, parameters: Mapping[str, Array], times: Any) -> Array:
        """Correlation matrices, shape (..., m, m).

        Parameters
        ----------
        parameters : mapping of str to array
            By name: numbers, vectors, or matrices.
        times : array, shape (..., m, columns)
            Positions from 0 among the distinct visits where times are counted; else the times.
        """
        raise NotImplementedError

    def steps(self, parameters: Mapping[str, Array], times: Any) -> Array | None:
        """Correlations of each time with the one before, shape (..., m - 1), of a Markov process.

        Where all other correlations are products of these, the density takes time that is linear
        in the number of measurements. None for any other structure.

        Parameters
        ----------
        parameters, times
            See `matrix`.
        """
        return None

    def derived(self, size: int) -> Mapping[str, tuple[str, Derived]]:
        """Further quantities of the posterior: what each runs over (as `dim`), and how."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the class by name, and its fields."""
        return {"structure": type(self).__name__, **vars(self)}

    @property
    def name(self) -> str:
        """The structure in words."""
        parts = re.findall(r"[A-Z][a-z]+|[A-Z]+[0-9]*", type(self).__name__)
        words = " ".join(part if part[1:2].isupper() else part.lower() for part in parts)
        return f"heterogeneous {words}" if self.heterogeneous else words

    def __str__(self) -> str:
        """As one would write it."""
        inner = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if self._differs(f)]
        return f"{type(self).__name__}({', '.join(inner)})"

    def _differs(self, of: Any) -> bool:
        return bool(getattr(self, of.name) != of.default)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)
