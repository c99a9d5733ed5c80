"""Many outcomes and data sets: equal to one by one, on disk, resumable, whatever fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr
from scipy import sparse

import bayesmixed as bm
from bayesmixed import Family, Parameter, links
from bayesmixed.many import Fits, fit_many
from bayesmixed.many._outcomes import gather
from bayesmixed.many._store import Store
from bayesmixed.many._worker import Plan, _understood, outcome_seed, portable

ROWS, GROUPS = 48, 8
BRIEF: dict[str, Any] = {"draws": 200, "tune": 200, "chains": 2, "seed": 1, "progress": False}


def simulated(count: int = 7) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of patients in groups, and outcomes of theirs with a label for each row."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(GROUPS), ROWS // GROUPS)
    x = rng.normal(size=ROWS)
    labels = pd.Index([f"row{i}" for i in range(ROWS)])
    outcomes = {
        f"gene{i}": rng.normal(size=GROUPS)[group] + 0.5 * x + rng.normal(size=ROWS)
        for i in range(count)
    }
    table = pd.DataFrame({"g": group, "x": x}, index=labels)
    return table, pd.DataFrame(outcomes, index=labels)


@dataclass
class NoWork(Executor):
    """An executor on which nothing may be run."""

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("nothing was left to do")


def modelled() -> bm.Model:
    table, outcomes = simulated()
    return bm.Model("y ~ x + (1 | g)", table.assign(y=outcomes["gene0"]))


def damaged() -> pd.DataFrame:
    """Good outcomes, one with gaps, a constant one, and one without a value."""
    _, every = simulated()
    every.iloc[3:6, 2] = np.nan
    every["gene3"] = 1.0
    every["gene4"] = np.nan
    return every


def alone(values: pd.Series) -> tuple[xr.Dataset, xr.Dataset, str]:
    """Draws, statistics and text of a fit by itself."""
    settings = BRIEF | {"seed": outcome_seed(1, str(values.name))}
    fit = modelled().with_outcome(values).fit(**settings)
    return fit.posterior, fit.tree["sample_stats"].to_dataset(), str(fit)


@pytest.fixture(scope="module")
def model() -> bm.Model:
    return modelled()


@pytest.fixture(scope="module")
def outcomes() -> pd.DataFrame:
    return damaged()


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Executor]:
    """One process that fits one by one.

    Like the workers it reads machine code from disk, which may round otherwise than code that
    this process has just compiled; NUTS makes a different draw of any difference.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture(scope="module")
def fits(model, outcomes, tmp_path_factory) -> Fits:
    """Fitted by two worker processes, with everything kept."""
    out = tmp_path_factory.mktemp("many") / "fits"
    return fit_many(model, outcomes, out=out, workers=2, keep="draws", **BRIEF)


@pytest.fixture(scope="module")
def population(model, outcomes, thread, tmp_path_factory) -> Fits:
    """The same on a thread of this process, with what is kept unless asked for."""
    out = tmp_path_factory.mktemp("many") / "population"
    return fit_many(model, outcomes, out=out, executor=thread, **BRIEF)


def test_each_fit_is_the_one_that_it_would_be_alone(fits, outcomes, elsewhere):
    assert fits.names == ("gene0", "gene1", "gene2", "gene5", "gene6")
    assert list(fits) == list(fits.names)
    assert len(fits) == 5
    singles = list(elsewhere.map(alone, [outcomes[name] for name in fits]))
    for name, (posterior, statistics, text) in zip(fits, singles, strict=True):
        one = fits[name]
        assert one.posterior.equals(posterior)
        assert one.tree["sample_stats"].to_dataset().equals(statistics)
        assert str(one) == text
        np.testing.assert_array_equal(one.tree["observed_data"]["y"], one.design.y)
    assert "3 of 48 rows dropped" in fits["gene2"].notes[0]


def test_a_thread_gives_the_same_as_this_process(population, outcomes):
    for name in ("gene1", "gene2"):
        posterior, _, _ = alone(outcomes[name])
        assert population[name].posterior.equals(posterior.drop_vars(["u_g", "g"]))


