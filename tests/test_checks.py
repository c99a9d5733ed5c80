"""Checking a model: replicated outcomes, residuals, and what the priors do."""

from __future__ import annotations

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import bayesmixed as bm
from bayesmixed.encoded import constrain, encode, unconstrain
from bayesmixed.reports import _residuals
from bayesmixed.reports._prior_density import log_priors


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def _table(seed=1, groups=40, rows=15):
    """A predictor, groups, and a normal linear predictor of sd about 1."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    x = rng.normal(size=len(g))
    return rng, pd.DataFrame(
        {"g": g, "x": x, "eta": 1 + 0.4 * x + 0.5 * rng.normal(size=groups)[g]}
    )


@pytest.fixture(scope="module")
def counts():
    """Poisson counts, fitted as such."""
    rng, data = _table()
    data["y"] = rng.poisson(np.exp(data["eta"]))
    return bm.Model("y ~ x + (1 | g)", data, family="poisson").fit(seed=1, progress=False)


@pytest.fixture(scope="module")
def inflated():
    """The same with a quarter of the counts made 0, fitted as Poisson."""
    rng, data = _table()
    data["y"] = rng.poisson(np.exp(data["eta"])) * (rng.random(len(data)) > 0.25)
    return bm.Model("y ~ x + (1 | g)", data, family="poisson").fit(seed=1, progress=False)


@pytest.fixture(scope="module")
def normal():
    """Normal outcomes, fitted as such."""
    rng, data = _table()
    data["y"] = data["eta"] + rng.normal(size=len(data))
    return bm.Model("y ~ x + (1 | g)", data).fit(seed=1, progress=False)


def test_replicated_outcomes_have_the_model_s_moments(sleepstudy):
    """Mean and variance of each row over the draws, within 5 Monte Carlo errors."""
    fit = bm.posterior_predictive(sleepstudy, seed=3)
    y = fit.tree["posterior_predictive"]["y"]
    eta = sleepstudy.eta().to_numpy()
    sigma = sleepstudy.posterior["sigma"].to_numpy()
    draws = eta.shape[0] * eta.shape[1]
    error = np.sqrt((sigma**2).mean() / draws)
    assert np.abs(y.mean(["chain", "draw"]) - eta.mean(axis=(0, 1))).max() < 5 * error
    variance = (sigma**2).mean() + eta.var(axis=(0, 1))
    # The standard error of a normal sample's variance is sqrt(2 / n) of it.
    assert np.abs(y.var(["chain", "draw"]) / variance - 1).max() < 5 * np.sqrt(2 / draws)
    assert "posterior_predictive" not in sleepstudy.tree.children
    again = bm.posterior_predictive(sleepstudy, seed=3).tree["posterior_predictive"]["y"]
    xr.testing.assert_equal(y, again)


def test_new_groups_share_their_effects(sleepstudy):
    """Rows of a new group covary by Z G Z', given the parameters; within 6 % (4 errors)."""
    y = bm.posterior_predictive(sleepstudy, seed=3, groups="new").tree["posterior_predictive"]["y"]
    posterior, random = sleepstudy.posterior, sleepstudy.design.predictors["mu"].random[0]
    off = y.to_numpy() - sleepstudy.eta(without=None).to_numpy()
    sd = posterior["sd_Subject"].to_numpy()
    G = posterior["cor_Subject"].to_numpy() * sd[..., :, None] * sd[..., None, :]
    for first, second, expected_in_common in ((0, 9, True), (0, 15, False)):
        z = random.Z[[first, second]]
        found = (off[..., first] * off[..., second]).mean()
        expected = np.einsum("i,...ij,j->...", z[0], G, z[1]).mean()
        spread = np.sqrt((off[..., first] ** 2).mean() * (off[..., second] ** 2).mean())
        # The products' sd is at most about 2 spreads, over 4,000 draws.
        assert abs(found - expected * expected_in_common) < 4 * 2 * spread / np.sqrt(4000)


def test_arviz_draws_them(counts):
    az.plot_ppc_dist(bm.posterior_predictive(counts, seed=1).tree, num_samples=20)


