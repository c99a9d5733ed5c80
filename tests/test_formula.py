"""Formula text becomes spec values, and the same text again."""

from __future__ import annotations

import json

import formulaic
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bayesmixed as bm
from bayesmixed import formula
from bayesmixed._errors import DataError, FormulaError, UnknownNameError
from bayesmixed.formula import parse, parse_predictor
from bayesmixed.spec import Grouping, ModelSpec, PredictorSpec, RandomTerm


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    n = 120
    return pd.DataFrame(
        {
            "y": rng.lognormal(size=n),
            "k": rng.integers(0, 5, n),
            "n": rng.integers(5, 9, n),
            "x": rng.normal(50, 10, n),
            "z": rng.uniform(1, 2, n),
            "days at risk": rng.integers(1, 90, n),
            "heart.rate": rng.normal(70, 8, n),
            "arm": rng.choice(["control", "drug", "placebo"], n),
            "stage": pd.Categorical(
                rng.choice(["mild", "worse"], n), categories=["worse", "mild", "none"]
            ),
            "unit": np.repeat(np.arange(6), 20),
            "patient": np.tile(np.repeat(np.arange(5), 4), 6),
            "item": np.tile(np.arange(4), 30),
        }
    )


def term(effects: str, *factors: str, correlated: bool = True) -> RandomTerm:
    return RandomTerm(effects, Grouping(factors), correlated)


@pytest.mark.parametrize(
    ("text", "fixed", "random"),
    [
        ("y ~ x", "x", []),
        ("y ~ 1", "1", []),
        ("y ~ (1 | g)", "1", [term("1", "g")]),
        ("y ~ x + (1 | g)", "x", [term("1", "g")]),
        ("y~x+(1+x|g)", "x", [term("1+x", "g")]),
        ("y ~ x + (x || g)", "x", [term("x", "g", correlated=False)]),
        ("y ~ (1 | a/b)", "1", [term("1", "a"), term("1", "a", "b")]),
        (
            "y ~ (x | a/b/c)",
            "1",
            [term("x", "a"), term("x", "a", "b"), term("x", "a", "b", "c")],
        ),
        ("y ~ (1 | a:b)", "1", [term("1", "a", "b")]),
        ("y ~ (1 | a) + (1 | b)", "1", [term("1", "a"), term("1", "b")]),
        ("y ~ (1 | g) + (0 + x | g)", "1", [term("1", "g"), term("0 + x", "g")]),
        ("y ~ (1 | g) + x", "x", [term("1", "g")]),
        ("y ~ x - 1 + (1 | g)", "x - 1", [term("1", "g")]),
        ("y ~ -1 + x", "- 1 + x", []),
        ("y ~ 0 + x", "0 + x", []),
        ("y ~ (a + b)**2 + (1 | g)", "(a + b)**2", [term("1", "g")]),
        ("y ~ a*b - a:b", "a*b - a:b", []),
        ("y ~ bs(x, df=4) + (bs(x, df=4) | g)", "bs(x, df=4)", [term("bs(x, df=4)", "g")]),
        ("y ~ x + (1 | `care unit`)", "x", [term("1", "care unit")]),
    ],
)
def test_right_side(text, fixed, random):
    read = parse(text)
    assert read.response == "y"
    assert read.predictor == PredictorSpec(fixed, tuple(random))


@pytest.mark.parametrize(
    ("text", "response", "trials"),
    [
        ("y ~ x", "y", None),
        ("log(y) ~ x", "log(y)", None),
        ("I(y / 10) ~ x", "I(y / 10)", None),
        ("`my y` ~ x", "`my y`", None),
        ("heart.rate ~ x", "heart.rate", None),
        ("k | trials(n) ~ x", "k", "n"),
        ("k|trials(10)~x", "k", "10"),
        ("k | trials(n + m) ~ x", "k", "n + m"),
        ("~ x", None, None),
        ("x", None, None),
    ],
)
def test_left_side(text, response, trials):
    read = parse(text)
    assert (read.response, read.trials) == (response, trials)
    assert read.predictor.fixed == "x"


