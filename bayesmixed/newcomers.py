"""Groups that are not in the fit: who is in which, and their effects drawn from the population."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesmixed import formula
from bayesmixed._errors import BayesmixedError, DataError, listed
from bayesmixed.conditional import square_root
from bayesmixed.data import Table, check_columns, select, to_pandas
from bayesmixed.design import Design, variables
from bayesmixed.expressions import evaluate
from bayesmixed.expressions import variables as names_in
from bayesmixed.fit import Fit
from bayesmixed.following import Following
from bayesmixed.groups import group_keys
from bayesmixed.linpred import Whose, covariance, linear_predictor
from bayesmixed.names import suffix
from bayesmixed.outcome import check_support, known_sd, known_trials, outcome
from bayesmixed.predictor import RandomDesign
from bayesmixed.relatives import Relatives

type Floats = NDArray[np.float64]
type Index = NDArray[np.intp]


@dataclass(frozen=True)
class Newcomers:
    """New groups of one grouping in one linear predictor.

    Parameters
    ----------
    parameter : str
        The family's parameter whose predictor it is.
    random : RandomDesign
        What varies between the groups, for some rows.
    index : array of int, shape (rows,)
        Number of each row's new group; -1 where its group is not a new one.
    count : int
        Number of new groups.
    relatives : Relatives, optional
        Where the groups are correlated, with each other or with groups of the fit.
    """

    parameter: str
    random: RandomDesign
    index: Index
    count: int
    relatives: Relatives | None = None

    def draw(self, fit: Fit, rng: np.random.Generator) -> Floats:
        """Effects of the new groups from N(0, G), shape (chain, draw, group, effect).

        Less what is expected of them, where groups are correlated with groups of the fit.
        """
        if self.relatives is not None:
            return self.relatives.draw(fit, rng)
        L = self.root(fit)
        z = rng.standard_normal((*L.shape[:2], self.count, self.random.size))
        return np.asarray(z @ L.mT)

    def root(self, fit: Fit) -> Floats:
        """L with L L' = G, shape (chain, draw, effect, effect); G may be singular."""
        values, vectors = np.linalg.eigh(
            covariance(fit, self.random, suffix(fit.design, self.parameter))
        )
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :])

    @property
    def following(self) -> Following | None:
        """The values of a process at new times, those in the rows with outcomes.

        Raises
        ------
        BayesmixedError
            If more than one effect varies.
        """
        if self.relatives is None:
            return None
        if self.random.size > 1:
            raise BayesmixedError(
                f"{listed(self.random.effects)} vary between groups of {self.random.name!r}, which "
                "are correlated; what further outcomes say of them is worked out for one effect. "
                "Use predict(), or refit with these rows."
            )
        known = np.zeros(self.count, dtype=bool)
        known[self.index[self.index >= 0]] = True
        return Following(self.relatives, known)

    def shift(self, effects: Floats) -> Floats:
        """What effects (..., group, effect) add to the predictor, shape (..., row)."""
        return _shift(effects, self.index, self.random.Z)


def _shift(effects: Floats, index: Index, Z: Floats) -> Floats:
    total = np.zeros((*effects.shape[:-2], len(index)))
    rows = np.flatnonzero(index >= 0)
    for k in range(Z.shape[1]):
        total[..., rows] += effects[..., index[rows], k] * Z[rows, k]
    return total


def asked_for(design: Design, rows: Design, whose: Mapping[str, Whose]) -> list[Newcomers]:
    """The new groups of rows where all groups of a grouping are new ones, told apart by labels.

    Among existing ones, those that are not in the fit but correlated with groups that are.

    Parameters
    ----------
    design : Design
        Of the fit.
    rows : Design
    whose : mapping of str to {"existing", "new", "average"}
    """
    found = []
    for parameter, random in _randoms(rows):
        choice, relatives = whose[random.name], None
        if choice != "average":
            meet = Relatives.unseen if choice == "new" else Relatives.given
            relatives = meet(design, rows, parameter, random)
        if relatives is not None:
            count = len(relatives.first)
            found.append(Newcomers(parameter, random, relatives.index, count, relatives))
        elif choice == "new":
            keys = group_keys(random.groups.grouping, rows.table.frame)
            index, labels = pd.factorize(keys)
            found.append(Newcomers(parameter, random, index, len(labels)))
    return found


