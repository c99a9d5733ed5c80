"""Intraclass correlations, median ratios and R2 against closed forms, integrals and simulation."""

from __future__ import annotations

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from made import from_priors
from scipy import integrate, special, stats
from scipy.special import expit

import bayesmixed as bm
from bayesmixed.families import FAMILIES
from bayesmixed.fit import Fit
from bayesmixed.names import coords, dims

AUX = {
    "sigma": 0.8,
    "nu": 6.0,
    "alpha": 2.5,
    "kappa": 4.0,
    "zi": 0.3,
    "thresholds": np.array([-1.0, 0.3, 1.4]),
}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def known(design, **values) -> Fit:
    """A fit whose draws are given, each value with the draws first."""
    every = {"chain": [0], "draw": None} | coords(design)
    found = {n: np.asarray(v, dtype=float)[None] for n, v in values.items()}
    variables = {n: (("chain", "draw", *dims(design)[n]), v) for n, v in found.items()}
    used = {d for names, _ in variables.values() for d in names} - {"draw"}
    posterior = xr.Dataset(variables, coords={d: every[d] for d in used})
    return Fit(design, xr.DataTree.from_dict({"posterior": posterior, "sample_stats": None}))


def rows(groups=30, each=4, seed=1, **columns):
    """A table of groups with a predictor; outcomes are valid for every family."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), each)
    return pd.DataFrame({"g": g, "x": rng.normal(size=len(g)), **columns})


def one_group(family, eta, sd, link=None, trials=False):
    """Draws of an intercept and a standard deviation of groups, for a family."""
    chosen = FAMILIES[family]
    y = np.arange(120) % 2 + (0 if chosen.valid(np.array([0.0]), np.array([1.0]))[0] else 0.25)
    table = rows(y=y / (1.0 if chosen.valid(np.array([1.0]), np.array([1.0]))[0] else 2.0), n=1)
    outcome = "y | trials(n)" if chosen.has_trials else "y"
    if chosen.is_categorical:
        table["y"] = np.arange(120) % 4
    design = bm.Model(f"{outcome} ~ 1 + (1 | g)", table, family=family, link=link).design
    eta, sd = np.atleast_1d(eta), np.atleast_1d(sd)
    names = [p.name for p in chosen.parameters[1:]]
    aux = {n: np.broadcast_to(AUX[n], (len(eta), *np.shape(AUX[n]))) for n in names}
    beta = {} if chosen.is_categorical else {"beta": eta[:, None]}
    return known(design, sd_g=sd[:, None], **beta, **aux)


def response(report, group="g"):
    return report.draws["response"].sel(group=group).to_numpy()[0, :, 0]


def latent(report, group="g"):
    return report.draws["latent"].sel(group=group).to_numpy()[0, :, 0]


def test_gaussian_slopes_make_it_vary(sleepstudy):
    """z'Gz / (z'Gz + sigma^2) at each value, written out on the draws."""
    days = [0, 3, 6]
    report = bm.icc(sleepstudy, at={"Days": days})
    posterior = sleepstudy.posterior
    sd, sigma = posterior["sd_Subject"].to_numpy(), posterior["sigma"].to_numpy()
    cor = posterior["cor_Subject"].to_numpy()[..., 0, 1]
    for k, day in enumerate(days):
        V = sd[..., 0] ** 2 + 2 * day * cor * sd[..., 0] * sd[..., 1] + day**2 * sd[..., 1] ** 2
        expected = V / (V + sigma**2)
        np.testing.assert_allclose(report.draws["latent"][..., k, 0], expected)
        row = report.table.loc[(day, "Subject", "latent")]
        assert row["mean"] == pytest.approx(expected.mean())
        low, high = np.quantile(expected, [0.025, 0.975])
        assert (row["eti95_lb"], row["eti95_ub"]) == pytest.approx((low, high))
    # The identity link's quadrature reproduces the algebra, to its stated error of 1e-9.
    integrated = bm.icc(sleepstudy, "response", at={"Days": days})
    np.testing.assert_allclose(integrated.draws["response"], report.draws["latent"], rtol=1e-7)


def test_the_average_row_has_the_share_of_the_variance(sleepstudy, medpar):
    """Without `at` it is the grouping's share in the variance components."""
    for fit, group in ((sleepstudy, "Subject"), (medpar, "provnum")):
        share = bm.variance_components(fit).draws[f"{group}.share"]
        np.testing.assert_allclose(bm.icc(fit).draws["latent"][..., 0, 0], share)