def test_offsets_are_taken_out_of_the_population_part():
    read = parse_predictor("x + offset(log(z)) + (1 | g) + offset(2 * w)")
    assert read == PredictorSpec("x", (term("1", "g"),), ("log(z)", "2 * w"))
    assert parse_predictor("offset(log(z))").fixed == "1"


def test_variables_are_found_in_calls_backquotes_and_groupings():
    text = "y ~ log(x) + `days at risk`:I(a > b) + C(arm, contr.sum) + (1 | u:v) + heart.rate"
    found = formula.variables(text)
    assert found == ("y", "x", "days at risk", "a", "b", "arm", "u", "v", "heart.rate")


@pytest.mark.parametrize(
    ("text", "spot", "message"),
    [
        ("y ~ x + (1 | g", "(", "never closed"),
        ("y ~ x + 1)", ")", "never opened"),
        ("y ~ x + log(z", "log(z", "never closed"),
        ("y ~ x + 'a", "'a", "never closed"),
        ("y ~ x z", "z", "operator such as '+' is missing"),
        ("y ~ x + ()", ")", "nothing in these brackets"),
        ("y ~ x +", "+", "ends with an operator"),
        ("y ~ x @ z", "@", "'@' is not an operator of formulas"),
        ("y ~ x %in% z", "%in%", "is not an operator of formulas"),
        ("y ~ x ~ z", "~ z", "one '~'"),
        ("y ~ .", ".", "write the predictors out"),
        ("y ~ 2:x", "2", "write I(2 * x)"),
        ("y ~ x**2", "**", "write I(x**2)"),
        ("y ~ (x + z)**9", "9", "up to power 4"),
        ("y ~ x + {z}", "{", "'{' is not allowed"),
        ("y ~ x + z\\1", "\\", "is not allowed"),
        ("y ~ x + 'z'", "'z'", "only inside a function"),
        ("y ~ x + (1 | g) | h", "|", "stands alone in brackets"),
        ("y ~ x + 1 | g", "|", "stands alone in brackets"),
        ("y ~ x + ( | g)", "|", "what varies between groups"),
        ("y ~ x + (1 | g | h)", "|", "one '|' or '||'"),
        ("y ~ x + (1 | )", "|", "After the bar come grouping columns"),
        ("y ~ x + (1 | factor(g))", "factor", "After the bar come grouping columns"),
        ("y ~ x + (1 | g + h)", "+ h", "joined by ':' or '/'"),
        ("y ~ x - (1 | g)", "(1", "added, not subtracted"),
        ("y ~ x - offset(z)", "offset", "added, not subtracted"),
        ("y ~ x:offset(z)", "offset", "stands alone"),
        ("y ~ x + trials(n)", "trials", "belongs on the left side"),
        ("y + z ~ x", "+", "left side is one column"),
        ("k | n ~ x", "n", "only trials(n)"),
        ("offset(k) ~ x", "offset", "outcome comes first"),
        ("y ~ x + offset(z, w)", "offset", "takes one column or expression"),
        ("y ~ lgo(x)", "lgo", "Did you mean log()?"),
        ("y ~ x + I(z; w)", ";", "cannot be read"),
        ("`größe` ~ x + exp(`größe`) + lgo(x)", "lgo", "Did you mean log()?"),
        ("y ~ I(`größe` + lgo(x))", "lgo", "Did you mean log()?"),
        ("y ~ x\n+ lgo(z)", "lgo", "Did you mean log()?"),
    ],
)
def test_errors_point_at_the_spot(text, spot, message):
    with pytest.raises(FormulaError) as caught:
        parse(text)
    first, shown, caret = str(caught.value).rsplit("\n", 2)
    assert message in first
    assert shown == "  " + text.replace("\n", " ")
    column = caret.index("^") - 2
    assert text[column:].startswith(spot), f"the caret is under {text[column:]!r}"


@pytest.mark.parametrize("text", ["", "   ", "\n", "~", "y ~ ", "y ~ (1 | g) - "])
def test_an_empty_right_side_is_refused(text):
    with pytest.raises(FormulaError, match=r"right side is empty|ends with an operator"):
        parse(text)


@pytest.mark.parametrize("given", [None, 3, b"y ~ x", ["y ~ x"]])
def test_only_text_is_a_formula(given):
    with pytest.raises(FormulaError, match="A formula is text such as"):
        parse(given)


