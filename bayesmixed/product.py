"""Correlation over two things at once, such as outcomes and time: the direct product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bayesmixed._errors import BayesmixedError
from bayesmixed.backend import Array
from bayesmixed.structure import CorrelationParameter, Structure

#: Dimensions of residual standard deviations and correlations are ``residual_`` and one of these.
_TAKEN = ("arm", "cell")


@dataclass(frozen=True)
class Product(Structure):
    r"""Direct product of two structures, such as outcome by time: ``UN@AR(1)`` in SAS.

    For several outcomes of a patient over time, in long form: a row for each patient, outcome and
    visit. Two residuals correlate as their outcomes do times as their visits do,

    .. math:: \mathrm{cor}(r_{ks}, r_{lt}) = (R_1)_{kl} (R_2)_{st},

    so the matrix of complete data is :math:`R_1 \otimes R_2`, the Kronecker product, and any rows
    may be missing.

    Parameters
    ----------
    first, second : Structure
        The factors, each with a ``time=`` of its own: that of the first is the column that names
        the outcome. Standard deviations differ by the columns of those that are heterogeneous:
        ``sigma[<outcome>]``, or ``sigma[<outcome>,<visit>]`` where both are.
    within : str
        Column whose values share a series, such as the patient.
    by : str, optional
        Column, constant within a series, for each of whose values all parameters are separate.

    Raises
    ------
    BayesmixedError
        If a factor has no column of its own, says another ``within`` or ``by``, or is a product.

    Notes
    -----
    Names of parameters end in the column of their factor: ``cor_residual_outcome``,
    ``phi_visit``. A factor over a column with one value has none. SAS's ``UN@UN`` has standard
    deviations that are products as well, which is ``heterogeneous=False`` in both factors and a
    formula for sigma: ``parameters={"sigma": "~ outcome + factor(visit)"}``.

    References
    ----------
    .. [1] Galecki (1994), Commun. Stat. Theory Methods 23:3105.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesmixed as bm
    >>> structure = bm.Product(
    ...     bm.CompoundSymmetry(time="outcome"), bm.AR1(time="visit"), within="patient"
    ... )
    >>> print(structure)
    Product(CompoundSymmetry(time='outcome'), AR1(time='visit'), within='patient')
    >>> rows = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> structure.matrix({"rho_outcome": 0.5, "phi_visit": 0.2}, rows)
    array([[1. , 0.2, 0.5, 0.1],
           [0.2, 1. , 0.1, 0.5],
           [0.5, 0.1, 1. , 0.2],
           [0.1, 0.5, 0.2, 1. ]])
    """

    first: Structure
    second: Structure
    within: str = field(kw_only=True, default="")
    by: str | None = field(kw_only=True, default=None)
    time: tuple[str, ...] = field(init=False)
    heterogeneous: bool = field(init=False)

    def __post_init__(self) -> None:
        """Check the factors."""
        factors = (self.first, self.second)
        for factor in factors:
            if not isinstance(factor, Structure) or isinstance(factor, Product):
                raise BayesmixedError(
                    f'A Product has two structures, such as bm.Unstructured(time="outcome") and '
                    f'bm.AR1(time="visit"), not {factor!r}.'
                )
            if factor.within not in ("", self.within) or factor.by not in (None, self.by):
                raise BayesmixedError(
                    f"{factor}: within and by are said once, of the Product and not of its factors."
                )
        time = (*self.first.columns, *self.second.columns)
        if len(set(time)) < len(time):
            raise BayesmixedError(f"The factors of {self} need columns of their own.")
        taken = [name for name in self.factors if name in _TAKEN]
        if taken:
            raise BayesmixedError(
                f"A factor's column cannot be called {taken[0]!r}, which is a dimension in the "
                "posterior; rename the column."
            )
        object.__setattr__(self, "time", time)
        object.__setattr__(self, "heterogeneous", any(f.heterogeneous for f in factors))

    @property
    def factors(self) -> Mapping[str, Structure]:
        """The two structures, by the columns over which they go."""
        return {"_".join(factor.columns): factor for factor in (self.first, self.second)}

    def parameters(self, size: int, spread: float) -> tuple[CorrelationParameter, ...]:
        """Those of both factors, where each column has as many values."""
        return tuple(
            parameter.of(column)
            for column, factor in self.factors.items()
            for parameter in factor.parameters(size, spread)
        )

    def matrix(self, parameters: Mapping[str, Array], times: Any) -> Array:
        """The factors' matrices for these rows, multiplied element by element."""
        total: Array = 1.0
        first = 0
        for column, factor in self.factors.items():
            own = self._own(parameters, column)
            at = slice(first, first + len(factor.columns))
            first = at.stop
            # A factor that has parameters, but none here, goes over a single value.
            if own or not factor.parameters(2, 1.0):
                total = total * factor.matrix(own, times[..., at])
        return total

    def _own(self, parameters: Mapping[str, Array], column: str) -> dict[str, Array]:
        """A factor's parameters under its own names."""
        longer = tuple(f"_{other}" for other in self.factors if len(other) > len(column))
        return {
            name.removesuffix(f"_{column}"): value
            for name, value in parameters.items()
            if name.endswith(f"_{column}") and not name.endswith(longer)
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the factors' among them."""
        factors = {"first": self.first.to_dict(), "second": self.second.to_dict()}
        return {"structure": "Product", **factors, "within": self.within, "by": self.by}

    @property
    def name(self) -> str:
        """The two structures in words."""
        return f"{self.first.name} by {self.second.name}"

    def __str__(self) -> str:
        """As one would write it."""
        by = "" if self.by is None else f", by={self.by!r}"
        return f"Product({self.first}, {self.second}, within={self.within!r}{by})"
