"""A treatment difference in every draw, with what is missing filled in under an assumption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError
from bayesmixed.fit import Fit
from bayesmixed.reports._ancova import Ancova
from bayesmixed.reports._gaps import Conditional, Gaps
from bayesmixed.reports._report import interval
from bayesmixed.reports._trial import Trial

type Floats = NDArray[np.float64]
type Better = Literal["higher", "lower"]

REFERENCES = (
    "Carpenter, Roger & Kenward (2013), Journal of Biopharmaceutical Statistics 23:1352-1371.",
    "Cro, Carpenter & Kenward (2019), J. R. Stat. Soc. A 182:623-645.",
    "Wolbers, Noci, Delmar, Gower-Page, Yiu & Bartlett (2022), Pharmaceutical Statistics 21:1246.",
)
INFERENCES = ("information-anchored", "model")
SIGNS = {"higher": 1.0, "lower": -1.0}
"""Which outcomes are better, as a factor."""
BOTH = (
    "Information-anchored: each draw's imputations analysed by least squares, with the variance of "
    "Rubin's rules. Model: the assumption taken as true, with the variance of a frequentist "
    "standard error."
)


@dataclass(frozen=True)
class Dropout:
    """The difference of one arm from the reference at one visit, under assumptions on drop-out.

    Parameters
    ----------
    gaps : Gaps
    arm : int
        Position of the arm.
    given : mapping of str to Conditional
        The missing outcomes under each assumption, ``"MAR"`` among them.
    seed : int
    """

    gaps: Gaps
    arm: int
    given: Mapping[str, Conditional]
    seed: int

    @cached_property
    def ancova(self) -> Ancova:
        """Least squares at the visit, with the terms of the model."""
        trial, at = self.gaps.trial, self.gaps.trial.visits[self.gaps.at]
        X = [
            trial.fit.design.unobserved(trial.frame(at, arm)).predictors["mu"].X
            for arm in (None, trial.arms[0], trial.arms[self.arm])
        ]
        return Ancova.of(X[0], (X[2] - X[1]).mean(axis=0))

    @cached_property
    def difference(self) -> Floats:
        """The model's own difference in every draw."""
        trial, at = self.gaps.trial, self.gaps.trial.visits[self.gaps.at]
        pieces = []
        for piece in trial.pieces():
            low, high = (
                trial.predictor(piece, at, arm).centre["mu"]
                for arm in (trial.arms[0], trial.arms[self.arm])
            )
            pieces.append((high - low).mean(axis=-1))
        return np.concatenate(pieces, axis=1).ravel()

    @cached_property
    def _shares(self) -> Floats:
        """The Bayesian bootstrap: what share of the population each person stands for."""
        people = len(self.gaps.trial.people)
        rng = np.random.default_rng([self.seed, 1])
        return np.asarray(rng.dirichlet(np.ones(people), len(self.difference)) * people)

    @cached_property
    def weights(self) -> Floats:
        """What each missing outcome counts in the difference, shape (draws, missing)."""
        return self.ancova.weighted(self._shares)[:, self.gaps.missing]

    def model(self, name: str, delta: Floats | None = None) -> Floats:
        """The difference in the population, shape (draws,).

        The model's own, plus what the assumption changes in those who left.
        """
        moved = self.given[name].mean - self.given["MAR"].mean
        if delta is not None:
            moved = moved + delta
        return np.asarray(self.difference + (self.weights * moved).sum(axis=1))

    @cached_property
    def _noise(self) -> tuple[Floats, Floats]:
        """For the imputed outcomes, and for the completed data's posterior of the difference."""
        rng = np.random.default_rng([self.seed, 2])
        draws = len(self.difference)
        z = rng.standard_normal((draws, len(self.gaps.missing)))
        return z, rng.standard_t(self.ancova.degrees, draws)

    def anchored(self, name: str, delta: Floats | None = None) -> Floats:
        """The difference by multiple imputation, shape (draws,).

        One imputation a draw, and one draw of the completed data's own posterior: a mixture whose
        variance is that of Rubin's rules with as many imputations as draws.
        """
        y = self._filled(name)
        if delta is not None:
            y[:, self.gaps.missing] += delta
        squares = (self.ancova.residual(y) ** 2).sum(axis=1)
        return self._completed(y @ self.ancova.weights, squares)

    def along(self, *moves: Floats) -> list[Callable[..., Floats]]:
        """The difference under MAR where multiples of moves are added, by `INFERENCES`.

        Without a pass over the people for every multiple: the estimate is linear in the multiples,
        and the residual sum of squares quadratic.

        Parameters
        ----------
        *moves : array, shape (missing,)

        Returns
        -------
        list of callable
            From a multiple of each move to draws, those of `anchored` and of `model` with the
            moves so multiplied and added up as their delta.
        """
        own, people = self.ancova, len(self.gaps.trial.people)
        ways = np.zeros((len(moves), people))
        ways[:, self.gaps.missing] = moves
        y = self._filled("MAR")
        left, along = own.residual(y), own.residual(ways)
        start, pull = y @ own.weights, ways @ own.weights
        squares, cross, inner = (left**2).sum(axis=1), left @ along.T, along @ along.T
        slopes = self.weights @ np.array(moves).T

        def anchored(*amounts: float) -> Floats:
            a = np.array(amounts)
            return self._completed(start + pull @ a, squares + 2 * cross @ a + a @ inner @ a)

        def model(*amounts: float) -> Floats:
            return np.asarray(self.difference + slopes @ np.array(amounts))

        return [anchored, model]

    def _filled(self, name: str) -> Floats:
        """Outcomes at the visit, those missing imputed; shape (draws, people)."""
        z, _ = self._noise
        y = np.repeat(self.gaps.y[None, :, self.gaps.at], len(z), axis=0)
        y[:, self.gaps.missing] = self.given[name].mean + np.sqrt(self.given[name].variance) * z
        return np.asarray(y)

    def _completed(self, estimate: Floats, squares: Floats) -> Floats:
        """Draws of the completed data's posterior of the difference."""
        scale = squares / self.ancova.degrees * self.ancova.unit_variance
        return np.asarray(estimate + np.sqrt(scale) * self._noise[1])


