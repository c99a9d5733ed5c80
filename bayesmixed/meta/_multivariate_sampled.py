"""Three and more correlated outcomes: the core's mixed model of whitened rows, by NUTS.

With the factor of a study's sampling covariance, :math:`V_i = L_i L_i'`, its estimates
:math:`L_i^{-1} y_i` are independent with standard error 1, and their predictors are the rows of
:math:`L_i^{-1}`. That is an ordinary mixed model, whose effects are integrated out exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesmixed import plots
from bayesmixed.fit import Fit
from bayesmixed.meta._estimates import COLUMNS, from_draws, from_mixture, named_draws
from bayesmixed.meta._mixture import NormalMixture
from bayesmixed.model import Model
from bayesmixed.priors import Prior
from bayesmixed.reports._report import Report, convergence_caveats
from bayesmixed.sample import Settings
from bayesmixed.spec import quoted

type Floats = NDArray[np.float64]

_EFFECT, _ERROR = "whitened", "unit"


def whitened(
    y: Floats,
    V: Floats,
    seen: NDArray[np.bool_],
    studies: Sequence[Any],
    outcomes: Sequence[str],
    study: str,
) -> pd.DataFrame:
    """A row for each estimate, made independent of the others of its study.

    Parameters
    ----------
    y : array, shape (studies, outcomes)
    V : array, shape (studies, outcomes, outcomes)
    seen : array of bool, shape (studies, outcomes)
    studies, outcomes : sequence of str
    study : str
        What the column of studies is called.
    """
    rows, labels = [], []
    for i, name in enumerate(studies):
        at = np.flatnonzero(seen[i])
        factor = np.linalg.inv(np.linalg.cholesky(V[i][np.ix_(at, at)]))
        X = np.zeros((len(at), len(outcomes)))
        X[:, at] = factor
        rows.append(np.column_stack([factor @ y[i, at], X]))
        labels += [name] * len(at)
    table = pd.DataFrame(np.vstack(rows), columns=[_EFFECT, *map(_column, outcomes)])
    table[study], table[_ERROR] = labels, 1.0
    return table


def _column(outcome: str) -> str:
    """What the column of an outcome is called: a number alone would look like an intercept."""
    return f"on {outcome}"


def sample_outcomes(
    table: pd.DataFrame,
    outcomes: Sequence[str],
    study: str,
    priors: Mapping[str, Prior],
    settings: Settings,
) -> Fit:
    """Sample the average effects and the covariance between studies.

    Parameters
    ----------
    table : pandas.DataFrame
        From `whitened`.
    outcomes : sequence of str
    study : str
    priors : mapping of str to Prior
        ``mu[<outcome>]``, ``tau[<outcome>]`` and ``rho``.
    settings : Settings
    """
    columns = [_column(o) for o in outcomes]
    terms = " + ".join(map(quoted, columns))
    formula = f"{_EFFECT} ~ 0 + {terms} + (0 + {terms} | {quoted(study)})"
    names = {f"mu[{o}]": f"beta[{_column(o)}]" for o in outcomes}
    names |= {f"tau[{o}]": f"sd_{study}[{_column(o)}]" for o in outcomes}
    names |= {"rho": f"cor_{study}"}
    own = {names[name]: prior for name, prior in priors.items()}
    model = Model(formula, table, sampling_sd=_ERROR, priors=own, missing="raise")
    fit = model.fit(
        settings.draws, settings.tune, settings.chains, settings.seed, settings.progress,
        target_accept=0.9,
    )  # fmt: skip
    posterior = fit.posterior.assign_attrs(outcomes=list(outcomes), study=study)
    fit.tree["posterior"] = xr.DataTree(posterior)
    return fit


def sampled_effects(fit: Fit) -> Report:
    """As `multivariate_effects`, of draws.

    Parameters
    ----------
    fit : Fit
        From `multivariate_meta_analysis` by NUTS.
    """
    posterior = fit.posterior
    outcomes, study = list(np.atleast_1d(posterior.attrs["outcomes"])), posterior.attrs["study"]
    mu = posterior["beta"].to_numpy()
    tau = posterior[f"sd_{study}"].to_numpy()
    cor = posterior[f"cor_{study}"].to_numpy()
    pairs = list(combinations(range(len(outcomes)), 2))
    differences = np.stack([mu[..., i] - mu[..., j] for i, j in pairs], axis=-1)
    rho = np.stack([cor[..., i, j] for i, j in pairs], axis=-1)
    count = mu[..., 0].size
    new = NormalMixture(np.full(count, 1 / count), mu.reshape(count, -1), tau.reshape(count, -1))
    names = [
        *(f"mu[{o}]" for o in outcomes),
        *(f"mu[{outcomes[i]}] - mu[{outcomes[j]}]" for i, j in pairs),
        *(f"new study[{o}]" for o in outcomes),
        *(f"tau[{o}]" for o in outcomes),
        *(f"rho[{outcomes[i]},{outcomes[j]}]" for i, j in pairs),
    ]
    numbers = [from_draws(mu), from_draws(differences), from_mixture(new)]
    table = pd.DataFrame(
        np.vstack([*numbers, from_draws(tau), from_draws(rho)]),
        columns=COLUMNS,
        index=pd.Index(names, name="quantity"),
    )
    above = [(values > 0).mean(axis=(0, 1)) for values in (mu, differences, rho)]
    nothing = np.full(len(outcomes), np.nan)
    table["P(>0)"] = np.concatenate([above[0], above[1], new.sf(0.0), nothing, above[2]])
    studies = fit.posterior.sizes[study]
    few = f"{studies} studies say little of rho and tau: their priors matter."
    drawn = dict(zip(names[: len(outcomes)], np.moveaxis(mu, -1, 0), strict=True))
    drawn |= dict(
        zip(
            names[-len(pairs) - len(outcomes) :],
            np.moveaxis(np.concatenate([tau, rho], axis=-1), -1, 0),
            strict=True,
        )
    )
    return Report(
        f"{len(outcomes)} outcomes",
        table,
        named_draws(drawn),
        "Average effects over studies and their differences, what to expect in a new study, and sd "
        "(tau) and correlations (rho) of the studies' true effects; 95 % equal-tailed intervals. "
        + " ".join(fit.notes),
        (*([few] if studies < 10 else []), *convergence_caveats(fit)),
        ("Jackson, Riley & White (2011), Statistics in Medicine 30:2481-2498.",),
        {"intervals": partial(_picture, table, len(outcomes))},
    )


def _picture(table: pd.DataFrame, outcomes: int, ax: Axes | None = None) -> Axes:
    """Average effects and what to expect in a new study."""
    kept = [n for n in table.index if str(n).startswith(("mu[", "new")) and " - " not in str(n)]
    drawn = plots.intervals(table.loc[kept], "effect (95 % equal-tailed interval)", ax=ax)
    drawn.axvline(0, color="black", linewidth=0.6, zorder=0)
    return drawn
