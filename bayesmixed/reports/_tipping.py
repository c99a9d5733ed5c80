"""How much worse patients who left must have fared before a difference is no longer credible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise, product
from math import inf
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import brentq

from bayesmixed._errors import BayesmixedError, lookup
from bayesmixed.fit import Fit
from bayesmixed.reports._delta import Delta, Given, is_by_arm, is_number
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
from bayesmixed.reports._report import Picture, Report, convergence_caveats
from bayesmixed.reports._tipping_map import by_two_deltas
from bayesmixed.reports._trial import Trial
from bayesmixed.reports._visit_pictures import by_delta

type Floats = NDArray[np.float64]
type Curve = Callable[..., Floats]

_STEPS = 13
_REFERENCES = (
    "Cro, Morris, Kenward & Carpenter (2020), Statistics in Medicine 39:2815-2842.",
    "Liublinska & Rubin (2014), Statistics in Medicine 33:4170-4185.",
    "Permutt (2016), Statistics in Medicine 35:2876-2879.",
)


def tipping_point(
    fit: Fit,
    treatment: str,
    time: str,
    *,
    reference: Any = None,
    deltas: Sequence[float] | None = None,
    reference_deltas: Sequence[float] | None = None,
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
    0.975 where the end of the 95 % interval reaches the margin. With `reference_deltas` those who
    left the reference arm are moved by a delta of their own, and the tipping points are a line in
    the plane of the two [2]_.

    Parameters
    ----------
    fit : Fit
        As for `trial_analysis`.
    treatment, time, reference, margin, better, patient
        As for `trial_analysis`.
    deltas : sequence of float, optional
        Which to show; from 0 to beyond where the estimate reaches the margin unless given.
    reference_deltas : sequence of float, optional
        Two or more for the reference arm, each shown with each of `deltas`, which are then for the
        other arms (two or more; unless given, over the range of `reference_deltas` as well).
    arms : {"active", "both"}
        Whether those who left the reference arm are moved by the same delta.
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
        and ``tipping point`` (without draws of its own). Picture ``deltas``. With
        `reference_deltas` rows are (delta, reference delta, inference, contrast), ``tipping point``
        is the delta for each reference delta (NaN where a benefit is credible at all deltas shown,
        minus infinity where at none), and the picture, ``map``, has the probability in colours
        and the tipping line over it.

    Raises
    ------
    UnknownNameError
        If a column, level or visit does not exist.
    BayesmixedError
        If nobody left, or a number is out of its range.

    References
    ----------
    .. [1] Cro, Morris, Kenward & Carpenter (2020), Stat. Med. 39:2815.
    .. [2] Liublinska & Rubin (2014), Stat. Med. 33:4170; Permutt (2016), Stat. Med. 35:2876.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> fit = bm.load("trial.nc")  # doctest: +SKIP
    >>> bm.tipping_point(fit, "arm", "week", better="lower").plot()  # doctest: +SKIP
    >>> both = [-4, -2, 0, 2, 4, 6, 8]
    >>> bm.tipping_point(
    ...     fit, "arm", "week", better="lower", deltas=both, reference_deltas=both
    ... ).plot("map")  # doctest: +SKIP
    """
    _check_choices(arms, probability)
    sign = lookup(SIGNS, better, "choice of what is better")
    chosen = None if deltas is None else _checked(deltas, "deltas")
    other = None
    if reference_deltas is not None:
        other = _plane(_checked(reference_deltas, "reference_deltas"), chosen, arms)
    trial = Trial.of(fit, treatment, time, reference, patient)
    unit = _unit(trial, pattern, dlag, arms, other is not None)
    every = arms_of(trial, visit, ["MAR"], seed)
    gaps = every[0].gaps
    moves = [_moves(one, unit, other is not None) for one in every]
    _check_moves(gaps, moves, unit, pattern, dlag)
    curves = [one.along(*own) for one, own in zip(every, moves, strict=True)]
    shown = chosen or _deltas(every[0], moves[0][0], sign, margin, other or [])
    axes = {"delta": shown} if other is None else {"delta": shown, "reference delta": other}
    found = [[[curve(*at) for curve in both] for both in curves] for at in product(*axes.values())]
    draws = labelled(fit, found, gaps.trial.contrasts, axes)
    table = table_of(draws, sign, margin, [*axes, "inference", "contrast"])
    above = partial(_above, sign=sign, margin=margin, probability=probability)
    places = [[_places(partial(above, each), shown, other, sign) for each in c] for c in curves]
    kept = ["contrast", "inference", *[*axes][1:]]
    tips = xr.DataArray(places, dims=kept, coords={k: draws[k].to_numpy() for k in kept})
    when = f"{gaps.trial.time} {gaps.trial.visits[gaps.at]}"
    label = f"difference in {fit.spec.response}, {when}"
    picture: dict[str, Picture] = {"deltas": partial(by_delta, table, label, margin * sign)}
    if other is not None:
        picture = {"map": partial(by_two_deltas, table["p_better"], tips, probability, trial.arms)}
    return Report(
        f"Tipping point at {when}",
        table,
        xr.Dataset({"difference": draws, "tipping point": tips}),
        f"{label[0].upper()}{label[1:]}, with delta added to what is missing of patients "
        f"{_whose(unit, arms, trial, other)}. {who_left(gaps)} "
        f"{_sentence(tips, probability, better, margin)} {BOTH} Posterior means and 95 % "
        "equal-tailed intervals.",
        (
            "Whether a delta is credible is a clinical judgement, not one of this table.",
            *convergence_caveats(fit),
        ),
        (*_REFERENCES, *REFERENCES[:2]),
        picture,
        None if other is None else _corners(table),
    )


