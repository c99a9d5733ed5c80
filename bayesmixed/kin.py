"""What groups in the fit say of new ones whose correlations with them are alike in a draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesmixed.conditional import regression, root
from bayesmixed.fit import Fit
from bayesmixed.places import in_runs

type Floats = NDArray[np.float64]
type Integers = NDArray[np.intp]
type Matrices = Callable[[xr.Dataset, slice], Floats]


@dataclass(frozen=True)
class Part:
    """Groups whose correlations are alike in a draw.

    Parameters
    ----------
    seen : array of int, shape (sets, seen)
        Positions among the groups of the fit.
    coming : array of int, shape (sets, coming)
        Positions among the new groups.
    matrices : callable, optional
        From a posterior and some of its draws to their correlations, those seen first; shape
        (draws, n, n).
    same : array, shape (n, n), optional
        Instead, where they are the same in all draws.
    """

    seen: Integers
    coming: Integers
    matrices: Matrices | None = None
    same: Floats | None = None

    def mean(self, fit: Fit, u: Floats) -> Floats:
        """What is expected given effects seen, shape (draws, groups, effects), of all groups.

        Returns
        -------
        array, shape (draws, sets, coming, effects)
        """
        found = np.empty((len(u), *self.coming.shape, u.shape[-1]))
        for some, weights, _ in self.given(fit):
            for k in range(u.shape[-1]):
                found[some, ..., k] = u[some][:, self.seen, k] @ weights
        return found

    def share(self, fit: Fit) -> Floats:
        """Variance that is left where that of an effect is 1, shape (draws, coming)."""
        found = np.empty((draws_of(fit), self.coming.shape[1]))
        for some, _, left in self.given(fit):
            found[some] = np.diagonal(left, axis1=1, axis2=2)
        return found

    def draw(self, fit: Fit, effects: int, rng: np.random.Generator) -> Floats:
        """Independent effects with variance 1 less their means, shaped as the means."""
        z = rng.standard_normal((draws_of(fit), *self.coming.shape, effects))
        for some, _, left in self.given(fit):
            z[some] = root(left)[:, None] @ z[some]
        return z

    def given(self, fit: Fit) -> Iterator[tuple[slice, Floats, Floats]]:
        """Some draws, weights of the groups seen in them, and the covariance that is left.

        Of arrays with one draw instead, where all draws have the same.
        """
        if self.same is not None:
            yield slice(None), *self._once
            return
        assert self.matrices is not None
        m, count = self.seen.shape[1] + self.coming.shape[1], len(self.coming)
        for some in in_runs(draws_of(fit), m * (m + count)):
            P = self.matrices(fit.posterior, some)
            yield some, *regression(P, self.coming.shape[1])

    @cached_property
    def _once(self) -> tuple[Floats, Floats]:
        assert self.same is not None
        return regression(self.same[None], self.coming.shape[1])


@dataclass(frozen=True)
class MixedPart:
    r"""Groups with the covariance :math:`(1 - \phi) I + \phi K`, the share learnt.

    With :math:`K_{ss} = V \Lambda V'` the weights of those seen are
    :math:`V \phi (1 - \phi + \phi\Lambda)^{-1} V' K_{sn}`, so no draw takes a factorisation. What
    is left is drawn as all groups drawn anew less what those seen then say of the new ones, which
    has the same covariance (Journel & Huijbregts 1978, Mining Geostatistics, ch. VII).

    Parameters
    ----------
    seen, coming : array of int, shape (1, groups)
        As for `Part`.
    K : array, shape (n, n)
        Those seen first.
    share_of : str
        Name of the share.
    """

    seen: Integers
    coming: Integers
    K: Floats
    share_of: str

    def mean(self, fit: Fit, u: Floats) -> Floats:
        """As `Part.mean`."""
        return self._foretold(fit, u[:, self.seen[0]])[:, None]

    def share(self, fit: Fit) -> Floats:
        """As `Part.share`."""
        phi, C = self._phi(fit)[:, None], self._spectrum[1]
        own = self.K.diagonal()[self.seen.shape[1] :]
        return np.asarray(1 - phi + phi * own - phi * self._gain(fit) @ C**2)

    def draw(self, fit: Fit, effects: int, rng: np.random.Generator) -> Floats:
        """As `Part.draw`."""
        values, vectors = np.linalg.eigh(self.K)
        z = rng.standard_normal((draws_of(fit), len(values), effects))
        phi = self._phi(fit)[:, None]
        z *= np.sqrt(1 - phi + phi * np.maximum(values, 0.0))[..., None]
        every = _applied(vectors.T, z)
        count = self.seen.shape[1]
        return (every[:, count:] - self._foretold(fit, every[:, :count]))[:, None]

    def _foretold(self, fit: Fit, u: Floats) -> Floats:
        """What groups seen with these effects say of the new ones, shape (draws, n, effects)."""
        _, C, vectors = self._spectrum
        return _applied(C, self._gain(fit)[..., None] * _applied(vectors, u))

    def _gain(self, fit: Fit) -> Floats:
        """The weights in the directions of the eigenvectors, shape (draws, seen)."""
        phi, values = self._phi(fit)[:, None], self._spectrum[0]
        variance = 1 - phi + phi * values
        return np.divide(phi, variance, out=np.zeros_like(variance), where=variance > 0)

    def _phi(self, fit: Fit) -> Floats:
        return fit.posterior[self.share_of].to_numpy().ravel()

    @cached_property
    def _spectrum(self) -> tuple[Floats, Floats, Floats]:
        """Of the groups seen: eigenvalues, V' K with the new groups, and V."""
        count = self.seen.shape[1]
        values, vectors = np.linalg.eigh(self.K[:count, :count])
        return np.maximum(values, 0.0), vectors.T @ self.K[:count, count:], vectors


def _applied(A: Floats, u: Floats) -> Floats:
    """A' u for each draw and effect, as one product; shape (draws, columns of A, effects)."""
    return np.moveaxis(np.moveaxis(u, 1, -1) @ A, -1, 1)


def draws_of(fit: Fit) -> int:
    """Number of draws of a fit, over all chains."""
    return fit.posterior.sizes["chain"] * fit.posterior.sizes["draw"]
