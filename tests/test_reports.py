"""Reports: the numbers against closed forms, and the words, tables and pictures around them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesmixed as bm
from bayesmixed import plots
from bayesmixed.reports._report import interval


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_shares_of_a_random_intercept(pastes):
    """Shares are the variances over their sum, draw by draw."""
    table = bm.variance_components(pastes).table["mean"]
    posterior = pastes.posterior
    variances = {
        "batch": posterior["sd_batch"].to_numpy()[..., 0] ** 2,
        "cask": posterior["sd_cask"].to_numpy()[..., 0] ** 2,
        "residual": posterior["sigma"].to_numpy() ** 2,
    }
    total = sum(variances.values())
    for name, variance in variances.items():
        np.testing.assert_allclose(table[name, "", "share"], (variance / total).mean())
    np.testing.assert_allclose(table.xs("share", level="quantity").sum(), 1)
    # Each variance is printed once.
    for name, variance in variances.items():
        np.testing.assert_allclose(table.xs("variance", level="quantity")[name], [variance.mean()])


def test_variance_with_slopes_is_averaged_over_the_rows(sleepstudy):
    """Johnson (2014): the mean over the rows of z'Gz, here written out for one draw."""
    report = bm.variance_components(sleepstudy)
    one = sleepstudy.posterior.isel(chain=0, draw=0)
    sd, cor = one["sd_Subject"].to_numpy(), one["cor_Subject"].to_numpy()
    Z = sleepstudy.design.predictors["mu"].random[0].Z
    variance = np.mean([z @ (cor * np.outer(sd, sd)) @ z for z in Z])
    share = variance / (variance + float(one["sigma"]) ** 2)
    np.testing.assert_allclose(report.draws["Subject.share"][0, 0], share)
    row = report.table.loc[("Subject", "Intercept, Days", "correlation")]
    assert -1 < row["eti95_lb"] < row["mean"] < row["eti95_ub"] < 1


def test_latent_residual_of_a_yes_no_outcome(medpar):
    table = bm.variance_components(medpar).table
    np.testing.assert_allclose(table.loc[("residual", "", "sd"), "mean"], np.pi / np.sqrt(3))


def test_shrinkage_of_a_gaussian_mean(pastes):
    """Reliability has the closed form n / (n + sigma^2 / tau^2); shrunken values lie between."""
    report = bm.shrinkage(pastes, "cask")
    posterior = pastes.posterior
    ratio = posterior["sigma"].to_numpy() ** 2 / posterior["sd_cask"].to_numpy()[..., 0] ** 2
    np.testing.assert_allclose(report.table["reliability"], (2 / (2 + ratio)).mean(), rtol=1e-6)
    data = bm.datasets.load("pastes")
    first = data.query("batch == 'A' and cask == 'a'")["strength"].mean()
    np.testing.assert_allclose(report.table.loc["A:a", "raw"], first)
    assert list(report.table["n"].unique()) == [2]


def test_reliability_of_an_outer_level_counts_its_subgroups(pastes):
    """Closed form with k subgroups of n rows: k / (k + (s2_inner + s2/n) / s2_outer)."""
    posterior = pastes.posterior
    outer, inner = (posterior[f"sd_{g}"].to_numpy()[..., 0] ** 2 for g in ("batch", "cask"))
    noise = (inner + posterior["sigma"].to_numpy() ** 2 / 2) / 3
    report = bm.shrinkage(pastes, "batch")
    np.testing.assert_allclose(
        report.table["reliability"], (outer / (outer + noise)).mean(), rtol=1e-5
    )
    # Casks of a batch are averaged over, and do not move its estimate.
    level = posterior["beta"].to_numpy()[..., 0] + posterior["u_batch"].to_numpy()[..., 0, 0]
    np.testing.assert_allclose(report.table["shrunken"].iloc[0], level.mean())


def test_reliability_off_the_exponential_family():
    """A lognormal mean has the information of the logarithms: n / (n + sigma^2 / tau^2)."""
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(20), 10)
    data = pd.DataFrame(
        {"g": group, "y": np.exp(rng.normal(size=20)[group] + rng.normal(size=200))}
    )
    fit = bm.Model("y ~ 1 + (1 | g)", data, family="lognormal").fit(
        draws=200, tune=300, chains=2, seed=1, progress=False
    )
    posterior = fit.posterior
    ratio = (posterior["sigma"].to_numpy() / posterior["sd_g"].to_numpy()[..., 0]) ** 2
    table = bm.shrinkage(fit, "g").table
    np.testing.assert_allclose(table["reliability"], (10 / (10 + ratio)).mean(), rtol=1e-4)


