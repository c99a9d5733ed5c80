"""Heavy-tailed and location-scale meta-analyses: quadrature, metafor, the normal model as limit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats
from scipy.optimize import minimize

import bayesmixed as bm
from bayesmixed._errors import BayesmixedError, DataError, PriorError, UnknownNameError
from bayesmixed.between_studies import between_normal, between_t
from bayesmixed.meta._between_grid import between_posterior
from bayesmixed.meta._t_nodes import log_likelihood

NORMAL = bm.Prior("Normal", mu=0, sigma=1)
TAU = bm.Prior("HalfNormal", sigma=0.5)
# Bangert-Drowns, Hurley & Wilkinson (2004), the example of metafor's location-scale models: sample
# size, standardised mean difference and its variance; metadat 1.2, dat.bangertdrowns2004.
WRITING = pd.DataFrame(
    {
        "study": range(1, 49),
        "ni": [
            60,
            34,
            95,
            209,
            182,
            462,
            38,
            542,
            99,
            77,
            40,
            190,
            113,
            50,
            47,
            44,
            24,
            78,
            46,
            64,
            57,
            68,
            40,
            68,
            48,
            107,
            58,
            225,
            446,
            77,
            243,
            39,
            67,
            91,
            36,
            177,
            20,
            120,
            16,
            105,
            195,
            62,
            289,
            25,
            250,
            51,
            46,
            56,
        ],
        "yi": [
            0.65,
            -0.75,
            -0.21,
            -0.04,
            0.23,
            0.03,
            0.26,
            0.06,
            0.06,
            0.12,
            0.77,
            0,
            0.52,
            0.54,
            0.2,
            0.2,
            -0.16,
            0.42,
            0.6,
            0.51,
            0.58,
            0.54,
            0.09,
            0.37,
            -0.01,
            -0.13,
            0.18,
            0.27,
            -0.02,
            0.33,
            0.59,
            0.84,
            -0.32,
            0.12,
            1.12,
            -0.12,
            -0.44,
            -0.07,
            0.7,
            0.49,
            0.2,
            0.58,
            0.15,
            0.63,
            0.04,
            1.46,
            0.04,
            0.25,
        ],
        "vi": [
            0.07,
            0.126,
            0.042,
            0.019,
            0.022,
            0.009,
            0.106,
            0.007,
            0.04,
            0.052,
            0.107,
            0.021,
            0.037,
            0.083,
            0.086,
            0.091,
            0.167,
            0.052,
            0.091,
            0.065,
            0.073,
            0.061,
            0.1,
            0.06,
            0.083,
            0.037,
            0.069,
            0.018,
            0.009,
            0.053,
            0.017,
            0.112,
            0.06,
            0.044,
            0.129,
            0.023,
            0.205,
            0.033,
            0.265,
            0.039,
            0.021,
            0.067,
            0.014,
            0.168,
            0.016,
            0.099,
            0.087,
            0.072,
        ],
    }
)


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    return bm.datasets.load("bcg")


def analyse(data: pd.DataFrame, **options) -> bm.Fit:
    options = {"study": "study", "method": "grid", "seed": 1, "progress": False} | options
    se = {} if "variance" in options else {"se": "sei"}
    return bm.meta_analysis(data, "yi", **se, **options)


@pytest.fixture(scope="module")
def heavy(trials):
    return analyse(
        trials, study="trial", measure="RR", between="t", nu=4, priors={"mu": NORMAL, "tau": TAU}
    )


@pytest.fixture(scope="module")
def writing():
    return analyse(WRITING, variance="vi", measure="SMD", scale="~ ni")


def density(r: float, s: float, tau: float, nu: float) -> float:
    """Density of an outcome by adaptive Gauss-Kronrod rules between the peaks of its factors."""
    knots = sorted({c + w * k for c, w in ((0, tau), (r, s)) for k in (-8, -3, -1, 0, 1, 3, 8)})
    ends = [knots[0] - 40 * (tau + s), *knots, knots[-1] + 40 * (tau + s)]

    def joint(theta: float) -> float:
        return float(stats.norm.pdf(r, theta, s) * stats.t.pdf(theta, nu, 0, tau))

    return sum(integrate.quad(joint, *part, epsabs=0, epsrel=1e-11)[0] for part in pairwise(ends))


@pytest.mark.parametrize("nu", [1.0, 3.0, 30.0, 1e4])
@pytest.mark.parametrize("tau", [0.02, 0.5, 20.0])
@pytest.mark.parametrize("far", [0.0, 2.0, 6.0])
def test_density_is_the_convolution(nu, tau, far):
    for s in (0.1, 1.0):
        r = far * np.hypot(s, tau)
        y, mu = np.array([r + 0.3]), np.array([0.3])
        found = between_t.loglik(y=y, mu=mu, sigma=np.array([s]), tau=tau, nu=np.array([nu]))
        assert found[0] == pytest.approx(np.log(density(r, s, tau, nu)), abs=1e-6)


def test_families_draw_what_their_moments_say():
    rng, n = np.random.default_rng(1), 200_000
    mu, sigma, tau, nu = np.full(n, 0.5), np.full(n, 0.3), np.full(n, 0.4), np.full(n, 9.0)
    for family, arguments in (
        (between_normal, {"mu": mu, "sigma": sigma, "tau": tau}),
        (between_t, {"mu": mu, "sigma": sigma, "tau": tau, "nu": nu}),
    ):
        drawn = family.simulate(rng, **arguments)
        variance = family.variance(**arguments)[0]
        assert drawn.mean() == pytest.approx(0.5, abs=4 * np.sqrt(variance / n))
        # The fourth moment of t(9) is 4.2 squared variances, so an error of 1.8 / sqrt(n).
        assert drawn.var() == pytest.approx(variance, rel=4 * 1.8 / np.sqrt(n))


def quadrature(trials, nu: float):
    """Posterior of (mu, tau) and moments of the studies' effects, by sums over theta itself."""
    theta = np.arange(-8, 8, 0.004)
    y, s = trials["yi"].to_numpy(), trials["sei"].to_numpy()
    sampling = stats.norm.pdf(y, theta[:, None], s) * 0.004
    x, w = np.polynomial.legendre.leggauss(48)
    mus, taus = -0.7 + 1.3 * x, 1.1 + 1.1 * x
    prior_mu, prior_tau = stats.norm.pdf(mus), stats.halfnorm.pdf(taus, scale=0.5)
    total, sums, effects = 0.0, np.zeros(4), np.zeros((2, len(y)))
    for t, wt in zip(taus, w * prior_tau, strict=True):
        between = stats.t.pdf(theta, nu, mus[:, None], t)
        each = between @ sampling
        share = wt * w * prior_mu * each.prod(axis=1)
        total += share.sum()
        sums += [share @ mus, share @ mus**2, share.sum() * t, share.sum() * t**2]
        for k in (1, 2):
            moment = between @ (theta[:, None] ** k * sampling) / each
            effects[k - 1] += share @ moment
    sums, effects = sums / total, effects / total
    return sums, effects[0], np.sqrt(effects[1] - effects[0] ** 2)


