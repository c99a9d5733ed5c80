"""How a pooled effect hangs on single studies, and on their order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from bayesmixed import plots
from bayesmixed._errors import BayesmixedError, DataError, listed
from bayesmixed.fit import Fit
from bayesmixed.meta._axes import effect_axis
from bayesmixed.meta._estimates import COLUMNS, Synthesis, from_mixture, read, with_ratios
from bayesmixed.meta._grid import GridPosterior, grid_posterior
from bayesmixed.meta._subsets import Subsets, all_but_one, first_ones, stratified
from bayesmixed.reports._report import Report

type Floats = NDArray[np.float64]

_DRAWS = 1000
_MOST_LABELS = 60
ROEVER = ("Röver (2020), Journal of Statistical Software 93(6).",)


def leave_one_out(fit: Fit) -> Report:
    """The pooled effect without each study in turn.

    Parameters
    ----------
    fit : Fit
        A meta-analysis that `grid_posterior` is for, whichever way it was fitted. The priors stay
        those of the fit.

    Returns
    -------
    Report
        A row for each study left out, and one for none: mean, sd, median and interval of mu, the
        median of tau, and for logarithms of ratios median and interval of the ratio (``ratio``,
        ``ratio_lb``, ``ratio_ub``). Where flat priors leave a row without a posterior it is empty,
        and a caveat says why.

    Raises
    ------
    BayesmixedError
        If the model is another one, or fewer than three studies are there.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> trials = bm.datasets.load("bcg")
    >>> fit = bm.meta_analysis(trials, "yi", "sei", "trial", measure="RR", method="grid", seed=1)
    >>> report = bm.leave_one_out(fit)
    >>> report.table["mean"].idxmin()
    '8'
    """
    found = read(fit)
    grid = analysed(found)
    count = len(grid.labels)
    if count < 3:
        raise BayesmixedError(f"Of {count} studies none can be left out; 3 or more are needed.")
    rows = _in_order(found)
    return _report(
        "Leave-one-out analysis",
        found,
        Subsets(grid, all_but_one, profile(found)),
        np.append(0, 1 + rows),
        pd.Index(["(none)", *map(str, grid.labels[rows])], name="left out"),
        f"Pooled {found.label} without the study named, and with all of them (none left out)",
        ("Studies that move the result were not chosen beforehand; look for a reason first.",),
        whole=0,
    )


def cumulative_analysis(fit: Fit, order: ArrayLike) -> Report:
    """The pooled effect as studies came in.

    Parameters
    ----------
    fit : Fit
        As for `leave_one_out`.
    order : array, shape (rows,)
        What the studies are sorted by, such as ``data["year"]``; a value for each row in the data
        (a Series is matched by its index).

    Returns
    -------
    Report
        A row for each study: with it and those before it, mean, sd, median and interval of mu, the
        median of tau, and ratios as for `leave_one_out`. Proper priors give a posterior from the
        first study on; where flat ones give none the row is empty, and a caveat says why.

    Raises
    ------
    DataError
        If `order` has not one value a study, or they cannot be sorted.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> trials = bm.datasets.load("bcg")
    >>> fit = bm.meta_analysis(trials, "yi", "sei", "trial", measure="RR", method="grid", seed=1)
    >>> bm.cumulative_analysis(fit, trials["year"]).table.index[:3].to_list()
    ['1 (1948)', '2 (1949)', '6 (1953)']
    """
    found = read(fit)
    grid = analysed(found)
    kept = found.design.table.frame.index
    if isinstance(order, pd.Series) and order.index.is_unique and kept.isin(order.index).all():
        order = order.loc[kept]
    by = pd.Series(np.asarray(order))
    if len(by) != len(grid.labels) or by.isna().any():
        raise DataError(
            f"order must have a value for each of the {len(grid.labels)} studies; it has "
            f"{len(by)}, of which {int(by.isna().sum())} are missing."
        )
    rows = _in_order(found)[by.argsort(kind="stable").to_numpy()]
    sorted_by = by.sort_values(kind="stable")
    labels = [f"{grid.labels[row]} ({value})" for row, value in zip(rows, sorted_by, strict=True)]
    return _report(
        "Cumulative analysis",
        found,
        Subsets(grid, first_ones(rows), profile(found)),
        np.arange(len(rows)),
        pd.Index(labels, name="up to"),
        f"Pooled {found.label} of the study named and those before it",
        ("Interim looks at accumulating studies are not independent of each other.",),
        whole=-1,
    )


def analysed(found: Synthesis) -> GridPosterior:
    """The grid, also of a meta-analysis that was fitted by NUTS."""
    return found.exact or grid_posterior(found.fit)


def profile(found: Synthesis) -> Floats:
    """The studies' mean moderators, which stay as they are when studies go."""
    return np.asarray(found.design.predictors["mu"].X.mean(axis=0))


