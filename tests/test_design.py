"""A spec meets data: outcome, trials, known noise, effects and groups as arrays."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesmixed as bm
from bayesmixed._errors import DataError
from bayesmixed.groups import Groups
from bayesmixed.spec import Grouping


def visits() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = 60
    return pd.DataFrame(
        {
            "y": rng.lognormal(size=n),
            "k": rng.integers(0, 4, n),
            "n": rng.integers(4, 9, n),
            "x": rng.normal(size=n),
            "se": rng.uniform(0.5, 1, n),
            "arm": np.tile(["control", "drug", "placebo"], 20),
            "g": np.repeat(np.arange(10), 6),
            "h": np.tile(np.arange(4), 15),
        }
    )


def test_the_outcome_may_be_an_expression():
    data = visits()
    np.testing.assert_allclose(bm.Model("log(y) ~ x", data).design.y, np.log(data["y"]))
    np.testing.assert_allclose(bm.Model("I(y / n) ~ x", data).design.y, data["y"] / data["n"])
    yes = bm.Model("I(arm == 'drug') ~ x", data, family="bernoulli").design.y
    np.testing.assert_array_equal(yes, data["arm"] == "drug")
    boolean = data.assign(yes=data["x"] > 0)
    design = bm.Model("yes ~ y", boolean, family="bernoulli").design
    np.testing.assert_array_equal(design.y, data["x"] > 0)


@pytest.mark.parametrize(
    ("trials", "expected"),
    [("n", lambda d: d["n"]), ("10", lambda d: 10), ("n + 1", lambda d: d["n"] + 1)],
)
def test_trials_are_a_column_a_number_or_an_expression(trials, expected):
    data = visits()
    design = bm.Model(f"k | trials({trials}) ~ x", data, family="binomial").design
    np.testing.assert_array_equal(design.trials, np.broadcast_to(expected(data), 60))
    assert design.known["trials"] is design.trials


@pytest.mark.parametrize(
    ("code", "expected"),
    [("se", lambda d: d["se"]), ("sqrt(n)", lambda d: np.sqrt(d["n"])), ("0.5", lambda d: 0.5)],
)
def test_the_known_sd_is_a_column_or_an_expression(code, expected):
    data = visits()
    design = bm.Model("y ~ x", data, sampling_sd=code).design
    np.testing.assert_allclose(design.sampling_sd, np.broadcast_to(expected(data), 60))


def test_an_effect_for_every_row_needs_a_known_sd_or_counts():
    data = visits().assign(visit=np.arange(60))
    bm.Model("y ~ x + (1 | visit)", data, sampling_sd="se")
    bm.Model("k ~ x + (1 | visit)", data, family="poisson")
    bm.Model("k | trials(n) ~ x + (1 | visit)", data, family="binomial")
    with pytest.raises(DataError, match="Every row is its own group of 'visit'"):
        bm.Model("k | trials(1) ~ x + (1 | visit)", data.assign(k=data["k"] > 1), family="binomial")


def test_ordered_categories_become_codes():
    data = visits().assign(
        stage=lambda d: pd.Categorical(
            d["arm"], categories=["none", "placebo", "drug", "control"], ordered=True
        )
    )
    design = bm.Model("stage ~ x", data, family="ordinal").design
    assert design.categories == ("placebo", "drug", "control")
    assert design.y[:3].tolist() == [2, 1, 0]
    assert design.predictors["mu"].terms == ("x",)
    numbers = bm.Model("n ~ x", data, family="ordinal").design
    assert numbers.categories == ("4", "5", "6", "7", "8")


def test_correlated_and_independent_effects_of_one_grouping_stand_in_one_block_list():
    data = visits()
    (g,) = bm.Model("y ~ x + (1 + x | g) + (0 + se || g)", data).design.predictors["mu"].random
    assert g.effects == ("Intercept", "x", "se")
    assert g.blocks == ((0, 1), (2,))
    assert g.is_correlated
    np.testing.assert_allclose(g.Z[:, 1], data["x"])
    (g,) = bm.Model("y ~ x + (1 + x || g)", data).design.predictors["mu"].random
    assert g.blocks == ((0,), (1,))


def test_independent_effects_of_a_factors_levels():
    (g,) = bm.Model("y ~ arm + (0 + arm || g)", visits()).design.predictors["mu"].random
    assert g.effects == ("arm[control]", "arm[drug]", "arm[placebo]")
    np.testing.assert_array_equal(g.Z.sum(axis=1), 1)


def test_a_variance_for_each_arm_of_a_trial():
    """Each group is in one arm: a slope of arm cannot vary, but a variance for each arm can."""
    data = visits().assign(arm=lambda d: np.where(d["g"] < 5, "control", "drug"))
    bm.Model("y ~ arm + (0 + arm || g)", data)
    with pytest.raises(DataError, match=r"arm\[T.drug\] does not vary within any group of 'g'"):
        bm.Model("y ~ arm + (1 + arm | g)", data)


def test_groups_of_several_columns_are_joined():
    groups = Groups.of(Grouping(("g", "h")), visits())
    assert groups.name == "g:h"
    assert groups.labels[0] == "0:0"
    assert groups.sizes.sum() == 60
    assert len(groups.labels) == len(visits()[["g", "h"]].drop_duplicates())


def test_integer_coded_groups_keep_their_labels():
    data = visits().assign(g=lambda d: d["g"] * 7 - 3)
    groups = bm.Model("y ~ x + (1 | g)", data).design.groups[0]
    assert groups.labels.tolist() == [7 * i - 3 for i in range(10)]
    np.testing.assert_array_equal(groups.labels[groups.index], data["g"])


def test_a_linear_predictor_adds_up():
    data = visits()
    design = bm.Model("y ~ x + offset(log(n)) + (1 + x | g) + (1 | h)", data).design
    predictor = design.predictors["mu"]
    rng = np.random.default_rng(6)
    beta, u, v = rng.normal(size=(3, 2)), rng.normal(size=(3, 10, 2)), rng.normal(size=(3, 4, 1))
    eta = predictor.eta(beta, {"g": u, "h": v})
    expected = (
        beta[:, [0]]
        + np.outer(beta[:, 1], data["x"])
        + np.log(data["n"].to_numpy())
        + u[:, data["g"], 0]
        + u[:, data["g"], 1] * data["x"].to_numpy()
        + v[:, data["h"], 0]
    )
    np.testing.assert_allclose(eta, expected)
    np.testing.assert_allclose(
        predictor.eta(beta, {}), beta @ predictor.X.T + np.log(data["n"].to_numpy())
    )


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1, 1e30, 1e45])
def test_the_unit_of_a_predictor_does_not_matter(scale):
    data = visits().assign(x=lambda d: d["x"] * scale, z=lambda d: d["x"] + d["se"] * scale)
    assert bm.Model("y ~ x + z + (1 + x | g)", data).design.predictors["mu"].terms[1:] == ("x", "z")
    with pytest.raises(DataError, match=r"(x|z) follows exactly from (x|z)"):
        bm.Model("y ~ x + z", data.assign(z=data["x"] * 3 + scale))


def test_a_predictor_far_from_zero_is_not_constant():
    data = visits().assign(year=lambda d: 2_000_000 + d["h"])
    bm.Model("y ~ year + I(year > 2000001)", data)


def test_a_hundred_thousand_rows_in_ten_thousand_groups():
    rng = np.random.default_rng(7)
    n = 100_000
    unit = rng.integers(0, 100, n)
    data = pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "unit": unit,
            "patient": rng.integers(0, 100, n),
        }
    )
    hierarchy = bm.Hierarchy({"unit": "1", "patient": "1 + x"})
    design = bm.Model("y ~ bs(x, df=5)", data, hierarchy=hierarchy).design
    assert len(design.groups[1].labels) == 10_000
    assert design.tree().count("\n") == 1
