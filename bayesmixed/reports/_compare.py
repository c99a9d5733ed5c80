"""Which of several models foretells best, and how sure that is."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats.utils import ELPDDataLOO
from matplotlib.axes import Axes

from bayesmixed._errors import BayesmixedError, DataError, lookup
from bayesmixed.fit import Fit
from bayesmixed.groups import Groups
from bayesmixed.plots import BLUE, GREY
from bayesmixed.reports._loo import (
    REFERENCES,
    further_references,
    integration_error,
    is_discrete,
    left_out,
)
from bayesmixed.reports._report import Report, convergence_caveats
from bayesmixed.subjects import units

_SMALL_DIFFERENCE = 4.0


def compare(fits: Mapping[str, Fit], unit: str = "row") -> Report:
    """Models of the same outcomes, from the best to the worst at foretelling.

    Parameters
    ----------
    fits : mapping of str to Fit
        Two or more fits to the same rows, by name.
    unit : str
        What is left out: ``"row"``, a grouping of at least one of the fits, or whose rows make a
        series in one of them. Fits without it leave out the same rows.

    Returns
    -------
    Report
        A row a model: ``elpd`` and its standard error ``se``, ``p_loo``, ``elpd_diff`` to the best
        model with standard error ``se_diff`` of that difference, unit by unit; ``weight`` in the
        stacked mixture of all [1]_; and ``bad_k``, the number of units whose elpd is not to be
        trusted. ``draws`` has the elpd of every unit by model.

    Raises
    ------
    UnknownNameError
        If no fit has the grouping.
    DataError
        If the fits are not to the same rows and outcomes, or mix densities with probabilities.

    References
    ----------
    .. [1] Yao, Vehtari, Simpson & Gelman (2018), Bayesian Anal. 13:917.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> slopes = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1)
    >>> intercepts = bm.Model("Reaction ~ Days + (1 | Subject)", data).fit(seed=1)
    >>> report = bm.compare({"slopes": slopes, "intercepts": intercepts}, unit="Subject")
    >>> list(report.table.index)
    ['slopes', 'intercepts']
    """
    _check(fits)
    groups = _groups(fits, unit)
    both = {name: left_out(fit, groups) for name, fit in fits.items()}
    found = {name: one for name, (one, _) in both.items()}
    table = _table(found)
    each = xr.concat([f.elpd_i for f in found.values()], pd.Index(list(found), name="model"))
    what = _what(fits, unit, groups)
    caveats = [
        f"{name}: {table.loc[[name], 'bad_k'].item()} of {len(each[unit]):,} units: k_hat above "
        f"{one.good_k:.2f}, so its elpd is not to be trusted, and often too high; bm.loo names "
        "them and says what to do."
        for name, one in found.items()
        if one.warning
    ]
    return Report(
        f"Comparison by leave-one-{unit}-out",
        table,
        xr.Dataset({"elpd": each}),
        "Expected log predictive density (elpd; higher is better) of one left-out "
        f"{what}, summed over the {len(each[unit]):,} units in the data. elpd_diff is the "
        "difference to the best model and se_diff its standard error over units; weights are "
        "those of the mixture of the models that foretells best (stacking), not probabilities of "
        "being true. There are no intervals.",
        (
            *caveats,
            *(f"{n}: {c}" for n, (_, draws) in both.items() for c in integration_error(draws)),
            *_caution(table, len(each[unit])),
            *_convergence(fits),
        ),
        (
            *REFERENCES,
            *dict.fromkeys(r for f in fits.values() for r in further_references(f, groups)),
            "Yao, Vehtari, Simpson & Gelman (2018), Bayesian Analysis 13:917-1007.",
        ),
        {"differences": partial(_picture, table)},
    )


def _what(fits: Mapping[str, Fit], unit: str, groups: Groups | None) -> str:
    if groups is not None:
        return f"{unit}, its effects integrated out"
    correlated = any(fit.design.series is not None for fit in fits.values())
    rest = " and, where residuals are correlated, the rest of its series" if correlated else ""
    return f"row, given its groups{rest}"


def _check(fits: Mapping[str, Fit]) -> None:
    """Refuse what cannot be compared, naming the pair."""
    if not isinstance(fits, Mapping) or len(fits) < 2:
        raise BayesmixedError('A comparison takes two fits or more: bm.compare({"a": a, "b": b}).')
    (first, one), *others = fits.items()
    for name, other in others:
        pair = f"{first!r} and {name!r}"
        if len(one.design.y) != len(other.design.y):
            raise DataError(
                f"{pair} are fits to {len(one.design.y):,} and {len(other.design.y):,} rows. Drop "
                "the rows that miss a value in any of the models before fitting them."
            )
        same = np.array_equal(one.design.y, other.design.y)
        trials, others_trials = (
            np.ones(len(f.design.y)) if f.design.trials is None else f.design.trials
            for f in (one, other)
        )
        if not same or one.design.categories != other.design.categories:
            raise DataError(
                f"{pair} have different outcomes ({one.spec.response} and {other.spec.response}). "
                "Densities of a transformed outcome are on another scale; use the family that "
                "transforms for you (lognormal for a logarithm), on the same rows in the same "
                "order."
            )
        if not np.array_equal(trials, others_trials):
            raise DataError(f"{pair} have different numbers of trials.")
        if is_discrete(one) != is_discrete(other):
            raise DataError(
                f"One of {pair} gives its outcomes probabilities and the other a density, which "
                "cannot be compared; choose families that are both for counts, or both for "
                "continuous outcomes."
            )


def _groups(fits: Mapping[str, Fit], unit: str) -> Groups | None:
    every: dict[str, Groups | None] = {"row": None}
    for fit in fits.values():
        for g in units(fit.design).values():
            known = every.setdefault(g.name, g)
            if g.name == unit and known is not None and not np.array_equal(known.index, g.index):
                raise DataError(f"The groups of {unit!r} are not the same rows in every fit.")
    return lookup(every, unit, "unit to leave out")


def _table(found: Mapping[str, ELPDDataLOO]) -> pd.DataFrame:
    """ArviZ's comparison, with weights that do not underflow."""
    top = np.max([f.elpd_i for f in found.values()], axis=0)
    # Stacking exponentiates; taking the same from every model changes neither it nor differences.
    lower = {
        n: replace(f, elpd_i=f.elpd_i - top, elpd=f.elpd - top.sum()) for n, f in found.items()
    }
    with warnings.catch_warnings():
        # On selection among many models; our caveat says it.
        warnings.simplefilter("ignore")
        result = az.compare(lower, round_to="none")
    names = list(result.index)
    return pd.DataFrame(
        {
            "elpd": [found[n].elpd for n in names],
            "se": [found[n].se for n in names],
            "p_loo": [found[n].p for n in names],
            "elpd_diff": result["elpd_diff"].to_numpy(dtype=float),
            "se_diff": result["dse"].to_numpy(dtype=float),
            "weight": result["weight"].to_numpy(dtype=float),
            "bad_k": [int((found[n].pareto_k > found[n].good_k).sum()) for n in names],
        },
        index=pd.Index(names, name="model"),
    )


