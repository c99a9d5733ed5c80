"""Standardised contrasts, means and slopes against closed forms, simulation and sums by hand."""

from __future__ import annotations

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats
from scipy.special import expit, logit

import bayesmixed as bm
from bayesmixed.fit import Fit
from bayesmixed.linpred import covariance
from bayesmixed.reports import _contrasts

RESPIRATORY = (
    "respiratory",
    "outcome ~ treat + sex + age + baseline + factor(center) + (1 | center:id)",
    "bernoulli",
)
CBPP = ("cbpp", "incidence | trials(size) ~ period + (1 | herd)", "binomial")
HEART = ("hearttransplants", "deaths ~ 1 + offset(log(exposure)) + (1 | hospital)", "poisson")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def _fit(formula: str, data: pd.DataFrame, family: str = "gaussian", **more: object) -> Fit:
    model = bm.Model(formula, data, family=family, **more)
    return model.fit(draws=100, tune=200, chains=2, seed=1, progress=False)


@pytest.fixture(scope="module")
def simulated() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    group, x = np.repeat(np.arange(25), 8), rng.normal(size=200)
    arm = np.where(rng.random(200) < 0.5, "new", "control")
    u = rng.normal(size=(25, 2)) * [1.0, 0.5]
    eta = 0.3 + 0.6 * x + 0.5 * (arm == "new") + u[group, 0] + u[group, 1] * x
    latent = eta + rng.normal(size=200)
    grade = pd.Categorical.from_codes(
        np.digitize(latent, [-1, 1]), ["low", "middle", "high"], ordered=True
    )
    return pd.DataFrame(
        {"g": group, "x": x, "arm": arm, "y": (latent > 0).astype(int), "z": latent, "grade": grade}
    )


@pytest.fixture(scope="module")
def probit(simulated) -> Fit:
    return _fit("y ~ x + arm + (x | g)", simulated, "bernoulli", link="probit")


@pytest.fixture(scope="module")
def crossed(simulated) -> Fit:
    return _fit("z ~ x * arm + (1 | g)", simulated)


@pytest.fixture(scope="module")
def ordinal(simulated) -> Fit:
    return _fit("grade ~ x + arm + (1 | g)", simulated, "ordinal")


@pytest.fixture(scope="module")
def toenail(fitted) -> Fit:
    """Some of the draws, with the verdict on all of them."""
    fit = fitted("toenail", "severe ~ treatment * time + (1 | patientID)", "bernoulli")
    thin = {name: fit.tree[name].to_dataset() for name in ("posterior", "sample_stats")}
    tree = {name: part.isel(draw=slice(None, None, 20)) for name, part in thin.items()}
    return replace(fit, tree=xr.DataTree.from_dict(tree))


# Gaussian outcomes ------------------------------------------------------------------------------


def test_a_gaussian_effect_is_the_coefficient(sleepstudy):
    """For new and average subjects beta; for those in the data plus their slopes' mean."""
    draws = bm.effects(sleepstudy, "Days").draws["mean difference"].sel(contrast="+1")
    posterior = sleepstudy.posterior
    beta = posterior["beta"].sel(term="Days").to_numpy()
    own = posterior["u_Subject"].sel(Subject_effect="Days").mean("Subject").to_numpy()
    np.testing.assert_allclose(draws.sel(population="average"), beta, rtol=1e-9)
    np.testing.assert_allclose(draws.sel(population="new"), beta, rtol=1e-6)
    np.testing.assert_allclose(draws.sel(population="data"), beta + own, rtol=1e-9)


def test_gaussian_means_are_combinations_of_coefficients(sleepstudy):
    report = bm.means(sleepstudy, at={"Days": [0, 4.5]})
    beta = sleepstudy.posterior["beta"].to_numpy()
    exact = beta @ np.array([[1.0, 1.0], [0.0, 4.5]])
    found = report.draws["mean"].sel(population="new").transpose("chain", "draw", "Days")
    np.testing.assert_allclose(found, exact, rtol=1e-7)
    one = report.table.loc[(4.5, "average")]
    low, high = np.quantile(exact[..., 1], [0.025, 0.975])
    np.testing.assert_allclose(
        one[["mean", "sd", "eti95_lb", "eti95_ub"]],
        [exact[..., 1].mean(), exact[..., 1].std(), low, high],
        rtol=1e-9,
    )