def anew(
    fit: Fit, design: Design, parameter: str, random: RandomDesign, rng: np.random.Generator
) -> Floats:
    """Effects of the groups of the fit, drawn anew; shape (chain, draw, group, effect)."""
    if random.between is not None:
        return Relatives.again(design, parameter, random).draw(fit, rng)
    G = covariance(fit, random, suffix(design, parameter))
    shape = (*G.shape[:2], len(random.groups.labels), random.size)
    return np.asarray(rng.normal(size=shape) @ square_root(G).mT)


def unknown_to_the_fit(*parts: Design) -> list[list[Newcomers]]:
    """The groups of several tables that are not in the fit, numbered alike in all of them.

    Returns
    -------
    list of list of Newcomers
        One list a table, in the same order of groupings, of those that have any new group.
    """
    found: list[list[Newcomers]] = [[] for _ in parts]
    ends = np.cumsum([len(p.y) for p in parts])[:-1]
    for randoms in zip(*(_randoms(p) for p in parts), strict=True):
        grouping = randoms[0][1].groups.grouping
        new = np.concatenate([r.groups.index for _, r in randoms]) < 0
        keys = [group_keys(grouping, p.table.frame).astype(object) for p in parts]
        codes, labels = pd.factorize(pd.concat(keys, ignore_index=True)[new])
        if not len(labels):
            continue
        index = np.full(len(new), -1, dtype=np.intp)
        index[new] = codes
        for into, (parameter, random), own in zip(
            found, randoms, np.split(index, ends), strict=True
        ):
            into.append(Newcomers(parameter, random, own, len(labels)))
    return found


def in_series(
    design: Design, parts: Sequence[Design], found: Sequence[Sequence[Newcomers]]
) -> list[list[Newcomers]]:
    """The same new groups, those that are times of series with what says how they are correlated.

    Parameters
    ----------
    design : Design
        Of the fit.
    parts : sequence of Design
        The tables.
    found : sequence of sequence of Newcomers
        As `unknown_to_the_fit` gives them.
    """
    frames = [part.table.frame for part in parts]
    whole = pd.concat(frames, join="inner", ignore_index=True) if parts else pd.DataFrame()

    def one(every: tuple[Newcomers, ...]) -> tuple[Newcomers, ...]:
        first = every[0]
        if not first.random.within:
            return every
        index = np.concatenate([each.random.groups.index for each in every])
        random = replace(
            first.random,
            groups=replace(first.random.groups, index=index),
            Z=np.concatenate([each.random.Z for each in every]),
        )
        spreads = [each.random.spreads for each in every if each.random.spreads is not None]
        if spreads:
            own = replace(spreads[0], index=np.concatenate([each.index for each in spreads]))
            random = replace(random, spreads=own)
        relatives = Relatives.following(design, whole, first.parameter, random)
        return tuple(replace(each, relatives=relatives) for each in every)

    return [list(each) for each in zip(*map(one, zip(*found, strict=True)), strict=True)] or [
        [] for _ in parts
    ]


def centre(fit: Fit, rows: Design) -> dict[str, Floats]:
    """Linear predictors with the effects of the groups in the fit; those of new ones are 0.

    Returns
    -------
    dict of str to array, shape (chain, draw, row)
        As in `LinearPredictor`.
    """
    found = dict(linear_predictor(fit, rows, "average").centre)
    for parameter, random in _randoms(rows):
        if (random.groups.index >= 0).any():
            u = fit.posterior[f"u{suffix(fit.design, parameter)}_{random.name}"].to_numpy()
            found[parameter] = found[parameter] + _shift(u, random.groups.index, random.Z)
    return found


