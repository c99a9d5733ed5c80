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
    Independent,
    Toeplitz,
    Unstructured,
)
from bayesmixed.distances import Exponential, Matern, SquaredExponential
from bayesmixed.family import Family, Parameter
from bayesmixed.hierarchy import Hierarchy
from bayesmixed.priors import Prior
from bayesmixed.product import Product
from bayesmixed.structure import CorrelationParameter, Structure

if TYPE_CHECKING:
    from bayesmixed.adjacency import bym2, neighbours
    from bayesmixed.fallback import Ladder, fit_ladder, ladder
    from bayesmixed.fit import Fit
    from bayesmixed.loading import load
    from bayesmixed.many import Fits, fit_many
    from bayesmixed.meta import (
        correlation_sensitivity,
        cumulative_analysis,
        effect_sizes,
        grid_posterior,
        league_table,
        leave_one_out,
        meta_analysis,
        meta_counts,
        multivariate_effects,
        multivariate_meta_analysis,
        network_consistency,
        network_meta_analysis,
        pooled_effects,
        prior_robustness,
        publication_bias,
        reported_effects,
        rhodes_prior,
        study_effects,
        treatment_ranking,
        turner_prior,
    )
    from bayesmixed.model import Model
    from bayesmixed.page import report
    from bayesmixed.pedigree import kinship
    from bayesmixed.reports import (
        Report,
        assurance,
        benchmark,
        check,
        compare,
        design_effect,
        dropout_sensitivity,
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
        season,
        shrinkage,
        slopes,
        sphericity,
        tipping_point,
        trial_analysis,
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
    "correlation_sensitivity": "meta",
    "cumulative_analysis": "meta",
    "design_effect": "reports",
    "dropout_sensitivity": "reports",
    "effect_sizes": "meta",
    "effects": "reports",
    "Fit": "fit",
    "fit_ladder": "fallback",
    "fit_many": "many",
    "Fits": "many",
    "forecast": "reports",
    "grid_posterior": "meta",
    "icc": "reports",
    "kinship": "pedigree",
    "ladder": "fallback",
    "Ladder": "fallback",
    "league_table": "meta",
    "leave_one_out": "meta",
    "load": "loading",
    "loo": "reports",
    "means": "reports",
    "median_odds_ratio": "reports",
    "meta_analysis": "meta",
    "meta_counts": "meta",
    "Model": "model",
    "multivariate_effects": "meta",
    "multivariate_meta_analysis": "meta",
    "bym2": "adjacency",
    "neighbours": "adjacency",
    "network_consistency": "meta",
    "network_meta_analysis": "meta",
    "odds_ratios": "reports",
    "pooled_effects": "meta",
    "posterior_predictive": "reports",
    "predict": "reports",
    "prior_robustness": "meta",
    "prior_sensitivity": "reports",
    "publication_bias": "meta",
    "r2": "reports",
    "report": "page",
    "Report": "reports",
    "residual_correlation": "reports",
    "residuals": "reports",
    "reported_effects": "meta",
    "rhodes_prior": "meta",
    "season": "reports",
    "shrinkage": "reports",
    "slopes": "reports",
    "sphericity": "reports",
    "study_effects": "meta",
    "tipping_point": "reports",
    "trial_analysis": "reports",
    "treatment_ranking": "meta",
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
    "Ladder",
    "Matern",
    "Model",
    "Parameter",
    "Prior",
    "Product",
    "Report",
    "SquaredExponential",
    "Structure",
    "Toeplitz",
    "Unstructured",
    "VarianceBudget",
    "assurance",
    "benchmark",
    "bym2",
    "check",
    "compare",
    "correlation_sensitivity",
    "cumulative_analysis",
    "datasets",
    "design_effect",
    "dropout_sensitivity",
    "effect_sizes",
    "effects",
    "families",
    "fit_ladder",
    "fit_many",
    "forecast",
    "grid_posterior",
    "icc",
    "kinship",
    "ladder",
    "league_table",
    "leave_one_out",
    "links",
    "load",
    "loo",
    "means",
    "median_odds_ratio",
    "meta_analysis",
    "meta_counts",
    "multivariate_effects",
    "multivariate_meta_analysis",
    "neighbours",
    "network_consistency",
    "network_meta_analysis",
    "odds_ratios",
    "pooled_effects",
    "posterior_predictive",
    "predict",
    "prior_robustness",
    "prior_sensitivity",
    "publication_bias",
    "r2",
    "report",
    "reported_effects",
    "residual_correlation",
    "residuals",
    "rhodes_prior",
    "season",
    "shrinkage",
    "slopes",
    "sphericity",
    "study_effects",
    "tipping_point",
    "treatment_ranking",
    "trial_analysis",
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
