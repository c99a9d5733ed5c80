"""Which units to flag, from what a wrong flag costs."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Decision:
    r"""Flags with the least expected cost, and how often they are expected to be wrong.

    With a cost ratio :math:`r` of missing a bad unit to accusing a good one, a flag costs
    :math:`1 - p` on average and its absence :math:`r p`, where :math:`p` is the probability that
    the unit is bad. So a unit is flagged if :math:`p > 1/(1 + r)` [1]_.

    Parameters
    ----------
    bad : array of bool, shape (chain, draw, unit)
        Whether the unit is bad.
    cost_ratio : float
        Above 0.

    References
    ----------
    .. [1] Berger (1985), Statistical Decision Theory and Bayesian Analysis, section 4.4.
    """

    bad: NDArray[np.bool_]
    cost_ratio: float

    def __post_init__(self) -> None:
        """Check the costs.

        Raises
        ------
        BayesmixedError
            If the ratio is not a number above 0.
        """
        if not (isinstance(self.cost_ratio, Real) and 0 < self.cost_ratio < np.inf):
            raise BayesmixedError(
                f"cost_ratio={self.cost_ratio!r} is not a number above 0: the cost of missing a "
                "bad unit in units of the cost of accusing a good one (1/19 flags from a "
                "probability of 95 %)."
            )

    @property
    def probability(self) -> Floats:
        """That a unit is bad, shape (unit,)."""
        return np.asarray(self.bad.mean(axis=(0, 1)))

    @property
    def cut(self) -> float:
        """The probability above which a unit is flagged."""
        return 1 / (1 + self.cost_ratio)

    @property
    def flags(self) -> NDArray[np.bool_]:
        """Units to flag, shape (unit,)."""
        return np.asarray(self.probability > self.cut)

    @property
    def false_flags(self) -> NDArray[np.intp]:
        """Number of good units flagged, shape (chain, draw)."""
        return np.asarray((~self.bad[..., self.flags]).sum(axis=-1))

    @property
    def misses(self) -> NDArray[np.intp]:
        """Number of bad units not flagged, shape (chain, draw)."""
        return np.asarray(self.bad[..., ~self.flags].sum(axis=-1))
