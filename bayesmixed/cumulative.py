"""Ordered categories: one latent variable and the thresholds that cut it."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayesmixed import backend as bk
from bayesmixed import links
from bayesmixed.backend import Array
from bayesmixed.family import Family, Parameter
from bayesmixed.links import Link
from bayesmixed.priors import Prior


def _loglik(y: Array, eta_mu: Array, link_mu: Link, thresholds: Array) -> Array:
    # P(y = k) = F(upper) - F(lower) for neighbouring thresholds; in the upper half of the
    # distribution the complements are subtracted instead, so that nothing cancels.
    category = y.astype("int64")
    last = thresholds.shape[-1]
    upper = thresholds[..., bk.minimum(category, last - 1)] - eta_mu
    lower = thresholds[..., bk.maximum(category - 1, 0)] - eta_mu
    flip = link_mu.inverse(lower) > 0.5
    larger = bk.where(flip, link_mu.log1m(lower), link_mu.log(upper))
    smaller = bk.where(flip, link_mu.log1m(upper), link_mu.log(lower))
    # The bound keeps the unused branch (first and last category) finite, and so its gradient.
    inner = larger + bk.log1mexp(bk.minimum(smaller - larger, -1e-12))
    ends = bk.where(bk.equal(category, 0), link_mu.log(upper), link_mu.log1m(lower))
    return bk.where((category > 0) & (category < last), inner, ends)


def _probabilities(eta_mu: Any, link_mu: Link, thresholds: Any) -> Any:
    below = link_mu.inverse(np.asarray(thresholds)[..., None, :] - np.asarray(eta_mu)[..., None])
    zero = np.zeros((*below.shape[:-1], 1))
    return np.diff(np.concatenate([zero, below, zero + 1], axis=-1), axis=-1)


def _mean(eta_mu: Any, link_mu: Link, thresholds: Any) -> Any:
    p = _probabilities(eta_mu, link_mu, thresholds)
    return p @ np.arange(p.shape[-1])


def _variance(eta_mu: Any, link_mu: Link, thresholds: Any) -> Any:
    p = _probabilities(eta_mu, link_mu, thresholds)
    codes = np.arange(p.shape[-1])
    return p @ codes**2 - (p @ codes) ** 2


def _simulate(rng: Any, eta_mu: Any, link_mu: Link, thresholds: Any) -> Any:
    below = np.cumsum(_probabilities(eta_mu, link_mu, thresholds), axis=-1)[..., :-1]
    return (rng.random((*np.shape(eta_mu), 1)) > below).sum(axis=-1)


ordinal = Family(
    name="ordinal",
    parameters=(
        Parameter("mu", (links.logit, links.probit, links.cloglog)),
        Parameter(
            "thresholds",
            (links.identity,),
            "ordered",
            lambda _: Prior("StudentT", nu=3, mu=0, sigma=2.5),
        ),
    ),
    loglik=_loglik,
    mean=_mean,
    variance=_variance,
    simulate=_simulate,
    valid=lambda y, trials: np.isfinite(y) & (y >= 0) & (y == np.floor(y)),
    support="an ordered category",
    is_categorical=True,
    reference="Cumulative model: P(y <= k) = F(threshold_k - eta), F the inverse link; "
    "McCullagh (1980), J. R. Stat. Soc. B 42:109.",
)
