"""Forest plot: raw and shrunken effects of studies, the pooled effect and the prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bayesmixed.meta._axes import effect_axis
from bayesmixed.plots import BLUE, GREY, ORANGE

# An axis is at most this many times as wide as what the eye is to compare.
_WIDEST = 8
_MOST_LABELS = 60


@dataclass(frozen=True, eq=False)
class Summaries:
    """What stands below the studies, and what the effects are.

    Parameters
    ----------
    label : str
        What the effects are.
    ratio : str
        What their exponentials are called; empty where that means nothing.
    mu : pandas.Series, optional
        ``median``, ``eti95_lb``, ``eti95_ub`` of the pooled effect.
    new : pandas.Series, optional
        The same of a new study's effect.
    tau : float
        Median of the sd between studies.
    """

    label: str
    ratio: str = ""
    mu: pd.Series[Any] | None = None
    new: pd.Series[Any] | None = None
    tau: float = 0.0

    @property
    def rows(self) -> dict[str, pd.Series[Any]]:
        """The rows below the studies, by name."""
        rows = {"pooled effect": self.mu, "new study (prediction)": self.new}
        return {name: row for name, row in rows.items() if row is not None}


def forest(studies: pd.DataFrame, summaries: Summaries, ax: Axes | None) -> Axes:
    """Draw studies from top to bottom, and summaries below them.

    Parameters
    ----------
    studies : pandas.DataFrame
        A row a study: ``raw``, ``se``, ``raw_lb``, ``raw_ub``, ``mean``, ``eti95_lb``,
        ``eti95_ub``, and perhaps ``weight``.
    summaries : Summaries
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.
    """
    count = len(studies)
    thin = count > _MOST_LABELS
    shown = studies.sort_values("raw") if thin else studies
    own = ax is None
    if ax is None:
        height = 7.0 if thin else 0.3 * (count + len(summaries.rows)) + 1.9
        _, ax = plt.subplots(figsize=(8, height), layout="constrained")
    at = np.arange(count)[::-1].astype(float)
    _draw_studies(ax, shown, at, thin)
    unit = count / 40 if thin else 1.0
    below = [-(1.3 + i) * unit for i in range(len(summaries.rows))]
    _draw_summaries(ax, summaries, below, unit)
    names = [*([] if thin else map(str, shown.index)), *summaries.rows]
    ax.set_yticks([*([] if thin else at), *below], names, fontsize=8)
    ax.set_ylabel(f"{shown.index.name}" + (f" ({count:,}, by raw effect)" if thin else ""))
    ax.set_ylim(min([*below, 0.0]) - 0.8 * unit, count - 0.3 + 0.7 * (not thin))
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    if not thin:
        _annotate(ax, shown, at, summaries, below)
    _cut(ax, shown, summaries)
    effect_axis(ax, summaries.label, summaries.ratio)
    legend_below(ax, own)
    return ax


def _cut(ax: Axes, shown: pd.DataFrame, summaries: Summaries) -> None:
    """Leave out far ends of intervals where a few studies would squeeze the others to lines."""
    ends = [np.asarray(s[["eti95_lb", "eti95_ub"]], dtype=float) for s in summaries.rows.values()]
    points = np.concatenate([shown["raw"].to_numpy(dtype=float), *ends])
    widths = (shown["raw_ub"] - shown["raw_lb"]).to_numpy(dtype=float)
    room = max(np.ptp(points), float(np.median(widths)))
    low, high = ax.get_xlim()
    if high - low > _WIDEST * room:
        ax.set_xlim(max(low, points.min() - room), min(high, points.max() + room))
        ax.annotate(
            "intervals go on beyond the axis", (1.0, 0.0), xycoords="axes fraction", ha="right",
            va="bottom", fontsize=7, color=GREY,
        )  # fmt: skip


def legend_below(ax: Axes, own: bool) -> None:
    """A legend that hides nothing in a figure of our own, and inside axes that were given."""
    if own:
        figure = ax.get_figure(root=True)
        assert figure is not None
        figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    else:
        ax.legend(fontsize=7, framealpha=0.9)


def _draw_studies(ax: Axes, shown: pd.DataFrame, at: np.ndarray, thin: bool) -> None:
    gap = 0.0 if thin else 0.16
    size = shown["weight"] if "weight" in shown else shown["se"] ** -2.0
    share = size.to_numpy(dtype=float) / float(size.max())
    areas = (1 + 6 * share) if thin else (6 + 60 * share)
    what = "weight" if "weight" in shown else "1 / se squared"
    lines = {"linewidths": 0.5, "alpha": 0.5} if thin else {"linewidths": 1.2, "alpha": 1.0}
    ax.hlines(
        at + gap,
        shown["raw_lb"],
        shown["raw_ub"],
        colors=ORANGE,
        linewidths=lines["linewidths"],
        alpha=lines["alpha"],
    )
    ax.scatter(
        shown["raw"],
        at + gap,
        s=areas,
        marker="s",
        color=ORANGE,
        zorder=3,
        label=f"raw, 95 % confidence interval (area: {what})",
    )
    ax.hlines(
        at - gap,
        shown["eti95_lb"],
        shown["eti95_ub"],
        colors=BLUE,
        linewidths=lines["linewidths"],
        alpha=lines["alpha"],
    )
    ax.scatter(
        shown["mean"],
        at - gap,
        s=2 if thin else 12,
        color=BLUE,
        zorder=4,
        label="shrunken, 95 % equal-tailed interval",
    )


def _draw_summaries(ax: Axes, summaries: Summaries, below: list[float], unit: float) -> None:
    """The pooled effect as a diamond and the prediction as a bar."""
    mu, new = summaries.mu, summaries.new
    if mu is not None:
        y, half = below[0], 0.35 * unit
        x = [mu["eti95_lb"], mu["median"], mu["eti95_ub"], mu["median"]]
        ax.fill(x, [y, y + half, y, y - half], color=BLUE, label="pooled effect, 95 % interval")
        ax.axvline(mu["median"], color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    if new is not None:
        ax.hlines(
            below[1],
            new["eti95_lb"],
            new["eti95_ub"],
            colors=GREY,
            linewidths=4,
            label="new study, 95 % prediction interval",
        )
        ax.scatter([new["median"]], [below[1]], color="white", s=8, zorder=4)


def _annotate(
    ax: Axes, shown: pd.DataFrame, at: np.ndarray, summaries: Summaries, below: list[float]
) -> None:
    """Raw estimates, weights and summaries with their intervals at the right margin."""
    rows = shown[["raw", "raw_lb", "raw_ub"]].to_numpy(dtype=float)
    extra = [s[["median", "eti95_lb", "eti95_ub"]] for s in summaries.rows.values()]
    rows = np.vstack([rows, *extra]).astype(float)
    with np.errstate(over="ignore"):  # an infinite end of a ratio is printed as such
        rows = np.exp(rows) if summaries.ratio else rows
    place: dict[str, Any] = {
        "transform": ax.get_yaxis_transform(),
        "fontsize": 7.5,
        "va": "center",
        "family": "monospace",
    }
    written = _aligned(rows, bool(summaries.ratio))
    weights = [""] * len(written)
    if "weight" in shown:
        weights = [f"{share:6.1%}" for share in shown["weight"]] + [""] * len(extra)
    wide = len(written[0])
    what = (summaries.ratio or "effect").replace("standardised", "std.")
    head = f"{what:^{wide}}" + ("  weight" if "weight" in shown else "")
    ax.text(1.01, len(at) - 0.1, head.rstrip(), **place)
    for y, text, share in zip([*at, *below], written, weights, strict=True):
        ax.text(1.01, y, f"{text}  {share}".rstrip(), **place)


def _aligned(rows: np.ndarray, ratio: bool) -> list[str]:
    """Estimates with their intervals, in columns of one width."""
    half = float(np.median(rows[:, 2] - rows[:, 1])) / 2
    # As many decimals for all as a typical interval needs; ratios near 0 need more than others.
    decimals = int(np.clip(1 - np.floor(np.log10(half)), 1, 6)) if np.isfinite(half) else 2
    cells = [[_short(x) if ratio else f"{x:.{decimals}f}" for x in row] for row in rows]
    wide = [max(len(row[k]) for row in cells) for k in range(3)]
    return [
        f"{value:>{wide[0]}} [{low:>{wide[1]}}, {high:>{wide[2]}}]" for value, low, high in cells
    ]


def _short(number: float) -> str:
    """Two decimals, or two digits where these would be none or too many."""
    return f"{number:.2f}" if number == 0 or 0.1 <= abs(number) < 1e4 else f"{number:.2g}"
