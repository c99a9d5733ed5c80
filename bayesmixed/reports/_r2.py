"""How much of the variance the predictors explain, alone and together with the groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesmixed import plots
from bayesmixed._errors import lookup
from bayesmixed.compress import unique_rows
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.linpred import LinearPredictor, Whose, linear_predictor, row_variance
from bayesmixed.reports._average_row import average_row, need_mean, row_weights
from bayesmixed.reports._latent import is_own_scale, latent_residual, scale_name
from bayesmixed.reports._report import Report, convergence_caveats, interval
from bayesmixed.reports._variance import mean_residual, mean_variance
from bayesmixed.rows import take

type Floats = NDArray[np.float64]


def r2(fit: Fit, scale: Literal["latent", "response"] = "latent") -> Report:
    r"""Share of the variance explained by the predictors, alone and with the groups.

    Marginal is :math:`\mathrm{Var}\,E(y \mid x) / \mathrm{Var}(y)`, conditional
    :math:`\mathrm{Var}\,E(y \mid x, u) / \mathrm{Var}(y)`, with the predictors x as in the rows
    of the data and the groups' effects u drawn from the population, in every draw.

    On the latent scale these are the variances of Nakagawa and Schielzeth [1]_ [2]_,
    :math:`\sigma_f^2/(\sigma_f^2+\sigma_u^2+\sigma_e^2)` and
    :math:`(\sigma_f^2+\sigma_u^2)/(\sigma_f^2+\sigma_u^2+\sigma_e^2)`, with
    :math:`\sigma_u^2` the mean of z'Gz [3]_, and :math:`\sigma_e^2` as for `icc`. On the response
    scale the effects are integrated out by quadrature; it is the variance of the fit over itself
    plus the expected residual variance [4]_, for new groups. Offsets belong to the predictors on
    the response scale, and are left out on the latent one. A process that stands for correlated
    residuals (`residual` of counts and yes/no outcomes) is residual variance, as additive
    overdispersion is [2]_: neither predictors nor groups explain it.

    Parameters
    ----------
    fit : Fit
        The fit; with no grouping the two are the same.
    scale : {"latent", "response"}
        The scale of the headline. ``"latent"`` gives the response scale beside it, unless the two
        are the same (identity link).

    Returns
    -------
    Report
        Rows (part, scale), part ``marginal`` or ``conditional``. Draws: ``latent`` and
        ``response`` with dims (chain, draw, part).

    Raises
    ------
    UnknownNameError
        If the scale is none.
    BayesmixedError
        If there is no latent scale, or the outcome has no mean over new groups.

    References
    ----------
    .. [1] Nakagawa & Schielzeth (2013), Methods Ecol. Evol. 4:133.
    .. [2] Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14:20170213.
    .. [3] Johnson (2014), Methods Ecol. Evol. 5:944.
    .. [4] Gelman, Goodrich, Gabry & Vehtari (2019), Am. Stat. 73:307.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> fit = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1)
    >>> bm.r2(fit).table["mean"].round(1).to_list()
    [0.3, 0.8]
    """
    lookup({"latent": 0, "response": 0}, scale, "scale")
    fit.design.need_rows("R2")
    found: dict[str, xr.DataArray] = {}
    same = is_own_scale(fit.design) and not _offset(fit.design).any()
    if scale == "latent":
        found["latent"] = _latent(fit)
    if scale == "response" or not same:
        found["response"] = _response(fit)
    draws = xr.Dataset(found, coords={"part": ["marginal", "conditional"]})
    rows = {
        (str(part), name): {k: float(v) for k, v in interval(each.sel(part=part)).items()}
        for part in draws["part"].to_numpy()
        for name, each in draws.data_vars.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(list(rows), names=["part", "scale"])
    latent = f" Latent: {scale_name(fit.design)}." if scale == "latent" else ""
    return Report(
        "Explained variance (R2)",
        table,
        draws,
        "Share of the variance that the predictors explain in the population (marginal), and that "
        "they explain together with the groups' effects (conditional), for predictors as in the "
        f"rows of the data and new groups.{latent}"
        f"{' Response: the outcomes themselves.' if 'response' in draws else ''} Posterior means "
        "and 95 % equal-tailed intervals.",
        (
            "It depends on how much the predictors vary in these data, and says nothing of fit to "
            "new data (use leave-one-out cross-validation) or of causes.",
            *(
                ("Values on different scales, and for different links, cannot be compared.",)
                if len(found) > 1
                else ()
            ),
            *convergence_caveats(fit),
        ),
        (
            "Nakagawa & Schielzeth (2013), Methods in Ecology and Evolution 4:133-142.",
            "Gelman, Goodrich, Gabry & Vehtari (2019), The American Statistician 73:307-309.",
        ),
        {"intervals": partial(_picture, table)},
    )


def _offset(design: Design) -> Floats:
    return design.predictors[design.family.parameters[0].name].offset


def _latent(fit: Fit) -> xr.DataArray:
    design, dims = fit.design, ("chain", "draw")
    predictor = design.predictors[design.family.parameters[0].name]
    none = xr.DataArray(np.zeros([fit.posterior.sizes[d] for d in dims]), dims=dims)
    weights = row_weights(design)
    centred = predictor.X - weights @ predictor.X
    cross = (centred * weights[:, None]).T @ centred
    fixed = none
    if predictor.terms:
        beta = fit.posterior["beta"].to_numpy()
        fixed = fixed + np.einsum("...i,ij,...j->...", beta, cross, beta)
    groups = sum((mean_variance(fit, r) for r in predictor.random if not r.is_process), start=none)
    residual = mean_residual(fit)
    if residual is None:
        residual = xr.DataArray(latent_residual(average_row(fit))[..., 0], dims=dims)
    residual = residual + sum(mean_variance(fit, r) for r in predictor.random if r.is_process)
    total = fixed + groups + residual
    return xr.concat([fixed / total, (fixed + groups) / total], "part").transpose(*dims, "part")


def _response(fit: Fit) -> xr.DataArray:
    need_mean(fit.design)
    design, weights = distinct(fit.design)
    name = design.family.parameters[0].name
    process = next((r for r in design.predictors[name].random if r.is_process), None)
    whose: dict[str, Whose] = {
        g.name: "average" if g.grouping.is_process else "new" for g in design.groups
    }
    parts = []
    for piece in Fit(design, fit.tree).pieces():
        rows = linear_predictor(piece, design, "new")
        # A Student-t's variance may be infinite.
        with np.errstate(invalid="ignore"):
            moments = _moments(rows)
            mean, square, within = rows.average(moments)
            level = mean @ weights
            total = (square + within) @ weights - level**2
            if process is not None:
                given = linear_predictor(piece, design, whose)
                alone = {name: row_variance(piece, process)}
                square = given.square(partial(_first, moments), alone)
            fitted = square @ weights - level**2
            marginal = (mean - level[..., None]) ** 2 @ weights
            parts.append(np.stack([marginal / total, fitted / total], axis=-1))
    return xr.DataArray(np.concatenate(parts, axis=1), dims=("chain", "draw", "part"))


def _moments(rows: LinearPredictor) -> Callable[[Mapping[str, Floats]], Floats]:
    """The mean, its square, and the variance of the outcome, given the effects.

    The mean is taken from a fixed value amid the means, so that little cancels.
    """
    family = rows.design.family
    amid = float(np.median(rows.evaluate(family.mean, rows.centre)))

    def moments(eta: Mapping[str, Floats]) -> Floats:
        off = rows.evaluate(family.mean, eta) - amid
        return np.stack(np.broadcast_arrays(off, off**2, rows.evaluate(family.variance, eta)))

    return moments


def _first(function: Callable[[Mapping[str, Floats]], Floats], eta: Mapping[str, Floats]) -> Floats:
    return np.asarray(function(eta)[0])


def distinct(design: Design) -> tuple[Design, Floats]:
    """Rows that differ in any predictor, of one trial each, with their shares of all rows."""
    columns = [] if design.sampling_sd is None else [design.sampling_sd]
    for predictor in design.predictors.values():
        columns += [*predictor.X.T, predictor.offset]
        columns += [column for random in predictor.random for column in random.loadings.T]
    found = unique_rows(columns, len(design.y))
    rows = take(design, found.first)
    trials = None if design.trials is None else np.ones(len(found))
    return replace(rows, trials=trials), np.bincount(found.index, weights=row_weights(design))


def _picture(table: pd.DataFrame, ax: Axes | None) -> Axes:
    return plots.intervals(table, "share of the variance explained", ax=ax)