def test_a_gaussian_slope_is_the_coefficient(sleepstudy):
    """The central difference of a straight line is exact up to rounding and quadrature."""
    draws = bm.slopes(sleepstudy, "Days", population="new").draws["slope"].squeeze()
    beta = sleepstudy.posterior["beta"].sel(term="Days").to_numpy()
    np.testing.assert_allclose(draws, beta, atol=1e-5)


def test_a_difference_of_differences_is_the_interaction(crossed):
    report = bm.effects(crossed, "arm", at={"x": [-1, 1]}, interaction=True, population="new")
    draws = report.draws["difference of mean differences"].sel(x="1 vs -1").squeeze()
    inter = crossed.posterior["beta"].to_numpy()[..., -1]
    np.testing.assert_allclose(draws, 2 * inter, atol=1e-6)
    slopes = bm.slopes(crossed, "x", by="arm", interaction=True, population="average")
    found = slopes.draws["difference of slopes"].sel(arm="new vs control").squeeze()
    np.testing.assert_allclose(found, inter, atol=1e-8)


def test_least_squares_means_come_from_a_balanced_table(crossed):
    """As emmeans has them: the covariate at its mean, whatever its distribution in the data."""
    grid = pd.DataFrame({"x": [0.25], "arm": ["control"], "g": [0]})
    found = bm.means(crossed, "arm", over=grid, population="average").draws["mean"]
    beta = crossed.posterior["beta"].to_numpy()
    weights = {"control": [1, 0.25, 0, 0], "new": [1, 0.25, 1, 0.25]}
    assert list(crossed.posterior["term"].to_numpy()) == [
        "Intercept",
        "x",
        "arm[T.new]",
        "x:arm[T.new]",
    ]
    for arm, combination in weights.items():
        exact = beta @ np.array(combination)
        np.testing.assert_allclose(found.sel(arm=arm).squeeze(), exact, rtol=1e-9)


# Probabilities ----------------------------------------------------------------------------------


def test_new_groups_of_a_probit_have_a_closed_form(probit):
    """Mean over the rows of Phi(eta / sqrt(1 + z'Gz)), to 1e-8."""
    predictor = probit.design.predictors["mu"]
    G, z = covariance(probit, predictor.random[0]), predictor.random[0].Z
    spread = np.sqrt(1 + np.einsum("cdij,ni,nj->cdn", G, z, z))
    beta = probit.posterior["beta"].to_numpy()
    exact = {}
    for arm in ("control", "new"):
        X = np.column_stack([predictor.X[:, :2], np.full(len(z), float(arm == "new"))])
        exact[arm] = stats.norm.cdf(beta @ X.T / spread).mean(axis=-1)
    report = bm.effects(probit, "arm", population="new")
    for name, value in {
        "risk difference": exact["new"] - exact["control"],
        "risk ratio": exact["new"] / exact["control"],
        "odds ratio": exact["new"]
        / (1 - exact["new"])
        / (exact["control"] / (1 - exact["control"])),
        "number needed to treat": 1 / (exact["new"] - exact["control"]),
    }.items():
        np.testing.assert_allclose(report.draws[name].squeeze(), value, rtol=1e-5, atol=1e-8)


def test_new_hospitals_by_simulation(medpar):
    """One draw's risk difference for 200,000 new hospitals, within four standard errors."""
    at = {"chain": 1, "draw": 7}
    one = medpar.posterior.isel(at)
    beta, sd = one["beta"].to_numpy(), float(one["sd_provnum"][0])
    frame = medpar.design.table.frame
    u = sd * np.random.default_rng(1).normal(size=200_000)
    difference = np.zeros(len(u))
    for kind, share in frame["type"].value_counts(normalize=True).items():
        base = beta[0] + beta[2] * (kind == 2) + beta[3] * (kind == 3)
        difference += share * (expit(base + beta[1] + u) - expit(base + u))
    found = bm.effects(medpar, "age80", population="new").draws["risk difference"]
    error = difference.std() / np.sqrt(len(u))
    assert float(found.isel(at).squeeze()) == pytest.approx(difference.mean(), abs=4 * error)


