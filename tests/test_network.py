"""Network meta-analysis: against metafor, dense normals, least squares on arms."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.integrate import quad
from scipy.linalg import block_diag
from scipy.optimize import minimize_scalar

import bayesmixed as bm
from bayesmixed._errors import BayesmixedError, DataError, PriorError, UnknownNameError
from bayesmixed.meta._network_analysis import network_grid
from bayesmixed.meta._network_consistency import inconsistency, split_column

REFERENCE = json.loads((Path(__file__).parent / "reference" / "models.json").read_text())
FLAT = {"d": bm.Prior("Flat"), "tau": bm.Prior("HalfFlat")}
INPUT = {
    "senn2013": ("MD", {"mean": "mi", "sd": "sdi", "n": "ni"}),
    "hasselblad1998": ("OR", {"events": "xi", "n": "ni"}),
}


def analysed(name: str, **options) -> bm.meta.NetworkFit:
    measure, columns = INPUT[name]
    reference = options.pop("reference", REFERENCE[name]["reference"])
    return bm.network_meta_analysis(
        bm.datasets.load(name), measure, reference=reference, seed=1, **columns, **options
    )


@pytest.fixture(scope="module")
def diabetes():
    return analysed("senn2013")


def arms_of(name: str) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Labels, estimate and variance of every arm, written out again."""
    data = bm.datasets.load(name)
    if name == "senn2013":
        return data, data.mi.to_numpy(), (data.sdi**2 / data.ni).to_numpy()
    zero = ((data.xi == 0) | (data.xi == data.ni)).groupby(data.study).transform("any")
    x, n = data.xi + 0.5 * zero, data.ni + 1.0 * zero
    return data, np.log(x / (n - x)).to_numpy(), (1 / x + 1 / (n - x)).to_numpy()


def least_squares(name, tau, kept=lambda arms: True, split=None):
    """Effects by generalised least squares on arms, with a mean for every trial."""
    data, y, v = arms_of(name)
    rows = data.groupby("study", sort=False).indices
    at = np.concatenate([i for i in rows.values() if kept(set(data.treatment.iloc[i]))])
    data, y, v = data.iloc[at], y[at], v[at]
    study = pd.get_dummies(data.study.astype(str)).to_numpy(dtype=float)
    names = sorted(set(data.treatment) - {REFERENCE[name]["reference"]})
    treatment = np.stack([data.treatment == t for t in names], axis=1).astype(float)
    X = np.hstack([study, treatment])
    if split:
        both = data.groupby("study").treatment.transform(lambda t: set(split) <= set(t))
        side = 0.5 * (data.treatment == split[0]).astype(float)
        side -= 0.5 * (data.treatment == split[1]).astype(float)
        X = np.column_stack([X, side * both.astype(float)])
        names = [*names, "split"]
    # Arms vary about the trial's mean with variance tau^2 / 2, so that contrasts do with tau^2.
    weight = 1 / (v + tau**2 / 2)
    covariance = np.linalg.pinv(X.T @ (weight[:, None] * X))
    beta = covariance @ X.T @ (weight * y)
    last = slice(study.shape[1], None)
    return names, beta[last], covariance[last, last]


@pytest.mark.parametrize("name", INPUT)
def test_flat_priors_give_metafors_reml_estimates(name):
    """The maximum of the density of tau with flat effects is REML; effects given it are exact."""
    fit, expected = analysed(name, priors=FLAT), REFERENCE[name]
    found = minimize_scalar(
        lambda tau: -float(fit.grid.regression.given(np.array([tau]))[0][0]),
        bounds=(0.05, 2),
        options={"xatol": 1e-9},
    )
    assert found.x**2 == pytest.approx(expected["tau2"], rel=1e-5)
    mean, covariance = fit.grid.conditional(np.sqrt(expected["tau2"]))
    names = fit.network.treatments[1:]
    assert set(names) == set(expected["beta"])
    assert mean == pytest.approx([expected["beta"][n] for n in names], abs=1e-9)
    sd = np.sqrt(np.diag(covariance))
    assert sd == pytest.approx([expected["se"][n] for n in names], abs=1e-9)


