"""Bayesian mixed models for health data: from a tidy table and a hierarchy to published numbers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bayesmixed import datasets, families, links
from bayesmixed._errors import BayesmixedError
from bayesmixed.budget import VarianceBudget
from bayesmixed.covariance import (
    AR1,
    ARMA11,
    Antedependence,
    CompoundSymmetry,
    ContinuousAR1,
    CorrelationParameter,
    Exponential,
    Independent,
    Matern,
    SquaredExponential,
    Structure,
    Toeplitz,
    Unstructured,
)
from bayesmixed.family import Family, Parameter
from bayesmixed.hierarchy import Hierarchy
from bayesmixed.priors import Prior

if TYPE_CHECKING:
    from bayesmixed.fit import Fit, load
    from bayesmixed.many import Fits, fit_many
    from bayesmixed.meta import (
        cumulative_analysis,
        effect_sizes,
        grid_posterior,
        leave_one_out,
        meta_analysis,
        meta_counts,
        pooled_effects,
        prior_robustness,
        rhodes_prior,
        study_effects,
        turner_prior,
    )
    from bayesmixed.model import Model
    from bayesmixed.reports import (
        Report,
        assurance,
        benchmark,
        check,
        compare,
        design_effect,
        effects,
        forecast,
        icc,
        loo,
        means,
        median_odds_ratio,
        odds_ratios,
        posterior_predictive,
        predict,
        prior_sensitivity,
        r2,
        residual_correlation,
        residuals,
        shrinkage,
        slopes,
        variance_components,
        with_volume,
    )

__version__ = "0.1.0"

# What needs PyMC or ArviZ is imported when it is first used, so that the import here is light.
_LAZY = {
    "assurance": "reports",
    "benchmark": "reports",
    "check": "reports",
    "compare": "reports",
    "cumulative_analysis": "meta",
    "design_effect": "reports",
    "effect_sizes": "meta",
    "effects": "reports",
    "Fit": "fit",
    "fit_many": "many",
    "Fits": "many",
    "forecast": "reports",
    "grid_posterior": "meta",
    "icc": "reports",
    "leave_one_out": "meta",
    "load": "fit",
    "loo": "reports",
    "means": "reports",
    "median_odds_ratio": "reports",
    "meta_analysis": "meta",
    "meta_counts": "meta",
    "Model": "model",
    "odds_ratios": "reports",
    "pooled_effects": "meta",
    "posterior_predictive": "reports",
    "predict": "reports",
    "prior_robustness": "meta",
    "prior_sensitivity": "reports",
    "r2": "reports",
    "Report": "reports",
    "residual_correlation": "reports",
    "residuals": "reports",
    "rhodes_prior": "meta",
    "shrinkage": "reports",
    "slopes": "reports",
    "study_effects": "meta",
    "turner_prior": "meta",
    "variance_components": "reports",
    "with_volume": "reports",
}

__all__ = [
    "AR1",
    "ARMA11",
    "Antedependence",
    "BayesmixedError",
    "CompoundSymmetry",
    "ContinuousAR1",
    "CorrelationParameter",
    "Exponential",
    "Family",
    "Fit",
    "Fits",
    "Hierarchy",
    "Independent",
    "Matern",
    "Model",
    "Parameter",
    "Prior",
    "Report",
    "SquaredExponential",
    "Structure",
    "Toeplitz",
    "Unstructured",
    "VarianceBudget",
    "assurance",
    "benchmark",
    "check",
    "compare",
    "cumulative_analysis",
    "datasets",
    "design_effect",
    "effect_sizes",
    "effects",
    "families",
    "fit_many",
    "forecast",
    "grid_posterior",
    "icc",
    "leave_one_out",
    "links",
    "load",
    "loo",
    "means",
    "median_odds_ratio",
    "meta_analysis",
    "meta_counts",
    "odds_ratios",
    "pooled_effects",
    "posterior_predictive",
    "predict",
    "prior_robustness",
    "prior_sensitivity",
    "r2",
    "residual_correlation",
    "residuals",
    "rhodes_prior",
    "shrinkage",
    "slopes",
    "study_effects",
    "turner_prior",
    "variance_components",
    "with_volume",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
