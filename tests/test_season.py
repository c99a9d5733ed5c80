"""Seasons: waves in formulas, and residual correlation before and after they are taken out."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made import at, from_priors

import bayesmixed as bm


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def influenza() -> pd.DataFrame:
    data = bm.datasets.load("influenza")
    return data.assign(rate=np.log((data["cases"] + 0.5) / data["population_fraction"]))


def test_waves_and_new_rows(influenza):
    formula = "rate ~ harmonic(period, period=13, order=2)"
    model = bm.Model(formula, influenza)
    terms = model.design.predictors["mu"].terms
    assert [t.rpartition("[")[2] for t in terms[1:]] == ["sin1]", "cos1]", "sin2]", "cos2]"]
    new = influenza.iloc[:4].assign(period=[3, 16.0, 3 + 13 * 1e6, 6.25])
    X = model.design.unobserved(new).predictors["mu"].X
    angle = 2 * np.pi * np.array([3, 3, 3, 6.25]) / 13
    for k, (wave, order) in enumerate([(np.sin, 1), (np.cos, 1), (np.sin, 2), (np.cos, 2)]):
        np.testing.assert_allclose(X[:, k + 1], wave(order * angle), atol=1e-9)
    fit = from_priors(model, 3)
    table = bm.predict(fit, new).table
    np.testing.assert_allclose(table["mean"].iloc[:3], table["mean"].iloc[0], rtol=1e-9)


@pytest.mark.parametrize(
    "formula",
    [
        "rate ~ harmonic(period, 13)",
        "rate ~ harmonic(period, period=13) * population_fraction",
        "rate ~ period + (1 + harmonic(period, period=13) | district)",
        "cases ~ harmonic(period % 13, period=13) + offset(log(population_fraction))",
        "rate ~ cc(period, df=4, constraints='center', lower_bound=0, upper_bound=13)",
    ],
)
def test_seasons_stand_wherever_terms_do(influenza, formula):
    model = bm.Model(formula, influenza)
    part = model.design.predictors["mu"]
    later = influenza.assign(period=influenza["period"] + 13 * 10)
    moved = model.design.unobserved(later).predictors["mu"]
    still = [k for k, term in enumerate(part.terms) if "period" in term and term != "period"]
    np.testing.assert_allclose(moved.X[:, still], part.X[:, still], atol=1e-9)
    for one, other in zip(part.random, moved.random, strict=True):
        np.testing.assert_allclose(other.Z, one.Z, atol=1e-9)


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ("harmonic(period)", "a number above 0 is needed"),
        ("harmonic(period, period=0)", "a number above 0 is needed"),
        ("harmonic(period, period='x')", "a number above 0 is needed"),
        ("harmonic(period, period=1e999)", "a number above 0 is needed"),
        ("harmonic(period, period=cases)", "settings are numbers or text"),
        ("harmonic(period, period=13, order=0)", "whole number from 1"),
        ("harmonic(period, 13, 1000)", "takes a whole number to 100"),
        ("harmonic(period, period=13, order=2.5)", "takes a whole number to 100"),
        ("harmonic(period, period=13, order=7)", "follows exactly from"),
        ("harmonic(period, period=13, _state=1)", "takes no such argument"),
        ("harmonic(label, period=13)", "does not hold numbers"),
        ("harmonics(period, period=13)", "Did you mean harmonic"),
    ],
)
def test_bad_seasons_have_their_own_sentence(influenza, term, message):
    data = influenza.assign(label="a")
    data.loc[0, "label"] = "b"
    with pytest.raises(bm.BayesmixedError, match=message):
        bm.Model(f"rate ~ {term}", data)


def test_waves_are_only_for_predictors(influenza):
    with pytest.raises(bm.BayesmixedError):
        bm.Model("harmonic(period, period=13) ~ 1", influenza)


def test_correlation_before_and_after(influenza, reference):
    """nlme's residuals with and without the season, at its estimates: 0.68 and -0.16 before."""
    expected = reference["influenza_gls"]
    after, before = expected["with_season"], expected["without_season"]
    residual = bm.AR1(time="period", within="district")
    model = bm.Model("rate ~ harmonic(period, period=13, order=2)", influenza, residual=residual)
    fit = at(model, beta=list(after["fixef"].values()), phi=after["phi"], sigma=after["sigma"])
    report = bm.season(fit)
    lags = "residual_correlation_lags_0_to_13"
    # R correlates the residuals of ordinary least squares, which waves of whole seasons make
    # almost those at gls's estimates; the raw ones differ by a constant.
    np.testing.assert_allclose(report.table["before"].loc[1:13], before[lags][1:], atol=0.002)
    np.testing.assert_allclose(report.table["after"].loc[1:13], after[lags][1:], atol=0.005)
    assert report.table["before"].loc[13] == pytest.approx(0.68, abs=0.005)
    assert report.table["before"].loc[6] == pytest.approx(-0.16, abs=0.005)
    np.testing.assert_allclose(report.table["mean"].loc[1:3], after["phi"] ** np.arange(1, 4))
    wave = report.draws["season"].sel(time=[1, 14, 2]).to_numpy().ravel()
    assert wave[0] == pytest.approx(wave[1])
    beta = np.array(list(after["fixef"].values())[1:])
    angle = 2 * np.pi * 2 / 13
    waves = [np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)]
    assert wave[2] == pytest.approx(beta @ waves)
    # Printed are the first lag, half and whole seasons (13 and 26), and the largest left.
    shown = list(report.printed.index)
    assert {1, 6, 13, 26} <= set(shown)
    assert len(shown) <= 7
    left = report.table["after"].abs().loc[2:51]
    assert {left.idxmax()} <= set(shown)
    text = str(report)
    assert f"{len(shown)} of 103 rows" in text
    assert len(text.splitlines()) < 20
    assert report.to_html().count("<tr>") > 103 > report._repr_html_().count("<tr>")
    named = bm.season(fit, "harmonic(period, period=13, order=2)").table
    pd.testing.assert_frame_equal(named, report.table)
    with pytest.raises(bm.BayesmixedError, match="Did you mean 'harmonic"):
        bm.season(fit, "harmonic(period, period=12, order=2)")


