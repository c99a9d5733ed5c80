r"""Outcomes with known standard errors about true values that differ, as effects of studies do.

:math:`y_i \sim N(\theta_i, \sigma_i^2)` with :math:`\sigma_i` known, and :math:`\theta_i` from a
distribution between studies whose spread `tau` may have a formula. The true values are integrated
out, so that a row has one likelihood and no effect of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log as ln
from math import pi
from types import MappingProxyType
from typing import Any

import numpy as np

from bayesmixed import backend as bk
from bayesmixed import links
from bayesmixed._errors import BayesmixedError
from bayesmixed.backend import Array
from bayesmixed.family import Family, Parameter
from bayesmixed.priors import Prior

# With these the density has eight digits for nu from 0.5 without end, however far a study lies out.
NODES = 128
# exp(-28) is what is left out at either end.
LEFT_OUT = 28.0


def _known_only(_: float) -> Prior:
    raise BayesmixedError(
        "Families between_normal and between_t are for outcomes whose standard errors are known: "
        'give their column, sampling_sd="...", or use bm.meta_analysis(...).'
    )


_SIGMA = Parameter("sigma", (links.log,), "positive", _known_only)
_TAU = Parameter(
    "tau", (links.log,), "positive", lambda scale: Prior("HalfNormal", sigma=scale), lambda s: s / 2
)


def _normal_loglik(y: Array, mu: Array, sigma: Array, tau: Array) -> Array:
    variance = sigma**2 + tau**2
    return -0.5 * ((y - mu) ** 2 / variance + bk.log(variance) + ln(2 * pi))


def log_mixing(y: Array, mu: Array, sigma: Array, tau: Array, nu: Array) -> tuple[Array, Array]:
    r"""Density of an outcome and of the precision that its true value was drawn with, on nodes.

    Student's t is a normal whose precision is multiplied by
    :math:`\lambda \sim \mathrm{Gamma}(\nu/2, \nu/2)`. The nodes are equally spaced in
    :math:`\log\lambda`, over all that matters: about 0, where the gamma has its mode, and down to
    where an outcome that lies far out takes it. Sums over them converge exponentially.

    Returns
    -------
    log_lambda : array, shape (nodes, ...)
    log_density : array, shape (nodes, ...)
        Of y and log lambda together, with the nodes' distance in it, so that exponentials add up
        to the density of y.
    """
    square, shape = (y - mu) ** 2, nu / 2
    # How far the gamma reaches, to exp(-28) of its mode, and how far down what is far out pulls.
    reach = LEFT_OUT / (shape + 0.25)
    pulled = bk.log((nu + 1) / (nu + square / (tau**2 + 1e-12 * (square + sigma**2))))
    low = bk.minimum(pulled, 0.0) - bk.sqrt(2 * reach) - reach
    # The gamma pays for going down; the normal gains no more than this.
    gain = (square / (2 * sigma**2) + LEFT_OUT) / shape
    low = bk.maximum(low, -bk.sqrt(2 * gain) - gain)
    high = bk.log(1 + reach + bk.sqrt(2 * reach))
    width = (high - low) / (NODES - 1) + 0 * (square + tau)
    place = np.arange(NODES, dtype=float).reshape((NODES,) + (1,) * width.ndim)
    x = low + place * width
    variance = sigma**2 + tau**2 * bk.exp(-x)
    log_gamma = shape * (x - bk.expm1(x)) + shape * bk.log(shape) - shape - bk.gammaln(shape)
    log_normal = -0.5 * (square / variance + bk.log(variance) + ln(2 * pi))
    return x, log_gamma + log_normal + bk.log(width)


def _t_loglik(y: Array, mu: Array, sigma: Array, tau: Array, nu: Array) -> Array:
    _, values = log_mixing(y, mu, sigma, tau, nu)
    most = values.max(axis=0)
    return most + bk.log(bk.exp(values - most).sum(axis=0))


def _simulate_t(rng: Any, mu: Any, sigma: Any, tau: Any, nu: Any) -> Any:
    shape = np.shape(mu)
    return mu + tau * rng.standard_t(nu, shape) + sigma * rng.normal(size=shape)


between_normal = Family(
    name="between_normal",
    parameters=(Parameter("mu", (links.identity,)), _SIGMA, _TAU),
    loglik=_normal_loglik,
    mean=lambda mu: mu,
    variance=lambda mu, sigma, tau: sigma**2 + tau**2 + 0 * mu,
    simulate=lambda rng, mu, sigma, tau: rng.normal(mu, np.sqrt(sigma**2 + tau**2)),
    reference="Normal with mean mu and variance sigma^2 + tau^2, sigma known; with a formula for "
    "tau the location-scale model of Viechtbauer & Lopez-Lopez (2022), Res. Synth. Methods 13:697.",
)

between_t = Family(
    name="between_t",
    parameters=(
        Parameter("mu", (links.identity,)),
        _SIGMA,
        _TAU,
        Parameter(
            "nu",
            (links.log,),
            "positive",
            lambda _: Prior("Gamma", alpha=2, beta=0.1),
            lambda _: 20.0,
        ),
    ),
    loglik=_t_loglik,
    mean=lambda mu, nu: bk.where(nu > 1, mu, np.nan),
    variance=lambda mu, sigma, tau, nu: (
        sigma**2 + bk.where(nu > 2, tau**2 * nu / bk.maximum(nu - 2, 1e-300), np.inf) + 0 * mu
    ),
    simulate=_simulate_t,
    reference="True values are Student's t with location mu, scale tau and nu degrees of freedom, "
    "and outcomes normal about them with known sigma; Lee & Thompson (2008), Stat. Med. 27:418, "
    "Baker & Jackson (2008), Health Care Manag. Sci. 11:121.",
)

BETWEEN: Mapping[str, Family] = MappingProxyType(
    {family.name: family for family in (between_normal, between_t)}
)
