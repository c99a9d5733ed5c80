"""Pictures of correlations: as matrices, and by distance in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bayesmixed.axes import Axis
from bayesmixed.plots import BLUE, GREY, ORANGE
from bayesmixed.reports._lags import MOST_VISITS, Pairs, Rows, in_lags
from bayesmixed.series import Series
from bayesmixed.structure import dim_of

type Floats = NDArray[np.float64]


def squares(
    series: Series, table: pd.DataFrame, *columns: str
) -> Iterator[tuple[str, Axis, list[Any], Floats]]:
    """Columns of a table of pairs as symmetric matrices: of visits, or of each factor's.

    Yields
    ------
    name : str
        Of the picture.
    axis : Axis
    labels : list
    values : array, shape (columns, visit, visit)
        NaN on the diagonal.
    """
    for axis in series.axes:
        if in_lags(axis) or axis.size < 2:
            continue
        labels = axis.labels[dim_of("visit", axis.column)]
        own = table if not axis.column else table.xs(axis.name, level="factor")
        both = np.full((len(columns), axis.size, axis.size), np.nan)
        values = (own[column].to_numpy() for column in columns)
        for (one, other), *each in zip(own.index.to_flat_index(), *values, strict=True):
            at = labels.index(one), labels.index(other)
            both[:, *at] = both[:, *at[::-1]] = each
        yield axis.name if axis.column else "matrix", axis, labels, both


def matrix(
    name: str,
    labels: list[Any],
    below: Floats,
    above: Floats,
    ax: Axes | None,
    words: tuple[str, str] = ("fitted", "observed"),
) -> Axes:
    """Correlations below the diagonal, and others above it, such as fitted and observed ones."""
    size = len(labels)
    shown = np.where(np.tri(size, dtype=bool), below, above)
    np.fill_diagonal(shown, 1.0)
    texts = {(i, j): f"{shown[i, j]:.2f}" for i, j in np.ndindex(size, size) if i != j}
    ax = _cells(labels, shown, texts, ax)
    ax.set_xlabel(f"{name} (above the diagonal: {words[1]})")
    ax.set_ylabel(f"{name} (below: {words[0]})")
    return ax


def process_matrix(
    name: str, labels: list[Any], mean: Floats, sd: Floats, own: Floats | None, ax: Axes | None
) -> Axes:
    """Means of correlations below the diagonal, posterior sds above; sds of the process on it."""
    size = len(labels)
    shown = np.where(np.tri(size, k=-1, dtype=bool), mean, np.nan)
    texts = {(i, j): f"{mean[i, j]:.2f}" if i > j else f"±{sd[i, j]:.2f}" for i, j in
             np.ndindex(size, size) if i != j}  # fmt: skip
    if own is not None:
        texts |= {(i, i): f"sd {value:.2f}" for i, value in enumerate(own)}
    ax = _cells(labels, shown, texts, ax)
    middle = "" if own is None else ",\non it the sd of the process"
    ax.set_xlabel(f"{name}\n(below the diagonal: correlation,\nabove: its posterior sd{middle})")
    ax.set_ylabel(name)
    return ax


def _cells(
    labels: list[Any], shown: Floats, texts: Mapping[tuple[int, int], str], ax: Axes | None
) -> Axes:
    """A heat map of correlations, with a text in every cell."""
    size, names = len(labels), [str(label) for label in labels]
    many = size >= MOST_VISITS
    if ax is None:
        side = max((0.42 if many else 0.65) * size, 3.2)
        wide = 0.08 * max(map(len, names))
        figure = (1.9 + side + wide, 0.7 + side + (wide if _is_long(names) else 0.0))
        _, ax = plt.subplots(figsize=figure, layout="constrained")
    image = ax.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1)
    for (i, j), text in texts.items():
        if "nan" not in text:
            dark = abs(shown[i, j]) > 0.6
            ax.text(j, i, text, ha="center", va="center", fontsize=6 if many else 8,
                    color="white" if dark else "black")  # fmt: skip
    ax.set_xticks(range(size), names, rotation=90 if _is_long(names) else 0)
    ax.set_yticks(range(size), names)
    ax.figure.colorbar(image, ax=ax, label="correlation", shrink=0.8)
    return ax


def _is_long(texts: list[str]) -> bool:
    """Whether labels beside each other would overlap."""
    return max(map(len, texts)) > 6


def correlogram(
    series: Series,
    axis: Axis,
    lags: Rows,
    curves: Mapping[tuple[Any, ...], Floats],
    pairs: Pairs,
    ax: Axes | None,
) -> Axes:
    """Fitted correlations with their 95 % band over the observed ones, by distance in time."""
    ax = by_distance(series, axis, lags, curves, pairs.correlation, ax)
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.set_ylabel("residual correlation")
    return ax


def semivariogram(
    series: Series,
    axis: Axis,
    lags: Rows,
    curves: Mapping[tuple[Any, ...], Floats],
    pairs: Pairs,
    ax: Axes | None,
) -> Axes:
    """Half the mean square of differences of standardised residuals, over 1 - correlation."""
    left = {key: 1 - values for key, values in curves.items()}
    ax = by_distance(series, axis, lags, left, pairs.semivariance, ax)
    ax.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
    ax.set_ylim(bottom=0)
    ax.set_ylabel("semivariance of standardised residuals")
    return ax


def by_distance(
    series: Series,
    axis: Axis,
    lags: Rows,
    fitted: Mapping[tuple[Any, ...], Floats],
    observed: Callable[[int, Any], float],
    ax: Axes | None,
) -> Axes:
    """A fitted function of distance with its 95 % band, over observed values."""
    ax = _over_distance(axis, ax)
    for (a, arm), (colour, marker) in _styles(series):
        mine = {key[-1]: key for key, (own, _) in lags.items() if own == a}
        at = np.array(list(mine), dtype=float)
        curve = np.stack([fitted[key] for key in mine.values()], axis=-1)
        low, high = np.quantile(curve, [0.025, 0.975], axis=(0, 1))
        points = [observed(a, lags[key][1]) for key in mine.values()]
        tail = f" ({arm})" if arm != "" else ""
        ax.fill_between(at, low, high, color=colour, alpha=0.25, linewidth=0)
        ax.plot(at, curve.mean(axis=(0, 1)), color=colour, label=f"fitted, 95 % band{tail}")
        ax.scatter(at, points, color=colour, marker=marker, s=14, label=f"observed{tail}")
    ax.legend(fontsize=8, frameon=False)
    return ax


def _styles(series: Series) -> Iterator[tuple[tuple[int, Any], tuple[str, str]]]:
    """Every arm with its colour and marker."""
    count = len(series.arms)
    styles = zip((BLUE, ORANGE, GREY) * count, "osD^v" * count, strict=False)
    return zip(enumerate(series.arms), styles, strict=False)


def _over_distance(axis: Axis, ax: Axes | None) -> Axes:
    """Axes over the distance in time."""
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    ax.set_xlabel(f"distance in {axis.name}" + (" (visits)" if axis.structure.counted else ""))
    if axis.structure.counted:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def process_correlogram(
    series: Series,
    axis: Axis,
    lags: Rows,
    curves: Mapping[tuple[Any, ...], Floats],
    found: Floats,
    ax: Axes | None,
) -> Axes:
    """Correlations of a process, and those of residuals as observed and as drawn.

    Parameters
    ----------
    found : array, shape (4, lags)
        Observed, expected, and the limits of 95 % of those drawn.
    """
    ax = _beside(series, axis, lags, found, ax)
    for (a, arm), (colour, _) in _styles(series):
        mine = {key[-1]: key for key, (own, _) in lags.items() if own == a}
        curve = np.stack([curves[key].mean() for key in mine.values()])
        tail = f" ({arm})" if arm != "" else ""
        ax.plot(list(mine), curve, color=colour, linestyle="--", label=f"process itself{tail}")
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.set_ylabel("correlation of Pearson residuals")
    ax.legend(fontsize=8, frameon=False)
    return ax


def process_semivariogram(
    series: Series, axis: Axis, lags: Rows, found: Floats, ax: Axes | None
) -> Axes:
    """Half the mean square of differences of residuals, as observed and as drawn."""
    ax = _beside(series, axis, lags, found, ax)
    ax.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
    ax.set_ylim(bottom=0)
    ax.set_ylabel("semivariance of Pearson residuals")
    ax.legend(fontsize=8, frameon=False)
    return ax


def _beside(series: Series, axis: Axis, lags: Rows, found: Floats, ax: Axes | None) -> Axes:
    """What is observed over the mean and the limits of what the model gives, by distance."""
    ax = _over_distance(axis, ax)
    whose = np.array([own for own, _ in lags.values()])
    at = np.array([key[-1] for key in lags], dtype=float)
    for (a, arm), (colour, marker) in _styles(series):
        mine = (whose == a) & np.isfinite(found).all(axis=0)
        seen, expected, low, high = found[:, mine]
        tail = f" ({arm})" if arm != "" else ""
        ax.fill_between(at[mine], low, high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(at[mine], expected, color=colour, label=f"expected, 95 % of replicates{tail}")
        ax.scatter(at[mine], seen, color=colour, marker=marker, s=14, label=f"observed{tail}")
    return ax
