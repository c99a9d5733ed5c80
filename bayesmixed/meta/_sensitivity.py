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
from bayesmixed.meta._between_grid import BetweenPosterior, between_posterior
from bayesmixed.meta._estimates import COLUMNS, Marginal, Synthesis, read, with_ratios
from bayesmixed.meta._grid import GridPosterior, grid_posterior
from bayesmixed.meta._subset_summaries import SubsetSummaries, summaries
from bayesmixed.meta._subsets import all_but_one, first_ones
from bayesmixed.reports._report import Report

type Floats = NDArray[np.float64]

_MOST_LABELS = 60
ROEVER = ("Röver (2020), Journal of Statistical Software 93(6).",)


def leave_one_out(fit: Fit) -> Report:
    """The pooled effect without each study in turn.

    Parameters
    ----------
    fit : Fit
        A meta-analysis that can be computed on a grid, whichever way it was fitted: a normal model
        of one level, or with ``between="t"`` or ``scale=``. The priors stay those of the fit.

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
        If the model is another one (what to do is said), or fewer than three studies are there.

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
    posterior, place = analysed(found), found.raw.place
    count = len(place)
    if count < 3:
        raise BayesmixedError(f"Of {count} studies none can be left out; 3 or more are needed.")
    every = np.arange(count)
    subsets = [every, *(np.delete(every, study) for study in every)]
    return _report(
        "Leave-one-out analysis",
        found,
        summaries(posterior, all_but_one, subsets, profile(found)),
        np.append(0, 1 + place),
        pd.Index(["(none)", *map(str, found.raw.labels)], name="left out"),
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
    posterior, place = analysed(found), found.raw.place
    kept = found.design.table.frame.index
    if isinstance(order, pd.Series) and order.index.is_unique and kept.isin(order.index).all():
        order = order.loc[kept]
    by = pd.Series(np.asarray(order))
    if len(by) != len(place) or by.isna().any():
        raise DataError(
            f"order must have a value for each of the {len(place)} studies; it has "
            f"{len(by)}, of which {int(by.isna().sum())} are missing."
        )
    order_of = by.argsort(kind="stable").to_numpy()
    rows, sorted_by = place[order_of], by.sort_values(kind="stable")
    names = found.raw.labels[order_of]
    labels = [f"{name} ({value})" for name, value in zip(names, sorted_by, strict=True)]
    subsets = [rows[: j + 1] for j in range(len(rows))]
    return _report(
        "Cumulative analysis",
        found,
        summaries(posterior, first_ones(rows), subsets, profile(found)),
        np.arange(len(rows)),
        pd.Index(labels, name="up to"),
        f"Pooled {found.label} of the study named and those before it",
        ("Interim looks at accumulating studies are not independent of each other.",),
        whole=-1,
    )


def analysed(found: Synthesis) -> GridPosterior | BetweenPosterior:
    """The exact posterior, also of a meta-analysis that was fitted by NUTS.

    Raises
    ------
    BayesmixedError
        If there is none.
    """
    try:
        if isinstance(found, Marginal):
            return between_posterior(found.design)
        return found.exact or grid_posterior(found.fit)
    except BayesmixedError as error:
        why = str(error).partition(' Use method="nuts"')[0]
        raise BayesmixedError(
            "Reports on parts of the studies, and on other priors, need an exact posterior, which "
            f"this model does not have. {why} Fit some of the studies, or with another prior, "
            "again; the priors are in fit.spec.priors."
        ) from error


def profile(found: Synthesis) -> Floats:
    """The studies' mean moderators, which stay as they are when studies go."""
    return np.asarray(found.design.predictors["mu"].X.mean(axis=0))


def _report(
    title: str,
    found: Synthesis,
    subsets: SubsetSummaries,
    order: NDArray[np.intp],
    index: pd.Index[str],
    what: str,
    caveats: Sequence[str],
    whole: int,
) -> Report:
    """A row for each subset in `order`; that of all studies stands at `whole`."""
    table = pd.DataFrame(subsets.numbers[order], index=index, columns=[*COLUMNS, "tau_median"])
    table = with_ratios(table, found.ratio)
    draws = xr.DataArray(
        subsets.drawn[None][..., order], dims=("chain", "draw", str(index.name)),
        coords={str(index.name): index.to_list()},
    ).to_dataset(name="mu")  # fmt: skip
    at = " at the mean moderators of all studies" if len(profile(found)) > 1 else ""
    return Report(
        title,
        table,
        draws,
        f"{what}{at}: posterior mean, sd, median and 95 % equal-tailed interval of mu, and median "
        f"of tau, the {tau_words(found)}{ratio_words(found)}. Computed by quadrature, "
        "without Monte Carlo error; the priors of the coefficients are those of the fit.",
        (*caveats, *_empty(index, subsets.problems[order]), *heavy_tails(table)),
        ROEVER,
        {"intervals": partial(picture, table, found, table["median"].iloc[whole])},
    )


def tau_words(found: Synthesis) -> str:
    """What tau is, for captions."""
    return found.spread if isinstance(found, Marginal) else "sd between studies"


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
