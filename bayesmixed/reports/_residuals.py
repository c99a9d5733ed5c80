"""Residuals that are standard normal where the model holds, whatever the family."""

from __future__ import annotations

from functools import partial
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from bayesmixed._errors import lookup
from bayesmixed.fit import Fit
from bayesmixed.group_likelihood import INSTEAD, need_independent
from bayesmixed.linpred import linear_predictor
from bayesmixed.plots import BLUE, GREY, ORANGE
from bayesmixed.reports._loo import relative_efficiency, row_log_likelihood
from bayesmixed.reports._ppc import replicate
from bayesmixed.reports._report import Picture, Report, convergence_caveats
from bayesmixed.rows import take
from bayesmixed.sample import generator

type Floats = NDArray[np.float64]
type Kind = Literal["quantile", "loo", "pearson"]

_MAX_VALUES = 10_000_000

_MEANING = {
    "quantile": "Randomised quantile residuals: the posterior predictive distribution function at "
    "the observed outcome (at a random place in its step for discrete outcomes), as a standard "
    "normal quantile. If the model holds they are about standard normal, whatever the family.",
    "loo": "Randomised quantile residuals from the posterior without the row itself (Pareto-"
    "smoothed importance sampling): the distribution function at the observed outcome (at a random "
    "place in its step for discrete outcomes), as a standard normal quantile. If the model holds "
    "they are standard normal, whatever the family.",
    "pearson": "Pearson residuals: observed less expected outcome, over the standard deviation of "
    "the posterior predictive distribution. If the model holds they have mean 0 and variance 1, "
    "and are normal only where the outcome is.",
}


