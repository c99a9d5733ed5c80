"""Estimates with intervals as rows that say their values: what a forest plot is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

# Rows whose sizes differ more than this do not share an axis.
_COMPARABLE = 30.0
_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Parameters
    ----------
    name : str
    value, low, high : float
    raw : tuple of float, optional
        What the data alone say: value, low, high; or a value only.
    kind : str
        How it looks: ``""``, ``"other"`` (another population), ``"sum"`` (a summary of the rows
        above), ``"new"`` (a prediction).
    """

    name: str
    value: float
    low: float
    high: float
    raw: tuple[float, ...] | None = None
    kind: str = ""

    @property
    def numbers(self) -> tuple[float, ...]:
        """All that has to be inside the axis."""
        return (self.value, self.low, self.high, *(self.raw or ()))


@dataclass(frozen=True)
class Place:
    """An interval on the axis, in percent of its length."""

    low: float
    at: float
    high: float


@dataclass(frozen=True)
class Bar:
    """A row: where it is drawn, what stands beside it, and what is said of it."""

    name: str
    place: Place
    raw: Place | None
    kind: str
    text: str
    said: str


@dataclass(frozen=True)
class Panel:
    """Rows on one axis.

    Parameters
    ----------
    label : str
        What the axis shows, with units.
    ticks : tuple of (float, str)
        Places in percent with their labels.
    reference : float, optional
        Place of the value that means no effect.
    bars : tuple of Bar
    """

    label: str
    ticks: tuple[tuple[float, str], ...]
    reference: float | None
    bars: tuple[Bar, ...]

    @classmethod
    def of(
        cls,
        estimates: Iterable[Estimate],
        label: str,
        reference: float | None = None,
        ratio: bool = False,
        limits: tuple[float, float] | None = None,
    ) -> Panel | None:
        """Rows on an axis that holds them all; None where there is nothing to draw.

        Parameters
        ----------
        estimates : iterable of Estimate
            Those with missing or infinite numbers are left out.
        label : str
        reference : float, optional
            Drawn as a line, and made part of the axis.
        ratio : bool
            Whether the axis is logarithmic.
        limits : tuple of float, optional
            Ends of the axis; as wide as needed unless given.
        """
        rows = [e for e in estimates if np.isfinite(e.numbers).all()]
        if ratio:
            rows = [e for e in rows if min(e.numbers) > 0]
        if not rows:
            return None
        inside = [n for e in rows for n in e.numbers] + ([] if reference is None else [reference])
        low, high = limits or (min(inside), max(inside))
        scale = _log if ratio else float
        start, stop = scale(low), scale(high)
        room = (stop - start) * (0.0 if limits else 0.03) or (0.0 if limits else 1.0)
        start, stop = start - room, stop + room

        def place(value: float) -> float:
            return round(float(np.clip(100 * (scale(value) - start) / (stop - start), 0, 100)), 2)

        marks = _decades(start, stop) if ratio else MaxNLocator(5).tick_values(start, stop)
        ticks = tuple((place(v), f"{v:.6g}") for v in marks if start <= scale(v) <= stop)
        line = None if reference is None else place(reference)
        return cls(label, ticks, line, tuple(_bar(e, place) for e in rows))


def _log(value: float) -> float:
    return float(np.log10(value))


def _decades(start: float, stop: float) -> list[float]:
    """Round values of a logarithmic axis."""
    whole = range(int(np.floor(start)), int(np.ceil(stop)) + 1)
    wide = stop - start > 3
    return [step * 10.0**d for d in whole for step in (_STEPS[:1] if wide else _STEPS)]


def _bar(one: Estimate, place: Callable[[float], float]) -> Bar:
    text = written(one.value, one.low, one.high)
    said = f"{one.name}: {text}"
    raw = None
    if one.raw is not None:
        value, low, high = one.raw[0], one.raw[min(1, len(one.raw) - 1)], one.raw[-1]
        raw = Place(place(low), place(value), place(high))
        said += f"; {'raw ' + written(value, low, high) if high > low else f'data {value:.4g}'}"
    where = Place(place(one.low), place(one.value), place(one.high))
    return Bar(one.name, where, raw, one.kind, text, said)


def written(value: float, low: float, high: float) -> str:
    """A number with its interval, with as many decimals as the interval's width deserves."""
    width = high - low
    if not np.isfinite(width) or width <= 0 or max(abs(low), abs(high)) >= 1e7:
        return f"{value:.4g} ({low:.4g} to {high:.4g})"
    decimals = int(np.clip(2 - np.floor(np.log10(width)), 0, 8))
    one, lower, upper = (f"{number:,.{decimals}f}" for number in (value, low, high))
    return f"{one} ({lower} to {upper})"


def estimates(
    table: pd.DataFrame, kinds: Callable[[tuple[str, ...]], str] | None = None
) -> list[Estimate]:
    """A report's rows: the mean (or the median, where there is no mean) with its interval.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``mean`` or ``median``, ``eti95_lb``, ``eti95_ub``; the index names the rows.
    kinds : callable, optional
        From a row's labels to how it looks.
    """
    found = []
    for label, row in table.iterrows():
        labels = tuple(map(str, label)) if isinstance(label, tuple) else (str(label),)
        value = float(row.get("mean", np.nan))
        value = value if np.isfinite(value) else float(row.get("median", np.nan))
        name = ", ".join(part for part in labels if part)
        kind = kinds(labels) if kinds else ""
        low, high = float(row["eti95_lb"]), float(row["eti95_ub"])
        found.append(Estimate(name, value, low, high, kind=kind))
    return found


def comparable(rows: Sequence[Estimate]) -> list[list[Estimate]]:
    """Rows in sets that can share an axis: none would be a dot beside the largest."""
    found: list[list[Estimate]] = []
    size = 0.0
    for one in sorted(rows, key=_size, reverse=True):
        if not found or _size(one) * _COMPARABLE < size:
            found.append([])
            size = _size(one)
        found[-1].append(one)
    order = {id(one): k for k, one in enumerate(rows)}
    return [sorted(some, key=lambda one: order[id(one)]) for some in found]


def _size(one: Estimate) -> float:
    return max(abs(one.low), abs(one.high))
