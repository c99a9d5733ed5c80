"""Fit a task by Bambi, with nutpie or with PyMC's own NUTS."""

from importlib import import_module
from typing import Any

import numpy as np
from task import FOLDER, Stopwatch, answer, read_task, write_draws

PACKAGES = ["bambi", "pymc", "nutpie", "pytensor", "numba", "numpy", "arviz"]
FAMILIES = {"negative_binomial": "negativebinomial"}

stopwatch = Stopwatch()
with stopwatch("import"):
    bmb = import_module("bambi")
    az = import_module("arviz")


def priors(task: dict[str, Any]) -> dict[str, Any]:
    """The task's priors under Bambi's names; it has none for correlations."""
    scales, prior = task["scales"], bmb.Prior
    location, scale = scales["intercept"]
    positive = prior("HalfStudentT", nu=3, sigma=scales["sd"])
    found = {
        "Intercept": prior("Normal", mu=location, sigma=scale),
        "common": prior("Normal", mu=0, sigma=scales["coefficient"]),
        "group_specific": prior("Normal", mu=0, sigma=positive),
    }
    if task["family"] == "gaussian":
        found["sigma"] = positive
    if task["family"] == "negative_binomial":
        found["alpha"] = prior("Gamma", alpha=2, beta=0.1)
    return found


def our_name(name: str, level: str | None) -> str:
    """A variable's name as bayesmixed gives it: ``x|g_sigma`` is ``sd_g[x]``."""
    if name.endswith("_sigma") and "|" in name:
        effect, group = name.removesuffix("_sigma").split("|")
        return f"sd_{group}[{'Intercept' if effect == '1' else effect}]"
    if name in ("sigma", "alpha"):
        return name
    return f"beta[{name}]" if level is None else f"beta[{name}[T.{level}]]"


def population(posterior: Any) -> dict[str, np.ndarray]:
    """Draws of all but the groups' effects."""
    found = {}
    for name, values in posterior.data_vars.items():
        if "|" in name and not name.endswith("_sigma"):
            continue
        if values.ndim == 2:
            found[our_name(name, None)] = values.to_numpy()
            continue
        for k, level in enumerate(values[values.dims[2]].to_numpy()):
            found[our_name(name, str(level))] = values[:, :, k].to_numpy()
    return found


def sample(outcome: Any = None) -> Any:
    """Build, compile and sample; how long each took goes to the stopwatch."""
    table = data if outcome is None else data.assign(count=outcome)
    with stopwatch("build"):
        family = FAMILIES.get(task["family"], task["family"])
        model = bmb.Model(task["formula"], table, family=family, priors=priors(task))
        model.build()
    with stopwatch("fit"):
        tree = model.fit(
            draws=task["draws"],
            tune=task["tune"],
            chains=task["chains"],
            cores=task["cores"],
            random_seed=task["seed"],
            inference_method=task["sampler"],
            progressbar=False,
        )
    sampled = float(tree["posterior"].attrs["sampling_time"])
    seconds = stopwatch.seconds
    seconds["sample"] = seconds.get("sample", 0.0) + sampled
    return tree


def fit_once() -> dict[str, Any]:
    """One fit and its summary."""
    tree = sample()
    seconds = stopwatch.seconds
    seconds["compile"] = seconds.pop("fit") - seconds["sample"]
    posterior = tree["posterior"].to_dataset()
    with stopwatch("summary"):
        if task.get("summary", True):
            az.summary(posterior[[n for n in posterior if "|" not in n or n.endswith("_sigma")]])
    divergences = int(tree["sample_stats"]["diverging"].sum())
    return {**write_draws(population(posterior)), "divergences": divergences}


def fit_many() -> dict[str, Any]:
    """A loop over evenly spaced outcomes; the first, which compiles most, is not counted."""
    outcomes = np.load(FOLDER / "outcomes.npy")
    chosen = np.linspace(0, outcomes.shape[1] - 1, task["sample"] + 1).astype(int)
    for k, gene in enumerate(chosen):
        if k == 1:
            stopwatch.seconds["first"] = sum(stopwatch.seconds[s] for s in ("build", "fit"))
            for stage in ("build", "fit", "sample"):
                del stopwatch.seconds[stage]
        sample(outcomes[:, gene])
    return {"outcomes": task["sample"], "failures": 0}


if __name__ == "__main__":
    with stopwatch("data"):
        task, data = read_task()
    kinds = {"fit": fit_once, "many": fit_many}
    answer(stopwatch, PACKAGES, **kinds[task["kind"]]())
