"""The density of a prior at given values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bayesmixed.priors import Prior
from bayesmixed.univariate import encode, log_prior, unconstrain

type Floats = NDArray[np.float64]


def log_density(prior: Prior, values: Floats) -> Floats:
    """Log-density of a prior of single numbers, elementwise.

    Parameters
    ----------
    prior : Prior
        Any but ``"LKJ"``.
    values : array, any shape
        Inside the prior's support.
    """
    encoded = encode(prior)
    x = unconstrain(values, encoded)
    found = [log_prior(one, encoded.numbers) for one in x.ravel()]
    return np.reshape([d - np.log(abs(slope)) for _, slope, d, _ in found], values.shape)
