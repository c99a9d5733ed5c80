"""What every report is: a table, the draws behind it, a picture, and words that stand alone."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from bayesmixed._errors import lookup
from bayesmixed.fit import Fit
from bayesmixed.tables import formats

# More rows than these are printed in part, as so many.
_MOST, _FIRST = 100, 40

type Picture = Callable[[Axes | None], Axes]

PROB = 0.95
"""Mass of the equal-tailed intervals in tables: columns ``eti95_lb`` and ``eti95_ub``."""


@dataclass(frozen=True)
class Report:
    """A published number as a value.

    Parameters
    ----------
    title : str
        What it is.
    table : pandas.DataFrame
        The numbers. Columns ``eti95_lb`` and ``eti95_ub`` are 95 % equal-tailed intervals.
    draws : xarray.Dataset
        The posterior draws behind the numbers, dims (chain, draw, ...).
    caption : str
        The estimand, its scale, its population and the kind of interval.
    caveats : tuple of str
        When it misleads; trouble with convergence stands here too.
    references : tuple of str
        Where the method is from.
    pictures : mapping of str to callable, optional
        Each draws the report on axes that it makes or is given; the first is the usual one.
    printed : pandas.DataFrame, optional
        Rows that are printed, and shown in a notebook, where the table is long: the first 40 of
        more than 100 unless given. Files have all.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("medpar")
    >>> formula = "died ~ age80 + factor(type) + (1 | provnum)"
    >>> fit = bm.Model(formula, data, family="bernoulli").fit(seed=1)
    >>> league = bm.benchmark(fit, "provnum")
    >>> int(league.table["n"].sum()), league.draws["ratio"].dims
    (1495, ('chain', 'draw', 'provnum'))
    >>> len(league.caveats) > 0
    True
    >>> path = league.save_plot("hospitals.png", "caterpillar")
    >>> page = league.to_html()
    """

    title: str
    table: pd.DataFrame
    draws: xr.Dataset = field(repr=False)
    caption: str
    caveats: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    pictures: Mapping[str, Picture] = field(default_factory=dict, repr=False)
    printed: pd.DataFrame | None = field(default=None, repr=False)

    def save_plot(self, path: str | PathLike[str], kind: str | None = None, dpi: int = 150) -> Path:
        """Draw the report into a file, whose suffix says the format.

        Parameters
        ----------
        path : path
            Such as ``"hospitals.png"`` or ``"hospitals.pdf"``.
        kind : str, optional
            Which picture, as for `plot`.
        dpi : int
            Dots per inch.
        """
        ax = self.plot(kind)
        ax.figure.savefig(path, dpi=dpi)  # type: ignore[union-attr]  # only a Figure here
        plt.close(ax.get_figure(root=True))
        return Path(path)

    def plot(self, kind: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw the report.

        Parameters
        ----------
        kind : str, optional
            Which of its `pictures`; the first unless given.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure unless given.

        Raises
        ------
        UnknownNameError
            If there is no such picture.
        """
        picture = lookup(self.pictures, kind or next(iter(self.pictures), ""), "kind of picture")
        return picture(ax)

    def to_csv(self, path: str | PathLike[str]) -> Path:
        """Write the table as CSV, numbers in full.

        Parameters
        ----------
        path : path
            The file.
        """
        self.table.to_csv(path)
        return Path(path)

    def to_html(self) -> str:
        """The report as an HTML fragment; text from the data is escaped."""
        return self._html(self.table, "")

    def _html(self, rows: pd.DataFrame, note: str) -> str:
        table = rows.to_html(formatters=formats(self.table), border=0, na_rep="")
        below = [f"<p>{html.escape(text)}</p>" for text in (note, self.caption) if text]
        for title, items in (("Caveats", self.caveats), ("References", self.references)):
            if items:
                inner = "".join(f"<li>{html.escape(item)}</li>" for item in items)
                below.append(f"<p>{title}</p><ul>{inner}</ul>")
        return f"<h4>{html.escape(self.title)}</h4>{table}{''.join(below)}"

    def to_latex(self) -> str:
        """The table as LaTeX (booktabs), captioned; text from the data is escaped."""
        return self.table.to_latex(
            formatters=formats(self.table), caption=self.caption, escape=True, na_rep=""
        )

    @property
    def _shown(self) -> tuple[pd.DataFrame, str]:
        """The rows to print, and what to say of the others."""
        rows = self.table if self.printed is None else self.printed
        if len(rows) > _MOST:
            rows = rows.head(_FIRST)
        if len(rows) == len(self.table):
            return self.table, ""
        return rows, f"{len(rows)} of {len(self.table):,} rows; .table has all."

    def _repr_html_(self) -> str:
        return self._html(*self._shown)

    def __str__(self) -> str:
        """The table with its words, for a terminal."""
        rows, note = self._shown
        table = rows.to_string(formatters=formats(self.table), na_rep="")
        lines = [self.title, "", table, *([note] if note else []), "", self.caption]
        lines += [f"! {caveat}" for caveat in self.caveats]
        return "\n".join(lines)


def convergence_caveats(fit: Fit) -> tuple[str, ...]:
    """What every report on a fit has to say about its draws."""
    return tuple(f"Convergence: {problem}" for problem in fit.convergence.problems)


def interval(draws: xr.DataArray) -> dict[str, xr.DataArray]:
    """Mean, sd and equal-tailed interval over the draws."""
    over = ["chain", "draw"]
    tail = (1 - PROB) / 2
    # Ratios of probabilities near 0 have draws whose squares are beyond all numbers.
    with np.errstate(over="ignore"):
        mean, sd = draws.mean(over), draws.std(over)
    return {
        "mean": mean,
        "sd": sd,
        "eti95_lb": draws.quantile(tail, over).drop_vars("quantile"),
        "eti95_ub": draws.quantile(1 - tail, over).drop_vars("quantile"),
    }
