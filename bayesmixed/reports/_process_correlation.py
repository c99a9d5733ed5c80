r"""Correlation of a process within series, and of the residuals that it is to account for.

The process is never seen, so its correlation has nothing observed beside it. What is seen are
outcomes: with m and V the mean and variance of an outcome given all but the process,

.. math:: r = (y - m) / \sqrt V

is correlated because of the process, less than the process itself since V also holds the outcome's
own noise. How r is correlated in the data stands beside how it is in outcomes drawn from the model,
both with the parameters and the groups' effects of one draw (Gelman, Meng & Stern 1996). If the
model holds, the two have one distribution. At posterior means they would not: the effects there
have taken up a part of the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesmixed.fit import Fit
from bayesmixed.linpred import linear_predictor
from bayesmixed.predictor import RandomDesign
from bayesmixed.reports._correlation_pictures import (
    matrix,
    process_correlogram,
    process_matrix,
    process_semivariogram,
    squares,
)
from bayesmixed.reports._lags import (
    LAG,
    Rows,
    by_lag,
    fitted,
    levels_of,
    rows_of,
    subject_of,
    times_of,
)
from bayesmixed.reports._replicates import replicate
from bayesmixed.reports._report import Picture, Report, convergence_caveats, interval
from bayesmixed.reports._row_pairs import RowPairs
from bayesmixed.series import Series
from bayesmixed.spec import PROCESS

type Floats = NDArray[np.float64]

# Draws in which outcomes are drawn anew, and pairs of rows or of times that are looked at in all.
_REPLICATES = 400
_FEWEST = 100
_MOST_PAIRS = 100_000_000
_SEED = 1

REFERENCES = (
    "Gelman, Meng & Stern (1996), Statistica Sinica 6:733-807.",
    "Diggle, Heagerty, Liang & Zeger (2002), Analysis of Longitudinal Data, ch. 3 and 9.",
)


@dataclass(frozen=True)
class Beside:
    """A statistic of pairs of residuals in the data, and in outcomes drawn from the model.

    It is not known of draws in which no residual varies, such as those of no event at all.

    Parameters
    ----------
    observed, drawn : array, shape (draws, what)
    """

    observed: Floats
    drawn: Floats

    @property
    def seen(self) -> Floats:
        """Mean over draws of that in the data, shape (what,)."""
        return _mean(self.observed)

    @property
    def expected(self) -> Floats:
        """Mean of those drawn, shape (what,)."""
        return _mean(self.drawn)

    @property
    def limits(self) -> Floats:
        """Where 95 % of those drawn lie, shape (2, what)."""
        some = np.isfinite(self.drawn).any(axis=0)
        found = np.full((2, self.drawn.shape[1]), np.nan)
        known = np.where(np.isfinite(self.drawn), self.drawn, np.nan)[:, some]
        found[:, some] = np.nanquantile(known, [0.025, 0.975], axis=0)
        return found

    @property
    def p(self) -> Floats:
        """How often that drawn is above that in the data, shape (what,)."""
        known = np.isfinite(self.drawn + self.observed)
        above = np.where(known, self.drawn > self.observed, np.nan)
        return _mean(above)


def process_correlation(fit: Fit) -> Report:
    """What `residual_correlation` says of a process in the place of residuals."""
    first = fit.design.predictors[fit.design.family.parameters[0].name]
    process = next(r for r in first.random if r.is_process)
    assert process.between is not None
    series = process.between.series
    assert series is not None
    fit.design.need_rows("The correlation of residuals")
    times = times_of(series)
    rows = rows_of(series, times)
    last = max(k for k, axis in enumerate(series.axes) if axis.size > 1)
    lags: Rows = {(LAG, *key): where for key, where in by_lag(series, times, last).items()}
    posterior = _thinned(fit, max(_FEWEST, _MOST_PAIRS // len(times) ** 2))
    draws, _ = fitted(posterior, series, times, rows | lags)
    pairs = [RowPairs.of(series, process.groups.index, each) for each in (rows, lags)]
    table_pairs, lag_pairs = pairs
    enough = max(_FEWEST, _MOST_PAIRS // (1 + sum(len(each.one) for each in pairs)))
    found = _beside(
        _thinned(fit, min(_REPLICATES, enough)),
        (table_pairs.correlation, lag_pairs.correlation, lag_pairs.semivariance),
    )
    labelled = {key: xr.DataArray(draws[key], dims=("chain", "draw")) for key in rows}
    frame = _table(series, labelled, found[0], table_pairs)
    count = len(found[0].drawn)
    return Report(
        "Correlation of the process",
        frame,
        xr.Dataset({" ".join(str(p) for p in k if p != ""): v for k, v in labelled.items()}),
        _caption(fit, series, count),
        (
            "The process is not observed, so its own correlation (mean, sd and interval) has "
            "nothing seen beside it. Compare observed with expected: both are of Pearson "
            "residuals, whose correlation is nearer 0 than that of the process because outcomes "
            "vary by themselves as well.",
            "Data and model share their parameters, and the groups' effects of each draw, so that "
            "p is nearer 0.5 than a p-value would be, the more so with effects of the same "
            f"{series.structure.within}; those of few pairs are rough.",
            *_tails(fit),
            *convergence_caveats(fit),
        ),
        REFERENCES,
        _pictures(fit, process, frame, lags, {key: draws[key] for key in lags}, found[1:]),
    )


def _thinned(fit: Fit, most: int) -> Fit:
    """At most about so many of the draws, evenly spaced."""
    chains, draws = (fit.posterior.sizes[d] for d in ("chain", "draw"))
    step = max(1, -(-chains * draws // most))
    part = fit.posterior.isel(draw=slice(None, None, step))
    return Fit(fit.design, xr.DataTree.from_dict({"posterior": part}))


def _beside(fit: Fit, statistics: tuple[Any, ...]) -> list[Beside]:
    """Statistics of residuals, in the data and drawn, in every draw."""
    rng, design = np.random.default_rng(_SEED), fit.design
    found: list[list[list[Floats]]] = [[[], []] for _ in statistics]
    for piece in fit.pieces():
        outcome = linear_predictor(piece, groups={PROCESS: "new"})
        shape = (-1, len(design.y))
        mean, variance = (v.reshape(shape) for v in (outcome.mean(), outcome.outcome_variance()))
        drawn = replicate(piece, design, {PROCESS: "new"}, rng).reshape(shape)
        with np.errstate(all="ignore"):
            root = np.sqrt(variance)
            residuals = (design.y - mean) / root, (drawn - mean) / root
        for into, statistic in zip(found, statistics, strict=True):
            for part, values in zip(into, residuals, strict=True):
                part.extend(map(statistic, values))
    return [Beside(*(np.array(part) for part in each)) for each in found]


def _mean(values: Floats) -> Floats:
    """Over draws; NaN of what is not known in any of them."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(axis=0) / known.sum(axis=0))


