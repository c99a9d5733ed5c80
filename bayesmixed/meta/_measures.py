"""Effect measures: what each needs, its formula and variance, and what a unit of information is.

The formulas are those that metafor's ``escalc`` uses (Viechtbauer 2010, J. Stat. Softw. 36(3)),
with the same names of the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logit

from bayesmixed._errors import lookup

type Floats = NDArray[np.float64]
type Columns = Mapping[str, Floats]


@dataclass(frozen=True)
class Inputs:
    """The columns that some measures share.

    Parameters
    ----------
    names : tuple of str
        Needed, by escalc's names.
    complements : mapping of str to (str, str)
        Columns that may be given as a total less another column.
    counts : tuple of str
        Columns that are from 0.
    positive : tuple of str
        Columns that are above 0.
    cells : tuple of str
        The cells to which the continuity correction is added, if one of them is 0.
    empty : tuple of tuple of str
        A study in which all of such columns are 0 says nothing of a relative effect.
    size : callable
        Total sample size; for rates the number of events.
    """

    names: tuple[str, ...]
    size: Callable[[Columns], Floats]
    complements: Mapping[str, tuple[str, str]]
    counts: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    empty: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Measure:
    """An effect measure.

    Parameters
    ----------
    name : str
        escalc's name.
    title : str
        In words, on the scale of the analysis.
    inputs : Inputs
    formula : callable
        From the columns to the estimate and its sampling variance.
    reference : str
        Where the formula is from.
    ratio : str
        What the exponential of the measure is called; empty where that means nothing.
    compares : bool
        Whether 0 stands for no difference between two groups.
    corrected : bool
        Whether cells that are 0 need a correction.
    unit_sd : float, optional
        Unit-information standard deviation where theory gives one: sqrt(size) times the standard
        error in a study of equal groups (and proportions of one half). For logarithms of ratios of
        events the size is the number of events, which are what tells of them: where they are rare,
        the variance is 1/a + 1/c, and for a = c it is 4 divided by the events.
    """

    name: str
    title: str
    inputs: Inputs
    formula: Callable[[Columns], tuple[Floats, Floats]]
    reference: str
    ratio: str = ""
    compares: bool = True
    corrected: bool = True
    unit_sd: float | None = None


TABLE = Inputs(
    ("ai", "bi", "ci", "di"),
    lambda c: c["ai"] + c["bi"] + c["ci"] + c["di"],
    {"bi": ("n1i", "ai"), "di": ("n2i", "ci")},
    counts=("ai", "bi", "ci", "di"),
    cells=("ai", "bi", "ci", "di"),
    empty=(("ai", "ci"), ("bi", "di")),
)
MEANS = Inputs(
    ("m1i", "sd1i", "n1i", "m2i", "sd2i", "n2i"),
    lambda c: c["n1i"] + c["n2i"],
    {},
    positive=("sd1i", "n1i", "sd2i", "n2i"),
)
RATES = Inputs(
    ("x1i", "t1i", "x2i", "t2i"),
    lambda c: c["x1i"] + c["x2i"],
    {},
    counts=("x1i", "x2i"),
    positive=("t1i", "t2i"),
    cells=("x1i", "x2i"),
    empty=(("x1i", "x2i"),),
)
CORRELATION = Inputs(("ri", "ni"), lambda c: c["ni"], {}, positive=("ni",))
PROPORTION = Inputs(
    ("xi", "mi"),
    lambda c: c["xi"] + c["mi"],
    {"mi": ("ni", "xi")},
    counts=("xi", "mi"),
    cells=("xi", "mi"),
)
LOGRANK = Inputs(("oe", "v"), lambda c: 4 * c["v"], {}, positive=("v",))
RATE = Inputs(("xi", "ti"), lambda c: c["xi"], {}, ("xi",), ("ti",), ("xi",))


def _log_odds_ratio(c: Columns) -> tuple[Floats, Floats]:
    variance = 1 / c["ai"] + 1 / c["bi"] + 1 / c["ci"] + 1 / c["di"]
    return np.log(c["ai"] / c["bi"]) - np.log(c["ci"] / c["di"]), variance


def _log_risk_ratio(c: Columns) -> tuple[Floats, Floats]:
    n1, n2 = c["ai"] + c["bi"], c["ci"] + c["di"]
    variance = 1 / c["ai"] - 1 / n1 + 1 / c["ci"] - 1 / n2
    return np.log(c["ai"] / n1) - np.log(c["ci"] / n2), variance


def _risk_difference(c: Columns) -> tuple[Floats, Floats]:
    n1, n2 = c["ai"] + c["bi"], c["ci"] + c["di"]
    p1, p2 = c["ai"] / n1, c["ci"] / n2
    return p1 - p2, p1 * (1 - p1) / n1 + p2 * (1 - p2) / n2


def _arcsine_difference(c: Columns) -> tuple[Floats, Floats]:
    n1, n2 = c["ai"] + c["bi"], c["ci"] + c["di"]
    difference = np.arcsin(np.sqrt(c["ai"] / n1)) - np.arcsin(np.sqrt(c["ci"] / n2))
    return difference, 1 / (4 * n1) + 1 / (4 * n2)


def _peto(c: Columns) -> tuple[Floats, Floats]:
    n1, n2 = c["ai"] + c["bi"], c["ci"] + c["di"]
    n, events, others = n1 + n2, c["ai"] + c["ci"], c["bi"] + c["di"]
    information = events * others * (n1 / n) * (n2 / n) / (n - 1)
    return (c["ai"] - events * n1 / n) / information, 1 / information


def _mean_difference(c: Columns) -> tuple[Floats, Floats]:
    variance = c["sd1i"] ** 2 / c["n1i"] + c["sd2i"] ** 2 / c["n2i"]
    return c["m1i"] - c["m2i"], variance


def _standardised_mean_difference(c: Columns) -> tuple[Floats, Floats]:
    n1, n2 = c["n1i"], c["n2i"]
    freedom = n1 + n2 - 2
    pooled = np.sqrt(((n1 - 1) * c["sd1i"] ** 2 + (n2 - 1) * c["sd2i"] ** 2) / freedom)
    unbiased = np.exp(gammaln(freedom / 2) - np.log(freedom / 2) / 2 - gammaln((freedom - 1) / 2))
    g = unbiased * (c["m1i"] - c["m2i"]) / pooled
    return g, 1 / n1 + 1 / n2 + g**2 / (2 * (n1 + n2))


def _log_ratio_of_means(c: Columns) -> tuple[Floats, Floats]:
    one, two = (c[f"sd{j}i"] ** 2 / (c[f"n{j}i"] * c[f"m{j}i"] ** 2) for j in (1, 2))
    return np.log(c["m1i"] / c["m2i"]) + (one - two) / 2, one + two


def _log_rate_ratio(c: Columns) -> tuple[Floats, Floats]:
    ratio = np.log(c["x1i"] / c["t1i"]) - np.log(c["x2i"] / c["t2i"])
    return ratio, 1 / c["x1i"] + 1 / c["x2i"]


def _rate_difference(c: Columns) -> tuple[Floats, Floats]:
    variance = c["x1i"] / c["t1i"] ** 2 + c["x2i"] / c["t2i"] ** 2
    return c["x1i"] / c["t1i"] - c["x2i"] / c["t2i"], variance


def _proportion(c: Columns) -> tuple[Floats, Floats]:
    n = c["xi"] + c["mi"]
    p = c["xi"] / n
    return p, p * (1 - p) / n


def _log_proportion(c: Columns) -> tuple[Floats, Floats]:
    n = c["xi"] + c["mi"]
    return np.log(c["xi"] / n), 1 / c["xi"] - 1 / n


def _logit_proportion(c: Columns) -> tuple[Floats, Floats]:
    return logit(c["xi"] / (c["xi"] + c["mi"])), 1 / c["xi"] + 1 / c["mi"]


def _arcsine_proportion(c: Columns) -> tuple[Floats, Floats]:
    n = c["xi"] + c["mi"]
    return np.arcsin(np.sqrt(c["xi"] / n)), 1 / (4 * n)


_FLEISS = "Fleiss & Berlin (2009), The Handbook of Research Synthesis, ch. 13."
_HEDGES = "Hedges & Olkin (1985), Statistical Methods for Meta-Analysis, ch. 5, eq. 10 and 15."
_ROTHMAN = "Rothman, Greenland & Lash (2008), Modern Epidemiology, ch. 14."

_ALL = (
    Measure("OR", "log odds ratio", TABLE, _log_odds_ratio, _FLEISS, "odds ratio", unit_sd=2.0),
    Measure("RR", "log risk ratio", TABLE, _log_risk_ratio, _FLEISS, "risk ratio", unit_sd=2.0),
    Measure("RD", "risk difference", TABLE, _risk_difference, _FLEISS, unit_sd=1.0),
    Measure(
        "AS",
        "difference of arcsine square roots",
        TABLE,
        _arcsine_difference,
        "Rücker, Schwarzer, Carpenter & Olkin (2009), Stat. Med. 28:721.",
        corrected=False,
        unit_sd=1.0,
    ),
    Measure(
        "PETO",
        "log odds ratio (Peto)",
        TABLE,
        _peto,
        "Yusuf, Peto, Lewis, Collins & Sleight (1985), Prog. Cardiovasc. Dis. 27:335.",
        "odds ratio",
        unit_sd=2.0,
    ),
    Measure("MD", "mean difference", MEANS, _mean_difference, _HEDGES),
    Measure(
        "SMD",
        "standardised mean difference (Hedges' g)",
        MEANS,
        _standardised_mean_difference,
        _HEDGES,
        unit_sd=2.0,
    ),
    Measure(
        "ROM",
        "log ratio of means",
        MEANS,
        _log_ratio_of_means,
        "Lajeunesse (2015), Ecology 96:2056, eq. 8.",
        "ratio of means",
    ),
    Measure(
        "IRR", "log rate ratio", RATES, _log_rate_ratio, _ROTHMAN, "rate ratio", unit_sd=2.0
    ),
    Measure(
        "HR",
        "log hazard ratio",
        LOGRANK,
        lambda c: (c["oe"] / c["v"], 1 / c["v"]),
        "Parmar, Torri & Stewart (1998), Stat. Med. 17:2815, eq. 3; Peto et al. (1977), "
        "Br. J. Cancer 35:1.",
        "hazard ratio",
        unit_sd=2.0,
    ),
    Measure("IRD", "rate difference", RATES, _rate_difference, _ROTHMAN),
    Measure(
        "COR",
        "correlation",
        CORRELATION,
        lambda c: (c["ri"], (1 - c["ri"] ** 2) ** 2 / (c["ni"] - 1)),
        "Olkin & Pratt (1958), Ann. Math. Stat. 29:201.",
        unit_sd=1.0,
    ),
    Measure(
        "ZCOR",
        "Fisher's z of the correlation",
        CORRELATION,
        lambda c: (np.arctanh(c["ri"]), 1 / (c["ni"] - 3)),
        "Fisher (1921), Metron 1:3.",
        unit_sd=1.0,
    ),
    Measure("PR", "proportion", PROPORTION, _proportion, _FLEISS, "", False, unit_sd=0.5),
    Measure(
        "PLN", "log proportion", PROPORTION, _log_proportion, _FLEISS, "proportion", False
    ),
    Measure(
        "PLO", "logit of the proportion", PROPORTION, _logit_proportion, _FLEISS, "odds", False,
        unit_sd=2.0,
    ),
    Measure(
        "PAS", "arcsine square root of the proportion", PROPORTION, _arcsine_proportion,
        _FLEISS, "", False, False, 0.5,
    ),
    Measure(
        "IR", "rate", RATE, lambda c: (c["xi"] / c["ti"], c["xi"] / c["ti"] ** 2), _ROTHMAN, "",
        False,
    ),
    Measure(
        "IRLN", "log rate", RATE, lambda c: (np.log(c["xi"] / c["ti"]), 1 / c["xi"]), _ROTHMAN,
        "rate", False, unit_sd=1.0,
    ),
)  # fmt: skip

MEASURES: Mapping[str, Measure] = {measure.name: measure for measure in _ALL}


def get_measure(name: str) -> Measure:
    """Look up a measure by escalc's name.

    Raises
    ------
    UnknownNameError
        If there is no such measure.
    """
    return lookup(MEASURES, name, "effect measure")
