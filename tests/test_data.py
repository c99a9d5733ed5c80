"""From any tidy table to the complete rows of the variables in use."""

from __future__ import annotations

import datetime
import decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import bayesmixed as bm
from bayesmixed._errors import DataError, UnknownNameError
from bayesmixed.data import select, to_pandas


def columns() -> dict[str, list]:
    rng = np.random.default_rng(4)
    return {
        "y": rng.normal(size=30).tolist(),
        "x": rng.normal(size=30).tolist(),
        "arm": ["drug", "control", "placebo"] * 10,
        "unit": np.repeat(np.arange(6), 5).tolist(),
        "yes": [True, False, False, True, False] * 6,
        "unused": [None] * 30,
    }


TABLES = {
    "dict": lambda c: c,
    "pandas": pd.DataFrame,
    "pandas of pyarrow": lambda c: pd.DataFrame(c).convert_dtypes(dtype_backend="pyarrow"),
    "pandas nullable": lambda c: pd.DataFrame(c).convert_dtypes(),
    "polars": pl.DataFrame,
    "polars lazy": pl.LazyFrame,
    "pyarrow": pa.table,
}


@pytest.mark.parametrize("kind", TABLES)
def test_every_kind_of_table_gives_the_same_design(kind):
    formula = "y ~ x * arm + yes + (1 + x | unit)"
    expected = bm.Model(formula, pd.DataFrame(columns())).design
    design = bm.Model(formula, TABLES[kind](columns())).design
    np.testing.assert_array_equal(design.y, expected.y)
    ours, theirs = design.predictors["mu"], expected.predictors["mu"]
    assert ours.terms == theirs.terms
    np.testing.assert_array_equal(ours.X, theirs.X)
    np.testing.assert_array_equal(ours.random[0].groups.index, theirs.random[0].groups.index)
    assert ours.random[0].groups.labels.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", ["pandas", "polars", "polars lazy", "dict"])
def test_the_users_table_is_left_alone(kind):
    table = TABLES[kind](columns())
    before = to_pandas(table).copy()
    bm.Model("log(y + 9) ~ x * arm + (1 | unit)", table)
    pd.testing.assert_frame_equal(to_pandas(table), before)
    frame = pd.DataFrame({7: [1.0, 2.0, 4.0], "y": [1.0, 5.0, 2.0]})
    bm.Model("y ~ `7`", frame)
    assert list(frame.columns) == [7, "y"]


@pytest.mark.parametrize("data", [None, [1, 2], "data.csv", 5, np.zeros((3, 2)), pd.Series([1.0])])
def test_what_is_not_a_table(data):
    with pytest.raises(DataError, match=r"data must be a table \(pandas, polars, pyarrow, or a"):
        bm.Model("y ~ x", data)


@pytest.mark.parametrize("data", [{"y": [1, 2], "x": [1]}, {"y": 1, "x": 2}])
def test_columns_that_make_no_table(data):
    with pytest.raises(DataError, match="data is not a table"):
        bm.Model("y ~ x", data)


@pytest.mark.parametrize("kind", TABLES)
def test_no_rows(kind):
    empty = {name: values[:0] for name, values in columns().items()}
    with pytest.raises(DataError, match="The data have no rows"):
        bm.Model("y ~ x", TABLES[kind](empty))
    with pytest.raises(DataError, match="The data have no rows"):
        bm.Model("y ~ x", {})


def test_repeated_column_names():
    frame = pd.DataFrame(columns())
    twice = pd.concat([frame, frame[["x", "arm"]]], axis=1)
    with pytest.raises(DataError, match="Column names must be unique; repeated: x, arm"):
        bm.Model("y ~ x", twice)
    with pytest.raises(DataError, match=r"Column names must be unique; repeated: 1\."):
        bm.Model("y ~ x", frame.rename(columns={"unused": 1}).assign(**{"1": 0}))
    arrow = pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["x", "x"])
    with pytest.raises(DataError, match="unique"):
        bm.Model("y ~ x", arrow)


def test_column_names_that_are_not_text_are_read_as_text():
    frame = pd.DataFrame(columns()).rename(columns={"x": 2024})
    assert bm.Model("y ~ `2024` + I(`2024` > 0)", frame).design.predictors["mu"].terms[1] == "2024"
    with pytest.raises(UnknownNameError, match="There is no column 'x'"):
        bm.Model("y ~ x", frame)


def test_missing_rows_are_counted_by_variable():
    frame = pd.DataFrame(columns(), index=[f"r{i}" for i in range(30)])
    frame.loc["r0", "y"] = np.nan
    frame.loc[["r0", "r3"], "x"] = np.nan
    frame.loc["r7", "arm"] = None
    table = select(frame, ["y", "x", "arm", "unit"])
    assert dict(table.dropped) == {"y": 1, "x": 2, "arm": 1}
    assert table.rows_dropped == 3
    assert table.note == "3 of 30 rows dropped for missing values (y 1, x 2, arm 1)."
    model = bm.Model("y ~ x + arm + (1 | unit)", frame)
    assert model.notes == (table.note,)
    assert len(model.design.y) == 27
    assert list(model.design.table.frame.index[:2]) == ["r1", "r2"]
    assert select(frame, ["unit"]).note is None


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "pandas nullable"])
def test_missing_values_of_every_kind_of_table(kind):
    values = columns()
    values["x"][2] = None
    values["arm"][4] = None
    values["yes"][5] = None
    values["unit"][6] = None
    model = bm.Model("y ~ x + arm + yes + (1 | unit)", TABLES[kind](values))
    assert "4 of 30 rows dropped for missing values" in model.notes[0]
    assert model.design.groups[0].labels.tolist() == [0, 1, 2, 3, 4, 5]


