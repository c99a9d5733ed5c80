"""Correlation of measurements in a series over time, fitted beside observed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, listed
from bayesmixed.axes import Axis
from bayesmixed.fit import Fit
from bayesmixed.plots import BLUE, GREY, ORANGE
from bayesmixed.reports._lags import (
    Pairs,
    Rows,
    by_lag,
    by_pair,
    fitted,
    pairs_of,
    residuals_of,
    times_of,
)
from bayesmixed.reports._report import Picture, Report, convergence_caveats, interval
from bayesmixed.series import Series
from bayesmixed.structure import dim_of

type Floats = NDArray[np.float64]

_MOST_VISITS = 12
_MOST_CELLS = 24
_LAG = "lag"


def residual_correlation(fit: Fit) -> Report:
    r"""Residual correlations between visits, or by lag where there are many visits.

    The fitted correlation is that of the model's structure, in every draw. The observed one is of
    the residuals :math:`y - \hat\eta` (with the groups' own effects) at posterior means, over
    :math:`\hat\sigma`: Pearson's, for two visits over the series that have both, for a lag over
    all such pairs.

    Of a `Product` each factor is shown by itself, from pairs that differ in nothing else: two
    outcomes at the same visit, two visits of the same outcome.

    Parameters
    ----------
    fit : Fit
        A fit with ``residual=``.

    Returns
    -------
    Report
        Rows (arm, visit, other) or, beyond 12 visits and for places in space, (arm, lag): fitted
        mean, sd and interval, ``observed``, and the number of ``pairs`` that it is from. Of a
        product rows (arm, factor, visit, other), where ``visit`` is ``"lag"`` beyond 12 visits.
        Pictures: ``matrix`` (up to 12 visits; above the diagonal observed, below fitted), of a
        product one for each factor, by its column, and ``cells`` (up to 24 pairs of an outcome
        and a visit), where an observed pattern that is no product shows; ``correlogram`` and
        ``semivariogram`` (half the mean square of the difference of two standardised residuals by
        their distance, over the fitted 1 - correlation), which is the clearer one where times are
        irregular, of a product over its second factor.

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
        if fit.spec.covariances:
            raise BayesmixedError(
                f"In this model effects are correlated ({listed(fit.spec.covariances)}), and not "
                "residuals, so nothing is observed that could stand beside their correlations. "
                "summary() has the parameters of these."
            )
        raise BayesmixedError(
            "This model's residuals are independent given the effects of its groups. Fit it with "
            'residual=, such as bm.AR1(time="visit", within="patient").'
        )
    times = times_of(series)
    pairs = pairs_of(series, times, residuals_of(fit))
    rows = _rows(series, times)
    last = max(k for k, axis in enumerate(series.axes) if axis.size > 1)
    lags: Rows = {(_LAG, *key): where for key, where in by_lag(series, times, last).items()}
    draws, mean = fitted(fit, series, times, rows | lags)
    curves = {key: draws[key] for key in lags}
    over = series, series.axes[last], lags
    labelled = {key: xr.DataArray(draws[key], dims=("chain", "draw")) for key in rows}
    table = {
        key: {
            **{k: float(v) for k, v in interval(labelled[key]).items()},
            "observed": pairs.correlation(arm, at),
            "pairs": int(pairs.counts[arm][at].sum()),
        }
        for key, (arm, at) in rows.items()
    }
    frame = pd.DataFrame(table).T.astype({"pairs": int})
    frame.index = frame.index.set_names(_levels(series))
    if series.structure.by is None:
        frame = frame.droplevel("arm")
    shown = _matrices(series, times, frame, mean, pairs) if len(series.arms) == 1 else {}
    within = _subject(series)
    return Report(
        "Residual correlation",
        frame,
        xr.Dataset({" ".join(str(p) for p in k if p != ""): v for k, v in labelled.items()}),
        f"Correlation of residuals of one {within}, given the "
        f"predictors and the groups' effects: as fitted by {series.structure} (posterior means and "
        "95 % equal-tailed intervals), and as observed in the residuals at posterior means.",
        (
            "Observed correlations are of residuals from the same fit, so they are no independent "
            "check, and those of few pairs are rough.",
            *convergence_caveats(fit),
        ),
        ("Diggle, Heagerty, Liang & Zeger (2002), Analysis of Longitudinal Data, ch. 3.",),
        {
            **shown,
            "correlogram": partial(_correlogram, *over, curves, pairs),
            "semivariogram": partial(
                _semivariogram, series, series.axes[last], lags, curves, pairs
            ),
        },
    )


def _subject(series: Series) -> str:
    """Whose residuals they are, and where two of them differ."""
    if len(series.axes) == 1:
        return f"{series.structure.within} at two visits"
    names = " or two of ".join(axis.name for axis in series.axes)
    return f"{series.structure.within} at two of {names}, the other being the same"


def _many(axis: Axis) -> bool:
    return axis.size > _MOST_VISITS or len(axis.structure.columns) > 1


def _rows(series: Series, times: Floats) -> Rows:
    """What the table has a row for, by arm and, of a product, by factor."""
    if len(series.axes) == 1:
        (axis,) = series.axes
        return by_lag(series, times) if _many(axis) else by_pair(series, times)
    found: Rows = {}
    for k, axis in enumerate(series.axes):
        way, mark = (by_lag, (_LAG,)) if _many(axis) else (by_pair, ())
        if axis.size > 1:
            own = way(series, times, k)
            found |= {(arm, axis.name, *mark, *key): at for (arm, *key), at in own.items()}
    return found


def _levels(series: Series) -> list[str]:
    """Names of the table's levels."""
    if len(series.axes) > 1:
        return ["arm", "factor", "visit", "other"]
    return ["arm", "lag"] if _many(series.axes[0]) else ["arm", "visit", "other"]


def _matrices(
    series: Series, times: Floats, table: pd.DataFrame, mean: Floats, pairs: Pairs
) -> dict[str, Picture]:
    """Pictures of matrices: of visits, or of each factor's and of both together."""
    found: dict[str, Picture] = {}
    for axis in series.axes:
        if _many(axis) or axis.size < 2:
            continue
        labels = axis.labels[dim_of("visit", axis.column)]
        own = table if not axis.column else table.xs(axis.name, level="factor")
        both = np.full((2, axis.size, axis.size), np.nan)
        columns = own["mean"].to_numpy(), own["observed"].to_numpy()
        for (one, other), *values in zip(own.index.to_flat_index(), *columns, strict=True):
            at = labels.index(one), labels.index(other)
            both[:, *at] = both[:, *at[::-1]] = values
        found[axis.name if axis.column else "matrix"] = partial(_matrix, axis.name, labels, *both)
    if len(series.axes) > 1 and len(times) <= _MOST_CELLS:
        cells = range(len(times))
        observed = np.array([[pairs.correlation(0, (i, j)) for j in cells] for i in cells])
        name = ", ".join(axis.name for axis in series.axes)
        found["cells"] = partial(_matrix, name, _cells(series, times), mean[0], observed)
    return found


def _cells(series: Series, times: Floats) -> list[str]:
    """Labels of the distinct visits of a product."""
    parts, first = [], 0
    for axis in series.axes:
        own = times[:, first : first + len(axis.structure.columns)]
        first += own.shape[1]
        labels = axis.labels[dim_of("visit", axis.column)]
        where = np.unique(own, axis=0, return_inverse=True)[1].ravel()
        parts.append([str(labels[k]) for k in where])
    return [", ".join(each) for each in zip(*parts, strict=True)]


def _matrix(
    name: str, labels: list[Any], fitted: Floats, observed: Floats, ax: Axes | None
) -> Axes:
    """Fitted correlations below the diagonal, observed ones above it."""
    size = len(labels)
    texts = [str(label) for label in labels]
    many = size >= _MOST_VISITS
    if ax is None:
        side = max((0.42 if many else 0.65) * size, 2.8)
        wide = 0.08 * max(map(len, texts))
        figure = (1.4 + side + wide, 0.7 + side + (wide if _is_long(texts) else 0.0))
        _, ax = plt.subplots(figsize=figure, layout="constrained")
    shown = np.where(np.tri(size, dtype=bool), fitted, observed)
    np.fill_diagonal(shown, 1.0)
    image = ax.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1)
    for i, j in np.ndindex(size, size):
        if i != j and np.isfinite(shown[i, j]):
            dark = abs(shown[i, j]) > 0.6
            ax.text(j, i, f"{shown[i, j]:.2f}", ha="center", va="center", fontsize=6 if many else 8,
                    color="white" if dark else "black")  # fmt: skip
    ax.set_xticks(range(size), texts, rotation=90 if _is_long(texts) else 0)
    ax.set_yticks(range(size), texts)
    ax.set_xlabel(f"{name} (above the diagonal: observed)")
    ax.set_ylabel(f"{name} (below: fitted)")
    ax.figure.colorbar(image, ax=ax, label="correlation", shrink=0.8)
    return ax