def test_the_patients_in_the_data_by_hand(medpar):
    """Every row with each type in turn, in its own hospital."""
    posterior, design = medpar.posterior, medpar.design.predictors["mu"]
    u = posterior["u_provnum"].to_numpy()[..., 0][..., design.random[0].groups.index]
    means = {}
    for kind in (1, 2, 3):
        X = design.X.copy()
        X[:, 2], X[:, 3] = kind == 2, kind == 3
        means[kind] = expit(posterior["beta"].to_numpy() @ X.T + u).mean(axis=-1)
    found = bm.means(medpar, "type", population="data").draws["mean"].squeeze()
    report = bm.effects(medpar, "type", "pairwise", population="data")
    assert list(report.table.index.unique("contrast")) == ["2 vs 1", "3 vs 1", "3 vs 2"]
    for kind, exact in means.items():
        np.testing.assert_allclose(found.sel(type=kind), exact, rtol=1e-9)
    np.testing.assert_allclose(
        report.draws["risk ratio"].sel(contrast="3 vs 2").squeeze(), means[3] / means[2], rtol=1e-9
    )
    text = bm.effects(medpar, "factor(type)", (2, 3), population="data")
    pd.testing.assert_frame_equal(text.table, report.table.loc[["3 vs 2"]])


def test_a_conditional_odds_ratio_is_constant(toenail):
    """Of an average patient it is exp(beta), and its change over time exp(6 x interaction)."""
    beta = toenail.posterior["beta"].to_numpy()
    report = bm.effects(toenail, "treatment", at={"time": [0, 6]}, population="average")
    found = report.draws["odds ratio"].sel(time=6).squeeze()
    np.testing.assert_allclose(found, np.exp(beta[..., 1] + 6 * beta[..., 3]), rtol=1e-9)
    change = bm.effects(
        toenail, "treatment", at={"time": [0, 6]}, population="average", interaction=True
    )
    found = change.draws["ratio of odds ratios"].squeeze()
    np.testing.assert_allclose(found, np.exp(6 * beta[..., 3]), rtol=1e-8)
    assert list(change.table.index.unique("time")) == ["6 vs 0"]


def test_an_average_slope_is_the_mean_of_the_derivatives(toenail):
    """d/dx of expit(eta) is beta p (1 - p); over new patients its average on a fine grid."""
    predictor, posterior = toenail.design.predictors["mu"], toenail.posterior
    beta, X = posterior["beta"].to_numpy(), predictor.X
    slope = beta[..., 2, None] + beta[..., 3, None] * X[:, 1]
    p = expit(toenail.eta().to_numpy())
    report = bm.slopes(toenail, "time")
    found = report.draws["slope"]
    exact = (slope * p * (1 - p)).mean(axis=-1)
    np.testing.assert_allclose(found.sel(population="data"), exact, rtol=1e-6)
    z = np.linspace(-9, 9, 2001)
    weight = stats.norm.pdf(z) / stats.norm.pdf(z).sum()
    at = (1, 7)
    q = expit((X @ beta[at])[:, None] + float(posterior["sd_patientID"][at][0]) * z)
    exact = (slope[at] * (q * (1 - q) @ weight)).mean()
    assert float(found.sel(population="new")[at]) == pytest.approx(exact, rel=1e-6)


def test_slopes_at_given_values(toenail):
    beta = toenail.posterior["beta"].to_numpy()
    report = bm.slopes(
        toenail, "time", at={"time": [0, 12], "treatment": "terbinafine"}, population="average"
    )
    for time in (0, 12):
        slope = beta[..., 2] + beta[..., 3]
        p = expit(beta[..., 0] + beta[..., 1] + slope * time)
        found = report.draws["slope"].sel(time=time).squeeze()
        np.testing.assert_allclose(found, slope * p * (1 - p), rtol=1e-6)