def test_nested_levels_add_up_from_outside(pastes):
    posterior = pastes.posterior
    batch, cask = (posterior[f"sd_{g}"].to_numpy()[..., 0] ** 2 for g in ("batch", "cask"))
    total = batch + cask + posterior["sigma"].to_numpy() ** 2
    report = bm.icc(pastes)
    np.testing.assert_allclose(report.draws["latent"].sel(group="batch")[..., 0], batch / total)
    both = (batch + cask) / total
    np.testing.assert_allclose(report.draws["latent"].sel(group="cask")[..., 0], both)
    assert list(report.table.index) == [("batch", "latent"), ("cask", "latent")]
    assert "share cask also share batch" in report.caption


def test_yes_no_outcome_on_both_scales(medpar):
    """Latent: V / (V + pi^2/3). Response: scipy's adaptive quadrature in three draws."""
    report = bm.icc(medpar)
    V = medpar.posterior["sd_provnum"].to_numpy()[..., 0] ** 2
    np.testing.assert_allclose(report.draws["latent"][..., 0, 0], V / (V + np.pi**2 / 3))
    X = medpar.design.predictors["mu"].X.mean(axis=0)
    for chain, draw in ((0, 0), (1, 500), (3, 999)):
        one = medpar.posterior.isel(chain=chain, draw=draw)
        eta, sd = float(X @ one["beta"].to_numpy()), float(one["sd_provnum"][0])

        def moment(power, eta=eta, sd=sd):
            f = lambda z: stats.norm.pdf(z) * expit(eta + sd * z) ** power  # noqa: E731
            return integrate.quad(f, -10, 10, epsabs=1e-13, epsrel=1e-13)[0]

        expected = (moment(2) - moment(1) ** 2) / (moment(1) * (1 - moment(1)))
        assert float(report.draws["response"][chain, draw, 0, 0]) == pytest.approx(
            expected, abs=1e-9
        )


def test_nested_yes_no_outcome_against_two_dimensional_quadrature():
    """Units and patients: the inner effect is integrated inside the square of the outer one."""
    table = rows(12, 8, y=np.arange(96) % 2)
    table["p"] = np.arange(96) // 2
    hierarchy = bm.Hierarchy({"g": "1", "p": "1"})
    design = bm.Model("y ~ 1", table, family="bernoulli", hierarchy=hierarchy).design
    eta, outer, inner = np.array([-1.0, 0.4]), np.array([0.7, 2.0]), np.array([1.5, 0.3])
    fit = known(design, beta=eta[:, None], sd_g=outer[:, None], sd_p=inner[:, None])
    report = bm.icc(fit)
    z, w = np.polynomial.hermite_e.hermegauss(101)
    w = w / w.sum()
    for k in range(2):
        p = expit(eta[k] + outer[k] * z[:, None] + inner[k] * z)
        m = w @ p @ w
        unit = (w @ (p @ w) ** 2 - m**2) / (m * (1 - m))
        patient = (w @ p**2 @ w - m**2) / (m * (1 - m))
        # Gauss and Hermite's 101 nodes are good for 1e-9 at a spread of 2.
        assert response(report, "g")[k] == pytest.approx(unit, abs=1e-8)
        assert response(report, "p")[k] == pytest.approx(patient, abs=1e-8)
    total = outer**2 + inner**2 + np.pi**2 / 3
    np.testing.assert_allclose(latent(report, "g"), outer**2 / total)
    np.testing.assert_allclose(latent(report, "p"), (outer**2 + inner**2) / total)