def test_pictures_of_a_season_show_what_the_table_has(influenza):
    residual = bm.AR1(time="period", within="district")
    model = bm.Model("rate ~ harmonic(period, period=13, order=2)", influenza, residual=residual)
    report = bm.season(from_priors(model, 20))
    ax = report.plot("correlogram")
    lines = {line.get_label(): line for line in ax.lines}
    half = report.table.loc[1:51]
    for column, label in (("before", "before"), ("after", "after"), ("mean", "fitted, 95 % band")):
        np.testing.assert_allclose(lines[label].get_ydata(), half[column])
        np.testing.assert_array_equal(lines[label].get_xdata(), half.index)
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(half["eti95_lb"].min())
    assert band.max() == pytest.approx(half["eti95_ub"].max())
    assert ax.get_xlabel() == "lag (visits)"
    names = {text.get_text() for text in ax.get_legend().get_texts()}
    assert names == {"before", "after", "fitted, 95 % band"}
    ax = report.plot("season")
    wave = report.draws["season"]
    curve = ax.lines[-1]
    np.testing.assert_allclose(curve.get_ydata(), wave.mean(["chain", "draw"]))
    np.testing.assert_array_equal(curve.get_xdata(), np.arange(1, 105))
    low, high = wave.quantile([0.025, 0.975], ["chain", "draw"]).to_numpy()
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (pytest.approx(low.min()), pytest.approx(high.max()))
    assert ax.get_xlabel() == "period"
    assert ax.get_ylabel() == "seasonal part of rate"


@pytest.mark.parametrize(
    ("time", "formula", "lags"),
    [
        # Every fourth week: half a season of 52 is 6.5 visits.
        ("week", "rate ~ harmonic(week, 52)", {1, 6, 13, 26}),
        ("period", "rate ~ cc(period, df=4, constraints='center', lower_bound=0, upper_bound=13)",
         {1, 6, 13, 26}),
        ("label", "rate ~ harmonic(period, period=13)", {1}),
    ],
)  # fmt: skip
def test_printed_lags_are_in_units_of_the_lags(influenza, time, formula, lags):
    codes = pd.factorize(influenza["district"])[0]
    few = influenza[codes < 4].assign(week=lambda d: 4 * d["period"])
    few["label"] = few["period"].map("{:03d}".format)
    model = bm.Model(formula, few, residual=bm.Independent(time=time, within="district"))
    printed = bm.season(from_priors(model, 2)).printed
    assert lags <= set(printed.index)
    assert len(printed) <= len(lags) + 3


def test_seasons_of_groups_count_and_months_may_be_factors(influenza):
    codes = pd.factorize(influenza["district"])[0]
    few = influenza.assign(month=influenza["period"] % 13, half=codes % 2)[codes < 6]
    residual = bm.Independent(time="period", within="district", by="half")
    formula = "rate ~ factor(month) + (1 + harmonic(period, period=13) | district)"
    fit = from_priors(bm.Model(formula, few, residual=residual), 3)
    report = bm.season(fit, ["factor(month)", "harmonic(period, period=13)"])
    u = fit.posterior["u_district"]
    assert list(report.table.index.names) == ["arm", "lag"]
    assert len(report.table) == 2 * 103
    report.plot()
    no_groups = bm.season(fit, "factor(month)").draws["season"]
    gap = (report.draws["season"] - no_groups).sel(time=4).to_numpy()
    angle = 2 * np.pi * 4 / 13
    mean = u.mean("district")
    expected = mean[..., 1] * np.sin(angle) + mean[..., 2] * np.cos(angle)
    np.testing.assert_allclose(gap, expected, atol=1e-9)
    with pytest.raises(bm.BayesmixedError, match="none of"):
        bm.season(from_priors(bm.Model("rate ~ 1", few), 3))
    flat = bm.Model("rate ~ period", few, residual=bm.Independent(time="period", within="district"))
    with pytest.raises(bm.BayesmixedError, match="No term of the model is a season"):
        bm.season(from_priors(flat, 3))


def test_semivariogram_is_half_the_mean_square(influenza):
    """Against all pairs by hand, at irregular times."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"id": np.repeat(range(8), 4), "y": rng.normal(size=32)})
    frame["t"] = np.concatenate([np.sort(rng.choice(10, 4, replace=False)) for _ in range(8)]) / 2
    model = bm.Model("y ~ 1", frame, residual=bm.Exponential(time="t", within="id"))
    fit = at(model, beta=0.2, sigma=1.3, range=1.0)
    ax = bm.residual_correlation(fit).plot("semivariogram")
    r = (frame["y"].to_numpy() - 0.2) / 1.3
    pairs = [
        (abs(frame["t"][i] - frame["t"][j]), (r[i] - r[j]) ** 2 / 2)
        for i in range(32) for j in range(i + 1, 32) if frame["id"][i] == frame["id"][j]
    ]  # fmt: skip
    by_lag = pd.DataFrame(pairs, columns=["lag", "v"]).groupby("lag")["v"]
    points = dict(np.asarray(ax.collections[-1].get_offsets()).round(6).tolist())
    shown = {k: v for k, v in by_lag.mean().items() if by_lag.size()[k] >= 3}
    for lag, value in shown.items():
        assert points[round(lag, 6)] == pytest.approx(value, abs=1e-5)
