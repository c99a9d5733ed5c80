"""Design effects against published values and counted pairs; power against simulated trials."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats
from scipy.special import expit

import bayesmixed as bm
from bayesmixed.fit import Fit
from bayesmixed.names import coords, dims
from bayesmixed.reports._assurance import t_power
from bayesmixed.reports._design_effect import kish


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def known(design, **values) -> Fit:
    """A fit whose draws are given, each value with the draws first."""
    every = coords(design)
    variables = {
        n: (("chain", "draw", *dims(design)[n]), np.asarray(v, dtype=float)[None])
        for n, v in values.items()
    }
    used = {d for names, _ in variables.values() for d in names} & set(every)
    posterior = xr.Dataset(variables, coords={d: every[d] for d in used})
    return Fit(design, xr.DataTree.from_dict({"posterior": posterior, "sample_stats": None}))


def means(sizes, icc):
    """A Gaussian fit with groups of these sizes and draws of the intraclass correlation."""
    g = np.repeat(np.arange(len(sizes)), sizes)
    table = pd.DataFrame({"g": g, "y": np.random.default_rng(1).normal(size=len(g))})
    icc = np.atleast_1d(icc)
    return known(
        bm.Model("y ~ 1 + (1 | g)", table).design,
        beta=np.full((len(icc), 1), 10.0),
        sd_g=2 * np.sqrt(icc)[:, None],
        sigma=2 * np.sqrt(1 - icc),
    )


def risks(eta, sd):
    table = pd.DataFrame({"g": np.repeat(np.arange(10), 6), "y": np.arange(60) % 2})
    design = bm.Model("y ~ 1 + (1 | g)", table, family="bernoulli").design
    return known(design, beta=np.array([[eta]]), sd_g=np.array([[sd]]))


def test_the_published_example(reference):
    """An ICC of 0.057 with 30 per unit: 2.653, and standard errors 1.629 times as large."""
    known_values = reference["design_effect"]
    fit = means([30] * 8, known_values["icc"])
    for report in (bm.design_effect(fit), bm.design_effect(fit, "g", cluster_size=30)):
        found = report.table["mean"]
        assert found["icc"] == pytest.approx(known_values["icc"], rel=1e-7)
        assert found["design_effect"] == pytest.approx(known_values["design_effect"], rel=1e-7)
        assert found["se_inflation"] == pytest.approx(known_values["se_inflation"], rel=1e-7)
    assert bm.design_effect(fit).table.loc["effective_sample_size", "mean"] == pytest.approx(
        240 / known_values["design_effect"]
    )


def test_unequal_sizes_against_the_variance_of_a_mean():
    """1'R1 / N with R the correlation matrix of all rows, written out."""
    sizes = [1, 2, 5, 9, 30]
    found = bm.design_effect(means(sizes, [0.2, 0.7])).draws["design_effect"].to_numpy()[0]
    g = np.repeat(np.arange(5), sizes)
    for k, rho in enumerate((0.2, 0.7)):
        R = np.where(g[:, None] == g, rho, 0.0)
        np.fill_diagonal(R, 1)
        assert found[k] == pytest.approx(R.sum() / len(g), rel=1e-7)


def test_planned_sizes_that_vary():
    """Eldridge et al. (2006): 1 + ((1 + cv^2) m - 1) rho; with the sizes' own cv it is Kish's."""
    found = bm.design_effect(means([3] * 5, 0.05), cluster_size=20, cv=0.6)
    assert found.table.loc["design_effect", "mean"] == pytest.approx(
        1 + ((1 + 0.36) * 20 - 1) * 0.05, rel=1e-7
    )
    sizes = np.array([1, 2, 5, 9, 30])
    own = kish(0.2, sizes.mean(), sizes.std() / sizes.mean())
    assert own == pytest.approx(1 + ((sizes**2).sum() / sizes.sum() - 1) * 0.2)


def test_all_groupings_together_nested(pastes):
    """1'R1 / N with a correlation for casks and a smaller one for batches."""
    report = bm.design_effect(pastes)
    frame = pastes.design.table.frame
    batch = frame["batch"].astype(str).to_numpy()
    cask = batch + frame["cask"].astype(str).to_numpy()
    rho = bm.icc(pastes).draws["latent"][1, 100, 0]
    R = np.where(batch[:, None] == batch, float(rho.sel(group="batch")), 0.0)
    R = np.where(cask[:, None] == cask, float(rho.sel(group="cask")), R)
    np.fill_diagonal(R, 1)
    found = float(report.draws["design_effect"][1, 100])
    assert found == pytest.approx(R.sum() / len(batch), rel=1e-7)
    assert "icc" not in report.table.index
    one = bm.design_effect(pastes, "batch")
    assert float(one.draws["design_effect"][1, 100]) < found
    assert any("cask" in caveat for caveat in one.caveats)


