"""Each group's raw and shrunken estimate, and how far its own data are trusted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesmixed import plots
from bayesmixed._errors import lookup
from bayesmixed.defaults import outcome_scale
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.groups import parents
from bayesmixed.predictor import INTERCEPT, RandomDesign
from bayesmixed.reports._report import Report, convergence_caveats, interval

type Floats = NDArray[np.float64]

_DIMS = ("chain", "draw", "group")


def shrinkage(fit: Fit, group: str) -> Report:
    r"""Raw and shrunken mean outcome of every group, side by side.

    The raw estimate is the mean outcome of the group's rows: for successes out of trials the
    proportion, with a log link and an offset the rate per unit of exposure. The shrunken one is
    what the model expects for the *same rows*, with the group's own effects, and averaged over the
    population of whatever lies inside the group (patients of a unit). So the two differ by the
    borrowing of strength and by nothing else.

    Reliability is :math:`\sigma_u^2 / (\sigma_u^2 + 1/I_j)` with :math:`I_j` the information of
    the group's rows about its effect (what its subgroups' own variation leaves of it), averaged
    over the posterior. For a Gaussian outcome this is :math:`n_j/(n_j + \sigma^2/\sigma_u^2)`
    [1]_; for a yes/no outcome see [2]_.

    Parameters
    ----------
    fit : Fit
        The fit.
    group : str
        Name of a grouping.

    Returns
    -------
    Report
        A row a group: ``n`` rows (and ``trials`` or ``exposure``), ``raw``, ``shrunken`` with its
        sd and interval, and ``reliability`` (of the group's intercept, or of its first effect where
        it has none).

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
    randoms = design.predictors[design.family.parameters[0].name].random
    random = lookup({r.name: r for r in randoms}, group, "grouping")
    groups, inner = random.groups, _inside(random, randoms)
    exposure, size, what = _exposure(fit)
    weight = np.bincount(groups.index, weights=exposure)
    parts = []
    for piece in fit.pieces():
        expected = _expected(piece, inner)
        sums = {
            "shrunken": _sum(expected, groups.index) / weight,
            "reliability": _reliability(piece, random, inner),
        }
        parts.append(xr.Dataset({name: (_DIMS, values) for name, values in sums.items()}))
    draws = xr.concat(parts, "draw").rename(group=group).assign_coords({group: groups.labels})
    numbers = interval(draws["shrunken"])
    table = pd.DataFrame(
        {
            "n": groups.sizes,
            **({size: weight} if size else {}),
            "raw": np.bincount(groups.index, weights=design.y) / weight,
            "shrunken": numbers.pop("mean").to_numpy(),
            **{k: v.to_numpy() for k, v in numbers.items()},
            "reliability": draws["reliability"].mean(["chain", "draw"]).to_numpy(),
        },
        index=pd.Index(groups.labels, name=group),
    )
    overall = float(design.y.sum() / exposure.sum())
    within = f", averaged over {' and '.join(r.name for r in inner)}" if inner else ""
    return Report(
        f"Shrunken estimates by {group}",
        table,
        draws,
        f"{what} of each {group}: raw, and as the model expects it for the same rows{within}, with "
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
        {"caterpillar": partial(_picture, table.assign(n=weight), what, overall)},
    )


def _picture(table: pd.DataFrame, what: str, overall: float, ax: Axes | None) -> Axes:
    return plots.caterpillar(table, what, reference=overall, ax=ax)


def _inside(random: RandomDesign, every: Sequence[RandomDesign]) -> list[RandomDesign]:
    """Groupings whose groups each lie in one of this grouping's, from fine to coarse."""
    found = [
        other
        for other in every
        if len(other.groups.labels) > len(random.groups.labels)
        and parents(other.groups.index, random.groups.index) is not None
    ]
    return sorted(found, key=lambda other: -len(other.groups.labels))


