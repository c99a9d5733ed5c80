"""Trials with repeated visits: means, differences, drop-out; against R and closed forms."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made import at, from_priors
from scipy.stats import norm

import bayesmixed as bm
from bayesmixed.fit import Fit
from bayesmixed.reports._ancova import Ancova
from bayesmixed.reports._delta import Delta
from bayesmixed.reports._gaps import Gaps
from bayesmixed.reports._imputed import arms_of
from bayesmixed.reports._trial import Trial

LOAD = bm.datasets.load
FORMULA = "change ~ factor(week) * arm + baseline * factor(week)"
NAMES = {
    "MAR": "mar",
    "J2R": "jump",
    "CIR": "copy increments",
    "CR": "copy",
    "LMCF": "last mean",
}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def model() -> bm.Model:
    residual = bm.Unstructured(time="week", within="patient")
    # The rows' order must not matter.
    data = LOAD("antidepressant").sample(frac=1, random_state=1)
    return bm.Model(FORMULA, data, residual=residual)


@pytest.fixture(scope="module")
def estimate(model, trial_reference) -> Fit:
    """A fit whose one draw is the REML estimate of nlme's gls."""
    expected = trial_reference["antidepressant_gls"]
    return at(
        model, beta=expected["coef"], sigma=expected["sd"],
        cor_residual=expected["correlation"],
    )  # fmt: skip


def test_means_are_those_of_the_reference_grid(estimate, trial_reference):
    """At gls's estimate, to its printed digits."""
    expected = trial_reference["antidepressant_gls"]
    table = bm.trial_analysis(estimate, "arm", "week", average="grid").table["mean"]
    for arm in ("placebo", "drug"):
        found = table.loc["mean"].xs(arm, level="arm")
        chosen = [k for k, a in enumerate(expected["grid"]["arm"]) if a == arm]
        np.testing.assert_allclose(found, np.array(expected["grid"]["mean"])[chosen], atol=1e-7)
    np.testing.assert_allclose(table.loc["difference"], expected["difference"]["mean"], atol=1e-7)
    # Over patients baseline has another mean, which no difference depends on.
    mine = bm.trial_analysis(estimate, "arm", "week").table["mean"]
    np.testing.assert_allclose(mine.loc["difference"], table.loc["difference"], atol=1e-9)
    patients = LOAD("antidepressant").drop_duplicates("patient")["baseline"].mean()
    slope = estimate.posterior["beta"].sel(term="baseline").item()
    gap = mine.loc["mean"].loc[(1, "drug")] - table.loc["mean"].loc[(1, "drug")]
    assert gap == pytest.approx(slope * (patients - expected["baseline"]), rel=1e-9)


def test_responders_change_and_probabilities(model):
    """From draws of the priors, by hand for one visit."""
    fit = from_priors(model, beta=(-0.5, 0.5))
    report = bm.trial_analysis(
        fit, "arm", "week", reference="drug", baseline="baseline", margin=-1.5, better="lower",
        responder="-0.5 * baseline",
    )  # fmt: skip
    people = LOAD("antidepressant").drop_duplicates("patient")
    beta = fit.posterior["beta"].to_series().unstack("term")
    sd = fit.posterior["sigma"].sel(residual_visit=6).to_series()
    shares, means = {}, {}
    for arm in (0, 1):
        base = people["baseline"].to_numpy()
        mu = (
            beta["Intercept"] + beta["factor(week)[T.6]"] + arm * beta["arm[T.drug]"]
            + arm * beta["factor(week)[T.6]:arm[T.drug]"]
        ).to_numpy()[:, None] + np.outer(
            beta["baseline"] + beta["baseline:factor(week)[T.6]"], base
        )  # fmt: skip
        means[arm] = mu.mean(axis=1)
        shares[arm] = norm.cdf((-0.5 * base - mu) / sd.to_numpy()[:, None]).mean(axis=1)
    table = report.table
    assert table["mean"][("mean", 6, "drug")] == pytest.approx(means[1].mean())
    change = means[0] - people["baseline"].mean()
    assert table["mean"][("change from baseline", 6, "placebo")] == pytest.approx(change.mean())
    assert table["mean"][("responders", 6, "placebo")] == pytest.approx(shares[0].mean())
    at_6 = ("difference", 6, "placebo vs drug")
    assert table["p_better"][at_6] == pytest.approx(np.mean(means[0] - means[1] < 1.5))
    risk = report.draws["risk difference"].sel(week=6, contrast="placebo vs drug")
    np.testing.assert_allclose(risk.to_numpy().ravel(), shares[0] - shares[1], atol=1e-9)
    for kind in report.pictures:
        report.plot(kind)


def test_the_legend_lies_over_no_interval(model):
    report = bm.trial_analysis(from_priors(model), "arm", "week", better="lower")
    ax = report.plot("means")
    figure = ax.get_figure(root=True)
    figure.canvas.draw()
    legend = ax.get_legend().get_window_extent()
    assert legend.y0 >= ax.get_window_extent().y1 - 1
    assert legend.x0 >= 0


