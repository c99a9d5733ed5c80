"""Mixtures of normal distributions: what is left when all but the heterogeneity integrates out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize.elementwise import find_root
from scipy.special import ndtr, ndtri

from bayesmixed.meta._shortest import shortest

type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class NormalMixture:
    """Distribution of one or several numbers, each a mixture of normals with the same weights.

    Parameters
    ----------
    weights : array, shape (nodes,) or (nodes, numbers)
        Adding up to 1; the same for every number, or each number's own.
    means, sds : array, shape (nodes, numbers)
        Of the components.
    moments : float or array, shape (numbers,)
        Moments of lower order than this exist; infinite unless the tails are heavy.
    """

    weights: Floats
    means: Floats
    sds: Floats
    moments: float | Floats = np.inf

    @property
    def mean(self) -> Floats:
        """Mean of each number, shape (numbers,); not a number where it does not exist."""
        return np.where(np.asarray(self.moments) > 1, self._average(self.means), np.nan)

    @property
    def sd(self) -> Floats:
        """Standard deviation of each number, shape (numbers,); infinite where it is so."""
        centred = self.means - self._average(self.means)
        found = np.sqrt(self._average(self.sds**2 + centred**2))
        return np.where(np.asarray(self.moments) > 2, found, np.inf)

    def pdf(self, x: ArrayLike) -> Floats:
        """Density of each number at `x`, which broadcasts against (numbers,)."""
        z = self._standard(x)
        density = np.exp(-0.5 * z**2) / (np.sqrt(2 * np.pi) * self.sds)
        return self._average(density)

    def cdf(self, x: ArrayLike) -> Floats:
        """Probability of a number up to `x`, which broadcasts against (numbers,)."""
        return self._average(ndtr(self._standard(x)))

    def sf(self, x: ArrayLike) -> Floats:
        """Probability of a number above `x`, which broadcasts against (numbers,)."""
        return self._average(ndtr(-self._standard(x)))

    def quantile(self, p: float) -> Floats:
        """Where `cdf` is `p`, shape (numbers,), to about 1e-12 of the scale."""
        # A mixture's quantile lies between the smallest and largest of its components'.
        components = self.means + self.sds * ndtri(p)
        lower, upper = components.min(axis=0), components.max(axis=0)
        margin = 1e-6 * self.sds.min(axis=0)

        def above(x: Floats, j: Any) -> Floats:
            z = (x[None] - self.means[:, j]) / self.sds[:, j]
            return np.asarray((weights[:, j] * ndtr(z)).sum(axis=0) - p)

        weights = np.broadcast_to(self._columns, self.means.shape)
        index = np.arange(self.means.shape[1])
        found = find_root(
            above,
            (lower - margin, upper + margin),
            args=(index,),
            tolerances={"xatol": 1e-13 * float(np.max(self._average(self.sds))), "xrtol": 1e-14},
        )
        return np.asarray(found.x)

    def shortest(self, prob: float) -> Floats:
        """Ends of the shortest interval of this probability, of the one or first number; (2,)."""
        one = self[0]
        return shortest(lambda p: float(one.quantile(p)[0]), prob)

    def __getitem__(self, j: int) -> NormalMixture:
        """One of the numbers."""
        one = slice(j, j + 1) if j != -1 else slice(-1, None)
        weights = self.weights if self.weights.ndim == 1 else self.weights[:, one]
        moments = np.broadcast_to(self.moments, self.means.shape[1:])[one]
        return NormalMixture(weights, self.means[:, one], self.sds[:, one], moments)

    @property
    def _columns(self) -> Floats:
        return self.weights[:, None] if self.weights.ndim == 1 else self.weights

    def _average(self, values: Floats) -> Floats:
        """Over the components, the second axis from the last."""
        return np.asarray((self._columns * values).sum(axis=-2))

    def _standard(self, x: ArrayLike) -> Floats:
        return np.asarray(
            (np.atleast_1d(np.asarray(x, dtype=float))[..., None, :] - self.means) / self.sds
        )
