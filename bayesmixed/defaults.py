"""The prior of every parameter of a model: the user's, the variance budget's, or a default.

Defaults are weakly informative and scaled to the data, after Gelman et al. (2008), Ann. Appl.
Stat. 2:1360 and the rstanarm and brms documentation; the sources are in ``AssignedPrior.source``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

import numpy as np

from bayesmixed._errors import PriorError, listed, lookup, unknown
from bayesmixed.design import Design
from bayesmixed.links import Link
from bayesmixed.names import effect_name, effect_names, sd_name, suffix
from bayesmixed.predictor import INTERCEPT, PredictorDesign, RandomDesign
from bayesmixed.priors import Interval, Prior, Support
from bayesmixed.series import Series

type Defaults = dict[str, tuple[Support | Interval, AssignedPrior]]


@dataclass(frozen=True)
class AssignedPrior:
    """A prior with where it came from.

    Parameters
    ----------
    prior : Prior
    source : str
        In words.
    unit : float
        The size that the data suggest for the parameter; sampling is in these units.
    """

    prior: Prior
    source: str
    unit: float = 1.0


@dataclass(frozen=True)
class Scale:
    """Location and spread of the outcome on the scale of a linear predictor.

    Parameters
    ----------
    location, spread : float
        Centre and scale of the intercept's prior.
    unit : float
        The size that coefficients and standard deviations are measured in.
    outcome : float
        Standard deviation of the outcome itself, for parameters such as sigma.
    source : str
        How they were found.
    robust : bool
        Whether the intercept has a Student-t prior, rather than a normal.
    """

    location: float
    spread: float
    unit: float
    outcome: float
    source: str
    robust: bool = False


def outcome_scale(design: Design) -> Scale:
    """The scale of the first parameter's linear predictor."""
    link, y = design.spec.link, design.y
    parameter = design.family.parameters[0]
    first = design.predictors[parameter.name]
    moments = None if design.whole is None else design.whole.moments
    if link.name == "identity":
        working = np.asarray(design.family.working(y), dtype=float) - first.offset
        # A mean that cannot be negative starts where it is positive, even if most outcomes are 0.
        if moments is not None:
            centre, mad, sd = (moments.outcome[n] for n in ("centre", "mad", "sd"))
        else:
            bounded = parameter.links[0].domain[0] == 0
            centre = float(np.mean(working) if bounded else np.median(working))
            mad = float(np.median(np.abs(working - centre)))
            sd = float(np.std(working, ddof=1)) if len(working) > 1 else 1.0
        mad = 1.4826 * mad
        source = f"the outcome's sd {sd:.3g}"
        return Scale(centre, max(2.5, mad), sd or 1.0, sd or 1.0, source, robust=True)
    if moments is not None:
        sd, mean, exposure = (moments.outcome[n] for n in ("spread", "mean", "exposure"))
    else:
        sd = float(np.std(np.asarray(design.family.working(y), dtype=float)))
        mean = float(np.mean(y))
        exposure = float(np.mean(np.exp(first.offset))) if link.name == "log" else 1.0
    sd = sd or 1.0
    if link.domain == (0.0, 1.0):
        return Scale(0.0, 2.5, 1.0, sd, f"the {link.name} scale")
    mean = mean / (exposure if link.name == "log" else 1)
    mean = mean if mean > 0 else 1.0
    # How far the predictor moves for a doubling of the mean, per log unit: 1 for the log link.
    unit = _slope(link, mean)
    source = f"the outcome's mean {mean:.3g}"
    return Scale(float(link.forward(mean)), 2.5 * unit, unit, sd, source)


def _slope(link: Link, mean: float) -> float:
    step = 1.01
    change = float(link.forward(mean * step)) - float(link.forward(mean / step))
    return abs(change) / (2 * log(step))