def _check_choices(arms: str, probability: float) -> None:
    lookup({"active": 0, "both": 0}, arms, "choice of arms")
    if not isinstance(probability, int | float) or not 0.5 <= probability < 1:
        raise BayesmixedError(f"probability={probability!r}: a number from 0.5 to below 1.")


def _checked(deltas: Any, name: str) -> list[float]:
    """The deltas that a user gave."""
    try:
        found = list(deltas)
    except TypeError:
        found = [None]
    if not found or not all(map(is_number, found)):
        raise BayesmixedError(
            f"{name}={deltas!r}: give one number or more in units of the outcome, such as "
            "[0, 1, 2], or leave it out."
        )
    return [float(d) for d in found]


def _plane(other: list[float], chosen: list[float] | None, arms: str) -> list[float]:
    """The deltas of the reference arm, which with those of the others make a map."""
    if arms == "both":
        raise BayesmixedError(
            'arms="both" moves both arms by the same delta, and reference_deltas the reference arm '
            "by its own: leave one of them out."
        )
    for name, given in (("reference_deltas", other), ("deltas", chosen)):
        if given is not None and len(set(given)) < 2:
            raise BayesmixedError(
                f"{name}={given}: a map of two deltas needs two different numbers or more of each, "
                "such as [-2, 0, 2]."
            )
    return other


def _unit(trial: Trial, pattern: Any, dlag: Any, arms: str, apart: bool) -> Delta:
    """What a delta of 1 adds."""
    if arms == "both" and is_by_arm(trial, pattern, "pattern"):
        raise BayesmixedError(
            f'arms="both" and pattern={pattern!r}, which says itself for which arms it is: leave '
            "one of them out."
        )
    return Delta.of(trial, pattern, dlag, arms == "both" or apart, "pattern")


def _moves(one: Dropout, unit: Delta, apart: bool) -> list[Floats]:
    """What a delta of 1 adds to each missing outcome; of the two arms apart, or together."""
    moved = unit.moved(one.gaps, one.arm)
    if not apart:
        return [moved]
    arm = one.gaps.arm[one.gaps.missing]
    return [np.where(arm == k, moved, 0.0) for k in (one.arm, 0)]


def _check_moves(
    gaps: Gaps, moves: list[list[Floats]], unit: Delta, pattern: Any, dlag: Any
) -> None:
    """Refuse a delta that moves no outcome."""
    active = [k for k in unit.amounts if k > 0]
    arms = [list(unit.amounts)] if len(moves[0]) == 1 else [active, [0]]
    for whose, axis in zip(arms, zip(*moves, strict=True), strict=True):
        if any(each.any() for each in axis):
            continue
        if not (gaps.left & np.isin(gaps.arm, whose)).any():
            names = " or ".join(str(gaps.trial.arms[k]) for k in whose)
            raise BayesmixedError(
                f"Nobody left before this visit in these arms ({names}), so nothing tips."
            )
        given = f"pattern={pattern!r}" + ("" if dlag is None else f" with dlag={dlag!r}")
        raise BayesmixedError(
            f"{given} moves nobody of those who left before {gaps.trial.time} "
            f"{gaps.trial.visits[gaps.at]}, so nothing tips; give an amount other than 0 for an "
            "arm that they left and visits that they missed."
        )