def test_baseline_may_be_a_visit():
    """Constrained longitudinal analysis: the baseline is the outcome's first visit."""
    data = LOAD("antidepressant")
    first = data.drop_duplicates("patient").assign(week=0, hamd=lambda d: d["baseline"])
    data = pd.concat([data, first], ignore_index=True)
    data["visit"] = "week " + data["week"].astype(str)
    data["drug"] = (data["arm"] == "drug").astype(int)
    data["later"] = (data["week"] > 0).astype(int)
    residual = bm.AR1(time="week", within="patient")
    model = bm.Model("hamd ~ factor(week) + factor(week):drug", data, residual=residual)
    fit = from_priors(model)
    report = bm.trial_analysis(fit, "drug", "week", baseline=0)
    mean = report.draws["mean"]
    expected = mean.sel(drug=1) - mean.sel(drug=0)
    expected = expected - expected.sel(week=0)
    found = report.draws["difference"].sel(contrast="1 vs 0")
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert report.table["mean"][("change from baseline", 0, "1")] == 0
    assert report.table["p_better"].notna().sum() == 5


def test_columns_that_follow_from_the_visit_go_along():
    data = LOAD("antidepressant").assign(visit=lambda d: "w" + d["week"].astype(str))
    residual = bm.AR1(time="visit", within="patient")
    model = bm.Model("change ~ week * arm + baseline", data, residual=residual)
    fit = from_priors(model)
    a = bm.trial_analysis(fit, "arm", "week").table
    gap = a["mean"][("mean", 6, "drug")] - a["mean"][("mean", 2, "drug")]
    beta = fit.posterior["beta"].mean(["chain", "draw"])
    assert gap == pytest.approx(4 * float(beta.sel(term=["week", "week:arm[T.drug]"]).sum()))
    one, other = (bm.dropout_sensitivity(fit, "arm", t).table for t in ("week", "week"))
    pd.testing.assert_frame_equal(one, other)


def _completed(fit, name):
    gaps = Gaps.of(Trial.of(fit, "arm", "week"))
    y = gaps.y[:, gaps.at].copy()
    y[gaps.missing] = gaps.given([name])[name].mean[0]
    return gaps.trial, y


@pytest.mark.parametrize("name", NAMES)
def test_conditional_means_are_those_of_an_independent_computation(estimate, trial_reference, name):
    """R: matrices patient by patient, then lm; jump to reference as rbmi publishes it."""
    trial, y = _completed(estimate, name)
    people = trial.people
    X = np.column_stack([np.ones(len(people)), people["arm"] == "drug", people["baseline"]])
    found = np.linalg.lstsq(X.astype(float), y)[0][1]
    expected = trial_reference["antidepressant_dropout"]
    assert found == pytest.approx(expected["estimate"][NAMES[name]], abs=1e-6)
    if name == "J2R":
        # rbmi has the drug as its reference level in the printed contrast.
        assert -found == pytest.approx(expected["published"]["conditional_mean"], abs=5e-4)
    (one,) = arms_of(Trial.of(estimate, "arm", "week"), None, ["MAR"], 1)
    np.testing.assert_allclose(y @ one.ancova.weights, found, atol=1e-9)


def test_times_that_differ_between_patients_at_a_visit():
    """Dense normals, patient by patient; a visit that was missed is at the others' median time."""
    data = LOAD("antidepressant")
    data["when"] = data["week"] + np.random.default_rng(4).uniform(0, 0.9, len(data))
    formula = "change ~ factor(week) * arm"
    near = bm.ContinuousAR1(time="when", within="patient")
    fit = at(bm.Model(formula, data, residual=near), phi=0.8, sigma=6.0)
    gaps = Gaps.of(Trial.of(fit, "arm", "week"))
    found = gaps.given(["MAR", "J2R"])
    beta = fit.posterior["beta"].squeeze(drop=True).to_series()

    def mean(arm):
        weeks = beta.filter(regex=r"^factor\(week\)\[T.\d\]$").to_numpy()
        both = beta.filter(regex=r":arm").to_numpy()
        own = beta["Intercept"] + np.append(0, weeks)
        return own + (beta["arm[T.drug]"] + np.append(0, both) if arm == "drug" else 0)

    typical = data.groupby("week")["when"].median()
    people = gaps.trial.people
    for k, j in enumerate(gaps.missing):
        own = data[data["patient"] == people["patient"].iloc[j]].set_index("week")
        times = own["when"].reindex([1, 2, 4, 6]).fillna(typical).to_numpy()
        V = 36 * 0.8 ** abs(np.subtract.outer(times, times))
        y = own["change"].reindex([1, 2, 4, 6]).to_numpy()
        seen, last = np.flatnonzero(np.isfinite(y)), np.flatnonzero(np.isfinite(y)).max()
        mine, reference = mean(own["arm"].iloc[0]), mean("placebo")
        moved = np.where(np.arange(4) > last, reference, mine)
        weights = np.linalg.solve(V[np.ix_(seen, seen)], V[seen, 3])
        for name, m in {"MAR": mine, "J2R": moved}.items():
            expected = m[3] + weights @ (y - m)[seen]
            assert found[name].mean[0, k] == pytest.approx(expected)
            assert found[name].variance[0, k] == pytest.approx(36 - weights @ V[seen, 3])
    counted = bm.AR1(time="when", within="patient")
    fit = at(bm.Model(formula, data, residual=counted), phi=0.8, sigma=6.0)
    with pytest.raises(bm.BayesmixedError, match="counts visits by when, which differs"):
        bm.dropout_sensitivity(fit, "arm", "week")


