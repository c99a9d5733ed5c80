"""Each group's raw and shrunken estimate, and how far its own data are trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesmixed import plots
from bayesmixed._errors import lookup
from bayesmixed.fit import Fit
from bayesmixed.linpred import linear_predictor, random_of
from bayesmixed.predictor import RandomDesign
from bayesmixed.reports._latent import is_transformed
from bayesmixed.reports._levels import inside
from bayesmixed.reports._linear_means import linear_means
from bayesmixed.reports._own import own_coefficients
from bayesmixed.reports._profiles import profiles
from bayesmixed.reports._rate import rate_of
from bayesmixed.reports._reliability import Information, correlated_caveats
from bayesmixed.reports._report import Report, convergence_caveats, interval

type Floats = NDArray[np.float64]

_DIMS = ("chain", "draw", "group")
_EFRON = "Efron & Morris (1975), Journal of the American Statistical Association 70:311-319."
_SEARLE = "Searle, Casella & McCulloch (1992), Variance Components, Wiley, section 7.4."
_RELIABILITY = (
    "Reliability: the share of the spread between groups that its own data resolve, from 0 (all "
    "borrowed) to 1 (all its own)."
)


def shrinkage(fit: Fit, group: str, effect: str | None = None) -> Report:
    r"""Raw and shrunken estimate of every group, side by side.

    Without `effect` it is the mean outcome. The raw estimate is the mean outcome of the group's
    rows: for successes out of trials the proportion, with a log link and an offset the rate per
    unit of exposure. The shrunken one is what the model expects for the *same rows*, with the
    group's own effects, and averaged over the population of whatever lies inside the group
    (patients of a unit). So the two differ by the borrowing of strength and by nothing else.

    With `effect` it is a coefficient, such as a slope: raw, the maximum-likelihood estimate from
    the group's rows alone (least squares for a normal outcome), with all that does not vary between
    the groups held at its posterior mean; shrunken, the population's coefficient plus the group's
    own effect.

    Reliability is the share of the variance between groups that the group's own data resolve,
    averaged over the posterior: with intercepts alone :math:`\sigma_u^2 / (\sigma_u^2 + 1/I_j)`,
    :math:`I_j` the information of the group's rows about its effect (what its subgroups' own
    variation leaves of it). For a Gaussian outcome this is :math:`n_j/(n_j + \sigma^2/\sigma_u^2)`
    [1]_; for a yes/no outcome see [2]_; for several effects [3]_.

    Parameters
    ----------
    fit : Fit
        The fit.
    group : str
        Name of a grouping.
    effect : str, optional
        Name of an effect that varies between its groups, such as ``"Days"`` or ``"Intercept"``.

    Returns
    -------
    Report
        A row a group: ``n`` rows (and ``trials`` or ``exposure``), ``raw``, ``shrunken`` with its
        sd and interval, and ``reliability``. Pictures: ``arrows`` from raw to shrunken,
        ``caterpillar``.

    Raises
    ------
    UnknownNameError
        If there is no such grouping or effect.

    References
    ----------
    .. [1] Efron & Morris (1975), J. Am. Stat. Assoc. 70:311.
    .. [2] Adams (2009), The Reliability of Provider Profiling, RAND TR-653, ch. 3.
    .. [3] Searle, Casella & McCulloch (1992), Variance Components, section 7.4.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> fit = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1)
    >>> slopes = bm.shrinkage(fit, "Subject", "Days")
    >>> raw, shrunken = slopes.table.loc["335", ["raw", "shrunken"]]
    >>> bool(raw < shrunken < 10)
    True
    """
    random = random_of(fit, group)
    fit.design.need_rows("Shrinkage")
    if effect is None:
        return _means(fit, random)
    known = {name: k for k, name in enumerate(random.effects)}
    return _coefficients(fit, random, lookup(known, effect, f"effect that varies by {group}"))


def _means(fit: Fit, random: RandomDesign) -> Report:
    design, groups = fit.design, random.groups
    inner = [g.name for g in inside(design, groups)]
    rate = rate_of(design)
    weight = np.bincount(groups.index, weights=rate.weight)
    if fit.spec.is_normal and not is_transformed(design):
        shrunken, values = linear_means(fit, groups, inner), len(groups.labels)
    else:
        shrunken, values = _expected_means(fit, random, inner, weight)
    within = f", averaged over {' and '.join(inner)}" if inner else ""
    return _report(
        f"Shrunken estimates by {random.name}",
        random,
        _draws(fit, random, shrunken, None, values),
        np.bincount(groups.index, weights=design.y) / weight,
        {rate.size: weight} if rate.size else {},
        rate.label,
        float(design.y.sum() / rate.weight.sum()),
        f"{rate.label} of each {random.name}: raw, and as the model expects it for the same rows"
        f"{within}, with strength borrowed from the other groups. Posterior means and 95 % "
        f"equal-tailed intervals for these groups and these rows. {_RELIABILITY}",
        (
            "Raw values and shrunken values are for each group's own mix of rows; they do not "
            "compare groups on a common mix (benchmark does).",
            *correlated_caveats(fit, random),
            *convergence_caveats(fit),
        ),
        (_EFRON, "Adams (2009), The Reliability of Provider Profiling, RAND TR-653."),
    )


def _expected_means(
    fit: Fit, random: RandomDesign, inner: list[str], weight: Floats
) -> tuple[Callable[[Fit], Floats], int]:
    """Mean expected outcome of each group's rows, and how many values that takes in a draw."""
    cases = profiles(fit.design, inner, random.groups.index)

    def shrunken(piece: Fit) -> Floats:
        expected = linear_predictor(piece, cases.design, dict.fromkeys(inner, "new")).mean()
        return cases.total(expected) / weight

    return shrunken, len(cases.design.y)


