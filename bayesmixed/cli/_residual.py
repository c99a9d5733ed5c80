"""A table of a model file, ``[residual]`` or one of ``[covariances]``, as a structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import UnionType
from typing import Any, get_args, get_type_hints

from bayesmixed._errors import BayesmixedError, listed, lookup
from bayesmixed.covariance import STRUCTURES, structure_from
from bayesmixed.structure import Structure

# What a field's type is in TOML, and in words.
_TOML: Mapping[type, tuple[tuple[type, ...], str]] = {
    str: ((str,), "text"),
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    tuple: ((list,), "a list"),
    Structure: ((dict,), "a table with a structure of its own"),
}


def structure(values: Mapping[str, Any], table: str = "residual") -> Structure:
    """A structure from ``structure = "AR1"`` and its fields.

    Parameters
    ----------
    values : mapping
        The table as it was read.
    table : str
        Its name, for messages.

    Raises
    ------
    BayesmixedError
        If a key is missing, or its value has the wrong type.
    UnknownNameError
        If the structure or a key does not exist.
    """
    _check_table(values, table, ("within",))
    return structure_from(values)


def _check_table(values: Mapping[str, Any], table: str, further: Sequence[str] = ()) -> None:
    made = STRUCTURES.get(str(values.get("structure")))
    factors = made is not None and any(f.name == "first" for f in fields(made))
    needed = ["structure", *(["first", "second"] if factors else ["time"]), *further]
    missing = [name for name in needed if name not in values]
    if missing:
        raise BayesmixedError(
            f"[{table}] lacks {listed(missing)}: it needs structure (one of "
            f"{', '.join(STRUCTURES)}), and {listed(needed[1:])}."
        )
    made = lookup(STRUCTURES, values["structure"], "correlation structure")
    hints = get_type_hints(made)
    known = {"structure": str} | {f.name: hints[f.name] for f in fields(made)}
    for key, value in values.items():
        hint = lookup(known, key, f"key of [{table}] with {made.__name__}")
        if hint is Structure and isinstance(value, Mapping):
            _check_table(value, f"{table}.{key}")
        else:
            _check(f"[{table}]: {key}", value, hint)


def _check(key: str, value: Any, hint: Any) -> None:
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    # The bare classes: a tuple of texts is a list of them here.
    plain = [_TOML[getattr(k, "__origin__", k)] for k in kinds if k is not type(None)]
    allowed = tuple(t for types, _ in plain for t in types)
    fits = isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))
    if fits and isinstance(value, list):
        fits = bool(value) and all(isinstance(one, str) for one in value)
    if not fits:
        words = " or ".join(words for _, words in plain)
        raise BayesmixedError(f"{key} = {value!r} must be {words}.")
