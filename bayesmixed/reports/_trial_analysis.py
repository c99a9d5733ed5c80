"""Means by visit and arm of a trial with repeated measurements, and their differences."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.special import ndtr

from bayesmixed._errors import BayesmixedError, lookup, unknown
from bayesmixed.expressions import evaluate
from bayesmixed.fit import Fit
from bayesmixed.linpred import LinearPredictor
from bayesmixed.reports import _contrasts
from bayesmixed.reports._estimand import Estimand
from bayesmixed.reports._report import Report, convergence_caveats, interval
from bayesmixed.reports._trial import Trial
from bayesmixed.reports._visit_pictures import by_visit, over_visits

type Floats = NDArray[np.float64]

REFERENCES = (
    "Mallinckrodt, Lane, Schnell, Peng & Mancuso (2008), Drug Information Journal 42:303-319.",
    "Searle, Speed & Milliken (1980), The American Statistician 34:216-221.",
)
_RESPONDERS = Estimand("risk", "Probability of a responder", True)


def trial_analysis(
    fit: Fit,
    treatment: str,
    time: str,
    *,
    reference: Any = None,
    baseline: Any = None,
    margin: float = 0.0,
    better: Literal["higher", "lower"] = "higher",
    responder: float | str | None = None,
    average: Literal["patients", "grid"] = "patients",
    patient: str | None = None,
) -> Report:
    r"""Adjusted means by visit and arm, and treatment differences at each visit.

    Every patient's expected outcome :math:`x_i(t, a)'\beta` is worked out at every visit t, in
    every arm a, and averaged over patients: the adjusted means of a mixed model for repeated
    measures (MMRM [1]_). ``average="grid"`` puts covariates at their means over the rows and
    weights the levels of factors equally instead (least-squares means [2]_, the convention of SAS
    and of emmeans). Without interactions of treatment and covariates the differences are the same.

    Parameters
    ----------
    fit : Fit
        A fit with a normal outcome, such as ``change ~ factor(visit) * arm + baseline *
        factor(visit)`` with ``residual=bm.Unstructured(time="visit", within="patient")``.
    treatment, time : str
        Columns with the arm and the visit. Further columns that have one value at each visit (the
        week beside the visit's name) go along.
    reference : optional
        The arm that the others are compared with; the first level unless given.
    baseline : optional
        The column with the outcome at baseline, or the visit that is the baseline: adds the change
        from it. Not for an outcome that is a change already.
    margin : float
        In units of the outcome: ``p_better`` is the posterior probability that an arm is better
        than the reference by more than this; a negative one asks for non-inferiority.
    better : {"higher", "lower"}
        Which outcomes are better.
    responder : float or str, optional
        A patient responds whose outcome is at least this (at most, where lower is better): a
        number, or an expression of the patients' columns such as ``"-0.5 * baseline"``. Normal with
        the variance of a new patient at that visit, averaged over patients.
    average : {"patients", "grid"}
        Over what means are averaged.
    patient : str, optional
        Column with the patient, where the model has no ``residual=`` to say it.

    Returns
    -------
    Report
        Rows (measure, visit, arm); measures ``mean``, ``change from baseline``, ``difference``
        and, with `responder`, ``responders``, ``risk difference``, ``risk ratio`` and
        ``odds ratio``. Draws by measure, dims (visit, arm or contrast, chain,
        draw). Pictures: ``visits`` (means above differences), ``means``, ``differences`` and
        ``responders``.

    Raises
    ------
    UnknownNameError
        If a column, level or choice does not exist.
    BayesmixedError
        If the outcome is not normal, or visits or arms are too many.
    DataError
        If the treatment or a covariate changes within a patient.

    References
    ----------
    .. [1] Mallinckrodt et al. (2008), Drug Inf. J. 42:303.
    .. [2] Searle, Speed & Milliken (1980), Am. Stat. 34:216.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("antidepressant")
    >>> residual = bm.Unstructured(time="week", within="patient")
    >>> formula = "change ~ factor(week) * arm + baseline * factor(week)"
    >>> fit = bm.Model(formula, data, residual=residual).fit(seed=1)  # doctest: +SKIP
    >>> bm.trial_analysis(fit, "arm", "week", better="lower")  # doctest: +SKIP
    """
    trial = Trial.of(fit, treatment, time, reference, patient, average)
    sign = lookup({"higher": 1.0, "lower": -1.0}, better, "choice of what is better")
    if not isinstance(margin, int | float) or not np.isfinite(margin):
        raise BayesmixedError(f"margin={margin!r} is not a finite number in units of the outcome.")
    bound = None if responder is None else _bound(trial, responder)
    mean, responders = _cells(trial, sign, bound)
    found = {"mean": mean}
    start = _baseline(trial, baseline, mean)
    if start is not None:
        found["change from baseline"] = mean - start
    own = found["change from baseline"] if _is_visit(trial, baseline) else mean
    found["difference"] = _against(trial, own)
    better_by = sign * found["difference"] > margin
    if responders is not None:
        found["responders"] = responders
        low = responders.isel({trial.treatment: 0}, drop=True)
        high = _others(trial, responders)
        found |= _contrasts.contrasts(low, high, _RESPONDERS)
        del found[_contrasts.NEEDED]
    table = _table(trial, found, better_by.mean(["chain", "draw"]))
    return Report(
        f"{fit.spec.response} by {trial.treatment} and {trial.time}",
        table,
        xr.Dataset(
            {
                n: d.rename({trial.treatment: "contrast"}) if _is_contrast(trial, d) else d
                for n, d in found.items()
            }
        ),
        _caption(trial, found, margin, better, responder, baseline),
        (
            "Means are of patients who stay: visits after a patient left are taken to be missing "
            "at random given what was seen (a hypothetical strategy for leaving early, ICH "
            "E9(R1)); dropout_sensitivity() shows what else could be assumed.",
            "Overlapping intervals of two means do not tell whether they differ; read the "
            "differences.",
            *convergence_caveats(fit),
        ),
        REFERENCES,
        _pictures(trial, table, responders is not None),
    )


def _cells(trial: Trial, sign: float, bound: Floats | None) -> tuple[xr.DataArray, Any]:
    """Mean outcomes and shares of responders, dims (time, treatment, chain, draw)."""
    means, shares = [], []
    for piece in trial.pieces():
        cells = [[trial.predictor(piece, v, a) for a in trial.arms] for v in trial.visits]
        means.append(_stack(cells, lambda c: _full(c, c.centre["mu"]).mean(axis=-1)))
        if bound is not None:
            shares.append(_stack(cells, lambda c: _responders(c, sign, bound).mean(axis=-1)))
    coords = {trial.time: list(trial.visits), trial.treatment: list(trial.arms)}
    dims = (trial.time, trial.treatment, "chain", "draw")

    def whole(parts: list[Floats]) -> xr.DataArray:
        return xr.DataArray(np.concatenate(parts, axis=-1), dims=dims, coords=coords)

    return whole(means), whole(shares) if shares else None


def _stack(cells: list[list[LinearPredictor]], function: Any) -> Floats:
    return np.array([[function(cell) for cell in row] for row in cells])


def _full(cell: LinearPredictor, values: Floats) -> Floats:
    """Values of every row, where all rows may share one."""
    return np.broadcast_to(values, (*cell.centre["mu"].shape[:2], len(cell.design.y)))


def _responders(cell: LinearPredictor, sign: float, bound: Floats) -> Floats:
    """Probability that a new patient's outcome passes its bound."""
    sigma = cell.design.links["sigma"].inverse(cell.centre["sigma"])
    spread = np.sqrt(sigma**2 + cell.variance.get("mu", 0.0))
    return np.asarray(ndtr(sign * (_full(cell, cell.centre["mu"]) - bound) / spread))


def _bound(trial: Trial, responder: float | str) -> Floats:
    if isinstance(responder, bool) or not isinstance(responder, int | float | str):
        raise BayesmixedError(
            f"responder={responder!r} is neither a number nor an expression of columns."
        )
    people = trial.people
    value = evaluate(responder, people) if isinstance(responder, str) else responder
    found = np.broadcast_to(np.asarray(value, dtype=np.float64), len(people))
    if not np.isfinite(found).all():
        raise BayesmixedError(f"responder={responder!r} is not a number for every patient.")
    return found


def _is_visit(trial: Trial, baseline: Any) -> bool:
    return (
        baseline is not None
        and str(baseline) not in trial.people
        and any(str(v) == str(baseline) for v in trial.visits)
    )


def _baseline(trial: Trial, baseline: Any, mean: xr.DataArray) -> Any:
    """What the mean outcome was before treatment."""
    if baseline is None:
        return None
    if _is_visit(trial, baseline):
        place = [str(v) for v in trial.visits].index(str(baseline))
        return mean.isel({trial.time: place}, drop=True)
    columns = [*map(str, trial.people.columns), *map(str, trial.visits)]
    if str(baseline) not in trial.people:
        raise unknown(baseline, columns, "column of the model or visit")
    if not pd.api.types.is_numeric_dtype(trial.people[baseline]):
        raise BayesmixedError(f"{baseline} does not hold numbers.")
    return float(trial.people[baseline].mean())


def _others(trial: Trial, draws: xr.DataArray) -> xr.DataArray:
    other = draws.isel({trial.treatment: slice(1, None)})
    return other.assign_coords({trial.treatment: trial.contrasts})


def _against(trial: Trial, draws: xr.DataArray) -> xr.DataArray:
    return _others(trial, draws) - draws.isel({trial.treatment: 0}, drop=True)


def _is_contrast(trial: Trial, draws: xr.DataArray) -> bool:
    return list(draws[trial.treatment].to_numpy()) == trial.contrasts


def _table(trial: Trial, found: Mapping[str, xr.DataArray], better: xr.DataArray) -> pd.DataFrame:
    parts = []
    for name, draws in found.items():
        as_text = draws.assign_coords({trial.treatment: draws[trial.treatment].astype(str)})
        order = [trial.time, trial.treatment]
        # A ratio may be infinite where a probability is 0 to the last digit.
        with np.errstate(invalid="ignore"):
            part = xr.Dataset(interval(as_text)).to_dataframe(dim_order=order)
        if name == "difference":
            part = part.assign(p_better=better.to_series().reindex(part.index))
        parts.append(pd.concat({name: part}, names=["measure"]))
    return pd.concat(parts)


def _caption(
    trial: Trial,
    found: Mapping[str, Any],
    margin: float,
    better: str,
    responder: Any,
    baseline: Any,
) -> str:
    response = trial.fit.spec.response
    change = " change from it" if _is_visit(trial, baseline) else " mean"
    beyond = f" by more than {margin:g}" if margin else ""
    words = [
        f"Mean {response} at each {trial.time} in each {trial.treatment}, and the difference of"
        f" the{change}s from {trial.arms[0]}. {trial.averaged} p_better: posterior probability "
        f"that {response} is {better} than with {trial.arms[0]}{beyond}.",
    ]
    if responder is not None:
        sides = {"higher": "at least", "lower": "at most"}
        words.append(
            f"Responders: probability that {response} of a new patient is {sides[better]} "
            f"{responder}, by the normal model with the residual sd of that {trial.time}."
        )
    return " ".join([*words, "Posterior means and 95 % equal-tailed intervals."])


def _pictures(trial: Trial, table: pd.DataFrame, responders: bool) -> dict[str, Any]:
    response = trial.fit.spec.response

    def part(measure: str) -> pd.DataFrame:
        return pd.DataFrame(table.loc[measure])

    found: dict[str, Any] = {
        "visits": partial(over_visits, part("mean"), part("difference"), response),
        "means": partial(by_visit, part("mean"), f"mean {response}", None),
        "differences": partial(by_visit, part("difference"), f"difference in {response}", 0.0),
    }
    if responders:
        label = "probability of a responder"
        found["responders"] = partial(by_visit, part("responders"), label, None)
    return found
