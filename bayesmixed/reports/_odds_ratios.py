"""Subject-specific and population-averaged coefficients, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesmixed import formula
from bayesmixed._errors import BayesmixedError, listed, unknown
from bayesmixed.fit import Fit
from bayesmixed.linpred import LinearPredictor, linear_predictor
from bayesmixed.predictor import INTERCEPT, PredictorDesign
from bayesmixed.reports._estimand import has_exposure, is_count, is_yes_no, ordered
from bayesmixed.reports._pictures import side_by_side
from bayesmixed.reports._report import Report, convergence_caveats, interval
from bayesmixed.reports._standard import averaged, distinct

type Floats = NDArray[np.float64]

_KINDS = ("subject-specific", "population-averaged")
ATTENUATION = "attenuation"


@dataclass(frozen=True)
class _Scale:
    """What a coefficient is called, and whether its exponential is what people read."""

    name: str
    is_ratio: bool = False


_YES_NO: Mapping[str, _Scale] = MappingProxyType(
    {
        "logit": _Scale("odds ratio", True),
        "cloglog": _Scale("hazard ratio", True),
        "log": _Scale("risk ratio", True),
        "identity": _Scale("risk difference"),
    }
)


def odds_ratios(fit: Fit, term: str | None = None) -> Report:
    r"""Subject-specific and population-averaged odds ratios of the terms, side by side.

    The subject-specific coefficient compares two rows of the *same* group; the population-averaged
    one compares the averages of two populations of groups. In every draw the effects are
    integrated out of each row's mean parameter, :math:`\bar\mu_i = E\,g^{-1}(x_i'\beta + o_i +
    z_i'u)` with :math:`u \sim N(0, G)`, by quadrature, and the population-averaged coefficients
    are the least-squares regression of :math:`g(\bar\mu_i) - o_i` on the design [1]_. For a probit
    link and an effect of constant variance they are :math:`\beta / \sqrt{1 + V}` exactly [2]_.

    Other links have coefficients under their own names: rate ratios, ratios of means, hazard
    ratios (complementary log-log), differences (identity), or coefficients on the link's scale.

    Parameters
    ----------
    fit : Fit
        The fit.
    term : str, optional
        A term (``"treatment"``, all its columns) or one column of the design
        (``"treatment[T.terbinafine]"``); every term but the intercept unless given.

    Returns
    -------
    Report
        Index (term, kind): ``subject-specific``, ``population-averaged`` and ``attenuation``, the
        quotient of the two coefficients on the link's scale (1 where they coincide), whose mean
        and sd do not exist. Draws ``subject_specific``, ``population_averaged`` and
        ``attenuation``, dims (chain, draw, term).

    Raises
    ------
    UnknownNameError
        If there is no such term.
    BayesmixedError
        If there is no term at all, or a mean parameter is so near the end of its range that its
        link is infinite.

    References
    ----------
    .. [1] Hedeker, du Toit, Demirtas & Gibbons (2018), Biometrics 74:354, section 3.
    .. [2] Zeger, Liang & Albert (1988), Biometrics 44:1049, eq. 3.3.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("medpar")
    >>> formula = "died ~ age80 + factor(type) + (1 | provnum)"
    >>> fit = bm.Model(formula, data, family="bernoulli").fit(seed=1)
    >>> report = bm.odds_ratios(fit, "age80")
    >>> report.table.index.get_level_values("kind").to_list()
    ['subject-specific', 'population-averaged', 'attenuation']
    """
    fit.design.need_rows("Averaging over the population")
    name = fit.design.family.parameters[0].name
    predictor = fit.design.predictors[name]
    chosen = _columns(predictor, term)
    own = fit.posterior["beta"].reset_coords(drop=True)
    both = {
        kind: xr.DataArray(own.copy(data=values)[..., chosen])
        for kind, values in zip(_KINDS, (own.to_numpy(), population_averaged(fit)), strict=True)
    }
    scale = _scale(fit)
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = both[_KINDS[1]] / both[_KINDS[0]]
    shown = {k: v.copy(data=np.exp(v)) if scale.is_ratio else v for k, v in both.items()}
    table = _table(shown, quotient)
    return Report(
        f"{_plural(scale.name)}: subject-specific and population-averaged",
        table,
        xr.Dataset({k.replace("-", "_"): v for k, v in shown.items()} | {ATTENUATION: quotient}),
        _caption(fit, scale),
        (*_caveats(fit, predictor, chosen, scale), *convergence_caveats(fit)),
        (
            "Hedeker, du Toit, Demirtas & Gibbons (2018), Biometrics 74:354-361.",
            "Zeger, Liang & Albert (1988), Biometrics 44:1049-1060.",
        ),
        {"intervals": partial(_picture, table, scale)},
    )


def population_averaged(fit: Fit) -> Floats:
    """Population-averaged coefficients of the first parameter's predictor.

    Returns
    -------
    array, shape (chain, draw, term)
    """
    design = fit.design
    name = design.family.parameters[0].name
    if not design.predictors[name].random:
        return fit.posterior["beta"].to_numpy()
    weight = np.ones(len(design.y)) if design.trials is None else design.trials
    kept, weight = distinct(replace(design, trials=None, sampling_sd=None), weight, "new")
    X, has_cuts = kept.predictors[name].X, ordered(design) is not None
    if has_cuts:
        X = np.column_stack([np.ones(len(X)), X])
    root = np.sqrt(weight)[:, None]
    project = np.linalg.pinv(X * root) * root.T
    parts = [
        _integrated(linear_predictor(piece, groups="new"), name) @ project.T
        for piece in Fit(kept, fit.tree).pieces()
    ]
    return np.concatenate(parts, axis=1)[..., int(has_cuts) :]


def _integrated(predictor: LinearPredictor, name: str) -> Floats:
    """Link of every row's integrated mean parameter, less the offset; (chain, draw, row).

    For ordered categories its average over the cut-points, from which it differs by constants if
    the cumulative model holds for the population too.
    """
    design, link = predictor.design, predictor.design.links[name]
    cuts = ordered(design)
    alone = replace(predictor, variance={name: predictor.variance[name]})

    def below(k: int) -> Callable[[Mapping[str, Floats]], Floats]:
        return lambda eta: np.asarray(link.inverse(eta[str(cuts)][..., k, None] - eta[name]))

    def linked(some: LinearPredictor) -> Floats:
        if cuts is None:
            return np.asarray(link.forward(some.average(lambda eta: link.inverse(eta[name]))))
        every = [link.forward(some.average(below(k))) for k in range(some.centre[cuts].shape[-1])]
        return np.asarray(-np.mean(every, axis=0))

    with np.errstate(divide="ignore"):
        found = averaged(alone, name, linked)
    if not np.isfinite(found).all():
        raise BayesmixedError(
            f"In some draws the {name} of some rows, averaged over the population, is at the end "
            f"of its range to the last digit, so that its {link.name} is infinite. Tighter priors "
            "on the coefficients, or fewer of them, keep it away from there."
        )
    return found - design.predictors[name].offset


def _columns(predictor: PredictorDesign, term: str | None) -> list[int]:
    """Places of a term's columns among the terms."""
    if not predictor.terms:
        raise BayesmixedError("The model's formula has no term, so there is no coefficient.")
    if term is None:
        found = [k for k, n in enumerate(predictor.terms) if n != INTERCEPT]
        if not found:
            raise BayesmixedError(
                "The model has an intercept only, which compares nothing. For the mean outcome use "
                'means(fit), or odds_ratios(fit, "Intercept") for the coefficient itself.'
            )
        return found
    if term in predictor.terms:
        return [predictor.terms.index(term)]
    known = {str(t): columns for t, columns in _terms(predictor).items() if columns}
    for name in [n for n in known if "(" in n]:
        inside = formula.variables(name)
        if len(inside) == 1:
            known.setdefault(inside[0], known[name])
    if term not in known:
        raise unknown(term, dict.fromkeys([*known, *predictor.terms]), "term")
    return known[term]