def test_rows_count_by_their_trials(fitted):
    fit = fitted(*CBPP)
    predictor, trials = fit.design.predictors["mu"], fit.design.trials
    u = fit.posterior["u_herd"].to_numpy()[..., 0][..., predictor.random[0].groups.index]
    X = np.column_stack([np.ones(len(trials)), *np.zeros((2, len(trials))), np.ones(len(trials))])
    p = expit(fit.posterior["beta"].to_numpy() @ X.T + u)
    found = bm.means(fit, "period", population="data").draws["mean"]
    exact = p @ trials / trials.sum()
    np.testing.assert_allclose(found.isel(period=3).squeeze(), exact, rtol=1e-9)


def test_rates_are_per_unit_of_exposure(fitted):
    fit = fitted(*HEART)
    exposure = bm.datasets.load("hearttransplants")["exposure"].to_numpy()
    report = bm.means(fit)
    own = np.exp(fit.eta().to_numpy()).sum(axis=-1) / exposure.sum()
    np.testing.assert_allclose(report.draws["mean"].sel(population="data"), own, rtol=1e-9)
    sd = fit.posterior["sd_hospital"].to_numpy()[..., 0]
    new = np.exp(fit.posterior["beta"].to_numpy()[..., 0] + sd**2 / 2)
    np.testing.assert_allclose(report.draws["mean"].sel(population="new"), new, rtol=1e-7)
    assert report.title == "Rate of deaths per unit of exposure"


def test_an_ordinal_outcome_by_category(ordinal, simulated):
    fit, one = ordinal, ordinal.posterior.isel(chain=1, draw=5)
    x, z = simulated["x"].to_numpy(), np.linspace(-9, 9, 2001)
    weight = stats.norm.pdf(z) / stats.norm.pdf(z).sum()

    def above(cut: int, arm: float) -> float:
        eta = one["beta"].to_numpy() @ np.array([x, np.full(len(x), arm)])
        spread = float(one["sd_g"][0]) * z - float(one["thresholds"][cut])
        return float((expit(eta[:, None] + spread) @ weight).mean())

    high = bm.effects(fit, "arm", category="high", population="new").draws["risk difference"]
    exact = above(1, 1.0) - above(1, 0.0)
    assert float(high.squeeze()[1, 5]) == pytest.approx(exact, abs=1e-8)
    # The mean category is the sum of the probabilities of passing each cut-point.
    mean = bm.means(fit, "arm", population="new").draws["mean"].sel(arm="new").squeeze()
    assert float(mean[1, 5]) == pytest.approx(above(0, 1.0) + above(1, 1.0), abs=1e-8)
    with pytest.raises(bm.BayesmixedError, match="the lowest category"):
        bm.means(fit, category="low")
    with pytest.raises(bm.BayesmixedError, match="category"):
        bm.means(fit, category="height")


def test_cumulative_odds_ratios(ordinal):
    """Regression of all cut-points' integrated logits at once, each with its own intercept."""
    one = ordinal.posterior.isel(chain=0, draw=3)
    X, z = ordinal.design.predictors["mu"].X, np.linspace(-9, 9, 2001)
    weight = stats.norm.pdf(z) / stats.norm.pdf(z).sum()
    rows = []
    for k, cut in enumerate(one["thresholds"].to_numpy()):
        eta = X @ one["beta"].to_numpy()
        above = expit(eta[:, None] + float(one["sd_g"][0]) * z - cut) @ weight
        rows += [([k == 0, k == 1, *v], p) for v, p in zip(X, logit(above), strict=True)]
    design, linked = (np.array(part, dtype=float) for part in zip(*rows, strict=True))
    exact = np.linalg.lstsq(design, linked, rcond=None)[0][2:]
    report = bm.odds_ratios(ordinal)
    assert report.title.startswith("Cumulative odds ratios")
    found = np.log(report.draws["population_averaged"][0, 3])
    np.testing.assert_allclose(found, exact, atol=1e-7)
    # Higher categories are likelier where the coefficient is above 0.
    np.testing.assert_allclose(
        np.log(report.draws["subject_specific"]), ordinal.posterior["beta"], rtol=1e-12
    )


