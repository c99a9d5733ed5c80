"""Columns of text that were meant to be numbers or dates, as tables from elsewhere have them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bayesmixed._errors import listed

_MOST = 0.5
"""Share of the values that must look like numbers or dates."""
_MANY = 20
"""More levels than this are seldom categories."""
_COMMA = r"[-+]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+"
_DATE = r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}(?:[ T]\d.*)?"


def meant(column: pd.Series[Any]) -> str:
    """What a column of text looks like, and how to make that of it; empty where it is just text.

    Parameters
    ----------
    column : pandas.Series
        Without gaps.
    """
    if pd.api.types.is_numeric_dtype(column.dtype):
        return ""
    text = column.astype(str).str.strip()
    written = f"data[{str(column.name)!r}]"
    commas = text.str.fullmatch(_COMMA)
    if commas.any() and (commas | text.str.fullmatch(r"[-+]?\d+")).mean() > _MOST:
        return "numbers with decimal commas; read the file with pandas.read_csv(..., decimal=',')"
    if text.str.fullmatch(_DATE).mean() > _MOST:
        return f"dates; with date = pd.to_datetime({written}), (date - date.min()).dt.days is a day"
    odd = pd.to_numeric(text, errors="coerce").isna()
    if not len(text) or 1 - odd.mean() <= _MOST:
        return ""
    if not odd.any():
        return f"numbers stored as text; pd.to_numeric({written}) makes numbers of them"
    others = listed(map(repr, text[odd].unique()), 3)
    return (
        f"numbers but for {others} in {int(odd.sum()):,} rows; pd.to_numeric({written}, "
        "errors='coerce') makes those missing"
    )


def advice(column: pd.Series[Any]) -> str | None:
    """A line on a predictor of text that has a coefficient for nearly every row or number.

    Parameters
    ----------
    column : pandas.Series
        The complete rows.
    """
    if pd.api.types.is_numeric_dtype(column.dtype):
        return None
    levels = column.nunique()
    seems = meant(column) if levels > _MANY else ""
    if not seems and not (levels > _MANY and levels > len(column) / 2):
        return None
    what = f"It looks like {seems}." if seems else f"Is it a group, such as (1 | {column.name})?"
    return (
        f"{column.name!r} is text with {levels:,} different values in {len(column):,} rows, and "
        f"each has a coefficient of its own. {what}"
    )
