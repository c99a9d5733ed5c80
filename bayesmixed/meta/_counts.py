"""One-stage meta-analysis: a model of the counts themselves, without effect sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, DataError, PriorError, listed, lookup
from bayesmixed.data import check_columns, numbers, to_pandas
from bayesmixed.fit import Fit
from bayesmixed.formula import parse_predictor, variables
from bayesmixed.meta._defaults import UnitInformation
from bayesmixed.meta._measures import get_measure
from bayesmixed.model import Model
from bayesmixed.predictor import build_predictor
from bayesmixed.priors import Prior
from bayesmixed.spec import quoted

type Floats = NDArray[np.float64]
type Pair = tuple[str, str]

TREATMENT = "treat"
# Twice 2.5 about covers risks and rates from a hundredth to a hundred times the overall one.
_BASELINE_SD = 2.5
# tau is often near 0 here; more than this gave R-hat 1.02 and a third of the effective draws.
_CENTRED = 0.3
# Few studies say little of the sd of baselines and of tau, and smaller steps are needed near 0: two
# studies had 2 to 14 divergences of 8,000 at 0.95, with moderators and without, and none at 0.99.
_FEW, _ACCEPT_FEW, _ACCEPT = 5, 0.99, 0.95


def meta_counts(
    data: Any,
    events: Pair = ("ai", "ci"),
    totals: Pair | None = None,
    times: Pair | None = None,
    study: str = "study",
    moderators: str | None = None,
    *,
    baseline: Literal["random", "fixed"] = "random",
    common: bool = False,
    priors: Mapping[str, Prior] | None = None,
    draws: int = 2000,
    tune: int = 1000,
    chains: int = 4,
    seed: int | None = None,
    progress: bool = True,
) -> Fit:
    r"""One-stage meta-analysis of events in two groups, with nothing added to zeros.

    With group :math:`x = 1/2` (the first) or :math:`-1/2` (the second) of study i,

    .. math:: k_{ix} \sim \mathrm{Binomial}(n_{ix}, p_{ix}), \quad
       \mathrm{logit}\, p_{ix} = \alpha_i + (\mu + u_i) x, \quad u_i \sim N(0, \tau^2),

    so that :math:`\mu + u_i` is the study's log odds ratio; for person-times :math:`t_{ix}` Poisson
    with mean :math:`t_{ix} \exp(\alpha_i + (\mu + u_i) x)` and log rate ratios [1]_. Arms without
    events, and studies without any, are data like others. With moderators the effect is
    :math:`\mu + (z_i - \bar z)'\beta + u_i`, so that :math:`\mu` is at their means.

    Parameters
    ----------
    data : table
        A row a study.
    events : (str, str)
        Columns of the events in the first and in the second (reference) group.
    totals, times : (str, str)
        Columns of the group sizes, or of the person-times; one of the two.
    study : str
        Column of the studies, one row each.
    moderators : str, optional
        Right-hand side of a formula for the effects, such as ``"~ ablat"``.
    baseline : {"random", "fixed"}
        Whether baselines :math:`\alpha_i` are from N(a, sd^2), independent of the effects, or a
        coefficient each.
    common : bool
        Whether all studies have the same effect, so that tau is 0.
    priors : mapping of str to Prior, optional
        By name: ``"mu"``, ``"tau"``, ``"Intercept"`` and ``"baseline"`` (the sd of baselines), or
        ``"beta"`` for fixed baselines; ``"beta[<term>]"`` of moderators. Unless given N(0, 2) and
        half-normal(0.5) as in `meta_analysis`, N(m, 2.5) for a or every baseline, with m the
        overall logit or log rate, half-t(3, 1) for their sd, and N(0, 2 / sd of the moderator).
    draws, tune, chains, seed, progress
        As for `Model.fit`.

    Returns
    -------
    Fit
        With ``beta[treat]`` (mu), ``beta[treat:<term>]`` of moderators, ``sd_<study>[treat]``
        (tau) and ``u_<study>``; for `pooled_effects` and `study_effects`.

    Raises
    ------
    DataError
        If a count or total is missing or impossible, or studies are repeated or fewer than two.
    BayesmixedError
        If not one of totals and times is given.

    References
    ----------
    .. [1] Jackson, Law, Stijnen, Viechtbauer & White (2018), Stat. Med. 37:1059, models 4 and 5;
       Stijnen, Hamza & Özdemir (2010), Stat. Med. 29:3046.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> trials = bm.datasets.load("nielweise2007")
    >>> fit = bm.meta_counts(trials, ("ai", "ci"), totals=("n1i", "n2i"))  # doctest: +SKIP
    """
    lookup({"random": 0, "fixed": 0}, baseline, "baseline")
    if (totals is None) == (times is None):
        raise BayesmixedError(
            'Give totals=("n1i", "n2i") for events in people, or times=("t1i", "t2i") for events '
            "in person-time; one of the two."
        )
    binomial = totals is not None
    given = to_pandas(data)
    table = _arms(given, events, totals or times or ("", ""), study, binomial)
    slopes = {} if moderators is None else _slopes(given, moderators)
    for name, values in slopes.items():
        table[name] = table[TREATMENT] * np.repeat(values, 2)
    formula = _formula(study, binomial, baseline, common, [*slopes])
    measure = get_measure("OR" if binomial else "IRR")
    assert measure.unit_sd is not None
    unit = UnitInformation(measure.unit_sd, f"of a {measure.title}, equal groups")
    defaults = _default_priors(table, study, binomial, baseline, common, unit)
    for name, values in slopes.items():
        spread = float(np.std(values))
        defaults[f"beta[{name}]"] = Prior("Normal", mu=0, sigma=unit.sd / spread)
    own = _named(study, baseline, common, priors or {})
    own = {_slope_name(name, slopes): prior for name, prior in own.items()}
    family = "binomial" if binomial else "poisson"
    centered = {} if common and baseline == "fixed" else {study: _CENTRED}
    model = Model(formula, table, family, priors=defaults | own, centered=centered, missing="raise")
    accept = _ACCEPT_FEW if len(given) < _FEW else _ACCEPT
    fit = model.fit(draws, tune, chains, seed, progress, target_accept=accept)
    notes = (*fit.notes, f"Default priors are scaled to the {unit}.")
    attributes: dict[str, Any] = {"measure": measure.name, "treatment": TREATMENT}
    attributes |= {"unit": str(unit), "unit_sd": unit.sd}
    tree = fit.tree
    tree["posterior"] = xr.DataTree(fit.posterior.assign_attrs(attributes))
    return Fit(fit.design, tree, notes)


def _arms(
    table: pd.DataFrame, events: Pair, sizes: Pair, study: str, binomial: bool
) -> pd.DataFrame:
    """A row an arm, first and second group of each study after one another; all checked."""
    for what, pair in (("events", events), ("totals" if binomial else "times", sizes)):
        if isinstance(pair, str) or len(pair) != 2:
            raise BayesmixedError(f"{what} names two columns, such as (first, second); not {pair}.")
    check_columns([study, *events, *sizes], table.columns)
    if len(table) < 2:
        raise DataError(
            f"A meta-analysis needs two studies or more; there is {len(table)}. One study's effect "
            "is its own estimate."
        )
    if table[study].isna().any() or table[study].duplicated().any():
        raise DataError(
            f"Every row is a study with a name of its own; {study!r} has "
            f"{int(table[study].isna().sum())} without one and "
            f"{int(table[study].duplicated().sum())} repeated."
        )
    count, size = (_cells(table, pair) for pair in (events, sizes))
    _refuse(table, events, (count < 0) | (count != np.round(count)), "a whole number from 0")
    _refuse(table, sizes, size <= 0, "above 0")
    if binomial:
        _refuse(table, sizes, size != np.round(size), "a whole number")
        _refuse(table, events, count > size, "at most the size of the group")
    rows = table.index.repeat(2)
    return pd.DataFrame(
        {
            study: table[study].repeat(2).to_numpy(),
            TREATMENT: np.tile([0.5, -0.5], len(table)),
            "events": count.ravel().astype(np.int64),
            "size": size.ravel().astype(np.int64) if binomial else size.ravel(),
        },
        index=pd.RangeIndex(len(rows)),
    )


def _cells(table: pd.DataFrame, pair: Pair) -> Floats:
    """Two columns as numbers, shape (studies, 2)."""
    found = np.stack([numbers(table[c], len(table), f"Column {c!r}") for c in pair], axis=-1)
    _refuse(table, pair, ~np.isfinite(found), "there; complete it or leave the study out")
    return found


def _refuse(table: pd.DataFrame, pair: Pair, bad: NDArray[np.bool_], rule: str) -> None:
    for j, column in enumerate(pair):
        if bad[:, j].any():
            raise DataError(
                f"Each value of {column!r} must be {rule}; it is not at row "
                f"{listed(table.index[bad[:, j]], 5)}."
            )


def _slopes(table: pd.DataFrame, moderators: str) -> dict[str, Floats]:
    """Moderators of the studies' effects about their means, by name, each of shape (studies,)."""
    spec = parse_predictor(moderators)
    if spec.random or spec.offsets:
        raise BayesmixedError(
            f"moderators={moderators!r} has random terms or offsets; here it is for what the "
            "effects of studies depend on, such as '~ ablat'."
        )
    names = variables(moderators)
    check_columns(names, table.columns)
    gaps = table[list(names)].isna().any(axis=1)
    if gaps.any():
        raise DataError(
            f"A moderator misses a value at row {listed(table.index[gaps], 5)}; complete it or "
            "leave the study out."
        )
    found = build_predictor(spec, table, "mu")
    if not found.has_intercept:
        raise BayesmixedError(
            f"moderators={moderators!r} leaves the average effect out; write it without the 0."
        )
    columns = found.X[:, 1:] - found.X[:, 1:].mean(axis=0)
    return {f"{TREATMENT}:{term}": columns[:, k] for k, term in enumerate(found.slopes)}