def _table(
    series: Series, labelled: Mapping[Any, xr.DataArray], found: Beside, pairs: RowPairs
) -> pd.DataFrame:
    low, high = found.limits
    columns = zip(found.seen, found.expected, low, high, found.p, pairs.sizes, strict=True)
    names = ("observed", "expected", "expected_lb", "expected_ub", "p", "pairs")
    table = {
        key: {k: float(v) for k, v in interval(values).items()} | dict(zip(names, own, strict=True))
        for (key, values), own in zip(labelled.items(), columns, strict=True)
    }
    frame = pd.DataFrame(table).T.astype({"pairs": int})
    frame.index = frame.index.set_names(levels_of(series))
    return frame.droplevel("arm") if series.structure.by is None else frame


def _caption(fit: Fit, series: Series, count: int) -> str:
    known = [g.name for g in fit.design.groups if not g.grouping.is_process]
    given = "the predictors" + "".join(f" and the effects of {name}" for name in known)
    return (
        f"Correlation of the process ({fit.spec.process}) of one {subject_of(series)}: posterior "
        f"means and 95 % equal-tailed intervals. Beside it that of Pearson residuals given {given}"
        ", with the process averaged over: observed, and expected with the limits of 95 % of what "
        f"such a table would show if the model holds (outcomes drawn anew in {count:,} posterior "
        "draws, residuals of data and model each with the parameters of the draw); p is the share "
        "of draws in which the model's is above the observed."
    )


def _tails(fit: Fit) -> tuple[str, ...]:
    """What to know of counts whose residuals have long tails."""
    if fit.spec.link.name != "log" or float(fit.posterior["sd_process"].mean()) < 1:
        return ()
    return (
        "The process is wide, so that residuals have long tails and few of them make their "
        "correlation, in the data as in the model: a weak check.",
    )


def _pictures(
    fit: Fit,
    process: RandomDesign,
    table: pd.DataFrame,
    lags: Rows,
    curves: Mapping[tuple[Any, ...], Floats],
    found: list[Beside],
) -> dict[str, Picture]:
    assert process.between is not None
    series = process.between.series
    assert series is not None
    shown: dict[str, Picture] = {}
    if len(series.arms) == 1:
        columns = ("mean", "sd", "expected", "observed")
        for name, axis, labels, (mean, sd, expected, seen) in squares(series, table, *columns):
            own = _spreads(fit, process, labels) if len(series.axes) == 1 else None
            shown[name] = partial(process_matrix, axis.name, labels, mean, sd, own)
            beside = "residuals" if name == "matrix" else f"{name} residuals"
            words = "expected", "observed"
            shown[beside] = partial(matrix, axis.name, labels, expected, seen, words=words)
    last = max(k for k, axis in enumerate(series.axes) if axis.size > 1)
    over = series, series.axes[last], lags
    correlation, semivariance = (
        np.array([each.seen, each.expected, *each.limits]) for each in found
    )
    return {
        **shown,
        "correlogram": partial(process_correlogram, *over, curves, correlation),
        "semivariogram": partial(process_semivariogram, *over, semivariance),
    }


def _spreads(fit: Fit, process: RandomDesign, labels: list[Any]) -> Floats:
    """Posterior mean of the process's standard deviation at each visit."""
    sd = fit.posterior["sd_process"].mean(["chain", "draw"]).to_numpy()
    if process.spreads is None:
        return np.full(len(labels), float(sd[0]))
    places = {label: k for k, label in enumerate(process.spreads.labels)}
    return np.array([sd[places[label]] for label in labels])
