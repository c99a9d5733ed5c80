"""How alike two outcomes of one group are: intraclass correlations and median odds ratios."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy import stats

from bayesmixed import plots
from bayesmixed._errors import BayesmixedError, lookup
from bayesmixed.fit import Fit
from bayesmixed.groups import parents
from bayesmixed.linpred import random_of
from bayesmixed.reports._average_row import AverageRow, average_row
from bayesmixed.reports._curve import curve
from bayesmixed.reports._latent import is_own_scale, is_transformed, latent_residual, scale_name
from bayesmixed.reports._levels import related_caveats
from bayesmixed.reports._report import Picture, Report, convergence_caveats, interval

type Floats = NDArray[np.float64]

_DIMS = ("chain", "draw", "profile", "group")
_NAKAGAWA = "Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14:20170213."


@dataclass(frozen=True)
class _Ratio:
    """What a median ratio is called, and what it is a ratio of."""

    name: str
    of: str
    source: str


# What the exponential of a difference of linear predictors is.
_RATIOS = {
    "logit": _Ratio(
        "odds ratio", "odds", "Larsen & Merlo (2005), American Journal of Epidemiology 161:81-88."
    ),
    "log": _Ratio(
        "rate ratio",
        "rates (expected outcomes)",
        "Austin, Stryhn, Leckie & Merlo (2018), Statistics in Medicine 37:572-589.",
    ),
    "cloglog": _Ratio(
        "hazard ratio", "hazards", "Austin, Wagner & Merlo (2017), Statistics in Medicine 36:928."
    ),
}


def icc(fit: Fit, scale: Literal["latent", "response"] = "latent", at: Any = None) -> Report:
    r"""Intraclass correlation at every level: the correlation of two outcomes of one group.

    Two rows of the average profile, or of the one that `at` gives, that lie in the same group,
    and in the same group of every grouping around it; otherwise in different new groups. So with
    patients in units the row of the unit is the correlation of two patients' outcomes, and that of
    the patient the correlation of two outcomes of one patient [1]_.

    On the response scale it is :math:`\mathrm{Cov}(y_1, y_2) / \mathrm{Var}(y)`, with
    :math:`\mathrm{Cov}(y_1, y_2) = \mathrm{Var}_u\,E(y \mid u)` over the effects that are
    shared, integrated by quadrature in every draw [1]_ [3]_. On the latent scale it is
    :math:`V / (V_{\mathrm{all}} + V_e)` of variances on the linear predictor's scale, where
    :math:`V_e` is the residual variance, the link's latent variance (:math:`\pi^2/3` for logit),
    or with a log link :math:`\log(1 + v/m^2)` [2]_. A process that stands for correlated
    residuals (`residual`) counts as residual variance, of which two rows share nothing.

    Parameters
    ----------
    fit : Fit
        A fit with at least one grouping.
    scale : {"latent", "response"}
        The scale of the headline. ``"latent"`` gives the response scale beside it, unless the two
        are the same (identity link).
    at : mapping or table, optional
        Values of predictors, such as ``{"Days": [0, 3, 6]}``: one row of the table each. The
        rest is averaged over the rows in the data.

    Returns
    -------
    Report
        Rows (group, scale), or (predictors, group, scale). Draws: ``latent`` and ``response``
        with dims (chain, draw, profile, group), profile such as ``"Days=3"``.

    Raises
    ------
    BayesmixedError
        If nothing varies between groups, there is no latent scale, or the outcome has no mean
        over new groups.
    UnknownNameError
        If the scale is none, or `at` names something that is not a predictor.
    DataError
        If a value in `at` cannot be used.

    References
    ----------
    .. [1] Goldstein, Browne & Rasbash (2002), Understanding Statistics 1:223-231.
    .. [2] Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14:20170213.
    .. [3] Stryhn, Sanchez, Morley, Booker & Dohoo (2006), Proc. 11th ISVEE, for counts.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> fit = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1)
    >>> bm.icc(fit, at={"Days": [0, 9]}).table["mean"].round(1).to_list()
    [0.5, 0.9]
    """
    lookup({"latent": 0, "response": 0}, scale, "scale")
    levels = shared_levels(fit)
    rows = average_row(fit, at)
    found: dict[str, Floats] = {}
    if scale == "latent":
        residual = latent_residual(rows)
        found["latent"] = np.stack([_latent(rows, s, residual) for s in levels.values()], axis=-1)
    if scale == "response" or not is_own_scale(rows.design):
        found["response"] = correlations(rows, levels)
    draws = xr.Dataset(
        {name: (_DIMS, values) for name, values in found.items()},
        coords={"profile": labels(rows.values), "group": list(levels)},
    )
    table = _table(draws, rows.values)
    label = "intraclass correlation"
    return Report(
        "Intraclass correlation",
        table,
        draws,
        _caption(fit, rows, levels, scale),
        (*_caveats(fit, rows, draws), *convergence_caveats(fit)),
        (
            "Goldstein, Browne & Rasbash (2002), Understanding Statistics 1:223-231.",
            _NAKAGAWA,
        ),
        _pictures(table, rows.values, label),
    )


def median_odds_ratio(fit: Fit, at: Any = None) -> Report:
    r"""Median odds ratio of every level; with a log link the median rate ratio.

    Of two groups drawn at random, how many times the odds of the one are those of the other, the
    higher over the lower, in the median: :math:`\exp(\sqrt{2V}\,\Phi^{-1}(0.75))` with V the
    variance between groups on the linear predictor's scale [1]_ [2]_.

    Parameters
    ----------
    fit : Fit
        A fit with at least one grouping and a logit, log or complementary log-log link.
    at : mapping or table, optional
        Values of predictors, as for `icc`; they matter where slopes vary.

    Returns
    -------
    Report
        Rows group, or (predictors, group). Draws: ``median_ratio`` with dims (chain, draw,
        profile, group).

    Raises
    ------
    BayesmixedError
        If nothing varies between groups, or with the link there are no such ratios.

    References
    ----------
    .. [1] Larsen & Merlo (2005), Am. J. Epidemiol. 161:81.
    .. [2] Austin, Stryhn, Leckie & Merlo (2018), Stat. Med. 37:572.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("medpar")
    >>> formula = "died ~ age80 + factor(type) + (1 | provnum)"
    >>> fit = bm.Model(formula, data, family="bernoulli").fit(seed=1)
    >>> report = bm.median_odds_ratio(fit)
    >>> report.table.loc["provnum", "mean"].round(1)
    np.float64(1.2)
    """
    levels, link = shared_levels(fit), fit.spec.link.name
    transformed = is_transformed(fit.design)
    if link not in _RATIOS and not transformed:
        raise BayesmixedError(
            f"With link {link!r} the groups' effects are not logarithms of ratios, so there is no "
            f"median ratio (links that have one: {', '.join(_RATIOS)}). Use bm.icc(fit), or "
            "bm.variance_components(fit)."
        )
    ratio = _Ratio("ratio", "outcomes", _RATIOS["log"].source) if transformed else _RATIOS[link]
    rows = average_row(fit, at)
    first = fit.design.family.parameters[0].name
    spread = np.stack([np.sqrt(2 * rows.variance[n][first]) for n in levels], axis=-1)
    draws = xr.Dataset(
        {"median_ratio": (_DIMS, np.exp(spread * stats.norm.ppf(0.75)))},
        coords={"profile": labels(rows.values), "group": list(levels)},
    )
    table = _table(draws, rows.values).droplevel("scale")
    return Report(
        f"Median {ratio.name}",
        table,
        draws,
        f"Median {ratio.name} of two groups drawn at random from the population (within the same "
        f"outer group, where there is one), the higher {ratio.of} over the lower, for two rows "
        f"with the same predictors{where(rows)}; 1 where groups do not differ. Posterior "
        "means and 95 % equal-tailed intervals.",
        (
            "It is a size of variation between groups, not an effect of anything, and takes the "
            "groups' effects to be normal.",
            *convergence_caveats(fit),
        ),
        (ratio.source,),
        _pictures(table, rows.values, f"median {ratio.name}"),
    )


def shared_levels(fit: Fit) -> dict[str, tuple[str, ...]]:
    """Every grouping of the first parameter, with those whose groups hold its groups.

    Returns
    -------
    dict of str to tuple of str
        From outer to inner; the grouping itself is among what its rows share.

    Raises
    ------
    BayesmixedError
        If there is none.
    """
    every = fit.design.predictors[fit.design.family.parameters[0].name].random
    randoms = [r for r in every if not r.is_process]
    if not every:
        random_of(fit, None)
    if not randoms:
        raise BayesmixedError(
            f"Nothing varies between groups in this fit but the process ({fit.spec.process}), "
            "which stands for residuals; add (1 | group)."
        )
    groups = [g for g in fit.design.groups if not g.grouping.is_process]
    found = {
        r.name: tuple(
            g.name
            for g in groups
            if g.name == r.name
            or (
                len(g.labels) < len(r.groups.labels)
                and parents(r.groups.index, g.index) is not None
            )
        )
        for r in randoms
    }
    return dict(sorted(found.items(), key=lambda item: len(item[1])))


def correlations(rows: AverageRow, levels: Mapping[str, tuple[str, ...]]) -> Floats:
    """Correlations on the response scale, shape (chain, draw, profile, group)."""
    total = rows.outcome_variance()
    return np.stack([rows.shared(shared) / total for shared in levels.values()], axis=-1)


def labels(values: pd.DataFrame) -> list[str]:
    """What each profile is called, such as ``"Days=3"``."""
    if values.columns.empty:
        return ["average row"]
    every = values.to_dict("records")
    return [", ".join(f"{n}={v}" for n, v in given.items()) for given in every]


def where(rows: AverageRow) -> str:
    """The rows' predictors in words."""
    named = " and ".join(str(n) for n in rows.values.columns)
    rest = "averaged over the rows in the data, on the scale of the linear predictor"
    return f" ({named} as given, the rest {rest})" if named else f" ({rest})"


