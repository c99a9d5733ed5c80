"""A positive number with a prior, on the whole line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from bayesmixed.meta._heterogeneity import Density

type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Positive:
    """The logarithm of a number, or its log-odds between the bounds of its prior.

    Parameters
    ----------
    prior : Density
    """

    prior: Density

    @property
    def _bounds(self) -> tuple[float, float]:
        lower, upper = self.prior.support()
        return float(lower), float(upper)

    def value(self, x: Floats) -> Floats:
        """The number itself."""
        lower, upper = self._bounds
        return np.asarray(lower + (np.exp(x) if np.isinf(upper) else (upper - lower) * expit(x)))

    def log_prior(self, x: Floats) -> Floats:
        """Log-density of x under the prior."""
        lower, upper = self._bounds
        jacobian = x
        if np.isfinite(upper):
            jacobian = np.log(upper - lower) - np.logaddexp(0, x) - np.logaddexp(0, -x)
        with np.errstate(divide="ignore"):
            return np.asarray(np.asarray(self.prior.logpdf(self.value(x))) + jacobian)

    def ends(self, low: float, high: float) -> tuple[float, float]:
        """Places on the line between which a number from `low` to `high` lies.

        Between bounds that is all of the line that matters.
        """
        if np.isfinite(self._bounds[1]):
            return -40.0, 40.0
        return float(np.log(low)), float(np.log(high))
