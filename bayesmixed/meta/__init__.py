"""Meta-analysis: the same borrowing of strength across studies with known sampling errors."""

from bayesmixed.meta._analysis import meta_analysis
from bayesmixed.meta._counts import meta_counts
from bayesmixed.meta._densities import LogStudentT
from bayesmixed.meta._effect_sizes import effect_sizes
from bayesmixed.meta._empirical import rhodes_prior, turner_prior
from bayesmixed.meta._grid import GridPosterior, grid_posterior
from bayesmixed.meta._pooled import pooled_effects
from bayesmixed.meta._sensitivity import cumulative_analysis, leave_one_out, prior_robustness
from bayesmixed.meta._studies import study_effects

__all__ = [
    "GridPosterior",
    "LogStudentT",
    "cumulative_analysis",
    "effect_sizes",
    "grid_posterior",
    "leave_one_out",
    "meta_analysis",
    "meta_counts",
    "pooled_effects",
    "prior_robustness",
    "rhodes_prior",
    "study_effects",
    "turner_prior",
]
