"""Two correlated outcomes: metafor, dense normals with quadrature, simulated strength."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.linalg import block_diag
from scipy.optimize import minimize

import bayesmixed as bm
from bayesmixed._errors import BayesmixedError, DataError, PriorError

REFERENCE = json.loads((Path(__file__).parent / "reference" / "models.json").read_text())[
    "berkey1998"
]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    return bm.datasets.load("berkey1998")


@pytest.fixture(scope="module")
def known(trials) -> np.ndarray:
    """The covariance of all rows, from the columns of each trial's own."""
    return block_diag(*(t[["v1i", "v2i"]].to_numpy() for _, t in trials.groupby("trial")))


@pytest.fixture(scope="module")
def fit(trials, known):
    return bm.multivariate_meta_analysis(trials, study="trial", V=known, seed=1)


@pytest.fixture(scope="module")
def report(fit):
    return bm.multivariate_effects(fit)


def test_flat_priors_give_metafors_reml_estimates(trials, known):
    flat = {"mu": bm.Prior("Flat"), "tau": bm.Prior("HalfFlat")}
    fit = bm.multivariate_meta_analysis(trials, study="trial", V=known, priors=flat)

    def negative(x):
        return -fit.pairs.given(np.exp(x[None, :2]), np.tanh(x[2:]))[0][0]

    found = minimize(negative, [-2, -2, 0.5], method="Nelder-Mead", options={"fatol": 1e-12})
    assert np.exp(2 * found.x[:2]) == pytest.approx(REFERENCE["tau2"], rel=1e-3)
    assert np.tanh(found.x[2]) == pytest.approx(REFERENCE["rho"], rel=1e-3)
    tau, rho = np.sqrt([REFERENCE["tau2"]]), np.array([REFERENCE["rho"]])
    _, mean, covariance = fit.pairs.given(tau, rho)
    assert mean[0] == pytest.approx(REFERENCE["beta"], abs=1e-7)
    assert np.sqrt(np.diag(covariance[0])) == pytest.approx(REFERENCE["se"], abs=1e-7)


def dense(fit, trials, known, tau, rho):
    """Marginal log-likelihood and conditional mean of mu by one multivariate normal."""
    outcome = (trials.outcome == fit.outcomes[1]).to_numpy().astype(int)
    same = trials.trial.to_numpy()[:, None] == trials.trial.to_numpy()
    G = np.outer(tau, tau) * np.array([[1, rho], [rho, 1]])
    X = np.eye(2)[outcome]
    prior = np.diag(fit.pairs.scale**2)
    total = known + same * (X @ G @ X.T) + X @ prior @ X.T
    y = trials.yi.to_numpy()
    return (
        stats.multivariate_normal(cov=total).logpdf(y),
        prior @ X.T @ np.linalg.solve(total, y),
    )


@pytest.mark.parametrize("left_out", [[], [0, 5]])
def test_given_the_covariance_it_is_one_multivariate_normal(trials, known, left_out):
    kept = np.setdiff1d(np.arange(10), left_out)
    data, V = trials.iloc[kept], known[np.ix_(kept, kept)]
    fit = bm.multivariate_meta_analysis(data, study="trial", V=V)
    tau, rho = np.array([[0.1, 0.2], [0.3, 0.05]]), np.array([0.6, -0.4])
    logs, means, _ = fit.pairs.given(tau, rho)
    for i in range(2):
        log, mean = dense(fit, data, V, tau[i], rho[i])
        assert logs[i] == pytest.approx(log, abs=1e-9)
        assert means[i] == pytest.approx(mean, abs=1e-9)


def test_posterior_is_that_of_another_quadrature(fit, trials, known, report):
    """Gauss-Legendre in tau and rho themselves, with dense normals."""
    x, w = np.polynomial.legendre.leggauss(16)
    ends = 0.9
    tau, weight = ends * (1 + x) / 2, ends * w / 2
    total, sums = 0.0, np.zeros(5)
    scale = [p.std() / np.sqrt(1 - 2 / np.pi) for p in fit.pairs.tau]
    for t1, w1 in zip(tau, weight, strict=True):
        for t2, w2 in zip(tau, weight, strict=True):
            for r, w3 in zip(x, w, strict=True):
                log, mean = dense(fit, trials, known, [t1, t2], r)
                prior = stats.halfnorm.pdf([t1, t2], scale=scale).prod() * (1 - r**2)
                share = w1 * w2 * w3 * prior * np.exp(log)
                total += share
                sums += share * np.array([*mean, t1, t2, r])
    names = [*report.table.index[:2], *report.table.index[-3:]]
    assert report.table.loc[names, "mean"].to_numpy() == pytest.approx(sums / total, abs=2e-3)


def test_draws_agree_with_the_grid(fit, report):
    table, drawn = report.table, fit.posterior
    values = {
        "mu[PD]": drawn["mu"][..., 0],
        "mu[AL]": drawn["mu"][..., 1],
        "tau[PD]": drawn["tau"][..., 0],
        "tau[AL]": drawn["tau"][..., 1],
        "rho": drawn["rho"],
    }
    for name, value in values.items():
        se = table.loc[name, "sd"] / np.sqrt(value.size)
        assert float(value.mean()) == pytest.approx(table.loc[name, "mean"], abs=4 * se)
        share = float((value < table.loc[name, "eti95_lb"]).mean())
        assert share == pytest.approx(0.025, abs=4 * np.sqrt(0.025 / value.size))
    difference = table.loc["mu[PD]", "mean"] - table.loc["mu[AL]", "mean"]
    assert table.loc["mu[PD] - mu[AL]", "mean"] == pytest.approx(difference)


