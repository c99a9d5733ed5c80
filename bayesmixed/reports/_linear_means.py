"""Means over the rows of each group where the mean outcome is the linear predictor itself."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bayesmixed.fit import Fit
from bayesmixed.groups import Groups

type Floats = NDArray[np.float64]


def linear_means(fit: Fit, groups: Groups, without: Collection[str]) -> Callable[[Fit], Floats]:
    """Mean linear predictor of each group's rows, at the cost of the groups and not of the rows.

    Parameters
    ----------
    fit : Fit
        A fit of a normal outcome with the identity link.
    groups : Groups
        Over whose rows the mean is taken.
    without : collection of str
        Groupings that are averaged over; their effects have the mean 0.

    Returns
    -------
    callable
        From a fit of the same design to an array, shape (chain, draw, group).
    """
    predictor = fit.design.predictors["mu"]
    share = 1.0 / groups.sizes[groups.index]
    rows, count = np.arange(len(share)), len(groups.labels)
    mean = sparse.csr_array((share, (groups.index, rows)), shape=(count, len(share)))
    X, offset = mean @ predictor.X, mean @ predictor.offset
    # How much of each effect of another (or the same) grouping is in a group's mean.
    parts = {
        (random.name, k): sparse.csr_array(
            (share * random.Z[:, k], (groups.index, random.groups.index)),
            shape=(count, len(random.groups.labels)),
        )
        for random in predictor.random
        if random.name not in without
        for k in range(random.size)
    }

    def means(piece: Fit) -> Floats:
        posterior = piece.posterior
        shape = (posterior.sizes["chain"], posterior.sizes["draw"], count)
        total = np.broadcast_to(offset, shape)
        if predictor.terms:
            total = total + posterior["beta"].to_numpy() @ X.T
        for (name, k), part in parts.items():
            u = posterior[f"u_{name}"].to_numpy()[..., k]
            total = total + (part @ u.reshape(-1, u.shape[-1]).T).T.reshape(shape)
        return total

    return means
