"""The power of the next cluster trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy import special, stats

from bayesmixed import plots
from bayesmixed._errors import BayesmixedError
from bayesmixed.fit import Fit
from bayesmixed.linpred import LinearPredictor, random_of
from bayesmixed.reports._average_row import AverageRow
from bayesmixed.reports._curve import curve
from bayesmixed.reports._design_effect import (
    checked_size,
    cluster_caveats,
    kish,
    one_row,
    units,
)
from bayesmixed.reports._icc import shared_levels, where
from bayesmixed.reports._report import Report, convergence_caveats, interval

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]

_DIMS = ("chain", "draw")
_ALPHA = 0.05
_STEPS = 64


def assurance(
    fit: Fit,
    difference: float,
    clusters: int | Sequence[int],
    cluster_size: float,
    level: str | None = None,
    cv: float = 0.0,
    at: Any = None,
) -> Report:
    r"""Power of the next cluster trial, averaged over what is known of its clusters.

    Two parallel arms with as many clusters each. In every draw the control arm's mean, variance
    and intraclass correlation on the response scale are those of the average row, or of the one
    that `at` gives; in the treated arm the linear predictor is moved by what changes the expected
    outcome by `difference`, and the variance and correlation follow. The arms' means are compared
    by a two-sided t-test of clusters at 5 %, with power
    :math:`P(|T_{2(k-1)}(\delta)| > t_{0.975})`, T noncentral with
    :math:`\delta = \Delta / \sqrt{\sum_a \sigma_a^2 D_a / (k m)}` for k clusters of m in an arm
    and the arms' design effects D [1]_ [2]_. This is exact for a Gaussian outcome in clusters of
    one size, and otherwise takes clusters' means to be about normal. Assurance is the posterior
    mean of the power [3]_.

    Parameters
    ----------
    fit : Fit
        A fit to data like those of the control arm.
    difference : float
        What the treatment adds to the expected outcome (for yes/no outcomes the difference in
        risks), averaged over the population.
    clusters : int or sequence of int
        Clusters in each arm, 2 or more.
    cluster_size : float
        Mean number of rows (or of trials) in a cluster.
    level : str, optional
        The grouping whose groups are the clusters; may be left out where there is one only.
    cv : float
        Standard deviation over mean of the clusters' sizes.
    at : mapping or table, optional
        One value for some predictors, as for `icc`.

    Returns
    -------
    Report
        A row a number of clusters per arm. Columns: `mean` of the power, which is the assurance,
        its sd and interval, and ``prob_80``, the probability that the power is at least 80 %.
        Draws: ``power``; ``design_effect`` with dims (chain, draw, arm); and ``mean``, the
        expected outcomes, likewise.

    Raises
    ------
    BayesmixedError
        If there is no grouping, a number is not possible, or the difference cannot be reached.
    UnknownNameError
        If there is no such grouping.

    References
    ----------
    .. [1] Donner & Klar (2000), Design and Analysis of Cluster Randomization Trials, ch. 5.
    .. [2] Eldridge, Ashby & Kerry (2006), Int. J. Epidemiol. 35:1292.
    .. [3] Spiegelhalter & Freedman (1986), Stat. Med. 5:1.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> fit = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1)
    >>> power = bm.assurance(fit, difference=40, clusters=[10, 40], cluster_size=10)
    >>> power.table["mean"].is_monotonic_increasing
    True
    """
    name = random_of(fit, level).name
    counts = _checked_counts(clusters)
    size = checked_size(cluster_size, cv)
    control = one_row(fit, at)
    if not isinstance(difference, Real) or not isfinite(difference) or difference == 0:
        raise BayesmixedError(f"difference must be a number other than 0, not {difference!r}.")
    arms = _arms(control, shared_levels(fit)[name], difference, size, cv)
    scaled = arms["variance"].sum(axis=-1)[..., None] / (counts * size)
    power = t_power(difference / np.sqrt(scaled), 2 * (counts - 1))
    draws = xr.Dataset(
        {
            "power": ((*_DIMS, "clusters"), power),
            "design_effect": ((*_DIMS, "arm"), arms["design_effect"]),
            "mean": ((*_DIMS, "arm"), arms["mean"]),
        },
        coords={"clusters": counts, "arm": ["control", "treated"]},
    )
    table = pd.DataFrame({k: v.to_series() for k, v in interval(draws["power"]).items()})
    table["prob_80"] = (draws["power"] >= 0.8).mean(_DIMS).to_series()
    table.index.name = "clusters per arm"
    effect, mean = (interval(draws[n].sel(arm="control")) for n in ("design_effect", "mean"))
    return Report(
        "Assurance of a cluster trial",
        table,
        draws,
        f"Power to find a difference of {difference:g} in the expected outcome between two arms, "
        f"each of so many new groups of {name} with {size:g} {units(fit)} each"
        f"{f' (coefficient of variation {cv:g})' if cv else ''}; two-sided 5 % t-test of clusters, "
        "for rows with the same predictors"
        f"{where(control)}. The mean over the posterior is the assurance, prob_80 the probability "
        "that the power is at least 80 %; 95 % equal-tailed intervals. In the control arm the "
        f"expected outcome is {_words(mean)} and the design effect {_words(effect)}.",
        (
            "Power is for a difference that is taken as true; nothing here says how likely it is.",
            "Predictors are held constant, as an adjusted analysis would; where they vary and are "
            "not adjusted for, power is less.",
            "Exact for a Gaussian outcome in clusters of one size; otherwise with few clusters "
            "or rare outcomes only about right, so simulate the final design.",
            *cluster_caveats(fit, control, name),
            *convergence_caveats(fit),
        ),
        (
            "Donner & Klar (2000), Design and Analysis of Cluster Randomization Trials in Health "
            "Research. Arnold.",
            "Eldridge, Ashby & Kerry (2006), International Journal of Epidemiology 35:1292-1300.",
            "Spiegelhalter & Freedman (1986), Statistics in Medicine 5:1-13.",
        ),
        {"curve": partial(_power_curve, table)},
    )


def t_power(noncentrality: Floats, df: Any) -> Floats:
    """Power of a two-sided 5 % t-test."""
    critical = stats.t.ppf(1 - _ALPHA / 2, df)
    inside = special.nctdtr(df, noncentrality, critical) - special.nctdtr(
        df, noncentrality, -critical
    )
    return np.asarray(np.clip(1 - inside, 0.0, 1.0))


def _arms(
    control: AverageRow, shared: Sequence[str], difference: float, size: float, cv: float
) -> Mapping[str, Floats]:
    """Means, variances of an outcome times the design effect, and design effects of both arms."""
    found: dict[str, list[Floats]] = {"mean": [], "variance": [], "design_effect": []}
    for arm in (control, _treated(control, difference)):
        total = arm.outcome_variance()[..., 0]
        effect = kish(arm.shared(shared)[..., 0] / total, size, cv)
        found["mean"].append(arm.predictor().mean()[..., 0])
        found["variance"].append(total * effect)
        found["design_effect"].append(effect)
    return {name: np.stack(values, axis=-1) for name, values in found.items()}


def _treated(control: AverageRow, difference: float) -> AverageRow:
    """The row with its linear predictor moved so that the expected outcome has the difference.

    By doubling and bisection in all draws at once, to the last digits.
    """
    first = control.design.family.parameters[0].name
    start = control.predictor()
    target = start.mean() + difference

    def moved(by: Floats) -> LinearPredictor:
        centre = {**control.centre, first: control.centre[first] + by}
        return LinearPredictor(control.design, centre, start.variance)

    near, far = np.zeros_like(target), np.ones_like(target)
    rises = moved(far * 1e-3).mean() >= start.mean()
    far = np.where(rises == (difference > 0), far, -far)

    def reached(by: Floats) -> NDArray[np.bool_]:
        mean = moved(by).mean()
        return mean >= target if difference > 0 else mean <= target

    for _ in range(_STEPS):
        with np.errstate(over="ignore"):
            short = ~reached(far)
        if not short.any():
            break
        near, far = np.where(short, far, near), np.where(short, 2 * far, far)
    else:
        raise BayesmixedError(
            f"A difference of {difference:g} cannot be reached: the expected outcome without it "
            f"is {float(np.median(start.mean())):.4g}."
        )
    for _ in range(_STEPS):
        middle = (near + far) / 2
        done = reached(middle)
        near, far = np.where(done, near, middle), np.where(done, middle, far)
    centre = {**control.centre, first: control.centre[first] + far}
    return AverageRow(control.values, control.design, centre, control.variance)


def _checked_counts(clusters: int | Sequence[int]) -> Integers:
    counts = np.atleast_1d(np.asarray(clusters))
    whole = counts.dtype.kind in "iuf" and counts.ndim == 1 and counts.size > 0
    if not whole or not (np.isfinite(counts) & (counts >= 2) & (counts == np.floor(counts))).all():
        raise BayesmixedError(
            f"clusters must be whole numbers of clusters in each arm, 2 or more, not {clusters!r}."
        )
    return np.unique(counts).astype(np.int64)


def _words(found: Mapping[str, xr.DataArray]) -> str:
    return (
        f"{float(found['mean']):.3g} ({float(found['eti95_lb']):.3g} to "
        f"{float(found['eti95_ub']):.3g})"
    )


def _power_curve(table: pd.DataFrame, ax: Axes | None) -> Axes:
    ax = curve(table, "power (mean: assurance; band: 95 %)", ax)
    ax.axhline(0.8, color=plots.GREY, linewidth=1, linestyle="--", zorder=0)
    ax.set_ylim(0, 1.02)
    return ax