def test_checks_are_counts_of_replicated_values(counts):
    """Each number of the table from the replicated outcomes themselves."""
    y = bm.posterior_predictive(counts, seed=5).tree["posterior_predictive"]["y"].to_numpy()
    observed, index = counts.design.y, counts.design.groups[0].index
    table = bm.check(counts, "g", "max", seed=5).table
    for g in (0, 17):
        values, own = y[..., index == g].max(axis=-1), observed[index == g].max()
        row = table.loc[g]
        assert row["observed"] == own
        assert row["n"] == 15
        np.testing.assert_allclose(row["mean"], values.mean())
        np.testing.assert_allclose(row["p"], (values > own).mean() + (values == own).mean() / 2)
        lower, upper = np.quantile(values, [0.025, 0.975])
        np.testing.assert_allclose(row[["eti95_lb", "eti95_ub"]].to_numpy(float), [lower, upper])
        assert row["outside"] == (own < lower or own > upper)
    overall = bm.check(counts, seed=5).table
    assert overall.loc["zeros", "observed"] == (observed == 0).mean()
    np.testing.assert_allclose(overall.loc["zeros", "mean"], (y == 0).mean())
    own = bm.check(counts, statistic=lambda v: np.ptp(v, axis=-1), seed=5).table
    assert own["observed"].iloc[0] == np.ptp(observed)


def test_too_many_zeros_are_found(counts, inflated):
    assert not bm.check(counts, seed=1).table.loc["zeros", "outside"]
    row = bm.check(inflated, seed=1).table.loc["zeros"]
    assert row["outside"]
    assert row["p"] < 0.001


def test_a_group_unlike_the_others_is_found_by_mixed_replication():
    """Its own effect hides it; effects drawn anew do not."""
    rng, data = _table(groups=30)
    data["y"] = data["eta"] + rng.normal(size=len(data)) + 5 * (data["g"] == 4)
    fit = bm.Model("y ~ x + (1 | g)", data).fit(seed=1, progress=False)
    own, new = bm.check(fit, "g", seed=1), bm.check(fit, "g", groups={"g": "new"}, seed=1)
    assert not own.table.loc[4, "outside"]
    assert 'groups={"g": "new"}' in " ".join(own.caveats)
    assert new.table.loc[4, "outside"]
    assert new.table.loc[4, "p"] < 0.005
    assert "new effects of g" in new.caption


def test_number_outside_against_what_is_foretold(normal):
    """With effects drawn anew, 40 independent groups: about 5 % of them outside."""
    report = bm.check(normal, "g", groups="new", seed=1)
    values = report.draws["replicated"].to_numpy()
    table = report.table
    outside = (values < table["eti95_lb"].to_numpy()) | (values > table["eti95_ub"].to_numpy())
    np.testing.assert_allclose(outside.mean(), 0.05, atol=0.001)
    assert f"{int(table['outside'].sum())} of 40 are outside" in report.caption
    assert "foretells 2.0" in report.caption
    # The model is true: more than 6 of 40 outside has probability 0.003 (binomial).
    assert table["outside"].sum() <= 6


def test_calibration_of_a_yes_no_outcome(medpar):
    """Tenths of the fitted probability, and the predictors' own values."""
    table = bm.check(medpar, "fitted", seed=1).table
    assert len(table) == 10
    assert table["n"].sum() == len(medpar.design.y)
    assert table["observed"].is_monotonic_increasing or table["observed"].corr(table["mean"]) > 0.9
    assert table["outside"].sum() <= 2
    with_type = bm.check(medpar, "type", seed=1).table
    assert list(with_type.index) == ["1", "2", "3"]


def test_a_predictor_that_was_left_out_shows_by_its_own_labels():
    """Labels that the model does not know of, in any order of the rows."""
    rng, data = _table()
    arm = pd.Series(rng.permutation(np.repeat(["a", "b"], 300)), name="arm")
    p = 1 / (1 + np.exp(-data["eta"] - np.where(arm == "a", 1.5, -1.5)))
    data["y"] = rng.binomial(1, p)
    fit = bm.Model("y ~ x + (1 | g)", data, family="bernoulli").fit(
        seed=1, draws=500, progress=False
    )
    table = bm.check(fit, by=arm.sample(frac=1, random_state=1), seed=1).table
    np.testing.assert_allclose(table["observed"], data["y"].groupby(arm).mean())
    assert table["outside"].all()
    assert table["p"].tolist() == [0, 1]