def test_processes_and_threads_agree(fits, population):
    ours, theirs = (f.summary().set_index(["outcome", "parameter"]) for f in (fits, population))
    error = np.hypot(ours["mcse_mean"], theirs["mcse_mean"])
    assert (np.abs(ours["mean"] - theirs["mean"]) < 5 * error).all()
    pd.testing.assert_frame_equal(fits.failures, population.failures)


def test_failures_have_reasons_and_stop_nothing(fits):
    assert list(fits.failures.index) == ["gene3", "gene4"]
    assert "constant" in fits.failures.loc["gene3", "reason"]
    assert "No row is complete" in fits.failures.loc["gene4", "reason"]
    assert "gene3" not in fits
    with pytest.raises(bm.BayesmixedError, match=r"'gene3' could not be fitted: .* constant"):
        fits["gene3"]
    with pytest.raises(bm.BayesmixedError, match="Did you mean 'gene1'"):
        fits["gene11"]


def test_summary_is_that_of_every_fit(fits):
    table = fits.summary()
    assert list(table["outcome"].unique()) == list(fits)
    for name, part in table.groupby("outcome"):
        expected = fits[str(name)].summary()
        given = part.set_index("parameter")[list(expected.columns)]
        pd.testing.assert_frame_equal(given, expected, check_names=False, rtol=1e-12)
        assert part["converged"].eq(fits[str(name)].converged).all()
    slopes = fits.summary("beta[x]")
    assert list(slopes.index) == list(fits)
    assert slopes.index.name == "outcome"
    with pytest.raises(bm.BayesmixedError, match=r"Did you mean 'beta\[x\]'"):
        fits.summary("beta[xx]")


def test_runs_say_how_each_went(fits):
    runs = fits.runs
    assert list(runs["rows"]) == [48, 48, 45, 48, 48]
    assert list(runs["seed"]) == [outcome_seed(1, name) for name in fits]
    assert (runs["seconds"] > 0).all()
    assert runs["converged"].eq(runs["problems"] == "").all()


def test_seeds_depend_on_name_and_seed_only():
    seeds = {outcome_seed(seed, name) for seed in (0, 1, 2**100) for name in ("a", "b", "")}
    assert len(seeds) == 9
    # Fixed, since a run that goes on after an upgrade must not change.
    assert outcome_seed(1, "gene0") == 3195967783357559521
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_it_prints_and_draws(fits):
    text = str(fits)
    assert "5 fitted" in text
    assert "2 failed" in text
    assert "gene3, gene4" in text
    assert "<pre>" in fits._repr_html_()
    assert repr(fits).startswith("Fits('y ~ x + (1 | g)', 5 outcomes")
    ax = fits.plot("beta[x]")
    means = fits.summary("beta[x]")["mean"].sort_values()
    np.testing.assert_allclose(ax.collections[-1].get_offsets()[:, 0], means)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(means.index)


def test_the_directory_is_enough(population):
    opened = Fits.open(population.path)
    assert opened.names == population.names
    pd.testing.assert_frame_equal(opened.summary(), population.summary())
    assert opened["gene2"].posterior.equals(population["gene2"].posterior)
    assert str(opened["gene2"]) == str(population["gene2"])
    with pytest.raises(bm.BayesmixedError, match="not a directory that fit_many wrote"):
        Fits.open(population.path / "nothing")


def test_parts_are_plain_netcdf(fits):
    names = []
    for part in fits.path.glob("part-*.nc"):
        with xr.open_datatree(part, engine="h5netcdf") as tree:
            names += list(tree["head"]["name"].to_numpy())
    assert sorted(names) == [f"gene{i}" for i in range(7)]
    assert not list(fits.path.glob("*.tmp"))