def _terms(predictor: PredictorDesign) -> dict[Any, list[int]]:
    """Places of every term's columns."""
    # Where cut-points take the intercept's place, its column has gone.
    every = predictor.encoder.term_indices
    gone = sum(map(len, every.values())) - len(predictor.terms)
    return {t: [k - gone for k in columns if k >= gone] for t, columns in every.items()}


def _scale(fit: Fit) -> _Scale:
    design, link = fit.design, fit.spec.link.name
    plain = _Scale(f"coefficient on the {link} scale")
    if ordered(design) is not None:
        name = "cumulative odds ratio"
        return (
            _Scale(name, True)
            if link == "logit"
            else replace(plain, name=f"cumulative {plain.name}")
        )
    if is_yes_no(design):
        return _YES_NO.get(link, plain)
    if link == "identity":
        at = np.asarray(design.family.working(np.array([1.0, math.e])), dtype=float)
        if np.allclose(at, [0, 1]):
            return _Scale("ratio of geometric means", True)
        return _Scale("difference" if np.allclose(at, [1, math.e]) else plain.name)
    if link == "log":
        counts = is_count(design) or has_exposure(design)
        return _Scale("rate ratio" if counts else "ratio of means", True)
    return _Scale("odds ratio of the mean", True) if link == "logit" else plain


