r"""How a parameter is spread over many outcomes, learned from their posteriors.

The idea is limma's (Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3:3): an outcome with few rows says
little about its own variance, but thousands of outcomes say where variances lie. Here each of them
has been fitted with a prior :math:`q_g` of its own, which leaves draws :math:`z_{gs}` of the log
of the parameter. With a normal distribution of the logs over the outcomes, the likelihood of its
mean and standard deviation is, but for a constant,

.. math:: \prod_g \frac1S \sum_s \frac{N(z_{gs} \mid \mu, \omega)}{q_g(z_{gs})},

which is maximised, after multiplication by :math:`\omega` once: that keeps a few outcomes from
being taken for all alike, and is soon forgotten as there are more (Chung et al. 2013, Psychometrika
78:685). The lognormal has a longer right tail than limma's scaled inverse chi-square
but is nearly the same distribution, and it is as good for standard deviations of groups and for
overdispersions as for a residual standard deviation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from arviz_stats.base import array_stats
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from bayesmixed._errors import DataError
from bayesmixed.priors import Prior
from bayesmixed.tables import formats

type Floats = NDArray[np.float64]

_LEAST_OUTCOMES = 3
# Narrower than this is no spread at all, and would make the sampler's steps small.
_LEAST_SPREAD = 0.02
_MOST_SPREAD = 10.0
# Vehtari, Simpson, Gelman, Yao & Gabry (2024), JMLR 25:72.
_MAX_K = 0.7


@dataclass(frozen=True)
class Moderation:
    """Priors learned across outcomes.

    Parameters
    ----------
    table : DataFrame
        A row a parameter: ``median`` over the outcomes, mean ``mu`` and standard deviation
        ``sigma`` of its logarithm, their standard errors ``mu_se`` and ``sigma_se``, and the
        number of ``outcomes`` and how many of them were ``hard``: their own draws reach the
        learned prior so poorly (Pareto k above 0.7) that they hardly inform it.
    """

    table: pd.DataFrame = field(repr=False)

    @property
    def priors(self) -> dict[str, Prior]:
        """A lognormal prior for each parameter."""
        return {
            str(name): Prior("LogNormal", mu=float(mu), sigma=float(sigma))
            for name, mu, sigma in zip(
                self.table.index, self.table["mu"], self.table["sigma"], strict=True
            )
        }

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values (for JSON)."""
        return {str(name): dict(row) for name, row in self.table.to_dict(orient="index").items()}

    def __str__(self) -> str:
        """The table."""
        return self.table.rename_axis(None).to_string(formatters=formats(self.table))

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, float]]) -> Moderation:
        """Rebuild from `to_dict`."""
        table = pd.DataFrame.from_dict(dict(values), orient="index")
        return cls(table.rename_axis("parameter"))


def learn(names: Sequence[str], logs: Floats, log_priors: Floats) -> Moderation:
    """Learn how parameters are spread over outcomes, by maximum marginal likelihood.

    Parameters
    ----------
    names : sequence of str
        The parameters.
    logs : array, shape (outcomes, draws, parameters)
        Draws of their logarithms, each outcome fitted by itself.
    log_priors : array, of the same shape
        Log-density of the prior that each was fitted with, of the logarithm, at the draws.

    Returns
    -------
    Moderation

    Raises
    ------
    DataError
        If there are too few outcomes.
    """
    outcomes, _, size = logs.shape
    if outcomes < _LEAST_OUTCOMES:
        raise DataError(
            f"{outcomes} outcomes could be fitted; to learn how {', '.join(names)} vary over "
            f"outcomes takes at least {_LEAST_OUTCOMES}, and tens to do it well. Leave out "
            "`moderate`."
        )
    means = logs.mean(axis=1)
    start = np.concatenate(
        [np.median(means, axis=0), np.log(np.clip(means.std(axis=0), 0.1, _MOST_SPREAD))]
    )
    least, most = np.log(_LEAST_SPREAD), np.log(_MOST_SPREAD)
    found = minimize(
        partial(_objective, logs=logs, log_priors=log_priors),
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(None, None)] * size + [(least, most)] * size,
    )
    mu, sigma = found.x[:size], np.exp(found.x[size:])
    errors = _errors(_weighted(found.x, logs, log_priors)[1])
    # ArviZ takes the logarithms of the inverse weights.
    with np.errstate(all="ignore"):
        _, k = array_stats.psislw(-_ratios(found.x, logs, log_priors), axis=-1)
    table = pd.DataFrame(
        {
            "median": np.exp(mu),
            "mu": mu,
            "sigma": sigma,
            "mu_se": errors[:size],
            "sigma_se": errors[size:] * sigma,
            "outcomes": outcomes,
            "hard": int((np.asarray(k) > _MAX_K).sum()),
        },
        index=pd.Index(names, name="parameter"),
    )
    return Moderation(table)


def _ratios(x: Floats, logs: Floats, log_priors: Floats) -> Floats:
    """Log of learned over own prior density at every draw, shape (outcomes, draws)."""
    size = logs.shape[-1]
    mu, log_sigma = x[:size], x[size:]
    z = (logs - mu) / np.exp(log_sigma)
    return np.asarray((-0.5 * z**2 - log_sigma - log_priors).sum(axis=-1))


def _weighted(x: Floats, logs: Floats, log_priors: Floats) -> tuple[Floats, Floats]:
    """Log-likelihood of every outcome, and its gradient, shape (outcomes, 2 x parameters)."""
    ratios = _ratios(x, logs, log_priors)
    each = logsumexp(ratios, axis=1)
    weights = np.exp(ratios - each[:, None])
    size = logs.shape[-1]
    sigma = np.exp(x[size:])
    z = (logs - x[:size]) / sigma
    first = np.einsum("gs,gsk->gk", weights, z)
    second = np.einsum("gs,gsk->gk", weights, z**2)
    return each, np.concatenate([first / sigma, second - 1], axis=1)


def _objective(x: Floats, logs: Floats, log_priors: Floats) -> tuple[float, Floats]:
    each, scores = _weighted(x, logs, log_priors)
    outcomes, size = len(each), len(x) // 2
    slope = scores.mean(axis=0) + np.repeat([0.0, 1 / outcomes], size)
    return -float(each.mean() + x[size:].sum() / outcomes), -slope


def _errors(scores: Floats) -> Floats:
    """Standard errors from the outcomes' gradients at the maximum."""
    information = scores.T @ scores
    return np.sqrt(np.maximum(np.diag(np.linalg.pinv(information)), 0))
