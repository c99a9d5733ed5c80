"""Averages over a normal variable, against closed forms, adaptive quadrature, and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import expit

from bayesmixed.links import LINKS
from bayesmixed.quadrature import STEPS, fine_enough, nodes, normal_average

CENTRES = np.array([-6.0, -2.0, -0.3, 0.0, 1.0, 4.0])
SPREADS = (0.0, 0.01, 0.5, 1.0, 2.0, 4.0, 8.0)


def _average(function, centre, sd):
    sd = np.full_like(centre, sd)
    step = fine_enough(lambda step: normal_average(function, centre, sd, step))
    return normal_average(function, centre, sd, step)


@pytest.mark.parametrize("step", STEPS)
def test_a_rule_has_the_moments_of_the_normal(step):
    """Up to the error of the sum, 2 exp(-2 pi^2 / step^2) < 6e-9, times 2 pi for each power."""
    z, weights = nodes(step)
    for power, moment in ((0, 1), (1, 0), (2, 1), (3, 0), (4, 3)):
        assert weights @ z**power == pytest.approx(moment, abs=6e-9 * (2 * np.pi) ** power)


@pytest.mark.parametrize("sd", SPREADS)
def test_probit_has_a_closed_form(sd):
    found = _average(LINKS["probit"].inverse, CENTRES, sd)
    exact = stats.norm.cdf(CENTRES / np.sqrt(1 + sd**2))
    np.testing.assert_allclose(found, exact, atol=1e-8)


@pytest.mark.parametrize("sd", SPREADS[:-2])
def test_log_has_a_closed_form(sd):
    found = _average(np.exp, CENTRES, sd)
    np.testing.assert_allclose(found, np.exp(CENTRES + sd**2 / 2), rtol=1e-6)


@pytest.mark.parametrize("link", ["logit", "cloglog"])
@pytest.mark.parametrize("sd", SPREADS[1:])
def test_against_adaptive_quadrature(link, sd):
    inverse = LINKS[link].inverse
    found = _average(inverse, CENTRES, sd)
    for centre, value in zip(CENTRES, found, strict=True):
        exact, _ = integrate.quad(
            lambda z, c=centre: stats.norm.pdf(z) * inverse(np.array(c + sd * z)),
            -9,
            9,
            epsabs=1e-12,
            points=[-centre / sd] if abs(centre / sd) < 9 else None,
            limit=500,
        )
        assert value == pytest.approx(exact, abs=1e-6)


def test_against_brute_force():
    rng = np.random.default_rng(1)
    z = rng.standard_normal(2_000_000)
    values = expit(0.7 + 1.9 * z)
    error = values.std() / np.sqrt(len(z))
    found = _average(expit, np.array([0.7]), 1.9)
    assert abs(found[0] - values.mean()) < 4 * error
