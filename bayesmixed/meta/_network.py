r"""A network of trials: who compares what, and coordinates in which it is a regression.

A trial with arms :math:`0, \dots, m` gives contrasts :math:`y \sim N(X d, V + \tau^2 Z)` with
:math:`Z` 1 on the diagonal and 1/2 off it (Higgins & Whitehead 1996, Stat. Med. 15:2733: the
heterogeneity of every comparison is the same). With :math:`V = L L'` and
:math:`L^{-1} Z L^{-\prime} = U D U'`, the rows of :math:`T = D^{-1/2} U' L^{-1}` turn contrasts
into independent rows :math:`T y \sim N(T X d, D^{-1} + \tau^2)`. So the whole network is one
regression of independent rows with known variances, and what holds for those holds for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import DataError, listed, lookup

type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trial:
    """One trial's contrasts with its first arm.

    Parameters
    ----------
    name : str
    arms : tuple of int
        Treatments, by their place in the network; the first is the trial's own baseline.
    y : array, shape (arms - 1,)
        Effects of the other arms relative to the first.
    V : array, shape (arms - 1, arms - 1)
        Their sampling covariance.
    n : array, shape (arms,)
        Patients; not a number where unknown.
    """

    name: str
    arms: tuple[int, ...]
    y: Floats
    V: Floats
    n: Floats

    def rows(self, treatments: int) -> Floats:
        """Contrasts as rows over the treatments, shape (arms - 1, treatments)."""
        found = np.zeros((len(self.y), treatments))
        found[:, self.arms[0]] = -1
        found[np.arange(len(self.y)), self.arms[1:]] += 1
        return found

    @property
    def independent(self) -> tuple[Floats, Floats]:
        """The matrix that makes the contrasts independent, and their variances then."""
        size = len(self.y)
        lower = np.linalg.cholesky(self.V)
        half = np.linalg.solve(lower, np.full((size, size), 0.5) + 0.5 * np.eye(size))
        values, vectors = np.linalg.eigh(np.linalg.solve(lower, half.T))
        scaled = (vectors / np.sqrt(values)).T
        return np.asarray(np.linalg.solve(lower.T, scaled.T).T), 1 / values


@dataclass(frozen=True, eq=False)
class Network:
    """Trials and the treatments that they compare.

    Parameters
    ----------
    treatments : tuple of str
        The reference first.
    trials : tuple of Trial
    """

    treatments: tuple[str, ...]
    trials: tuple[Trial, ...]

    def __post_init__(self) -> None:
        """Refuse a network in which some treatments cannot be compared."""
        parts = self.components()
        if len(parts) > 1:
            shown = "; ".join(
                f"({i + 1}) {listed((self.treatments[t] for t in sorted(part)), 12)}"
                for i, part in enumerate(parts)
            )
            raise DataError(
                f"The network falls into {len(parts)} parts that no trial connects: {shown}. "
                "Analyse each part on its own, or add a trial that compares treatments of two."
            )

    def components(self, trials: Iterable[Trial] | None = None) -> list[set[int]]:
        """Sets of treatments that trials connect, the largest first."""
        parts = [{t} for t in range(len(self.treatments))]
        for trial in self.trials if trials is None else trials:
            touched = [part for part in parts if part & set(trial.arms)]
            parts = [p for p in parts if p not in touched] + [set().union(*touched)]
        return sorted(parts, key=lambda part: (-len(part), min(part)))

    def stacked(self) -> tuple[Floats, Floats, Floats]:
        """All trials in independent coordinates.

        Returns
        -------
        y, v : array, shape (rows,)
        X : array, shape (rows, treatments)
        """
        return self.transformed([trial.rows(len(self.treatments)) for trial in self.trials])

    def transformed(self, X: list[Floats]) -> tuple[Floats, Floats, Floats]:
        """As `stacked`, for design matrices of one's own, one a trial."""
        y, v, rows = [], [], []
        for trial, x in zip(self.trials, X, strict=True):
            turn, variance = trial.independent
            y.append(turn @ trial.y)
            v.append(variance)
            rows.append(turn @ x)
        return np.concatenate(y), np.concatenate(v), np.concatenate(rows)

    @property
    def names(self) -> NDArray[np.str_]:
        """The trial of every row of `stacked`."""
        return np.array([trial.name for trial in self.trials for _ in trial.y])

    def place(self, treatment: str) -> int:
        """Where a treatment is.

        Raises
        ------
        UnknownNameError
            If there is no such treatment.
        """
        return lookup({t: i for i, t in enumerate(self.treatments)}, treatment, "treatment")

    def edges(self) -> dict[tuple[int, int], list[Trial]]:
        """Trials that compare two treatments directly, for every such pair."""
        found: dict[tuple[int, int], list[Trial]] = {}
        for trial in self.trials:
            for a, b in combinations(sorted(trial.arms), 2):
                found.setdefault((a, b), []).append(trial)
        return dict(sorted(found.items()))

    def patients(self) -> Floats:
        """Patients under each treatment; 0 where no sizes are known."""
        total = np.zeros(len(self.treatments))
        for trial in self.trials:
            total[list(trial.arms)] += np.nan_to_num(trial.n)
        return total

    def has_indirect(self, a: int, b: int) -> bool:
        """Whether trials without one of the two treatments connect them."""
        others = [t for t in self.trials if not {a, b} <= set(t.arms)]
        return any({a, b} <= part for part in self.components(others))

    def with_reference(self, treatment: str) -> Network:
        """The same trials with another treatment in the first place."""
        first = self.place(treatment)
        order = [first, *(i for i in range(len(self.treatments)) if i != first)]
        back = {old: new for new, old in enumerate(order)}
        trials = tuple(replace(t, arms=tuple(back[a] for a in t.arms)) for t in self.trials)
        return Network(tuple(self.treatments[i] for i in order), trials)

    def to_dataset(self) -> xr.Dataset:
        """The network as plain arrays; `from_dataset` is the way back."""
        trials = self.trials
        return xr.Dataset(
            {
                "name": ("trial", np.array([t.name for t in trials], dtype=object)),
                "size": ("trial", np.array([len(t.arms) for t in trials])),
                "arm": ("row", np.concatenate([t.arms for t in trials]).astype(np.int64)),
                "n": ("row", np.concatenate([t.n for t in trials])),
                "y": ("contrast", np.concatenate([t.y for t in trials])),
                "V": ("entry", np.concatenate([t.V.ravel() for t in trials])),
                "treatments": ("place", np.array(self.treatments, dtype=object)),
            }
        )

    @classmethod
    def from_dataset(cls, stored: xr.Dataset) -> Network:
        """The network that `to_dataset` took apart."""
        sizes = stored["size"].to_numpy().astype(int)
        ends, inner = np.cumsum(sizes)[:-1], np.cumsum(sizes - 1)[:-1]
        squares = np.cumsum((sizes - 1) ** 2)[:-1]
        arms, n = (np.split(stored[name].to_numpy(), ends) for name in ("arm", "n"))
        y, V = np.split(stored["y"].to_numpy(), inner), np.split(stored["V"].to_numpy(), squares)
        trials = (
            Trial(str(name), tuple(map(int, arms[i])), y[i], V[i].reshape(len(y[i]), -1), n[i])
            for i, name in enumerate(stored["name"].to_numpy())
        )
        return cls(tuple(map(str, stored["treatments"].to_numpy())), tuple(trials))
