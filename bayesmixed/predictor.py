"""A linear predictor's matrices: population part X, offset, and Z with groups for each grouping."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import xarray as xr
from formulaic import ModelSpec as Encoder
from numpy.typing import NDArray
from scipy.linalg import qr

from bayesmixed._errors import DataError, listed
from bayesmixed.between import Between
from bayesmixed.data import check_predictor
from bayesmixed.encoding import add_offsets, apply, encode_terms
from bayesmixed.formula import plain, variables
from bayesmixed.groups import Groups, first_rows
from bayesmixed.known import KnownCovariance
from bayesmixed.spec import PredictorSpec, RandomTerm
from bayesmixed.spreads import Spreads
from bayesmixed.structure import Structure

type Floats = NDArray[np.float64]

INTERCEPT = "Intercept"
_RANK_TOLERANCE = 1e-9


@dataclass(frozen=True)
class RandomDesign:
    """Everything that varies between the groups of one grouping.

    Parameters
    ----------
    groups : Groups
        The groups and each row's.
    effects : tuple of str
        Names of the effects.
    Z : array, shape (rows, effects)
        What each effect is multiplied by.
    blocks : tuple of tuple of int
        Positions of effects that are correlated with each other; effects in different blocks
        are independent.
    encoders : tuple of formulaic.ModelSpec
        How `Z` was made, one for each term, for new rows.
    between : Between, optional
        How groups are correlated, where they are not independent.
    spreads : Spreads, optional
        Where standard deviations of the one effect differ by visit or arm: each row's.
    """

    groups: Groups
    effects: tuple[str, ...]
    Z: Floats
    blocks: tuple[tuple[int, ...], ...]
    encoders: tuple[Encoder, ...] = field(repr=False)
    between: Between | None = None
    spreads: Spreads | None = None

    @property
    def name(self) -> str:
        """The grouping's name."""
        return self.groups.name

    @property
    def size(self) -> int:
        """Number of effects."""
        return len(self.effects)

    @property
    def is_process(self) -> bool:
        """Whether it stands for correlated residuals."""
        return self.groups.grouping.is_process

    @property
    def within(self) -> str:
        """The column of whose groups a series is made; empty where groups are not in series."""
        series = None if self.between is None else self.between.series
        return "" if series is None else series.structure.within

    def variance(self, posterior: xr.Dataset) -> Floats:
        """Variance of an average group for an effect with standard deviation 1.

        Returns
        -------
        array, shape (chain, draw, 1, 1) or less
        """
        return np.ones(1) if self.between is None else self.between.average(posterior)

    @property
    def first(self) -> NDArray[np.intp]:
        """The first row of each group, shape (groups,)."""
        return first_rows(self.groups.index, len(self.groups.labels))

    @property
    def parts(self) -> tuple[str, ...]:
        """What has standard deviations of its own: the effects, or their visits and arms."""
        return self.effects if self.spreads is None else tuple(map(str, self.spreads.labels))

    @property
    def loadings(self) -> Floats:
        """What effects of standard deviation 1 of all `parts` are multiplied by, (rows, parts).

        Raises
        ------
        DataError
            If a row is of another visit or arm than those of the fit.
        """
        if self.spreads is None:
            return self.Z
        self.spreads.check()
        own = self.spreads.index[:, None] == np.arange(len(self.spreads.labels))
        return np.asarray(self.Z * own)

    @property
    def is_correlated(self) -> bool:
        """Whether there is any correlation to estimate."""
        return any(len(block) > 1 for block in self.blocks)


