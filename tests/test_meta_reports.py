"""Reports on meta-analyses: subsets of studies, scales, margins, priors; by single analyses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from studies import made

import bayesmixed as bm
from bayesmixed._errors import BayesmixedError, PriorError, UnknownNameError
from bayesmixed.meta._estimates import read
from bayesmixed.meta._subsets import IMPROPER, UNIDENTIFIED, Subsets, all_but_one, first_ones
from bayesmixed.meta._weights import Varying, _parts, linear_weights, weights_of

FLAT = {"mu": bm.Prior("Flat")}


# Subsets of the studies

HARD = {
    "ordinary": ([0.3, -0.4, 1.1, 0.2, 0.5], [0.2, 0.5, 0.4, 0.3, 0.6]),
    "one giant study": ([0.5, -0.2, 0.9, 0.1], [1e-4, 0.4, 0.5, 0.3]),
    "six orders of magnitude": ([1.0, 2.0, 1.5, 0.0, 3.0, 1.2], [1e-3, 1e-2, 0.1, 10, 100, 1000]),
    "effects far from 0": ([1e4, 1e4 + 1, 1e4 - 2, 1e4 + 3], [0.5, 1.0, 0.7, 0.4]),
    "far apart": ([-50.0, 0.0, 80.0, 10.0], [0.01, 0.02, 0.01, 0.05]),
}
PRIORS = [
    bm.Prior("HalfNormal", sigma=1),
    bm.Prior("HalfCauchy", beta=0.5),
    bm.Prior("Uniform", lower=0, upper=5),
    None,
]


@pytest.mark.parametrize("moderated", [False, True])
@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: getattr(prior, "distribution", "none"))
@pytest.mark.parametrize("case", HARD)
def test_subsets_are_single_analyses(case, prior, moderated):
    """All subsets from shared sums, each against the grid of these studies alone.

    The single grid is checked against QUADPACK to 1e-8 in `test_meta.py`; of effects of 1e4 with
    errors of 1 rounding leaves about ten digits.
    """
    y, se = map(np.array, HARD[case])
    data = made(y, se, x=np.linspace(-1, 1, len(y)) ** 3 + 2)
    priors = {"mu": bm.Prior("Normal", mu=0, sigma=2e4)}
    priors |= {"beta": bm.Prior("Normal", mu=0, sigma=3)} if moderated else {}
    priors |= {} if prior is None else {"tau": prior}
    options = {"moderators": "~ x" if moderated else None, "common": prior is None}
    fit = bm.meta_analysis(data, method="grid", draws=5, priors=priors, **options)
    whole, x = bm.grid_posterior(fit), fit.design.predictors["mu"].X.mean(axis=0)
    every, order = np.arange(len(y)), np.argsort(-y, kind="stable")
    kinds = {
        all_but_one: [every, *(every[every != j] for j in every)],
        first_ones(order): [order[: j + 1] for j in every],
    }
    for sums, members in kinds.items():
        subsets = Subsets(whole, sums, x)
        assert set(subsets.problems) == {""}
        for j, some in enumerate(members):
            one = whole.of(some)
            sd = one.effect(x).sd[0]
            for ours, theirs in (
                (subsets.effect.mean[j], one.effect(x).mean[0]),
                (subsets.effect.sd[j], sd),
                (subsets.effect.quantile(0.025)[j], one.effect(x).quantile(0.025)[0]),
            ):
                np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-7 * sd)
            np.testing.assert_allclose(subsets.tau_median[j], one.tau.quantile(0.5), rtol=1e-7)


def test_leave_one_out_given_tau_is_closed_form(trials):
    """With tau held at 0.5596 and a flat mu, inverse-variance means without each trial."""
    tau = 0.5596
    narrow = bm.Prior("Uniform", lower=tau - 1e-5, upper=tau + 1e-5)
    fit = bm.meta_analysis(
        trials, study="trial", method="grid", draws=5, priors=FLAT | {"tau": narrow}
    )
    report = bm.leave_one_out(fit)
    y, w = trials["yi"].to_numpy(), 1 / (trials["vi"].to_numpy() + tau**2)
    left = np.eye(len(y), dtype=bool)
    mean = [np.average(y[~out], weights=w[~out]) for out in left]
    sd = [w[~out].sum() ** -0.5 for out in left]
    np.testing.assert_allclose(report.table["mean"].iloc[1:], mean, atol=1e-9)
    np.testing.assert_allclose(report.table["sd"].iloc[1:], sd, atol=1e-9)
    assert list(report.table.index[1:]) == trials["trial"].astype(str).to_list()


def test_draws_of_subsets_are_those_of_the_table(grid_fit):
    """1,000 stratified draws: their means within a tenth of what independent ones would miss."""
    report = bm.leave_one_out(grid_fit)
    draws = report.draws["mu"]
    assert draws.dims == ("chain", "draw", "left out")
    found = draws.mean(["chain", "draw"]).to_numpy()
    sd = report.table["sd"].to_numpy()
    assert (np.abs(found - report.table["mean"]) < 0.4 * sd / np.sqrt(1000)).all()
    np.testing.assert_allclose(draws.std(["chain", "draw"]), sd, rtol=0.05)


def test_five_hundred_studies_are_quick_and_drawn(tmp_path):
    """No sampling: measured 0.6 s, where a grid and draws for each study took 20 s."""
    rng = np.random.default_rng(5)
    se = rng.uniform(0.05, 1, 500)
    y = rng.normal(0.3, 0.2, 500) + rng.normal(0, se)
    fit = bm.meta_analysis(made(y, se), method="grid", measure="OR", draws=5)
    report = bm.leave_one_out(fit)
    whole = bm.grid_posterior(fit)
    for study in (0, 250, 499):
        one = whole.of(np.flatnonzero(np.arange(500) != study)).effect()
        row = report.table.loc[str(study)]
        np.testing.assert_allclose([row["mean"], row["sd"]], [one.mean[0], one.sd[0]], rtol=1e-9)
    ax = report.plot()
    assert not ax.get_yticklabels()
    assert "501 rows" in ax.get_ylabel()
    assert "odds ratio" in ax.get_xlabel()
    assert report.save_plot(tmp_path / "many.png").stat().st_size > 10_000


def test_rows_without_a_posterior_are_empty_and_say_why():
    data = made([0.1, 0.5, -0.3], [0.2, 0.3, 0.4], x=[0.0, 0.0, 1.0])
    flat = FLAT | {"tau": bm.Prior("HalfFlat")}
    fit = bm.meta_analysis(data, method="grid", draws=5, priors=flat, measure="OR")
    report = bm.leave_one_out(fit)
    assert np.isfinite(report.table.loc["(none)", ["median", "ratio", "tau_median"]]).all()
    assert report.table.iloc[1:].isna().all(axis=None)
    assert any("Nothing in 3 rows (0, 1, 2)" in c and IMPROPER in c for c in report.caveats)
    assert any("too heavy" in c for c in report.caveats)
    report = bm.cumulative_analysis(fit, [1, 2, 3])
    assert report.table["median"].notna().to_list() == [False, False, True]
    report.plot()
    assert "HalfNormal" in str(report)
    # Without study 2 nothing tells of its covariate.
    fit = bm.meta_analysis(
        data, method="grid", draws=5, moderators="~ x",
        priors={"mu": bm.Prior("Flat"), "beta": bm.Prior("Flat")},
    )  # fmt: skip
    report = bm.leave_one_out(fit)
    assert report.table["mean"].notna().to_list() == [True, True, True, False]
    assert any("Nothing in 1 row (2)" in c and UNIDENTIFIED in c for c in report.caveats)


def test_cumulative_analysis_starts_with_the_first_study(trials, grid_fit):
    """One study and proper priors: its effect has sd sqrt(v + tau^2) over the prior of tau."""
    table = bm.cumulative_analysis(grid_fit, trials["year"]).table
    assert len(table) == len(trials)
    assert table.index[0] == "1 (1948)"
    tau = np.linspace(1e-6, 5, 200_001)
    variance = trials["vi"].iloc[0] + tau**2
    y = trials["yi"].iloc[0]
    weight = np.exp(-2 * tau**2 - 0.5 * y**2 / (variance + 4)) / np.sqrt(variance + 4)
    mean = 4 / (variance + 4) * y
    np.testing.assert_allclose(table["mean"].iloc[0], weight @ mean / weight.sum(), rtol=1e-5)


# Weights


def test_weights_of_three_levels_are_metafors():
    """metafor 3.8.1, weights(rma.mv(yi, vi, random=~1|district/school, sigma2=c(0.07, 0.03)),
    type="rowsum"), in hundredths; rows 1, 2, 10, 30 and 56."""
    data = bm.datasets.load("konstantopoulos2011")
    every = np.ones(len(data))
    varying = [
        Varying(pd.factorize(data["district"])[0], every, np.sqrt([0.07])),
        Varying(np.arange(len(data)), every, np.sqrt([0.03])),
    ]
    parts = _parts(len(data), varying)
    assert len(parts) == data["district"].nunique()
    v = data["vi"].to_numpy()[None]
    found = linear_weights(every[:, None], np.ones(1), np.zeros(1), v, varying, parts)
    expected = [0.01854277, 0.01854277, 0.02090496, 0.01078417, 0.02122369]
    np.testing.assert_allclose(found[[0, 1, 9, 29, 55]], expected, atol=1e-8)
    np.testing.assert_allclose(found.sum(), 1)


def test_weights_of_counts_are_shares_of_information():
    """Each study with its own baseline and a common log odds ratio: 1 / v_i over their sum."""
    p = np.array([[0.3, 0.2], [0.1, 0.15], [0.05, 0.5]])
    n = np.array([[50, 60], [200, 180], [9, 8]])
    variance = (1 / (n * p * (1 - p))).ravel()
    treat = np.tile([0.5, -0.5], 3)
    X = np.column_stack([np.repeat(np.eye(3), 2, axis=0), treat])
    rows = linear_weights(X, np.eye(4)[3], np.zeros(4), variance[None], [], _parts(6, []))
    share = 1 / variance.reshape(3, 2).sum(axis=1)
    np.testing.assert_allclose((rows * treat).reshape(3, 2).sum(axis=1), share / share.sum())


def test_weights_of_draws_are_those_of_the_grid(grid_fit):
    """Averages over 4,000 draws of tau: a weight's posterior sd is below 0.02."""
    exact = bm.study_effects(grid_fit).table["weight"]
    drawn = weights_of(replace(read(grid_fit), exact=None))
    np.testing.assert_allclose(drawn, exact, atol=4 * 0.02 / np.sqrt(4000))


