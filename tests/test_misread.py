"""Text that was meant to be numbers or dates is recognised; other text is left alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesmixed as bm
from bayesmixed.misread import meant


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["1,5", "2,25", "3", "-0,1"], "decimal=','"),
        (["1.234,5", "2,0"], "decimal=','"),
        (["1.5", "2", "missing", "3"], "but for 'missing' in 1 rows"),
        (["1", "2", "10"], "stored as text"),
        (["01/02/2026", "3/2/2026"], "dates"),
        (["2026-01-31", "2026-02-01 10:30"], "dates"),
        (["a", "b"], ""),
        (["3 mg", "5 mg"], ""),
        (["1-2", "3-4"], ""),  # classes of age
        (["H1", "2", "north"], ""),
        ([1.0, 2.0], ""),
    ],
)
def test_what_text_was_meant_to_be(values, says):
    found = meant(pd.Series(values, name="x"))
    assert says in found if says else found == ""


def _visits(**columns):
    rng = np.random.default_rng(1)
    return pd.DataFrame({"y": rng.normal(size=60), **columns})


def test_an_outcome_with_decimal_commas_is_refused_with_the_remedy():
    data = _visits(x=np.arange(60.0)).assign(
        y=lambda d: d["y"].map(lambda v: f"{v:.2f}".replace(".", ","))
    )
    with pytest.raises(bm.BayesmixedError, match="decimal commas; read the file with"):
        bm.Model("y ~ x", data)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ([f"{i / 10:.1f}".replace(".", ",") for i in range(60)], "decimal commas"),
        ([f"{i % 28 + 1:02d}/01/2026" for i in range(60)], "dates"),
        ([f"patient {i % 40}" for i in range(60)], r"Is it a group, such as \(1 \| x\)"),
        ([f"{i}" if i < 40 else "{below} {0}" for i in range(60)], r"but for '\{below\} \{0\}'"),
    ],
)
def test_a_predictor_with_a_coefficient_for_every_value_is_noted(column, says):
    model = bm.Model("y ~ x", _visits(x=column))
    (note,) = model.notes
    assert "each has a coefficient of its own" in note
    assert pd.Series([note]).str.contains(says).all()


@pytest.mark.parametrize("column", [["a", "b", "c"] * 20, [str(i % 10) for i in range(60)]])
def test_a_factor_is_not_noted(column):
    assert bm.Model("y ~ x", _visits(x=column)).notes == ()


def test_dates_that_begin_with_a_day_are_no_order_of_visits():
    data = _visits(day=[f"{i % 28 + 1:02d}/{i // 28 + 1:02d}/2026" for i in range(60)])
    data["id"] = np.arange(60) // 10
    with pytest.raises(bm.BayesmixedError, match="dates as text, such as '01/01/2026'"):
        bm.Model("y ~ 1", data, residual=bm.AR1(time="day", within="id"))


def test_a_gap_does_not_make_floats_of_whole_labels():
    ids = np.repeat([1001.0, 1002.0, np.nan], 20)
    model = bm.Model("y ~ 1 + (1 | id)", _visits(id=ids))
    labels = model.design.groups[0].labels
    assert labels.tolist() == [1001, 1002]
    assert labels.dtype.kind == "i"
    new = pd.DataFrame({"id": [1002.0, 1003.0]})
    assert model.design.groups[0].match(new).tolist() == [1, -1]


def test_families_of_other_packages_are_named():
    with pytest.raises(bm.BayesmixedError, match="here it is 'bernoulli'"):
        bm.Model("y ~ 1", _visits(), family="logistic")
