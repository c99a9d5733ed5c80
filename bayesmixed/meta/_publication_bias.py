"""How far publication bias changes a meta-analysis, averaged over ways to bias."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import logsumexp

from bayesmixed._errors import BayesmixedError, DataError, PriorError, lookup
from bayesmixed.fit import Fit
from bayesmixed.meta._bias_grid import Cell, Studies, cells
from bayesmixed.meta._bias_models import Bias, NoBias, Selection, SmallStudy, default_biases
from bayesmixed.meta._bias_pictures import posterior_picture, weight_picture
from bayesmixed.meta._estimates import COLUMNS, PROBS, Synthesis, read
from bayesmixed.meta._grid import grid_posterior
from bayesmixed.meta._reference_priors import is_proper
from bayesmixed.predictor import INTERCEPT
from bayesmixed.reports._report import Report

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BiasReport(Report):
    """A report with the single models behind the average.

    Parameters
    ----------
    models : pandas.DataFrame
        A row a model: ``bias``, ``effect``, ``heterogeneity``, prior and posterior probability,
        logarithm of the marginal likelihood, posterior mean of ``mu`` and ``tau``.
    """

    models: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True, eq=False)
class Weighed:
    """One model with its probabilities."""

    bias: Bias
    effect: bool
    varies: bool
    prior: float
    posterior: float
    cell: Cell


def publication_bias(
    fit: Fit,
    direction: Literal["positive", "negative"] | None = None,
    biases: Sequence[tuple[Bias, float]] | None = None,
    draws: int = 4000,
    seed: int | None = None,
) -> BiasReport:
    r"""Effect and heterogeneity averaged over models with and without publication bias.

    Models are with or without effect (:math:`\mu = 0`), with or without heterogeneity, and: without
    bias (prior probability 1/2), with one of six step functions of the p-value as the relative
    probability of publication (1/4 together), PET or PEESE (1/8 each), as RoBMA-PSMA [1]_. Priors
    of mu and tau are the fit's; weights are cumulative sums of Dirichlet(1, ..., 1); the
    coefficient of PET is half-Cauchy(1), that of PEESE half-Cauchy(10 / U), U the unit-information
    sd where the measure has one, else 4 root mean squares of the effects. Marginal likelihoods
    are sums over grids, without Monte Carlo.

    Parameters
    ----------
    fit : Fit
        From `meta_analysis`, with a row a study, without moderators, and a normal prior of mu.
    direction : {"positive", "negative"}, optional
        Which significant results are the ones to be published; the sign of the inverse-variance
        average unless given.
    biases : sequence of (bias, float), optional
        Ways to bias with their prior probabilities, in place of those above: ``NoBias()``,
        ``Selection(sides, cuts)``, ``SmallStudy(name, power, scale)`` of `bayesmixed.meta`.
    draws, seed
        Draws from the average.

    Returns
    -------
    BiasReport
        Rows ``effect``, ``heterogeneity``, ``bias``: prior and posterior probability and inclusion
        Bayes factor; ``mu`` and ``tau`` averaged over all models (with their mass at 0), ``mu |
        effect`` over those with an effect, ``mu | effect, no bias`` also without bias; ``omega``,
        the relative probability of publication by one-sided p-value, over models with selection.
        Exact up to the grid's error (about 1e-4 in logarithms of evidence). ``models`` has every
        model. Pictures ``posterior`` and ``weights``.

    Raises
    ------
    BayesmixedError
        If the fit is another model, or its prior of mu is not normal.

    References
    ----------
    .. [1] Bartoš, Maier, Wagenmakers, Doucouliagos & Stanley (2022), Res. Synth. Methods 14:99.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> smoking = bm.datasets.load("hackshaw1998")
    >>> fit = bm.meta_analysis(smoking, "yi", "sei", measure="OR", method="grid", seed=1)
    >>> report = bm.publication_bias(fit, seed=1)
    >>> bool(report.table.loc["mu", "mean"] < report.table.loc["mu | effect, no bias", "mean"])
    True
    """
    found = read(fit)
    sign = _sign(fit, direction)
    studies = _studies(fit, found, sign)
    unit = found.measure.unit_sd if found.measure and found.measure.unit_sd else None
    size = unit or 4 * float(np.sqrt(np.mean(studies.y**2)))
    chosen = default_biases(size) if biases is None else tuple(biases)
    if not chosen or any(not weight > 0 for _, weight in chosen):
        raise BayesmixedError("biases are pairs of a bias and its prior probability, above 0.")
    models = _weigh(studies, chosen)
    estimates = {
        "mu": _mu(models, sign),
        "tau": _tau(models),
        "mu | effect": _mu([m for m in models if m.effect], sign),
        "tau | heterogeneity": _tau([m for m in models if m.varies]),
    }
    plain = [m for m in models if m.effect and isinstance(m.bias, NoBias)]
    if plain:
        estimates["mu | effect, no bias"] = _mu(plain, sign)
    weights = _omega([m for m in models if isinstance(m.bias, Selection)])
    table = _table(models, estimates, weights, found)
    return BiasReport(
        "Publication bias",
        table,
        _draws(models, sign, draws, seed),
        f"Average effect ({found.label}) and sd between studies over models with and without "
        "effect, heterogeneity and publication bias, by posterior probability. prior and posterior "
        "are probabilities, BF the inclusion Bayes factor; 95 % equal-tailed intervals (mass at 0 "
        "included). Published are rather "
        f"{'positive' if sign > 0 else 'negative'} effects; omega is the probability of "
        "publication, relative to the most significant results, given selection. Priors: mu "
        f"~ Normal(mu={sign * studies.mean:.3g}, sigma={studies.sd:.3g}), tau as in the fit.",
        _caveats(models, len(studies.y)),
        (
            "Bartoš, Maier, Wagenmakers, Doucouliagos & Stanley (2022), Res. Synth. Methods 14:99.",
            "Vevea & Hedges (1995), Psychometrika 60:419-435.",
            "Stanley & Doucouliagos (2014), Research Synthesis Methods 5:60-78.",
        ),
        {
            "posterior": partial(posterior_picture, *_curves(models, plain, sign), found.label),
            "weights": partial(weight_picture, weights),
        },
        models=_model_table(models, sign),
    )


def _sign(fit: Fit, direction: str | None) -> float:
    if direction is not None:
        return lookup({"positive": 1.0, "negative": -1.0}, direction, "direction")
    design = fit.design
    assert design.sampling_sd is not None
    return 1.0 if float(np.sum(design.y / design.sampling_sd**2)) >= 0 else -1.0


def _studies(fit: Fit, found: Synthesis, sign: float) -> Studies:
    """The studies, checked and turned."""
    if found.measure is not None and not found.measure.compares:
        raise BayesmixedError(
            f"A {found.measure.title} of 0 is not the absence of an effect, which models of "
            "publication bias need; they are for comparisons of groups and correlations."
        )
    if fit.design.predictors["mu"].terms != (INTERCEPT,):
        raise BayesmixedError(
            "publication_bias is for an average effect without moderators; fit "
            "meta_analysis(...) without them, or one group of studies at a time."
        )
    grid = grid_posterior(fit)
    if grid.prior is None:
        raise BayesmixedError("Fit with common=False: heterogeneity needs a prior here.")
    precision = float(grid.regression.precision[0])
    if precision == 0:
        raise PriorError(
            "A flat prior of mu has no marginal likelihood; give meta_analysis a normal one."
        )
    if not is_proper(grid.prior):
        raise PriorError(
            "An improper prior of tau has no marginal likelihood; give meta_analysis a proper one, "
            'such as priors={"tau": Prior("HalfNormal", sigma=0.5)}.'
        )
    if len(grid.regression.y) < 3:
        raise DataError("Of two studies nothing can be said of publication bias; three are needed.")
    return Studies(
        sign * grid.regression.y,
        np.sqrt(grid.regression.v),
        sign * float(grid.regression.mean[0]),
        precision**-0.5,
        grid.prior,
    )


def _weigh(studies: Studies, biases: Sequence[tuple[Bias, float]]) -> list[Weighed]:
    total = sum(weight for _, weight in biases)
    found = [
        (bias, *key, weight / total / 4, cell)
        for bias, weight in biases
        for key, cell in cells(studies, bias).items()
    ]
    logs = np.array([np.log(prior) + cell.log_evidence for *_, prior, cell in found])
    shares = np.exp(logs - logsumexp(logs))
    return [
        Weighed(bias, effect, varies, prior, float(share), cell)
        for (bias, effect, varies, prior, cell), share in zip(found, shares, strict=True)
    ]


def _shares(models: list[Weighed]) -> Floats:
    posterior = np.array([m.posterior for m in models])
    return np.asarray(posterior / posterior.sum())


def _quantile(cdf: Callable[[float], float], low: float, high: float, p: float) -> float:
    if cdf(low) >= p:
        return low
    return float(brentq(lambda x: cdf(x) - p, low, high, xtol=1e-10))


def _summary(mean: float, square: float, quantiles: list[float]) -> Floats:
    return np.array([mean, np.sqrt(max(square - mean**2, 0)), *quantiles])


def _mu(models: list[Weighed], sign: float) -> Floats:
    """Columns `COLUMNS` of the average effect."""
    shares = _shares(models)
    mean = sum(s * m.cell.mu_power(1) for s, m in zip(shares, models, strict=True))
    square = sum(s * m.cell.mu_power(2) for s, m in zip(shares, models, strict=True))

    def cdf(x: float) -> float:
        return float(sum(s * m.cell.mu_cdf(x) for s, m in zip(shares, models, strict=True)))

    low = min(float(m.cell.mu.min()) for m in models) - 1e-3
    high = max(float(m.cell.mu.max()) for m in models) + 1e-3
    found = [sign * _quantile(cdf, low, high, p if sign > 0 else 1 - p) for p in PROBS]
    return _summary(sign * mean, square, found)


def _tau(models: list[Weighed]) -> Floats:
    shares = _shares(models)
    mean = sum(s * m.cell.tau_power(1) for s, m in zip(shares, models, strict=True))
    square = sum(s * m.cell.tau_power(2) for s, m in zip(shares, models, strict=True))

    def cdf(x: float) -> float:
        return float(sum(s * m.cell.tau_cdf(x) for s, m in zip(shares, models, strict=True)))

    high = max(float(m.cell.tau[-1]) for m in models)
    return _summary(mean, square, [_quantile(cdf, 0.0, high * 1.001 + 1e-12, p) for p in PROBS])


def _omega(models: list[Weighed]) -> pd.DataFrame:
    """Probability of publication by intervals of the one-sided p-value, over selection models."""
    if not models:
        return pd.DataFrame(columns=["from", "to", *COLUMNS])
    edges = {0.0, 1.0}
    for m in models:
        assert isinstance(m.bias, Selection)
        cuts = np.array(m.bias.cuts) / m.bias.sides
        edges |= set(cuts.tolist()) | (set((1 - cuts).tolist()) if m.bias.sides == 2 else set())
    ends = np.array(sorted(edges))
    middle = (ends[:-1] + ends[1:]) / 2
    values, weights = [], []
    for share, m in zip(_shares(models), models, strict=True):
        assert isinstance(m.bias, Selection)
        p = middle if m.bias.sides == 1 else 2 * np.minimum(middle, 1 - middle)
        step = (p[:, None] > np.array(m.bias.cuts)).sum(axis=1)
        values.append(m.bias.nodes(coarse=False)[0][:, step])
        weights.append(share * m.cell.nuisance)
    every, weight = np.concatenate(values), np.concatenate(weights)
    rows = []
    for column in every.T:
        mean = weight @ column
        order = np.argsort(column)
        total = np.cumsum(weight[order])
        quantiles = [column[order][min(np.searchsorted(total, p), len(column) - 1)] for p in PROBS]
        rows.append([mean, np.sqrt(max(weight @ (column - mean) ** 2, 0)), *quantiles])
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.insert(0, "from", ends[:-1])
    table.insert(1, "to", ends[1:])
    return table


def _table(
    models: list[Weighed], estimates: dict[str, Floats], weights: pd.DataFrame, found: Synthesis
) -> pd.DataFrame:
    parts: dict[str, Callable[[Weighed], bool]] = {
        "effect": lambda m: m.effect,
        "heterogeneity": lambda m: m.varies,
        "bias": lambda m: not isinstance(m.bias, NoBias),
        "bias: selection": lambda m: isinstance(m.bias, Selection),
        "bias: small studies": lambda m: isinstance(m.bias, SmallStudy),
    }
    rows: dict[str, dict[str, float]] = {}
    for name, has in parts.items():
        prior = sum(m.prior for m in models if has(m))
        inside = sum(m.posterior for m in models if has(m))
        outside = sum(m.posterior for m in models if not has(m))
        if 0 < prior < 1:
            odds = inside / outside if outside > 0 else np.inf
            rows[name] = {"prior": prior, "posterior": inside, "BF": odds * (1 - prior) / prior}
    rows |= {name: dict(zip(COLUMNS, v, strict=True)) for name, v in estimates.items()}
    if found.measure is not None and found.measure.ratio:
        ends = ("median", "eti95_lb", "eti95_ub")
        for name in ("mu", "mu | effect"):
            rows[name.replace("mu", found.measure.ratio)] = {
                e: float(np.exp(rows[name][e])) for e in ends
            }
    for w in weights.to_dict("records"):
        name = f"omega[{w['from']:g} < p < {w['to']:g}]"
        rows[name] = {column: w[column] for column in COLUMNS}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "quantity"
    return table


def _model_table(models: list[Weighed], sign: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "bias": [m.bias.name for m in models],
            "effect": [m.effect for m in models],
            "heterogeneity": [m.varies for m in models],
            "prior": [m.prior for m in models],
            "posterior": [m.posterior for m in models],
            "log_evidence": [m.cell.log_evidence for m in models],
            "mu": [sign * m.cell.mu_power(1) for m in models],
            "tau": [m.cell.tau_power(1) for m in models],
        }
    )


def _draws(models: list[Weighed], sign: float, draws: int, seed: int | None) -> xr.Dataset:
    """Joint draws: a model, a node of tau, and mu from the function through its nodes."""
    if not draws > 0:
        raise BayesmixedError(f"draws={draws} must be above 0.")
    rng = np.random.default_rng(seed)
    which = rng.choice(len(models), size=draws, p=_shares(models))
    mu, tau = np.zeros(draws), np.zeros(draws)
    for i, m in enumerate(models):
        mine = np.flatnonzero(which == i)
        if not len(mine):
            continue
        flat = m.cell.weights.reshape(-1)
        node = rng.choice(len(flat), size=len(mine), p=flat / flat.sum())
        a, t = np.unravel_index(node, m.cell.weights.shape)
        step = m.cell.step[t] if m.effect else 0.0
        mu[mine] = m.cell.mu[a, t] + step * rng.uniform(-0.5, 0.5, len(mine))
        tau[mine] = m.cell.tau[t]
    biased = np.array([not isinstance(models[i].bias, NoBias) for i in which])
    dims = ("chain", "draw")
    return xr.Dataset(
        {
            "mu": (dims, sign * mu[None]),
            "tau": (dims, tau[None]),
            "bias": (dims, biased[None]),
        }
    )


def _curves(
    models: list[Weighed], plain: list[Weighed], sign: float
) -> tuple[Floats, dict[str, Floats], float]:
    """Densities of the average effect where there is one, and the probability of none."""
    having = [m for m in models if m.effect]
    centre, sd = _mu(having, 1.0)[:2]
    x = np.linspace(min(centre - 6 * sd, 0), max(centre + 6 * sd, 0), 1200)
    lines = {"averaged over models": having, "without bias": plain}
    found = {
        name: np.sum([s * m.cell.mu_pdf(x) for s, m in zip(_shares(of), of, strict=True)], axis=0)
        for name, of in lines.items()
        if of
    }
    none = sum(m.posterior for m in models if not m.effect)
    found["averaged over models"] = found["averaged over models"] * (1 - none)
    return sign * x, found, none


def _caveats(models: list[Weighed], count: int) -> tuple[str, ...]:
    said = ["Studies may have got lost in ways that none of these models describes."]
    if count < 10:
        said.append(f"{count} studies say little of publication bias: the prior matters.")
    small = sum(m.posterior for m in models if isinstance(m.bias, SmallStudy))
    if small > 0.25:
        said.append(
            "PET and PEESE ascribe to bias that small studies have larger effects; it may have "
            "other causes, such as other patients or doses."
        )
    return tuple(said)