@pytest.mark.parametrize("keep", ["population", "summary"])
def test_what_is_kept(keep, population, model, outcomes, thread, tmp_path):
    if keep == "population":
        posterior = population["gene1"].posterior
        assert set(posterior.data_vars) == {"beta", "sd_g", "sigma"}
        # Enough for the table and the verdict to be worked out again.
        table = population.summary().query("outcome == 'gene1'").set_index("parameter")
        again = population["gene1"].summary()
        np.testing.assert_allclose(table[again.columns], again, rtol=1e-12)
        assert {"diverging", "energy"} <= set(population["gene1"].tree["sample_stats"])
        return
    few = fit_many(model, outcomes[["gene1"]], out=tmp_path, executor=thread, keep=keep, **BRIEF)
    assert len(few.summary()) == 4
    with pytest.raises(bm.BayesmixedError, match="Draws were not kept"):
        few["gene1"]


def test_what_is_there_is_not_fitted_again(population, model, outcomes):
    again = fit_many(model, outcomes, out=population.path, executor=NoWork(), **BRIEF)
    pd.testing.assert_frame_equal(again.summary(), population.summary())
    # A seed that was not given is the one of the first run.
    unseeded = BRIEF | {"seed": None}
    part = fit_many(
        model, outcomes[["gene5", "gene1"]], out=population.path, executor=NoWork(), **unseeded
    )
    assert part.names == ("gene5", "gene1")


def test_data_that_changed_are_fitted_again(model, outcomes, thread, tmp_path):
    chosen = outcomes[["gene0", "gene1"]]
    first = fit_many(model, chosen, out=tmp_path, executor=thread, **BRIEF).summary()
    changed = chosen.assign(gene1=chosen["gene1"] + 10)
    second = fit_many(model, changed, out=tmp_path, executor=thread, **BRIEF)
    shift = (
        second.summary("beta[Intercept]")["mean"]
        - first.set_index(["parameter", "outcome"]).loc["beta[Intercept]", "mean"]
    )
    assert shift["gene0"] == 0
    assert abs(shift["gene1"] - 10) < 1
    assert len(second.summary()) == len(first)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"draws": 300}, "draws is 200 there and 300 here"),
        ({"seed": 2}, "seed is 1 there and 2 here"),
        ({"keep": "draws"}, 'keep is "population" there'),
        ({"moderate": "sigma"}, "moderate is"),
    ],
)
def test_a_directory_of_other_settings_is_refused(changes, message, population, model, outcomes):
    with pytest.raises(bm.BayesmixedError, match=message):
        fit_many(model, outcomes, out=population.path, executor=NoWork(), **(BRIEF | changes))


def test_a_directory_of_another_model_is_refused(population, outcomes):
    table, _ = simulated()
    data = table.assign(y=outcomes["gene0"])
    for other, message in (
        (bm.Model("y ~ 1 + (1 | g)", data), "predictors is"),
        (bm.Model("y ~ x + (1 | g)", data.assign(x=data["x"] + 1)), "data is"),
        (bm.Model("y ~ x + (1 | g)", data, priors={"sigma": bm.Prior("HalfNormal", sigma=1)}),
         "priors is"),
    ):  # fmt: skip
        with pytest.raises(bm.BayesmixedError, match=message):
            fit_many(other, outcomes, out=population.path, executor=NoWork(), **BRIEF)


def test_a_directory_of_something_else_is_refused(model, outcomes, tmp_path):
    (tmp_path / "mine.nc").touch()
    with pytest.raises(bm.BayesmixedError, match="not a directory of fit_many"):
        fit_many(model, outcomes, out=tmp_path, executor=NoWork(), **BRIEF)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": 0}, "draws=0"),
        ({"target_accept": 2}, "target_accept"),
        ({"sampler": "jags"}, "no sampler 'jags'"),
        ({"keep": "all"}, "amount of results"),
        ({"workers": 0}, "workers=0"),
        ({"moderate": "sigmas"}, "Did you mean 'sigma'"),
        ({"moderate": ["beta[x]"]}, "positive parameter"),
    ],
)
def test_settings_are_checked_before_anything_is_fitted(
    settings, message, model, outcomes, tmp_path
):
    with pytest.raises(bm.BayesmixedError, match=message):
        fit_many(model, outcomes, out=tmp_path, executor=NoWork(), **(BRIEF | settings))


