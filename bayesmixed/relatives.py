r"""Effects of groups that are not in the fit but correlated with groups in it, or with each other.

With correlations :math:`K` between groups and the covariance :math:`G` of a group's effects, those
of new groups n are drawn given those of the groups seen s:

.. math:: u_n \mid u_s \sim
    N\left(K_{ns} K_{ss}^{-1} u_s,\; (K_{nn} - K_{ns} K_{ss}^{-1} K_{sn}) \otimes G\right)

which is kriging of a process (Cressie 1993, Statistics for Spatial Data, section 3.2) and the
prediction of breeding values (Henderson 1975, Biometrics 31:423), in every draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed.between import Between
from bayesmixed.conditional import root
from bayesmixed.data import check_columns
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.groups import first_rows, group_keys
from bayesmixed.kin import Matrices, MixedPart, Part, draws_of
from bayesmixed.known import KnownCovariance, text_of
from bayesmixed.names import sd_name, suffix
from bayesmixed.places import Places, alike, continued, correlations
from bayesmixed.predictor import RandomDesign
from bayesmixed.series import Series

type Floats = NDArray[np.float64]
type Integers = NDArray[np.intp]


@dataclass(frozen=True)
class Relatives:
    """New groups of one grouping in one linear predictor.

    Parameters
    ----------
    random : RandomDesign
        What varies between the groups, for some rows.
    tail : str
        What names of the predictor's variables end in.
    index : array of int, shape (rows,)
        Number of each row's new group; -1 where it has none.
    first : array of int, shape (new groups,)
        A row of each.
    parts : tuple of Part or MixedPart
    """

    random: RandomDesign
    tail: str
    index: Integers
    first: Integers
    parts: tuple[Part | MixedPart, ...]

    @classmethod
    def given(
        cls, design: Design, rows: Design, parameter: str, random: RandomDesign
    ) -> Relatives | None:
        """Groups that are not in the fit but correlated with some that are.

        Parameters
        ----------
        design : Design
            Of the fit.
        rows : Design
            Of which the groups are.
        parameter : str
            Whose predictor it is.
        random : RandomDesign
            The grouping, for these rows.

        Raises
        ------
        DataError
            If nothing is known of the correlation with a visit, or a series changes its arm.
        """
        new = random.groups.index < 0
        between = random.between
        if between is None or not new.any():
            return None
        found = cls._numbered(design, rows.table.frame, parameter, random, new)
        if between.series is None:
            covariance = design.spec.covariances[random.name]
            assert isinstance(covariance, KnownCovariance)
            parts = tuple(_known(covariance, random, found._keys(rows)))
        else:
            parts = tuple(_series(design, rows.table.frame, parameter, random, found.first))
        covered = np.zeros(len(found.first) + 1, dtype=bool)
        for part in parts:
            covered[part.coming] = True
        index = np.where(covered[found.index], found.index, -1)
        return replace(found, index=index, parts=parts) if parts else None

    @classmethod
    def unseen(
        cls, design: Design, rows: Design, parameter: str, random: RandomDesign
    ) -> Relatives | None:
        """New series of groups, whatever their labels; None where groups are not in series.

        Raises
        ------
        DataError
            If nothing is known of the correlation with a visit.
        """
        if random.between is None or random.between.series is None:
            return None
        series, every = random.between.series, np.ones(len(rows.y), dtype=bool)
        found = cls._numbered(design, rows.table.frame, parameter, random, every)
        frame, structure = rows.table.frame.iloc[found.first], series.structure
        if frame[structure.within].is_unique:
            # Times do not matter where every group is a series of its own.
            seen = design.table.frame.iloc[0]
            frame = frame.assign(**{n: seen[n] for n in structure.columns})
        return replace(found, parts=tuple(_independent(series, random, frame)))

    @classmethod
    def following(
        cls, design: Design, frame: pd.DataFrame, parameter: str, random: RandomDesign
    ) -> Relatives:
        """New times of series: of those in the fit given these, of others as series of their own.

        Parameters
        ----------
        design : Design
            Of the fit.
        frame : pandas.DataFrame
            Rows, with the columns that say whose and when.
        parameter : str
        random : RandomDesign
            The grouping, for these rows; its groups are in series.

        Raises
        ------
        DataError
            If nothing is known of the correlation with a visit, or a series changes its arm.
        """
        new = random.groups.index < 0
        found = cls._numbered(design, frame, parameter, random, new)
        parts = list(_series(design, frame, parameter, random, found.first))
        rest = np.ones(len(found.first), dtype=bool)
        for part in parts:
            rest[part.coming] = False
        others = np.flatnonzero(rest)
        assert random.between is not None
        series = random.between.series
        assert series is not None
        own = frame.iloc[found.first[others]]
        for part in _independent(series, random, own) if len(others) else ():
            parts.append(replace(part, coming=others[part.coming]))
        return replace(found, parts=tuple(parts))

    @classmethod
    def again(cls, design: Design, parameter: str, random: RandomDesign) -> Relatives:
        """The groups of the fit, as if drawn anew."""
        between = random.between
        assert between is not None
        index, first = random.groups.index, random.first
        found = cls(random, suffix(design, parameter), index, first, ())
        if between.series is not None:
            frame = design.table.frame.iloc[first]
            return replace(found, parts=tuple(_independent(between.series, random, frame)))
        every = np.arange(len(first))[None]
        assert between.known is not None
        return replace(found, parts=(_among(between, between.known, every[:, :0], every),))

    @classmethod
    def _numbered(
        cls,
        design: Design,
        frame: pd.DataFrame,
        parameter: str,
        random: RandomDesign,
        new: NDArray[np.bool_],
    ) -> Relatives:
        """Tell new groups apart by their labels."""
        index = np.full(len(new), -1, dtype=np.intp)
        keys = group_keys(random.groups.grouping, frame)
        index[new], labels = pd.factorize(keys[new])
        return cls(random, suffix(design, parameter), index, first_rows(index, len(labels)), ())

    def _keys(self, rows: Design) -> list[object]:
        frame = rows.table.frame.iloc[self.first]
        return group_keys(self.random.groups.grouping, frame).tolist()

    def extended(self) -> RandomDesign:
        """The grouping with the new groups behind those of the fit."""
        groups = self.random.groups
        behind = np.where(self.index < 0, groups.index, len(groups.labels) + self.index)
        return replace(self.random, groups=replace(groups, index=behind))

    def mean(self, fit: Fit) -> Floats:
        """What is expected of the effects, shape (chain, draw, new group, effect)."""
        seen = self._seen(fit)
        found = np.zeros((len(seen), len(self.first), self.random.size))
        for part in self.parts:
            if part.seen.size:
                found[:, part.coming] = part.mean(fit, seen)
        return self._whole(fit, found * self.scale(fit)[..., None])

    def share(self, fit: Fit) -> Floats:
        """Variance that is left of effects with standard deviation 1, (chain, draw, new group)."""
        found = np.zeros((draws_of(fit), len(self.first)))
        for part in self.parts:
            found[:, part.coming] = part.share(fit)[:, None]
        return self._whole(fit, np.maximum(found, 0.0))

    def draw(self, fit: Fit, rng: np.random.Generator) -> Floats:
        """Effects less what is expected of them, shape (chain, draw, new group, effect)."""
        found = np.zeros((draws_of(fit), len(self.first), self.random.size))
        for part in self.parts:
            found[:, part.coming] = part.draw(fit, self.random.size, rng)
        if self.random.spreads is not None:
            return self._whole(fit, found * self.scale(fit)[..., None])
        factor = root(covariance_of_effects(fit, self.random, self.tail))
        return self._whole(fit, found) @ factor.mT

    def row_shares(self, fit: Fit) -> Floats:
        """`share` of each row's new group; 0 where it has none; shape (chain, draw, row)."""
        behind = np.concatenate([self.share(fit), np.zeros((*_sizes(fit), 1))], axis=-1)
        return np.asarray(behind[..., self.index])

    def _seen(self, fit: Fit) -> Floats:
        """Effects of the groups of the fit, shape (draws, groups, effects)."""
        u = fit.posterior[f"u{self.tail}_{self.random.name}"].to_numpy()
        u = u.reshape((-1, *u.shape[2:]))
        own = fit.design.predictors[fit.design.family.parameters[0].name]
        random = next((r for r in own.random if r.name == self.random.name), self.random)
        if random.spreads is None:
            return np.asarray(u)
        return np.asarray(u / self._spreads(fit)[:, random.spreads.index[random.first], None])

    def scale(self, fit: Fit) -> Floats:
        """What the effects of every new group are multiplied by, shape (draws, new groups) or 1."""
        own = self.random.spreads
        if own is None:
            return np.ones((1, 1))
        own.check()
        return self._spreads(fit)[:, own.index[self.first]]

    def _spreads(self, fit: Fit) -> Floats:
        sd = fit.posterior[sd_name(self.tail, self.random.name)].to_numpy()
        return np.asarray(sd.reshape((-1, sd.shape[-1])))

    def _whole(self, fit: Fit, values: Floats) -> Floats:
        return np.asarray(values.reshape((*_sizes(fit), *values.shape[1:])))


