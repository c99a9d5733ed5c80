"""Expressions in formulas: what may stand in them, and their value; nothing is ever executed.

An expression is read as a syntax tree. Column names, numbers, strings, arithmetic, comparisons
and the functions in `FUNCTIONS` pass; anything else is refused by name. The value is worked out
by walking the very tree that was checked: no text ever reaches Python's own evaluation, neither
here nor in formulaic.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from formulaic import transforms as ft

from bayesmixed._errors import BayesmixedError, DataError, FormulaError, listed, nearest, unknown
from bayesmixed.elsewhere import HINTS
from bayesmixed.harmonics import harmonic

FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "C": ft.C,
        "factor": ft.C,
        "I": ft.identity,
        "bs": ft.basis_spline,
        "cr": ft.natural_cubic_spline,
        "cs": ft.natural_cubic_spline,
        "cc": ft.cyclic_cubic_spline,
        "harmonic": harmonic,
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
_CONSTANTS: Mapping[str, float] = MappingProxyType({"pi": np.pi})
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`")
_LITERALS = (bool, int, float, str, type(None))
_MAX_SIZE: Mapping[str, int] = MappingProxyType({"df": 200, "degree": 20, "order": 100})
_MAX_DEPTH, _MAX_LENGTH = 100, 20_000
# Where the size of a basis stands in a call: by name, or by place after the variable.
_SIZES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "bs": {"df": 1, "degree": 3},
        "poly": {"degree": 1},
        "harmonic": {"order": 2},
        **{spline: {"df": 1} for spline in ("cr", "cs", "cc")},
    }
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
    tree = _tree(code, code, 0)
    called = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    names = [
        (node.col_offset, _unquoted(node.id))
        for node in ast.walk(tree)
        if isinstance(node, ast.Name)
        and id(node) not in called
        and node.id not in {*_CONSTANTS, *CONTRASTS}
    ]
    return tuple(dict.fromkeys(name for _, name in sorted(names)))


def is_single(code: str) -> bool:
    """Whether the text is one expression, such as one argument of a call."""
    try:
        return not isinstance(_tree(code, code, 0).body, ast.Tuple)
    except FormulaError:
        return False


def normal(code: str) -> str:
    """The expression with the usual spaces, so that equal expressions are equal text."""
    return ast.unparse(_tree(code, code, 0))


def evaluate(
    code: str,
    columns: pd.DataFrame,
    states: MutableMapping[str, Any] | None = None,
    encoder: Any = None,
) -> Any:
    """The value of an expression, worked out by walking its tree.

    Parameters
    ----------
    code : str
        The expression; checked first.
    columns : pandas.DataFrame
        The table.
    states : mutable mapping, optional
        What functions such as ``bs`` and ``scale`` learned from the rows of the fit, by call.
        Without it only functions of single values, such as ``log``, can be called.
    encoder : formulaic.ModelSpec, optional
        Passed on to such functions.

    Raises
    ------
    BayesmixedError
        If the expression is not allowed, a column does not exist, or does not suit.
    """
    check(code, code, 0)
    try:
        with np.errstate(all="ignore"):
            return _Walk(code, columns, states, encoder).value(_tree(code, code, 0).body)
    except BayesmixedError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise DataError(f"{code} cannot be worked out from the data: {e}") from None


@dataclass(frozen=True)
class _Walk:
    """One walk over a checked tree."""

    code: str
    columns: pd.DataFrame
    states: MutableMapping[str, Any] | None
    encoder: Any

    def value(self, node: Any) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.List() | ast.Tuple() if self.states is not None:
                return [self.value(element) for element in node.elts]
            case ast.Name():
                return self._name(node.id)
            case ast.UnaryOp():
                return _UNARY[type(node.op)](self._number(node.operand))
            case ast.BinOp():
                sides = self._number(node.left), self._number(node.right)
                if not isinstance(node.op, ast.BitAnd | ast.BitOr):
                    sides = 1 * sides[0], 1 * sides[1]  # pandas reads yes + yes as "or"
                return _BINARY[type(node.op)](*sides)
            case ast.Compare(ops=[op]):
                return _COMPARE[type(op)](self.value(node.left), self.value(node.comparators[0]))
            case ast.Call() if self.states is not None or _is_elementwise(ast.unparse(node.func)):
                return self._call(node)
        raise FormulaError(
            "Here one column or arithmetic of columns is expected, such as y, log(y) or a / b.",
            self.code,
            _spot(node),
        )

    def _name(self, name: str) -> Any:
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name in CONTRASTS:
            return getattr(ft.ContrastsRegistry, name.partition(".")[2])
        column = _unquoted(name)
        if column not in self.columns:
            raise unknown(column, map(str, self.columns), "column")
        return self.columns[column]

    def _number(self, node: ast.expr) -> Any:
        value = self.value(node)
        kind = getattr(getattr(value, "dtype", None), "kind", "f")
        if isinstance(value, str | list | Mapping) or kind not in "biuf":
            raise DataError(
                f"{ast.unparse(node)} does not hold numbers, which {self.code} needs. For one "
                f"category against the others compare it, such as I({ast.unparse(node)} == "
                '"label").'
            )
        return value

    def _call(self, node: ast.Call) -> Any:
        name = ast.unparse(node.func)
        function = FUNCTIONS.get(name)
        if isinstance(function, np.ufunc):
            return function(self._number(node.args[0]))
        is_stateful = getattr(function, "__is_stateful_transform__", False)
        first = self._number if is_stateful else self.value
        arguments = [first(node.args[0])] if node.args else []
        arguments += [self.value(argument) for argument in node.args[1:]]
        named = {str(k.arg): self.value(k.value) for k in node.keywords}
        if function is None:
            return getattr(ft.ContrastsRegistry, name.partition(".")[2])(*arguments, **named)
        if self.states is not None and is_stateful:
            state = self.states.setdefault(ast.unparse(node), {})
            return function(*arguments, **named, _state=state, _spec=self.encoder)
        return function(*arguments, **named)


def _is_elementwise(name: str) -> bool:
    return name == "I" or isinstance(FUNCTIONS.get(name), np.ufunc)


def _unquoted(name: str) -> str:
    return name[1:-1] if name[:1] == name[-1:] == "`" else name


def _spot(node: ast.AST) -> int:
    return int(getattr(node, "col_offset", 0))


class _AsWritten(ast.NodeTransformer):
    """Names as they are written; ``a.b`` is a name, since nothing in a formula has attributes."""

    def __init__(self, source: str) -> None:
        self.source = source

    def visit_Name(self, node: ast.expr) -> ast.AST:
        written = self.source[node.col_offset : node.end_col_offset]
        return ast.copy_location(ast.Name(written, ast.Load()), node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            inner = inner.value
        return self.visit_Name(node) if isinstance(inner, ast.Name) else self.generic_visit(node)


def _tree(code: str, text: str, start: int) -> ast.Expression:
    """Parse code; names keep their backquotes and spelling, and places count characters."""
    if not isinstance(code, str) or len(code) > _MAX_LENGTH:
        raise FormulaError("Text such as 'x' or 'log(x)' is expected.", repr(code)[:60], 0)
    source = re.sub(r"\s", " ", code)
    begin = len(source) - len(source.lstrip())
    plain = _QUOTED.sub(lambda m: "_" * len(m[0]) if m[0][0] == "`" else m[0], source)
    try:
        tree = ast.parse(plain[begin:], mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        offset = max(getattr(error, "offset", 1) or 1, 1) - 1 + begin
        raise FormulaError(
            "This cannot be read; an expression is such as x, log(x), a / b or bs(x, df=4).",
            text,
            start + min(offset, len(code)),
        ) from None
    encoded = plain[begin:].encode()
    level: Sequence[ast.AST] = [tree]
    for _ in range(_MAX_DEPTH):
        for node in level:
            if isinstance(node, ast.expr | ast.keyword):
                # Python counts bytes.
                node.col_offset = begin + len(encoded[: node.col_offset].decode())
                node.end_col_offset = begin + len(encoded[: node.end_col_offset].decode())
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            _AsWritten(source).visit(tree)
            return tree
    raise FormulaError("This expression is nested too deeply.", text, start)


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
    tree = _tree(code, text, start)
    for node in ast.walk(tree.body):
        spot = start + _spot(node)
        if isinstance(node, ast.Call):
            _check_call(node, text, spot, also)
        elif isinstance(node, ast.BinOp):
            _check_arithmetic(node, text, spot)
        elif isinstance(node, ast.Constant) and type(node.value) not in _LITERALS:
            raise FormulaError("Only numbers and text are allowed here.", text, spot)
        elif isinstance(node, ast.expr) and not _is_allowed(node):
            raise FormulaError(
                f"{ast.unparse(node)[:60]!r} is not allowed in a formula.", text, spot
            )


def _is_allowed(node: ast.expr) -> bool:
    match node:
        case ast.UnaryOp():
            return type(node.op) in _UNARY
        case ast.Compare():
            return len(node.ops) == 1 and type(node.ops[0]) in _COMPARE
    return isinstance(node, ast.Name | ast.Constant | ast.List | ast.Tuple)


def _check_call(node: ast.Call, text: str, spot: int, also: Collection[str]) -> None:
    name = ast.unparse(node.func)[:60]
    if name not in {*FUNCTIONS, *also, *CONTRASTS}:
        close = nearest(name.rpartition(".")[2], FUNCTIONS)
        hint = HINTS.get(name, f"Did you mean {close[0]}()? " if close else "")
        raise FormulaError(
            f"{name!r} cannot be called in a formula. {hint}"
            f"Allowed: {listed([*FUNCTIONS, *sorted(CONTRASTS)], 40)}.",
            text,
            spot,
        )
    if (_is_elementwise(name) or name in also) and (len(node.args) != 1 or node.keywords):
        raise FormulaError(f"{name}() takes one column or expression.", text, spot)
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg.startswith("_"):
            raise FormulaError(f"{name}() takes no such argument.", text, spot)
    if any(isinstance(argument, ast.Starred) for argument in node.args):
        raise FormulaError(f"{name}() takes its arguments one by one.", text, spot)
    if name in FUNCTIONS and not node.args:
        raise FormulaError(f"{name}() needs a column, such as {name}(x).", text, spot)
    _check_settings(node, name, text, spot)


def _check_settings(node: ast.Call, name: str, text: str, spot: int) -> None:
    """What follows the variable in a call must be written out and small."""
    settings = [*node.args[name not in CONTRASTS :], *(k.value for k in node.keywords)]
    for part in (part for setting in settings for part in ast.walk(setting)):
        if isinstance(part, ast.Name) and part.id not in CONTRASTS:
            raise FormulaError(
                f"{name}() takes one column; its settings are numbers or text, not {part.id!r}.",
                text,
                spot,
            )
    if name in ("C", "factor") and any(isinstance(s, ast.Constant) for s in node.args[1:]):
        raise FormulaError(f"Contrasts are written {name}(x, contr.sum).", text, spot)
    for size, place in _SIZES.get(name, {}).items():
        given = [k.value for k in node.keywords if k.arg == size] or node.args[place : place + 1]
        _check_size(name, size, given, text, spot)


def _check_size(name: str, size: str, given: list[ast.expr], text: str, spot: int) -> None:
    for value in (getattr(node, "value", ...) for node in given):
        most = _MAX_SIZE[size]
        if value is not None and (type(value) is not int or not 0 <= value <= most):
            raise FormulaError(f"{name}({size}=...) takes a whole number to {most}.", text, spot)


def _check_arithmetic(node: ast.BinOp, text: str, spot: int) -> None:
    sides = (node.left, node.right)
    if type(node.op) not in _BINARY:
        raise FormulaError(f"{ast.unparse(node)[:60]!r} is not allowed; a power is **.", text, spot)
    if any(isinstance(side, ast.Constant) and isinstance(side.value, str) for side in sides) or any(
        isinstance(side, ast.List | ast.Tuple) for side in sides
    ):
        raise FormulaError("Arithmetic is for numbers and columns.", text, spot)
    if isinstance(node.op, ast.Pow) and not any(
        isinstance(part, ast.Name) and part.id not in _CONSTANTS for part in ast.walk(node.left)
    ):
        # 9**9**9 would keep the machine busy for ever.
        raise FormulaError("Raise a column to a power, not a number.", text, spot)
    plain = ast.Constant | ast.UnaryOp | ast.Name
    if isinstance(node.op, ast.Pow) and not isinstance(node.right, plain):
        raise FormulaError("The power must be a number or a column.", text, spot)
