"""Meta-analysis: the same borrowing of strength across studies with known sampling errors."""

from bayesmixed.meta._analysis import meta_analysis
from bayesmixed.meta._bias_models import NoBias, Selection, SmallStudy
from bayesmixed.meta._counts import meta_counts
from bayesmixed.meta._densities import LogStudentT
from bayesmixed.meta._effect_sizes import effect_sizes
from bayesmixed.meta._empirical import rhodes_prior, turner_prior
from bayesmixed.meta._grid import GridPosterior, grid_posterior
from bayesmixed.meta._load import restored
from bayesmixed.meta._multivariate_analysis import MultivariateFit, multivariate_meta_analysis
from bayesmixed.meta._multivariate_effects import correlation_sensitivity, multivariate_effects
from bayesmixed.meta._network_analysis import NetworkFit, network_meta_analysis
from bayesmixed.meta._network_consistency import network_consistency
from bayesmixed.meta._network_league import league_table, treatment_ranking
from bayesmixed.meta._pooled import pooled_effects
from bayesmixed.meta._publication_bias import BiasReport, publication_bias
from bayesmixed.meta._reported import reported_effects
from bayesmixed.meta._robustness import prior_robustness
from bayesmixed.meta._sensitivity import cumulative_analysis, leave_one_out
from bayesmixed.meta._studies import study_effects

__all__ = [
    "BiasReport",
    "GridPosterior",
    "LogStudentT",
    "MultivariateFit",
    "NetworkFit",
    "NoBias",
    "Selection",
    "SmallStudy",
    "correlation_sensitivity",
    "cumulative_analysis",
    "effect_sizes",
    "grid_posterior",
    "league_table",
    "leave_one_out",
    "meta_analysis",
    "meta_counts",
    "multivariate_effects",
    "multivariate_meta_analysis",
    "network_consistency",
    "network_meta_analysis",
    "pooled_effects",
    "prior_robustness",
    "publication_bias",
    "reported_effects",
    "restored",
    "rhodes_prior",
    "study_effects",
    "treatment_ranking",
    "turner_prior",
]