def on_nodes(fit: bm.Fit):
    """Average effect and tau on the nodes of the lattice, and their weights."""
    posterior = between_posterior(fit.design)
    beta, tau, _ = posterior.natural(posterior.lattice.points)
    return beta @ posterior.x, tau, posterior.lattice.weights.ravel()


def test_grid_is_that_of_another_quadrature(trials, heavy):
    sums, means, sds = quadrature(trials, 4.0)
    mu, tau, weight = on_nodes(heavy)
    found = [weight @ mu, weight @ mu**2, weight @ tau, weight @ tau**2]
    assert found == pytest.approx(sums, abs=1e-5)
    table = bm.study_effects(heavy).table
    # 4,000 draws: four errors of a mean, and of an sd with some excess.
    assert np.abs(table["mean"].to_numpy() - means).max() < (4 * sds / np.sqrt(4000)).max()
    assert table["sd"].to_numpy() == pytest.approx(sds, rel=4 * 1.2 / np.sqrt(4000))


def test_draws_agree_with_the_grid(heavy):
    table, (mu, tau, weight) = bm.pooled_effects(heavy).table, on_nodes(heavy)
    for name, values in (("mu", mu), ("tau", tau)):
        mean = weight @ values
        sd = np.sqrt(weight @ (values - mean) ** 2)
        assert table.loc[name, "mean"] == pytest.approx(mean, abs=4 * sd / np.sqrt(4000))
        assert table.loc[name, "sd"] == pytest.approx(sd, rel=4 / np.sqrt(2 * 4000))


