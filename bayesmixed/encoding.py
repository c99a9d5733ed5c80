"""Terms of a formula -> columns of numbers, and how they were made, for further rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from formulaic import Formula as FormulaicFormula
from formulaic import ModelSpec as Encoder
from formulaic.errors import DataMismatchWarning, FormulaicError
from formulaic.materializers import PandasMaterializer
from formulaic.parser.types import Factor, Term
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, DataError, listed
from bayesmixed.data import LARGEST, numbers
from bayesmixed.expressions import evaluate
from bayesmixed.formula import plain, variables

type Floats = NDArray[np.float64]


class _Materializer(PandasMaterializer):  # type: ignore[misc]
    """formulaic's, with expressions worked out by `expressions` and not by Python's eval."""

    @PandasMaterializer.override  # type: ignore[untyped-decorator]
    def _evaluate(self, expr: str, metadata: object, spec: Encoder) -> tuple[object, set[str]]:
        return evaluate(expr, self.data, spec.transform_state, spec), set()


def _terms(code: str) -> FormulaicFormula:
    """Multiply the terms out; formulaic sees names in place of the calls."""
    text, parts = plain(code)

    def factor(given: Factor) -> Factor:
        part, is_call = parts.get(given.expr, (None, False))
        return Factor(part, eval_method="python" if is_call else "lookup") if part else given

    terms = FormulaicFormula(text)
    return FormulaicFormula([Term([factor(f) for f in term.factors]) for term in terms])


def _matrix(given: str | Encoder, frame: pd.DataFrame, failure: str) -> pd.DataFrame:
    """Encode a formula's terms, or new rows as the encoder did; failures in plain words."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", category=DataMismatchWarning)
            matrix: pd.DataFrame = _Materializer(frame).get_model_matrix(
                _terms(given) if isinstance(given, str) else given,
                na_action="ignore",
                output="pandas",
            )
    except DataMismatchWarning:
        raise DataError(f"{failure}: {_unseen(given, frame)}.") from None
    except (FormulaicError, TypeError, ValueError, LookupError, AttributeError) as error:
        cause = error if isinstance(error, BayesmixedError) else error.__cause__
        if isinstance(cause, BayesmixedError):
            raise cause from None
        raise DataError(f"{failure}: {error}") from None
    return matrix


def _unseen(given: str | Encoder, frame: pd.DataFrame) -> str:
    """Which categories of new rows the encoder does not know."""
    for name, (_, state) in () if isinstance(given, str) else given.encoder_state.items():
        known = state.get("categories", ())
        new = [v for v in frame.get(name, pd.Series()).unique() if v not in known]
        if known and new:
            return f"{name} is {listed(map(repr, new))}, which was not in the data of the fit"
    return "some rows have a category that is not among the levels"


def encode_terms(code: str, frame: pd.DataFrame) -> tuple[Floats, tuple[str, ...], Encoder]:
    """Columns of a formula's terms, their names, and how they were made.

    Raises
    ------
    DataError
        If the terms cannot be worked out, have one level only, or share a name.
    """
    matrix = _matrix(code, frame, f"{code} cannot be worked out from the data")
    encoder = matrix.model_spec
    made = [name for part in encoder.structure for name in part.columns]
    calls = {part for part, is_call in plain(code)[1].values() if is_call}
    if len(made) > len(set(made)) or calls & set(variables(code)):
        raise DataError(f"Two terms of {code} have the same name; rename one of the columns.")
    for term, columns in encoder.term_indices.items():
        if not columns and str(term) != "0":
            raise DataError(
                f"{term} has one level only, so its effect cannot be estimated; leave it out."
            )
    names = tuple(str(name) for name in matrix.columns)
    return _finite(matrix, names), names, encoder


def apply(encoder: Encoder, frame: pd.DataFrame) -> Floats:
    """The same columns for the rows of another table.

    Raises
    ------
    DataError
        If a category was not in the first one, or a value cannot be used.
    """
    matrix = _matrix(encoder, frame, "The new rows cannot be encoded as those of the fit")
    return _finite(matrix, tuple(str(name) for name in matrix.columns))


def _finite(matrix: pd.DataFrame, names: Sequence[str]) -> Floats:
    values = np.ascontiguousarray(matrix.to_numpy(dtype=float))
    bad = ~(np.abs(values) <= LARGEST)
    if bad.any():
        column = int(bad.any(axis=0).argmax())
        raise DataError(
            f"The term {names[column]!r} is infinite, huge or not a number at row "
            f"{listed(matrix.index[bad[:, column]], 5)}; logarithms and roots need positive "
            "values, and ratios a denominator other than 0."
        )
    return values


def add_offsets(expressions: Sequence[str], frame: pd.DataFrame) -> Floats:
    """Sum of the offsets, shape (rows,).

    Raises
    ------
    DataError
        If one is infinite or not a number.
    """
    total: Floats = np.zeros(len(frame))
    for code in expressions:
        value = numbers(evaluate(code, frame), len(frame), f"offset({code})")
        bad = ~(np.abs(value) <= LARGEST)
        if bad.any():
            raise DataError(
                f"offset({code}) is infinite or not a number at row "
                f"{listed(frame.index[bad], 5)}; a logarithm needs an exposure above 0."
            )
        total = total + value
    return total