# A small grammar of formulas.
_names = st.sampled_from(["x", "z", "arm", "`days at risk`", "heart.rate", "_a1", "ß"])
_calls = st.sampled_from(
    [
        "log(x)",
        "bs(x, df=4)",
        "C(arm, contr.sum)",
        "I(x ** 2)",
        "I(`days at risk` > 3)",
        "poly(x,2)",
    ]
)
_atoms = st.one_of(_names, _calls)
_products = st.lists(_atoms, min_size=1, max_size=3).flatmap(
    lambda parts: st.sampled_from([":", "*", " : "]).map(lambda sign: sign.join(parts))
)
_sums = st.lists(_products, min_size=1, max_size=3).map(" + ".join)
_fixed = st.one_of(st.sampled_from(["1", "0", "1+x"]), _sums, _sums.map(lambda s: f"0 + {s}"))
_groups = st.sampled_from(["g", "g:h", "a/b", "a/b/c", "g.1"])
_random = st.tuples(_sums, st.sampled_from(["|", "||", " | "]), _groups).map(
    lambda parts: f"({''.join(parts)})"
)
_offsets = _atoms.map(lambda a: f"offset({a})")
_right = st.tuples(_fixed, st.lists(st.one_of(_random, _offsets), max_size=4)).map(
    lambda parts: " + ".join([parts[0], *parts[1]])
)


@settings(max_examples=200, deadline=None)
@given(_right)
def test_a_predictor_survives_the_way_through_text(text):
    read = parse_predictor(text)
    assert parse_predictor(str(read)) == read
    assert set(formula.variables(str(read))) == set(formula.variables(text))


def test_backquoted_groupings_survive_the_way_through_text():
    read = parse_predictor("x + (1 | `care unit`) + (1 | a:`b c`)")
    assert parse_predictor(str(read)) == read


def test_both_doors_give_the_same_design(data):
    text = bm.Model("y ~ x + (1 | unit) + (1 + x | unit:patient)", data)
    tree = bm.Model("y ~ x", data, hierarchy=bm.Hierarchy({"unit": "1", "patient": "1 + x"}))
    ours, theirs = text.design.predictors["mu"], tree.design.predictors["mu"]
    np.testing.assert_array_equal(ours.X, theirs.X)
    assert len(ours.random) == len(theirs.random) == 2
    for one, other in zip(ours.random, theirs.random, strict=True):
        np.testing.assert_array_equal(one.Z, other.Z)
        np.testing.assert_array_equal(one.groups.index, other.groups.index)
        np.testing.assert_array_equal(one.groups.labels, other.groups.labels)
        assert (one.effects, one.blocks) == (other.effects, other.blocks)
    assert [r.name for r in theirs.random] == ["unit", "patient"]
    assert tree.spec.levels == ("unit", "patient")


@pytest.mark.parametrize(
    "make",
    [
        lambda d: bm.Model("log(y) ~ x + (1 + x | unit/patient) + offset(z)", d),
        lambda d: bm.Model("k | trials(n) ~ arm + (1 | unit)", d, family="binomial", link="probit"),
        lambda d: bm.Model("k | trials(10) ~ 1", d, family="beta_binomial"),
        lambda d: bm.Model("y ~ x", d, parameters={"sigma": "~ arm + (1 | patient)"}),
        lambda d: bm.Model("y ~ x", d, sampling_sd="sqrt(z)", center=False),
        lambda d: bm.Model("y ~ x", d, hierarchy=bm.Hierarchy({"unit": "1", "patient": "x ||"})),
        lambda d: bm.Model(
            "y ~ x + (1 | unit)",
            d,
            priors={
                "beta[x]": bm.Prior("Normal", mu=0, sigma=2),
                "variance_budget": bm.VarianceBudget({"unit": (0.05, 0.15)}, total_sd=(10, 14)),
            },
        ),
    ],
)
def test_a_spec_survives_the_way_through_json(make, data):
    spec = make(data).spec
    again = ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert again.formula == spec.formula