def _whose(unit: Delta, arms: str, trial: Trial, other: Any) -> str:
    """Who is moved, and by what."""
    left = "that left, of both arms, before it" if arms == "both" else "that left before it"
    if other is not None:
        left = (
            f"that left another arm than {trial.arms[0]} before it, and the reference delta to "
            f"that of those who left {trial.arms[0]}"
        )
    return left + ("" if unit.label == "+1" else f", times {unit.label}") + unit.growth


def _deltas(
    one: Dropout, moved: Floats, sign: float, margin: float, other: list[float]
) -> list[float]:
    """From 0 to half as far again as where the first estimate reaches the margin."""
    pull = float((one.weights * moved).sum(axis=1).mean())
    zero = (sign * margin - float(one.difference.mean())) / pull if pull else np.nan
    # A difference that is none already, or a delta in both arms, has no such place.
    spread = float(np.sqrt(one.given["MAR"].variance.mean()))
    far = abs(zero) if np.isfinite(zero) and -sign * zero > 0 else spread
    end = -sign * min(1.5 * far, 6 * spread)
    low, high = min(0.0, end, *other), max(0.0, end, *other)
    step = float(f"{(high - low) / (_STEPS - 1):.1g}")
    first = round(low / step) if other else 0
    count = round((high - low) / step) if other else _STEPS - 1
    found = [round(k * step, 10) + 0.0 for k in range(first, first + count + 1)]
    return found if end > 0 or other else [0.0 - d + 0.0 for d in found]


def _above(
    curve: Curve,
    *deltas: float,
    sign: float,
    margin: float,
    probability: float,
) -> float:
    """How far the quantile that decides is above the margin."""
    return float(np.quantile(sign * curve(*deltas), 1 - probability)) - margin


def _places(
    above: Callable[..., float], deltas: list[float], other: list[float] | None, sign: float
) -> float | list[float]:
    """The tipping point, or one for each delta of the reference arm."""
    if other is None:
        # From 0 on, shown or not: the first of the deltas may be past the tipping point.
        at = sorted({0.0, *deltas}, key=abs)
        return 0.0 if above(0.0) <= 0 else _crossing(above, at)
    # From where the arm fares best.
    at = sorted(set(deltas), key=lambda d: -sign * d)
    return [_crossing(partial(_swapped, above, c), at) for c in other]


def _swapped(above: Callable[..., float], second: float, first: float) -> float:
    return above(first, second)


def _crossing(above: Callable[[float], float], deltas: list[float]) -> float:
    """The first delta from which on the benefit is no longer credible.

    NaN if it is so at all of them, minus infinity if at none.
    """
    values = [above(d) for d in deltas]
    if values[0] <= 0:
        return -inf
    for (a, u), (b, v) in pairwise(zip(deltas, values, strict=True)):
        if u > 0 >= v:
            return float(brentq(above, a, b, xtol=1e-6))
    return float("nan")


def _sentence(tips: xr.DataArray, probability: float, better: str, margin: float) -> str:
    words = []
    benefit = f"{better} than the reference" + (f" by more than {margin:g}" if margin else "")
    for name in tips["contrast"].to_numpy():
        found = [
            f"{kind} {_in_words(tips.sel(contrast=name, inference=kind))}" for kind in INFERENCES
        ]
        words.append(f"{name}: {', '.join(found)}")
    return (
        f"Tipping point, the delta from which on the probability of an outcome {benefit} is below "
        f"{probability:g}: {'; '.join(words)}."
    )


def _in_words(tip: xr.DataArray) -> str:
    """Where it tips, in words."""
    if tip.ndim:
        some = tip.isel({"reference delta": _ends(tip["reference delta"].to_numpy())})
        given = [f"{_number(float(t))} at {float(t['reference delta']):g}" for t in some]
        return f"by reference delta {', '.join(given)}"
    return "already at 0" if tip == 0 else _number(float(tip))


def _number(tip: float) -> str:
    if np.isinf(tip):
        return "nowhere credible"
    return "not reached by these deltas" if np.isnan(tip) else f"{tip:.3g}"


def _ends(values: Floats) -> list[int]:
    """Places of the least, the one nearest to 0, and the greatest."""
    return list(dict.fromkeys(int(f(v)) for f, v in (
        (np.argmin, values), (np.argmin, np.abs(values)), (np.argmax, values)
    )))  # fmt: skip


def _corners(table: pd.DataFrame) -> pd.DataFrame:
    """Of a map, the rows with both deltas at an end or nearest to 0."""
    kept = np.ones(len(table), dtype=bool)
    for name in ("delta", "reference delta"):
        values = table.index.get_level_values(name)
        kept &= values.isin(values[_ends(values.to_numpy())])
    return table[kept]
