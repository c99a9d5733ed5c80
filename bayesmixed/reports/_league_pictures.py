"""Pictures of a benchmark: caterpillar, funnel and ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from bayesmixed import plots
from bayesmixed.fit import Fit
from bayesmixed.reports._funnel import count_limits, normal_limits, overdispersion, widened
from bayesmixed.reports._rate import is_count, is_share, rate_of
from bayesmixed.reports._report import Picture
from bayesmixed.reports._terms import Terms


def pictures_of(
    fit: Fit, table: pd.DataFrame, draws: xr.Dataset, terms: Terms
) -> Mapping[str, Picture]:
    """Pictures by name, the usual one first; no funnel where groups lie inside the units."""
    rate = rate_of(fit.design)
    sizes = table[rate.size] if rate.size else table["n"]
    names = {terms.scale: "shrunken", "observed_expected": "raw"}
    kept = [*names, "eti95_lb", "eti95_ub", "flag"]
    compared = table[kept].rename(columns=names).assign(n=sizes)
    ranks = table[["rank", "rank_lb", "rank_ub", "flag"]].set_axis(
        ["shrunken", "eti95_lb", "eti95_ub", "flag"], axis=1
    )
    found: dict[str, Picture] = {"caterpillar": partial(_caterpillar, compared, terms)}
    funnel = _funnel(fit, table, draws, terms)
    if funnel is not None:
        found["funnel"] = funnel
    found["rank"] = partial(_ranks, ranks, terms)
    return found


def _funnel(fit: Fit, table: pd.DataFrame, draws: xr.Dataset, terms: Terms) -> Picture | None:
    """The funnel of these units, if chance alone is known to act on rows independently."""
    chance = draws["chance"].mean(["chain", "draw"]).to_numpy() if "chance" in draws else None
    if chance is None or not (np.isfinite(chance) & (chance > 0)).all():
        return None
    design, expected = fit.design, table["expected"].to_numpy()
    rate = rate_of(design)
    weight = table[rate.size if rate.size else "n"].to_numpy()
    variance = chance / expected**2 if terms.scale == "ratio" else chance
    z = (table["observed_expected"].to_numpy() - terms.null) / np.sqrt(variance)
    # A family without further parameters is binomial or Poisson where it counts events.
    exact = terms.scale == "ratio" and is_count(design) and len(design.family.parameters) == 1
    if exact:
        x, along = weight * expected, "Expected events"
        events = float((table["observed"] * weight).sum())
        share = events / float(weight.sum()) if is_share(design) else None
        limits = count_limits(float(x.max()), share)
        along += f" ({'binomial' if share else 'Poisson'} limits)"
    else:
        x, along = 1 / variance, "Precision (1 / variance by chance; normal limits)"
        limits = normal_limits(float(x.max()), terms.null)
    factor = overdispersion(z)
    if factor > 1:
        limits = [*limits, *widened(limits, factor, terms.null)]
    sign = "/" if terms.scale == "ratio" else "-"
    points = pd.DataFrame(
        {"x": x, "y": table["observed_expected"], "flag": table["flag"]}, index=table.index
    )
    return partial(_drawn, points, limits, terms.null, (along, f"Observed {sign} expected"))


def _drawn(
    points: pd.DataFrame,
    limits: Sequence[plots.Limits],
    target: float,
    labels: tuple[str, str],
    ax: Axes | None,
) -> Axes:
    return plots.funnel(points, limits, target, labels, ax)


def _caterpillar(table: pd.DataFrame, terms: Terms, ax: Axes | None) -> Axes:
    sign = "/" if terms.scale == "ratio" else "-"
    label = f"Predicted {sign} expected ({terms.worse} is worse)"
    names = (f"predicted {sign} expected", f"observed {sign} expected")
    return plots.caterpillar(table, label, terms.null, ax, names)


def _ranks(table: pd.DataFrame, terms: Terms, ax: Axes | None) -> Axes:
    label = f"Rank by directly standardised rate (1 is best: {_best(terms)})"
    return plots.caterpillar(table, label, (len(table) + 1) / 2, ax, ("mean rank", ""))


def _best(terms: Terms) -> str:
    return "lowest" if terms.worse == "higher" else "highest"
