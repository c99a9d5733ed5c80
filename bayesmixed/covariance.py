"""Structures of correlation between repeated measurements, each one value.

The covariance is D P D: D holds the residual standard deviations (one, or one for each visit with
``heterogeneous=True``), and a structure says what P is. It writes P with operators that serve NumPy
and PyTensor alike, and states its parameters with their exact supports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, pi
from types import MappingProxyType
from typing import Any

from bayesmixed import backend as bk
from bayesmixed._errors import BayesmixedError, lookup
from bayesmixed.backend import Array
from bayesmixed.distances import Exponential, Matern, SquaredExponential, flat, lags_of, since
from bayesmixed.levinson import autocorrelations
from bayesmixed.priors import Prior
from bayesmixed.product import Product
from bayesmixed.structure import CorrelationParameter, Derived, Structure


def _codes(times: Any) -> tuple[Any, Any]:
    """The visits of all pairs as whole numbers, shapes (..., m, 1) and (..., 1, m)."""
    visits = times[..., 0].astype("int64")
    return visits[..., :, None], visits[..., None, :]


def _power(base: Array, lags: Array, least: float = 1.0) -> Array:
    # At lag 0 the power's slope would be 0 times infinity where the base is 0; no lag but 0 is
    # below `least`. Whole lags serve a negative base as well.
    return bk.where(bk.equal(lags, 0), 1.0, base ** bk.maximum(lags, least))


@dataclass(frozen=True, kw_only=True)
class Independent(Structure):
    """No correlation; with ``heterogeneous=True`` a variance for each visit.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesmixed as bm
    >>> visits = np.array([[0], [1], [2]])
    >>> bm.Independent(time="visit", within="patient").matrix({}, visits)
    array([[1., 0., 0.],
           [0., 1., 0.],
           [0., 0., 1.]])
    """

    ordered = False

    def parameters(self, size: int, spread: float) -> tuple[CorrelationParameter, ...]:
        """None."""
        return ()

    def matrix(self, parameters: Mapping[str, Array], times: Any) -> Array:
        """The identity."""
        return bk.where(bk.equal(lags_of(times), 0), 1.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class CompoundSymmetry(Structure):
    """One correlation ``rho`` between all visits, down to -1/(m - 1) in the longest series of m.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesmixed as bm
    >>> visits = np.array([[0], [1], [2]])
    >>> bm.CompoundSymmetry(time="visit", within="patient").matrix({"rho": 0.3}, visits)
    array([[1. , 0.3, 0.3],
           [0.3, 1. , 0.3],
           [0.3, 0.3, 1. ]])
    """

    exchangeable = True
    ordered = False

    @property
    def holds_level(self) -> bool:
        """Yes, where variances are equal."""
        return not self.heterogeneous

    def parameters(self, size: int, spread: float) -> tuple[CorrelationParameter, ...]:
        """``rho``."""
        support = (-1 / (size - 1), 1.0)
        return (CorrelationParameter("rho", flat(*support), support),)

    def matrix(self, parameters: Mapping[str, Array], times: Any) -> Array:
        """1 on the diagonal, rho elsewhere."""
        return bk.where(bk.equal(lags_of(times), 0), 1.0, parameters["rho"])


@dataclass(frozen=True, kw_only=True)
class AR1(Structure):
    """Autoregression over counted visits: ``phi`` to the power of the lag.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesmixed as bm
    >>> visits = np.array([[0], [1], [2]])
    >>> bm.AR1(time="visit", within="patient").matrix({"phi": 0.5}, visits)
    array([[1.  , 0.5 , 0.25],
           [0.5 , 1.  , 0.5 ],
           [0.25, 0.5 , 1.  ]])
    """

    equally_spaced = True
    goes_on = True

    def parameters(self, size: int, spread: float) -> tuple[CorrelationParameter, ...]:
        """``phi``."""
        return (CorrelationParameter("phi", flat()),)

    def matrix(self, parameters: Mapping[str, Array], times: Any) -> Array:
        """``phi^|i - j|``."""
        return _power(parameters["phi"], lags_of(times))

    def steps(self, parameters: Mapping[str, Array], times: Any) -> Array:
        """Phi to the power of the steps since the last measurement."""
        return _power(parameters["phi"], since(times))


@dataclass(frozen=True, kw_only=True)
class ContinuousAR1(Structure):
    """Autoregression over measured times: ``phi``, above 0, to the power of the distance.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesmixed as bm
    >>> years = np.array([[0.0], [1.0], [3.0]])
    >>> bm.ContinuousAR1(time="years", within="patient").matrix({"phi": 0.5}, years)
    array([[1.   , 0.5  , 0.125],
           [0.5  , 1.   , 0.25 ],
           [0.125, 0.25 , 1.   ]])
    """

    counted = False
    at_one = "phi"

    def parameters(self, size: int, spread: float) -> tuple[CorrelationParameter, ...]:
        """``phi``, the correlation at a distance of 1."""
        return (CorrelationParameter("phi", flat(0.0), (0.0, 1.0)),)

    def matrix(self, parameters: Mapping[str, Array], times: Any) -> Array:
        """phi^|s - t|."""
        return _power(parameters["phi"], lags_of(times), least=1e-12)

    def steps(self, parameters: Mapping[str, Array], times: Any) -> Array:
        """Phi to the power of the time since the last measurement."""
        return _power(parameters["phi"], since(times), least=1e-12)


@dataclass(frozen=True, kw_only=True)
class ARMA11(Structure):
    """Mixed autoregression and moving average: ``phi`` and ``theta`` (Box & Jenkins).

    Examples
    --------
    >>> import numpy as np
    >>> import bayesmixed as bm
    >>> visits = np.array([[0], [1], [2]])
    >>> arma = bm.ARMA11(time="visit", within="patient")
    >>> arma.matrix({"phi": 0.8, "theta": -0.4}, visits).round(3)
    array([[1.   , 0.523, 0.418],
           [0.523, 1.   , 0.523],
           [0.418, 0.523, 1.   ]])
    """

    equally_spaced = True
    goes_on = True

    def parameters(self, size: int, spread: float) -> tuple[CorrelationParameter, ...]:
        """``phi`` and ``theta``, flat on the square where the process is stationary."""
        return (CorrelationParameter("phi", flat()), CorrelationParameter("theta", flat()))

    def matrix(self, parameters: Mapping[str, Array], times: Any) -> Array:
        """``g phi^(|i-j|-1)``, g = (1 + phi theta)(phi + theta)/(1 + 2 phi theta + theta^2)."""
        phi, theta, lags = parameters["phi"], parameters["theta"], lags_of(times)
        gamma = (1 + phi * theta) * (phi + theta) / (1 + 2 * phi * theta + theta**2)
        return bk.where(bk.equal(lags, 0), 1.0, gamma * _power(phi, bk.maximum(lags - 1, 0)))


@dataclass(frozen=True, kw_only=True)
class Toeplitz(Structure):
    """A correlation for each lag, up to `bands` - 1 where that is given and 0 beyond.

    Parameters
    ----------
    bands : int, optional
        Number of diagonals that are not 0, the main one among them; 1 is independence.

    Notes
    -----
    All lags free: the partial correlations, each in (-1, 1), are what is sampled; with Beta priors
    on ``partial`` = (1 + partial correlation)/2 the correlations ``rho`` are flat on the region of
    positive definite matrices, whose Jacobian is that of Barndorff-Nielsen & Schou (1973, J.
    Multivar. Anal. 3:408). Banded: flat on that region.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> banded = bm.Toeplitz(time="visit", within="patient", bands=2)
    >>> [parameter.name for parameter in banded.parameters(size=4, spread=1.0)]
    ['rho']
    >>> print(banded)
    Toeplitz(time='visit', within='patient', bands=2)
    """

    bands: int | None = None
    equally_spaced = True

    def __post_init__(self) -> None:
        """Check the number of bands besides the rest.

        Raises
        ------
        BayesmixedError
            If it is not a whole number from 1.
        """
        super().__post_init__()
        whole = isinstance(self.bands, int) and not isinstance(self.bands, bool)
        if self.bands is not None and not (whole and self.bands >= 1):
            raise BayesmixedError(
                f"Toeplitz(bands={self.bands!r}): a whole number from 1, how many diagonals are "
                "not 0; leave it out for a correlation at every lag."
            )

    @property
    def holds_level(self) -> bool:
        """Yes, where variances are equal and all lags free."""
        return self.bands is None and not self.heterogeneous

    def _is_full(self, size: int) -> bool:
        return self.bands is None or self.bands >= size

    def parameters(self, size: int, spread: float) -> tuple[CorrelationParameter, ...]:
        """``partial`` for all lags; banded, ``rho``."""
        if self._is_full(size):
            shapes = [size - lag for lag in range(1, size)]
            priors = tuple(Prior("Beta", alpha=a, beta=a) for a in shapes)
            return (CorrelationParameter("partial", priors, (0.0, 1.0), "lag"),)
        assert self.bands is not None
        if self.bands == 1:
            return ()
        # One band's exact bound; more bands lie inside it as well, in the end by definiteness.
        bound = 1 / (2 * cos(pi / (size + 1))) if self.bands == 2 else 1.0
        priors = (flat(-bound, bound),) * (self.bands - 1)
        return (CorrelationParameter("rho", priors, (-bound, bound), "band"),)

    @property
    def is_exact(self) -> bool:
        """Of one band's bound, and of partial correlations, but not of several bands."""
        return self.bands is None or self.bands <= 2

    def derived(self, size: int) -> Mapping[str, tuple[str, Derived]]:
        """``rho`` by lag, where the partial correlations are the parameters."""
        if not self._is_full(size):
            return {}
        return {"rho": ("lag", lambda p: autocorrelations(2 * p["partial"] - 1))}

    def matrix(self, parameters: Mapping[str, Array], times: Any) -> Array:
        """``rho[|i - j|]``."""
        lags = lags_of(times)
        if not parameters:
            return bk.where(bk.equal(lags, 0), 1.0, 0.0)
        if "rho" in parameters:
            rho = parameters["rho"]
            count = self.bands - 1 if self.bands is not None else 0
        else:
            count = bk.length(parameters["partial"])
            rho = autocorrelations(2 * parameters["partial"] - 1)
        within = lags <= count
        at = bk.where((lags > 0) & within, lags - 1, 0).astype("int64")
        return bk.where(bk.equal(lags, 0), 1.0, bk.where(within, rho[at], 0.0))


