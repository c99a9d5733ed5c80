"""Heavy-tailed and location-scale meta-analyses without a sampler: from a design to a posterior."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, listed
from bayesmixed.defaults import assign_priors
from bayesmixed.design import Design
from bayesmixed.meta._densities import density
from bayesmixed.meta._grid import coefficient_priors, standardised
from bayesmixed.meta._heavy_tailed import MOST, HeavyTailed
from bayesmixed.meta._location_scale import LocationScale
from bayesmixed.meta._regression import Regression

type Floats = NDArray[np.float64]
type BetweenPosterior = HeavyTailed | LocationScale

_MOST_SCALE = 3


def between_posterior(design: Design) -> BetweenPosterior:
    """The posterior of a design of one of the families in `between_studies`.

    Raises
    ------
    BayesmixedError
        If there are too many numbers for a lattice.
    PriorError
        If a coefficient's prior is not normal or flat.
    """
    heavy = design.family.name == "between_t"
    return _heavy_tailed(design) if heavy else _location_scale(design)


def _effects(design: Design) -> tuple[Regression, Floats, Floats]:
    """The studies, the way back to raw coefficients, and the moderators' means."""
    assert design.sampling_sd is not None
    priors = {name: assigned.prior for name, assigned in assign_priors(design).items()}
    effects = design.predictors["mu"]
    raw, X = standardised(design, "mu")
    mean, precision = coefficient_priors(design, "mu", raw, priors)
    y = design.y - effects.offset
    regression = Regression(y, design.sampling_sd**2, X, mean, precision)
    return regression, raw, effects.X.mean(axis=0)


def _heavy_tailed(design: Design) -> HeavyTailed:
    effects, fixed = design.predictors["mu"], fixed_nu(design)
    count = len(effects.terms) + (1 if fixed else 2)
    if design.predictors.get("tau") is not None:
        raise BayesmixedError(
            'The grid has either between="t" or scale=; with both use method="nuts".'
        )
    if count > MOST:
        given = "" if fixed else " (nu=4, say, leaves room for one more)"
        raise BayesmixedError(
            f'The grid with between="t" is for {MOST - (1 if fixed else 2)} coefficients{given}; '
            f'this model has {listed(effects.terms)}. Use method="nuts".'
        )
    priors = {name: assigned.prior for name, assigned in assign_priors(design).items()}
    nu = fixed or density(priors["nu"])
    return HeavyTailed(*_effects(design), density(priors["tau"]), nu)


def _location_scale(design: Design) -> LocationScale:
    scale = design.predictors["tau"]
    if len(scale.terms) > _MOST_SCALE:
        raise BayesmixedError(
            f"The grid is for up to {_MOST_SCALE} coefficients of log tau; scale= has "
            f'{len(scale.terms)}: {listed(scale.terms)}. Use method="nuts".'
        )
    priors = {name: assigned.prior for name, assigned in assign_priors(design).items()}
    raw_scale, Z = standardised(design, "tau")
    mean, precision = coefficient_priors(design, "tau", raw_scale, priors)
    offset = np.broadcast_to(scale.offset, design.y.shape)
    return LocationScale(*_effects(design), Z, offset, raw_scale, Z.mean(axis=0), mean, precision)


def fixed_nu(design: Design) -> float | None:
    """The degrees of freedom that were given; None where they have a prior."""
    predictor = design.predictors.get("nu")
    return None if predictor is None else float(np.exp(predictor.offset[0]))


def values_of(design: Design, draws: int, seed: int | None) -> Mapping[str, Floats]:
    """Draws from the grid under the posterior's names, without the studies' effects.

    Parameters
    ----------
    design : Design
        Of one of the families in `between_studies`.
    draws : int
    seed : int, optional
    """
    rng, posterior = np.random.default_rng(seed), between_posterior(design)
    if isinstance(posterior, LocationScale):
        beta, alpha = posterior.sample(draws, rng)
        return {"beta": beta, "beta_tau": alpha}
    beta, tau, nu = posterior.sample(draws, rng)
    found = {"beta": beta, "tau": tau}
    return found if fixed_nu(design) else found | {"nu": nu}
