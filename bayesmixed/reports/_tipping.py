"""How much worse patients who left must have fared before a difference is no longer credible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import brentq

from bayesmixed._errors import BayesmixedError, lookup
from bayesmixed.fit import Fit
from bayesmixed.reports._delta import Delta, Given, is_number
from bayesmixed.reports._gaps import Gaps
from bayesmixed.reports._imputed import (
    BOTH,
    INFERENCES,
    REFERENCES,
    SIGNS,
    Better,
    Dropout,
    arms_of,
    labelled,
    table_of,
    who_left,
)
from bayesmixed.reports._report import Report, convergence_caveats
from bayesmixed.reports._trial import Trial
from bayesmixed.reports._visit_pictures import by_delta

type Floats = NDArray[np.float64]

_STEPS = 13


def tipping_point(
    fit: Fit,
    treatment: str,
    time: str,
    *,
    reference: Any = None,
    deltas: Sequence[float] | None = None,
    arms: Literal["active", "both"] = "active",
    pattern: Given = 1.0,
    dlag: Sequence[float] | None = None,
    visit: Any = None,
    margin: float = 0.0,
    better: Better = "higher",
    probability: float = 0.975,
    patient: str | None = None,
    seed: int = 1,
) -> Report:
    """How much worse patients who left must have fared before a difference is no longer credible.

    Missing outcomes are imputed at random and moved by a delta (units of the outcome). The tipping
    point is the delta from which on the posterior probability of a benefit is below `probability`:
    0.975 where the end of the 95 % interval reaches the margin.

    Parameters
    ----------
    fit : Fit
        As for `trial_analysis`.
    treatment, time, reference, margin, better, patient
        As for `trial_analysis`.
    deltas : sequence of float, optional
        Which to show; from 0 to beyond where the estimate reaches the margin unless given.
    arms : {"active", "both"}
        Whether those who left the reference arm are moved too.
    pattern : number or mapping
        What a delta of 1 adds, by visit or arm as `delta` in `dropout_sensitivity`:
        ``{"drug": 1, "placebo": 0.5}``, or ``{4: 0.5, 6: 0.5}`` for a delta that builds up.
    dlag, visit, seed
        As for `dropout_sensitivity`.
    probability : float
        Of a benefit, from 0.5 to 1.

    Returns
    -------
    Report
        Rows (delta, inference, contrast): mean, sd, interval, ``p_better``; draws ``difference``
        and ``tipping point`` (without draws of its own). Picture ``deltas``.

    Raises
    ------
    UnknownNameError
        If a column, level or visit does not exist.
    BayesmixedError
        If nobody left, or a number is out of its range.

    References
    ----------
    .. [1] Cro, Morris, Kenward & Carpenter (2020), Stat. Med. 39:2815.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> fit = bm.load("trial.nc")  # doctest: +SKIP
    >>> bm.tipping_point(fit, "arm", "week", better="lower").plot()  # doctest: +SKIP
    """
    lookup({"active": 0, "both": 0}, arms, "choice of arms")
    if not isinstance(probability, int | float) or not 0.5 <= probability < 1:
        raise BayesmixedError(f"probability={probability!r}: a number from 0.5 to below 1.")
    sign = lookup(SIGNS, better, "choice of what is better")
    chosen = None if deltas is None else _checked(deltas)
    trial = Trial.of(fit, treatment, time, reference, patient)
    unit = Delta.of(trial, pattern, dlag, arms == "both", "pattern")
    every = arms_of(trial, visit, ["MAR"], seed)
    gaps = every[0].gaps
    moved = [unit.moved(gaps, d.arm) for d in every]
    if not any(each.any() for each in moved):
        raise BayesmixedError(_unmoved(gaps, unit, pattern, dlag))
    shown = chosen or _deltas(every[0], moved[0], sign, margin)
    curves = [
        [partial(_curve, f, own) for f in (one.anchored, one.model)]
        for one, own in zip(every, moved, strict=True)
    ]
    found = {d: [[curve(d) for curve in both] for both in curves] for d in shown}
    draws = labelled(fit, found, gaps.trial.contrasts, "delta")
    table = table_of(draws, sign, margin, ["delta", "inference", "contrast"])
    above = partial(_above, sign=sign, margin=margin, probability=probability)
    tips = [[_tips(partial(above, curve), shown) for curve in both] for both in curves]
    label = f"difference in {fit.spec.response}, {gaps.trial.time} {gaps.trial.visits[gaps.at]}"
    return Report(
        f"Tipping point at {gaps.trial.time} {gaps.trial.visits[gaps.at]}",
        table,
        xr.Dataset(
            {"difference": draws, "tipping point": (("contrast", "inference"), np.array(tips))}
        ),
        f"{label[0].upper()}{label[1:]}, with delta added to what is missing of patients "
        f"{_whose(unit, arms)}. {who_left(gaps)} "
        f"{_sentence(every, tips, probability, better, margin)} {BOTH} Posterior means and 95 % "
        "equal-tailed intervals.",
        (
            "Whether a delta is credible is a clinical judgement, not one of this table.",
            *convergence_caveats(fit),
        ),
        ("Cro, Morris, Kenward & Carpenter (2020), Statistics in Medicine 39:2815-2842.",
         *REFERENCES[:2]),
        {"deltas": partial(by_delta, table, label, margin * sign)},
    )  # fmt: skip


def _checked(deltas: Any) -> list[float]:
    """The deltas that a user gave."""
    try:
        found = list(deltas)
    except TypeError:
        found = [None]
    if not found or not all(map(is_number, found)):
        raise BayesmixedError(
            f"deltas={deltas!r}: give one number or more in units of the outcome, such as "
            "[0, 1, 2], or leave it out."
        )
    return [float(d) for d in found]


def _unmoved(gaps: Gaps, unit: Delta, pattern: Any, dlag: Any) -> str:
    """Why no outcome is moved."""
    if not (gaps.left & np.isin(gaps.arm, list(unit.amounts))).any():
        return "Nobody left before this visit in these arms, so nothing tips."
    given = f"pattern={pattern!r}" + ("" if dlag is None else f" with dlag={dlag!r}")
    return (
        f"{given} moves nobody of those who left before {gaps.trial.time} "
        f"{gaps.trial.visits[gaps.at]}, so nothing tips; give an amount other than 0 for an arm "
        "that they left and visits that they missed."
    )


def _whose(unit: Delta, arms: str) -> str:
    """Who is moved, and by what."""
    left = "that left, of both arms, before it" if arms == "both" else "that left before it"
    return left + ("" if unit.label == "+1" else f", times {unit.label}") + unit.growth


def _deltas(one: Dropout, moved: Floats, sign: float, margin: float) -> list[float]:
    """From 0 to half as far again as where the first estimate reaches the margin."""
    pull = float((one.weights * moved).sum(axis=1).mean())
    zero = (sign * margin - float(one.difference.mean())) / pull if pull else np.nan
    # A difference that is none already, or a delta in both arms, has no such place.
    spread = float(np.sqrt(one.given["MAR"].variance.mean()))
    far = abs(zero) if np.isfinite(zero) and -sign * zero > 0 else spread
    end = -sign * min(1.5 * far, 6 * spread)
    step = float(f"{end / (_STEPS - 1):.1g}")
    return [round(k * step, 10) + 0.0 for k in range(_STEPS)]


def _curve(difference: Any, moved: Floats, delta: float) -> Floats:
    """Draws of the difference at a delta."""
    return np.asarray(difference("MAR", delta * moved))


def _above(
    curve: Callable[[float], Floats],
    delta: float,
    sign: float,
    margin: float,
    probability: float,
) -> float:
    """How far the quantile that decides is above the margin."""
    return float(np.quantile(sign * curve(delta), 1 - probability)) - margin


def _tips(above: Callable[[float], float], deltas: Sequence[float]) -> float:
    """The delta from which on the benefit is no longer credible; NaN if there is none here."""
    # From 0 on, shown or not: the first of the deltas may be past the tipping point.
    at = sorted({0.0, *deltas}, key=abs)
    values = [above(d) for d in at]
    if values[0] <= 0:
        return 0.0
    for (a, u), (b, v) in pairwise(zip(at, values, strict=True)):
        if u > 0 >= v:
            return float(brentq(above, a, b, xtol=1e-6))
    return float("nan")


def _sentence(
    every: list[Dropout], tips: list[list[float]], probability: float, better: str, margin: float
) -> str:
    words = []
    benefit = f"{better} than the reference" + (f" by more than {margin:g}" if margin else "")
    for name, both in zip(every[0].gaps.trial.contrasts, tips, strict=True):
        found = []
        for kind, tip in zip(INFERENCES, both, strict=True):
            at = "not reached by these deltas" if np.isnan(tip) else f"{tip:.3g}"
            found.append(f"{kind} {'already at 0' if tip == 0 else at}")
        words.append(f"{name}: {', '.join(found)}")
    return (
        f"Tipping point, the delta from which on the probability of an outcome {benefit} is below "
        f"{probability:g}: {'; '.join(words)}."
    )
