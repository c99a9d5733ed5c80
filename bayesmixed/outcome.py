"""The outcome's columns: what they hold, and what the family allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, DataError, listed
from bayesmixed.data import check_not_dates, is_numeric, numbers
from bayesmixed.expressions import evaluate
from bayesmixed.family import Family
from bayesmixed.misread import meant
from bayesmixed.spec import ModelSpec

type Floats = NDArray[np.float64]


def response(spec: ModelSpec, frame: pd.DataFrame) -> tuple[Floats, tuple[str, ...]]:
    """The outcome of all rows, which may be constant only if its sds are known; see `outcome`."""
    y, categories = outcome(spec, frame)
    unbounded = spec.family.support == Family.support and spec.sampling_sd is None
    if len(y) > 1 and unbounded and np.ptp(y) == 0:
        raise DataError(f"The outcome {spec.response!r} is constant ({y[0]:g}) in all rows.")
    return y, categories


def outcome(spec: ModelSpec, frame: pd.DataFrame) -> tuple[Floats, tuple[str, ...]]:
    """The outcome as numbers, shape (rows,), and the names of its categories where it has some.

    Raises
    ------
    DataError
        If it holds text or dates, or categories without an order.
    """
    value = evaluate(spec.response, frame)
    column = value if isinstance(value, pd.Series) else pd.Series(value, index=frame.index)
    if spec.family.is_categorical:
        return _categories(spec, column)
    check_not_dates(column, f"The outcome {spec.response!r}")
    if not is_numeric(column):
        values = sorted(map(str, column.unique()))
        hint = meant(column)
        raise DataError(
            f"The outcome {spec.response!r} holds text or categories "
            f"({listed(map(repr, values), 5)}), not numbers. "
            + (
                f"It looks like {hint}."
                if hint
                else f"For a yes/no outcome compare it: I({spec.response} == {values[-1]!r}); for "
                'ordered categories use family="ordinal".'
            )
        )
    with np.errstate(all="ignore"):
        y = column.to_numpy(dtype=float)
    return y, ()


def _categories(spec: ModelSpec, column: pd.Series[Any]) -> tuple[Floats, tuple[str, ...]]:
    if not isinstance(column.dtype, pd.CategoricalDtype):
        if not is_numeric(column):
            raise DataError(
                f"The outcome {spec.response!r} holds text, whose order is not known. Make it an "
                "ordered categorical: pd.Categorical(y, categories=[...], ordered=True)."
            )
        column = column.astype("category")
    names = tuple(str(c) for c in column.cat.categories)
    if len(names) < 2:
        raise DataError(f"The outcome {spec.response!r} has one category only ({names[0]}).")
    return np.asarray(column.cat.codes, dtype=np.float64), names


def _numbers(code: str, frame: pd.DataFrame, what: str) -> Floats:
    return numbers(evaluate(code, frame), len(frame), f"{what} {code!r}")


def known_trials(spec: ModelSpec, frame: pd.DataFrame) -> Floats | None:
    """Number of trials, shape (rows,), for families that have them.

    Raises
    ------
    BayesmixedError
        If the family needs them and they were not given, or the other way round, or if they are
        not whole numbers from 1.
    """
    if not spec.family.has_trials:
        if spec.trials is not None:
            raise BayesmixedError(
                f"trials(...) is for counts of successes; family {spec.family.name} has none. Use "
                'family="binomial" or "beta_binomial".'
            )
        return None
    if spec.trials is None:
        raise BayesmixedError(
            f"Family {spec.family.name} needs the number of trials: write "
            f'"{spec.response} | trials(n) ~ ..." with a column n or a number, or use '
            'family="bernoulli" for 0/1 outcomes.'
        )
    trials = _numbers(spec.trials, frame, "The number of trials")
    bad = ~(np.isfinite(trials) & (trials >= 1) & (trials == np.floor(trials)))
    if bad.any():
        raise DataError(
            f"The number of trials {spec.trials!r} must be a whole number from 1; it is not at "
            f"{_rows(bad, frame, trials)}."
        )
    return trials


def known_sd(spec: ModelSpec, frame: pd.DataFrame) -> Floats | None:
    """Known standard deviations of the outcomes, shape (rows,), where they were given.

    Raises
    ------
    BayesmixedError
        If the family estimates none, or if they are not all above 0.
    """
    if spec.sampling_sd is None:
        return None
    if "sigma" not in {p.name for p in spec.family.parameters} or "sigma" in spec.predictors:
        raise BayesmixedError(
            "sampling_sd is the known residual standard deviation: it goes with a family that has "
            f"sigma (gaussian, student_t, lognormal) and no formula for it, not with "
            f"{spec.family.name}."
        )
    values = _numbers(spec.sampling_sd, frame, "sampling_sd")
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        raise DataError(
            f"sampling_sd {spec.sampling_sd!r} must be above 0 in every row; it is not at "
            f"{_rows(bad, frame, values)}."
        )
    return values


def _rows(bad: NDArray[np.bool_], frame: pd.DataFrame, values: Floats) -> str:
    first = np.flatnonzero(bad)[:5]
    shown = ", ".join(f"row {frame.index[i]} ({values[i]:g})" for i in first)
    rest = int(bad.sum()) - len(first)
    return shown + (f" and {rest:,} more rows" if rest else "")


def check_support(family: Family, y: Floats, trials: Floats | None, frame: pd.DataFrame) -> None:
    """Refuse outcomes that the family does not have, or more successes than trials.

    Raises
    ------
    DataError
        Naming the rows.
    """
    with np.errstate(all="ignore"):
        valid = np.asarray(family.valid(y, trials), dtype=bool)
    if trials is not None and (y > trials).any():
        bad = y > trials
        raise DataError(
            f"More successes than trials at {_rows(bad, frame, y)}; there the trials are "
            f"{listed([f'{t:g}' for t in trials[bad]], 5)}."
        )
    if not valid.all():
        raise DataError(
            f"The outcome of family {family.name} must be {family.support}; it is not at "
            f"{_rows(~valid, frame, y)}."
        )
