"""What to write in the place of functions and families that other packages have."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_NATURAL = 'cr(x, df=5, constraints="center")'
_SPLINE = f"There are no smooths; bs(x, df=5) and {_NATURAL} are splines. "
_RESIDUAL = "How residuals are correlated is an argument, such as residual=bm.AR1(...). "

HINTS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("s", "te", "ti", "t2"), _SPLINE),
        **dict.fromkeys(("ar", "ar1", "cosy", "unstr", "us", "toep"), _RESIDUAL),
        "as.factor": "Numbers as levels are factor(x). ",
        "cbind": "For k of n write k | trials(n). ",
        "gr": "Correlated groups are an argument: covariances={'id': matrix}. ",
        "ns": f"A natural spline is {_NATURAL}. ",
        "relevel": 'Another reference is C(x, contr.treatment(base="b")). ',
        "se": "Known standard errors are an argument: sampling_sd='sei'. ",
    }
)
"""By the function's name, a sentence with a space behind it."""

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("normal", "Gaussian", "linear"), "gaussian"),
        **dict.fromkeys(("logistic", "logit", "binary"), "bernoulli"),
        **dict.fromkeys(("negbinomial", "negbin", "nbinom", "nbinom2"), "negative_binomial"),
        **dict.fromkeys(("student", "t"), "student_t"),
        **dict.fromkeys(("cumulative", "multinomial"), "ordinal"),
        **dict.fromkeys(("betabinomial", "beta-binomial"), "beta_binomial"),
        "zip": "zero_inflated_poisson",
        "zinb": "zero_inflated_negative_binomial",
    }
)
"""Names of families elsewhere, and here."""