def test_missing_rows_are_refused_on_request():
    frame = pd.DataFrame(columns())
    frame.loc[[4, 9], "x"] = np.nan
    with pytest.raises(DataError, match=r"Missing values in 2 rows \(x 2\), the first at row 4, 9"):
        bm.Model("y ~ x", frame, missing="raise")
    frame.loc[9, "x"] = 1.0
    with pytest.raises(DataError, match=r"Missing values in 1 row \(x 1\), the first at row 4\."):
        bm.Model("y ~ x", frame, missing="raise")
    bm.Model("y ~ arm", frame, missing="raise")
    with pytest.raises(UnknownNameError, match="Valid: drop, raise"):
        bm.Model("y ~ x", frame, missing="ignore")


def test_nothing_left():
    frame = pd.DataFrame(columns()).assign(x=np.nan)
    with pytest.raises(DataError, match=r"No row is complete.*x is missing in 30 of 30 rows"):
        bm.Model("y ~ x", frame)


def test_categories_keep_their_order_and_lose_what_is_unused():
    frame = pd.DataFrame(columns())
    order = ["placebo", "none", "drug", "control"]
    frame["arm"] = pd.Categorical(frame["arm"], categories=order)
    frame["unit"] = pd.Categorical(frame["unit"], categories=[5, 3, 9, 1, 0, 2, 4], ordered=True)
    frame.loc[frame["unit"] == 3, "x"] = np.nan
    design = bm.Model("y ~ arm + x + (1 | unit)", frame).design
    assert design.predictors["mu"].terms == ("Intercept", "arm[T.drug]", "arm[T.control]", "x")
    assert design.groups[0].labels.tolist() == [5, 1, 0, 2, 4]


def test_polars_categories_keep_their_order():
    enum = pl.Enum(["placebo", "none", "drug", "control"])
    frame = pl.DataFrame(columns()).with_columns(pl.col("arm").cast(enum))
    terms = bm.Model("y ~ arm", frame).design.predictors["mu"].terms
    assert terms == ("Intercept", "arm[T.drug]", "arm[T.control]")


def test_infinite_and_huge_values_are_refused():
    frame = pd.DataFrame(columns())
    frame.loc[[3, 8], "x"] = [np.inf, -np.inf]
    with pytest.raises(
        DataError, match=r"'x' has infinite values in 2 rows, the first at row 3, 8"
    ):
        bm.Model("y ~ x", frame)
    bm.Model("y ~ arm", frame)
    frame.loc[[3, 8], "x"] = [1e300, 0.0]
    with pytest.raises(
        DataError, match=r"'x' has huge values in 1 row, the first at row 3 \(1e\+300"
    ):
        bm.Model("y ~ x", frame)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([True, False, None] * 10, [1, 0]),
        ([decimal.Decimal("1.5"), decimal.Decimal(2), None] * 10, [1.5, 2]),
        ([1, 2.5, None] * 10, [1, 2.5]),
    ],
)
def test_numbers_stored_as_objects_are_numbers(values, expected):
    frame = pd.DataFrame(columns()).assign(x=pd.Series(values, dtype=object))
    X = bm.Model("y ~ x", frame).design.predictors["mu"].X
    assert X[:2, -1].tolist() == expected
    assert len(X) == 20


@pytest.mark.parametrize(
    ("values", "kinds"), [([1, "a"], "int, str"), ([[1], [2]], "list"), ([b"a", b"b"], "bytes")]
)
@pytest.mark.parametrize("formula", ["y ~ x", "y ~ (1 | x)", "x ~ 1"])
def test_mixed_and_strange_objects_are_refused(values, kinds, formula):
    frame = pd.DataFrame(columns()).assign(x=pd.Series(values * 15, dtype=object))
    with pytest.raises(DataError, match=f"Column 'x' holds values of type {kinds}"):
        bm.Model(formula, frame)


@pytest.mark.parametrize("formula", ["y ~ x", "x ~ y"])
def test_complex_numbers_are_refused(formula):
    frame = pd.DataFrame(columns()).assign(x=lambda d: d["x"] + 1j)
    with pytest.raises(DataError, match="Column 'x' holds complex numbers"):
        bm.Model(formula, frame)


@pytest.mark.parametrize(
    "dates",
    [
        pd.date_range("2020-01-01", periods=30),
        pd.to_timedelta(np.arange(30), "D"),
        [datetime.date(2020, 1, 1 + i) for i in range(30)],
    ],
)
def test_dates_are_refused_as_numbers_but_fine_as_groups(dates):
    frame = pd.DataFrame(columns()).assign(when=dates)
    with pytest.raises(DataError, match=r"The predictor 'when' holds dates.*dt\.days"):
        bm.Model("y ~ x + when", frame)
    with pytest.raises(DataError, match="The outcome 'when' holds dates"):
        bm.Model("when ~ x", frame)
    with pytest.raises(DataError, match="when"):
        bm.Model("y ~ log(when)", frame)
    visits = frame.assign(when=[dates[i // 5] for i in range(30)])
    assert len(bm.Model("y ~ x + (1 | when)", visits).design.groups[0].labels) == 6


def test_dates_can_be_compared():
    frame = pd.DataFrame(columns()).assign(when=pd.date_range("2020-01-01", periods=30))
    X = bm.Model("y ~ I(when > '2020-01-10')", frame).design.predictors["mu"].X
    assert X[:, 1].sum() == 20
