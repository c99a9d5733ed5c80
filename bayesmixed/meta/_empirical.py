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

# Rhodes et al. (2015), Tables 3, A.3.1 and A.3.2: minus the location, and the scale, of log tau2 by
# area and outcome, for pharmacological against placebo, pharmacological against pharmacological,
# non-pharmacological. Two numbers are as printed; see `rhodes_prior`.
_RHODES: Mapping[str, Mapping[str, tuple[tuple[float, float], ...]]] = {
    "other": {
        "obstetric outcomes": ((4.13, 2.34), (4.40, 2.31), (3.99, 2.11)),
        "resource use, hospital stay or process": ((2.55, 2.73), (2.83, 2.70), (2.41, 2.57)),
        "internal or structure-related outcomes": ((2.43, 2.50), (2.70, 2.46), (2.29, 2.32)),
        "general physical health, adverse events, pain or quality of life": (
            (3.16, 2.50), (3.44, 2.44), (3.02, 2.27)),
        "signs or symptoms, infection or new disease": ((3.00, 2.50), (3.27, 2.47), (2.86, 2.33)),
        "mental health": ((2.99, 2.16), (3.27, 2.14), (3.85, 1.93)),
        "biological markers": ((3.41, 2.83), (3.68, 2.78), (3.27, 2.66)),
        "subjective outcomes": ((2.76, 2.58), (3.03, 2.59), (2.62, 2.41)),
    },
    "respiratory": {
        "obstetric outcomes": ((6.03, 2.36), (6.31, 2.31), (5.89, 2.21)),
        "resource use, hospital stay or process": ((4.46, 2.74), (4.73, 2.70), (4.32, 2.57)),
        "internal or structure-related outcomes": ((4.33, 2.51), (4.61, 2.46), (4.19, 2.33)),
        "general physical health, adverse events, pain or quality of life": (
            (5.07, 2.51), (5.34, 2.45), (4.93, 2.28)),
        "signs or symptoms, infection or new disease": ((4.90, 2.50), (5.18, 2.47), (4.76, 2.33)),
        "mental health": ((4.90, 2.17), (5.17, 2.14), (4.76, 1.94)),
        "biological markers": ((5.31, 2.83), (5.59, 2.78), (5.17, 2.66)),
        "subjective outcomes": ((4.66, 2.59), (4.94, 2.59), (4.52, 2.41)),
    },
    "cancer": {
        "obstetric outcomes": ((1.57, 2.45), (1.85, 2.41), (1.43, 2.24)),
        "resource use, hospital stay or process": ((-0.01, 2.83), (0.27, 2.79), (-0.15, 2.68)),
        "internal or structure-related outcomes": ((0.13, 2.61), (0.14, 2.56), (-0.27, 2.45)),
        "general physical health, adverse events, pain or quality of life": (
            (0.60, 2.61), (0.88, 2.55), (0.46, 2.40)),
        "signs or symptoms, infection or new disease": ((0.44, 2.60), (0.71, 2.57), (0.30, 2.46)),
        "mental health": ((0.43, 2.28), (0.71, 2.25), (0.29, 2.08)),
        "biological markers": ((0.85, 2.93), (1.13, 2.87), (0.71, 2.78)),
        "subjective outcomes": ((0.20, 2.68), (0.48, 2.68), (0.06, 2.53)),
    },
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


def rhodes_prior(
    outcome: str | None = None, comparison: str = COMPARISON, area: str = "other"
) -> Prior:
    r"""Log-Student-t prior of tau for standardised mean differences, from 6,492 meta-analyses.

    For mental health and non-pharmacological treatments the printed location, -3.85, is probably a
    misprint of -2.85: in all other rows of Table 3 non-pharmacological is 0.14 above placebo, as a
    model without interactions has it, and so it is for mental health in the paper's tables A.3.1
    (respiratory diseases) and A.3.2 (cancer), as the R package bayesmeta has them. The number here
    is the printed one, as there; ``Prior("LogStudentT", nu=5, mu=-1.425, sigma=0.965)`` is the
    other. Likewise the location for cancer, internal outcomes and placebo is printed as -0.13, and
    by the same rule is 0.13.

    Parameters
    ----------
    outcome : str, optional
        Such as ``"mental health"``; any outcome, comparison and area unless given.
    comparison : str
        Such as ``"pharmacological vs placebo"`` (placebo or other control).
    area : {"other", "respiratory", "cancer"}
        Respiratory diseases (where studies differ little), cancer (where they differ much), or
        none of them.

    Returns
    -------
    Prior
        Of tau, log-Student-t with 5 degrees of freedom; for `meta_analysis` on the grid and by
        NUTS, and `prior_robustness`.

    Raises
    ------
    UnknownNameError
        If the outcome, comparison or area is not one of the tables'.

    References
    ----------
    Rhodes, Turner & Higgins (2015), J. Clin. Epidemiol. 68:52, Tables 3, A.3.1, A.3.2; section 3.3.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> bm.rhodes_prior("mental health")
    LogStudentT(nu=5, mu=-1.495, sigma=1.08)
    """
    location, scale = 3.44, 2.59
    column = lookup(_RHODES_COMPARISONS, comparison, "comparison")
    table = lookup(_RHODES, area, "medical area")
    if outcome is not None:
        location, scale = lookup(table, outcome, "type of outcome")[column]
    return Prior("LogStudentT", nu=5, mu=-location / 2, sigma=scale / 2)
