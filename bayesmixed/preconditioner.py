"""Coefficients sampled in directions in which the predictors are uncorrelated."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bayesmixed.defaults import AssignedPrior
from bayesmixed.design import Design
from bayesmixed.names import suffix

type Floats = NDArray[np.float64]


def preconditioner(design: Design, priors: Mapping[str, AssignedPrior]) -> dict[str, Floats]:
    r"""Matrices that take what is sampled to the coefficients of each predictor.

    With :math:`X_c` the centred columns of n rows, the coefficients are :math:`s L^{-T} z` where
    :math:`L L' = X_c'X_c/n` and s is the outcome's scale: given independent rows of equal variance
    the likelihood makes z uncorrelated, as sampling wants it, however the columns are related (a
    QR decomposition, as in rstanarm). The model and its priors stay what they are.

    Returns
    -------
    dict of str to array, shape (slopes, slopes)
        By the name of the variable; for two slopes and more.
    """
    found = {}
    for parameter, predictor in design.predictors.items():
        tail = suffix(design, parameter)
        X = predictor.X[:, int(predictor.has_intercept) :] - design.means(parameter)
        if X.shape[1] < 2:
            continue
        L = np.linalg.cholesky(X.T @ X / len(X))
        units = [priors[f"beta{tail}[{term}]"].unit for term in predictor.slopes]
        scale = float(np.median(np.array(units) * X.std(axis=0)))
        found[f"slopes{tail}"] = scale * np.linalg.inv(L).T
    return found