def _latent(rows: AverageRow, shared: tuple[str, ...], residual: Floats) -> Floats:
    first = rows.design.family.parameters[0].name
    total = rows.spread(rows.variance)[first] + residual
    return np.asarray(rows.spread(shared)[first] / total)


def _table(draws: xr.Dataset, values: pd.DataFrame) -> pd.DataFrame:
    """A row for each profile, group and scale."""
    found = {name: interval(each) for name, each in draws.data_vars.items()}
    index, rows = [], []
    for i, given in enumerate(values.itertuples(index=False)):
        for j, group in enumerate(draws["group"].to_numpy()):
            for name, columns in found.items():
                index.append((*given, group, name))
                rows.append({k: float(v[i, j]) for k, v in columns.items()})
    names = [*values.columns, "group", "scale"]
    return pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(index, names=names))


def _caption(fit: Fit, rows: AverageRow, levels: Mapping[str, tuple[str, ...]], scale: str) -> str:
    what = "one trial each " if rows.design.family.has_trials else ""
    inner = [name for name, shared in levels.items() if len(shared) > 1]
    nested = (
        f" Two rows that share {inner[-1]} also share {' and '.join(levels[inner[-1]][:-1])}."
        if inner
        else ""
    )
    both = " Response: the outcomes themselves, groups' effects integrated out."
    own = is_own_scale(rows.design)
    latent = ""
    if scale == "latent" and own:
        latent = " With an identity link the latent scale is the outcome's own."
    elif scale == "latent":
        latent = f" Latent: {_latent_scale(fit, rows)}."
    return (
        "Correlation of two outcomes of the same group, for rows "
        f"{what}with the same predictors{where(rows)}, in groups drawn from the population."
        f"{nested}{latent}{'' if own and scale == 'latent' else both} Posterior means and "
        "95 % equal-tailed intervals."
    )