def _slope_name(name: str, slopes: Mapping[str, Floats]) -> str:
    """The model's name of a moderator's coefficient, which users write without the treatment."""
    inside = f"{TREATMENT}:{name.removeprefix('beta[').removesuffix(']')}"
    return f"beta[{inside}]" if inside in slopes else name


def _formula(study: str, binomial: bool, baseline: str, common: bool, slopes: Sequence[str]) -> str:
    group = quoted(study)
    response = "events | trials(size)" if binomial else "events"
    terms = [f"1 + {TREATMENT} + (1 | {group})"]
    if baseline == "fixed":
        terms = [f"0 + factor({group}) + {TREATMENT}"]
    terms += map(quoted, slopes)
    terms += [] if common else [f"(0 + {TREATMENT} | {group})"]
    terms += [] if binomial else ["offset(log(size))"]
    return f"{response} ~ {' + '.join(terms)}"


def _default_priors(
    arms: pd.DataFrame,
    study: str,
    binomial: bool,
    baseline: str,
    common: bool,
    unit: UnitInformation,
) -> dict[str, Prior]:
    events, size = float(arms["events"].sum()), float(arms["size"].sum())
    # Half an event and, of binomials, half a non-event keep it finite.
    rest = size - events + 0.5 if binomial else size
    overall = Prior("Normal", mu=float(np.log((events + 0.5) / rest)), sigma=_BASELINE_SD)
    priors = {f"beta[{TREATMENT}]": Prior("Normal", mu=0, sigma=unit.sd)}
    priors["beta" if baseline == "fixed" else "Intercept"] = overall
    if not common:
        priors[_tau_name(study, baseline)] = Prior("HalfNormal", sigma=unit.sd / 4)
    if baseline == "random":
        priors[_baseline_name(study, common)] = Prior("HalfStudentT", nu=3, sigma=1)
    return priors


def _tau_name(study: str, baseline: str) -> str:
    return f"sd_{study}" if baseline == "fixed" else f"sd_{study}[{TREATMENT}]"


def _baseline_name(study: str, common: bool) -> str:
    return f"sd_{study}" if common else f"sd_{study}[Intercept]"


def _named(
    study: str, baseline: str, common: bool, priors: Mapping[str, Prior]
) -> dict[str, Prior]:
    """The user's priors under the model's names."""
    if "tau" in priors and common:
        raise PriorError('A common effect has no heterogeneity, so there is no "tau".')
    if "baseline" in priors and baseline == "fixed":
        raise PriorError('Fixed baselines have no sd; their prior is "beta".')
    names = {
        "mu": f"beta[{TREATMENT}]",
        "tau": _tau_name(study, baseline),
        "baseline": _baseline_name(study, common),
    }
    return {names.get(name, name): prior for name, prior in priors.items()}
