"""Meta-analysis: the grid against published values, closed forms, quadrature and NUTS; reports."""

from __future__ import annotations

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.integrate import dblquad, quad, quad_vec
from scipy.special import ndtr
from studies import made

import bayesmixed as bm
from bayesmixed._errors import BayesmixedError, DataError, PriorError, UnknownNameError
from bayesmixed.meta._densities import density
from bayesmixed.meta._mixture import NormalMixture

FLAT = {"mu": bm.Prior("Flat")}
# Rubin (1981) with the decimals of bayesmeta's data set.
SCHOOLS = pd.DataFrame(
    {
        "study": list("ABCDEFGH"),
        "yi": [28.39, 7.94, -2.75, 6.82, -0.64, 0.63, 18.01, 12.16],
        "sei": [14.9, 10.2, 16.3, 11.0, 9.4, 11.4, 10.4, 17.6],
    }
)
WEAK = {"mu": bm.Prior("Normal", mu=0, sigma=50), "tau": bm.Prior("HalfCauchy", beta=25)}


@pytest.fixture(scope="module")
def nuts_fit(trials):
    return bm.meta_analysis(trials, study="trial", seed=1, draws=2000, progress=False)


def grid(data: pd.DataFrame, **options):
    return bm.grid_posterior(bm.meta_analysis(data, method="grid", draws=5, seed=1, **options))


# The grid against what others computed


def test_eight_schools_as_bayesmeta_prints_them():
    """Vignette of bayesmeta 3.x, "A simple example": normal(0, 50) and half-Cauchy(25).

    tau is integrated to all printed digits there; mu, theta and the schools' effects are mixtures
    over bins of tau whose Kullback-Leibler divergence is up to 0.01 (`delta`), so that their
    moments agree with ours, which `dblquad` confirms elsewhere, to about 0.001 sd.
    """
    found = grid(SCHOOLS, priors=WEAK)
    ours = [found.tau.quantile(0.5), found.tau.mean, found.tau.sd, found.tau.quantile(0.95)]
    np.testing.assert_allclose(ours, [4.758539, 5.884511, 4.869904, 15.165894], atol=2e-6)
    central = [found.tau.quantile(p) for p in (0.025, 0.975)]
    np.testing.assert_allclose(central, [0.2199559, 18.0531718], atol=2e-6)
    mu, new, studies = found.effect(), found.prediction(), found.studies
    top = [0, 6, 7]
    printed = {
        mu: ([7.962961], [7.985729], [4.995762]),
        new: ([7.926819], [7.985729], [9.126767]),
        studies: (
            [10.093581, 9.786985, 8.266594],
            [11.095255, 10.336032, 8.474644],
            [7.901084, 6.631039, 7.456906],
        ),
    }
    for ours, (median, mean, sd) in printed.items():
        some = top if ours is studies else [0]
        atol = 3e-3 * np.array(sd)
        np.testing.assert_array_less(np.abs(ours.quantile(0.5)[some] - median), atol)
        np.testing.assert_array_less(np.abs(ours.mean[some] - mean), atol)
        np.testing.assert_array_less(np.abs(ours.sd[some] - sd), atol)
    np.testing.assert_allclose(mu.quantile(0.95)[0], 16.11009, atol=0.01)
    np.testing.assert_allclose(mu.sf(0.0)[0], 0.9487521, atol=1e-4)


def test_eight_schools_without_bins():
    """That the difference from bayesmeta is its bins': the same mixtures by QUADPACK, to 1e-8."""
    found = grid(SCHOOLS, priors=WEAK)
    y, v = SCHOOLS["yi"].to_numpy(), SCHOOLS["sei"].to_numpy() ** 2

    def parts(tau: float) -> tuple[float, float, float]:
        weight = 1 / (v + tau**2)
        precision = weight.sum() + 1 / 2500
        mean = weight @ y / precision
        squares = weight @ (y - mean) ** 2 + mean**2 / 2500
        density = np.sqrt(np.prod(weight) / precision) * np.exp(-squares / 2) / (625 + tau**2)
        return density * 1e10, mean, precision**-0.5

    def expected(function) -> float:
        def value(tau: float) -> float:
            density, mean, sd = parts(tau)
            return density * function(tau, mean, sd)

        ends = ((0, 5), (5, 50), (50, np.inf))
        return sum(quad(value, *e, epsabs=1e-13, epsrel=1e-11, limit=200)[0] for e in ends)

    total = expected(lambda tau, mean, sd: 1.0)
    mu, new, studies = found.effect(), found.prediction(), found.studies
    mean = expected(lambda tau, mean, sd: mean) / total
    np.testing.assert_allclose(mu.mean[0], mean, atol=1e-8)
    square = expected(lambda tau, mean, sd: mean**2 + sd**2 + tau**2) / total
    np.testing.assert_allclose(new.sd[0], np.sqrt(square - mean**2), atol=1e-7)
    median = studies.quantile(0.5)[0]

    def below(tau: float, mean: float, sd: float) -> float:
        own = tau**2 / (tau**2 + v[0])
        spread = np.sqrt(own * v[0] + (1 - own) ** 2 * sd**2)
        return ndtr((median - own * y[0] - (1 - own) * mean) / spread)

    np.testing.assert_allclose(expected(below) / total, 0.5, atol=1e-8)


def test_eight_schools_with_flat_priors():
    """Same vignette, "schools.example.2": uniform priors of mu and tau."""
    found = grid(SCHOOLS, priors=FLAT | {"tau": bm.Prior("HalfFlat")})
    ours = [found.tau.quantile(0.5), found.tau.mean, found.tau.sd, found.tau.quantile(0.95)]
    np.testing.assert_allclose(ours, [5.227732, 6.585992, 5.685974, 17.265797], atol=2e-6)
    np.testing.assert_allclose(found.effect().mean[0], 8.092138, atol=5e-3)
    np.testing.assert_allclose(found.effect().sd[0], 5.246683, rtol=3e-3)
    np.testing.assert_allclose(found.prediction().sd[0], 10.148132, rtol=3e-3)


