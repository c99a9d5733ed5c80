"""Where the variance is: standard deviations, correlations and shares at every level."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from bayesmixed import plots
from bayesmixed._errors import BayesmixedError
from bayesmixed.fit import Fit
from bayesmixed.predictor import RandomDesign
from bayesmixed.reports._report import Report, convergence_caveats, interval


def variance_components(fit: Fit) -> Report:
    r"""Standard deviation and share of the variance at every level, and correlations.

    A grouping's variance is the mean over the rows of :math:`z_i' G z_i` [1]_, which is the
    intercepts' variance where nothing but the intercept varies. The residual is
    the family's own variance for an identity link and the link's latent variance (:math:`\pi^2/3`
    for logit) for a yes/no outcome. Other families have no residual on the predictor's scale, and
    then no share is given.

    Parameters
    ----------
    fit : Fit
        A fit with at least one grouping.

    Returns
    -------
    Report
        Rows (group, effect, quantity): ``sd`` and ``correlation`` of the effects, ``sd`` and
        ``share`` of whole levels.

    Raises
    ------
    BayesmixedError
        If nothing varies between groups.

    References
    ----------
    .. [1] Johnson (2014), Methods Ecol. Evol. 5:944, eq. 10.
    """
    name = fit.design.family.parameters[0].name
    randoms = fit.design.predictors[name].random
    if not randoms:
        raise BayesmixedError("Nothing varies between groups in this fit; add (1 | group).")
    posterior = fit.posterior
    rows: dict[tuple[str, str, str], xr.DataArray] = {}
    variance: dict[str, xr.DataArray] = {}
    for random in randoms:
        rows |= _effects(random, posterior)
        variance[random.name] = _mean_variance(random, posterior)
    residual = _residual(fit)
    if residual is not None:
        rows[("residual", "", "sd")] = residual**0.5
        total = sum(variance.values(), start=residual)
        shares = variance | {"residual": residual}
        rows |= {(group, "", "share"): v / total for group, v in shares.items()}
    table = pd.DataFrame(
        {key: {k: float(v) for k, v in interval(draws).items()} for key, draws in rows.items()}
    ).T
    table.index = table.index.set_names(["group", "effect", "quantity"])
    link = fit.spec.link.name
    scale = "the outcome's own scale" if link == "identity" else f"the {link} scale"
    scale = "the scale of the outcome's logarithm" if _is_transformed(fit) else scale
    sds = table[table.index.get_level_values("quantity") == "sd"].droplevel("quantity")
    return Report(
        "Variance components",
        table,
        xr.Dataset({".".join(filter(None, key)): draws for key, draws in rows.items()}),
        f"Standard deviations and correlations of the groups' effects on {scale}, and each "
        "level's share of the variance that the predictors leave (with varying slopes averaged "
        "over the rows in the data). Posterior means and 95 % equal-tailed intervals.",
        convergence_caveats(fit),
        ("Johnson (2014), Methods in Ecology and Evolution 5:944-946.",),
        {"intervals": partial(_picture, sds, f"standard deviation ({scale})")},
    )


def _picture(table: pd.DataFrame, label: str, ax: Axes | None) -> Axes:
    return plots.intervals(table, label, ax=ax)


def _effects(
    random: RandomDesign, posterior: xr.Dataset
) -> dict[tuple[str, str, str], xr.DataArray]:
    group, names = random.name, random.effects
    sd = posterior[f"sd_{group}"]
    found = {(group, e, "sd"): sd[..., k].reset_coords(drop=True) for k, e in enumerate(names)}
    for block in random.blocks:
        for i, j in ((i, j) for i in block for j in block if i < j):
            draws = posterior[f"cor_{group}"][..., i, j].reset_coords(drop=True)
            found[(group, f"{names[i]}, {names[j]}", "correlation")] = draws
    return found


def _mean_variance(random: RandomDesign, posterior: xr.Dataset) -> xr.DataArray:
    """Mean over the rows of z'Gz, by way of the mean cross-product of z."""
    cross = random.Z.T @ random.Z / len(random.Z)
    sd = posterior[f"sd_{random.name}"].to_numpy()
    size = len(random.effects)
    correlation = (
        posterior[f"cor_{random.name}"].to_numpy() if random.is_correlated else np.eye(size)
    )
    total = np.einsum("...i,...ij,...j,ij->...", sd, correlation, sd, cross)
    return xr.DataArray(total, dims=("chain", "draw"))


def _residual(fit: Fit) -> xr.DataArray | None:
    """Residual variance on the predictor's scale, averaged over the rows, or None."""
    design, latent = fit.design, fit.spec.link.latent_variance
    shape = {d: fit.posterior.sizes[d] for d in ("chain", "draw")}
    names = {p.name for p in design.family.parameters}
    if latent is not None and "kappa" not in names:
        return xr.DataArray(np.full(tuple(shape.values()), latent), dims=tuple(shape))
    if fit.spec.link.name != "identity":
        return None
    if _is_transformed(fit):
        variance = design.links["sigma"].inverse(fit.parameters()["sigma"]) ** 2
        return xr.DataArray(np.asarray(variance).mean(axis=-1), dims=tuple(shape))
    parts = []
    for piece in fit.pieces():
        found = design.family.evaluate(
            design.family.variance, piece.parameters(), design.links, **design.known
        )
        parts.append(xr.DataArray(np.asarray(found).mean(axis=-1), dims=tuple(shape)))
    return xr.concat(parts, "draw")


def _is_transformed(fit: Fit) -> bool:
    """Whether an identity-link predictor is on another scale than the outcome (lognormal)."""
    return float(fit.design.family.working(np.array([2.0]))[0]) != 2.0