def covariance_of_effects(fit: Fit, random: RandomDesign, tail: str = "") -> Floats:
    """Covariance G of effects of a group with variance 1, shape (chain, draw, effect, effect).

    Where standard deviations differ by visit or arm, these take the effects' place.
    """
    sd = fit.posterior[sd_name(tail, random.name)].to_numpy()
    if not random.is_correlated:
        return np.asarray(sd[..., None] * np.eye(sd.shape[-1]) * sd[..., None, :])
    correlation = fit.posterior[f"cor{tail}_{random.name}"].to_numpy()
    return np.asarray(sd[..., None] * correlation * sd[..., None, :])


def _series(
    design: Design, frame: pd.DataFrame, parameter: str, random: RandomDesign, first: Integers
) -> Iterator[Part]:
    """New times of series that are in the fit."""
    assert random.between is not None
    series = random.between.series
    assert series is not None
    structure = series.structure
    by = () if structure.by is None else (structure.by,)
    check_columns((structure.within, *structure.columns, *by), frame.columns)
    own = next(r for r in design.predictors[parameter].random if r.name == random.name)
    before = design.table.frame.iloc[own.first]
    after = frame.iloc[first]
    subjects = pd.Index(after[structure.within].map(text_of).unique())
    known = subjects.get_indexer(pd.Index(before[structure.within].map(text_of)))
    at = np.flatnonzero(known >= 0)
    new = subjects.get_indexer(pd.Index(after[structure.within].map(text_of)))
    to = np.flatnonzero(np.isin(new, known[at]))
    if not len(to):
        return
    past, coming = Places.of(series, before.iloc[at]), Places.of(series, after.iloc[to])
    past = Places(known[at].astype(np.intp), past.arm, past.times)
    coming = Places(new[to].astype(np.intp), coming.arm, coming.times)
    for each in continued(series, past, coming, after.iloc[to]):
        yield Part(at[each.seen], to[each.coming], _within(series, random, each.arm, each.times))


