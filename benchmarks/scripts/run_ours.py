"""Fit a task by bayesmixed: once, again in the same process, or for many outcomes."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from task import FOLDER, Stopwatch, answer, read_task, write_draws

PACKAGES = ["bayesmixed", "pymc", "nutpie", "pytensor", "numba", "numpy", "arviz"]

stopwatch = Stopwatch()
with stopwatch("import"):
    bm = import_module("bayesmixed")
    bm.Model  # noqa: B018 - what is imported when it is first used is loaded here


def priors(task: dict[str, Any]) -> dict[str, Any]:
    """The task's priors under our names."""
    scales, prior = task["scales"], bm.Prior
    location, scale = scales["intercept"]
    positive = prior("HalfStudentT", nu=3, sigma=scales["sd"])
    found = {"Intercept": prior("Normal", mu=location, sigma=scale)}
    fixed = re.sub(r"\([^)]*\)", "", task["formula"].partition("~")[2])
    if re.search("[a-z]", fixed.replace("offset", ""), re.IGNORECASE):
        found["beta"] = prior("Normal", mu=0, sigma=scales["coefficient"])
    for effects, group in re.findall(r"\(([^|)]*)\|([^)]*)\)", task["formula"]):
        found[f"sd_{group.strip()}"] = positive
        if effects.strip() != "1":
            found[f"cor_{group.strip()}"] = prior("LKJ", eta=2)
    if task["family"] == "gaussian":
        found["sigma"] = positive
    if task["family"] == "negative_binomial":
        found["alpha"] = prior("Gamma", alpha=2, beta=0.1)
    return found


def residual(task: dict[str, Any]) -> Any:
    """The task's residual structure, with one sd."""
    series = task["residual"]
    if series is None:
        return None
    where = {key: series[key] for key in ("time", "within")}
    return getattr(bm, series["structure"])(**where, heterogeneous=False)


def sampling(task: dict[str, Any], **changes: int) -> dict[str, Any]:
    """Arguments of `Model.fit`."""
    names = ("draws", "tune", "chains", "seed")
    return {"progress": False, **{name: task[name] for name in names}, **changes}


def population(fit: Any) -> dict[str, np.ndarray]:
    """Draws of all but the effects; a correlation's mirror image and diagonal are left out."""
    values = fit.scalars()
    return {str(name): values.sel(parameter=name).to_numpy() for name in values["parameter"].values}


def fit_once() -> dict[str, Any]:
    """Build, compile, sample, summarise."""
    with stopwatch("build"):
        model = bm.Model(
            task["formula"], data, task["family"], priors=chosen, residual=residual(task)
        )
    if task.get("split", True):
        # A few draws make everything that is made once, so that the next stage only samples.
        with stopwatch("compile"):
            model.fit(**sampling(task, draws=5, tune=20, chains=1))
    with stopwatch("sample"):
        fit = model.fit(**sampling(task))
    with stopwatch("summary"):
        if task.get("summary", True):
            fit.summary()
    divergences = int(fit.tree["sample_stats"]["diverging"].sum())
    return {**write_draws(population(fit)), "divergences": divergences, "notes": list(model.notes)}


def fit_again() -> dict[str, Any]:
    """The same structure again: the last group left out, so that the size differs too."""
    fit_once()
    last = data[task["group"]].cat.categories[-1]
    other = data[data[task["group"]] != last].copy()
    other[task["group"]] = other[task["group"]].cat.remove_unused_categories()
    with stopwatch("again"):
        fit = bm.Model(task["formula"], other, task["family"], priors=chosen).fit(**sampling(task))
        fit.summary()
    return {**write_draws(population(fit))}


def fit_many() -> dict[str, Any]:
    """All outcomes, their fits on disk."""
    outcomes = np.load(FOLDER / "outcomes.npy")
    frame = pd.DataFrame(outcomes, columns=[f"gene{g}" for g in range(outcomes.shape[1])])
    with stopwatch("build"):
        model = bm.Model(task["formula"], data, task["family"], priors=chosen)
    with stopwatch("sample"):
        fits = bm.fit_many(model, frame, out=FOLDER / "fits", **sampling(task))
    size = sum(f.stat().st_size for f in Path(FOLDER / "fits").rglob("*") if f.is_file())
    return {"outcomes": frame.shape[1], "failures": len(fits.failures), "bytes_on_disk": size}


if __name__ == "__main__":
    with stopwatch("data"):
        task, data = read_task()
        chosen = priors(task)
    kinds = {"fit": fit_once, "again": fit_again, "many": fit_many}
    answer(stopwatch, PACKAGES, **kinds[task["kind"]]())