# Numbers needed to treat ------------------------------------------------------------------------


def _needed(low: float, high: float) -> tuple[pd.Series, tuple[str, ...]]:
    """Table row and words where the risk difference is uniform between two values."""
    difference = xr.DataArray(
        np.linspace(low, high, 4001)[None, :, None, None],
        dims=("chain", "draw", "contrast", "population"),
        coords={"contrast": ["b vs a"], "population": ["new"]},
    )
    found = {_contrasts.NEEDED: 1 / difference}
    row = _contrasts.table(found).loc[("b vs a", _contrasts.NEEDED, "new")]
    return row, _contrasts.unsettled(found)


def test_a_settled_number_needed_turns_the_interval_over():
    row, words = _needed(0.1, 0.2)
    assert row["median"] == pytest.approx(1 / 0.15)
    assert row["eti95_lb"] == pytest.approx(1 / 0.1975)
    assert row["eti95_ub"] == pytest.approx(1 / 0.1025)
    assert words == ()
    assert np.isnan(row["mean"])
    row, words = _needed(-0.2, -0.1)
    assert row["eti95_lb"] < row["median"] < row["eti95_ub"] < 0
    assert words == ()


def test_an_unsettled_number_needed_passes_through_infinity():
    """Altman (1998): the interval has two branches, which a lower and an upper bound cannot say."""
    row, (words,) = _needed(-0.1, 0.3)
    assert row["median"] == pytest.approx(10)
    assert row[["eti95_lb", "eti95_ub"]].isna().all()
    assert "one event more per 3.45" in words
    assert "one fewer per 11.1" in words
    assert "infinity" in words


# Populations and grids --------------------------------------------------------------------------


def test_groups_stay_when_the_column_that_names_them_changes(fitted):
    """Patients are labelled by center and id; at another center they keep their effects."""
    fit = fitted(*RESPIRATORY)
    beta = fit.posterior["beta"].to_numpy()
    eta = fit.eta().to_numpy()
    second = fit.design.table.frame["center"].to_numpy() == 2
    off = eta - beta[..., -1, None] * second
    exact = (expit(off + beta[..., -1, None]) - expit(off)).mean(axis=-1)
    found = bm.effects(fit, "center", population="data").draws["risk difference"].squeeze()
    np.testing.assert_allclose(found, exact, rtol=1e-8)


def test_three_populations_side_by_side(toenail):
    """A large variance: means of probabilities lie nearer 1/2 than that of the average patient."""
    report = bm.effects(toenail, "treatment", at={"time": 12})
    one = report.table.loc[("terbinafine vs itraconazole", "odds ratio")]
    assert list(one.index) == ["average", "data", "new"]
    assert one.loc["average", "median"] < one.loc["new", "median"] < 1
    assert "time = 12" in report.caption
    for population in ("average", "data", "new"):
        alone = bm.effects(toenail, "treatment", at={"time": 12}, population=population).table
        pd.testing.assert_frame_equal(alone, report.table.loc[alone.index])


def test_another_table_is_averaged_over(medpar):
    data = bm.datasets.load("medpar").query("type == 3")
    found = bm.effects(medpar, "age80", over=data, population="average")
    beta = medpar.posterior["beta"].to_numpy()
    base = beta[..., 0] + beta[..., 3]
    exact = expit(base + beta[..., 1]) - expit(base)
    np.testing.assert_allclose(found.draws["risk difference"].squeeze(), exact, rtol=1e-9)
    assert "the table given" in found.caption
    with pytest.raises(bm.BayesmixedError, match='population="new"'):
        bm.effects(medpar, "age80", over=data.assign(provnum="nowhere"))