def test_many_degrees_of_freedom_are_the_normal_model(trials):
    priors = {"mu": NORMAL, "tau": TAU}
    options = {"study": "trial", "measure": "RR", "priors": priors}
    mu, tau, weight = on_nodes(analyse(trials, between="t", nu=1e6, **options))
    exact = bm.grid_posterior(analyse(trials, **options))
    assert weight @ mu == pytest.approx(exact.effect().mean[0], abs=1e-5)
    assert weight @ tau == pytest.approx(exact.tau.mean, abs=1e-5)
    spread = np.sqrt(weight @ (mu - weight @ mu) ** 2)
    assert spread == pytest.approx(exact.effect().sd[0], rel=1e-4)


@pytest.fixture(scope="module")
def outlier() -> pd.DataFrame:
    y = [0.1, -0.1, 0.05, -0.05, 0.15, -0.15, 0.0, 0.1, -0.1, 2.0]
    return pd.DataFrame({"study": list("abcdefghij"), "yi": y, "sei": 0.15})


def test_an_outlying_study_is_shrunken_less_and_pulls_less(outlier):
    priors = {"mu": NORMAL, "tau": TAU}
    normal, t = (analyse(outlier, priors=priors, **o) for o in ({}, {"between": "t", "nu": 3}))
    one, other = bm.study_effects(normal).table, bm.study_effects(t).table
    assert other.loc["j", "mean"] > one.loc["j", "mean"] + 0.03
    assert other.loc["j", "reliability"] > 0.95 > one.loc["j", "reliability"]
    assert other.loc["a", "reliability"] < one.loc["a", "reliability"] - 0.2
    mus = [bm.pooled_effects(f).table.loc["mu", "mean"] for f in (t, normal)]
    assert mus[0] < mus[1] - 0.05


def test_weights_are_those_of_the_variances(outlier, trials, writing):
    """Of many degrees of freedom the normal model's, to Monte Carlo error; less far out."""
    priors = {"mu": NORMAL, "tau": TAU}
    options = {"study": "trial", "measure": "RR", "priors": priors}
    fits = [analyse(trials, **options, **o) for o in ({}, {"between": "t", "nu": 1e6})]
    one, other = (bm.study_effects(f).table["weight"] for f in fits)
    np.testing.assert_allclose(one, other, atol=4 * 0.02 / np.sqrt(4000))
    fits = [analyse(outlier, priors=priors, **o) for o in ({}, {"between": "t", "nu": 3})]
    one, other = (bm.study_effects(f).table["weight"] for f in fits)
    assert other["j"] < 0.5 * one["j"]
    assert 0.95 < other.sum() < 1
    # One draw after another: shares of 1 / (v + tau_i^2), and the prior's.
    table = bm.study_effects(writing).table
    posterior = between_posterior(writing.design)
    alpha = writing.posterior["beta_tau"].to_numpy().reshape(-1, 2)
    weight = 1 / (WRITING["vi"].to_numpy() + np.exp(2 * alpha @ [np.ones(48), WRITING["ni"]]))
    share = weight / (weight.sum(axis=1, keepdims=True) + posterior.regression.precision[0])
    np.testing.assert_allclose(table["weight"], share.mean(axis=0), rtol=1e-10)


def test_new_study_is_from_the_t(heavy):
    report = bm.pooled_effects(heavy)
    row = report.table.loc["new study"]
    mu, tau = (heavy.posterior[n].to_numpy().ravel() for n in ("beta", "tau"))
    rng = np.random.default_rng(3)
    drawn = np.repeat(mu, 100) + np.repeat(tau, 100) * rng.standard_t(4, 400_000)
    # Density near the 2.5 % quantile is about 0.03 here: 4 errors of sqrt(pq / n) / density.
    assert row["eti95_lb"] == pytest.approx(np.quantile(drawn, 0.025), abs=0.03)
    assert row["eti95_ub"] == pytest.approx(np.quantile(drawn, 0.975), abs=0.03)
    assert row["median"] == pytest.approx(np.quantile(drawn, 0.5), abs=0.01)
    above = report.table.loc["P(new study > 0)", "mean"]
    assert above == pytest.approx((drawn > 0).mean(), abs=4 * 0.5 / np.sqrt(400_000))
    # Wider than a normal with the same tau.
    assert row["sd"] > np.sqrt(2 * (tau**2).mean())
    new = report.draws["new study"].to_numpy()
    assert np.median(new) == pytest.approx(row["median"], abs=0.1)
    assert "4 degrees of freedom" in report.caption
    report.plot("forest")
    report.plot("funnel")


