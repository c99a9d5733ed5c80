r"""Normal variables given others that they are correlated with.

.. math:: e_f \mid e_s \sim N(P_{fs} P_{ss}^{-1} e_s,\; P_{ff} - P_{fs} P_{ss}^{-1} P_{sf})
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float64]


def regression(P: Floats, coming: int) -> tuple[Floats, Floats]:
    """Weights of what was seen, and the covariance that it leaves.

    Parameters
    ----------
    P : array, shape (draws, seen + coming, seen + coming)
        Covariances; of what was seen they may be singular.
    coming : int

    Returns
    -------
    weights : array, shape (draws, seen, coming)
    left : array, shape (draws, coming, coming)
    """
    s = P.shape[-1] - coming
    try:
        weights = np.linalg.solve(P[:, :s, :s], P[:, :s, s:])
    except np.linalg.LinAlgError:
        weights = np.linalg.pinv(P[:, :s, :s], hermitian=True) @ P[:, :s, s:]
    return weights, P[:, s:, s:] - P[:, s:, :s] @ weights


def draw(P: Floats, seen: Floats, coming: int, rng: np.random.Generator | None) -> Floats:
    """Draw variables given those seen, or what is expected of them.

    Parameters
    ----------
    P : array, shape (draws, seen + coming, seen + coming)
    seen : array, shape (draws, series, seen)
    coming : int
    rng : numpy.random.Generator or None
        What is expected where there is none.

    Returns
    -------
    array, shape (draws, series, coming)
    """
    weights, left = regression(P, coming)
    if rng is None:
        return np.asarray(seen @ weights)
    z = rng.standard_normal((*seen.shape[:2], coming))
    return np.asarray(seen @ weights + z @ root(left).mT)


def root(G: Floats) -> Floats:
    """A square root R of covariances, R R' = G: triangular, but where they are singular."""
    try:
        return np.linalg.cholesky(G)
    except np.linalg.LinAlgError:
        # Two rows at one time are one and the same.
        return square_root(G)


def square_root(G: Floats) -> Floats:
    """A square root R of covariances, R R' = G, which may be singular."""
    values, vectors = np.linalg.eigh(G)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :])