def test_a_parameter_has_its_own_formula(data):
    model = bm.Model("y ~ x", data, parameters={"sigma": "~ arm + (1 | patient)"})
    assert model.spec.predictors["sigma"] == PredictorSpec("arm", (term("1", "patient"),))
    sigma = model.design.predictors["sigma"]
    assert sigma.terms == ("Intercept", "arm[T.drug]", "arm[T.placebo]")
    assert sigma.random[0].name == "patient"
    assert model.spec.formula == "y ~ x\nsigma ~ arm + (1 | patient)"


_POPULATION = [
    "1",
    "x",
    "0 + x",
    "x - 1",
    "arm",
    "0 + arm",
    "stage",
    "arm * x",
    "arm:x",
    "x / arm",
    "(x + z + arm)**2",
    "(x + z + arm)^2 - x:z",
    "log(x) + sqrt(z)",
    "I(x**2) + I(x > 50) + I(arm == 'drug')",
    "I(x + z * 2 - 1 / z) + I(-x) + I(n % 3)",
    "C(arm, contr.treatment('drug'))",
    "C(arm, contr.treatment(base='drug')) + x",
    "C(arm, contr.sum):x",
    "C(arm, contr.helmert)",
    "C(arm, contr.diff)",
    "C(arm, contr.poly)",
    "C(arm, contr.SAS)",
    "C(arm, levels=['placebo', 'drug', 'control'])",
    "C(n)",
    "bs(x, df=5)",
    "bs(x, 5, degree=2) * arm",
    "bs(x, knots=[40, 50, 60])",
    "cr(x, df=4, constraints='center')",
    "cc(x, df=4, constraints='center')",
    "poly(x, 3)",
    "poly(x, 2, raw=True)",
    "center(x) + scale(z)",
    "scale(x, 50, 10)",
    "bs(log(x), df=4)",
    "center(x):scale(z) + arm",
    "`days at risk` + log(`days at risk`)",
    "I(`days at risk` / 7):arm",
    "C( arm , contr.sum )+log( x )",
    "heart.rate",
]


@pytest.mark.parametrize("code", _POPULATION)
def test_population_part_is_formulaics(code, data):
    """Our own evaluation against formulaic's, which we keep stranger's text away from."""
    design = bm.Model(f"y ~ {code}", data).design.predictors["mu"]
    used = data.assign(stage=data["stage"].cat.remove_unused_categories())
    with np.errstate(all="ignore"):
        matrix = formulaic.model_matrix(code, used, context={"sqrt": np.sqrt})
    assert list(design.terms) == list(matrix.columns)
    np.testing.assert_allclose(design.X, matrix.to_numpy(dtype=float), rtol=1e-12, atol=1e-12)


def test_dots_are_part_of_names(data):
    design = bm.Model("log(heart.rate) ~ log(heart.rate):x", data).design
    np.testing.assert_allclose(design.y, np.log(data["heart.rate"]))
    np.testing.assert_allclose(
        design.predictors["mu"].X[:, 1], np.log(data["heart.rate"]) * data["x"]
    )


def test_factor_is_another_word_for_c(data):
    ours = bm.Model("y ~ factor(n)", data).design.predictors["mu"]
    assert ours.terms[1:] == ("factor(n)[T.6]", "factor(n)[T.7]", "factor(n)[T.8]")


def test_yes_and_no_are_counted(data):
    """pandas alone would read yes + yes as "or", and a score of symptoms would be 0 or 1."""
    X = bm.Model("y ~ I((x > 45) + (z > 1.5) + (k > 1))", data).design.predictors["mu"].X
    score = (data["x"] > 45).astype(int) + (data["z"] > 1.5) * 1 + (data["k"] > 1) * 1
    np.testing.assert_array_equal(X[:, 1], score)
    assert score.max() == 3


def test_names_may_be_alike_and_unusual(data):
    frame = data.rename(columns={"x": "a b", "z": "a b c"}).assign(**{"µg": data["z"], "it's": 1.0})
    frame.loc[3:, "it's"] = 2.0
    design = bm.Model("y ~ I(`a b c` + `a b`) + log(µg) + I(`it's` * 2)", frame)
    X = design.design.predictors["mu"].X
    np.testing.assert_allclose(X[:, 1], data["x"] + data["z"])
    np.testing.assert_allclose(X[:, 2], np.log(data["z"]))
    np.testing.assert_allclose(X[:, 3], frame["it's"] * 2)


