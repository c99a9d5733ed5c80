"""From what studies report to effects with their sampling variances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, DataError, listed, lookup, unknown
from bayesmixed.data import check_columns, numbers, to_pandas
from bayesmixed.meta._measures import Inputs, Measure, get_measure

type Floats = NDArray[np.float64]


def effect_sizes(
    data: Any,
    measure: str,
    *,
    add: float = 0.5,
    double_zero: str = "keep",
    **columns: str,
) -> pd.DataFrame:
    r"""Effect of each study and its sampling variance, from counts, means, correlations or rates.

    A cell that is 0 makes a ratio infinite, and the estimated variance of a difference too small,
    so `add` is added to every cell of the studies that have such a cell, and to no others; to
    arcsine measures nothing is added. These are escalc's defaults [1]_; ``add=0`` leaves risk
    differences, Peto's odds ratios and rate differences as they are. A study without events in
    both groups, or with nothing but events, says nothing about a relative effect; with the
    correction it counts, weakly, for no effect (`meta_counts` needs no correction).

    Parameters
    ----------
    data : table
        A row a study.
    measure : str
        ``"OR"``, ``"RR"`` (their logarithms), ``"RD"``, ``"AS"``, ``"PETO"`` from columns `ai`,
        `bi`, `ci`, `di` (events and others in the first and second group; or `n1i`, `n2i` in place
        of `bi`, `di`); ``"MD"``, ``"SMD"`` (Hedges' g with the exact correction), ``"ROM"`` from
        `m1i`, `sd1i`, `n1i`, `m2i`, `sd2i`, `n2i`; ``"IRR"``, ``"IRD"`` from events `x1i`, `x2i`
        in person-times `t1i`, `t2i`; ``"HR"`` (its logarithm) from observed less expected events
        `oe` and their variance `v` (of a logrank test; of intervals see `reported_effects`);
        ``"COR"``, ``"ZCOR"`` from `ri`, `ni`; ``"PR"``, ``"PLN"``, ``"PLO"``, ``"PAS"`` from `xi`
        and `ni` (or `mi`); ``"IR"``, ``"IRLN"`` from `xi`, `ti`.
    add : float
        The continuity correction.
    double_zero : {"keep", "drop"}
        What to do with studies of two groups that have no events, or nothing else, in both.
    **columns : str
        Names of the columns in `data`, under the names above.

    Returns
    -------
    pandas.DataFrame
        The table with columns ``yi`` (the effect on the scale of the analysis), ``vi`` (its
        variance), ``sei``, ``ni`` (sample size; for rates and hazards the number of events) and
        ``measure``, which `meta_analysis` reads.

    Raises
    ------
    UnknownNameError
        If the measure or a column does not exist.
    DataError
        If a value is missing or impossible, or an effect or its variance cannot be computed.

    References
    ----------
    .. [1] Viechtbauer (2010), J. Stat. Softw. 36(3), function ``escalc``; the formulas' sources
       are in the table of measures.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> trials = bm.datasets.load("bcg")
    >>> es = bm.effect_sizes(trials, "RR", ai="tpos", bi="tneg", ci="cpos", di="cneg")
    >>> round(float(es["yi"].iloc[0]), 4), round(float(es["vi"].iloc[0]), 4)
    (-0.8893, 0.3256)
    """
    chosen = get_measure(measure)
    lookup({"keep": 0, "drop": 0}, double_zero, "way to treat studies without events")
    if not (isinstance(add, int | float) and add >= 0):
        raise BayesmixedError(f"add={add!r}: the correction is a number from 0, such as 0.5.")
    table = to_pandas(data).copy()
    cells = _read(chosen, table, columns)
    size = chosen.inputs.size(cells)
    empty = _empty(chosen.inputs, cells)
    if double_zero == "drop":
        kept = ~empty
        table, size = table.loc[kept].copy(), size[kept]
        cells = {name: values[kept] for name, values in cells.items()}
        if not len(table):
            raise DataError("Every study is without events in both groups; none is left.")
    if chosen.corrected:
        cells = _corrected(chosen.inputs, cells, float(add))
    with np.errstate(all="ignore"):
        effect, variance = chosen.formula(cells)
    bad = ~(np.isfinite(effect) & np.isfinite(variance) & (variance > 0))
    if bad.any():
        raise DataError(
            f"The {chosen.title} or its variance cannot be computed for {_rows(table, bad)}. Look "
            "for cells that are 0 (use add=0.5), groups of one, a standard deviation or mean of 0, "
            "or a correlation of 1."
        )
    table["yi"], table["vi"], table["sei"], table["ni"] = effect, variance, variance**0.5, size
    table["measure"] = chosen.name
    return table


def _read(measure: Measure, table: pd.DataFrame, columns: dict[str, str]) -> dict[str, Floats]:
    """The measure's columns as numbers, each checked."""
    inputs = measure.inputs
    totals = {total: cell for cell, (total, _) in inputs.complements.items()}
    for name in columns:
        if name not in (*inputs.names, *totals):
            raise unknown(name, [*inputs.names, *totals], f"column of measure {measure.name}")
    check_columns(list(columns.values()), table.columns)
    given = {n: _number(table, n, column) for n, column in columns.items()}
    for cell, (total, part) in inputs.complements.items():
        if total in given and part in given:
            rest = given[total] - given[part]
            if cell in given and not np.allclose(given[cell], rest):
                raise DataError(f"{total} is not {part} + {cell} in every row.")
            _refuse(table, rest < 0, f"{part} ({columns[part]!r}) exceeds {total}")
            given[cell] = rest
    missing = [name for name in inputs.names if name not in given]
    if missing:
        instead = "".join(
            f" ({total} may stand for {cell})" for total, cell in totals.items() if cell in missing
        )
        raise BayesmixedError(
            f"Measure {measure.name} needs {', '.join(inputs.names)}; missing: "
            f"{listed(missing)}{instead}. Name their columns, such as "
            f'{missing[0]}="{missing[0]}".'
        )
    for name in inputs.counts:
        _refuse(table, given[name] < 0, f"{name} must be from 0, and is below")
    for name in inputs.positive:
        _refuse(table, given[name] <= 0, f"{name} must be above 0, and is not")
    if measure.name == "ROM":
        what = "A ratio of means needs two means of the same sign, other than 0, and has not"
        instead = ' Use measure "MD" or "SMD" for outcomes that may be on both sides of 0.'
        _refuse(table, ~(given["m1i"] * given["m2i"] > 0), what, instead)
    if "ri" in inputs.names:
        _refuse(table, np.abs(given["ri"]) > 1, "ri must be between -1 and 1, and is not")
    return {name: given[name] for name in inputs.names}


def _number(table: pd.DataFrame, name: str, column: str) -> Floats:
    values = numbers(table[column], len(table), f"Column {column!r} ({name})")
    advice = " Complete it, or leave the study out."
    _refuse(table, ~np.isfinite(values), f"Column {column!r} ({name}) has no value", advice)
    return values


def _refuse(table: pd.DataFrame, bad: NDArray[np.bool_], what: str, advice: str = "") -> None:
    if bad.any():
        raise DataError(f"{what}: {_rows(table, bad)}.{advice}")


def _rows(table: pd.DataFrame, bad: NDArray[np.bool_]) -> str:
    return "row " + listed(table.index[bad], 5)


def _empty(inputs: Inputs, cells: dict[str, Floats]) -> NDArray[np.bool_]:
    """Studies that say nothing of a relative effect."""
    rows = len(next(iter(cells.values())))
    found = np.zeros(rows, dtype=bool)
    for names in inputs.empty:
        found |= np.all([cells[n] == 0 for n in names], axis=0)
    return found


def _corrected(inputs: Inputs, cells: dict[str, Floats], add: float) -> dict[str, Floats]:
    """Cells with the correction where a study has a 0 among them."""
    if not inputs.cells:
        return cells
    zero = np.any([cells[n] == 0 for n in inputs.cells], axis=0)
    return cells | {n: cells[n] + add * zero for n in inputs.cells}
