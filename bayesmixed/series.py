"""Repeated measurements: whose rows make a series, when they were taken, and which are alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import DataError, listed
from bayesmixed.data import is_numeric
from bayesmixed.structure import CorrelationParameter, Derived, Structure

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Series:
    """The rows of a table as series, those of an arm measured at the same times together.

    Parameters
    ----------
    structure : Structure
        How measurements in a series are correlated.
    visits : array
        Labels of the distinct visits in order; where times are measured, the distinct times, and
        in space the distinct places, as text.
    arms : tuple
        Values of the structure's ``by`` column; one empty text without such.
    order : array of int, shape (rows,)
        The rows, pattern by pattern, series by series, each in order of time.
    lengths, counts, arm : array of int, shape (patterns,)
        Measurements in each series of a pattern, how many series have it, and their arm.
    times : array, shape (patterns, longest, columns)
        When they were measured (see `Structure.matrix`); what lies beyond a length is 0.
    spread : float
        Half the largest distance within a series.
    """

    structure: Structure
    visits: NDArray[Any]
    arms: tuple[Any, ...]
    order: Integers
    lengths: Integers
    counts: Integers
    arm: Integers
    times: Floats
    spread: float

    @property
    def size(self) -> int:
        """Number of distinct visits."""
        return len(self.visits)

    @property
    def index(self) -> Integers:
        """Each row's series, counted in the order of `order`."""
        found = np.empty(len(self.order), dtype=np.int64)
        lengths = np.repeat(self.lengths, self.counts)
        found[self.order] = np.repeat(np.arange(len(lengths)), lengths)
        return found

    @property
    def parameters(self) -> tuple[CorrelationParameter, ...]:
        """What the structure has to learn, in each arm."""
        longest = int(self.lengths.max())
        size = longest if self.structure.exchangeable else self.size
        return self.structure.parameters(size, self.spread)

    @property
    def note(self) -> str | None:
        """What to know of times that are counted, where their distances differ."""
        if not self.structure.equally_spaced or self.visits.dtype.kind not in "iuf":
            return None
        steps = np.unique(np.diff(self.visits))
        if len(steps) < 2:
            return None
        return (
            f"{type(self.structure).__name__} counts the visits in {self.structure.columns[0]} as "
            f"1 to {self.size}, though they lie {listed(steps.tolist())} apart; where the distance "
            "matters use a structure of measured times, such as ContinuousAR1."
        )

    def positions(self, values: pd.Series[Any]) -> Floats:
        """Places of counted visits from 0, also beyond those in the data where that has a meaning.

        Raises
        ------
        DataError
            If a visit is not in the data, and nothing is known of its residuals.
        """
        visits, name = pd.Index(self.visits), self.structure.columns[0]
        found: Floats = np.asarray(visits.get_indexer(pd.Index(values)), dtype=np.float64)
        strange = found < 0
        if not strange.any():
            return found
        steps = np.unique(np.diff(self.visits)) if self.visits.dtype.kind in "iuf" else np.zeros(0)
        if self.structure.goes_on and len(steps) == 1 and is_numeric(values):
            found[strange] = ((values[strange] - self.visits[0]) / steps[0]).to_numpy(dtype=float)
            strange &= found % 1 != 0
        if strange.any():
            raise DataError(
                f"{name} is {listed(values[strange].unique(), 5)} in some rows, which is not in "
                "the data of the fit, so nothing is known of its residuals."
            )
        return found

    def labels(self, dim: str) -> list[Any]:
        """Labels of visits, lags, steps from a visit to the next, or arms."""
        visits = self.visits.tolist()
        found: dict[str, list[Any]] = {
            "": [""],
            "visit": visits,
            "lag": list(range(1, self.size)),
            "band": list(range(1, self.size)),
            "step": [f"{a}|{b}" for a, b in pairwise(visits)],
            "arm": list(self.arms),
        }
        return found[dim]

    @property
    def derived(self) -> Mapping[str, tuple[str, Derived]]:
        """See `Structure.derived`."""
        return self.structure.derived(self.size)

    def names(self, parameter: CorrelationParameter) -> list[list[str]]:
        """Names of a parameter's priors: for each arm, those of its elements."""
        priors = parameter.priors
        vector = isinstance(parameter.prior, tuple)
        elements = self.labels(parameter.dim)[: len(priors)] if vector else [""]
        return [
            [
                f"{parameter.name}[{inner}]" if inner else parameter.name
                for e in elements
                for inner in [",".join(str(v) for v in (arm, e) if v != "")]
            ]
            for arm in self.arms
        ]

    def draw(self, rng: np.random.Generator, mu: Floats, sd: Floats, P: Floats) -> Floats:
        """Draw outcomes of all rows; not numbers where correlations are not positive definite.

        Parameters
        ----------
        rng : numpy.random.Generator
        mu, sd : array, shape (rows,)
        P : array, shape (patterns, longest, longest) or (patterns, longest - 1, 1)
            Correlations of all times, or of each time with the one before (see `Structure.steps`).
        """
        y, at = np.array(mu, dtype=np.float64), 0
        for length, count, one in zip(self.lengths, self.counts, P, strict=True):
            rows = self.order[at : at + length * count].reshape(count, length)
            z = rng.normal(size=(count, length))
            if one.shape[-1] == 1:
                for i, r in enumerate(one[: length - 1, 0], start=1):
                    z[:, i] = r * z[:, i - 1] + np.sqrt(1 - r**2) * z[:, i]
            else:
                try:
                    z = z @ np.linalg.cholesky(one[:length, :length]).T
                except np.linalg.LinAlgError:
                    return np.full_like(y, np.nan)
            y[rows] += sd[rows] * z
            at += length * count
        return y

    @classmethod
    def of(cls, structure: Structure, frame: pd.DataFrame) -> Series:
        """Find the series in a table.

        Raises
        ------
        DataError
            If a series has two rows at the same time, an arm is not constant within a series, or
            measured times are not numbers.
        """
        who = pd.factorize(frame[structure.within])[0]
        coordinates, visits = _times(structure, frame)
        order = np.lexsort((*coordinates.T[::-1], who))
        _check_distinct(structure, frame, who, coordinates, order)
        arm, arms = _arms(structure, frame, who)
        starts = np.flatnonzero(np.diff(who[order], prepend=-1))
        pieces = np.split(order, starts[1:])
        found: dict[tuple[int, bytes], list[Integers]] = {}
        for rows in pieces:
            found.setdefault((int(arm[rows[0]]), coordinates[rows].tobytes()), []).append(rows)
        alike = [found[key] for key in sorted(found, key=lambda key: key[0])]
        patterns = [every[0] for every in alike]
        lengths = np.array([len(rows) for rows in patterns])
        times = np.zeros((len(patterns), lengths.max(), coordinates.shape[1]))
        for p, rows in enumerate(patterns):
            times[p, : len(rows)] = coordinates[rows]
        spans = [float(np.ptp(coordinates[rows], axis=0).max()) for rows in patterns]
        if max(lengths) < 2:
            raise DataError(
                f"No {structure.within!r} has more than one row, so {structure} has nothing to "
                "learn from; is `within` the column of the patients?"
            )
        return cls(
            structure,
            visits,
            arms,
            np.concatenate([rows for every in alike for rows in every]),
            lengths,
            np.array([len(every) for every in alike]),
            arm[[rows[0] for rows in patterns]],
            times,
            max(spans) / 2,
        )


