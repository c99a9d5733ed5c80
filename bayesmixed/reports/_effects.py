"""Standardised contrasts of mean outcomes, for three named populations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesmixed._errors import BayesmixedError
from bayesmixed.fit import Fit
from bayesmixed.reports import _contrasts, _grid
from bayesmixed.reports._estimand import Estimand, estimand
from bayesmixed.reports._grid import Axis
from bayesmixed.reports._pictures import by_population
from bayesmixed.reports._report import Report, convergence_caveats

type Pairs = tuple[list[str], list[int], list[int]]

_UNIT = 1.0


def effects(
    fit: Fit,
    variable: str,
    contrast: str | float | Sequence[Any] | None = None,
    population: str | None = None,
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    over: Any = None,
    interaction: bool = False,
    category: str | None = None,
) -> Report:
    r"""Effects of a predictor on the mean outcome, standardised over rows.

    Every row's expected outcome is worked out twice in every draw, with the predictor set to one
    value and to the other and all else as it is, and averaged over the rows (g-computation [1]_).
    For a probability: risk difference, risk ratio, odds ratio and number needed to treat; for
    rates and means: difference and ratio. Three populations answer three questions:

    - ``"average"``: groups whose effects are 0 (a patient like the average one);
    - ``"data"``: the groups in the data, with their own effects;
    - ``"new"``: new groups from the population, whose effects are integrated out by quadrature.

    Parameters
    ----------
    fit : Fit
        The fit.
    variable : str
        A column of the data that some predictor depends on.
    contrast : optional
        A pair of values, (reference, other). For a factor also ``"reference"``, each level against
        the first (the default), or ``"pairwise"``. For numbers also a step from the observed
        values (default 1; a column with two values only is contrasted between them).
    population : {"average", "data", "new"}, optional
        One of the three; all of them side by side unless given.
    by : str or sequence of str, optional
        Columns that are set, for every row, to each of their values in turn.
    at : mapping of str to value or sequence, optional
        Columns that are set to a value, or to several in turn. All others stay as observed.
    over : table, optional
        The rows to average over in place of the fit's, such as another population's covariates.
        Rows count by their trials or exposure, if any.
    interaction : bool
        Contrasts of contrasts: how the effects change from the first value of `by` to its others.
    category : str, optional
        For an ordinal outcome: the probability of this category or a higher one, in place of the
        mean category.

    Returns
    -------
    Report
        A row a contrast, cell of the grid, measure and population; draws by measure, dims
        (population, contrast, grid columns ..., chain, draw).

    Raises
    ------
    UnknownNameError
        If a column, level, population or category does not exist.
    BayesmixedError
        If the contrast does not suit the column, or the grid cannot be made.

    References
    ----------
    .. [1] Robins (1986), Mathematical Modelling 7:1393, for a time-fixed treatment.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("medpar")
    >>> formula = "died ~ age80 + factor(type) + (1 | provnum)"
    >>> fit = bm.Model(formula, data, family="bernoulli").fit(seed=1)
    >>> report = bm.effects(fit, "age80", population="new")
    >>> report.table.loc[("1 vs 0", "risk difference", "new"), "median"].round(1)
    np.float64(0.1)
    >>> by_type = bm.effects(fit, "age80", by="type", population="new")
    """
    column = _grid.column_of(fit, variable)
    grid, held = _grid.axes(fit, by, at)
    if column in held or column in {axis.column for axis in grid}:
        raise BayesmixedError(f"{column} is what is contrasted; leave it out of by and at.")
    of = estimand(fit, category)
    cells = _grid.cells(fit, over, of, population)
    axis, pairs = _pairs(fit, cells.base.table.frame, column, contrast)
    means = cells.mean(fit, [axis, *grid], held).rename({column: "contrast"})
    found = _contrasts.contrasts(*_sides(means, pairs), of)
    if interaction:
        found = _contrasts.interactions(found, _grid.only(grid))
    table = _contrasts.table(found)
    return Report(
        f"Effects of {column} on {fit.spec.response}",
        table,
        xr.Dataset(found),
        _caption(fit, of, column, axis, cells, over, held, interaction),
        (
            *_caveats(of, cells, fit),
            *_contrasts.unsettled(found),
            *convergence_caveats(fit),
        ),
        (
            "Robins (1986), Mathematical Modelling 7:1393-1512.",
            *(["Altman (1998), BMJ 317:1309-1312."] if of.is_risk and not interaction else []),
        ),
        {
            name: partial(by_population, _measure(table, name), _axis(name, table), _neutral(name))
            for name in found
            if name != _contrasts.NEEDED
        },
    )


def _measure(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return pd.DataFrame(table.xs(name, level="measure"))


def _axis(name: str, table: pd.DataFrame) -> str:
    compared = table.index.unique("contrast")
    return name.capitalize() + (f", {compared[0]}" if len(compared) == 1 else "")


def _neutral(name: str) -> float:
    return 1.0 if "ratio" in name else 0.0


def _sides(means: xr.DataArray, pairs: Pairs) -> tuple[xr.DataArray, xr.DataArray]:
    """Mean outcomes of the reference and of the other value of every contrast."""
    names, low, high = pairs
    one, other = (means.isel(contrast=side).assign_coords(contrast=names) for side in (low, high))
    return one, other


def _pairs(fit: Fit, frame: pd.DataFrame, column: str, contrast: Any) -> tuple[Axis, Pairs]:
    """The values that a column is set to, and which of them are compared."""
    design = fit.design
    factor, every = _grid.is_factor(design, column), _grid.levels(design, column)
    kinds = ("reference", "pairwise")
    if isinstance(contrast, str) and (contrast not in kinds or not factor):
        valid = " or ".join(map(repr, kinds)) if factor else "a step or a pair of numbers"
        raise BayesmixedError(
            f"contrast={contrast!r} does not suit {column}: give {valid}"
            + (f", or a pair of its levels such as {(every[0], every[-1])!r}." if factor else ".")
        )
    is_number = isinstance(contrast, int | float | np.number) and not isinstance(contrast, bool)
    if is_number or (contrast is None and not factor and len(every) > 2):
        if factor:
            raise BayesmixedError(
                f"{column} has levels, so a step says nothing; give a pair of them, such as "
                f"contrast={(every[0], every[-1])!r}."
            )
        return _step(frame, column, _UNIT if contrast is None else float(contrast))
    if contrast is not None and not isinstance(contrast, str):
        values = _grid.checked(design, column, tuple(contrast))
        if len(values) != 2 or values[0] == values[1]:
            raise BayesmixedError(
                f"contrast={contrast!r} is not a pair of two different values (reference, other)."
            )
    else:
        values = every
    if len(values) < 2:
        raise BayesmixedError(f"{column} has one value only, so there is nothing to compare.")
    places = range(len(values))
    chosen = combinations(places, 2) if contrast == "pairwise" else ((0, k) for k in places[1:])
    low, high = map(list, zip(*chosen, strict=True))
    risen = [f"{values[j]} vs {values[i]}" for i, j in zip(low, high, strict=True)]
    return Axis(column, values, values), (risen, low, high)


def _step(frame: pd.DataFrame, column: str, step: float) -> tuple[Axis, Pairs]:
    if not np.isfinite(step) or step == 0:
        raise BayesmixedError(f"contrast={step!r} is not a step; give a number other than 0.")
    observed = frame[column].to_numpy(dtype=float)
    labels = ("observed", f"{step:+g}")
    return Axis(column, labels, (observed, observed + step)), ([labels[1]], [0], [1])


def _caption(
    fit: Fit,
    of: Estimand,
    column: str,
    axis: Axis,
    cells: _grid.Cells,
    over: Any,
    held: Mapping[str, Any],
    interaction: bool,
) -> str:
    moved = axis.labels[0] == "observed"
    how = (
        f"{column} moved by {axis.labels[1]} from its observed value"
        if moved
        else (f"{column} set to the one and to the other value")
    )
    what = "Changes of contrasts" if interaction else "Contrasts"
    needed = (
        "Number needed to treat: 1 / risk difference; positive for one event more, negative for "
        "one fewer. "
        if of.is_risk and not interaction
        else ""
    )
    return (
        f"{what} of the mean outcome ({of.label}) between {how}. "
        f"{_grid.in_words(fit, cells.populations, over, held)} {needed}"
        "Posterior medians, means, standard deviations and 95 % equal-tailed intervals."
    )


def _caveats(of: Estimand, cells: _grid.Cells, fit: Fit) -> tuple[str, ...]:
    found = [
        "Causal only if, given the covariates and groups, who had which value was as good as "
        "random."
    ]
    if of.is_risk and len(cells.populations) > 1:
        found.append(
            "Populations differ because the mean of probabilities is not the probability at the "
            "mean; none is wrong, they answer different questions."
        )
    if of.name == "mean category":
        found.append(
            "Categories count 0, 1, 2, ... as if equally far apart; category=... gives the "
            "probability of a category or a higher one instead."
        )
    return tuple(found)
