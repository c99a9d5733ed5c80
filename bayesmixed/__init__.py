"""Bayesian mixed models for health data: from a tidy table and a hierarchy to published numbers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bayesmixed import datasets, families, links
from bayesmixed._errors import BayesmixedError
from bayesmixed.budget import VarianceBudget
from bayesmixed.family import Family, Parameter
from bayesmixed.hierarchy import Hierarchy
from bayesmixed.priors import Prior

if TYPE_CHECKING:
    from bayesmixed.fit import Fit, load
    from bayesmixed.many import Fits, fit_many
    from bayesmixed.model import Model
    from bayesmixed.reports import Report, shrinkage, variance_components

__version__ = "0.1.0"

# What needs PyMC or ArviZ is imported when it is first used, so that the import here is light.
_LAZY = {
    "Fit": "fit",
    "Fits": "many",
    "fit_many": "many",
    "load": "fit",
    "Model": "model",
    "Report": "reports",
    "shrinkage": "reports",
    "variance_components": "reports",
}

__all__ = [
    "BayesmixedError",
    "Family",
    "Fit",
    "Fits",
    "Hierarchy",
    "Model",
    "Parameter",
    "Prior",
    "Report",
    "VarianceBudget",
    "datasets",
    "families",
    "fit_many",
    "links",
    "load",
    "shrinkage",
    "variance_components",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
