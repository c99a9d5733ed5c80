"""Linear predictors of known, new and average groups, and what they imply of the outcome."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats
from scipy.special import expit

import bayesmixed as bm
from bayesmixed.linpred import covariance, linear_predictor


def test_rows_of_the_fit_are_those_of_eta(medpar):
    data = bm.datasets.load("medpar").drop(columns="died")
    found = linear_predictor(medpar, medpar.design.unobserved(data))
    np.testing.assert_allclose(found.centre["mu"], medpar.eta(), rtol=1e-12)
    assert not found.variance
    np.testing.assert_allclose(found.mean(), expit(medpar.eta()), rtol=1e-9)


def test_a_new_hospital_is_integrated_over(medpar):
    data = bm.datasets.load("medpar").head(3)
    found = linear_predictor(medpar, medpar.design.unobserved(data), "new").mean()
    one = medpar.posterior.isel(chain=1, draw=7)
    eta = medpar.design.predictors["mu"].X[:3] @ one["beta"].to_numpy()
    sd = float(one["sd_provnum"][0])
    for row in range(3):
        exact, _ = integrate.quad(
            lambda z, row=row: stats.norm.pdf(z) * expit(eta[row] + sd * z), -9, 9, epsabs=1e-12
        )
        assert found[1, 7, row] == pytest.approx(exact, abs=1e-8)


def test_the_average_group_has_no_effects(medpar):
    data = bm.datasets.load("medpar").head(3)
    found = linear_predictor(medpar, medpar.design.unobserved(data), "average")
    beta = medpar.posterior["beta"].to_numpy()
    np.testing.assert_allclose(found.centre["mu"], beta @ medpar.design.predictors["mu"].X[:3].T)


def test_moments_of_a_normal_outcome_have_closed_forms(sleepstudy):
    rows = sleepstudy.design.unobserved({"Days": [0.0, 5.0], "Subject": ["new", "new"]})
    found = linear_predictor(sleepstudy, rows, {"Subject": "new"})
    posterior = sleepstudy.posterior
    beta, sigma = posterior["beta"].to_numpy(), posterior["sigma"].to_numpy()
    z = np.array([[1.0, 0.0], [1.0, 5.0]])
    G = covariance(sleepstudy, sleepstudy.design.predictors["mu"].random[0])
    spread = np.einsum("...ij,ni,nj->...n", G, z, z)
    np.testing.assert_allclose(found.mean(), beta @ z.T, rtol=1e-7)
    np.testing.assert_allclose(found.outcome_variance(), spread + sigma[..., None] ** 2, rtol=1e-6)


def test_two_predictors_with_effects_are_averaged_together():
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(15), 8)
    y = rng.normal(size=120) * 0.5 + rng.normal(size=15)[g] * 0.3
    fit = bm.Model(
        "y ~ 1 + (1 | g)", pd.DataFrame({"g": g, "y": y}), parameters={"sigma": "~ 1 + (1 | g)"}
    ).fit(draws=50, tune=200, chains=1, seed=1, progress=False)
    new = linear_predictor(fit, fit.design.unobserved({"g": [99]}), "new")
    draws = fit.posterior.isel(chain=0)
    # A variance is the square of a lognormal sigma, and the effects of the mean add theirs.
    log_sd, spread = draws["beta_sigma"][:, 0], draws["sd_sigma_g"][:, 0]
    exact = np.exp(2 * log_sd + 2 * spread**2) + draws["sd_g"][:, 0] ** 2
    np.testing.assert_allclose(new.outcome_variance()[0, :, 0], exact, rtol=1e-8)


def test_an_unknown_group_has_no_effects_of_its_own(medpar):
    rows = medpar.design.unobserved(bm.datasets.load("medpar").head(2).assign(provnum="nowhere"))
    with pytest.raises(bm.BayesmixedError, match=r'groups=\{.provnum.: "new"\}'):
        linear_predictor(medpar, rows)


def test_what_is_asked_for_is_checked(medpar):
    with pytest.raises(bm.BayesmixedError, match="kind of groups"):
        linear_predictor(medpar, groups="news")
    with pytest.raises(bm.BayesmixedError, match="grouping"):
        linear_predictor(medpar, groups={"hospital": "new"})
    with pytest.raises(bm.BayesmixedError, match="column"):
        medpar.design.unobserved({"age80": [1]})
    with pytest.raises(bm.BayesmixedError, match="Missing values"):
        medpar.design.unobserved({"age80": [None], "type": ["1"], "provnum": ["x"]})


def test_trials_are_one_unless_they_are_given(fitted):
    fit = fitted("cbpp", "incidence | trials(size) ~ period + (1 | herd)", "binomial")
    period = bm.datasets.load("cbpp")["period"].iloc[0]
    one = fit.design.unobserved({"period": [period], "herd": [1]})
    ten = fit.design.unobserved({"period": [period], "herd": [1], "size": [10]})
    found = [linear_predictor(fit, rows).mean() for rows in (one, ten)]
    np.testing.assert_allclose(10 * found[0], found[1])
