"""The residual variance on a linear predictor's scale, where there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError
from bayesmixed.design import Design
from bayesmixed.reports._average_row import AverageRow

type Floats = NDArray[np.float64]

_PROBE = np.array([0.2, 0.4])


def is_transformed(design: Design) -> bool:
    """Whether an identity-link predictor is on another scale than the outcome (lognormal)."""
    return float(design.family.working(np.array([2.0]))[0]) != 2.0


def has_threshold(design: Design) -> bool:
    """Whether the outcome says between which cut-points a continuous variable lies.

    So it is with ordered categories, and with a single yes/no outcome, which is one whose variance
    is m(1 - m), m the probability that the link gives.
    """
    family, link = design.family, design.spec.link
    if link.latent_variance is None or family.is_categorical:
        return link.latent_variance is not None
    m, mean, variance = (
        link.inverse(_PROBE),
        *(_probe(design, f) for f in (family.mean, family.variance)),
    )
    return np.allclose(mean, m) and np.allclose(variance, m * (1 - m))


def is_own_scale(design: Design) -> bool:
    """Whether the linear predictor is the expected outcome itself."""
    if design.spec.link.name != "identity" or design.family.is_categorical:
        return False
    return np.array_equal(_probe(design, design.family.mean), _PROBE)


def _probe(design: Design, function: Callable[..., Any]) -> Floats:
    """One of the family's functions for one trial with all predictors at the same value."""
    eta = {p.name: _PROBE for p in design.family.parameters}
    return np.asarray(design.family.evaluate(function, eta, design.links, trials=1.0))


def scale_name(design: Design) -> str:
    """A linear predictor's scale in words."""
    if is_transformed(design):
        return "the scale of the outcome's logarithm"
    link = design.spec.link.name
    return "the outcome's own scale" if link == "identity" else f"the {link} scale"


def latent_residual(rows: AverageRow) -> Floats:
    r"""Residual variance on the scale of the linear predictor of the first parameter.

    The family's own variance where the predictor is the mean, :math:`\sigma^2` of the logarithm
    for the lognormal, the link's latent variance for yes/no outcomes and ordered categories, and
    with a log link the observation-level variance :math:`\log(1 + v/m^2)`, with m and v the mean
    and variance of the outcome where the mean is that of the population [1]_.

    Returns
    -------
    array, shape (chain, draw, profile)

    Raises
    ------
    BayesmixedError
        If there is no such scale.

    References
    ----------
    .. [1] Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14:20170213, table 1: for
       Poisson log(1 + 1/m), for the negative binomial log(1 + 1/m + 1/alpha).
    """
    design, predictor = rows.design, rows.predictor()
    family, link, centre = design.family, design.spec.link, rows.centre
    first = family.parameters[0].name
    if is_transformed(design) and family.is_normal:
        sigma = design.links["sigma"]
        return predictor.average(lambda eta: np.asarray(sigma.inverse(eta["sigma"])) ** 2)
    if is_own_scale(design):
        # A Student-t's variance may be infinite.
        with np.errstate(invalid="ignore"):
            return predictor.average(lambda eta: predictor.evaluate(family.variance, eta))
    if has_threshold(design):
        return np.full(centre[first].shape, link.latent_variance)
    if link.name != "log":
        raise BayesmixedError(
            f"Family {family.name!r} with link {link.name!r} has no residual variance on the "
            'scale of its linear predictor. Use scale="response", the scale of the outcome.'
        )
    # The mean of an exponential of a normal variable.
    population = {**centre, first: centre[first] + predictor.variance.get(first, 0.0) / 2}
    mean, variance = (predictor.evaluate(f, population) for f in (family.mean, family.variance))
    return np.asarray(np.log1p(variance / mean**2))
