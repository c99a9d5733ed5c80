"""Shrunken estimates: raw values from own fits, reliabilities from dense algebra."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made import from_priors
from scipy import integrate, optimize, stats
from scipy.special import expit, log_expit

import bayesmixed as bm
from bayesmixed.defaults import outcome_scale
from bayesmixed.linpred import covariance
from bayesmixed.reports import _shrinkage
from bayesmixed.reports._linear_means import linear_means
from bayesmixed.reports._reliability import Information


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def alarming():
    """40 units with rates about 10 %, one of 25 and one of 500 with 28 %."""
    rng = np.random.default_rng(4)
    n = np.array([25, 500, *rng.integers(25, 500, 38)])
    p = expit(rng.normal(-2.2, 0.25, 40))
    k = rng.binomial(n, p)
    k[:2] = 7, 140
    data = pd.DataFrame({"unit": [f"U{i:02}" for i in range(40)], "n": n, "k": k})
    return bm.Model("k | trials(n) ~ 1 + (1 | unit)", data, family="binomial").fit(
        draws=500, chains=2, seed=1, progress=False
    )


@pytest.fixture(scope="module")
def patients():
    """Visits in patients in units, slopes at both levels, few draws."""
    rng = np.random.default_rng(5)
    patient = np.repeat(np.arange(24), rng.integers(2, 6, 24))
    data = pd.DataFrame(
        {"patient": patient, "unit": patient // 4, "x": rng.normal(size=len(patient))}
    )
    unit_effects = rng.normal(size=(6, 2))
    data["y"] = (
        unit_effects[data["unit"], 0]
        + unit_effects[data["unit"], 1] * data["x"]
        + rng.normal(size=24)[patient]
        + rng.normal(size=len(patient))
    )
    model = bm.Model("y ~ x + (x | unit) + (x | patient)", data)
    return model.fit(draws=60, tune=300, chains=2, seed=1, progress=False)


def test_raw_slopes_are_least_squares(sleepstudy):
    """NumPy's polynomial fit of each subject; the search is exact to rounding for a square."""
    report = bm.shrinkage(sleepstudy, "Subject", effect="Days")
    data = bm.datasets.load("sleepstudy")
    own = {s: np.polyfit(d["Days"], d["Reaction"], 1)[0] for s, d in data.groupby("Subject")}
    np.testing.assert_allclose(report.table["raw"], list(own.values()), rtol=1e-6)
    posterior = sleepstudy.posterior
    slope = posterior["beta"].sel(term="Days") + posterior["u_Subject"][..., 1]
    np.testing.assert_allclose(report.table["shrunken"], slope.mean(["chain", "draw"]))


def test_reliability_of_a_slope(sleepstudy):
    """1 - [(G^-1 + Z'Z/sigma^2)^-1]_kk / G_kk, written out with inverses for some draws."""
    draws = bm.shrinkage(sleepstudy, "Subject", effect="Days").draws["reliability"]
    random = sleepstudy.design.predictors["mu"].random[0]
    G = covariance(sleepstudy, random)
    sigma = sleepstudy.posterior["sigma"].to_numpy()
    Z = random.Z[random.groups.index == 3]
    for draw in (0, 17, 400):
        prior = G[1, draw]
        left = np.linalg.inv(np.linalg.inv(prior) + Z.T @ Z / sigma[1, draw] ** 2)
        expected = 1 - left[1, 1] / prior[1, 1]
        assert draws[1, draw, 3] == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("effect", [None, 0, 1])