@pytest.mark.slow
def test_degrees_of_freedom_with_a_prior(outlier):
    fit = analyse(outlier, between="t", priors={"nu": bm.Prior("Exponential", lam=0.1)})
    report = bm.pooled_effects(fit)
    assert report.table.loc["nu", "median"] < np.log(2) / 0.1
    assert np.isnan(report.table.loc["new study", "mean"])
    assert any("too heavy" in c for c in report.caveats)


def test_location_scale_mode_is_metafors_reml(writing):
    """rma(yi, vi, scale = ~ ni): REML of coefficients of log tau squared, metafor 3.8.1."""
    posterior = between_posterior(writing.design)
    raw, regression = posterior.raw_scale, posterior.regression
    flat = regression.__class__(
        regression.y, regression.v, regression.X, regression.mean, 0 * regression.precision
    )
    Z = writing.design.predictors["tau"].X @ raw

    def negative(alpha):
        return -flat.given(np.exp(alpha[None] @ Z.T))[0][0]

    options = {"xatol": 1e-8, "fatol": 1e-13, "maxiter": 5000}
    found = minimize(negative, [-1.0, -0.1], method="Nelder-Mead", options=options)
    assert 2 * raw @ found.x == pytest.approx([-1.96123653, -0.00693653], rel=2e-4)
    _, mean, covariance = flat.given(np.exp(found.x[None] @ Z.T))
    assert mean[0, 0] == pytest.approx(0.15604003, abs=1e-6)
    assert np.sqrt(covariance[0, 0, 0]) == pytest.approx(0.0396, abs=5e-5)


def test_location_scale_posterior_is_near_metafor(writing):
    table = bm.pooled_effects(writing).table
    row = table.loc["mu"]
    assert abs(row["mean"] - 0.15604) < 0.15 * row["sd"]
    for name, reml in (("beta_tau[Intercept]", -1.96123653 / 2), ("beta_tau[ni]", -0.00693653 / 2)):
        draws = writing.posterior["beta_tau"].sel(term_tau=name[9:-1]).to_numpy()
        assert np.quantile(draws, 0.1) < reml < np.quantile(draws, 0.9)


