r"""Whether direct and indirect evidence agree.

The split of a comparison adds :math:`w` to what trials of both its treatments say of it, half at
each side (White 2015, Stata J. 15:951, section 3.4), so that the answer does not depend on which is
called first. The test of the whole network lets every design (set of treatments in a trial) have
effects of its own (Higgins et al. 2012, Res. Synth. Methods 3:98).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.linalg import qr
from scipy.stats import chi2

from bayesmixed._errors import PriorError
from bayesmixed.meta._estimates import from_mixture
from bayesmixed.meta._network import Network
from bayesmixed.meta._network_analysis import NetworkFit, network_grid
from bayesmixed.meta._network_pictures import network_plot, splits
from bayesmixed.priors import Prior
from bayesmixed.reports._report import Report

type Floats = NDArray[np.float64]

_GLOBAL, _NETWORK = "all designs", "network"


def network_consistency(fit: NetworkFit) -> Report:
    r"""Direct against indirect evidence, comparison by comparison and for the whole network.

    A comparison is split where trials compare its two treatments and where others, without one of
    them, connect the two [1]_. Direct and indirect effect share the heterogeneity and the prior of
    pairwise effects, which their difference has too. In trials of more arms half of the difference
    is at each of the two treatments [2]_. The row ``all designs`` lets every design (set of
    treatments that a trial compares) have effects of its own, with flat priors, and has as ``p``
    the posterior mass farther from the centre than consistency is:
    :math:`\int P(\chi^2_f > Q(\tau))\, p(\tau \mid y)\, d\tau` with Q the Wald statistic of the
    design-by-treatment interaction [3]_.

    Parameters
    ----------
    fit : NetworkFit
        From `network_meta_analysis`.

    Returns
    -------
    Report
        A row a comparison: ``direct``, ``indirect`` and ``network`` with their sd; ``mean``,
        ``sd`` and 95 % equal-tailed interval of direct less indirect; ``p``, twice the smaller
        posterior probability of a sign of that difference; ``tau``, the median heterogeneity of the
        model; ``trials``. Rows ``network`` and ``all designs`` have tau of the models without and
        with inconsistency, and ``df`` of the latter. Pictures ``splits`` and ``network``.

    References
    ----------
    .. [1] Dias, Welton, Caldwell & Ades (2010), Stat. Med. 29:932; van Valkenhoef, Dias, Ades &
       Welton (2016), Res. Synth. Methods 7:80, section 2.3.
    .. [2] White (2015), Stata J. 15:951, section 3.4.
    .. [3] Higgins, Jackson, Barrett, Lu, Ades & White (2012), Res. Synth. Methods 3:98.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> arms = bm.datasets.load("senn2013")
    >>> fit = bm.network_meta_analysis(arms, "MD", mean="mi", sd="sdi", n="ni", seed=1)
    >>> table = bm.network_consistency(fit).table
    >>> bool(table.loc["metformin - placebo", "p"] > 0.1)
    True
    """
    rows, draws, caveats = {}, {}, []
    for a, b in fit.network.edges():
        if fit.network.has_indirect(a, b):
            name = f"{fit.network.treatments[b]} - {fit.network.treatments[a]}"
            rows[name], draws[name] = _split(fit, a, b)
    compared = pd.DataFrame.from_dict(rows, orient="index")
    tau = {_NETWORK: {"tau": fit.grid.tau.quantile(0.5)}}
    extra = inconsistency(fit.network)
    if extra.shape[1]:
        try:
            tau[_GLOBAL] = _global(fit, extra)
        except PriorError:
            caveats.append(
                "With effects for every design the trials do not bound tau; give it a proper prior."
            )
    else:
        caveats.append("No design contradicts another: consistency cannot be checked.")
    table = pd.concat([compared, pd.DataFrame.from_dict(tau, orient="index")])
    table.index.name = "comparison"
    caveats.append(
        "That no inconsistency is seen does not show that there is none: intervals of the "
        "difference say how much there may be."
    )
    if len(rows) > 1:
        caveats.append(f"{len(rows)} comparisons are split; some p are small by chance.")
    pictures = {"splits": partial(splits, compared, fit.label)} if rows else {}
    return Report(
        "Consistency",
        table,
        xr.Dataset(
            {"difference": (("chain", "draw", "comparison"), np.stack([*draws.values()], axis=-1))}
            if draws
            else {},
            coords={"comparison": list(draws)} if draws else {},
        ),
        f"Direct and indirect evidence on the first treatment against the second ({fit.label}); "
        "mean, sd and 95 % equal-tailed interval are of direct less indirect; p is twice the "
        "posterior probability of its less likely sign, and for all designs the posterior mass "
        "farther out than consistency. tau is a median.",
        tuple(caveats),
        (
            "Dias, Welton, Caldwell & Ades (2010), Statistics in Medicine 29:932-944.",
            "White (2015), Stata Journal 15:951-985.",
            "Higgins et al. (2012), Research Synthesis Methods 3:98-110.",
        ),
        {**pictures, "network": partial(network_plot, fit.network)},
    )


def _split(fit: NetworkFit, a: int, b: int) -> tuple[dict[str, float], Floats]:
    """One row of the table, and draws of the difference."""
    network = fit.network
    grid = network_grid(
        network, fit.priors["d"], fit.grid.prior, split_column(network, a, b), ("split",)
    )
    pair = fit.contrast([(b, a)])[0]
    rows = np.stack([np.append(pair, 1.0), np.append(pair, 0.0), np.append(0 * pair, 1.0)])
    mixture = grid.effect(rows)
    direct, indirect, difference = from_mixture(mixture)
    together = from_mixture(fit.grid.effect(pair[None]))[0]
    below = float(mixture.cdf(0.0)[2])
    sizes = fit.posterior.sizes
    drawn = grid.sample(sizes["chain"] * sizes["draw"], seed=0)["beta"][:, -1]
    row = {
        "trials": len(network.edges()[(a, b)]),
        "direct": direct[0],
        "direct_sd": direct[1],
        "indirect": indirect[0],
        "indirect_sd": indirect[1],
        "network": together[0],
        "network_sd": together[1],
        "mean": difference[0],
        "sd": difference[1],
        "eti95_lb": difference[3],
        "eti95_ub": difference[4],
        "p": 2 * min(below, 1 - below),
        "tau": grid.tau.quantile(0.5),
    }
    return row, drawn.reshape(sizes["chain"], sizes["draw"])


def split_column(network: Network, a: int, b: int) -> Floats:
    """The difference of direct and indirect effect as a column, shape (rows, 1)."""
    sides = np.zeros((len(network.treatments), 1))
    sides[a], sides[b] = -0.5, 0.5
    columns = [
        trial.rows(len(sides)) @ sides * float({a, b} <= set(trial.arms))
        for trial in network.trials
    ]
    return network.transformed(columns)[2]


def inconsistency(network: Network) -> Floats:
    """Columns that, added to those of consistency, give every design effects of its own."""
    count = len(network.treatments)
    designs = sorted({tuple(sorted(trial.arms)) for trial in network.trials})
    own = [(design, arm) for design in designs for arm in design[1:]]
    columns = []
    for trial in network.trials:
        rows = trial.rows(count)
        mine = tuple(sorted(trial.arms))
        columns.append(
            np.stack([rows[:, arm] * float(design == mine) for design, arm in own], axis=1)
        )
    _, v, every = network.transformed(columns)
    weight = 1 / np.sqrt(v)[:, None]
    basis = np.linalg.qr(network.stacked()[2][:, 1:] * weight)[0]
    scaled = every * weight
    left = scaled - basis @ (basis.T @ scaled)
    _, r, pivots = qr(left, mode="economic", pivoting=True)
    rank = int((np.abs(np.diag(r)) > 1e-8 * np.abs(scaled).max()).sum())
    return np.asarray(every[:, np.sort(pivots[:rank])])


def _global(fit: NetworkFit, extra: Floats) -> dict[str, float]:
    names = tuple(f"w{i}" for i in range(extra.shape[1]))
    grid = network_grid(fit.network, Prior("Flat"), fit.grid.prior, extra, names)
    _, mean, covariance = grid.regression.given(grid.tau.tau)
    w, inner = mean[:, -len(names) :], covariance[:, -len(names) :, -len(names) :]
    wald = np.einsum("ti,ti->t", w, np.linalg.solve(inner, w[..., None])[..., 0])
    p = float(grid.tau.weights @ chi2.sf(wald, len(names)))
    return {"p": p, "df": float(len(names)), "tau": grid.tau.quantile(0.5)}
