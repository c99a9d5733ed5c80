"""The pooled effect of a meta-analysis, its heterogeneity, and what to expect of a new study."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, lookup
from bayesmixed.defaults import assign_priors
from bayesmixed.fit import Fit
from bayesmixed.meta._densities import written
from bayesmixed.meta._estimates import (
    COLUMNS,
    Synthesis,
    frame,
    from_draws,
    from_function_of_tau,
    from_mixture,
    named_draws,
    read,
)
from bayesmixed.meta._forest import Summaries, forest
from bayesmixed.meta._funnel import funnel
from bayesmixed.meta._grid import tau_prior_of
from bayesmixed.meta._regression import Regression
from bayesmixed.meta._studies import study_table
from bayesmixed.reports._report import Report, convergence_caveats

type Floats = NDArray[np.float64]

_FEW = 5


def pooled_effects(
    fit: Fit,
    margin: float | tuple[float, float] = 0.0,
    margin_scale: Literal["analysis", "ratio"] = "analysis",
) -> Report:
    r"""Average effect, heterogeneity, and the effect to expect in a new study.

    :math:`I^2 = \tau^2 / (\tau^2 + \tilde v)` and :math:`H^2 = 1 + \tau^2 / \tilde v` with the
    typical sampling variance :math:`\tilde v` of Higgins & Thompson [1]_ (with moderators
    :math:`(k - p) / \mathrm{tr}(P)`, as in metafor). The new study's effect is
    :math:`\theta \sim N(\mu, \tau^2)` over the posterior of both [2]_.

    Parameters
    ----------
    fit : Fit
        From `meta_analysis`, or any normal model with a known ``sampling_sd``.
    margin : float or (float, float)
        The table has the posterior probabilities of effects above it; of two, those below the
        lower, between them (equivalence, say) and above the upper one.
    margin_scale : {"analysis", "ratio"}
        Whether margins are on the scale of the analysis or ratios, such as ``(0.8, 1.25)``.

    Returns
    -------
    Report
        Rows ``mu`` (with moderators: at their means), ``tau``, ``tau2``, ``I2``, ``H2`` (where
        there are several levels, ``tau`` and ``I2`` of each), ``new study``, coefficients,
        probabilities (in column ``mean``), and for logarithms of ratios the ratios. Columns mean,
        sd, median and 95 % equal-tailed interval. From a grid the numbers are exact, and otherwise
        from the draws. Pictures ``forest`` and ``funnel``.

    Raises
    ------
    BayesmixedError
        If the outcomes have no known sampling sd, slopes vary between studies, or a margin is not
        on its scale.

    References
    ----------
    .. [1] Higgins & Thompson (2002), Stat. Med. 21:1539, eq. 9 and 10.
    .. [2] Higgins, Thompson & Spiegelhalter (2009), J. R. Stat. Soc. A 172:137, section 4.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> trials = bm.datasets.load("bcg")
    >>> fit = bm.meta_analysis(trials, "yi", "sei", "trial", measure="RR", method="grid", seed=1)
    >>> report = bm.pooled_effects(fit, margin=(0.8, 1.25), margin_scale="ratio")
    >>> float(report.table.loc["P(risk ratio < 0.8)", "mean"]) > 0.95
    True
    """
    found = read(fit)
    ends = _margins(found, margin, margin_scale)
    rows = {"mu": _mu(found), **_between(found)}
    if found.groupings:
        rows["new study"] = from_mixture(found.prediction())
    rows |= _coefficients(found) | found.spread_rows()
    rows |= _probabilities(found, ends, margin_scale)
    table = frame(rows | _ratios(found, rows), "quantity")
    return Report(
        "Pooled effect",
        table,
        _draws(found),
        f"{_caption(found)} {_priors(found)}",
        (*_caveats(found, table), *convergence_caveats(fit)),
        (
            "Higgins & Thompson (2002), Statistics in Medicine 21:1539-1558.",
            "Higgins, Thompson & Spiegelhalter (2009), Journal of the Royal Statistical Society "
            "A 172:137-159.",
            *(["Röver (2020), Journal of Statistical Software 93(6)."] if found.exact else []),
        ),
        {
            "forest": partial(forest, study_table(found), _summaries(found, table)),
            "funnel": partial(funnel, study_table(found), _summaries(found, table)),
        },
    )


def _mu(found: Synthesis) -> Floats:
    if found.exact is not None:
        return from_mixture(found.exact.effect())
    return from_draws(found.mu()[..., None])


def _between(found: Synthesis) -> dict[str, Floats]:
    """Heterogeneity, each row of shape (1, 5)."""
    names = found.groupings
    if not names:
        return {}
    v = typical_variance(found)

    def share(tau: Floats) -> Floats:
        return np.asarray(tau**2 / (tau**2 + v))

    if found.exact is not None:
        functions = {
            "tau": (lambda tau: tau, 1.0),
            "tau2": (lambda tau: tau**2, 2.0),
            "I2": (share, 0.0),
            "H2": (lambda tau: 1 + tau**2 / v, 2.0),
        }
        nothing = np.full((1, len(COLUMNS)), np.nan)
        unknown = dict.fromkeys(("I2", "H2"), nothing) if np.isnan(v) else {}
        return {
            n: from_function_of_tau(found.exact, f, power)
            for n, (f, power) in functions.items()
            if n not in unknown
        } | unknown
    tau = found.tau()
    total = (tau**2).sum(axis=-1, keepdims=True)
    rows: dict[str, Floats] = {}
    several = len(names) > 1
    for level, name in enumerate(names):
        one = tau[..., level : level + 1]
        if several:
            rows[f"tau[{name}]"] = from_draws(one)
            rows[f"I2[{name}]"] = from_draws(one**2 / (total + v))
    return rows | {
        "tau": from_draws(np.sqrt(total)),
        "tau2": from_draws(total),
        "I2": from_draws(total / (total + v)),
        "H2": from_draws(1 + total / v),
    }


def typical_variance(found: Synthesis) -> float:
    """The typical sampling variance of the studies."""
    raw = found.raw
    nothing = np.zeros(raw.X.shape[1])
    return Regression(raw.y, raw.v, raw.X, nothing, nothing).typical_variance


def _coefficients(found: Synthesis) -> dict[str, Floats]:
    terms = found.design.predictors["mu"].terms
    if found.treatment is not None:
        terms = tuple(t for t in terms if t.startswith(f"{found.treatment}:"))
        slopes = found.moderator_slopes()
        return {f"beta[{t}]": from_draws(slopes[..., [k]]) for k, t in enumerate(terms)}
    if len(terms) == 1:
        return {}
    if found.exact is not None:
        values = from_mixture(found.exact.coefficients)
    else:
        values = from_draws(found.fit.posterior["beta"].to_numpy())
    return {f"beta[{term}]": row for term, row in zip(terms, values, strict=True)}


def _margins(found: Synthesis, margin: float | tuple[float, float], scale: str) -> Floats:
    """One or two margins on the scale of the analysis, checked."""
    lookup({"analysis": 0, "ratio": 0}, scale, "scale of margins")
    given = np.atleast_1d(np.asarray(margin, dtype=float))
    if given.ndim > 1 or len(given) > 2 or not np.isfinite(given).all():
        raise BayesmixedError(
            f"margin={margin!r}: a finite number is needed, such as 0, or two of them."
        )
    if (np.diff(given) <= 0).any():
        raise BayesmixedError(f"margin={margin!r}: of two, the lower one comes first.")
    if scale == "analysis":
        return given
    if not found.ratio:
        raise BayesmixedError(
            f"The effects ({found.label}) are not known to be logarithms of ratios, so that no "
            'margin is a ratio; say what they are with meta_analysis(..., measure="OR"), or use '
            'margin_scale="analysis".'
        )
    if (given <= 0).any():
        raise BayesmixedError(f"margin={margin!r}: a ratio is above 0, such as 0.8.")
    return np.log(given)


def _probabilities(found: Synthesis, ends: Floats, scale: str) -> dict[str, Floats]:
    """Posterior probabilities above a margin, or on both sides of two and between them."""
    above = {"mu": np.array([_mu_above(found, end) for end in ends])}
    if found.groupings:
        new = found.prediction()
        above["new study"] = np.array([float(new.sf(end)[0]) for end in ends])
    shown = [f"{end:.3g}" for end in (np.exp(ends) if scale == "ratio" else ends)]
    rows = {}
    for name, share in above.items():
        what = name if scale == "analysis" else _ratio_name(found, name)
        if len(ends) == 2:
            rows[f"P({what} < {shown[0]})"] = 1 - share[0]
            rows[f"P({shown[0]} < {what} < {shown[1]})"] = share[0] - share[1]
        rows[f"P({what} > {shown[-1]})"] = share[-1]
    rest = [np.nan] * (len(COLUMNS) - 1)
    return {name: np.array([share, *rest]) for name, share in rows.items()}


def _mu_above(found: Synthesis, end: float) -> float:
    if found.exact is not None:
        return float(found.exact.effect().sf(end)[0])
    return float((found.mu() > end).mean())


def _ratio_name(found: Synthesis, row: str) -> str:
    """What the exponential of a row is called."""
    return {"mu": found.ratio, "new study": f"{found.ratio}, new study"}[row]


def _ratios(found: Synthesis, rows: dict[str, Floats]) -> dict[str, Floats]:
    """Medians and intervals of ratios; their means need not exist."""
    if not found.ratio:
        return {}
    with np.errstate(over="ignore"):  # beyond what a number can hold it is infinite
        return {
            _ratio_name(found, of): np.array([np.nan, np.nan, *np.exp(rows[of].reshape(-1)[2:])])
            for of in ("mu", "new study")
            if of in rows
        }


def _draws(found: Synthesis) -> xr.Dataset:
    values = {"mu": found.mu()}
    if found.groupings:
        tau = found.tau()
        total = (tau**2).sum(axis=-1)
        values |= {f"tau[{n}]": tau[..., k] for k, n in enumerate(found.groupings)}
        values |= {"tau": np.sqrt(total), "I2": total / (total + typical_variance(found))}
        values["new study"] = found.new_draws()
    return named_draws(values)


def _summaries(found: Synthesis, table: pd.DataFrame) -> Summaries:
    row = table.T
    several = bool(found.groupings)
    return Summaries(
        found.label,
        found.ratio,
        row["mu"],
        row["new study"] if several else None,
        float(row["tau"]["median"]) if several else 0.0,
    )


def _caption(found: Synthesis) -> str:
    moderated = found.raw.X.shape[1] > 1
    where = ", at the means of the moderators over the studies" if moderated else ""
    count = len(found.raw.y)
    how = (
        "Computed by quadrature over tau, without Monte Carlo error."
        if found.exact
        else "Computed from the posterior draws."
    )
    if not found.groupings:
        return (
            f"mu: the {found.label} that all {count:,} estimates are taken to have in common"
            f"{where}. Posterior mean, sd, median and 95 % equal-tailed interval; P is a posterior "
            f"probability. {how}"
        )
    levels = " and ".join(found.groupings)
    ratio = (
        " Ratios are exponentials of mu and of the new study's effect (median and interval)."
        if found.ratio
        else ""
    )
    return (
        f"mu: the mean {found.label} over the population of {levels} that the {count:,} estimates "
        f"come from{where}. tau: {found.spread}. I2: share of tau2 in tau2 plus "
        "the typical sampling variance; H2 = 1 / (1 - I2). New study: the true effect in another "
        "study of that population, without its sampling error. Posterior mean, sd, median and 95 % "
        f"equal-tailed intervals; P is a posterior probability.{ratio} {how}"
    )


def _priors(found: Synthesis) -> str:
    """The priors of what varies, and the unit that default ones are scaled by."""
    priors = {name: assigned.prior for name, assigned in assign_priors(found.design).items()}
    if found.treatment is not None:  # baselines are of no interest here
        kept = (f"beta[{found.treatment}]", f"beta[{found.treatment}:", "sd_")
        priors = {n: p for n, p in priors.items() if n.startswith(kept)}
    own = tau_prior_of(found.fit)
    texts = {
        n: written(own) if own is not None and n.startswith("sd_") else p for n, p in priors.items()
    }
    shown = [f"{n} ~ {p}" for n, p in texts.items()]
    unit = found.fit.posterior.attrs.get("unit")
    return f"Priors: {'; '.join(shown)}" + (f"; {unit}." if unit else ".")


def _caveats(found: Synthesis, table: pd.DataFrame) -> list[str]:
    count = len(found.raw.y)
    known = (
        "Sampling variances are taken as known; with small studies or rare events a model of the "
        "counts (bm.meta_counts) is better."
    )
    counts = (
        "The model is one of the counts, to which nothing is added; raw effects in pictures, I2 "
        "and H2 take 1/2 for studies with a 0."
    )
    caveats = [
        counts if found.treatment else known,
        "Studies that were not published are missing here; see the funnel plot.",
    ]
    if not found.groupings:
        caveats.append("A common effect leaves no room for differences between studies.")
    elif count < _FEW:
        caveats.append(
            f"{count} studies say little about tau, and the intervals depend on its prior; see "
            "bm.prior_robustness(fit)."
        )
    if np.isinf(table["sd"].to_numpy(dtype=float)).any():
        caveats.append(
            "Where mean or sd is infinite or missing, the prior's tail is too heavy for it to "
            "exist; use the median and the interval."
        )
    return caveats