def test_location_scale_is_that_of_another_quadrature(trials):
    """Dense normals over both coefficients of log tau, by Gauss and Legendre's rule."""
    priors = {
        "mu": NORMAL,
        "beta[ablat]": bm.Prior("Normal", mu=0, sigma=0.05),
        "Intercept_tau": bm.Prior("Normal", mu=-1, sigma=0.7),
        "beta_tau[ablat]": bm.Prior("Normal", mu=0, sigma=0.04),
    }
    fit = analyse(trials, study="trial", moderators="~ ablat", scale="~ ablat", priors=priors)
    z = (trials["ablat"] - trials["ablat"].mean()).to_numpy()
    X, y = np.column_stack([np.ones(13), z]), trials["yi"].to_numpy()
    prior = X @ np.diag([1, 0.05**2]) @ X.T
    x, w = np.polynomial.legendre.leggauss(40)
    total, sums = 0.0, np.zeros(4)
    for a, wa in zip(-1 + 3.8 * x, w * stats.norm.pdf(3.8 * x, 0, 0.7), strict=True):
        for b, wb in zip(0.2 * x, w * stats.norm.pdf(0.2 * x, 0, 0.04), strict=True):
            V = np.diag(trials["sei"] ** 2 + np.exp(2 * (a + b * z))) + prior
            share = wa * wb * np.exp(stats.multivariate_normal(cov=V).logpdf(y))
            slopes = np.diag([1, 0.05**2]) @ X.T @ np.linalg.solve(V, y)
            total, sums = total + share, sums + share * np.array([*slopes, a, b])
    expected = sums / total
    posterior = between_posterior(fit.design)
    nodes, raw, raw_scale = posterior.lattice, posterior.raw, posterior.raw_scale
    alpha = nodes.weights.ravel() @ nodes.points
    beta = raw @ (nodes.weights.ravel() @ posterior.given(nodes.points)[0])
    centre = trials["ablat"].mean()
    for coefficients, (level, slope) in (
        (beta, expected[:2]),
        (raw_scale @ alpha, expected[2:]),
    ):
        assert coefficients[1] == pytest.approx(slope, abs=1e-5)
        assert coefficients[0] + centre * coefficients[1] == pytest.approx(level, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"between": "t", "nu": 4},
        {"between": "t"},
        {"scale": "~ ablat"},
        {"moderators": "~ ablat", "between": "t", "scale": "~ ablat", "method": "only nuts"},
    ],
)
def test_nuts_and_grid_agree(trials, options):
    options = {"study": "trial", "measure": "RR"} | options
    only = options.pop("method", None)
    nuts = analyse(trials, **options | {"method": "nuts"})
    assert nuts.converged, str(nuts.convergence)
    report = bm.pooled_effects(nuts).table
    if only:
        assert {"beta[ablat]", "beta_tau[ablat]", "nu"} <= set(report.index)
        return
    grid = bm.pooled_effects(analyse(trials, **options)).table
    ess = nuts.summary()["ess_bulk"].min()
    for name in [n for n in grid.index if n in ("mu", "tau", "nu") or n.startswith("beta")]:
        sd = grid.loc[name, "sd"]
        error = sd * np.sqrt(1 / ess + 1 / 4000)
        assert report.loc[name, "mean"] == pytest.approx(grid.loc[name, "mean"], abs=4 * error)
    one, other = (bm.study_effects(f).table for f in (nuts, analyse(trials, **options)))
    gap = (one["mean"] - other["mean"]).abs() / other["sd"]
    assert gap.max() < 4.5 * np.sqrt(1 / ess + 1 / 4000)


GIANT = [0.001, 0.4, 0.5, 0.3, 0.6]
EXTREMES = {
    "two studies": ([0.2, 0.6], [0.2, 0.3]),
    "one giant study": ([0.2, 0.9, -0.3, 0.5, 0.1], GIANT),
    "six orders of magnitude": (list(np.linspace(-0.3, 0.6, 7)), list(10.0 ** np.arange(-4, 3))),
    "all equal": ([0.3] * 6, [0.1, 0.2, 0.3, 0.1, 0.2, 0.3]),
}


@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("model", ["t", "scale"])
def test_extremes(name, model):
    y, se = EXTREMES[name]
    data = pd.DataFrame({"study": range(len(y)), "yi": y, "sei": se, "x": range(len(y))})
    options = {"between": "t", "nu": 4} if model == "t" else {"scale": "~ x"}
    fit = analyse(data, measure="OR", **options)
    table = bm.pooled_effects(fit).table
    rows = table.loc[["mu", "tau", "new study"], ["median", "eti95_lb", "eti95_ub"]]
    assert np.isfinite(rows.to_numpy()).all()
    effects = bm.study_effects(fit).table
    assert np.isfinite(effects[["mean", "sd", "reliability"]].to_numpy()).all()
    least = int(np.argmin(se))
    assert effects["mean"].iloc[least] == pytest.approx(y[least], abs=4 * se[least])
    assert effects["reliability"].between(0, 1).all()


@pytest.mark.parametrize("name", EXTREMES)
def test_extremes_with_many_degrees_of_freedom_are_the_normal_model(name):
    y, se = EXTREMES[name]
    data = pd.DataFrame({"study": range(len(y)), "yi": y, "sei": se})
    t = analyse(data, measure="OR", between="t", nu=1e5)
    exact = bm.grid_posterior(analyse(data, measure="OR"))
    (mu, tau, weight), effect = on_nodes(t), exact.effect()
    assert weight @ mu == pytest.approx(effect.mean[0], abs=0.005 * effect.sd[0])
    assert np.sqrt(weight @ (mu - weight @ mu) ** 2) == pytest.approx(effect.sd[0], rel=0.005)
    assert weight @ tau == pytest.approx(exact.tau.mean, abs=0.005 * exact.tau.sd)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("model", ["t", "scale"])