@pytest.mark.parametrize("name", INPUT)
def test_design_by_treatment_statistic_is_metafors(name):
    fit, expected = analysed(name), REFERENCE[name]["interaction"]
    extra = inconsistency(fit.network)
    assert extra.shape[1] == expected["df"]
    names = tuple(map(str, range(extra.shape[1])))
    grid = network_grid(fit.network, bm.Prior("Flat"), bm.Prior("HalfFlat"), extra, names)
    mean, covariance = grid.conditional(np.sqrt(expected["tau2"]))
    w, inner = mean[-len(names) :], covariance[-len(names) :, -len(names) :]
    assert w @ np.linalg.solve(inner, w) == pytest.approx(expected["QM"], rel=1e-5)


@pytest.mark.parametrize("name", INPUT)
def test_posterior_is_that_of_dense_normals(name):
    """Moments by adaptive quadrature over tau of a multivariate normal with the stated priors."""
    fit = analysed(name)
    treatments = list(fit.network.treatments)
    data, arm, variance = arms_of(name)
    y, V, Z, X = [], [], [], []
    for at in data.groupby("study", sort=False).indices.values():
        size = len(at) - 1
        y.append(arm[at[1:]] - arm[at[0]])
        V.append(np.diag(variance[at[1:]]) + variance[at[0]])
        Z.append(np.full((size, size), 0.5) + 0.5 * np.eye(size))
        rows = np.zeros((size, len(treatments)))
        rows[np.arange(size), [treatments.index(t) for t in data.treatment.iloc[at[1:]]]] = 1
        rows[:, treatments.index(data.treatment.iloc[at[0]])] -= 1
        X.append(rows[:, 1:])
    y, V, Z, X = np.concatenate(y), block_diag(*V), block_diag(*Z), np.vstack(X)
    scale = dict(fit.priors["d"].parameters)["sigma"]
    between = dict(fit.priors["tau"].parameters)["sigma"]
    prior = scale**2 * (np.eye(X.shape[1]) + 1) / 2

    def at(tau, value=lambda tau, d: 1.0):
        total = V + tau**2 * Z + X @ prior @ X.T
        d = prior @ X.T @ np.linalg.solve(total, y)
        density = stats.multivariate_normal(cov=total).logpdf(y)
        return value(tau, d) * np.exp(density - shift) * stats.halfnorm.pdf(tau, scale=between)

    shift = stats.multivariate_normal(cov=V + 0.1 * Z + X @ prior @ X.T).logpdf(y)
    total = quad(at, 0, 4, limit=200, epsabs=0, epsrel=1e-10)[0]
    mean = quad(at, 0, 4, args=(lambda tau, d: tau,), limit=200, epsrel=1e-10)[0] / total
    first = quad(at, 0, 4, args=(lambda tau, d: d[0],), limit=200, epsrel=1e-10)[0] / total
    assert fit.grid.tau.mean == pytest.approx(mean, rel=1e-7)
    assert fit.grid.coefficients.mean[0] == pytest.approx(first, rel=1e-7)


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("senn2013", ("rosiglitazone", "placebo")),
        ("senn2013", ("sulfonylurea", "metformin")),
        ("senn2013", ("metformin", "placebo")),  # with a trial of three arms
        ("hasselblad1998", ("ind_counseling", "grp_counseling")),
    ],
)
def test_split_is_least_squares_on_arms(name, pair):
    fit, tau = analysed(name), 0.4
    a, b = (fit.network.place(t) for t in pair)
    column = split_column(fit.network, b, a)
    grid = network_grid(fit.network, bm.Prior("Flat"), bm.Prior("HalfFlat"), column, ("split",))
    mean, covariance = grid.conditional(tau)
    names, beta, wide = least_squares(name, tau, split=pair)
    order = [names.index(n) for n in grid.terms]
    assert mean == pytest.approx(beta[order], abs=1e-8)
    assert np.diag(covariance) == pytest.approx(np.diag(wide)[order], rel=1e-7)


