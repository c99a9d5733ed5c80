"""Empirical priors: how much earlier meta-analyses in medicine turned out to vary."""

from __future__ import annotations

from collections.abc import Mapping

from bayesmixed._errors import lookup
from bayesmixed.priors import Prior

# Turner et al. (2015), Table IV: minus the mean, and the sd, of log tau2 by outcome, for
# pharmacological against placebo, pharmacological against pharmacological, non-pharmacological
# against placebo, against pharmacological, and against non-pharmacological.
_TURNER: Mapping[str, tuple[tuple[float, float], ...]] = {
    "all-cause mortality": (
        (3.95, 1.34), (4.18, 1.41), (4.17, 1.55), (2.92, 1.02), (3.50, 1.26)),
    "obstetric outcomes": (
        (3.52, 1.74), (3.75, 1.79), (3.74, 1.91), (2.49, 1.50), (3.08, 1.68)),
    "cause-specific mortality, major morbidity or composite": (
        (3.71, 1.74), (3.95, 1.79), (3.93, 1.91), (2.68, 1.51), (3.27, 1.68)),
    "resource use, hospital stay or process": (
        (2.34, 1.74), (2.58, 1.79), (2.56, 1.91), (1.31, 1.50), (1.90, 1.68)),
    "surgical or device related success or failure": (
        (2.14, 1.74), (2.37, 1.79), (2.36, 1.91), (1.11, 1.50), (1.69, 1.68)),
    "withdrawals or drop-outs": (
        (2.99, 1.74), (3.23, 1.79), (3.21, 1.91), (1.96, 1.51), (2.55, 1.68)),
    "internal or structure-related outcomes": (
        (2.71, 1.74), (2.94, 1.79), (2.93, 1.92), (1.67, 1.51), (2.26, 1.68)),
    "general physical health indicators": (
        (2.29, 1.53), (2.53, 1.58), (2.51, 1.72), (1.26, 1.25), (1.85, 1.46)),
    "adverse events": (
        (1.87, 1.52), (2.10, 1.58), (2.10, 1.71), (0.84, 1.24), (1.43, 1.45)),
    "infection or onset of new disease": (
        (2.49, 1.52), (2.73, 1.58), (2.71, 1.71), (1.46, 1.24), (2.05, 1.45)),
    "signs or symptoms": (
        (2.06, 1.51), (2.29, 1.58), (2.28, 1.71), (1.03, 1.24), (1.61, 1.45)),
    "pain": (
        (1.83, 1.52), (2.06, 1.58), (2.05, 1.71), (0.80, 1.25), (1.38, 1.45)),
    "quality of life or functioning": (
        (2.54, 1.54), (2.78, 1.60), (2.77, 1.73), (1.51, 1.27), (2.10, 1.47)),
    "mental health indicators": (
        (2.12, 1.53), (2.35, 1.60), (2.34, 1.72), (1.09, 1.27), (1.67, 1.47)),
    "biological markers": (
        (1.77, 1.52), (2.00, 1.58), (1.99, 1.71), (0.74, 1.24), (1.33, 1.45)),
    "subjective outcomes": (
        (2.70, 1.52), (2.93, 1.58), (2.92, 1.71), (1.67, 1.25), (2.26, 1.45)),
}  # fmt: skip

# Rhodes et al. (2015), Table 3: minus the location, and the scale, of log tau2 by outcome, for
# pharmacological against placebo, pharmacological against pharmacological, non-pharmacological.
# That of mental health, non-pharmacological, is as printed; see `rhodes_prior`.
_RHODES: Mapping[str, tuple[tuple[float, float], ...]] = {
    "obstetric outcomes": ((4.13, 2.34), (4.40, 2.31), (3.99, 2.11)),
    "resource use, hospital stay or process": ((2.55, 2.73), (2.83, 2.70), (2.41, 2.57)),
    "internal or structure-related outcomes": ((2.43, 2.50), (2.70, 2.46), (2.29, 2.32)),
    "general physical health, adverse events, pain or quality of life": (
        (3.16, 2.50), (3.44, 2.44), (3.02, 2.27)),
    "signs or symptoms, infection or new disease": ((3.00, 2.50), (3.27, 2.47), (2.86, 2.33)),
    "mental health": ((2.99, 2.16), (3.27, 2.14), (3.85, 1.93)),
    "biological markers": ((3.41, 2.83), (3.68, 2.78), (3.27, 2.66)),
    "subjective outcomes": ((2.76, 2.58), (3.03, 2.59), (2.62, 2.41)),
}  # fmt: skip

