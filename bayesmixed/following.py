r"""Values of a process at new times, from standard normal numbers.

Those at times with outcomes come first, so that with a lower triangular root of the covariance that
the values in the fit leave,

.. math:: u_h = m_h + L_{hh} z_h, \qquad u_f = m_f + L_{fh} z_h + L_{ff} z_f,

outcomes are about :math:`z_h` alone, and what is still to come has its mean given them, and a
covariance :math:`L_{ff} L_{ff}'` about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesmixed.fit import Fit
from bayesmixed.kin import Part, draws_of
from bayesmixed.names import sd_name
from bayesmixed.relatives import Relatives

type Floats = NDArray[np.float64]
type Integers = NDArray[np.intp]


@dataclass(frozen=True)
class Following:
    """Values of a process at new times.

    Parameters
    ----------
    relatives : Relatives
        The new times; one effect each.
    known : array of bool, shape (times,)
        Which of them have outcomes.
    """

    relatives: Relatives
    known: NDArray[np.bool_]

    @property
    def size(self) -> int:
        """How many have outcomes."""
        return int(self.known.sum())

    def mean(self, fit: Fit) -> Floats:
        """What the values in the fit foretell, shape (draws, times)."""
        found = self.relatives.mean(fit)[..., 0]
        return np.asarray(found.reshape((-1, found.shape[-1])))

    def loadings(self, fit: Fit) -> Floats:
        """What the numbers of times with outcomes are multiplied by, (draws, these, these)."""
        place = np.cumsum(self.known) - 1
        found = np.zeros((draws_of(fit), self.size, self.size))
        for some, coming, h, root in self._roots(fit):
            at = place[coming[:, :h]]
            for own, scale in zip(at, self._scale(fit, some, coming), strict=True):
                found[some, own[:, None], own] = scale[:, :h, None] * root[:, :h, :h]
        return found

    def given(self, fit: Fit, z: Floats, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        """Values given the numbers of times with outcomes, shape (draws, these).

        Returns
        -------
        mean, off, variance : array, shape (draws, times)
            What is expected of them, a draw less that, and the variance of such draws.
        """
        place = np.cumsum(self.known) - 1
        mean = self.mean(fit)
        off, variance = np.zeros_like(mean), np.zeros_like(mean)
        for some, coming, h, root in self._roots(fit):
            noise = rng.standard_normal((len(root), len(coming), coming.shape[1] - h))
            left = (root[:, h:, h:] ** 2).sum(axis=-1)
            scales = self._scale(fit, some, coming)
            for k, (own, scale) in enumerate(zip(coming, scales, strict=True)):
                numbers = z[some][:, place[own[:h]], None]
                mean[some, own] += scale * (root[:, :, :h] @ numbers)[..., 0]
                drawn = (root[:, h:, h:] @ noise[:, k, :, None])[..., 0]
                off[some, own[h:]] = scale[:, h:] * drawn
                variance[some, own[h:]] = scale[:, h:] ** 2 * left
        return mean, off, variance

    def _roots(self, fit: Fit) -> Iterator[tuple[slice, Integers, int, Floats]]:
        """Some draws, times of series that are alike, how many have outcomes, and the root."""
        for part in self.relatives.parts:
            # Series are never mixed with independence.
            assert isinstance(part, Part)
            patterns, whose = np.unique(self.known[part.coming], axis=0, return_inverse=True)
            for some, _, left in part.given(fit):
                for k, pattern in enumerate(patterns):
                    order = np.argsort(~pattern, kind="stable")
                    coming = part.coming[whose.ravel() == k][:, order]
                    yield some, coming, int(pattern.sum()), _root(left[:, order[:, None], order])

    def sds(self, fit: Fit) -> Floats:
        """Standard deviations at all times, shape (draws, times)."""
        relatives = self.relatives
        if relatives.random.spreads is not None:
            return relatives.scale(fit)
        own = fit.posterior[sd_name(relatives.tail, relatives.random.name)].to_numpy()
        return np.broadcast_to(own.reshape((-1, 1)), (own.size, len(relatives.first)))

    def _scale(self, fit: Fit, some: slice, coming: Integers) -> Iterator[Floats]:
        """Those at the times of each series, shape (draws, times)."""
        sd = self.sds(fit)[some]
        for at in coming:
            yield sd[:, at]


def _root(G: Floats) -> Floats:
    """Lower triangular root of covariances."""
    try:
        return np.linalg.cholesky(G)
    except np.linalg.LinAlgError:
        # Of smooth processes little is left but rounding, which may be below 0.
        values, vectors = np.linalg.eigh(G)
        root = vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]
        return np.asarray(np.linalg.qr(root.mT, mode="r").mT)