def test_adaptive_quadrature_agrees_for_one_nested_case():
    """Dblquad on the same integral, since the reference above is also a rule with fixed nodes."""
    table = rows(12, 8, y=np.arange(96) % 2)
    table["p"] = np.arange(96) // 2
    hierarchy = bm.Hierarchy({"g": "1", "p": "1"})
    design = bm.Model("y ~ 1", table, family="bernoulli", hierarchy=hierarchy).design
    report = bm.icc(known(design, beta=[[-0.5]], sd_g=[[1.0]], sd_p=[[0.8]]), "response")

    def over(power):
        f = lambda b, a: (  # noqa: E731
            stats.norm.pdf(a) * stats.norm.pdf(b) * expit(-0.5 + a + 0.8 * b) ** power
        )
        return integrate.dblquad(f, -8, 8, -8, 8, epsabs=1e-9)[0]

    m = over(1)
    expected = (over(2) - m**2) / (m * (1 - m))
    assert response(report, "p")[0] == pytest.approx(expected, abs=1e-7)


def test_crossed_groupings_count_one_at_a_time():
    """Probit: a shared part R of the latent variance makes Phi2(a, a; R), in closed form."""
    table = rows(10, 10, y=np.arange(100) % 2)
    table["rater"] = np.arange(100) % 10
    table.loc[0, "y"] = 1
    design = bm.Model(
        "y ~ 1 + (1 | g) + (1 | rater)", table, family="bernoulli", link="probit"
    ).design
    fit = known(design, beta=[[0.6], [-1.2]], sd_g=[[1.0], [0.2]], sd_rater=[[0.5], [2.0]])
    report = bm.icc(fit)
    beta, g, rater = np.array([0.6, -1.2]), np.array([1.0, 0.04]), np.array([0.25, 4.0])
    total = 1 + g + rater
    a = beta / np.sqrt(total)
    for name, V in (("g", g), ("rater", rater)):
        R = V / total
        np.testing.assert_allclose(latent(report, name), R)
        both = special.ndtr(a) - 2 * special.owens_t(a, np.sqrt((1 - R) / (1 + R)))
        m = special.ndtr(a)
        np.testing.assert_allclose(response(report, name), (both - m**2) / (m * (1 - m)), rtol=1e-7)


ETA, SD = np.array([0.3, 1.5, -0.7]), np.array([0.2, 0.9, 1.4])


def test_counts_have_lognormal_moments():
    """Stryhn et al. (2006): with m = exp(eta + V/2), Cov = m^2 (e^V - 1); table 1 of Nakagawa."""
    m, V = np.exp(ETA + SD**2 / 2), SD**2
    between = m**2 * np.expm1(V)
    second = m**2 * np.exp(V)
    poisson = bm.icc(one_group("poisson", ETA, SD))
    np.testing.assert_allclose(response(poisson), between / (between + m), rtol=1e-8)
    np.testing.assert_allclose(latent(poisson), V / (V + np.log1p(1 / m)))
    alpha, zi = AUX["alpha"], AUX["zi"]
    negative = bm.icc(one_group("negative_binomial", ETA, SD))
    within = m + second / alpha
    np.testing.assert_allclose(response(negative), between / (between + within), rtol=1e-8)
    np.testing.assert_allclose(latent(negative), V / (V + np.log(1 + 1 / m + 1 / alpha)))
    zero = bm.icc(one_group("zero_inflated_poisson", ETA, SD))
    within = (1 - zi) * (m + zi * second)
    between = (1 - zi) ** 2 * between
    np.testing.assert_allclose(response(zero), between / (between + within), rtol=1e-8)