def _exposure(fit: Fit) -> tuple[Floats, str, str]:
    """What a row's outcome is divided by, its name (if not rows), and the quotient's name."""
    design, response = fit.design, fit.spec.response
    offset = design.predictors[design.family.parameters[0].name].offset
    if design.trials is not None:
        return design.trials, "trials", f"Proportion {response}"
    if fit.spec.link.name == "log" and offset.any():
        return np.exp(offset), "exposure", f"Rate of {response} per unit of exposure"
    binary = design.family.support == "0 or 1"
    what = f"Proportion {response}" if binary else f"Mean {response}"
    return np.ones(len(design.y)), "", what


def _sum(values: Floats, index: NDArray[np.intp]) -> Floats:
    """Sums over each group's elements of the last axis."""
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(index.max() + 1))
    return np.asarray(np.add.reduceat(values[..., order], starts, axis=-1))


def _expected(fit: Fit, inner: Sequence[RandomDesign]) -> Floats:
    """Expected outcome of every row, averaged over the effects of the groupings in `inner`."""
    design = fit.design
    first = design.family.parameters[0].name
    parameters = fit.parameters()
    if not inner:
        nodes, weights, spread = np.zeros(1), np.ones(1), np.zeros(1)
    else:
        parameters[first] = fit.eta(without=[r.name for r in inner]).to_numpy()
        nodes, weights = np.polynomial.hermite_e.hermegauss(15)
        spread = np.sqrt(sum(_row_variance(fit, r) for r in inner))
    total = np.zeros(1)
    for node, share in zip(nodes, weights / weights.sum(), strict=True):
        moved = parameters | {first: parameters[first] + node * spread}
        mean = design.family.evaluate(design.family.mean, moved, design.links, **design.known)
        total = total + share * mean
    return total


def _row_variance(fit: Fit, random: RandomDesign) -> Floats:
    """Variance of z'u for every row, shape (chain, draw, row)."""
    posterior = fit.posterior
    scaled = posterior[f"sd_{random.name}"].to_numpy()[..., None, :] * random.Z
    if not random.is_correlated:
        return np.asarray((scaled**2).sum(axis=-1))
    correlation = posterior[f"cor_{random.name}"].to_numpy()
    return np.asarray(np.einsum("...ni,...ij,...nj->...n", scaled, correlation, scaled))


def _reliability(fit: Fit, random: RandomDesign, inner: Sequence[RandomDesign]) -> Floats:
    """Share of the effects' variance that each group's data resolve, (chain, draw, group)."""
    k = random.effects.index(INTERCEPT) if INTERCEPT in random.effects else 0
    information = _information(fit) * random.Z[:, k] ** 2
    at = np.arange(len(fit.design.y))
    for other in inner:
        # A subgroup counts for no more than its own variation leaves it.
        information = _sum(information, other.groups.index[at])
        information = information / (1 + information * _variance(fit, other))
        first = np.zeros(len(other.groups.labels), dtype=np.intp)
        first[other.groups.index[at]] = at
        at = first
    ratio = _sum(information, random.groups.index[at]) * _variance(fit, random, k)
    return np.asarray(ratio / (1 + ratio))


def _variance(fit: Fit, random: RandomDesign, effect: int = 0) -> Floats:
    sd = fit.posterior[f"sd_{random.name}"].to_numpy()[..., effect]
    return np.asarray(sd**2)[..., None]


def _information(fit: Fit) -> Floats:
    """Observed information of every row about its linear predictor, (chain, draw, row)."""
    design: Design = fit.design
    first, parameters = design.family.parameters[0].name, fit.parameters()
    step = 1e-3 * outcome_scale(design).unit

    def loglik(shift: float) -> Floats:
        moved = parameters | {first: parameters[first] + shift}
        found = design.family.evaluate(
            design.family.loglik, moved, design.links, y=design.y, **design.known
        )
        return np.asarray(found)

    return np.maximum(2 * loglik(0.0) - loglik(step) - loglik(-step), 0.0) / step**2