@dataclass(frozen=True, kw_only=True)
class Antedependence(Structure):
    """First-order ante-dependence: a correlation ``rho`` for each pair of neighbouring visits.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesmixed as bm
    >>> visits = np.array([[0], [1], [2]])
    >>> steps = bm.Antedependence(time="visit", within="patient")
    >>> steps.matrix({"rho": np.array([0.5, 0.8])}, visits)
    array([[1. , 0.5, 0.4],
           [0.5, 1. , 0.8],
           [0.4, 0.8, 1. ]])
    """

    def parameters(self, size: int, spread: float) -> tuple[CorrelationParameter, ...]:
        """``rho`` between each visit and the next."""
        return (CorrelationParameter("rho", (flat(),) * (size - 1), dim="step"),)

    def matrix(self, parameters: Mapping[str, Array], times: Any) -> Array:
        """The product of the correlations between i and j."""
        one, other = _codes(times)
        return self._product(parameters, bk.minimum(one, other), bk.maximum(one, other))

    def steps(self, parameters: Mapping[str, Array], times: Any) -> Array:
        """The product of the correlations since the last measurement."""
        visits = times[..., 0].astype("int64")
        return self._product(parameters, visits[..., :-1], visits[..., 1:])

    def _product(self, parameters: Mapping[str, Array], first: Any, last: Any) -> Array:
        rho = parameters["rho"]
        total: Array = 1.0 + 0.0 * (first + last)
        for k in range(bk.length(rho)):
            total = total * bk.where((first <= k) & (k < last), rho[k], 1.0)
        return total


