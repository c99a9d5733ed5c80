"""The studies' own effects: raw, shrunken, and how much each counts."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.special import ndtri

from bayesmixed.fit import Fit
from bayesmixed.meta._estimates import (
    COLUMNS,
    Synthesis,
    from_draws,
    from_mixture,
    read,
    with_ratios,
)
from bayesmixed.meta._forest import Summaries, forest
from bayesmixed.meta._weights import weights_of
from bayesmixed.reports._report import Report, convergence_caveats

type Floats = NDArray[np.float64]


def study_effects(fit: Fit) -> Report:
    r"""Raw and shrunken effect of every study, and its weight in the pooled effect.

    Parameters
    ----------
    fit : Fit
        From `meta_analysis`, or any normal model with a known ``sampling_sd``.

    Returns
    -------
    Report
        A row a study: ``raw`` with its ``se`` and 95 % confidence interval (``raw_lb``,
        ``raw_ub``), the shrunken ``mean``, ``sd``, ``median`` and 95 % equal-tailed interval,
        ``reliability`` :math:`\tau^2 / (\tau^2 + v_i)` and ``weight`` in the pooled effect [1]_,
        both averaged over the posterior of tau. For logarithms of ratios also the raw ratio with
        its confidence interval (``raw_ratio``, ``raw_ratio_lb``, ``raw_ratio_ub``) and median and
        interval of the shrunken one (``ratio``, ``ratio_lb``, ``ratio_ub``).

    Raises
    ------
    BayesmixedError
        As `pooled_effects`.

    References
    ----------
    .. [1] The derivative of mu with respect to the study's effect: Röver (2020), J. Stat. Softw.
       93(6), section 2.12. Of several levels: row sums of the precision matrix, as metafor's
       ``weights(fit, type="rowsum")``. Under Student's t: given the variance of the normal that
       each study's effect is from. Of counts: with the normal approximation at every draw
       (Breslow & Clayton 1993, J. Am. Stat. Assoc. 88:9).

    Examples
    --------
    >>> import bayesmixed as bm
    >>> trials = bm.datasets.load("bcg")
    >>> fit = bm.meta_analysis(trials, "yi", "sei", "trial", measure="RR", method="grid", seed=1)
    >>> int(bm.study_effects(fit).table["weight"].idxmax())
    8
    """
    found = read(fit)
    table = study_table(found)
    name, ratio = str(table.index.name), found.ratio
    raw = {"raw_ratio": "raw", "raw_ratio_lb": "raw_lb", "raw_ratio_ub": "raw_ub"}
    shown = with_ratios(with_ratios(table, ratio, **raw), ratio)
    exponentials = (
        f" Ratios: the {ratio}, the exponential of the raw effect and its interval, and of the "
        "shrunken one's median and interval."
        if ratio
        else ""
    )
    effects = found.effects()
    draws = xr.DataArray(effects, dims=("chain", "draw", name), coords={name: table.index})
    weighted = (
        " Weight: the row's share in mu, averaged over the posterior of tau; what is left to 1 "
        f"is the prior's share{_approximate(found)}."
        if "weight" in table
        else ""
    )
    return Report(
        "Effects of the studies",
        shown,
        draws.to_dataset(name="effect"),
        f"Each study's {found.label}: raw, with its 95 % confidence interval from its own standard "
        "error, and the true effect in that study given all studies (posterior mean, sd, median "
        "and 95 % equal-tailed interval). Reliability: how far the study's own data are trusted, "
        f"from 0 (all borrowed) to 1 (all its own).{weighted}{exponentials}",
        (
            "Shrunken effects are right on average over studies, not for a study that is known to "
            "differ; add what makes it differ as a moderator.",
            *convergence_caveats(fit),
        ),
        ("Röver (2020), Journal of Statistical Software 93(6).",),
        {"forest": partial(forest, table, Summaries(found.label, ratio))},
    )


def _approximate(found: Synthesis) -> str:
    """What is to be said of weights in a model of counts."""
    counts = found.treatment is not None
    return "; of counts it is that of their normal approximation at every draw" if counts else ""


def study_table(found: Synthesis) -> pd.DataFrame:
    """A row a study, as in the data: raw, shrunken, reliability and weight."""
    y, v, labels, place = found.raw.y, found.raw.v, found.raw.labels, found.raw.place
    half = ndtri(0.975) * np.sqrt(v)
    if found.exact is not None:
        numbers = from_mixture(found.exact.studies)[place]
    else:
        numbers = from_draws(found.effects())
    raw = {"raw": y, "se": np.sqrt(v), "raw_lb": y - half, "raw_ub": y + half}
    shrunken = dict(zip(COLUMNS, numbers.T, strict=True))
    table = pd.DataFrame(raw | shrunken, index=labels)
    if len(found.groupings) == 1:
        table["reliability"] = found.reliability()
    weight = found.exact.pooling_weights[place] if found.exact else weights_of(found)
    if weight is not None:
        table["weight"] = weight
    return table