def _table(shown: Mapping[str, xr.DataArray], quotient: xr.DataArray) -> pd.DataFrame:
    parts = {}
    for kind, draws in {**shown, ATTENUATION: quotient}.items():
        numbers = interval(draws)
        if kind == ATTENUATION:
            # A quotient whose denominator can be 0 has quantiles, but no mean.
            none = xr.full_like(numbers["mean"], np.nan)
            numbers |= {"mean": none, "sd": none}
        parts[kind] = xr.Dataset({"median": draws.median(["chain", "draw"]), **numbers})
    every = xr.concat(list(parts.values()), pd.Index(list(parts), name="kind"))
    return every.to_dataframe(dim_order=["term", "kind"])


def _picture(table: pd.DataFrame, scale: _Scale, ax: Axes | None) -> Axes:
    shown = table[table.index.get_level_values("kind") != ATTENUATION]
    neutral = 1.0 if scale.is_ratio else 0.0
    return side_by_side(shown, "kind", scale.name.capitalize(), neutral, ax)


def _plural(name: str) -> str:
    for word in ("ratio", "difference", "coefficient"):
        name = name.replace(word, f"{word}s", 1)
    return name[:1].upper() + name[1:]


def _caption(fit: Fit, scale: _Scale) -> str:
    design, link = fit.design, fit.spec.link.name
    randoms = design.predictors[design.family.parameters[0].name].random
    over = " and ".join(r.name for r in randoms)
    first = f"{scale.name[:1].upper()}{scale.name[1:]} of each term, the others held"
    last = "Posterior medians, means, standard deviations and 95 % equal-tailed intervals."
    if not randoms:
        return f"{first}. Nothing varies between groups, so the two kinds are one. {last}"
    if link == "identity":
        return (
            f"{first}: subject-specific, between two rows of the same {over}, and "
            "population-averaged, between averages over the population; with an identity link the "
            f"two are one. {last}"
        )
    why = (
        "With a log link the two differ in the intercept and in coefficients that vary between "
        "groups."
        if link == "log"
        else "The two differ because averaging over groups and a curved link do not commute "
        "(non-collapsibility); neither is wrong: the first is for a person, the second for a "
        "population."
    )
    weighted = "" if design.trials is None else ", weighted by trials"
    return (
        f"{first}. Subject-specific: between two rows of the same {over}. Population-averaged: "
        f"between averages over a whole population of {over}, from the {link} of the mean "
        "integrated over new groups, regressed on the design over the rows of the data"
        f"{weighted}. {why} Attenuation: the population-averaged coefficient over the "
        f"subject-specific one, on the {link} scale. {last}"
    )


def _caveats(
    fit: Fit, predictor: PredictorDesign, chosen: list[int], scale: _Scale
) -> tuple[str, ...]:
    found = []
    terms = _terms(predictor)
    factors = [
        {str(f) for f in t.factors} for t, columns in terms.items() if set(columns) & set(chosen)
    ]
    wider = [str(t) for t in terms if any(f < {str(x) for x in t.factors} for f in factors)]
    if [t for t in wider if t != "1"]:
        found.append(
            f"Terms that are also in {listed(wider)} hold where what they are multiplied with is "
            "0 or at its reference level."
        )
    if scale.name == "odds ratio":
        found.append("An odds ratio is not a ratio of risks unless the outcome is rare.")
    if scale.name == "hazard ratio":
        found.append(
            "A hazard ratio where a row says whether the event came within a stretch of time."
        )
    if predictor.random and fit.spec.link.latent_variance is not None:
        found.append(
            "The population-averaged coefficients are a least-squares summary: averaged over "
            "groups the link is not exactly linear in the predictors (but for a probit link with "
            "an intercept that varies). They lean on the model: normal effects, and outcomes "
            "missing at random, where generalised estimating equations need them missing "
            "completely at random."
        )
    names = {p.name for p in fit.design.family.parameters[1:]} & set(fit.design.predictors)
    asked = set(signature(fit.design.family.mean).parameters)
    if names & asked:
        found.append(
            f"The mean outcome also depends on {listed(sorted(names & asked))}, which has a "
            "formula of its own and is not part of these numbers; effects() has everything."
        )
    return tuple(found)
