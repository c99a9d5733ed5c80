"""Pictures of numbers that two or three populations, or two kinds of coefficient, have in turn."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from bayesmixed.plots import BLUE, GREY, ORANGE

GREEN = "#009E73"
_LOOKS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"))
_MOST_LABELS = 60
_FEWEST_FOR_A_CURVE = 4
# Levels of an index that say by themselves what they are.
_PLAIN = ("contrast", "term", "assumption")
_STYLES = tuple((color, style) for style in ("-", "--", ":") for color in (BLUE, ORANGE, GREEN))
_MOST_LINES = len(_STYLES)


def by_population(table: pd.DataFrame, label: str, neutral: float | None, ax: Axes | None) -> Axes:
    """Means with intervals, populations side by side; a curve where the grid is one of numbers.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``mean`` (or ``median``, which is shown then), ``eti95_lb`` and ``eti95_ub``; the
        last level of the index is the population.
    label : str
        What is shown, with units.
    neutral : float, optional
        Where there is no effect; ratios (1) are drawn on a logarithmic axis.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.
    """
    names = [str(n) for n in table.index.names[:-1]]
    numbers = [n for n in names if pd.api.types.is_numeric_dtype(table.index.get_level_values(n))]
    long = [n for n in numbers if table.index.get_level_values(n).nunique() >= _FEWEST_FOR_A_CURVE]
    if len(long) == 1:
        rest = [n for n in table.index.names if n != long[0]]
        lines = list(table.groupby(rest, sort=False, observed=True))
        if len(lines) <= _MOST_LINES:
            return _curves(long[0], lines, label, neutral, ax)
    return side_by_side(table, "population", label, neutral, ax)


def _curves(
    column: str,
    lines: list[tuple[Any, pd.DataFrame]],
    label: str,
    neutral: float | None,
    ax: Axes | None,
) -> Axes:
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
    if neutral is not None:
        ax.axhline(neutral, color=GREY, linewidth=1, linestyle="--", zorder=0)
    several = [len({key[k] for key, _ in lines}) > 1 for k in range(len(lines[0][0]))]
    for (color, style), (key, line) in zip(_STYLES, lines, strict=False):
        name = ", ".join(str(k) for k, shown in zip(key, several, strict=True) if shown)
        at = line.index.get_level_values(column)
        ax.plot(at, line[_point(line)], color=color, linestyle=style, label=name or str(key[-1]))
        ax.fill_between(at, line["eti95_lb"], line["eti95_ub"], color=color, alpha=0.12, lw=0)
    if neutral == 1:
        _ratios(ax, "y")
    ax.set_xlabel(column)
    ax.set_ylabel(label)
    ax.legend(fontsize=8, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def side_by_side(
    table: pd.DataFrame,
    hue: str,
    label: str,
    neutral: float | None,
    ax: Axes | None,
) -> Axes:
    """Intervals, a line for each row, those that differ in one level of the index together.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns as for `by_population`.
    hue : str
        The level that colours tell apart.
    label, neutral, ax
        As for `by_population`.
    """
    point = _point(table)
    kinds = list(dict.fromkeys(table.index.get_level_values(hue)))
    rows = _names(
        table.reset_index(hue).index if table.index.nlevels > 1 else table.index,
        hue,
    )
    names = list(dict.fromkeys(rows))
    if ax is None:
        height = float(np.clip(0.17 * (len(kinds) + 1) * len(names) + 1.3, 2.2, 12))
        _, ax = plt.subplots(figsize=(7, height), layout="constrained")
    if neutral is not None:
        ax.axvline(neutral, color=GREY, linewidth=1, linestyle="--", zorder=0)
    places = {name: -k for k, name in enumerate(names)}
    thin = len(names) > _MOST_LABELS
    for k, (kind, (color, marker)) in enumerate(zip(kinds, _LOOKS, strict=False)):
        mine = table.index.get_level_values(hue) == kind
        part = table[mine]
        at = np.array([places[r] for r, m in zip(rows, mine, strict=True) if m], dtype=float)
        at -= 0.22 * (k - (len(kinds) - 1) / 2)
        wide = 0.6 if thin else 1.6
        ax.hlines(at, part["eti95_lb"], part["eti95_ub"], color=color, linewidth=wide)
        size = 4 if thin else 22
        ax.scatter(part[point], at, s=size, color=color, marker=marker, label=str(kind), zorder=3)
    if thin:
        ax.set_yticks([])
    else:
        ax.set_yticks([places[n] for n in names], names)
    ax.set_ylim(-len(names) + 0.4, 0.6)
    if neutral == 1:
        _ratios(ax, "x")
    ax.set_xlabel(f"{label} ({point}, 95 % equal-tailed interval)", wrap=True)
    if len(kinds) > 1:
        ax.legend(fontsize=8, frameon=False, loc="lower center", ncols=3, bbox_to_anchor=(0.5, 1.0))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _point(table: pd.DataFrame) -> str:
    return "median" if "median" in table else "mean"


def _names(index: pd.Index[Any], hue: str) -> list[str]:
    """What each row is called, by what changes between rows."""
    if index.name == hue:
        return [""] * len(index)
    frame = index.to_frame(index=False)
    shown = [c for c in frame if frame[c].nunique() > 1] or list(frame)
    texts = [("" if name in _PLAIN else f"{name} = ") + frame[name].astype(str) for name in shown]
    return pd.concat(texts, axis=1).agg(", ".join, axis=1).tolist()


def _ratios(ax: Axes, which: str) -> None:
    """A logarithmic axis with plain numbers."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    low, high = axis.get_view_interval()
    if high / low < 4:
        axis.set_major_locator(MaxNLocator(6))
    else:
        subs = (1.0, 2.0, 5.0) if high / low < 30 else (1.0,)
        axis.set_major_locator(LogLocator(subs=subs, numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