def test_closed_forms_with_one_covariance(model):
    """Copying the reference's means takes the effect from those who left, and nothing else."""
    fit = from_priors(model)
    names = ["MAR", "J2R", "CIR", "LMCF"]
    (one,) = arms_of(Trial.of(fit, "arm", "week"), None, names, 1)
    gaps = one.gaps
    difference = bm.trial_analysis(fit, "arm", "week").draws["difference"]
    effect = difference.to_numpy().reshape(4, -1).T
    np.testing.assert_allclose(one.model("MAR"), effect[:, -1], atol=1e-9)
    left = Delta.of(gaps.trial, 1.0).moved(gaps, 1) > 0
    share = one.weights[:, left]
    np.testing.assert_allclose(
        one.model("J2R"), effect[:, -1] - share.sum(axis=1) * effect[:, -1], atol=1e-9
    )
    last = gaps.last[gaps.missing[left]]
    gained = effect[:, -1:] - effect[:, last]
    np.testing.assert_allclose(
        one.model("CIR"), effect[:, -1] - (share * gained).sum(axis=1), atol=1e-9
    )
    # Weights are about 1/n of the arm for those who have the drug: all of them sum up to 1.
    arm = one.ancova.weighted(one._shares)[:, gaps.arm == 1]
    np.testing.assert_allclose(arm.sum(axis=1), 1, atol=1e-9)


def test_covariances_by_arm_are_joined_as_carpenter_roger_and_kenward_do():
    """Conditioning in their joint matrix: before leaving own arm's, given that the reference's."""
    residual = bm.Unstructured(time="week", within="patient", by="arm")
    model = bm.Model(FORMULA, LOAD("antidepressant"), residual=residual)
    fit = from_priors(model, 3)
    gaps = Gaps.of(Trial.of(fit, "arm", "week"))
    j = next(k for k, i in enumerate(gaps.missing) if gaps.arm[i] and gaps.last[i] == 1)
    person = gaps.missing[j]
    found = gaps.given(["J2R"])["J2R"]
    posterior = fit.posterior
    sigma = posterior["sigma"].to_numpy()
    names = list(posterior["residual_cell"].to_numpy())
    arms = list(posterior["residual_arm"].to_numpy())
    weeks = gaps.trial.visits
    for s, at_ in enumerate([(0, 0), (0, 1), (0, 2)]):
        V = {}
        for arm in ("drug", "placebo"):
            sd = np.array([sigma[at_][names.index(f"{arm},{w}")] for w in weeks])
            V[arm] = sd[:, None] * posterior["cor_residual"].to_numpy()[at_][arms.index(arm)] * sd
        T, R = V["drug"], V["placebo"]
        b, a = slice(0, 2), slice(2, 4)
        ratio = R[a, b] @ np.linalg.inv(R[b, b])
        S11, S21 = T[b, b], ratio @ T[b, b]
        S22 = R[a, a] - ratio @ (R[b, b] - T[b, b]) @ ratio.T
        weights = (S21 @ np.linalg.inv(S11))[-1]
        mean = {
            arm: [gaps.trial.predictor(fit, w, arm).centre["mu"][at_][person] for w in weeks]
            for arm in ("drug", "placebo")
        }
        off = gaps.y[person, :2] - mean["drug"][:2]
        assert found.mean[s, j] == pytest.approx(mean["placebo"][-1] + weights @ off)
        left = (S22 - S21 @ np.linalg.inv(S11) @ S21.T)[-1, -1]
        assert found.variance[s, j] == pytest.approx(left)


def test_random_intercepts_impute_as_compound_symmetry_does():
    sd_u, sigma, data = 4.0, 3.0, LOAD("antidepressant")
    total = (sd_u**2 + sigma**2) ** 0.5
    formula = "change ~ factor(week) * arm + baseline"
    beta = [1.0, -1, -2, -3, 0, -0.2, -1, -2, -3]
    effects = at(
        bm.Model(formula + " + (1 | patient)", data), beta=beta, sd_patient=sd_u, sigma=sigma
    )
    structure = bm.CompoundSymmetry(time="week", within="patient")
    symmetric = at(
        bm.Model(formula, data, residual=structure), beta=beta, sigma=total, rho=(sd_u / total) ** 2
    )
    for name in ("MAR", "CR"):
        one, other = (
            Gaps.of(Trial.of(f, "arm", "week")).given([name])[name] for f in (effects, symmetric)
        )
        np.testing.assert_allclose(one.mean, other.mean, atol=1e-9)
        np.testing.assert_allclose(one.variance, other.variance, atol=1e-9)