def test_all_groupings_together_crossed():
    """Every pair of a table of patients and raters has the correlation of what it shares."""
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 6, 80), rng.integers(0, 4, 80)
    table = pd.DataFrame({"a": a, "b": b, "y": rng.normal(size=80)})
    design = bm.Model("y ~ 1 + (1 | a) + (1 | b)", table).design
    fit = known(design, beta=[[0.0]], sd_a=[[0.6]], sd_b=[[0.9]], sigma=[1.1])
    V = 0.36 * (a[:, None] == a) + 0.81 * (b[:, None] == b) + 1.21 * np.eye(80)
    found = float(bm.design_effect(fit).draws["design_effect"][0, 0])
    assert found == pytest.approx(V.sum() / 80 / 2.38, rel=1e-7)


def test_it_is_that_of_the_mean_of_yes_no_outcomes():
    """Simulated: the variance of the mean of 40 outcomes of one new group, over m(1 - m)/40."""
    report = bm.design_effect(risks(-0.5, 0.8), cluster_size=40)
    rng = np.random.default_rng(2)
    p = expit(-0.5 + 0.8 * rng.normal(size=400_000))
    share = rng.binomial(40, p) / 40
    # A variance of n draws has the relative standard error sqrt(2/n), about 0.25 %.
    simulated = share.var() / (p.mean() * (1 - p.mean()) / 40)
    assert report.table.loc["design_effect", "mean"] == pytest.approx(simulated, rel=0.01)


def test_what_cannot_be_asked(pastes, sleepstudy):
    for size in (0, -3, np.nan, [10, 20], "10"):
        with pytest.raises(bm.BayesmixedError, match="cluster_size must be"):
            bm.design_effect(sleepstudy, cluster_size=size)
    with pytest.raises(bm.BayesmixedError, match="cv"):
        bm.design_effect(sleepstudy, cluster_size=10, cv=-1)
    with pytest.raises(bm.BayesmixedError, match="cluster_size too"):
        bm.design_effect(sleepstudy, cv=0.5)
    with pytest.raises(bm.BayesmixedError, match="Name one of the groupings"):
        bm.design_effect(pastes, cluster_size=10)
    with pytest.raises(bm.BayesmixedError, match="Did you mean 'batch'"):
        bm.design_effect(pastes, "bach")
    with pytest.raises(bm.BayesmixedError, match="one value"):
        bm.design_effect(sleepstudy, at={"Days": [1, 2]})
    for clusters in (1, 2.5, [], [10, np.inf], "many"):
        with pytest.raises(bm.BayesmixedError, match="clusters must be"):
            bm.assurance(sleepstudy, 10, clusters, 20)
    for difference in (0, np.nan, "large"):
        with pytest.raises(bm.BayesmixedError, match="difference must be"):
            bm.assurance(sleepstudy, difference, 10, 20)
    for difference in (0.7, -0.5):
        with pytest.raises(bm.BayesmixedError, match="cannot be reached"):
            bm.assurance(risks(-0.5, 0.8), difference, 10, 20)


def test_power_without_clustering_is_that_of_a_t_test():
    """Cohen (1988), table 2.3.5: d = 0.5 with 64 in each group has power 0.80."""
    assert t_power(0.5 * np.sqrt(64 / 2), 126) == pytest.approx(0.80146, abs=1e-5)
    assert t_power(np.array([0.0]), 10) == pytest.approx(0.05)
    assert t_power(-3.0, 20) == pytest.approx(t_power(3.0, 20))
    fit = means([3] * 5, 0.0)
    power = bm.assurance(fit, 1.0, 64, 1).table.loc[64, "mean"]
    assert power == pytest.approx(0.80146, abs=1e-5)


def simulated_power(rng, draw, clusters, trials=20_000):
    """Share of trials in which the t-test of clusters' means is significant."""
    arms = [draw(arm, (trials, clusters)) for arm in (0, 1)]
    return float((stats.ttest_ind(*arms, axis=1).pvalue < 0.05).mean())