def runs(fit: Fit, numbers_a_draw: int, most: int = 5_000_000) -> Iterator[Fit]:
    """The fit cut into runs of consecutive draws, so that what is made of them fits in memory."""
    posterior = fit.posterior
    step = max(1, most // max(1, posterior.sizes["chain"] * numbers_a_draw))
    for first in range(0, posterior.sizes["draw"], step):
        part = posterior.isel(draw=slice(first, first + step))
        yield Fit(fit.design, xr.DataTree.from_dict({"posterior": part}))


def _randoms(rows: Design) -> list[tuple[str, RandomDesign]]:
    return [(name, r) for name, p in rows.predictors.items() for r in p.random]


def with_labels(
    design: Design, data: Any, whose: Mapping[str, Whose]
) -> tuple[pd.DataFrame, list[str]]:
    """The table with labels made up where they are not needed and not given, and their columns.

    Every row is then a group of its own.
    """
    frame = to_pandas(data)
    predictors = design.spec.predictors.values()
    texts = [t for p in predictors for t in (p.fixed, *(r.effects for r in p.random))]
    used = {name for text in texts for name in formula.variables(text)}
    free = [f for g in design.groups if whose[g.name] != "existing" for f in g.grouping.factors]
    used |= _when(design, frame, whose)
    made = [f for f in dict.fromkeys(free) if f not in {*frame.columns, *used}]
    labels = [f"row {i}" for i in range(1, len(frame) + 1)]
    return frame.assign(**dict.fromkeys(made, labels)), made


def _when(design: Design, frame: pd.DataFrame, whose: Mapping[str, Whose]) -> set[str]:
    """Columns with the times of new series that have several rows, or an sd for each time."""
    found = set[str]()
    for _, random in _randoms(design):
        if random.between is None or random.between.series is None:
            continue
        structure = random.between.series.structure
        alone = random.within not in frame.columns or frame[random.within].is_unique
        if whose[random.name] == "new" and (random.spreads is not None or not alone):
            found |= set(structure.columns)
    return found


def observed(design: Design, data: Any) -> Design:
    """The same model for rows whose outcome is known; groups not in the fit have the index -1.

    Raises
    ------
    UnknownNameError
        If a column is missing.
    DataError
        If a value is missing or cannot be used, or lies outside the family's support.
    """
    frame, spec = to_pandas(data), design.spec
    check_columns(variables(spec), frame.columns)
    frame = select(frame, variables(spec), "raise").frame
    rows = design.unobserved(frame)
    trials = known_trials(spec, frame)
    y = _codes(design, frame) if design.categories else outcome(spec, frame)[0]
    check_support(design.family, y, trials, frame)
    return replace(
        rows, table=Table(frame, {}, 0), y=y, trials=trials, sampling_sd=known_sd(spec, frame)
    )


def _codes(design: Design, frame: pd.DataFrame) -> Floats:
    """Ordered categories as their codes in the fit."""
    own, given = (pd.Series(evaluate(design.spec.response, f)) for f in (design.table.frame, frame))
    if isinstance(own.dtype, pd.CategoricalDtype):
        categories = pd.Index(own.cat.categories.astype(object))
    else:
        categories = pd.Index(np.sort(own.unique())).astype(object)
    codes = categories.get_indexer(pd.Index(given.astype(object)))
    if (codes < 0).any():
        raise DataError(
            f"The outcome {design.spec.response!r} is "
            f"{listed(map(repr, given[codes < 0].unique()), 5)}, which is not one of the "
            f"categories of the fit: {listed(design.categories)}."
        )
    return np.asarray(codes, dtype=np.float64)


def predictor_columns(design: Design) -> set[str]:
    """Columns of the population part and the offsets, which predictions may be drawn against."""
    predictors = design.spec.predictors.values()
    plain = {name for p in predictors for name in formula.variables(p.fixed)}
    return plain | {n for p in predictors for code in p.offsets for n in names_in(code)}