@pytest.mark.parametrize("report", ["dropout_sensitivity", "tipping_point"])
def test_patients_that_are_relatives_are_refused(report):
    """Variances differ between them, and the outcomes of one tell of another's."""
    data = LOAD("antidepressant")
    labels = sorted(data["patient"].unique())
    K = pd.DataFrame(np.diag(np.linspace(0.1, 4, len(labels))), labels, labels)
    model = bm.Model(
        "change ~ factor(week) * arm + (1 | patient)", data, covariances={"patient": K},
        residual=bm.AR1(time="week", within="patient"),
    )  # fmt: skip
    with pytest.raises(bm.BayesmixedError, match="missing outcome takes groups that are independ"):
        getattr(bm, report)(from_priors(model, 2), "arm", "week")


def test_sites_may_be_neighbours():
    """Effects of groups around patients are as drawn, whatever they are correlated with."""
    data = LOAD("antidepressant")
    data["site"] = [f"s{k % 5}" for k in pd.factorize(data["patient"])[0]]
    labels = [f"s{k}" for k in range(5)]
    K = pd.DataFrame(0.5 + 0.5 * np.eye(5), labels, labels)
    formula, residual = (
        "change ~ factor(week) * arm + (1 | site)",
        bm.AR1(time="week", within="patient"),
    )
    one, other = (
        bm.Model(formula, data, residual=residual, covariances=given)
        for given in (None, {"site": K})
    )
    fit = from_priors(one, 2)
    found = [
        bm.dropout_sensitivity(f, "arm", "week").table for f in (fit, Fit(other.design, fit.tree))
    ]
    pd.testing.assert_frame_equal(*found)


def test_least_squares_where_columns_fall_together():
    rng = np.random.default_rng(1)
    x, arm = rng.normal(size=50), rng.integers(0, 2, 50)
    y = rng.normal(size=(3, 50))
    full = np.column_stack([np.ones(50), arm, x])
    twice = np.column_stack([full, np.zeros(50), full[:, 1:]])
    contrast = np.array([0, 1, 0, 0, 1, 0], dtype=float)
    one = Ancova.of(twice, contrast)
    beta, rss = np.linalg.lstsq(full, y.T)[:2]
    np.testing.assert_allclose(y @ one.weights, beta[1], atol=1e-10)
    np.testing.assert_allclose((one.residual(y) ** 2).sum(axis=1), rss, rtol=1e-10)
    assert one.degrees == 47
    assert one.unit_variance == pytest.approx(np.linalg.inv(full.T @ full)[1, 1])
    shares = rng.uniform(0.5, 2, (1, 50))
    W = full * shares.T
    np.testing.assert_allclose(
        one.weighted(shares) @ y[0], np.linalg.solve(full.T @ W, W.T @ y[0])[1], atol=1e-10
    )
    with pytest.raises(bm.BayesmixedError, match="cannot be estimated"):
        Ancova.of(twice[:, :3] * (arm == 0)[:, None], contrast[:3])


def test_sampled_posterior_against_nlme_and_rbmi(antidepressant, trial_reference):
    """Means within 0.15 sd; spreads within 10 %.

    nlme gives standard errors of the differences. rbmi gives, for jump to reference, the jackknife
    error of conditional means (the model's spread) and Rubin's of 150 imputations (the other).
    With 2,000 draws an sd has a Monte Carlo error of 2 %, and rbmi's two are estimates themselves.
    """
    assert antidepressant.converged
    expected = trial_reference["antidepressant_gls"]["difference"]
    table = bm.trial_analysis(antidepressant, "arm", "week").table.loc["difference"]
    off = (table["mean"].to_numpy() - expected["mean"]) / table["sd"].to_numpy()
    assert np.abs(off).max() < 0.15
    np.testing.assert_allclose(table["sd"], expected["se"], rtol=0.1)
    report = bm.dropout_sensitivity(antidepressant, "arm", "week", better="lower")
    rows = report.table.droplevel("contrast")
    published = trial_reference["antidepressant_dropout"]["published"]
    anchored, own = (rows.loc[("J2R", kind)] for kind in ("information-anchored", "model"))
    assert own["sd"] == pytest.approx(published["se_jackknife"], rel=0.1)
    assert anchored["sd"] == pytest.approx(published["se_rubin"], rel=0.1)
    for name, how in NAMES.items():
        if name == "LMCF":
            continue
        value = trial_reference["antidepressant_dropout"]["estimate"][how]
        for kind in ("information-anchored", "model"):
            mean, sd = rows.loc[(name, kind), ["mean", "sd"]]
            assert abs(mean - value) < 0.15 * sd, (name, kind)
    assert "23 of 88 (placebo), 20 of 84 (drug)" in report.caption
    report.plot()