def _independent(series: Series, random: RandomDesign, frame: pd.DataFrame) -> Iterator[Part]:
    """Series of groups, a row each, of which nothing was seen."""
    places = Places.of(series, frame)
    none = Places(places.who[:0], places.arm[:0], places.times[:0])
    for each in alike(none, places):
        yield Part(each.seen, each.coming, _within(series, random, each.arm, each.times))


def _within(series: Series, random: RandomDesign, arm: int, times: Floats) -> Matrices:
    assert random.between is not None
    named = random.between.named
    return lambda posterior, some: correlations(series, posterior, arm, times, some, named)


def _known(
    covariance: KnownCovariance, random: RandomDesign, keys: list[object]
) -> Iterator[Part | MixedPart]:
    """Groups that a known matrix relates to those of the fit."""
    place = {label: i for i, label in enumerate(covariance.labels)}
    coming = np.flatnonzero([text_of(key) in place for key in keys])
    if not len(coming):
        return
    seen = np.arange(len(random.groups.labels))
    every = [*random.groups.labels.tolist(), *(keys[i] for i in coming)]
    at = [place[text_of(label)] for label in every]
    K = covariance.matrix[np.ix_(at, at)]
    assert random.between is not None
    yield _among(random.between, K, seen[None], coming[None])


def _among(between: Between, K: Floats, seen: Integers, coming: Integers) -> Part | MixedPart:
    """Groups whose known covariance is K, those seen first."""
    if not between.mixed:
        return Part(seen, coming, same=K)
    return MixedPart(seen, coming, K, between.share)


def _sizes(fit: Fit) -> tuple[int, int]:
    return fit.posterior.sizes["chain"], fit.posterior.sizes["draw"]
