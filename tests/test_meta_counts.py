"""One-stage models of counts against metafor's rma.glmm, and their reports."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesmixed as bm
from bayesmixed._errors import BayesmixedError, DataError, PriorError, UnknownNameError

PEOPLE = {"events": ("ai", "ci"), "totals": ("n1i", "n2i")}
TIMES = {"events": ("x1i", "x2i"), "times": ("t1i", "t2i")}
# Niel-Weise et al. (2008): infections of haemodialysis catheters, and catheter days; metadat.
RATES = pd.DataFrame(
    {
        "study": range(1, 10),
        "x1i": [7, 8, 3, 6, 1, 1, 17, 3, 2],
        "t1i": [1344, 1600, 12012, 1536, 370, 729, 6760, 1107, 320],
        "x2i": [11, 8, 14, 10, 1, 8, 15, 7, 3],
        "t2i": [1988, 1461, 10962, 1503, 483, 913, 6840, 1015, 440],
    }
)


@pytest.fixture(scope="module")
def catheters() -> pd.DataFrame:
    return bm.datasets.load("nielweise2007")


@pytest.fixture(scope="module")
def people(catheters):
    return {
        baseline: bm.meta_counts(catheters, **PEOPLE, baseline=baseline, seed=1, progress=False)
        for baseline in ("random", "fixed")
    }


def near(fit, mu: float, tau2: float) -> None:
    """House bounds for weak priors: mean within 0.15 sd, tau inside the 80 % interval."""
    assert fit.converged, str(fit.convergence)
    row = bm.pooled_effects(fit).table.loc["mu"]
    assert abs(row["mean"] - mu) < 0.15 * row["sd"]
    tau = bm.pooled_effects(fit).draws["tau"].to_numpy()
    assert np.quantile(tau, 0.1) < tau2**0.5 < np.quantile(tau, 0.9)


@pytest.mark.parametrize("baseline", ["random", "fixed"])
def test_binomial_model_is_near_metafor(baseline, people, reference):
    expected = reference["nielweise2007"]
    near(people[baseline], expected["mu"], expected["tau2"])


@pytest.mark.parametrize(
    ("baseline", "mu", "tau2"),
    [("fixed", -0.4587445, 0.09562165), ("random", -0.467552, 0.09123693)],
)
def test_poisson_model_is_near_metafor(baseline, mu, tau2):
    """rma.glmm(measure="IRR", model="UM.FS" and "UM.RS"), metafor 3.8.1; time in 1,000 days.

    The unit of time moves the baselines' prior with the data, and nothing else.
    """
    thousands = RATES.assign(t1i=RATES.t1i / 1000, t2i=RATES.t2i / 1000)
    fit = bm.meta_counts(thousands, **TIMES, baseline=baseline, seed=1, progress=False)
    near(fit, mu, tau2)
    report = bm.pooled_effects(fit)
    assert "rate ratio" in report.table.index
    days = bm.meta_counts(RATES, **TIMES, baseline=baseline, seed=2, progress=False)
    one, other = (bm.pooled_effects(f).table.loc["mu"] for f in (fit, days))
    # Two runs of 2,000 effective draws or more: four errors of sd / 31 together.
    assert abs(one["mean"] - other["mean"]) < 4 * one["sd"] / 31


@pytest.fixture(scope="module")
def moderated():
    trials = bm.datasets.load("bcg")
    table = trials.assign(n1i=trials.tpos + trials.tneg, n2i=trials.cpos + trials.cneg)
    return bm.meta_counts(
        table, ("tpos", "cpos"), ("n1i", "n2i"), study="trial", moderators="~ ablat",
        priors={"tau": bm.Prior("HalfNormal", sigma=0.3)}, seed=1, progress=False,
    )  # fmt: skip


def test_moderators_are_near_metafor(moderated):
    """rma.glmm(measure="OR", mods = ~ ablat about its mean, model="UM.RS"), metafor 3.8.1.

    Its tau of 0.07 by maximum likelihood is a third of the posterior's, which weights studies more
    equally: the same shift is in the next test's normal model, and 0.35 sd leave room for it.
    """
    assert moderated.converged, str(moderated.convergence)
    table = bm.pooled_effects(moderated).table
    for name, estimate in (("mu", -0.7287514), ("beta[treat:ablat]", -0.03260911)):
        row = table.loc[name]
        assert abs(row["mean"] - estimate) < 0.35 * row["sd"]
    studies = bm.study_effects(moderated)
    eta = moderated.eta().to_numpy()
    np.testing.assert_allclose(studies.draws["effect"], eta[..., ::2] - eta[..., 1::2], atol=1e-10)
    assert len(studies.table) == 13
    assert (
        studies.table["mean"].corr(bm.datasets.load("bcg")["ablat"].set_axis(studies.table.index))
        < -0.8
    )


def test_moderators_agree_with_a_regression_of_odds_ratios(moderated):
    """Trials are large, so that log odds ratios are about normal."""
    trials = bm.datasets.load("bcg")
    odds = bm.effect_sizes(trials, "OR", ai="tpos", bi="tneg", ci="cpos", di="cneg")
    priors = {"tau": bm.Prior("HalfNormal", sigma=0.3)}
    normal = bm.meta_analysis(
        odds, study="trial", moderators="~ ablat", method="grid", seed=1, priors=priors
    )
    one, other = (bm.pooled_effects(f).table for f in (moderated, normal))
    for mine, its in (("mu", "mu"), ("tau", "tau"), ("beta[treat:ablat]", "beta[ablat]")):
        assert abs(one.loc[mine, "mean"] - other.loc[its, "mean"]) < 0.3 * other.loc[its, "sd"]
        assert one.loc[mine, "sd"] == pytest.approx(other.loc[its, "sd"], rel=0.15)


@pytest.mark.parametrize("baseline", ["random", "fixed"])
def test_two_studies_and_a_moderator(baseline):
    """As many coefficients as studies: the priors decide, as they do of log odds ratios."""
    two = pd.DataFrame(
        {"study": ["a", "b"], "ai": [15, 32], "n1i": [100, 120], "ci": [21, 20], "n2i": [98, 125]}
    )
    two["x"] = [0.0, 1.0]
    options = {"moderators": "~ x", "seed": 1}
    fit = bm.meta_counts(two, **PEOPLE, baseline=baseline, progress=False, **options)
    assert fit.converged, str(fit.convergence)
    odds = bm.effect_sizes(two, "OR", ai="ai", n1i="n1i", ci="ci", n2i="n2i")
    exact = bm.grid_posterior(bm.meta_analysis(odds, method="grid", draws=5, **options))
    table = bm.pooled_effects(fit).table
    slope = exact.coefficients[1]
    # Arms of a hundred with 15 events or more: log odds are about normal.
    for name, mean, sd in (
        ("mu", exact.effect().mean[0], exact.effect().sd[0]),
        ("beta[treat:x]", slope.mean[0], slope.sd[0]),
    ):
        assert table.loc[name, "mean"] == pytest.approx(mean, abs=0.15 * sd)
        assert table.loc[name, "sd"] == pytest.approx(sd, rel=0.15)


def test_reports_are_of_effects_not_of_baselines(people, catheters, tmp_path):
    fit = people["random"]
    table, studies = bm.pooled_effects(fit).table, bm.study_effects(fit)
    draws = fit.posterior["beta"].sel(term="treat")
    np.testing.assert_allclose(table.loc["mu", "mean"], draws.mean())
    np.testing.assert_allclose(
        table.loc["tau", "mean"], fit.posterior["sd_study"].sel(study_effect="treat").mean()
    )
    assert not [row for row in table.index if row.startswith("beta")]
    odds = bm.effect_sizes(catheters, "OR", ai="ai", n1i="n1i", ci="ci", n2i="n2i")
    np.testing.assert_allclose(studies.table["raw"], odds["yi"])
    assert list(studies.table.index) == list(catheters["study"])
    # The model's own log odds of the two arms of each study differ by its effect.
    eta = fit.eta().to_numpy()
    np.testing.assert_allclose(studies.draws["effect"], eta[..., ::2] - eta[..., 1::2], atol=1e-10)
    # Study 15 has no event at all: its effect is about what is expected of a new study.
    new = table.loc["new study"]
    assert abs(studies.table.loc[15, "mean"] - new["mean"]) < 0.2
    assert 0.8 < studies.table.loc[15, "sd"] / new["sd"] < 1.1
    loaded = bm.load(fit.save(tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(bm.pooled_effects(loaded).table, table)
    for kind in ("forest", "funnel"):
        path = bm.pooled_effects(fit).save_plot(tmp_path / f"{kind}.png", kind)
        assert path.stat().st_size > 10_000
    with pytest.raises(BayesmixedError, match="known sampling sds"):
        bm.grid_posterior(fit)


def test_common_effect_of_no_events_at_all():
    """Nothing but zeros: the average effect stays at its prior, within Monte Carlo error."""
    none = pd.DataFrame(
        {"study": ["a", "b", "c"], "ai": 0, "n1i": [20, 30, 10], "ci": 0, "n2i": [20, 30, 10]}
    )
    fit = bm.meta_counts(none, **PEOPLE, common=True, seed=1, progress=False)
    row = bm.pooled_effects(fit).table.loc["mu"]
    # By symmetry the mean is 0; 1,000 effective draws or more.
    assert abs(row["mean"]) < 4 * row["sd"] / 31
    assert 1.5 < row["sd"] <= 2.2
    assert "tau" not in bm.pooled_effects(fit).table.index


def test_bad_input_has_its_own_sentence(catheters):
    def refused(error, match, data=catheters, **options):
        with pytest.raises(error, match=match):
            bm.meta_counts(data, **PEOPLE | options)

    refused(BayesmixedError, "one of the two", totals=None)
    refused(BayesmixedError, "one of the two", times=("n1i", "n2i"))
    refused(BayesmixedError, "names two columns", events=("ai",))
    refused(UnknownNameError, "no column 'zi'", events=("ai", "zi"))
    refused(UnknownNameError, "no baseline 'none'", baseline="none")
    refused(DataError, "two studies or more; there is 1", catheters.iloc[:1])
    refused(DataError, r"'study' has 0 without one and 17 repeated", catheters.assign(study=1))
    refused(DataError, r"'ai' must be a whole number from 0.*row 0", catheters.assign(ai=-1))
    refused(DataError, r"'ai' must be a whole number", catheters.assign(ai=0.5))
    refused(DataError, r"'ci' must be at most the size of the group", catheters.assign(ci=10_000))
    refused(DataError, r"'n2i' must be above 0", catheters.assign(n2i=0))
    gap = catheters.assign(ai=catheters.ai.where(catheters.index != 2))
    refused(DataError, r"'ai' must be there.*row 2", gap)
    refused(DataError, "must hold numbers", catheters.assign(ai="a"))
    refused(UnknownNameError, "no column 'zi'", moderators="~ zi")
    refused(BayesmixedError, "random terms", moderators="~ (1 | study)")
    refused(BayesmixedError, "without the 0", moderators="~ 0 + n1i")
    refused(DataError, "misses a value at row 2", moderators="~ x", data=catheters.assign(x=gap.ai))
    half = bm.Prior("HalfNormal", sigma=1)
    refused(PriorError, "no heterogeneity", common=True, priors={"tau": half})
    refused(PriorError, "Fixed baselines", baseline="fixed", priors={"baseline": half})
