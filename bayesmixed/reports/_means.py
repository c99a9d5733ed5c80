"""Mean outcomes over a reference grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import xarray as xr

from bayesmixed.fit import Fit
from bayesmixed.reports import _grid
from bayesmixed.reports._estimand import estimand
from bayesmixed.reports._pictures import by_population
from bayesmixed.reports._report import Report, convergence_caveats, interval


def means(
    fit: Fit,
    variable: str | Sequence[str] | None = None,
    population: str | None = None,
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    over: Any = None,
    category: str | None = None,
) -> Report:
    """Mean outcomes with predictors set to the values of a grid, averaged over rows.

    All columns that the grid does not set stay as observed: the averages are over the joint
    distribution of the covariates in the rows. (Least-squares means weight the levels of factors
    equally instead [1]_; give such a balanced table as `over` for them.)

    Parameters
    ----------
    fit : Fit
        The fit.
    variable, by : str or sequence of str, optional
        Columns that take each of their values in the data; numbers that take more than 12 need
        `at`. Without any the mean is over the rows as they are.
    population : {"average", "data", "new"}, optional
        Whose effects the rows have, as for `effects`; all three unless given.
    at : mapping of str to value or sequence, optional
        Columns that are set to a value, or to several in turn.
    over : table, optional
        The rows to average over in place of the fit's.
    category : str, optional
        For an ordinal outcome: the probability of this category or a higher one.

    Returns
    -------
    Report
        A row a cell of the grid and population; draws ``mean``, dims (population, grid columns
        ..., chain, draw).

    Raises
    ------
    UnknownNameError
        If a column, level, population or category does not exist.
    BayesmixedError
        If the grid cannot be made.

    References
    ----------
    .. [1] Searle, Speed & Milliken (1980), Am. Stat. 34:216.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("medpar")
    >>> formula = "died ~ age80 + factor(type) + (1 | provnum)"
    >>> fit = bm.Model(formula, data, family="bernoulli").fit(seed=1)
    >>> report = bm.means(fit, "type", population="new")
    >>> report.table.index.get_level_values("type").to_list()
    [1, 2, 3]
    """
    first = [variable] if isinstance(variable, str) else list(variable or ())
    chosen = [n for n in first if n not in (at or {})]
    grid, held = _grid.axes(fit, [*chosen, *([by] if isinstance(by, str) else by or ())], at)
    of = estimand(fit, category)
    cells = _grid.cells(fit, over, of, population)
    draws = cells.mean(fit, grid, held)
    order = [*(axis.column for axis in grid), "population"]
    table = xr.Dataset(interval(draws)).to_dataframe(dim_order=order)
    return Report(
        of.label + (f" by {' and '.join(axis.column for axis in grid)}" if grid else ""),
        table,
        xr.Dataset({"mean": draws}),
        f"{of.label}: mean of the expected outcome. "
        f"{_grid.in_words(fit, cells.populations, over, held)} "
        "Posterior means and 95 % equal-tailed intervals.",
        (
            "Overlapping intervals do not tell whether two means differ; effects() does.",
            *convergence_caveats(fit),
        ),
        ("Searle, Speed & Milliken (1980), The American Statistician 34:216-221.",),
        {"means": partial(by_population, table, of.label, None)},
    )