def assign_priors(design: Design) -> Mapping[str, AssignedPrior]:
    """The prior of every parameter, by name.

    Names are ``Intercept`` (at the predictors' means), ``beta[<term>]``, ``sd_<group>`` or
    ``sd_<group>[<effect>]``, ``cor_<group>``, and the family's parameters. For a parameter with
    its own formula they read ``Intercept_sigma``, ``beta_sigma[<term>]``, ``sd_sigma_<group>``.

    Raises
    ------
    UnknownNameError
        If the user gave a prior for a name that the model does not have.
    PriorError
        If a prior lies outside the parameter's support.
    """
    scale = outcome_scale(design)
    defaults: Defaults = {}
    for parameter in design.family.parameters:
        predictor = design.predictors.get(parameter.name)
        if predictor is not None:
            tail = suffix(design, parameter.name)
            own = scale if not tail else _modelled(design, parameter.name, scale)
            defaults |= _predictor_defaults(design, predictor, tail, own)
        elif parameter.name == "sigma" and design.sampling_sd is not None:
            continue
        elif parameter.prior is not None:
            assigned = AssignedPrior(parameter.prior(scale.outcome), "default")
            names = [parameter.name]
            if parameter.name == "sigma" and design.spreads is not None:
                names = design.spreads.names
            defaults |= dict.fromkeys(names, (parameter.support, assigned))
    defaults |= _residual_defaults(design.series)
    for _, random in _randoms(design):
        if random.between is not None and random.between.mixed:
            flat = AssignedPrior(Prior("Uniform", lower=0, upper=1), "default: any share")
            defaults[random.between.share] = ("unit", flat)
        elif random.between is not None:
            related = _residual_defaults(random.between.series)
            defaults |= {random.between.named(name): assigned for name, assigned in related.items()}
    return _override(design, defaults)


def _residual_defaults(series: Series | None) -> Defaults:
    """Priors of the correlations within series."""
    found: Defaults = {}
    if series is None:
        return found
    pairs = [(axis, parameter) for axis in series.axes for parameter in axis.parameters]
    for axis, parameter in pairs:
        source = f"default: {axis.structure.name}"
        for names in series.names(parameter):
            for name, prior in zip(names, parameter.priors, strict=True):
                matrix = prior.support == "correlation"
                support: Support | Interval = "correlation" if matrix else parameter.support
                found[name] = (support, AssignedPrior(prior, source))
    return found


def _modelled(design: Design, parameter: str, scale: Scale) -> Scale:
    value = design.family.parameter(parameter).typical(scale.outcome)
    link = design.links[parameter]
    source = f"a typical {parameter} of {value:.3g}"
    return Scale(float(link.forward(value)), 2.5, 1.0, 1.0, source)


def _predictor_defaults(
    design: Design, predictor: PredictorDesign, tail: str, scale: Scale
) -> Defaults:
    found: Defaults = {}

    def add(name: str, support: Support, prior: Prior, source: str, unit: float = 1.0) -> None:
        found[name] = (support, AssignedPrior(prior, f"default: {source}", unit))

    if predictor.has_intercept:
        where = "at the predictors' means" if design.spec.center else "where predictors are 0"
        centred = {"mu": scale.location, "sigma": scale.spread}
        prior = Prior("StudentT", nu=3, **centred) if scale.robust else Prior("Normal", **centred)
        add(f"Intercept{tail}", "real", prior, f"{scale.source}, {where}", scale.unit)
    for k, name in enumerate(predictor.terms):
        if k < predictor.has_intercept:
            continue
        # Without an intercept the coefficients carry the outcome's level as well.
        level = 0.0 if predictor.has_intercept else abs(scale.location)
        width = 2.5 * (scale.unit + level) / _term_spread(design, predictor, k)
        prior = Prior("Normal", mu=0, sigma=width)
        source = scale.source + (f" and level {level:.3g}" if level else "")
        add(f"beta{tail}[{name}]", "real", prior, f"{source}, predictor's sd", width / 2.5)
    for random in predictor.random:
        for k, effect in enumerate(random.effects):
            varies = effect != INTERCEPT
            width = scale.unit / (_effect_spread(design, predictor, random, k) if varies else 1.0)
            several = random.spreads is not None
            names = effect_names(tail, random) if several else [effect_name(tail, random, effect)]
            for name in names:
                add(
                    name,
                    "positive",
                    Prior("HalfStudentT", nu=3, sigma=width),
                    scale.source + ("" if effect == INTERCEPT else ", predictor's sd"),
                    width,
                )
        if random.is_correlated:
            add(f"cor{tail}_{random.name}", "correlation", Prior("LKJ", eta=2), "LKJ(2)")
    return found


