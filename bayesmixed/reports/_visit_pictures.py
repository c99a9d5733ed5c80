"""Pictures over the visits of a trial."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bayesmixed.plots import BLUE, GREY, ORANGE

_LOOKS = ((GREY, "s", "--"), (BLUE, "o", "-"), (ORANGE, "^", "-."), ("#009E73", "D", ":"))


def by_visit(table: pd.DataFrame, label: str, neutral: float | None, ax: Axes | None) -> Axes:
    """Means with their intervals over visits, a line for each arm or contrast.

    Parameters
    ----------
    table : pandas.DataFrame
        Index (visit, arm), columns ``mean``, ``eti95_lb``, ``eti95_ub``.
    label : str
        What is shown, with units.
    neutral : float, optional
        Where there is no difference.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
    time, arm = (str(name) for name in table.index.names)
    visits = list(dict.fromkeys(table.index.get_level_values(time)))
    arms = list(dict.fromkeys(table.index.get_level_values(arm)))
    numeric = pd.api.types.is_numeric_dtype(table.index.get_level_values(time))
    places = np.array(visits, dtype=float) if numeric else np.arange(len(visits), dtype=float)
    apart = 0.08 * float(np.diff(np.sort(places)).min())
    # A contrast has the colour of the arm that is compared with the first.
    first = 0 if neutral is None else 1
    if neutral is not None:
        ax.axhline(neutral, color=GREY, linewidth=1, linestyle="--", zorder=0)
    for k, name in enumerate(arms):
        color, marker, style = _LOOKS[(k + first) % len(_LOOKS)]
        rows = table.xs(name, level=arm).loc[visits]
        at = places + apart * (k - (len(arms) - 1) / 2)
        ax.vlines(at, rows["eti95_lb"], rows["eti95_ub"], color=color, linewidth=1.6)
        ax.plot(at, rows["mean"], color=color, marker=marker, linestyle=style, label=str(name))
    ax.set_xticks(places, [str(v) for v in visits])
    ax.set_xlabel(time)
    ax.set_ylabel(label)
    # Above the axes: inside it would lie over an interval sooner or later.
    beside = max(1, 50 // (4 + max(len(str(name)) for name in arms)))
    ax.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=min(beside, len(arms)),
        fontsize=8,
        frameon=False,
        borderaxespad=0.2,
    )
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def over_visits(
    means: pd.DataFrame, differences: pd.DataFrame, response: str, ax: Axes | None
) -> Axes:
    """Means of the arms above their differences, over the same visits."""
    if ax is None:
        _, ax = plt.subplots(figsize=(6.5, 6), layout="constrained")
    ax.set_axis_off()
    upper = ax.inset_axes((0.0, 0.45, 1.0, 0.55))
    lower = ax.inset_axes((0.0, 0.0, 1.0, 0.38), sharex=upper)
    by_visit(means, f"mean {response}", None, upper)
    by_visit(differences, "difference", 0.0, lower)
    upper.set_xlabel("")
    upper.tick_params(labelbottom=False)
    upper.set_title("Mean and 95 % interval", fontsize=8, loc="left", color=GREY)
    return ax


def by_delta(table: pd.DataFrame, label: str, margin: float, ax: Axes | None) -> Axes:
    """Differences with their bands over a delta, both kinds of inference.

    Parameters
    ----------
    table : pandas.DataFrame
        Index (delta, inference, contrast), columns ``mean``, ``eti95_lb``, ``eti95_ub``.
    label : str
        What is shown, with units.
    margin : float
        Where a benefit begins.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
    ax.axhline(margin, color=GREY, linewidth=1, linestyle="--", zorder=0)
    several = table.index.get_level_values("contrast").nunique() > 1
    lines = table.groupby(["contrast", "inference"], sort=False)
    for k, ((contrast, inference), part) in enumerate(lines):
        color, style = (BLUE, ORANGE, "#009E73", GREY)[k % 4], ("-", "--", "-.", ":")[k % 4]
        at = part.index.get_level_values("delta").to_numpy(dtype=float)
        ax.fill_between(at, part["eti95_lb"], part["eti95_ub"], color=color, alpha=0.15, lw=0)
        for end in ("eti95_lb", "eti95_ub"):
            ax.plot(at, part[end], style, color=color, linewidth=0.8)
        name = f"{inference}, {contrast}" if several else str(inference)
        ax.plot(at, part["mean"], style, color=color, label=name)
    ax.set_xlabel("delta added to what is missing")
    ax.set_ylabel(label)
    ax.legend(title="line: mean, band: 95 %", title_fontsize=8, fontsize=8, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
