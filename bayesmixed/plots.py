"""Pictures of plain tables: colour-blind safe, and readable at 12 groups and at 2,000."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

# Okabe & Ito (2008): told apart by everyone.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
SKY, GREEN, BLACK = "#56B4E9", "#009E73", "#000000"

type Floats = NDArray[np.float64]

_MOST_LABELS = 60
_MOST_NAMES = 20


def caterpillar(
    table: pd.DataFrame,
    label: str,
    reference: float | None = None,
    ax: Axes | None = None,
    names: tuple[str, str] = ("shrunken", "raw"),
) -> Axes:
    """Estimates with intervals in rising order, each with the raw value that it came from.

    Parameters
    ----------
    table : pandas.DataFrame
        A row a group, with columns ``shrunken``, ``eti95_lb``, ``eti95_ub``; where there are any,
        ``raw`` with ``n`` for its size, and ``flag`` for groups to be marked.
    label : str
        What is estimated, with units.
    reference : float, optional
        Where to draw a line, such as the overall mean.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.
    names : tuple of str
        What the columns ``shrunken`` and ``raw`` are called in the legend.

    Returns
    -------
    matplotlib.axes.Axes
    """
    shown = table.sort_values("shrunken", kind="stable")
    ax, at, thin = _lines(shown, "in rising order", ax)
    if reference is not None:
        ax.axvline(reference, color=GREY, linewidth=1, linestyle="--", zorder=0)
    if "raw" in shown:
        ax.scatter(
            shown["raw"],
            at,
            s=_areas(shown["n"], thin),
            facecolors="none",
            edgecolors=GREY if "flag" in shown else ORANGE,
            linewidths=0.4 if thin else 0.8,
            alpha=0.6 if thin else 1,
            label=f"{names[1]} (area: size of the group)",
        )
    flag = shown["flag"].to_numpy(dtype=bool) if "flag" in shown else np.zeros(len(shown), bool)
    for marked, color in ((False, BLUE), (True, ORANGE)):
        some = shown[flag == marked]
        if not len(some):
            continue
        word = "flagged, " if marked else ""
        lower, upper = some["eti95_lb"], some["eti95_ub"]
        ax.hlines(
            at[flag == marked],
            lower,
            upper,
            color=color,
            linewidth=0.6 if thin else 1.5,
            alpha=0.5 if thin else 1,
        )
        ax.scatter(
            some["shrunken"],
            at[flag == marked],
            s=_dot(at),
            marker="D" if marked else "o",
            color=color,
            label=f"{word}{names[0]}, 95 % equal-tailed interval",
            zorder=3,
        )
    ax.set_xlabel(label)
    _legend(ax)
    return ax


def arrows(
    table: pd.DataFrame, label: str, reference: float, size: str = "rows", ax: Axes | None = None
) -> Axes:
    """Arrows from raw to shrunken estimates, the largest groups on top.

    Parameters
    ----------
    table : pandas.DataFrame
        A row a group, with columns ``raw`` (NaN where there is none), ``shrunken`` and ``n``.
    label : str
        What is estimated, with units.
    reference : float
        The value towards which estimates are drawn.
    size : str
        What `n` counts.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.

    Returns
    -------
    matplotlib.axes.Axes
    """
    shown = table.sort_values(["n", "shrunken"], kind="stable")
    order = f"by number of {size}, largest on top" if size in ("rows", "trials") else f"by {size}"
    ax, at, thin = _lines(shown, order, ax)
    if not thin:
        sizes = [f"{name} ({n:,.6g})" for name, n in shown["n"].items()]
        ax.set_yticks(at, sizes, fontsize=7)
        ax.set_ylabel(f"{shown.index.name} ({size})")
    ax.axvline(reference, color=GREY, linewidth=1, linestyle="--", zorder=0, label="overall")
    moved = shown["raw"].notna().to_numpy()
    raw, to = shown["raw"].to_numpy()[moved], shown["shrunken"].to_numpy()[moved]
    ax.scatter(
        raw,
        at[moved],
        s=_dot(at),
        facecolors="none",
        edgecolors=ORANGE,
        linewidths=0.5 if thin else 1,
        label="raw",
    )
    if thin:
        ax.hlines(at[moved], raw, to, color=GREY, linewidth=0.4, alpha=0.6)
    else:
        ax.quiver(
            raw,
            at[moved],
            to - raw,
            np.zeros(len(raw)),
            angles="xy",
            scale_units="xy",
            scale=1,
            width=0.0025,
            headwidth=5,
            headlength=6,
            headaxislength=5,
            minlength=0.5,
            color=GREY,
        )
    ax.scatter(shown["shrunken"], at, s=_dot(at), color=BLUE, label="shrunken", zorder=3)
    ax.set_xlabel(label)
    _legend(ax, columns=3)
    return ax


@dataclass(frozen=True)
class Limits:
    """Control limits of a funnel.

    Parameters
    ----------
    x, lower, upper : array
    label : str
    dashed : bool
    """

    x: Floats
    lower: Floats
    upper: Floats
    label: str
    dashed: bool = False


def funnel(
    points: pd.DataFrame,
    limits: Sequence[Limits],
    target: float,
    labels: tuple[str, str],
    ax: Axes | None = None,
) -> Axes:
    """Units against their precision, with the limits that chance alone keeps to.

    Parameters
    ----------
    points : pandas.DataFrame
        A row a unit, with columns ``x``, ``y`` and ``flag``; the index names the units.
    limits : sequence of Limits
    target : float
        Where units without a difference lie.
    labels : tuple of str
        Of the two axes.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.

    Returns
    -------
    matplotlib.axes.Axes
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 5), layout="constrained")
    colors = iter((SKY, BLUE, GREEN, BLACK))
    ax.axhline(target, color=GREY, linewidth=1, zorder=0)
    for limit in limits:
        color = next(colors)
        style = "--" if limit.dashed else "-"
        ax.plot(limit.x, limit.upper, color=color, ls=style, linewidth=1.2, label=limit.label)
        ax.plot(limit.x, limit.lower, color=color, ls=style, linewidth=1.2)
    thin = len(points) > _MOST_LABELS
    flag = points["flag"].to_numpy(dtype=bool)
    ax.scatter(
        points["x"][~flag],
        points["y"][~flag],
        s=5 if thin else 20,
        color=GREY,
        alpha=0.5 if thin else 0.9,
        linewidths=0,
        label=f"{points.index.name}",
    )
    flagged = points[flag]
    if len(flagged):
        ax.scatter(
            flagged["x"],
            flagged["y"],
            s=12 if thin else 28,
            marker="D",
            color=ORANGE,
            label=f"{points.index.name}, flagged",
        )
    if len(flagged) <= _MOST_NAMES:
        for name, x, y in zip(flagged.index, flagged["x"], flagged["y"], strict=True):
            ax.annotate(str(name), (x, y), (4, 4), textcoords="offset points", fontsize=7)
    values = points["y"].to_numpy()
    low, high = min(float(values.min()), target), max(float(values.max()), target)
    room = 0.15 * (high - low) or 1.0
    ax.set_ylim(max(low - room, 0) if low >= 0 else low - room, high + room)
    ax.set_xlim(0, 1.05 * float(points["x"].max()))
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
    _legend(ax, columns=3)
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


