"""Average slopes of the mean outcome over a numeric predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from bayesmixed._errors import BayesmixedError
from bayesmixed.fit import Fit
from bayesmixed.reports import _contrasts, _grid
from bayesmixed.reports._estimand import estimand
from bayesmixed.reports._grid import Axis
from bayesmixed.reports._pictures import by_population
from bayesmixed.reports._report import Report, convergence_caveats, interval

# Five-point central difference: its error is h^4 f'''''/30, at a hundredth of the predictor's sd
# about 1e-9 of the mean, as small as what the quadrature leaves (Abramowitz & Stegun 25.3.6).
_PLACES = np.array([-2.0, -1.0, 1.0, 2.0])
_WEIGHTS = np.array([1.0, -8.0, 8.0, -1.0]) / 12
_STEP = 0.01


def slopes(
    fit: Fit,
    variable: str,
    population: str | None = None,
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    over: Any = None,
    interaction: bool = False,
    category: str | None = None,
) -> Report:
    r"""Average slope of the mean outcome over a numeric predictor.

    The derivative :math:`\partial E(y)/\partial x` of every row's expected outcome, on the
    outcome's own scale, at the row's observed value (or at values in `at`), averaged over the
    rows: the average marginal effect of [1]_. It is a central difference over five points, whose
    error is about 1e-7 of the slope.

    Parameters
    ----------
    fit : Fit
        The fit.
    variable : str
        A column that holds numbers.
    population : {"average", "data", "new"}, optional
        Whose effects the rows have, as for `effects`; all three unless given.
    by : str or sequence of str, optional
        Columns that are set, for every row, to each of their values in turn.
    at : mapping of str to value or sequence, optional
        Columns that are set to a value, or to several in turn; `variable` may be among them.
    over : table, optional
        The rows to average over in place of the fit's.
    interaction : bool
        How the slope changes from the first value of `by` to its others.
    category : str, optional
        For an ordinal outcome: the probability of this category or a higher one.

    Returns
    -------
    Report
        A row a cell of the grid and population; draws ``slope``, dims (population, grid columns
        ..., chain, draw).

    Raises
    ------
    UnknownNameError
        If a column, level, population or category does not exist.
    BayesmixedError
        If the column has levels in place of numbers, or the grid cannot be made.

    References
    ----------
    .. [1] Bartus (2005), Stata Journal 5:309.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> fit = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1)
    >>> report = bm.slopes(fit, "Days", population="new")
    >>> report.table.loc["new", "mean"].round(-1)
    np.float64(10.0)
    """
    column = _grid.column_of(fit, variable)
    if _grid.is_factor(fit.design, column):
        raise BayesmixedError(
            f"{column} has levels and no slope; effects(fit, {column!r}) compares them."
        )
    grid, held = _grid.axes(fit, by, at)
    of = estimand(fit, category)
    cells = _grid.cells(fit, over, of, population)
    found = {"slope": _slope(fit, cells, column, grid, held)}
    if interaction:
        found = _contrasts.interactions(found, _grid.only(grid))
    ((name, draws),) = found.items()
    order = [*(axis.column for axis in grid), "population"]
    table = xr.Dataset(interval(draws)).to_dataframe(dim_order=order)
    what = "Change of the average slope" if interaction else "Average slope"
    where = "the values in the table" if column in order else f"each row's own {column}"
    where = f"{column} = {held[column]}" if column in held else where
    return Report(
        f"{what} of {fit.spec.response} over {column}",
        table,
        xr.Dataset({name: draws}),
        f"{what} (derivative) of the mean outcome ({of.label}) per unit of {column}, at {where}. "
        f"{_grid.in_words(fit, cells.populations, over, held)} "
        "Posterior means and 95 % equal-tailed intervals.",
        (
            "A slope is a rate of change at a point; where the mean bends, a step of one unit "
            "changes it by another amount (see effects()).",
            *convergence_caveats(fit),
        ),
        ("Bartus (2005), The Stata Journal 5:309-329.",),
        {"slopes": partial(by_population, table, f"{what} over {column}", 0.0)},
    )


def _slope(
    fit: Fit, cells: _grid.Cells, column: str, grid: Sequence[Axis], held: Mapping[str, Any]
) -> xr.DataArray:
    step = _STEP * float(fit.design.table.frame[column].to_numpy(dtype=float).std())
    observed = cells.base.table.frame[column].to_numpy(dtype=float)
    total: Any = 0.0
    for place, weight in zip(_PLACES * step, _WEIGHTS / step, strict=True):
        moved = [
            replace(a, settings=tuple(s + place for s in a.settings)) if a.column == column else a
            for a in grid
        ]
        own = {} if column in {a.column for a in grid} else {column: observed}
        start = {**own, **held}
        if column in start:
            start[column] = start[column] + place
        total = total + weight * cells.mean(fit, moved, start)
    return xr.DataArray(total)
