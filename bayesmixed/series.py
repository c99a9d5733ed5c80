"""Repeated measurements: whose rows make a series, when they were taken, and which are alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import DataError
from bayesmixed.axes import Axis
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
    axes : tuple of Axis
        The distinct visits; of a product those of each factor.
    arms : tuple
        Values of the structure's ``by`` column; one empty text without such.
    order : array of int, shape (rows,)
        The rows, pattern by pattern, series by series, each in order of time.
    lengths, counts, arm : array of int, shape (patterns,)
        Measurements in each series of a pattern, how many series have it, and their arm.
    times : array, shape (patterns, longest, columns)
        When they were measured (see `Structure.matrix`); what lies beyond a length is 0.
    """

    structure: Structure
    axes: tuple[Axis, ...]
    arms: tuple[Any, ...]
    order: Integers
    lengths: Integers
    counts: Integers
    arm: Integers
    times: Floats

    @property
    def size(self) -> int:
        """Number of distinct visits; of a product those of one factor times those of the other."""
        return prod(axis.size for axis in self.axes)

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
        return tuple(parameter for axis in self.axes for parameter in axis.parameters)

    @property
    def derived(self) -> Mapping[str, tuple[str, Derived]]:
        """See `Structure.derived`."""
        return {name: each for axis in self.axes for name, each in axis.derived.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of times that are counted, and of matrices that few series inform."""
        return tuple(filter(None, (*(axis.note for axis in self.axes), self._few)))

    @property
    def _few(self) -> str | None:
        """A line on free matrices with no fewer visits than there are series."""
        fewest = int(np.bincount(self.arm, self.counts).min())
        wide = [axis for axis in self.axes if any(p.is_matrix for p in axis.parameters)]
        size = max((axis.size for axis in wide), default=0)
        if size < fewest:
            return None
        each = "" if self.structure.by is None else f" in one {self.structure.by}"
        return (
            f"{self.structure} has {size * (size - 1) // 2:,} correlations, and there are "
            f"{fewest:,} values of {self.structure.within}{each} to learn them from, so the prior "
            "decides many. A structure with fewer parameters, such as Toeplitz or AR1, learns more."
        )

    @property
    def labels(self) -> dict[str, list[Any]]:
        """Labels along everything that a parameter may run over, and of the arms."""
        found: dict[str, list[Any]] = {"": [""], "arm": list(self.arms)}
        for axis in self.axes:
            found |= axis.labels
        return found

    def names(self, parameter: CorrelationParameter) -> list[list[str]]:
        """Names of a parameter's priors: for each arm, those of its elements."""
        priors = parameter.priors
        vector = isinstance(parameter.prior, tuple)
        elements = self.labels[parameter.dim][: len(priors)] if vector else [""]
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
        found_axes = [
            Axis.of(factor, column, frame, who) for column, factor in structure.factors.items()
        ]
        axes = tuple(axis for axis, _ in found_axes)
        coordinates = np.concatenate([times for _, times in found_axes], axis=1)
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
        _check_some_pairs(structure, axes, int(max(lengths)))
        return cls(
            structure,
            axes,
            arms,
            np.concatenate([rows for every in alike for rows in every]),
            lengths,
            np.array([len(every) for every in alike]),
            arm[[rows[0] for rows in patterns]],
            times,
        )


def _check_some_pairs(structure: Structure, axes: tuple[Axis, ...], longest: int) -> None:
    if longest < 2:
        raise DataError(
            f"No {structure.within!r} has more than one row, so {structure} has nothing to "
            "learn from; is `within` the column of the patients?"
        )
    for axis in axes:
        if axis.longest < min(axis.size, 2):
            raise DataError(
                f"No {structure.within!r} has rows at two values of {axis.name!r}, so "
                f"{axis.structure} has nothing to learn from; is `within` the column of the "
                "patients?"
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