def test_imputation_has_the_variance_of_rubins_rules(antidepressant):
    """Mean of the variances within plus variance between, within 4 Monte Carlo errors."""
    (one,) = arms_of(Trial.of(antidepressant, "arm", "week"), None, ["MAR", "J2R"], 1)
    draws = one.anchored("J2R")
    z, _ = one._noise
    given = one.given["J2R"]
    y = np.repeat(one.gaps.y[None, :, -1], len(draws), axis=0)
    y[:, one.gaps.missing] = given.mean + np.sqrt(given.variance) * z
    people = one.gaps.trial.people
    X = np.column_stack([np.ones(len(people)), people["arm"] == "drug", people["baseline"]])
    beta, rss = np.linalg.lstsq(X.astype(float), y.T)[:2]
    degrees = len(X) - 3
    inside = rss / degrees * np.linalg.inv(X.astype(float).T @ X.astype(float))[1, 1]
    t = degrees / (degrees - 2)
    rubin = t * inside.mean() + beta[1].var()
    # An sd of n draws has a relative error of 1 / sqrt(2 n); chains mix well here.
    assert draws.std() == pytest.approx(rubin**0.5, rel=4 / (2 * len(draws)) ** 0.5)


def test_tipping_point_is_where_the_probability_tips(antidepressant):
    report = bm.tipping_point(antidepressant, "arm", "week", better="lower", margin=0.3)
    tips = report.draws["tipping point"].sel(contrast="drug vs placebo").to_numpy()
    for kind, tip in zip(("information-anchored", "model"), tips, strict=True):
        before, after = (
            bm.tipping_point(
                antidepressant, "arm", "week", better="lower", margin=0.3, deltas=[tip + shift]
            ).table["p_better"].xs(kind, level="inference").item()
            for shift in (-0.05, 0.05)
        )  # fmt: skip
        assert before >= 0.975 >= after
    assert report.table.index.get_level_values("delta").max() > tips.max() > 0
    assert f"{tips[0]:.3g}" in report.caption
    report.plot()
    both = bm.tipping_point(
        antidepressant, "arm", "week", better="lower", arms="both", deltas=[0, 4]
    )
    mean = both.table["mean"].xs("model", level="inference").to_numpy()
    # About as many left either arm.
    assert abs(mean[0] - mean[1]) < 0.3
    never = bm.tipping_point(antidepressant, "arm", "week", better="higher", deltas=[0, -1])
    assert "already at 0" in never.caption


def _moved(one, given, dlag=None, both=False):
    return Delta.of(one.gaps.trial, given, dlag, both).moved(one.gaps, one.arm)


def test_delta_by_visit_adds_up_as_in_rbmi():
    """The example of rbmi's `delta_template` help page: 0, 6, 20, 44 for who leaves at visit 2."""
    data = pd.DataFrame({"patient": np.repeat(np.arange(8), 4), "visit": np.tile([1, 2, 3, 4], 8)})
    data["arm"] = np.where(data["patient"] % 2, "drug", "placebo")
    data["y"] = np.random.default_rng(1).normal(size=32)
    stays = data["patient"].map({0: 1, 1: 1, 2: 2, 3: 3}).fillna(4)
    data = data[data["visit"] <= stays]
    residual = bm.AR1(time="visit", within="patient")
    fit = from_priors(bm.Model("y ~ factor(visit) * arm", data, residual=residual), 2)
    delta, dlag = {1: 5, 2: 6, 3: 7, 4: 8}, (1, 2, 3, 4)
    for visit, expected in ((2, 6), (3, 20), (4, 44)):
        (one,) = arms_of(Trial.of(fit, "arm", "visit", "placebo"), visit, ["MAR"], 1)
        who = one.gaps.trial.people["patient"].iloc[one.gaps.missing].tolist()
        moved = dict(zip(who, _moved(one, delta, dlag), strict=True))
        assert moved[1] == expected
        assert moved[0] == 0
    assert moved[3] == 8
    # Increments alone; by arm, the reference with it; and both.
    assert dict(zip(who, _moved(one, delta), strict=True))[1] == 6 + 7 + 8
    by_arm = dict(zip(who, _moved(one, {"drug": 2, "placebo": -1.5}), strict=True))
    assert by_arm == {0: -1.5, 1: 2, 2: -1.5, 3: 2}
    nested = {"drug": {4: 1}, "placebo": {2: 1, 4: 0.5}}
    assert dict(zip(who, _moved(one, nested), strict=True)) == {0: 1.5, 1: 1, 2: 0.5, 3: 1}
    both = dict(zip(who, _moved(one, {3: 2}, both=True), strict=True))
    assert both == {0: 2, 1: 2, 2: 2, 3: 0}
    table = bm.dropout_sensitivity(
        fit,
        "arm",
        "visit",
        reference="placebo",
        assumptions=[],
        delta=[1, {4: 1}, nested, {"drug": -1}],
    )
    labels = table.table.index.get_level_values("assumption").unique()
    assert list(labels) == [
        "MAR", "MAR +1", "MAR (4: +1)", "MAR drug (4: +1), placebo (2: +1, 4: +0.5)", "MAR drug -1"
    ]  # fmt: skip
    mean = table.table["mean"].xs("model", level="inference").droplevel("contrast")
    # Nobody misses visit 4 and comes back, so an increment there alone is a delta.
    assert mean["MAR (4: +1)"] == pytest.approx(mean["MAR +1"])
    assert "added up over the visits since leaving" in table.caption