def test_positive_outcomes_have_lognormal_moments():
    V, sigma, alpha = SD**2, AUX["sigma"], AUX["alpha"]
    lognormal = bm.icc(one_group("lognormal", ETA, SD))
    np.testing.assert_allclose(latent(lognormal), V / (V + sigma**2))
    np.testing.assert_allclose(response(lognormal), np.expm1(V) / np.expm1(V + sigma**2), rtol=1e-8)
    gamma = bm.icc(one_group("gamma", ETA, SD))
    np.testing.assert_allclose(
        response(gamma), np.expm1(V) / (np.expm1(V) + np.exp(V) / alpha), rtol=1e-8
    )
    np.testing.assert_allclose(latent(gamma), V / (V + np.log1p(1 / alpha)))


@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_family_against_simulated_pairs(family):
    """Two outcomes of 400,000 new groups; four standard errors from 40 batches of them."""
    fit = one_group(family, 0.4, 0.7)
    if FAMILIES[family].is_categorical:
        fit = one_group(family, 0.0, 0.7)
    design, rng = fit.design, np.random.default_rng(5)
    centre = 0.0 if FAMILIES[family].is_categorical else 0.4
    u = rng.normal(centre, 0.7, 400_000)
    links = design.links
    eta = {design.family.parameters[0].name: u}
    for parameter in design.family.parameters[1:]:
        value = np.asarray(AUX[parameter.name])
        eta[parameter.name] = value if value.ndim else parameter.links[0].forward(value)
    both = [
        design.family.evaluate(design.family.simulate, eta, links, rng=rng, trials=np.ones(len(u)))
        for _ in range(2)
    ]
    batches = zip(*(np.split(np.asarray(b, dtype=float), 40) for b in both), strict=True)
    found = np.array([np.corrcoef(a, b)[0, 1] for a, b in batches])
    error = found.std(ddof=1) / np.sqrt(len(found))
    exact = response(bm.icc(fit, "response"))[0]
    assert 0.01 < exact < 0.95
    assert abs(found.mean() - exact) < 4 * error + 1e-3 * exact
    assert error < 0.02


def test_pairs_of_one_draw_of_a_real_fit(medpar):
    """Brute force: binary pairs in the same new hospital, with one draw's parameters."""
    draw = int(np.argmax(medpar.posterior["sd_provnum"].to_numpy()[0, :, 0]))
    one = medpar.posterior.isel(chain=0, draw=draw)
    table = pd.DataFrame({"age80": [1.0]})
    report = bm.icc(medpar, "response", at=table.assign(type=2))
    assert list(report.draws["profile"].to_numpy()) == ["age80=1.0, type=2"]
    X = medpar.design.predictors["mu"].X
    row = X[(X[:, 1] == 1) & (X[:, 2] == 1)][0]
    rng = np.random.default_rng(1)
    p = expit(row @ one["beta"].to_numpy() + float(one["sd_provnum"][0]) * rng.normal(size=10**6))
    a, b = rng.random((2, 10**6)) < p
    exact = float(report.draws["response"][0, draw, 0, 0])
    # The standard error of a small correlation of n pairs is 1 / sqrt(n).
    assert np.corrcoef(a, b)[0, 1] == pytest.approx(exact, abs=4e-3)
    assert exact > 0.03


def test_trials_are_rows_written_shorter():
    """A grouped binomial table and its single trials are one model, and have one correlation."""
    rng = np.random.default_rng(2)
    short = rows(20, 3, n=rng.integers(2, 9, 60), y=1)
    long = short.loc[short.index.repeat(short["n"])].assign(y=lambda d: np.arange(len(d)) % 2)
    grouped = bm.Model("y | trials(n) ~ x + (1 | g)", short, family="binomial").design
    single = bm.Model("y ~ x + (1 | g)", long, family="bernoulli").design
    values = {"beta": [[-0.4, 0.8]], "sd_g": [[0.9]]}
    for make in (bm.icc, bm.r2, bm.design_effect):
        one, other = (make(known(design, **values)) for design in (grouped, single))
        np.testing.assert_allclose(one.table["mean"], other.table["mean"], rtol=1e-10)