def residuals(fit: Fit, kind: Kind = "quantile", seed: int | None = None) -> Report:
    r"""Residuals of every row, given its groups' effects.

    The quantile residual is :math:`\Phi^{-1}(u)` with :math:`u` uniform between
    :math:`P(\tilde y < y)` and :math:`P(\tilde y \le y)` [1]_, from one replicated outcome
    :math:`\tilde y` a posterior draw.

    Parameters
    ----------
    fit : Fit
        The fit.
    kind : {"quantile", "loo", "pearson"}
        ``"loo"`` is the quantile residual with the row left out of the posterior [2]_.
    seed : int, optional
        The same seed gives the same residuals.

    Returns
    -------
    Report
        A row a row: ``fitted`` (posterior mean of the expected outcome), ``observed``,
        ``residual``, and for ``"loo"`` ``k_hat``. Pictures: ``"qq"``, ``"fitted"``, and one for
        each grouping and each numeric column of the model, under its name.

    Raises
    ------
    UnknownNameError
        If there is no such kind.
    BayesmixedError
        If residuals are correlated.

    References
    ----------
    .. [1] Dunn & Smyth (1996), J. Comput. Graph. Stat. 5:236.
    .. [2] Vehtari, Gelman & Gabry (2017), Stat. Comput. 27:1413, section 2.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> fit = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1)
    >>> report = bm.residuals(fit, seed=1)
    >>> report.table.columns.to_list()
    ['fitted', 'observed', 'residual']
    """
    lookup(_MEANING, kind, "kind of residuals")
    fit.design.need_rows("A residual of every row")
    need_independent(fit.design, "A residual of every row", INSTEAD)
    rng = generator(seed)
    rows, draws = len(fit.design.y), fit.posterior.sizes["chain"] * fit.posterior.sizes["draw"]
    size = max(1, _MAX_VALUES // draws)
    blocks = [np.arange(i, min(i + size, rows)) for i in range(0, rows, size)]
    table = pd.concat([_residuals(fit, at, kind, rng) for at in blocks])
    values = table["residual"].to_numpy()
    return Report(
        f"{kind.capitalize() if kind != 'loo' else 'Leave-one-out quantile'} residuals",
        table,
        xr.Dataset({"residual": ("row", values)}, coords={"row": table.index.to_numpy()}),
        f"{_MEANING[kind]} Each row given the effects of its own groups. Mean {values.mean():.2f}, "
        f"standard deviation {values.std():.2f}, {(np.abs(values) > 3).sum():,} of {rows:,} beyond "
        f"3 ({2 * norm.sf(3) * rows:.1f} expected of a normal). There are no intervals."
        + (
            f" {draws:,} draws tell sizes apart up to {norm.isf(1 / draws):.1f}."
            * (kind != "pearson")
        ),
        (*_caveats(fit, kind, table), *convergence_caveats(fit)),
        (
            "Dunn & Smyth (1996), Journal of Computational and Graphical Statistics 5:236-244.",
            "Vehtari, Gelman & Gabry (2017), Statistics and Computing 27:1413-1432.",
        ),
        _pictures(fit, table, kind),
    )


def _residuals(
    fit: Fit, at: NDArray[np.intp], kind: Kind, rng: np.random.Generator
) -> pd.DataFrame:
    """Residuals of some rows."""
    design = take(fit.design, at)
    predictor = linear_predictor(fit, design)
    mean = predictor.mean()
    scale = 1.0 if design.trials is None else design.trials
    table = pd.DataFrame(
        {"fitted": mean.mean(axis=(0, 1)) / scale, "observed": design.y / scale},
        index=pd.Index(design.table.frame.index, name="row"),
    )
    if kind == "pearson":
        variance = predictor.outcome_variance().mean(axis=(0, 1)) + mean.var(axis=(0, 1))
        return table.assign(residual=(design.y - mean.mean(axis=(0, 1))) / np.sqrt(variance))
    drawn = replicate(fit, design, "existing", rng)
    weights, count = xr.DataArray(1.0), drawn.shape[0] * drawn.shape[1]
    if kind == "loo":
        values = row_log_likelihood(fit, at)
        log_weights, k = values.azstats.psislw(
            dim=["chain", "draw"], r_eff=relative_efficiency(fit)
        )
        weights = np.exp(log_weights) * count
        table["k_hat"] = k.to_numpy()
    replicated = xr.DataArray(drawn, dims=("chain", "draw", "row"))
    below = ((replicated < design.y) * weights).sum(["chain", "draw"]).to_numpy()
    ties = ((replicated == design.y) * weights).sum(["chain", "draw"]).to_numpy()
    # The outcome is one more draw among the replicated ones, so u is never 0 or 1.
    u = (below + rng.random(len(at)) * (ties + 1)) / (count + 1)
    table.insert(2, "residual", norm.ppf(u))
    return table


def _caveats(fit: Fit, kind: Kind, table: pd.DataFrame) -> list[str]:
    found = []
    if kind != "loo":
        found.append(
            "Each row helped to make its own prediction, so residuals are somewhat too small, more "
            'so where groups have few rows; kind="loo" leaves the row out.'
        )
    else:
        bad = int((table["k_hat"] > 0.7).sum())
        if bad:
            found.append(
                f"{bad:,} rows have k_hat above 0.70: leaving them out changes the posterior so "
                "much that their residuals are not to be trusted."
            )
    if kind == "pearson" and len(np.unique(fit.design.y)) < 10:
        found.append(
            "With few distinct outcomes Pearson residuals fall into bands, whose pattern means "
            'nothing; kind="quantile" has none.'
        )
    return found


def _pictures(fit: Fit, table: pd.DataFrame, kind: Kind) -> dict[str, Picture]:
    frame = fit.design.table.frame
    label = "Pearson residual" if kind == "pearson" else "quantile residual"
    found: dict[str, Picture] = {
        "qq": partial(_qq, table["residual"].to_numpy(), label),
        "fitted": partial(
            _scatter,
            table["fitted"].to_numpy(),
            table["residual"].to_numpy(),
            f"expected {fit.spec.response}",
            label,
        ),
    }
    residual = table["residual"].to_numpy()
    for column in frame.columns:
        if pd.api.types.is_numeric_dtype(frame[column].dtype) and column != fit.spec.response:
            x = frame[column].to_numpy(dtype=float)
            found[str(column)] = partial(_scatter, x, residual, str(column), label)
    for groups in fit.design.groups:
        found[groups.name] = partial(_by_group, groups.index, residual, groups.name, label)
    return found


def _axes(label: str, ax: Axes | None) -> Axes:
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    ax.set_ylabel(label)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _qq(residual: Floats, label: str, ax: Axes | None) -> Axes:
    ax = _axes(label, ax)
    ordered, count = np.sort(residual), len(residual)
    x = norm.ppf((np.arange(count) + 0.5) / count)
    # Standard error of an order statistic of a normal sample.
    band = 1.96 * np.sqrt(norm.cdf(x) * norm.sf(x) / count) / norm.pdf(x)
    ax.fill_between(x, x - band, x + band, color=GREY, alpha=0.2, linewidth=0)
    ax.plot(x, x, color=GREY, linewidth=1)
    ax.scatter(x, ordered, s=10 if count < 500 else 4, color=BLUE)
    ax.set_xlabel("standard normal quantile (band: 95 % for each point by itself)")
    return ax


def _scatter(x: Floats, residual: Floats, name: str, label: str, ax: Axes | None) -> Axes:
    ax = _axes(label, ax)
    ax.scatter(x, residual, s=10 if len(x) < 500 else 3, color=BLUE, alpha=0.6)
    ax.axhline(0, color=GREY, linewidth=1)
    for bound in (-1.96, 1.96):
        ax.axhline(bound, color=GREY, linewidth=1, linestyle=":")
    _trend(ax, x, residual)
    ax.set_xlabel(name)
    return ax


def _trend(ax: Axes, x: Floats, residual: Floats) -> None:
    """Means of the residuals in tenths of x with their 95 % limits under the model."""
    count = min(10, len(np.unique(x)), len(x) // 10)
    if count < 2:
        return
    if count == len(np.unique(x)):
        cell = rankdata(x, method="dense")
    else:
        cell = np.minimum((rankdata(x) - 0.5) * count // len(x), count - 1)
    for c in np.unique(cell):
        y = residual[cell == c]
        ax.errorbar(
            x[cell == c].mean(),
            y.mean(),
            1.96 * y.std() / np.sqrt(len(y)),
            color=ORANGE,
            marker="o",
            markersize=5,
            capsize=2,
        )


def _by_group(
    index: NDArray[np.intp], residual: Floats, name: str, label: str, ax: Axes | None
) -> Axes:
    ax = _axes(label, ax)
    sizes = np.bincount(index)
    means = np.bincount(index, residual) / sizes
    place = np.argsort(np.argsort(means))
    ax.scatter(place[index], residual, s=10 if len(index) < 500 else 3, color=BLUE, alpha=0.5)
    ax.scatter(place, means, s=25 if len(means) < 60 else 5, color=ORANGE, label="mean", zorder=3)
    ax.axhline(0, color=GREY, linewidth=1)
    ax.set_xticks([])
    ax.set_xlabel(f"{name} ({len(means):,}, in order of the mean residual)")
    ax.legend(frameon=False)
    return ax
