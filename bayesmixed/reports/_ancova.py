"""The treatment difference at one visit by least squares, in every draw of the outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ancova:
    """Least squares with the model's own terms at a visit, where many columns fall together.

    Parameters
    ----------
    X : array, shape (people, columns)
        Of independent columns.
    contrast : array, shape (columns,)
        The difference of two arms.
    """

    X: Floats
    contrast: Floats

    @classmethod
    def of(cls, X: Floats, contrast: Floats) -> Ancova:
        """Reduce the terms to independent ones.

        Raises
        ------
        BayesmixedError
            If the difference cannot be estimated from these people.
        """
        _, s, rows = np.linalg.svd(X, full_matrices=False)
        basis = rows[s > 1e-10 * s[0]].T
        inside = contrast @ basis
        if not np.allclose(basis @ inside, contrast, atol=1e-8 * max(1.0, np.abs(contrast).max())):
            raise BayesmixedError(
                "The difference of the arms cannot be estimated at this visit: no patient of an "
                "arm is in the data there, or the covariates say which arm a patient is in."
            )
        return cls(X @ basis, inside)

    @cached_property
    def weights(self) -> Floats:
        """What each outcome counts in the difference, shape (people,)."""
        return np.asarray(self.contrast @ np.linalg.pinv(self.X))

    def weighted(self, shares: Floats) -> Floats:
        """The same where people count by shares, shape (draws, people)."""
        A = np.einsum("ni,sn,nj->sij", self.X, shares, self.X)
        a = np.linalg.solve(
            A, np.broadcast_to(self.contrast, (len(A), len(self.contrast)))[..., None]
        )
        return np.asarray(a[..., 0] @ self.X.T * shares)

    @property
    def degrees(self) -> int:
        """Residual degrees of freedom."""
        return int(self.X.shape[0] - self.X.shape[1])

    def residual(self, y: Floats) -> Floats:
        """What least squares leaves of outcomes, shape (..., people)."""
        return np.asarray(y - y @ np.linalg.pinv(self.X).T @ self.X.T)

    @property
    def unit_variance(self) -> float:
        """Variance of the difference where the residual variance is 1."""
        return float(self.weights @ self.weights)
