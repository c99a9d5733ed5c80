"""What whole series of correlated residuals tell of effects, and of a mean."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.groups import parents
from bayesmixed.kriging import Kriging
from bayesmixed.linpred import covariance, linear_predictor
from bayesmixed.places import in_runs
from bayesmixed.subjects import correlations

type Floats = NDArray[np.float64]
type Integers = NDArray[np.intp]


def whole_series(design: Design, index: Integers) -> bool:
    """Whether each series lies in one of these groups."""
    return design.series is not None and parents(design.series.index, index) is not None


def series_information(piece: Fit, Z: Floats, index: Integers, count: int) -> Floats:
    r"""Information :math:`\sum Z' (D P D)^{-1} Z` about the effects of groups of whole series.

    Parameters
    ----------
    piece : Fit
        Some of the draws.
    Z : array, shape (rows, effects)
    index : array of int, shape (rows,)
        Each row's group.
    count : int
        Number of groups.

    Returns
    -------
    array, shape (chain, draw, group, effect, effect)
    """
    chains, draws = (piece.posterior.sizes[d] for d in ("chain", "draw"))
    found = np.zeros((count, chains * draws, Z.shape[1], Z.shape[1]))
    for some, rows, sd, P in _blocks(piece, Z.shape[1]):
        W = Z[rows] / sd[..., None]
        each = W.mT @ np.linalg.solve(P[:, None], W)
        np.add.at(found[:, some], index[rows[:, 0]], each.swapaxes(0, 1))
    return found.swapaxes(0, 1).reshape((chains, draws, count, *found.shape[2:]))


def mean_variance(piece: Fit, cluster: Integers) -> tuple[Floats, Floats]:
    """Sums of the covariances of all pairs of rows in a cluster, and of the variances of rows.

    Two rows share the effects of all their common groups, and residuals if they are of one series.

    Parameters
    ----------
    piece : Fit
        Some of the draws.
    cluster : array of int, shape (rows,)
        Each row's cluster, which holds whole series.

    Returns
    -------
    pairs, rows : array, shape (chain, draw)
    """
    design = piece.design
    chains, draws = (piece.posterior.sizes[d] for d in ("chain", "draw"))
    pairs, alone = np.zeros((2, chains * draws))
    for some, _, sd, P in _blocks(piece, 1):
        pairs[some] += np.einsum("dki,dij,dkj->d", sd, P, sd, optimize=True)
        alone[some] += (sd**2).sum(axis=(1, 2))
    for random in design.predictors["mu"].random:
        G = covariance(piece, random).reshape(-1, random.size, random.size)
        shared = cluster * (len(random.groups.labels) + 1) + random.groups.index
        _, cell = np.unique(shared, return_inverse=True)
        sums = np.stack([np.bincount(cell, z) for z in random.Z.T], axis=1)
        pairs += np.einsum("dij,ij->d", G, sums.T @ sums)
        alone += np.einsum("dij,ij->d", G, random.Z.T @ random.Z)
    return pairs.reshape(chains, draws), alone.reshape(chains, draws)


def _blocks(piece: Fit, width: int) -> Iterator[tuple[slice, Integers, Floats, Floats]]:
    """Some draws, rows (series, m) of series measured alike, their sds and correlations."""
    design = piece.design
    total = piece.posterior.sizes["chain"] * piece.posterior.sizes["draw"]
    sigma = design.links["sigma"].inverse(linear_predictor(piece).centre["sigma"])
    sigma = np.broadcast_to(sigma.reshape(-1, sigma.shape[-1]), (total, len(design.y)))
    for each in Kriging.of(design, design).patterns:
        m, rows = len(each.times), each.coming
        for some in in_runs(total, m * (m + len(rows) * width)):
            yield some, rows, sigma[some][:, rows], correlations(piece, each.arm, each.times, some)


def need_whole_series(design: Design, index: Integers, name: str, argument: str) -> None:
    """Refuse groups that cut series into pieces.

    Raises
    ------
    BayesmixedError
        Saying which column has groups that do not.
    """
    if not whole_series(design, index):
        assert design.series is not None
        within = design.series.structure.within
        raise BayesmixedError(
            f"The series of one {within} lie in several groups of {name!r}, whose rows are then "
            f'correlated with those of other groups. Use {argument}="{within}".'
        )
