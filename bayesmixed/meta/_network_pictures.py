"""Pictures of a network meta-analysis."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter

from bayesmixed.meta._network import Network
from bayesmixed.plots import BLUE, GREY, ORANGE, SKY


def network_plot(network: Network, ax: Axes | None = None) -> Axes:
    """Treatments on a circle: nodes by patients, edges by trials.

    Parameters
    ----------
    network : Network
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 6.2), layout="constrained")
    count = len(network.treatments)
    angle = np.pi / 2 - 2 * np.pi * np.arange(count) / count
    x, y = np.cos(angle), np.sin(angle)
    edges = network.edges()
    most = max(len(trials) for trials in edges.values())
    for (a, b), trials in edges.items():
        ax.plot([x[a], x[b]], [y[a], y[b]], color=SKY, lw=1 + 7 * len(trials) / most, zorder=1)
        at = 0.5 + 0.08 * np.cos(a + 2 * b)  # off the middle, where diagonals cross
        ax.text(
            x[a] + at * (x[b] - x[a]), y[a] + at * (y[b] - y[a]), str(len(trials)), fontsize=8,
            ha="center", va="center", bbox={"fc": "white", "ec": "none", "pad": 0.8}, zorder=2,
        )  # fmt: skip
    patients = network.patients()
    share = patients / patients.max() if patients.max() > 0 else np.full(count, 0.3)
    ax.scatter(x, y, s=60 + 700 * share, color=BLUE, zorder=3)
    for name, n, px, py in zip(network.treatments, patients, x, y, strict=True):
        side = "left" if px > 0.1 else "right" if px < -0.1 else "center"
        text = f"{name}\n({n:,.0f})" if n else name
        out = 1.17 if side != "center" else 1.3  # two lines above or below a node
        ax.text(out * px, out * py, text, ha=side, va="center", fontsize=9)
    ax.set_xlim(-1.9, 1.9)
    ax.set_ylim(-1.5, 1.5)
    ax.set_aspect("equal")
    ax.axis("off")
    sizes = "nodes by patients (in brackets), " if patients.max() > 0 else ""
    ax.set_title(f"{len(network.trials)} trials: {sizes}edges by trials", fontsize=10)
    return ax


def league(
    table: pd.DataFrame, order: list[str], label: str, ratio: str, ax: Axes | None = None
) -> Axes:
    """Triangle of all pairs: the row's treatment against the column's.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `league_table`.
    order : list of str
        Treatments as they stand.
    label, ratio : str
        What the effects are, and their exponentials.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.
    """
    count = len(order)
    if ax is None:
        _, ax = plt.subplots(figsize=(1.6 + 1.05 * count, 1.3 + 0.52 * count), layout="constrained")
    cells = table[["median", "eti95_lb", "eti95_ub"]].T
    colour = np.full((count, count), np.nan)
    for i, row in enumerate(order):
        for j, column in enumerate(order[:i]):
            values = cells[(row, column)].to_numpy(dtype=float)
            colour[i, j] = values[0]
            middle, low, high = np.exp(values) if ratio else values
            clear = values[1] > 0 or values[2] < 0
            ax.text(
                j, i, f"{middle:.2f}\n({low:.2f}, {high:.2f})", ha="center", va="center",
                fontsize=7.5, weight="bold" if clear else "normal",
            )  # fmt: skip
    limit = float(np.nanmax(np.abs(colour))) or 1.0
    ax.imshow(colour, cmap="RdBu_r", vmin=-2.2 * limit, vmax=2.2 * limit, aspect="auto")
    ax.set_xticks(range(count - 1), order[:-1], rotation=30, ha="right", fontsize=8)
    ax.set_yticks(range(1, count), order[1:], fontsize=8)
    ax.set_xlim(-0.5, count - 1.5)
    ax.set_ylim(count - 0.5, 0.5)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.set_title(
        f"{ratio or label}, row against column, 95 % interval (bold: excludes no difference)",
        fontsize=9, loc="left",
    )  # fmt: skip
    return ax


def versus_reference(
    table: pd.DataFrame, reference: str, label: str, ratio: str, ax: Axes | None = None
) -> Axes:
    """Forest plot of all treatments against one, with intervals of new trials.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `league_table`.
    reference : str
    label, ratio : str
        What the effects are, and their exponentials.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.
    """
    mine = table.index.get_level_values("versus") == reference
    shown = table.loc[mine].droplevel("versus").sort_values("median")
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 1.4 + 0.36 * len(shown)), layout="constrained")
    at = np.arange(len(shown))[::-1]
    ax.hlines(at, shown["new_lb"], shown["new_ub"], color=GREY, lw=1, label="effect in a new trial")
    ax.hlines(at, shown["eti95_lb"], shown["eti95_ub"], color=BLUE, lw=3, label="average effect")
    ax.scatter(shown["median"], at, color=BLUE, s=28, zorder=3)
    ax.axvline(0, color="black", lw=0.8, zorder=0)
    ax.set_yticks(at, shown.index.astype(str).tolist(), fontsize=9)
    if ratio:
        low, high = ax.get_xlim()
        round_ones = np.log([s * 10.0**d for d in range(-6, 7) for s in (1, 2, 5)])
        ax.xaxis.set_major_locator(
            FixedLocator([x for x in round_ones.tolist() if low <= x <= high])
        )
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{np.exp(x):g}"))
    ax.set_xlabel(f"{ratio + ' (log scale)' if ratio else label}, against {reference}")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=2)
    return ax


def rankogram(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Probability of every rank as the darkness of a cell, with SUCRA at the margin.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `treatment_ranking`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.
    """
    values = table.filter(regex=r"^rank \d+$").to_numpy(dtype=float)
    count = len(values)
    if ax is None:
        _, ax = plt.subplots(figsize=(2.6 + 0.55 * count, 1.2 + 0.42 * count), layout="constrained")
    ax.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (i, j), p in np.ndenumerate(values):
        if p >= 0.005:
            colour = "white" if p > 0.55 else "black"
            ax.text(j, i, f"{p:.2f}", ha="center", va="center", fontsize=7.5, color=colour)
    labels = [f"{name}  (SUCRA {s:.2f})" for name, s in table["sucra"].items()]
    ax.set_yticks(range(count), labels, fontsize=8)
    ax.set_xticks(range(count), [str(r + 1) for r in range(count)], fontsize=8)
    ax.set_xlabel("rank (1 is best); numbers are probabilities")
    ax.tick_params(length=0)
    return ax


def splits(table: pd.DataFrame, label: str, ax: Axes | None = None) -> Axes:
    """Direct and indirect evidence side by side.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `network_consistency`, rows of comparisons.
    label : str
        What the effects are.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(8, 1.5 + 0.6 * len(table)), layout="constrained")
    at = np.arange(len(table))[::-1].astype(float)
    for name, colour, gap in (
        ("direct", ORANGE, 0.2),
        ("indirect", SKY, 0.0),
        ("network", BLUE, -0.2),
    ):
        ax.errorbar(
            table[name], at + gap, xerr=1.96 * table[f"{name}_sd"], fmt="o", ms=4, lw=1.5,
            color=colour, label=f"{name}, mean and 1.96 sd",
        )  # fmt: skip
    words = [f"{name}\np = {p:.2f}" for name, p in table["p"].items()]
    ax.set_yticks(at, words, fontsize=8)
    ax.axvline(0, color="black", lw=0.8, zorder=0)
    ax.set_xlabel(label)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return ax
