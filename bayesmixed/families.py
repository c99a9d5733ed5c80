"""The outcome families, each one value.

Examples
--------
>>> import bayesmixed as bm
>>> [parameter.name for parameter in bm.families.negative_binomial.parameters]
['mu', 'alpha']
>>> data = bm.datasets.load("epil")
>>> model = bm.Model("y ~ trt + (1 | subject)", data, family=bm.families.negative_binomial)
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log as ln
from math import pi
from types import MappingProxyType
from typing import Any

import numpy as np

from bayesmixed import backend as bk
from bayesmixed import elsewhere, links
from bayesmixed._errors import UnknownNameError, lookup
from bayesmixed.backend import Array
from bayesmixed.between_studies import BETWEEN
from bayesmixed.cumulative import ordinal
from bayesmixed.family import Family, Parameter
from bayesmixed.pickling import by_name
from bayesmixed.priors import Prior

_LOG_2PI = ln(2 * pi)
_REAL = (links.identity, links.log, links.inverse)
_POSITIVE = (links.log, links.identity, links.inverse)
_COUNT = (links.log, links.identity)
_UNIT = (links.logit, links.probit, links.cloglog)
_BINOMIAL = {link.name: f"binomial_{link.name}" for link in _UNIT}


def _whole(y: Any) -> Any:
    return np.isfinite(y) & (y >= 0) & (y == np.floor(y))


def _sigma() -> Parameter:
    return Parameter(
        "sigma",
        (links.log,),
        "positive",
        lambda scale: Prior("HalfStudentT", nu=3, sigma=scale),
        lambda scale: scale,
    )


def _shape(name: str, prior: Prior, typical: float) -> Parameter:
    return Parameter(name, (links.log,), "positive", lambda _: prior, lambda _: typical)


def _beta_loglik(y: Array, log_a: Array, log_b: Array, total: Array) -> Array:
    # log Gamma(a) as log Gamma(a + 1) - log a: finite where a underflows.
    a, b = bk.exp(log_a), bk.exp(log_b)
    return (
        (a - 1) * bk.log(y)
        + (b - 1) * bk.log1p(-y)
        + bk.gammaln(total)
        - (bk.gammaln(a + 1) - log_a)
        - (bk.gammaln(b + 1) - log_b)
    )


def _rising(y: Array, log_a: Array) -> Array:
    """Log of Gamma(a + y) / Gamma(a), for whole y and an `a` that may underflow."""
    a, some = bk.exp(log_a), bk.maximum(y, 1.0)
    return bk.where(y > 0, bk.gammaln(a + some) - bk.gammaln(a + 1) + log_a, 0.0)


def _poisson(rng: Any, mu: Any) -> Any:
    # NumPy's largest rate; default priors reach beyond it now and then.
    return rng.poisson(np.minimum(mu, 9e18))


def _beta(rng: Any, mu: Any, kappa: Any) -> Any:
    # Shapes that underflow to 0 still mean an outcome at one of the ends.
    least = 1e-12
    return rng.beta(np.maximum(mu * kappa, least), np.maximum((1 - mu) * kappa, least))


_NORMAL_INFORMATION = {"identity": lambda sigma: 1 / sigma**2}

gaussian = Family(
    name="gaussian",
    parameters=(Parameter("mu", _REAL), _sigma()),
    loglik=lambda y, mu, sigma, log_sigma: (
        -0.5 * ((y - mu) / sigma) ** 2 - log_sigma - 0.5 * _LOG_2PI
    ),
    mean=lambda mu: mu,
    variance=lambda mu, sigma: sigma**2 + 0 * mu,
    simulate=lambda rng, mu, sigma: rng.normal(mu, sigma),
    information=_NORMAL_INFORMATION,
    is_normal=True,
    reference="Normal with mean mu and standard deviation sigma.",
)

student_t = Family(
    name="student_t",
    parameters=(
        Parameter("mu", _REAL),
        _sigma(),
        _shape("nu", Prior("Gamma", alpha=2, beta=0.1), 20.0),
    ),
    loglik=lambda y, mu, sigma, log_sigma, nu, log_nu: (
        bk.gammaln((nu + 1) / 2)
        - bk.gammaln(nu / 2)
        - 0.5 * (log_nu + ln(pi))
        - log_sigma
        - (nu + 1) / 2 * bk.log1p(((y - mu) / sigma) ** 2 / nu)
    ),
    mean=lambda mu, nu: bk.where(nu > 1, mu, np.nan),
    variance=lambda mu, sigma, nu: (
        bk.where(nu > 2, sigma**2 * nu / bk.maximum(nu - 2, 1e-300), np.inf) + 0 * mu
    ),
    simulate=lambda rng, mu, sigma, nu: mu + sigma * rng.standard_t(nu, np.shape(mu)),
    reference="Location mu, scale sigma, nu degrees of freedom; Juarez & Steel (2010) for the "
    "Gamma(2, 0.1) prior on nu.",
)

lognormal = Family(
    name="lognormal",
    parameters=(Parameter("mu", (links.identity,)), _sigma()),
    loglik=lambda y, mu, sigma, log_sigma: (
        -0.5 * ((bk.log(y) - mu) / sigma) ** 2 - log_sigma - bk.log(y) - 0.5 * _LOG_2PI
    ),
    mean=lambda mu, sigma: bk.exp(mu + sigma**2 / 2),
    variance=lambda mu, sigma: bk.expm1(sigma**2) * bk.exp(2 * mu + sigma**2),
    simulate=lambda rng, mu, sigma: rng.lognormal(mu, sigma),
    valid=lambda y, trials: np.isfinite(y) & (y > 0),
    support="above 0",
    working=np.log,
    information=_NORMAL_INFORMATION,
    is_normal=True,
    reference="log y is normal with mean mu and standard deviation sigma.",
)

gamma = Family(
    name="gamma",
    parameters=(Parameter("mu", _POSITIVE), _shape("alpha", Prior("Gamma", alpha=2, beta=0.1), 4)),
    loglik=lambda y, mu, log_mu, alpha, log_alpha: (
        alpha * (log_alpha - log_mu) - bk.gammaln(alpha) + (alpha - 1) * bk.log(y) - alpha * y / mu
    ),
    mean=lambda mu: mu,
    variance=lambda mu, alpha: mu**2 / alpha,
    simulate=lambda rng, mu, alpha: rng.gamma(alpha, mu / alpha),
    valid=lambda y, trials: np.isfinite(y) & (y > 0),
    support="above 0",
    information={"inverse": lambda mu, alpha: alpha * mu**2},
    reference="Mean mu and shape alpha, variance mu^2/alpha; McCullagh & Nelder (1989), ch. 8.",
)

beta = Family(
    name="beta",
    parameters=(
        Parameter("mu", _UNIT),
        _shape("kappa", Prior("Gamma", alpha=2, beta=0.05), 10),
    ),
    loglik=lambda y, log_mu, log1m_mu, kappa, log_kappa: _beta_loglik(
        y, log_mu + log_kappa, log1m_mu + log_kappa, kappa
    ),
    mean=lambda mu: mu,
    variance=lambda mu, kappa: mu * (1 - mu) / (1 + kappa),
    simulate=_beta,
    valid=lambda y, trials: (y > 0) & (y < 1),
    support="between 0 and 1, neither included",
    reference="Mean mu and precision kappa; Ferrari & Cribari-Neto (2004), eq. 4 (their phi).",
)

bernoulli = Family(
    name="bernoulli",
    parameters=(Parameter("mu", _UNIT),),
    loglik=lambda y, log_mu, log1m_mu: bk.where(y > 0.5, log_mu, log1m_mu),
    mean=lambda mu: mu,
    variance=lambda mu: mu * (1 - mu),
    simulate=lambda rng, mu: rng.binomial(1, mu),
    valid=lambda y, trials: (y == 0) | (y == 1),
    support="0 or 1",
    kernels=_BINOMIAL,
    information={"logit": lambda mu: mu * (1 - mu)},
    reference="Probability mu of the outcome 1.",
)

binomial = Family(
    name="binomial",
    parameters=(Parameter("mu", _UNIT),),
    loglik=lambda y, trials, log_mu, log1m_mu: (
        bk.gammaln(trials + 1.0)
        - bk.gammaln(y + 1.0)
        - bk.gammaln(trials - y + 1.0)
        + bk.xlogy(y, log_mu)
        + bk.xlogy(trials - y, log1m_mu)
    ),
    mean=lambda mu, trials: trials * mu,
    variance=lambda mu, trials: trials * mu * (1 - mu),
    simulate=lambda rng, mu, trials: rng.binomial(np.asarray(trials, dtype=np.int64), mu),
    valid=lambda y, trials: _whole(y) & (y <= trials),
    support="a whole number of successes from 0 to the number of trials",
    has_trials=True,
    row_effects=True,
    kernels=_BINOMIAL,
    information={"logit": lambda mu, trials: trials * mu * (1 - mu)},
    reference="Successes out of a known number of trials, probability mu.",
)

beta_binomial = Family(
    name="beta_binomial",
    parameters=(
        Parameter("mu", _UNIT),
        _shape("kappa", Prior("Gamma", alpha=2, beta=0.05), 10),
    ),
    loglik=lambda y, trials, log_mu, log1m_mu, kappa, log_kappa: (
        bk.gammaln(trials + 1.0)
        - bk.gammaln(y + 1.0)
        - bk.gammaln(trials - y + 1.0)
        + _rising(y, log_mu + log_kappa)
        + _rising(trials - y, log1m_mu + log_kappa)
        - bk.gammaln(kappa + trials)
        + bk.gammaln(kappa)
    ),
    mean=lambda mu, trials: trials * mu,
    variance=lambda mu, kappa, trials: trials * mu * (1 - mu) * (trials + kappa) / (1 + kappa),
    simulate=lambda rng, mu, kappa, trials: rng.binomial(
        np.asarray(trials, dtype=np.int64), _beta(rng, mu, kappa)
    ),
    valid=lambda y, trials: _whole(y) & (y <= trials),
    support="a whole number of successes from 0 to the number of trials",
    has_trials=True,
    reference="Binomial whose probability is beta with mean mu and precision kappa; "
    "Williams (1975), Biometrics 31:949.",
)


def _poisson_loglik(y: Array, mu: Array, log_mu: Array) -> Array:
    return bk.xlogy(y, log_mu) - mu - bk.gammaln(y + 1.0)


def _negative_binomial_loglik(y: Array, log_mu: Array, alpha: Array, log_alpha: Array) -> Array:
    # log(mu + alpha) through the logarithms: finite however far the two are apart.
    log_total = bk.logaddexp(log_mu, log_alpha)
    return (
        bk.gammaln(y + alpha)
        - bk.gammaln(alpha)
        - bk.gammaln(y + 1.0)
        + alpha * (log_alpha - log_total)
        + bk.xlogy(y, log_mu - log_total)
    )


def _zero_inflated(y: Array, log_zi: Array, log1m_zi: Array, count: Array) -> Array:
    return bk.where(y > 0, log1m_zi + count, bk.logaddexp(log_zi, log1m_zi + count))


def _simulate_negative_binomial(rng: Any, mu: Any, alpha: Any) -> Any:
    return _poisson(rng, rng.gamma(alpha, mu / alpha))


def _not_structural(rng: Any, zi: Any, count: Any) -> Any:
    return np.where(rng.random(np.shape(count)) < zi, 0, count)


_ZI = Parameter("zi", _UNIT, "unit", lambda _: Prior("Beta", alpha=1, beta=1), lambda _: 0.5)
_NB_ALPHA = _shape("alpha", Prior("InverseGamma", alpha=0.4, beta=0.3), 2)

poisson = Family(
    name="poisson",
    parameters=(Parameter("mu", _COUNT),),
    loglik=_poisson_loglik,
    mean=lambda mu: mu,
    variance=lambda mu: mu,
    simulate=_poisson,
    valid=lambda y, trials: _whole(y),
    support="a count: 0, 1, 2, ...",
    row_effects=True,
    kernels={"log": "poisson_log"},
    information={"log": lambda mu: mu},
    reference="Counts with mean mu.",
)

negative_binomial = Family(
    name="negative_binomial",
    parameters=(Parameter("mu", _COUNT), _NB_ALPHA),
    loglik=_negative_binomial_loglik,
    mean=lambda mu: mu,
    variance=lambda mu, alpha: mu + mu**2 / alpha,
    simulate=_simulate_negative_binomial,
    valid=lambda y, trials: _whole(y),
    support="a count: 0, 1, 2, ...",
    kernels={"log": "negative_binomial_log"},
    reference="Mean mu and size alpha, variance mu + mu^2/alpha (theta of MASS::glm.nb, shape of "
    "brms); Lawless (1987), Can. J. Stat. 15:209.",
)

zero_inflated_poisson = Family(
    name="zero_inflated_poisson",
    parameters=(Parameter("mu", _COUNT), _ZI),
    loglik=lambda y, mu, log_mu, log_zi, log1m_zi: _zero_inflated(
        y, log_zi, log1m_zi, _poisson_loglik(y, mu, log_mu)
    ),
    mean=lambda mu, zi: (1 - zi) * mu,
    variance=lambda mu, zi: (1 - zi) * mu * (1 + zi * mu),
    simulate=lambda rng, mu, zi: _not_structural(rng, zi, _poisson(rng, mu)),
    valid=lambda y, trials: _whole(y),
    support="a count: 0, 1, 2, ...",
    row_effects=True,
    reference="A structural zero with probability zi, else Poisson with mean mu; Lambert (1992), "
    "Technometrics 34:1.",
)

zero_inflated_negative_binomial = Family(
    name="zero_inflated_negative_binomial",
    parameters=(Parameter("mu", _COUNT), _NB_ALPHA, _ZI),
    loglik=lambda y, log_mu, alpha, log_alpha, log_zi, log1m_zi: _zero_inflated(
        y, log_zi, log1m_zi, _negative_binomial_loglik(y, log_mu, alpha, log_alpha)
    ),
    mean=lambda mu, zi: (1 - zi) * mu,
    variance=lambda mu, alpha, zi: (1 - zi) * mu * (1 + mu * (zi + 1 / alpha)),
    simulate=lambda rng, mu, alpha, zi: _not_structural(
        rng, zi, _simulate_negative_binomial(rng, mu, alpha)
    ),
    valid=lambda y, trials: _whole(y),
    support="a count: 0, 1, 2, ...",
    reference="A structural zero with probability zi, else negative binomial; Greene (1994).",
)


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            gaussian,
            student_t,
            lognormal,
            gamma,
            beta,
            bernoulli,
            binomial,
            beta_binomial,
            poisson,
            negative_binomial,
            zero_inflated_poisson,
            zero_inflated_negative_binomial,
            ordinal,
        )
    }
)


# Those of `between_studies` are for outcomes with known standard errors, as in a meta-analysis.
OURS: Mapping[str, Family] = MappingProxyType({**FAMILIES, **BETWEEN})


def get_family(family: str | Family) -> Family:
    """The family of that name; a `Family` value is returned as it is.

    Besides `FAMILIES` there are those of `between_studies`, for known standard errors.

    Raises
    ------
    UnknownNameError
        If there is no family of that name.
    """
    if isinstance(family, Family):
        return family
    if family in elsewhere.FAMILIES:
        here = elsewhere.FAMILIES[family]
        raise UnknownNameError(f"There is no family {family!r}; here it is {here!r}.")
    return BETWEEN[family] if family in BETWEEN else lookup(FAMILIES, family, "family")


by_name(Family, OURS, get_family)
