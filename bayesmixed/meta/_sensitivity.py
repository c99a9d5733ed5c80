"""How a pooled effect hangs on single studies, on their order, and on the prior of tau."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from bayesmixed import plots
from bayesmixed._errors import BayesmixedError, DataError
from bayesmixed.defaults import assign_priors
from bayesmixed.fit import Fit
from bayesmixed.meta._densities import Flat
from bayesmixed.meta._empirical import rhodes_prior, turner_prior
from bayesmixed.meta._estimates import COLUMNS, Synthesis, from_function_of_tau, from_mixture, read
from bayesmixed.meta._grid import GridPosterior, grid_of
from bayesmixed.meta._heterogeneity import Density
from bayesmixed.names import sd_name
from bayesmixed.priors import Prior
from bayesmixed.reports._report import Report

type Floats = NDArray[np.float64]

_DRAWS = 1000
_MOST_LABELS = 60
_ROEVER = ("Röver (2020), Journal of Statistical Software 93(6).",)


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
        A row for each study left out, and one for none: mean, sd, median and interval of mu, and
        the median of tau.

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
    found, grid = _grid(fit)
    count = len(grid.labels)
    if count < 3:
        raise BayesmixedError(f"Of {count} studies none can be left out; 3 or more are needed.")
    every = np.arange(count)
    x = _profile(found)
    grids = {"(none)": grid} | {
        str(grid.labels[j]): grid.of(every[every != j]) for j in _in_order(found)
    }
    return _report(
        "Leave-one-out analysis",
        found,
        grids,
        x,
        "left out",
        f"Pooled {found.label} without the study named, and with all of them (none left out)",
        ("Studies that move the result were not chosen beforehand; look for a reason first.",),
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
        A row for each study, from the first for which the likelihood has as many studies as
        coefficients and one more: with it and those before it, mean, sd, median and interval of mu,
        and the median of tau.

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
    ['2 (1949)', '6 (1953)', '3 (1960)']
    """
    found, grid = _grid(fit)
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
    # With one study and several terms the priors alone identify the model.
    first = len(grid.terms)
    grids = {
        f"{grid.labels[rows[j]]} ({sorted_by.iloc[j]})": grid.of(rows[: j + 1])
        for j in range(first, len(rows))
    }
    return _report(
        "Cumulative analysis",
        found,
        grids,
        _profile(found),
        "up to",
        f"Pooled {found.label} of the study named and those before it",
        ("Interim looks at accumulating studies are not independent of each other.",),
        whole=-1,
    )


def prior_robustness(fit: Fit, priors: Mapping[str, Prior | Density] | None = None) -> Report:
    r"""The pooled effect under different priors of the heterogeneity.

    Parameters
    ----------
    fit : Fit
        As for `leave_one_out`; its prior is the first row.
    priors : mapping of str to Prior or distribution, optional
        By name; distributions of `scipy.stats` will do as well. Unless given: half-normal,
        half-Cauchy and uniform at the scale s of the fit's own prior and beyond, and the empirical
        priors of Turner et al. [1]_ for ratios of odds, risks and rates, or of Rhodes et al. [2]_
        for standardised mean differences.

    Returns
    -------
    Report
        A row for each prior: mean, sd, median and interval of mu; medians of tau and I2; the
        interval for a new study; P(mu > 0); and the logarithm of the Bayes factor against the
        fit's own prior, where both are proper.

    Raises
    ------
    BayesmixedError
        If the model is another one, or has a common effect.
    PriorError
        If a prior is not one of a standard deviation, or the posterior under it is improper.

    References
    ----------
    .. [1] Turner et al. (2015), Stat. Med. 34:984. For risk and rate ratios they are stand-ins.
    .. [2] Rhodes et al. (2015), J. Clin. Epidemiol. 68:52.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> trials = bm.datasets.load("bcg")
    >>> fit = bm.meta_analysis(trials, "yi", "sei", "trial", measure="RR", method="grid", seed=1)
    >>> report = bm.prior_robustness(fit, {"wide": bm.Prior("HalfNormal", sigma=2)})
    >>> list(report.table.index)
    ['HalfNormal(sigma=0.5), of the fit', 'wide']
    """
    found, grid = _grid(fit)
    if grid.prior is None:
        raise BayesmixedError("A common effect has no heterogeneity, so there is no prior of it.")
    chosen = _default_priors(found, grid) if priors is None else dict(priors)
    own = assign_priors(fit.design)[sd_name("", found.groupings[0])].prior
    grids = {f"{own}, of the fit": grid} | {name: grid.with_prior(p) for name, p in chosen.items()}
    x = _profile(found)
    report = _report(
        "Robustness to the prior of tau",
        found,
        grids,
        x,
        "prior of tau",
        f"Pooled {found.label} under each prior of the heterogeneity",
        (
            "Where rows differ in what is to be concluded, the studies alone do not decide it.",
            "An improper uniform prior has no Bayes factor.",
        ),
    )
    v = grid.regression.typical_variance
    table = report.table
    table["I2_median"] = [
        float(from_function_of_tau(g, lambda t: t**2 / (t**2 + v), 0.0)[0, 2])
        for g in grids.values()
    ]
    new = [g.prediction(x) for g in grids.values()]
    table["new_lb"] = [float(m.quantile(0.025)[0]) for m in new]
    table["new_ub"] = [float(m.quantile(0.975)[0]) for m in new]
    table["P(mu > 0)"] = [float(g.effect(x).sf(0.0)[0]) for g in grids.values()]
    proper = [not isinstance(g.prior, Flat) for g in grids.values()]
    evidence = np.array([g.tau.log_evidence for g in grids.values()])
    table["log_BF"] = np.where(proper, evidence - evidence[0], np.nan) if proper[0] else np.nan
    return report


