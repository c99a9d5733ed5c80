"""Effects integrated out or sampled: the same posterior, on real data and at the extremes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesmixed as bm

LOAD = bm.datasets.load


def _groups(sd, cor=0.0, sizes=(12,) * 20, slope=True):
    """Intercepts and slopes by group, in groups of these sizes."""
    rng = np.random.default_rng(6)
    g = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.normal(size=len(g))
    u = rng.multivariate_normal([0, 0], sd**2 * np.array([[1, cor], [cor, 1]]), len(sizes))
    y = 2 + x + u[g, 0] + slope * u[g, 1] * x + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "g": g})


CASES = {
    "sleepstudy": lambda way: bm.Model(
        "Reaction ~ Days + (Days | Subject)", LOAD("sleepstudy"), marginalize=way
    ),
    "pastes": lambda way: bm.Model(
        "strength ~ 1 + (1 | batch/cask)", LOAD("pastes"), marginalize=way
    ),
    "orthodont": lambda way: bm.Model(
        "distance ~ age * Sex + (age | Subject)", LOAD("orthodont"), marginalize=way
    ),
    "zero_variance": lambda way: bm.Model("y ~ x + (x | g)", _groups(0.0), marginalize=way),
    "correlation_near_1": lambda way: bm.Model(
        "y ~ x + (x | g)", _groups(2.0, 0.999), marginalize=way
    ),
    "one_row_in_some": lambda way: bm.Model(
        "y ~ x + (1 | g)", _groups(1.0, sizes=(1,) * 15 + (8,) * 10, slope=False), marginalize=way
    ),
    "two_groups": lambda way: bm.Model(
        "y ~ x + (1 | g)", _groups(1.0, sizes=(30, 30), slope=False), marginalize=way
    ),
    "sigma_by_arm": lambda way: bm.Model(
        "distance ~ age + (1 | Subject)",
        LOAD("orthodont"),
        parameters={"sigma": "~ Sex"},
        marginalize=way,
    ),
}


def _moments(fit):
    """Means and sds of all parameters and some effects, with their Monte Carlo errors."""
    names, rows = [], []
    for effects in (False, True):
        table, values = fit.summary(effects=effects), fit.scalars(effects)
        for name in list(table.index)[: 6 if effects else None]:
            draws = values.sel(parameter=name).to_numpy().ravel()
            row = table.loc[name]
            size = min(row["ess_bulk"], row["ess_tail"])
            error = row["sd"] * np.sqrt((stats.kurtosis(draws, fisher=False) - 1) / (4 * size))
            names.append(name)
            rows.append((row["mean"], row["mcse_mean"], row["sd"], error))
    return pd.DataFrame(rows, index=names, columns=["mean", "mean_error", "sd", "sd_error"])


@pytest.mark.parametrize("name", CASES)
def test_both_routes_agree(name):
    found = []
    for way in (True, False):
        model = CASES[name](way)
        assert bool(model.integrated) == way
        accept = 0.99 if name in ("zero_variance", "two_groups") else None
        fit = model.fit(seed=4, draws=2000, progress=False, target_accept=accept)
        assert fit.summary()["rhat"].max() < 1.02
        found.append(_moments(fit))
    one, other = found
    # Five errors: some 20 numbers of 8 models are compared.
    for what in ("mean", "sd"):
        error = np.hypot(one[f"{what}_error"], other[f"{what}_error"])
        z = (one[what] - other[what]).abs() / error
        assert (z < 5).all(), z[z >= 5]


def test_many_groups_integrate_out():
    """50,000 groups, some with one row: finite, and close to the truth that made them."""
    rng = np.random.default_rng(2)
    g = np.concatenate([np.arange(50_000), rng.integers(0, 40_000, 100_000)])
    y = 1 + rng.normal(0, 0.7, 50_000)[g] + rng.normal(size=len(g))
    model = bm.Model("y ~ 1 + (1 | g)", pd.DataFrame({"y": y, "g": g}))
    density = model._density
    # Intercept, log sd, log sigma; the gradient is the score, with an expected size of
    # sqrt(information) at the truth, information being at most the number of rows.
    layout = density.recover.layout
    value, gradient = density((np.array([1.0, np.log(0.7), 0.0]) - layout.origin) / layout.unit)
    assert np.isfinite(value)
    assert (np.abs(gradient / layout.unit) < 4 * np.sqrt(2 * len(g))).all()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("shift", [0.0, 1e6])
@pytest.mark.parametrize("way", [True, False])
def test_units_of_measurement_do_not_matter(scale, shift, way):
    """Outcome and predictor in other units and far from 0: the same posterior in those units."""
    data = LOAD("sleepstudy")
    other = data.assign(
        Reaction=data["Reaction"] * scale + shift * scale, Days=data["Days"] / scale + shift
    )
    formula = "Reaction ~ Days + (1 | Subject)"
    plain = bm.Model(formula, data).fit(seed=5, progress=False)
    moved = bm.Model(formula, other, marginalize=way).fit(seed=5, progress=False)
    assert moved.converged
    for name, factor in (("beta[Days]", scale**2), ("sd_Subject", scale), ("sigma", scale)):
        a, b = plain.summary().loc[name], moved.summary().loc[name]
        error = np.hypot(a["mcse_mean"], b["mcse_mean"] / factor)
        assert abs(a["mean"] - b["mean"] / factor) < 5 * error


def test_all_zero_groups_and_separation_stay_finite():
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(10), 20)
    x = rng.normal(size=200)
    counts = np.where(g < 4, 0, rng.poisson(3, 200))
    zero = bm.Model(
        "y ~ 1 + (1 | g)", pd.DataFrame({"y": counts, "g": g}), family="negative_binomial"
    )
    separable = bm.Model(
        "y ~ x + (1 | g)", pd.DataFrame({"y": (x > 0) * 1, "x": x, "g": g}), family="bernoulli"
    )
    for model in (zero, separable):
        fit = model.fit(seed=6, draws=500, tune=500, progress=False)
        assert np.isfinite(fit.summary().to_numpy()).all()
        assert fit.summary()["rhat"].max() < 1.05


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slopes", "nested", "crossed"])
def test_calibration_of_parameters_and_recovered_effects(name):
    """Simulation-based calibration (Talts et al. 2018): ranks of the truth are uniform."""
    rng = np.random.default_rng(9)
    frame = pd.DataFrame({"g": np.repeat(np.arange(8), 5), "x": np.tile(np.arange(5.0), 8)})
    frame["h"], frame["k"] = frame["g"] // 2, rng.integers(0, 4, len(frame))
    frame["y"] = rng.normal(size=len(frame))
    formula = {
        "slopes": "y ~ x + (x | g)",
        "nested": "y ~ x + (1 | h/g)",
        "crossed": "y ~ x + (1 | g) + (1 | k)",
    }[name]
    unit = bm.Prior("HalfNormal", sigma=1)
    groups = {"slopes": ["g"], "nested": ["h", "h:g"], "crossed": ["g", "k"]}[name]
    priors = {f"sd_{g}": unit for g in groups} | {
        "Intercept": bm.Prior("Normal", mu=0, sigma=1),
        "beta[x]": bm.Prior("Normal", mu=0, sigma=1),
        "sigma": bm.Prior("LogNormal", mu=0, sigma=0.3),
    }
    model = bm.Model(formula, frame, priors=priors)
    count, kept = 300, 99
    truth = model.prior_predictive(draws=count, seed=7)
    ranks = {}
    for i in range(count):
        y = pd.Series(truth["prior_predictive"]["y"].to_numpy()[0, i], index=frame.index)
        fit = model.with_outcome(y).fit(
            draws=4 * (kept + 1), tune=500, chains=1, seed=i, progress=False
        )
        thin = fit.posterior.isel(chain=0, draw=slice(0, 4 * kept, 4))
        prior = truth["prior"].isel(chain=0, draw=i)
        g = groups[0]
        joint = {
            # A function of effects and parameters tests their joint distribution.
            "effect": (thin[f"u_{g}"][:, 0, 0], prior[f"u_{g}"][0, 0]),
            "scaled": (
                thin[f"u_{g}"][:, 1, 0] / thin[f"sd_{g}"][:, 0],
                prior[f"u_{g}"][1, 0] / prior[f"sd_{g}"][0],
            ),
            "line": (
                thin["beta"][:, 0] + thin[f"u_{g}"][:, 0, 0],
                prior["beta"][0] + prior[f"u_{g}"][0, 0],
            ),
            "sd": (thin[f"sd_{groups[-1]}"][:, 0], prior[f"sd_{groups[-1]}"][0]),
            "sigma": (thin["sigma"], prior["sigma"]),
        }
        for label, (draws, value) in joint.items():
            ranks.setdefault(label, []).append(int((draws.to_numpy() < float(value)).sum()))
    for label, found in ranks.items():
        bins = np.histogram(found, bins=10, range=(0, kept + 1))[0]
        assert stats.chisquare(bins).pvalue > 1e-4, (label, bins)