def test_an_interrupted_run_goes_on_where_it_was(
    population, model, outcomes, thread, tmp_path, capsys
):
    def interrupted() -> Iterator[tuple[str, pd.Series]]:
        for i, name in enumerate(outcomes):
            if i == 4:
                raise KeyboardInterrupt
            yield name, outcomes[name]

    part = fit_many(model, interrupted(), out=tmp_path, executor=thread, workers=1, **BRIEF)
    assert part.interrupted
    assert 1 <= len(part) <= 3
    assert "Interrupted" in str(part)
    assert "same `out`" in capsys.readouterr().err
    (tmp_path / "part-000009-abc.nc.tmp").touch()  # what a kill may leave
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("part-*.nc")}
    whole = fit_many(model, outcomes, out=tmp_path, executor=thread, **BRIEF)
    assert not whole.interrupted
    assert not list(tmp_path.glob("*.tmp"))
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    pd.testing.assert_frame_equal(whole.summary(), population.summary())


def test_data_sets_are_read_as_they_are_needed(thread, model, tmp_path):
    taken = []

    def sets() -> Iterator[tuple[str, pd.DataFrame]]:
        rng = np.random.default_rng(1)
        for i in range(5):
            taken.append(i)
            names = np.repeat([f"{i}-{k}" for k in range(5 + i)], 4)
            size = len(names)
            table = pd.DataFrame({"g": names, "x": rng.normal(size=size), "other": [{}] * size})
            yield f"set{i}", table if i == 3 else table.assign(y=rng.normal(size=size))

    found = fit_many(model, datasets=sets(), out=tmp_path, executor=thread, keep="draws", **BRIEF)
    assert taken == [0, 1, 2, 3, 4]
    assert found.names == ("set0", "set1", "set2", "set4")
    assert "no column 'y'" in found.failures.loc["set3", "reason"]
    last = Fits.open(tmp_path)["set4"]
    assert list(last.posterior["g"].to_numpy()) == [f"4-{k}" for k in range(9)]
    assert list(found.runs["rows"]) == [20, 24, 28, 36]
    table = bm.shrinkage(last, "g").table
    assert list(table["n"]) == [4] * 9


@dataclass
class Annotated:
    """What an AnnData has of these."""

    X: Any
    var_names: list[str]
    obs_names: pd.Index


_, _GENES = simulated(3)
_FORMS = {
    "table": _GENES,
    "other order": _GENES.iloc[::-1],
    "mapping of arrays": {name: _GENES[name].to_numpy() for name in _GENES},
    "mapping of lists": {name: _GENES[name].tolist() for name in _GENES},
    "pairs": [(name, _GENES[name]) for name in _GENES],
    "nullable": _GENES.convert_dtypes(),
    "xarray": xr.DataArray(_GENES, dims=("row", "gene")),
    "cells x genes": Annotated(_GENES.to_numpy(), list(_GENES), _GENES.index),
    "sparse": Annotated(sparse.csr_matrix(_GENES.to_numpy()), list(_GENES), _GENES.index),
}


@pytest.mark.parametrize("form", _FORMS)
def test_outcomes_come_in_many_forms(form, model):
    expected = list(gather(_GENES, model.design.table))
    given = gather(_FORMS[form], model.design.table)
    assert [o.fingerprint for o in given] == [o.fingerprint for o in expected]
    assert [o.name for o in given] == list(_GENES)
    assert given.count == 3
    assert not given.whole


def test_outcomes_of_polars_and_generators(model):
    expected = [o.fingerprint for o in gather(_GENES, model.design.table)]
    frame = gather(pl.DataFrame(_GENES.to_dict("list")), model.design.table)
    # polars has no labels; they are the row's numbers, which this model's data do not have.
    assert all("index is not that of" in o.reason for o in frame)
    lazy = gather(((n, pl.Series(_GENES[n])) for n in _GENES), model.design.table)
    assert lazy.count is None
    assert not lazy.repeatable
    assert [o.fingerprint for o in lazy] == expected