def test_bcg_as_metafor_has_it(trials, reference):
    """With tau held at the REML estimate all is closed form, and metafor prints eight decimals.

    A uniform prior within 1e-5 of the estimate moves means by less than 1e-9 and, to second order
    in the width, sds likewise.
    """
    expected = reference["bcg"]["REML"]
    tau = expected["tau2"] ** 0.5
    narrow = bm.Prior("Uniform", lower=tau - 1e-5, upper=tau + 1e-5)
    fit = bm.meta_analysis(
        trials, study="trial", method="grid", seed=1, priors=FLAT | {"tau": narrow}
    )
    found = bm.grid_posterior(fit)
    mu, new = found.effect(), found.prediction()
    np.testing.assert_allclose([mu.mean[0], mu.sd[0]], [expected["mu"], expected["se"]], atol=2e-8)
    interval = [new.quantile(p)[0] for p in (0.025, 0.975)]
    np.testing.assert_allclose(interval, expected["prediction_interval"], atol=5e-8)
    shrunken = reference["bcg"]["shrunken_trial_effects_REML"]
    np.testing.assert_allclose(found.studies.mean, shrunken, atol=2e-8)
    np.testing.assert_allclose(found.studies.sd, reference["bcg"]["shrunken_se_REML"], atol=2e-8)
    table = bm.pooled_effects(fit).table
    np.testing.assert_allclose(table.loc["I2", "mean"], expected["I2"] / 100, atol=1e-7)
    np.testing.assert_allclose(table.loc["H2", "mean"], expected["H2"], atol=1e-5)
    np.testing.assert_allclose(table.loc["risk ratio", "median"], np.exp(expected["mu"]), atol=2e-8)


def test_latitude_regression_as_metafor_has_it(trials, reference):
    expected = reference["bcg"]["metaregression_latitude"]
    found = grid(
        trials,
        study="trial",
        moderators="~ ablat",
        priors=FLAT | {"beta[ablat]": bm.Prior("Flat")},
    )
    mean, covariance = found.conditional(expected["tau2"] ** 0.5)
    # tau2 is given to eight decimals, of which the coefficients keep seven.
    np.testing.assert_allclose(mean, list(expected["coef"].values()), atol=1e-7)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), expected["se"], atol=1e-7)


@pytest.mark.parametrize("method", ["grid", "nuts"])
def test_bcg_with_default_priors_is_near_reml(method, grid_fit, nuts_fit, reference):
    """House bounds for weak priors: means within 0.15 sd, tau inside the 80 % interval."""
    fit = {"grid": grid_fit, "nuts": nuts_fit}[method]
    assert fit.converged, str(fit.convergence)
    table, expected = fit.summary(prob=0.8), reference["bcg"]["REML"]
    row = table.loc["beta[Intercept]"]
    assert abs(row["mean"] - expected["mu"]) < 0.15 * row["sd"] + 3 * row["mcse_mean"]
    tau = table.loc["sd_trial"]
    assert tau["eti80_lb"] < expected["tau2"] ** 0.5 < tau["eti80_ub"]


def test_three_levels(reference):
    data = bm.datasets.load("konstantopoulos2011")
    fit = bm.meta_analysis(data, study="district/school", variance="vi", seed=1, progress=False)
    expected, table = reference["konstantopoulos2011"], fit.summary(prob=0.8)
    row = table.loc["beta[Intercept]"]
    assert abs(row["mean"] - expected["mu"]) < 0.15 * row["sd"] + 3 * row["mcse_mean"]
    for name, key in (("district", "district"), ("district:school", "school")):
        inside = table.loc[f"sd_{name}"]
        assert inside["eti80_lb"] < expected[f"sigma2_{key}"] ** 0.5 < inside["eti80_ub"]
    rows = bm.pooled_effects(fit).table["mean"]
    np.testing.assert_allclose(rows["I2[district]"] + rows["I2[district:school]"], rows["I2"])
    # Averages of what are metafor's shares at the REML estimates (test_meta_reports.py).
    weights = bm.study_effects(fit).table["weight"]
    np.testing.assert_allclose(weights.sum(), 1, atol=0.02)
    np.testing.assert_allclose(weights.iloc[[0, 9, 29]], [0.0182, 0.0211, 0.0108], atol=0.002)
    with pytest.raises(BayesmixedError, match=r"one grouping.*district, district:school"):
        bm.grid_posterior(fit)
    with pytest.raises(BayesmixedError, match=r"one grouping.*\. Fit some of the studies.*again"):
        bm.leave_one_out(fit)


# The grid against brute force


