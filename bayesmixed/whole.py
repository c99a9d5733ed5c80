"""What is known of all rows where they are not in memory, and where they can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bayesmixed.groups import Groups

type Floats = NDArray[np.float64]


class Parts(Protocol):
    """Rows that are read part by part."""

    def reduce[T](
        self,
        design: Any,
        function: Callable[[Any], T],
        merge: Callable[[Sequence[T]], T],
    ) -> T:
        """Apply a function to the design of each part's rows, and merge what it finds."""

    def sample(self, design: Any) -> Any:
        """The design of all rows or, where there are many, of some of them."""


@dataclass(frozen=True)
class Moments:
    """Means and standard deviations over all rows.

    Parameters
    ----------
    means, spreads : mapping of str to array, shape (terms,)
        Of the columns of `X`, by the family's parameter.
    effect_spreads : mapping of (str, str) to array, shape (effects,)
        Standard deviations of the columns of `Z`, by parameter and grouping.
    outcome : mapping of str to float
        Of the outcome: ``centre`` (median or, for a mean that cannot be negative, mean), ``mad``
        and ``sd`` of what an identity link leaves after the offset; ``spread`` as the family works
        with it; its plain ``mean``, and ``exposure``, the mean of the offset's exponential.
    """

    means: Mapping[str, Floats]
    spreads: Mapping[str, Floats]
    effect_spreads: Mapping[tuple[str, str], Floats]
    outcome: Mapping[str, float]


@dataclass(frozen=True)
class Whole:
    """What is known of all rows where they are not in memory.

    Parameters
    ----------
    rows, parts : int
        Number of rows, and of the parts that they are read in.
    sizes : mapping of str to array of int, shape (groups,)
        Rows in each group, by grouping.
    moments : Moments, optional
    source : Parts, optional
        Where the rows can be read; None for a fit that was loaded from a file.
    """

    rows: int
    parts: int
    sizes: Mapping[str, NDArray[np.intp]] = field(default_factory=dict)
    moments: Moments | None = None
    source: Parts | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Counted(Groups):
    """Groups of which not all rows are here, but their number is known."""

    counts: NDArray[np.intp]

    @property
    def sizes(self) -> NDArray[np.intp]:
        """Rows in each group, shape (groups,)."""
        return self.counts