COMPARISON = "pharmacological vs placebo"

_TURNER_COMPARISONS = {
    "pharmacological vs placebo": 0,
    "pharmacological vs pharmacological": 1,
    "non-pharmacological vs placebo": 2,
    "non-pharmacological vs pharmacological": 3,
    "non-pharmacological vs non-pharmacological": 4,
}
_RHODES_COMPARISONS = {
    "pharmacological vs placebo": 0,
    "pharmacological vs pharmacological": 1,
    "non-pharmacological": 2,
}


def turner_prior(outcome: str | None = None, comparison: str = COMPARISON) -> Prior:
    r"""Log-normal prior of tau for log odds ratios, from 14,886 Cochrane meta-analyses.

    Parameters
    ----------
    outcome : str, optional
        Such as ``"all-cause mortality"`` or ``"pain"``; any outcome and comparison unless given.
    comparison : str
        Such as ``"pharmacological vs placebo"`` (placebo or other control).

    Returns
    -------
    Prior
        Of tau; half the location and scale that Turner et al. give for :math:`\log \tau^2`.

    Raises
    ------
    UnknownNameError
        If the outcome or comparison is not one of the table's.

    References
    ----------
    Turner, Jackson, Wei, Thompson & Higgins (2015), Stat. Med. 34:984, Table IV and p. 993.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> bm.turner_prior("all-cause mortality")
    LogNormal(mu=-1.975, sigma=0.67)
    """
    location, scale = 2.56, 1.74
    column = lookup(_TURNER_COMPARISONS, comparison, "comparison")
    if outcome is not None:
        location, scale = lookup(_TURNER, outcome, "type of outcome")[column]
    return Prior("LogNormal", mu=-location / 2, sigma=scale / 2)


def rhodes_prior(outcome: str | None = None, comparison: str = COMPARISON) -> Prior:
    r"""Log-Student-t prior of tau for standardised mean differences, from 6,492 meta-analyses.

    For mental health and non-pharmacological treatments the printed location, -3.85, is probably a
    misprint of -2.85: in all other rows of Table 3 non-pharmacological is 0.14 above placebo, as a
    model without interactions has it, and so it is for mental health in the paper's tables A.3.1
    (respiratory diseases) and A.3.2 (cancer), as the R package bayesmeta has them. The number here
    is the printed one, as there; ``Prior("LogStudentT", nu=5, mu=-1.425, sigma=0.965)`` is the
    other.

    Parameters
    ----------
    outcome : str, optional
        Such as ``"mental health"``; any outcome and comparison unless given.
    comparison : str
        Such as ``"pharmacological vs placebo"`` (placebo or other control).

    Returns
    -------
    Prior
        Of tau, log-Student-t with 5 degrees of freedom; for `meta_analysis` on the grid and by
        NUTS, and `prior_robustness`.

    Raises
    ------
    UnknownNameError
        If the outcome or comparison is not one of the table's.

    References
    ----------
    Rhodes, Turner & Higgins (2015), J. Clin. Epidemiol. 68:52, Table 3 and section 3.3.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> bm.rhodes_prior("mental health")
    LogStudentT(nu=5, mu=-1.495, sigma=1.08)
    """
    location, scale = 3.44, 2.59
    column = lookup(_RHODES_COMPARISONS, comparison, "comparison")
    if outcome is not None:
        location, scale = lookup(_RHODES, outcome, "type of outcome")[column]
    return Prior("LogStudentT", nu=5, mu=-location / 2, sigma=scale / 2)
