"""Meta-analyses whose effects between studies are Student's t, or differ in how much they vary.

The studies' effects are integrated out, so that every study is a row of a family of
`between_studies`, and drawn from their exact distribution afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, PriorError, lookup
from bayesmixed.between_studies import log_mixing
from bayesmixed.data import Missing
from bayesmixed.defaults import assign_priors
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.meta._between_grid import values_of
from bayesmixed.meta._defaults import UnitInformation
from bayesmixed.meta._grid import coefficient_priors, standardised
from bayesmixed.meta._row_weights import row_weights
from bayesmixed.model import Model
from bayesmixed.names import coords, dims, sd_name
from bayesmixed.predictor import INTERCEPT
from bayesmixed.priors import Prior
from bayesmixed.sample import Settings

type Floats = NDArray[np.float64]

# Mean and sd of the logarithm of a half-normal variable with sd 1.
_LOG_HALF_NORMAL = (-0.635, 1.11)
# Rows times draws times nodes that are worked on at once.
_CHUNK = 5_000_000


@dataclass(frozen=True)
class Between:
    """How effects are distributed between studies.

    Parameters
    ----------
    shape : {"normal", "t"}
    nu : float, optional
        Degrees of freedom of Student's t; with a prior unless given.
    scale : str, optional
        Right-hand side of a formula for log tau.

    Raises
    ------
    BayesmixedError
        If there is no such distribution, or degrees of freedom that it does not have.
    """

    shape: str = "normal"
    nu: float | None = None
    scale: str | None = None

    def __post_init__(self) -> None:
        """Check what was asked."""
        lookup({"normal": 0, "t": 0}, self.shape, "between")
        if self.nu is None:
            return
        if self.shape == "normal":
            raise BayesmixedError('nu= is for between="t", whose degrees of freedom it is.')
        if isinstance(self.nu, bool) or not isinstance(self.nu, int | float | np.number):
            raise BayesmixedError(
                f"nu={self.nu!r}: a number from 0.5 is needed; a prior goes into "
                'priors={"nu": Prior(...)}.'
            )
        if not 0.5 <= self.nu < np.inf:
            raise BayesmixedError(
                f"nu={self.nu!r}: degrees of freedom from 0.5 are needed, such as 4; for a normal "
                'distribution use between="normal".'
            )

    @property
    def is_plain(self) -> bool:
        """Whether effects are normal with the same sd everywhere."""
        return self.shape == "normal" and self.scale is None

    @property
    def family(self) -> str:
        """Name of the family of outcomes."""
        return f"between_{self.shape}"

    @property
    def parameters(self) -> dict[str, str]:
        """Formulas of the family's parameters."""
        found = {}
        if self.scale is not None:
            found["tau"] = "~ " + self.scale.strip().removeprefix("~").strip()
        if self.nu is not None:
            found["nu"] = f"~ 0 + offset(log({float(self.nu)!r}))"
        return found

    def check(self, study: str, common: bool) -> None:
        """Refuse other levels between studies, and none.

        Raises
        ------
        BayesmixedError
            If there are.
        """
        if self.is_plain:
            return
        what = 'between="t"' if self.shape == "t" else "scale="
        if common:
            raise BayesmixedError(
                f"With a common effect nothing varies between studies: leave out {what}, or "
                "common=True."
            )
        if "/" in study:
            raise BayesmixedError(
                f"{what} is for one row a study; study={study!r} has effects in studies. Use one "
                "effect of each study, or the normal model."
            )


def model_of(
    formula: str,
    table: pd.DataFrame,
    deviation: str,
    missing: Missing,
    between: Between,
    defaults: Mapping[str, Prior],
    unit: UnitInformation,
    given: Mapping[str, Prior],
    study: str,
) -> tuple[Model, dict[str, Prior]]:
    """The model, and its default priors.

    Parameters
    ----------
    formula : str
        Of the average effect.
    table : pandas.DataFrame
    deviation : str
        Expression of the standard errors.
    missing : {"raise", "drop"}
    between : Between
    defaults : mapping of str to Prior
        Of the normal model.
    unit : UnitInformation
    given : mapping of str to Prior
        The user's, under the normal model's names.
    study : str
        The grouping, whose sd is tau there.
    """
    options: dict[str, Any] = {
        "family": between.family,
        "sampling_sd": deviation,
        "parameters": between.parameters,
        "missing": missing,
    }
    sd = sd_name("", study)
    own = {"tau" if name == sd else name: prior for name, prior in given.items()}
    if between.scale is not None and "tau" in own:
        raise PriorError(
            'With scale= there is no one "tau". Its priors are "Intercept_tau", of log tau at the '
            'means of the moderators, and "beta_tau[<term>]".'
        )
    plain = Model(formula, table, **options)
    every = {k: p for k, p in defaults.items() if k != sd}
    every |= _spread_priors(plain.design, 0.25 * unit.sd)
    kept = {k: p for k, p in every.items() if k.partition("[")[0] not in own}
    model = Model(formula, table, **options, priors=kept | own)
    return model, {k: p for k, p in kept.items() if k not in own}


def _spread_priors(design: Design, size: float) -> dict[str, Prior]:
    """Half-normal for tau, or normals of the same location and width for log tau."""
    predictor = design.predictors.get("tau")
    if predictor is None:
        return {"tau": Prior("HalfNormal", sigma=size)}
    mean, sd = _LOG_HALF_NORMAL
    level = Prior("Normal", mu=float(np.log(size)) + mean, sigma=sd)
    found = {}
    for k, term in enumerate(predictor.terms):
        if term == INTERCEPT:
            found["Intercept_tau"] = level
        elif predictor.has_intercept:
            spread = float(np.std(predictor.X[:, k]))
            found[f"beta_tau[{term}]"] = Prior("Normal", mu=0, sigma=1 / spread)
        else:
            found[f"beta_tau[{term}]"] = level
    return found


