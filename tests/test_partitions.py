import tracemalloc

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster

import bayesmixed as bm
from bayesmixed.partitions import Partitions

LOAD = bm.datasets.load


def _crossed():
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(
        {
            "student": rng.integers(40, size=600),
            "lecturer": rng.integers(25, size=600).astype(str),
            "x": rng.normal(size=600),
            "arm": rng.choice(["a", "b"], size=600),
        }
    )
    return frame.assign(y=frame["x"] + frame["student"] % 3 + rng.normal(size=600))


CASES = {
    "slopes": ("Reaction ~ Days + (Days | Subject)", "sleepstudy", {}),
    "centred": ("Reaction ~ Days + (Days | Subject)", "sleepstudy", {"centered": ["Subject"]}),
    "sampled": ("Reaction ~ Days + (Days | Subject)", "sleepstudy", {"marginalize": False}),
    "no_groups": ("Reaction ~ Days", "sleepstudy", {}),
    "nested": ("strength ~ 1 + (1 | batch/cask)", "pastes", {}),
    "hierarchy": (
        "strength ~ 1",
        "pastes",
        {"hierarchy": bm.Hierarchy({"batch": "1", "cask": "1"})},
    ),
    "crossed": ("y ~ x * arm + (x | student) + (1 | lecturer)", _crossed, {}),
    "crossed_centred": (
        "y ~ x + (x | student) + (1 | lecturer)",
        _crossed,
        {"centered": ["lecturer"]},
    ),
    "sigma_by_arm": (
        "y ~ x + arm + (1 | student)",
        _crossed,
        {"parameters": {"sigma": "~ arm + (1 | lecturer)"}},
    ),
    "lognormal": ("Reaction ~ Days + (1 | Subject)", "sleepstudy", {"family": "lognormal"}),
    "known_sd": (
        "yi ~ 1 + (1 | district/school)",
        "konstantopoulos2011",
        {"sampling_sd": "sqrt(vi)"},
    ),
    "bernoulli": (
        "died ~ age80 + factor(type) + (1 | provnum)",
        "medpar",
        {"family": "bernoulli"},
    ),
    "binomial": (
        "incidence | trials(size) ~ period + (1 | herd)",
        "cbpp",
        {"family": "binomial"},
    ),
    "poisson": (
        "deaths ~ 1 + offset(log(exposure)) + (1 | hospital)",
        "hearttransplants",
        {"family": "poisson"},
    ),
    "negative_binomial": (
        "y ~ trt + period + (period | subject)",
        "epil",
        {"family": "negative_binomial"},
    ),
    "alpha_by_arm": (
        "y ~ trt + (1 | subject)",
        "epil",
        {"family": "negative_binomial", "parameters": {"alpha": "~ trt"}},
    ),
}


def _frame(data):
    return data() if callable(data) else LOAD(data)


def _parts(frame, count=4):
    """The rows in another order, in parts that split the groups, the first of them empty."""
    mixed = frame.sample(frac=1, random_state=1)
    pieces = [mixed.iloc[:0], *(mixed.iloc[i::count] for i in range(count))]
    return dd.from_map(lambda i: pieces[i], range(len(pieces)), meta=frame.iloc[:0])


def _same(one, other, rtol=1e-10):
    """Whether two models have the same priors, density and gradient."""
    assert one.centered == other.centered
    assert one.integrated == other.integrated
    for left, right in zip(one._priors.items(), other._priors.items(), strict=True):
        assert left[0] == right[0]
        assert left[1].prior.distribution == right[1].prior.distribution
        given = [[v for _, v in side[1].prior.parameters] for side in (left, right)]
        np.testing.assert_allclose(given[0], given[1], rtol=1e-12, atol=1e-13)
    left, right = one._density, other._density
    for seed in range(3):
        x = np.random.default_rng(seed).normal(scale=0.4, size=left.size)
        (value, gradient), (expected, slope) = right(x), left(x)
        assert value == pytest.approx(expected, rel=rtol)
        np.testing.assert_allclose(gradient, slope, rtol=rtol, atol=rtol * np.abs(slope).max())


@pytest.mark.parametrize("case", CASES)
def test_density_and_priors_are_those_in_memory(case):
    formula, data, options = CASES[case]
    frame = _frame(data)
    whole = bm.Model(formula, frame, **options)
    parts = bm.Model(formula, _parts(frame), **options)
    _same(whole, parts)
    words = f"{len(frame):,} rows"
    assert str(parts) == str(whole).replace(words, f"{words} in 5 partitions")
    assert len(parts.design.y) < len(frame) or len(frame) < 300


