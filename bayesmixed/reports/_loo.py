"""How well a model foretells what it has not seen: leaving out rows, or whole groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats.utils import ELPDDataLOO
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.special import logsumexp

from bayesmixed._errors import BayesmixedError, DataError, listed, lookup
from bayesmixed.data import Table
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.group_likelihood import group_likelihood, group_log_likelihood
from bayesmixed.groups import Groups
from bayesmixed.linpred import linear_predictor
from bayesmixed.plots import BLUE, GREY, ORANGE
from bayesmixed.reports._report import Report, convergence_caveats
from bayesmixed.row_conditionals import row_blocks, row_log_density
from bayesmixed.rows import take
from bayesmixed.subjects import units

_MAX_VALUES = 10_000_000
_FEW_UNITS = 100
_MOST_LABELS = 60
# Square of the relative error of a likelihood, where correcting for it does no longer do.
_ROUGH = 0.1

REFERENCES = (
    "Vehtari, Gelman & Gabry (2017), Statistics and Computing 27:1413-1432.",
    "Vehtari, Simpson, Gelman, Yao & Gabry (2024), Journal of Machine Learning Research 25(72).",
)
GROUP_REFERENCE = "Merkle, Furr & Rabe-Hesketh (2019), Psychometrika 84:802-829."
PROCESS_REFERENCE = "Durbin & Koopman (1997), Biometrika 84:669-684."
SERIES_REFERENCE = "Bürkner, Gabry & Vehtari (2021), Computational Statistics 36:1243-1261."


def loo(fit: Fit, unit: str = "row", refits: Mapping[Any, Fit] | None = None) -> Report:
    r"""Expected log predictive density of what is left out, by row or by group.

    :math:`\mathrm{elpd} = \sum_j \log p(y_j \mid y_{-j})`, where :math:`y_j` is a row, whose
    group is known from its other rows, or all rows of a group, whose effects (and those of
    whatever lies inside it) are then integrated out [2]_. With ``residual=`` a row is foretold
    from the other rows of its series as well, by its normal distribution given these [3]_. One
    fit serves for all: its draws are reweighted by Pareto-smoothed importance sampling [1]_.

    Parameters
    ----------
    fit : Fit
        The fit.
    unit : str
        What is left out: ``"row"``, the name of a grouping or, with ``residual=``, whose rows make
        a series (such as the patient), which is then left out whole.
    refits : mapping of label to Fit, optional
        Fits to the data without a group, by its label; they take the place of the reweighting
        for groups where that is not trustworthy.

    Returns
    -------
    Report
        A row a unit: ``n`` rows, ``elpd``, ``p_loo`` (how far having seen the unit helps to
        foretell it) and ``k_hat``, which tells whether the reweighting can be trusted. The elpd of
        all units is the sum of the column. ``draws`` has ``log_likelihood`` of the groups, and with
        a process, which is averaged over by importance sampling [4]_, its error ``mcse``. That of
        rows is `Fit.with_log_likelihood`'s, but with ``residual=``, where rows have none of their
        own and that method raises.

    Raises
    ------
    UnknownNameError
        If there is no such grouping, or a refit's label is not one of its groups.
    BayesmixedError
        If the effects cannot be integrated out (see `group_log_likelihood`).
    DataError
        If a refit has seen the group that it should not have, or is of another model.

    References
    ----------
    .. [1] Vehtari, Gelman & Gabry (2017), Stat. Comput. 27:1413, eq. 10.
    .. [2] Merkle, Furr & Rabe-Hesketh (2019), Psychometrika 84:802, eq. 10.
    .. [3] Bürkner, Gabry & Vehtari (2021), Comput. Stat. 36:1243, section 2.
    .. [4] Durbin & Koopman (1997), Biometrika 84:669.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> fit = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1)
    >>> people = bm.loo(fit, "Subject")
    >>> people.table["elpd"].idxmin()
    '332'
    """
    groups = unit_groups(fit, unit)
    found, draws = left_out(fit, groups)
    if refits:
        if groups is None:
            raise BayesmixedError('Refits are for groups that are left out; unit="row" takes none.')
        found = _refitted(fit, groups, found, refits)
    table = pd.DataFrame(
        {
            "n": np.ones(len(found.elpd_i), int) if groups is None else groups.sizes,
            "elpd": found.elpd_i,
            "p_loo": found.p_loo_i,
            "k_hat": found.pareto_k,
        },
        index=pd.Index(found.elpd_i[unit].to_numpy(), name=unit),
    )
    what, seen = _words(fit, groups)
    return Report(
        f"Leave-one-{'row' if groups is None else unit}-out",
        table,
        draws,
        f"Expected log predictive density {found.elpd:,.1f} (standard error {found.se:.1f} over "
        f"{len(table):,} units), the sum over units of the log {_density(fit)} of {what}, foretold "
        f"from all other data by the same model{seen}. Higher is better. Effective number of "
        f"parameters p_loo {found.p:.1f}. There are no intervals: each value is one expectation "
        "over the posterior.",
        (
            *reliability(found, unit),
            *integration_error(draws),
            *_scope(fit, groups),
            *convergence_caveats(fit),
        ),
        (*REFERENCES, *further_references(fit, groups)),
        {
            "khat": partial(_picture_k, table, found.good_k),
            "elpd": partial(_picture_elpd, table),
        },
    )


def unit_groups(fit: Fit, unit: str) -> Groups | None:
    """The groups to leave out; None for rows.

    Raises
    ------
    UnknownNameError
        If there is no such grouping.
    """
    every: dict[str, Groups | None] = {"row": None, **units(fit.design)}
    return lookup(every, unit, "unit to leave out")


def left_out(fit: Fit, groups: Groups | None) -> tuple[ELPDDataLOO, xr.Dataset]:
    """ArviZ's value for the units, and the draws that it is made of."""
    efficiency = relative_efficiency(fit)
    if groups is not None:
        values = group_likelihood(fit, groups)
        log_p = values["log_likelihood"]
        if "mcse" in values:
            # What counts is 1/p: an error of p raises its mean by the square of its size.
            log_p = log_p + values["mcse"] ** 2
        return _smoothed([log_p], efficiency), values
    fit.design.need_rows("Leaving out rows")
    count = fit.posterior.sizes["chain"] * fit.posterior.sizes["draw"]
    blocks = row_blocks(fit.design, max(1, _MAX_VALUES // count))
    places = np.argsort(np.concatenate(blocks))
    found = _smoothed((row_log_likelihood(fit, at) for at in blocks), efficiency, places)
    return found, xr.Dataset(coords={d: fit.posterior[d] for d in ("chain", "draw")})


def row_log_likelihood(fit: Fit, at: NDArray[np.intp]) -> xr.DataArray:
    """Log-likelihood of some rows, given their groups' effects; (chain, draw, row).

    With correlated residuals they are whole series, and each row is given the others of its own.
    """
    if fit.design.series is not None:
        values = row_log_density(fit, at, "others")
        rows = fit.design.table.frame.index.to_numpy()[at]
        return xr.DataArray(values, dims=("chain", "draw", "row"), coords={"row": rows})
    predictor = linear_predictor(fit, take(fit.design, at))
    design = predictor.design
    values = design.family.evaluate(
        design.family.loglik, predictor.centre, design.links, y=design.y, **design.known
    )
    rows = design.table.frame.index.to_numpy()
    return xr.DataArray(np.asarray(values), dims=("chain", "draw", "row"), coords={"row": rows})


def relative_efficiency(fit: Fit) -> float:
    """Effective draws over draws, averaged over the population's parameters as ArviZ does."""
    if fit.posterior.sizes["chain"] == 1:
        return 1.0
    values = fit.scalars()
    effective = values.to_dataset(name="value").azstats.ess(method="mean")["value"]
    return float(effective.mean()) / (values.sizes["chain"] * values.sizes["draw"])


def _smoothed(
    blocks: Iterable[xr.DataArray], efficiency: float, places: Any = slice(None)
) -> ELPDDataLOO:
    """Smoothed units, put in the order of their places."""
    over = ["chain", "draw"]
    every, count = [], 0
    for values in blocks:
        count = values.sizes["chain"] * values.sizes["draw"]
        every.append(values.azstats.loo(sample_dims=over, r_eff=efficiency))
    elpd_i, k, p_i = (xr.concat(part, part[0].dims[0])[places] for part in zip(*every, strict=True))
    good = min(1 - 1 / np.log10(count), 0.7)
    return _summed(elpd_i, k, p_i, count, good)


def _summed(
    elpd_i: xr.DataArray, k: xr.DataArray, p_i: xr.DataArray, count: int, good: float
) -> ELPDDataLOO:
    return ELPDDataLOO(
        elpd=float(elpd_i.sum()),
        se=float((len(elpd_i) * elpd_i.var()) ** 0.5),
        p=float(p_i.sum()),
        n_samples=count,
        n_data_points=len(elpd_i),
        scale="log",
        warning=bool((k > good).any()),
        good_k=good,
        elpd_i=elpd_i,
        pareto_k=k,
        p_loo_i=p_i,
    )


def _refitted(
    fit: Fit, groups: Groups, found: ELPDDataLOO, refits: Mapping[Any, Fit]
) -> ELPDDataLOO:
    """The same with exact values for the groups that refits did not see."""
    elpd_i, k, p_i = found.elpd_i.copy(), found.pareto_k.copy(), found.p_loo_i.copy()
    places = {str(label): i for i, label in enumerate(groups.labels)}
    for label, other in refits.items():
        j = lookup(places, str(label), groups.name)
        values = group_log_likelihood(other, groups.name, _held_out(fit, other, groups, j))
        exact = float(logsumexp(values)) - np.log(values.size)
        p_i[j] += float(elpd_i[j]) - exact
        elpd_i[j], k[j] = exact, np.nan
    return _summed(elpd_i, k, p_i, found.n_samples, found.good_k)


def _held_out(fit: Fit, other: Fit, groups: Groups, j: int) -> Design:
    """A group's rows as the model of a fit without them sees them."""
    at = np.flatnonzero(groups.index == j)
    same = fit.spec.formula == other.spec.formula and fit.spec.family.name == other.spec.family.name
    known = units(other.design).get(groups.name)
    seen = set() if known is None else {str(label) for label in known.labels}
    if not same or fit.design.categories != other.design.categories:
        raise DataError(f"The refit for {groups.labels[j]} is not of the same model: {other!r}.")
    if str(groups.labels[j]) in seen or len(other.design.y) != len(fit.design.y) - len(at):
        raise DataError(
            f"The refit for {groups.labels[j]} must be to all rows but those of this "
            f"{groups.name}: {len(fit.design.y) - len(at):,} rows, not {len(other.design.y):,}."
        )
    frame = fit.design.table.frame.iloc[at]
    return replace(other.design.unobserved(frame), y=fit.design.y[at], table=Table(frame, {}, 0))


def reliability(found: ELPDDataLOO, unit: str) -> tuple[str, ...]:
    """Whether the estimates can be trusted, in words."""
    caveats = []
    k = found.pareto_k
    bad = k[unit].to_numpy()[(k > found.good_k).to_numpy()]
    if len(bad):
        cure = (
            "Leave out a grouping instead, whose effects are then integrated out."
            if unit == "row"
            else "Refit without each of them, and pass the fits: bm.loo(fit, "
            f'"{unit}", refits={{label: bm.Model.from_spec(fit.spec, rows_without_it).fit()}}).'
        )
        caveats.append(
            f"{len(bad):,} of {len(k):,} units have k_hat above {found.good_k:.2f}: their elpd "
            f"is not to be trusted, and often too high: {listed(bad)}. {cure}"
        )
    if len(k) < _FEW_UNITS:
        caveats.append(
            f"With {len(k)} units the standard error is itself uncertain, and the error far from "
            "normal (Sivula et al. 2025, arXiv:2008.10296)."
        )
    return tuple(caveats)


def integration_error(draws: xr.Dataset) -> tuple[str, ...]:
    """What Monte Carlo error the integration over a process leaves, in words.

    A unit's elpd is minus the log of the mean of 1/p over draws, so the errors of p in each of them
    count by their share in that mean.
    """
    if "mcse" not in draws:
        return ()
    error, values = draws["mcse"], draws["log_likelihood"]
    name = str(error.dims[-1])
    numbers = -values.to_numpy()
    share = np.exp(numbers - logsumexp(numbers, axis=(0, 1), keepdims=True))
    squares = error.to_numpy() ** 2
    total = np.sqrt((share**2 * squares).sum())
    found = [
        "The process was integrated out by importance sampling in every draw, which leaves the "
        f"elpd of all units with a Monte Carlo error of {total:.2g}."
    ]
    rough = error[name].to_numpy()[(share * squares).sum(axis=(0, 1)) > _ROUGH]
    if len(rough):
        found.append(
            f"In {len(rough):,} units that integration is rough, so that their elpd is not to be "
            f"trusted: {listed(rough)}."
        )
    return tuple(found)


def _words(fit: Fit, groups: Groups | None) -> tuple[str, str]:
    if groups is not None and groups.name not in {g.name for g in fit.design.groups}:
        inside = [r.name for p in fit.design.predictors.values() for r in p.random if r.within]
        over = f", averaged over {' and '.join(dict.fromkeys(inside))}" if inside else ""
        return f"all rows of one {groups.name} together", over
    if groups is not None:
        return f"all rows of one {groups.name} together", (
            ", with the group's effects (and those of groups inside it) integrated over the "
            "population of groups"
        )
    known = [
        "its own value of the process"
        if g.grouping.is_process
        else f"the effects of its own {g.name}"
        for g in fit.design.groups
    ]
    if fit.design.series is not None:
        known.append(f"the other rows of its own {fit.design.series.structure.within}")
    return "one row", f", given {' and '.join(known)}" if known else ""


def _scope(fit: Fit, groups: Groups | None) -> list[str]:
    every = units(fit.design)
    if groups is None and every:
        return [
            "Leaving out a row says how well another row of a known group is foretold; for a new "
            f'group leave out groups: unit="{next(iter(every))}".'
        ]
    return []


def further_references(fit: Fit, groups: Groups | None) -> tuple[str, ...]:
    """On what is left out, besides `REFERENCES`."""
    if groups is not None:
        related = any(r.within for p in fit.design.predictors.values() for r in p.random)
        return (GROUP_REFERENCE, *((PROCESS_REFERENCE,) if related else ()))
    return () if fit.design.series is None else (SERIES_REFERENCE,)


def is_discrete(fit: Fit) -> bool:
    """Whether the outcome has probabilities, rather than a density."""
    design = fit.design
    y = np.where(design.y == 0, 0.5, design.y * 0.99937)
    return not np.asarray(design.family.valid(y, design.trials)).any()


def _density(fit: Fit) -> str:
    return "probability" if is_discrete(fit) else f"density (per unit of {fit.spec.response})"


def _axes(table: pd.DataFrame, label: str, ax: Axes | None) -> Axes:
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
    if len(table) <= _MOST_LABELS:
        ax.set_xticks(np.arange(len(table)), map(str, table.index), rotation=90, fontsize=8)
        ax.set_xlabel(str(table.index.name))
    else:
        ax.set_xlabel(f"{table.index.name} ({len(table):,}, in the order of the table)")
    ax.set_ylabel(label)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _picture_k(table: pd.DataFrame, good: float, ax: Axes | None) -> Axes:
    ax = _axes(table, r"Pareto $\hat k$", ax)
    k, at = table["k_hat"].to_numpy(), np.arange(len(table))
    bad = k > good
    size = 18 if len(table) <= 200 else 5
    ax.scatter(at[~bad], k[~bad], s=size, color=BLUE)
    ax.scatter(at[bad], k[bad], s=2 * size, color=ORANGE, marker="x")
    ax.axhline(good, color=GREY, linestyle="--", linewidth=1)
    ax.annotate(f"trustworthy below {good:.2f}", (0, good), (2, 3), textcoords="offset points")
    for i in at[bad][:20] if len(table) > _MOST_LABELS else ():
        ax.annotate(str(table.index[i]), (i, k[i]), (4, 2), textcoords="offset points", fontsize=8)
    return ax


def _picture_elpd(table: pd.DataFrame, ax: Axes | None) -> Axes:
    ax = _axes(table, "log predictive density per row (nats)", ax)
    at = np.arange(len(table))
    ax.scatter(at, table["elpd"] / table["n"], s=18 if len(table) <= 200 else 5, color=BLUE)
    ax.axhline(table["elpd"].sum() / table["n"].sum(), color=GREY, linestyle="--", linewidth=1)
    return ax
