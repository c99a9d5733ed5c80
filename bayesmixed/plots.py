"""Pictures of plain tables: colour-blind safe, and readable at 12 groups and at 2,000."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

# Okabe & Ito (2008): told apart by everyone.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"

_MOST_LABELS = 60


def caterpillar(
    table: pd.DataFrame, label: str, reference: float | None = None, ax: Axes | None = None
) -> Axes:
    """Estimates with intervals in rising order, each with the raw value that it came from.

    Parameters
    ----------
    table : pandas.DataFrame
        A row a group, with columns ``shrunken``, ``eti95_lb``, ``eti95_ub``, ``raw`` and ``n``.
    label : str
        What is estimated, with units.
    reference : float, optional
        Where to draw a line, such as the overall mean.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.

    Returns
    -------
    matplotlib.axes.Axes
    """
    shown = table.sort_values("shrunken")
    count = len(shown)
    if ax is None:
        height = float(np.clip(0.18 * count + 1.5, 3, 12))
        _, ax = plt.subplots(figsize=(7, height), layout="constrained")
    at = np.arange(count)
    thin = count > _MOST_LABELS
    if reference is not None:
        ax.axvline(reference, color=GREY, linewidth=1, linestyle="--", zorder=0)
    ax.hlines(
        at,
        shown["eti95_lb"],
        shown["eti95_ub"],
        color=BLUE,
        linewidth=0.6 if thin else 1.5,
        alpha=0.5 if thin else 1,
        label="95 % equal-tailed interval",
    )
    ax.scatter(
        shown["raw"],
        at,
        s=_areas(shown["n"], thin),
        facecolors="none",
        edgecolors=ORANGE,
        linewidths=0.8,
        label="raw (area: size of the group)",
    )
    ax.scatter(shown["shrunken"], at, s=4 if thin else 14, color=BLUE, label="shrunken", zorder=3)
    ax.set_xlabel(label)
    group = str(shown.index.name)
    if thin:
        ax.set_yticks([])
        ax.set_ylabel(f"{group} ({count:,}, in rising order)")
    else:
        ax.set_yticks(at, [str(name) for name in shown.index], fontsize=7)
        ax.set_ylabel(group)
    ax.set_ylim(-1, count)
    ax.legend(loc="lower right", fontsize=8, framealpha=0.9)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def intervals(table: pd.DataFrame, label: str, ax: Axes | None = None) -> Axes:
    """Means with intervals, a row each.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``mean``, ``eti95_lb``, ``eti95_ub``; the index names the rows.
    label : str
        What is estimated, with units.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.

    Returns
    -------
    matplotlib.axes.Axes
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 0.4 * len(table) + 1.2), layout="constrained")
    at = np.arange(len(table))[::-1]
    ax.hlines(at, table["eti95_lb"], table["eti95_ub"], color=BLUE, linewidth=2)
    ax.scatter(table["mean"], at, color=BLUE, zorder=3)
    names = [" ".join(map(str, i)) if isinstance(i, tuple) else str(i) for i in table.index]
    ax.set_yticks(at, names)
    ax.set_ylim(-0.7, len(table) - 0.3)
    ax.set_xlabel(label)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _areas(sizes: pd.Series[float], thin: bool) -> np.ndarray:
    share = sizes.to_numpy(dtype=float) / float(sizes.max())
    return (2 + 12 * share) if thin else (6 + 90 * share)
