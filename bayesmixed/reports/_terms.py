"""The terms of a benchmark: what is compared with what, and what counts as bad."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import Literal

from bayesmixed._errors import BayesmixedError, lookup

type Scale = Literal["ratio", "difference"]
type Worse = Literal["higher", "lower"]
type Expected = Literal["population", "average"]


@dataclass(frozen=True)
class Terms:
    """What `benchmark` was asked for; see there."""

    worse: Worse
    cost_ratio: float
    margin: float | None
    threshold: float | None
    scale: Scale
    expected: Expected
    volume: str | None
    within: tuple[str, ...]
    suppress_below: float | None

    def __post_init__(self) -> None:
        """Check what was asked.

        Raises
        ------
        BayesmixedError
            If a choice does not exist or a number is outside its range.
        """
        lookup({"higher": 1, "lower": 1}, self.worse, "value of worse")
        lookup({"ratio": 1, "difference": 1}, self.scale, "scale")
        lookup({"population": 1, "average": 1}, self.expected, "value of expected")
        for name in ("margin", "threshold"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, Real) and isfinite(value)):
                raise BayesmixedError(f"{name}={value!r} is not a finite number.")
        below = self.suppress_below
        if below is not None and not (isinstance(below, Real) and 0 < below < float("inf")):
            raise BayesmixedError(
                f"suppress_below={below!r} is not a number above 0; CMS's rule is 11."
            )

    @property
    def sign(self) -> float:
        """Which way outcomes get worse."""
        return 1.0 if self.worse == "higher" else -1.0

    @property
    def null(self) -> float:
        """The comparison of a unit that does as expected."""
        return 1.0 if self.scale == "ratio" else 0.0

    @property
    def bad_from(self) -> float:
        """The comparison beyond which a unit is bad."""
        return self.null if self.margin is None else self.margin

    @property
    def of_unit(self) -> Literal["new", "average"]:
        """The unit that the expectation is for."""
        return "new" if self.expected == "population" else "average"

    @property
    def comparison(self) -> str:
        """The comparison in words."""
        return "Predicted / expected" if self.scale == "ratio" else "Predicted - expected"