@pytest.mark.parametrize(
    "pair", [("rosiglitazone", "placebo"), ("sulfonylurea", "metformin")], ids=str
)
def test_split_of_two_arm_trials_is_the_two_step_answer(pair):
    """Direct: the pair's own trials pooled; indirect: the network without them."""
    fit, tau = analysed("senn2013"), 0.4
    a, b = (fit.network.place(t) for t in pair)
    column = split_column(fit.network, b, a)
    grid = network_grid(fit.network, bm.Prior("Flat"), bm.Prior("HalfFlat"), column, ("split",))
    mean, covariance = grid.conditional(tau)
    row = np.append(fit.contrast([(a, b)])[0], 0)
    names, beta, _ = least_squares("senn2013", tau, kept=lambda arms: not set(pair) <= arms)
    effects = dict(zip(names, beta, strict=True)) | {"placebo": 0.0}
    assert row @ mean == pytest.approx(effects[pair[0]] - effects[pair[1]], abs=1e-8)
    data, arm, variance = arms_of("senn2013")
    own = [
        (arm[i[j]] - arm[i[1 - j]], variance[i].sum() + tau**2)
        for i in data.groupby("study").indices.values()
        if set(data.treatment.iloc[i]) == set(pair)
        for j in [list(data.treatment.iloc[i]).index(pair[0])]
    ]
    y, v = np.array(own).T
    direct = row + np.append(np.zeros(len(row) - 1), 1)
    assert direct @ mean == pytest.approx((y / v).sum() / (1 / v).sum(), abs=1e-8)
    assert direct @ covariance @ direct == pytest.approx(1 / (1 / v).sum(), rel=1e-7)
    assert direct @ covariance @ row == pytest.approx(0, abs=1e-9)


def test_two_treatments_are_a_pairwise_meta_analysis():
    trials = bm.datasets.load("bcg")
    arms = pd.concat(
        [
            pd.DataFrame({"study": trials.trial, "t": t, "x": x, "n": x + rest})
            for t, x, rest in (
                ("control", trials.cpos, trials.cneg),
                ("vaccine", trials.tpos, trials.tneg),
            )
        ]
    )
    tau = bm.Prior("HalfNormal", sigma=0.5)
    fit = bm.network_meta_analysis(
        arms, "RR", treatment="t", events="x", n="n", reference="control",
        priors={"d": bm.Prior("Normal", mu=0, sigma=1), "tau": tau},
    )  # fmt: skip
    single = bm.grid_posterior(
        bm.meta_analysis(
            trials, "yi", "sei", "trial", method="grid", draws=5,
            priors={"mu": bm.Prior("Normal", mu=0, sigma=1), "tau": tau},
        )
    )  # fmt: skip
    assert fit.grid.coefficients.mean[0] == pytest.approx(single.effect().mean[0], rel=1e-9)
    assert fit.grid.coefficients.sd[0] == pytest.approx(single.effect().sd[0], rel=1e-9)
    assert fit.grid.tau.mean == pytest.approx(single.tau.mean, rel=1e-9)


def test_reference_changes_no_comparison(diabetes):
    other = analysed("senn2013", reference="acarbose")
    mine = bm.league_table(diabetes, "acarbose").table
    theirs = bm.league_table(other).table
    for pair in mine.index:
        sign = 1 if pair in theirs.index else -1
        found = theirs.loc[pair if sign == 1 else pair[::-1]]
        assert sign * found["mean"] == pytest.approx(mine.loc[pair, "mean"], abs=1e-8)
        assert found["sd"] == pytest.approx(mine.loc[pair, "sd"], rel=1e-8)


