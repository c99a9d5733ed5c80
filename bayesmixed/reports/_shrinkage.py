"""Each group's raw and shrunken estimate, and how far its own data are trusted."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from bayesmixed import plots
from bayesmixed._errors import lookup
from bayesmixed.fit import Fit
from bayesmixed.reports._report import Report, convergence_caveats, interval


def shrinkage(fit: Fit, group: str) -> Report:
    r"""Raw and shrunken mean outcome of every group, side by side.

    The raw estimate is the mean outcome of the group's rows (for successes out of trials, the
    proportion). The shrunken one is what the model expects for the *same rows*: all effects and
    predictors at these rows' values, so that the two differ by the borrowing of strength and by
    nothing else. Reliability is :math:`\sigma_u^2 / (\sigma_u^2 + 1/I_j)` with :math:`I_j` the
    Fisher information of the group's rows about its effect, averaged over the posterior: for a
    Gaussian outcome :math:`n_j/(n_j + \sigma^2/\sigma_u^2)` [1]_, for a yes/no outcome as in [2]_.

    Parameters
    ----------
    fit : Fit
        The fit.
    group : str
        Name of a grouping.

    Returns
    -------
    Report
        A row a group: ``n`` rows, ``raw``, ``shrunken``, its sd and interval, ``reliability``.

    Raises
    ------
    UnknownNameError
        If there is no such grouping.

    References
    ----------
    .. [1] Efron & Morris (1975), J. Am. Stat. Assoc. 70:311.
    .. [2] Adams (2009), The Reliability of Provider Profiling, RAND TR-653, ch. 3.
    """
    design = fit.design
    name = design.family.parameters[0].name
    by_name = {r.name: r for r in design.predictors[name].random}
    random = lookup(by_name, group, "grouping in this fit")
    groups = random.groups
    rows = np.ones(len(design.y)) if design.trials is None else design.trials
    weight = np.bincount(groups.index, weights=rows)
    sums = xr.concat([_sums(piece, groups.index) for piece in fit.pieces()], "draw")
    draws = (sums["expected"] / weight).rename(group=group).assign_coords({group: groups.labels})
    precision = (
        sums["information"] * fit.posterior[f"sd_{group}"][..., 0].to_numpy()[..., None] ** 2
    )
    reliability = (precision / (1 + precision)).mean(["chain", "draw"])
    numbers = interval(draws)
    table = pd.DataFrame(
        {
            "n": groups.sizes,
            "raw": np.bincount(groups.index, weights=design.y) / weight,
            "shrunken": numbers.pop("mean").to_numpy(),
            **{k: v.to_numpy() for k, v in numbers.items()},
            "reliability": reliability.to_numpy(),
        },
        index=pd.Index(groups.labels, name=group),
    )
    overall = float(design.y.sum() / rows.sum())
    what = _outcome(fit)
    return Report(
        f"Shrunken estimates by {group}",
        table,
        draws.to_dataset(name="shrunken"),
        f"{what} of each {group}: raw, and as the model expects it for the same rows with "
        "strength borrowed from the other groups. Posterior means and 95 % equal-tailed intervals "
        "for these groups and these rows. Reliability: the share of the spread between groups "
        "that its own data resolve, from 0 (all borrowed) to 1 (all its own).",
        (
            "Raw values and shrunken values are for each group's own mix of rows; they do not "
            "compare groups on a common mix.",
            *convergence_caveats(fit),
        ),
        (
            "Efron & Morris (1975), Journal of the American Statistical Association 70:311-319.",
            "Adams (2009), The Reliability of Provider Profiling, RAND TR-653.",
        ),
        partial(_picture, table, what, overall),
    )


def _picture(table: pd.DataFrame, what: str, overall: float, ax: Axes | None) -> Axes:
    return plots.caterpillar(table, what, reference=overall, ax=ax)


def _sums(fit: Fit, index: np.ndarray) -> xr.Dataset:
    """Sums over each group's rows, dims (chain, draw, group).

    ``expected`` is of the expected outcome, ``information`` of each row's Fisher information about
    its linear predictor, (d mean / d eta)^2 / variance (McCullagh & Nelder 1989, eq. 2.12).
    """
    family, links, known = fit.design.family, fit.design.links, fit.design.known
    first, eta = family.parameters[0].name, fit.parameters()

    def mean(shift: float) -> np.ndarray:
        moved = eta | {first: eta[first] + shift}
        return np.asarray(family.evaluate(family.mean, moved, links, **known))

    step = 1e-4
    slope = (mean(step) - mean(-step)) / (2 * step)
    information = slope**2 / family.evaluate(family.variance, eta, links, **known)
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(index.max() + 1))
    dims = ("chain", "draw", "group")
    return xr.Dataset(
        {
            name: (dims, np.add.reduceat(values[..., order], starts, axis=-1))
            for name, values in (("expected", mean(0.0)), ("information", information))
        }
    )


def _outcome(fit: Fit) -> str:
    response, family = fit.spec.response, fit.design.family
    if family.has_trials:
        return f"Proportion {response}"
    binary = family.support == "0 or 1"
    return f"Rate of {response}" if binary else f"Mean {response}"