def arms_of(trial: Trial, visit: Any, names: list[str], seed: int) -> list[Dropout]:
    """A comparison for every arm but the reference."""
    gaps = Gaps.of(trial, visit)
    if not len(gaps.missing):
        raise BayesmixedError(
            f"No outcome is missing at {trial.time} {trial.visits[gaps.at]} for a {trial.patient} "
            "in the data, so no assumption changes anything; trial_analysis() has the differences."
        )
    given = gaps.given(names)
    return [Dropout(gaps, arm, given, seed) for arm in range(1, len(trial.arms))]


def labelled(
    fit: Fit,
    found: Sequence[list[list[Floats]]],
    contrasts: list[str],
    axes: Mapping[str, Sequence[Any]],
) -> xr.DataArray:
    """Draws by assumption or deltas, contrast and inference, under their names.

    Parameters
    ----------
    fit : Fit
    found : sequence
        By contrast and inference, for every combination of the axes, the last changing first.
    contrasts : list of str
    axes : mapping of str to sequence
        What the draws differ by, with its values.
    """
    shape = tuple(fit.posterior.sizes[d] for d in ("chain", "draw"))
    values, sizes = np.array(found), tuple(map(len, axes.values()))
    return xr.DataArray(
        values.reshape((*sizes, *values.shape[1:3], *shape)),
        dims=(*axes, "contrast", "inference", "chain", "draw"),
        coords={**axes, "contrast": contrasts, "inference": list(INFERENCES)},
    )


def table_of(draws: xr.DataArray, sign: float, margin: float, order: list[str]) -> pd.DataFrame:
    """Mean, sd, interval, and the probability of a benefit."""
    numbers = interval(draws)
    numbers["p_better"] = (sign * draws > margin).mean(["chain", "draw"])
    return xr.Dataset(numbers).to_dataframe(dim_order=order)


def who_left(gaps: Gaps) -> str:
    """How many left before the visit, in words."""
    people, words = gaps.arm, []
    for k, arm in enumerate(gaps.trial.arms):
        mine = people == k
        words.append(f"{int((gaps.left & mine).sum())} of {int(mine.sum())} ({arm})")
    only = int((~gaps.left[gaps.missing]).sum())
    return f"Left before: {', '.join(words)}." + (
        f" {only} more missed this visit alone." if only else ""
    )
