"""Correlated outcomes by NUTS: the covariance between studies is sampled, effects drawn given it.

With the factor of a study's sampling covariance, :math:`V_i = L_i L_i'`, its estimates
:math:`L_i^{-1} y_i` are independent with standard error 1, and their predictors are the rows of
:math:`L_i^{-1}`. That is an ordinary mixed model, whose spec and design the fit has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesmixed import plots
from bayesmixed.defaults import assign_priors
from bayesmixed.fit import Fit
from bayesmixed.meta._covariance_density import Whitened
from bayesmixed.meta._estimates import COLUMNS, from_draws, from_mixture, named_draws
from bayesmixed.meta._mixture import NormalMixture
from bayesmixed.meta._outcomes import Outcomes
from bayesmixed.model import Model
from bayesmixed.priors import Prior
from bayesmixed.reports._report import Report, convergence_caveats
from bayesmixed.run import run_density
from bayesmixed.sample import Settings
from bayesmixed.spec import quoted

type Floats = NDArray[np.float64]

_EFFECT, _ERROR = "whitened", "unit"


def sample_outcomes(
    studies: Outcomes, priors: Mapping[str, Prior], settings: Settings, notes: tuple[str, ...]
) -> Fit:
    """Sample the covariance between studies, and draw average and studies' effects given it.

    Parameters
    ----------
    studies : Outcomes
    priors : mapping of str to Prior
        ``mu[<outcome>]``, ``tau[<outcome>]`` and ``rho``.
    settings : Settings
    notes : tuple of str
        What was assumed.
    """
    columns, study = [_column(o) for o in studies.outcomes], studies.study
    terms = " + ".join(map(quoted, columns))
    formula = f"{_EFFECT} ~ 0 + {terms} + (0 + {terms} | {quoted(study)})"
    names = {f"mu[{o}]": f"beta[{_column(o)}]" for o in studies.outcomes}
    names |= {f"tau[{o}]": f"sd_{study}[{_column(o)}]" for o in studies.outcomes}
    names |= {"rho": f"cor_{study}"}
    own = {names[name]: prior for name, prior in priors.items()}
    table = _whitened(studies)
    design = Model(formula, table, sampling_sd=_ERROR, priors=own, missing="raise").design
    random, X = design.predictors["mu"].random[0], design.predictors["mu"].X
    order = np.argsort(random.groups.index, kind="stable")
    ends = np.searchsorted(random.groups.index[order], range(len(random.groups.labels) + 1))
    spread = [dict(priors[f"mu[{o}]"].parameters).get("sigma", np.inf) for o in studies.outcomes]
    rows = Whitened(
        design.y[order], X[order], ends.astype(np.int32), np.array(spread) ** -2.0,
        tuple(priors[f"tau[{o}]"] for o in studies.outcomes),
        float(dict(priors["rho"].parameters)["eta"]),
    )  # fmt: skip
    density = replace(rows.density, recover=partial(_recovered, rows, study))
    run = run_density(design, density, settings)
    said = {"outcomes": list(studies.outcomes), "study": study}
    run = replace(run, posterior=run.posterior.assign_attrs(said))
    return Fit(design, run.tree(design, settings, "nutpie"), notes)


def _recovered(
    rows: Whitened, study: str, x: Floats, rng: np.random.Generator
) -> dict[str, Floats]:
    names = {"beta": "beta", "tau": f"sd_{study}", "cor": f"cor_{study}", "u": f"u_{study}"}
    return {names[name]: value for name, value in rows.recover(x, rng).items()}


def sample_again(fit: Fit, studies: Outcomes, seed: int) -> Fit:
    """The same analysis of studies with other correlations within them.

    Parameters
    ----------
    fit : Fit
        From `sample_outcomes`.
    studies : Outcomes
        See `outcomes_in`.
    seed : int
        Of the draws.
    """
    design, names = fit.design, list(np.atleast_1d(fit.posterior.attrs["outcomes"]))
    study = str(fit.posterior.attrs["study"])
    assigned = {n: a.prior for n, a in assign_priors(design).items()}
    priors = {"rho": assigned[f"cor_{study}"]}
    for o in names:
        priors[f"mu[{o}]"] = assigned[f"beta[{_column(o)}]"]
        priors[f"tau[{o}]"] = assigned[f"sd_{study}[{_column(o)}]"]
    chosen = json.loads(fit.tree.attrs["sampling"])
    kept = {n: chosen[n] for n in ("draws", "tune", "chains", "target_accept")}
    settings = Settings(**kept, seed=seed, progress=False)
    return sample_outcomes(studies, priors, settings, ())


def outcomes_in(fit: Fit) -> Outcomes:
    """The studies as they were before they were whitened."""
    design, names = fit.design, list(np.atleast_1d(fit.posterior.attrs["outcomes"]))
    random, X = design.predictors["mu"].random[0], design.predictors["mu"].X
    labels = random.groups.labels
    y, seen = np.zeros((len(labels), len(names))), np.zeros((len(labels), len(names)), dtype=bool)
    V = np.tile(np.eye(len(names)), (len(labels), 1, 1))
    for i in range(len(labels)):
        rows = np.flatnonzero(random.groups.index == i)
        at = np.flatnonzero((X[rows] != 0).any(axis=0))
        factor = np.linalg.inv(X[np.ix_(rows, at)])
        y[i, at], seen[i, at] = factor @ design.y[rows], True
        V[i][np.ix_(at, at)] = factor @ factor.T
    return Outcomes(y, V, seen, tuple(labels), tuple(names), str(fit.posterior.attrs["study"]))


def _whitened(studies: Outcomes) -> pd.DataFrame:
    """A row for each estimate, made independent of the others of its study."""
    rows, labels = [], []
    for i, name in enumerate(studies.studies):
        at = np.flatnonzero(studies.seen[i])
        factor = np.linalg.inv(np.linalg.cholesky(studies.V[i][np.ix_(at, at)]))
        X = np.zeros((len(at), len(studies.outcomes)))
        X[:, at] = factor
        rows.append(np.column_stack([factor @ studies.y[i, at], X]))
        labels += [name] * len(at)
    columns = [_EFFECT, *map(_column, studies.outcomes)]
    table = pd.DataFrame(np.vstack(rows), columns=columns)
    table[studies.study], table[_ERROR] = labels, 1.0
    return table


def _column(outcome: str) -> str:
    """What the column of an outcome is called: a number alone would look like an intercept."""
    return f"on {outcome}"


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