def _term_spread(design: Design, predictor: PredictorDesign, term: int) -> float:
    """Standard deviation of a column of X over all rows."""
    known = None
    if design.whole is not None and design.whole.moments is not None:
        name = next(n for n, p in design.predictors.items() if p is predictor)
        known = float(design.whole.moments.spreads[name][term])
    return _spread(predictor.X[:, term], known)


def _effect_spread(
    design: Design, predictor: PredictorDesign, random: RandomDesign, effect: int
) -> float:
    """Standard deviation of a column of Z over all rows."""
    known = None
    if design.whole is not None and design.whole.moments is not None:
        name = next(n for n, p in design.predictors.items() if p is predictor)
        known = float(design.whole.moments.effect_spreads[name, random.name][effect])
    return _spread(random.Z[:, effect], known)


def _spread(column: np.ndarray, known: float | None) -> float:
    spread = float(np.std(column)) if known is None else known
    return spread if spread > 0 else max(abs(float(column[0])), 1e-300)


def _override(design: Design, defaults: Defaults) -> Mapping[str, AssignedPrior]:
    """Put the user's priors in place: whole vectors first, then single elements."""
    result = {name: assigned for name, (_, assigned) in defaults.items()}
    vectors = {name.partition("[")[0] for name in defaults}
    aliases = {
        f"{name}[{random.effects[0]}]": name
        for tail, random in _randoms(design)
        if (name := sd_name(tail, random.name)) in defaults
    }
    user = design.spec.priors
    for name in user:
        if name not in defaults and name not in vectors and name not in aliases:
            raise unknown(name, [*defaults, *vectors], "parameter with a prior")
    _apply_budget(design, defaults, result)
    for matches in (_whole, _single):
        for name, prior in user.items():
            for target in matches(aliases.get(name, name), defaults):
                prior.check_support(target, defaults[target][0])
                result[target] = AssignedPrior(prior, "yours", result[target].unit)
    return result


def _randoms(design: Design) -> list[tuple[str, RandomDesign]]:
    """Every grouping of every parameter, with the ending of its variables' names."""
    return [(suffix(design, p), r) for p, d in design.predictors.items() for r in d.random]


def _whole(name: str, defaults: Mapping[str, object]) -> list[str]:
    return [] if "[" in name else [n for n in defaults if n.startswith(f"{name}[")]


def _single(name: str, defaults: Mapping[str, object]) -> list[str]:
    return [name] if name in defaults else []


def _apply_budget(
    design: Design,
    defaults: Defaults,
    result: dict[str, AssignedPrior],
) -> None:
    budget = design.spec.budget
    if budget is None:
        return
    latent = design.spec.link.latent_variance
    estimated = "sigma" in defaults and design.spec.link.name == "identity"
    if not estimated and (latent is None or "kappa" in defaults):
        raise PriorError(
            "A variance budget needs a residual variance to share: an identity link with sigma, or "
            f"a yes/no outcome; family {design.family.name} with link {design.spec.link.name} has "
            "neither. Give priors for sd_<group> instead."
        )
    first = design.predictors[design.family.parameters[0].name]
    for group in budget.shares:
        random = lookup({r.name: r for r in first.random}, group, "grouping to share the variance")
        # The share is that of the intercepts; a slope's variance depends on its predictor.
        if INTERCEPT not in random.effects:
            raise PriorError(f"{group!r} has no intercept that varies; a share needs one.")
        if random.spreads is not None:
            raise PriorError(
                f"{group!r} has a standard deviation for each of {listed(random.parts)}, and a "
                "budget a share of the variance for one. Give priors for sd_<group> instead."
            )
    missing = [r.name for r in first.random if r.name not in budget.shares]
    if missing:
        raise PriorError(
            f"The variance budget has no share for {listed(missing)}; give every grouping one, so "
            "that the shares and the total are of the whole variance."
        )
    for name, prior in budget.priors(None if estimated else latent).items():
        target = name if name in defaults else f"{name}[{INTERCEPT}]"
        result[target] = AssignedPrior(prior, str(budget), result[target].unit)
