"""A process in the place of correlated residuals: what varies by visit, and where it counts."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest

import bayesmixed as bm
from bayesmixed import following, places
from bayesmixed.conditional import regression
from bayesmixed.fit import Fit
from bayesmixed.reports._average_row import average_row
from bayesmixed.reports._process_effect import process_effect
from tests import made

AR1 = bm.AR1(time="period", within="subject")
BY_VISIT = bm.CompoundSymmetry(time="period", within="subject", heterogeneous=True)
BY_ARM = bm.AR1(time="period", within="subject", by="trt", heterogeneous=True)


@pytest.fixture(scope="session")
def epil() -> pd.DataFrame:
    data = bm.datasets.load("epil")
    return data.assign(high=(data["y"] > 5).astype(int)).sample(frac=1, random_state=1)


def _counts(epil: pd.DataFrame, residual: bm.Structure, formula: str = "y ~ 1 + (1 | subject)"):
    return bm.Model(formula, epil, family="poisson", residual=residual)


def test_explained_variance_and_intraclass_correlation_agree(epil: pd.DataFrame) -> None:
    """A process is residual variance in both; closed forms of the lognormal Poisson.

    Nakagawa, Johnson & Schielzeth (2017): additive overdispersion is in the denominator alone.
    """
    fit = made.at(_counts(epil, AR1), sd_subject=0.6, sd_process=0.8, beta=0.5)
    s, p = 0.36, 0.64
    m = np.exp(0.5 + (s + p) / 2)
    latent = s / (s + p + np.log1p(1 / m))
    response = m**2 * np.expm1(s) / (m + m**2 * np.expm1(s + p))
    icc, r2 = bm.icc(fit), bm.r2(fit)
    assert list(icc.table.index) == [("subject", "latent"), ("subject", "response")]
    np.testing.assert_allclose(icc.table["mean"], [latent, response], rtol=1e-7)
    conditional = r2.table.loc["conditional", "mean"]
    np.testing.assert_allclose(conditional, [latent, response], rtol=1e-7)
    np.testing.assert_allclose(r2.table.loc["marginal", "mean"], 0, atol=1e-9)
    assert any("counts as residual variance" in caveat for caveat in icc.caveats)


def test_shares_of_the_variance_add_up_to_what_is_not_explained(epil: pd.DataFrame) -> None:
    model = bm.Model("high ~ lbase + (1 | subject)", epil, family="bernoulli", residual=AR1)
    fit = made.at(model, sd_subject=1.0, sd_process=2.0)
    share = bm.variance_components(fit).table["mean"].xs("share", level="quantity").droplevel(1)
    icc = bm.icc(fit).table.loc[("subject", "latent"), "mean"]
    assert share["process"] + share["residual"] == pytest.approx(1 - icc)
    r2 = bm.r2(fit).table["mean"]
    explained, both = (r2[part, "latent"] for part in ("marginal", "conditional"))
    assert both == pytest.approx(explained + (1 - explained) * icc)


def test_a_process_alone_has_no_groups(epil: pd.DataFrame) -> None:
    fit = made.at(_counts(epil, AR1, "y ~ trt"), sd_process=0.5)
    with pytest.raises(bm.BayesmixedError, match="stands for residuals"):
        bm.icc(fit)
    table = bm.r2(fit).table["mean"]
    np.testing.assert_allclose(table["marginal"], table["conditional"])


def test_standard_deviations_by_visit_and_arm_have_names_and_priors(epil: pd.DataFrame) -> None:
    model = _counts(epil, BY_VISIT)
    names = [f"sd_process[{visit}]" for visit in (1, 2, 3, 4)]
    assert set(names) <= set(model.priors.index)
    prior = model.priors["prior"]
    assert {prior[name] for name in names} == {prior["sd_subject"]}
    own = bm.Prior("HalfNormal", sigma=0.1)
    one = bm.Model(
        "y ~ 1", epil, family="poisson", residual=BY_VISIT, priors={"sd_process[2]": own}
    )
    assert (one.priors["source"] == "yours").sum() == 1
    every = bm.Model("y ~ 1", epil, family="poisson", residual=BY_VISIT, priors={"sd_process": own})
    assert (every.priors["source"] == "yours").sum() == 4
    arms = _counts(epil, BY_ARM).priors.index
    assert "sd_process[placebo,1]" in arms
    assert "phi[progabide]" in arms
    with pytest.raises(bm.BayesmixedError, match="for one"):
        bm.Model(
            "high ~ 1",
            epil,
            family="bernoulli",
            residual=BY_VISIT,
            priors={"variance_budget": bm.VarianceBudget({"process": (0.1, 0.3)})},
        )


def test_values_have_the_standard_deviation_of_their_visit_and_arm(epil: pd.DataFrame) -> None:
    """Draws from the prior in units of their sd are standard normal, and correlated by phi."""
    model = _counts(epil, BY_ARM, "y ~ 1")
    fit = made.from_priors(model, 400)
    frame = epil.assign(label=epil["subject"].astype(str) + ":" + epil["period"].astype(str))
    u = fit.posterior["u_process"].sel(process=frame["label"].to_numpy())[..., 0]
    cells = frame["trt"].astype(str) + "," + frame["period"].astype(str)
    z = (u / fit.posterior["sd_process"].sel(process_cell=cells.to_numpy()).to_numpy()).to_numpy()
    # 188,800 numbers in 800 draws; a subject's four are correlated.
    assert z.std() == pytest.approx(1, abs=5 * np.sqrt(4 / 188_800))
    first, second = (
        z[..., np.flatnonzero((frame["period"] == k) & (frame["trt"] == "placebo"))] for k in (1, 2)
    )
    order = [
        frame["subject"].to_numpy()[(frame["period"] == k) & (frame["trt"] == "placebo")]
        for k in (1, 2)
    ]
    first, second = (v[..., np.argsort(o)] for v, o in zip((first, second), order, strict=True))
    phi = fit.posterior["phi"].sel(process_arm="placebo").to_numpy()[..., None]
    left = (second - phi * first) / np.sqrt(1 - phi**2)
    assert left.std() == pytest.approx(1, abs=5 / np.sqrt(2 * left.size))


def test_reports_take_each_row_with_its_own_sd(epil: pd.DataFrame) -> None:
    fit = made.at(_counts(epil, BY_VISIT), sd_process=[0.2, 0.4, 0.6, 0.8], sd_subject=0.0)
    components = bm.variance_components(fit).table["mean"]
    assert components["process", "3", "sd"] == pytest.approx(0.6)
    mean = (0.04 + 0.16 + 0.36 + 0.64) / 4
    assert components["process", "", "variance"] == pytest.approx(mean)
    beta = float(fit.posterior["beta"].squeeze())
    rows = pd.DataFrame({"subject": ["a", "a"], "period": [1, 4]})
    found = bm.predict(fit, rows, groups="new").table["mean"]
    np.testing.assert_allclose(found, np.exp(beta + np.array([0.04, 0.64]) / 2), rtol=1e-8)
    with pytest.raises(bm.BayesmixedError, match="nothing is known"):
        bm.predict(fit, rows.assign(period=[1, 5]), groups="new")
    with pytest.raises(bm.BayesmixedError, match="standard deviation of the process"):
        bm.predict(fit, rows.assign(subject=["a", "b"], period=[1, 5]), groups="new")
    with pytest.raises(bm.BayesmixedError, match="period"):
        bm.predict(fit, rows[["subject"]], groups="new")


def test_several_effects_cannot_have_sds_by_visit() -> None:
    years = [(h, y) for h in "abc" for y in range(4)] * 3
    data = pd.DataFrame(years, columns=["hospital", "year"])
    data = data.assign(x=np.arange(36.0) % 7, y=np.arange(36.0) % 5)
    structure = bm.AR1(time="year", within="hospital", heterogeneous=True)
    given = {"hospital:year": structure}
    with pytest.raises(bm.BayesmixedError, match="one effect"):
        bm.Model("y ~ x + (x | hospital:year)", data, covariances=given)
    model = bm.Model("y ~ x + (1 | hospital:year)", data, covariances=given)
    assert "sd_hospital:year[2]" in model.priors.index


def test_impossible_correlations_of_a_process_have_a_message_of_their_own(
    epil: pd.DataFrame,
) -> None:
    """Draws where a matrix is not positive definite are drawn again, as those of residuals are."""
    bands = bm.Toeplitz(time="period", within="subject", bands=3)
    prior = _counts(epil, bands, "y ~ 1").prior_predictive(20, seed=1)
    rho = prior["prior"]["rho"].to_numpy().reshape(-1, 2)
    for one in rho:
        P = bands.matrix({"rho": one}, np.arange(4.0)[:, None])
        assert np.linalg.eigvalsh(P).min() > 0
    assert np.isfinite(prior["prior_predictive"]["y"]).all()
    apart = {
        "rho[1]": bm.Prior("Uniform", lower=0.9, upper=0.99),
        "rho[2]": bm.Prior("Uniform", lower=-0.99, upper=-0.9),
    }
    model = bm.Model("y ~ 1", epil, family="poisson", residual=bands, priors=apart)
    with pytest.raises(bm.BayesmixedError, match="positive definite together"):
        model.prior_predictive(20, seed=1)


@pytest.fixture(scope="session")
def by_visit(epil: pd.DataFrame) -> Fit:
    return _counts(epil, BY_VISIT, "y ~ trt + lbase + lage").fit(seed=1, progress=False)


@pytest.mark.slow
def test_sds_by_visit_agree_with_glmmtmb(by_visit: Fit) -> None:
    """glmmTMB 1.1.5, ``y ~ trt + lbase + lage + cs(0 + factor(period) | subject)``, Poisson.

    Maximum likelihood; posteriors of sds lie above their modes, so the 80 % interval is asked.
    """
    posterior = by_visit.posterior
    for term, value in {"trt[T.progabide]": -0.3332, "lbase": 1.0229, "lage": 0.3255}.items():
        draws = posterior["beta"].sel(term=term)
        assert float(draws.mean()) == pytest.approx(value, abs=0.2 * float(draws.std())), term
    for visit, value in {1: 0.59923, 2: 0.61109, 3: 0.71187, 4: 0.40714}.items():
        low, high = np.quantile(posterior["sd_process"].sel(process_visit=visit), [0.1, 0.9])
        assert low < value < high, visit
    low, high = np.quantile(posterior["rho"], [0.1, 0.9])
    assert low < 0.66173 < high
    assert by_visit.converged


@pytest.mark.parametrize("structure", [AR1, BY_VISIT, BY_ARM], ids=["ar1", "visit", "arm"])
def test_design_effects_of_counts_are_those_of_the_lognormal_poisson(
    epil: pd.DataFrame, structure: bm.Structure
) -> None:
    """Cov(y, y') = m m' (exp(c) - 1) in closed form, pair by pair."""
    data = epil.assign(ward=epil["subject"] % 7)
    model = _counts(data, structure, "y ~ 1 + (1 | subject) + (1 | ward)")
    fit = made.from_priors(model, 3, sd_process=(0.2, 0.9), sd_subject=(0.1, 0.6), sd_ward=(0, 0.5))
    one = fit.posterior.isel(chain=1, draw=2)
    V = {n: float(one[f"sd_{n}"].squeeze()) ** 2 for n in ("subject", "ward")}
    who, period, arm = (data[n].to_numpy() for n in ("subject", "period", "trt"))
    if structure is BY_ARM:
        labels = [f"{a},{p}" for a, p in zip(arm, period, strict=True)]
        sd = one["sd_process"].sel(process_cell=labels).to_numpy()
        phi = one["phi"].sel(process_arm=arm).to_numpy()[:, None]
    else:
        sd = one["sd_process"].to_numpy()
        sd = sd[period - 1] if structure is BY_VISIT else np.full(len(who), sd[0])
    lag = np.abs(period[:, None] - period)
    P = one["rho"].item() ** (lag > 0) if structure is BY_VISIT else None
    if P is None:
        P = (phi if structure is BY_ARM else one["phi"].item()) ** lag
    same = who[:, None] == who
    ward = data["ward"].to_numpy()
    shared = V["subject"] * same + V["ward"] * (ward[:, None] == ward)
    C = shared + same * P * sd[:, None] * sd
    m = np.exp(float(one["beta"].squeeze()) + np.diag(C) / 2)
    cov = m[:, None] * m * np.expm1(C) + np.diag(m)
    effect = bm.design_effect(fit).draws["design_effect"].to_numpy()[1, 2]
    assert effect == pytest.approx(cov.sum() / np.trace(cov), rel=1e-7)
    by_ward = bm.design_effect(fit, level="ward").draws["design_effect"].to_numpy()[1, 2]
    assert by_ward == pytest.approx(effect)
    alone = bm.design_effect(fit, level="subject").draws["design_effect"].to_numpy()[1, 2]
    assert alone == pytest.approx((cov * same).sum() / np.trace(cov), rel=1e-7)
    with pytest.raises(bm.BayesmixedError, match="leave out cluster_size"):
        bm.design_effect(fit, cluster_size=5)


def test_a_design_effect_of_a_yes_no_process_is_its_correlation(epil: pd.DataFrame) -> None:
    """One pair of rows a subject: 1 + the correlation on the response scale, as two groups have."""
    pairs = epil[epil["period"] <= 2]
    kept = bm.Model("high ~ 1", pairs, family="bernoulli", residual=AR1)
    fit = made.at(kept, sd_process=1.5, phi=0.7, beta=-0.4)
    effect = float(bm.design_effect(fit).table.loc["design_effect", "mean"])
    twice = bm.Model(
        "high ~ 1 + (1 | subject) + (1 | half)",
        pairs.assign(half=range(len(pairs))).assign(half=lambda d: d["half"] // 2),
        family="bernoulli",
    )
    plain = made.at(twice, sd_subject=1.5 * 0.7**0.5, sd_half=1.5 * 0.3**0.5, beta=-0.4)
    rho = bm.icc(plain, "response").table.loc[("subject", "response"), "mean"]
    assert effect == pytest.approx(1 + rho, rel=1e-6)


@pytest.mark.parametrize("sd", [0.5, 3.0, 5.0])
@pytest.mark.parametrize("family", ["poisson", "negative_binomial"])
def test_design_effects_of_wide_processes_are_exact(family: str, sd: float) -> None:
    """The outcomes' variance is E mu (+ E mu^2 / alpha) + m^2 (exp(sd^2) - 1)."""
    data = pd.DataFrame({"person": np.repeat(np.arange(4), 6), "t": np.tile(np.arange(6), 4)})
    data["n"] = np.arange(24) % 5
    structure = bm.AR1(time="t", within="person")
    model = bm.Model("n ~ 1", data, family=family, residual=structure)
    fit = made.at(model, sd_process=sd, phi=0.8, beta=0.7)
    m, square = np.exp(0.7 + sd**2 / 2), np.exp(1.4 + 2 * sd**2)
    within = m if family == "poisson" else m + square / fit.posterior["alpha"].item()
    lag = np.arange(1, 6)
    pairs = ((6 - lag) * np.expm1(sd**2 * 0.8**lag)).sum() / 3
    exact = 1 + m**2 * pairs / (within + m**2 * np.expm1(sd**2))
    effect = bm.design_effect(fit).table.loc["design_effect", "mean"]
    assert effect == pytest.approx(exact, rel=1e-9)


def test_design_effects_of_long_series_fit_in_memory(monkeypatch) -> None:
    """All correlations of the 500 draws would take 40 MB, and what their pairs make 100 MB more."""
    data = pd.DataFrame({"person": np.repeat([1, 2], 100), "day": np.tile(np.arange(100), 2)})
    data["n"] = np.arange(200) % 3
    model = bm.Model("n ~ 1", data, family="poisson", residual=bm.AR1(time="day", within="person"))
    fit = made.from_priors(model, 250, sd_process=(0.2, 0.9))
    process = next(r for r in fit.design.predictors["mu"].random if r.name == "process")
    rows, cluster = average_row(fit), data["person"].to_numpy()
    monkeypatch.setattr(places, "_AT_ONCE", 400_000)
    tracemalloc.start()
    found = process_effect(fit, rows, process, cluster).ravel()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    sd, phi, beta = (fit.posterior[n].to_numpy().ravel() for n in ("sd_process", "phi", "beta"))
    lag = np.arange(1, 100)[:, None]
    m = np.exp(beta + sd**2 / 2)
    pairs = ((1 - lag / 100) * np.expm1(sd**2 * phi**lag)).sum(axis=0)
    exact = 1 + 2 * pairs / (np.expm1(sd**2) + 1 / m)
    np.testing.assert_allclose(found, exact, rtol=1e-7)


def test_contrasts_of_arms_take_each_with_its_own_sd(epil: pd.DataFrame) -> None:
    """E(count) of an arm is exp(eta + sd^2 / 2), averaged over the visits of all rows."""
    fit = made.at(_counts(epil, BY_ARM, "y ~ trt"), beta=[0.5, -0.3])
    sd = fit.posterior["sd_process"]
    sd[:] = np.linspace(0.2, 1.2, 8)
    mean = {}
    for arm, eta in (("placebo", 0.5), ("progabide", 0.2)):
        own = sd.sel(process_cell=[f"{arm},{t}" for t in (1, 2, 3, 4)]).to_numpy().ravel()
        mean[arm] = np.exp(eta + own**2 / 2).mean()
    table = bm.effects(fit, "trt", population="new").table["median"].droplevel("population")
    difference = table["progabide vs placebo", "mean difference"]
    assert difference == pytest.approx(mean["progabide"] - mean["placebo"], rel=1e-7)


def test_what_is_left_of_a_smooth_process_has_a_root():
    """Where rounding makes it indefinite, so that no Cholesky factor exists."""
    times = 0.5 * np.arange(18.0)[:, None]
    P = bm.SquaredExponential(time="t", within="id").matrix({"range": 5.0}, times)
    _, left = regression(P[None], 6)
    root = following._root(left)
    np.testing.assert_allclose(root @ root.mT, left, atol=1e-7)
    np.testing.assert_array_equal(np.triu(root[0], 1), 0)