def test_grid_against_two_dimensional_quadrature():
    """Everything from the joint density written out, by scipy's dblquad; agreement to 1e-8."""
    y, se = np.array([0.3, -0.4, 1.1]), np.array([0.2, 0.5, 0.4])
    prior_mu, prior_tau = stats.norm(0.1, 0.8), stats.halfnorm(scale=0.5)
    found = grid(
        made(y, se),
        priors={
            "mu": bm.Prior("Normal", mu=0.1, sigma=0.8),
            "tau": bm.Prior("HalfNormal", sigma=0.5),
        },
    )

    def joint(mu: float, tau: float) -> float:
        sd = np.sqrt(se**2 + tau**2)
        z = (y - mu) / sd
        likelihood = np.exp(-0.5 * (z @ z)) / np.prod(sd) / (2 * np.pi) ** 1.5
        return likelihood * _normal(mu, 0.1, 0.8) * 2 * _normal(tau, 0, 0.5)

    def integral(value, low=-6.0, high=6.0, upper=4.5) -> float:
        return dblquad(
            lambda mu, tau: value(mu, tau) * joint(mu, tau),
            0,
            upper,
            low,
            high,
            epsabs=1e-11,
            epsrel=1e-11,
        )[0]

    assert prior_mu.cdf(-6) < 1e-13
    assert prior_tau.sf(4.5) < 1e-18
    total = integral(lambda mu, tau: 1.0)
    np.testing.assert_allclose(found.tau.log_evidence, np.log(total), atol=1e-8)
    mu = integral(lambda mu, tau: mu) / total
    np.testing.assert_allclose(found.effect().mean[0], mu, atol=1e-8)
    square = integral(lambda mu, tau: mu**2) / total
    np.testing.assert_allclose(found.effect().sd[0], np.sqrt(square - mu**2), atol=1e-8)
    np.testing.assert_allclose(found.tau.mean, integral(lambda m, tau: tau) / total, atol=1e-8)
    below = integral(lambda mu, tau: 1.0, high=0.2) / total
    np.testing.assert_allclose(found.effect().cdf(0.2)[0], below, atol=1e-8)
    small = integral(lambda mu, tau: 1.0, upper=0.3) / total
    np.testing.assert_allclose(found.tau.cdf(0.3)[0], small, atol=1e-8)
    new = integral(lambda mu, tau: ndtr((0.2 - mu) / tau) if tau else mu < 0.2) / total
    np.testing.assert_allclose(found.prediction().cdf(0.2)[0], new, atol=1e-8)

    def shrunken(mu: float, tau: float) -> float:
        own = tau**2 / (tau**2 + se[2] ** 2)
        return own * y[2] + (1 - own) * mu

    np.testing.assert_allclose(found.studies.mean[2], integral(shrunken) / total, atol=1e-8)


def _normal(x: float, mu: float, sd: float) -> float:
    return np.exp(-0.5 * ((x - mu) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))


HARD = {
    "two studies": ([0.2, 0.9], [0.3, 0.2]),
    "no heterogeneity": ([0.1, 0.1, 0.1, 0.1, 0.1], [0.3, 0.4, 0.5, 0.2, 0.3]),
    "one giant study": ([0.5, -0.2, 0.9, 0.1], [1e-4, 0.4, 0.5, 0.3]),
    "six orders of magnitude": ([1.0, 2.0, 1.5, 0.0, 3.0, 1.2], [1e-3, 1e-2, 0.1, 10, 100, 1000]),
    "effects far from 0": ([1e4, 1e4 + 1, 1e4 - 2], [0.5, 1.0, 0.7]),
    "far apart": ([-50.0, 0.0, 80.0, 10.0], [0.01, 0.02, 0.01, 0.05]),
}


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize(
    "prior",
    [
        bm.Prior("HalfNormal", sigma=1),
        bm.Prior("HalfCauchy", beta=0.5),
        bm.Prior("Uniform", lower=0, upper=5),
        bm.Prior("LogNormal", mu=-1.3, sigma=0.9),
        bm.Prior("InverseGamma", alpha=1, beta=0.2),
        bm.rhodes_prior(),
    ],
    ids=lambda prior: prior.distribution,
)
def test_hard_cases_against_adaptive_quadrature(case, prior):
    """The density of tau from dense multivariate normals, integrated piecewise by QUADPACK."""
    y, se = map(np.array, HARD[case])
    found = grid(
        made(y + np.linspace(0, 1e-9, len(y)), se),
        priors={"mu": bm.Prior("Normal", mu=0, sigma=2e4), "tau": prior},
    )
    own = density(prior)
    mode = found.tau.log_evidence

    def value(x: float) -> np.ndarray:
        tau = np.exp(x)
        if not own.support()[0] <= tau <= own.support()[1]:
            return np.zeros(2)
        # The prior's mean is one more observation, of 0 with variance 4e8.
        weight = np.append(1 / (se**2 + tau**2), 0.25e-8)
        values = np.append(y + np.linspace(0, 1e-9, len(y)), 0.0)
        centre = weight @ values / weight.sum()
        log = 0.5 * (np.log(weight).sum() - np.log(weight.sum()))
        log -= 0.5 * weight @ (values - centre) ** 2 + 0.5 * len(y) * np.log(2 * np.pi)
        return np.exp(log + own.logpdf(np.array(tau)) + x - mode) * np.array([1, tau])

    cuts = np.sort(np.append(np.arange(-30.0, 26.0, 1.0), np.log(5.0)))
    atol = 1e-8
    if prior.distribution == "LogStudentT":
        # Its tails fall as a power of the logarithm; the grid ends 80 beyond the scales on either
        # side, where about 1e-8 of the prior is left.
        far = np.array([30.0, 60.0, 100.0, 300.0])
        cuts, atol = np.concatenate([-far[::-1], cuts[1:], far]), 1e-7
    total = sum(quad_vec(value, *ends, epsabs=1e-12, epsrel=1e-10)[0] for ends in pairwise(cuts))
    np.testing.assert_allclose(total[0], 1, atol=atol)
    np.testing.assert_allclose(found.tau.mean, total[1], rtol=1e-7)


def test_conditional_means_are_the_closed_form(trials):
    """Weighted means with a flat prior, to 1e-8, for tau from nothing to far too much."""
    found = grid(trials, study="trial", priors=FLAT)
    y, v = trials["yi"].to_numpy(), trials["vi"].to_numpy()
    for tau in (0.0, 1e-6, 0.1, 1.0, 30.0):
        weight = 1 / (v + tau**2)
        mean, covariance = found.conditional(tau)
        np.testing.assert_allclose(mean[0], weight @ y / weight.sum(), atol=1e-8)
        np.testing.assert_allclose(covariance[0, 0], 1 / weight.sum(), rtol=1e-8)