@dataclass(frozen=True, kw_only=True)
class Unstructured(Structure):
    """A correlation for each pair of visits: the matrix ``cor_residual``, LKJ(2).

    Each visit has a standard deviation of its own unless ``heterogeneous=False``, as UN in SAS and
    ``us()`` in mmrm.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("orthodont")
    >>> free = bm.Unstructured(time="age", within="Subject")
    >>> model = bm.Model("distance ~ age * Sex", data, residual=free)
    >>> list(model.priors.index[-2:])
    ['sigma[14]', 'cor_residual']
    """

    heterogeneous: bool = True
    ordered = False
    holds_level = True

    def parameters(self, size: int, spread: float) -> tuple[CorrelationParameter, ...]:
        """``cor_residual``."""
        return (CorrelationParameter("cor_residual", Prior("LKJ", eta=2), dim="visit"),)

    def matrix(self, parameters: Mapping[str, Array], times: Any) -> Array:
        """The matrix itself, or its rows and columns of the visits."""
        one, other = _codes(times)
        return parameters["cor_residual"][one, other]


STRUCTURES: Mapping[str, type[Structure]] = MappingProxyType(
    {
        each.__name__: each
        for each in (
            Independent,
            CompoundSymmetry,
            AR1,
            ContinuousAR1,
            ARMA11,
            Toeplitz,
            Antedependence,
            Unstructured,
            Exponential,
            SquaredExponential,
            Matern,
            Product,
        )
    }
)


def is_known(structure: Structure) -> bool:
    """Whether it is made of the package's structures alone."""
    factors = structure.factors.values()
    return all(STRUCTURES.get(type(each).__name__) is type(each) for each in (structure, *factors))


def structure_from(values: Mapping[str, Any]) -> Structure:
    """Rebuild a structure from `Structure.to_dict`.

    Raises
    ------
    UnknownNameError
        If it is not one of the package's.
    """
    named = {name: _rebuilt(value) for name, value in values.items()}
    return lookup(STRUCTURES, named.pop("structure"), "correlation structure")(**named)


def _rebuilt(value: Any) -> Any:
    """A field's value from what JSON makes of it."""
    if isinstance(value, Mapping):
        return structure_from(value)
    return tuple(value) if isinstance(value, list) else value
