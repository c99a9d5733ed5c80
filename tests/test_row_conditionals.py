"""Rows of a series given its other rows: dense algebra, nlme's residuals, closed forms."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made import at, from_priors
from scipy import stats

import bayesmixed as bm
from bayesmixed.group_likelihood import group_log_likelihood
from bayesmixed.reports import _loo, _residuals
from bayesmixed.reports._prior_density import log_priors
from bayesmixed.reports._sensitivity import _log_likelihood
from bayesmixed.row_conditionals import departures, row_blocks, row_log_density

LOAD = bm.datasets.load
NLME = json.loads((Path(__file__).parent / "reference" / "residuals.json").read_text())


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def _patchy(formula="distance ~ age * Sex", **options):
    """Unsorted rows, some missing; an index of its own."""
    data = LOAD("orthodont").sample(frac=0.85, random_state=3)
    return bm.Model(formula, data, **options)


AR1 = bm.AR1(time="age", within="Subject", heterogeneous=True)
CASES = {
    "ar1": ("distance ~ age * Sex", AR1),
    "by sex": ("distance ~ age", bm.Unstructured(time="age", within="Subject", by="Sex")),
    "slopes": (
        "distance ~ age + (1 + age | Subject)",
        bm.Exponential(time="age", within="Subject", nugget=True),
    ),
    "groups around": ("distance ~ age + (1 | Sex)", bm.ContinuousAR1(time="age", within="Subject")),
}


def _dense(fit, given, chain, draw):
    """Mean and covariance of all rows in one draw, from the posterior's names alone."""
    design, posterior = fit.design, fit.posterior.isel(chain=chain, draw=draw)
    frame, predictor = design.table.frame, design.predictors["mu"]
    structure, rows = design.spec.residual, len(design.y)
    mean = predictor.X @ posterior["beta"].to_numpy()
    sigma = posterior["sigma"].to_numpy()
    ages, age = [8, 10, 12, 14], frame["age"].to_numpy()
    place = np.array([ages.index(a) for a in age])
    sexes = sorted(frame["Sex"].unique()) if "Sex" in frame else []
    V = np.zeros((rows, rows))
    for i in range(rows):
        for j in range(rows):
            if frame["Subject"].iloc[i] != frame["Subject"].iloc[j]:
                continue
            lag = abs(age[i] - age[j])
            if structure is AR1:
                r = float(posterior["phi"]) ** (lag / 2)
                sd = sigma[place[i]] * sigma[place[j]]
            elif structure.by is not None:
                arm = sexes.index(frame["Sex"].iloc[i])
                r = posterior["cor_residual"].to_numpy()[arm, place[i], place[j]]
                sd = sigma[4 * arm + place[i]] * sigma[4 * arm + place[j]]
            elif "nugget" in posterior:
                share = 1 - float(posterior["nugget"])
                r = 1.0 if lag == 0 else share * np.exp(-lag / float(posterior["range"]))
                sd = sigma**2
            else:
                r, sd = float(posterior["phi"]) ** lag, sigma**2
            V[i, j] = r * sd
            if "sd_Subject" in posterior and given == "others":
                s, C = posterior["sd_Subject"].to_numpy(), posterior["cor_Subject"].to_numpy()
                G = s[:, None] * C * s
                V[i, j] += np.array([1, age[i]]) @ G @ np.array([1, age[j]])
    for random in predictor.random:
        if random.name == "Sex" or given != "others":
            u = posterior[f"u_{random.name}"].to_numpy()[random.groups.index]
            mean = mean + (random.Z * u).sum(axis=1)
    return mean, V


