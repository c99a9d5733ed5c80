"""Correlation of measurements in a series over time, fitted beside observed."""

from __future__ import annotations

from dataclasses import dataclass
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
from bayesmixed.reports._report import Report, convergence_caveats, interval
from bayesmixed.series import Series

type Floats = NDArray[np.float64]

_MOST_VISITS = 12
_FEWEST_PAIRS = 3


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
        Pictures: ``matrix`` (up to 12 visits; above the diagonal observed, below fitted) and
        ``correlogram``.

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
    times = _times(series)
    fitted, pairs = _fitted(fit, series, times), _pairs(fit, series, times)
    many = len(times) > _MOST_VISITS or times.shape[1] > 1
    rows = _by_lag(series, times) if many else _by_pair(series)
    table, draws = {}, {}
    for key, (arm, at) in rows.items():
        mine = fitted[:, :, arm][..., at[0], at[1]].mean(axis=-1)
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
    pictures = {"correlogram": partial(_correlogram, series, times, fitted, pairs)}
    if not many and len(series.arms) == 1:
        visits = range(len(times))
        observed = np.array([[pairs.correlation(0, (i, j)) for j in visits] for i in visits])
        matrix = partial(_matrix, series, fitted[:, :, 0].mean(axis=(0, 1)), observed)
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


def _times(series: Series) -> Floats:
    """Coordinates of the distinct visits, shape (visits, columns)."""
    if series.structure.counted:
        return np.arange(series.size, dtype=np.float64)[:, None]
    inside = np.arange(series.times.shape[1]) < series.lengths[:, None]
    return np.unique(series.times[inside], axis=0)


def _fitted(fit: Fit, series: Series, times: Floats) -> Floats:
    """Correlations of the visits, shape (chain, draw, arm, visit, visit)."""
    posterior = fit.posterior
    names = [p.name for p in series.parameters]
    shape = (posterior.sizes["chain"], posterior.sizes["draw"])
    values = {name: posterior[name].to_numpy() for name in names}
    found = np.empty((*shape, len(series.arms), len(times), len(times)))
    for at in np.ndindex(*shape, len(series.arms)):
        own = at if series.structure.by is not None else at[:2]
        found[at] = series.structure.matrix({n: v[own] for n, v in values.items()}, times)
    return found


@dataclass(frozen=True)
class _Pairs:
    """Moments of the residuals r of series that have both of two visits, each (arm, visit, other).

    Parameters
    ----------
    products : array
        Sums of r_visit r_other.
    sums, squares : array
        Sums of r_visit, and of its square, where there is an r_other.
    counts : array of int
        Number of such series.
    """

    products: Floats
    sums: Floats
    squares: Floats
    counts: NDArray[np.intp]

    def correlation(self, arm: int, at: tuple[Any, Any]) -> float:
        """Pearson's, over all pairs of the visits ``at[0]`` with the visits ``at[1]``."""
        back = at[::-1]
        n = float(self.counts[arm][at].sum())
        if n < _FEWEST_PAIRS:
            return np.nan
        one, other = self.sums[arm][at].sum() / n, self.sums[arm][back].sum() / n
        first = self.squares[arm][at].sum() / n - one**2
        second = self.squares[arm][back].sum() / n - other**2
        if min(first, second) <= 0:
            return np.nan
        return float((self.products[arm][at].sum() / n - one * other) / np.sqrt(first * second))


def _pairs(fit: Fit, series: Series, times: Floats) -> _Pairs:
    """Moments of standardised residuals, at posterior means."""
    design, links = fit.design, fit.design.links
    parameters = fit.parameters()
    mean = np.asarray(links["mu"].inverse(parameters["mu"])).mean(axis=(0, 1))
    sd = np.asarray(links["sigma"].inverse(parameters["sigma"])).mean(axis=(0, 1))
    residual = (design.y - mean) / sd
    where = {tuple(time): i for i, time in enumerate(times)}
    shape = (len(series.arms), len(times), len(times))
    found = _Pairs(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape, np.intp))
    first = 0
    patterns = zip(series.lengths, series.counts, series.arm, series.times, strict=True)
    for length, count, arm, visits in patterns:
        at = np.array([where[tuple(v)] for v in visits[:length]])
        here = np.ix_(at, at)
        r = residual[series.order[first : first + length * count]].reshape(count, length)
        found.products[arm][here] += r.T @ r
        found.sums[arm][here] += r.sum(axis=0)[:, None]
        found.squares[arm][here] += (r**2).sum(axis=0)[:, None]
        found.counts[arm][here] += count
        first += length * count
    return found


type _Where = tuple[int, tuple[NDArray[np.intp], NDArray[np.intp]]]


def _by_pair(series: Series) -> dict[tuple[object, ...], _Where]:
    labels = series.labels("visit")
    return {
        (arm, labels[i], labels[j]): (a, (np.array([i]), np.array([j])))
        for a, arm in enumerate(series.arms)
        for i in range(len(labels))
        for j in range(i + 1, len(labels))
    }


def _by_lag(series: Series, times: Floats) -> dict[tuple[object, ...], _Where]:
    """Pairs of visits in up to 30 classes of distance; of counted visits each lag is one."""
    i, j = np.triu_indices(len(times), 1)
    apart = np.linalg.norm(times[i] - times[j], axis=1)
    if series.structure.counted:
        classes: dict[float, NDArray[np.bool_]] = {
            int(lag): apart == lag for lag in np.unique(apart)
        }
    else:
        edges = np.linspace(0, apart.max(), 31)
        which = np.digitize(apart, edges[1:-1])
        classes = {round(float(apart[which == k].mean()), 3): which == k for k in np.unique(which)}
    return {
        (arm, lag): (a, (i[mine], j[mine]))
        for a, arm in enumerate(series.arms)
        for lag, mine in classes.items()
    }


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


def _correlogram(
    series: Series,
    times: Floats,
    fitted: Floats,
    pairs: _Pairs,
    ax: Axes | None,
) -> Axes:
    """Fitted correlations with their 95 % band over the observed ones, by distance in time."""
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    styles = zip((BLUE, ORANGE, GREY) * len(series.arms), "osD^v" * len(series.arms), strict=False)
    for (a, arm), (colour, marker) in zip(enumerate(series.arms), styles, strict=False):
        mine = [(lag, at) for (own, lag), (_, at) in _by_lag(series, times).items() if own == arm]
        lags = np.array([lag for lag, _ in mine], dtype=float)
        curves = np.stack([fitted[:, :, a][..., i, j].mean(axis=-1) for _, (i, j) in mine], axis=-1)
        low, high = np.quantile(curves, [0.025, 0.975], axis=(0, 1))
        points = [pairs.correlation(a, at) for _, at in mine]
        tail = f" ({arm})" if arm != "" else ""
        ax.fill_between(lags, low, high, color=colour, alpha=0.25, linewidth=0)
        ax.plot(lags, curves.mean(axis=(0, 1)), color=colour, label=f"fitted, 95 % band{tail}")
        ax.scatter(lags, points, color=colour, marker=marker, s=14, label=f"observed{tail}")
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.set_xlabel(f"distance in {', '.join(series.structure.columns)}"
                  + (" (visits)" if series.structure.counted else ""))  # fmt: skip
    ax.set_ylabel("residual correlation")
    ax.legend(fontsize=8, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