def _default_priors(found: Synthesis, grid: GridPosterior) -> dict[str, Prior | Density]:
    """Half-normal, half-Cauchy, uniform and empirical priors, on the scale of the fit's own."""
    tau = grid.prior
    assert tau is not None
    scale = _two_digits(_median(tau) / 0.6745)
    priors: dict[str, Prior | Density] = {}
    for factor in (0.5, 2.0):
        prior = Prior("HalfNormal", sigma=factor * scale)
        priors[str(prior)] = prior
    for prior in (Prior("HalfCauchy", beta=scale), Prior("Uniform", lower=0, upper=10 * scale)):
        priors[str(prior)] = prior
    measure = found.measure
    if measure is not None and measure.ratio in ("odds ratio", "risk ratio", "rate ratio"):
        priors["Turner et al., any outcome"] = turner_prior()
    if measure is not None and measure.name == "SMD":
        priors["Rhodes et al., any outcome"] = rhodes_prior()
    return priors


def _median(prior: Density) -> float:
    """Median of a prior of tau; that of the half-normal with sd 1 for a flat one."""
    found = getattr(prior, "median", None)
    return 0.6745 if found is None else float(found())


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")


def _grid(fit: Fit) -> tuple[Synthesis, GridPosterior]:
    found = read(fit)
    return found, found.exact or grid_of(fit.design)


def _profile(found: Synthesis) -> Floats:
    """The studies' mean moderators, which stay as they are when studies go."""
    return np.asarray(found.design.predictors["mu"].X.mean(axis=0))


def _in_order(found: Synthesis) -> NDArray[np.intp]:
    """Place among the grid's studies of each row in the data."""
    randoms = found.design.predictors["mu"].random
    return randoms[0].groups.index if randoms else np.arange(len(found.design.y))


def _report(
    title: str,
    found: Synthesis,
    grids: Mapping[str, GridPosterior],
    x: Floats,
    index: str,
    what: str,
    caveats: Sequence[str],
    whole: int = 0,
) -> Report:
    """A row for each grid; that of all studies stands at `whole`."""
    numbers = np.concatenate([from_mixture(g.effect(x)) for g in grids.values()])
    table = pd.DataFrame(numbers, index=pd.Index(list(grids), name=index), columns=COLUMNS)
    table["tau_median"] = [g.tau.quantile(0.5) for g in grids.values()]
    drawn = np.stack([g.sample(_DRAWS, seed=0)["beta"] @ x for g in grids.values()], axis=-1)
    draws = xr.DataArray(
        drawn[None], dims=("chain", "draw", index), coords={index: list(grids)}
    ).to_dataset(name="mu")
    at = " at the mean moderators of all studies" if len(x) > 1 else ""
    return Report(
        title,
        table,
        draws,
        f"{what}{at}: posterior mean, sd, median and 95 % equal-tailed interval of mu, and median "
        "of tau, the sd between studies. Computed by quadrature over tau, without Monte Carlo "
        "error; the priors of the coefficients are those of the fit.",
        tuple(caveats),
        _ROEVER,
        {"intervals": partial(_picture, table, found.label, float(table["mean"].iloc[whole]))},
    )


def _picture(table: pd.DataFrame, label: str, reference: float, ax: Axes | None) -> Axes:
    many = len(table) > _MOST_LABELS
    if ax is None and many:
        _, ax = plt.subplots(figsize=(7, 12), layout="constrained")
    drawn = plots.intervals(table, f"{label} (95 % equal-tailed interval)", ax=ax)
    drawn.set_ylabel(str(table.index.name))
    if many:
        drawn.set_yticks([])
        drawn.set_ylabel(f"{table.index.name} ({len(table):,} rows, as in the table)")
    drawn.axvline(reference, color=plots.GREY, linewidth=0.8, linestyle=":", zorder=0)
    return drawn
