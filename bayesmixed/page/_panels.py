"""Which estimates of a report are drawn together, on which axis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from bayesmixed import meta
from bayesmixed.fit import Fit
from bayesmixed.page._bars import Estimate, Panel, comparable, estimates
from bayesmixed.reports import Report

# More studies than this are read in the table.
_MOST = 120
# Intraclass correlations below this would be one dot on an axis up to 1.
_SMALL = 0.3

STUDIES_KEY = (
    "Orange, above: the study alone, with its 95 % confidence interval. Blue: its effect given all "
    "studies. Diamond: the pooled effect. Square: a new study."
)
RATIOS_KEY = "Blue: subject-specific. Orange diamond: population-averaged."
REPLICATES_KEY = "Blue: 95 % of data sets that the model replicates. Orange: the data."


def _present(*panels: Panel | None) -> list[Panel]:
    return [panel for panel in panels if panel is not None]


def coefficients(summary: pd.DataFrame, link: str) -> list[Panel]:
    """Population-level coefficients on axes that they can share; intercepts only if alone."""
    names = summary.index.astype(str)
    beta = summary[names.str.startswith("beta")]
    slopes = beta[~beta.index.astype(str).str.endswith("[Intercept]")]
    scale = "in units of the outcome" if link == "identity" else f"on the {link} scale"
    label = f"coefficient, {scale}"
    shown = slopes if len(slopes) else beta
    reference = 0.0 if len(slopes) else None
    return _present(*(Panel.of(some, label, reference) for some in comparable(estimates(shown))))


def spreads(report: Report) -> list[Panel]:
    """Standard deviations, correlations, and shares of the variance."""
    quantity = report.table.index.get_level_values("quantity")

    def of(what: str) -> list[Estimate]:
        return estimates(report.table[quantity == what].droplevel("quantity"))

    # What a link fixes, such as the latent residual of logit, is no estimate.
    free = [one for one in of("sd") if one.high > one.low]
    sds = [Panel.of(some, "standard deviation", 0.0) for some in comparable(free)]
    correlation = Panel.of(of("correlation"), "correlation", 0.0, limits=(-1, 1))
    share = Panel.of(of("share"), "share of the variance", limits=(0, 1))
    return _present(*sds, correlation, share)


def shares(report: Report) -> list[Panel]:
    """Intraclass correlations."""
    low, high = float(report.table["eti95_lb"].min()), float(report.table["eti95_ub"].max())
    limits = (min(0.0, low), 1.0 if high > _SMALL else 1.2 * high)
    return _present(Panel.of(estimates(report.table), "intraclass correlation", limits=limits))


def ratios(report: Report) -> list[Panel]:
    """Subject-specific and population-averaged ratios, in turn."""
    kind = report.table.index.get_level_values("kind")
    shown = report.table[kind != "attenuation"].drop(columns="mean")

    def look(labels: tuple[str, ...]) -> str:
        return "other" if labels[-1].startswith("population") else ""

    return _present(Panel.of(estimates(shown, look), "odds ratio", 1.0, ratio=True))


def correlations(report: Report) -> list[Panel]:
    """Residual correlations of pairs of visits; none where the table has other rows."""
    if not {"mean", "eti95_lb", "eti95_ub"} <= set(report.table.columns) or len(report.table) > 60:
        return []
    if "expected" in report.table:
        names = {"expected": "mean", "expected_lb": "eti95_lb", "expected_ub": "eti95_ub"}
        beside = report.table[[*names, "observed"]].rename(columns=names)
        words = "correlation of Pearson residuals: 95 % of replicates (orange: observed)"
        process = Panel.of(estimates(report.table), "correlation of the process", 0.0)
        return [*_present(process), *_present(Panel.of(_with_observed(beside), words, 0.0))]
    words = "correlation (orange: of the data's residuals)"
    return _present(Panel.of(_with_observed(report.table), words, 0.0))


def _with_observed(table: pd.DataFrame) -> list[Estimate]:
    """Estimates, each with what was observed."""
    rows = estimates(table)
    observed = table.get("observed", pd.Series(np.nan, table.index)).to_numpy()
    return [
        replace(row, raw=(float(o),)) if np.isfinite(o) else row
        for row, o in zip(rows, observed, strict=True)
    ]


def replicates(report: Report) -> list[Panel]:
    """Each statistic of the data among those of replicated data."""
    rows = estimates(report.table)
    observed = report.table["observed"].to_numpy(dtype=float)
    return _present(
        *(
            Panel.of([replace(row, raw=(float(o),))], "")
            for row, o in zip(rows, observed, strict=True)
        )
    )


def studies(fit: Fit, report: Report) -> list[Panel]:
    """A forest: studies, the pooled effect, and a new study; of ratios where effects are logs."""
    table, every = report.table, meta.study_effects(fit).table
    pooled, new, raw = "mu", "new study", ["raw", "raw_lb", "raw_ub"]
    ratio = next((str(n) for n in table.index if f"{n}, new study" in table.index), "")
    if ratio:
        pooled, new = ratio, f"{ratio}, new study"
        raw = ["raw_ratio", "raw_ratio_lb", "raw_ratio_ub"]
        own = {"mean": "ratio", "eti95_lb": "ratio_lb", "eti95_ub": "ratio_ub"}
        every = every.assign(**{column: every[name] for column, name in own.items()})
    kinds = {pooled: ("pooled", "sum"), new: ("new study", "new")}
    rows = [
        replace(one, name=kinds[one.name][0], kind=kinds[one.name][1])
        for one in estimates(table.loc[[n for n in kinds if n in table.index]])
    ]
    if len(every) <= _MOST:
        alone = every[raw].to_numpy(dtype=float).tolist()
        each = zip(estimates(every), alone, strict=True)
        rows = [*(replace(one, raw=tuple(data)) for one, data in each), *rows]
    label = ratio or str(fit.posterior.attrs.get("measure", "") or "effect")
    reference = 1.0 if ratio else 0.0
    return _present(Panel.of(rows, f"{every.index.name}: {label}", reference, ratio=bool(ratio)))