# Forest plots

FOREST = {
    "ratios": ("RR", 1.0, "risk ratio", "0.41 [ 0.13, 1.26] ", "0.49 [ 0.34, 0.71]"),
    "differences": ("RD", 0.1, "effect", "-0.089 [-0.201,  0.023] ", None),
    "large units": ("MD", 100.0, "effect", " -88.9 [-200.8,   22.9] ", None),
}


@pytest.mark.parametrize("case", FOREST)
def test_forest_plots_print_estimates_in_columns(case, trials):
    measure, unit, head, first, pooled = FOREST[case]
    data = trials.assign(measure=measure, yi=unit * trials["yi"], sei=unit * trials["sei"])
    fit = bm.meta_analysis(data, se="sei", study="trial", method="grid", seed=1)
    ax = bm.pooled_effects(fit).plot()
    texts = [t.get_text() for t in ax.texts]
    assert head in texts[0]
    assert texts[0].endswith("weight")
    assert texts[1].startswith(first)
    assert len({len(text) for text in texts[1:14]}) == 1
    if pooled:
        assert texts[14] == pooled


# The scale of ratios


def test_every_table_has_ratios(trials, grid_fit):
    for report in (
        bm.leave_one_out(grid_fit),
        bm.cumulative_analysis(grid_fit, trials["year"]),
        bm.prior_robustness(grid_fit),
        bm.study_effects(grid_fit),
    ):
        table = report.table
        np.testing.assert_allclose(np.log(table["ratio"]), table["median"])
        np.testing.assert_allclose(np.log(table["ratio_lb"]), table["eti95_lb"])
        np.testing.assert_allclose(np.log(table["ratio_ub"]), table["eti95_ub"])
        assert "risk ratio" in report.caption
        ax = report.plot()
        assert "risk ratio" in ax.get_xlabel()
        ticks = [float(t.get_text()) for t in ax.get_xticklabels()]
        np.testing.assert_allclose(np.log(ticks), ax.get_xticks(), atol=1e-5)
        assert len(ticks) >= 3
    studies = bm.study_effects(grid_fit).table
    cases, n1, others, n2 = (
        trials["tpos"], trials["tpos"] + trials["tneg"], trials["cpos"],
        trials["cpos"] + trials["cneg"],
    )  # fmt: skip
    np.testing.assert_allclose(studies["raw_ratio"], (cases / n1) / (others / n2))
    robust = bm.prior_robustness(grid_fit).table
    np.testing.assert_allclose(np.log(robust["new_ratio_ub"]), robust["new_ub"])
    assert "risk ratio" in bm.pooled_effects(grid_fit).plot("funnel").get_xlabel()


