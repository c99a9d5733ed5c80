"""Prior and posterior of each parameter as curves that answer how probable a value is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from arviz_stats.base import array_stats
from numpy.typing import NDArray
from scipy.stats import beta

from bayesmixed.defaults import AssignedPrior, assign_priors
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.names import suffix
from bayesmixed.page._bars import written
from bayesmixed.priors import Prior
from bayesmixed.reports._prior_density import log_density

type Floats = NDArray[np.float64]

# More curves than this are no picture any more; the table of priors has them all.
_MOST = 40
_POINTS, _STOPS = 96, 60
_HEIGHT = 100.0


@dataclass(frozen=True)
class Curve:
    """One parameter.

    Parameters
    ----------
    name : str
    said : str
        Its posterior and its prior in words.
    low, high : float
        Ends of the axis.
    posterior, prior : str
        The densities as points of a drawing 100 wide and 100 high.
    below : str
        Posterior probabilities of being below equally spaced values, in thousandths.
    """

    name: str
    said: str
    low: float
    high: float
    posterior: str
    prior: str
    below: str

    @property
    def ends(self) -> tuple[str, str]:
        """The ends of the axis as they are read."""
        decimals = int(np.clip(1 - np.floor(np.log10(self.high - self.low)), 0, 8))
        low, high = (round(end, decimals) + 0.0 for end in (self.low, self.high))
        return f"{low:,.{decimals}f}", f"{high:,.{decimals}f}"


def curves(fit: Fit) -> tuple[Curve, ...]:
    """The first of a fit's parameters with proper priors."""
    assigned, found = assign_priors(fit.design), list[Curve]()
    for label, name, values in _as_priors_see_them(fit, assigned):
        if len(found) == _MOST:
            break
        spread = float(np.ptp(values))
        if np.isfinite(values).all() and spread > 1e-9 * float(np.abs(values).max()):
            found.append(_curve(label, values, assigned[name].prior, _size(fit.design, name)))
    return tuple(found)


def _as_priors_see_them(
    fit: Fit, assigned: Mapping[str, AssignedPrior]
) -> Iterator[tuple[str, str, Floats]]:
    """Label, name of the prior, and draws: intercepts and cut-points at the predictors' means."""
    scalars = fit.scalars()
    moved = _moved(fit)
    for label in map(str, scalars["parameter"].to_numpy()):
        values = scalars.sel(parameter=label).to_numpy()
        vector = label.partition("[")[0]
        tail = vector.removeprefix("beta")
        if vector in moved and label == f"{vector}[Intercept]" and f"Intercept{tail}" in assigned:
            yield f"Intercept{tail}", f"Intercept{tail}", (values + moved[vector]).ravel()
        elif label in assigned:
            yield label, label, values.ravel()
        elif vector in assigned:
            ordered = vector == "thresholds" and "beta" in moved
            yield label, vector, (values - moved["beta"] if ordered else values).ravel()


def _moved(fit: Fit) -> dict[str, Floats]:
    """By how much each predictor's level at the means differs from where predictors are 0."""
    found = {}
    for parameter, predictor in fit.design.predictors.items():
        name = f"beta{suffix(fit.design, parameter)}"
        if predictor.terms:
            slopes = fit.posterior[name].to_numpy()[..., int(predictor.has_intercept) :]
            found[name] = slopes @ fit.design.means(parameter)
    return found


def _size(design: Design, name: str) -> int:
    """How many effects or visits a correlation matrix is for."""
    sizes = {
        f"cor{suffix(design, parameter)}_{random.name}": max(map(len, random.blocks), default=1)
        for parameter, predictor in design.predictors.items()
        for random in predictor.random
    }
    if design.series is not None:
        labels, matrices = design.series.labels, design.series.parameters
        sizes |= {p.name: len(labels[p.dim]) for p in matrices if p.is_matrix}
    return sizes.get(name.partition("[")[0], 0)


def _curve(label: str, values: Floats, prior: Prior, size: int) -> Curve:
    lower, upper = (-1.0, 1.0) if prior.distribution == "LKJ" else prior.bounds
    low, high = np.quantile(values, [0.001, 0.999])
    room = 0.12 * (high - low)
    low, high = max(low - room, lower), min(high + room, upper)
    x = np.linspace(low, high, _POINTS)
    grid, density, _ = array_stats.kde(values)
    posterior = np.interp(x, grid, density, left=0.0, right=0.0)
    # The ends of a support may have an infinite or no density.
    inner = np.clip(x, low + 1e-6 * (high - low), high - 1e-6 * (high - low))
    before = _prior_density(prior, inner, size)
    top = 1.05 * float(max(posterior.max(), before.max() if np.isfinite(before).all() else 0))
    middle, ends = float(values.mean()), np.quantile(values, [0.025, 0.975])
    words = f"{label}: posterior {written(middle, *map(float, ends))}; prior {prior}"
    below = np.searchsorted(np.sort(values), np.linspace(low, high, _STOPS + 1)) / len(values)
    return Curve(
        label,
        words,
        float(low),
        float(high),
        _points(posterior / top),
        _points(np.clip(before / top, 0, 1)) if prior.is_proper else "",
        " ".join(f"{1000 * p:.0f}" for p in below),
    )


def _prior_density(prior: Prior, x: Floats, size: int) -> Floats:
    if not prior.is_proper:
        return np.zeros_like(x)
    if prior.distribution == "LKJ":
        # Lewandowski, Kurowicka & Joe (2009): each correlation, over all matrices of this size.
        a = dict(prior.parameters)["eta"] - 1 + size / 2
        return np.asarray(beta.pdf((x + 1) / 2, a, a) / 2)
    return np.exp(log_density(prior, x))


def _points(heights: Floats) -> str:
    step = 100 / (len(heights) - 1)
    return " ".join(f"{i * step:.4g},{_HEIGHT * (1 - y):.4g}" for i, y in enumerate(heights))
