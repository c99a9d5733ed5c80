"""How far the priors, and how far the data, move the posterior."""

from __future__ import annotations

from functools import partial

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesmixed.defaults import assign_priors
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.plots import BLUE, GREY, ORANGE
from bayesmixed.reports._prior_density import log_priors
from bayesmixed.reports._report import Report, convergence_caveats
from bayesmixed.row_conditionals import row_blocks, row_log_density

type Floats = NDArray[np.float64]

_MAX_VALUES = 10_000_000
_THRESHOLD = 0.05
_DIMS = ("chain", "draw")


def prior_sensitivity(fit: Fit) -> Report:
    r"""Change of each parameter's posterior as the priors, or the likelihood, count for more.

    The priors of all population-level parameters, or the likelihood of the outcomes given the
    groups' effects (with ``residual=`` that of whole series), are raised to a power near 1, and the
    posterior is reweighted accordingly.
    The measure is the change of the posterior's distribution function (cumulative Jensen-Shannon
    distance) for a doubling of the power [1]_. The normal distribution of the groups' effects
    belongs to the model and is not scaled.

    Parameters
    ----------
    fit : Fit
        The fit.

    Returns
    -------
    Report
        A row a parameter: ``prior`` and ``likelihood`` sensitivity, and a ``diagnosis``.

    Raises
    ------
    BayesmixedError
        If the rows are not in memory, or a meta-analysis' prior of tau is no `Prior`.

    References
    ----------
    .. [1] Kallioinen, Paananen, Bürkner & Vehtari (2024), Stat. Comput. 34:57.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> fit = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1)
    >>> bm.prior_sensitivity(fit).table.columns.to_list()
    ['prior', 'likelihood', 'diagnosis']
    """
    fit.design.need_rows("Sensitivity to the likelihood")
    priors = xr.Dataset({n: (_DIMS, v) for n, v in log_priors(fit)})
    values = fit.scalars().to_dataset(name="value")
    likelihood = xr.DataArray(_log_likelihood(fit), dims=_DIMS)
    tree = xr.DataTree.from_dict(
        {
            "posterior": values,
            "log_prior": priors.to_array("prior").sum("prior").to_dataset(name="all"),
            "log_likelihood": likelihood.to_dataset(name="y"),
        }
    )
    table = pd.DataFrame(
        {g: az.psense(tree, group=g)["value"].to_numpy() for g in ("prior", "likelihood")},
        index=pd.Index(values["parameter"].to_numpy(), name="parameter"),
    )
    table["diagnosis"] = [_diagnosis(*row) for row in table.to_numpy()]
    return Report(
        "Sensitivity to priors and data",
        table,
        priors.assign(log_likelihood=likelihood),
        "Change of each parameter's posterior per doubling of the power of all priors together, "
        "and of the likelihood given the groups' effects (cumulative Jensen-Shannon distance, "
        f"without unit; above {_THRESHOLD} is noticeable). There are no intervals.",
        (*_caveats(fit, table), *convergence_caveats(fit)),
        ("Kallioinen, Paananen, Bürkner & Vehtari (2024), Statistics and Computing 34:57.",),
        {"sensitivity": partial(_picture, table)},
    )


def _log_likelihood(fit: Fit) -> Floats:
    """Log-likelihood of all rows given the groups' effects, shape (chain, draw)."""
    design: Design = fit.design
    if design.series is not None:
        # Rows given those before them: the densities of a series multiply to its own.
        draws = fit.posterior.sizes["chain"] * fit.posterior.sizes["draw"]
        blocks = row_blocks(design, max(1, _MAX_VALUES // draws))
        return np.asarray(sum(row_log_density(fit, at, "earlier").sum(axis=-1) for at in blocks))
    return np.concatenate(
        [
            np.asarray(
                design.family.evaluate(
                    design.family.loglik,
                    piece.parameters(),
                    design.links,
                    y=design.y,
                    **design.known,
                )
            ).sum(axis=-1)
            for piece in fit.pieces()
        ],
        axis=1,
    )


def _diagnosis(prior: float, likelihood: float) -> str:
    if prior < _THRESHOLD:
        return ""
    if likelihood < _THRESHOLD:
        return "strong prior or weak data"
    return "prior and data may disagree"


def _caveats(fit: Fit, table: pd.DataFrame) -> list[str]:
    found = []
    moved = table.index[table["diagnosis"] != ""]
    if len(moved):
        found.append(
            f"The priors matter for {', '.join(map(str, moved))}: fit again with other priors that "
            "you would defend, and see whether the conclusions stand. An informative prior that is "
            "meant to matter shows here too."
        )
    if not all(a.prior.is_proper for a in assign_priors(fit.design).values()):
        found.append("Flat priors stay flat at every power, so they show no sensitivity.")
    if any(a.source.startswith("default:") for a in assign_priors(fit.design).values()):
        found.append(
            "Default priors are scaled to the data; this sensitivity takes them as they stand."
        )
    return found


def _picture(table: pd.DataFrame, ax: Axes | None) -> Axes:
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 0.35 * len(table) + 1.4), layout="constrained")
    at = np.arange(len(table))[::-1]
    ax.axvline(_THRESHOLD, color=GREY, linestyle="--", linewidth=1)
    ax.hlines(at, 0, table[["prior", "likelihood"]].max(axis=1), color=GREY, linewidth=0.5)
    ax.scatter(table["likelihood"], at, color=BLUE, marker="s", label="likelihood")
    ax.scatter(table["prior"], at, color=ORANGE, label="prior")
    ax.set_yticks(at, [str(name) for name in table.index])
    ax.set_ylim(-0.7, len(table) - 0.3)
    ax.set_xlabel("change of the posterior per doubling of the power")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
