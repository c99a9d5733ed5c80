"""The front door of a meta-analysis: a table of effects to a `Fit` like any other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, DataError, listed, lookup
from bayesmixed.data import Missing, check_columns, numbers, to_pandas
from bayesmixed.design import Design
from bayesmixed.expressions import variables
from bayesmixed.fit import Fit
from bayesmixed.meta._between_analysis import Between, fit_between, model_of
from bayesmixed.meta._defaults import UnitInformation, default_priors, unit_information
from bayesmixed.meta._densities import written
from bayesmixed.meta._given import given_priors
from bayesmixed.meta._grid import grid_of
from bayesmixed.meta._heterogeneity import Density
from bayesmixed.meta._measures import MEASURES, Measure, get_measure
from bayesmixed.meta._stored import to_text
from bayesmixed.model import Model
from bayesmixed.names import coords, dims, sd_name
from bayesmixed.priors import Prior
from bayesmixed.sample import Settings
from bayesmixed.spec import quoted

type Floats = NDArray[np.float64]


def meta_analysis(
    data: Any,
    effect: str = "yi",
    se: str | None = None,
    study: str = "study",
    moderators: str | None = None,
    method: Literal["nuts", "grid"] = "nuts",
    *,
    variance: str | None = None,
    common: bool = False,
    between: Literal["normal", "t"] = "normal",
    nu: float | None = None,
    scale: str | None = None,
    measure: str | None = None,
    n: str | None = None,
    priors: Mapping[str, Prior | Density | str] | None = None,
    missing: Missing = "raise",
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    seed: int | None = None,
    progress: bool = True,
) -> Fit:
    r"""Meta-analysis of effects with known standard errors.

    .. math:: y_i \sim N(\theta_i, s_i^2), \quad \theta_i \sim N(x_i'\beta, \tau^2)

    or with heavier tails between studies :math:`\theta_i \sim t_\nu(x_i'\beta, \tau)` [2]_, or with
    heterogeneity that differs, :math:`\log \tau_i = z_i'\alpha` [3]_.

    Parameters
    ----------
    data : table
        A row for each effect, such as `effect_sizes` makes.
    effect : str
        Column of the effects, on a scale where they are about normal (logarithms of ratios).
    se, variance : str, optional
        Column of the standard errors, or of the sampling variances; ``"sei"`` or ``"vi"``
        where there is one and neither is named.
    study : str
        Column of the studies, one row each. For effects in studies in larger groups
        ``"district/school"``: an effect for every row, and for every group.
    moderators : str, optional
        Right-hand side of a formula, such as ``"~ ablat"``; a meta-regression.
    method : {"nuts", "grid"}
        NUTS, or exact integration on a grid of tau with stratified draws, in milliseconds
        (one row a study; normal or flat priors of the coefficients). With ``between="t"`` (up to
        two moderators with `nu`, one without) or `scale` (up to three coefficients) it takes
        seconds.
    common : bool
        Whether all studies have the same effect, so that tau is 0.
    between : {"normal", "t"}
        Distribution of the effects between studies. Under Student's t, of which tau is the scale, a
        study that lies far out pulls the average less and is shrunken less.
    nu : float, optional
        Degrees of freedom of the t, from 0.5; Gamma(2, 0.1) is their prior unless given.
    scale : str, optional
        Right-hand side of a formula for log tau, such as ``"~ ablat"``; a location-scale model.
    measure : str, optional
        What the effects are, as for `effect_sizes`, whose column ``measure`` is read unless given.
    n : str, optional
        Column of the studies' sample sizes, which then set the scale of the default priors; for
        measures without a unit of their own (``"MD"``, ``"ROM"``, rate differences) ``"ni"``.
    priors : mapping of str to Prior, distribution or str, optional
        By name: ``"mu"`` (or ``"Intercept"``, at the moderators' means), ``"tau"`` (or
        ``"sd_<study>"``), ``"tau2"`` (its square), ``"beta[<term>]"``. Unless given, with U the
        unit-information sd, N(0, U), half-normal(U / 4), and N(0, U / sd of the moderator) [1]_.
        U is that of `n` where given, else the measure's (2 for logarithms of ratios of events),
        else assumed; `Fit.notes` and `pooled_effects` have it. With `scale` there are
        ``"Intercept_tau"`` (log tau at the moderators' means) and ``"beta_tau[<term>]"``, by
        default normals as wide as the logarithm of that half-normal, and N(0, 1 / sd of the
        moderator). On the grid ``"tau"`` may be a distribution of `scipy.stats`, or the name of one
        that the standard errors determine: ``"uniform"``, ``"sqrt"``, ``"Jeffreys"``,
        ``"overallJeffreys"``, ``"BergerDeely"``, ``"conventional"``, ``"DuMouchel"``,
        ``"shrinkage"``, ``"I2"``, as in the R package bayesmeta [4]_; flat, for `mu`, is
        ``Prior("Flat")``.
    missing : {"raise", "drop"}
        What to do with rows that miss a value.
    draws, tune, chains, seed, progress
        As for `Model.fit`.

    Returns
    -------
    Fit
        With ``beta``, ``sd_<study>`` (tau) and ``u_<study>`` (the deviations of studies). With
        ``between="t"`` or `scale`, whose effects of studies are integrated out, tau is ``tau`` or
        ``beta_tau``, and there may be ``nu``.

    Raises
    ------
    BayesmixedError
        With what was given, what is valid and what to do.

    References
    ----------
    .. [1] Röver et al. (2021), Res. Synth. Methods 12:448, sections 2.2 and 3.
    .. [2] Lee & Thompson (2008), Stat. Med. 27:418; Baker & Jackson (2008), Health Care Manag.
       Sci. 11:121.
    .. [3] Viechtbauer & López-López (2022), Res. Synth. Methods 13:697.
    .. [4] Röver (2020), J. Stat. Softw. 93(6), section 2.3.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> trials = bm.datasets.load("bcg")
    >>> fit = bm.meta_analysis(trials, "yi", "sei", "trial", measure="RR", method="grid", seed=1)
    >>> fit.posterior["sd_trial"].sizes["draw"]
    1000
    """
    lookup({"nuts": 0, "grid": 0}, method, "method")
    table = to_pandas(data)
    table = table if table.index.is_unique else table.reset_index(drop=True)
    chosen = get_measure(measure) if measure else _measure_in(table, effect)
    deviation = _deviation(table, se, variance)
    formula = _formula(table, effect, study, moderators, common)
    shape = Between(between, nu, scale)
    shape.check(study, common)
    _check_number(table, [effect, *variables(deviation)], missing)
    plain = Model(formula, table, sampling_sd=deviation, missing=missing)
    unit = unit_information(plain.design, chosen, _size(plain.design, table, n, chosen))
    defaults, own = default_priors(plain.design, chosen, unit), given_priors(plain.design, priors)
    given = own.priors
    if method == "nuts" or not shape.is_plain:
        own.refuse_density("and a normal distribution with one tau between studies")
    settings = Settings(draws, tune, chains, seed, progress=progress)
    if shape.is_plain:
        # One prior for all coefficients gives way to single ones, which must then be the user's.
        kept = {k: p for k, p in defaults.items() if k.partition("[")[0] not in given}
        model = Model(formula, table, sampling_sd=deviation, missing=missing, priors=kept | given)
        tree, notes = _run(model, method, settings, own.tau)
    else:
        rows = table.loc[plain.design.table.frame.index]
        fixed = _formula(rows, effect, study, moderators, common=True)
        model, kept = model_of(fixed, rows, deviation, missing, shape, defaults, unit, given, study)
        labels = pd.Index(rows.loc[model.design.table.frame.index, study], name=study)
        tree, notes = fit_between(model, labels, method, settings)
    if method == "grid":
        chosen_draws = {"draws": draws, "chains": chains, "seed": seed}
        tree.attrs["sampling"] = json.dumps(chosen_draws, default=int)
    attributes: dict[str, Any] = {"method": method, "unit": str(unit), "unit_sd": unit.sd}
    attributes |= {"measure": chosen.name} if chosen else {}
    attributes |= {"tau_prior": to_text(own.tau)} if own.tau is not None else {}
    posterior = tree["posterior"].to_dataset()
    tree["posterior"] = xr.DataTree(posterior.assign_attrs({**posterior.attrs, **attributes}))
    defaulted = bool(set(kept) - set(given))
    return Fit(model.design, tree, (*notes, *_on_priors(unit, defaulted, own.tau)))


def _on_priors(unit: UnitInformation, defaulted: bool, tau: Density | None) -> tuple[str, ...]:
    """What is to be said of the priors."""
    found = [f"Default priors are scaled to the {unit}."] if defaulted else []
    if tau is not None:
        place = "fit.spec does not carry it, and has HalfFlat in its place"
        found.append(f"Prior of tau: {written(tau)}; {place}.")
    return tuple(found)


def _run(
    model: Model, method: str, settings: Settings, tau: Density | None
) -> tuple[xr.DataTree, tuple[str, ...]]:
    """Draws from the posterior, and what is to be said of them."""
    if method == "grid":
        return _grid_tree(model.design, settings, tau), model.notes
    chosen = (settings.draws, settings.tune, settings.chains, settings.seed, settings.progress)
    fit = model.fit(*chosen)
    return fit.tree, fit.notes


def _measure_in(table: pd.DataFrame, effect: str) -> Measure | None:
    """What `effect_sizes` wrote beside the effects, in a column that merging keeps."""
    if effect != "yi" or "measure" not in table.columns:
        return None
    names = table["measure"].dropna().astype(str).unique()
    if len(names) > 1 and set(names) <= set(MEASURES):
        raise DataError(
            f"Column 'measure' says that the effects are of several kinds ({listed(names)}), which "
            "are not on one scale. Analyse each by itself, or give measure=... where they are."
        )
    return MEASURES.get(names[0]) if len(names) == 1 else None


def _deviation(table: pd.DataFrame, se: str | None, variance: str | None) -> str:
    """The expression of the sampling sd, its column checked."""
    if se is not None and variance is not None:
        raise BayesmixedError("Give se or variance, not both.")
    if se is None and variance is None:
        se = "sei" if "sei" in table.columns else None
        variance = "vi" if se is None and "vi" in table.columns else None
    column = se or variance
    if column is None:
        raise BayesmixedError(
            'Name the column of the standard errors, se="...", or of the sampling variances, '
            f'variance="...". Columns: {listed(table.columns, 20)}.'
        )
    check_columns([column], table.columns)
    values = numbers(table[column], len(table), f"Column {column!r}")
    bad = values <= 0
    if bad.any():
        what = "variance" if variance else "standard error"
        where = [f"{i} ({v:g})" for i, v in zip(table.index[bad], values[bad], strict=True)]
        raise DataError(f"A {what} is above 0; in {column!r} it is not at row {listed(where)}.")
    return quoted(column) if se else f"sqrt({quoted(column)})"


def _formula(
    table: pd.DataFrame, effect: str, study: str, moderators: str | None, common: bool
) -> str:
    """The model as text, with the studies checked."""
    columns = study.split("/")
    fixed = "1" if moderators is None else moderators.strip().removeprefix("~").strip()
    check_columns([effect], table.columns)
    if common:
        return f"{quoted(effect)} ~ {fixed}"
    check_columns(columns, table.columns)
    complete = table.dropna(subset=columns)
    repeated = complete.duplicated(columns)
    if repeated.any():
        again = complete.loc[repeated, columns].drop_duplicates().astype(str).agg("/".join, axis=1)
        raise DataError(
            f"{study!r} is the same in several rows ({listed(again, 5)}). Give each study one row "
            "or, where a study has several effects, number them in a column of their own and use "
            f'study="{study}/<that column>".'
        )
    return f"{quoted(effect)} ~ {fixed} + (1 | {'/'.join(map(quoted, columns))})"


def _check_number(table: pd.DataFrame, columns: list[str], missing: Missing) -> None:
    kept = len(table.dropna(subset=columns) if missing == "drop" else table)
    if kept < 2:
        raise DataError(
            f"A meta-analysis needs two studies or more; there is {kept}. One study's effect is "
            "its own estimate."
        )


def _size(
    design: Design, table: pd.DataFrame, n: str | None, measure: Measure | None
) -> Floats | None:
    """Sample sizes, where they are named or the measure has no unit without them."""
    if n is None and measure is not None and measure.unit_sd is None and "ni" in table.columns:
        n = "ni"
    if n is None:
        return None
    check_columns([n], table.columns)
    size = numbers(table.loc[design.table.frame.index, n], len(design.y), f"Column {n!r}")
    if not (np.isfinite(size) & (size >= 0)).all() or not size.sum() > 0:
        raise DataError(f"Sample sizes in {n!r} must be numbers above 0 in every row.")
    return size


def _grid_tree(design: Design, settings: Settings, tau: Density | None) -> xr.DataTree:
    """Draws from the grid under the names that every posterior has."""
    grid = grid_of(design, tau)
    shape = (settings.chains, settings.draws)
    drawn = grid.sample(settings.chains * settings.draws, settings.seed)
    values = {"beta": drawn["beta"]}
    for random in design.predictors["mu"].random:
        values[sd_name("", random.name)] = drawn["tau"][:, None]
        values[f"u_{random.name}"] = drawn["u"][..., None]
    inner, labels = dims(design), coords(design)
    posterior = xr.Dataset(
        {
            name: (("chain", "draw", *inner[name]), v.reshape(*shape, *v.shape[1:]))
            for name, v in values.items()
        }
    )
    labels |= {"chain": np.arange(shape[0]), "draw": np.arange(shape[1])}
    posterior = posterior.assign_coords({d: labels[str(d)] for d in posterior.sizes})
    density = grid.tau.log_density(drawn["tau"]).reshape(shape)
    return xr.DataTree.from_dict(
        {
            "posterior": posterior,
            "sample_stats": xr.Dataset({"lp": (("chain", "draw"), density)}),
            "observed_data": xr.Dataset({"y": ("row", design.y)}),
        }
    )
