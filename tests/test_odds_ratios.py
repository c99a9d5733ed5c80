"""Subject-specific and population-averaged coefficients against glmer, GEE and closed forms."""

from __future__ import annotations

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import integrate, stats
from scipy.special import expit, logit

import bayesmixed as bm
from bayesmixed.fit import Fit
from bayesmixed.linpred import covariance
from bayesmixed.reports._interpolation import interpolated
from bayesmixed.reports._odds_ratios import population_averaged

TOENAIL = ("toenail", "severe ~ treatment * time + (1 | patientID)", "bernoulli")
RESPIRATORY = (
    "respiratory",
    "outcome ~ treat + sex + age + baseline + factor(center) + (1 | center:id)",
    "bernoulli",
)
CBPP = ("cbpp", "incidence | trials(size) ~ period + (1 | herd)", "binomial")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def simulated() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(25), 8)
    x = rng.normal(size=200)
    u = rng.normal(size=(25, 2)) * [1.0, 0.5]
    eta = 0.3 + 0.6 * x + u[group, 0] + u[group, 1] * x
    latent = eta + rng.logistic(size=200)
    return pd.DataFrame(
        {
            "g": group,
            "x": x,
            "y": (latent > 0).astype(int),
            "count": rng.poisson(np.exp(eta - 0.5)),
            "days": rng.integers(1, 30, size=200),
        }
    )


def _fit(formula: str, data: pd.DataFrame, family: str, **more: object) -> Fit:
    model = bm.Model(formula, data, family=family, **more)
    return model.fit(draws=100, tune=200, chains=2, seed=1, progress=False)


def _links_scale(report: bm.Report, kind: str) -> xr.DataArray:
    return np.log(report.draws[kind.replace("-", "_")])


