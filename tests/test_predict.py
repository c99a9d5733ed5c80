"""Predictions and forecasts against closed forms, quadrature, refits and simulated futures."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from made import from_priors
from scipy import integrate, stats
from scipy.special import expit

import bayesmixed as bm
from bayesmixed.fit import Fit
from bayesmixed.linpred import covariance, linear_predictor
from bayesmixed.names import dims
from bayesmixed.newcomers import observed, unknown_to_the_fit
from bayesmixed.reports._lines import Lines
from bayesmixed.update import propose, update


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def stated(formula, data, family, draws=2000, **values) -> Fit:
    """A fit whose every draw has the stated parameters, and effects of 0 unless they are stated."""
    design = bm.Model(formula, data, family=family).design
    found = {}
    for name, own in dims(design).items():
        value = values.get(name)
        if value is None:
            index = next(r for p in design.predictors.values() for r in p.random)
            value = np.zeros((len(index.groups.labels), index.size))
        value = np.asarray(value, dtype=float)
        found[name] = (("chain", "draw", *own), np.broadcast_to(value, (1, draws, *value.shape)))
    return Fit(design, xr.DataTree.from_dict({"posterior": xr.Dataset(found)}))


def table(outcomes, groups=4, seed=0):
    """Rows of a few groups over a predictor t, with outcomes from the list."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), 6)
    y = rng.choice(outcomes, size=len(g))
    y[:2] = outcomes[:2]
    return pd.DataFrame({"g": [f"g{i}" for i in g], "t": np.tile(np.arange(6.0), groups), "y": y})


def visits(y, who="someone new"):
    return pd.DataFrame({"g": who, "t": np.arange(float(len(y))), "y": y})


# --- the update ---------------------------------------------------------------------------------


def test_a_gaussian_update_is_that_of_the_dense_normal(sleepstudy):
    """Marginal density of the visits to 1e-8; mean and covariance of the effects given them.

    The latter are for one draw of the parameters, repeated: 4,000 effects from the closed form
    have a mean within 4.5 sd / sqrt(4000), and a covariance within 4.5 times its own error.
    """
    history = pd.DataFrame({"Subject": "x", "Days": [0, 2, 3, 7], "Reaction": [250, 270, 333, 341]})
    rows = observed(sleepstudy.design, history)
    (new,) = unknown_to_the_fit(rows)
    found = propose(sleepstudy, rows, new, np.random.default_rng(1))
    Z = np.column_stack([np.ones(4), history["Days"]])
    beta, sigma = (sleepstudy.posterior[n].to_numpy() for n in ("beta", "sigma"))
    G = covariance(sleepstudy, sleepstudy.design.predictors["mu"].random[0])
    for chain, draw in ((0, 0), (1, 17), (3, 999)):
        V = Z @ G[chain, draw] @ Z.T + sigma[chain, draw] ** 2 * np.eye(4)
        exact = stats.multivariate_normal(Z @ beta[chain, draw], V).logpdf(history["Reaction"])
        np.testing.assert_allclose(found.log_weights[chain, draw], exact, rtol=1e-8)
    index = {"chain": [0], "draw": np.full(4000, 5)}
    one = Fit(
        sleepstudy.design,
        xr.DataTree.from_dict({"posterior": sleepstudy.posterior.isel(index)}),
    )
    updated = update(one, rows, new, np.random.default_rng(2))
    assert updated.effective == pytest.approx(4000)
    cross = G[0, 5] @ Z.T @ np.linalg.inv(Z @ G[0, 5] @ Z.T + sigma[0, 5] ** 2 * np.eye(4))
    mean = cross @ (history["Reaction"].to_numpy() - Z @ beta[0, 5])
    cov = G[0, 5] - cross @ Z @ G[0, 5]
    effects = updated.effects[0][:, 0]
    sd = np.sqrt(np.diag(cov))
    assert (np.abs(effects.mean(axis=0) - mean) < 4.5 * sd / np.sqrt(4000)).all()
    error = np.sqrt((np.outer(sd, sd) ** 2 + cov**2) / 4000)
    assert (np.abs(np.cov(effects.T) - cov) < 4.5 * error).all()


