"""A mixture of Student's t distributions: a new study's effect where studies differ by such."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class StudentTMixture:
    """Distribution of one number, an equally weighted mixture over draws.

    Parameters
    ----------
    location, scale, nu : array, shape (draws,)
        Of the components.
    moments : float
        Moments of lower order than this exist.
    """

    location: Floats
    scale: Floats
    nu: Floats
    moments: float

    @property
    def mean(self) -> Floats:
        """Shape (1,); not a number where it does not exist."""
        return np.array([self.location.mean() if self.moments > 1 else np.nan])

    @property
    def sd(self) -> Floats:
        """Shape (1,); infinite where it does not exist."""
        if not self.moments > 2:
            return np.array([np.inf])
        within = self.scale**2 * self.nu / (self.nu - 2)
        return np.array([np.sqrt(within.mean() + self.location.var())])

    def cdf(self, x: float) -> Floats:
        """Probability of a number up to `x`, shape (1,)."""
        return np.array([np.mean(stats.t.cdf((x - self.location) / self.scale, self.nu))])

    def sf(self, x: float) -> Floats:
        """Probability of a number above `x`, shape (1,)."""
        return np.array([np.mean(stats.t.sf((x - self.location) / self.scale, self.nu))])

    def quantile(self, p: float) -> Floats:
        """Where `cdf` is `p`, shape (1,)."""
        each = self.location + self.scale * stats.t.ppf(p, self.nu)
        low, high = float(each.min()), float(each.max())
        if high - low < 1e-300:
            return np.array([low])
        return np.array([brentq(lambda x: self.cdf(x)[0] - p, low, high, xtol=1e-10)])
