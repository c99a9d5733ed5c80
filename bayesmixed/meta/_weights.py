r"""How much each study counts in the pooled effect.

Given what varies, the posterior mean of the pooled effect is linear in the estimates,
:math:`\hat\mu = x' (X' W X + P)^{-1} (X' W y + P m)` with the precision W of the estimates (effects
integrated out) and the prior's P. A study's weight is the derivative of :math:`\hat\mu` with
respect to its own effect. With a flat prior and no moderators that is the share of W's row in the
sum of W, metafor's ``weights(fit, type="rowsum")`` of ``rma.mv``; what is left to 1 is the prior's.
Counts are replaced by the normal approximation at every draw, with the expected information (the
working response of Breslow & Clayton 1993, J. Am. Stat. Assoc. 88:9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

from bayesmixed._errors import PriorError
from bayesmixed.defaults import assign_priors
from bayesmixed.meta._estimates import Synthesis
from bayesmixed.meta._grid import coefficient_priors, standardised
from bayesmixed.names import sd_name

type Floats = NDArray[np.float64]

# What the average over draws may cost, in multiplications and in numbers held.
_MOST, _MOST_HELD = 2e9, 2e7


@dataclass(frozen=True, eq=False)
class Varying:
    """One effect that varies between groups.

    Parameters
    ----------
    group : array of int, shape (rows,)
    z : array, shape (rows,)
        What the effect is multiplied by.
    sd : array, shape (draws,)
        Its standard deviation.
    """

    group: NDArray[np.intp]
    z: Floats
    sd: Floats


def weights_of(found: Synthesis) -> Floats | None:
    """Weight of every study in the pooled effect, averaged over draws; shape (studies,).

    Returns
    -------
    array or None
        None where a coefficient's prior is not normal, so that the estimate is not linear.
    """
    design, posterior = found.design, found.fit.posterior
    predictor = design.predictors["mu"]
    priors = {name: assigned.prior for name, assigned in assign_priors(design).items()}
    if any(p.name == "tau" for p in design.family.parameters):
        # Found when each study's variance was drawn.
        known = posterior.attrs.get("weight")
        return None if known is None else np.atleast_1d(known)
    raw, X = standardised(design, "mu")
    try:
        _, precision = coefficient_priors(design, "mu", raw, priors)
    except PriorError:
        return None
    varying = [
        Varying(
            random.groups.index,
            random.Z[:, k],
            posterior[sd_name("", random.name)].sel({f"{random.name}_effect": effect})
            .to_numpy().ravel(),
        )
        for random in predictor.random
        for k, effect in enumerate(random.effects)
    ]  # fmt: skip
    draws = posterior.sizes["chain"] * posterior.sizes["draw"]
    parts = _parts(len(X), varying)
    cost = sum(len(part) ** 3 for part in parts) + len(parts) * X.shape[1] ** 2 + X.shape[1] ** 3
    step = int(np.ceil(draws * max(cost / _MOST, X.size / _MOST_HELD)))
    kept = np.arange(0, draws, max(1, step))
    if found.treatment is None:
        x, own, variance = predictor.X.mean(axis=0), np.eye(len(X)), found.raw.v[None]
    else:
        x = np.array([term == found.treatment for term in predictor.terms], dtype=float)
        arm = predictor.X[:, x.argmax()]
        own = np.zeros((len(X), len(found.raw.y)))
        # Rows are arms, the first and second of each study after one another.
        own[np.arange(len(X)), np.arange(len(X)) // 2] = arm
        variance = _working_variance(found)[kept]
    some = [Varying(one.group, one.z, one.sd[kept]) for one in varying]
    return linear_weights(X, raw.T @ x, precision, variance, some, parts) @ own


def linear_weights(
    X: Floats,
    x: Floats,
    precision: Floats,
    variance: Floats,
    varying: Sequence[Varying],
    parts: Sequence[NDArray[np.intp]],
) -> Floats:
    """Derivative of the estimate of ``x @ beta`` with respect to every row, averaged over draws.

    Parameters
    ----------
    X : array, shape (rows, terms)
    x : array, shape (terms,)
    precision : array, shape (terms,)
        Of the coefficients' priors.
    variance : array, shape (draws, rows) or (1, rows)
        Sampling variances.
    varying : sequence of Varying
    parts : sequence of arrays of int
        Rows that share something that varies; different parts are independent.
    """
    draws = len(varying[0].sd) if varying else len(variance)
    weighted = np.empty((draws, *X.shape))
    for rows in parts:
        covariance = np.zeros((draws, len(rows), len(rows)))
        covariance += np.eye(len(rows)) * variance[:, None, rows]
        for one in varying:
            same = one.group[rows][:, None] == one.group[rows]
            covariance += one.sd[:, None, None] ** 2 * same * np.outer(one.z[rows], one.z[rows])
        weighted[:, rows] = np.linalg.solve(covariance, X[rows])
    information = X.T @ weighted + np.diag(precision)
    left = np.linalg.solve(information, np.broadcast_to(x[:, None], (draws, len(x), 1)))
    return np.asarray((weighted @ left)[..., 0].mean(axis=0))


def _parts(rows: int, varying: Sequence[Varying]) -> list[NDArray[np.intp]]:
    """Rows that share groups, directly or through others."""
    if not varying:
        return [np.array([row]) for row in range(rows)]
    labels = np.arange(rows)
    linked = csr_array((rows, rows))
    for one in varying:
        _, first = np.unique(one.group, return_index=True)
        representative = first[np.searchsorted(np.unique(one.group), one.group)]
        linked = linked + csr_array((np.ones(rows), (labels, representative)), (rows, rows))
    _, part = connected_components(linked, directed=False)
    return [np.flatnonzero(part == k) for k in np.unique(part)]


def _working_variance(found: Synthesis) -> Floats:
    """Variance of each arm's log odds or log rate from its expected events, (draws, arms)."""
    eta = found.fit.eta().to_numpy().reshape(-1, len(found.design.y))
    if found.design.trials is None:
        return np.exp(-eta)
    return np.asarray(1 / (found.design.trials * expit(eta) * expit(-eta)))
