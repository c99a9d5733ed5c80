"""Every data set loads, agrees with its description, and says where it comes from."""

import re
from math import sqrt

import pandas as pd
import pytest

from bayesmixed import datasets
from bayesmixed._errors import BayesmixedError, UnknownNameError

ROWS = {
    "sleepstudy": 180,
    "cbpp": 56,
    "pastes": 60,
    "dyestuff2": 30,
    "orthodont": 108,
    "epil": 236,
    "respiratory": 444,
    "antidepressant": 608,
    "toenail": 1908,
    "bcg": 13,
    "konstantopoulos2011": 56,
    "nielweise2007": 18,
    "senn2013": 53,
    "hasselblad1998": 50,
    "berkey1998": 10,
    "hackshaw1998": 37,
    "hearttransplants": 94,
    "influenza": 2496,
    "medpar": 1495,
}
every = pytest.mark.parametrize("name", ROWS)


def test_list_has_one_row_per_data_set():
    table = datasets.list()
    assert dict(zip(table.name, table.rows, strict=True)) == ROWS
    assert {"name", "rows", "title", "formula"} <= set(table.columns)


@every
def test_table_agrees_with_its_description(name):
    data, about = datasets.load(name), datasets.describe(name)
    assert len(data) == about.rows == ROWS[name]
    assert list(data.columns) == list(about.variables)
    assert not data.isna().any().any()
    assert data.attrs == {"dataset": name}
    assert set(about.levels) == {c for c in data if isinstance(data[c].dtype, pd.CategoricalDtype)}
    for column, levels in about.levels.items():
        assert tuple(data[column].cat.categories) == levels
        assert data[column].cat.ordered == (column in about.ordered)
    for column in data.columns.difference([*about.levels]):
        assert pd.api.types.is_numeric_dtype(data[column]) == (column not in about.text)
    assert set(about.derived) == {c for c, m in about.variables.items() if m.startswith("derived")}


@every
def test_description_is_complete(name):
    about = datasets.describe(name)
    for text in (about.title, about.description, about.source, about.origin, about.licence):
        assert text.strip() == text != ""
    assert all(about.variables.values())
    assert about.licence.startswith(("GPL", "Apache-2.0"))
    assert re.search(r"\b(19|20)\d\d\b", about.source), "a source has a year"


@every
def test_suggested_model_uses_columns_of_the_table(name):
    about = datasets.describe(name)
    words = set(re.findall(r"[A-Za-z_]\w*", about.formula))
    assert words - {"trials", "offset", "log", "factor"} <= set(about.variables)
    assert about.sampling_sd is None or about.sampling_sd in about.variables


@every
def test_description_prints_in_columns(name):
    about = datasets.describe(name)
    lines = str(about).splitlines()
    assert lines[0] == f"{name}: {about.title}"
    assert max(map(len, lines)) <= 96
    # The meanings start in one column, after two spaces at least.
    width = max(map(len, about.variables)) + 2
    for column, meaning in about.variables.items():
        assert any(line.startswith(f"{column:<{width}}{meaning[:20]}") for line in lines)


def test_tables_are_independent():
    changed = datasets.load("cbpp")
    changed["size"] = 0
    assert datasets.load("cbpp")["size"].sum() > 0


def test_reference_levels_come_first():
    def levels(name, column):
        return list(datasets.load(name)[column].cat.categories)

    assert levels("cbpp", "period") == ["1", "2", "3", "4"]
    assert levels("orthodont", "Sex") == ["Female", "Male"]
    assert levels("epil", "trt") == ["placebo", "progabide"]
    assert levels("respiratory", "treat") == ["A", "P"]
    assert levels("respiratory", "sex") == ["F", "M"]
    assert levels("toenail", "outcome") == ["none or mild", "moderate or severe"]
    assert levels("toenail", "treatment") == ["itraconazole", "terbinafine"]
    assert levels("bcg", "alloc") == ["random", "alternate", "systematic"]


def test_types_that_models_rely_on():
    assert datasets.load("sleepstudy").Subject.iloc[0] == "308"
    assert datasets.load("influenza").district.iloc[0] == "9162"
    for name, columns in {
        "sleepstudy": ["Days"],
        "orthodont": ["age"],
        "epil": ["subject", "period"],
        "respiratory": ["center", "id", "visit"],
        "medpar": ["type", "provnum"],
        "influenza": ["period", "year"],
    }.items():
        assert all(datasets.load(name)[columns].dtypes == "int64"), name


def test_derived_columns():
    toenail = datasets.load("toenail")
    assert (toenail.severe == toenail.outcome.cat.codes).all()
    # First and last trial by escalc(measure="RR") of metafor 3.8.1.
    bcg = datasets.load("bcg")
    assert bcg.yi.iloc[[0, -1]].to_list() == pytest.approx([-0.88931133, -0.01731395], abs=1e-8)
    assert bcg.sei.iloc[[0, -1]].to_list() == pytest.approx(
        [sqrt(0.32558477), sqrt(0.07140466)], abs=1e-8
    )
    schools = datasets.load("konstantopoulos2011")
    assert (schools.sei**2).to_numpy() == pytest.approx(schools.vi.to_numpy())
    catheters = datasets.load("nielweise2007")
    assert catheters.events[0] == 3
    assert catheters.log_size_ratio[0] == pytest.approx(-0.008584, abs=1e-6)


@pytest.mark.parametrize("ask", [datasets.load, datasets.describe])
def test_unknown_name_says_what_is_valid(ask):
    with pytest.raises(UnknownNameError, match=r"no data set 'sleepstdy'.*'sleepstudy'"):
        ask("sleepstdy")
    with pytest.raises(BayesmixedError, match=r"no data set 'x'.*cbpp.*medpar"):
        ask("x")
    with pytest.raises(BayesmixedError, match=r"no data set '\.\./catalogue'"):
        ask("../catalogue")