def test_proportions_and_labels(fitted):
    fit = fitted("cbpp", "incidence | trials(size) ~ period + (1 | herd)", "binomial")
    report = bm.check(fit, "period", seed=1)
    data = bm.datasets.load("cbpp")
    expected = (data["incidence"] / data["size"]).groupby(data["period"]).mean()
    np.testing.assert_allclose(report.table["observed"], expected)
    assert "proportion incidence" in report.caption
    assert report.plot().get_ylabel() == "mean of proportion incidence"
    assert bm.check(fit, "size", seed=1).table["n"].sum() == len(data)
    with pytest.raises(bm.BayesmixedError, match="no grouping or column 'perod'"):
        bm.check(fit, "perod")
    with pytest.raises(bm.BayesmixedError, match="no statistic 'mode'"):
        bm.check(fit, statistic="mode")
    with pytest.raises(bm.BayesmixedError, match="of 56 rows have no label"):
        bm.check(fit, by=data["period"].iloc[:20])


@pytest.mark.parametrize("kind", ["quantile", "loo"])
def test_quantile_residuals_of_a_normal_outcome(kind, normal):
    """The distribution function is a mean of normal ones over the (reweighted) draws."""
    sigma = normal.posterior["sigma"].to_numpy()[..., None]
    cdf = stats.norm.cdf((normal.design.y - normal.eta().to_numpy()) / sigma)
    weights = np.ones_like(cdf) / cdf[..., 0].size
    if kind == "loo":
        values = normal.with_log_likelihood().tree["log_likelihood"]["y"]
        log_weights, _ = values.azstats.psislw(dim=["chain", "draw"], r_eff=1.0)
        weights = np.exp(log_weights.transpose("chain", "draw", "row").to_numpy())
    expected = (weights * cdf).sum(axis=(0, 1))
    report = bm.residuals(normal, kind, seed=1)
    found = stats.norm.cdf(report.table["residual"])
    # Each is a proportion of 4,000 draws, of fewer effective ones with weights.
    error = 0.5 / np.sqrt(1 / (weights**2).sum(axis=(0, 1)).max())
    assert np.abs(found - expected).max() < 4.5 * error + 1 / 4001
    np.testing.assert_allclose(report.table["fitted"], normal.eta().mean(["chain", "draw"]))


@pytest.mark.parametrize("name", ["normal", "counts"])
def test_residuals_are_standard_normal_under_the_true_model(name, request):
    """600 rows, model true: Kolmogorov and Smirnov's test sees nothing, sd is 1 within 3 errors."""
    fit = request.getfixturevalue(name)
    residual = bm.residuals(fit, "loo", seed=2).table["residual"]
    assert stats.kstest(residual, "norm").pvalue > 0.05
    assert abs(residual.std() - 1) < 3 / np.sqrt(2 * 600)
    pearson = bm.residuals(fit, "pearson").table["residual"]
    assert abs(pearson.std() - 1) < 0.1


def test_residuals_find_what_is_wrong(inflated):
    """Too many zeros under a Poisson; a spread that grows with x under a constant one."""
    assert stats.kstest(bm.residuals(inflated, seed=1).table["residual"], "norm").pvalue < 1e-4
    rng, data = _table()
    data["y"] = data["eta"] + rng.normal(size=len(data)) * np.exp(0.6 * data["x"])
    fit = bm.Model("y ~ x + (1 | g)", data).fit(seed=1, progress=False)
    residual = bm.residuals(fit, "loo", seed=1).table["residual"].to_numpy()
    assert residual[data["x"] > 1].std() > 1.6
    assert residual[data["x"] < -1].std() < 0.7
    right = bm.Model("y ~ x + (1 | g)", data, parameters={"sigma": "~ x"}).fit(
        seed=1, progress=False
    )
    residual = bm.residuals(right, "loo", seed=1).table["residual"].to_numpy()
    # About 95 rows on each side: 3 errors are 0.22.
    assert abs(residual[data["x"] > 1].std() - 1) < 0.22
    assert abs(residual[data["x"] < -1].std() - 1) < 0.22


def test_pearson_residuals(counts):
    """Observed less expected, over the root of the mean variance plus the variance of the mean."""
    mean = np.exp(counts.eta().to_numpy())
    sd = np.sqrt(mean.mean(axis=(0, 1)) + mean.var(axis=(0, 1)))
    table = bm.residuals(counts, "pearson").table
    np.testing.assert_allclose(
        table["residual"], (counts.design.y - mean.mean(axis=(0, 1))) / sd, rtol=1e-10
    )