FAMILIES = {
    "bernoulli": ([0, 1], [1, 1, 0, 1, 1], {}),
    "poisson": ([0, 1, 4], [0, 9, 5, 4], {}),
    "negative_binomial": ([0, 1, 4], [0, 9, 5, 40], {"alpha": 1.5}),
    "zero_inflated_poisson": ([0, 1, 4], [0, 0, 5, 0], {"zi": 0.3}),
    "student_t": ([0.5, 1.5, -1.0], [4.0, 5.0, -9.0], {"sigma": 0.8, "nu": 3.0}),
    "lognormal": ([0.5, 1.5, 1.0], [4.0, 5.0, 0.3], {"sigma": 0.8}),
    "gamma": ([0.5, 1.5, 1.0], [4.0, 5.0, 0.3], {"alpha": 2.0}),
    "beta": ([0.5, 0.2, 0.7], [0.9, 0.8, 0.3], {"kappa": 5.0}),
    "ordinal": ([0, 1, 2], [2, 2, 1], {"thresholds": [-0.5, 1.0]}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_one_effect_against_quadrature(family):
    """Marginal likelihood, mean and sd of a new group's intercept, of every kind of outcome.

    Errors of weighted means are worked out from the weights; 4.5 of them are allowed.
    """
    outcomes, y, values = FAMILIES[family]
    beta = [0.2] if family == "ordinal" else [0.3, 0.2]
    fit = stated("y ~ t + (1 | g)", table(outcomes), family, beta=beta, sd_g=[1.4], **values)
    rows = observed(fit.design, visits(y))
    (new,) = unknown_to_the_fit(rows)
    found = propose(fit, rows, new, np.random.default_rng(3))
    base = {n: v[0, 0] for n, v in linear_predictor(fit, rows, "average").centre.items()}
    design = fit.design

    def joint(u):
        eta = base | {"mu": base["mu"] + u}
        each = design.family.evaluate(design.family.loglik, eta, design.links, y=rows.y)
        return np.exp(np.sum(each)) * stats.norm.pdf(u, scale=1.4)

    points = np.linspace(-7, 7, 15)
    total, mean, square = (
        integrate.quad(lambda u, k=k: u**k * joint(u), -14, 14, points=points, limit=200)[0]
        for k in range(3)
    )
    weights = np.exp(found.log_weights).ravel()
    u = 1.4 * found.z.ravel()
    error = weights.std() / np.sqrt(len(weights))
    assert abs(weights.mean() - total) < 4.5 * error + 1e-8 * total
    exact_sd = np.sqrt(square / total - (mean / total) ** 2)
    share = weights / weights.sum()
    assert (share**2).sum() < 1 / 4000
    for power, exact in ((1, mean / total), (2, square / total)):
        error = np.sqrt((share**2 * (u**power - exact) ** 2).sum())
        assert abs((share * u**power).sum() - exact) < 4.5 * error
    updated = update(fit, rows, new, np.random.default_rng(4))
    assert updated.khat < 0.7
    drawn = updated.effects[0][:, 0, 0]
    assert abs(drawn.mean() - mean / total) < 4.5 * exact_sd / np.sqrt(2000)
    assert abs(drawn.std() / exact_sd - 1) < 4.5 * np.sqrt(
        stats.kurtosis(drawn, fisher=False) / 4 / 2000
    )


def test_two_effects_against_a_grid():
    """A yes/no outcome with correlated intercept and slope, against sums over a fine grid."""
    G = np.array([[1.5**2, 0.4 * 1.5 * 0.6], [0.4 * 1.5 * 0.6, 0.6**2]])
    fit = stated(
        "y ~ t + (t | g)",
        table([0, 1]),
        "bernoulli",
        beta=[-0.5, 0.2],
        sd_g=[1.5, 0.6],
        cor_g=[[1, 0.4], [0.4, 1]],
    )
    y = np.array([0, 0, 1, 1, 1, 1])
    rows = observed(fit.design, visits(y))
    (new,) = unknown_to_the_fit(rows)
    found = propose(fit, rows, new, np.random.default_rng(5))
    a, b = np.meshgrid(np.linspace(-9, 9, 361), np.linspace(-4, 4, 321), indexing="ij")
    eta = (a - 0.5)[..., None] + (b + 0.2)[..., None] * np.arange(6)
    density = np.where(y, expit(eta), expit(-eta)).prod(axis=-1)
    density *= stats.multivariate_normal([0, 0], G).pdf(np.dstack([a, b]))
    total = density.sum() * 0.05 * 0.025
    weights = np.exp(found.log_weights).ravel()
    assert abs(weights.mean() / total - 1) < 4.5 * weights.std() / total / np.sqrt(len(weights))
    drawn = update(fit, rows, new, np.random.default_rng(6)).effects[0][:, 0]
    density /= density.sum()
    for k, value in enumerate((a, b)):
        mean = (density * value).sum()
        sd = np.sqrt((density * (value - mean) ** 2).sum())
        assert abs(drawn[:, k].mean() - mean) < 4.5 * sd / np.sqrt(2000)
        assert abs(drawn[:, k].std() / sd - 1) < 4.5 / np.sqrt(2 * 2000)
    ma, mb = (density * a).sum(), (density * b).sum()
    correlation = (density * (a - ma) * (b - mb)).sum() / np.sqrt(
        (density * (a - ma) ** 2).sum() * (density * (b - mb) ** 2).sum()
    )
    assert abs(np.corrcoef(drawn.T)[0, 1] - correlation) < 4.5 / np.sqrt(2000)


def test_effects_on_the_spread_against_a_grid():
    """New effects in the mean and in sigma at once, which is neither normal nor log-concave."""
    data = table([0.5, 1.5, -1.0])
    model = bm.Model("y ~ 1 + (1 | g)", data, parameters={"sigma": "~ 1 + (1 | g)"})
    draws, values = 2000, {"beta": [0.3], "sd_g": [1.0], "beta_sigma": [-0.2], "sd_sigma_g": [0.7]}
    posterior = {}
    for name, own in dims(model.design).items():
        value = np.asarray(values.get(name, np.zeros((4, 1))))
        posterior[name] = (
            ("chain", "draw", *own),
            np.broadcast_to(value, (1, draws, *value.shape)),
        )
    fit = Fit(model.design, xr.DataTree.from_dict({"posterior": xr.Dataset(posterior)}))
    y = np.array([2.0, 2.4, 1.7, 4.0])
    rows = observed(fit.design, visits(y))
    (new,) = unknown_to_the_fit(rows)
    a, b = np.meshgrid(np.linspace(-6, 6, 481), np.linspace(-4.5, 4.5, 361), indexing="ij")
    density = stats.norm.pdf(y, (a + 0.3)[..., None], np.exp(b - 0.2)[..., None]).prod(axis=-1)
    density *= stats.norm.pdf(a) * stats.norm.pdf(b, scale=0.7)
    total = density.sum() * 0.025 * 0.025
    weights = np.exp(propose(fit, rows, new, np.random.default_rng(7)).log_weights).ravel()
    assert abs(weights.mean() / total - 1) < 4.5 * weights.std() / total / np.sqrt(len(weights))
    updated = update(fit, rows, new, np.random.default_rng(8))
    for u, value in zip(updated.effects, (a, b), strict=True):
        mean = (density * value).sum() / density.sum()
        sd = np.sqrt((density * (value - mean) ** 2).sum() / density.sum())
        assert abs(u.mean() - mean) < 4.5 * sd / np.sqrt(draws)
        assert abs(u.std() / sd - 1) < 4.5 / np.sqrt(draws)


def test_a_new_unit_learns_from_all_its_patients(pastes):
    """Two casks of a new batch, of one draw of the parameters, against the dense normal."""
    one = pastes.posterior.isel({"chain": [0], "draw": np.full(4000, 11)})
    fit = Fit(pastes.design, xr.DataTree.from_dict({"posterior": one}))
    history = pd.DataFrame({"batch": "Z", "cask": ["a", "a", "b"], "strength": [66.0, 65.0, 63.0]})
    rows = observed(fit.design, history)
    (new,) = unknown_to_the_fit(rows)
    updated = update(fit, rows, new, np.random.default_rng(1))
    first = one.isel(chain=0, draw=0)
    outer, inner, s = (
        float(first[n].to_numpy().ravel()[0]) for n in ("sd_batch", "sd_cask", "sigma")
    )
    same = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    V = outer**2 + inner**2 * same + s**2 * np.eye(3)
    r = history["strength"].to_numpy() - float(first["beta"][0])
    cross = np.full(3, outer**2)
    mean, variance = cross @ np.linalg.solve(V, r), outer**2 - cross @ np.linalg.solve(V, cross)
    u = {n.random.name: e for n, e in zip(new, updated.effects, strict=True)}
    assert abs(u["batch"].mean() - mean) < 4.5 * np.sqrt(variance / 4000)
    assert abs(u["batch"].var() / variance - 1) < 4.5 * np.sqrt(2 / 4000)
    assert u["cask"].shape == (4000, 2, 1)
    cross = inner**2 * same[0]
    assert abs(u["cask"][:, 0].mean() - cross @ np.linalg.solve(V, r)) < 4.5 * inner / np.sqrt(4000)


# --- forecasts ----------------------------------------------------------------------------------

FORMULA = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def one_subject():
    data = bm.datasets.load("sleepstudy")
    is_first = data["Subject"] == data["Subject"].iloc[0]
    return data, is_first


@pytest.fixture(scope="module")
def without_subject(one_subject):
    data, is_first = one_subject
    return bm.Model(FORMULA, data[~is_first]).fit(seed=3, progress=False)


def _alike(one, other, effective=1500):
    """Means and sds within 4.5 Monte Carlo errors of `effective` draws each."""
    error = np.hypot(one["sd"], other["sd"]) / np.sqrt(effective)
    assert (np.abs(one["mean"] - other["mean"]) < 4.5 * error).all()
    assert (np.abs(one["sd"] / other["sd"] - 1) < 4.5 * np.sqrt(1 / effective)).all()


@pytest.mark.parametrize("kind", ["mean", "outcome"])
def test_a_forecast_equals_a_refit_with_the_visits(kind, one_subject, without_subject):
    """Leave subject 308 out, forecast days 5 to 9 from days 0 to 4; or refit with days 0 to 4."""
    data, is_first = one_subject
    late = data["Days"] >= 5
    refit = bm.Model(FORMULA, data[~(is_first & late)]).fit(seed=2, progress=False)
    history, future = data[is_first & ~late], data[is_first & late]
    found = bm.forecast(without_subject, history, future, kind=kind, seed=1)
    expected = bm.forecast(refit, None, future, kind=kind, seed=1)
    _alike(found.table, expected.table)
    assert (found.table["visits"] == 5).all()
    assert (found.table["effective_draws"] > 2000).all()
    assert (found.draws["khat"] < 0.7).all()
    assert (expected.table["effective_draws"] == 4000).all()
    # Without the weights the parameters would be those of the fit without the subject.
    assert (found.table["effective_draws"] < 3900).all()


def test_further_visits_of_a_patient_in_the_fit(one_subject, sleepstudy):
    """The fit has days 0 to 6, the history days 5 to 7: two count once, one is new."""
    data, is_first = one_subject
    cut = bm.Model(FORMULA, data[~(is_first & (data["Days"] > 6))]).fit(seed=4, progress=False)
    history = data[is_first & data["Days"].between(5, 7)]
    found = bm.forecast(cut, history, data[is_first & (data["Days"] > 7)], seed=1)
    assert (found.table["visits"] == 8).all()
    assert any("2 rows of the history are in the fit already" in c for c in found.caveats)
    refit = bm.Model(FORMULA, data[~(is_first & (data["Days"] > 7))]).fit(seed=5, progress=False)
    expected = bm.forecast(refit, None, data[is_first & (data["Days"] > 7)], seed=1)
    _alike(found.table, expected.table, effective=float(found.table["effective_draws"].min()) / 2)


def test_a_yes_no_forecast_equals_a_refit():
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(25), 8)
    t = np.tile(np.linspace(-1, 1, 8), 25)
    eta = 0.3 + t + 1.5 * rng.normal(size=25)[g] + 0.8 * rng.normal(size=25)[g] * t
    data = pd.DataFrame({"g": [f"p{i}" for i in g], "t": t, "y": rng.binomial(1, expit(eta))})
    last = data["g"] == "p24"
    past = data["t"] < 0.5
    fits = [
        bm.Model("y ~ t + (t | g)", d, family="bernoulli").fit(seed=s, progress=False)
        for s, d in ((1, data[~last]), (2, data[~last | past]))
    ]
    future = pd.DataFrame({"g": "p24", "t": [0.6, 1.0]})
    found = bm.forecast(fits[0], data[last & past], future, seed=1)
    _alike(found.table, bm.forecast(fits[1], None, future).table)


@pytest.mark.parametrize("family", ["gaussian", "bernoulli"])
def test_intervals_cover_what_comes(family):
    """100 patients from the posterior itself, each with a history: their futures are covered.

    Each patient's parameters are one of the fit's draws, so the place of its true expected value
    among the forecast's draws is uniform (Talts et al. 2018).
    """
    rng = np.random.default_rng(6)
    g = np.repeat(np.arange(30), 6)
    t = np.tile(np.arange(6.0), 30)
    eta = 0.2 * t - 0.5 + 1.2 * rng.normal(size=30)[g]
    y = rng.normal(eta, 0.7) if family == "gaussian" else rng.binomial(1, expit(eta))
    data = pd.DataFrame({"g": g, "t": t, "y": y})
    fit = bm.Model("y ~ t + (1 | g)", data, family=family).fit(
        draws=500, chains=2, seed=1, progress=False
    )
    one = fit.posterior.isel(chain=1, draw=rng.integers(0, 500, size=100))
    u = one["sd_g"].to_numpy()[:, 0] * rng.standard_normal(100)
    beta = one["beta"].to_numpy()
    at = np.array([0.0, 1, 2, 3, 5])
    eta = beta[:, :1] + beta[:, 1:] * at + u[:, None]
    if family == "gaussian":
        outcome = rng.normal(eta, one["sigma"].to_numpy()[:, None])
        true = eta[:, -1]
    else:
        outcome, true = rng.binomial(1, expit(eta)), expit(eta[:, -1])
    rows = pd.DataFrame(
        {"g": np.repeat(1000 + np.arange(100), 5), "t": np.tile(at, 100), "y": outcome.ravel()}
    )
    history, future = rows[rows["t"] < 4], rows[rows["t"] > 4].drop(columns="y")
    found = bm.forecast(fit, history, future, seed=7)
    place = (found.draws["forecast"] < true).mean(["chain", "draw"]).to_numpy()
    assert stats.kstest(place, "uniform").pvalue > 0.005
    inside = found.table["eti95_lb"].le(true) & found.table["eti95_ub"].ge(true)
    assert stats.binomtest(int(inside.sum()), 100, 0.95).pvalue > 0.005
    if family == "gaussian":
        new = bm.forecast(fit, history, future, kind="outcome", seed=8).table
        inside = new["eti95_lb"].le(outcome[:, -1]) & new["eti95_ub"].ge(outcome[:, -1])
        assert stats.binomtest(int(inside.sum()), 100, 0.95).pvalue > 0.005


def test_a_new_patient_of_a_known_unit(pastes):
    """Without visits its mean is the unit's, and its spread that of casks."""
    future = pd.DataFrame({"batch": ["A", "new"], "cask": ["x", "x"]})
    draws = bm.forecast(pastes, None, future, group="cask", seed=1).draws["forecast"]
    level = pastes.posterior["beta"][..., 0] + pastes.posterior["u_batch"].sel(batch="A")[..., 0]
    sd = float(draws[..., 0].std())
    assert abs(float(draws[..., 0].mean() - level.mean())) < 4.5 * sd / np.sqrt(8000 / 2)
    within = float((pastes.posterior["sd_cask"] ** 2).mean())
    assert sd**2 == pytest.approx(float(level.var()) + within, rel=4.5 * np.sqrt(5 / 8000))
    between = float((pastes.posterior["sd_batch"] ** 2).mean() + pastes.posterior["beta"].var())
    # A variance's own variance is heavy-tailed here: sd_batch has 10 batches behind it.
    assert float(draws[..., 1].var()) == pytest.approx(between + within, rel=0.25)


def test_forecasts_do_not_depend_on_who_else_is_asked_for(without_subject, one_subject):
    """Up to Monte Carlo error: each patient learns from the fit and its own visits alone."""
    data, is_first = one_subject
    history = data[is_first & (data["Days"] < 5)]
    other = history.assign(Subject="other", Reaction=history["Reaction"] + 200.0)
    future = data[is_first & (data["Days"] == 9)].drop(columns="Reaction")
    both = pd.concat([future, future.assign(Subject="other")])
    alone = bm.forecast(without_subject, history, future, seed=1).table
    together = bm.forecast(without_subject, pd.concat([history, other]), both, seed=2).table
    _alike(alone, together.iloc[:1])
    assert together["mean"].iloc[1] > together["mean"].iloc[0] + 100


def test_what_a_forecast_refuses(sleepstudy, one_subject, without_subject):
    data, is_first = one_subject
    history, future = data[is_first & (data["Days"] < 5)], data[is_first & (data["Days"] > 5)]
    with pytest.raises(bm.BayesmixedError, match="future has no row"):
        bm.forecast(without_subject, history, future.assign(Subject="someone"))
    with pytest.raises(bm.BayesmixedError, match="kind of forecast"):
        bm.forecast(sleepstudy, None, future, kind="means")
    with pytest.raises(bm.BayesmixedError, match="grouping"):
        bm.forecast(sleepstudy, None, future, group="subject")
    with pytest.raises(bm.BayesmixedError, match="Reaction"):
        bm.forecast(without_subject, history.drop(columns="Reaction"), future)
    with pytest.raises(bm.BayesmixedError, match="numeric predictor"):
        bm.forecast(sleepstudy, None, future, over="Day")
    numbers = data.assign(Subject=data["Subject"].astype(str).astype(int))
    fit = bm.Model("Reaction ~ 1 + (1 | Subject)", numbers).fit(
        draws=20, tune=100, chains=2, seed=1, progress=False
    )
    with pytest.raises(bm.BayesmixedError, match="Make them the same type"):
        bm.forecast(fit, None, {"Subject": ["308"]})


def test_a_surprising_history_is_reported(without_subject, one_subject):
    """Visits far beyond the population ask for parameters that the fit has no draws of."""
    data, is_first = one_subject
    history = data[is_first].assign(Reaction=lambda d: d["Reaction"] + 1500.0 * (d["Days"] % 2))
    found = bm.forecast(without_subject, history, {"Subject": ["308"], "Days": [10]}, seed=1)
    text = " ".join(found.caveats)
    assert "refit with these visits" in text
    assert "Extrapolation: Days" in text


def test_a_loaded_fit_forecasts_the_same(without_subject, one_subject, tmp_path):
    data, is_first = one_subject
    history, future = data[is_first & (data["Days"] < 5)], data[is_first & (data["Days"] > 5)]
    loaded = bm.load(without_subject.save(tmp_path / "fit.nc"))
    one, other = (
        bm.forecast(f, history, future, kind="outcome", seed=3) for f in (without_subject, loaded)
    )
    xr.testing.assert_identical(one.draws, other.draws)
    pd.testing.assert_frame_equal(one.table, other.table)


def test_ordered_categories_of_a_history_keep_their_codes():
    data = table([0, 1, 2]).assign(y=lambda d: d["y"].map({0: "mild", 1: "some", 2: "severe"}))
    order = ["mild", "some", "severe"]
    data["y"] = pd.Categorical(data["y"], order, ordered=True)
    design = bm.Model("y ~ t + (1 | g)", data, family="ordinal").design
    rows = observed(design, visits(["severe", "severe", "some"]))
    np.testing.assert_array_equal(rows.y, [2, 2, 1])
    with pytest.raises(bm.BayesmixedError, match="not one of the categories"):
        observed(design, visits(["worse"]))


# --- predictions --------------------------------------------------------------------------------


def test_three_spreads_of_a_new_subject(sleepstudy):
    """Closed forms: the population's mean, plus z'Gz for one subject, plus sigma^2 for a visit."""
    rows = {"Days": [0.0, 8.0]}
    found = {
        kind: bm.predict(sleepstudy, rows, groups="new", kind=kind, seed=1).table
        for kind in ("mean", "group", "outcome")
    }
    posterior = sleepstudy.posterior
    z = np.array([[1.0, 0.0], [1.0, 8.0]])
    level = posterior["beta"].to_numpy() @ z.T
    G = covariance(sleepstudy, sleepstudy.design.predictors["mu"].random[0])
    between = np.einsum("...ij,ni,nj->...n", G, z, z)
    noise = float((posterior["sigma"] ** 2).mean())
    np.testing.assert_allclose(found["mean"]["mean"], level.mean(axis=(0, 1)))
    variance = level.var(axis=(0, 1))
    np.testing.assert_allclose(found["mean"]["sd"] ** 2, variance, rtol=1e-6)
    # 4,000 draws, of a distribution with tails a little heavier than normal (kurtosis below 6).
    limit = {"rtol": 4.5 * np.sqrt(5 / 4000)}
    variance = variance + between.mean(axis=(0, 1))
    np.testing.assert_allclose(found["group"]["sd"] ** 2, variance, **limit)
    np.testing.assert_allclose(found["outcome"]["sd"] ** 2, variance + noise, **limit)


def test_rows_of_one_new_group_share_its_effects():
    """The correlation of two rows' observations is the intraclass correlation, or 0."""
    fit = stated(
        "y ~ 1 + (1 | g)", table([0.5, 1.5]), "gaussian", 8000, beta=[1.0], sd_g=[1.5], sigma=2.0
    )
    fit = Fit(fit.design, _two_chains(fit))
    data = {"g": ["a", "a", "g1"]}
    draws = bm.predict(fit, data, groups="new", kind="outcome", seed=2).draws["prediction"]
    correlation = np.corrcoef(draws.to_numpy().reshape(-1, 3).T)
    icc = 1.5**2 / (1.5**2 + 2.0**2)
    assert abs(correlation[0, 1] - icc) < 4.5 * (1 - icc**2) / np.sqrt(8000)
    assert abs(correlation[0, 2]) < 4.5 / np.sqrt(8000)
    group = bm.predict(fit, data, groups="new", kind="group", seed=2).draws["prediction"]
    np.testing.assert_array_equal(group[..., 0], group[..., 1])


def _two_chains(fit: Fit) -> xr.DataTree:
    """Two chains, with the statistics that the verdict on convergence reads."""
    posterior = fit.posterior.isel(chain=[0, 0])
    posterior = posterior.isel(draw=slice(0, posterior.sizes["draw"] // 2))
    shape = posterior.sizes["chain"], posterior.sizes["draw"]
    jitter = 1e-9 * np.random.default_rng(0).standard_normal(shape)
    posterior = posterior + xr.DataArray(jitter, dims=("chain", "draw"))
    statistics = xr.Dataset({"diverging": (("chain", "draw"), np.zeros(shape, dtype=bool))})
    return xr.DataTree.from_dict({"posterior": posterior, "sample_stats": statistics})


def test_groups_of_the_fit_keep_their_effects(medpar):
    data = bm.datasets.load("medpar").head(150)
    p = expit(medpar.eta())[..., :150]
    np.testing.assert_allclose(bm.predict(medpar, data).draws["prediction"], p, rtol=1e-9)
    new = bm.predict(medpar, data, kind="outcome", seed=1).draws["prediction"]
    assert set(np.unique(new)) == {0, 1}
    # Given p the sum of independent yes/no outcomes has this variance.
    limit = 4.5 * np.sqrt(float((p * (1 - p)).sum()))
    assert abs(float(new.sum() - p.sum())) < limit


def test_probabilities_of_categories():
    """Against the cumulative model integrated by SciPy, and the mean of their codes."""
    thresholds, sd = np.array([-0.5, 1.0]), 1.3
    fit = stated(
        "y ~ t + (1 | g)",
        table([0, 1, 2]),
        "ordinal",
        40,
        beta=[0.4],
        sd_g=[sd],
        thresholds=thresholds,
    )
    fit = Fit(fit.design, _two_chains(fit))
    rows = {"t": [0.0, 2.5]}
    found = bm.predict(fit, rows, groups="new", kind="probability")
    for at, t in enumerate(rows["t"]):
        below = [
            integrate.quad(
                lambda u, c=c, t=t: expit(c - 0.4 * t - u) * stats.norm.pdf(u, scale=sd), -12, 12
            )[0]
            for c in thresholds
        ]
        exact = np.diff([0, *below, 1])
        np.testing.assert_allclose(found.draws["prediction"][0, 0, at], exact, atol=1e-6)
        code = bm.predict(fit, rows, groups="new").draws["prediction"][0, 0, at]
        np.testing.assert_allclose(code, exact @ [0, 1, 2], atol=1e-6)
    assert found.table.index.names == ["row", "category"]
    ax = found.plot()
    assert "Probability" in ax.get_xlabel()
    with pytest.raises(bm.BayesmixedError, match="has none"):
        bm.predict(_gaussian(), {"t": [1.0]}, groups="average", kind="probability")


def _gaussian() -> Fit:
    fit = stated(
        "y ~ t + (1 | g)", table([0.5, 1.5]), "gaussian", 40, beta=[1.0, 0.1], sd_g=[1.5], sigma=2.0
    )
    return Fit(fit.design, _two_chains(fit))


def test_trials_and_exposure(fitted):
    fit = fitted("cbpp", "incidence | trials(size) ~ period + (1 | herd)", "binomial")
    period = bm.datasets.load("cbpp")["period"].iloc[0]
    one = bm.predict(fit, {"period": [period]}, groups="new")
    assert one.caption.startswith("Probability of incidence")
    ten = bm.predict(fit, {"period": [period], "size": [10]}, groups="new")
    assert ten.caption.startswith("Expected incidence, successes out of")
    np.testing.assert_allclose(ten.table["mean"], 10 * one.table["mean"])
    new = bm.predict(fit, {"period": [period], "size": [10]}, groups="new", kind="outcome", seed=1)
    assert set(np.unique(new.draws["prediction"])) <= set(range(11))
    formula = "deaths ~ 1 + offset(log(exposure)) + (1 | hospital)"
    rates = bm.predict(
        fitted("hearttransplants", formula, "poisson"), {"exposure": [100, 200]}, groups="new"
    )
    np.testing.assert_allclose(rates.table["mean"].iloc[1], 2 * rates.table["mean"].iloc[0])


def test_a_known_sampling_sd_is_asked_for(fitted):
    fit = fitted("bcg", "yi ~ 1 + (1 | trial)", "gaussian", sampling_sd="sei")
    assert bm.predict(fit, {"trial": ["next"]}, groups="new", kind="group").table["sd"].gt(0).all()
    with pytest.raises(bm.BayesmixedError, match=r"sampling_sd \(sei\)"):
        bm.predict(fit, {"trial": ["next"]}, groups="new", kind="outcome")
    wide, narrow = (
        bm.predict(fit, {"sei": [s]}, groups="new", kind="outcome", seed=1).table["sd"].iloc[0]
        for s in (3.0, 0.1)
    )
    spread = float((fit.posterior["sd_trial"] ** 2).mean() + fit.posterior["beta"].var())
    assert wide**2 - narrow**2 == pytest.approx(9.0 - 0.01, rel=0.1)
    assert narrow**2 == pytest.approx(spread + 0.01, rel=0.2)


def test_what_a_prediction_refuses(medpar):
    row = {"age80": [0], "type": [1], "provnum": ["nowhere"]}
    with pytest.raises(bm.BayesmixedError, match=r"groups=\{.provnum.: "):
        bm.predict(medpar, row)
    with pytest.raises(bm.BayesmixedError, match="seed='a'"):
        bm.predict(medpar, kind="outcome", seed="a")
    with pytest.raises(bm.BayesmixedError, match="kind of prediction"):
        bm.predict(medpar, row, groups="new", kind="means")
    with pytest.raises(bm.BayesmixedError, match="column"):
        bm.predict(medpar, {"age80": [0]}, groups="new")


def test_correlated_residuals_are_not_passed_over():
    data = bm.datasets.load("sleepstudy")
    residual = bm.AR1(time="Days", within="Subject")
    fit = from_priors(bm.Model("Reaction ~ Days + (1 | Subject)", data, residual=residual))
    rows = {"Days": [3], "Subject": ["308"]}
    assert bm.predict(fit, rows).table["sd"].gt(0).all()
    assert "own" in bm.predict(fit, rows, kind="outcome", seed=1).caption
    assert bm.forecast(fit, None, rows, seed=1).table["visits"].item() == 10


def test_columns_of_the_data_stand_beside_the_numbers(sleepstudy):
    data = pd.DataFrame({"Days": [1, 2, 3]}, index=[7, 8, 9])
    found = bm.predict(sleepstudy, data, groups="average")
    assert list(found.table.columns) == ["Days", "mean", "sd", "eti95_lb", "eti95_ub"]
    assert list(found.table.index) == [7, 8, 9]
    assert found.table.index.name == "row"


def test_lines_are_over_the_number_with_the_most_values_that_makes_lines():
    grid = pd.MultiIndex.from_product([[20, 40, 60], [0, 1, 2, 3], ["a", "b"]])
    frame = grid.to_frame(index=False, name=["age", "day", "arm"]).sample(frac=1, random_state=1)
    lines = Lines.of(frame, {"age", "day"})
    assert (lines.over, lines.others) == ("day", ("age", "arm"))
    assert len(lines.rows) == 6
    rows = lines.rows["40, b"]
    assert frame["day"].iloc[rows].tolist() == [0, 1, 2, 3]
    assert set(frame["age"].iloc[rows]) == {40}
    # The number with the most values makes no lines where it differs in every row.
    frame["weight"] = np.arange(24.0)
    assert Lines.of(frame, {"age", "day", "weight"}) is None
    frame["weight"] = frame["age"] * 1.5
    assert Lines.of(frame, {"age", "day", "weight"}).over == "day"
    one = frame.query("day == 2 and arm == 'a'")
    assert Lines.of(one[["age"]], {"age"}).others == ()
    assert Lines.of(one[["arm"]], {"age"}) is None


def test_pictures(sleepstudy, without_subject, one_subject, tmp_path):
    data, is_first = one_subject
    curve = bm.predict(sleepstudy, {"Days": np.arange(10)}, groups="new")
    assert curve.plot().get_xlabel() == "Days"
    assert bm.predict(sleepstudy).plot().get_title(loc="left") == "18 groups of rows"
    assert bm.predict(sleepstudy).plot("lines").get_ylabel() == "Expected Reaction"
    assert bm.predict(sleepstudy).plot("intervals").get_xlabel() == "Expected Reaction"
    future = data[is_first & (data["Days"] > 5)]
    fan = bm.forecast(without_subject, data[is_first & (data["Days"] < 5)], future, seed=1)
    ax = fan.plot("308")
    assert ax.get_xlabel() == "Days"
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names[:3] == ["95 % equal-tailed", "80 %", "50 %"]
    assert "population mean" in names
    assert fan.save_plot(tmp_path / "fan.png").stat().st_size > 10_000
    text = str(fan)
    assert "equal-tailed" in text
    assert "drop-out" in text