def test_regression_against_dense_normals(trials):
    """With priors, two factors and a number: y is normal with covariance V + X S X'."""
    fit = bm.meta_analysis(
        trials, study="trial", moderators="~ ablat + alloc", method="grid", draws=5, seed=1
    )
    found, predictor = bm.grid_posterior(fit), fit.design.predictors["mu"]
    prior = fit.spec.priors
    X, y, v = predictor.X, fit.design.y, fit.design.sampling_sd**2
    centred = X - np.append(0, X[:, 1:].mean(axis=0))
    names = ["Intercept", *(f"beta[{t}]" for t in predictor.terms[1:])]
    S = np.diag([dict(prior[n].parameters)["sigma"] ** 2 for n in names])
    back = np.eye(len(names))
    back[0, 1:] = -X[:, 1:].mean(axis=0)
    for tau in (0.05, 0.5):
        K = np.diag(v + tau**2) + centred @ S @ centred.T
        mean, covariance = found.conditional(tau)
        gain = S @ centred.T @ np.linalg.inv(K)
        np.testing.assert_allclose(mean, back @ gain @ y, rtol=1e-8)
        np.testing.assert_allclose(
            covariance, back @ (S - gain @ centred @ S) @ back.T, rtol=1e-6, atol=1e-8
        )
        log = stats.multivariate_normal(np.zeros(len(y)), K).logpdf(y)
        np.testing.assert_allclose(found.regression.given(np.array([tau]))[0][0], log, rtol=1e-10)
    # Shares of the studies in the effect at the mean moderators rebuild it (but for the priors).
    flat = grid(trials, study="trial", priors=FLAT)
    np.testing.assert_allclose(flat.pooling_weights @ y, flat.effect().mean[0], rtol=1e-10)


def test_five_hundred_studies():
    """Posterior near the truth: within four sds, which shrink as 1/sqrt(500)."""
    rng = np.random.default_rng(5)
    se = rng.uniform(0.05, 1, 500)
    y = rng.normal(0.3, 0.2, 500) + rng.normal(0, se)
    found = grid(made(y, se))
    assert abs(found.effect().mean[0] - 0.3) < 4 * found.effect().sd[0] < 0.1
    assert abs(found.tau.mean - 0.2) < 4 * found.tau.sd < 0.12


def test_intervals_are_calibrated():
    """Truth drawn from the priors: its posterior probabilities are uniform (Talts et al. 2018).

    Kolmogorov and Smirnov's test with 300 data sets; a correct grid fails once in a thousand.
    """
    rng = np.random.default_rng(11)
    priors = {"mu": bm.Prior("Normal", mu=0, sigma=1), "tau": bm.Prior("HalfNormal", sigma=0.5)}
    base = grid(made(rng.normal(size=6), rng.uniform(0.1, 0.8, 6)), priors=priors)
    ranks = []
    for _ in range(300):
        mu, tau = rng.normal(), abs(rng.normal(0, 0.5))
        theta = rng.normal(mu, tau, 6)
        y = rng.normal(theta, np.sqrt(base.regression.v))
        one = type(base)(
            type(base.regression)(
                y, base.regression.v, base.regression.X, base.regression.mean,
                base.regression.precision,
            ),
            base.raw, base.labels, base.terms, base.prior,
        )  # fmt: skip
        new = rng.normal(mu, tau)
        ranks.append(
            [
                one.effect().cdf(mu)[0],
                one.tau.cdf(tau)[0],
                one.prediction().cdf(new)[0],
                one.studies.cdf(theta)[0],
            ]
        )
    for column in np.array(ranks).T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3


def test_heavy_tails_are_said_to_be_so():
    """With flat mu and tau the density of tau falls as tau^-(k-1) (Gelman 2006, section 2)."""
    three = grid(
        made([0.1, 0.5, -0.3], [0.2, 0.3, 0.4]), priors=FLAT | {"tau": bm.Prior("HalfFlat")}
    )
    assert three.tau.moments == 1
    assert three.tau.mean == np.inf
    assert np.isnan(three.prediction().mean[0])
    assert np.isfinite(three.tau.quantile(0.975))
    with pytest.raises(PriorError, match="does not integrate"):
        grid(made([0.1, 0.5], [0.2, 0.3]), priors=FLAT | {"tau": bm.Prior("HalfFlat")})


@pytest.mark.parametrize(
    ("prior", "reference"),
    [
        (bm.Prior("HalfStudentT", nu=3, sigma=2), lambda x: 2 * stats.t(3, 0, 2).pdf(x)),
        (bm.Prior("Exponential", lam=2), lambda x: 2 * np.exp(-2 * x)),
        (bm.Prior("Gamma", mu=2, sigma=1), stats.gamma(4, scale=0.5).pdf),
        (bm.Prior("InverseGamma", alpha=2, beta=3), lambda x: 9 * x**-3 * np.exp(-3 / x)),
        (bm.Prior("Weibull", alpha=2, beta=3), lambda x: 2 / 3 * (x / 3) * np.exp(-((x / 3) ** 2))),
        (bm.Prior("Beta", mu=0.4, sigma=0.2), stats.beta(2, 3).pdf),
        (bm.Prior("Beta", mu=0.4, nu=5), stats.beta(2, 3).pdf),
        (
            bm.Prior("TruncatedNormal", mu=0.3, sigma=0.5, lower=0),
            lambda x: stats.norm(0.3, 0.5).pdf(x) / stats.norm(0.3, 0.5).sf(0),
        ),
        (bm.rhodes_prior(), lambda x: stats.t(5, -1.72, 1.295).pdf(np.log(x)) / x),
        (bm.turner_prior("pain"), lambda x: stats.norm(-0.915, 0.76).pdf(np.log(x)) / x),
    ],
    ids=lambda value: str(value) if isinstance(value, bm.Prior) else "density",
)
def test_priors_are_what_they_say(prior, reference):
    x = np.array([0.05, 0.3, 0.9])
    np.testing.assert_allclose(np.exp(density(prior).logpdf(x)), reference(x), rtol=1e-12)