def test_sigma_with_effects_of_its_own():
    """The residual variance is that of a lognormal sigma, averaged over its own groups."""
    table = rows(15, 8, y=np.random.default_rng(3).normal(size=120))
    model = bm.Model("y ~ 1 + (1 | g)", table, parameters={"sigma": "~ x + (1 | g)"})
    fit = known(
        model.design,
        beta=[[1.0]],
        sd_g=[[0.8]],
        beta_sigma=[[-0.2, 0.5]],
        sd_sigma_g=[[0.4]],
    )
    report = bm.icc(fit, at={"x": [0.0, 2.0]})
    for k, x in enumerate((0.0, 2.0)):
        residual = np.exp(2 * (-0.2 + 0.5 * x) + 2 * 0.4**2)
        expected = 0.64 / (0.64 + residual)
        assert float(report.draws["latent"][0, 0, k, 0]) == pytest.approx(expected, rel=1e-8)


def test_the_rest_is_averaged_over_the_data():
    """A factor and an interaction: the average of the predictors of all rows given the value."""
    rng = np.random.default_rng(4)
    table = rows(20, 5, y=np.arange(100) % 2, arm=rng.choice(["a", "b", "c"], 100))
    design = bm.Model("y ~ x * arm + (1 | g)", table, family="bernoulli").design
    beta = rng.normal(size=len(design.predictors["mu"].terms))
    fit = known(design, beta=beta[None], sd_g=[[0.8]])
    every = design.unobserved(table.assign(arm="b")).predictors["mu"].X @ beta
    alone = one_group("bernoulli", every.mean(), 0.8)
    expected = response(bm.icc(alone))
    found = bm.icc(fit, at={"arm": "b"})
    np.testing.assert_allclose(response(found), expected)
    assert found.table.index.names == ["arm", "group", "scale"]


def test_a_zero_variance_is_no_correlation():
    report = bm.icc(one_group("poisson", [0.5, 0.5], [0.0, 1e-4]))
    assert response(report)[0] == 0
    # To first order Cov is m^2 V: the quadrature does not lose small variances.
    m = np.exp(0.5)
    assert response(report)[1] == pytest.approx(m * 1e-8, rel=1e-5)


def test_heavy_tails_are_pointed_out():
    """With two degrees of freedom or fewer a Student-t has no variance, and says so."""
    fit = one_group("student_t", 0.4, 0.7)
    heavy = fit.posterior.assign(nu=fit.posterior["nu"] * 0 + 1.5)
    tree = xr.DataTree.from_dict({"posterior": heavy, "sample_stats": None})
    report = bm.icc(Fit(fit.design, tree))
    assert report.table["mean"].iloc[0] == 0
    assert any("no finite variance" in caveat for caveat in report.caveats)
    assert not any("no finite variance" in caveat for caveat in bm.icc(fit).caveats)


def test_loaded_fits_say_the_same(sleepstudy, tmp_path):
    loaded = bm.load(sleepstudy.save(tmp_path / "fit.nc"))
    for make in (bm.icc, bm.r2, bm.design_effect, bm.variance_components):
        pd.testing.assert_frame_equal(make(loaded).table, make(sleepstudy).table)


def test_what_cannot_be_asked(medpar, sleepstudy):
    with pytest.raises(bm.BayesmixedError, match="predictor 'dayz'"):
        bm.icc(sleepstudy, at={"dayz": 3})
    with pytest.raises(bm.BayesmixedError, match="predictor 'provnum'"):
        bm.icc(medpar, at={"provnum": 30001})
    with pytest.raises(bm.BayesmixedError, match="categor"):
        bm.icc(medpar, at={"type": 7})
    with pytest.raises(bm.BayesmixedError, match="scale"):
        bm.icc(medpar, "latnet")
    with pytest.raises(bm.BayesmixedError, match='scale="response"'):
        bm.icc(one_group("beta", 0.1, 0.5))
    for make in (lambda f: bm.icc(f, "response"), lambda f: bm.r2(f, "response")):
        with pytest.raises(bm.BayesmixedError, match="no mean over groups"):
            make(one_group("gamma", 2.0, 0.1, link="inverse"))
    design = bm.Model("y ~ x", rows(y=np.arange(120) % 2), family="bernoulli").design
    with pytest.raises(bm.BayesmixedError, match="Nothing varies"):
        bm.icc(known(design, beta=[[0.1, 0.2]]))
    with pytest.raises(bm.BayesmixedError, match="identity"):
        bm.median_odds_ratio(sleepstudy)