def _in_order(found: Synthesis) -> NDArray[np.intp]:
    """Place among the grid's studies of each row in the data."""
    randoms = found.design.predictors["mu"].random
    return randoms[0].groups.index if randoms else np.arange(len(found.design.y))


def _report(
    title: str,
    found: Synthesis,
    subsets: Subsets,
    order: NDArray[np.intp],
    index: pd.Index[str],
    what: str,
    caveats: Sequence[str],
    whole: int,
) -> Report:
    """A row for each subset in `order`; that of all studies stands at `whole`."""
    problems = np.array(subsets.problems)
    solved = problems == ""
    numbers = np.full((len(problems), len(COLUMNS) + 1), np.nan)
    drawn = np.full((_DRAWS, len(problems)), np.nan)
    if solved.any():
        effect = subsets.effect
        numbers[solved] = np.column_stack([from_mixture(effect), subsets.tau_median])
        drawn[:, solved] = stratified(effect, _DRAWS)
    table = pd.DataFrame(numbers[order], index=index, columns=[*COLUMNS, "tau_median"])
    table = with_ratios(table, found.ratio)
    draws = xr.DataArray(
        drawn[None][..., order], dims=("chain", "draw", str(index.name)),
        coords={str(index.name): index.to_list()},
    ).to_dataset(name="mu")  # fmt: skip
    at = " at the mean moderators of all studies" if len(subsets.x) > 1 else ""
    return Report(
        title,
        table,
        draws,
        f"{what}{at}: posterior mean, sd, median and 95 % equal-tailed interval of mu, and median "
        f"of tau, the sd between studies{ratio_words(found)}. Computed by quadrature over tau, "
        "without Monte Carlo error; the priors of the coefficients are those of the fit.",
        (*caveats, *_empty(index, problems[order]), *heavy_tails(table)),
        ROEVER,
        {"intervals": partial(picture, table, found, table["median"].iloc[whole])},
    )


def ratio_words(found: Synthesis) -> str:
    """What the columns of ratios are, for captions."""
    return f"; ratio: the {found.ratio}, its median and interval" if found.ratio else ""


def _empty(index: pd.Index[str], problems: NDArray[np.str_]) -> list[str]:
    """Why rows are empty."""
    found = []
    for problem in dict.fromkeys(problems[problems != ""]):
        rows = index[problems == problem]
        count = f"{len(rows)} row{'s' if len(rows) > 1 else ''}"
        found.append(
            f"Nothing in {count} ({listed(rows, 5)}): {problem}. Proper priors, such as Normal for "
            "coefficients and HalfNormal for tau, would fill them."
        )
    return found


def heavy_tails(table: pd.DataFrame) -> list[str]:
    """That moments do not exist, where they do not."""
    there = table["median"].notna()
    if np.isfinite(table.loc[there, ["mean", "sd"]].to_numpy(dtype=float)).all():
        return []
    return [
        "Where mean or sd is infinite or missing beside a median, the prior's tail is too heavy "
        "for it to exist; use the median and the interval."
    ]


def picture(table: pd.DataFrame, found: Synthesis, reference: float, ax: Axes | None) -> Axes:
    """Medians with intervals, a row each, thin and without names where they are many."""
    many = len(table) > _MOST_LABELS
    shown = table.assign(mean=table["median"])
    if many:
        if ax is None:
            _, ax = plt.subplots(figsize=(7, 10), layout="constrained")
        at = np.arange(len(shown))[::-1]
        ax.hlines(at, shown["eti95_lb"], shown["eti95_ub"], color=plots.BLUE, linewidth=0.4)
        ax.scatter(shown["median"], at, s=2, color=plots.ORANGE, zorder=3)
        ax.set_ylim(-0.01 * len(shown), 1.01 * len(shown))
        ax.set_yticks([])
        ax.spines[["top", "right"]].set_visible(False)
    else:
        ax = plots.intervals(shown, "", ax=ax)
    rows = f" ({len(table):,} rows, from top to bottom as in the table)" if many else ""
    ax.set_ylabel(f"{table.index.name}{rows}")
    ax.axvline(reference, color=plots.GREY, linewidth=0.8, linestyle=":", zorder=0)
    what = "median and 95 % equal-tailed interval"
    effect_axis(ax, found.label, found.ratio)
    ax.set_xlabel(f"{ax.get_xlabel()}\n{what}")
    return ax