def test_reliability_with_slopes_in_groups_inside(patients, effect):
    """Against the dense marginal covariance of each unit's rows given the unit's effects."""
    design = patients.design
    unit, patient = design.predictors["mu"].random
    G, inner = covariance(patients, unit), covariance(patients, patient)
    found = Information.of(patients, unit).reliability(patients, effect)
    for draw in (0, 33):
        sigma = float(patients.posterior["sigma"][0, draw])
        for place in range(6):
            rows = unit.groups.index == place
            same = np.equal.outer(patient.groups.index[rows], patient.groups.index[rows])
            V = same * (patient.Z[rows] @ inner[0, draw] @ patient.Z[rows].T)
            V = V + sigma**2 * np.eye(rows.sum())
            M = unit.Z[rows].T @ np.linalg.solve(V, unit.Z[rows])
            left = np.linalg.inv(np.linalg.inv(G[0, draw]) + M)
            a = unit.Z[rows].mean(axis=0) if effect is None else np.eye(2)[effect]
            expected = 1 - (a @ left @ a) / (a @ G[0, draw] @ a)
            assert found[0, draw, place] == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    ("formula", "more"),
    [
        ("y ~ x + (x | unit)", {"family": "bernoulli"}),
        ("y ~ x + (x | unit)", {"family": "bernoulli", "link": "probit"}),
        ("k | trials(n) ~ x + (x | unit)", {"family": "binomial"}),
        ("k ~ x + (x | unit) + offset(log(n))", {"family": "poisson"}),
        ("k ~ x + (x | unit) + (1 | ward)", {"family": "negative_binomial"}),
        ("z ~ x + (x | unit)", {"parameters": {"sigma": "~ x + (1 | ward)"}}),
        ("z ~ x + (x | unit)", {"sampling_sd": "n"}),
        ("z ~ x + (x | unit)", {"family": "student_t"}),
    ],
)
def test_information_is_the_sum_over_all_rows(formula, more):
    """Equal rows are put together; the reference is second differences, row by row.

    Where those serve in the report as well, nothing but the order of sums differs; in the closed
    forms' place they have an error of the square of their step and of rounding.
    """
    rng, rows = np.random.default_rng(8), 120
    data = {"unit": np.arange(rows) % 5, "ward": np.arange(rows) % 4, "x": rng.integers(0, 2, rows)}
    data |= {
        "n": rng.integers(2, 4, rows),
        "y": rng.integers(0, 2, rows),
        "z": rng.normal(size=rows),
    }
    data["k"] = rng.integers(0, 3, rows)
    model = bm.Model(formula, data, **more)
    fit = from_priors(model, 4)
    posterior = fit.posterior
    for name in posterior:
        posterior[name] = np.tanh(posterior[name])  # the tails of priors are far beyond any data
    fit = type(fit)(fit.design, type(fit.tree).from_dict({"posterior": posterior}))
    design, random = fit.design, fit.design.predictors["mu"].random[0]
    parameters, step = fit.parameters(), 1e-3 * outcome_scale(design).unit

    def loglik(shift):
        moved = parameters | {"mu": parameters["mu"] + shift}
        known = {"y": design.y, **design.known}
        return design.family.evaluate(design.family.loglik, moved, design.links, **known)

    each = np.maximum(2 * loglik(0.0) - loglik(step) - loglik(-step), 0) / step**2
    M = np.stack(
        [
            np.einsum("cdn,ni,nj->cdij", each[..., own], random.Z[own], random.Z[own])
            for own in (random.groups.index == j for j in range(5))
        ],
        axis=2,
    )
    G, eye = covariance(fit, random)[:, :, None], np.eye(2)
    expected = 1 - np.linalg.solve(eye + G @ M, G + 0 * M)[..., 1, 1] / G[..., 1, 1]
    information = Information.of(fit, random)
    tolerance = 1e-10 if design.spec.information is None else 1e-5
    np.testing.assert_allclose(information.reliability(fit, 1), expected, atol=tolerance)
    if formula.startswith("y"):
        assert len(information.rows.y) <= 20
    if "sampling_sd" in more:
        assert len(information.rows.y) == 2


def test_own_intercepts_are_maximum_likelihood(medpar):
    """SciPy's optimiser with the case mix as offset; none where all or none died."""
    report = bm.shrinkage(medpar, "provnum", effect="Intercept")
    predictor, y = medpar.design.predictors["mu"], medpar.design.y
    offset = predictor.X[:, 1:] @ medpar.posterior["beta"].mean(["chain", "draw"]).to_numpy()[1:]
    index = predictor.random[0].groups.index
    share = np.bincount(index, y) / np.bincount(index)
    pd.testing.assert_series_equal(
        report.table["raw"].isna(),
        pd.Series((share == 0) | (share == 1), report.table.index),
        check_names=False,
    )
    for place in (0, 5, 30):
        rows = index == place
        own = optimize.minimize_scalar(
            lambda a, rows=rows: (
                -log_expit(np.where(y[rows] == 1, 1, -1) * (offset[rows] + a)).sum()
            ),
            bounds=(-6, 6),
            method="bounded",
            options={"xatol": 1e-9},
        )
        # Two optimisers on a flat top agree to the root of rounding.
        assert report.table["raw"].iloc[place] == pytest.approx(own.x, abs=1e-5)
    assert any("no raw estimate" in caveat for caveat in report.caveats)
    assert report.plot().get_xlabel()


