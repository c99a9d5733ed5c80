"""Posterior predictive checks: the data that were seen against data that the model draws anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesmixed._errors import DataError, lookup
from bayesmixed.fit import Fit
from bayesmixed.linpred import Groups, choices, linear_predictor
from bayesmixed.plots import BLUE, GREY, ORANGE
from bayesmixed.reports._replicates import replicates
from bayesmixed.reports._report import Picture, Report, convergence_caveats, interval

type Floats = NDArray[np.float64]
type Statistic = Callable[[Floats], Floats]

_MOST_LABELS = 60
_BINS = 10

#: Statistics by name, each over the last axis.
STATISTICS: Mapping[str, Statistic] = MappingProxyType(
    {
        "mean": lambda y: y.mean(axis=-1),
        "sd": lambda y: y.std(axis=-1),
        "median": lambda y: np.median(y, axis=-1),
        "min": lambda y: y.min(axis=-1),
        "max": lambda y: y.max(axis=-1),
        "zeros": lambda y: (y == 0).mean(axis=-1),
    }
)
_WORDS = {"sd": "standard deviation", "zeros": "share of zeros", "min": "minimum", "max": "maximum"}


def check(
    fit: Fit,
    by: str | pd.Series[Any] | None = None,
    statistic: str | Statistic | None = None,
    groups: Groups = "existing",
    seed: int | None = None,
) -> Report:
    r"""Statistics of the outcomes against those of outcomes that the model draws anew.

    Parameters
    ----------
    fit : Fit
        The fit.
    by : str or pandas.Series, optional
        Where to compare: a grouping, a column of the model (numbers with many values in tenths),
        ``"fitted"`` for tenths of the expected outcome (calibration), or any labels with the
        index of the data. All rows together unless given.
    statistic : str or callable, optional
        ``"mean"``, ``"sd"``, ``"median"``, ``"min"``, ``"max"``, ``"zeros"``, or a function of
        arrays that acts on the last axis. By default several for all rows, and the mean `by` group.
        Successes out of trials count as proportions.
    groups : {"existing", "new", "average"} or mapping of str to these
        As for `posterior_predictive`. Effects that are known from the same data fit too well;
        drawn anew ("mixed" replication [2]_) they show whether groups are as alike as the model
        has them.
    seed : int, optional
        The same seed gives the same report.

    Returns
    -------
    Report
        ``observed`` beside mean, sd and interval of the replicated values; ``p``, the share of
        these that are higher (ties count half) [1]_; ``outside``, whether the observed one is
        outside the interval.

    Raises
    ------
    UnknownNameError
        If there is no such grouping, column or statistic.
    DataError
        If labels do not cover the rows.

    References
    ----------
    .. [1] Gelman, Meng & Stern (1996), Stat. Sin. 6:733.
    .. [2] Marshall & Spiegelhalter (2003), Stat. Med. 22:1649.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> fit = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1)
    >>> report = bm.check(fit, seed=1)
    >>> bool(report.table.loc["sd", "outside"])
    False
    >>> by_person = bm.check(fit, by="Subject", statistic="sd", seed=1)
    """
    fit.design.need_rows("A posterior predictive check")
    named = _statistics(fit, by, statistic)
    labels, index = _cells(fit, by) if by is not None else (None, np.zeros(len(fit.design.y), int))
    order = np.argsort(index, kind="stable")
    cuts = np.flatnonzero(np.diff(index[order])) + 1
    scale = np.ones(len(fit.design.y)) if fit.design.trials is None else fit.design.trials

    def worked_out(y: Floats) -> Floats:
        parts = np.split((y / scale)[..., order], cuts, axis=-1)
        return np.stack([f(part) for f in named.values() for part in parts], axis=-1)

    name = "statistic" if labels is None else str(labels.name)
    drawn = xr.DataArray(
        np.concatenate([worked_out(y) for y in replicates(fit, groups, seed)], axis=1),
        dims=("chain", "draw", name),
        coords={name: list(named) if labels is None else np.asarray(labels)},
    )
    table = _table(drawn, worked_out(fit.design.y))
    if labels is not None:
        table.insert(0, "n", np.bincount(index))
    what = next(iter(named)) if labels is not None else "statistic"
    return Report(
        "Posterior predictive check" + (f" by {name}" if labels is not None else ""),
        table,
        drawn.to_dataset(name="replicated"),
        _caption(fit, table, drawn, what, groups),
        (*_caveats(fit, by, groups), *convergence_caveats(fit)),
        (
            "Gelman, Meng & Stern (1996), Statistica Sinica 6:733-807.",
            "Marshall & Spiegelhalter (2003), Statistics in Medicine 22:1649-1660.",
        ),
        _pictures(fit, table, drawn, by, what),
    )


def _statistics(fit: Fit, by: Any, statistic: str | Statistic | None) -> dict[str, Statistic]:
    if callable(statistic):
        return {getattr(statistic, "__name__", "statistic"): statistic}
    if statistic is not None:
        return {statistic: lookup(STATISTICS, statistic, "statistic")}
    if by is not None:
        return {"mean": STATISTICS["mean"]}
    y = fit.design.y
    names = ["mean", "sd"] if len(np.unique(y)) == 2 else ["mean", "sd", "median", "min", "max"]
    return {n: STATISTICS[n] for n in [*names, *(["zeros"] if (y == 0).any() else [])]}


def _cells(fit: Fit, by: str | pd.Series[Any]) -> tuple[pd.Index[Any], NDArray[np.intp]]:
    """Labels of the cells, and the cell of each row."""
    frame, groups = fit.design.table.frame, {g.name: g for g in fit.design.groups}
    if isinstance(by, str):
        if by in groups:
            return pd.Index(groups[by].labels, name=by), groups[by].index
        known = {str(c): frame[c] for c in frame.columns}
        if _is_fitted(fit, by):
            known["fitted"] = pd.Series(_fitted(fit), frame.index)
        lookup(dict.fromkeys([*groups, *known]), by, "grouping or column")
        values = known[by].rename(by)
    else:
        missing = int((~frame.index.isin(by.index)).sum()) or int(by.loc[frame.index].isna().sum())
        if missing or not by.index.is_unique:
            raise DataError(
                f"The labels in by= must have the index of the data, each once and none missing; "
                f"{missing:,} of {len(frame):,} rows have no label."
            )
        values = by.loc[frame.index].rename("by" if by.name is None else str(by.name))
    if pd.api.types.is_numeric_dtype(values.dtype) and values.nunique() > 2 * _BINS:
        values = pd.qcut(values, _BINS, duplicates="drop")
    index, labels = pd.factorize(values, sort=True)
    texts = [
        f"{label.left:.4g} to {label.right:.4g}" if isinstance(label, pd.Interval) else str(label)
        for label in labels
    ]
    names: pd.Index[Any] = pd.Index(texts, name=values.name)
    return names, np.asarray(index, dtype=np.intp)


def _is_fitted(fit: Fit, by: Any) -> bool:
    """Whether the cells are those of the expected outcome, and not of a column of that name."""
    return isinstance(by, str) and by == "fitted" and by not in fit.design.table.frame.columns


def _fitted(fit: Fit) -> Floats:
    """Posterior mean of every row's expected outcome, as a proportion where there are trials."""
    design = fit.design
    total, count = np.zeros(len(design.y)), 0
    for piece in fit.pieces():
        mean = linear_predictor(piece).mean()
        total += mean.sum(axis=(0, 1))
        count += mean.shape[0] * mean.shape[1]
    return total / count / (1.0 if design.trials is None else design.trials)


