"""What is to be said of the pooled effect in many subsets of the studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesmixed._errors import PriorError
from bayesmixed.meta._between_grid import BetweenPosterior
from bayesmixed.meta._estimates import from_mixture
from bayesmixed.meta._grid import GridPosterior
from bayesmixed.meta._subsets import IMPROPER, UNIDENTIFIED, Subsets, Sums, stratified

type Floats = NDArray[np.float64]

_DRAWS = 1000


@dataclass(frozen=True, eq=False)
class SubsetSummaries:
    """Numbers of every subset.

    Parameters
    ----------
    problems : array of str, shape (subsets,)
        What stands against a posterior; empty where nothing does.
    numbers : array, shape (subsets, 6)
        Mean, sd, median and 95 % equal-tailed interval of the average effect, and the median of
        tau; not numbers where there is no posterior.
    drawn : array, shape (draws, subsets)
        Of the average effect.
    """

    problems: NDArray[np.str_]
    numbers: Floats
    drawn: Floats


def summaries(
    posterior: GridPosterior | BetweenPosterior,
    sums: Sums,
    members: Sequence[NDArray[np.intp]],
    x: Floats,
) -> SubsetSummaries:
    """Analyse every subset.

    Parameters
    ----------
    posterior : GridPosterior, HeavyTailed or LocationScale
        Of all studies.
    sums : callable
        As for `Subsets`, which has all subsets of a normal model at once.
    members : sequence of arrays of int
        The studies in each subset.
    x : array, shape (terms,)
        Moderators at which the average effect is looked at.
    """
    if not isinstance(posterior, GridPosterior):
        return _one_by_one(posterior, members)
    subsets = Subsets(posterior, sums, x)
    problems = np.array(subsets.problems)
    solved = problems == ""
    numbers, drawn = _nothing(len(problems))
    if solved.any():
        effect = subsets.effect
        numbers[solved] = np.column_stack([from_mixture(effect), subsets.tau_median])
        drawn[:, solved] = stratified(effect, _DRAWS)
    return SubsetSummaries(problems, numbers, drawn)


def _one_by_one(
    posterior: BetweenPosterior, members: Sequence[NDArray[np.intp]]
) -> SubsetSummaries:
    numbers, drawn = _nothing(len(members))
    problems = []
    for j, studies in enumerate(members):
        one = posterior.of(studies)
        if not one.regression.is_identified:
            problems.append(UNIDENTIFIED)
            continue
        try:
            numbers[j] = np.append(one.mu, one.tau_median)
        except PriorError:
            problems.append(IMPROPER)
            continue
        problems.append("")
        drawn[:, j] = one.average(_DRAWS, np.random.default_rng(0))
    return SubsetSummaries(np.array(problems), numbers, drawn)


def _nothing(count: int) -> tuple[Floats, Floats]:
    return np.full((count, 6), np.nan), np.full((_DRAWS, count), np.nan)
