"""How values with functions in them are pickled."""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Mapping
from typing import Any


def by_name(kind: type, known: Mapping[str, Any], get: Callable[[str], Any]) -> None:
    """Pickle the package's own values of a class by name, because it tells them by identity.

    Parameters
    ----------
    kind : type
        The class, whose values have a name.
    known : mapping of str to values
        The package's own.
    get : callable
        Gives one of these by its name; a function of a module.
    """

    def reduced(value: Any) -> tuple[Any, ...]:
        name: str = value.name
        if known.get(name) is value:
            return get, (name,)
        return copyreg.__newobj__, (kind,), vars(value)  # type: ignore[attr-defined]

    copyreg.pickle(kind, reduced)