def _lines(shown: pd.DataFrame, order: str, ax: Axes | None) -> tuple[Axes, Floats, bool]:
    """Axes with a line a group: where the lines are, and whether they are too many for names."""
    count = len(shown)
    if ax is None:
        height = float(np.clip(0.18 * count + 1.5, 3, 12))
        _, ax = plt.subplots(figsize=(7, height), layout="constrained")
    at = np.arange(count, dtype=np.float64)
    thin = count > _MOST_LABELS
    group = str(shown.index.name)
    if thin:
        ax.set_yticks([])
        ax.set_ylabel(f"{group} ({count:,}, {order})")
    else:
        ax.set_yticks(at, [str(name) for name in shown.index], fontsize=7)
        ax.set_ylabel(group)
    ax.set_ylim(-1, count)
    ax.spines[["top", "right"]].set_visible(False)
    return ax, at, thin


def _legend(ax: Axes, columns: int = 1) -> None:
    """A legend above the axes, where it hides nothing."""
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), fontsize=8, frameon=False, ncols=columns)
    ax.spines[["top", "right"]].set_visible(False)


def _dot(at: Floats) -> float:
    """Area of a dot, such that neighbours do not run together."""
    return float(np.clip(700 / len(at), 3, 14))


def _areas(sizes: pd.Series[float], thin: bool) -> np.ndarray:
    share = sizes.to_numpy(dtype=float) / float(sizes.max())
    return (2 + 12 * share) if thin else (6 + 90 * share)