def test_the_pattern_of_a_tipping_point(estimate):
    """A pattern twice as large tips at half the delta; by visit as with dlag of ones."""
    given = {"better": "lower", "deltas": [0, 2, 4, 8, 16]}

    def tips(**options):
        report = bm.tipping_point(estimate, "arm", "week", **given, **options)
        return report.draws["tipping point"].to_numpy(), report.caption

    (one, plain), (two, words) = tips(), tips(pattern={"drug": 2})
    np.testing.assert_allclose(two, one / 2, atol=1e-5)
    assert "times drug +2" in words
    assert "times" not in plain.partition("Left before")[0]
    by_visit, _ = tips(pattern=dict.fromkeys([1, 2, 4, 6], 0.5))
    lagged, _ = tips(dlag=(0.5, 0.5, 0.5))
    np.testing.assert_allclose(by_visit, lagged, atol=1e-5)


@pytest.mark.parametrize("pattern", [1.0, {"drug": {4: 1, 6: 0.5}, "placebo": 2}])
def test_a_map_of_two_deltas_has_the_draws_of_dropout_sensitivity(antidepressant, pattern):
    """Every draw, both kinds of inference; the tipping line is where the probability tips."""
    own, other = [4.0, 0.0, -2.0, 12.0], [3.0, -2.5, 0.0]
    report = bm.tipping_point(
        antidepressant, "arm", "week", better="lower", deltas=own, reference_deltas=other,
        pattern=pattern,
    )  # fmt: skip
    assert report.table.shape == (4 * 3 * 2, 5)

    def brute(d, c):
        given = {"drug": d, "placebo": c}
        if pattern != 1.0:
            given = {"drug": {4: d, 6: 0.5 * d}, "placebo": 2 * c}
        found = bm.dropout_sensitivity(
            antidepressant, "arm", "week", better="lower", assumptions=[], delta=given
        )
        last = found.table.index.get_level_values("assumption")[-1]
        return found.draws["difference"].sel(assumption=last, drop=True), found.table.loc[last]

    for d, c in [(4.0, 3.0), (-2.0, -2.5), (12.0, 0.0)]:
        at = {"delta": d, "reference delta": c}
        draws, table = brute(d, c)
        np.testing.assert_allclose(
            report.draws["difference"].sel(at), draws.transpose("contrast", "inference", ...),
            rtol=0, atol=1e-10,
        )  # fmt: skip
        pd.testing.assert_frame_equal(report.table.loc[(d, c)], table, atol=1e-10)
    tips = report.draws["tipping point"].squeeze("contrast")
    assert tips.dims == ("inference", "reference delta")
    for kind in ("information-anchored", "model"):
        line = tips.sel(inference=kind)
        # Who left placebo and fared worse lets the drug's fare worse.
        assert line.sel({"reference delta": 3}) > line.sel({"reference delta": 0})
        for c in (3.0, 0.0):
            tip = float(line.sel({"reference delta": c}))
            before, after = (
                brute(tip + s, c)[1]["p_better"].xs(kind, level=0) for s in (-0.05, 0.05)
            )
            assert before.item() >= 0.975 >= after.item()
    report.plot("map")
    if pattern == 1.0:
        alone = bm.tipping_point(antidepressant, "arm", "week", better="lower")
        tip = alone.draws["tipping point"].squeeze("contrast")
        np.testing.assert_allclose(tips.sel({"reference delta": 0}), tip, atol=1e-5)


def test_a_benefit_that_is_nowhere_credible_is_said(antidepressant):
    report = bm.tipping_point(
        antidepressant, "arm", "week", better="higher", reference_deltas=[-1.0, 1.0]
    )
    assert (report.draws["tipping point"] == -np.inf).all()
    assert "nowhere credible at -1, nowhere credible at 1" in report.caption
    report.plot("map")


def test_a_map_of_three_arms():
    """The deltas shown go from what was given to beyond the tipping point; a panel each."""
    data = pd.DataFrame({"id": np.repeat(np.arange(30), 3), "visit": np.tile([1, 2, 3], 30)})
    data["arm"] = data["id"].map(lambda k: ("none", "low", "high")[k % 3])
    data["y"] = np.random.default_rng(1).normal(size=90)
    data = data[(data["visit"] < 3) | (data["id"] > 8)]
    residual = bm.AR1(time="visit", within="id")
    fit = from_priors(bm.Model("y ~ factor(visit) * arm", data, residual=residual), 50)
    report = bm.tipping_point(
        fit, "arm", "visit", reference="none", probability=0.6, reference_deltas=[-7.0, 5.0]
    )
    shown = report.draws["delta"].to_numpy()
    assert shown.min() <= -7
    assert shown.max() >= 5
    assert 0.0 in shown
    assert len(report.printed) < len(report.table)
    assert "left another arm than none" in report.caption
    report.plot()