def _caution(table: pd.DataFrame, units: int) -> list[str]:
    found = []
    close = table.index[(table["elpd_diff"].abs() < _SMALL_DIFFERENCE)][1:]
    if len(close):
        found.append(
            f"A difference below {_SMALL_DIFFERENCE:.0f} is small, and its standard error then no "
            f"guide: {', '.join(map(str, close))} foretell about as well as {table.index[0]}."
        )
    if units < 100:
        found.append(
            f"With {units} units the standard errors are themselves uncertain, and errors far from "
            "normal (Sivula et al. 2025, arXiv:2008.10296)."
        )
    if len(table) > 11:
        found.append(
            f"The best of {len(table)} models looks better than it is; average them by weight "
            "(McLatchie & Vehtari 2024, Statistics and Computing 34:132)."
        )
    return found


def _convergence(fits: Mapping[str, Fit]) -> list[str]:
    return [f"{name}: {c}" for name, fit in fits.items() for c in convergence_caveats(fit)]


def _picture(table: pd.DataFrame, ax: Axes | None) -> Axes:
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 0.4 * len(table) + 1.4), layout="constrained")
    at = np.arange(len(table))[::-1]
    ax.axvline(0, color=GREY, linestyle="--", linewidth=1)
    ax.hlines(
        at,
        table["elpd_diff"] - table["se_diff"],
        table["elpd_diff"] + table["se_diff"],
        color=BLUE,
        linewidth=2,
    )
    ax.scatter(table["elpd_diff"], at, color=BLUE, zorder=3)
    ax.set_yticks(at, [str(name) for name in table.index])
    ax.set_ylim(-0.7, len(table) - 0.3)
    ax.set_xlabel("elpd less that of the best model (nats), ± 1 standard error")
    ax.spines[["top", "right"]].set_visible(False)
    return ax