def _table(drawn: xr.DataArray, observed: Floats) -> pd.DataFrame:
    numbers = {k: v.to_numpy() for k, v in interval(drawn).items()}
    above = (drawn.to_numpy() > observed).mean(axis=(0, 1))
    ties = (drawn.to_numpy() == observed).mean(axis=(0, 1))
    name = str(drawn.dims[-1])
    return pd.DataFrame(
        {
            "observed": observed,
            **numbers,
            "p": above + 0.5 * ties,
            "outside": (observed < numbers["eti95_lb"]) | (observed > numbers["eti95_ub"]),
        },
        index=pd.Index(drawn[name].to_numpy(), name=name),
    )


def _caption(fit: Fit, table: pd.DataFrame, drawn: xr.DataArray, what: str, groups: Groups) -> str:
    outcome = fit.spec.response if fit.design.trials is None else f"proportion {fit.spec.response}"
    whose = {
        n: {"existing": "its own", "new": "new", "average": "no"}[c]
        for n, c in choices(fit.design, groups).items()
    }
    effects = ", ".join(f"{own} effects of {name}" for name, own in whose.items())
    words = f"Observed {_WORDS.get(what, what)} of {outcome} against that of replicated outcomes"
    words += f" of the same rows ({effects})." if effects else " of the same rows."
    words += (
        " Posterior predictive means and 95 % equal-tailed intervals; p is the share of replicated "
        "values above the observed one, near 0 or 1 where the model does not fit."
    )
    if what == "statistic":
        return words
    values = drawn.to_numpy()
    lower, upper = table["eti95_lb"].to_numpy(), table["eti95_ub"].to_numpy()
    expected = ((values < lower) | (values > upper)).sum(axis=-1)
    low, high = np.quantile(expected, [0.025, 0.975])
    return (
        f"{words} {int(table['outside'].sum())} of {len(table):,} are outside their intervals, "
        f"where the model foretells {expected.mean():.1f} ({low:.0f} to {high:.0f})."
    )