def test_numbers_move_by_a_step_or_between_values(fitted):
    fit = fitted(*RESPIRATORY)
    step = bm.effects(fit, "age", 10, population="average")
    assert list(step.table.index.unique("contrast")) == ["+10"]
    pair = bm.effects(fit, "age", (20, 60), population="average")
    assert list(pair.table.index.unique("contrast")) == ["60 vs 20"]
    two = bm.effects(fit, "baseline", population="average")
    assert list(two.table.index.unique("contrast")) == ["1 vs 0"]


def test_a_saved_fit_gives_the_same(probit, tmp_path):
    loaded = bm.load(probit.save(tmp_path / "fit.nc"))
    before, after = (bm.effects(f, "arm").table for f in (probit, loaded))
    pd.testing.assert_frame_equal(before, after)


def test_without_groups_there_is_one_population(simulated):
    fit = _fit("y ~ x + arm", simulated, "bernoulli")
    assert list(bm.means(fit, "arm").table.index.unique("population")) == ["data"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: bm.effects(f, "ag"), "There is no predictor"),
        (lambda f: bm.effects(f, "center:id"), "There is no predictor"),
        (lambda f: bm.effects(f, "treat", ("A", "Q")), "level of treat"),
        (lambda f: bm.effects(f, "treat", 1), "has levels"),
        (lambda f: bm.effects(f, "treat", "all"), "'reference' or 'pairwise'"),
        (lambda f: bm.effects(f, "age", "pairwise"), "a step or a pair of numbers"),
        (lambda f: bm.effects(f, "age", 0), "a number other than 0"),
        (lambda f: bm.effects(f, "age", (20, 20)), "two different values"),
        (lambda f: bm.effects(f, "age", (20, np.inf)), "not a finite one"),
        (lambda f: bm.effects(f, "treat", population="all"), "There is no population"),
        (lambda f: bm.effects(f, "treat", by="treat"), "what is contrasted"),
        (lambda f: bm.effects(f, "treat", by="sex", at={"sex": "F"}), "set twice"),
        (lambda f: bm.effects(f, "treat", interaction=True), "one column"),
        (lambda f: bm.effects(f, "treat", category="1"), "not one"),
        (lambda f: bm.means(f, "age"), "say which"),
        (lambda f: bm.means(f, at={"age": []}), "no value"),
        (lambda f: bm.slopes(f, "treat"), "no slope"),
    ],
)
def test_what_cannot_be_asked(call, message, fitted):
    with pytest.raises(bm.BayesmixedError, match=message):
        call(fitted(*RESPIRATORY))


def test_values_of_a_column_in_by_may_be_chosen(fitted):
    fit = fitted(*RESPIRATORY)
    ages = {"age": [20, 40]}
    both = [bm.effects(fit, "treat", by=by, at=ages, population="average") for by in ("age", None)]
    pd.testing.assert_frame_equal(*(report.table for report in both))


def test_the_words_and_the_pictures(fitted, tmp_path):
    fit = fitted(*RESPIRATORY)
    report = bm.effects(fit, "treat")
    for said in ("Probability of outcome", "own other covariates", "equal-tailed", "quadrature"):
        assert said in report.caption
    assert set(report.pictures) == {"risk difference", "risk ratio", "odds ratio"}
    for kind in report.pictures:
        ax = report.plot(kind)
        assert ax.get_xlabel().startswith(kind.capitalize())
        assert ax.get_xscale() == ("linear" if "difference" in kind else "log")
    assert "<table" in report.to_html()
    assert r"\toprule" in report.to_latex()
    curves = bm.means(fit, "treat", at={"age": [20, 30, 40, 50]}, population="new").plot()
    assert curves.get_xlabel() == "age"
    assert {t.get_text() for t in curves.get_legend().get_texts()} == {"A", "P"}
    path = bm.slopes(fit, "age", by="sex").save_plot(tmp_path / "slopes.png")
    assert path.stat().st_size > 10_000