def test_differences_have_no_ratios(trials):
    fit = bm.meta_analysis(trials[["trial", "yi", "sei"]], study="trial", method="grid", draws=5)
    for report in (bm.leave_one_out(fit), bm.prior_robustness(fit), bm.study_effects(fit)):
        assert not any("ratio" in c for c in report.table.columns)
        assert "ratio" not in report.plot().get_xlabel()


def test_margins_on_both_sides_and_both_scales(trials, grid_fit):
    table = bm.pooled_effects(grid_fit, (0.5, 0.9), "ratio").table["mean"]
    exact = bm.grid_posterior(grid_fit)
    for what, of in (("risk ratio", exact.effect()), ("risk ratio, new study", exact.prediction())):
        low, high = of.cdf(np.log(0.5))[0], of.cdf(np.log(0.9))[0]
        np.testing.assert_allclose(table[f"P({what} < 0.5)"], low, atol=1e-12)
        np.testing.assert_allclose(table[f"P(0.5 < {what} < 0.9)"], high - low, atol=1e-12)
        np.testing.assert_allclose(table[f"P({what} > 0.9)"], 1 - high, atol=1e-12)
    same = bm.pooled_effects(grid_fit, (np.log(0.5), np.log(0.9))).table["mean"]
    np.testing.assert_allclose(same["P(-0.693 < mu < -0.105)"], table["P(0.5 < risk ratio < 0.9)"])
    above = bm.pooled_effects(grid_fit, 0.8, margin_scale="ratio").table
    assert "P(risk ratio > 0.8)" in above.index
    for bad, match in (((0.9, 0.5), "lower one"), ((1, 2, 3), "finite"), (0, "above 0")):
        with pytest.raises(BayesmixedError, match=match):
            bm.pooled_effects(grid_fit, bad, "ratio")
    with pytest.raises(BayesmixedError, match="scale of margins"):
        bm.pooled_effects(grid_fit, 1, "odds")
    plain = bm.meta_analysis(trials[["trial", "yi", "sei"]], study="trial", method="grid", draws=5)
    with pytest.raises(BayesmixedError, match="not known to be logarithms of ratios"):
        bm.pooled_effects(plain, 0.8, "ratio")