def contrasts(all_pairs: bool) -> pd.DataFrame:
    data, arm, variance = arms_of("senn2013")
    rows = []
    for name, at in data.groupby("study", sort=False).indices.items():
        pairs = combinations(at, 2) if all_pairs else ((at[0], i) for i in at[1:])
        rows += [
            {
                "study": name,
                "treatment": data.treatment.iloc[j],
                "versus": data.treatment.iloc[i],
                "yi": arm[j] - arm[i],
                "sei": np.sqrt(variance[i] + variance[j]),
                "base": np.sqrt(variance[at[0]]),
            }
            for i, j in pairs
        ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("all_pairs", [True, False])
def test_contrasts_and_arms_are_one_analysis(diabetes, all_pairs):
    table = contrasts(all_pairs)
    extra = {} if all_pairs else {"baseline_se": "base"}
    fit = bm.network_meta_analysis(
        table, "MD", versus="versus", effect="yi", se="sei", reference="placebo",
        priors=diabetes.priors, **extra,
    )  # fmt: skip
    assert fit.grid.coefficients.mean == pytest.approx(diabetes.grid.coefficients.mean, abs=1e-9)
    assert fit.grid.tau.mean == pytest.approx(diabetes.grid.tau.mean, rel=1e-9)


def test_ranks_and_sucra(diabetes):
    report = bm.treatment_ranking(diabetes, better="lower")
    table, draws = report.table, 4000
    ranks = table.filter(regex=r"^rank \d+$").to_numpy()
    assert ranks.sum(axis=0) == pytest.approx(1)
    assert ranks.sum(axis=1) == pytest.approx(1)
    # The surface under the cumulative curve of the draws, and the exact average probability.
    surface = ranks.cumsum(axis=1)[:, :-1].mean(axis=1)
    assert surface == pytest.approx(table["sucra"].to_numpy(), abs=4 * 0.5 / np.sqrt(draws))
    assert table.index[0] == "rosiglitazone"
    assert table.index[-1] == "placebo"
    higher = bm.treatment_ranking(diabetes, better="higher").table["sucra"]
    assert higher[table.index].to_numpy() == pytest.approx(1 - table["sucra"].to_numpy())
    # metafor's P-scores, given the REML heterogeneity and without priors.
    for name, value in REFERENCE["senn2013"]["pscore"].items():
        assert table.loc[name, "sucra"] == pytest.approx(value, abs=0.015)


def test_league_agrees_with_draws(diabetes):
    report = bm.league_table(diabetes)
    drawn = report.draws["effect"].stack(s=("chain", "draw"))
    se = report.table["sd"].to_numpy() / np.sqrt(4000)
    assert (np.abs(drawn.mean("s") - report.table["mean"].to_numpy()) < 4 * se).all()
    smoking = bm.league_table(analysed("hasselblad1998")).table
    assert smoking["odds ratio"].to_numpy() == pytest.approx(np.exp(smoking["median"]).to_numpy())
    assert smoking.loc[("ind_counseling", "no_contact"), "trials"] == 15


def test_inconsistency_is_seen_where_there_is_some():
    """A loop whose direct evidence is off by 2, with standard errors of 0.1."""
    rng = np.random.default_rng(3)
    rows = []
    for i, (a, b) in enumerate([("A", "B"), ("A", "C"), ("B", "C")] * 4):
        true = {"A": 0.0, "B": 1.0, "C": 1.5}
        off = 2.0 if (a, b) == ("B", "C") else 0.0
        rows.append(
            {"study": i, "treatment": b, "versus": a, "se": 0.1,
             "yi": true[b] - true[a] + off + rng.normal(0, 0.1)}
        )  # fmt: skip
    fit = bm.network_meta_analysis(
        pd.DataFrame(rows), versus="versus", effect="yi", se="se", seed=1,
        priors={"tau": bm.Prior("HalfNormal", sigma=0.2)},
    )  # fmt: skip
    table = bm.network_consistency(fit).table
    assert table.loc["C - B", "mean"] == pytest.approx(2, abs=0.5)
    assert table.loc["C - B", "p"] < 0.001
    assert table.loc["all designs", "p"] < 0.001
    assert table.loc["all designs", "tau"] < 0.5 * table.loc["network", "tau"]


def test_tree_has_nothing_to_split():
    data = pd.DataFrame(
        {"study": [1, 2], "treatment": ["B", "C"], "versus": "A", "yi": 0.3, "se": 0.2}
    )
    fit = bm.network_meta_analysis(data, versus="versus", effect="yi", se="se", seed=1)
    report = bm.network_consistency(fit)
    assert list(report.table.index) == ["network"]
    assert any("cannot be checked" in c for c in report.caveats)
    report.plot()
    assert any("cannot be checked" in c for c in bm.league_table(fit).caveats)


def test_pictures_and_text(diabetes):
    for report in (
        bm.league_table(diabetes),
        bm.treatment_ranking(diabetes, "lower"),
        bm.network_consistency(diabetes),
    ):
        for kind in report.pictures:
            report.plot(kind)
        assert report.title in str(report)
        assert "<table" in report.to_html()
    assert "26 trials (1 with more than two arms), 10 treatments" in str(diabetes)
    assert diabetes.posterior["d"].sel(treatment="placebo").std() == 0
    assert diabetes.summary().loc["tau", "mean"] == pytest.approx(
        float(diabetes.posterior["tau"].mean()), rel=1e-3
    )


ARMS = {"study": [1, 1, 2, 2], "treatment": ["A", "B", "C", "D"], "y": 0.0, "s": 1.0}
PAIRS = {"study": [1, 1], "treatment": ["B", "C"], "versus": "A", "y": 0.1, "s": 0.2}


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (ARMS, {}, r"2 parts.*\(1\) A, B; \(2\) C, D"),
        (ARMS | {"treatment": ["A", "A", "A", "B"]}, {}, "several arms with the same"),
        (ARMS | {"study": [1, 1, 2, 3]}, {}, "one arm only"),
        (ARMS | {"s": 0.0}, {}, "se .*must be above 0"),
        (ARMS | {"y": [0, 1, np.nan, 1]}, {}, "misses a value"),
        (ARMS, {"nn": "y"}, "no column 'nn'"),
        (PAIRS, {"versus": "versus"}, "baseline_se"),
        (PAIRS | {"b": 0.3}, {"versus": "versus", "baseline_se": "b"}, "too large"),
        (PAIRS | {"versus": "B"}, {"versus": "versus"}, "with itself"),
    ],
)
def test_bad_tables_are_refused_by_their_own_message(data, options, message):
    with pytest.raises(BayesmixedError, match=message):
        bm.network_meta_analysis(pd.DataFrame(data), effect="y", se="s", **options)


