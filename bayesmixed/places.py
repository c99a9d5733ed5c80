"""Where rows stand in series, and which series are measured alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import DataError, listed
from bayesmixed.axes import Axis
from bayesmixed.series import Series

type Floats = NDArray[np.float64]
type Integers = NDArray[np.intp]

# Numbers that are in memory at a time.
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Places:
    """Where rows stand in series: whose they are, when they were taken, and in which arm.

    Parameters
    ----------
    who, arm : array of int, shape (rows,)
    times : array, shape (rows, columns)
        As `Structure.matrix` takes them.
    """

    who: Integers
    arm: Integers
    times: Floats

    @classmethod
    def of(cls, series: Series | None, frame: pd.DataFrame, subject: str = "") -> Places:
        """Find the rows of a table, of the fit's subjects or others, among the fit's visits.

        Where residuals are not correlated, `subject` names the column of whose rows they are.

        Raises
        ------
        DataError
            If a counted visit or an arm is not in the data of the fit.
        """
        arm = np.zeros(len(frame), dtype=np.intp)
        if series is None:
            return cls(pd.factorize(frame[subject])[0], arm, np.zeros((len(frame), 1)))
        structure = series.structure
        if structure.by is not None:
            arm = _found(structure.by, frame[structure.by], series.arms)
        times = np.column_stack([_times(axis, frame) for axis in series.axes])
        return cls(pd.factorize(frame[structure.within])[0], arm, times)


def _times(axis: Axis, frame: pd.DataFrame) -> Floats:
    columns = list(axis.structure.columns)
    if not axis.structure.counted:
        return frame[columns].to_numpy(dtype=np.float64)
    (name,) = columns
    return axis.positions(frame[name])[:, None]


def _found(name: str, values: pd.Series, known: object) -> Integers:
    places = np.asarray(pd.Index(known).get_indexer(pd.Index(values)), dtype=np.intp)  # type: ignore[call-overload]
    if (places < 0).any():
        raise DataError(
            f"{name} is {listed(values[places < 0].unique())} in some rows, which is not in the "
            "data of the fit, so nothing is known of its residuals."
        )
    return places


@dataclass(frozen=True)
class Alike:
    """Series that are measured alike: all have one matrix of correlations in a draw.

    Parameters
    ----------
    arm : int
    times : array, shape (seen + coming, columns)
    seen : array of int, shape (series, seen)
        What is known of them, such as their rows in the fit.
    coming : array of int, shape (series, coming)
        What is to be drawn.
    """

    arm: int
    times: Floats
    seen: Integers
    coming: Integers


def alike(past: Places, coming: Places) -> Iterator[Alike]:
    """Series that are measured alike, rows that were seen already apart from the others."""
    found: dict[tuple[Any, ...], list[tuple[Integers, Integers]]] = {}
    none = np.zeros(0, dtype=np.intp)
    order = np.lexsort((*coming.times.T[::-1], coming.who))
    cuts = np.flatnonzero(np.diff(coming.who[order])) + 1
    own = _by_subject(past)
    for rows in np.split(order, cuts) if len(order) else []:
        seen = own.get(int(coming.who[rows[0]]), none)
        known = {t.tobytes() for t in past.times[seen]}
        again = np.array([t.tobytes() in known for t in coming.times[rows]], dtype=bool)
        for before, some in ((none, rows[again]), (seen, rows[~again])):
            if len(some):
                times = np.concatenate([past.times[before], coming.times[some]])
                arms = tuple(coming.arm[some]), tuple(past.arm[before])
                key = (arms, len(before), times.tobytes())
                found.setdefault(key, []).append((before, some))
    for members in found.values():
        before, some = (np.stack(each) for each in zip(*members, strict=True))
        times = np.concatenate([past.times[before[0]], coming.times[some[0]]])
        yield Alike(int(coming.arm[some[0, 0]]), times, before, some)


def continued(series: Series, past: Places, coming: Places, frame: pd.DataFrame) -> Iterator[Alike]:
    """Series that are measured alike, each of which stays in its arm.

    Parameters
    ----------
    series : Series
    past, coming : Places
    frame : pandas.DataFrame
        The rows to come.

    Raises
    ------
    DataError
        If a series changes its arm.
    """
    structure = series.structure
    for each in alike(past, coming):
        if len({*past.arm[each.seen[0]], *coming.arm[each.coming[0]]}) > 1:
            raise DataError(
                f"{structure.by!r} changes within {structure.within} "
                f"{frame[structure.within].iloc[each.coming[0, 0]]}; a series is of one arm."
            )
        yield each


def check_once(series: Series, history: pd.DataFrame, known: pd.DataFrame) -> None:
    """Refuse a history that has a time of a series twice, or one that the fit has seen.

    Parameters
    ----------
    series : Series
    history : pandas.DataFrame
        Rows that the fit has not seen.
    known : pandas.DataFrame
        The rows of the fit.

    Raises
    ------
    DataError
        Naming the rows.
    """
    within = series.structure.within
    known = known[known[within].isin(history[within].unique())]
    every = pd.concat([known, history], ignore_index=True)
    places = Places.of(series, every)
    keys = pd.DataFrame(np.column_stack([places.who, places.times]))
    again = np.flatnonzero(keys.duplicated().to_numpy())
    if not len(again):
        return
    first = int(np.flatnonzero((keys == keys.iloc[again[0]]).all(axis=1))[0])
    second = int(again[0]) - len(known)
    when = ", ".join(f"{c} {every[c].iloc[first]}" for c in series.structure.columns)
    what = f"{within} {every[within].iloc[first]} at {when}"
    raise DataError(
        f"Row {history.index[second]} of the history is of {what}, which the fit has seen with "
        "other values. Leave it out."
        if first < len(known)
        else f"Rows {history.index[first - len(known)]} and {history.index[second]} of the history "
        f"are both of {what}; a series has one row a time. Drop or average repeats."
    )


def _by_subject(places: Places) -> dict[int, Integers]:
    order = np.argsort(places.who, kind="stable")
    cuts = np.flatnonzero(np.diff(places.who[order])) + 1
    parts: Sequence[Integers] = np.split(order, cuts) if len(order) else []
    return {int(places.who[rows[0]]): rows for rows in parts}


def in_runs(draws: int, numbers: int) -> Iterator[slice]:
    """Cut draws into runs that fit in memory.

    Parameters
    ----------
    draws : int
        How many there are, chains one after the other.
    numbers : int
        What each of them takes.
    """
    step = max(1, _AT_ONCE // max(1, numbers))
    for first in range(0, draws, step):
        yield slice(first, min(first + step, draws))


def correlations(
    series: Series,
    posterior: xr.Dataset,
    arm: int,
    times: Floats,
    draws: slice = slice(None),
    named: Callable[[str], str] = str,
) -> Floats:
    """Correlations within one series in every draw, shape (draws, rows, rows).

    Parameters
    ----------
    series : Series
    posterior : xarray.Dataset
    arm : int
        Position of the series' arm.
    times : array, shape (rows, columns)
        As `Structure.matrix` takes them.
    draws : slice
        Which draws, chains one after the other.
    named : callable
        From a parameter's own name to that in the posterior.
    """
    every = list(_values(series, posterior, arm, draws, named))
    found = np.empty((len(every), len(times), len(times)))
    for s, values in enumerate(every):
        found[s] = series.structure.matrix(values, times)
    return found


def steps(
    series: Series,
    posterior: xr.Dataset,
    arm: int,
    times: Floats,
    named: Callable[[str], str] = str,
) -> Floats:
    """Correlations of each time with the one before, of a Markov process, (draws, rows - 1).

    Parameters
    ----------
    series, posterior, arm, times, named
        See `correlations`.
    """
    every = list(_values(series, posterior, arm, slice(None), named))
    found = np.empty((len(every), len(times) - 1))
    for s, values in enumerate(every):
        found[s] = series.structure.steps(values, times)
    return found


def _values(
    series: Series,
    posterior: xr.Dataset,
    arm: int,
    draws: slice,
    named: Callable[[str], str],
) -> Iterator[dict[str, Floats]]:
    """The structure's parameters in each of some draws."""
    total = int(posterior.sizes["chain"] * posterior.sizes["draw"])
    values = {}
    for p in series.parameters:
        every = posterior[named(p.name)].to_numpy()
        every = every.reshape((-1, *every.shape[2:]))[draws]
        values[p.name] = every if series.structure.by is None else every[:, arm]
    for s in range(len(range(*draws.indices(total)))):
        yield {name: value[s] for name, value in values.items()}