def test_mixture_of_normals():
    """Against one normal, and quantiles against the distribution function."""
    mixture = NormalMixture(
        np.array([0.3, 0.7]),
        np.array([[0.0, 5.0], [2.0, 5.0]]),
        np.array([[1.0, 2.0], [1e-3, 2.0]]),
    )
    np.testing.assert_allclose(mixture.mean, [1.4, 5.0])
    np.testing.assert_allclose(mixture.sd, [np.sqrt(0.3 + 0.7e-6 + 0.3 * 1.96 + 0.7 * 0.36), 2.0])
    for p in (1e-6, 0.3, 0.975):
        np.testing.assert_allclose(mixture.cdf(mixture.quantile(p)), p, rtol=1e-8)
    x = np.array([1.0, 4.0])
    np.testing.assert_allclose(mixture.quantile(0.2)[1], stats.norm(5, 2).ppf(0.2))
    np.testing.assert_allclose(mixture.pdf(x)[1], stats.norm(5, 2).pdf(4.0))
    np.testing.assert_allclose(mixture.cdf(x) + mixture.sf(x), 1)


# Draws


def test_draws_are_those_of_the_grid(grid_fit):
    """Means, sds and the covariance of pooled and study effects; 4,000 draws.

    Independent draws would have errors of sd / sqrt(4000) for means and 0.7 of that (1.5 with
    heavy tails) for sds; four of them are allowed.
    """
    found, posterior = bm.grid_posterior(grid_fit), grid_fit.posterior
    mu = posterior["beta"].to_numpy()[..., 0].ravel()
    tau = posterior["sd_trial"].to_numpy()[..., 0].ravel()
    theta = mu[:, None] + posterior["u_trial"].to_numpy()[..., 0].reshape(len(mu), -1)
    error = 4 / np.sqrt(len(mu))
    for draws, exact in ((mu[:, None], found.effect()), (theta, found.studies)):
        assert (np.abs(draws.mean(axis=0) - exact.mean) < error * exact.sd).all()
        np.testing.assert_allclose(draws.std(axis=0), exact.sd, rtol=error)
    assert abs(tau.mean() - found.tau.mean) < error * found.tau.sd
    np.testing.assert_allclose(tau.std(), found.tau.sd, rtol=2 * error)
    assert stats.kstest(tau, found.tau.cdf).pvalue > 1e-3
    # Given tau and mu, a study's effect has slope 1 - own on mu; averaged over tau.
    nodes, v = found.tau, found.regression.v
    share = nodes.tau[:, None] ** 2 / (nodes.tau[:, None] ** 2 + v)
    mean, sd = found.effect().means, found.effect().sds
    product = (share * found.regression.y * mean) + (1 - share) * (mean**2 + sd**2)
    covariance = nodes.weights @ product - found.effect().mean * found.studies.mean
    drawn = ((mu - mu.mean())[:, None] * (theta - theta.mean(axis=0))).mean(axis=0)
    scale = found.effect().sd * found.studies.sd
    assert (np.abs(drawn - covariance) < 2 * error * scale).all()


def test_grid_and_nuts_agree(grid_fit, nuts_fit):
    """8,000 draws by NUTS against the exact values: four Monte Carlo errors."""
    found, table = bm.grid_posterior(grid_fit), nuts_fit.summary()
    exact = {
        "beta[Intercept]": (found.effect().mean[0], found.effect().sd[0]),
        "sd_trial": (found.tau.mean, found.tau.sd),
    }
    for name, (mean, sd) in exact.items():
        row = table.loc[name]
        assert abs(row["mean"] - mean) < 4 * row["mcse_mean"]
        np.testing.assert_allclose(row["sd"], sd, rtol=0.1)
    effects = nuts_fit.eta().to_numpy().reshape(-1, 13)
    # Effective draws of the effects are 2,000 or more.
    assert (np.abs(effects.mean(axis=0) - found.studies.mean) < 4 * found.studies.sd / 44).all()


def test_common_effect_is_the_weighted_mean(trials):
    fit = bm.meta_analysis(trials, study="trial", common=True, method="grid", seed=1, priors=FLAT)
    weight = 1 / trials["vi"]
    table = bm.pooled_effects(fit).table
    np.testing.assert_allclose(
        table.loc["mu", "mean"], (weight * trials["yi"]).sum() / weight.sum()
    )
    np.testing.assert_allclose(table.loc["mu", "sd"], weight.sum() ** -0.5)
    assert "tau" not in table.index
    shares = bm.study_effects(fit).table["weight"]
    np.testing.assert_allclose(shares, weight / weight.sum())
    with pytest.raises(BayesmixedError, match="no heterogeneity"):
        bm.prior_robustness(fit)


