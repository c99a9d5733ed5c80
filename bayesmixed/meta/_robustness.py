"""How a pooled effect hangs on the prior of the heterogeneity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr

from bayesmixed._errors import BayesmixedError, PriorError
from bayesmixed.defaults import assign_priors
from bayesmixed.fit import Fit
from bayesmixed.meta._defaults import unit_information
from bayesmixed.meta._densities import written
from bayesmixed.meta._empirical import COMPARISON, rhodes_prior, turner_prior
from bayesmixed.meta._estimates import (
    COLUMNS,
    Marginal,
    Synthesis,
    from_mixture,
    read,
    with_ratios,
)
from bayesmixed.meta._grid import GridPosterior, tau_prior_of
from bayesmixed.meta._heavy_tailed import HeavyTailed
from bayesmixed.meta._heterogeneity import Density
from bayesmixed.meta._location_scale import LocationScale
from bayesmixed.meta._mixture import NormalMixture
from bayesmixed.meta._reference_priors import is_proper
from bayesmixed.meta._sensitivity import (
    ROEVER,
    analysed,
    heavy_tails,
    picture,
    profile,
    ratio_words,
    tau_words,
)
from bayesmixed.meta._subsets import stratified
from bayesmixed.meta._t_mixture import StudentTMixture
from bayesmixed.names import sd_name
from bayesmixed.priors import Prior
from bayesmixed.reports._report import Report

type TauPosterior = GridPosterior | HeavyTailed
type Named = dict[str, Prior | Density | str]

_DRAWS = 1000
# Friede, Röver, Wandel & Neuenschwander (2017) for logarithms of ratios and standardised effects.
_SCALES = (0.5, 1.0)
_EVENTS = ("odds ratio", "risk ratio", "rate ratio")


def prior_robustness(
    fit: Fit,
    priors: Mapping[str, Prior | Density | str] | None = None,
    *,
    scales: Sequence[float] | None = None,
    outcome: str | None = None,
    comparison: str | None = None,
) -> Report:
    r"""The pooled effect under different priors of the heterogeneity.

    Parameters
    ----------
    fit : Fit
        As for `leave_one_out`; its prior is the first row.
    priors : mapping of str to Prior, distribution or str, optional
        By name; distributions of `scipy.stats` will do as well, and the names that `meta_analysis`
        knows, such as ``{"Jeffreys": "Jeffreys"}``. Unless given, with U the outcome's
        unit-information sd: half-normal(U / 4) and (U / 2), half-Cauchy(U / 4) and uniform up to U;
        at every fixed scale s half-normal(s), half-Cauchy(s) and uniform up to 10 s; and the
        empirical prior of Turner et al. [1]_ for ratios of odds, risks and rates, or of Rhodes et
        al. [2]_ for standardised mean differences.
    scales : sequence of float, optional
        The fixed scales, in units of the effect; 0.5 and 1 for logarithms of ratios and
        standardised mean differences [3]_, and none for others, unless given.
    outcome, comparison : str, optional
        For the empirical prior, as for `turner_prior` and `rhodes_prior`.

    Returns
    -------
    Report
        A row for each prior: mean, sd, median and interval of mu; medians of tau and I2; the
        interval for a new study; P(mu > 0); the logarithm of the Bayes factor against the
        fit's own prior, where both are proper; and for logarithms of ratios median and interval of
        the ratio and a new study's. A prior with which the posterior is improper has an empty row.

    Raises
    ------
    BayesmixedError
        If the model is another one, or has a common effect, or there is no empirical prior for its
        effects.
    PriorError
        If a prior is not one of a standard deviation.

    References
    ----------
    .. [1] Turner et al. (2015), Stat. Med. 34:984. For risk and rate ratios they are stand-ins.
    .. [2] Rhodes et al. (2015), J. Clin. Epidemiol. 68:52.
    .. [3] Friede, Röver, Wandel & Neuenschwander (2017), Res. Synth. Methods 8:79.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> trials = bm.datasets.load("bcg")
    >>> fit = bm.meta_analysis(trials, "yi", "sei", "trial", measure="RR", method="grid", seed=1)
    >>> report = bm.prior_robustness(fit, {"wide": bm.Prior("HalfNormal", sigma=2)})
    >>> list(report.table.index)
    ['HalfNormal(sigma=0.5), of the fit', 'wide']
    >>> report = bm.prior_robustness(fit, outcome="infection or onset of new disease")
    >>> report.table.index[-1]
    'Turner et al., infection or onset of new disease'
    """
    found = read(fit)
    posterior = analysed(found)
    if isinstance(posterior, LocationScale):
        raise BayesmixedError(
            "With scale= there is no one tau that other priors could be given: its priors are "
            '"Intercept_tau" and "beta_tau[<term>]". Fit again with others of these, and compare '
            "pooled_effects."
        )
    if isinstance(posterior, GridPosterior) and posterior.prior is None:
        raise BayesmixedError("A common effect has no heterogeneity, so there is no prior of it.")
    priors_of = assign_priors(fit.design)
    name = "tau" if "tau" in priors_of else sd_name("", found.groupings[0])
    own = tau_prior_of(fit) or priors_of[name].prior
    chosen: Named = dict(priors or {})
    if priors is None or scales is not None or outcome is not None:
        chosen |= _chosen(found, scales, outcome, comparison)
    every: dict[str, TauPosterior] = {f"{written(own)}, of the fit": posterior}
    every |= {name: posterior.with_prior(prior) for name, prior in chosen.items() if prior != own}
    return _report(found, every)


def _chosen(
    found: Synthesis,
    scales: Sequence[float] | None,
    outcome: str | None,
    comparison: str | None,
) -> Named:
    """Priors in units of U, at fixed scales, and the empirical one; each once."""
    unit, measure = _unit(found), found.measure
    named: list[tuple[Prior, str]] = [
        (Prior("HalfNormal", sigma=unit / 4), ", U/4"),
        (Prior("HalfNormal", sigma=unit / 2), ", U/2"),
        (Prior("HalfCauchy", beta=unit / 4), ", U/4"),
        (Prior("Uniform", lower=0, upper=unit), ", U"),
    ]
    relative = measure is not None and (bool(measure.ratio) or measure.name == "SMD")
    fixed = _SCALES if scales is None and relative else tuple(scales or ())
    named += [(Prior("HalfNormal", sigma=s), "") for s in fixed]
    named += [(Prior("HalfCauchy", beta=s), "") for s in fixed]
    named += [(Prior("Uniform", lower=0, upper=10 * s), "") for s in fixed]
    different: dict[Prior, str] = {}
    for prior, suffix in named:
        different.setdefault(prior, f"{prior}{suffix}")
    return {name: prior for prior, name in different.items()} | _empirical(
        found, outcome, comparison
    )


def _empirical(found: Synthesis, outcome: str | None, comparison: str | None) -> Named:
    """What earlier meta-analyses of such outcomes say of tau."""
    measure = found.measure
    what = outcome or "any outcome"
    what += f", {comparison}" if comparison and outcome else ""
    compared = comparison or COMPARISON
    if measure is not None and measure.ratio in _EVENTS:
        return {f"Turner et al., {what}": turner_prior(outcome, compared)}
    if measure is not None and measure.name == "SMD":
        return {f"Rhodes et al., {what}": rhodes_prior(outcome, compared)}
    if outcome is not None:
        raise BayesmixedError(
            f"There is no empirical prior for effects of this kind ({found.label}): Turner et al. "
            "is for logarithms of odds ratios (and stands in for risk and rate ratios), Rhodes et "
            "al. for standardised mean differences. Say what the effects are with "
            'meta_analysis(..., measure="OR"), or give priors={"...": bm.turner_prior(...)}.'
        )
    return {}


def _unit(found: Synthesis) -> float:
    """The unit-information sd that the default priors are scaled by."""
    known = found.fit.posterior.attrs.get("unit_sd")
    return float(known or unit_information(found.design, found.measure, None).sd)


def _report(found: Synthesis, grids: Mapping[str, TauPosterior]) -> Report:
    x = profile(found)
    rows, drawn, improper = [], [], []
    for name, grid in grids.items():
        try:
            rows.append(_row(grid, x))
            drawn.append(_drawn(grid, x))
        except PriorError:
            rows.append(dict.fromkeys(rows[0] if rows else (), np.nan))
            drawn.append(np.full(_DRAWS, np.nan))
            improper.append(f"{name}: with so few studies the posterior is improper.")
    index = pd.Index(list(grids), name="prior of tau")
    table = with_ratios(pd.DataFrame(rows, index=index), found.ratio)
    table = with_ratios(table, found.ratio, new_ratio_lb="new_lb", new_ratio_ub="new_ub")
    proper = [is_proper(g.prior) for g in grids.values()]
    evidence = table.pop("log_evidence").to_numpy()
    table["log_BF"] = np.where(proper, evidence - evidence[0], np.nan) if proper[0] else np.nan
    draws = xr.DataArray(
        np.stack(drawn, axis=-1)[None], dims=("chain", "draw", "prior of tau"),
        coords={"prior of tau": list(grids)},
    ).to_dataset(name="mu")  # fmt: skip
    at = " at the mean moderators of all studies" if len(x) > 1 else ""
    new = " but in (new), of 4,000 draws" if isinstance(found, Marginal) else ""
    return Report(
        "Robustness to the prior of tau",
        table,
        draws,
        f"Pooled {found.label} under each prior of the heterogeneity{at}: posterior mean, sd, "
        f"median and 95 % equal-tailed interval of mu{ratio_words(found)}; medians of tau, the "
        f"{tau_words(found)}, and of I2; 95 % equal-tailed interval of a new study's effect (new); "
        "P(mu > 0), a posterior probability; log_BF: logarithm of the Bayes factor of the prior "
        f"against that of the fit. U, the unit-information sd: {_unit(found):.3g}. Computed by "
        f"quadrature, without Monte Carlo error{new}; the priors of the coefficients are those of "
        "the fit.",
        (
            "Where rows differ in what is to be concluded, the studies alone do not decide it.",
            "An improper prior, such as the uniform one, has no Bayes factor.",
            *improper,
            *heavy_tails(table),
        ),
        (
            *ROEVER,
            "Friede, Röver, Wandel & Neuenschwander (2017), Research Synthesis Methods 8:79-91.",
            "Turner, Jackson, Wei, Thompson & Higgins (2015), Statistics in Medicine 34:984-998.",
            "Rhodes, Turner & Higgins (2015), Journal of Clinical Epidemiology 68:52-60.",
        ),
        {"intervals": partial(picture, table, found, float(table["median"].iloc[0]))},
    )


def _row(posterior: TauPosterior, x: np.ndarray) -> dict[str, float]:
    """What there is to say of one prior."""
    v = posterior.regression.typical_variance
    new: NormalMixture | StudentTMixture
    if isinstance(posterior, GridPosterior):
        effect, new = posterior.effect(x), posterior.prediction(x)
        numbers, above = from_mixture(effect)[0], float(effect.sf(0.0)[0])
        tau, evidence = posterior.tau.quantile(0.5), posterior.tau.log_evidence
    else:
        new, numbers, above = posterior.prediction, posterior.mu, posterior.above(0.0)
        tau, evidence = posterior.tau_median, posterior.log_evidence
    row = dict(zip(COLUMNS, map(float, numbers), strict=True))
    return row | {
        "tau_median": tau,
        "I2_median": tau**2 / (tau**2 + v),
        "new_lb": float(new.quantile(0.025)[0]),
        "new_ub": float(new.quantile(0.975)[0]),
        "P(mu > 0)": above,
        "log_evidence": evidence,
    }


def _drawn(posterior: TauPosterior, x: np.ndarray) -> np.ndarray:
    if isinstance(posterior, GridPosterior):
        return np.asarray(stratified(posterior.effect(x), _DRAWS)[:, 0])
    return posterior.average(_DRAWS, np.random.default_rng(0))
