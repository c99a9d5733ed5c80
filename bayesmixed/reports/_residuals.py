"""Residuals that are standard normal where the model holds, whatever the family."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import norm

from bayesmixed._errors import lookup
from bayesmixed.fit import Fit
from bayesmixed.linpred import linear_predictor
from bayesmixed.reports._loo import relative_efficiency, row_log_likelihood
from bayesmixed.reports._replicates import replicate
from bayesmixed.reports._report import Report, convergence_caveats
from bayesmixed.reports._residual_pictures import pictures_of
from bayesmixed.row_conditionals import Given, departures, row_blocks
from bayesmixed.rows import take
from bayesmixed.sample import generator

type Floats = NDArray[np.float64]
type Kind = Literal["quantile", "loo", "pearson", "normalized", "raw"]

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
    "normalized": "Normalized residuals: Pearson residuals of each row given the earlier rows of "
    "its series, which are the elements of the inverse Cholesky factor of the series' covariance "
    "times observed less expected outcomes. If the model holds they have mean 0 and variance 1, "
    "and those of one series are not correlated.",
    "raw": "Raw residuals: observed less expected outcome, in units of the outcome.",
}
# What is known of a row's series, where residuals are correlated.
_GIVEN: dict[str, Given] = {
    "quantile": "effects",
    "loo": "others",
    "pearson": "effects",
    "normalized": "earlier",
}
_NAMES = {"loo": "Leave-one-out quantile"}


def residuals(fit: Fit, kind: Kind = "quantile", seed: int | None = None) -> Report:
    r"""Residuals of every row, given its groups' effects.

    The quantile residual is :math:`\Phi^{-1}(u)` with :math:`u` uniform between
    :math:`P(\tilde y < y)` and :math:`P(\tilde y \le y)` [1]_, from one replicated outcome
    :math:`\tilde y` a posterior draw.

    With correlated residuals a series with covariance :math:`V = LL'` has the normalized residuals
    :math:`L^{-1}(y - \mu)`, in order of time, as nlme's ``resid(type = "normalized")`` [3]_; the
    distribution functions are then known, so that nothing is replicated, and ``"loo"`` leaves out a
    row and keeps the others of its series [4]_.

    Parameters
    ----------
    fit : Fit
        The fit.
    kind : {"quantile", "loo", "pearson", "normalized", "raw"}
        ``"loo"`` is the quantile residual with the row left out of the posterior [2]_;
        ``"pearson"`` is standardised row by row, ``"normalized"`` within series, which is the same
        where rows are independent; ``"raw"`` is in units of the outcome.
    seed : int, optional
        The same seed gives the same residuals.

    Returns
    -------
    Report
        A row a row: ``fitted`` (posterior mean of the expected outcome), ``observed``,
        ``residual``, and for ``"loo"`` ``k_hat``. Pictures: ``"qq"`` (not of raw ones),
        ``"fitted"``, with correlated residuals ``"correlogram"``, and one for each grouping, for
        whose rows make a series, and for each numeric column of the model, under its name.

    Raises
    ------
    UnknownNameError
        If there is no such kind.
    BayesmixedError
        If the rows are not in memory.

    References
    ----------
    .. [1] Dunn & Smyth (1996), J. Comput. Graph. Stat. 5:236.
    .. [2] Vehtari, Gelman & Gabry (2017), Stat. Comput. 27:1413, section 2.
    .. [3] Pinheiro & Bates (2000), Mixed-Effects Models in S and S-PLUS, section 5.3.
    .. [4] Bürkner, Gabry & Vehtari (2021), Comput. Stat. 36:1243, section 2.

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
    rng = generator(seed)
    draws = fit.posterior.sizes["chain"] * fit.posterior.sizes["draw"]
    blocks = row_blocks(fit.design, max(1, _MAX_VALUES // draws))
    table = pd.concat([_residuals(fit, at, kind, rng) for at in blocks])
    table = table.iloc[np.argsort(np.concatenate(blocks))]
    values = table["residual"].to_numpy()
    return Report(
        f"{_NAMES.get(kind, kind.capitalize())} residuals",
        table,
        xr.Dataset({"residual": ("row", values)}, coords={"row": table.index.to_numpy()}),
        f"{_MEANING[kind]}{_condition(fit, kind)} {_summary(values, kind, draws, fit)}",
        (*_caveats(fit, kind, table), *convergence_caveats(fit)),
        (
            "Dunn & Smyth (1996), Journal of Computational and Graphical Statistics 5:236-244.",
            "Vehtari, Gelman & Gabry (2017), Statistics and Computing 27:1413-1432.",
            *(() if fit.design.series is None else _SERIES_REFERENCES),
        ),
        pictures_of(fit, table, "quantile" if kind == "loo" else kind),
    )


_SERIES_REFERENCES = (
    "Pinheiro & Bates (2000), Mixed-Effects Models in S and S-PLUS, section 5.3.",
    "Bürkner, Gabry & Vehtari (2021), Computational Statistics 36:1243-1261.",
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
    if kind == "raw":
        return table.assign(residual=table["observed"] - table["fitted"])
    if design.series is not None:
        return _in_series(fit, at, kind, table)
    if kind in ("pearson", "normalized"):
        variance = predictor.outcome_variance().mean(axis=(0, 1)) + mean.var(axis=(0, 1))
        return table.assign(residual=(design.y - mean.mean(axis=(0, 1))) / np.sqrt(variance))
    drawn = replicate(fit, design, "existing", rng)
    weights, count = xr.DataArray(1.0), drawn.shape[0] * drawn.shape[1]
    if kind == "loo":
        weights, table["k_hat"] = _weights(fit, row_log_likelihood(fit, at))
    replicated = xr.DataArray(drawn, dims=("chain", "draw", "row"))
    below = ((replicated < design.y) * weights).sum(["chain", "draw"]).to_numpy()
    ties = ((replicated == design.y) * weights).sum(["chain", "draw"]).to_numpy()
    # The outcome is one more draw among the replicated ones, so u is never 0 or 1.
    u = (below + rng.random(len(at)) * (ties + 1)) / (count + 1)
    table.insert(2, "residual", norm.ppf(u))
    return table


def _in_series(fit: Fit, at: NDArray[np.intp], kind: Kind, table: pd.DataFrame) -> pd.DataFrame:
    """Residuals of whole series of correlated rows, each normal given what is known of it."""
    off, sd = departures(fit, at, _GIVEN[kind])
    if kind in ("pearson", "normalized"):
        variance = (sd**2).mean(axis=(0, 1)) + off.var(axis=(0, 1))
        return table.assign(residual=off.mean(axis=(0, 1)) / np.sqrt(variance))
    weights = np.ones(1)
    if kind == "loo":
        values = xr.DataArray(norm.logpdf(off, scale=sd), dims=("chain", "draw", "row"))
        found, table["k_hat"] = _weights(fit, values)
        weights = found.transpose("chain", "draw", "row").to_numpy()
    lower, upper = ((weights * tail(off / sd)).mean(axis=(0, 1)) for tail in (norm.cdf, norm.sf))
    table.insert(2, "residual", np.where(lower < upper, norm.ppf(lower), norm.isf(upper)))
    return table


def _weights(fit: Fit, log_likelihood: xr.DataArray) -> tuple[xr.DataArray, Floats]:
    """Weights of the draws, 1 on average, without each row, and whether they can be trusted."""
    values, k = log_likelihood.azstats.psislw(dim=["chain", "draw"], r_eff=relative_efficiency(fit))
    count = log_likelihood.sizes["chain"] * log_likelihood.sizes["draw"]
    return np.exp(values) * count, k.to_numpy()


def _condition(fit: Fit, kind: Kind) -> str:
    """What else is known of a row, as a further sentence."""
    series = fit.design.series
    if series is None or kind != "loo":
        return " Each row given the effects of its own groups." if fit.design.groups else ""
    return f" Each row given the other rows of its own {series.structure.within}."


def _summary(values: Floats, kind: Kind, draws: int, fit: Fit) -> str:
    found = f"Mean {values.mean():.3g}, standard deviation {values.std():.3g}"
    if kind == "raw":
        return f"{found}. There are no intervals."
    rows = len(values)
    found += (
        f", {(np.abs(values) > 3).sum():,} of {rows:,} beyond 3 ({2 * norm.sf(3) * rows:.1f} "
        "expected of a normal). There are no intervals."
    )
    if kind in ("quantile", "loo") and fit.design.series is None:
        found += f" {draws:,} draws tell sizes apart up to {norm.isf(1 / draws):.1f}."
    return found


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
    if fit.design.series is not None and kind != "normalized":
        found.append(
            f"Residuals of one {fit.design.series.structure.within} are correlated, so bands and "
            'limits in the pictures are too narrow; kind="normalized" takes the correlation out.'
        )
    if kind in ("pearson", "normalized") and len(np.unique(fit.design.y)) < 10:
        found.append(
            "With few distinct outcomes Pearson residuals fall into bands, whose pattern means "
            'nothing; kind="quantile" has none.'
        )
    return found