def test_rows_that_the_model_left_out_are_left_out(model):
    table, outcomes = simulated()
    data = table.assign(y=outcomes["gene0"])
    data.iloc[5, 1] = np.nan
    (one,) = gather(outcomes[["gene1"]], bm.Model("y ~ x + (1 | g)", data).design.table)
    assert one.table["outcome"].tolist() == np.delete(outcomes["gene1"].to_numpy(), 5).tolist()
    # Without labels it takes row numbers to know which they are.
    values = {"gene1": outcomes["gene1"].to_numpy()}
    (unknown,) = gather(values, bm.Model("y ~ x + (1 | g)", data).design.table)
    assert "give a pandas Series" in unknown.reason
    numbered = bm.Model("y ~ x + (1 | g)", data.reset_index(drop=True)).design.table
    (known,) = gather(values, numbered)
    assert known.fingerprint == one.fingerprint


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1.0, 2.0], "has 2 values; the model's data have 48"),
        (pd.Series(np.zeros(ROWS)), "48 of the model's 48 rows are not in it"),
        (pd.Series(np.zeros(ROWS), index=["row1"] * ROWS), "a label twice"),
        (_GENES["gene0"].iloc[1:], "1 of the model's 48 rows are not in it"),
        (pd.concat([_GENES["gene0"], pd.Series([1.0], index=["z"])]), "1 of its 49 labels are not"),
    ],
)
def test_an_outcome_that_does_not_fit_the_rows_has_a_reason(values, reason, model):
    good, bad = gather({"good": _GENES["gene0"], "bad": values}, model.design.table)
    assert not good.reason
    assert reason in bad.reason


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((ROWS, 3)), "columns=names"),
        (3, "int: Outcomes are"),
        ("genes.csv", "str: Outcomes are"),
        ({}, "There is no outcome"),
        ([], "There is no outcome"),
        ([1, 2], "not a pair"),
        (pd.DataFrame(index=range(ROWS)), "There is no outcome"),
    ],
)
def test_what_are_no_outcomes_is_refused(given, message, model):
    with pytest.raises(bm.BayesmixedError, match=message):
        gather(given, model.design.table)


def test_exactly_one_of_outcomes_and_data_sets(model, outcomes):
    for given in ({}, {"outcomes": outcomes, "datasets": {"a": outcomes}}):
        with pytest.raises(bm.BayesmixedError, match="either outcomes or datasets"):
            fit_many(model, **given)
    with pytest.raises(bm.BayesmixedError, match="not several data sets"):
        fit_many(model, datasets=outcomes)


def test_names_are_unique(model):
    pairs = [("a", _GENES["gene0"]), (1, _GENES["gene0"]), ("1", _GENES["gene0"])]
    with pytest.raises(bm.BayesmixedError, match="'1' occurs twice"):
        list(gather(pairs, model.design.table))


def test_moderation_from_end_to_end(model, outcomes, thread, population, tmp_path):
    settings = BRIEF | {"out": tmp_path, "moderate": ["sigma"]}
    moderated = fit_many(model, outcomes, executor=thread, **settings)
    learned = moderated.moderation.table.loc["sigma"]
    assert learned["outcomes"] == 5
    assert 0.8 < learned["median"] < 1.2  # simulated with 1
    priors = moderated.model.priors
    assert priors.loc["sigma", "prior"].startswith("LogNormal")
    assert priors.loc["sd_g", "source"].startswith("default")
    assert "Learned across outcomes" in str(moderated)
    own, shared = (f.summary("sigma")["mean"] for f in (population, moderated))
    assert shared.std() < own.std()
    # Each is sampled with the learned prior.
    spec = moderated["gene1"].spec
    assert spec.priors["sigma"] == moderated.moderation.priors["sigma"]
    again = fit_many(model, outcomes, executor=NoWork(), **settings)
    pd.testing.assert_frame_equal(again.summary(), moderated.summary())
    opened = Fits.open(tmp_path)
    assert opened.moderation.priors == moderated.moderation.priors
    assert opened.model.spec == moderated.model.spec
    with pytest.raises(bm.BayesmixedError, match="learned from other outcomes"):
        fit_many(model, outcomes[["gene0", "gene1"]], executor=NoWork(), **settings)


