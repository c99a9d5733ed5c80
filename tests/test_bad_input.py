"""Every bad input has its own sentence, before any PyMC model is built."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesmixed as bm
from bayesmixed import build, graph, model
from bayesmixed._errors import (
    BayesmixedError,
    DataError,
    FormulaError,
    PriorError,
    SamplingError,
    UnknownNameError,
)


@pytest.fixture(autouse=True)
def _nothing_is_built(monkeypatch):
    def refuse(*_, **__):
        pytest.fail("a PyMC model was built")

    monkeypatch.setattr(build, "build_model", refuse)
    monkeypatch.setattr(graph, "log_density", refuse)
    monkeypatch.setattr(model, "run_density", refuse)
    monkeypatch.setattr(model, "density_of", refuse)
    monkeypatch.setattr("pymc.Model.__init__", refuse)


def visits(**changed) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    n = 60
    frame = pd.DataFrame(
        {
            "y": rng.lognormal(size=n),
            "k": rng.integers(0, 4, n),
            "n": rng.integers(4, 9, n),
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
            "se": rng.uniform(0.5, 1, n),
            "arm": np.tile(["control", "drug", "placebo"], 20),
            "g": np.repeat(np.arange(10), 6),
        }
    )
    return frame.assign(**changed)


def first_changed(name: str, *values: float) -> pd.DataFrame:
    frame = visits()
    frame[name] = frame[name].astype(float)
    frame.loc[: len(values) - 1, name] = values
    return frame


NORMAL = bm.Prior("Normal", mu=0, sigma=1)


# formula, data, further arguments, the error, and what its message must say
CASES = {
    "unknown column": (
        "y ~ X1 + z",
        visits(x1=1.0),
        {},
        UnknownNameError,
        ["There is no column 'X1'", "Did you mean 'x1'"],
    ),
    "unknown column, nothing alike": (
        "y ~ weight",
        visits(),
        {},
        UnknownNameError,
        ["There is no column 'weight'", "Valid: y, k, n, x, z, se, arm, g."],
    ),
    "unknown column in a call": (
        "y ~ log(zz)",
        visits(),
        {},
        UnknownNameError,
        ["There is no column 'zz'"],
    ),
    "unknown column in an offset": (
        "y ~ offset(log(w))",
        visits(),
        {},
        UnknownNameError,
        ["There is no column 'w'"],
    ),
    "unknown grouping": (
        "y ~ x + (1 | gg)",
        visits(),
        {},
        UnknownNameError,
        ["There is no column 'gg'", "'g'"],
    ),
    "unknown trials": (
        "k | trials(nn) ~ x",
        visits(),
        {"family": "binomial"},
        UnknownNameError,
        ["There is no column 'nn'", "'n'"],
    ),
    "unknown sampling_sd": (
        "y ~ x",
        visits(),
        {"sampling_sd": "sd"},
        UnknownNameError,
        ["There is no column 'sd'"],
    ),
    "empty formula": ("", visits(), {}, FormulaError, ["right side is empty", "write '1'"]),
    "no outcome": ("~ x", visits(), {}, BayesmixedError, ["'~ x' has no outcome", "'y ~ ...'"]),
    "empty data": ("y ~ x", visits().iloc[:0], {}, DataError, ["The data have no rows"]),
    "counts below 0": (
        "k ~ x",
        first_changed("k", 2, -1, 3, -2),
        {"family": "poisson"},
        DataError,
        ["family poisson must be a count: 0, 1, 2", "row 1 (-1), row 3 (-2)"],
    ),
    "broken counts": (
        "k ~ x",
        first_changed("k", 2.5),
        {"family": "negative_binomial"},
        DataError,
        ["family negative_binomial must be a count", "row 0 (2.5)"],
    ),
    "many outside the support": (
        "y ~ x",
        visits(y=-1.0 - np.arange(60)),
        {"family": "gamma"},
        DataError,
        ["must be above 0", "row 0 (-1), row 1 (-2)", "and 55 more rows"],
    ),
    "beta at the edge": (
        "y ~ x",
        visits(y=np.linspace(0, 1, 60)),
        {"family": "beta"},
        DataError,
        ["between 0 and 1, neither included", "row 0 (0), row 59 (1)"],
    ),
    "neither 0 nor 1": (
        "k ~ x",
        visits(),
        {"family": "bernoulli"},
        DataError,
        ["family bernoulli must be 0 or 1"],
    ),
    "logarithm of a negative outcome": (
        "log(y) ~ x",
        first_changed("y", 1, -2),
        {},
        DataError,
        ["must be a finite number", "row 1 (nan)"],
    ),
    "rows are named by the data's labels": (
        "y ~ x",
        visits(y=-1.0).set_index(pd.Index([f"visit {i}" for i in range(60)])),
        {"family": "lognormal"},
        DataError,
        ["row visit 0 (-1)"],
    ),
    "successes above trials": (
        "k | trials(n) ~ x",
        visits(k=5, n=[4, 3] + [9] * 58),
        {"family": "binomial"},
        DataError,
        ["More successes than trials at row 0 (5), row 1 (5)", "the trials are 4, 3"],
    ),
    "broken trials": (
        "k | trials(n) ~ x",
        first_changed("n", 4.5, 0),
        {"family": "beta_binomial"},
        DataError,
        ["number of trials 'n' must be a whole number from 1", "row 0 (4.5), row 1 (0)"],
    ),
    "trials that are text": (
        "k | trials(arm) ~ x",
        visits(),
        {"family": "binomial"},
        DataError,
        ["The number of trials 'arm' must hold numbers"],
    ),
    "no trials": (
        "k ~ x",
        visits(),
        {"family": "binomial"},
        BayesmixedError,
        ["binomial needs the number of trials", '"k | trials(n) ~ ..."', "bernoulli"],
    ),
    "trials without successes": (
        "y | trials(n) ~ x",
        visits(),
        {},
        BayesmixedError,
        ["family gaussian has none", 'family="binomial"'],
    ),
    "constant predictor": (
        "y ~ x + z",
        visits(z=3.5),
        {},
        DataError,
        ["The predictor 'z' is constant (3.5) in the 60 rows used", "leave it out"],
    ),
    "constant after dropping rows": (
        "y ~ x + z",
        visits(z=[1.0] * 50 + [2.0] * 10, x=[0.5, 1.5] * 25 + [np.nan] * 10),
        {},
        DataError,
        ["'z' is constant (1.0) in the 50 rows used"],
    ),
    "constant term": (
        "y ~ x + I(z > 99)",
        visits(),
        {},
        DataError,
        ["Constant in the formula for mu: I(z > 99)"],
    ),
    "constant for sigma": (
        "y ~ x",
        visits(),
        {"parameters": {"sigma": "~ I(z > 99)"}},
        DataError,
        ["Constant in the formula for sigma: I(z > 99)"],
    ),
    "collinear": (
        "y ~ x + z + arm",
        visits(z=lambda d: 2 * d["x"] - 3),
        {},
        DataError,
        ["Collinear predictors for mu", " follows exactly from ", "Leave one of them out"],
    ),
    "collinear with several": (
        "y ~ x + z + I(x + z)",
        visits(),
        {},
        DataError,
        ["follows exactly from", "I(x + z)"],
    ),
    "more terms than rows": (
        "y ~ arm * x * z",
        visits().iloc[:8],
        {},
        DataError,
        ["(8 rows for 12 terms)"],
    ),
    "spline that holds the intercept": (
        "y ~ cr(x, df=4)",
        visits(),
        {},
        DataError,
        ['Beside an intercept write cr(x, df=4, constraints="center").'],
    ),
    "infinite": (
        "y ~ x",
        first_changed("x", 1, np.inf, -np.inf),
        {},
        DataError,
        ["Column 'x' has infinite values in 2 rows, the first at row 1, 2 (inf)"],
    ),
    "infinite outcome": (
        "y ~ x",
        first_changed("y", np.inf),
        {},
        DataError,
        ["'y' has infinite values in 1 row"],
    ),
    "huge": (
        "y ~ x",
        first_changed("x", 1e300),
        {},
        DataError,
        ["huge values in 1 row", "row 0 (1e+300)"],
    ),
    "infinite term": (
        "y ~ log(x)",
        visits(x=[0.0, -1.0] + [1.5, 2] * 29),
        {},
        DataError,
        ["The term 'log(x)' is infinite", "row 0, 1", "positive values"],
    ),
    "infinite offset": (
        "k ~ x + offset(log(n))",
        first_changed("n", 1, 0),
        {"family": "poisson"},
        DataError,
        ["offset(log(n)) is infinite or not a number at row 1", "exposure above 0"],
    ),
    "text offset": ("y ~ offset(arm)", visits(), {}, DataError, ["offset(arm) must hold numbers"]),
    "factor with one level": (
        "y ~ x + arm",
        visits(arm="drug"),
        {},
        DataError,
        ["The factor 'arm' has one level only ('drug') in the 60 rows used", "leave it out"],
    ),
    "level missing from the stated ones": (
        "y ~ C(arm, levels=['control', 'drug'])",
        visits(),
        {},
        DataError,
        ["not among the levels"],
    ),
    "unknown base": (
        "y ~ C(arm, contr.treatment(base='none'))",
        visits(),
        {},
        DataError,
        ["'none'"],
    ),
    "text in arithmetic": (
        "y ~ I(arm * 2)",
        visits(),
        {},
        DataError,
        ["arm does not hold numbers", "I(arm == "],
    ),
    "text in a spline": (
        "y ~ bs(arm, df=4)",
        visits(),
        {},
        DataError,
        ["arm does not hold numbers"],
    ),
    "grouping with one group": (
        "y ~ x + (1 | g)",
        visits(g="a"),
        {},
        DataError,
        ["The grouping 'g' has one group only (a)", "leave the term out"],
    ),
    "a group for every row": (
        "y ~ x + (1 | g)",
        visits(g=np.arange(60)),
        {},
        DataError,
        ["Every row is its own group of 'g'", "family gaussian", "sampling_sd"],
    ),
    "a group for every row, bernoulli": (
        "k ~ x + (1 | g)",
        visits(g=np.arange(60), k=[0, 1] * 30),
        {"family": "bernoulli"},
        DataError,
        ["Every row is its own group of 'g'", "family bernoulli"],
    ),
    "slope constant in every group": (
        "y ~ x + (1 + z | g)",
        visits(z=lambda d: d["g"] * 1.5),
        {},
        DataError,
        ["z does not vary within any group of 'g'", "leave it out of (1 + z | g)"],
    ),
    "effect twice": (
        "y ~ (x | g) + (1 | g)",
        visits(),
        {},
        DataError,
        ["Intercept varies", "write it once"],
    ),
    "nothing varies": ("y ~ (0 | g)", visits(), {}, DataError, ["has no effect", "(1 | g)"]),
    "unknown family": (
        "y ~ x",
        visits(),
        {"family": "gausian"},
        UnknownNameError,
        ["There is no family 'gausian'", "'gaussian'"],
    ),
    "family of a wrong type": (
        "y ~ x",
        visits(),
        {"family": 3},
        UnknownNameError,
        ["There is no family '3'", "poisson"],
    ),
    "unknown link": (
        "y ~ x",
        visits(),
        {"link": "logit"},
        UnknownNameError,
        ["link for mu of family gaussian", "Did you mean 'log'"],
    ),
    "unknown prior": (
        "y ~ x",
        visits(),
        {"priors": {"beta[X]": NORMAL}},
        UnknownNameError,
        ["'beta[X]'", "Did you mean 'beta[x]'"],
    ),
    "prior of a wrong type": (
        "y ~ x",
        visits(),
        {"priors": {"beta[x]": 3}},
        PriorError,
        ["'beta[x]' must be a Prior"],
    ),
    "prior on a wrong support": (
        "y ~ x",
        visits(),
        {"priors": {"sigma": NORMAL}},
        PriorError,
        ["sigma is a number above 0"],
    ),
    "negative sampling_sd": (
        "y ~ x",
        first_changed("se", 0.5, -1, 0),
        {"sampling_sd": "se"},
        DataError,
        ["sampling_sd 'se' must be above 0 in every row", "row 1 (-1), row 2 (0)"],
    ),
    "sampling_sd that is text": (
        "y ~ x",
        visits(),
        {"sampling_sd": "arm"},
        DataError,
        ["sampling_sd 'arm' must hold numbers"],
    ),
    "sampling_sd that is a number": (
        "y ~ x",
        visits(),
        {"sampling_sd": 0.5},
        BayesmixedError,
        ["0.5"],
    ),
    "sampling_sd for counts": (
        "k ~ x",
        visits(),
        {"family": "poisson", "sampling_sd": "se"},
        BayesmixedError,
        ["sampling_sd is the known residual", "not with poisson"],
    ),
    "sampling_sd and a formula for sigma": (
        "y ~ x",
        visits(),
        {"sampling_sd": "se", "parameters": {"sigma": "~ x"}},
        BayesmixedError,
        ["no formula for it"],
    ),
    "hierarchy and random terms": (
        "y ~ x + (1 | g)",
        visits(),
        {"hierarchy": bm.Hierarchy({"g": "1"})},
        BayesmixedError,
        ["given twice", "(1 | g)"],
    ),
    "prior of a parameter that is not there, nothing alike": (
        "y ~ 1",
        visits(),
        {"priors": {"rho": NORMAL}},
        UnknownNameError,
        ["no parameter with a prior 'rho'", "Valid: Intercept, sigma."],
    ),
    "unknown parameter": (
        "y ~ x",
        visits(),
        {"parameters": {"sigmaa": "~ x"}},
        UnknownNameError,
        ["There is no parameter of gaussian 'sigmaa'", "'sigma'"],
    ),
    "the first parameter again": (
        "y ~ x",
        visits(),
        {"parameters": {"mu": "~ x"}},
        BayesmixedError,
        ["'mu'", "sigma"],
    ),
    "parameter with an outcome": (
        "y ~ x",
        visits(),
        {"parameters": {"sigma": "y ~ x"}},
        FormulaError,
        ["Only a right-hand side"],
    ),
    "text outcome": (
        "arm ~ x",
        visits(),
        {},
        DataError,
        ["'arm' holds text or categories ('control'", "I(arm == 'placebo')", 'family="ordinal"'],
    ),
    "ordinal text": (
        "arm ~ x",
        visits(),
        {"family": "ordinal"},
        DataError,
        ["whose order is not known", "pd.Categorical"],
    ),
    "ordinal with one category": (
        "arm ~ x",
        visits(arm=pd.Categorical(["a"] * 60)),
        {"family": "ordinal"},
        DataError,
        ["'arm' has one category only (a)"],
    ),
    "constant outcome": (
        "y ~ x",
        visits(y=2.0),
        {},
        DataError,
        ["'y' is constant (2) in all rows"],
    ),
    "a predictor called Intercept": (
        "y ~ Intercept",
        visits(Intercept=np.arange(60)),
        {},
        DataError,
        ["cannot be called 'Intercept'", "rename"],
    ),
    "two terms of one name": (
        "y ~ log(n) + `log(n)`",
        visits(**{"log(n)": np.arange(60)}),
        {},
        DataError,
        ["have the same name", "rename"],
    ),
    "missing values": (
        "y ~ x",
        first_changed("x", np.nan),
        {"missing": "raise"},
        DataError,
        ["1 row (x 1)", "row 0"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_has_its_own_sentence(case):
    formula, data, arguments, error, said = CASES[case]
    with pytest.raises(error) as caught:
        bm.Model(formula, data, **arguments)
    assert isinstance(caught.value, ValueError)
    message = str(caught.value)
    for part in said:
        assert part in message
    assert caught.value.__cause__ is None, "the cause is in the message, not in a second traceback"
    assert len(message) < 600


@pytest.mark.parametrize(
    "name", ["beta", "sigma", "draw", "chain", "term", "category", "row", "mu"]
)
def test_groupings_cannot_take_a_name_of_the_posterior(name):
    with pytest.raises(DataError, match=f"cannot be called '{name}'.*rename the column"):
        bm.Model(f"y ~ x + (1 | {name})", visits(**{name: np.repeat(np.arange(10), 6)}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": 0}, "draws=0: a whole number from 1"),
        ({"draws": 10.5}, r"draws=10\.5: a whole number"),
        ({"draws": True}, "draws=True: a whole number"),
        ({"tune": -1}, "tune=-1: a whole number from 1"),
        ({"chains": "4"}, "chains='4': a whole number"),
        ({"chains": None}, "chains=None: a whole number"),
        ({"max_depth": 0}, "max_depth=0: a whole number from 1"),
        ({"target_accept": 2}, "target_accept=2: a number between 0 and 1"),
        ({"target_accept": 1.0}, r"target_accept=1\.0: a number between 0 and 1"),
        ({"target_accept": float("nan")}, "target_accept=nan: a number between 0 and 1"),
        pytest.param(
            {"target_accept": "0.9"},
            r"target_accept='0\.9': a number between 0 and 1",
        ),
        ({"seed": -1}, "seed=-1: a whole number from 0"),
        ({"seed": 1.5}, r"seed=1\.5: a whole number from 0"),
        ({"seed": "1"}, "seed='1': a whole number from 0"),
        ({"sampler": "x"}, "There is no sampler 'x'. Valid: nutpie, pymc"),
        ({"sampler": None}, "There is no sampler 'None'"),
    ],
)
def test_settings_of_the_sampler(settings, message):
    ready = bm.Model("y ~ x + (1 | g)", visits())
    with pytest.raises((SamplingError, UnknownNameError), match=message):
        ready.fit(**settings, progress=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"hierarchy": {"g": "1"}}, "hierarchy"),
        ({"parameters": "~ x"}, "parameters"),
        ({"parameters": {"sigma": 3}}, "3"),
        ({"priors": 3}, "priors"),
        ({"priors": [NORMAL]}, "priors"),
    ],
)
def test_arguments_of_a_wrong_type(arguments, said):
    with pytest.raises(BayesmixedError, match=said):
        bm.Model("y ~ x", visits(), **arguments)


@pytest.mark.parametrize(
    ("formula", "data", "family"),
    [
        ("yes ~ x + (1 | g)", visits(yes=lambda d: d["x"] > 0.3), "bernoulli"),
        ("y ~ x + (1 | g)", visits(g=lambda d: d["g"] * 100 + 7), "gaussian"),
        ("y ~ x + (1 | g)", visits(g=lambda d: d["g"] > 4), "gaussian"),
        ("y ~ yes + x", visits(yes=lambda d: d["z"] > 0), "gaussian"),
        ("k | trials(n) ~ x + (1 | visit)", visits(visit=np.arange(60)), "binomial"),
        ("y ~ x + (1 | g)", visits(x=lambda d: d["x"] + 1e6), "gaussian"),
        ("k ~ x", visits(k=0), "poisson"),
        ("y ~ 1", visits(), "gaussian"),
    ],
)
def test_what_looks_odd_but_is_fine(formula, data, family):
    assert len(bm.Model(formula, data, family=family).design.y) == 60
