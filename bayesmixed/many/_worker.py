"""What a worker does: fit the model to the outcomes of a task, and bring back plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from threading import Lock
from time import perf_counter
from typing import Any

import arviz as az
import cloudpickle
import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats.base import array_stats
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, SamplingError
from bayesmixed.defaults import assign_priors
from bayesmixed.families import OURS
from bayesmixed.fit import Fit
from bayesmixed.links import LINKS
from bayesmixed.many._outcomes import Outcome
from bayesmixed.many._record import STATISTICS, Record
from bayesmixed.model import Model
from bayesmixed.priors import pymc_distribution
from bayesmixed.spec import ModelSpec

# What the verdict on convergence needs of the sampler's statistics.
_VERDICT = ("diverging", "reached_max_treedepth", "energy")
# Draws of a moderated parameter: more would not tell more about its spread over outcomes.
_MOST_LOGS = 1000
_MOST_MODELS = 4


@dataclass(frozen=True)
class Plan:
    """What a worker must know once.

    Parameters
    ----------
    model : mapping
        What `portable` made of the model.
    whole : bool
        Whether the outcomes are data sets.
    settings : mapping of str to Any
        For `Model.fit`.
    seed : int
        From which the seed of every outcome is derived.
    keep : str
        See `fit_many`.
    logs : tuple of str
        Parameters of which to bring back the logarithms, to learn their priors from.
    """

    model: Mapping[str, Any]
    whole: bool
    settings: Mapping[str, Any]
    seed: int
    keep: str
    logs: tuple[str, ...] = ()


def portable(model: Model) -> dict[str, Any]:
    """A model as what can be sent to another process; the package's families go by name."""
    family, link = model.spec.family, model.spec.link
    return {
        "spec": model.spec.to_dict(),
        "family": None if family is OURS.get(family.name) else family,
        "link": None if link is LINKS.get(link.name) else link,
        "frame": model.design.table.frame,
        "choices": model.choices,
    }


def outcome_seed(seed: int, name: str) -> int:
    """The seed of an outcome, which depends on nothing but the run's seed and its name."""
    words = np.frombuffer(sha256(name.encode()).digest()[:16], dtype="<u4")
    sequence = np.random.SeedSequence(seed, spawn_key=tuple(int(w) for w in words))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


# Models by token, so that a worker builds each once.
_known: dict[str, tuple[Plan, Model]] = {}
# PyTensor's settings and the models under construction belong to the whole process.
_one_at_a_time = Lock()


def perform(
    token: str, briefing: bytes | None, jobs: Sequence[Outcome]
) -> tuple[float, list[Record]] | None:
    """Fit some outcomes.

    Parameters
    ----------
    token : str
        Name of the plan.
    briefing : bytes, optional
        The `Plan`, pickled.
    jobs : sequence of Outcome
        What to fit.

    Returns
    -------
    tuple of float and list of Record, or None
        Seconds, and what came of each; None if this process has not seen the plan and was not
        given it.
    """
    with _one_at_a_time:
        started = perf_counter()
        if token not in _known:
            if briefing is None:
                return None
            while len(_known) >= _MOST_MODELS:
                _known.pop(next(iter(_known)))
            _known[token] = _understood(briefing)
        plan, model = _known[token]
        records = [_record(plan, model, job) for job in jobs]
        return perf_counter() - started, records


def _understood(briefing: bytes) -> tuple[Plan, Model]:
    plan: Plan = cloudpickle.loads(briefing)
    sent = plan.model
    spec = ModelSpec.from_dict(sent["spec"], sent["family"], sent["link"])
    return plan, Model.from_spec(spec, sent["frame"], **sent["choices"])