@pytest.mark.parametrize(
    ("better", "deltas"), [("lower", [12, 16]), ("lower", [16]), ("higher", [-16.0, -20.0])]
)
def test_a_tipping_point_before_the_first_delta_is_found(estimate, better, deltas):
    """As where 0 is among the deltas, which need not be shown."""
    order = {"reference": "placebo" if better == "lower" else "drug", "better": better}
    one, other = (
        bm.tipping_point(estimate, "arm", "week", deltas=given, **order)
        for given in (deltas, [0, *deltas])
    )
    tips = one.draws["tipping point"].to_numpy()
    assert (abs(tips) > 0).all()
    assert (abs(tips) < abs(deltas[0])).all()
    np.testing.assert_allclose(tips, other.draws["tipping point"], atol=1e-5)
    assert "not reached" not in one.caption
    assert set(one.table.index.get_level_values("delta")) == set(deltas)


def test_delta_grows_with_the_visits_missed(estimate):
    """By hand, from each patient's last visit; a constant delta is that of the first visit only."""
    data = LOAD("antidepressant")
    weeks = sorted(data["week"].unique())
    last = data.groupby("patient")["week"].max()
    arm = data.groupby("patient")["arm"].first()
    missed = last.map(lambda w: len(weeks) - 1 - weeks.index(w))
    (one,) = arms_of(Trial.of(estimate, "arm", "week"), None, ["MAR"], 1)
    people = one.gaps.trial.people["patient"].iloc[one.gaps.missing]
    dlag = (1.0, 0.5, 0.25)
    total = {0: 0.0, 1: 1.0, 2: 1.5, 3: 1.75}
    for arms, whose in (("active", ["drug"]), ("both", ["drug", "placebo"])):
        expected = [total[missed[p]] if arm[p] in whose else 0.0 for p in people]
        assert len(set(expected)) >= 3
        np.testing.assert_allclose(_moved(one, 1.0, dlag, arms == "both"), expected)
    np.testing.assert_allclose(_moved(one, 1.0, (1, 0, 0)), _moved(one, 1.0))
    # The report moves the difference by the weighted sum of what is added.
    given = {"better": "lower", "delta": [2.0, 0.0]}
    means = [
        bm.dropout_sensitivity(estimate, "arm", "week", dlag=d, **given)
        .table["mean"].xs("model", level="inference").droplevel("contrast")
        for d in (None, dlag)
    ]  # fmt: skip
    for mean, d in zip(means, (None, dlag), strict=True):
        moved = (one.weights * _moved(one, 2.0, d)).sum(axis=1).mean()
        assert mean["MAR +2"] - mean["MAR +0"] == pytest.approx(moved, rel=1e-9)
    assert abs(means[0]["MAR +2"] - means[1]["MAR +2"]) > 0.05
    report = bm.tipping_point(
        estimate, "arm", "week", dlag=dlag, arms="both", deltas=[0, 2], better="lower"
    )
    assert "since leaving add up to (1, 0.5, 0.25)" in report.caption