def _error(draws: xr.DataArray) -> np.ndarray:
    """Monte Carlo error of the means, from the means of 20 stretches of each chain."""
    stretches = draws.coarsen(draw=draws.sizes["draw"] // 20).mean()
    return (stretches.std(["chain", "draw"]) / np.sqrt(20 * draws.sizes["chain"])).to_numpy()


def _integrated(X: np.ndarray, expected: dict) -> np.ndarray:
    """The estimate of glmer, integrated over a fine grid and regressed on the design."""
    beta = np.array(list(expected["fixef"].values()))
    z = np.linspace(-9, 9, 2001)
    weight = stats.norm.pdf(z) / stats.norm.pdf(z).sum()
    p = expit((X @ beta)[:, None] + expected["varcomp"][0]["sdcor"] * z) @ weight
    return np.linalg.lstsq(X, logit(p), rcond=None)[0]


@pytest.mark.parametrize("case", [TOENAIL, RESPIRATORY], ids=["toenail", "respiratory"])
def test_population_averages_are_those_of_the_integrated_estimate(case, reference, fitted):
    """glmer's estimate through an integration and a regression of its own, within 0.15 sd."""
    fit = fitted(*case)
    expected = _integrated(fit.design.predictors["mu"].X, reference[case[0]]["subject_specific"])
    found = _links_scale(bm.odds_ratios(fit), "population-averaged")
    bound = 0.15 * found.std(["chain", "draw"]).to_numpy() + 3 * _error(found)
    np.testing.assert_array_less(
        np.abs(found.mean(["chain", "draw"]).to_numpy() - expected[1:]), bound
    )


def test_toenail_against_generalised_estimating_equations(reference, fitted):
    """The time coefficient is -0.161 here, -0.160 from glmer's estimate, and -0.171 from GEE.

    The last difference is no error of integration: GEE and the integrated model are different
    estimators of one estimand. The model's is efficient, so that under it their difference has the
    variance of GEE less that of the model (Hausman 1978, Econometrica 46:1251): sd 0.022 for time,
    and the difference is half of that. On top of it, patients drop out here, which the model allows
    to depend on their own outcomes and GEE does not.
    """
    gee = reference["toenail"]["population_averaged_exchangeable"]
    found = _links_scale(bm.odds_ratios(fitted(*TOENAIL)), "population-averaged")
    mean, sd = found.mean(["chain", "draw"]).to_numpy(), found.std(["chain", "draw"]).to_numpy()
    theirs = np.array(list(gee["coef"].values()))[1:]
    robust = np.array(list(gee["robust_se"].values()))[1:]
    apart = np.abs(mean - theirs) / np.sqrt(robust**2 - sd**2)
    np.testing.assert_array_less(apart, 1.0)
    assert mean[1] == pytest.approx(-0.161, abs=0.15 * sd[1])


def test_respiratory_against_generalised_estimating_equations(reference, fitted):
    """Complete data: each coefficient within 0.15 posterior sd of GEE's plus Monte Carlo error."""
    gee = reference["respiratory"]["population_averaged_exchangeable"]["coef"]
    found = _links_scale(bm.odds_ratios(fitted(*RESPIRATORY)), "population-averaged")
    bound = 0.15 * found.std(["chain", "draw"]).to_numpy() + 3 * _error(found)
    off = np.abs(found.mean(["chain", "draw"]).to_numpy() - np.array(list(gee.values()))[1:])
    np.testing.assert_array_less(off, bound)


@pytest.mark.parametrize("case", [TOENAIL, RESPIRATORY, CBPP, "medpar"])
def test_subject_specific_ratios_are_further_from_1(case, fitted, medpar):
    table = bm.odds_ratios(medpar if case == "medpar" else fitted(*case)).table["median"]
    own, averaged = (table.xs(k, level="kind") for k in ("subject-specific", "population-averaged"))
    assert (np.abs(np.log(own)) > np.abs(np.log(averaged))).all()
    quotient = table.xs("attenuation", level="kind")
    assert quotient.between(0, 1).all()


def test_attenuation_of_a_logit_is_near_the_approximation(fitted):
    """1 / sqrt(1 + c^2 V), c = 16 sqrt(3) / (15 pi) (Zeger et al. 1988), good to a few percent."""
    report = bm.odds_ratios(fitted(*RESPIRATORY), "treat")
    variance = fitted(*RESPIRATORY).posterior["sd_center:id"].to_numpy()[..., 0] ** 2
    approximate = 1 / np.sqrt(1 + (16 * np.sqrt(3) / (15 * np.pi)) ** 2 * variance)
    found = report.table.loc[("treat[T.P]", "attenuation"), "median"]
    assert found == pytest.approx(np.median(approximate), rel=0.06)


def test_without_spread_between_groups_the_two_coincide(fitted):
    fit = fitted(*TOENAIL)
    posterior = fit.posterior.isel(draw=slice(0, 50))
    flat = posterior.assign(sd_patientID=0 * posterior["sd_patientID"])
    found = population_averaged(replace(fit, tree=xr.DataTree.from_dict({"posterior": flat})))
    np.testing.assert_allclose(found, posterior["beta"], rtol=1e-9, atol=1e-12)


def test_probit_has_a_closed_form(simulated):
    r"""Exactly beta / sqrt(1 + V) in every draw (Zeger, Liang & Albert 1988, eq. 3.3)."""
    fit = _fit("y ~ x + (1 | g)", simulated, "bernoulli", link="probit")
    report = bm.odds_ratios(fit)
    beta = fit.posterior["beta"].to_numpy()[..., 1:]
    exact = beta / np.sqrt(1 + fit.posterior["sd_g"].to_numpy() ** 2)
    np.testing.assert_allclose(report.draws["population_averaged"], exact, atol=1e-6, rtol=1e-6)
    np.testing.assert_allclose(report.draws["subject_specific"], beta)
    assert report.title.startswith("Coefficients on the probit scale")


def test_probit_with_varying_slopes(simulated):
    """Each row's integrated probit is x'beta / sqrt(1 + z'Gz); then their regression."""
    fit = _fit("y ~ x + (x | g)", simulated, "bernoulli", link="probit")
    predictor = fit.design.predictors["mu"]
    G, z = covariance(fit, predictor.random[0]), predictor.random[0].Z
    spread = np.sqrt(1 + np.einsum("cdij,ni,nj->cdn", G, z, z))
    linked = fit.posterior["beta"].to_numpy() @ predictor.X.T / spread
    exact = linked @ np.linalg.pinv(predictor.X).T
    found = bm.odds_ratios(fit).draws["population_averaged"]
    np.testing.assert_allclose(found, exact[..., 1:], atol=1e-6, rtol=1e-6)


def test_logit_with_varying_slopes_by_adaptive_quadrature(simulated):
    fit = _fit("y ~ x + (x | g)", simulated, "bernoulli")
    predictor = fit.design.predictors["mu"]
    beta = fit.posterior["beta"].to_numpy()[1, 7]
    G, z = covariance(fit, predictor.random[0])[1, 7], predictor.random[0].Z
    sd, eta = np.sqrt(np.einsum("ij,ni,nj->n", G, z, z)), predictor.X @ beta

    def average(centre: float, spread: float) -> float:
        return integrate.quad(
            lambda v: stats.norm.pdf(v) * expit(centre + spread * v), -9, 9, epsabs=1e-12
        )[0]

    p = np.array([average(m, s) for m, s in zip(eta, sd, strict=True)])
    exact = np.linalg.lstsq(predictor.X, logit(p), rcond=None)[0]
    found = bm.odds_ratios(fit, "x").draws["population_averaged"][1, 7, 0]
    assert float(np.log(found)) == pytest.approx(exact[1], abs=1e-6)


def test_rates_differ_in_the_intercept_by_half_the_variance(simulated):
    """E exp(eta + u) = exp(eta + V/2), with an offset that is left alone."""
    fit = _fit("count ~ x + offset(log(days)) + (1 | g)", simulated, "poisson")
    own = fit.posterior["beta"].to_numpy()
    half = fit.posterior["sd_g"].to_numpy()[..., 0] ** 2 / 2
    found = bm.odds_ratios(fit, "Intercept").draws["population_averaged"][..., 0]
    np.testing.assert_allclose(np.log(found), own[..., 0] + half, atol=1e-7)
    slope = bm.odds_ratios(fit)
    assert slope.title.startswith("Rate ratios")
    np.testing.assert_allclose(
        slope.draws["population_averaged"], slope.draws["subject_specific"], rtol=1e-7
    )


def test_trials_weigh_rows_as_single_outcomes_would(fitted):
    """Rows of n trials count as n rows of one do."""
    fit = fitted(*CBPP)
    X, size = fit.design.predictors["mu"].X, fit.design.trials.astype(int)
    one = fit.posterior.isel(chain=2, draw=11)
    z = np.linspace(-9, 9, 2001)
    weight = stats.norm.pdf(z) / stats.norm.pdf(z).sum()
    p = expit((X @ one["beta"].to_numpy())[:, None] + float(one["sd_herd"][0]) * z) @ weight
    long = np.repeat(np.arange(len(size)), size)
    exact = np.linalg.lstsq(X[long], logit(p)[long], rcond=None)[0]
    found = bm.odds_ratios(fit).draws["population_averaged"][2, 11]
    np.testing.assert_allclose(np.log(found), exact[1:], atol=1e-7)


def test_terms_are_found_by_column_term_or_name(medpar):
    whole = bm.odds_ratios(medpar, "factor(type)")
    assert list(whole.table.index.unique("term")) == ["factor(type)[T.2]", "factor(type)[T.3]"]
    pd.testing.assert_frame_equal(whole.table, bm.odds_ratios(medpar, "type").table)
    one = bm.odds_ratios(medpar, "factor(type)[T.3]").table
    pd.testing.assert_frame_equal(one, whole.table.loc[["factor(type)[T.3]"]])
    with pytest.raises(bm.BayesmixedError, match="Did you mean 'age80'"):
        bm.odds_ratios(medpar, "age8")


def test_main_effects_beside_an_interaction_are_marked(fitted, medpar):
    marked = [c for c in bm.odds_ratios(fitted(*TOENAIL)).caveats if "treatment:time" in c]
    assert len(marked) == 1
    assert not any("multiplied" in c for c in bm.odds_ratios(medpar).caveats)


def test_an_intercept_alone_compares_nothing(simulated):
    fit = _fit("y ~ 1 + (1 | g)", simulated, "bernoulli")
    with pytest.raises(bm.BayesmixedError, match="compares nothing"):
        bm.odds_ratios(fit)
    assert list(bm.odds_ratios(fit, "Intercept").table.index.unique("term")) == ["Intercept"]


def test_an_identity_link_has_differences(sleepstudy):
    report = bm.odds_ratios(sleepstudy)
    assert report.title.startswith("Differences")
    assert "two are one" in report.caption
    np.testing.assert_allclose(
        report.draws["population_averaged"], report.draws["subject_specific"], atol=1e-8
    )


def test_the_words_and_the_picture(medpar, tmp_path):
    report = bm.odds_ratios(medpar)
    for said in ("the same provnum", "non-collapsibility", "neither is wrong", "equal-tailed"):
        assert said in report.caption
    ax = report.plot()
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel().startswith("Odds ratio")
    assert r"\toprule" in report.to_latex()
    assert "<table" in report.to_html()
    assert report.save_plot(tmp_path / "ratios.png").stat().st_size > 10_000


def test_interpolation_is_exact_where_it_is_used():
    """A logistic-normal mean to 1e-9; a kink and a range of one point go to the function itself."""
    rng = np.random.default_rng(1)
    at = rng.normal(size=(2, 3, 500)) * np.array([3.0, 1.0, 0.0])[:, None] - 1.0
    calls = []

    def smooth(x: np.ndarray) -> np.ndarray:
        calls.append(x.shape[-1])
        z = np.linspace(-8, 8, 161)
        weight = stats.norm.pdf(z) / stats.norm.pdf(z).sum()
        return expit(x[..., None] + 1.5 * z) @ weight

    found = interpolated(smooth, at)
    assert max(calls) <= 128
    np.testing.assert_allclose(found, smooth(at), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(interpolated(np.abs, at), np.abs(at))
