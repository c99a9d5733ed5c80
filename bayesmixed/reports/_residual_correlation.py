"""Correlation of measurements in a series over time, fitted beside observed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError
from bayesmixed.fit import Fit
from bayesmixed.plots import BLUE, GREY, ORANGE
from bayesmixed.reports._lags import (
    Pairs,
    by_lag,
    by_pair,
    fitted,
    pairs_of,
    residuals_of,
    times_of,
)
from bayesmixed.reports._report import Report, convergence_caveats, interval
from bayesmixed.series import Series

type Floats = NDArray[np.float64]

_MOST_VISITS = 12


def residual_correlation(fit: Fit) -> Report:
    r"""Residual correlations between visits, or by lag where there are many visits.

    The fitted correlation is that of the model's structure, in every draw. The observed one is of
    the residuals :math:`y - \hat\eta` (with the groups' own effects) at posterior means, over
    :math:`\hat\sigma`: Pearson's, for two visits over the series that have both, for a lag over
    all such pairs.

    Parameters
    ----------
    fit : Fit
        A fit with ``residual=``.

    Returns
    -------
    Report
        Rows (arm, visit, other) or, beyond 12 visits and for places in space, (arm, lag): fitted
        mean, sd and interval, ``observed``, and the number of ``pairs`` that it is from.
        Pictures: ``matrix`` (up to 12 visits; above the diagonal observed, below fitted),
        ``correlogram`` and ``semivariogram`` (half the mean square of the difference of two
        standardised residuals by their distance, over the fitted 1 - correlation), which is the
        clearer one where times are irregular.

    Raises
    ------
    BayesmixedError
        If the fit has no residual structure.

    References
    ----------
    .. [1] Diggle, Heagerty, Liang & Zeger (2002), Analysis of Longitudinal Data, 2nd ed., ch. 3.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("orthodont")
    >>> ar1 = bm.AR1(time="age", within="Subject")
    >>> model = bm.Model("distance ~ age * Sex", data, residual=ar1)
    >>> fit = model.fit(draws=500, tune=500, chains=2, seed=1)
    >>> report = bm.residual_correlation(fit)
    >>> len(report.table)
    6
    """
    series = fit.design.series
    if series is None:
        raise BayesmixedError(
            "This model's residuals are independent given the effects of its groups. Fit it with "
            'residual=, such as bm.AR1(time="visit", within="patient").'
        )
    times = times_of(series)
    P, pairs = fitted(fit, series, times), pairs_of(series, times, residuals_of(fit))
    many = len(times) > _MOST_VISITS or times.shape[1] > 1
    rows = by_lag(series, times) if many else by_pair(series)
    table, draws = {}, {}
    for key, (arm, at) in rows.items():
        mine = P[:, :, arm][..., at[0], at[1]].mean(axis=-1)
        found = xr.DataArray(mine, dims=("chain", "draw"))
        draws[" ".join(str(part) for part in key if part != "")] = found
        table[key] = {
            **{k: float(v) for k, v in interval(found).items()},
            "observed": pairs.correlation(arm, at),
            "pairs": int(pairs.counts[arm][at].sum()),
        }
    frame = pd.DataFrame(table).T.astype({"pairs": int})
    frame.index = frame.index.set_names(["arm", "lag"] if many else ["arm", "visit", "other"])
    if series.structure.by is None:
        frame = frame.droplevel("arm")
    pictures = {
        "correlogram": partial(correlogram, series, times, P, pairs),
        "semivariogram": partial(_semivariogram, series, times, P, pairs),
    }
    if not many and len(series.arms) == 1:
        visits = range(len(times))
        observed = np.array([[pairs.correlation(0, (i, j)) for j in visits] for i in visits])
        matrix = partial(_matrix, series, P[:, :, 0].mean(axis=(0, 1)), observed)
        pictures = {"matrix": matrix, **pictures}
    return Report(
        "Residual correlation",
        frame,
        xr.Dataset(draws),
        f"Correlation of residuals of one {series.structure.within} at two visits, given the "
        f"predictors and the groups' effects: as fitted by {series.structure} (posterior means and "
        "95 % equal-tailed intervals), and as observed in the residuals at posterior means.",
        (
            "Observed correlations are of residuals from the same fit, so they are no independent "
            "check, and those of few pairs are rough.",
            *convergence_caveats(fit),
        ),
        ("Diggle, Heagerty, Liang & Zeger (2002), Analysis of Longitudinal Data, ch. 3.",),
        pictures,
    )


def _matrix(series: Series, fitted: Floats, observed: Floats, ax: Axes | None) -> Axes:
    """Fitted correlations below the diagonal, observed ones above it."""
    size = series.size
    if ax is None:
        _, ax = plt.subplots(figsize=(1.2 + 0.7 * size, 1 + 0.62 * size), layout="constrained")
    shown = np.where(np.tri(size, dtype=bool), fitted, observed)
    image = ax.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1)
    for i, j in np.ndindex(size, size):
        if i != j and np.isfinite(shown[i, j]):
            dark = abs(shown[i, j]) > 0.6
            ax.text(j, i, f"{shown[i, j]:.2f}", ha="center", va="center", fontsize=8,
                    color="white" if dark else "black")  # fmt: skip
    labels = [str(v) for v in series.labels("visit")]
    ax.set_xticks(range(size), labels)
    ax.set_yticks(range(size), labels)
    name = ", ".join(series.structure.columns)
    ax.set_xlabel(f"{name} (above the diagonal: observed)")
    ax.set_ylabel(f"{name} (below: fitted)")
    ax.figure.colorbar(image, ax=ax, label="correlation", shrink=0.8)
    return ax


def correlogram(series: Series, times: Floats, P: Floats, pairs: Pairs, ax: Axes | None) -> Axes:
    """Fitted correlations with their 95 % band over the observed ones, by distance in time."""
    ax = _by_distance(series, times, P, pairs.correlation, ax)
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.set_ylabel("residual correlation")
    return ax


def _semivariogram(series: Series, times: Floats, P: Floats, pairs: Pairs, ax: Axes | None) -> Axes:
    """Half the mean square of differences of standardised residuals, over 1 - correlation."""
    ax = _by_distance(series, times, 1 - P, pairs.semivariance, ax)
    ax.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
    ax.set_ylim(bottom=0)
    ax.set_ylabel("semivariance of standardised residuals")
    return ax


def _by_distance(
    series: Series,
    times: Floats,
    fitted: Floats,
    observed: Callable[[int, Any], float],
    ax: Axes | None,
) -> Axes:
    """A fitted function of distance with its 95 % band, over observed values."""
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    styles = zip((BLUE, ORANGE, GREY) * len(series.arms), "osD^v" * len(series.arms), strict=False)
    for (a, arm), (colour, marker) in zip(enumerate(series.arms), styles, strict=False):
        mine = [(lag, at) for (own, lag), (_, at) in by_lag(series, times).items() if own == arm]
        lags = np.array([lag for lag, _ in mine], dtype=float)
        curves = np.stack([fitted[:, :, a][..., i, j].mean(axis=-1) for _, (i, j) in mine], axis=-1)
        low, high = np.quantile(curves, [0.025, 0.975], axis=(0, 1))
        points = [observed(a, at) for _, at in mine]
        tail = f" ({arm})" if arm != "" else ""
        ax.fill_between(lags, low, high, color=colour, alpha=0.25, linewidth=0)
        ax.plot(lags, curves.mean(axis=(0, 1)), color=colour, label=f"fitted, 95 % band{tail}")
        ax.scatter(lags, points, color=colour, marker=marker, s=14, label=f"observed{tail}")
    ax.set_xlabel(f"distance in {', '.join(series.structure.columns)}"
                  + (" (visits)" if series.structure.counted else ""))  # fmt: skip
    ax.legend(fontsize=8, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