def _latent_scale(fit: Fit, rows: AverageRow) -> str:
    link, name = fit.spec.link, scale_name(fit.design)
    if link.latent_variance is not None:
        return f"{name}, with a residual variance of {link.latent_variance:.3f}"
    if is_transformed(fit.design):
        return name
    return (
        f"{name}, with the observation-level variance log(1 + variance/mean^2) of the family at "
        "the population's mean (Nakagawa et al. 2017)"
    )


def _caveats(fit: Fit, rows: AverageRow, draws: xr.Dataset) -> tuple[str, ...]:
    found, design = list[str](), fit.design
    if "latent" in draws and "response" in draws:
        found.append(
            "The latent correlation is that of variables which are not observed; what two outcomes "
            "have in common, and what a design effect needs, is the correlation on the response "
            "scale, which depends on the profile."
        )
    found.append("It is the correlation that the predictors in the model leave, not the raw one.")
    groups = [g for g in design.groups if not g.grouping.is_process]
    single = [g.name for g in groups if int(g.sizes.max()) == 1]
    if single and not design.family.has_trials:
        found.append(
            f"Every row is its own group of {' and '.join(single)}: the correlation is one with a "
            "further row of that group, and is not seen in the data."
        )
    if overdispersed_trials(rows):
        found.append(
            "Trials of the same row are correlated by more than their groups' effects; the "
            "correlations are those of trials in different rows."
        )
    if not np.isfinite(rows.outcome_variance()).all():
        found.append(
            "In some draws the outcome has no finite variance: the correlation counts as 0 there, "
            "or is left out where the outcome has no mean."
        )
    if fit.spec.residual is not None:
        found.append(
            "Residuals of the same series are correlated as well; that is left out, and only what "
            "groups share counts."
        )
    return (*found, *related_caveats(fit))


def overdispersed_trials(rows: AverageRow) -> bool:
    """Whether two trials of one row are correlated beyond their groups' effects."""
    design = rows.design
    if design.trials is None:
        return False
    one, two = (
        design.family.evaluate(
            design.family.variance, rows.centre, design.links, trials=np.array([float(n)])
        )
        for n in (1, 2)
    )
    return not np.allclose(two, 2 * np.asarray(one))


def _pictures(table: pd.DataFrame, values: pd.DataFrame, label: str) -> dict[str, Picture]:
    """Intervals, or a curve where one predictor takes several values that are numbers."""
    pictures: dict[str, Picture] = {"intervals": partial(_intervals, table, label)}
    numeric = len(values.columns) == 1 and pd.api.types.is_numeric_dtype(values.iloc[:, 0])
    if numeric and len(values) > 2:
        return {"curve": partial(curve, table, label)} | pictures
    return pictures


def _intervals(table: pd.DataFrame, label: str, ax: Axes | None) -> Axes:
    return plots.intervals(table, label, ax=ax)