def fit_between(
    model: Model, labels: pd.Index[Any], method: str, settings: Settings
) -> tuple[xr.DataTree, tuple[str, ...]]:
    """Sample the model, or draw from its grid, and add the studies' effects.

    Parameters
    ----------
    model : Model
        Of a family of `between_studies`.
    labels : pandas.Index
        The studies' labels, whose name is the grouping's.
    method : {"nuts", "grid"}
    settings : Settings
    """
    if method == "grid":
        tree, notes = _grid_tree(model.design, settings), model.notes
    else:
        fit = model.fit(
            settings.draws, settings.tune, settings.chains, settings.seed, settings.progress,
            target_accept=0.9,
        )  # fmt: skip
        tree, notes = fit.tree, fit.notes
    posterior = tree["posterior"].to_dataset()
    effects, tau2 = study_deviations(Fit(model.design, tree), settings.seed)
    said = _shares(model.design, tau2)
    name = str(labels.name)
    dim = f"{name}_effect"
    posterior[f"u_{name}"] = (("chain", "draw", name, dim), effects[..., None])
    posterior = posterior.assign_coords({name: labels.to_numpy(), dim: [INTERCEPT]})
    tree["posterior"] = xr.DataTree(posterior.assign_attrs(study=name, **said))
    return tree, notes


def _shares(design: Design, tau2: Floats) -> dict[str, Floats]:
    """Each study's reliability and, where the estimate is linear, its weight; averages of draws."""
    assert design.sampling_sd is not None
    found = {"reliability": (tau2 / (tau2 + design.sampling_sd**2)).mean(axis=(0, 1))}
    priors = {name: assigned.prior for name, assigned in assign_priors(design).items()}
    raw, X = standardised(design, "mu")
    try:
        _, precision = coefficient_priors(design, "mu", raw, priors)
    except PriorError:
        return found
    x = raw.T @ design.predictors["mu"].X.mean(axis=0)
    total = (tau2 + design.sampling_sd**2).reshape(-1, len(X))
    return found | {"weight": row_weights(X, x, precision, total)}


def _grid_tree(design: Design, settings: Settings) -> xr.DataTree:
    shape = (settings.chains, settings.draws)
    values = values_of(design, settings.chains * settings.draws, settings.seed)
    inner, labels = dims(design), coords(design)
    posterior = xr.Dataset(
        {
            name: (("chain", "draw", *inner[name]), v.reshape(*shape, *v.shape[1:]))
            for name, v in values.items()
        }
    )
    labels |= {"chain": np.arange(shape[0]), "draw": np.arange(shape[1])}
    posterior = posterior.assign_coords({d: labels[str(d)] for d in posterior.sizes})
    return xr.DataTree.from_dict(
        {
            "posterior": posterior,
            "sample_stats": xr.Dataset(coords={"chain": labels["chain"], "draw": labels["draw"]}),
            "observed_data": xr.Dataset({"y": ("row", design.y)}),
        }
    )


def study_deviations(fit: Fit, seed: int | None) -> tuple[Floats, Floats]:
    r"""Draws of the studies' deviations from their regression, and of their variances.

    Given a study's precision :math:`\lambda` they are normal, as in any meta-analysis with
    :math:`\tau^2 / \lambda`; that is drawn from its own distribution by its distribution function
    on nodes, linear between them.

    Parameters
    ----------
    fit : Fit
        Of a family of `between_studies`.
    seed : int, optional

    Returns
    -------
    u : array, shape (chain, draw, study)
    tau2 : array, shape (chain, draw, study)
        The variance between studies that each has; under Student's t that of its own normal.
    """
    design, rng = fit.design, np.random.default_rng(seed)
    values = {n: design.links[n].inverse(v) for n, v in fit.parameters().items()}
    mu = values["mu"]
    y, sigma = design.y, values["sigma"][0, 0]
    tau2 = np.broadcast_to(values["tau"], mu.shape) ** 2
    if "nu" in values:
        log_lambda = _draw_log_precision(y, mu, sigma, values["tau"], values["nu"], rng)
        tau2 = tau2 * np.exp(-log_lambda)
    own = tau2 / (tau2 + sigma**2)
    u = own * (y - mu) + np.sqrt(own) * sigma * rng.normal(size=mu.shape)
    return u, tau2


def _draw_log_precision(
    y: Floats, mu: Floats, sigma: Floats, tau: Floats, nu: Floats, rng: np.random.Generator
) -> Floats:
    """Of every study in every draw, shape (chain, draw, study)."""
    flat = mu.reshape(-1, mu.shape[-1])
    tau, nu = (
        np.broadcast_to(v, (*mu.shape[:-1], v.shape[-1])).reshape(len(flat), -1) for v in (tau, nu)
    )
    step = max(1, _CHUNK // (128 * flat.shape[-1]))
    parts = []
    for first in range(0, len(flat), step):
        part = slice(first, first + step)
        x, values = log_mixing(y, flat[part], sigma, tau[part], nu[part])
        share = np.cumsum(np.exp(values - values.max(axis=0)), axis=0)
        uniform = rng.random(x.shape[1:]) * share[-1]
        at = np.minimum((share < uniform).sum(axis=0), len(x) - 1)[None]
        above = np.take_along_axis(share, at, axis=0)[0]
        below = np.where(at[0] > 0, np.take_along_axis(share, np.maximum(at - 1, 0), 0)[0], 0.0)
        inside = (uniform - below) / np.maximum(above - below, 1e-300) - 0.5
        parts.append(np.take_along_axis(x, at, axis=0)[0] + inside * (x[1] - x[0]))
    return np.concatenate(parts).reshape(mu.shape)