@pytest.mark.parametrize("given", ["effects", "earlier", "others"])
@pytest.mark.parametrize("name", CASES)
def test_rows_are_normal_given_others(name, given):
    """Conditional moments row by row, by the textbook formula with one dense matrix."""
    formula, structure = CASES[name]
    fit = from_priors(_patchy(formula, residual=structure), 4)
    frame, y = fit.design.table.frame, fit.design.y
    found = np.full((2, *fit.posterior["beta"].shape[:2], len(y)), np.nan)
    for rows in row_blocks(fit.design, 30):
        found[..., rows] = departures(fit, rows, given)
    who, age = frame["Subject"].to_numpy(), frame["age"].to_numpy()
    for c, d in ((0, 1), (1, 3)):
        mean, V = _dense(fit, given, c, d)
        for i in range(len(y)):
            known = who == who[i]
            known[i] = False
            if given == "earlier":
                known &= age < age[i]
            elif given == "effects":
                known[:] = False
            w = np.linalg.solve(V[np.ix_(known, known)], V[known, i])
            off = y[i] - mean[i] - w @ (y - mean)[known]
            sd = np.sqrt(V[i, i] - w @ V[known, i])
            np.testing.assert_allclose(found[:, c, d, i], [off, sd], rtol=1e-9, atol=1e-9)


def _relatives():
    """Ten series, one person nine times as variable as most, one hardly, two near twins."""
    K = np.eye(10)
    K[0, 0], K[1, 1] = 9, 0.01
    K[2, 3] = K[3, 2] = 0.99
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"id": np.repeat(np.arange(10), 3), "t": np.tile(np.arange(3), 10)})
    effects = np.linalg.cholesky(K) @ rng.normal(size=10)
    data["y"] = 2 * effects[data["id"]] + rng.normal(size=30)
    return data.sample(frac=1, random_state=1), pd.DataFrame(K, range(10), range(10))


def test_rows_of_relatives_are_normal_given_their_effects():
    """Against dense algebra: a related effect is as drawn, an independent one integrated out."""
    data, K = _relatives()
    data["half"] = data["t"].to_numpy() // 2
    model = bm.Model(
        "y ~ 1 + (1 | id) + (1 | id:half)", data, residual=bm.AR1(time="t", within="id"),
        covariances={"id": K},
    )  # fmt: skip
    fit = from_priors(model, 3)
    y, frame = fit.design.y, fit.design.table.frame
    who, half, t = (frame[name].to_numpy() for name in ("id", "half", "t"))
    found = np.empty((2, 2, 3, len(y)))
    for rows in row_blocks(fit.design, 8):
        found[..., rows] = departures(fit, rows, "others")
    draw = fit.posterior.isel(chain=1, draw=2)
    u = draw["u_id"].to_numpy()[:, 0]
    labels = [str(label) for label in draw["id"].to_numpy()]
    place = [labels.index(str(i)) for i in who]
    off = y - float(draw["beta"][0]) - u[place]
    same = who[:, None] == who
    V = same * float(draw["sigma"]) ** 2 * float(draw["phi"]) ** abs(t[:, None] - t)
    V = V + same * (half[:, None] == half) * float(draw["sd_id:half"][0]) ** 2
    Q = np.linalg.inv(V)
    np.testing.assert_allclose(found[0, 1, 2], (Q @ off) / np.diag(Q), rtol=1e-9)
    np.testing.assert_allclose(found[1, 1, 2], np.diag(Q) ** -0.5, rtol=1e-9)


