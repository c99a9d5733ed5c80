"""Priors learned across outcomes, against the exact marginal likelihood and against the truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from bayesmixed import BayesmixedError, Prior
from bayesmixed.many import Moderation
from bayesmixed.many._moderation import learn

GRID = np.linspace(-6.0, 7.0, 4001)
FREEDOM = 8


class Simulated:
    """Residual sds of many outcomes, each with a chi-square's information and a half-t prior."""

    def __init__(self, outcomes: int, mu: float, sigma: float, draws: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.truth = rng.normal(mu, sigma, outcomes)
        variance = np.exp(2 * self.truth) * rng.chisquare(FREEDOM, outcomes) / FREEDOM
        # Log of the prior density of log sigma: half-t of sigma, and the Jacobian.
        log_prior = stats.t(3, scale=3.0).logpdf(np.exp(GRID)) + np.log(2) + GRID
        self.loglik = -FREEDOM * GRID - FREEDOM * variance[:, None] / 2 * np.exp(-2 * GRID)
        posterior = np.exp(self.loglik + log_prior - (self.loglik + log_prior).max(1)[:, None])
        share = np.cumsum(posterior, axis=1) / posterior.sum(axis=1)[:, None]
        at = [np.interp(rng.random(draws), s, GRID) for s in share]
        self.logs = np.array(at)[..., None]
        self.log_priors = np.interp(self.logs, GRID, log_prior)
        self.raw = (posterior * GRID).sum(axis=1) / posterior.sum(axis=1)

    def exact(self) -> np.ndarray:
        """Maximum of the marginal likelihood by quadrature (times sigma, as is documented)."""

        def loss(x: np.ndarray) -> float:
            prior = stats.norm(x[0], np.exp(x[1])).logpdf(GRID)
            total = self.loglik + prior
            top = total.max(axis=1)
            each = top + np.log(np.exp(total - top[:, None]).sum(axis=1))
            return -float(each.sum() + x[1])

        found = optimize.minimize(loss, [0.0, -1.0], method="Nelder-Mead")
        return np.array([found.x[0], np.exp(found.x[1])])

    def moderated(self, prior: Prior) -> np.ndarray:
        """Posterior means of log sigma with a lognormal prior, by quadrature."""
        given = dict(prior.parameters)
        total = self.loglik + stats.norm(given["mu"], given["sigma"]).logpdf(GRID)
        weight = np.exp(total - total.max(axis=1)[:, None])
        return (weight * GRID).sum(axis=1) / weight.sum(axis=1)


@pytest.mark.parametrize("sigma", [0.1, 0.3, 1.0])
def test_draws_give_what_quadrature_gives(sigma):
    simulated = Simulated(200, 0.5, sigma, 2000, seed=1)
    row = learn(["sigma"], simulated.logs, simulated.log_priors).table.loc["sigma"]
    # The draws add a tenth or less to the error that 200 outcomes leave.
    np.testing.assert_allclose(row["mu"], simulated.exact()[0], atol=0.1 * row["mu_se"] + 0.003)
    np.testing.assert_allclose(
        row["sigma"], simulated.exact()[1], atol=0.15 * row["sigma_se"] + 0.003
    )


def test_truth_is_recovered_with_an_honest_standard_error():
    rows = []
    for seed in range(20):
        simulated = Simulated(200, 0.5, 0.3, 500, seed)
        rows.append(learn(["sigma"], simulated.logs, simulated.log_priors).table.loc["sigma"])
    table = pd.DataFrame(rows)
    for name, truth in (("mu", 0.5), ("sigma", 0.3)):
        error = (table[name] - truth) / table[f"{name}_se"]
        # Mean of 20 standardised errors: sd 0.22; their sd: 1 within 0.16.
        assert abs(error.mean()) < 4 * 0.23
        assert 0.5 < error.std() < 1.6


@pytest.mark.parametrize(("sigma", "share"), [(0.1, 0.4), (0.3, 0.85)])
def test_moderated_estimates_are_nearer_to_the_truth(sigma, share):
    simulated = Simulated(400, 0.5, sigma, 1000, seed=2)
    learned = learn(["sigma"], simulated.logs, simulated.log_priors)
    moderated = simulated.moderated(learned.priors["sigma"])
    error, raw = (np.mean((x - simulated.truth) ** 2) for x in (moderated, simulated.raw))
    assert error < share * raw


def test_two_parameters_at_once_are_as_each_alone_when_independent():
    first, second = Simulated(100, 0.5, 0.3, 1000, 3), Simulated(100, -1.0, 0.5, 1000, 4)
    logs = np.concatenate([first.logs, second.logs], axis=-1)
    priors = np.concatenate([first.log_priors, second.log_priors], axis=-1)
    both = learn(["a", "b"], logs, priors).table
    for name, alone in (("a", first), ("b", second)):
        row = learn([name], alone.logs, alone.log_priors).table.loc[name]
        assert abs(both.loc[name, "mu"] - row["mu"]) < 0.3 * row["mu_se"]
        assert abs(both.loc[name, "sigma"] - row["sigma"]) < 0.5 * row["sigma_se"]


def test_a_few_outcomes_are_not_taken_for_all_alike():
    spreads = []
    for seed in range(10):
        simulated = Simulated(5, 0.0, 0.1, 500, seed)
        learned = learn(["sigma"], simulated.logs, simulated.log_priors)
        spreads.append(learned.table.loc["sigma", "sigma"])
    assert min(spreads) > 0.05


def test_outcomes_that_hardly_inform_the_prior_are_counted():
    simulated = Simulated(50, 0.0, 0.05, 500, seed=1)
    simulated.logs[0] += 1.5
    assert learn(["sigma"], simulated.logs, simulated.log_priors).table.loc["sigma", "hard"] >= 1


def test_it_survives_json():
    simulated = Simulated(20, 0.0, 0.3, 300, seed=1)
    learned = learn(["sigma"], simulated.logs, simulated.log_priors)
    again = Moderation.from_dict(learned.to_dict())
    pd.testing.assert_frame_equal(again.table, learned.table)
    assert again.priors == learned.priors
    assert again.priors["sigma"].distribution == "LogNormal"
    assert "sigma" in str(again)


def test_too_few_outcomes_are_refused():
    simulated = Simulated(2, 0.0, 0.3, 100, seed=1)
    with pytest.raises(BayesmixedError, match="2 outcomes could be fitted"):
        learn(["sigma"], simulated.logs, simulated.log_priors)