def test_rates_per_exposure(fitted):
    formula = "deaths ~ 1 + offset(log(exposure)) + (1 | hospital)"
    table = bm.shrinkage(fitted("hearttransplants", formula, "poisson"), "hospital").table
    data = bm.datasets.load("hearttransplants")
    np.testing.assert_allclose(table["raw"], data["deaths"] / data["exposure"])
    np.testing.assert_allclose(table["exposure"], data["exposure"])
    assert np.corrcoef(table["exposure"], table["reliability"])[0, 1] > 0.9


def test_small_hospitals_are_shrunk_more(medpar):
    table = bm.shrinkage(medpar, "provnum").table
    pull = (table["shrunken"] - table["raw"]).abs()
    small, large = table["n"] <= 5, table["n"] >= 50
    assert pull[small].mean() > 3 * pull[large].mean()
    # With equal case mix more rows mean more reliability.
    assert np.corrcoef(table["n"], table["reliability"])[0, 1] > 0.9
    # The expected deaths in all are the observed ones, up to the priors' pull.
    total = (table["shrunken"] * table["n"]).sum()
    assert abs(total - 513) < 0.02 * 513


def test_proportions_for_trials(fitted):
    fit = fitted("cbpp", "incidence | trials(size) ~ period + (1 | herd)", "binomial")
    table = bm.shrinkage(fit, "herd").table
    data = bm.datasets.load("cbpp").query("herd == '1' or herd == 1")
    np.testing.assert_allclose(table["raw"].iloc[0], data["incidence"].sum() / data["size"].sum())
    assert table["shrunken"].between(0, 1).all()


def test_unknown_group(medpar):
    with pytest.raises(bm.BayesmixedError, match="Did you mean 'provnum'"):
        bm.shrinkage(medpar, "provnumber")


@pytest.mark.parametrize("make", [bm.variance_components, lambda f: bm.shrinkage(f, "provnum")])
def test_every_report_speaks_for_itself(make, medpar, tmp_path):
    report = make(medpar)
    text = str(report)
    assert report.caption in text
    assert "equal-tailed" in report.caption
    assert report.references
    lines = [line for line in text.splitlines() if line[:1].isalnum() or line[:1] == " "]
    assert lines
    page = report.to_html()
    assert "<table" in page
    assert page == report._repr_html_()
    assert r"\toprule" in report.to_latex()
    ax = report.plot()
    assert ax.get_xlabel()
    assert report.save_plot(tmp_path / "picture.png").stat().st_size > 10_000


def test_text_from_the_data_is_escaped(medpar):
    report = bm.shrinkage(medpar, "provnum")
    table = report.table.rename(index={report.table.index[0]: "<script>alert(1)</script>"})
    page = bm.Report(report.title, table, report.draws, "<b>caption</b>").to_html()
    assert "<script>" not in page
    assert "<b>" not in page


def test_trouble_with_convergence_becomes_a_caveat():
    data = bm.datasets.load("dyestuff2")
    fit = bm.Model("Yield ~ 1 + (1 | Batch)", data).fit(
        draws=20, tune=50, chains=2, seed=1, progress=False
    )
    assert not fit.converged
    report = bm.variance_components(fit)
    assert any(caveat.startswith("Convergence: ") for caveat in report.caveats)


def test_two_thousand_groups_are_readable():
    """Labels give way to ranks, and the figure keeps its size."""
    data = bm.datasets.simulate_readmissions(hospitals=2000, sizes=(1, 3), seed=1)
    counts = data.groupby("hospital", observed=True)["readmitted"].agg(["sum", "size"])
    table = counts.rename(columns={"size": "n"}).assign(raw=lambda d: d["sum"] / d["n"])
    table = table.assign(shrunken=0.15, eti95_lb=0.1, eti95_ub=0.2)
    ax = plots.caterpillar(table, "Rate")
    assert not ax.get_yticks().size
    assert ax.figure.get_size_inches()[1] <= 12


@pytest.mark.parametrize(("rows", "printed"), [(100, 100), (101, 40), (7000, 40)])
def test_a_long_table_is_printed_in_part_and_exported_whole(rows, printed):
    table = pd.DataFrame({"value": range(rows)}, index=[f"unit{i}" for i in range(rows)])
    report = bm.Report("Units", table, xr.Dataset(), "One value each.")
    assert str(report).count("unit") == printed
    assert report._repr_html_().count("unit") == printed
    said = f"{printed} of {rows:,} rows; .table has all."
    assert (said in str(report)) == (rows > printed)
    assert report.to_html().count("unit") == rows
    assert report.to_latex().count("unit") == rows


def test_draws_of_any_size_have_an_interval():
    """A risk ratio to a reference that never responds; no warning, which would be an error here."""
    draws = xr.DataArray(np.geomspace(1.0, 1e300, 200).reshape(2, 100), dims=("chain", "draw"))
    found = interval(draws)
    assert np.isfinite(found["eti95_ub"])
    assert found["sd"] == np.inf
