"""One model, many outcomes or data sets: fitted side by side, kept on disk as they finish."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console

import bayesmixed
from bayesmixed._errors import DataError, lookup
from bayesmixed.defaults import assign_priors
from bayesmixed.many._fits import Fits
from bayesmixed.many._moderation import Moderation, learn
from bayesmixed.many._outcomes import Outcomes, fingerprint, gather
from bayesmixed.many._pass import Pass
from bayesmixed.many._store import Store
from bayesmixed.many._worker import Plan, portable
from bayesmixed.model import Model
from bayesmixed.sample import Settings

type Keep = Literal["draws", "population", "summary"]

# What the priors of a moderated parameter are learned from.
_MOST_OUTCOMES = 5000


def fit_many(
    model: Model,
    outcomes: Any = None,
    datasets: Any = None,
    *,
    out: str | PathLike[str] | None = None,
    executor: Executor | None = None,
    workers: int | None = None,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    seed: int | None = None,
    progress: bool = True,
    keep: Keep = "population",
    moderate: str | Collection[str] = (),
    target_accept: float | None = None,
    max_depth: int = 10,
    sampler: Literal["nutpie", "pymc"] = "nutpie",
    cores: int = 1,
) -> Fits:
    """Fit a model to many outcomes of the same rows, or to many data sets.

    Results go to disk as they finish. A run that was stopped goes on where it was when it is
    called again with the same `out`; an outcome that cannot be fitted is recorded in
    `Fits.failures` and does not stop the others. The draws of an outcome depend on `seed` and its
    name only, not on the order, the executor or the number of workers.

    In a script, put the call under ``if __name__ == "__main__":``, since worker processes import
    the script.

    Parameters
    ----------
    model : Model
        The model, with any one of the outcomes or data sets standing in for all. Default priors
        are worked out for each.
    outcomes : table, mapping or iterable
        A table (pandas, polars, AnnData, a 2-D DataArray) with a column for each outcome, or a
        mapping from names to columns, or an iterable of (name, column). pandas objects are
        aligned with the model's data by index. Values are what the formula's left side gives, such
        as logarithms where it is ``log(y)``; rows without a value are left out.
    datasets : mapping or iterable
        Instead of outcomes: a mapping from names to tables with the columns of the model's data,
        or an iterable of (name, table), which is consumed as it is needed, so that not all of
        them are in memory at once.
    out : path, optional
        Directory for the results; a new temporary one unless given.
    executor : concurrent.futures.Executor, optional
        Where to fit: as many processes as there are processors unless given. On a Dask cluster
        ``Client.get_executor()``, best with one thread a worker.
    workers : int, optional
        How many fits run at the same time; as many as the executor has workers unless given.
    draws, tune, chains, target_accept, max_depth, sampler
        As for `Model.fit`.
    seed : int, optional
        The same seed gives the same draws on the same machine and versions.
    progress : bool
        Whether to show progress.
    keep : {"population", "draws", "summary"}
        What to keep beside the summaries: draws of the population-level parameters, or all draws,
        those of every group's effects and the sampler's statistics among them, or none. 4 x 1,000
        draws of a number take 32 kB.
    moderate : str or collection of str
        Standard deviations and other positive parameters (`Model.priors` has their names) whose
        prior is learned across the outcomes, as limma and dream do for variances. All are fitted
        once with the model's own priors, a lognormal distribution over outcomes is learned from
        the draws (see `moderation`), and all are fitted again with it as the prior.
    cores : int
        Chains of one fit that run at the same time.

    Returns
    -------
    Fits

    Raises
    ------
    BayesmixedError
        If outcomes, settings or names are not valid, or if `out` belongs to another model or
        other settings.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> model = bm.Model("Reaction ~ Days + (Days | Subject)", data)
    >>> outcomes = {"time": data["Reaction"], "speed": 1e4 / data["Reaction"]}
    >>> if __name__ == "__main__":
    ...     fits = bm.fit_many(model, outcomes, seed=1, progress=False)
    ...     print(fits.summary("beta[Days]")["converged"].all())
    True
    """
    if (outcomes is None) == (datasets is None):
        raise DataError("Give either outcomes or datasets to fit_many.")
    model.design.need_rows("fit_many")
    whole = None if datasets is None else True
    given = gather(datasets if whole else outcomes, model.design.table, whole)
    names = [moderate] if isinstance(moderate, str) else list(moderate)
    _check_moderated(model, given, names)
    lookup(dict.fromkeys(("draws", "population", "summary")), keep, "amount of results to keep")
    lookup(dict.fromkeys(("nutpie", "pymc")), sampler, "sampler")
    accept = None if target_accept is None else float(target_accept)
    Settings(draws, tune, chains, seed, 0.8 if accept is None else accept, max_depth, cores=cores)
    settings: dict[str, Any] = {"draws": draws, "tune": tune, "chains": chains, "sampler": sampler}
    settings |= {"max_depth": max_depth, "target_accept": accept}
    path = Path(tempfile.mkdtemp(prefix="bayesmixed-") if out is None else out)
    if out is None and progress:
        Console(stderr=True).print(f"Results go to {path}; choose where with out=...")
    run = _Run(given, path, keep, settings, names, cores, executor, workers, progress)
    return (run.moderated if names else run.plain)(model, run.seed(seed))


@dataclass(frozen=True)
class _Run:
    """What stays the same over the passes of one call; see `fit_many`."""

    given: Outcomes
    path: Path
    keep: Keep
    settings: Mapping[str, Any]
    moderate: Sequence[str]
    cores: int
    executor: Executor | None
    workers: int | None
    progress: bool

    def seed(self, given: int | None) -> int:
        """The number from which all seeds are derived: as before, if the run goes on."""
        if given is None and Store(self.path).exists:
            return int(Store(self.path).manifest["seed"])
        return secrets.randbits(63) if given is None else int(given)

    def plain(self, model: Model, seed: int) -> Fits:
        """One pass."""
        once = self._pass(self._begin(self.path, model, seed, self.keep), model, seed)
        whole = once.run("Fitting", self.progress)
        return Fits(self.path, model, tuple(once.met), interrupted=not whole)

    def moderated(self, model: Model, seed: int) -> Fits:
        """A pass to learn priors from, and one with them."""
        store = self._begin(self.path, model, seed, self.keep)
        first = self._begin(self.path / "first_pass", model, seed, "summary")
        once = self._pass(first, model, seed, self.moderate)
        if not once.run("First pass", self.progress):
            return Fits(self.path, model, (), interrupted=True)
        moderation = _learned(store, first, self.moderate, once.met)
        spec = replace(model.spec, priors={**model.spec.priors, **moderation.priors})
        better = Model.from_spec(spec, model.design.table.frame, **model.choices)
        again = self._pass(store, better, seed)
        whole = again.run("Second pass", self.progress)
        return Fits(self.path, better, tuple(again.met), moderation, not whole)

    def _begin(self, path: Path, model: Model, seed: int, keep: str) -> Store:
        """The directory, which says what its fits are of."""
        base = model.design.table.frame
        manifest = {
            "version": bayesmixed.__version__,
            **model.spec.to_dict(),
            "choices": model.choices,
            "kind": "datasets" if self.given.whole else "outcomes",
            "data": "" if self.given.whole else fingerprint(base),
            **self.settings,
            "seed": seed,
            "keep": keep,
            "moderate": list(self.moderate),
        }
        return Store.begin(path, manifest, base)

    def _pass(self, store: Store, model: Model, seed: int, logs: Sequence[str] = ()) -> Pass:
        settings = {k: v for k, v in self.settings.items() if v is not None}
        plan = Plan(
            portable(model),
            self.given.whole,
            settings | {"cores": self.cores},
            seed,
            "summary" if logs else self.keep,
            tuple(logs),
        )
        return Pass(self.given, store, model, plan, self.executor, self.workers)


def _check_moderated(model: Model, given: Outcomes, names: Collection[str]) -> None:
    """Refuse names that are not of positive parameters, and what cannot be gone through twice."""
    assigned = assign_priors(model.design)
    positive = {n: a for n, a in assigned.items() if a.prior.support == "positive"}
    for name in names:
        lookup(positive, name, "positive parameter to moderate")
    if names and not given.repeatable:
        raise DataError(
            "`moderate` goes through the outcomes twice, and an iterator can be gone through only "
            "once. Give a mapping, a list, or an object whose __iter__ starts anew."
        )


def _learned(
    store: Store, first: Store, names: Sequence[str], found: Mapping[str, str]
) -> Moderation:
    """Priors learned from the first pass; once for a directory."""
    asked = sha256(json.dumps(sorted(found.items())).encode()).hexdigest()
    known = store.moderation(asked)
    if known is not None:
        return known
    runs, _ = first.read()
    fitted = runs[(runs["reason"] == "") & runs["name"].isin(found)]
    # Seeds are as good as random, and the same in every run.
    chosen = fitted.sort_values("seed").head(_MOST_OUTCOMES)
    parts = list(first.every("posterior", chosen))
    logs, log_priors = (
        np.concatenate([part[n].to_numpy() for part in parts])
        if parts
        else np.zeros((0, 1, len(names)))
        for n in ("log", "log_prior")
    )
    moderation = learn(names, logs, log_priors)
    store.keep_moderation(moderation, asked)
    return moderation
