r"""Posteriors of heavy-tailed and location-scale meta-analyses without a sampler.

With normal effects whose heterogeneity has a formula the coefficients integrate out in closed form,
given those of log tau. With Student's t they do not, but every study's likelihood is an integral
over one number, and then the average effect, tau and perhaps nu are left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, PriorError, listed
from bayesmixed.defaults import assign_priors
from bayesmixed.design import Design
from bayesmixed.meta._densities import density
from bayesmixed.meta._grid import coefficient_priors, standardised
from bayesmixed.meta._lattice import Lattice, lattice
from bayesmixed.meta._regression import Regression
from bayesmixed.predictor import INTERCEPT
from bayesmixed.priors import Prior

type Floats = NDArray[np.float64]

_MOST = 3
_REACH = 25.0
# Studies times points that are worked on at once; each takes 128 nodes with Student's t.
_CHUNK = 40_000
_WIDE = (-60.0, 60.0)
_NU = (np.log(1e-3), np.log(1e5))


def location_scale(design: Design) -> tuple[Lattice, Floats, Regression, Floats]:
    """Posterior of the coefficients of log tau, and what gives the others.

    Parameters
    ----------
    design : Design
        Of family between_normal with a formula for tau.

    Returns
    -------
    lattice : Lattice
        Of the coefficients of log tau for centred and scaled moderators.
    raw_scale : array, shape (scale terms, scale terms)
        From those to coefficients on the raw scale.
    regression : Regression
    raw : array, shape (terms, terms)
        The same for the average effect.

    Raises
    ------
    BayesmixedError
        If there are too many coefficients of log tau, or their priors are not normal.
    """
    effects, scale = design.predictors["mu"], design.predictors["tau"]
    priors = {name: assigned.prior for name, assigned in assign_priors(design).items()}
    assert design.sampling_sd is not None
    if len(scale.terms) > _MOST:
        raise BayesmixedError(
            f"The grid is for up to {_MOST} coefficients of log tau; scale= has "
            f'{len(scale.terms)}: {listed(scale.terms)}. Use method="nuts".'
        )
    raw, X = standardised(design, "mu")
    mean, precision = coefficient_priors(design, "mu", raw, priors)
    regression = Regression(design.y - effects.offset, design.sampling_sd**2, X, mean, precision)
    raw_scale, Z = standardised(design, "tau")
    centre, weight = coefficient_priors(design, "tau", raw_scale, priors)

    def log_density(alpha: Floats) -> Floats:
        with np.errstate(over="ignore"):
            tau = np.exp(np.clip(alpha @ Z.T + scale.offset, -300, 300))
        found = regression.given(tau)[0]
        return np.asarray(found - 0.5 * ((alpha - centre) ** 2) @ weight)

    size = np.sqrt(np.median(regression.v))
    middle = np.where(weight > 0, centre, 0.0)
    if scale.has_intercept and not weight[0]:
        middle[0] = np.log(size)
    half = np.where(weight > 0, 8 / np.sqrt(np.maximum(weight, 1e-300)), _REACH)
    ends = np.stack([middle - half, middle + half], axis=-1)
    return lattice(log_density, ends, "the heterogeneity"), raw_scale, regression, raw


def heavy_tailed(design: Design) -> tuple[Lattice, Callable[[Floats], Floats]]:
    """Posterior of the average effect, log tau and, unless it is fixed, log nu.

    The average effect is on the scale that the normal model gives it for every tau: it is known
    the better the smaller tau is.

    Parameters
    ----------
    design : Design
        Of family between_t.

    Returns
    -------
    lattice : Lattice
    natural : callable
        From points to average effect, tau and nu, shape (points, 2 or 3).

    Raises
    ------
    BayesmixedError
        If there are moderators, or a prior is none that the grid knows.
    """
    effects = design.predictors["mu"]
    if effects.terms != (INTERCEPT,) or design.predictors.get("tau") is not None:
        raise BayesmixedError(
            'The grid with between="t" is for an average effect without moderators; this model has '
            f'{listed(effects.terms)}. Use method="nuts".'
        )
    priors = {name: assigned.prior for name, assigned in assign_priors(design).items()}
    mean, sd = _normal(priors["Intercept"])
    assert design.sampling_sd is not None
    y, s = design.y - effects.offset, design.sampling_sd
    fixed = fixed_nu(design)
    log_priors = {1: density(priors["tau"])} | ({} if fixed else {2: density(priors["nu"])})

    one = Regression(y, s**2, np.ones((len(y), 1)), np.array([mean]), np.array([sd**-2.0]))

    def scaled(points: Floats) -> tuple[Floats, Floats]:
        _, centre, variance = one.given(np.exp(points[:, 1]))
        width = np.sqrt(variance[:, 0])
        return centre + width * points[:, :1], width

    def natural(points: Floats) -> Floats:
        return np.hstack([scaled(points)[0], np.exp(points[:, 1:])])

    def log_density(points: Floats) -> Floats:
        tau = np.exp(points[:, 1:2])
        mu, width = scaled(points)
        nu = np.full_like(mu, fixed) if fixed else np.exp(points[:, 2:3])
        with np.errstate(divide="ignore"):
            found = np.log(width[:, 0]) - 0.5 * ((mu[:, 0] - mean) / sd) ** 2
            for k, prior in log_priors.items():
                found = found + prior.logpdf(np.exp(points[:, k])) + points[:, k]
        return np.asarray(found + _in_parts(design, y, s, mu, tau, nu))

    spread = np.ptp(y) + s.max()
    ends = [_WIDE, (np.log(s.min()) - _REACH, np.log(spread) + _REACH / 2)]
    ends += [] if fixed else [_NU]
    return lattice(log_density, np.array(ends), "the average effect, tau or nu"), natural


def _in_parts(design: Design, y: Floats, s: Floats, mu: Floats, tau: Floats, nu: Floats) -> Floats:
    """Log-likelihood at every point, shape (points,), a part of the points at a time."""
    loglik, step = design.family.loglik, max(1, _CHUNK // len(y))
    parts = [slice(i, i + step) for i in range(0, len(mu), step)]
    return np.concatenate(
        [loglik(y=y, mu=mu[p], sigma=s, tau=tau[p], nu=nu[p]).sum(axis=-1) for p in parts]
    )


def fixed_nu(design: Design) -> float | None:
    """The degrees of freedom that were given; None where they have a prior."""
    predictor = design.predictors.get("nu")
    return None if predictor is None else float(np.exp(predictor.offset[0]))


def _normal(prior: Prior) -> tuple[float, float]:
    if prior.distribution not in ("Normal", "Flat"):
        raise PriorError(
            f"The grid needs a Normal or Flat prior of mu, not {prior}; give one, or use "
            'method="nuts".'
        )
    values = dict(prior.parameters)
    return values.get("mu", 0.0), values.get("sigma", np.inf)


def values_of(design: Design, draws: int, seed: int | None) -> Mapping[str, Floats]:
    """Draws from the grid under the posterior's names, without the studies' effects.

    Parameters
    ----------
    design : Design
        Of one of the families in `between_studies`.
    draws : int
    seed : int, optional
    """
    rng = np.random.default_rng(seed)
    if design.family.name == "between_t":
        nodes, natural = heavy_tailed(design)
        drawn = natural(nodes.sample(draws, rng))
        found = {"beta": drawn[:, :1], "tau": drawn[:, 1]}
        return found if drawn.shape[1] == 2 else found | {"nu": drawn[:, 2]}
    nodes, raw_scale, regression, raw = location_scale(design)
    alpha = nodes.sample(draws, rng)
    scale = design.predictors["tau"]
    log_tau = alpha @ raw_scale.T @ scale.X.T + scale.offset
    _, mean, covariance = regression.given(np.exp(log_tau))
    z = rng.normal(size=mean.shape)
    beta = mean + np.einsum("dij,dj->di", np.linalg.cholesky(covariance), z)
    return {"beta": beta @ raw.T, "beta_tau": alpha @ raw_scale.T}