def test_power_of_means_against_simulated_trials():
    """Exact for a Gaussian outcome: three Monte Carlo errors of 20,000 trials are 0.011."""
    rng = np.random.default_rng(4)
    fit = means([3] * 5, 0.1)
    report = bm.assurance(fit, -1.2, [4, 8], 15)

    def draw(arm, shape):
        means = 10 - 1.2 * arm + 2 * np.sqrt(0.1) * rng.normal(size=shape)
        return means + 2 * np.sqrt(0.9 / 15) * rng.normal(size=shape)

    for clusters in (4, 8):
        found = simulated_power(rng, draw, clusters)
        assert report.table.loc[clusters, "mean"] == pytest.approx(found, abs=0.011)
    effects = report.draws["design_effect"].to_numpy().ravel()
    np.testing.assert_allclose(effects, 1 + 14 * 0.1, rtol=1e-7)


def test_power_of_proportions_against_simulated_trials():
    """The odds are changed so that the risk falls by 0.1: normal theory is good to 0.015 here."""
    rng = np.random.default_rng(5)
    report = bm.assurance(risks(-0.5, 0.6), -0.1, [15, 30], 25)
    control, treated = report.draws["mean"].to_numpy()[0, 0]
    assert treated - control == pytest.approx(-0.1, abs=1e-9)
    # The shift on the logit scale, found here by bisection over simulated effects.
    z = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    low, high = -2.0, 0.0
    for _ in range(40):
        middle = (low + high) / 2
        fall = expit(-0.5 + middle + 0.6 * z).mean() - expit(-0.5 + 0.6 * z).mean()
        low, high = (middle, high) if fall < -0.1 else (low, middle)
    shift = (low + high) / 2

    def draw(arm, shape):
        p = expit(-0.5 + shift * arm + 0.6 * rng.normal(size=shape))
        return rng.binomial(25, p) / 25

    for clusters in (15, 30):
        found = simulated_power(rng, draw, clusters)
        assert report.table.loc[clusters, "mean"] == pytest.approx(found, abs=0.015)


def test_assurance_is_the_mean_of_the_power():
    iccs = np.array([0.01, 0.05, 0.2])
    report = bm.assurance(means([3] * 5, iccs), 1.0, np.array([10, 5, 20]), 10)
    effect = 1 + 9 * iccs
    for k in (5, 10, 20):
        expected = t_power(1.0 / np.sqrt(2 * 4 * effect / (k * 10)), 2 * (k - 1))
        np.testing.assert_allclose(report.draws["power"].sel(clusters=k)[0], expected, rtol=1e-5)
        assert report.table.loc[k, "mean"] == pytest.approx(expected.mean())
        assert report.table.loc[k, "prob_80"] == pytest.approx((expected >= 0.8).mean())
    assert list(report.table.index) == [5, 10, 20]


def test_counts_are_moved_on_the_log_scale():
    """With a log link the treated arm's shift is log((m + difference) / m)."""
    table = pd.DataFrame({"g": np.repeat(np.arange(10), 6), "y": np.arange(60) % 5})
    design = bm.Model("y ~ 1 + (1 | g)", table, family="poisson").design
    fit = known(design, beta=[[0.7]], sd_g=[[0.5]])
    report = bm.assurance(fit, 1.5, 10, 20)
    m = np.exp(0.7 + 0.125) + np.array([0, 1.5])
    between = m**2 * np.expm1(0.25)
    effect = 1 + 19 * between / (between + m)
    np.testing.assert_allclose(report.draws["mean"][0, 0], m, rtol=1e-7)
    np.testing.assert_allclose(report.draws["design_effect"][0, 0], effect, rtol=1e-7)
    variance = ((between + m) * effect).sum() / 200
    assert report.table.loc[10, "mean"] == pytest.approx(
        float(t_power(1.5 / np.sqrt(variance), 18)), rel=1e-6
    )


def test_pictures_and_words(medpar, tmp_path):
    planned = bm.assurance(medpar, -0.05, [20, 40, 80], 30)
    for report in (bm.design_effect(medpar), planned):
        assert report.save_plot(tmp_path / "picture.png").stat().st_size > 10_000
        assert "equal-tailed" in report.caption
        assert report.references
    ax = planned.plot()
    assert ax.get_xlabel() == "clusters per arm"
    assert "-0.05" in planned.caption
    assert "provnum" in planned.caption