def _times(structure: Structure, frame: pd.DataFrame) -> tuple[Floats, NDArray[Any]]:
    """Times or places of all rows, shape (rows, columns), and the distinct ones in order."""
    columns = []
    visits: NDArray[Any] = np.zeros(0)
    for name in structure.columns:
        if structure.counted:
            codes, labels = pd.factorize(frame[name], sort=True)
            _check_order(name, labels)
            visits, values = np.asarray(labels), codes
        elif is_numeric(frame[name]):
            values = frame[name].to_numpy(dtype=float)
        else:
            raise DataError(
                f"{type(structure).__name__} measures times, but {name!r} does not hold numbers; "
                "make it days or months, or use a structure that counts visits, such as AR1."
            )
        columns.append(values)
    times = np.stack(columns, axis=1).astype(np.float64)
    if not structure.counted:
        distinct = np.unique(times, axis=0)
        visits = distinct[:, 0]
        if len(columns) > 1:
            visits = np.array([", ".join(f"{v:g}" for v in place) for place in distinct])
    return times, visits


def _check_order(name: str, labels: Any) -> None:
    """Visits that are text stand in alphabetical order, where week10 is before week8.

    Raises
    ------
    DataError
        If the numbers in the text say another order.
    """
    if isinstance(labels, pd.CategoricalIndex) or not all(isinstance(v, str) for v in labels):
        return
    by_number = sorted(labels, key=lambda v: [int(n) for n in re.findall(r"\d+", v)])
    if by_number != list(labels):
        raise DataError(
            f"The visits in {name!r} are text, in the order {listed(labels)}, but their numbers "
            f"say {listed(by_number)}. Make the column numbers, or a pandas.Categorical with "
            "ordered categories."
        )


def _check_distinct(
    structure: Structure,
    frame: pd.DataFrame,
    who: Integers,
    coordinates: Floats,
    order: Integers,
) -> None:
    same = (np.diff(coordinates[order], axis=0) == 0).all(axis=1) & (np.diff(who[order]) == 0)
    if same.any():
        at = np.flatnonzero(same)[0]
        first, second = order[at], order[at + 1]
        when = ", ".join(f"{c} {frame[c].iloc[first]}" for c in structure.columns)
        more = int(same.sum()) - 1
        raise DataError(
            f"Rows {frame.index[first]} and {frame.index[second]} are both of {structure.within} "
            f"{frame[structure.within].iloc[first]} at {when}"
            + (f" (and {more} more such pairs)" if more else "")
            + "; a series has one row a time. Drop or average repeats, or name a finer `within`."
        )


def _arms(
    structure: Structure, frame: pd.DataFrame, who: Integers
) -> tuple[Integers, tuple[Any, ...]]:
    if structure.by is None:
        return np.zeros(len(frame), dtype=np.int64), ("",)
    codes, labels = pd.factorize(frame[structure.by], sort=True)
    first = np.full(who.max() + 1, -1)
    first[who[::-1]] = codes[::-1]
    bad = np.flatnonzero(first[who] != codes)
    if len(bad):
        raise DataError(
            f"{structure.by!r} changes within {structure.within} "
            f"{frame[structure.within].iloc[bad[0]]}; `by` must be constant in a series."
        )
    return codes.astype(np.int64), tuple(labels)
