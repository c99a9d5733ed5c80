"""lme4-style formula text to spec values; the text can come from a stranger and never runs code.

formulaic finds the tokens and multiplies the terms out. Calls and arithmetic never reach its
evaluation: `expressions` checks every piece, refuses all that is not on its list, and works out
the value by itself.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from formulaic.errors import FormulaSyntaxError
from formulaic.parser.algos.tokenize import tokenize
from formulaic.parser.types import Token

from bayesmixed import expressions
from bayesmixed._errors import FormulaError, listed
from bayesmixed.expressions import FUNCTIONS
from bayesmixed.spec import Grouping, PredictorSpec, RandomTerm

_MODEL_WORDS = frozenset({"offset", "trials"})
_OPERATORS = ("~", "+", "-", "*", "/", ":", "**", "^", "|", "||")
_MAX_LENGTH = 10_000
_MAX_POWER = 4
_MAX_DEPTH = 50
_MAX_TERMS = 2_000


@dataclass(frozen=True)
class Formula:
    """A formula, read.

    Parameters
    ----------
    predictor : PredictorSpec
        The right-hand side.
    response : str, optional
        The left-hand side, without the trials.
    trials : str, optional
        What stands in ``trials(...)``.
    """

    predictor: PredictorSpec
    response: str | None = None
    trials: str | None = None


def parse(text: str) -> Formula:
    """Read ``response ~ fixed + (effects | groups)``; the response may be left out.

    Parameters
    ----------
    text : str
        Such as ``"y ~ x + (1 + x | g)"``, ``"k | trials(n) ~ x + (1 | a/b)"``, ``"~ arm"``.

    Returns
    -------
    Formula

    Raises
    ------
    FormulaError
        With a caret under the spot, for text that cannot be read or is not allowed.
    """
    tokens = _tokens(text, _MAX_LENGTH)
    tildes = [i for i, t in enumerate(tokens) if t.kind is Token.Kind.OPERATOR and "~" in t.token]
    if sum(tokens[i].token.count("~") for i in tildes) > 1:
        spot = tokens[tildes[-1]]
        raise _error("A formula has one '~'.", text, spot)
    if not tildes:
        return Formula(_predictor(tokens, text))
    at = tildes[0]
    rest = tokens[at + 1 :]
    if tokens[at].token != "~":
        # formulaic joins neighbouring operators: "~-1" is one token.
        rest = [_piece(tokens[at], tokens[at].token.index("~") + 1), *rest]
    response, trials = _response(tokens[:at], text)
    return Formula(_predictor(rest, text), response, trials)


def parse_predictor(text: str) -> PredictorSpec:
    """Read a right-hand side, with or without its ``~``.

    Raises
    ------
    FormulaError
        Also if it has a left-hand side.
    """
    formula = parse(text)
    if formula.response is not None:
        raise FormulaError("Only a right-hand side is expected here, such as '~ x'.", text, 0)
    return formula.predictor


def variables(text: str) -> tuple[str, ...]:
    """The columns that formula text refers to, in order of appearance.

    Raises
    ------
    FormulaError
        If the text cannot be read or is not allowed.
    """
    found: dict[str, None] = {}
    for token in _tokens(text):
        if token.kind is Token.Kind.NAME:
            found[token.token] = None
        elif token.kind is Token.Kind.PYTHON:
            found |= dict.fromkeys(expressions.variables(token.token))
    return tuple(found)


def plain(text: str) -> tuple[str, Mapping[str, tuple[str, bool]]]:
    """Put a plain name for every call and odd column; what each stands for, and if it is a call."""
    mark = "_part"
    while mark in text:
        mark += "_"
    names: dict[tuple[str, bool], str] = {}
    for token in reversed(_tokens(text)):
        start, stop = _start(token), (token.source_end or 0) + 1
        is_call = token.kind is Token.Kind.PYTHON
        if is_call or text[start] == "`":
            part = expressions.normal(token.token) if is_call else token.token
            name = names.setdefault((part, is_call), f"{mark}{len(names)}")
            text = text[:start] + name + text[stop + (not is_call) :]
    return text, {name: part for part, name in names.items()}


def _error(message: str, text: str, spot: Token | None) -> FormulaError:
    if spot is None:
        return FormulaError(message, text, len(text))
    return FormulaError(message, text, _start(spot), spot.source_end)


def _start(token: Token) -> int:
    return token.source_start or 0


def _piece(token: Token, first: int) -> Token:
    return Token(
        token.token[first:],
        kind=token.kind,
        source=token.source,
        source_start=_start(token) + first,
        source_end=token.source_end,
    )


def _tokens(text: str, longest: int = 2 * _MAX_LENGTH) -> list[Token]:
    if not isinstance(text, str):
        raise FormulaError("A formula is text such as 'y ~ x + (1 | g)'.", repr(text), 0)
    if len(text) > longest:
        raise FormulaError(f"A formula has at most {longest:,} characters.", text[:60], 0)
    refused = [text.find(c) for c in "\\{" if c in text]
    if refused:
        spot = min(refused)
        raise FormulaError(
            f"{text[spot]!r} is not allowed in a formula; it holds columns, operators "
            f"({' '.join(_OPERATORS)}) and functions ({listed(FUNCTIONS, 40)}).",
            text,
            spot,
        )
    tokens: list[Token] = []
    try:
        tokens.extend(tokenize(text))
    except FormulaSyntaxError:
        after = (tokens[-1].source_end or 0) + 1 if tokens else 0
        spot = after + len(text[after:]) - len(text[after:].lstrip())
        raise FormulaError(
            "A bracket, quotation mark or backquote is never closed, or stands where none can.",
            text,
            spot,
        ) from None
    for before, token in zip([None, *tokens], tokens, strict=False):
        _check_token(token, before, text)
    _check_brackets(tokens, text)
    _check_size(tokens, text)
    return tokens


def _is_operator(text: str) -> bool:
    """Whether it is one operator, perhaps behind ``~`` or before a sign."""
    return text.removeprefix("~").rstrip("+-") in (*_OPERATORS, "") and len(text) < 5


def _check_token(token: Token, before: Token | None, text: str) -> None:
    if token.kind is Token.Kind.PYTHON:
        expressions.check(token.token, text, _start(token), also=_MODEL_WORDS)
    elif token.kind is Token.Kind.OPERATOR and not _is_operator(token.token):
        raise _error(
            f"{token.token[:20]!r} is not an operator of formulas; valid: {' '.join(_OPERATORS)}. "
            "Comparisons and arithmetic stand in I(): I(age > 80), I(a / b).",
            text,
            token,
        )
    elif token.kind is Token.Kind.VALUE and token.token[:1] in "'\"":
        raise _error("Text in quotes stands only inside a function.", text, token)
    elif token.kind is Token.Kind.NAME and token.token in ("0", "1"):
        raise _error("A column called 0 or 1 looks like the intercept; rename it.", text, token)
    elif token.token == ".":
        raise _error("'.' is not expanded; write the predictors out.", text, token)
    elif token.token == "[":
        raise _error("Square brackets are not used in formulas.", text, token)
    if before is None:
        return
    operand = (Token.Kind.NAME, Token.Kind.VALUE, Token.Kind.PYTHON)
    begins = token.kind in operand or token.token == "("
    if begins and (before.kind in operand or before.token == ")"):
        hint = "; a column's name with a space in it stands in backquotes, `my column`"
        named = before.kind is token.kind is Token.Kind.NAME
        raise _error(f"An operator such as '+' is missing here{hint * named}.", text, token)
    if before.token == "(" and token.token == ")":
        raise _error("There is nothing in these brackets.", text, token)
    powers = [str(n) for n in range(1, _MAX_POWER + 1)]
    raised = before.token.endswith(("**", "^"))
    if token.kind is Token.Kind.VALUE and not raised and token.token not in ("0", "1"):
        raise _error(
            f"The number {token.token} is not a term; for a multiple write I(2 * x).", text, token
        )
    if token.token in ("**", "^") and before.token != ")":
        raise _error(
            "Powers are for interactions, such as (a + b)**2; for a numeric power write I(x**2).",
            text,
            token,
        )
    if raised and token.token not in powers:
        raise _error(
            f"Interactions go up to power {_MAX_POWER}, such as (a + b)**2; "
            "for a numeric power write I(x**2).",
            text,
            token,
        )


def _check_brackets(tokens: Sequence[Token], text: str) -> None:
    open_brackets: list[Token] = []
    for token in tokens:
        if token.kind is Token.Kind.CONTEXT and token.token == "(":
            open_brackets.append(token)
            if len(open_brackets) > _MAX_DEPTH:
                raise _error(f"Brackets go at most {_MAX_DEPTH} deep.", text, token)
        elif token.kind is Token.Kind.CONTEXT:
            if not open_brackets:
                raise _error("This bracket was never opened.", text, token)
            open_brackets.pop()
    if open_brackets:
        raise _error("This bracket is never closed.", text, open_brackets[-1])


def _check_size(tokens: Sequence[Token], text: str) -> None:
    """Refuse what multiplies out to more terms than anybody could read."""
    operand = (Token.Kind.NAME, Token.Kind.PYTHON)
    # The same tree as arithmetic on ones; sums for the bars and the tilde.
    code = " ".join(
        "1" if t.kind in operand else re.sub(r"[~|]", "+", t.token.replace("^", "**"))
        for t in tokens
    ).replace(":", "@")
    sizes: dict[ast.AST, int] = {}
    try:
        for node in reversed(list(ast.walk(ast.parse(code, mode="eval")))):
            sizes[node] = min(_multiplied(node, sizes), 10 * _MAX_TERMS)
    except SyntaxError:
        return  # An operator too many or too few: its own message follows.
    except (MemoryError, RecursionError):
        sizes[ast.Pass()] = 10 * _MAX_TERMS
    if max(sizes.values()) > _MAX_TERMS:
        raise FormulaError(
            f"This multiplies out to more than {_MAX_TERMS:,} terms; write fewer.", text, 0
        )


def _multiplied(node: ast.AST, sizes: Mapping[ast.AST, int]) -> int:
    if not isinstance(node, ast.BinOp):
        return max((sizes[child] for child in ast.iter_child_nodes(node)), default=1)
    left, right = sizes[node.left], sizes[node.right]
    if isinstance(node.op, ast.Pow):
        return math.prod([left] * int(getattr(node.right, "value", 1)))
    if isinstance(node.op, ast.Mult | ast.MatMult):
        return (left + 1) * (right + 1) - 1
    return left + right


def _response(tokens: Sequence[Token], text: str) -> tuple[str | None, str | None]:
    if not tokens:
        return None, None
    bars = [i for i, t in enumerate(tokens) if t.token == "|"]
    head = tokens[: bars[0]] if bars else tokens
    if len(head) != 1 or head[0].kind not in (Token.Kind.NAME, Token.Kind.PYTHON):
        raise _error(
            "The left side is one column or one function of columns, such as y, log(y), I(a - b) "
            "or, for k of n, k | trials(n).",
            text,
            (head[1] if len(head) > 1 else head[0] if head else tokens[0]),
        )
    response = _source(head, text)
    if head[0].token.startswith(("offset(", "trials(")):
        raise _error("The outcome comes first, such as k | trials(n).", text, head[0])
    if not bars:
        return response, None
    tail = tokens[bars[0] + 1 :]
    if len(tail) != 1 or not tail[0].token.startswith("trials("):
        spot = tail[0] if tail else tokens[bars[0]]
        raise _error("After '|' on the left side only trials(n) is possible.", text, spot)
    return response, _argument(tail[0], text)


def _argument(token: Token, text: str) -> str:
    """The one argument of ``offset(...)`` or ``trials(...)``."""
    code: str = token.token
    argument = code[code.index("(") + 1 : code.rindex(")")].strip()
    if not expressions.is_single(argument):
        raise _error("One column or expression is expected in the brackets.", text, token)
    return argument


def _source(tokens: Sequence[Token], text: str) -> str:
    """The text that the tokens came from."""
    start, stop = _start(tokens[0]), tokens[-1].source_end or 0
    backquoted = start > 0 and tokens[0].kind is Token.Kind.NAME and text[start - 1] == "`"
    closing = stop + 1 < len(text) and text[stop + 1] == "`"
    source: str = text[start - backquoted : stop + 1 + closing]
    return source.strip()


def _terms(tokens: Sequence[Token]) -> Iterator[tuple[str, list[Token]]]:
    """Split a right-hand side at its outermost ``+`` and ``-``: (sign, tokens of the term)."""
    depth, sign, term = 0, "+", list[Token]()
    for token in tokens:
        if token.kind is Token.Kind.CONTEXT:
            depth += 1 if token.token == "(" else -1
        if depth == 0 and token.kind is Token.Kind.OPERATOR and set(token.token) <= {"+", "-"}:
            if term:
                yield sign, term
            sign = "-" if token.token.count("-") % 2 else "+"
            term = []
        else:
            term.append(token)
    if term:
        yield sign, term


def _predictor(tokens: Sequence[Token], text: str) -> PredictorSpec:
    if tokens and tokens[-1].kind is Token.Kind.OPERATOR:
        raise _error("The formula ends with an operator.", text, tokens[-1])
    if not tokens:
        raise FormulaError("The right side is empty; write '1' for an intercept only.", text, 0)
    fixed, offsets, random = "", list[str](), list[RandomTerm]()
    for sign, term in _terms(tokens):
        bars = [t for t in term if t.kind is Token.Kind.OPERATOR and "|" in t.token]
        word = term[0].token.partition("(")[0] if term[0].kind is Token.Kind.PYTHON else ""
        if (bars or word in _MODEL_WORDS) and sign == "-":
            raise _error("A random term or offset is added, not subtracted.", text, term[0])
        if bars:
            random.extend(_random_terms(term, bars[0], text))
        elif word == "trials":
            raise _error("trials(n) belongs on the left side: k | trials(n) ~ ...", text, term[0])
        elif word == "offset" and len(term) == 1:
            offsets.append(_argument(term[0], text))
        else:
            joint = f" {sign} " if fixed or sign == "-" else ""
            fixed += joint + _source(term, text)
    nested = [t for t in tokens if t.token.startswith("offset(")]
    if len(nested) != len(offsets):
        raise _error("offset(...) stands alone as a term.", text, nested[0])
    return PredictorSpec(fixed.strip() or "1", tuple(random), tuple(offsets))


def _random_terms(term: Sequence[Token], bar: Token, text: str) -> Iterator[RandomTerm]:
    """Read ``(effects | groups)``, expanding ``a/b`` to ``a`` and ``a:b``."""
    if term[0].token != "(" or term[-1].token != ")" or bar.token not in ("|", "||"):
        raise _error("A random term stands alone in brackets: (1 + x | g).", text, bar)
    inner = list(term[1:-1])
    at = inner.index(bar)
    effects, groups = inner[:at], inner[at + 1 :]
    if not effects:
        raise _error("Say what varies between groups, such as (1 | g).", text, bar)
    if any(t.kind is Token.Kind.OPERATOR and "|" in t.token for t in [*effects, *groups]):
        raise _error("A random term has one '|' or '||'.", text, bar)
    if any(t.kind is Token.Kind.PYTHON and t.token.startswith("offset(") for t in effects):
        raise _error("An offset belongs to the population part.", text, bar)
    names, joins = groups[::2], groups[1::2]
    if not groups or len(groups) % 2 == 0 or any(t.kind is not Token.Kind.NAME for t in names):
        raise _error(
            "After the bar come grouping columns: g, a:b, or a/b for b nested in a (no factor()).",
            text,
            groups[0] if groups else bar,
        )
    for join in joins:
        if join.token not in (":", "/"):
            raise _error("Grouping columns are joined by ':' or '/'.", text, join)
    factors = [names[0].token]
    for join, name in zip(joins, names[1:], strict=True):
        if join.token == "/":
            yield RandomTerm(_source(effects, text), Grouping(tuple(factors)), bar.token == "|")
        factors.append(name.token)
    yield RandomTerm(_source(effects, text), Grouping(tuple(factors)), bar.token == "|")
