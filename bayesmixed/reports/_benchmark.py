"""Provider profiling: how units compare, how sure that is, and which of them to flag."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import rankdata

from bayesmixed._errors import BayesmixedError
from bayesmixed.fit import Fit
from bayesmixed.linpred import random_of
from bayesmixed.reports._flags import Decision
from bayesmixed.reports._league import League, league_of
from bayesmixed.reports._league_pictures import pictures_of
from bayesmixed.reports._league_words import caption, caveats
from bayesmixed.reports._rate import rate_of, takes
from bayesmixed.reports._report import Report, convergence_caveats, interval
from bayesmixed.reports._terms import Expected, Scale, Terms, Worse

type Floats = NDArray[np.float64]

_REFERENCES = (
    "Normand, Glickman & Gatsonis (1997), Journal of the American Statistical Association "
    "92:803-814.",
    "Ash et al. (2012), Statistical Issues in Assessing Hospital Performance, COPSS-CMS White "
    "Paper.",
    "Lin, Louis, Paddock & Ridgeway (2006), Bayesian Analysis 1:915-946 (ranks).",
    "Spiegelhalter (2005), Statistics in Medicine 24:1185-1202 (funnel plots).",
)
_SILBER = "Silber et al. (2010), Health Services Research 45:1148-1167 (volume)."
_WORST = 0.9


def benchmark(
    fit: Fit,
    unit: str,
    *,
    worse: Worse = "higher",
    cost_ratio: float = 1 / 19,
    margin: float | None = None,
    threshold: float | None = None,
    scale: Scale | None = None,
    expected: Expected = "population",
    volume: str | None = None,
    within: Collection[str] = (),
    reference: Any = None,
    suppress_below: float | None = None,
) -> Report:
    r"""Compare units (hospitals, wards, doctors) with what is expected for their patients.

    With :math:`u_j` the effects of unit :math:`j`, in every draw

    .. math::

        P_j = \sum_{i \in j} E(y_i \mid x_i, u_j), \qquad
        E_j = \sum_{i \in j} \int E(y_i \mid x_i, u)\, N(u; 0, G)\, du, \qquad
        D_j = \frac{1}{N} \sum_{i=1}^N E(y_i \mid x_i, u_j).

    :math:`P_j / E_j` is ``ratio``, above 1 where the unit has more events than its patients would
    have in a unit drawn from the population [1]_. CMS's excess readmission ratio [2]_ divides by
    the expectation in the *average* unit, :math:`u = 0`, instead (``expected="average"``), which is
    smaller for rare events, by a factor of about :math:`\exp(\sigma_u^2/2)`. Ratio times the
    overall rate is the indirectly standardised rate. :math:`D_j` is the directly standardised one,
    the unit's own effect applied to the same patients; ranks come from it.

    What lies inside a unit (its patients, if rows are visits) is integrated over as new. What a
    unit lies in counts as its own, unless named in `within`. Crossed groupings are case mix.

    A unit is *bad* where the ratio is on the wrong side of `margin`. It is flagged if
    :math:`P(\mathrm{bad}) > 1/(1 + \mathtt{cost\_ratio})`, which has the least expected cost.

    Parameters
    ----------
    fit : Fit
        The fit.
    unit : str
        A grouping of it.
    worse : {"higher", "lower"}
        Which outcomes are bad.
    cost_ratio : float
        What missing a bad unit costs, if accusing a good one costs 1. The default, 1/19, flags from
        a probability of 95 % on.
    margin : float, optional
        Where bad begins, on the scale of the ratio (or difference): 1 (0) unless given.
    threshold : float, optional
        A rate; gives the probability that the directly standardised rate is on its wrong side.
    scale : {"ratio", "difference"}, optional
        How predicted and expected are compared; as ratio unless outcomes may be negative or are
        ordered categories.
    expected : {"population", "average"}
        The unit that the expectation is for: drawn from the population, or with effects of 0.
    volume : str, optional
        A column of the formula that holds each unit's volume, as `with_volume` makes. Its effect
        then counts as the unit's own: the expectation is at the mean volume of the patients. A
        volume that is in the formula and not named here is case mix: units are compared with others
        of their size [3]_.
    within : collection of str
        Groupings around the units inside which they are compared, such as ``["region"]``.
    reference : table, optional
        Patients for the directly standardised rates; those in the data unless given.
    suppress_below : float, optional
        Suppress units with fewer rows (trials), events or non-events, and as many more as keep
        these from being found by subtraction; 11 is CMS's rule. Nothing of them is in the table,
        draws, pictures and exports; ranks are of the units shown, the overall rate of all.

    Returns
    -------
    Report
        A row a unit: ``n`` rows (and ``trials`` or ``exposure``); ``observed``, ``predicted`` and
        ``expected`` rate; ``observed_expected``; ``ratio`` (or ``difference``) with sd and
        interval; ``indirect_rate``; ``direct_rate`` and ``rank`` (1 is best) with intervals;
        ``p_worse`` than expected, ``p_bad`` if a margin is given, ``p_threshold``,
        ``p_worst_decile``; ``flag``; ``reliability``. Draws also hold ``false_flags`` and
        ``misses``, their numbers in the whole table. Pictures: ``caterpillar``, ``funnel``,
        ``rank``.

    Raises
    ------
    UnknownNameError
        If a grouping, column or choice does not exist.
    BayesmixedError
        If a number is outside its range, or ratios make no sense for this outcome.
    DataError
        If suppression leaves nothing to show, or `volume` or `reference` cannot be used.

    References
    ----------
    .. [1] Normand, Glickman & Gatsonis (1997), J. Am. Stat. Assoc. 92:803.
    .. [2] Ash et al. (2012), COPSS-CMS White Paper, eq. 5.
    .. [3] Silber et al. (2010), Health Serv. Res. 45:1148.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("medpar")
    >>> formula = "died ~ age80 + factor(type) + (1 | provnum)"
    >>> fit = bm.Model(formula, data, family="bernoulli").fit(seed=1)
    >>> league = bm.benchmark(fit, "provnum", suppress_below=11)
    >>> league.table[["n", "observed", "predicted", "expected", "ratio", "flag"]].shape
    (22, 6)
    >>> path = league.save_plot("hospitals.png", "caterpillar")
    """
    fit.design.need_rows("Benchmarking")
    units = random_of(fit, unit)
    terms = Terms(
        worse,
        cost_ratio,
        margin,
        threshold,
        _usual_scale(fit) if scale is None else scale,
        expected,
        volume,
        (within,) if isinstance(within, str) else tuple(within),
        suppress_below,
    )
    league = league_of(fit, units, terms, reference)
    shown = league.shown(fit.design, suppress_below)
    draws = _compared(league.draws(fit).isel({unit: shown}), terms, league, shown)
    beyond = terms.sign * (draws[terms.scale] - terms.bad_from) > 0
    decision = Decision(beyond.to_numpy(), cost_ratio)
    table = _table(fit, league, shown, draws, decision, terms)
    pictures = pictures_of(fit, table, draws, terms)
    over = ("chain", "draw")
    return Report(
        f"Benchmark of {unit}",
        table,
        draws.drop_vars("chance", errors="ignore").assign(
            false_flags=(over, decision.false_flags), misses=(over, decision.misses)
        ),
        caption(fit, terms, league, decision, len(shown), reference is not None),
        (*caveats(fit, terms, league, "funnel" in pictures), *convergence_caveats(fit)),
        (*_REFERENCES, *([_SILBER] if volume else [])),
        pictures,
    )


def _usual_scale(fit: Fit) -> Scale:
    """Ratios, unless outcomes may be negative or are categories."""
    design = fit.design
    return "difference" if takes(design, -1.0) or design.family.is_categorical else "ratio"


def _compared(
    draws: xr.Dataset, terms: Terms, league: League, shown: NDArray[np.intp]
) -> xr.Dataset:
    """The draws with predicted against expected, indirectly standardised rates, and ranks."""
    # Of all units, hidden ones too: those that are shown have more events. What follows by
    # subtraction is the total of the hidden units, which reaches the limit.
    overall = float(league.observed.sum() / league.weight.sum())
    predicted, expected = draws["predicted"], draws["expected"]
    if terms.scale == "difference":
        found = predicted - expected
        indirect = overall + found
    else:
        if not (expected > 0).all():
            raise BayesmixedError(
                "A ratio needs expected outcomes above 0, and here some are not; use "
                'scale="difference".'
            )
        found = predicted / expected
        indirect = overall * found
    direct = draws["direct_rate"]
    ranks = rankdata(terms.sign * direct.to_numpy(), axis=-1)
    return draws.assign(
        {terms.scale: found, "indirect_rate": indirect, "rank": (direct.dims, ranks)}
    )


def _table(
    fit: Fit,
    league: League,
    shown: NDArray[np.intp],
    draws: xr.Dataset,
    decision: Decision,
    terms: Terms,
) -> pd.DataFrame:
    over = ["chain", "draw"]
    weight, size = league.weight[shown], rate_of(fit.design).size
    mean = {str(name): values.to_numpy() for name, values in draws.mean(over).items()}
    observed, expected = league.observed[shown] / weight, mean["expected"]
    columns: dict[str, Any] = {"n": league.units.groups.sizes[shown]}
    if size:
        columns[size] = weight
    columns |= {"observed": observed, "predicted": mean["predicted"], "expected": expected}
    is_ratio = terms.scale == "ratio"
    columns["observed_expected"] = observed / expected if is_ratio else observed - expected
    numbers = interval(draws[terms.scale])
    columns[terms.scale] = numbers.pop("mean").to_numpy()
    columns |= {name: values.to_numpy() for name, values in numbers.items()}
    columns["indirect_rate"] = mean["indirect_rate"]
    for name, short in (("direct_rate", "direct"), ("rank", "rank")):
        found = interval(draws[name])
        columns[name] = mean[name]
        columns |= {f"{short}_{end}": found[f"eti95_{end}"].to_numpy() for end in ("lb", "ub")}
    columns["rank_lb"] = np.floor(columns["rank_lb"]).astype(int)
    columns["rank_ub"] = np.ceil(columns["rank_ub"]).astype(int)

    def probability(event: xr.DataArray) -> Floats:
        return np.asarray(event.mean(over).to_numpy())

    columns["p_worse"] = probability(terms.sign * (draws[terms.scale] - terms.null) > 0)
    if terms.margin is not None:
        columns["p_bad"] = decision.probability
    if terms.threshold is not None:
        beyond = terms.sign * (draws["direct_rate"] - terms.threshold) > 0
        columns["p_threshold"] = probability(beyond)
    # As percentiles rank / (K + 1) of Lin et al.; of fewer than ten units, the worst one.
    last = min(_WORST * (len(shown) + 1), len(shown) - 0.5)
    columns["p_worst_decile"] = probability(draws["rank"] > last)
    columns["flag"] = decision.flags
    columns["reliability"] = mean["reliability"]
    index = pd.Index(league.units.groups.labels[shown], name=league.units.name)
    return pd.DataFrame(columns, index=index)