def _record(plan: Plan, model: Model, job: Outcome) -> Record:
    """Fit one outcome, whatever happens."""
    started = perf_counter()
    seed = outcome_seed(plan.seed, job.name)
    try:
        own = _own_model(plan, model, job)
        fit = own.fit(seed=seed, progress=False, **plan.settings)
        if fit.interrupted:
            raise SamplingError("Sampling was interrupted.")
        values = fit.scalars()
        verdict = fit.convergence
        return Record(
            job.name,
            job.position,
            job.fingerprint,
            rows=len(fit.design.y),
            seed=seed,
            divergences=verdict.divergences,
            problems=" ".join(verdict.problems),
            notes=fit.notes,
            parameters=tuple(values["parameter"].to_numpy().tolist()),
            table=statistics(values.to_numpy()),
            draws=_logs(plan, fit) if plan.logs else _kept(plan, fit),
            data=None if plan.keep == "summary" else _data(plan, job, fit),
            seconds=perf_counter() - started,
        )
    except Exception as error:  # noqa: BLE001  one outcome's failure must not stop the others
        known = isinstance(error, BayesmixedError)
        # Compilers' messages go on for pages.
        reason = str(error) if known else f"{type(error).__name__}: {error}".splitlines()[0]
        seconds = perf_counter() - started
        return Record(
            job.name,
            job.position,
            job.fingerprint,
            reason,
            again=not known,
            seed=seed,
            seconds=seconds,
        )


def _own_model(plan: Plan, model: Model, job: Outcome) -> Model:
    if plan.whole:
        return model.with_data(job.table)
    rows = model.design.table.frame.index
    return model.with_outcome(job.table["outcome"].set_axis(rows))


def statistics(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The table of `Fit.summary` from arrays, in a third of the time.

    Parameters
    ----------
    values : array, shape (chain, draw, parameter)
        The draws.

    Returns
    -------
    array, shape (parameter, statistic)
        In the order of `STATISTICS`.
    """
    over, axes = (0, 1), {"chain_axis": 0, "draw_axis": 1}
    tail = az.rcParams["stats.ci_prob"]  # as ArviZ's summary has it
    with np.errstate(all="ignore"):
        lower, upper = np.quantile(values, [0.025, 0.975], axis=over)
        columns = {
            "mean": values.mean(axis=over),
            "sd": values.std(axis=over, ddof=1),
            "eti95_lb": lower,
            "eti95_ub": upper,
            "ess_bulk": array_stats.ess(values, method="bulk", **axes),
            "ess_tail": array_stats.ess(values, method="tail", prob=tail, **axes),
            "rhat": array_stats.rhat(values, **axes),
            "mcse_mean": array_stats.mcse(values, method="mean", **axes),
        }
    return np.stack([np.asarray(columns[name], dtype=float) for name in STATISTICS], axis=-1)


def _kept(plan: Plan, fit: Fit) -> dict[str, xr.Dataset]:
    if plan.keep == "summary":
        return {}
    posterior, every = fit.posterior, fit.tree["sample_stats"].to_dataset()
    if plan.keep == "population":
        posterior = posterior[[n for n in posterior.data_vars if not str(n).startswith("u_")]]
        every = every[[name for name in _VERDICT if name in every]]
    return {"posterior": posterior, "sample_stats": every}


def _data(plan: Plan, job: Outcome, fit: Fit) -> pd.DataFrame:
    """What is needed beside the model to have the fit's design again."""
    return fit.design.table.frame if plan.whole else job.table


def _logs(plan: Plan, fit: Fit) -> dict[str, xr.Dataset]:
    """Draws of the logarithms of parameters, and the log-density of their priors there."""
    import pymc as pm

    from bayesmixed.graph import interpreted

    values = fit.scalars().sel(parameter=list(plan.logs))
    flat = values.to_numpy().reshape(-1, len(plan.logs))
    at = np.linspace(0, len(flat) - 1, min(len(flat), _MOST_LOGS)).astype(int)
    priors = assign_priors(fit.design)
    with interpreted() as mode:
        densities = [
            pm.logp(
                pymc_distribution(prior.distribution).dist(**dict(prior.parameters)), flat[at, k]
            ).eval(mode=mode)
            for k, prior in enumerate(priors[name].prior for name in plan.logs)
        ]
    logs = np.log(flat[at])
    # The density of the logarithm has the Jacobian with it.
    found = {"log": logs, "log_prior": np.stack(densities, axis=-1) + logs}
    dims = ("draw", "parameter")
    return {"posterior": xr.Dataset({name: (dims, v) for name, v in found.items()})}