def test_a_fit_like_any_other(grid_fit, nuts_fit, tmp_path):
    assert set(grid_fit.posterior) == set(nuts_fit.posterior)
    for name, values in grid_fit.posterior.items():
        assert values.dims == nuts_fit.posterior[name].dims
    loaded = bm.load(grid_fit.save(tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(
        bm.pooled_effects(loaded).table, bm.pooled_effects(grid_fit).table
    )
    assert bm.variance_components(loaded).table.loc[("trial", "Intercept", "sd"), "mean"] > 0
    again = bm.meta_analysis(
        bm.effect_sizes(
            bm.datasets.load("bcg"), "RR", ai="tpos", bi="tneg", ci="cpos", di="cneg"
        ),
        study="trial", method="grid", seed=1,
    )  # fmt: skip
    assert again.posterior.equals(grid_fit.posterior)


# Default priors


def test_default_priors(trials):
    """mu ~ N(0, U) and tau ~ half-normal(U / 4), U from sizes where they are named."""
    fit = bm.meta_analysis(
        trials, study="trial", method="grid", draws=5, moderators="~ ablat", n="ni"
    )
    unit = np.sqrt(trials["ni"].sum() / (1 / trials["vi"]).sum())
    prior = {name: dict(p.parameters)["sigma"] for name, p in fit.spec.priors.items()}
    spread = bm.datasets.load("bcg")["ablat"].std(ddof=0)
    expected = {"Intercept": unit, "beta[ablat]": unit / spread, "sd_trial": 0.25 * unit}
    assert prior.keys() == expected.keys()
    np.testing.assert_allclose(list(prior.values()), list(expected.values()))
    assert f"unit-information sd {unit:.3g}" in fit.notes[-1]
    assert f"unit-information sd {unit:.3g}" in bm.pooled_effects(fit).caption
    own = {"beta": bm.Prior("Normal", mu=0, sigma=0.01)}
    fit = bm.meta_analysis(
        trials, study="trial", method="grid", draws=5, moderators="~ ablat", priors=own
    )
    # In units of the moderator's sd.
    precision = bm.grid_posterior(fit).regression.precision
    np.testing.assert_allclose(precision, [2.0**-2, (0.01 * spread) ** -2])
    assert "Default priors are scaled to the unit-information sd 2 " in fit.notes[-1]
    means = pd.DataFrame({"m": [5.0, 7, 6], "s": [2.0, 3, 2], "n": [20, 30, 25]})
    names = {"m1i": "m", "sd1i": "s", "n1i": "n", "m2i": "s", "sd2i": "s", "n2i": "n"}
    sizes = bm.effect_sizes(means.assign(study=range(3)), "MD", **names)
    unit = np.sqrt(150 / (1 / sizes["vi"]).sum())
    fit = bm.meta_analysis(sizes, method="grid", draws=5)
    np.testing.assert_allclose(dict(fit.spec.priors["Intercept"].parameters)["sigma"], unit)


DOORS = {
    "effect_sizes": lambda data: (data, {}),
    "effect_sizes, merged and written": lambda data: (
        pd.DataFrame(data.merge(data[["trial"]], on="trial").to_dict("records")), {}),
    "measure": lambda data: (data[["trial", "yi", "sei"]], {"measure": "RR"}),
    "measure and sizes": lambda data: (
        data.drop(columns="measure"), {"measure": "RR", "n": "ni"}),
    "sizes": lambda data: (data.drop(columns="measure"), {"n": "ni"}),
    "yi and vi": lambda data: (data[["trial", "yi", "vi"]], {}),
}  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("measure", ["RR", "OR"])
def test_every_door_is_near_reml(door, measure, reference):
    """Half the house bound for means; tau inside the 80 % interval. metafor 3.8.1, rma()."""
    expected = {
        "RR": (reference["bcg"]["REML"]["mu"], reference["bcg"]["REML"]["tau2"]),
        "OR": (-0.74517777, 0.33777205),
    }[measure]
    cells = {"ai": "tpos", "bi": "tneg", "ci": "cpos", "di": "cneg"}
    data, options = DOORS[door](bm.effect_sizes(bm.datasets.load("bcg"), measure, **cells))
    if options.get("measure"):
        options = options | {"measure": measure}
    found = grid(data, study="trial", **options)
    mu = found.effect()
    assert abs(mu.mean[0] - expected[0]) < 0.075 * mu.sd[0]
    assert found.tau.quantile(0.1) < expected[1] ** 0.5 < found.tau.quantile(0.9)


def test_default_priors_do_not_fight_the_data():
    """Where nothing tells of the unit, precise studies and giants must not shrink the average."""
    for y, se in (([5.0, 6, 4], [0.01] * 3), ([0.5, -0.2, 0.9, 0.7], [1e-4, 0.4, 0.5, 0.3])):
        fit = bm.meta_analysis(made(y, se), method="grid", draws=5)
        mu = bm.grid_posterior(fit).effect()
        flat = grid(made(y, se), priors=FLAT | {"tau": fit.spec.priors["sd_study"]}).effect()
        assert abs(mu.mean[0] - flat.mean[0]) < 0.15 * mu.sd[0]


def test_effects_of_several_kinds_are_refused(trials):
    mixed = trials.assign(measure=["RR", "OR", *["RR"] * 11])
    with pytest.raises(DataError, match=r"several kinds \(RR, OR\)"):
        bm.meta_analysis(mixed, study="trial", method="grid")
    own = trials.assign(measure="vaccine")
    fit = bm.meta_analysis(own, study="trial", method="grid", draws=5)
    assert "assumed" in fit.notes[-1]


def test_proportions_have_no_prior_at_nothing():
    """A logit of 5 % is far from 0, which is no special value; the prior is at the data."""
    rng = np.random.default_rng(2)
    data = {"x": rng.binomial(200, 0.05, 12), "n": np.full(12, 200), "study": np.arange(12)}
    sizes = bm.effect_sizes(data, "PLO", xi="x", ni="n")
    fit = bm.meta_analysis(sizes, method="grid", draws=5)
    np.testing.assert_allclose(
        dict(fit.spec.priors["Intercept"].parameters)["mu"], sizes["yi"].mean()
    )
    report = bm.pooled_effects(fit)
    assert 0.03 < report.table.loc["odds", "median"] < 0.08


# Reports


def test_exact_and_drawn_reports_agree(grid_fit, nuts_fit):
    """The same table from quadrature and from 8,000 draws: four errors of about sd / 55."""
    exact, drawn = bm.pooled_effects(grid_fit).table, bm.pooled_effects(nuts_fit).table
    assert list(exact.index) == list(drawn.index)
    for row in ("mu", "tau", "I2", "new study"):
        assert abs(exact.loc[row, "mean"] - drawn.loc[row, "mean"]) < 4 * exact.loc[row, "sd"] / 55
        assert abs(exact.loc[row, "median"] - drawn.loc[row, "median"]) < exact.loc[row, "sd"] / 10
    for p in ("P(mu > 0)", "P(new study > 0)"):
        assert abs(exact.loc[p, "mean"] - drawn.loc[p, "mean"]) < 4 * 0.5 / np.sqrt(3000)
    posterior = nuts_fit.posterior
    tau2 = posterior["sd_trial"].to_numpy() ** 2
    w = 1 / nuts_fit.design.sampling_sd**2
    typical = 12 * w.sum() / (w.sum() ** 2 - (w**2).sum())
    np.testing.assert_allclose(drawn.loc["I2", "mean"], (tau2 / (tau2 + typical)).mean())


def test_new_study_has_the_spread_of_draws(nuts_fit):
    """Against sampling a study in every draw: 8,000 of them, errors of quantiles about sd / 35."""
    row = bm.pooled_effects(nuts_fit).table.loc["new study"]
    draws = bm.pooled_effects(nuts_fit).draws["new study"].to_numpy()
    np.testing.assert_allclose(np.quantile(draws, 0.975), row["eti95_ub"], atol=4 * row["sd"] / 35)
    np.testing.assert_allclose(draws.std(), row["sd"], rtol=0.1)


def test_probability_beyond_a_margin(grid_fit):
    margin = np.log(0.8)
    table = bm.pooled_effects(grid_fit, margin=margin).table
    mu = grid_fit.posterior["beta"].to_numpy()[..., 0]
    found = table.loc["P(mu > -0.223)", "mean"]
    assert abs(found - (mu > margin).mean()) < 4 * np.sqrt(found * (1 - found) / mu.size)
    with pytest.raises(BayesmixedError, match="finite"):
        bm.pooled_effects(grid_fit, margin=np.nan)


def test_study_effects_are_in_the_order_of_the_data(trials, grid_fit):
    named = trials.assign(trial=[f"t{9 - i % 10}{i}" for i in range(len(trials))])
    table = bm.study_effects(bm.meta_analysis(named, study="trial", method="grid", seed=1)).table
    assert list(table.index) == list(named["trial"])
    np.testing.assert_allclose(table["raw"], trials["yi"])
    np.testing.assert_allclose(table["mean"], bm.study_effects(grid_fit).table["mean"])
    v, tau = trials["vi"].to_numpy(), grid_fit.posterior["sd_trial"].to_numpy().ravel()
    own = (tau**2 / (tau**2 + v[:, None])).mean(axis=1)
    np.testing.assert_allclose(table["reliability"], own, atol=0.01)
    between = np.sort([table["raw"], np.full(13, table["mean"].mean())], axis=0)
    pulled = (table["mean"] > between[0] - 0.1) & (table["mean"] < between[1] + 0.1)
    assert pulled.all()


@pytest.mark.parametrize("moderators", [None, "~ ablat"])
def test_leaving_out_is_refitting(trials, moderators):
    fit = bm.meta_analysis(
        trials, study="trial", moderators=moderators, method="grid", draws=5, seed=1
    )
    report = bm.leave_one_out(fit)
    refit = bm.grid_posterior(
        bm.meta_analysis(
            trials.query("trial != 4"), study="trial", moderators=moderators, method="grid",
            draws=5, priors={**fit.spec.priors},
        )
    )  # fmt: skip
    x = fit.design.predictors["mu"].X.mean(axis=0)
    if moderators is None:
        np.testing.assert_allclose(
            report.table.loc["4", "mean"], refit.effect(x).mean[0], rtol=1e-9
        )
        np.testing.assert_allclose(report.table.loc["4", "sd"], refit.effect(x).sd[0], rtol=1e-9)
    else:
        # The refit centres its prior at the means of 12 studies, which matters little.
        np.testing.assert_allclose(
            report.table.loc["4", "mean"], refit.effect(x).mean[0], rtol=1e-3
        )
    np.testing.assert_allclose(report.draws["mu"].mean(), report.table["mean"].mean(), rtol=0.02)
    assert len(report.table) == 14


def test_cumulative_analysis_ends_at_the_whole(trials, grid_fit):
    table = bm.cumulative_analysis(grid_fit, trials["year"]).table
    np.testing.assert_allclose(table["mean"].iloc[-1], bm.grid_posterior(grid_fit).effect().mean[0])
    assert table.index[-1] == "8 (1980)"
    early = trials[trials["year"] <= 1953]
    part = bm.meta_analysis(
        early, study="trial", method="grid", draws=5, priors={**grid_fit.spec.priors}
    )
    np.testing.assert_allclose(
        table.loc["6 (1953)", "mean"], bm.grid_posterior(part).effect().mean[0], rtol=1e-9
    )
    with pytest.raises(DataError, match="a value for each of the 13 studies"):
        bm.cumulative_analysis(grid_fit, [1, 2])


def test_robustness_is_analysing_again(trials, grid_fit):
    own = bm.Prior("HalfCauchy", beta=0.3)
    report = bm.prior_robustness(grid_fit, {"mine": own, "scipy": stats.halfcauchy(scale=0.3)})
    again = bm.meta_analysis(
        trials,
        study="trial",
        method="grid",
        seed=1,
        priors={**grid_fit.spec.priors, "sd_trial": own},
    )
    table, pooled = report.table, bm.pooled_effects(again).table
    for name in ("mine", "scipy"):
        np.testing.assert_allclose(table.loc[name, "mean"], pooled.loc["mu", "mean"])
        np.testing.assert_allclose(table.loc[name, "I2_median"], pooled.loc["I2", "median"])
        np.testing.assert_allclose(table.loc[name, "new_ub"], pooled.loc["new study", "eti95_ub"])
    difference = (
        bm.grid_posterior(again).tau.log_evidence - bm.grid_posterior(grid_fit).tau.log_evidence
    )
    np.testing.assert_allclose(table.loc["mine", "log_BF"], difference)
    default = bm.prior_robustness(grid_fit).table
    assert list(default.index) == [
        "HalfNormal(sigma=0.5), of the fit", "HalfNormal(sigma=1), U/2",
        "HalfCauchy(beta=0.5), U/4", "Uniform(lower=0, upper=2), U", "HalfCauchy(beta=1)",
        "Uniform(lower=0, upper=5)", "Uniform(lower=0, upper=10)", "Turner et al., any outcome",
    ]  # fmt: skip
    with pytest.raises(PriorError, match="scipy"):
        bm.prior_robustness(grid_fit, {"bad": 3})
    with pytest.raises(PriorError, match="from 0"):
        bm.prior_robustness(grid_fit, {"bad": stats.norm()})


@pytest.mark.parametrize(
    "make", [bm.pooled_effects, bm.study_effects, bm.leave_one_out, bm.prior_robustness]
)
def test_reports_speak_for_themselves(make, grid_fit, tmp_path):
    report = make(grid_fit)
    assert "equal-tailed" in report.caption
    assert report.references
    assert report.caption in str(report)
    assert "<table" in report.to_html()
    for kind in report.pictures:
        assert report.save_plot(tmp_path / f"{kind}.png", kind).stat().st_size > 10_000
    _, ax = plt.subplots()
    assert report.plot(ax=ax) is ax
    assert ax.get_xlabel()


def test_two_thousand_studies_are_readable():
    rng = np.random.default_rng(7)
    se = rng.uniform(0.1, 0.5, 2000)
    fit = bm.meta_analysis(
        made(rng.normal(0.2, np.sqrt(0.04 + se**2)), se), method="grid", draws=25, seed=1
    )
    ax = bm.pooled_effects(fit).plot()
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "pooled effect",
        "new study (prediction)",
    ]
    assert ax.figure.get_size_inches()[1] <= 12


def test_equal_effects_are_data():
    """No heterogeneity is in sight, and the mean is theirs, drawn to 0 by its prior."""
    same = made([0.5, 0.5, 0.5], [0.2, 0.3, 0.1])
    fit = bm.meta_analysis(same, method="grid", common=True, priors=FLAT)
    assert bm.pooled_effects(fit).table.loc["mu", "mean"] == pytest.approx(0.5, abs=1e-8)
    varying = bm.pooled_effects(bm.meta_analysis(same, method="grid", seed=1)).table
    assert 0 < varying.loc["mu", "mean"] < 0.5
    assert varying.loc["tau", "median"] < 0.2


def test_standard_errors_over_six_orders_are_drawn(tmp_path):
    sei = np.logspace(-3, 3, 9)
    wide = pd.DataFrame({"study": range(9), "yi": np.linspace(-0.4, 0.5, 9), "sei": sei})
    fit = bm.meta_analysis(wide, method="grid", measure="OR", seed=1)
    ax = bm.pooled_effects(fit).plot("forest")
    assert np.ptp(ax.get_xlim()) < 60
    bm.pooled_effects(fit).save_plot(tmp_path / "wide.png")


def test_as_many_coefficients_as_studies_leave_no_heterogeneity_share():
    two = pd.DataFrame({"study": [1, 2], "yi": [0.1, 0.5], "sei": [0.2, 0.3], "x": [0.0, 1.0]})
    fit = bm.meta_analysis(two, moderators="~ x", method="grid", seed=1)
    table = bm.pooled_effects(fit).table
    assert table.loc[["I2", "H2"], "mean"].isna().all()
    assert np.isfinite(table.loc[["mu", "tau"], "mean"]).all()


@pytest.mark.parametrize("prior", [bm.turner_prior, bm.rhodes_prior])
def test_comparisons_are_checked_for_any_outcome(prior):
    with pytest.raises(UnknownNameError, match="comparison"):
        prior(comparison="tea vs coffee")


def test_order_is_matched_by_index(trials):
    year = pd.Series(np.arange(len(trials))[::-1] + 1900, index=trials.index)
    fit = bm.meta_analysis(trials, "yi", "sei", "trial", method="grid", seed=1)
    one, other = (bm.cumulative_analysis(fit, y).table for y in (year, year.iloc[::-1]))
    pd.testing.assert_frame_equal(one, other)


def test_reports_need_a_meta_analysis(sleepstudy):
    for make in (bm.pooled_effects, bm.study_effects, bm.leave_one_out):
        with pytest.raises(BayesmixedError, match="known sampling sds"):
            make(sleepstudy)
    with pytest.raises(BayesmixedError, match="known sampling sds"):
        bm.grid_posterior(sleepstudy)


# Bad input


def test_bad_input_has_its_own_sentence(trials):
    def refused(error, match, data=trials, **options):
        with pytest.raises(error, match=match):
            bm.meta_analysis(data, **{"study": "trial", "method": "grid", **options})

    negative = trials.assign(vi=trials["vi"].where(trials.index != 3, -0.1))
    refused(
        DataError,
        r"variance is above 0; in 'vi' it is not at row 3 \(-0.1\)",
        negative,
        variance="vi",
    )
    zero = trials.assign(sei=trials["sei"].where(trials.index != 3, 0.0))
    refused(DataError, "standard error is above 0", zero, se="sei")
    gap = trials.assign(yi=trials["yi"].where(trials.index != 3))
    refused(DataError, r"Missing values in 1 row \(yi 1\), the first at row 3", gap)
    assert (
        bm.meta_analysis(gap, study="trial", method="grid", draws=5, missing="drop").design.rows
        == 12
    )
    refused(DataError, "two studies or more; there is 1", trials.iloc[:1])
    refused(DataError, r"same in several rows \(7\)", trials.assign(trial=7))
    refused(UnknownNameError, "no column 'study'", study="study")
    refused(UnknownNameError, "no column 'y'", effect="y")
    refused(BayesmixedError, "not both", se="sei", variance="vi")
    bare = trials.drop(columns=["sei", "vi"])
    refused(BayesmixedError, "Name the column of the standard errors", bare)
    refused(UnknownNameError, "no method 'gird'", method="gird")
    refused(UnknownNameError, "no effect measure", measure="odds")
    refused(
        PriorError,
        "Normal or Flat prior of Intercept",
        priors={"mu": bm.Prior("Cauchy", alpha=0, beta=1)},
    )
    refused(PriorError, "above 0", priors={"tau": bm.Prior("Normal", mu=0, sigma=1)})
    refused(
        PriorError,
        "one sd between studies",
        common=True,
        priors={"tau": bm.Prior("HalfNormal", sigma=1)},
    )
    refused(
        UnknownNameError,
        "parameter with a prior",
        priors={"sd_study": bm.Prior("HalfNormal", sigma=1)},
    )
    refused(DataError, "Sample sizes", trials.assign(ni=-1.0), n="ni")
    refused(DataError, "must hold numbers", trials.assign(sei="a"), se="sei")
    with pytest.raises(UnknownNameError, match="type of outcome"):
        bm.turner_prior("toothache")
