"""The exceptions that a user can meet, and the one look-up that makes "did you mean" messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches


class BayesmixedError(ValueError):
    """Something the user gave cannot be used; the message says what, what is valid, what to do.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> try:
    ...     bm.Model("Reaction ~ Day", bm.datasets.load("sleepstudy"))
    ... except bm.BayesmixedError as error:
    ...     print(error)
    There is no column 'Day'. Did you mean 'Days'?
    """


class UnknownNameError(BayesmixedError):
    """A name (of a column, family, link, prior, level, ...) that is not among the valid ones."""


class FormulaError(BayesmixedError):
    """Formula text that cannot be read or is not allowed, with a caret under the spot.

    Parameters
    ----------
    message : str
        What is wrong and what to write instead.
    text : str
        The formula.
    start, stop : int
        Zero-based first and last character of the spot.
    """

    def __init__(self, message: str, text: str, start: int, stop: int | None = None) -> None:
        last = start if stop is None else stop
        # One line, so that the caret stands under the spot in any formula.
        shown = "".join(" " if c in "\n\r\t" else c for c in text)
        caret = " " * start + "^" * max(1, last - start + 1)
        super().__init__(f"{message}\n  {shown}\n  {caret}")


class DataError(BayesmixedError):
    """Data that do not fit the model that was asked for."""


class PriorError(BayesmixedError):
    """A prior that does not exist, has wrong parameters, or lives on the wrong support."""


class SamplingError(BayesmixedError):
    """Sampling could not start, or was stopped before a draw was kept."""


class StorageError(BayesmixedError):
    """A file that is not a saved fit, or a fit that cannot be stored as asked."""


def listed(names: Iterable[object], most: int = 8) -> str:
    """Join names for a message, the first `most` of them and a count of the rest."""
    every = [str(name) for name in names]
    rest = len(every) - most
    return ", ".join(every[:most]) + (f" and {rest} more" if rest > 0 else "")


def nearest(name: str, valid: Iterable[str], most: int = 3) -> list[str]:
    """The valid names that look most like `name`, ignoring case; empty where none does."""
    by_lower = {v.lower(): v for v in valid}
    return [by_lower[m] for m in get_close_matches(name.lower(), by_lower, n=most, cutoff=0.5)]


def unknown(name: object, valid: Iterable[str], what: str) -> UnknownNameError:
    """The error for a name that is not valid: names the nearest ones, or lists them all."""
    every = list(dict.fromkeys(valid))
    close = nearest(str(name), every)
    hint = (
        f"Did you mean {' or '.join(repr(c) for c in close)}?"
        if close
        else f"Valid: {listed(every, 40)}."
        if every
        else "None is available."
    )
    return UnknownNameError(f"There is no {what} {str(name)!r}. {hint}")


def lookup[T](table: Mapping[str, T], name: str, what: str) -> T:
    """Return ``table[name]``, or raise an error that names the nearest valid names.

    Raises
    ------
    UnknownNameError
        If `name` is not a key of `table`.
    """
    try:
        return table[name]
    except (KeyError, TypeError):
        raise unknown(name, table, what) from None