def test_a_column_called_like_a_function_does_not_hide_it(data):
    frame = data.assign(center=data["unit"], log=data["z"], contr=data["x"])
    model = bm.Model("y ~ center(x) + log(z) + log + C(arm, contr.sum) + (1 | center)", frame)
    X = model.design.predictors["mu"].X
    np.testing.assert_allclose(
        X[:, 1:4].T, [data["x"] - data["x"].mean(), np.log(data["z"]), data["z"]]
    )


@pytest.mark.parametrize("code", _POPULATION)
def test_new_rows_are_encoded_as_the_fit_was(code, data):
    design = bm.Model(f"y ~ {code}", data).design.predictors["mu"]
    some = data.iloc[[5, 17, 3]]
    again = design.at(some)
    np.testing.assert_allclose(again.X, design.X[[5, 17, 3]], rtol=1e-12, atol=1e-12)
    assert again.terms == design.terms


def test_new_rows_of_random_effects_and_offsets(data):
    text = "y ~ poly(x, 2) + offset(log(z)) + (scale(x) + arm | unit) + (bs(z, df=4) || item)"
    design = bm.Model(text, data).design.predictors["mu"]
    rows = [80, 7, 40]
    again = design.at(data.iloc[rows])
    np.testing.assert_allclose(again.offset, design.offset[rows])
    for new, old in zip(again.random, design.random, strict=True):
        np.testing.assert_allclose(new.Z, old.Z[rows], atol=1e-12)
        np.testing.assert_array_equal(new.groups.index, old.groups.index[rows])


def test_unknown_groups_and_categories(data):
    design = bm.Model("y ~ arm + C(n) + (1 | unit/patient)", data).design.predictors["mu"]
    new = data.iloc[:3].assign(unit=[0, 99, 1])
    again = design.at(new)
    unit, patient = (r.groups.index for r in again.random)
    assert list(unit) == [0, -1, 1]
    assert patient[1] == -1
    assert patient[0] == design.random[1].groups.index[0]
    with pytest.raises(DataError, match=r"arm is 'surgery', which was not in the data of the fit"):
        design.at(new.assign(arm=["drug", "surgery", "drug"]))
    with pytest.raises(DataError, match="category that is not among the levels"):
        design.at(new.assign(n=[5, 50, 5]))
    with pytest.raises(DataError, match="beyond upper and/or lower bounds"):
        bm.Model("y ~ bs(x, df=4)", data).design.predictors["mu"].at(new.assign(x=1e6))


def test_new_rows_of_whole_numbers_stored_as_floats_find_their_groups(data):
    design = bm.Model("y ~ x + (1 | unit:patient)", data).design.predictors["mu"]
    floats = data.astype({"unit": float, "patient": float})
    np.testing.assert_array_equal(
        design.at(floats).random[0].groups.index, design.random[0].groups.index
    )


def test_ordinal_new_rows_have_no_intercept(data):
    model = bm.Model("n ~ x + arm", data, family="ordinal")
    design = model.design.predictors["mu"]
    assert design.terms == ("x", "arm[T.drug]", "arm[T.placebo]")
    np.testing.assert_allclose(design.at(data.iloc[:4]).X, design.X[:4])


def test_new_rows_without_a_column(data):
    design = bm.Model("y ~ x + log(z)", data).design.predictors["mu"]
    with pytest.raises(UnknownNameError, match="There is no column 'z'"):
        design.at(data[["x"]])
    with pytest.raises(DataError, match="x"):
        design.at(data[["z"]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y ~ s(x)", "bs(x, df=5)"),
        ("cbind(k, n) ~ x", "k | trials(n)"),
        ("k / n ~ x", "k | trials(n)"),
        ("y ~ x + us(week)", "residual=bm."),
        ("y ~ x > 1", "I(age > 80)"),
        ("y ~ I(x^2)", "a power is **"),
        ("y ~ my column", "`my column`"),
    ],
)
def test_what_other_packages_write_is_answered_with_what_to_write_here(text, message):
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert message in str(caught.value)
