"""Patients whose futures are forecast together: their rows, and what their visits tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bayesmixed._errors import DataError, listed
from bayesmixed.data import is_numeric
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.groups import Groups, group_keys
from bayesmixed.kriging import Kriging
from bayesmixed.linpred import LinearPredictor
from bayesmixed.newcomers import Newcomers, centre, in_series, observed, unknown_to_the_fit
from bayesmixed.places import check_once
from bayesmixed.reports._predict import simulated
from bayesmixed.rows import take
from bayesmixed.update import Left, Updated, drawn, reordered, update

type Floats = NDArray[np.float64]
type Index = NDArray[np.intp]

_NONE = np.zeros(0, dtype=np.intp)


@dataclass(frozen=True)
class Case:
    """Patients that no group outside the fit connects with others.

    Parameters
    ----------
    fit : Fit
        The fit.
    rows : array of int
        Which rows of the future are theirs.
    past, later : Design
        Their rows so far, in the fit and in the history; those to come.
    new : tuple of list of Newcomers
        Their groups that are not in the fit, in `past` and in `later`.
    updated : Updated
        Draws given their history.
    """

    fit: Fit
    rows: Index
    past: tuple[Design, Design]
    later: Design
    new: tuple[list[Newcomers], list[Newcomers], list[Newcomers]]
    updated: Updated

    def eta(self, rows: Design, new: Sequence[Newcomers]) -> dict[str, Floats]:
        """Linear predictors (sample, row); of a process without outcomes what is expected."""
        sizes, samples = self.fit.posterior.sizes, len(self.updated.draw)
        found = {}
        for name, value in centre(self.fit, rows).items():
            full = np.broadcast_to(value, (sizes["chain"], sizes["draw"], value.shape[-1]))
            found[name] = full.reshape(samples, value.shape[-1])[self.updated.draw]
        for each, effects in zip(new, self.updated.effects, strict=True):
            found[each.parameter] = found[each.parameter] + each.shift(effects)
        return found

    def _left(self) -> Iterator[tuple[Newcomers, Left]]:
        """What is not known of a process in the rows to come."""
        for each, left in zip(self.new[2], self.updated.left, strict=True):
            if left is not None:
                yield each, left

    def _continued(self, rng: np.random.Generator | None) -> Floats:
        """The future given the residuals of all visits so far, or what is expected of it."""
        fit, (_, then) = reordered(self.fit, self.updated.draw), self.past
        eta, before = (
            {n: v[None] for n, v in self.eta(rows, new).items()}
            for rows, new in ((self.later, self.new[2]), (then, self.new[1]))
        )
        history = then if len(then.y) else None
        series = Kriging.of(fit.design, self.later, "existing", history)
        return np.asarray(series.draw(fit, eta, rng, before)[0])

    def mean(self, rows: Design, new: Sequence[Newcomers]) -> Floats:
        """Expected outcomes of rows, shape (sample, row)."""
        if rows is self.later and self.fit.design.series is not None:
            return self._continued(None)
        shape = (len(self.updated.draw), len(rows.y))
        eta = {n: v[None] for n, v in self.eta(rows, new).items()}
        variance: dict[str, Floats] = {}
        for each, left in self._left() if rows is self.later else ():
            own = each.shift(left.variance) * each.random.Z[:, 0]
            variance[each.parameter] = variance.get(each.parameter, 0.0) + own[None]
        return np.broadcast_to(LinearPredictor(rows, eta, variance).mean()[0], shape)

    def draws(self, kind: str, rng: np.random.Generator) -> Floats:
        """The forecast, shape (sample, row)."""
        if kind == "mean":
            return self.mean(self.later, self.new[2])
        if self.fit.design.series is not None:
            return self._continued(rng)
        eta = self.eta(self.later, self.new[2])
        for each, left in self._left():
            eta[each.parameter] = eta[each.parameter] + each.shift(left.off)
        return simulated(self.later, eta, (len(self.updated.draw), len(self.later.y)), rng)


def keys_of(rows: Design, who: Groups) -> pd.Series[Any]:
    return group_keys(who.grouping, rows.table.frame).astype(object)


def before_now(fit: Fit, history: Any, later: Design) -> tuple[Design, int]:
    """The history without rows that the fit has seen, and how many those were."""
    if history is None or not len(history):
        _check_labels(later)
        return take(later, _NONE), 0
    before = observed(fit.design, history)
    _check_labels(before, later)
    repeated = _in_the_fit(fit.design, before)
    before = take(before, np.flatnonzero(~repeated))
    if fit.design.series is not None:
        check_once(fit.design.series, before.table.frame, fit.design.table.frame)
    return before, int(repeated.sum())


def _in_the_fit(design: Design, before: Design) -> NDArray[np.bool_]:
    """Which rows of the history the fit has seen."""
    known = np.ones(len(before.y), dtype=bool)
    for groups in before.groups:
        known &= groups.index >= 0
    if not known.any():
        return known
    design.need_rows("Telling which visits of the history are already in the fit")
    seen, given = (_as_text(d.table.frame) for d in (design, before))
    # The k-th of several equal rows is seen if the fit has k of them.
    counts = seen.value_counts()
    rank = given.groupby(given).cumcount()
    return known & (rank < given.map(counts).fillna(0)).to_numpy()


def _as_text(frame: pd.DataFrame) -> pd.Series[Any]:
    """Rows as text, numbers in full and alike whether whole or not."""
    columns = [
        c.astype(float).map(repr) if is_numeric(c) else c.astype(str)
        for c in (frame[name] for name in sorted(frame.columns))
    ]
    return pd.concat(columns, axis=1).agg("\n".join, axis=1)


def _check_labels(*tables: Design) -> None:
    """Refuse labels that differ from the fit's only in being text or numbers."""
    for rows in tables:
        for groups in rows.groups:
            keys = group_keys(groups.grouping, rows.table.frame)[groups.index < 0]
            alike = keys.astype(str).isin(pd.Index(groups.labels).astype(str))
            if alike.any():
                raise DataError(
                    f"The labels of {groups.name!r} ({listed(keys[alike].unique(), 5)}) are of "
                    f"type {keys.dtype} but of another one in the fit, where they look the same. "
                    "Make them the same type."
                )