def _is_long(texts: list[str]) -> bool:
    """Whether labels beside each other would overlap."""
    return max(map(len, texts)) > 6


def _correlogram(
    series: Series,
    axis: Axis,
    lags: Rows,
    curves: Mapping[tuple[Any, ...], Floats],
    pairs: Pairs,
    ax: Axes | None,
) -> Axes:
    """Fitted correlations with their 95 % band over the observed ones, by distance in time."""
    ax = _by_distance(series, axis, lags, curves, pairs.correlation, ax)
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.set_ylabel("residual correlation")
    return ax


def _semivariogram(
    series: Series,
    axis: Axis,
    lags: Rows,
    curves: Mapping[tuple[Any, ...], Floats],
    pairs: Pairs,
    ax: Axes | None,
) -> Axes:
    """Half the mean square of differences of standardised residuals, over 1 - correlation."""
    left = {key: 1 - values for key, values in curves.items()}
    ax = _by_distance(series, axis, lags, left, pairs.semivariance, ax)
    ax.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
    ax.set_ylim(bottom=0)
    ax.set_ylabel("semivariance of standardised residuals")
    return ax


def _by_distance(
    series: Series,
    axis: Axis,
    lags: Rows,
    fitted: Mapping[tuple[Any, ...], Floats],
    observed: Callable[[int, Any], float],
    ax: Axes | None,
) -> Axes:
    """A fitted function of distance with its 95 % band, over observed values."""
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    styles = zip((BLUE, ORANGE, GREY) * len(series.arms), "osD^v" * len(series.arms), strict=False)
    for (a, arm), (colour, marker) in zip(enumerate(series.arms), styles, strict=False):
        mine = {key[-1]: key for key, (own, _) in lags.items() if own == a}
        at = np.array(list(mine), dtype=float)
        curve = np.stack([fitted[key] for key in mine.values()], axis=-1)
        low, high = np.quantile(curve, [0.025, 0.975], axis=(0, 1))
        points = [observed(a, lags[key][1]) for key in mine.values()]
        tail = f" ({arm})" if arm != "" else ""
        ax.fill_between(at, low, high, color=colour, alpha=0.25, linewidth=0)
        ax.plot(at, curve.mean(axis=(0, 1)), color=colour, label=f"fitted, 95 % band{tail}")
        ax.scatter(at, points, color=colour, marker=marker, s=14, label=f"observed{tail}")
    ax.set_xlabel(f"distance in {axis.name}" + (" (visits)" if axis.structure.counted else ""))
    if axis.structure.counted:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(fontsize=8, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