def test_median_odds_ratio(medpar):
    """exp(0.9539 sd) of Larsen & Merlo (2005), and the median of simulated pairs of units."""
    report = bm.median_odds_ratio(medpar)
    sd = medpar.posterior["sd_provnum"].to_numpy()[..., 0]
    expected = np.exp(0.953873 * sd)
    np.testing.assert_allclose(report.draws["median_ratio"][..., 0, 0], expected, rtol=1e-5)
    assert report.table.loc["provnum", "mean"] == pytest.approx(expected.mean(), rel=1e-5)
    a, b = np.random.default_rng(1).normal(0, 1.2, (2, 10**6))
    ratio = bm.median_odds_ratio(one_group("bernoulli", 0.3, 1.2)).table["mean"].iloc[0]
    # The median's standard error is 1 / (2 f sqrt(n)), f about 0.12 there: 0.4 %.
    assert ratio == pytest.approx(np.median(np.exp(np.abs(a - b))), rel=0.015)


def test_median_ratios_have_their_names():
    names = {"poisson": "rate ratio", "ordinal": "odds ratio", "lognormal": "ratio"}
    for family, name in names.items():
        report = bm.median_odds_ratio(one_group(family, 0.3, 0.5))
        assert report.title == f"Median {name}"
        assert name in report.caption
    cloglog = bm.median_odds_ratio(one_group("bernoulli", 0.3, 0.5, link="cloglog"))
    assert cloglog.title == "Median hazard ratio"


def test_r2_of_a_gaussian_fit(sleepstudy):
    """Nakagawa & Schielzeth (2013) and Johnson (2014), written out for one draw."""
    one = sleepstudy.posterior.isel(chain=2, draw=17)
    days = sleepstudy.design.table.frame["Days"].to_numpy()
    fixed = np.var(float(one["beta"][1]) * days)
    sd, cor = one["sd_Subject"].to_numpy(), one["cor_Subject"].to_numpy()
    Z = np.column_stack([np.ones(len(days)), days])
    groups = np.mean([z @ (cor * np.outer(sd, sd)) @ z for z in Z])
    total = fixed + groups + float(one["sigma"]) ** 2
    report = bm.r2(sleepstudy)
    found = report.draws["latent"].isel(chain=2, draw=17)
    np.testing.assert_allclose(found, [fixed / total, (fixed + groups) / total])
    # By the law of total variance the response scale is the same, here by quadrature.
    again = bm.r2(sleepstudy, "response").draws["response"]
    np.testing.assert_allclose(again, report.draws["latent"], rtol=1e-7)


def test_r2_on_the_response_scale_against_simulation():
    """Explained variance of new rows: predictors as in the data, new groups, new outcomes."""
    table = rows(30, 4, y=np.arange(120) % 2)
    design = bm.Model("y ~ x + (1 | g)", table, family="bernoulli").design
    fit = known(design, beta=[[-0.3, 1.1]], sd_g=[[0.9]])
    rng = np.random.default_rng(6)
    eta = -0.3 + 1.1 * table["x"].to_numpy()[:, None] + 0.9 * rng.normal(size=(120, 20_000))
    p = expit(eta)
    total = p.mean() * (1 - p.mean())
    marginal, conditional = np.var(p.mean(axis=1)) / total, np.var(p) / total
    found = bm.r2(fit).draws["response"].to_numpy()[0, 0]
    # 2.4 million groups: standard errors below 3e-4.
    np.testing.assert_allclose(found, [marginal, conditional], atol=1.5e-3)


