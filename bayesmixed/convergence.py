"""The verdict on a run: can its draws be used, which parameters are in doubt, what to try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from arviz_base import rcParams
from arviz_stats.base import array_stats

from bayesmixed._errors import listed

# Vehtari, Gelman, Simpson, Carpenter & Buerkner (2021), Bayesian Analysis 16:667.
MAX_RHAT = 1.01
MIN_ESS_PER_CHAIN = 100
# The largest of many R-hats exceeds 1.01 by chance; effects of groups come in hundreds.
MAX_RHAT_EFFECTS = 1.02
# Betancourt (2016), arXiv:1604.00695.
MIN_BFMI = 0.3


@dataclass(frozen=True)
class Convergence:
    """The verdict.

    Parameters
    ----------
    problems : tuple of str
        What is wrong, each with the parameters that show it and what to try; empty if nothing.
    max_rhat : float
        Largest R-hat of the population-level parameters.
    min_ess_bulk, min_ess_tail : float
        Smallest effective sample sizes of the population-level parameters.
    divergences : int
        Divergent transitions after warm-up.
    draws : int
        Draws over all chains.
    """

    problems: tuple[str, ...]
    max_rhat: float
    min_ess_bulk: float
    min_ess_tail: float
    divergences: int
    draws: int

    def __bool__(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        """The verdict in a few lines."""
        numbers = (
            f"R-hat at most {self.max_rhat:.3f}, effective draws at least "
            f"{self.min_ess_bulk:,.0f} (bulk) and {self.min_ess_tail:,.0f} (tail) of "
            f"{self.draws:,}, divergences {self.divergences}"
        )
        if not self.problems:
            return f"Converged: {numbers}."
        return "\n".join(["Do not use these draws yet.", *(f"- {p}" for p in self.problems)])


def assess(
    population: xr.DataArray,
    effects: xr.DataArray,
    statistics: xr.Dataset,
    interrupted: bool = False,
) -> Convergence:
    """Judge a run.

    Parameters
    ----------
    population : DataArray (chain, draw, parameter)
        Population-level parameters.
    effects : DataArray (chain, draw, parameter)
        Effects of groups, or a sample of them.
    statistics : Dataset (chain, draw)
        Sampler statistics under ArviZ's names.
    interrupted : bool
        Whether the run was stopped.
    """
    chains, draws = population.sizes["chain"], population.sizes["draw"]
    problems: list[str] = []
    if interrupted:
        problems.append(
            f"Sampling was interrupted: {chains} chain(s) of {draws:,} draws are kept. "
            "Fit again to the end for a result to publish."
        )
    if chains < 2 or draws < 4:
        problems.append("Convergence cannot be judged from one chain; use chains=4.")
        nothing = float("nan")
        return Convergence(tuple(problems), nothing, nothing, nothing, 0, chains * draws)
    problems += _divergences(statistics, chains * draws)
    rhat = _rhat(population)
    bulk, tail = _ess(population, "bulk"), _ess(population, "tail")
    problems += _mixing(population, rhat, bulk, tail, chains)
    if effects.sizes["parameter"]:
        problems += _above(effects, _rhat(effects), MAX_RHAT_EFFECTS)
    return Convergence(
        tuple(problems),
        float(np.nanmax(rhat)),
        float(np.nanmin(bulk)),
        float(np.nanmin(tail)),
        int(statistics["diverging"].sum()) if "diverging" in statistics else 0,
        chains * draws,
    )


# On arrays: ArviZ's functions of labelled data take several times as long.
_AXES = {"chain_axis": 0, "draw_axis": 1}


def _rhat(values: xr.DataArray) -> np.ndarray:
    return np.atleast_1d(array_stats.rhat(values.to_numpy(), **_AXES))


def _ess(values: xr.DataArray, method: str) -> np.ndarray:
    tail = {"prob": rcParams["stats.ci_prob"]} if method == "tail" else {}
    return np.atleast_1d(array_stats.ess(values.to_numpy(), method=method, **tail, **_AXES))


def _names(values: xr.DataArray, bad: np.ndarray, amount: np.ndarray, form: str) -> str:
    worst = [i for i in np.argsort(-np.abs(amount)) if bad[i]]
    labels = values["parameter"].to_numpy()
    return listed([f"{labels[i]} ({format(amount[i], form)})" for i in worst], 5)


def _above(values: xr.DataArray, rhat: np.ndarray, bound: float) -> list[str]:
    bad = ~(rhat <= bound)
    if not bad.any():
        return []
    return [
        f"The chains disagree (R-hat above {bound}) for {_names(values, bad, rhat, '.3f')}. Run "
        "longer (tune=2000, draws=2000); if they still disagree, the data cannot tell these "
        "parameters apart: simplify the random effects or give narrower priors."
    ]


def _mixing(
    values: xr.DataArray, rhat: np.ndarray, bulk: np.ndarray, tail: np.ndarray, chains: int
) -> list[str]:
    problems = _above(values, rhat, MAX_RHAT)
    least = MIN_ESS_PER_CHAIN * chains
    smaller = np.fmin(bulk, tail)
    bad = ~(smaller >= least)
    if bad.any():
        problems.append(
            f"Fewer than {least} effective draws for "
            f"{_names(values, bad, -smaller, '.0f').replace('(-', '(')}. Take more draws "
            "(draws=2000 or 4000)."
        )
    return problems


def _divergences(statistics: xr.Dataset, total: int) -> Sequence[str]:
    problems = []
    if "diverging" in statistics and (count := int(statistics["diverging"].sum())):
        problems.append(
            f"{count} of {total:,} transitions diverged, so parts of the posterior may be missed. "
            "Try target_accept=0.99; if they stay, a standard deviation of effects may be near 0 "
            "with little information about it: a narrower prior for it helps."
        )
    if "reached_max_treedepth" in statistics:
        share = float(statistics["reached_max_treedepth"].mean())
        if share > 0.05:
            problems.append(
                f"{share:.0%} of the draws reached the deepest tree, so sampling is slow, though "
                "not wrong. Try max_depth=12, and predictors on comparable scales."
            )
    if "energy" in statistics:
        energy = statistics["energy"].to_numpy()
        bfmi = np.mean(np.diff(energy, axis=1) ** 2, axis=1) / np.var(energy, axis=1)
        if (bfmi < MIN_BFMI).any():
            problems.append(
                f"E-BFMI is {bfmi.min():.2f} (below {MIN_BFMI}): the tails are explored slowly. "
                "Take a longer warm-up (tune=3000), or narrower priors for standard deviations."
            )
    return problems