# Priors of the heterogeneity


def test_robustness_in_units_and_at_fixed_scales(trials, grid_fit):
    table = bm.prior_robustness(grid_fit, scales=[0.3], outcome="pain").table
    assert list(table.index) == [
        "HalfNormal(sigma=0.5), of the fit", "HalfNormal(sigma=1), U/2",
        "HalfCauchy(beta=0.5), U/4", "Uniform(lower=0, upper=2), U", "HalfNormal(sigma=0.3)",
        "HalfCauchy(beta=0.3)", "Uniform(lower=0, upper=3)", "Turner et al., pain",
    ]  # fmt: skip
    again = bm.prior_robustness(grid_fit, {"turner": bm.turner_prior("pain")}).table
    pd.testing.assert_series_equal(
        table.loc["Turner et al., pain"], again.loc["turner"], check_names=False
    )
    report = bm.prior_robustness(grid_fit)
    assert "U, the unit-information sd: 2." in report.caption
    # In units of its own a mean difference has no fixed scales, and U is what its sizes say.
    plain = trials.assign(measure="MD")
    own = bm.meta_analysis(plain, study="trial", method="grid", draws=5)
    names = list(bm.prior_robustness(own).table.index)
    unit = own.posterior.attrs["unit_sd"]
    assert names[1:] == [
        f"HalfNormal(sigma={unit / 2:.4g}), U/2", f"HalfCauchy(beta={unit / 4:.4g}), U/4",
        f"Uniform(lower=0, upper={unit:.4g}), U",
    ]  # fmt: skip
    with pytest.raises(BayesmixedError, match="no empirical prior for effects of this kind"):
        bm.prior_robustness(own, outcome="pain")