def test_residuals_in_blocks_of_rows(normal, monkeypatch):
    monkeypatch.setattr(_residuals, "_MAX_VALUES", 4000 * 70)
    report = bm.residuals(normal, "loo", seed=1)
    assert list(report.table.index) == list(range(600))
    assert report.table["k_hat"].max() < 0.7
    assert stats.kstest(report.table["residual"], "norm").pvalue > 0.05
    assert set(report.pictures) == {"qq", "fitted", "x", "g"}
    for name in report.pictures:
        ax = report.plot(name)
        assert ax.get_xlabel()
        assert ax.get_ylabel() == "quantile residual"
    with pytest.raises(bm.BayesmixedError, match="no kind of residuals 'deviance'"):
        bm.residuals(normal, "deviance")


def test_log_priors_are_the_densities_that_the_model_states(sleepstudy):
    """Differences between draws, from SciPy's densities, LKJ's (eta - 1) log det, and the docs."""
    found = dict(log_priors(sleepstudy))
    posterior, data = sleepstudy.posterior, bm.datasets.load("sleepstudy")
    beta, sd = posterior["beta"].to_numpy(), posterior["sd_Subject"].to_numpy()
    y, x = data["Reaction"], data["Days"]
    spread, slope = y.std(), y.std() / x.std(ddof=0)
    mad = 1.4826 * (y - y.median()).abs().median()
    cor = posterior["cor_Subject"].to_numpy()[..., 0, 1]
    expected = {
        "Intercept": stats.t.logpdf(beta[..., 0] + 4.5 * beta[..., 1], 3, y.median(), mad),
        "beta[Days]": stats.norm.logpdf(beta[..., 1], 0, 2.5 * slope),
        "sd_Subject[Intercept]": stats.t.logpdf(sd[..., 0], 3, 0, spread) + np.log(2),
        "sd_Subject[Days]": stats.t.logpdf(sd[..., 1], 3, 0, slope) + np.log(2),
        "cor_Subject": np.log(1 - cor**2),
        "sigma": stats.t.logpdf(posterior["sigma"], 3, 0, spread) + np.log(2),
    }
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    "prior",
    [
        bm.Prior("Normal", mu=1, sigma=2),
        bm.Prior("Gamma", alpha=2, beta=3),
        bm.Prior("Beta", alpha=2, beta=3),
        bm.Prior("Uniform", lower=-1, upper=4),
    ],
)
def test_unconstrain_undoes_constrain(prior):
    x, encoded = np.linspace(-3, 3, 7), encode(prior)
    np.testing.assert_allclose(unconstrain(constrain(x, encoded), encoded), x, rtol=1e-12)


def test_sensitivity_of_a_normal_mean():
    """Conjugate: the posterior at other powers is known, and so is the distance [1].

    The cumulative Jensen-Shannon distance is worked out on a grid from the two exact posteriors;
    10,000 draws leave a relative error of some percent, and the distance depends a little on how
    far out its integrals go.

    [1] Kallioinen et al. (2024), eq. 6 to 10.
    """
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"y": 1 + rng.normal(size=12), "s": 1.0})
    prior = bm.Prior("Normal", mu=-1, sigma=0.5)
    model = bm.Model("y ~ 1", data, sampling_sd="s", priors={"Intercept": prior})
    fit = model.fit(draws=2500, seed=1, progress=False)
    row = bm.prior_sensitivity(fit).table.loc["beta[Intercept]"]

    def posterior(prior_power, data_power):
        precision = prior_power * 4 + data_power * 12
        mean = (prior_power * 4 * -1 + data_power * data["y"].sum()) / precision
        return stats.norm(mean, precision**-0.5)

    def distance(p, q):
        grid = np.linspace(-4, 4, 20_001)

        def divergence(a, b):
            a, b = np.maximum(a, 1e-300), np.maximum(b, 1e-300)
            m = (a + b) / 2
            cjs = np.trapezoid(a * np.log2(a / m) - (a - m) / np.log(2), grid)
            other = np.trapezoid(b * np.log2(b / m) - (b - m) / np.log(2), grid)
            return cjs + other, np.trapezoid(a + b, grid)

        # Bounded by the integral of both functions, and taken both ways.
        ways = []
        for a, b in ((p.cdf(grid), q.cdf(grid)), (p.sf(grid), q.sf(grid))):
            inside = (grid > p.ppf(1e-5)) & (grid < p.ppf(1 - 1e-5))
            total, bound = divergence(np.where(inside, a, 0), np.where(inside, b, 0))
            ways.append(np.sqrt(total / bound))
        return max(ways)

    base, step = posterior(1, 1), np.log2(1.01)
    for name, powers in (("prior", (1, 0)), ("likelihood", (0, 1))):
        moved = posterior(1 + 0.01 * powers[0], 1 + 0.01 * powers[1])
        expected = distance(base, moved) / step
        assert 0.8 * expected < row[name] < 1.25 * expected

    assert row["diagnosis"] == "prior and data may disagree"


