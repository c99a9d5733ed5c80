"""The picture of tipping points in the plane of two deltas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from bayesmixed.plots import BLACK, GREY, ORANGE

_GAP = 0.2
_CONTOURS = (0.025, 0.1, 0.5, 0.9)


def by_two_deltas(
    better: pd.Series, tips: xr.DataArray, probability: float, arms: Sequence[Any], ax: Axes | None
) -> Axes:
    """Probability of a benefit over the deltas of two arms, with the line where it tips.

    Parameters
    ----------
    better : pandas.Series
        Probabilities; index (delta, reference delta, inference, contrast).
    tips : xarray.DataArray
        Delta at which the probability is as asked for, dims (contrast, inference, reference delta).
    probability : float
        The one asked for.
    arms : sequence
        The reference and the others, in the order of the contrasts.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure unless given.
    """
    panels = [(c, i) for c in tips["contrast"].to_numpy() for i in tips["inference"].to_numpy()]
    rows, columns = tips.sizes["contrast"], tips.sizes["inference"]
    if ax is None:
        _, ax = plt.subplots(figsize=(8.5, 0.8 + 3.4 * rows), layout="constrained")
    ax.set_axis_off()
    height, width = 1 / (rows + _GAP * (rows - 1)), 0.42
    for k, (contrast, inference) in enumerate(panels):
        row, column = divmod(k, columns)
        where = ((width + 0.03) * column, 1 - height - (1 + _GAP) * height * row, width, height)
        inner = ax.inset_axes(where)
        part = better.xs((contrast, inference), level=("contrast", "inference"))
        grid = part.unstack("reference delta").sort_index(axis=0).sort_index(axis=1)
        _panel(grid, tips.sel(contrast=contrast, inference=inference), probability, inner)
        if row == rows - 1:
            inner.set_xlabel(f"delta of those who left {arms[0]}")
        if column:
            inner.tick_params(labelleft=False)
        else:
            inner.set_ylabel(f"delta of those who left {arms[1 + row]}")
        inner.set_title(inference if rows == 1 else f"{contrast}, {inference}", fontsize=9)
    bar = ax.inset_axes(((width + 0.03) * columns, 0.0, 0.02, 1.0))
    mesh = ax.child_axes[0].collections[0]
    bar.figure.colorbar(mesh, cax=bar, label="posterior probability of a benefit")
    return ax


def _panel(grid: pd.DataFrame, tips: xr.DataArray, probability: float, ax: Axes) -> None:
    """One contrast and one kind of inference."""
    x, y = (np.asarray(axis, dtype=np.float64) for axis in (grid.columns, grid.index))
    ax.pcolormesh(x, y, grid, cmap="Blues", vmin=0, vmax=1, shading="gouraud", rasterized=True)
    values = grid.to_numpy()
    inside = [c for c in _CONTOURS if values.min() < c < values.max()]
    if inside:
        lines = ax.contour(x, y, values, inside, colors=GREY, linewidths=0.7, linestyles=":")
        ax.clabel(lines, fontsize=7, fmt="%g")
    line = tips.where(np.isfinite(tips)).sortby("reference delta")
    at = line["reference delta"].to_numpy()
    if not line.isnull().all():
        label = f"tipping line, probability {probability:g}"
        ax.plot(at, line, ".-", color=ORANGE, linewidth=2, label=label)
    if x[0] <= 0 <= x[-1] and y[0] <= 0 <= y[-1]:
        ax.plot(0, 0, "o", mfc="white", mec=BLACK, markersize=6, label="missing at random")
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=7, loc="best")
