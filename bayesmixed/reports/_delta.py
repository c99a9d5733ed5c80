"""Delta: what is added to the outcomes that patients would have had after they left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, lookup
from bayesmixed.reports._gaps import Gaps
from bayesmixed.reports._trial import Trial

type Floats = NDArray[np.float64]
type Given = float | Mapping[Any, float] | Mapping[Any, float | Mapping[Any, float]]


@dataclass(frozen=True)
class Delta:
    """How far outcomes after leaving are moved, by arm.

    Parameters
    ----------
    amounts : mapping of int to float or array, shape (visits,)
        By position of the arm: one number however long ago the patient left, or what every visit
        since then adds.
    dlag : tuple of float, optional
        What amounts are multiplied by at the first, second, ... visit since leaving.
    label : str
        The amounts in words.
    """

    amounts: Mapping[int, float | Floats]
    dlag: tuple[float, ...] | None
    label: str

    @classmethod
    def of(
        cls,
        trial: Trial,
        given: Any,
        dlag: Any = None,
        both: bool = False,
        name: str = "delta",
    ) -> Delta:
        """Read what a user gave.

        Parameters
        ----------
        trial : Trial
        given : number, or mapping by visit, by arm, or by arm and then by visit
        dlag : sequence of float, optional
        both : bool
            Whether amounts that are not by arm are for the reference arm as well.
        name : str
            Of the argument.

        Raises
        ------
        UnknownNameError
            If a key is neither an arm nor a visit.
        BayesmixedError
            If an amount is not a number, or keys could be arms and visits alike.
        """
        grown = _lags(dlag)
        every = range(0 if both else 1, len(trial.arms))
        if not isinstance(given, Mapping):
            amount = _number(given, name)
            return cls(dict.fromkeys(every, amount), grown, f"{amount:+g}")
        if is_by_arm(trial, given, name):
            arms = {str(arm): k for k, arm in enumerate(trial.arms)}
            own = {
                lookup(arms, str(k), trial.treatment): _amount(trial, v, name)
                for k, v in given.items()
            }
            labels = [_label(trial, amount, str(trial.arms[k])) for k, amount in own.items()]
            return cls(own, grown, ", ".join(labels))
        steps = _by_visit(trial, given, name)
        return cls(dict.fromkeys(every, steps), grown, _label(trial, steps))

    def moved(self, gaps: Gaps, arm: int) -> Floats:
        """What is added to each missing outcome, in an arm compared with the reference.

        Returns
        -------
        array, shape (missing,)
            0 for other arms, and for who only missed the visit.

        Raises
        ------
        BayesmixedError
            If someone missed more visits than `dlag` has numbers.
        """
        who = gaps.missing
        found = np.zeros(len(who))
        for k in {0, arm} & set(self.amounts):
            for j in np.flatnonzero(gaps.left[who] & (gaps.arm[who] == k)):
                found[j] = self._total(gaps, k, int(gaps.last[who[j]]))
        return found

    def _total(self, gaps: Gaps, arm: int, last: int) -> float:
        amount, missed = self.amounts[arm], gaps.at - last
        if self.dlag is not None and missed > len(self.dlag):
            raise BayesmixedError(
                f"dlag={list(self.dlag)} has {len(self.dlag)} numbers, one a visit since leaving, "
                f"but some {gaps.trial.patient} who left missed {missed}; give as many."
            )
        if isinstance(amount, float):
            return amount * (1.0 if self.dlag is None else sum(self.dlag[:missed]))
        steps = amount[last + 1 : gaps.at + 1]
        return float((steps if self.dlag is None else steps * self.dlag[:missed]).sum())

    @property
    def growth(self) -> str:
        """How it grows with the visits missed, as the end of a sentence."""
        by_visit = any(not isinstance(amount, float) for amount in self.amounts.values())
        words = ", added up over the visits since leaving" if by_visit else ""
        if self.dlag is None:
            return words
        each = ", ".join(f"{v:g}" for v in self.dlag)
        if by_visit:
            return f"{words}, each times ({each}) by its place among them"
        return f", times what the visits since leaving add up to ({each})"


def is_by_arm(trial: Trial, given: Any, name: str) -> bool:
    """Whether amounts are by arm: a mapping whose keys are arms, rather than visits."""
    if not isinstance(given, Mapping):
        return False
    arms, visits = ({str(v) for v in known} for known in (trial.arms, trial.visits))
    keys = {str(key) for key in given}
    if any(isinstance(value, Mapping) for value in given.values()):
        return True
    if not keys:
        raise BayesmixedError(f"{name}={{}}: give a number, or one for each visit or arm.")
    for key in sorted(keys):
        lookup(dict.fromkeys([*sorted(arms), *sorted(visits)]), key, "arm or visit")
    if (keys <= arms) == (keys <= visits):
        raise BayesmixedError(
            f"{name}={dict(given)!r}: it cannot be told whether the keys are arms or visits; write "
            "{arm: {visit: number}}."
        )
    return keys <= arms


def _amount(trial: Trial, given: Any, name: str) -> float | Floats:
    return _by_visit(trial, given, name) if isinstance(given, Mapping) else _number(given, name)


def _by_visit(trial: Trial, given: Mapping[Any, Any], name: str) -> Floats:
    """What every visit adds; 0 where none is named."""
    places = {str(visit): k for k, visit in enumerate(trial.visits)}
    steps = np.zeros(len(places))
    for visit, value in given.items():
        steps[lookup(places, str(visit), trial.time)] = _number(value, name)
    return steps


def is_number(value: Any) -> bool:
    """Whether it is one finite number."""
    whole = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    return whole and bool(np.isfinite(float(value)))


def _number(value: Any, name: str) -> float:
    if not is_number(value):
        units = " in units of the outcome" if name == "delta" else ""
        raise BayesmixedError(
            f"{name}={value!r}: give a number{units}, or one for each visit "
            "({4: 1, 6: 2}, added up over the visits since leaving) or arm."
        )
    return float(value)


def _label(trial: Trial, amount: float | Floats, arm: str = "") -> str:
    if isinstance(amount, float):
        return f"{arm} {amount:+g}"
    steps = ", ".join(f"{trial.visits[k]}: {amount[k]:+g}" for k in np.flatnonzero(amount))
    return f"{arm} ({steps})" if arm else f"({steps})"


def _lags(dlag: Sequence[float] | None) -> tuple[float, ...] | None:
    """What each visit since leaving adds to a delta, checked."""
    if dlag is None:
        return None
    try:
        found = np.asarray(dlag, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.array(np.nan)
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise BayesmixedError(
            f"dlag={dlag!r}: give what the first, second, ... visit since leaving adds, as shares "
            "of delta, such as (1, 1, 1), or leave it out."
        )
    return tuple(found.tolist())
