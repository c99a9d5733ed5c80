"""Text from a stranger is refused or harmless: quickly, by name, and without running anything."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import bayesmixed as bm
from bayesmixed import expressions, formula
from bayesmixed.spec import ModelSpec

# What running code would do. Importing this module adds the hook once; it listens when asked.
_DEEDS = {
    "exec",
    "import",
    "os.system",
    "subprocess.Popen",
    "os.exec",
    "os.remove",
    "pickle.find_class",
}
_heard: list[str] | None = None


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if _heard is not None and (event in _DEEDS or event.startswith(("socket", "shutil"))):
        _heard.append(f"{event}{arguments!r:.120}")


sys.addaudithook(_listen)


@contextmanager
def nothing_runs(seconds: float = 20.0) -> Iterator[None]:
    """Fail if Python evaluates, imports or starts anything, or hangs on a busy machine."""
    global _heard  # noqa: PLW0603
    _heard = []
    begin = time.perf_counter()
    try:
        yield
    finally:
        taken, heard, _heard = time.perf_counter() - begin, _heard, None
    assert heard == []
    assert taken < seconds


def table() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 48
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "k": rng.integers(0, 4, n),
            "n": rng.integers(4, 9, n),
            "x": rng.normal(size=n),
            "z": rng.uniform(1, 2, n),
            "f": np.tile(["a", "b", "c"], n // 3),
            "g": np.repeat(np.arange(8), 6),
            "h": np.tile(np.repeat([0, 1], 3), 8),
            "a b": rng.normal(size=n),
        }
    )


DATA = table()
ORDINARY = (
    "y ~ bs(x, df=4) + C(f, contr.sum) + log(z) + I(`a b` > 0) + poly(x, 2) + (1 + scale(x) | g)"
)


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """Whatever is imported late is imported now."""
    with pytest.raises(bm.BayesmixedError):
        bm.Model(ORDINARY, DATA)
    for text in (
        "y ~ bs(x, df=4) + C(f, contr.poly) + (1 + scale(x) | g/h)",
        "y ~ f * cc(x, df=3)",
    ):
        with suppress(bm.BayesmixedError):
            bm.Model(text, DATA).design.predictors["mu"].at(DATA)


def test_the_watch_works():
    with pytest.raises(AssertionError), nothing_runs():
        eval("1 + 1")  # noqa: S307


EVIL = '__import__("os").system("touch {marker}")'

HOSTILE = [
    "__import__('os')",
    "{evil}",
    "I({evil})",
    "log({evil})",
    "x + {evil}",
    "(1 | {evil})",
    "({evil} | g)",
    "offset({evil})",
    "C(f, {evil})",
    "C(f, contr.treatment(base={evil}))",
    "C(f, contr.treatment({evil}))",
    "C(f, levels=[{evil}])",
    "bs(x, df={evil})",
    "bs(x, knots=[0, {evil}])",
    "I(x == {evil})",
    "I(x if {evil} else x)",
    "I(({evil}, x))",
    "I(x[{evil}])",
    # The quotes of a string around a backquote, which hid the code in between from the check.
    'C(f, levels=["`", {evil}, "`"])',
    "C(f, levels=['`', {evil}, '`'])",
    "C(f, levels=[\"`\", {evil}, '`'])",
    'I("`" == {evil}) + I("`" == x)',
    "I(`x` + {evil} + `x`)",
    "I(`{evil}`)",
    "`{evil}`",
    "`{evil}`()",
    "`x`({evil})",
    "C(f, levels=['_formulaic_a_b', `a b`, {evil}])",
    "(lambda: {evil})()",
    "I((lambda: {evil})())",
    "I([{evil} for _ in 'a'])",
    "I({{{evil}}})",
    "I(x := {evil})",
    "I(f'{{{evil}}}')",
    'I(f"{{x}}")',
    "I(print({evil}))",
    "eval('1')",
    "exec('1')",
    "open('/etc/passwd')",
    "compile('1', '', 'eval')",
    "getattr(x, '__class__')",
    "I(globals())",
    "I(vars())",
    "I(breakpoint())",
    "I(exit())",
    "I(input())",
    "builtins.eval('1')",
    "I(__builtins__)",
    "np.load('x')",
    "np.log(x)",
    "pd.read_pickle('x')",
    "os.system('x')",
    "np",
    "self",
    "__builtins__",
    "__class__",
    "_state",
    "__FORMULAIC_STATE__",
    "I(__FORMULAIC_CONTEXT__)",
    "x.__class__",
    "I(x.__class__)",
    "I(x.__class__.__bases__[0].__subclasses__())",
    "I(().__class__)",
    "I(''.join(['a']))",
    "I('a'.__class__)",
    "I(x.values.dump('{marker}'))",
    "x.to_csv('{marker}')",
    "x.pipe(open)",
    "log.__class__",
    "I(log)",
    "I(log.__self__)",
    "contr",
    "contr.__class__",
    "I(contr)",
    "I(contr.__mro__)",
    "C(f, contr)",
    "C(f, contr.custom({{'a': [1, 2]}}))",
    "C(f, contr.custom([1, 2]))",
    "C(f, contr.mro())",
    "C(f, contr.treatment.__init__)",
    "`contr`.treatment(f)",
    "`x`.__class__",
    "I(`x`.__class__)",
    "`log`(x)",
    "Q('x')",
    "hashed(x, levels=10)",
    "lag(x)",
    "Treatment",
    "scale(x, _state={{}})",
    "scale(x, _state=x)",
    "bs(x, _spec=1)",
    "bs(x, **x)",
    "bs(*x)",
    "bs(x, *[4])",
    "I(*[x])",
    "log(x, out=x)",
    "log(x, dtype='O')",
    "log(x, where=f)",
    "exp(x, x)",
    "bs()",
    "I()",
    "@x",
    "I(@x)",
    "I(await x)",
    "I(yield x)",
    "I(x; z)",
    "I(x) if x else z",
    "import os",
    "x; import os",
    "x\nimport os",
    "I(x\nimport os)",
    "x # comment",
    "I(x # comment\n)",
    "x\\\n+ z",
    "x[0]",
    "I(x[0])",
    "x[[0]]",
    "[x ~ z]",
    "x %in% f",
    "x %% z",
    "x {{z}}",
    "{{x}}",
    "x \\ z",
    "\x00",
    "x\x00",
    "I(x\x00)",
    "`x\x00`",
    "\ud800",
    "I(\ud800)",
    "\u202ex",
    "I(x\u202e)",
    "ｅｖａｌ('1')",
    "I(ｅｖａｌ('1'))",
    "__ｉｍｐｏｒｔ__('os')",
    "I(__ｉｍｐｏｒｔ__('os'))",
    "ｌｏｇ(x)",
    "I(𝐞𝐯𝐚𝐥('1'))",
    "I(x。__class__)",
    "I(x is None)",
    "I(x in [1])",
    "I(not x)",
    "I(x and z)",
    "I(x // z)",
    "I(x @ x)",
    "I(k << 100000000)",
    "I(k ^ 1)",
    "I(x < z < k)",
    "I(1j * x)",
    "I(x == b'a')",
    "I(x == ...)",
    "I(9**9**9)",
    "I(9**9**9 * x)",
    "I(x + 9**99999999)",
    "I(x**9**9**9)",
    "I((-9)**9**9)",
    "I(x + ((pi > 3) * 9)**999999999)",
    "I(((pi > 3) + 8)**(999999999) * x)",
    "I((9)**(99999999))",
    "I('a' * 10**9)",
    "I('a' * 1000000000)",
    "I(f * 1000000000)",
    "I(1000000000 * f)",
    "I([1] * 1000000000)",
    "I((1,) * 1000000000)",
    "I('%1000000000d' % x)",
    "I(" + "9" * 5000 + " * x)",
    "I(1e999 * x)",
    "bs(x, df=10**9)",
    "bs(x, df=1000000000)",
    "bs(x, 1000000000)",
    "bs(x, df=1e9)",
    "bs(x, df=4, degree=1000000)",
    "bs(x, None, [0], 1000000)",
    "bs(x, df=True)",
    "bs(x, df=-5)",
    "bs(x, df=x)",
    "bs(x, knots=x)",
    "poly(x, 1000000)",
    "poly(x, degree=1000000)",
    "poly(x, degree='9')",
    "cr(x, df=1000000)",
    "cc(x, 1000000)",
    "scale(x, center=z)",
    "C(f, levels=f)",
    "C(f, 'a')",
    "C(x, f)",
    "(x + z + k + n)**99",
    "(x + z)**9**9",
    "(((x + z + k + n)**4)**4)**4",
    "((x + z + k + n + g + h)**4)*((x + z + k + n + g + h)**4)",
    "x**z",
    "x^2",
    "*".join("xzkng") + "*" + "*".join(f"I(x**{i})" for i in range(2, 20)),
    "/".join(["(x + z)*(k + n)"] * 30),
    "(" * 10_000 + "x" + ")" * 10_000,
    "(" * 4_000 + "x" + ")" * 4_000,
    "I(" + "(" * 4_000 + "x" + ")" * 4_000 + ")",
    "I(" * 3_000 + "x" + ")" * 3_000,
    "I(" + "[" * 3_000 + "]" * 3_000 + ")",
    "I(" + "-" * 5_000 + "x)",
    "I(" + "~" * 5_000 + "x)",
    "I(" + "x + " * 2_000 + "x)",
    "I(x" + "**x" * 3_000 + ")",
    "I(x" + ".x" * 4_000 + ")",
    "I(x" + "()" * 3_000 + ")",
    "+" * 9_000 + "x",
    "-" * 9_000 + "x",
    "x" + " + x" * 2_400,
    "x" + ":x" * 4_500 + " + w",
    "x" * 1_000_000,
    "x + " * 250_000 + "x",
    "(" * 1_000_000,
    "`" * 9_001,
    "'" * 9_001,
    "y" + " ~ y" * 2_000,
    "(1 | " * 2_000 + "g" + ")" * 2_000,
    "(1 | g" + "/g" * 4_000 + ")",
    "(1 | g:)",
    "(1 | :g)",
    "(1 | g::h)",
    "(x | g)(x)",
    "(1 || g || h)",
    "(1 | `{evil}`)",
    "(1 | __class__)",
    "(1 | g.__class__)",
    "(1 | 'g')",
    "(1 | 1)",
    "offset(bs(x))",
    "offset(C(f))",
    "offset(f)",
    "offset('a')",
    "offset([1])",
    "offset((1, 2))",
    "offset(None)",
    "offset(lambda: 1)",
    "offset(offset(x))",
    "offset(x)(x)",
    "log(offset(x))",
    "trials(n)",
    "I(trials(n))",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:40])[1:-1])
def test_hostile_text_is_refused(text: str, tmp_path: Path):
    marker = tmp_path / "pwned"
    evil = EVIL.replace("{marker}", str(marker))
    right = text.replace("{evil}", evil).replace("{marker}", str(marker))
    right = right.replace("{{", "{").replace("}}", "}")
    with nothing_runs(), pytest.raises(bm.BayesmixedError):
        bm.Model(f"y ~ {right}", DATA)
    assert not marker.exists()


LEFT = [
    "{0}",
    "I({0})",
    "log({0})",
    "{0} + x",
    "`{0}`",
    "C(f)",
    "bs(x)",
    "k | trials({0})",
    "k | {0}",
]


@pytest.mark.parametrize("left", LEFT)
def test_hostile_left_sides_are_refused(left: str, tmp_path: Path):
    marker = tmp_path / "pwned"
    text = left.replace("{0}", EVIL.replace("{marker}", str(marker))) + " ~ x"
    with nothing_runs(), pytest.raises(bm.BayesmixedError):
        bm.Model(text, DATA, family="binomial" if "trials" in left else "gaussian")
    assert not marker.exists()


DOORS: dict[str, Callable[[str], object]] = {
    "hierarchy": lambda text: bm.Model("y ~ 1", DATA, hierarchy=bm.Hierarchy({"g": text})),
    "level": lambda text: bm.Model("y ~ 1", DATA, hierarchy=bm.Hierarchy({text: "1"})),
    "parameters": lambda text: bm.Model("y ~ 1", DATA, parameters={"sigma": text}),
    "parameter": lambda text: bm.Model("y ~ 1", DATA, parameters={text: "~ x"}),
    "sampling_sd": lambda text: bm.Model("y ~ 1", DATA, sampling_sd=text),
    "trials": lambda text: bm.Model(f"k | trials({text}) ~ 1", DATA, family="binomial"),
    "offset": lambda text: bm.Model(f"y ~ offset({text})", DATA),
    "outcome": lambda text: bm.Model(f"{text} ~ 1", DATA),
    "effects": lambda text: bm.Model(f"y ~ ({text} | g)", DATA),
    "grouping": lambda text: bm.Model(f"y ~ (1 | {text})", DATA),
    "family": lambda text: bm.Model("y ~ 1", DATA, family=text),
    "link": lambda text: bm.Model("y ~ 1", DATA, link=text),
    "prior": lambda text: bm.Model("y ~ 1", DATA, priors={text: bm.Prior("Normal", sigma=1)}),
}


@pytest.mark.parametrize("door", DOORS)
def test_hostile_text_is_refused_at_every_door(door: str, tmp_path: Path):
    marker = tmp_path / "pwned"
    evil = EVIL.replace("{marker}", str(marker))
    texts = [evil, f"I({evil})", f"x + {evil}", f'C(f, levels=["`", {evil}, "`"])', "x.__class__"]
    texts += [
        "(lambda: 1)()",
        "9**9**9",
        "'a' * 10**9",
        "f * 1000000000",
        "x" * 100_000,
        "(" * 9_000,
    ]
    for text in texts:
        with nothing_runs(), pytest.raises(bm.BayesmixedError):
            DOORS[door](text)
    assert not marker.exists()


def test_a_stored_spec_is_checked_as_text_is(tmp_path: Path):
    """A saved fit or a configuration file can come from a stranger, too."""
    marker = tmp_path / "pwned"
    evil = EVIL.replace("{marker}", str(marker))
    plain = bm.Model("y ~ x + offset(z) + (1 | g)", DATA).spec.to_dict()
    for place in ("response", "trials", "sampling_sd", "fixed", "offsets", "effects", "factors"):
        values = {**plain, "predictors": {"mu": dict(plain["predictors"]["mu"])}}
        predictor = values["predictors"]["mu"]
        match place:
            case "fixed":
                predictor["fixed"] = f"I({evil})"
            case "offsets":
                predictor["offsets"] = [evil]
            case "effects":
                predictor["random"] = [[f"I({evil})", ["g"], "g", True]]
            case "factors":
                predictor["random"] = [["1", [evil], "g", True]]
            case _:
                values[place] = evil
        with nothing_runs(), pytest.raises(bm.BayesmixedError):
            bm.model.build_design(ModelSpec.from_dict(values), DATA)
    assert not marker.exists()


NAMES = [
    "__import__('os').system('touch pwned')",
    "x', __import__('os').system('touch pwned'), '",
    '", __import__("os").system("touch pwned"), "',
    "x) or __import__('os').system('touch pwned') or (x",
    "eval",
    "__builtins__",
    "__FORMULAIC_STATE__",
    "__FORMULAIC_CONTEXT__",
    "_call0",
    "_formulaic_x",
    "log",
    "C",
    "I",
    "bs",
    "contr",
    "contr.sum",
    "np",
    "self",
    "lambda",
    "None",
    "True",
    "class",
    "x.__class__",
    "{x}",
    "%d",
    "x y",
    "x\ny",
    "ｘ",
    "1",
    "0",
    "~",
    "|",
    "(",
    "",
    ".",
    "pi",
    "x:f",
    "f[T.b]",
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_columns_named_like_code_are_only_columns(name: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = DATA.copy()
    frame[name] = np.arange(len(DATA)) % 7 * 1.5
    for text in ("y ~ `{}`", "y ~ I(`{}` * 2) + bs(`{}`, df=4)", "y ~ log(1 + `{}`)", "`{}` ~ x"):
        with nothing_runs():
            try:
                design = bm.Model(text.replace("{}", name), frame).design
            except bm.BayesmixedError:
                continue
        if text == "y ~ `{}`":
            np.testing.assert_array_equal(design.predictors["mu"].X[:, 1], frame[name])
    with nothing_runs():
        bm.Model("y ~ I(x ** 2) + C(f, contr.sum) + log(z) + (1 | g)", frame)
    assert list(tmp_path.iterdir()) == []


def test_labels_like_code_are_only_labels(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = "__import__('os').system('touch pwned')"
    frame = DATA.assign(f=np.tile([evil, "{x}", "`"], 16), g=np.repeat([evil, "a:b", "%s", ""], 12))
    with nothing_runs():
        design = bm.Model("y ~ f + C(f, contr.sum):x + (1 | g)", frame).design.predictors["mu"]
    assert f"f[T.{evil}]" in design.terms or "f[T.{x}]" in design.terms
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "y ~ bs(x, df=4) + C(f, contr.sum) + log(z) + (1 + scale(x) | g/h)",
        "log(z) ~ poly(x, 3) * f + offset(log(n)) + (0 + f || g)",
        "y ~ cr(x, df=4, constraints='center') + I(`a b` ** 2) + C(f, levels=['c', 'b', 'a'])",
    ],
)
def test_not_even_good_text_is_evaluated_by_python(text: str):
    with nothing_runs():
        design = bm.Model(text, DATA).design.predictors["mu"]
        design.at(DATA.iloc[:5])


@pytest.mark.parametrize(
    ("text", "spot", "named"),
    [
        ("y ~ x + __import__('os')", "__import__", "'__import__' cannot be called"),
        ("y ~ x + I(z.pop('a'))", "z.pop", "'z.pop' cannot be called"),
        ("y ~ x + I([i for i in x])", "[i", "'[i for i in x]' is not allowed"),
        ("y ~ I(x if z else k)", "x if", "'x if z else k' is not allowed"),
        ("y ~ I(lambda: x)", "lambda", "'lambda: x' is not allowed"),
        ("y ~ I(x[0])", "x[0]", "'x[0]' is not allowed"),
        ("y ~ I(().__class__)", "()", "'().__class__' is not allowed"),
        ("y ~ C(f, contr.treatment(base=open('a')))", "C(", "not 'open'"),
        ("y ~ scale(x, _state=1)", "scale", "takes no such argument"),
        ("y ~ bs(x, df=1000)", "bs", "bs(df=...) takes a whole number to 200"),
        ("y ~ I(2**x)", "2**", "Raise a column to a power"),
        ("y ~ x + ((x + z + k + n)**4)**4", "y ~", "more than 2,000 terms"),
        ("y ~ " + "(" * 60 + "x" + ")" * 60, "(" * 10 + "x", "at most 50 deep"),
    ],
)
def test_what_is_refused_is_named_and_pointed_at(text: str, spot: str, named: str):
    with pytest.raises(bm.BayesmixedError) as caught:
        formula.parse(text)
    first, _, caret = str(caught.value).rsplit("\n", 2)
    assert named in first
    assert text[caret.index("^") - 2 :].startswith(spot)


def test_every_function_is_called_with_a_plain_function_only():
    assert all(callable(f) for f in expressions.FUNCTIONS.values())
    assert not {"eval", "exec", "open", "getattr", "Q", "lag", "hashed"} & set(
        expressions.FUNCTIONS
    )


_WORDS = ["y", "x", "z", "f", "g", "h", "k", "n", "`a b`", "1", "0", "2", "9", "1e3", "'a'", "pi"]
_CALLS = [
    *expressions.FUNCTIONS,
    "offset",
    "trials",
    "contr.sum",
    "contr.treatment",
    "eval",
    "x.pop",
]
_SIGNS = [
    *list("~+-*/:^|()[]{},.=<>!&%`'\"\\@#; \n_"),
    "**",
    "||",
    "==",
    "df=",
    "(1 | ",
    ")",
    "=",
    "lambda ",
]
_PIECES = st.one_of(
    st.sampled_from(_WORDS),
    st.sampled_from([f"{call}(" for call in _CALLS]),
    st.sampled_from(_SIGNS),
    st.characters(),
)
_TEXT = st.lists(_PIECES, max_size=14).map("".join)
_TERMS = st.sampled_from(
    [*_WORDS[:9], "log(z)", "bs(x, df=4)", "C(f)", "(1 | g)", "(x || g/h)", "I(x > z)"]
)
_SOUND = st.lists(
    st.tuples(st.sampled_from([" + ", " - ", ":", "*", "/", "**2 + ", " | "]), _TERMS), max_size=5
).map(lambda parts: "x" + "".join(sign + term for sign, term in parts))
_FUZZ = settings(
    max_examples=150,
    deadline=20_000,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)


@_FUZZ
@given(st.one_of(_TEXT, _SOUND))
@example("`")
@example("I(``)")
@example("x(")
@example("0")
@example("-")
@example("1:1")
@example("(0 | g)")
@example("0 + offset(z)")
def test_any_formula_works_or_is_refused(text: str):
    with suppress(bm.BayesmixedError):
        bm.Model(f"y ~ {text}", DATA)


@_FUZZ
@given(st.one_of(_TEXT, _SOUND))
def test_any_text_in_place_of_a_formula_works_or_is_refused(text: str):
    with suppress(bm.BayesmixedError):
        bm.Model(text, DATA)


@pytest.mark.parametrize("door", DOORS)
@settings(_FUZZ, max_examples=40)
@given(text=st.one_of(_TEXT, _SOUND))
def test_any_text_at_any_door_works_or_is_refused(door: str, text: str):
    with suppress(bm.BayesmixedError):
        DOORS[door](text)
