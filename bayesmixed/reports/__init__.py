"""Reports: plain functions of a fit that return a `Report`."""

from bayesmixed.reports._assurance import assurance
from bayesmixed.reports._benchmark import benchmark
from bayesmixed.reports._compare import compare
from bayesmixed.reports._design_effect import design_effect
from bayesmixed.reports._dropout import dropout_sensitivity
from bayesmixed.reports._effects import effects
from bayesmixed.reports._forecast import forecast
from bayesmixed.reports._icc import icc, median_odds_ratio
from bayesmixed.reports._loo import loo
from bayesmixed.reports._means import means
from bayesmixed.reports._odds_ratios import odds_ratios
from bayesmixed.reports._ppc import check
from bayesmixed.reports._predict import predict
from bayesmixed.reports._r2 import r2
from bayesmixed.reports._replicates import posterior_predictive
from bayesmixed.reports._report import Report
from bayesmixed.reports._residual_correlation import residual_correlation
from bayesmixed.reports._residuals import residuals
from bayesmixed.reports._season import season
from bayesmixed.reports._sensitivity import prior_sensitivity
from bayesmixed.reports._shrinkage import shrinkage
from bayesmixed.reports._slopes import slopes
from bayesmixed.reports._sphericity import sphericity
from bayesmixed.reports._tipping import tipping_point
from bayesmixed.reports._trial_analysis import trial_analysis
from bayesmixed.reports._variance import variance_components
from bayesmixed.reports._volume import with_volume

__all__ = [
    "Report",
    "assurance",
    "benchmark",
    "check",
    "compare",
    "design_effect",
    "dropout_sensitivity",
    "effects",
    "forecast",
    "icc",
    "loo",
    "means",
    "median_odds_ratio",
    "odds_ratios",
    "posterior_predictive",
    "predict",
    "prior_sensitivity",
    "r2",
    "residual_correlation",
    "residuals",
    "season",
    "shrinkage",
    "slopes",
    "sphericity",
    "tipping_point",
    "trial_analysis",
    "variance_components",
    "with_volume",
]
