"""Control limits of a funnel plot: what chance alone would do to units without a difference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bayesmixed.plots import Limits

type Floats = NDArray[np.float64]

_LEVELS = {"95 %": 0.95, "99.8 %": 0.998}
_MOST_POINTS = 400
_TRIMMED = 0.1


def count_limits(most: float, rate: float | None) -> list[Limits]:
    """Exact limits of observed / expected for counts.

    Interpolated between whole numbers of events, so that each tail has its probability [1]_.

    Parameters
    ----------
    most : float
        Largest number of expected events.
    rate : float, optional
        Events per trial, for binomial limits; Poisson limits without it.

    References
    ----------
    .. [1] Spiegelhalter (2005), Stat. Med. 24:1185, appendix A.1.1.
    """
    chance: Any
    if rate is None:
        expected = np.geomspace(0.05, most * 1.05, _MOST_POINTS)
        chance = stats.poisson(expected)
    else:
        trials = np.unique(np.geomspace(1, max(most * 1.05 / rate, 2), _MOST_POINTS).round())
        expected = trials * rate
        chance = stats.binom(trials, rate)

    def quantile(p: float) -> Floats:
        r = chance.ppf(p)
        above, step = chance.cdf(r) - p, chance.pmf(r)
        return np.asarray(np.maximum(r - above / step, 0) / expected)

    return [
        Limits(expected, quantile((1 - level) / 2), quantile((1 + level) / 2), f"{name} limits")
        for name, level in _LEVELS.items()
    ]


def normal_limits(most: float, target: float) -> list[Limits]:
    """Limits by the normal approximation, along the precision 1 / variance."""
    precision = np.geomspace(most / 1e4, most * 1.05, _MOST_POINTS)
    found = []
    for name, level in _LEVELS.items():
        half = stats.norm.ppf((1 + level) / 2) / np.sqrt(precision)
        found.append(Limits(precision, target - half, target + half, f"{name} limits"))
    return found


def overdispersion(z: Floats) -> float:
    """Winsorised mean square of the standardised differences, at least 1.

    The tenth of the units at each end count as the next one in [1]_.

    Parameters
    ----------
    z : array, shape (units,)
        (observed - expected) / standard deviation by chance.

    References
    ----------
    .. [1] Spiegelhalter (2005), Qual. Saf. Health Care 14:347.
    """
    low, high = np.quantile(z, [_TRIMMED, 1 - _TRIMMED])
    return max(1.0, float(np.mean(np.clip(z, low, high) ** 2)))


def widened(limits: list[Limits], factor: float, target: float) -> list[Limits]:
    """The limits with the variance multiplied by an overdispersion factor."""
    root = np.sqrt(factor)
    return [
        Limits(
            one.x,
            target + root * (one.lower - target),
            target + root * (one.upper - target),
            f"{one.label}, overdispersion {factor:.2g}",
            dashed=True,
        )
        for one in limits
    ]