def test_extremes_by_nuts(name, model):
    y, se = EXTREMES[name]
    data = pd.DataFrame({"study": range(len(y)), "yi": y, "sei": se, "x": range(len(y))})
    options = {"between": "t", "nu": 4} if model == "t" else {"scale": "~ x"}
    nuts = analyse(data, measure="OR", **options | {"method": "nuts"})
    one, other = (
        bm.pooled_effects(f).table.loc["mu"] for f in (nuts, analyse(data, measure="OR", **options))
    )
    assert one["median"] == pytest.approx(other["median"], abs=0.15 * other["sd"])


def test_saved_and_loaded(tmp_path, heavy, writing):
    for fit in (heavy, writing):
        again = bm.load(fit.save(tmp_path / "fit.nc"))
        assert bm.pooled_effects(again).table.equals(bm.pooled_effects(fit).table)
        assert bm.study_effects(again).table.equals(bm.study_effects(fit).table)


def test_parts_of_the_studies_are_analysed_again(trials, heavy):
    """Every row against a fit of these studies alone, with the same priors; exact but for nodes."""
    table = bm.leave_one_out(heavy).table
    assert list(table.index) == ["(none)", *map(str, trials["trial"])]
    options = {"study": "trial", "measure": "RR", "between": "t", "nu": 4}
    options |= {"priors": {"mu": NORMAL, "tau": TAU}}
    kinds = {"(none)": trials, "4": trials.query("trial != 4"), "8": trials.query("trial != 8")}
    for name, some in kinds.items():
        mu, tau, weight = on_nodes(analyse(some, **options))
        mean = weight @ mu
        sd = np.sqrt(weight @ (mu - mean) ** 2)
        assert table.loc[name, "mean"] == pytest.approx(mean, abs=1e-4 * sd)
        assert table.loc[name, "sd"] == pytest.approx(sd, rel=1e-4)
        # Half of the weights are below the median, but for the distance of nodes.
        order = tau.argsort()
        middle = tau[order][np.searchsorted(np.cumsum(weight[order]), 0.5)]
        assert table.loc[name, "tau_median"] == pytest.approx(middle, rel=0.08)
    report = bm.cumulative_analysis(heavy, trials["year"])
    np.testing.assert_allclose(report.table.iloc[-1], table.loc["(none)"], rtol=1e-6)
    report.plot()
    draws = report.draws["mu"].to_numpy()[0]
    sd = report.table["sd"].to_numpy()
    assert (np.abs(draws.mean(axis=0) - report.table["mean"]) < 4 * sd / np.sqrt(1000)).all()


def test_parts_of_a_location_scale_model(writing):
    """Leaving a study out is a fit without it; its centred moderators stay those of all studies."""
    report = bm.leave_one_out(writing)
    assert len(report.table) == 49
    np.testing.assert_allclose(
        report.table.loc["(none)", "mean"], between_posterior(writing.design).mu[0]
    )
    some = WRITING.query("study != 46")
    priors = {**writing.spec.priors}
    again = analyse(some, variance="vi", measure="SMD", scale="~ ni", priors=priors)
    # The refit centres its prior at the mean size of 47 studies, which matters little.
    found = between_posterior(again.design).mu
    np.testing.assert_allclose(report.table.loc["46", "mean"], found[0], atol=0.02 * found[1])
    np.testing.assert_allclose(report.table.loc["46", "sd"], found[1], rtol=0.02)
    with pytest.raises(BayesmixedError, match="no one tau"):
        bm.prior_robustness(writing)


