"""The teaching app: its numbers against independent references."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import expit

TEACHING = Path(__file__).parents[1] / "docs" / "teaching"
sys.path.insert(0, str(TEACHING))

import hospitals  # noqa: E402

CENTRES = (-3.5, -2.0, 0.4)
SPREADS = (0.05, 0.4, 1.0, 2.0)


def _average(function, centre, sd):
    """By SciPy's adaptive quadrature."""
    value, _ = integrate.quad(
        lambda u: stats.norm.pdf(u) * function(expit(centre + sd * u)),
        -9,
        9,
        epsabs=1e-13,
        epsrel=1e-11,
        limit=400,
    )
    return value


@pytest.mark.parametrize("sd", SPREADS)
@pytest.mark.parametrize("centre", CENTRES)
def test_averages_are_those_of_adaptive_quadrature(centre, sd):
    rate = _average(lambda p: p, centre, sd)
    variance = _average(lambda p: (p - rate) ** 2, centre, sd)
    treated = _average(lambda p: p, centre + np.log(2.5), sd)
    odds_ratio = treated / (1 - treated) / (rate / (1 - rate))
    assert hospitals.population_rate(centre, sd) == pytest.approx(rate, rel=1e-8)
    assert hospitals.response_icc(centre, sd) == pytest.approx(
        variance / (rate * (1 - rate)), rel=1e-6
    )
    assert hospitals.population_odds_ratio(2.5, centre, sd) == pytest.approx(odds_ratio, rel=1e-8)
    tail = _average(lambda p: stats.binom.sf(2, 6, p), centre, sd)
    assert hospitals.chance_of(3, 6, centre, sd) == pytest.approx(tail, rel=1e-7)


@pytest.mark.parametrize(("events", "patients"), [(0, 5), (3, 6), (6, 6), (60, 400)])
@pytest.mark.parametrize("sd", SPREADS)
def test_a_hospitals_posterior_is_that_of_adaptive_quadrature(events, patients, sd):
    centre = -2.0

    def density(u):
        return stats.norm.pdf(u) * stats.binom.pmf(events, patients, expit(centre + sd * u))

    def mass(function, low, high):
        return integrate.quad(
            lambda u: function(u) * density(u), low, high, epsabs=0, epsrel=1e-10, limit=400
        )[0]

    total = mass(np.ones_like, -9, 0) + mass(np.ones_like, 0, 9)
    mean = mass(lambda u: expit(centre + sd * u), -9, 9) / total
    found = hospitals.estimate(events, patients, centre, sd)
    # The grid's step is 0.001 sd; interpolation in it is of second order.
    assert found.raw == events / patients
    assert found.mean == pytest.approx(mean, abs=1e-6)
    assert found.above_typical == pytest.approx(mass(np.ones_like, 0, 9) / total, abs=1e-4)
    for end, probability in ((found.lower, 0.025), (found.upper, 0.975)):
        deviate = (np.log(end / (1 - end)) - centre) / sd
        assert mass(np.ones_like, -9, deviate) / total == pytest.approx(probability, abs=1e-4)


def test_much_data_leave_the_rate_alone_and_no_spread_leaves_the_typical_one():
    """A beta posterior under a flat prior is the limit of many patients."""
    found = hospitals.estimate(3000, 10_000, -2.0, 2.0)
    flat = stats.beta(3001, 7001)
    assert found.mean == pytest.approx(flat.mean(), abs=1e-4)
    assert found.lower == pytest.approx(flat.ppf(0.025), abs=2e-4)
    assert hospitals.estimate(3, 6, -2.0, 0.0).mean == pytest.approx(expit(-2.0))


def test_closed_forms():
    assert hospitals.latent_icc(np.pi / np.sqrt(3)) == pytest.approx(0.5)
    assert hospitals.latent_icc(0.0) == 0.0
    assert hospitals.design_effect(1, 0.3) == 1
    assert hospitals.design_effect(34, 0.05) == pytest.approx(2.65)
    assert hospitals.at_least_one(0.02, 50) == pytest.approx(1 - 0.98**50)
    assert hospitals.population_odds_ratio(3.0, -1.0, 0.0) == pytest.approx(3.0)


@pytest.mark.parametrize("size", [5, 40])
def test_the_design_effect_is_the_variance_of_a_rate_from_whole_hospitals(size):
    """Var of a hospital's mean, exactly: Var(p) + E p(1 - p) / m, over that of m strangers."""
    centre, sd = -1.5, 0.8
    rate = _average(lambda p: p, centre, sd)
    between = _average(lambda p: (p - rate) ** 2, centre, sd)
    within = _average(lambda p: p * (1 - p), centre, sd) / size
    exact = (between + within) / (rate * (1 - rate) / size)
    icc = hospitals.response_icc(centre, sd)
    assert hospitals.design_effect(size, icc) == pytest.approx(exact, rel=1e-8)


def test_population_averages_lie_nearer_to_one():
    ratios = [hospitals.population_odds_ratio(3.0, -1.0, sd) for sd in (0.0, 0.5, 1.0, 2.0, 3.0)]
    assert ratios == sorted(ratios, reverse=True)
    assert min(ratios) > 1
