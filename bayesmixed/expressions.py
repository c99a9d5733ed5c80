"""Expressions in formulas: what may stand in them, and their value; nothing is ever executed.

An expression is read as a syntax tree. Column names, numbers, strings, arithmetic, comparisons
and the functions in `FUNCTIONS` pass; anything else is refused by name, before it is near any
evaluation.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from formulaic import transforms as ft

from bayesmixed._errors import FormulaError, listed, nearest, unknown

FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "C": ft.C,
        "factor": ft.C,
        "I": ft.identity,
        "bs": ft.basis_spline,
        "cr": ft.natural_cubic_spline,
        "cs": ft.natural_cubic_spline,
        "cc": ft.cyclic_cubic_spline,
        "poly": ft.poly,
        "center": ft.center,
        "scale": ft.scale,
        "standardize": ft.scale,
        "log": np.log,
        "log2": np.log2,
        "log10": np.log10,
        "log1p": np.log1p,
        "exp": np.exp,
        "expm1": np.expm1,
        "sqrt": np.sqrt,
        "abs": np.abs,
        "sin": np.sin,
        "cos": np.cos,
    }
)
"""The functions that formula text may call."""

CONTRASTS = frozenset(
    f"contr.{name}" for name in ("treatment", "SAS", "sum", "helmert", "diff", "poly")
)
_CONSTANTS = frozenset({"pi"})
_MAX_BASIS = 200

CONTEXT: Mapping[str, Any] = MappingProxyType(
    {**FUNCTIONS, "contr": ft.ContrastsRegistry, "pi": np.pi}
)
"""What names in a formula resolve to when they are not columns."""

_ALLOWED_NODES = (
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.List,
    ast.Tuple,
    ast.Load,
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.Mod, ast.BitAnd, ast.BitOr),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
    *(ast.USub, ast.UAdd, ast.Invert),
)

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = MappingProxyType(
    {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.Div: operator.truediv,
        ast.Pow: operator.pow,
        ast.Mod: operator.mod,
        ast.BitAnd: operator.and_,
        ast.BitOr: operator.or_,
    }
)
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = MappingProxyType(
    {
        ast.Eq: operator.eq,
        ast.NotEq: operator.ne,
        ast.Lt: operator.lt,
        ast.LtE: operator.le,
        ast.Gt: operator.gt,
        ast.GtE: operator.ge,
    }
)
_UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = MappingProxyType(
    {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert}
)


def variables(code: str) -> tuple[str, ...]:
    """The columns that an expression refers to, in order of appearance."""
    tree, quoted = _tree(code, code, 0)
    called = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    roots = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    names = [
        quoted.get(node.id, node.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and id(node) not in called | roots
    ]
    return tuple(name for name in dict.fromkeys(names) if name not in _CONSTANTS)


def is_single(code: str) -> bool:
    """Whether the text is one expression, such as one argument of a call."""
    try:
        return not isinstance(_tree(code, code, 0)[0].body, ast.Tuple)
    except FormulaError:
        return False


def evaluate(code: str, columns: pd.DataFrame) -> Any:
    """The value of an expression, worked out by walking its tree.

    Parameters
    ----------
    code : str
        The expression; checked first.
    columns : pandas.DataFrame
        The table.

    Raises
    ------
    FormulaError
        If the expression is not allowed.
    UnknownNameError
        If a column does not exist.
    """
    check(code, code, 0)
    tree, quoted = _tree(code, code, 0)

    def value(node: Any) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            name = quoted.get(node.id, node.id)
            if name in _CONSTANTS and name not in columns:
                return CONTEXT[name]
            if name not in columns:
                raise unknown(name, map(str, columns), "column")
            return columns[name]
        if isinstance(node, ast.UnaryOp):
            return _UNARY[type(node.op)](value(node.operand))
        if isinstance(node, ast.BinOp):
            return _BINARY[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return _COMPARE[type(node.ops[0])](value(node.left), value(node.comparators[0]))
        if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
            function = FUNCTIONS.get(ast.unparse(node.func))
            if isinstance(function, np.ufunc) or function is ft.identity:
                return function(value(node.args[0]))
        raise FormulaError(
            "Here one column or arithmetic of columns is expected, such as y, log(y) or a / b.",
            code,
            getattr(node, "col_offset", 0),
        )

    return value(tree.body)


def _tree(code: str, text: str, start: int) -> tuple[ast.Expression, dict[str, str]]:
    """Parse code, with backquoted column names replaced by identifiers of the same length."""
    quoted: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        name = f"_{len(quoted)}".ljust(len(match.group()), "_")
        quoted[name] = match.group()[1:-1]
        return name

    try:
        return ast.parse(re.sub(r"`[^`]*`", stand_in, code.strip()), mode="eval"), quoted
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        offset = (getattr(error, "offset", 1) or 1) - 1
        raise FormulaError(
            "This cannot be read as a call such as log(x) or bs(x, df=4).", text, start + offset
        ) from None


def check(code: str, text: str, start: int, also: Collection[str] = ()) -> None:
    """Refuse every construct that is not on the list, naming it.

    Parameters
    ----------
    code : str
        The expression.
    text : str
        The whole text that it stands in, for the message.
    start : int
        Where in `text` it begins.
    also : collection of str
        Further names that may be called.

    Raises
    ------
    FormulaError
        With a caret under the first thing that is not allowed.
    """
    tree, _ = _tree(code, text, start)
    called: set[int] = set()
    for node in ast.walk(tree.body):
        spot = start + getattr(node, "col_offset", 0)
        if isinstance(node, ast.Call):
            _check_call(node, text, spot, also)
            called |= {id(node.func), id(getattr(node.func, "value", None))}
        elif isinstance(node, ast.Attribute):
            if id(node) not in called and ast.unparse(node) not in CONTRASTS:
                raise FormulaError(f"{ast.unparse(node)!r} is not allowed.", text, spot)
        elif isinstance(node, ast.BinOp):
            _check_arithmetic(node, text, spot)
        elif isinstance(node, ast.Constant):
            if not isinstance(node.value, bool | int | float | str | None):
                raise FormulaError("Only numbers and text are allowed here.", text, spot)
        elif not isinstance(node, (ast.Name, ast.keyword, *_ALLOWED_NODES)):
            what = type(node).__name__.lower()
            raise FormulaError(f"A Python {what} is not allowed in a formula.", text, spot)


def _check_call(node: ast.Call, text: str, spot: int, also: Collection[str]) -> None:
    name = ast.unparse(node.func)
    if name not in {*FUNCTIONS, *also, *CONTRASTS}:
        close = nearest(name.rpartition(".")[2], FUNCTIONS)
        hint = f"Did you mean {close[0]}()? " if close else ""
        raise FormulaError(
            f"{name!r} cannot be called in a formula. {hint}"
            f"Allowed: {listed([*FUNCTIONS, *sorted(CONTRASTS)], 40)}.",
            text,
            spot,
        )
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg.startswith("_"):
            raise FormulaError(f"{name}() takes no such argument.", text, spot)
        value = getattr(keyword.value, "value", None)
        if isinstance(value, int) and abs(value) > _MAX_BASIS:
            raise FormulaError(f"{name}({keyword.arg}={value}): at most {_MAX_BASIS}.", text, spot)
    if any(isinstance(argument, ast.Starred) for argument in node.args):
        raise FormulaError(f"{name}() takes its arguments one by one.", text, spot)


def _check_arithmetic(node: ast.BinOp, text: str, spot: int) -> None:
    sides = (node.left, node.right)
    if any(isinstance(side, ast.Constant) and isinstance(side.value, str) for side in sides) or any(
        isinstance(side, ast.List | ast.Tuple) for side in sides
    ):
        raise FormulaError("Arithmetic is for numbers and columns.", text, spot)
    if isinstance(node.op, ast.Pow) and not any(
        isinstance(part, ast.Name) for part in ast.walk(node.left)
    ):
        # 9**9**9 would keep the machine busy for ever.
        raise FormulaError("Raise a column to a power, not a number.", text, spot)
    if isinstance(node.op, ast.Pow) and not (
        isinstance(node.right, ast.Constant | ast.UnaryOp | ast.Name)
    ):
        raise FormulaError("The power must be a number or a column.", text, spot)