def test_robustness_of_a_heavy_tailed_fit_is_analysing_again(trials, heavy):
    report = bm.prior_robustness(heavy, {"wide": bm.Prior("HalfCauchy", beta=1), "J": "Jeffreys"})
    options = {"study": "trial", "measure": "RR", "between": "t", "nu": 4}
    priors = {"mu": NORMAL, "tau": bm.Prior("HalfCauchy", beta=1)}
    again = between_posterior(analyse(trials, **options, priors=priors).design)
    np.testing.assert_allclose(report.table.loc["wide", "mean"], again.mu[0])
    own = between_posterior(heavy.design)
    np.testing.assert_allclose(
        report.table.loc["wide", "log_BF"], again.log_evidence - own.log_evidence
    )
    assert np.isnan(report.table.loc["J", "log_BF"])
    assert np.isfinite(report.table.loc["J", ["mean", "new_lb", "tau_median"]].to_numpy()).all()
    # With few degrees of freedom to spare it is the normal model's table.
    priors = {"mu": NORMAL, "tau": TAU}
    t, normal = (
        analyse(trials, study="trial", measure="RR", priors=priors, **o)
        for o in ({"between": "t", "nu": 1e6}, {})
    )
    other = {"other": bm.Prior("Uniform", lower=0, upper=2)}
    one, two = (bm.prior_robustness(f, other).table for f in (t, normal))
    columns = ["mean", "sd", "eti95_lb", "tau_median", "I2_median", "P(mu > 0)", "log_BF"]
    np.testing.assert_allclose(one[columns], two[columns], atol=2e-3)


@pytest.mark.parametrize("tau", [0.003, 0.3, 4.0])
def test_shared_nodes_give_the_density_of_single_ones(tau):
    """Against the family, whose nodes are each density's own; from nu = 1 to next to normal."""
    rng = np.random.default_rng(1)
    s = 10 ** rng.uniform(-2, 1, 15)
    residual = rng.normal(size=(4, 15)) * np.hypot(s, tau) * rng.choice([1, 1, 12], (4, 15))
    nu = np.exp(np.linspace(0, 9, 19))
    found = log_likelihood(residual, s, tau, nu)
    for j, one in enumerate(nu):
        given = {"mu": np.zeros(1), "sigma": s, "tau": np.array(tau), "nu": np.array(one)}
        single = between_t.loglik(y=residual, **given).sum(axis=-1)
        np.testing.assert_allclose(found[:, j], single, atol=5e-6)


def test_a_moderator_on_the_grid_is_quadrature_over_all(outlier):
    """Coefficients, tau and nu on Gauss and Legendre's nodes, densities by the family."""
    data = outlier.assign(x=np.linspace(-1, 1, 10) ** 3, yi=outlier["yi"].clip(upper=0.8))
    priors = {
        "mu": NORMAL, "beta[x]": bm.Prior("Normal", mu=0, sigma=0.5), "tau": TAU,
        "nu": bm.Prior("Exponential", lam=0.2),
    }  # fmt: skip
    fit = analyse(data, moderators="~ x", between="t", priors=priors)
    posterior = between_posterior(fit.design)
    y, s, x = data["yi"].to_numpy(), data["sei"].to_numpy(), data["x"].to_numpy()
    z, w = np.polynomial.legendre.leggauss(16)
    mus, slopes = 0.1 + 0.5 * z, 0.1 + 0.9 * z
    taus, log_nus = np.exp(-3.2 + 3.2 * z), 1.0 + 3.2 * z
    total, sums = 0.0, np.zeros(3)
    grid = np.stack(np.meshgrid(mus, slopes, indexing="ij"), axis=-1).reshape(-1, 2)
    mu = grid[:, :1] + grid[:, 1:] * (x - x.mean())
    base = np.outer(w, w).ravel() * stats.norm.pdf(grid[:, 0]) * stats.norm.pdf(grid[:, 1], 0, 0.5)
    for tau, wt in zip(taus, w * taus * stats.halfnorm.pdf(taus, scale=0.5), strict=True):
        for log_nu, wn in zip(log_nus, w, strict=True):
            nu = np.exp(log_nu)
            given = {"mu": mu, "sigma": s, "tau": np.array(tau), "nu": np.array(nu)}
            share = base * wt * wn * nu * 0.2 * np.exp(-0.2 * nu)
            share = share * np.exp(between_t.loglik(y=y, **given).sum(axis=-1))
            total += share.sum()
            sums += [share @ grid[:, 0], share @ grid[:, 0] ** 2, share.sum() * np.log(tau)]
    mean, square, log_tau = sums / total
    sd = np.sqrt(square - mean**2)
    assert posterior.mu[0] == pytest.approx(mean, abs=0.01 * sd)
    assert posterior.mu[1] == pytest.approx(sd, rel=0.01)
    drawn = posterior.sample(4000, np.random.default_rng(1))[1]
    assert np.log(drawn).mean() == pytest.approx(log_tau, abs=0.05)


