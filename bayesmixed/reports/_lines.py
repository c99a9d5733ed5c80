"""Pictures of predictions: lines over a predictor, fans, intervals in order, and categories."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesmixed.data import is_numeric
from bayesmixed.plots import BLUE, GREY, ORANGE

type Floats = NDArray[np.float64]
type Index = NDArray[np.intp]

# Okabe & Ito (2008), without black and the yellow that is hard to see on white.
_COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MOST_LABELS = 60
_FAN = (
    (0.025, 0.975, 0.18, "95 % equal-tailed"),
    (0.1, 0.9, 0.25, "80 %"),
    (0.25, 0.75, 0.35, "50 %"),
)


@dataclass(frozen=True)
class Lines:
    """Rows of a table as lines over one of its columns.

    Parameters
    ----------
    over : str
        The column.
    others : tuple of str
        Further columns that vary, which tell the lines apart.
    rows : mapping of str to array of int
        Positions of each line's rows, in order of the column, by the values of the others.
    """

    over: str
    others: tuple[str, ...]
    rows: Mapping[str, Index]

    @classmethod
    def of(cls, frame: pd.DataFrame, numbers: Collection[str]) -> Lines | None:
        """Lines over the number with the most values by which rows are lines; None if over none.

        Parameters
        ----------
        frame : pandas.DataFrame
            All columns by which the rows differ.
        numbers : collection of str
            What lines may be over.
        """
        found = [n for n in frame.columns if n in numbers and is_numeric(frame[n])]
        found = [n for n in found if frame[n].nunique() > 2]
        for over in sorted(found, key=lambda n: -frame[n].nunique()):
            others = tuple(c for c in frame.columns if c != over and frame[c].nunique() > 1)
            rows = _split(frame, over, others)
            if rows is not None:
                return cls(over, others, rows)
        return None


def _split(frame: pd.DataFrame, over: str, others: Sequence[str]) -> dict[str, Index] | None:
    at = np.arange(len(frame))
    if not others:
        lines = {"": at}
    else:
        keys = frame[list(others)].astype(str).agg(", ".join, axis=1).to_numpy()
        lines = {str(k): at[keys == k] for k in dict.fromkeys(keys)}
    numbers = frame[over].to_numpy(dtype=float)
    if any(len(np.unique(numbers[rows])) < len(rows) for rows in lines.values()):
        return None
    if all(len(rows) == 1 for rows in lines.values()):
        return None
    return {name: rows[np.argsort(numbers[rows])] for name, rows in lines.items()}


def bands(table: pd.DataFrame, lines: Lines, label: str, ax: Axes | None) -> Axes:
    """A line with its band for each combination of the other columns; thin lines where many."""
    ax = _axes(ax, (6.5, 4.2))
    few = len(lines.rows) <= len(_COLOURS)
    for number, (name, rows) in enumerate(lines.rows.items()):
        part = table.iloc[rows]
        x = part[lines.over].to_numpy(dtype=float)
        if not few:
            ax.plot(x, part["mean"], color=BLUE, linewidth=0.7, alpha=0.4)
            continue
        colour = _COLOURS[number]
        ax.fill_between(x, part["eti95_lb"], part["eti95_ub"], color=colour, alpha=0.2, linewidth=0)
        ax.plot(x, part["mean"], color=colour, label=name or None)
    ax.set_xlabel(lines.over)
    _name_y(ax, label)
    count = len(lines.rows)
    if few and count > 1:
        title = f"{', '.join(lines.others)}\nline: mean, band: 95 %"
        ax.legend(title=title, fontsize=8, title_fontsize=8)
    else:
        text = "Line: mean; band: 95 % equal-tailed" if few else f"{count:,} groups of rows"
        ax.set_title(text, fontsize=8, loc="left", color=GREY)
    return _bare(ax)


def in_order(table: pd.DataFrame, label: str, ax: Axes | None) -> Axes:
    """Means with 95 % intervals, the rows from top to bottom as they came."""
    count = len(table)
    thin = count > _MOST_LABELS
    ax = _axes(ax, (6.5, float(np.clip(0.22 * count + 1.2, 2.2, 12))))
    at = np.arange(count)
    ax.hlines(
        at,
        table["eti95_lb"],
        table["eti95_ub"],
        color=BLUE,
        linewidth=0.6 if thin else 1.6,
        alpha=0.4 if thin else 1,
    )
    ax.scatter(table["mean"], at, s=3 if thin else 16, color=BLUE, zorder=3)
    if thin:
        ax.set_yticks([])
    else:
        ax.set_yticks(at, [str(name) for name in table.index], fontsize=7)
    ax.set_ylim(count, -1)
    ax.set_ylabel(f"row ({count:,}, in their order)" if thin else "row")
    ax.set_xlabel(label, wrap=True)
    ax.set_title("Point: mean; line: 95 % equal-tailed", fontsize=8, loc="left", color=GREY)
    return _bare(ax)


def categories(table: pd.DataFrame, draws: xr.DataArray, label: str, ax: Axes | None) -> Axes:
    """Mean probabilities of the categories, one bar a row."""
    names = [str(c) for c in draws["category"].to_numpy()]
    p = table["mean"].to_numpy().reshape(-1, len(names))
    count = len(p)
    ax = _axes(ax, (6.5, float(np.clip(0.22 * count + 1.4, 2.4, 12))))
    colours = mpl.colormaps["cividis"](np.linspace(0, 1, len(names)))
    left = np.zeros(count)
    for k, name in enumerate(names):
        ax.barh(np.arange(count), p[:, k], left=left, color=colours[k], label=name, height=0.9)
        left += p[:, k]
    thin = count > _MOST_LABELS
    rows = [str(row) for row in draws["row"].to_numpy()]
    ax.set_yticks([] if thin else np.arange(count), None if thin else rows, fontsize=7)
    ax.set_ylabel(f"row ({count:,}, in their order)" if thin else "row")
    ax.set_ylim(count - 0.4, -0.6)
    ax.set_xlim(0, 1)
    ax.set_xlabel(f"{label} (posterior mean)")
    ax.legend(ncols=min(len(names), 6), loc="lower left", bbox_to_anchor=(0, 1), fontsize=8)
    return _bare(ax)


def fan(
    x: Floats,
    draws: Floats,
    label: str,
    over: str,
    past: tuple[Floats, Floats],
    lines: Sequence[tuple[str, Floats, Floats]],
    ax: Axes | None,
) -> Axes:
    """A case's future: bands of 50, 80 and 95 % about its line, with its past and the population.

    Parameters
    ----------
    x : array, shape (future rows,)
        Where the future rows are, rising.
    draws : array, shape (samples, future rows)
        Draws of what is forecast.
    label, over : str
        What is forecast; what the horizontal axis is.
    past : tuple of array
        Place and outcome of the rows so far.
    lines : sequence of (str, array, array)
        Name, place and height of the population's line and the case's own.
    """
    ax = _axes(ax, (6.5, 4.2))
    for low, high, alpha, name in _FAN:
        lower, upper = np.quantile(draws, [low, high], axis=0)
        if len(x) == 1:
            ax.vlines(x, lower, upper, color=BLUE, alpha=alpha + 0.1, linewidth=9, label=name)
        else:
            ax.fill_between(x, lower, upper, color=BLUE, alpha=alpha, linewidth=0, label=name)
    styles = ((GREY, "--", "none"), (BLUE, "-", "o"))
    for (name, at, height), (colour, style, mark) in zip(lines, styles, strict=True):
        marker = mark if len(at) == 1 else "none"
        ax.plot(at, height, color=colour, linestyle=style, marker=marker, label=name)
    if len(past[0]):
        ax.scatter(*past, color=ORANGE, s=22, zorder=4, label="visits so far")
    ax.set_xlabel(over)
    _name_y(ax, label)
    ax.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), fontsize=8, frameon=False)
    return _bare(ax)


def _name_y(ax: Axes, label: str) -> None:
    ax.set_ylabel(label, wrap=True)


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    if ax is None:
        _, ax = plt.subplots(figsize=size, layout="constrained")
    return ax


def _bare(ax: Axes) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    return ax
