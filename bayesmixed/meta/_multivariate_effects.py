"""Reports on two correlated outcomes, and what an unknown correlation within studies changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bayesmixed._errors import BayesmixedError, listed
from bayesmixed.fit import Fit
from bayesmixed.meta._estimates import COLUMNS, PROBS, from_mixture
from bayesmixed.meta._mixture import NormalMixture
from bayesmixed.meta._multivariate import margin
from bayesmixed.meta._multivariate_analysis import MultivariateFit
from bayesmixed.meta._multivariate_sampled import outcomes_in, sample_again, sampled_effects
from bayesmixed.plots import BLUE, GREY, ORANGE
from bayesmixed.reports._report import Report


def multivariate_effects(fit: MultivariateFit | Fit) -> Report:
    """Average effects on the outcomes, their differences, and the covariance between studies.

    Parameters
    ----------
    fit : MultivariateFit or Fit
        From `multivariate_meta_analysis`.

    Returns
    -------
    Report
        Rows ``mu[<outcome>]``, their differences, ``new study`` (what to expect there), ``tau`` and
        ``rho`` between studies: mean, sd, median, 95 % equal-tailed interval, ``P(>0)``; from the
        grid, or from draws. Picture ``plane``, and of draws ``intervals``.

    Raises
    ------
    BayesmixedError
        If the fit is of another model.

    References
    ----------
    .. [1] Jackson, Riley & White (2011), Stat. Med. 30:2481.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("berkey1998")
    >>> fit = bm.multivariate_meta_analysis(data, "yi", "sei", "trial", rho=0.4, seed=1)
    >>> report = bm.multivariate_effects(fit)
    """
    if isinstance(fit, Fit):
        _check_outcomes(fit)
        return sampled_effects(fit)
    nodes, (one, two) = fit.nodes, fit.outcomes
    weights = nodes.weights.reshape(-1)
    kept = weights > 1e-12
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]])
    variance = np.einsum("ri,nij,rj->nr", rows, nodes.covariances[kept], rows)
    share = weights[kept] / weights[kept].sum()
    average = NormalMixture(share, nodes.means[kept] @ rows.T, np.sqrt(variance))
    tau = np.exp(
        np.stack(np.meshgrid(nodes.x1, nodes.x2, nodes.z, indexing="ij"), axis=-1)[..., :2]
    ).reshape(-1, 2)[kept]
    new = NormalMixture(share, nodes.means[kept], np.sqrt(variance[:, :2] + tau**2))
    effects = np.vstack([from_mixture(average), from_mixture(new)])
    table = pd.DataFrame(
        np.vstack(
            [
                effects,
                margin(nodes.x1, nodes.weights.sum(axis=(1, 2)), np.exp, PROBS),
                margin(nodes.x2, nodes.weights.sum(axis=(0, 2)), np.exp, PROBS),
                margin(nodes.z, nodes.weights.sum(axis=(0, 1)), np.tanh, PROBS),
            ]
        ),
        columns=COLUMNS,
        index=pd.Index(
            [
                *(f"mu[{o}]" for o in fit.outcomes),
                f"mu[{one}] - mu[{two}]",
                *(f"new study[{o}]" for o in fit.outcomes),
                *(f"tau[{o}]" for o in fit.outcomes),
                "rho",
            ],
            name="quantity",
        ),
    )
    positive = nodes.weights[..., nodes.z > 0].sum() + 0.5 * nodes.weights[..., nodes.z == 0].sum()
    table["P(>0)"] = [*average.sf(0.0), *new.sf(0.0), np.nan, np.nan, positive]
    few = len(fit.studies) < 10
    return Report(
        "Two outcomes",
        table,
        fit.posterior,
        "Average effects over studies, what to expect in a new study, and sd (tau) and "
        "correlation (rho) of the studies' true effects; 95 % equal-tailed intervals. "
        + " ".join(fit.notes),
        (
            *(
                [f"{len(fit.studies)} studies say little of rho and tau: their priors matter."]
                if few
                else []
            ),
        ),
        ("Jackson, Riley & White (2011), Statistics in Medicine 30:2481-2498.",),
        {"plane": partial(_plane, fit, table)},
    )


def _check_outcomes(fit: Fit) -> None:
    if "outcomes" not in fit.posterior.attrs:
        raise BayesmixedError(
            "multivariate_effects is for fits from bm.multivariate_meta_analysis(...); for others "
            "see bm.pooled_effects and bm.variance_components."
        )


def correlation_sensitivity(
    fit: MultivariateFit | Fit, rho: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 0.9)
) -> Report:
    """The same analysis under other correlations of a study's estimates.

    Parameters
    ----------
    fit : MultivariateFit or Fit
        From `multivariate_meta_analysis`, with V or rho. A sampled one is sampled again for each
        correlation, with the same number of draws (seconds each).
    rho : sequence of float
        Correlations within studies, the same for all pairs of estimates.

    Returns
    -------
    Report
        A row a correlation, the fit's own first: mean and sd of all average effects and of their
        differences, and means of tau and of the correlations between studies.

    Raises
    ------
    BayesmixedError
        If the estimates of a study cannot all have such a correlation, or the fit is of another
        model.

    References
    ----------
    .. [1] Riley (2009), J. R. Stat. Soc. A 172:789, on unknown correlations within studies.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("berkey1998")
    >>> fit = bm.multivariate_meta_analysis(data, "yi", "sei", "trial", rho=0.4, seed=1)
    >>> len(bm.correlation_sensitivity(fit, [-0.5, 0, 0.8]).table)
    4
    """
    if isinstance(fit, Fit):
        _check_outcomes(fit)
    if not len(rho) or not all(-1 < r < 1 for r in rho):
        raise BayesmixedError(f"rho={listed(rho)}: correlations between -1 and 1 are needed.")
    fits: dict[str, MultivariateFit | Fit] = {"as fitted": fit}
    if isinstance(fit, Fit):
        # All of them before the first is sampled, as some may be impossible.
        studies = outcomes_in(fit)
        every = {f"{r:g}": studies.with_correlation(r) for r in rho}
        fits |= {name: sample_again(fit, one, k) for k, (name, one) in enumerate(every.items())}
    else:
        fits |= {f"{r:g}": _correlated(fit, r) for r in rho}
    rows = {}
    for name, other in fits.items():
        found = multivariate_effects(other).table
        rows[name] = {
            f"{q} {c}".replace(" mean", ""): found.loc[q, c]
            for q in found.index
            if not str(q).startswith("new")
            for c in (("mean", "sd") if str(q).startswith("mu") else ("mean",))
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("within studies")
    bad = [name for name, one in fits.items() if isinstance(one, Fit) and not one.converged]
    sampled = " Each row is a run of NUTS, and has its Monte Carlo error." * isinstance(fit, Fit)
    return Report(
        "Sensitivity to the correlation within studies",
        table,
        fit.posterior,
        "Posterior means (and sds) under correlations of a study's estimates that are the same "
        f"in all studies; first those of the fit.{sampled}",
        (*([f"Did not converge: {listed(bad)}."] if bad else []),),
        ("Riley (2009), Journal of the Royal Statistical Society A 172:789-811.",),
    )


def _correlated(fit: MultivariateFit, rho: float) -> MultivariateFit:
    V = fit.pairs.V.copy()
    V[:, 0, 1] = V[:, 1, 0] = rho * np.sqrt(V[:, 0, 0] * V[:, 1, 1])
    return replace(fit, pairs=replace(fit.pairs, V=V))


def _plane(fit: MultivariateFit, table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Studies and the average in the plane of both outcomes, with 95 % ellipses."""
    if ax is None:
        _, ax = plt.subplots(figsize=(6.4, 5.2), layout="constrained")
    circle = np.linspace(0, 2 * np.pi, 120)
    round_ = np.sqrt(-2 * np.log(0.05)) * np.stack([np.cos(circle), np.sin(circle)])
    both = fit.pairs.seen.all(axis=1)
    for y, V in zip(fit.pairs.y[both], fit.pairs.V[both], strict=True):
        x = y[:, None] + np.linalg.cholesky(V) @ round_
        ax.plot(*x, color=GREY, lw=0.7)
        ax.scatter(y[0], y[1], color=GREY, s=12)
    mu = fit.posterior["mu"].to_numpy().reshape(-1, 2)
    x = mu.mean(axis=0)[:, None] + np.linalg.cholesky(np.cov(mu.T)) @ round_
    mean = table["mean"].to_numpy(dtype=float)
    ax.plot(*x, color=BLUE, lw=2, label="average effects, 95 % ellipse")
    ax.scatter(mean[0], mean[1], color=ORANGE, zorder=3, label="posterior mean")
    ax.plot([], [], color=GREY, lw=0.7, label="studies, 95 % sampling ellipses")
    ax.axhline(0, color="black", lw=0.6, zorder=0)
    ax.axvline(0, color="black", lw=0.6, zorder=0)
    ax.set_xlabel(f"effect on {fit.outcomes[0]}")
    ax.set_ylabel(f"effect on {fit.outcomes[1]}")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=8, frameon=False)
    return ax
