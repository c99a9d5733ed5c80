"""Pictures of a meta-analysis averaged over models of publication bias."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError
from bayesmixed.plots import BLUE, GREY, ORANGE, SKY

type Floats = NDArray[np.float64]


def posterior_picture(
    x: Floats, lines: Mapping[str, Floats], none: float, label: str, ax: Axes | None = None
) -> Axes:
    """Density of the average effect, and a spike for its absence.

    Parameters
    ----------
    x : array
        Effects.
    lines : mapping of str to array
        Densities there, the average first.
    none : float
        Posterior probability of no effect.
    label : str
        What the effects are.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for (name, y), colour in zip(lines.items(), (BLUE, ORANGE), strict=False):
        ax.plot(x, y, color=colour, label=name)
    first = next(iter(lines.values()))
    ax.fill_between(x, first, color=SKY, alpha=0.25)
    top = max(float(y.max()) for y in lines.values())
    ax.vlines(0, 0, none * top, color=BLUE, lw=3, label=f"no effect: probability {none:.2f}")
    seen = np.max([y / y.max() for y in lines.values() if y.max() > 0], axis=0) > 1e-3
    shown = x[seen]
    ax.set_xlim(min(float(shown.min()), -0.02 * np.ptp(shown)), max(float(shown.max()), 0))
    ax.set_ylim(0, 1.05 * top)
    ax.set_xlabel(f"average {label}")
    ax.set_ylabel("posterior density (height of the spike: its probability)", fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=8, frameon=False)
    return ax


def weight_picture(weights: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Probability of publication against the one-sided p-value, as steps of equal width.

    Parameters
    ----------
    weights : pandas.DataFrame
        A row a step: ``from``, ``to``, ``mean``, ``eti95_lb``, ``eti95_ub``.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.

    Raises
    ------
    BayesmixedError
        If no model has selection.
    """
    if weights.empty:
        raise BayesmixedError("No model has selection, so that there are no weights to draw.")
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
    at = np.arange(len(weights) + 1)

    def steps(name: str) -> Floats:
        values = weights[name].to_numpy(dtype=float)
        return np.append(values, values[-1])

    ax.fill_between(
        at, steps("eti95_lb"), steps("eti95_ub"), step="post", color=SKY, alpha=0.4,
        label="95 % equal-tailed interval",
    )  # fmt: skip
    ax.step(at, steps("mean"), where="post", color=BLUE, lw=2, label="mean, given selection")
    ax.axhline(1, color=GREY, lw=0.8, ls=":")
    edges = [*weights["from"], float(weights["to"].iloc[-1])]
    ax.set_xticks(at, [f"{e:g}" for e in edges], fontsize=8)
    ax.set_ylim(0, 1.05)
    ax.set_xlabel("one-sided p-value (steps of equal width)")
    ax.set_ylabel("relative probability of publication")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=8, frameon=False)
    return ax
