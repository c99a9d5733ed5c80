"""Pictures of residuals: against a normal, what is expected, groups and their own past."""

from __future__ import annotations

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from bayesmixed.fit import Fit
from bayesmixed.plots import BLUE, GREY, ORANGE
from bayesmixed.reports._lags import by_lag, pairs_of, times_of
from bayesmixed.reports._report import Picture
from bayesmixed.series import Series
from bayesmixed.subjects import units

type Floats = NDArray[np.float64]

# Pairs of as many times are looked at one by one.
_MOST_TIMES = 1000


def pictures_of(fit: Fit, table: pd.DataFrame, kind: str) -> dict[str, Picture]:
    """Pictures of residuals.

    Parameters
    ----------
    fit : Fit
    table : pandas.DataFrame
        Of all rows in their order, with columns ``fitted`` and ``residual``.
    kind : str
        What they are called; ``"raw"`` ones are not standardised.
    """
    design, frame = fit.design, fit.design.table.frame
    label = f"{'Pearson' if kind == 'pearson' else kind} residual"
    residual = table["residual"].to_numpy()
    limits = kind != "raw"
    found: dict[str, Picture] = {"qq": partial(_qq, residual, label)} if limits else {}
    x, name = table["fitted"].to_numpy(), f"expected {fit.spec.response}"
    found["fitted"] = partial(_scatter, x, residual, name, label, limits)
    if design.series is not None and len(times := times_of(design.series)) <= _MOST_TIMES:
        found["correlogram"] = partial(_correlogram, design.series, times, residual, label)
    for column in frame.columns:
        if pd.api.types.is_numeric_dtype(frame[column].dtype) and column != fit.spec.response:
            x = frame[column].to_numpy(dtype=float)
            found[str(column)] = partial(_scatter, x, residual, str(column), label, limits)
    for groups in units(design).values():
        found[groups.name] = partial(_by_group, groups.index, residual, groups.name, label)
    return found


def _axes(label: str, ax: Axes | None) -> Axes:
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    ax.set_ylabel(label)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _qq(residual: Floats, label: str, ax: Axes | None) -> Axes:
    ax = _axes(label, ax)
    ordered, count = np.sort(residual), len(residual)
    x = norm.ppf((np.arange(count) + 0.5) / count)
    # Standard error of an order statistic of a normal sample.
    band = 1.96 * np.sqrt(norm.cdf(x) * norm.sf(x) / count) / norm.pdf(x)
    ax.fill_between(x, x - band, x + band, color=GREY, alpha=0.2, linewidth=0)
    ax.plot(x, x, color=GREY, linewidth=1)
    ax.scatter(x, ordered, s=10 if count < 500 else 4, color=BLUE)
    ax.set_xlabel("standard normal quantile (band: 95 % for each point by itself)")
    return ax


def _scatter(
    x: Floats, residual: Floats, name: str, label: str, limits: bool, ax: Axes | None
) -> Axes:
    ax = _axes(label, ax)
    ax.scatter(x, residual, s=10 if len(x) < 500 else 3, color=BLUE, alpha=0.6)
    ax.axhline(0, color=GREY, linewidth=1)
    for bound in (-1.96, 1.96) if limits else ():
        ax.axhline(bound, color=GREY, linewidth=1, linestyle=":")
    _trend(ax, x, residual)
    ax.set_xlabel(name)
    return ax


def _trend(ax: Axes, x: Floats, residual: Floats) -> None:
    """Means of the residuals in tenths of x with their 95 % limits under the model."""
    count = min(10, len(np.unique(x)), len(x) // 10)
    if count < 2:
        return
    if count == len(np.unique(x)):
        cell = rankdata(x, method="dense")
    else:
        cell = np.minimum((rankdata(x) - 0.5) * count // len(x), count - 1)
    for c in np.unique(cell):
        y = residual[cell == c]
        ax.errorbar(
            x[cell == c].mean(),
            y.mean(),
            1.96 * y.std() / np.sqrt(len(y)),
            color=ORANGE,
            marker="o",
            markersize=5,
            capsize=2,
        )


def _by_group(
    index: NDArray[np.intp], residual: Floats, name: str, label: str, ax: Axes | None
) -> Axes:
    ax = _axes(label, ax)
    sizes = np.bincount(index)
    means = np.bincount(index, residual) / sizes
    place = np.argsort(np.argsort(means))
    ax.scatter(place[index], residual, s=10 if len(index) < 500 else 3, color=BLUE, alpha=0.5)
    ax.scatter(place, means, s=25 if len(means) < 60 else 5, color=ORANGE, label="mean", zorder=3)
    ax.axhline(0, color=GREY, linewidth=1)
    ax.set_xticks([])
    ax.set_xlabel(f"{name} ({len(means):,}, in order of the mean residual)")
    ax.legend(frameon=False)
    return ax


def _correlogram(
    series: Series, times: Floats, residual: Floats, label: str, ax: Axes | None
) -> Axes:
    """Correlation of residuals of one series by their distance, and what chance would leave."""
    ax = _axes(f"correlation of {label}s", ax)
    which = max(k for k, axis in enumerate(series.axes) if axis.size > 1)
    axis, pairs = series.axes[which], pairs_of(series, times, residual)
    lags = by_lag(series, times, which)
    colours = (BLUE, ORANGE, GREY) * len(series.arms)
    for (a, arm), colour in zip(enumerate(series.arms), colours, strict=False):
        mine = {key[-1]: where for key, (own, where) in lags.items() if own == a}
        at = np.array(list(mine), dtype=float)
        counts = np.array([pairs.counts[a][where].sum() for where in mine.values()])
        half = 1.96 / np.sqrt(np.maximum(counts, 1))
        ax.fill_between(at, -half, half, color=colour, alpha=0.15, linewidth=0)
        points = [pairs.correlation(a, where) for where in mine.values()]
        ax.vlines(at, 0, points, color=colour, linewidth=1)
        ax.scatter(at, points, color=colour, s=14, label=str(arm))
    ax.axhline(0, color=GREY, linewidth=1)
    ax.set_xlabel(
        f"distance in {axis.name}{' (visits)' if axis.structure.counted else ''}"
        " (band: 95 % for each if uncorrelated)"
    )
    if axis.structure.counted:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(series.arms) > 1:
        ax.legend(frameon=False)
    return ax
