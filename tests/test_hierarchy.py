"""Levels of nesting against data: what is recognised, what is refused, how it is drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

import bayesmixed as bm
from bayesmixed._errors import BayesmixedError, DataError, FormulaError, UnknownNameError
from bayesmixed.spec import Grouping, RandomTerm


def cells() -> pd.DataFrame:
    """Regions, units, patients (numbered anew in every unit) and cells (anew in every patient)."""
    rng = np.random.default_rng(2)
    unit = np.repeat(["u0", "u1", "u2", "u3"], 30)
    return pd.DataFrame(
        {
            "region": np.repeat(["north", "south"], 60),
            "unit": unit,
            "patient": np.tile(np.repeat(np.arange(5), 6), 4),
            "cell": np.tile(np.arange(3), 40),
            "x": rng.normal(size=120),
            "y": rng.normal(size=120),
        }
    )


def unique_cells() -> pd.DataFrame:
    frame = cells()
    frame["patient"] = frame["unit"] + "p" + frame["patient"].astype(str)
    frame["cell"] = frame["patient"] + "c" + frame["cell"].astype(str)
    return frame


def test_it_prints_as_a_tree():
    assert str(bm.Hierarchy({"unit": "1", "patient": "1 + years", "cell": "1 ||"})) == (
        "unit: 1\n└─ patient: 1 + years\n   └─ cell: 1 ||"
    )


TREE = """region: 2 groups, 60 rows each
└─ unit: 4 groups, 2 per region, 30 rows each
   └─ patient: 20 groups, 5 per unit, 6 rows each
      └─ cell: 60 groups, 3 per patient, 2 rows each"""


@pytest.mark.parametrize("data", [cells(), unique_cells(), pl.DataFrame(cells())])
def test_the_tree_has_numbers_and_sizes(data):
    levels = bm.Hierarchy({"region": "1", "unit": "1", "patient": "1", "cell": "1"})
    assert levels.tree(data) == TREE


def test_ranges_and_single_rows_in_the_tree():
    frame = pd.DataFrame({"unit": [1, 1, 1, 2], "patient": ["a", "b", "c", "d"]})
    assert bm.Hierarchy({"unit": "1", "patient": "1"}).tree(frame) == (
        "unit: 2 groups, 1 to 3 (median 2) rows each\n"
        "└─ patient: 4 groups, 1 to 3 (median 2) per unit, 1 row each"
    )
    assert bm.Hierarchy({"unit": "1"}).tree(frame.iloc[:3]) == "unit: 1 group, 3 rows each"


@pytest.mark.parametrize(
    ("formula", "drawn"),
    [
        ("y ~ x + (1 | unit)", "unit: 4 groups, 30 rows each"),
        (
            "y ~ x + (1 | unit/patient)",
            "unit: 4 groups, 30 rows each\n└─ unit:patient: 20 groups, 5 per unit, 6 rows each",
        ),
        (
            "y ~ x + (1 | patient) + (1 | unit)",
            "unit: 4 groups, 30 rows each\npatient: 5 groups, 24 rows each",
        ),
        ("y ~ x", "no groups"),
    ],
)
def test_a_designs_tree_tells_nested_from_crossed(formula, drawn):
    assert sorted(bm.Model(formula, cells()).design.tree().splitlines()) == sorted(
        drawn.splitlines()
    )


def test_unique_labels_are_used_as_they_are():
    levels = bm.Hierarchy({"unit": "1", "patient": "1 + x"})
    terms, notes = levels.terms(unique_cells())
    assert terms == (
        RandomTerm("1", Grouping(("unit",), "unit")),
        RandomTerm("1 + x", Grouping(("patient",), "patient")),
    )
    assert notes == ()


def test_labels_used_again_are_recognised_and_explained():
    model = bm.Model(
        "y ~ x", cells(), hierarchy=bm.Hierarchy({"unit": "1", "patient": "1", "cell": "1"})
    )
    patient, cell = model.spec.predictors["mu"].random[1:]
    assert patient.grouping == Grouping(("unit", "patient"), "patient")
    assert cell.grouping == Grouping(("unit", "patient", "cell"), "cell")
    assert model.notes[:2] == (
        "The labels of 'patient' start again within each 'unit', so its groups are identified by "
        "unit and patient together.",
        "The labels of 'cell' start again within each 'patient', so its groups are identified by "
        "unit, patient and cell together.",
    )
    labels = model.design.groups[1].labels
    assert len(labels) == 20
    assert labels[0] == "u0:0"


def test_what_the_user_says_about_labels_counts():
    levels = {"unit": "1", "patient": "1"}
    with pytest.raises(DataError, match="not nested: 5 of 5 groups of 'patient'"):
        bm.Hierarchy(levels, labels="unique").terms(cells())
    (_, patient), notes = bm.Hierarchy(levels, labels="within_parent").terms(unique_cells())
    assert patient.grouping.factors == ("unit", "patient")
    assert len(notes) == 1


def test_patients_in_two_units_are_named():
    frame = unique_cells()
    frame.loc[0, "patient"] = "u3p4"
    frame.loc[40, "patient"] = "u0p1"
    with pytest.raises(DataError) as caught:
        bm.Model("y ~ x", frame, hierarchy=bm.Hierarchy({"unit": "1", "patient": "1"}))
    message = str(caught.value)
    assert "2 of 20 groups of 'patient' are found in more than one 'unit'" in message
    assert "u0p1 (in u0, u1), u3p4 (in u0, u3)" in message
    assert 'labels="within_parent"' in message
    assert "(1 | unit) + (1 | patient)" in message


def test_missing_labels_are_no_offence():
    frame = unique_cells()
    frame.loc[:3, "unit"] = None
    frame.loc[90, "patient"] = None
    model = bm.Model("y ~ x", frame, hierarchy=bm.Hierarchy({"unit": "1", "patient": "1"}))
    assert [len(g.labels) for g in model.design.groups] == [4, 20]
    assert model.notes == ("5 of 120 rows dropped for missing values (unit 4, patient 1).",)


def test_levels_in_the_wrong_order_are_noticed():
    with pytest.raises(DataError, match="levels go from outer to inner"):
        bm.Model("y ~ x", unique_cells(), hierarchy=bm.Hierarchy({"patient": "1", "unit": "1"}))


def test_the_same_groups_twice_cannot_be_told_apart():
    frame = unique_cells().assign(person=lambda d: d["patient"].str.upper())
    with pytest.raises(DataError, match=r"'patient' and 'person' are the same rows.*Intercept"):
        bm.Model("y ~ x + (1 | patient) + (1 + x | person)", frame)
    bm.Model("y ~ x + (1 | patient) + (0 + x | person)", frame)


def test_uncorrelated_effects_end_in_bars():
    frame = unique_cells()
    design = bm.Model("y ~ x", frame, hierarchy=bm.Hierarchy({"unit": "1 + x ||"})).design
    (unit,) = design.predictors["mu"].random
    assert unit.effects == ("Intercept", "x")
    assert unit.blocks == ((0,), (1,))
    assert not unit.is_correlated


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ({}, "needs at least one level, outer to inner"),
        (None, "needs at least one level"),
        ([("unit", "1")], "needs at least one level"),
        ("unit", "needs at least one level"),
        ({3: "1"}, "A level is the name of a column, not 3"),
        ({"": "1"}, "A level is the name of a column, not ''"),
        ({"unit": 1}, "Level 'unit': what varies between its groups is text .* not 1"),
        ({"unit": ""}, "Level 'unit': what varies between its groups is text"),
        ({"unit": "||"}, "Level 'unit': what varies between its groups is text"),
        ({"unit": "(1 | patient)"}, "only the effects are written here"),
        ({"unit": "offset(x)"}, "only the effects are written here"),
    ],
)
def test_what_is_no_hierarchy(levels, message):
    with pytest.raises(BayesmixedError, match=message):
        bm.Hierarchy(levels)


def test_unreadable_effects_have_a_caret():
    with pytest.raises(FormulaError, match=r"operator such as '\+' is missing") as caught:
        bm.Hierarchy({"unit": "1 x"})
    assert str(caught.value).endswith("  1 x\n    ^")
    with pytest.raises(FormulaError, match="Only a right-hand side"):
        bm.Hierarchy({"unit": "y ~ x"})


def test_unknown_levels_and_kinds_of_labels():
    with pytest.raises(UnknownNameError, match="Valid: auto, unique, within_parent"):
        bm.Hierarchy({"unit": "1"}, labels="some")
    levels = bm.Hierarchy({"unit": "1", "patients": "1"})
    with pytest.raises(UnknownNameError, match=r"'patients'. Did you mean 'patient'"):
        bm.Model("y ~ x", cells(), hierarchy=levels)
    with pytest.raises(UnknownNameError, match="'patients'"):
        levels.tree(cells())


def test_labels_that_look_alike_once_joined_are_refused():
    frame = cells().assign(unit=np.repeat(["a:b", "a"], 60), patient=np.tile(["c", "d", "b:c"], 40))
    with pytest.raises(DataError, match="replace the ':' in the labels"):
        bm.Model("y ~ x + (1 | unit:patient)", frame)
