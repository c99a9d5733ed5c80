"""One model, many outcomes or data sets."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayesmixed.many._fits import Fits
    from bayesmixed.many._moderation import Moderation
    from bayesmixed.many._run import fit_many

# Imported when first used: a new worker process has no need of all of it.
_LAZY = {"Fits": "_fits", "Moderation": "_moderation", "fit_many": "_run"}

__all__ = ["Fits", "Moderation", "fit_many"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
