"""What the simulators ask of their arguments: each check says what was given and what is valid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, isfinite
from numbers import Integral, Real

from bayesmixed._errors import BayesmixedError, lookup


def whole(name: str, value: int, low: int) -> int:
    """Return `value` if it is a whole number of at least `low`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
        raise BayesmixedError(f"{name} must be a whole number of at least {low}, not {value!r}.")
    return int(value)


def number(
    name: str,
    value: float,
    low: float = -inf,
    high: float = inf,
    *,
    exclude: float | None = None,
) -> float:
    """Return `value` if it is a finite number from `low` to `high`, `exclude` excluded."""
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not isfinite(value) or not low <= value <= high or value == exclude:
        start = "" if low == -inf else f" from {low:g}"
        stop = "" if high == inf else f" to {high:g}"
        but = "" if exclude is None else f" but not {exclude:g}"
        raise BayesmixedError(f"{name} must be a finite number{start}{stop}{but}, not {value!r}.")
    return float(value)


def pair(name: str, value: Sequence[float], meaning: str, high: float = inf) -> tuple[float, float]:
    """Return two numbers of at least 0; `meaning` says what they are."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise BayesmixedError(f"{name} must be two numbers, {meaning}, not {value!r}.")
    first, second = (number(f"{name}[{i}]", v, 0, high) for i, v in enumerate(value))
    return first, second


def coefficients(
    defaults: Mapping[str, float], changed: Mapping[str, float] | None
) -> dict[str, float]:
    """Return `defaults` with some values changed by name."""
    result = dict(defaults)
    for term, value in (changed or {}).items():
        lookup(defaults, term, "coefficient")
        result[term] = number(f"beta[{term!r}]", value)
    return result