def _caveats(fit: Fit, by: Any, groups: Groups) -> list[str]:
    found = [
        "The same data made the posterior and the check, so p is nearer 0.5 than it would be for "
        "new data; a value that is extreme all the same is a misfit."
    ]
    whose = choices(fit.design, groups)
    if isinstance(by, str) and whose.get(by) == "existing":
        found.append(
            f"Each {by} keeps the effects that were estimated from it, so its mean nearly always "
            f'fits. Draw them anew to check how {by} varies: groups={{"{by}": "new"}}.'
        )
    if by is None and len(np.unique(fit.design.y)) == 2:
        found.append(
            "A yes/no outcome has no spread of its own to check; look at groups, or at calibration "
            '(by="fitted").'
        )
    return found


def _pictures(
    fit: Fit, table: pd.DataFrame, drawn: xr.DataArray, by: Any, what: str
) -> dict[str, Picture]:
    outcome = fit.spec.response if fit.design.trials is None else f"proportion {fit.spec.response}"
    if by is None:
        return {
            str(name): partial(
                _histogram,
                drawn[..., k].to_numpy().ravel(),
                table["observed"].iloc[k],
                f"{_WORDS.get(str(name), name)} of {outcome}",
            )
            for k, name in enumerate(table.index)
        }
    table = (
        table.rename_axis(index=f"expected {outcome} (tenths)") if _is_fitted(fit, by) else table
    )
    ranked = by in {g.name for g in fit.design.groups} if isinstance(by, str) else False
    label = f"{_WORDS.get(what, what)} of {outcome}"
    return {"intervals": partial(_intervals, table, label, ranked)}


def _histogram(values: Floats, observed: float, label: str, ax: Axes | None) -> Axes:
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
    ax.hist(values, bins=min(40, len(np.unique(values))), color=BLUE, alpha=0.6, label="replicated")
    ax.axvline(observed, color=ORANGE, linewidth=2, label="observed")
    ax.set_xlabel(label)
    ax.set_ylabel("number of replications")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _intervals(table: pd.DataFrame, label: str, ranked: bool, ax: Axes | None) -> Axes:
    """Replicated intervals with the observed values: ranked for groups, else in their order."""
    shown = table.sort_values("mean") if ranked else table
    count, at = len(shown), np.arange(len(shown))
    if ax is None:
        width = float(np.clip(0.15 * count + 2, 6, 12))
        _, ax = plt.subplots(figsize=(width, 4), layout="constrained")
    thin = count > _MOST_LABELS
    ax.vlines(
        at,
        shown["eti95_lb"],
        shown["eti95_ub"],
        color=GREY,
        linewidth=0.6 if thin else 2,
        alpha=0.6,
        label="replicated (95 % equal-tailed interval)",
    )
    outside = shown["outside"].to_numpy()
    size = 5 if thin else 20
    for mask, colour, marker, name in (
        (~outside, BLUE, "o", "observed, inside"),
        (outside, ORANGE, "D", "observed, outside"),
    ):
        if mask.any():
            ax.scatter(
                at[mask],
                shown["observed"][mask],
                s=size,
                color=colour,
                marker=marker,
                label=name,
                zorder=3,
            )
    name = str(shown.index.name)
    if thin:
        ax.set_xticks([])
        ax.set_xlabel(f"{name} ({count:,}, in order of the replicated mean)" if ranked else name)
    else:
        ax.set_xticks(at, [str(i) for i in shown.index], rotation=90, fontsize=8)
        ax.set_xlabel(name)
    ax.set_ylabel(label)
    ax.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