def test_uncorrelated_outcomes_are_two_single_analyses(trials):
    """With no correlation within, and one between that is held at 0, each goes its own way."""
    priors = {"tau": bm.Prior("HalfNormal", sigma=0.2), "rho": bm.Prior("LKJ", eta=5000)}
    mu = bm.Prior("Normal", mu=0, sigma=0.5)
    fit = bm.multivariate_meta_analysis(
        trials, "yi", "sei", "trial", rho=0.0, priors=priors | {"mu": mu}
    )
    table = bm.multivariate_effects(fit).table
    for name in ("PD", "AL"):
        own = trials.loc[trials.outcome == name]
        single = bm.grid_posterior(
            bm.meta_analysis(
                own, "yi", "sei", "trial", method="grid", draws=5,
                priors={"mu": mu, "tau": priors["tau"]},
            )
        )  # fmt: skip
        found = table.loc[[f"mu[{name}]", f"tau[{name}]"]]
        assert found["mean"].to_numpy() == pytest.approx(
            [single.effect().mean[0], single.tau.mean], abs=2e-3
        )
        assert found["sd"].to_numpy() == pytest.approx(
            [single.effect().sd[0], single.tau.sd], rel=0.02
        )
        assert found["eti95_ub"].to_numpy() == pytest.approx(
            [single.effect().quantile(0.975)[0], single.tau.quantile(0.975)], abs=4e-3
        )


def test_one_outcome_lends_strength_to_the_other():
    rng = np.random.default_rng(4)
    G = 0.3**2 * np.array([[1, 0.95], [0.95, 1]])
    theta = rng.multivariate_normal([0.5, 0.5], G, 30)
    rows = [
        {"study": i, "outcome": o, "yi": theta[i, j] + rng.normal(0, 0.1), "sei": 0.1}
        for i in range(30)
        for j, o in enumerate(("a", "b"))
        if o == "a" or i < 8
    ]
    data = pd.DataFrame(rows)
    both = bm.multivariate_effects(bm.multivariate_meta_analysis(data, "yi", "sei", rho=0.0))
    alone = bm.grid_posterior(
        bm.meta_analysis(data[data.outcome == "b"], "yi", "sei", method="grid", draws=5)
    )
    assert both.table.loc["mu[b]", "sd"] < 0.85 * alone.effect().sd[0]
    assert both.table.loc["rho", "mean"] > 0.5


def test_sensitivity_to_the_correlation_within(fit, trials):
    table = bm.correlation_sensitivity(fit, [0.0, 0.8]).table
    assert list(table.index) == ["as fitted", "0", "0.8"]
    again = bm.multivariate_meta_analysis(trials, "yi", "sei", "trial", rho=0.8)
    expected = bm.multivariate_effects(again).table
    assert table.loc["0.8", "mu[PD]"] == pytest.approx(expected.loc["mu[PD]", "mean"], abs=1e-9)
    with pytest.raises(BayesmixedError, match="between -1 and 1"):
        bm.correlation_sensitivity(fit, [1.5])


def test_picture_and_text(report):
    report.plot()
    assert "Average effects over studies" in str(report)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {}, "V, the known"),
        ({}, {"rho": 0.5}, "standard errors"),
        ({}, {"rho": 1.5, "se": "sei"}, "between -1 and 1"),
        ({}, {"V": np.eye(3)}, "each of the 10 rows"),
        ({}, {"V": np.eye(10) + 0.1}, "different studies"),
        ({}, {"V": -np.eye(10)}, "not positive definite"),
        ({"outcome": "PD"}, {"rho": 0.1, "se": "sei"}, "two outcomes"),
        ({"trial": 1}, {"rho": 0.1, "se": "sei"}, "several rows for one outcome"),
        ({"yi": np.nan}, {"rho": 0.1, "se": "sei"}, "misses values"),
        ({"sei": 0.0}, {"rho": 0.1, "se": "sei"}, "above 0"),
    ],
)
def test_bad_input(trials, change, options, message):
    with pytest.raises(BayesmixedError, match=message):
        bm.multivariate_meta_analysis(trials.assign(**change), study="trial", **options)


def test_bad_priors(trials):
    for name, prior in (
        ("beta", bm.Prior("Flat")),
        ("mu", bm.Prior("Normal", mu=1, sigma=1)),
        ("rho", bm.Prior("Uniform", lower=-1, upper=1)),
    ):
        with pytest.raises(PriorError):
            bm.multivariate_meta_analysis(
                trials, "yi", "sei", "trial", rho=0.1, priors={name: prior}
            )
    with pytest.raises(DataError, match="two studies"):
        bm.multivariate_meta_analysis(trials.head(3), "yi", "sei", "trial", rho=0.1)
