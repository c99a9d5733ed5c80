"""Funnel plot: effects against their standard errors."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.special import ndtri

from bayesmixed.meta._axes import effect_axis
from bayesmixed.meta._forest import Summaries, legend_below
from bayesmixed.plots import BLUE, GREY, ORANGE


def funnel(studies: pd.DataFrame, summaries: Summaries, ax: Axes | None) -> Axes:
    """Draw raw effects by standard error, with the limits within which 95 % would lie.

    Parameters
    ----------
    studies : pandas.DataFrame
        Columns ``raw`` and ``se``.
    summaries : Summaries
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.
    """
    own = ax is None
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 4.5), layout="constrained")
    se = np.linspace(0, 1.05 * float(studies["se"].max()), 200)
    assert summaries.mu is not None
    mu, z = float(summaries.mu["median"]), float(ndtri(0.975))
    ax.plot([mu, mu], [se[0], se[-1]], color=BLUE, linewidth=1, label="pooled effect")
    for tau, style, label in (
        (0.0, "--", "95 % of studies, sampling error alone"),
        (summaries.tau, ":", "95 % of studies, with heterogeneity"),
    ):
        if style == ":" and not tau:
            continue
        half = z * np.sqrt(se**2 + tau**2)
        ax.plot(mu - half, se, color=GREY, linewidth=1, linestyle=style, label=label)
        ax.plot(mu + half, se, color=GREY, linewidth=1, linestyle=style)
    size = float(np.clip(1500 / len(studies), 4, 24))
    ax.scatter(studies["raw"], studies["se"], s=size, color=ORANGE, zorder=3, label="study")
    ax.set_ylim(se[-1], 0)
    effect_axis(ax, summaries.label, summaries.ratio, zero=False)
    ax.set_ylabel(f"standard error of the {summaries.label}")
    ax.spines[["top", "right"]].set_visible(False)
    legend_below(ax, own)
    return ax