def test_other_bad_input():
    arms = bm.datasets.load("senn2013")
    with pytest.raises(BayesmixedError, match="measure="):
        bm.network_meta_analysis(arms)
    with pytest.raises(BayesmixedError, match="needs mean, sd, n"):
        bm.network_meta_analysis(arms, "MD", mean="mi")
    with pytest.raises(UnknownNameError, match="measure of arms"):
        bm.network_meta_analysis(arms, "SMD", mean="mi", sd="sdi", n="ni")
    with pytest.raises(UnknownNameError, match="no treatment 'placbo'"):
        analysed("senn2013", reference="placbo")
    with pytest.raises(PriorError, match="every pairwise effect"):
        analysed("senn2013", priors={"d": bm.Prior("Normal", mu=1, sigma=1)})
    with pytest.raises(PriorError, match='"d"'):
        analysed("senn2013", priors={"mu": bm.Prior("Flat")})
    with pytest.raises(UnknownNameError, match="direction"):
        bm.treatment_ranking(analysed("senn2013"), better="up")
    table = contrasts(all_pairs=True)
    three = table.index[table.study == "Willms (1999)"]
    table.loc[three[0], "yi"] += 5
    with pytest.raises(DataError, match="do not add up"):
        bm.network_meta_analysis(table, versus="versus", effect="yi", se="sei")
