"""Each group's value of a parameter that has a formula of its own, such as sigma."""

from __future__ import annotations

import pandas as pd

from bayesmixed.fit import Fit
from bayesmixed.names import suffix
from bayesmixed.reports import Report
from bayesmixed.reports._report import convergence_caveats, interval


def own_effects(fit: Fit, parameter: str, group: str, effect: str) -> Report:
    """The population's coefficient plus each group's own departure, on the parameter's link.

    Parameters
    ----------
    fit : Fit
        The fit.
    parameter : str
        One of the family's parameters that has a formula, but not the first.
    group, effect : str
        One of its groupings, and an effect that varies there.

    Returns
    -------
    Report
        A row a group: ``n`` rows, ``shrunken`` with its sd and interval.
    """
    design, tail = fit.design, suffix(fit.design, parameter)
    predictor = design.predictors[parameter]
    random = next(r for r in predictor.random if r.name == group)
    place = random.effects.index(effect)
    draws = fit.posterior[f"u{tail}_{group}"][..., place]
    draws = draws.drop_vars([c for c in draws.coords if c not in draws.dims])
    population = effect in predictor.terms
    if population:
        term = predictor.terms.index(effect)
        draws = draws + fit.posterior[f"beta{tail}"][..., term].drop_vars(f"term{tail}")
    numbers = {name: values.to_numpy() for name, values in interval(draws).items()}
    table = pd.DataFrame(
        {"n": random.groups.sizes, "shrunken": numbers.pop("mean"), **numbers},
        index=pd.Index(random.groups.labels, name=group),
    )
    link = design.links[parameter].name
    what = "population's coefficient plus own effect" if population else "own effect"
    return Report(
        f"{effect} of {parameter} by {group}",
        table,
        draws.to_dataset(name="shrunken"),
        f"{effect} of {parameter} in each {group}, on the {link} scale: {what}. Posterior means "
        "and 95 % equal-tailed intervals for these groups.",
        convergence_caveats(fit),
    )
