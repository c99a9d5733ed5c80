"""What a benchmark says about itself."""

from __future__ import annotations

from bayesmixed.fit import Fit
from bayesmixed.reports._flags import Decision
from bayesmixed.reports._league import League
from bayesmixed.reports._rate import is_count, is_share, rate_of
from bayesmixed.reports._reliability import correlated_caveats
from bayesmixed.reports._terms import Terms


def caption(
    fit: Fit, terms: Terms, league: League, decision: Decision, shown: int, is_reference: bool
) -> str:
    """Estimands, scales, populations, intervals and the expected errors, in sentences."""
    unit, label = league.units.name, rate_of(fit.design).label
    sentences = [
        f"{label} of each {unit}: observed; predicted (own effect, own cases); and expected for "
        f"the same cases {_expected(terms, league)}.",
        f"{terms.comparison} ({terms.scale}) with posterior sd and 95 % equal-tailed interval is "
        f"for the unit's own cases; "
        + (
            "times the overall observed rate it is the indirectly standardised rate."
            if terms.scale == "ratio"
            else "plus the overall observed rate it is the indirectly standardised rate."
        ),
        "The directly standardised rate is the unit's own effect applied to "
        + ("the reference table" if is_reference else "all cases in the data")
        + f"; ranks are by it, 1 the best ({terms.worse} is worse), with 95 % equal-tailed "
        "intervals (lb, ub). p_worst_decile: probability of a rank in the worst tenth.",
        _probabilities(terms),
        f"Flagged: {int(decision.flags.sum()):,} of {shown:,}, those with a probability of being "
        f"bad above {decision.cut:.3g}, since missing a bad unit is said to cost "
        f"{decision.cost_ratio:.3g} times what accusing a good one does. Expected in this table: "
        f"{decision.false_flags.mean():.2f} false flags and {decision.misses.mean():.2f} bad units "
        "missed.",
        "Reliability: the share of the spread between units that a unit's own data resolve.",
    ]
    if terms.suppress_below is not None:
        sentences.append(_suppression(fit, terms, len(league.weight), shown))
    return " ".join(sentences)


def _expected(terms: Terms, league: League) -> str:
    """Where the cases are imagined."""
    unit = league.units.name
    if terms.expected == "population":
        where = f"in a {unit} drawn from the population of units (integrated over)"
    else:
        where = f"in the average {unit} (effect 0)"
    if terms.within:
        where += f" of the same {' and '.join(terms.within)}"
    if terms.volume is not None:
        where += f", at the cases' mean {terms.volume}"
    if league.standing.inner:
        where += f"; {' and '.join(league.standing.inner)} integrated over"
    return where


def _probabilities(terms: Terms) -> str:
    side = "above" if terms.worse == "higher" else "below"
    text = f"p_worse: probability that the {terms.scale} is {side} {terms.null:g}"
    if terms.margin is None:
        text += ", which is what bad means here"
    else:
        text += f"; p_bad: {side} {terms.margin:g}, which is what bad means here"
    if terms.threshold is not None:
        text += f"; p_threshold: directly standardised rate {side} {terms.threshold:g}"
    return f"{text}."


def _suppression(fit: Fit, terms: Terms, units: int, shown: int) -> str:
    size = rate_of(fit.design).size
    cells = [] if size == "exposure" else [size or "rows"]
    cells += ["events"] * is_count(fit.design) + ["non-events"] * is_share(fit.design)
    return (
        f"{units - shown:,} of {units:,} units are suppressed: those with fewer than "
        f"{terms.suppress_below:g} {' or '.join(cells or ['rows'])}, and the smallest others as "
        "far as these are needed so that at least two are suppressed and their cells together "
        "reach the limit. Ranks and expected errors are of the units shown, the overall rate is "
        "that of all."
    )


def caveats(fit: Fit, terms: Terms, league: League, has_funnel: bool) -> tuple[str, ...]:
    """When the numbers mislead."""
    found = [
        "What differs between units and is not in the model (case mix, coding, luck in referrals) "
        "counts as the unit's own.",
        "Indirectly standardised rates and ratios are for each unit's own cases, so that two units "
        "are compared with each other by the directly standardised ones only.",
        "Ranks differ even where units do not; read them with their intervals.",
    ]
    if terms.volume is None:
        found.append(
            "Small units are pulled towards what is expected of all units; if outcomes depend on "
            "volume, put it into the model (with_volume)."
        )
    else:
        found.append(
            f"The effect of {terms.volume} counts as the units' own; a flag of a small unit may "
            "rest on the outcomes of other small units."
        )
    around = [name for name in league.standing.own if name != league.units.name]
    if around:
        found.append(
            f"The effect of {' and '.join(around)} counts as the units' own; "
            f"within={around!r} compares them inside it."
        )
    if not has_funnel:
        inner = league.standing.inner
        dependent = fit.spec.residual.within if fit.spec.residual is not None else (*inner, "")[0]
        reason = (
            f"rows of one {dependent} are not independent" if dependent else "variance not finite"
        )
        found.append(f"No funnel plot: {reason}, so there are no simple control limits.")
    else:
        found.append(
            "Control limits of the funnel take the expectation as known and the rows of a unit as "
            "independent; overdispersed limits have the variance multiplied by the winsorised mean "
            "square of the standardised differences."
        )
    return (*found, *correlated_caveats(fit, league.units))