def test_each_partition_may_have_its_own_levels_and_gaps():
    frame = LOAD("medpar").sort_values("type")
    frame["age80"] = frame["age80"].astype(float).mask(np.arange(len(frame)) % 50 == 3)
    formula = "died ~ age80 + C(type) + (1 | provnum)"
    sorted_parts = dd.from_pandas(frame, npartitions=7, sort=False)
    parts = bm.Model(formula, sorted_parts, family="bernoulli")
    whole = bm.Model(formula, frame, family="bernoulli")
    assert parts.notes == whole.notes
    _same(whole, parts)
    with pytest.raises(bm.BayesmixedError, match=r"Missing values in 30 rows \(age80 30\)"):
        bm.Model(formula, sorted_parts, family="bernoulli", missing="raise")


def test_odd_names_and_numbers_as_categories():
    frame = _crossed().rename(columns={"student": "the student"})
    frame["déjà vu"] = np.arange(len(frame)) * 7 % 5 / 2
    formula = "y ~ x + C(`déjà vu`) + I(x > 0.5) + (I(x == x.max) | `the student`)"
    formula = formula.replace(" + (I(x == x.max)", " + (I(x > 1)")
    _same(bm.Model(formula, frame), bm.Model(formula, _parts(frame)))


def test_categories_keep_their_order():
    frame = _crossed()
    frame["arm"] = pd.Categorical(frame["arm"], ["b", "a", "never"])
    frame["lecturer"] = frame["lecturer"].astype("category")
    formula = "y ~ arm + (1 | lecturer)"
    parts = bm.Model(formula, _parts(frame))
    assert parts.design.predictors["mu"].terms == ("Intercept", "arm[T.a]")
    _same(bm.Model(formula, frame), parts)


@pytest.mark.parametrize("kind", ["folder", "pattern", "list"])
def test_parquet_files_are_read_in_parts(kind, tmp_path):
    frame = _crossed()
    paths = [tmp_path / f"part{i}.parquet" for i in range(3)]
    for i, path in enumerate(paths):
        frame.iloc[i::3].to_parquet(path)
    given = {"folder": tmp_path, "pattern": str(tmp_path / "*.parquet"), "list": paths}[kind]
    formula = "y ~ x + arm + (1 | lecturer)"
    parts = bm.Model(formula, given)
    assert "600 rows in 3 partitions" in str(parts)
    _same(bm.Model(formula, frame), parts)


def test_processes_of_a_cluster_give_the_same(tmp_path):
    formula, data, options = CASES["binomial"]
    frame = LOAD(data)
    frame.to_parquet(tmp_path / "one.parquet", row_group_size=20)
    frame.iloc[:0].to_parquet(tmp_path / "none.parquet")
    with (
        dask.config.set({"distributed.worker.daemon": False}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster),
    ):
        parts = bm.Model(formula, tmp_path, **options)
        _same(bm.Model(formula, frame, **options), parts)


@pytest.fixture(scope="module")
def fit():
    model = bm.Model("Reaction ~ Days + (Days | Subject)", _parts(LOAD("sleepstudy")))
    return model.fit(200, 200, 2, seed=1, progress=False)


def test_the_posterior_is_that_in_memory(fit):
    model = bm.Model("Reaction ~ Days + (Days | Subject)", LOAD("sleepstudy"))
    other = model.fit(200, 200, 2, seed=1, progress=False)
    assert fit.posterior.sizes == other.posterior.sizes
    assert list(fit.posterior["Subject"].values) == list(other.posterior["Subject"].values)
    np.testing.assert_allclose(
        fit.summary()["mean"], other.summary()["mean"], atol=0.2 * other.summary()["sd"].max()
    )


def test_a_fit_is_saved_without_its_rows(fit, tmp_path):
    again = bm.load(fit.save(tmp_path / "fit.nc"))
    assert str(again) == str(fit)
    assert "180 rows in 5 partitions\nSubject: 18 groups, 10 rows each" in str(again)
    assert again.posterior.identical(fit.posterior)
    assert again.converged == fit.converged


@pytest.mark.parametrize("use", ["eta", "parameters", "with_log_likelihood"])
def test_what_takes_every_row_says_so(fit, use):
    with pytest.raises(bm.BayesmixedError, match=r"180 rows in 5 partitions.*not in memory"):
        getattr(fit, use)()


