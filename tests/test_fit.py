"""A fit: its contract, its way to disk and back, seeds, samplers, and an interrupt."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import threading

import arviz as az
import numpy as np
import pandas as pd
import pytest
from made import from_priors
from scipy import stats

import bayesmixed as bm
from bayesmixed._errors import SamplingError
from bayesmixed.sample import Settings, _rectangle


def test_posterior_follows_the_contract(sleepstudy):
    posterior = sleepstudy.posterior
    assert {name: posterior[name].dims for name in posterior.data_vars} == {
        "beta": ("chain", "draw", "term"),
        "sd_Subject": ("chain", "draw", "Subject_effect"),
        "cor_Subject": ("chain", "draw", "Subject_effect", "Subject_effect_bis"),
        "sigma": ("chain", "draw"),
        "u_Subject": ("chain", "draw", "Subject", "Subject_effect"),
    }
    assert dict(posterior.sizes) | {"chain": 4, "draw": 1000} == dict(posterior.sizes)
    assert list(posterior["term"].to_numpy()) == ["Intercept", "Days"]
    assert "308" in posterior["Subject"].to_numpy()
    assert set(sleepstudy.tree.children) == {"posterior", "sample_stats", "observed_data"}


def test_hierarchy_names_its_levels(pastes):
    assert {"sd_batch", "sd_cask", "u_cask"} <= set(pastes.posterior.data_vars)
    assert pastes.posterior["cask"].to_numpy()[0] == "A:a"
    assert "start again within each" in pastes.notes[0]


def test_summary(sleepstudy):
    table = sleepstudy.summary()
    assert list(table.index) == [
        "beta[Intercept]",
        "beta[Days]",
        "sd_Subject[Intercept]",
        "sd_Subject[Days]",
        "cor_Subject[Intercept,Days]",
        "sigma",
    ]
    days = sleepstudy.posterior["beta"].sel(term="Days").to_numpy()
    row = table.loc["beta[Days]"]
    np.testing.assert_allclose(row["mean"], days.mean())
    np.testing.assert_allclose(
        row[["eti95_lb", "eti95_ub"]].to_numpy(dtype=float), np.quantile(days, [0.025, 0.975])
    )
    assert len(sleepstudy.summary(effects=True)) == 36
    assert sleepstudy.converged
    assert "Converged" in str(sleepstudy)


def test_arviz_takes_the_tree(sleepstudy):
    tree = sleepstudy.with_log_likelihood().tree
    pointwise = tree["log_likelihood"]["y"]
    posterior = sleepstudy.posterior
    u = posterior["u_Subject"].to_numpy()
    data = sleepstudy.design.table.frame
    index = pd.Index(posterior["Subject"].to_numpy()).get_indexer(data["Subject"])
    beta, days = posterior["beta"].to_numpy(), data["Days"].to_numpy()
    mean = beta[..., :1] + beta[..., 1:] * days + u[..., index, 0] + u[..., index, 1] * days
    expected = stats.norm.logpdf(data["Reaction"], mean, posterior["sigma"].to_numpy()[..., None])
    np.testing.assert_allclose(pointwise, expected, rtol=1e-10)
    with pytest.warns(UserWarning, match="Pareto"):
        loo = az.loo(tree)
    # Vehtari et al.'s elpd for this model is near -861 (brms: -861.5, se 22.7).
    assert abs(loo.elpd + 861.5) < 2


def test_same_seed_same_draws():
    data = bm.datasets.load("dyestuff2")
    model = bm.Model("Yield ~ 1 + (1 | Batch)", data)
    first, again, other = (
        model.fit(draws=200, tune=200, chains=2, seed=seed, progress=False) for seed in (7, 7, 8)
    )
    assert first.posterior.equals(again.posterior)
    assert not first.posterior.equals(other.posterior)


@pytest.mark.slow
def test_pymc_sampler_agrees(sleepstudy):
    data = bm.datasets.load("sleepstudy")
    fit = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(
        seed=1, progress=False, sampler="pymc"
    )
    assert list(fit.posterior.data_vars) == list(sleepstudy.posterior.data_vars)
    ours, theirs = sleepstudy.summary(), fit.summary()
    error = np.hypot(ours["mcse_mean"], theirs["mcse_mean"])
    np.testing.assert_array_less(np.abs(ours["mean"] - theirs["mean"]), 4 * error)


def test_save_and_load(sleepstudy, tmp_path):
    path = sleepstudy.save(tmp_path / "fit.nc")
    loaded = bm.load(path)
    assert loaded.posterior.equals(sleepstudy.posterior)
    assert loaded.spec == sleepstudy.spec
    assert loaded.converged == sleepstudy.converged
    np.testing.assert_array_equal(loaded.eta(), sleepstudy.eta())
    pd.testing.assert_frame_equal(loaded.summary(), sleepstudy.summary())


def test_save_keeps_labels_categories_and_missing_counts(tmp_path):
    rng = np.random.default_rng(1)
    size = 240
    data = pd.DataFrame(
        {
            "y": rng.normal(size=size),
            "arm": pd.Categorical(rng.choice(["c", "b", "a"], size), categories=["c", "b", "a"]),
            "old": rng.random(size) < 0.5,
            "site": rng.choice(["north <1>", "süd"], size),
            "patient": np.repeat(np.arange(40), 6),
            "x": np.where(np.arange(size) < 3, np.nan, rng.normal(size=size)),
        }
    )
    model = bm.Model("y ~ arm + old + site + x + (1 | patient)", data)
    fit = model.fit(draws=100, tune=200, chains=2, seed=1, progress=False)
    loaded = bm.load(fit.save(tmp_path / "fit.nc"))
    assert list(loaded.design.table.frame["arm"].cat.categories) == ["c", "b", "a"]
    assert loaded.design.predictors["mu"].terms == fit.design.predictors["mu"].terms
    assert loaded.notes == fit.notes == ("3 of 240 rows dropped for missing values (x 3).",)
    assert loaded.posterior["patient"].dtype.kind == "i"
    np.testing.assert_array_equal(loaded.eta(), fit.eta())


def test_loading_something_else(tmp_path):
    with pytest.raises(bm.BayesmixedError, match="There is no file"):
        bm.load(tmp_path / "missing.nc")
    text = tmp_path / "text.nc"
    text.write_text("not netCDF")
    with pytest.raises(bm.BayesmixedError, match="cannot be read"):
        bm.load(text)
    other = tmp_path / "other.nc"
    pd.DataFrame({"a": [1.0]}).to_xarray().to_netcdf(other, engine="h5netcdf")
    with pytest.raises(bm.BayesmixedError, match="not a fit saved by bayesmixed"):
        bm.load(other)


def test_intervals_and_dates_can_be_saved(tmp_path):
    rng = np.random.default_rng(3)
    x = rng.normal(size=200)
    data = pd.DataFrame(
        {
            "y": rng.normal(size=200),
            "third": pd.cut(x, [-9, -0.4, 0.4, 9]),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.repeat(range(20), 10), unit="D"),
        }
    )
    fit = bm.Model("y ~ third + (1 | day)", data).fit(
        draws=50, tune=100, chains=2, seed=1, progress=False
    )
    loaded = bm.load(fit.save(tmp_path / "fit.nc"))
    assert loaded.design.predictors["mu"].terms == fit.design.predictors["mu"].terms
    assert loaded.posterior["day"].to_numpy()[0] == "2020-01-01"
    np.testing.assert_array_equal(loaded.eta(), fit.eta())


def test_models_and_fits_can_be_sent_to_another_process(sleepstudy):
    """By pickle, with the package's own link and family, which it tells by identity."""
    model = bm.Model("Reaction ~ Days + (Days | Subject)", bm.datasets.load("sleepstudy"))
    density = model._density
    sent = _sent(model)
    # The log-density is made anew: it holds addresses in this process's memory.
    assert "_density" not in vars(sent)
    x = density.start + 0.1
    assert sent._density(x)[0] == density(x)[0]
    received = _sent(sleepstudy)
    assert received.spec == sleepstudy.spec
    assert received.summary().equals(sleepstudy.summary())
    own = bm.links.Link("own", forward=_same, inverse=_same)
    assert _sent(own) == own