def maximum(y, s, X, start):
    """Coefficients, tau squared, 1 / nu and log-likelihood at the maximum of the likelihood."""

    def negative(p):
        given = {"mu": X @ p[2:], "sigma": s, "tau": np.exp(p[:1] / 2), "nu": np.exp(-p[1:2])}
        return -between_t.loglik(y=y, **given).sum()

    options = {"xatol": 1e-7, "fatol": 1e-11, "maxiter": 8000}
    found = minimize(negative, start, method="Nelder-Mead", options=options)
    return found.x[2:], *np.exp(found.x[:2]), -found.fun


def test_maximum_of_the_likelihood_is_metaplus():
    """Vignette of metaplus: t-distribution, CDP choline (Fioravanti & Yanagi 2005), ten trials.

    Four digits are printed, and log-likelihoods to six decimals of integrals with R's default
    tolerance of 1e-4.
    """
    y = np.array([0.26, 0.01, 2.22, 0.58, 0.34, 0.33, 0.14, 0.15, 0.50, 0.13])
    half = np.array([0.75, 0.41, 0.805, 0.725, 0.725, 0.56, 0.47, 0.19, 0.53, 0.415])
    s, X = half / 1.96, np.ones((10, 1))
    beta, tau2, inverse, log = maximum(y, s, X, [-9.0, 0.5, 0.2])
    assert beta[0] == pytest.approx(0.1946, abs=1e-4)
    assert tau2 == pytest.approx(4.478e-5, rel=2e-3)
    assert inverse == pytest.approx(2.024, rel=1e-3)
    assert log == pytest.approx(-4.057686, abs=1e-5)
    # The normal model, as 1 / nu goes to 0.
    given = {"mu": 0.38944 * X[:, 0], "sigma": s, "tau": np.sqrt([0.14666]), "nu": np.array([1e8])}
    assert between_t.loglik(y=y, **given).sum() == pytest.approx(-8.198544, abs=2e-6)


def test_predictions_of_these_fits(writing):
    new = bm.predict(writing, {"ni": [10, 1000], "vi": [0.1, 0.1]}, groups="average")
    assert len(new.table) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"between": "cauchy"}, "between"),
        ({"nu": 4}, 'nu= is for between="t"'),
        ({"between": "t", "nu": 0.1}, "from 0.5"),
        ({"between": "t", "nu": np.inf}, "normal"),
        ({"between": "t", "nu": bm.Prior("Exponential", lam=1.0)}, "a prior goes into"),
        ({"between": "t", "common": True}, "common"),
        ({"scale": "~ x", "common": True}, "common"),
        ({"scale": "~ x", "study": "x/study"}, "one row a study"),
        ({"scale": "~ missing"}, "missing"),
        ({"scale": "~ x", "priors": {"tau": TAU}}, "Intercept_tau"),
        ({"between": "t", "moderators": "~ x + sqrt(x)"}, r"2 coefficients \(nu=4"),
        ({"between": "t", "scale": "~ x"}, "either between"),
        ({"scale": "~ factor(study)"}, "up to 3"),
        ({"scale": "~ x", "priors": {"beta_tau[x]": TAU}}, "beta_tau"),
    ],
)
def test_bad_input(options, message):
    data = pd.DataFrame({"study": range(5), "yi": 0.1, "sei": 0.2, "x": [1, 2, 3, 4, 6]})
    with pytest.raises(BayesmixedError, match=message):
        analyse(data, **options)


def test_flat_priors_that_do_not_end_are_refused():
    data = pd.DataFrame({"study": range(2), "yi": [0.1, 0.2], "sei": 0.2})
    flat = {"mu": bm.Prior("Flat"), "tau": bm.Prior("HalfFlat")}
    with pytest.raises(PriorError, match="does not end"):
        analyse(data, between="t", nu=4, priors=flat)


def test_standard_errors_have_to_be_known(trials):
    with pytest.raises(BayesmixedError, match="sampling_sd"):
        bm.Model("yi ~ 1", trials, family="between_t")
    with pytest.raises(DataError, match="above 0"):
        analyse(trials.assign(sei=0.0), study="trial", between="t")
    with pytest.raises(UnknownNameError):
        analyse(trials, study="trial", between="t", nu=4, priors={"nu": TAU})