def cases(
    fit: Fit, before: Design, later: Design, who: Groups, rng: np.random.Generator
) -> list[Case]:
    """Update every case by its history."""
    case = _connected(before, later, who)
    first = len(before.y)
    without = sorted(set(case[:first]) - set(case[first:]))
    if without:
        lost = keys_of(before, who)[np.isin(case[:first], without)].unique()
        raise DataError(
            f"The history has visits of {who.name} {listed(map(repr, lost), 5)}, for whom the "
            "future has no row. Check the labels, or leave these visits out."
        )
    numbers = np.unique(case[first:])
    found = []
    for number, own in zip(numbers, rng.spawn(len(numbers)), strict=True):
        rows = np.flatnonzero(case[first:] == number)
        then = take(before, np.flatnonzero(case[:first] == number))
        coming = take(later, rows)
        seen = take(fit.design, _seen(fit.design, who, keys_of(coming, who)))
        tables = (seen, then, coming)
        new = in_series(fit.design, tables, unknown_to_the_fit(*tables))
        updated = update(fit, then, new[1], own) if len(then.y) else drawn(fit, new[1], own)
        found.append(Case(fit, rows, (seen, then), coming, (new[0], new[1], new[2]), updated))
    return found


def _seen(design: Design, who: Groups, keys: pd.Series[Any]) -> Index:
    """Rows of the fit that are these patients'; none where rows are not in memory."""
    if design.whole is not None:
        return _NONE
    wanted = pd.Index(who.labels).get_indexer(pd.Index(keys.unique()))
    return np.flatnonzero(np.isin(who.index, wanted[wanted >= 0]))


def _connected(before: Design, later: Design, who: Groups) -> Index:
    """Number of each row's case: rows with one patient, or one group outside the fit, in common."""
    keys = pd.concat([keys_of(before, who), keys_of(later, who)], ignore_index=True)
    index = [pd.factorize(keys)[0]]
    for pair in zip(*unknown_to_the_fit(before, later), strict=True):
        index.append(np.concatenate([each.index for each in pair]))
    nodes, links, count = [], [], len(keys)
    for each in index:
        rows = np.flatnonzero(each >= 0)
        nodes.append(rows)
        links.append(count + each[rows])
        count += int(each.max()) + 1
    one, other = np.concatenate(nodes), np.concatenate(links)
    graph = coo_array((np.ones(len(one)), (one, other)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1][: len(keys)], dtype=np.intp)
