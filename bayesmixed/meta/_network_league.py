"""All pairwise effects of a network, and the ranks of its treatments."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import lookup
from bayesmixed.meta._estimates import COLUMNS, from_mixture
from bayesmixed.meta._network_analysis import NetworkFit
from bayesmixed.meta._network_pictures import league, network_plot, rankogram, versus_reference
from bayesmixed.reports._report import Report

type Floats = NDArray[np.float64]

_SALANTI = "Salanti, Ades & Ioannidis (2011), Journal of Clinical Epidemiology 64:163-171."


def league_table(fit: NetworkFit, reference: str | None = None) -> Report:
    """Every treatment against every other, from the whole network.

    Parameters
    ----------
    fit : NetworkFit
        From `network_meta_analysis`.
    reference : str, optional
        Treatment that the forest plot compares with, and that stands first; the fit's unless given.

    Returns
    -------
    Report
        A row a pair (``treatment``, ``versus``): mean, sd, median and 95 % equal-tailed interval of
        the effect, exact from the grid; ``P(>0)``; ``new_lb`` and ``new_ub``, the 95 % prediction
        interval of the effect in a new trial; ``trials``, those that compare the two directly; for
        logarithms of ratios the median ratio with its interval. Pictures ``league`` (triangle of
        all pairs), ``forest`` (against the reference) and ``network`` (nodes by patients, edges by
        trials).

    Raises
    ------
    UnknownNameError
        If there is no such treatment.

    References
    ----------
    .. [1] Salanti, Ades & Ioannidis (2011), J. Clin. Epidemiol. 64:163.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> arms = bm.datasets.load("senn2013")
    >>> fit = bm.network_meta_analysis(arms, "MD", mean="mi", sd="sdi", n="ni", seed=1)
    >>> len(bm.league_table(fit).table)
    45
    """
    names = fit.network.treatments
    first = fit.network.place(reference) if reference is not None else 0
    order = [first, *(i for i in range(len(names)) if i != first)]
    pairs = [(b, a) for a, b in combinations(order, 2)]
    rows = fit.contrast(pairs)
    effect, new = fit.grid.effect(rows), fit.grid.prediction(rows)
    direct = fit.network.edges()
    table = pd.DataFrame(
        from_mixture(effect),
        columns=COLUMNS,
        index=pd.MultiIndex.from_tuples(
            [(names[a], names[b]) for a, b in pairs], names=["treatment", "versus"]
        ),
    )
    table["P(>0)"] = effect.sf(0.0)
    table["new_lb"], table["new_ub"] = new.quantile(0.025), new.quantile(0.975)
    table["trials"] = [len(direct.get((min(p), max(p)), [])) for p in pairs]
    if fit.ratio:
        table[fit.ratio] = np.exp(table["median"])
        table["ratio_lb"], table["ratio_ub"] = (np.exp(table[f"eti95_{e}"]) for e in ("lb", "ub"))
    d = fit.posterior["d"]
    drawn = (
        d.isel(treatment=[a for a, _ in pairs]).to_numpy()
        - d.isel(treatment=[b for _, b in pairs]).to_numpy()
    )
    labels = [f"{names[a]} - {names[b]}" for a, b in pairs]
    return Report(
        "League table",
        table,
        xr.Dataset(
            {
                "effect": (("chain", "draw", "pair"), drawn),
                "tau": fit.posterior["tau"],
            },
            coords={"pair": labels},
        ),
        f"Effect of `treatment` relative to `versus` ({fit.label}), on average over the trials' "
        "populations, from direct and indirect evidence under consistency. 95 % equal-tailed "
        "intervals; new_lb and new_ub enclose the effect in a new trial with probability 95 %."
        + (f" {fit.ratio} is the exponential, with ratio_lb and ratio_ub." if fit.ratio else ""),
        _caveats(fit),
        (_SALANTI, "Salanti, Higgins, Ades & Ioannidis (2008), Stat. Methods Med. Res. 17:279."),
        {
            "league": partial(league, table, [names[i] for i in order], fit.label, fit.ratio),
            "forest": partial(versus_reference, table, names[first], fit.label, fit.ratio),
            "network": partial(network_plot, fit.network),
        },
    )


def treatment_ranking(fit: NetworkFit, better: Literal["higher", "lower"]) -> Report:
    r"""Which treatment is best, second, ...: probabilities of ranks and SUCRA.

    The surface under the cumulative ranking curve is the average probability of being better
    than another treatment, :math:`\frac{1}{T - 1} \sum_{k \ne j} P(j \text{ better than } k)`
    [1]_ [2]_, which is exact here; rank probabilities are from the draws.

    Parameters
    ----------
    fit : NetworkFit
        From `network_meta_analysis`.
    better : {"higher", "lower"}
        Whether higher or lower effects are better; for log odds ratios of death ``"lower"``.

    Returns
    -------
    Report
        A row a treatment, the best first: ``sucra``, ``mean_rank``, ``median_rank`` with 95 %
        equal-tailed interval, and ``rank 1``, ``rank 2``, ...: the probability of each rank.
        Pictures ``rankogram`` and ``network``.

    Raises
    ------
    UnknownNameError
        If `better` is something else.

    References
    ----------
    .. [1] Salanti, Ades & Ioannidis (2011), J. Clin. Epidemiol. 64:163, section 3.
    .. [2] Rücker & Schwarzer (2015), BMC Med. Res. Methodol. 15:58.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> arms = bm.datasets.load("senn2013")
    >>> fit = bm.network_meta_analysis(arms, "MD", mean="mi", sd="sdi", n="ni", seed=1)
    >>> bm.treatment_ranking(fit, better="lower").table.index[0]
    'rosiglitazone'
    """
    sign = lookup({"higher": 1.0, "lower": -1.0}, better, "direction that is better")
    names, count = fit.network.treatments, len(fit.network.treatments)
    pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
    above = fit.grid.effect(sign * fit.contrast(pairs)).sf(0.0)
    sucra = above.reshape(count, count - 1).mean(axis=1)
    d = sign * fit.posterior["d"].to_numpy()
    ranks = 1 + (-d).argsort(axis=-1).argsort(axis=-1)
    flat = ranks.reshape(-1, count)
    table = pd.DataFrame(
        {
            "sucra": sucra,
            "mean_rank": 1 + (1 - sucra) * (count - 1),
            "median_rank": np.median(flat, axis=0),
            "eti95_lb": np.quantile(flat, 0.025, axis=0, method="inverted_cdf"),
            "eti95_ub": np.quantile(flat, 0.975, axis=0, method="inverted_cdf"),
        }
        | {f"rank {r}": (flat == r).mean(axis=0) for r in range(1, count + 1)},
        index=pd.Index(names, name="treatment"),
    ).sort_values("sucra", ascending=False)
    return Report(
        "Treatment ranking",
        table,
        xr.Dataset(
            {"rank": (("chain", "draw", "treatment"), ranks)}, coords={"treatment": list(names)}
        ),
        f"Ranks of the average effects ({fit.label}; {better} is better, rank 1 is best). sucra is "
        "the average probability of being better than another treatment: 1 for one that is "
        "certainly best, 0 for one that is certainly worst. 95 % equal-tailed intervals of ranks.",
        (
            "A rank says nothing of the size of a difference, and little data alone make first and "
            "last ranks likely; read it beside league_table.",
            *_caveats(fit),
        ),
        (_SALANTI, "Rücker & Schwarzer (2015), BMC Medical Research Methodology 15:58."),
        {
            "rankogram": partial(rankogram, table),
            "network": partial(network_plot, fit.network),
        },
    )


def _caveats(fit: NetworkFit) -> tuple[str, ...]:
    loops = any(fit.network.has_indirect(a, b) for a, b in fit.network.edges())
    said = (
        "Direct and indirect evidence are taken to agree; see network_consistency."
        if loops
        else "No comparison has both direct and indirect evidence: consistency cannot be checked."
    )
    few = len(fit.network.trials) < len(fit.network.treatments) + 3
    thin = "So few trials say little of tau: the prior matters." if few else ""
    return tuple(text for text in (said, thin) if text)