@dataclass(frozen=True)
class PredictorDesign:
    """One linear predictor for every row.

    Parameters
    ----------
    terms : tuple of str
        Names of the columns of `X`; ``"Intercept"`` first where there is one.
    X : array, shape (rows, terms)
        Raw population design.
    offset : array, shape (rows,)
        Sum of the offsets.
    random : tuple of RandomDesign
        One for each grouping.
    encoder : formulaic.ModelSpec
        How `X` was made.
    offsets : tuple of str
        The offsets' expressions.
    """

    terms: tuple[str, ...]
    X: Floats
    offset: Floats
    random: tuple[RandomDesign, ...]
    encoder: Encoder = field(repr=False)
    offsets: tuple[str, ...] = ()

    @property
    def has_intercept(self) -> bool:
        """Whether the first column is the intercept."""
        return self.terms[:1] == (INTERCEPT,)

    @property
    def slopes(self) -> tuple[str, ...]:
        """The terms other than the intercept."""
        return self.terms[self.has_intercept :]

    def at(self, frame: pd.DataFrame) -> PredictorDesign:
        """The same predictor for the rows of another table.

        Groups that are not in the fit get the index -1.

        Raises
        ------
        DataError
            If a category was not in the fit, or a value cannot be used.
        """
        random = tuple(
            RandomDesign(
                Groups(r.groups.grouping, r.groups.labels, r.groups.match(frame)),
                r.effects,
                np.column_stack([apply(encoder, frame) for encoder in r.encoders]),
                r.blocks,
                r.encoders,
                r.between,
                None if r.spreads is None else r.spreads.at(frame),
            )
            for r in self.random
        )
        X = apply(self.encoder, frame)
        if X.shape[1] > len(self.terms):
            X = X[:, 1:]
        offset = add_offsets(self.offsets, frame)
        return PredictorDesign(self.terms, X, offset, random, self.encoder, self.offsets)

    def eta(self, beta: Floats, effects: Mapping[str, Floats]) -> Floats:
        """The linear predictor.

        Parameters
        ----------
        beta : array, shape (..., terms)
            Coefficients on the raw scale.
        effects : mapping of str to array, shape (..., groups, effects)
            Effects of each grouping; a grouping that is left out counts as 0.

        Returns
        -------
        array, shape (..., rows)
        """
        total = beta @ self.X.T + self.offset
        for random in self.random:
            if random.name in effects:
                u = effects[random.name]
                for k in range(len(random.effects)):
                    total = total + u[..., random.groups.index, k] * random.Z[:, k]
        return total


def build_predictor(
    spec: PredictorSpec, frame: pd.DataFrame, parameter: str, drop_intercept: bool = False
) -> PredictorDesign:
    """Encode a predictor's terms for the rows of a table, and refuse what cannot be estimated.

    Parameters
    ----------
    spec : PredictorSpec
        What was asked.
    frame : pandas.DataFrame
        Complete rows.
    parameter : str
        The family's parameter, for messages.
    drop_intercept : bool
        Whether cut-points take the intercept's place.

    Raises
    ------
    DataError
        For constant or collinear predictors, factors with one level, values that a function
        turns into infinity or not-a-number, a grouping with one group, repeated effects, or a
        slope that does not vary within any group.
    """
    _check_levels(spec.fixed, frame)
    X, names, encoder = encode_terms(spec.fixed, frame)
    if drop_intercept and INTERCEPT in names:
        X, names = X[:, 1:], names[1:]
    _check_columns(X, names, parameter, implicit_intercept=drop_intercept)
    offset = add_offsets(spec.offsets, frame)
    return PredictorDesign(names, X, offset, _random(spec.random, frame), encoder, spec.offsets)


def related(
    predictor: PredictorDesign,
    covariances: Mapping[str, Structure | KnownCovariance],
    frame: pd.DataFrame,
) -> PredictorDesign:
    """Give groupings whose groups are correlated what says how.

    Raises
    ------
    DataError
        If a covariance does not fit the groups, or several effects vary where standard deviations
        differ by visit or arm.
    """

    def one(random: RandomDesign) -> RandomDesign:
        given = covariances.get(random.name)
        if given is None:
            return random
        between = Between.of(given, random.groups, frame)
        spreads = Spreads.of(given, frame) if isinstance(given, Structure) else None
        if spreads is not None and random.size > 1:
            raise DataError(
                f"{given}: heterogeneous= and by= give a standard deviation to each visit or arm, "
                f"which is for one effect of a group; {listed(random.effects)} vary between those "
                f"of {random.name!r}. Leave all but one out, or use one standard deviation each."
            )
        return replace(random, between=between, spreads=spreads)

    return replace(predictor, random=tuple(map(one, predictor.random)))


def _check_levels(code: str, frame: pd.DataFrame) -> None:
    text, parts = plain(code)
    bare = [parts.get(name, (name, False))[0] for name in variables(text)]
    for name in variables(code):
        if name == INTERCEPT:
            raise DataError("A predictor cannot be called 'Intercept'; rename the column.")
        check_predictor(frame[name], name in bare)