def test_a_model_can_be_sent_after_its_graph_was_made():
    data = bm.datasets.load("sleepstudy")
    model = bm.Model("Reaction ~ Days + (1 | Subject)", data, family="student_t")
    assert model.pymc is not None
    assert _sent(model).design.spec == model.design.spec


def test_a_family_of_ones_own_can_be_sent():
    parameter = bm.Parameter("mu", (bm.links.identity,))
    own = bm.Family("own", (parameter,), _same, _same, _same, _same)
    assert _sent(own) == own


def _sent(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301  made here


def _same(x):
    return x


def test_a_failed_save_loses_nothing(sleepstudy, tmp_path):
    with pytest.raises(bm.BayesmixedError, match="could not be written"):
        sleepstudy.save(tmp_path / "no" / "such" / "folder" / "fit.nc")
    assert sleepstudy.posterior.sizes["draw"] == 1000


INTERRUPTED = """
import bayesmixed as bm
data = bm.datasets.load("dyestuff2")
model = bm.Model("Yield ~ 1 + (1 | Batch)", data)
model.fit(draws=10, tune=10, chains=2, progress=False)
print("ready", flush=True)
fit = model.fit(draws=5_000_000, tune=200, chains=3, cores=2, seed=1, progress=False)
print(fit.interrupted, fit.converged, fit.posterior.sizes["draw"] > 10)
print(fit.convergence)
path = fit.save("fit.nc")
print(bm.load(path).interrupted)
"""


def test_ctrl_c_returns_the_draws_so_far(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    # Longer than compiling from the cache and warming up take; the run itself would take minutes,
    # and the third chain has not begun by then.
    threading.Timer(20, lambda: process.send_signal(signal.SIGINT)).start()
    lines = process.communicate(timeout=120)[0].splitlines()
    assert lines[0] == "True False True"
    assert "Sampling was interrupted: 2 chain(s)" in "\n".join(lines)
    assert lines[-1] == "True"


def test_chains_that_had_not_begun_cost_no_draws():
    begun = (np.ones((5, 3)), {"lp": np.zeros(5)})
    waiting = (np.empty((0, 3)), {"lp": np.zeros(0)})
    kept = _rectangle([begun, begun, waiting], interrupted=True)
    assert kept.x.shape == (2, 5, 3)
    assert kept.interrupted
    for nothing in ([waiting], []):
        with pytest.raises(SamplingError, match="before a draw was kept"):
            _rectangle(nothing, interrupted=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": 0}, "draws=0: a whole number from 1"),
        ({"chains": 2.5}, r"chains=2.5: a whole number"),
        ({"target_accept": 1.0}, "target_accept=1.0: a number between 0 and 1"),
        ({"seed": -1}, "seed=-1: a whole number from 0"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(bm.BayesmixedError, match=message):
        Settings(**settings)


def test_import_is_light():
    """PyMC, PyTensor, numba, nutpie and ArviZ load when a model is built, not before."""
    code = (
        "import sys, bayesmixed; "
        "heavy = {'pymc', 'pytensor', 'numba', 'nutpie', 'arviz', 'matplotlib'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_only_the_parameters_that_are_asked_for():
    fit = from_priors(bm.Model("Reaction ~ Days", bm.datasets.load("sleepstudy")), 5)
    every = fit.parameters()
    assert set(every) == {"mu", "sigma"}
    (only,) = fit.parameters({"sigma"}).values()
    np.testing.assert_array_equal(only, every["sigma"])
