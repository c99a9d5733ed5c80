"""How much worse patients who left must have fared before a difference is no longer credible."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import brentq

from bayesmixed._errors import BayesmixedError, lookup
from bayesmixed.fit import Fit
from bayesmixed.reports._imputed import (
    BOTH,
    INFERENCES,
    REFERENCES,
    SIGNS,
    Better,
    Dropout,
    arms_of,
    growth,
    labelled,
    lags,
    table_of,
    who_left,
)
from bayesmixed.reports._report import Report, convergence_caveats
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
    grown = lags(dlag)
    every = arms_of(fit, treatment, time, reference, patient, visit, ["MAR"], seed)
    moved = [d.shifted(arms, grown) for d in every]
    if not any(each.any() for each in moved):
        raise BayesmixedError("Nobody left before this visit in these arms, so nothing tips.")
    first = _deltas(every[0], moved[0], sign, margin)
    shown = first if deltas is None else [float(d) for d in deltas]
    found = {
        d: [
            [f("MAR", d * own) for f in (one.anchored, one.model)]
            for one, own in zip(every, moved, strict=True)
        ]
        for d in shown
    }
    gaps = every[0].gaps
    draws = labelled(fit, found, gaps.trial.contrasts, "delta")
    table = table_of(draws, sign, margin, ["delta", "inference", "contrast"])
    tips = [
        [_tips(partial(_probability, f, own, sign, margin), shown, probability)
         for f in (one.anchored, one.model)]
        for one, own in zip(every, moved, strict=True)
    ]  # fmt: skip
    label = f"difference in {fit.spec.response}, {gaps.trial.time} {gaps.trial.visits[gaps.at]}"
    whose = "that left" if arms == "active" else "that left, of both arms,"
    return Report(
        f"Tipping point at {gaps.trial.time} {gaps.trial.visits[gaps.at]}",
        table,
        xr.Dataset(
            {"difference": draws, "tipping point": (("contrast", "inference"), np.array(tips))}
        ),
        f"{label[0].upper()}{label[1:]}, with delta added to what is missing of patients {whose} "
        f"before it{growth(grown)}. "
        f"{who_left(gaps)} {_sentence(every, tips, probability, better, margin)} {BOTH} Posterior "
        "means and 95 % equal-tailed intervals.",
        (
            "Whether a delta is credible is a clinical judgement, not one of this table.",
            *convergence_caveats(fit),
        ),
        ("Cro, Morris, Kenward & Carpenter (2020), Statistics in Medicine 39:2815-2842.",
         *REFERENCES[:2]),
        {"deltas": partial(by_delta, table, label, margin * sign)},
    )  # fmt: skip


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


def _probability(
    function: Any, moved: Floats, sign: float, margin: float, probability: float, delta: float
) -> float:
    """How far the quantile that decides is above the margin."""
    values = sign * function("MAR", delta * moved)
    return float(np.quantile(values, 1 - probability)) - margin


def _tips(above: Any, deltas: Sequence[float], probability: float) -> float:
    """The delta from which on the benefit is no longer credible; NaN if there is none here."""
    at = sorted(deltas, key=abs)
    values = [above(probability, d) for d in at]
    if values[0] <= 0:
        return 0.0 if at[0] == 0 else float("nan")
    for (a, u), (b, v) in pairwise(zip(at, values, strict=True)):
        if u > 0 >= v:
            return float(brentq(lambda d: above(probability, d), a, b, xtol=1e-6))
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