def test_r2_without_groups_or_predictors():
    table = rows(y=np.random.default_rng(1).normal(size=120))
    fixed = known(bm.Model("y ~ x", table).design, beta=[[0.0, 2.0]], sigma=[1.5])
    v = 4 * np.var(table["x"])
    np.testing.assert_allclose(bm.r2(fixed).table["mean"], v / (v + 2.25))
    counts = bm.r2(one_group("poisson", 0.3, 0.5))
    assert (counts.draws["latent"].sel(part="marginal") < 1e-20).all()
    # With one profile the conditional R2 is the intraclass correlation.
    np.testing.assert_allclose(
        counts.draws["response"].sel(part="conditional")[0],
        response(bm.icc(one_group("poisson", 0.3, 0.5))),
        rtol=1e-6,
    )


def test_components_of_two_predictors_and_their_variances(medpar):
    table = rows(15, 8, y=np.random.default_rng(3).normal(size=120))
    model = bm.Model("y ~ 1 + (1 | g)", table, parameters={"sigma": "~ 1 + (1 | g)"})
    values = {"beta": [[1.0]], "sd_g": [[0.8]], "beta_sigma": [[-0.2]], "sd_sigma_g": [[0.4]]}
    found = bm.variance_components(
        known(model.design, **values, u_g=np.zeros((1, 15, 1)), u_sigma_g=np.zeros((1, 15, 1)))
    ).table["mean"]
    assert found["g", "", "variance"] == pytest.approx(0.64)
    assert ("g", "Intercept", "variance") not in found.index
    assert found["g (sigma)", "Intercept", "sd"] == pytest.approx(0.4)
    assert found["g (sigma)", "Intercept", "variance"] == pytest.approx(0.16)
    share = bm.variance_components(medpar)
    squares = medpar.posterior["sd_provnum"] ** 2
    assert share.table.loc[("provnum", "", "variance"), "mean"] == pytest.approx(
        float(squares.mean())
    )
    residual = bm.variance_components(one_group("beta", 0.1, 0.5)).table
    assert "residual" not in residual.index.get_level_values("group")


def test_the_curve_over_a_predictor(sleepstudy, tmp_path):
    report = bm.icc(sleepstudy, at={"Days": list(range(10))})
    assert next(iter(report.pictures)) == "curve"
    ax = report.plot()
    assert ax.get_xlabel() == "Days"
    shown = [line for line in ax.lines if len(line.get_xdata()) == 10]
    np.testing.assert_allclose(shown[-1].get_ydata(), report.table["mean"])
    assert all(a < b for a, b in pairwise(report.table["mean"].iloc[2:]))
    for made in (report, bm.icc(sleepstudy), bm.r2(sleepstudy)):
        assert made.save_plot(tmp_path / "picture.png").stat().st_size > 5_000
        assert "equal-tailed" in made.caption
        assert made.references


def test_residual_sds_that_differ_by_visit_are_averaged_over_the_rows():
    """On the scale of their logarithm, as known ones; and those of a visit at that visit."""
    residual = bm.AR1(time="age", within="Subject", heterogeneous=True)
    data = bm.datasets.load("orthodont")
    fit = from_priors(bm.Model("distance ~ age + (1 | Subject)", data, residual=residual), 5)
    between = fit.posterior["sd_Subject"].to_numpy()[..., 0] ** 2
    sigma = fit.posterior["sigma"].to_numpy()
    found = bm.icc(fit).draws["latent"][..., 0, 0]
    mean = np.exp(np.log(sigma).mean(axis=-1))
    np.testing.assert_allclose(found, between / (between + mean**2))
    found = bm.icc(fit, at={"age": [8, 14]}).draws["latent"][..., 1, 0]
    np.testing.assert_allclose(found, between / (between + sigma[..., 3] ** 2))