def test_own_rates_of_counts(fitted):
    """log(deaths / exposure), which no deaths have not."""
    formula = "deaths ~ 1 + offset(log(exposure)) + (1 | hospital)"
    table = bm.shrinkage(
        fitted("hearttransplants", formula, "poisson"), "hospital", "Intercept"
    ).table
    data = bm.datasets.load("hearttransplants")
    some = data["deaths"].to_numpy() > 0
    expected = np.log(data["deaths"][some] / data["exposure"][some])
    np.testing.assert_allclose(table["raw"].to_numpy()[some], expected, rtol=1e-6)
    assert table["raw"].to_numpy()[~some] == pytest.approx(np.nan, nan_ok=True)


def test_an_alarming_rate_moves_in_a_small_unit_and_stays_in_a_large_one(alarming):
    table = bm.shrinkage(alarming, "unit").table
    overall = alarming.design.y.sum() / table["trials"].sum()
    moved = (table["raw"] - table["shrunken"]) / (table["raw"] - overall)
    assert moved["U00"] > 0.5
    assert moved["U01"] < 0.1
    assert table["reliability"]["U00"] < 0.5 < 0.9 < table["reliability"]["U01"]


def test_what_lies_inside_is_integrated_over():
    """Adaptive quadrature of one centre's risk in one draw; its patients are new ones."""
    data = bm.datasets.load("respiratory")
    fit = bm.Model(
        "outcome ~ treat + (1 | center) + (1 | center:id)", data, family="bernoulli"
    ).fit(draws=50, tune=200, chains=2, seed=1, progress=False)
    report = bm.shrinkage(fit, "center")
    one = fit.posterior.isel(chain=1, draw=11)
    predictor = fit.design.predictors["mu"]
    random = next(r for r in predictor.random if r.name == "center")
    eta = predictor.X @ one["beta"].to_numpy() + one["u_center"].to_numpy()[random.groups.index, 0]
    rows = np.flatnonzero(random.groups.index == 1)
    sd = float(one["sd_center:id"][0])
    values, counts = np.unique(eta[rows], return_counts=True)
    means = [
        integrate.quad(lambda z, e=e: stats.norm.pdf(z) * expit(e + sd * z), -9, 9)[0]
        for e in values
    ]
    expected = np.average(means, weights=counts)
    # Quadrature of the package: relative error about 1e-9; SciPy's: 1e-8.
    assert report.draws["shrunken"][1, 11, 1] == pytest.approx(expected, abs=1e-7)


def test_a_loaded_fit_gives_the_same(alarming, tmp_path):
    loaded = bm.load(alarming.save(tmp_path / "fit.nc"))
    for effect in (None, "Intercept"):
        pd.testing.assert_frame_equal(
            bm.shrinkage(alarming, "unit", effect).table, bm.shrinkage(loaded, "unit", effect).table
        )


def test_names_are_checked(sleepstudy):
    with pytest.raises(bm.BayesmixedError, match="Did you mean 'Days'"):
        bm.shrinkage(sleepstudy, "Subject", effect="days")
    with pytest.raises(bm.BayesmixedError, match="Did you mean 'Subject'"):
        bm.shrinkage(sleepstudy, "subject")


@pytest.mark.parametrize("kind", ["arrows", "caterpillar"])
def test_pictures_show_both_estimates(sleepstudy, kind):
    report = bm.shrinkage(sleepstudy, "Subject", effect="Days")
    ax = report.plot(kind)
    drawn = np.concatenate([c.get_offsets()[:, 0] for c in ax.collections if len(c.get_offsets())])
    for column in ("raw", "shrunken"):
        for value in report.table[column]:
            assert np.isclose(drawn, value).any()
    assert [t.get_text() for t in ax.get_yticklabels()]


@pytest.mark.parametrize("name", ["a", "a:b", "c"])
def test_means_of_groups_at_the_cost_of_groups(name):
    """The mean of the rows' predictors and the predictor of the rows' mean are one number."""
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"a": np.repeat(list("pqr"), 20), "b": np.tile(list("uvwxy"), 12)})
    data["c"] = rng.choice(list("klmn"), 60)
    data["x"], data["y"] = rng.normal(size=60), rng.normal(size=60)
    fit = from_priors(bm.Model("y ~ x + offset(x / 3) + (x | a/b) + (x || c)", data))
    random = next(r for r in fit.design.predictors["mu"].random if r.name == name)
    inner = ["a:b"] if name == "a" else []
    sizes = random.groups.sizes.astype(float)
    expected, _ = _shrinkage._expected_means(fit, random, inner, sizes)
    found = linear_means(fit, random.groups, inner)(fit)
    np.testing.assert_allclose(found, expected(fit), rtol=1e-10, atol=1e-10)
