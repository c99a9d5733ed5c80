"""Parts of a page, each made on its own: what goes wrong in one costs nothing of the others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from bayesmixed._errors import BayesmixedError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """What stands in the place of a part.

    Parameters
    ----------
    reason : str
        Why it cannot be shown, in one line.
    """

    reason: str


def attempt[T](what: str, make: Callable[[], T]) -> T | Failure:
    """A part of a page, or why it cannot be shown.

    Parameters
    ----------
    what : str
        The part's name, for the log.
    make : callable
        Makes it. What it refuses is said in its own words; any other error is a fault of this
        package, and goes to the log with its traceback.
    """
    try:
        return make()
    except BayesmixedError as error:
        return Failure(" ".join(str(error).split()))
    except Exception as error:  # noqa: BLE001  # a page that took an hour to earn is not lost
        _LOG.warning("The part %r of a report could not be made.", what, exc_info=True)
        first = next(iter(str(error).splitlines()), "")
        kind = type(error).__name__
        return Failure(f"this part met an unexpected error ({kind}: {first}); the log has it.")
