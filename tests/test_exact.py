"""Posteriors against quadrature: a grid over the parameters, effects integrated out exactly."""

from __future__ import annotations

import arviz as az
import numpy as np
import pytest
from scipy import stats
from scipy.special import log_expit, logsumexp

import bayesmixed as bm

# Monte Carlo error alone separates the two: 4 standard errors, those of an sd being ArviZ's, which
# go by the effective number of squares: far fewer than of draws where tails are heavy.
NUMBER_OF_ERRORS = 4


def _check(fit, name, values, weights):
    row = fit.summary().loc[name]
    mean = float(values @ weights)
    sd = float(np.sqrt(values**2 @ weights - mean**2))
    assert abs(row["mean"] - mean) < NUMBER_OF_ERRORS * row["mcse_mean"]
    error = float(az.mcse(fit.scalars().sel(parameter=name).to_numpy(), method="sd"))
    assert abs(row["sd"] - sd) < NUMBER_OF_ERRORS * error
    # The bounds of the project's acceptance checks.
    assert abs(row["mean"] - mean) < 0.1 * sd
    assert abs(row["sd"] / sd - 1) < 0.1


def _midpoints(end, count):
    """Nodes from 0 to an end: the density of an sd need not vanish at 0, where a sum would err."""
    return (np.arange(count) + 0.5) * end / count


def _grid(*axes):
    return np.meshgrid(*axes, indexing="ij")


def _marginals(log_density, *axes):
    weights = np.exp(log_density - logsumexp(log_density))
    every = range(len(axes))
    return [weights.sum(axis=tuple(k for k in every if k != i)) for i in every]


def _glmm(data, family, loglik, group, prior, trials="", sd_max=4.0, spread=2.5):
    """Marginals of intercept and sd for counts with a random intercept, on a 2-d grid."""
    # Even nodes, close enough for counts that pin down an effect; Gauss-Hermite's are not.
    nodes = np.linspace(-6, 6, 601)
    log_weights = stats.norm.logpdf(nodes) + np.log(nodes[1] - nodes[0])
    mu = np.linspace(prior[0] - spread, prior[0] + spread, 81)
    sd = _midpoints(sd_max, 80)
    total = np.zeros((len(mu), len(sd)))
    for _, rows in data.groupby(group, observed=True):
        eta = mu[:, None, None] + sd[None, :, None] * nodes
        total += logsumexp(loglik(rows, eta) + log_weights, axis=-1)
    total += stats.norm(prior[0], 1).logpdf(mu)[:, None] + stats.halfnorm(0, 1).logpdf(sd)
    weights = _marginals(total, mu, sd)
    priors = {
        "Intercept": bm.Prior("Normal", mu=prior[0], sigma=1),
        f"sd_{group}": bm.Prior("HalfNormal", sigma=1),
    }
    model = bm.Model(f"{prior[1]}{trials} ~ 1 + (1 | {group})", data, family=family, priors=priors)
    fit = model.fit(seed=3, draws=2500, progress=False)
    _check(fit, "beta[Intercept]", mu, weights[0])
    _check(fit, f"sd_{group}", sd, weights[1])


def test_binomial():
    _glmm(
        bm.datasets.load("cbpp"),
        "binomial",
        lambda rows, eta: (
            rows["incidence"].sum() * log_expit(eta)
            + (rows["size"] - rows["incidence"]).sum() * log_expit(-eta)
        ),
        "herd",
        (-1.5, "incidence"),
        " | trials(size)",
    )


def test_poisson():
    _glmm(
        bm.datasets.load("epil").query("subject <= 20"),
        "poisson",
        lambda rows, eta: rows["y"].sum() * eta - len(rows) * np.exp(eta),
        "subject",
        (2.0, "y"),
        sd_max=3.0,
    )


@pytest.mark.parametrize("name", ["dyestuff2", "pastes"])
def test_gaussian(name):
    """Intercept, sd of groups and sigma on a 3-d grid; group means are sufficient."""
    response, group = {"dyestuff2": ("Yield", "Batch"), "pastes": ("strength", "batch")}[name]
    data = bm.datasets.load(name)
    by = data.groupby(group, observed=True)[response]
    n, means = by.size().to_numpy(), by.mean().to_numpy()
    within = float(((data[response] - by.transform("mean")) ** 2).sum())
    centre, size = float(data[response].mean()), float(data[response].std())
    mu, sd, sigma = (
        np.linspace(centre - 2.5 * size, centre + 2.5 * size, 121),
        _midpoints(4 * size, 140),
        np.linspace(0.35 * size, 2.2 * size, 140),
    )
    m, t, s = _grid(mu, sd, sigma)
    total = -(len(data) - len(n)) * np.log(s) - within / (2 * s**2)
    for count, mean in zip(n, means, strict=True):
        total += stats.norm.logpdf(mean, m, np.sqrt(t**2 + s**2 / count))
    total += stats.norm.logpdf(m, centre, 2 * size)
    total += stats.halfnorm.logpdf(t, 0, size) + stats.expon.logpdf(s, scale=size)
    weights = _marginals(total, mu, sd, sigma)
    priors = {
        "Intercept": bm.Prior("Normal", mu=centre, sigma=2 * size),
        f"sd_{group}": bm.Prior("HalfNormal", sigma=size),
        "sigma": bm.Prior("Exponential", lam=1 / size),
    }
    fit = bm.Model(f"{response} ~ 1 + (1 | {group})", data, priors=priors).fit(
        seed=3, draws=2500, progress=False
    )
    for axis, label, w in zip(
        (mu, sd, sigma), ("beta[Intercept]", f"sd_{group}", "sigma"), weights, strict=True
    ):
        _check(fit, label, axis, w)
