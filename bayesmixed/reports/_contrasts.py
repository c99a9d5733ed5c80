"""Differences and ratios of mean outcomes, under their right names, and their tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesmixed.reports._estimand import Estimand
from bayesmixed.reports._report import interval

NEEDED = "number needed to treat"

_MOST_SENTENCES = 6


def contrasts(low: xr.DataArray, high: xr.DataArray, estimand: Estimand) -> dict[str, xr.DataArray]:
    """Every contrast of two mean outcomes that means something for them.

    Parameters
    ----------
    low, high : DataArray
        Mean outcomes, the reference's first.
    estimand : Estimand
        What they are.

    Returns
    -------
    dict of str to DataArray
        By name, such as "risk difference".
    """
    found = {f"{estimand.name} difference": high - low}
    # A risk that is 0 or 1 to the last digit makes an infinite ratio, and equal ones an infinite
    # number needed.
    with np.errstate(divide="ignore", invalid="ignore"):
        if estimand.has_ratio:
            name = "ratio of means" if estimand.name == "mean" else f"{estimand.name} ratio"
            found[name] = high / low
        if estimand.is_risk:
            found["odds ratio"] = (high / (1 - high)) / (low / (1 - low))
            found[NEEDED] = 1 / (high - low)
    return found


def interactions(found: Mapping[str, xr.DataArray], axis: str) -> dict[str, xr.DataArray]:
    """How contrasts change from the first value of a grid's column to the others.

    Differences of differences, and ratios of ratios; the column is labelled "2 vs 1".
    """
    changed = {}
    for name, draws in found.items():
        if name == NEEDED:
            continue
        first, others = draws.isel({axis: 0}, drop=True), draws.isel({axis: slice(1, None)})
        start, *rest = draws[axis].to_numpy()
        others = others.assign_coords({axis: [f"{value} vs {start}" for value in rest]})
        plural = name.replace("ratio", "ratios")
        plural = plural.replace("difference", "differences").replace("slope", "slopes")
        is_ratio = "ratio" in name
        what = f"{'ratio' if is_ratio else 'difference'} of {plural}"
        changed[what] = others / first if is_ratio else others - first
    return changed


def table(found: Mapping[str, xr.DataArray]) -> pd.DataFrame:
    """Posterior median, mean, sd and interval of every contrast, populations side by side.

    A number needed to treat has no mean, and its interval is that of the risk difference turned
    over, left open where it passes through infinity (Altman 1998).
    """
    parts = [_needed(d) if name == NEEDED else _numbers(d) for name, d in found.items()]
    every = xr.concat(parts, pd.Index(list(found), name="measure"), join="outer")
    first = next(iter(found.values()))
    own = [d for d in first.dims if d not in ("chain", "draw", "population")]
    return every.to_dataframe(dim_order=[*own, "measure", "population"])


def _numbers(draws: xr.DataArray) -> xr.Dataset:
    return xr.Dataset({"median": draws.median(["chain", "draw"]), **interval(draws)})


def _needed(draws: xr.DataArray) -> xr.Dataset:
    difference = _numbers(1 / draws)
    apart = difference["eti95_lb"] * difference["eti95_ub"] > 0
    none = xr.full_like(difference["mean"], np.nan)
    return xr.Dataset(
        {
            "median": 1 / difference["median"],
            "mean": none,
            "sd": none,
            "eti95_lb": (1 / difference["eti95_ub"]).where(apart),
            "eti95_ub": (1 / difference["eti95_lb"]).where(apart),
        }
    )


def unsettled(found: Mapping[str, xr.DataArray]) -> tuple[str, ...]:
    """What to read in place of each interval of a number needed that passes through infinity."""
    if NEEDED not in found:
        return ()
    difference = _numbers(1 / found[NEEDED])
    own = [d for d in difference.dims if d != "population"]
    rows = difference.to_dataframe(dim_order=[*own, "population"])
    rows = rows[rows["eti95_lb"] * rows["eti95_ub"] <= 0]
    sentences = [
        f"{_name(rows.index.names, at)}: from one event more per {1 / row['eti95_ub']:,.3g} "
        f"rows, through infinity (no effect), to one fewer per {-1 / row['eti95_lb']:,.3g}"
        for at, row in rows.iterrows()
    ]
    if not sentences:
        return ()
    rest = len(sentences) - _MOST_SENTENCES
    more = f"; and {rest} more" if rest > 0 else ""
    return (
        "The intervals of some numbers needed to treat pass through infinity and are left open in "
        f"the table. {'; '.join(sentences[:_MOST_SENTENCES])}{more}.",
    )


def _name(names: Sequence[Any], at: Any) -> str:
    plain = ("contrast", "population")
    parts = [v if n in plain else f"{n} = {v}" for n, v in zip(names, at, strict=True)]
    return ", ".join(map(str, parts))