def test_an_improper_row_does_not_cost_the_others():
    fit = bm.meta_analysis(
        made([0.1, 0.5], [0.2, 0.3]), method="grid", draws=5, measure="OR", priors=FLAT
    )
    report = bm.prior_robustness(fit, {"flat": bm.Prior("HalfFlat"), "half": PRIORS[0]})
    assert report.table.loc["flat"].isna().all()
    assert report.table.loc["half"].notna().all()
    assert any(c.startswith("flat: ") for c in report.caveats)
    with pytest.raises(PriorError, match="scipy"):
        bm.prior_robustness(fit, {"bad": 3})


RATINGS = made([0.31, 0.02, 0.62, -0.11, 0.45], [0.2, 0.25, 0.3, 0.2, 0.15], measure="SMD")


def test_empirical_priors_are_priors_for_both_methods():
    """8,000 draws by NUTS against the grid: four Monte Carlo errors."""
    priors = {"tau": bm.rhodes_prior("mental health")}
    exact = bm.grid_posterior(bm.meta_analysis(RATINGS, method="grid", draws=5, priors=priors))
    sampled = bm.meta_analysis(RATINGS, priors=priors, seed=1, draws=2000, progress=False)
    assert sampled.converged, str(sampled.convergence)
    table = sampled.summary()
    for name, mean in (("beta[Intercept]", exact.effect().mean[0]), ("sd_study", exact.tau.mean)):
        row = table.loc[name]
        assert abs(row["mean"] - mean) < 4 * row["mcse_mean"]
    report = bm.prior_robustness(sampled, outcome="mental health")
    assert report.table.index[-1] == "Uniform(lower=0, upper=10)"  # Rhodes et al. is the fit's own
    assert report.table.index[0].startswith("LogStudentT")