def _check_columns(
    X: Floats, names: Sequence[str], parameter: str, implicit_intercept: bool
) -> None:
    """Refuse constant and collinear columns, naming which depend on which."""
    if implicit_intercept:
        X, names = np.column_stack([np.ones(len(X)), X]), (INTERCEPT, *names)
    if not names:
        return
    X = X / np.maximum(np.abs(X).max(axis=0), np.finfo(float).tiny)
    spread = X.std(axis=0)
    scaled = X - X.mean(axis=0) if INTERCEPT in names else X.copy()
    if INTERCEPT in names:
        scaled[:, list(names).index(INTERCEPT)] = 1.0
    constant = [n for n, s in zip(names, spread, strict=True) if s <= 1e-12 and n != INTERCEPT]
    if constant and (INTERCEPT in names or len(constant) > 1):
        raise DataError(
            f"Constant in the formula for {parameter}: {listed(constant)}, so no effect can be "
            "estimated; leave it out."
        )
    norms = np.linalg.norm(scaled, axis=0)
    scaled = scaled / np.where(norms > 0, norms, 1.0)
    _, R, pivot = qr(scaled, mode="economic", pivoting=True)
    diagonal = np.abs(np.diag(R))
    rank = int((diagonal > _RANK_TOLERANCE * diagonal[0]).sum())
    if rank == X.shape[1]:
        return
    kept = sorted(pivot[:rank])
    sentences = []
    for column in sorted(pivot[rank:]):
        weights, *_ = np.linalg.lstsq(scaled[:, kept], scaled[:, column], rcond=None)
        others = [names[k] for k, w in zip(kept, weights, strict=True) if abs(w) > 1e-6]
        sentences.append(f"{names[column]} follows exactly from {listed(others)}")
    raise DataError(
        f"Collinear predictors for {parameter}: {'; '.join(sentences[:3])}"
        + (f" and {len(sentences) - 3} more" if len(sentences) > 3 else "")
        + (f" ({len(X):,} rows for {len(names)} terms)" if len(X) < len(names) else "")
        + ". Leave one of them out."
        + _of_splines(names)
    )


def _of_splines(names: Sequence[str]) -> str:
    """What to write where a spline holds the intercept as well."""
    calls = (re.match(r"(c[rsc]\(.*)\)\[[^\[]*\]$", name) for name in names)
    held = [call[1] for call in calls if call and "constraints" not in call[1]]
    return f' Beside an intercept write {held[0]}, constraints="center").' if held else ""


def _random(terms: Sequence[RandomTerm], frame: pd.DataFrame) -> tuple[RandomDesign, ...]:
    by_group: dict[str, list[RandomTerm]] = {}
    for term in terms:
        by_group.setdefault(term.grouping.name, []).append(term)
    return tuple(_random_design(of_group, frame) for of_group in by_group.values())


def _random_design(terms: Sequence[RandomTerm], frame: pd.DataFrame) -> RandomDesign:
    groups = Groups.of(terms[0].grouping, frame)
    if len(groups.labels) < 2:
        raise DataError(
            f"The grouping {groups.name!r} has one group only ({groups.labels[0]}), so nothing "
            "can vary between groups; leave the term out."
        )
    effects: list[str] = []
    parts: list[Floats] = []
    blocks: list[tuple[int, ...]] = []
    encoders: list[Encoder] = []
    for term in terms:
        _check_levels(term.effects, frame)
        Z, names, encoder = encode_terms(term.effects, frame)
        if not names:
            raise DataError(f"The term {term} has no effect; write (1 | {groups.name}).")
        repeated = [name for name in names if name in effects]
        if repeated:
            raise DataError(
                f"{listed(repeated)} varies between groups of {groups.name!r} in more than one "
                f"term; write it once. For independent effects use (1 + x || {groups.name})."
            )
        _check_varies(term, Z, names, groups)
        positions = tuple(range(len(effects), len(effects) + len(names)))
        blocks += [positions] if term.correlated else [(p,) for p in positions]
        effects += names
        parts.append(Z)
        encoders.append(encoder)
    return RandomDesign(
        groups, tuple(effects), np.column_stack(parts), tuple(blocks), tuple(encoders)
    )


def _check_varies(term: RandomTerm, Z: Floats, names: Sequence[str], groups: Groups) -> None:
    """Refuse slopes of predictors that are constant within every group."""
    first = np.zeros(len(groups.labels), dtype=np.intp)
    first[groups.index[::-1]] = np.arange(len(Z))[::-1]
    within = np.abs(Z - Z[first[groups.index]]).max(axis=0)
    flat = within <= 1e-12 * np.maximum(np.abs(Z).max(axis=0), np.finfo(float).tiny)
    # Independent indicators without an intercept are another model: a variance for each arm.
    by_arm = not term.correlated and INTERCEPT not in names and bool(np.isin(Z, (0, 1)).all())
    stuck = [n for n, f in zip(names, flat, strict=True) if f and n != INTERCEPT]
    if stuck and not by_arm:
        raise DataError(
            f"{listed(stuck)} does not vary within any group of {groups.name!r}, so its slope "
            f"cannot vary between them; leave it out of {term}. (For a variance that differs "
            f"by arm write (0 + arm || {groups.name}).)"
        )
