"""Curves with bands over a predictor or a planned size."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

# Okabe & Ito (2008): told apart by everyone, and by their dashes in print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", "-.", ":")


def curve(table: pd.DataFrame, label: str, ax: Axes | None) -> Axes:
    """Means with bands of 95 %, a curve for each combination of the index's inner levels.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``mean``, ``eti95_lb``, ``eti95_ub``; the first level of the index is the
        horizontal axis.
    label : str
        What is estimated, with units.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    first, *inner = (str(name) for name in table.index.names)
    parts = table.reset_index(first).groupby(level=inner, sort=False) if inner else [("", table)]
    for k, (name, part) in enumerate(parts):
        rows = part if inner else part.reset_index()
        rows = rows.sort_values(first)
        x = rows[first].to_numpy(dtype=float)
        colour, dash = _COLOURS[k % len(_COLOURS)], _DASHES[k % len(_DASHES)]
        words = " ".join(map(str, np.atleast_1d(np.asarray(name, dtype=object))))
        ax.fill_between(
            x, rows["eti95_lb"], rows["eti95_ub"], color=colour, alpha=0.15, linewidth=0
        )
        for end in ("eti95_lb", "eti95_ub"):
            ax.plot(x, rows[end], dash, color=colour, alpha=0.5, linewidth=0.8)
        marker = "o" if len(x) <= 12 else None
        ax.plot(x, rows["mean"], dash, color=colour, marker=marker, markersize=4, label=words)
    ax.set_xlabel(first)
    ax.set_ylabel(label)
    ax.spines[["top", "right"]].set_visible(False)
    if inner:
        ax.legend(fontsize=8, framealpha=0.9)
    return ax


def histogram(values: NDArray[np.float64], label: str, ax: Axes | None) -> Axes:
    """Posterior draws of one number, with their mean and 95 % equal-tailed interval."""
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 3), layout="constrained")
    low, high = np.quantile(values, [0.025, 0.975])
    shown = values[(values >= np.quantile(values, 0.001)) & (values <= np.quantile(values, 0.999))]
    # Draws of a number that is known, such as 1 where there are no clusters, have no width.
    bins = 40 if np.ptp(shown) > 1e-9 * abs(shown).max() else 1
    ax.hist(shown, bins=bins, color=_COLOURS[5])
    ax.axvline(values.mean(), color=_COLOURS[0], linewidth=2, label="mean")
    for end in (low, high):
        ax.axvline(end, color=_COLOURS[0], linewidth=1, linestyle="--")
    ax.plot([], [], color=_COLOURS[0], linestyle="--", linewidth=1, label="95 % interval")
    ax.set_xlabel(label)
    ax.set_ylabel("posterior draws")
    ax.legend(fontsize=8, framealpha=0.9)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
