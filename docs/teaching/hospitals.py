"""One model of patients in hospitals, in closed forms and quadrature: what the teaching app shows.

Deaths of patients in hospitals: the log odds of a patient's death are ``centre + u``, with u normal
from hospital to hospital, mean 0 and standard deviation sd. Nothing is estimated or sampled here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import binom

from bayesmixed.quadrature import STEPS, nodes

type Floats = NDArray[np.float64]

DEVIATES, WEIGHTS = nodes(STEPS[-1])  # the finest rule is quick enough here
COARSE = np.linspace(-9, 9, 361)  # hospital effects in units of their sd


@dataclass(frozen=True)
class Estimate:
    """What is known of one hospital's death rate after its patients were counted."""

    raw: float
    mean: float
    lower: float
    upper: float
    above_typical: float  # probability that its rate is above the typical hospital's


def estimate(events: float, patients: float, centre: float, sd: float) -> Estimate:
    """The posterior of a hospital's rate, on a grid of effects: mean, 95 % equal tails."""

    def log_density(z: Floats) -> Floats:
        log_odds = centre + sd * z
        # log(1 + exp(x)) this way does not overflow
        return -0.5 * z**2 + events * log_odds - patients * np.logaddexp(0.0, log_odds)

    # A fine grid where the density is not negligible, with a coarse point on either side.
    rough = log_density(COARSE)
    (seen,) = np.nonzero(rough > rough.max() - 40)
    ends = COARSE[max(seen[0] - 1, 0)], COARSE[min(seen[-1] + 1, len(COARSE) - 1)]
    z = np.linspace(*ends, 2001)
    log_mass = log_density(z)
    mass = np.exp(log_mass - log_mass.max())
    mass /= mass.sum()
    rates = expit(centre + sd * z)
    # A grid point's mass lies around it: half is below the point.
    cumulative = np.cumsum(mass) - mass / 2
    lower, upper = np.interp([0.025, 0.975], cumulative, rates)
    above = 1 - float(np.interp(0.0, z, cumulative)) if sd else 0.0
    return Estimate(events / patients, float(mass @ rates), float(lower), float(upper), above)


def average(function: Callable[[Floats], Floats], centre: float | Floats, sd: float) -> Floats:
    """Average over hospitals of a function of their rate, for each centre."""
    return function(expit(np.asarray(centre)[..., None] + sd * DEVIATES)) @ WEIGHTS


def population_rate(centre: float | Floats, sd: float) -> Floats:
    """The rate over all hospitals: the average of the hospitals' rates."""
    return average(lambda rate: rate, centre, sd)


def chance_of(events: int, patients: int, centre: float, sd: float) -> float:
    """Probability that a hospital drawn at random sees this many deaths or more."""
    return float(average(lambda rate: binom.sf(events - 1, patients, rate), centre, sd))


def at_least_one(chance: float, hospitals: int) -> float:
    """Probability that something of this chance happens in one or more of so many hospitals."""
    return float(-np.expm1(hospitals * np.log1p(-min(chance, 1 - 1e-15))))


def chance_limits(patients: Floats, rate: float) -> tuple[Floats, Floats]:
    """Raw rates between which 95 % of hospitals of one common rate lie, by their size."""
    return (
        binom.ppf(0.025, patients, rate) / patients,
        binom.ppf(0.975, patients, rate) / patients,
    )


def latent_icc(sd: float) -> float:
    """Share of the variance of log odds that lies between hospitals: V / (V + pi^2 / 3)."""
    return sd**2 / (sd**2 + np.pi**2 / 3)


def response_icc(centre: float, sd: float) -> float:
    """Correlation of the outcomes, 0 or 1, of two patients of one hospital."""
    rate = population_rate(centre, sd)
    between = average(lambda p: (p - rate) ** 2, centre, sd)
    return float(between / (rate * (1 - rate)))


def design_effect[Size: (float, Floats)](size: Size, icc: float) -> Size:
    """Factor on the variance of an overall rate from hospitals of one size: 1 + (m - 1) ICC."""
    return 1 + (size - 1) * icc


def population_odds_ratio(odds_ratio: float, centre: float, sd: float) -> float:
    """The odds ratio of two populations, where it is `odds_ratio` in every hospital."""
    treated = population_rate(centre + np.log(odds_ratio), sd)
    return float(np.exp(logit(treated) - logit(population_rate(centre, sd))))