def test_moderation_needs_to_go_through_twice(model, outcomes):
    with pytest.raises(bm.BayesmixedError, match="twice"):
        fit_many(model, iter(outcomes.items()), moderate="sigma", progress=False)


def test_a_family_of_ones_own_travels(model):
    own = Family(
        name="rayleigh",
        parameters=(Parameter("mu", (links.log,)),),
        loglik=lambda y, mu: -((y / mu) ** 2),
        mean=lambda mu: mu,
        variance=lambda mu: mu**2,
        simulate=lambda rng, mu: rng.rayleigh(mu),
    )
    table, outcomes = simulated(1)
    mine = bm.Model("y ~ x", table.assign(y=outcomes["gene0"].abs()), family=own)
    plan = Plan(portable(mine), False, {}, 1, "summary")
    _, there = _understood(cloudpickle.loads(cloudpickle.dumps(cloudpickle.dumps(plan))))
    assert there.spec.formula == mine.spec.formula
    assert there.spec.family.loglik(2.0, 1.0) == -4.0
    # The package's own are not copied, since much depends on which they are.
    _, usual = _understood(cloudpickle.dumps(Plan(portable(model), False, {}, 1, "summary")))
    assert usual.spec.family is model.spec.family


def test_a_directory_needs_the_family_of_ones_own(population, tmp_path):
    manifest = Store(population.path).manifest | {"family": "rayleigh"}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(bm.BayesmixedError, match=r"family=\.\.\."):
        Fits.open(tmp_path)


_SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import bayesmixed as bm
from bayesmixed.many import fit_many
from test_many import simulated
if __name__ == "__main__":
    table, outcomes = simulated(200)
    model = bm.Model("y ~ x + (1 | g)", table.assign(y=outcomes["gene0"]))
    found = fit_many(model, outcomes, out={out!r}, workers=2, draws=500, chains=4, progress=False)
    print("interrupted", found.interrupted, len(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_stopped_leaves_whole_parts(stop, tmp_path):
    out = tmp_path / "out"
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT.format(tests=str(Path(__file__).parent), out=str(out)))
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not list(out.glob("part-*.nc")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.send_signal(stop)
    printed, errors = process.communicate(timeout=60)
    for part in out.glob("part-*.nc"):
        with xr.open_datatree(part, engine="h5netcdf") as tree:
            assert tree["head"].sizes["_fit"] >= 1
    there = Fits.open(out)
    assert 1 <= len(there) < 200
    assert there[there.names[-1]].posterior["sigma"].shape == (4, 500)
    if stop == signal.SIGINT:
        assert f"interrupted True {len(there)}" in printed
        assert "same `out`" in errors


@pytest.mark.slow
def test_a_dask_cluster_that_loses_a_worker(model, elsewhere, tmp_path):
    distributed = pytest.importorskip("distributed")
    _, outcomes = simulated(40)
    with (
        distributed.LocalCluster(
            n_workers=3, processes=True, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        victim = next(iter(client.run(os.getpid).values()))

        def kill() -> None:
            while not list(tmp_path.glob("part-*.nc")):
                time.sleep(0.05)
            os.kill(victim, signal.SIGKILL)

        killer = Thread(target=kill)
        killer.start()
        found = fit_many(model, outcomes, out=tmp_path, executor=client.get_executor(), **BRIEF)
        killer.join()
        assert victim not in client.run(os.getpid).values()
    assert len(found) == 40
    assert not len(found.failures)
    singles = elsewhere.map(alone, [outcomes[name] for name in found])
    for name, (posterior, _, _) in zip(found, singles, strict=True):
        assert found[name].posterior.equals(posterior.drop_vars(["u_g", "g"]))
