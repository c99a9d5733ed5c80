"""Correlation over time before and after the mean model takes the season out."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, listed, unknown
from bayesmixed.fit import Fit
from bayesmixed.plots import BLUE, GREY, ORANGE
from bayesmixed.reports._lags import by_lag, fitted, pairs_of, residuals_of, sd_of, times_of
from bayesmixed.reports._report import Report, convergence_caveats, interval
from bayesmixed.series import Series

type Floats = NDArray[np.float64]
type Term = tuple[str, str]

_SEASONAL = ("harmonic(", "cc(")


def season(fit: Fit, terms: str | Sequence[str] | None = None) -> Report:
    r"""Residual correlation by lag, before and after the mean takes the season out.

    After: the correlation of the residuals :math:`r = y - \hat\eta` (with the groups' effects, at
    posterior means) of two measurements a lag apart. Before: the same of r plus the seasonal part
    :math:`\sum_{k \in S} x_k \hat\beta_k` of the mean, given back. A season that the mean misses
    shows as waves with its period; what is left after it is for the residual structure, whose
    fitted correlation stands beside it.

    Parameters
    ----------
    fit : Fit
        A fit with ``residual=`` (bm.Independent, where no correlation is fitted).
    terms : str or sequence of str, optional
        The seasonal terms as written in the formula, such as ``"factor(month)"``; all with
        ``harmonic(...)`` or ``cc(...)`` unless given. Interactions with them count too.

    Returns
    -------
    Report
        Rows (arm, lag): ``before``, ``after`` and the number of ``pairs``, and ``mean``, ``sd``
        and interval of the fitted correlation. Draws: the fitted correlation, dims (arm, lag,
        chain, draw), and ``season`` (time, chain, draw), the seasonal part averaged over the rows
        at each time. Pictures ``correlogram`` and ``season``. Printed are the first lag, half and
        whole seasons, and where most is left; ``table`` has all.

    Raises
    ------
    BayesmixedError
        If the fit has no residual structure, or no such terms.

    References
    ----------
    .. [1] Diggle, Heagerty, Liang & Zeger (2002), Analysis of Longitudinal Data, 2nd ed., ch. 3.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("influenza")
    >>> formula = "log(cases + 0.5) ~ harmonic(period, period=13, order=2)"
    >>> residual = bm.AR1(time="period", within="district")
    >>> fit = bm.Model(formula, data, residual=residual).fit(seed=1)  # doctest: +SKIP
    >>> bm.season(fit).plot()  # doctest: +SKIP
    """
    series = fit.design.series
    if series is None:
        raise BayesmixedError(
            "Whose rows are a series, and when, stands in residual=, which this model has none of; "
            'fit it with bm.AR1(time="week", within="district"), or bm.Independent(...).'
        )
    if len(series.structure.columns) > 1:
        raise BayesmixedError(
            "A season is one in time, and this structure goes over "
            f"{listed(series.structure.columns)}."
        )
    chosen = _chosen(fit, terms)
    times, after = times_of(series), residuals_of(fit)
    part = _seasonal(fit, chosen)
    before = after + part.mean(axis=(0, 1)) / sd_of(fit)
    pairs = [pairs_of(series, times, r) for r in (before, after)]
    lags = by_lag(series, times)
    found, _ = fitted(fit, series, times, lags)
    curves = {key: xr.DataArray(values, dims=_DRAWS) for key, values in found.items()}
    rows = {}
    for key, (arm, at) in lags.items():
        rows[key] = {
            **dict(zip(("before", "after"), (p.correlation(arm, at) for p in pairs), strict=True)),
            "pairs": int(pairs[0].counts[arm][at].sum()),
            **{k: float(v) for k, v in interval(curves[key]).items()},
        }
    table = pd.DataFrame(rows).T.astype({"pairs": int})
    table.index = table.index.set_names(["arm", "lag"])
    if series.structure.by is None:
        table = table.droplevel("arm")
    wave = _by_time(fit, part)
    named = listed(dict.fromkeys(term for term, _ in chosen))
    unit = "visits" if series.structure.counted else f"units of {series.structure.columns[0]}"
    return Report(
        f"Season of {fit.spec.response}",
        table,
        xr.Dataset({"correlation": _stacked(curves, series.arms), "season": wave}),
        f"Correlation of residuals of one {series.structure.within} at two times, lag in {unit}: "
        f"before, with the seasonal part of the mean ({named}) given back, and after, "
        "without it, both at posterior means; and as fitted by "
        f"{series.structure} (posterior means and 95 % equal-tailed intervals).",
        (
            "Observed correlations are of residuals from the same fit, so they are no independent "
            "check of it.",
            "A season common to all series takes out less where they have seasons of their own: "
            "let it vary, as (1 + harmonic(...) | group), and compare. Correlation that stays "
            "above 0 at long lags is of levels that differ between series: add (1 | group).",
            *convergence_caveats(fit),
        ),
        ("Diggle, Heagerty, Liang & Zeger (2002), Analysis of Longitudinal Data, ch. 3.",),
        {
            "correlogram": partial(_correlogram, table, unit),
            "season": partial(_wave, wave, str(fit.spec.response), series.structure.columns[0]),
        },
        _summary(table, _in_lags(series, _periods(chosen))),
    )


# Up to as many seasons apart are printed, and as many of the largest correlations that are left.
_SEASONS, _LARGEST = 2, 3


def _periods(chosen: list[Term]) -> list[float]:
    """Lengths of the seasons that the terms name, in units of the time."""
    found = []
    for term in dict.fromkeys(term for term, _ in chosen):
        call = ast.parse(term, mode="eval").body
        if not isinstance(call, ast.Call):
            continue
        named = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
        if term.startswith("harmonic("):
            given = [ast.literal_eval(each) for each in call.args[1:2]]
            found.append(float(named.get("period", *given)))
        elif {"lower_bound", "upper_bound"} <= set(named):
            found.append(float(named["upper_bound"] - named["lower_bound"]))
    return sorted(set(found))


def _in_lags(series: Series, periods: list[float]) -> list[float]:
    """Half and whole seasons in units of the lags."""
    step = 1.0
    if series.structure.counted:
        visits = pd.Series(series.labels["visit"])
        if not pd.api.types.is_numeric_dtype(visits) or len(visits) < 2:
            return []
        step = float(visits.diff().median())
    return [k * p / step for p in periods for k in (0.5, *range(1, _SEASONS + 1))]


def _summary(table: pd.DataFrame, wanted: list[float]) -> pd.DataFrame:
    """Rows at the first lag and near those wanted, and where most is left after the mean."""
    lags = table.index.get_level_values("lag").to_numpy(dtype=float)
    # Beyond half the length pairs are few, and all of the same ends of the series.
    early = lags <= lags.max() / 2
    known = np.unique(lags[early])
    # Of two lags that are as near to half a season, the shorter.
    chosen = {known[abs(known - lag).argmin()] for lag in wanted if lag <= known.max()}
    left = table["after"].abs().groupby(lags).max()[known].drop(known[:1])
    chosen |= {known[0], *left.nlargest(_LARGEST).index}
    return pd.DataFrame(table.loc[early & np.isin(lags, list(chosen))])


_DRAWS = ("chain", "draw")


def _stacked(curves: dict[tuple[object, ...], xr.DataArray], arms: tuple[Any, ...]) -> xr.DataArray:
    lags = list(dict.fromkeys(lag for _, lag in curves))
    values = [[curves[arm, lag].to_numpy() for lag in lags] for arm in arms]
    dims, coords = ("arm", "lag", *_DRAWS), {"arm": list(arms), "lag": lags}
    return xr.DataArray(np.array(values), dims=dims, coords=coords)


def _chosen(fit: Fit, terms: str | Sequence[str] | None) -> list[Term]:
    """The seasonal terms, and the columns of each, of the population and of the groups."""
    predictor = fit.design.predictors["mu"]
    every = [*predictor.terms, *(e for r in predictor.random for e in r.effects)]
    wanted = [terms] if isinstance(terms, str) else list(terms or ())
    found: list[Term] = []
    for column in dict.fromkeys(every):
        for part in column.split(":"):
            name = part.rpartition("[")[0] or part
            if name in wanted or (not wanted and name.startswith(_SEASONAL)):
                found.append((name, column))
                break
    lost = [t for t in wanted if t not in {name for name, _ in found}]
    if lost or not found:
        names = list(dict.fromkeys(p.rpartition("[")[0] or p for c in every for p in c.split(":")))
        if lost:
            raise unknown(lost[0], names, "term of the model")
        raise BayesmixedError(
            "No term of the model is a season: write harmonic(week, period=52, order=2) in the "
            f"formula, or name the terms that are one, of {listed(names)}."
        )
    return found


def _seasonal(fit: Fit, chosen: list[Term]) -> Floats:
    """The seasonal part of the linear predictor, shape (chain, draw, row)."""
    predictor, posterior = fit.design.predictors["mu"], fit.posterior
    columns = {column for _, column in chosen}
    at = [k for k, term in enumerate(predictor.terms) if term in columns]
    total = posterior["beta"].to_numpy()[..., at] @ predictor.X[:, at].T
    for r in predictor.random:
        u = posterior[f"u_{r.name}"].to_numpy()
        for k, effect in enumerate(r.effects):
            if effect in columns:
                total = total + u[..., r.groups.index, k] * r.Z[:, k]
    return np.asarray(total)


def _by_time(fit: Fit, part: Floats) -> xr.DataArray:
    """The seasonal part averaged over the rows at each time, dims (time, chain, draw)."""
    series = fit.design.series
    assert series is not None
    times = fit.design.table.frame[series.structure.columns[0]]
    codes, labels = pd.factorize(times, sort=True)
    shares = np.zeros((len(labels), len(times)))
    shares[codes, np.arange(len(times))] = 1 / np.bincount(codes)[codes]
    return xr.DataArray(
        np.moveaxis(part @ shares.T, -1, 0),
        dims=("time", *_DRAWS),
        coords={"time": np.asarray(labels)},
    )


def _correlogram(table: pd.DataFrame, unit: str, ax: Axes | None) -> Axes:
    """Correlations before and after, over the fitted ones with their band."""
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    several = table.index.nlevels > 1
    lags = table.index.get_level_values("lag")
    # Beyond half the length pairs are few, and all of the same ends of the series.
    shown = table[lags <= lags.max() / 2]
    parts = shown.groupby(level="arm", sort=False) if several else [("", shown)]
    for k, (arm, part) in enumerate(parts):
        at = part.index.get_level_values("lag").to_numpy(dtype=float)
        tail, style = f" ({arm})" if several else "", ("-", "--", ":")[k % 3]
        for column, color in (("before", ORANGE), ("after", BLUE)):
            line = ax.plot(at, part[column], style, color=color, linewidth=1, label=column + tail)
            if len(at) <= 60:
                line[0].set(marker="o", markersize=3)
        ax.fill_between(at, part["eti95_lb"], part["eti95_ub"], color=GREY, alpha=0.25, lw=0)
        ax.plot(at, part["mean"], style, color=GREY, label=f"fitted, 95 % band{tail}")
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.set_xlabel(f"lag ({unit})")
    ax.set_ylabel("residual correlation")
    ax.legend(fontsize=8, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _wave(wave: xr.DataArray, response: str, time: str, ax: Axes | None) -> Axes:
    """The seasonal part of the mean over time, with its 95 % band."""
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
    numeric = pd.api.types.is_numeric_dtype(wave["time"].to_numpy())
    at = wave["time"].to_numpy() if numeric else np.arange(wave.sizes["time"])
    low, high = wave.quantile([0.025, 0.975], _DRAWS).to_numpy()
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.fill_between(at, low, high, color=BLUE, alpha=0.25, linewidth=0)
    ax.plot(at, wave.mean(_DRAWS), color=BLUE)
    if not numeric:
        ax.set_xticks(at, [str(v) for v in wave["time"].to_numpy()])
    ax.set_xlabel(time)
    ax.set_ylabel(f"seasonal part of {response}")
    ax.set_title("Line: mean; band: 95 % equal-tailed", fontsize=8, loc="left", color=GREY)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