def _coefficients(fit: Fit, random: RandomDesign, place: int) -> Report:
    effect, name = random.effects[place], random.name
    terms = fit.design.predictors[fit.design.family.parameters[0].name].terms
    in_population = effect in terms

    def shrunken(piece: Fit) -> Floats:
        own = piece.posterior[f"u_{name}"].to_numpy()[..., place]
        if not in_population:
            return own
        fixed = piece.posterior["beta"].to_numpy()[..., [terms.index(effect)]]
        return np.asarray(own + fixed)

    raw = own_coefficients(fit, random)[:, place]
    draws = _draws(fit, random, shrunken, place, len(random.groups.labels))
    transformed = float(fit.design.family.working(np.array([2.0]))[0]) != 2.0
    link = "the outcome's logarithm" if transformed else f"the {fit.spec.link.name} link"
    scale = "the outcome" if link == "the identity link" else link
    what = "population's coefficient plus own effect" if in_population else "own effect"
    missing = int(np.isnan(raw).sum())
    several = tuple(term for term in terms if effect in term.split(":") and term != effect)
    inner = inside(fit.design, random.groups)
    caveats = [
        f"{missing:,} of {len(raw):,} groups have no raw estimate: their own rows do not determine "
        "it (too few, or perfectly separated)."
        if missing
        else "",
        f"Interactions of {effect} ({', '.join(several)}) are not part of these coefficients."
        if several
        else "",
        f"Raw estimates leave out the variation of {inner[0].name} inside each group, so that "
        "they are nearer to 0 than the subject-specific coefficient (Zeger et al. 1988)."
        if inner and fit.spec.link.name != "identity"
        else "",
    ]
    return _report(
        f"Shrunken coefficients of {effect} by {name}",
        random,
        draws,
        raw,
        {},
        f"Coefficient of {effect}, on the scale of {scale}",
        float(draws["shrunken"].mean()),
        f"Coefficient of {effect} in each {name}, on the scale of {scale}. Raw: maximum "
        "likelihood from its own rows alone, what does not vary between groups held at its "
        f"posterior mean. Shrunken: {what}, posterior means and 95 % equal-tailed intervals for "
        f"these groups. {_RELIABILITY}",
        (*filter(None, caveats), *correlated_caveats(fit, random), *convergence_caveats(fit)),
        (_EFRON, _SEARLE),
    )


def _draws(
    fit: Fit,
    random: RandomDesign,
    shrunken: Callable[[Fit], Floats],
    place: int | None,
    values: int,
) -> xr.Dataset:
    parts, information = [], Information.of(fit, random)
    for piece in fit.pieces(max(values, information.values)):
        found = {
            "shrunken": shrunken(piece),
            "reliability": information.reliability(piece, place),
        }
        parts.append(xr.Dataset({name: (_DIMS, values) for name, values in found.items()}))
    draws = xr.concat(parts, "draw").rename(group=random.name)
    return draws.assign_coords({random.name: random.groups.labels})


def _report(
    title: str,
    random: RandomDesign,
    draws: xr.Dataset,
    raw: Floats,
    sizes: dict[str, Floats],
    label: str,
    overall: float,
    caption: str,
    caveats: Sequence[str],
    references: Sequence[str],
) -> Report:
    numbers = interval(draws["shrunken"])
    table = pd.DataFrame(
        {
            "n": random.groups.sizes,
            **sizes,
            "raw": raw,
            "shrunken": numbers.pop("mean").to_numpy(),
            **{k: v.to_numpy() for k, v in numbers.items()},
            "reliability": draws["reliability"].mean(["chain", "draw"]).to_numpy(),
        },
        index=pd.Index(random.groups.labels, name=random.name),
    )
    shown = table.assign(n=next(iter(sizes.values()), table["n"]))
    size = next(iter(sizes), "rows")
    return Report(
        title,
        table,
        draws,
        caption,
        tuple(caveats),
        tuple(references),
        {
            "arrows": partial(_arrows, shown, label, overall, size),
            "caterpillar": partial(_caterpillar, shown, label, overall),
        },
    )


def _arrows(table: pd.DataFrame, label: str, overall: float, size: str, ax: Axes | None) -> Axes:
    return plots.arrows(table, label, overall, size, ax=ax)


def _caterpillar(table: pd.DataFrame, label: str, overall: float, ax: Axes | None) -> Axes:
    return plots.caterpillar(table, label, reference=overall, ax=ax)