def test_loo_of_rows_of_relatives_is_that_of_the_dense_normal():
    """Exact draws of all effects of a table where all else is known, against its one normal."""
    data, K = _relatives()
    residual = bm.AR1(time="t", within="id")
    model = bm.Model("y ~ 1 + (1 | id)", data, residual=residual, covariances={"id": K})
    fit, y, t = from_priors(model, 4000), data["y"].to_numpy(), data["t"].to_numpy()
    labels = [int(i) for i in fit.posterior["id"].to_numpy()]
    Z = np.column_stack([np.ones(30), data["id"].to_numpy()[:, None] == labels])
    R = (data["id"].to_numpy()[:, None] == data["id"].to_numpy()) * 0.5 ** abs(t[:, None] - t)
    G = np.zeros((11, 11))
    G[0, 0], G[1:, 1:] = 4, 4 * K.loc[labels, labels]
    # The level and the effects given the table, sds of 2 and 1 and a correlation of 0.5.
    left = G - G @ Z.T @ np.linalg.solve(Z @ G @ Z.T + R, Z @ G)
    centre = G @ Z.T @ np.linalg.solve(Z @ G @ Z.T + R, y)
    rng = np.random.default_rng(1)
    drawn = rng.multivariate_normal(centre, left, (2, 4000), method="eigh")
    jitter = 1 + 1e-9 * rng.normal(size=(2, 4000, 1))
    values = {"sd_id": 2 * jitter, "sigma": jitter, "phi": 0.5 * jitter}
    values |= {"beta": drawn[..., :1], "u_id": drawn[..., 1:]}
    for name, value in values.items():
        old = fit.posterior[name]
        fit.tree[f"posterior/{name}"] = old.copy(data=value.reshape(old.shape))
    Q = np.linalg.inv(Z @ G @ Z.T + R)
    off, sd = (Q @ y) / np.diag(Q), np.diag(Q) ** -0.5
    report, residuals = bm.loo(fit), bm.residuals(fit, "loo").table["residual"]
    assert report.table["k_hat"].max() < 0.7
    # Five Monte Carlo errors of 8,000 draws reweighted to some 1,000.
    np.testing.assert_allclose(report.table["elpd"], stats.norm.logpdf(off, scale=sd), atol=0.1)
    np.testing.assert_allclose(residuals, off / sd, atol=0.15)
    table = bm.compare({"one": fit, "other": fit}).draws["elpd"]
    np.testing.assert_allclose(table.sel(model="one"), report.table["elpd"])


def test_blocks_hold_every_row_once_and_whole_series():
    design = _patchy(residual=AR1).design
    for most in (1, 5, 30, 1000):
        blocks = row_blocks(design, most)
        assert sorted(np.concatenate(blocks)) == list(range(len(design.y)))
        own = [set(design.table.frame["Subject"].iloc[rows]) for rows in blocks]
        assert sum(map(len, own)) == design.table.frame["Subject"].nunique()
        assert max(map(len, blocks)) < most + 4
    plain = _patchy().design
    np.testing.assert_array_equal(np.concatenate(row_blocks(plain, 7)), range(len(plain.y)))


def test_densities_given_earlier_rows_multiply_to_those_of_series():
    fit = from_priors(_patchy(residual=AR1))
    (rows,) = row_blocks(fit.design, 1000)
    total = row_log_density(fit, rows, "earlier").sum(axis=-1)
    expected = group_log_likelihood(fit, "Subject").sum("Subject")
    np.testing.assert_allclose(total, expected, rtol=1e-10)
    np.testing.assert_allclose(_log_likelihood(fit), expected, rtol=1e-10)


STRUCTURES = {
    "ar1": bm.AR1(time="age", within="Subject"),
    "ar1_heterogeneous_missing": AR1,
    "continuous_missing": bm.ContinuousAR1(time="age", within="Subject"),
    "unstructured": bm.Unstructured(time="age", within="Subject"),
    "unstructured_missing": bm.Unstructured(time="age", within="Subject"),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_residuals_are_those_of_nlme_at_its_estimates(name):
    """Raw, Pearson and normalized, whatever the order of the rows; nlme prints 12 digits."""
    expected, structure = NLME[name], STRUCTURES[name]
    data = LOAD("orthodont").iloc[expected["rows"]]
    shuffled = data.sample(frac=1, random_state=1)
    beta = expected["beta"]
    model = bm.Model("distance ~ age * Sex", shuffled, residual=structure)
    assert model.design.predictors["mu"].terms[1:] == ("age", "Sex[T.Male]", "age:Sex[T.Male]")
    values = {"beta": beta, "sigma": expected["sigma"]}
    if structure.ordered is False:
        cor = np.eye(4)
        cor[np.triu_indices(4, 1)] = expected["correlation"]
        values["cor_residual"] = cor + cor.T - np.eye(4)
    else:
        values["phi"] = expected["correlation"]
    if not structure.heterogeneous:
        values["sigma"] = expected["sigma"][0]
    fit = at(model, **values)
    for kind in ("raw", "pearson", "normalized"):
        table = bm.residuals(fit, kind).table
        assert list(table.index) == list(shuffled.index)
        found = table["residual"].loc[data.index]
        np.testing.assert_allclose(found, expected[kind], atol=1e-8, err_msg=kind)


def test_without_correlation_residuals_and_loo_are_those_of_rows():
    """A structure that correlates nothing; effects of groups that hold series stay known."""
    formula = "distance ~ age + (1 | Sex)"
    plain, apart = (
        from_priors(_patchy(formula, residual=r), 100)
        for r in (None, bm.Independent(time="age", within="Subject"))
    )
    same = type(plain)(apart.design, plain.tree)
    for kind in ("raw", "pearson", "normalized"):
        one, other = (bm.residuals(f, kind).table["residual"] for f in (plain, same))
        pd.testing.assert_series_equal(one, other)
    one, other = (bm.loo(f).table for f in (plain, same))
    np.testing.assert_allclose(one, other, rtol=1e-8)


@pytest.fixture(scope="module")
def known():
    """Everything known but the level: 12 series of 4 rows, in no order, on a grid of levels."""
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"id": np.repeat(np.arange(12), 4), "t": np.tile(np.arange(4), 12)})
    lags = abs(np.subtract.outer(np.arange(4), np.arange(4)))
    root = np.linalg.cholesky(0.6**lags)
    data["y"] = 2 + (rng.normal(size=(12, 4)) @ root.T).ravel()
    return data.sample(frac=1, random_state=2)