def test_sensitivity_of_usual_and_stubborn_priors(sleepstudy):
    usual = bm.prior_sensitivity(sleepstudy)
    assert (usual.table["diagnosis"] == "").all()
    assert usual.plot().get_xlabel()
    stubborn = bm.Model(
        "Reaction ~ Days + (Days | Subject)", bm.datasets.load("sleepstudy"),
        priors={"beta[Days]": bm.Prior("Normal", mu=0, sigma=2)},
    ).fit(seed=1, progress=False)  # fmt: skip
    report = bm.prior_sensitivity(stubborn)
    assert report.table.loc["beta[Days]", "prior"] > 5 * usual.table.loc["beta[Days]", "prior"]
    assert report.table.loc["beta[Days]", "diagnosis"]
    assert "beta[Days]" in report.caveats[0]


def test_sensitivity_of_every_kind_of_parameter():
    """Cut-points, spread of a spread, shapes: each has its prior, and it is finite."""
    rng, data = _table(groups=8, rows=6)
    data["k"] = pd.cut(data["eta"] + rng.normal(size=48), [-9, 0, 1, 9], labels=[1, 2, 3])
    data["y"] = data["eta"] + rng.normal(size=48)
    data["n"] = rng.poisson(np.exp(data["eta"]))
    for formula, options, wanted in (
        ("k ~ x + (1 | g)", {"family": "ordinal"}, "thresholds"),
        ("y ~ x + (x || g)", {"parameters": {"sigma": "~ x + (1 | g)"}}, "sd_sigma_g"),
        ("n ~ 0 + x + (1 | g)", {"family": "zero_inflated_negative_binomial"}, "zi"),
    ):
        model = bm.Model(formula, data, **options)
        prior = model.prior_predictive(draws=10, seed=1)["prior"].to_dataset()
        found = dict(log_priors(bm.Fit(model.design, xr.DataTree.from_dict({"posterior": prior}))))
        assert wanted in found
        names = {n.partition("[")[0] for n in model.priors.index}
        assert {n.partition("[")[0] for n in found} == names
        assert all(np.isfinite(v).all() and v.shape == (1, 10) for v in found.values())


@pytest.mark.parametrize(
    "make",
    [
        lambda f: bm.check(f, "provnum", seed=1),
        lambda f: bm.check(f, seed=1),
        lambda f: bm.residuals(f, seed=1),
        bm.prior_sensitivity,
    ],
)
def test_reports_speak_for_themselves(make, medpar):
    report = make(medpar)
    assert report.caption in str(report)
    assert "nterval" in report.caption
    assert report.references
    assert "<table" in report.to_html()
    assert r"\toprule" in report.to_latex()
    for kind in report.pictures:
        ax = report.plot(kind)
        assert ax.get_xlabel()
        assert ax.get_ylabel() or ax.get_yticklabels()


def test_two_thousand_groups_are_readable():
    data = bm.datasets.simulate_readmissions(hospitals=2000, sizes=(1, 3), seed=1)
    model = bm.Model("readmitted ~ 1 + (1 | hospital)", data, family="bernoulli")
    fit = model.fit(draws=25, tune=100, chains=2, seed=1, progress=False)
    for report in (bm.check(fit, "hospital", seed=1), bm.loo(fit, "hospital")):
        ax = report.plot()
        assert not ax.get_xticks().size or len(ax.get_xticklabels()) < 20
        assert ax.figure.get_size_inches()[0] <= 12
