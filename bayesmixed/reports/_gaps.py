"""Outcomes that are missing at a visit: what is known of them under assumptions on drop-out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, lookup
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.places import Places
from bayesmixed.reports._trial import Trial
from bayesmixed.subjects import Normal

type Floats = NDArray[np.float64]
type Integers = NDArray[np.intp]


@dataclass(frozen=True)
class Assumption:
    """What a patient's outcomes are like after they left.

    Parameters
    ----------
    name : str
        In full.
    mean : callable
        From means in the patient's own arm and in the reference, shape (draws, visits), and the
        position of the last visit seen, to the means that are taken.
    from_reference : bool
        Whether outcomes after leaving depend on those before as in the reference arm.
    everyone : bool
        Whether it is for the reference arm as well.
    """

    name: str
    mean: Callable[[Floats, Floats, int], Floats]
    from_reference: bool
    everyone: bool = False


def _jump(own: Floats, ref: Floats, last: int) -> Floats:
    return np.concatenate([own[:, : last + 1], ref[:, last + 1 :]], axis=1)


def _copy_increments(own: Floats, ref: Floats, last: int) -> Floats:
    step = own[:, last, None] - ref[:, last, None]
    return np.concatenate([own[:, : last + 1], ref[:, last + 1 :] + step], axis=1)


def _last_mean(own: Floats, ref: Floats, last: int) -> Floats:
    kept = np.broadcast_to(own[:, last, None], own[:, last + 1 :].shape)
    return np.concatenate([own[:, : last + 1], kept], axis=1)


ASSUMPTIONS: Mapping[str, Assumption] = {
    "MAR": Assumption("missing at random", lambda own, ref, last: own, False),
    "J2R": Assumption("jump to reference", _jump, True),
    "CIR": Assumption("copy increments in reference", _copy_increments, True),
    "CR": Assumption("copy reference", lambda own, ref, last: ref, True),
    "LMCF": Assumption("last mean carried forward", _last_mean, False, True),
}


@dataclass(frozen=True)
class Conditional:
    """Means and variances of the missing outcomes given those seen, shape (draws, missing)."""

    mean: Floats
    variance: Floats


@dataclass(frozen=True)
class Gaps:
    """The outcomes that are missing at one visit.

    Parameters
    ----------
    trial : Trial
    at : int
        Position of the visit.
    y : array, shape (people, visits)
        The outcomes, missing ones NaN.
    """

    trial: Trial
    at: int
    y: Floats

    @classmethod
    def of(cls, trial: Trial, visit: object = None) -> Gaps:
        """Find them.

        Raises
        ------
        UnknownNameError
            If there is no such visit.
        BayesmixedError
            If a patient has two outcomes at a visit, or effects inside patients are correlated.
        """
        related = [r for r in trial.fit.design.predictors["mu"].random if r.between is not None]
        # Effects around patients keep their values in the draw.
        if any(trial.whose[r.name] == "new" for r in related):
            trial.fit.design.need_unrelated("What is known of a missing outcome")
        visits = {str(v): k for k, v in enumerate(trial.visits)}
        at = len(visits) - 1 if visit is None else lookup(visits, str(visit), f"{trial.time}")
        frame, design = trial.fit.design.table.frame, trial.fit.design
        places = pd.Index(trial.people[trial.patient]).get_indexer(pd.Index(frame[trial.patient]))
        when = pd.Index(trial.visits).get_indexer(pd.Index(frame[trial.time]))
        if pd.DataFrame({"who": places, "when": when}).duplicated().any():
            raise BayesmixedError(
                f"Some {trial.patient} has two rows at one {trial.time}; a trial's visit has one."
            )
        y = np.full((len(trial.people), len(trial.visits)), np.nan)
        y[places, when] = design.y
        return cls(trial, at, y)

    @cached_property
    def missing(self) -> Integers:
        """Positions of the people whose outcome at the visit is missing."""
        return np.flatnonzero(np.isnan(self.y[:, self.at]))

    @cached_property
    def last(self) -> Integers:
        """Position of the last visit at which each person was seen."""
        seen = ~np.isnan(self.y)
        return np.asarray(seen.shape[1] - 1 - seen[:, ::-1].argmax(axis=1))

    @property
    def left(self) -> NDArray[np.bool_]:
        """Whether each person left before the visit, rather than missed it alone."""
        return self.last < self.at

    @cached_property
    def arm(self) -> Integers:
        """Position of each person's arm; 0 is the reference."""
        column = self.trial.people[self.trial.treatment]
        return np.asarray(pd.Index(self.trial.arms).get_indexer(pd.Index(column)), dtype=np.intp)

    def given(self, names: list[str]) -> dict[str, Conditional]:
        """The missing outcomes' distribution in every draw, under each assumption."""
        parts: dict[str, list[Conditional]] = {name: [] for name in names}
        chains = self.trial.fit.posterior.sizes["chain"]
        own, ref = self._rows(None), self._rows(self.trial.arms[0])
        for piece in Fit(own, self.trial.fit.tree).pieces():
            one = Fit(self.trial.fit.design, piece.tree)
            normals = (self._normal(one, own), self._normal(one, ref))
            for name, found in self._piece(normals, names).items():
                shape = (chains, -1, len(self.missing))
                mean, variance = found.mean.reshape(shape), found.variance.reshape(shape)
                parts[name].append(Conditional(mean, variance))

        def whole(values: list[Floats]) -> Floats:
            return np.concatenate(values, axis=1).reshape(-1, len(self.missing))

        return {
            name: Conditional(whole([p.mean for p in each]), whole([p.variance for p in each]))
            for name, each in parts.items()
        }

    @property
    def _inside(self) -> list[str]:
        return [name for name, whose in self.trial.whose.items() if whose == "new"]

    def _rows(self, arm: object) -> Design:
        """All visits of the people with gaps, visit by visit."""
        people = replace(self.trial, people=self.trial.people.iloc[self.missing])
        frame = pd.concat([people.frame(v, arm) for v in self.trial.visits], ignore_index=True)
        for column in self._own_times:
            frame[column] = self._times(column).ravel()
        design = self.trial.fit.design.unobserved(frame)
        return replace(design, table=replace(design.table, frame=frame))

    @property
    def _own_times(self) -> list[str]:
        """Columns with times of the residuals' structure that differ between people at a visit."""
        trial, series = self.trial, self.trial.fit.design.series
        every = () if series is None else series.structure.columns
        found = [name for name in every if name != trial.time and name not in trial.along]
        if found and series is not None and series.structure.counted:
            raise BayesmixedError(
                f"{series.structure} counts visits by {found[0]}, which differs between people at "
                f"one {trial.time}, so it is not known of outcomes that are missing. Fit the model "
                f'with time="{trial.time}", or with a structure of measured times.'
            )
        return found

    def _times(self, column: str) -> Floats:
        """When people with gaps were seen, and the median time of visits that they missed.

        Shape (visits, people).
        """
        frame, trial = self.trial.fit.design.table.frame, self.trial
        seen = frame.pivot(index=trial.patient, columns=trial.time, values=column)
        seen = seen.reindex(columns=list(trial.visits)).astype(float)
        people = trial.people[trial.patient].iloc[self.missing]
        return seen.fillna(seen.median()).loc[people].to_numpy().T

    def _normal(self, fit: Fit, rows: Design) -> Normal:
        places = Places.of(fit.design.series, rows.table.frame, self.trial.patient)
        return Normal(fit, rows, places, tuple(self._inside))

    def _piece(self, normals: tuple[Normal, Normal], names: list[str]) -> dict[str, Conditional]:
        own, ref = normals
        count, visits = len(self.missing), len(self.trial.visits)
        rows = np.arange(count * visits).reshape(visits, count).T
        alike: dict[bytes, list[int]] = {}
        for j, person in enumerate(self.missing):
            seen = ~np.isnan(self.y[person])
            key = b"|".join([seen.tobytes(), own.key(rows[j]), ref.key(rows[j])])
            alike.setdefault(key, []).append(j)
        found = {name: Conditional(*np.empty((2, own.draws, count))) for name in names}
        means = (own.mean, ref.mean)
        for members in alike.values():
            seen = np.flatnonzero(~np.isnan(self.y[self.missing[members[0]]]))
            slopes = [
                _regression(n.covariance(rows[members[0]]), seen, self.at) for n in (own, ref)
            ]
            for j in members:
                mine = (means[0][:, rows[j]], means[1][:, rows[j]])
                for name in names:
                    how = self._how(name, self.missing[j])
                    mean = how.mean(*mine, self.last[self.missing[j]])
                    weights, variance = slopes[how.from_reference]
                    off = self.y[self.missing[j], seen] - mean[:, seen]
                    found[name].mean[:, j] = mean[:, self.at] + (weights * off).sum(axis=1)
                    found[name].variance[:, j] = variance
        return found

    def _how(self, name: str, person: int) -> Assumption:
        """Who only missed the visit, or left the reference arm, is missing at random."""
        how = ASSUMPTIONS[name]
        applies = self.left[person] and (how.everyone or self.arm[person] > 0)
        return how if applies else ASSUMPTIONS["MAR"]


def _regression(V: Floats, seen: Integers, at: int) -> tuple[Floats, Floats]:
    """Weights of the outcomes seen, shape (draws, seen), and the variance that they leave."""
    cross = V[:, seen, at]
    weights = np.linalg.solve(V[:, seen[:, None], seen], cross[..., None])[..., 0]
    return weights, V[:, at, at] - (weights * cross).sum(axis=1)