# bayesmeta 3.x, TurnerEtAlPrior and RhodesEtAlPrior: location and scale for tau.
PRINTED = {
    ("turner", None, "pharmacological vs placebo"): (-1.28, 0.87),
    ("turner", "adverse events", "non-pharmacological vs placebo"): (-1.05, 0.855),
    ("turner", "mental health indicators", "pharmacological vs pharmacological"): (-1.175, 0.80),
    ("rhodes", None, "pharmacological vs placebo"): (-1.72, 1.295),
    ("rhodes", "biological markers", "pharmacological vs pharmacological"): (-1.84, 1.39),
    ("rhodes", "mental health", "non-pharmacological"): (-1.925, 0.965),
}


@pytest.mark.parametrize("case", PRINTED, ids=str)
def test_empirical_priors_are_bayesmetas(case):
    kind, outcome, comparison = case
    prior = {"turner": bm.turner_prior, "rhodes": bm.rhodes_prior}[kind](outcome, comparison)
    values = dict(prior.parameters)
    np.testing.assert_allclose([values["mu"], values["sigma"]], PRINTED[case], atol=1e-12)


@pytest.mark.parametrize("area", ["other", "respiratory", "cancer"])
def test_rhodes_tables_are_one_model_without_interactions(area):
    """Differences between comparisons, and between areas, are the same for all outcomes.

    But for rounding and the two numbers that `rhodes_prior` calls misprints; the first and the last
    outcomes of bayesmeta's tables, a further check of what was typed, stand below.
    """
    outcomes = ["obstetric outcomes", "biological markers", "subjective outcomes"]
    comparisons = [
        "pharmacological vs placebo", "pharmacological vs pharmacological", "non-pharmacological",
    ]  # fmt: skip
    located = np.array(
        [[-2 * dict(bm.rhodes_prior(o, c, area).parameters)["mu"] for c in comparisons]
         for o in outcomes]
    )  # fmt: skip
    other = np.array(
        [[-2 * dict(bm.rhodes_prior(o, c).parameters)["mu"] for c in comparisons] for o in outcomes]
    )
    assert np.ptp(located - located[:, :1], axis=0).max() < 0.025
    assert np.ptp(located - other) < 0.025
    printed = {"other": (4.13, 2.62), "respiratory": (6.03, 4.52), "cancer": (1.57, 0.06)}[area]
    np.testing.assert_allclose([located[0, 0], located[-1, -1]], printed)
    with pytest.raises(UnknownNameError, match="medical area"):
        bm.rhodes_prior("mental health", area="surgery")


@pytest.mark.parametrize(
    ("prior", "square"),
    [
        (bm.Prior("LogNormal", mu=-2.56, sigma=1.74), stats.lognorm(1.74, scale=np.exp(-2.56))),
        (bm.Prior("LogStudentT", nu=5, mu=-3.44, sigma=2.59), None),
        (bm.Prior("Exponential", lam=3), stats.expon(scale=1 / 3)),
        (bm.Prior("Exponential", scale=0.4), stats.expon(scale=0.4)),
        (bm.Prior("Weibull", alpha=1.5, beta=0.3), stats.weibull_min(1.5, scale=0.3)),
    ],
    ids=lambda value: str(value) if isinstance(value, bm.Prior) else "",
)
def test_priors_of_the_variance(prior, square):
    """The density of tau is that of tau2 times 2 tau."""
    tau = np.array([0.05, 0.3, 0.9])
    if square is None:
        log = np.log(tau**2)
        expected = stats.t(5, -3.44, 2.59).logpdf(log) - log + np.log(2 * tau)
    else:
        expected = square.logpdf(tau**2) + np.log(2 * tau)
    fit = bm.meta_analysis(RATINGS, method="grid", draws=5, priors={"tau2": prior})
    np.testing.assert_allclose(bm.grid_posterior(fit).prior.logpdf(tau), expected)


def test_priors_of_the_variance_without_a_name_are_refused():
    for bad in (bm.Prior("InverseGamma", alpha=1, beta=1), bm.Prior("HalfFlat")):
        with pytest.raises(PriorError, match="prior of tau2 may be"):
            bm.meta_analysis(RATINGS, method="grid", priors={"tau2": bad})