def _level_posterior(data):
    """The same model's fit with exact draws of the level, all else fixed."""
    structure = bm.AR1(time="t", within="id")
    prior = {"Intercept": bm.Prior("Normal", mu=0, sigma=10)}
    model = bm.Model("y ~ 1", data, residual=structure, priors=prior)
    lags = abs(np.subtract.outer(np.arange(4), np.arange(4)))
    Q = np.linalg.inv(0.6**lags)
    precision = 0.01 + len(data) / 4 * Q.sum()
    wide = data.pivot(index="id", columns="t", values="y").to_numpy()
    mean = (wide @ Q).sum() / precision
    draws = 4000
    fit = from_priors(model, draws // 2)
    posterior = fit.posterior
    z = stats.norm.ppf((np.random.default_rng(1).permutation(draws) + 0.5) / draws)
    shape = posterior["phi"].shape
    posterior["beta"] = posterior["beta"].copy(
        data=(mean + z / np.sqrt(precision)).reshape(*shape, 1)
    )
    # Known, but for what diagnostics of draws need to be numbers.
    jitter = 1 + 1e-9 * np.random.default_rng(2).normal(size=shape)
    posterior["phi"] = posterior["phi"].copy(data=0.6 * jitter)
    posterior["sigma"] = posterior["sigma"].copy(data=jitter)
    tree = fit.tree.copy()
    tree["posterior"] = type(tree)(posterior)
    return type(fit)(fit.design, tree)


def test_loo_of_rows_is_the_conditional_of_the_whole_table(known):
    """With only the level unknown all rows are one normal, and so is each given all others."""
    fit = _level_posterior(known)
    same = known["id"].to_numpy()[:, None] == known["id"].to_numpy()
    lags = abs(np.subtract.outer(known["t"].to_numpy(), known["t"].to_numpy()))
    Q = np.linalg.inv(same * 0.6**lags + 100.0)
    y = known["y"].to_numpy()
    sd = 1 / np.sqrt(np.diag(Q))
    off = (Q @ y) / np.diag(Q)
    expected = stats.norm.logpdf(off, scale=sd)
    report = bm.loo(fit)
    assert report.table["k_hat"].max() < 0.5
    # 4,000 stratified draws of a level whose sd is a fifth of a row's.
    np.testing.assert_allclose(report.table["elpd"], expected, atol=2e-3)
    assert list(report.table.index) == list(known.index)
    found = bm.residuals(fit, "loo").table
    np.testing.assert_allclose(found["residual"], off / sd, atol=5e-3)
    assert "the other rows of its own id" in report.caption
    assert 'unit="id"' in " ".join(report.caveats)


def test_rows_in_blocks_keep_their_order(known, monkeypatch):
    fit = _level_posterior(known)
    whole = bm.loo(fit).table, bm.residuals(fit, "loo").table
    monkeypatch.setattr(_loo, "_MAX_VALUES", 4000 * 9)
    monkeypatch.setattr(_residuals, "_MAX_VALUES", 4000 * 9)
    cut = bm.loo(fit).table, bm.residuals(fit, "loo").table
    for one, other in zip(whole, cut, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_sensitivity_with_correlated_residuals(known):
    """Conjugate in the level: the likelihood alone moves it, as in independent rows."""
    fit = _level_posterior(known)
    priors = dict(log_priors(fit))
    assert set(priors) == {"Intercept", "sigma", "phi"}
    np.testing.assert_allclose(priors["phi"], np.log(0.5), rtol=1e-6)
    expected = stats.norm.logpdf(fit.posterior["beta"][..., 0], 0, 10)
    np.testing.assert_allclose(priors["Intercept"], expected)
    row = bm.prior_sensitivity(fit).table.loc["beta[Intercept]"]
    assert row["likelihood"] > 0.05 > row["prior"]


@pytest.mark.parametrize(
    ("structure", "names"),
    [
        (
            bm.Unstructured(time="age", within="Subject", by="Sex"),
            {"cor_residual[Female]", "cor_residual[Male]", "sigma[Female,8]", "sigma[Male,14]"},
        ),
        (bm.Toeplitz(time="age", within="Subject"), {"partial[1]", "partial[3]", "sigma"}),
        (bm.Antedependence(time="age", within="Subject"), {"sigma"}),
        (bm.Matern(time="age", within="Subject", smoothness=1.5, nugget=True), {"range", "nugget"}),
    ],
)
def test_every_prior_of_a_structure_counts(structure, names):
    """As many priors as the model has, each finite, and flat ones flat."""
    model = _patchy("distance ~ age", residual=structure)
    found = dict(log_priors(from_priors(model, 5)))
    assert set(found) == set(model.priors.index)
    assert names <= set(found)
    assert all(np.isfinite(v).all() and v.shape == (2, 5) for v in found.values())


def test_quantiles_of_correlated_rows_are_averages_over_draws():
    fit = from_priors(_patchy(residual=AR1), 50)
    off, sd = departures(fit, np.arange(len(fit.design.y)), "effects")
    expected = stats.norm.ppf(stats.norm.cdf(off / sd).mean(axis=(0, 1)))
    found = bm.residuals(fit).table["residual"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_pictures_of_correlated_residuals(known):
    report = bm.residuals(_level_posterior(known), "normalized")
    assert set(report.pictures) == {"qq", "fitted", "correlogram", "t", "id"}
    for name in report.pictures:
        ax = report.plot(name)
        assert ax.get_xlabel()
        assert "normalized residual" in ax.get_ylabel()
    points = report.plot("correlogram").collections[-1].get_offsets()
    wide = report.table["residual"].to_numpy()[np.lexsort((known["t"], known["id"]))].reshape(12, 4)
    first, last = wide[:, 0], wide[:, 3]
    np.testing.assert_allclose(points[2, 1], np.corrcoef(first, last)[0, 1], rtol=1e-6)
    assert set(bm.residuals(_level_posterior(known), "raw").pictures) == {
        "fitted", "correlogram", "t", "id"
    }  # fmt: skip


def test_comparison_by_row_of_correlated_and_independent_rows(known):
    correlated = _level_posterior(known)
    alone = from_priors(bm.Model("y ~ 1", known), 2000)
    for name in ("beta", "sigma"):
        values = alone.posterior[name]
        few = 1e-9 * np.random.default_rng(3).normal(size=values.shape)
        level = {"beta": 2, "sigma": 1}[name]
        alone.tree[f"posterior/{name}"] = values.copy(data=few + level)
    table = bm.compare({"ar1": correlated, "none": alone})
    assert table.table.index[0] == "ar1"
    assert "rest of its series" in table.caption
    one = stats.norm.logpdf(known["y"], 2, 1)
    np.testing.assert_allclose(table.draws["elpd"].sel(model="none"), one, rtol=1e-6)


def test_far_outcomes_have_finite_quantiles(known):
    far = known.assign(y=lambda d: d["y"] + 20.0 * (np.arange(len(d)) == 7))
    residual = bm.residuals(_level_posterior(far)).table["residual"].iloc[7]
    assert 17 < residual < 23
