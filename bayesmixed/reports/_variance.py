"""Where the variance is: standard deviations, correlations and shares at every level."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from bayesmixed import plots
from bayesmixed.fit import Fit
from bayesmixed.linpred import covariance, random_of
from bayesmixed.names import sd_name, suffix
from bayesmixed.predictor import INTERCEPT, RandomDesign
from bayesmixed.reports._average_row import cross_product, row_weights
from bayesmixed.reports._latent import has_threshold, is_own_scale, is_transformed, scale_name
from bayesmixed.reports._levels import related_caveats
from bayesmixed.reports._report import Report, convergence_caveats, interval


def variance_components(fit: Fit) -> Report:
    r"""Standard deviation and share of the variance at every level, and correlations.

    A grouping's variance is the mean over the rows of :math:`z_i' G z_i` [1]_, which is the
    intercepts' variance where nothing but the intercept varies. The residual is
    the family's own variance for an identity link and the link's latent variance (:math:`\pi^2/3`
    for logit) for a yes/no outcome or an ordered category. Other families have no residual on the
    predictor's scale, and then no share is given (`icc` and `r2` say what can be said). A process
    that stands for correlated residuals has a level of its own, ``process``; together with the
    residual it is what `r2` and `icc` count as residual variance.

    Parameters
    ----------
    fit : Fit
        A fit with at least one grouping.

    Returns
    -------
    Report
        Rows (group, effect, quantity): ``sd``, ``variance`` and ``correlation`` of the effects
        (those on another parameter than the first say so: ``"unit (sigma)"``), and, with no
        effect named, ``variance`` and ``share`` of whole levels. Where only the intercept varies
        its variance is the level's and stands there alone. Variances are those of an average
        group: sd squared, times the mean diagonal of a known matrix.

    Raises
    ------
    BayesmixedError
        If nothing varies between groups.

    References
    ----------
    .. [1] Johnson (2014), Methods Ecol. Evol. 5:944, eq. 10.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> fit = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1)
    >>> table = bm.variance_components(fit).table
    >>> table.loc[("Subject", "Days", "sd"), "mean"].round(-1)
    np.float64(10.0)
    """
    design = fit.design
    first = design.family.parameters[0].name
    randoms = design.predictors[first].random
    if not randoms:
        random_of(fit, None)
    levels = {random.name: mean_variance(fit, random) for random in randoms}
    residual = mean_residual(fit)
    if residual is not None:
        levels["residual"] = residual
    total = None if residual is None else xr.zeros_like(residual) + sum(levels.values())
    rows: dict[tuple[str, str, str], xr.DataArray] = {}
    for name, predictor in design.predictors.items():
        for random in predictor.random:
            label = random.name if name == first else f"{random.name} ({name})"
            own = _effects(random, fit.posterior, suffix(design, name), label)
            if name == first:
                if random.effects == (INTERCEPT,):
                    own.pop((label, INTERCEPT, "variance"), None)
                own |= _level(label, levels[label], total)
            rows |= own
    if residual is not None:
        rows |= {("residual", "", "sd"): residual**0.5} | _level("residual", residual, total)
    table = pd.DataFrame(
        {key: {k: float(v) for k, v in interval(draws).items()} for key, draws in rows.items()}
    ).T
    table.index = table.index.set_names(["group", "effect", "quantity"])
    scale = scale_name(design)
    sds = table[table.index.get_level_values("quantity") == "sd"].droplevel("quantity")
    return Report(
        "Variance components",
        table,
        xr.Dataset({".".join(filter(None, key)): draws for key, draws in rows.items()}),
        f"Standard deviations, variances and correlations of the groups' effects on {scale}, and "
        "each level's share of the variance that the predictors leave (with varying slopes "
        "averaged over the rows in the data). Posterior means and 95 % equal-tailed intervals.",
        (*related_caveats(fit), *convergence_caveats(fit)),
        ("Johnson (2014), Methods in Ecology and Evolution 5:944-946.",),
        {"intervals": partial(_picture, sds, f"standard deviation ({scale})")},
    )


def _picture(table: pd.DataFrame, label: str, ax: Axes | None) -> Axes:
    return plots.intervals(table, label, ax=ax)


def _effects(
    random: RandomDesign, posterior: xr.Dataset, tail: str, group: str
) -> dict[tuple[str, str, str], xr.DataArray]:
    names = random.parts
    sd = posterior[sd_name(tail, random.name)]
    found: dict[tuple[str, str, str], xr.DataArray] = {}
    average = random.variance(posterior)
    average = average[..., 0, 0] if average.ndim > 1 else average
    for k, effect in enumerate(names):
        draws = sd[..., k].reset_coords(drop=True)
        variance = draws**2 * average
        found |= {(group, effect, "sd"): draws, (group, effect, "variance"): variance}
    for block in random.blocks:
        for i, j in ((i, j) for i in block for j in block if i < j):
            draws = posterior[f"cor{tail}_{random.name}"][..., i, j].reset_coords(drop=True)
            found[(group, f"{names[i]}, {names[j]}", "correlation")] = draws
    return found


def _level(
    name: str, variance: xr.DataArray, total: xr.DataArray | None
) -> dict[tuple[str, str, str], xr.DataArray]:
    found = {(name, "", "variance"): variance}
    return found if total is None else found | {(name, "", "share"): variance / total}


def mean_variance(fit: Fit, random: RandomDesign) -> xr.DataArray:
    """Mean over the rows of z'Gz, dims (chain, draw), by way of the mean cross-product of z."""
    if np.ptp(random.loadings, axis=0).max() > 0:
        fit.design.need_rows("The mean of a variance that differs between rows")
    cross = cross_product(random, row_weights(fit.design))
    total = np.einsum("...ij,ij->...", covariance(fit, random), cross)
    return xr.DataArray(total, dims=("chain", "draw"))


def mean_residual(fit: Fit) -> xr.DataArray | None:
    """Residual variance on the predictor's scale, averaged over the rows, or None."""
    design, latent = fit.design, fit.spec.link.latent_variance
    dims = ("chain", "draw")
    if has_threshold(design):
        shape = tuple(fit.posterior.sizes[d] for d in dims)
        return xr.DataArray(np.full(shape, latent), dims=dims)
    family, transformed = design.family, is_transformed(design)
    if not (family.is_normal if transformed else is_own_scale(design)):
        return None
    parts, direct = [], transformed or fit.spec.is_normal
    for piece in fit.pieces():
        if direct:
            # Without the predictor of every row, which costs more than all else.
            eta = piece.parameters({"sigma"})
            found = np.asarray(design.links["sigma"].inverse(eta["sigma"])) ** 2
        else:
            eta = piece.parameters()
            found = np.asarray(family.evaluate(family.variance, eta, design.links, **design.known))
        shape = (*(piece.posterior.sizes[d] for d in dims), len(design.y))
        parts.append(xr.DataArray(np.broadcast_to(found, shape).mean(axis=-1), dims=dims))
    return xr.concat(parts, "draw")