def test_what_takes_every_row_says_so_for_models_too():
    model = bm.Model("Reaction ~ Days + (Days | Subject)", _parts(LOAD("sleepstudy")))
    assert model.prior_predictive(20, seed=1)["prior"].to_dataset()["beta"].sizes["draw"] == 20
    with pytest.raises(bm.BayesmixedError, match="The PyMC model takes every row"):
        _ = model.pymc
    with pytest.raises(bm.BayesmixedError, match="takes every row"):
        model.with_outcome(pd.Series([1.0]))


@pytest.mark.parametrize(
    ("formula", "options", "message"),
    [
        ("y ~ nothing", {}, "no column 'nothing'"),
        ("y ~ poly(x, 2)", {}, "takes every row at once"),
        ("y ~ scale(x) + (1 | student)", {}, "Make a column"),
        ("y ~ x", {"family": "student_t"}, "needs every row in memory"),
        ("y ~ x", {"family": "poisson"}, "The outcome of family poisson must be"),
        ("arm ~ x", {}, "holds text or categories"),
        ("y ~ x + I(2 * x)", {}, "Collinear predictors"),
        ("y ~ x + (1 | student) + (1 | twin)", {}, "are the same rows"),
        ("y ~ x + (constant | student)", {}, "constant"),
        ("y ~ x + (within | student)", {}, "does not vary within any group"),
        ("y ~ x + (1 | alone)", {}, "own group"),
        ("y ~ same", {}, "one level only"),
    ],
)
def test_errors_are_those_in_memory(formula, options, message):
    frame = _crossed()
    frame = frame.assign(
        twin=frame["student"] + 100,
        constant=1.0,
        within=frame["student"] % 7,
        alone=np.arange(len(frame)),
        same="a",
    )
    with pytest.raises(bm.BayesmixedError, match=message):
        bm.Model(formula, _parts(frame), **options)


def test_without_rows_or_files_the_message_says_so(tmp_path):
    with pytest.raises(bm.BayesmixedError, match="no rows"):
        bm.Model("y ~ x", dd.from_pandas(_crossed().iloc[:0], npartitions=1))
    with pytest.raises(bm.BayesmixedError, match="No row is complete"):
        bm.Model("y ~ x", dd.from_pandas(_crossed().assign(x=np.nan), npartitions=2))
    with pytest.raises(bm.BayesmixedError, match="cannot be read as parquet"):
        bm.Model("y ~ x", str(tmp_path / "nothing*.parquet"))


def test_a_missing_dask_is_named(monkeypatch, tmp_path):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr("bayesmixed.partitions.importlib.import_module", absent)
    with pytest.raises(bm.BayesmixedError, match=r"bayesmixed\[dask\]"):
        Partitions.of(tmp_path)


@pytest.mark.parametrize(
    "y",
    [
        np.random.default_rng(0).normal(1e6, 1e-3, 501),
        np.random.default_rng(1).integers(-3, 4, 500).astype(float),
        np.random.default_rng(2).standard_cauchy(400) * 1e30,
        np.concatenate([np.full(50, -0.0), np.full(50, 1e-300), [5.0]]),
    ],
)
def test_medians_are_exact(y):
    frame = pd.DataFrame({"y": y})
    whole, parts = (bm.Model("y ~ 1", data) for data in (frame, _parts(frame)))
    one, other = (dict(m._priors["Intercept"].prior.parameters) for m in (whole, parts))
    assert (one["mu"], one["sigma"]) == (other["mu"], other["sigma"])


def _made(part, rows=150_000):
    rng = np.random.default_rng(part)
    g, x = rng.integers(1000, size=rows), rng.normal(size=rows)
    filler = {f"unused{i}": rng.normal(size=rows) for i in range(2)}
    return pd.DataFrame({"g": g, "x": x, "y": x + g % 5 + rng.normal(size=rows), **filler})


def test_memory_does_not_hold_all_rows():
    parts = 20
    data = dd.from_map(_made, range(parts), meta=_made(0, 1).iloc[:0])
    # Whatever is loaded once is no part of what is measured.
    assert bm.Model("y ~ x + (x | g)", _parts(_made(0, 5000)))._density
    with dask.config.set(scheduler="synchronous"):
        tracemalloc.start()
        model = bm.Model("y ~ x + (x | g)", data)
        density = model._density
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert model.design.rows == 3_000_000
    assert len(model.design.y) < 20_000
    # The columns used take 72 MB, and those of one part 3.6 MB.
    assert peak < 70e6
    assert np.isfinite(density(density.start)[0])