@pytest.mark.parametrize(
    ("report", "options", "message"),
    [
        ("trial_analysis", {"treatment": "arms"}, "Did you mean 'arm'"),
        ("trial_analysis", {"time": "baseline"}, "takes 26 values|values, and 2 to|changes within"),
        ("trial_analysis", {"reference": "drugs"}, "Did you mean 'drug'"),
        ("trial_analysis", {"better": "less"}, "choice of what is better"),
        ("trial_analysis", {"margin": "1"}, "finite number"),
        ("trial_analysis", {"baseline": "base"}, "Did you mean 'baseline'"),
        ("trial_analysis", {"responder": "log(week"}, "cannot be read"),
        ("trial_analysis", {"responder": True}, "neither a number"),
        ("trial_analysis", {"average": "all"}, "way of averaging"),
        ("trial_analysis", {"patient": "sex"}, "grouping or series"),
        ("dropout_sensitivity", {"assumptions": ["JR"]}, "assumption on drop-out"),
        ("dropout_sensitivity", {"assumptions": "j2r"}, "'j2r'. Did you mean 'J2R'"),
        ("dropout_sensitivity", {"visit": 7}, "There is no week '7'"),
        ("dropout_sensitivity", {"visit": 1}, "No outcome is missing"),
        ("dropout_sensitivity", {"delta": 1, "dlag": (1, 1)}, "missed 3; give as many"),
        ("dropout_sensitivity", {"delta": 1, "dlag": 1}, "first, second"),
        ("tipping_point", {"dlag": ("a",)}, "first, second"),
        ("tipping_point", {"pattern": {"drgu": 1}}, "arm or visit"),
        ("tipping_point", {"pattern": {"drug": 1}, "arms": "both"}, "leave one of them out"),
        ("dropout_sensitivity", {"delta": {"drug": 1, "6": 2}}, "arms or visits"),
        ("dropout_sensitivity", {"delta": {6: "2"}}, "give a number in units"),
        ("dropout_sensitivity", {"delta": {}}, "one for each visit or arm"),
        ("dropout_sensitivity", {"delta": True}, "give a number in units"),
        ("tipping_point", {"probability": 95}, "from 0.5 to below 1"),
        ("tipping_point", {"arms": "drug"}, "choice of arms"),
        ("tipping_point", {"deltas": []}, r"deltas=\[\]: give one number or more"),
        ("tipping_point", {"deltas": ["a"]}, r"deltas=\['a'\]: give one number or more"),
        ("tipping_point", {"deltas": 3}, "deltas=3: give one number or more"),
        ("tipping_point", {"deltas": [0, np.nan]}, "deltas=.*nan.*: give one number or more"),
        ("tipping_point", {"reference_deltas": [0]}, r"reference_deltas=\[0.0\]: a map of two"),
        ("tipping_point", {"reference_deltas": 1}, "reference_deltas=1: give one number or more"),
        ("tipping_point", {"reference_deltas": [0, 1], "deltas": [1]}, r"deltas=\[1.0\]: a map"),
        ("tipping_point", {"reference_deltas": [0, 1], "arms": "both"}, "leave one of them out"),
        (
            "tipping_point",
            {"reference_deltas": [0, 1], "pattern": {"drug": 1}},
            "pattern={'drug': 1} moves nobody",
        ),
        ("tipping_point", {"pattern": "x"}, "pattern='x': give a number, or one for each visit"),
        ("tipping_point", {"pattern": {}}, "pattern={}: give"),
        ("tipping_point", {"pattern": {"drug": 1, "6": 2}}, "pattern=.*arms or visits"),
        ("tipping_point", {"pattern": 0}, "pattern=0 moves nobody of those who left before week 6"),
        ("tipping_point", {"pattern": {1: 2}}, "pattern={1: 2} moves nobody"),
        ("tipping_point", {"dlag": (0, 0, 0)}, r"dlag=\(0, 0, 0\) moves nobody"),
    ],
)
def test_bad_input_has_its_own_sentence(estimate, report, options, message):
    given = {"treatment": "arm", "time": "week"} | options
    with pytest.raises(bm.BayesmixedError, match=message):
        getattr(bm, report)(estimate, given.pop("treatment"), given.pop("time"), **given)


def test_nothing_tips_where_nobody_left():
    """Some of the drug's arm miss the last visit but come back, and none of them left."""
    data = pd.DataFrame({"id": np.repeat(np.arange(8), 3), "visit": np.tile([1, 2, 3], 8)})
    data["arm"] = np.where(data["id"] % 2, "drug", "placebo")
    data["y"] = np.random.default_rng(1).normal(size=24)
    data = data[~((data["id"] == 1) & (data["visit"] == 2))]
    data = data[~((data["id"] == 0) & (data["visit"] > 1))]
    residual = bm.AR1(time="visit", within="id")
    fit = from_priors(bm.Model("y ~ factor(visit) * arm", data, residual=residual), 2)
    given = {"reference": "placebo", "visit": 2}
    with pytest.raises(bm.BayesmixedError, match="Nobody left before this visit in these arms"):
        bm.tipping_point(fit, "arm", "visit", **given)
    with pytest.raises(bm.BayesmixedError, match=r"these arms \(drug\)"):
        bm.tipping_point(fit, "arm", "visit", reference_deltas=[0, 1], **given)
    bm.tipping_point(fit, "arm", "visit", arms="both", deltas=[0, 1], **given)


def test_arms_and_covariates_are_the_patients():
    data = LOAD("antidepressant").assign(mood=lambda d: d["hama"] - d["hama"].mean())
    residual = bm.AR1(time="week", within="patient")
    fit = from_priors(bm.Model("change ~ factor(week) * arm + mood", data, residual=residual), 3)
    with pytest.raises(bm.BayesmixedError, match="mood, a covariate, changes within patient"):
        bm.trial_analysis(fit, "arm", "week")
    assert len(bm.trial_analysis(fit, "arm", "week", average="grid").table) == 12
    data["turn"] = np.where(data["week"] > 2, "b", "a")
    fit = from_priors(bm.Model("change ~ turn + week", data, residual=residual), 3)
    with pytest.raises(bm.BayesmixedError, match="an arm is constant within a patient"):
        bm.trial_analysis(fit, "turn", "week")
    counts = bm.Model("hamd ~ arm + week + (1 | patient)", data, family="poisson")
    with pytest.raises(bm.BayesmixedError, match="normal outcomes"):
        bm.trial_analysis(from_priors(counts, 3), "arm", "week")
