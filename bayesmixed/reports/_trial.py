"""A trial with repeated visits: patients, arms, visits, and the model's rows for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, DataError, listed, lookup
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.linpred import LinearPredictor, Whose, linear_predictor
from bayesmixed.reports._grid import column_of, is_factor, levels, predictors
from bayesmixed.reports._latent import is_own_scale
from bayesmixed.subjects import units, within

type Floats = NDArray[np.float64]

_MOST_VISITS = 40
_MOST_ARMS = 12


@dataclass(frozen=True)
class Trial:
    """What a report on a trial asks of a fit.

    Parameters
    ----------
    fit : Fit
        The fit.
    treatment, time, patient : str
        Columns.
    arms : tuple
        The reference first.
    visits : tuple
        In order.
    people : pandas.DataFrame
        The rows whose covariates are averaged over: a row a patient, or a reference grid.
    along : mapping of str to mapping
        Further columns that follow from the visit, and their value at each.
    whose : mapping of str to {"existing", "new"}
        Groupings inside the patients are new ones; those around have their own effects.
    grid : bool
        Whether `people` is a reference grid.
    """

    fit: Fit
    treatment: str
    time: str
    patient: str
    arms: tuple[Any, ...]
    visits: tuple[Any, ...]
    people: pd.DataFrame
    along: Mapping[str, Mapping[Any, Any]]
    whose: Mapping[str, Whose]
    grid: bool

    @classmethod
    def of(
        cls,
        fit: Fit,
        treatment: str,
        time: str,
        reference: Any = None,
        patient: str | None = None,
        average: str = "patients",
    ) -> Trial:
        """Find them in a fit.

        Raises
        ------
        UnknownNameError
            If a column, arm or way of averaging does not exist.
        BayesmixedError
            If the outcome is not on the scale of its predictor, or arms or visits are none.
        DataError
            If the treatment or a covariate changes within a patient.
        """
        design = fit.design
        design.need_rows("A trial's analysis")
        if not is_own_scale(design) or not design.family.is_normal:
            raise BayesmixedError(
                f"This report is for normal outcomes; for family {design.family.name} use "
                "effects(fit, treatment, by=visit) and means()."
            )
        _of_one_outcome(design)
        column, when = column_of(fit, treatment), column_of(fit, time)
        patient = _patient(design, patient)
        arms = _few(design, column, _MOST_ARMS, "arms")
        visits = _few(design, when, _MOST_VISITS, "visits")
        if reference is not None:
            first = lookup({str(a): a for a in arms}, str(reference), f"level of {column}")
            arms = (first, *(a for a in arms if a != first))
        frame, who = design.table.frame, units(design)[patient].index
        _constant(frame, who, [column], "the treatment", patient)
        measured = [] if design.series is None else design.series.structure.columns
        along = _along(frame, when, [n for n in (*predictors(design), *measured) if n != column])
        others = [n for n in predictors(design) if n not in {column, when, *along}]
        grid = lookup({"patients": False, "grid": True}, average, "way of averaging")
        people = frame.iloc[np.unique(who, return_index=True)[1]].reset_index(drop=True)
        whose: dict[str, Whose] = {g.name: "existing" for g in design.groups}
        whose |= dict.fromkeys(within(design, who), "new")
        if grid:
            people = _grid(design, people, others)
            whose = {g: "new" if w == "new" else "average" for g, w in whose.items()}
        else:
            _constant(frame, who, others, "a covariate", patient)
        return cls(fit, column, when, patient, arms, visits, people, along, whose, grid)

    def frame(self, visit: Any, arm: Any = None) -> pd.DataFrame:
        """The people at a visit, in their own arm or all in one."""
        values = {self.time: visit, **{n: v[visit] for n, v in self.along.items()}}
        values |= {} if arm is None else {self.treatment: arm}
        own = self.people
        changed = {n: pd.Series([v] * len(own), index=own.index) for n, v in values.items()}
        return own.assign(**{n: c.astype(own[n].dtype) for n, c in changed.items()})

    def predictor(self, fit: Fit, visit: Any, arm: Any = None) -> LinearPredictor:
        """Linear predictors of the people at a visit, of new patients."""
        rows = self.fit.design.unobserved(self.frame(visit, arm))
        return linear_predictor(fit, rows, self.whose)

    def pieces(self) -> Iterator[Fit]:
        """The fit in runs of draws, so that draws x people fit in memory."""
        rows = self.fit.design.unobserved(self.people)
        for piece in Fit(rows, self.fit.tree).pieces():
            yield Fit(self.fit.design, piece.tree)

    @property
    def contrasts(self) -> list[str]:
        """Every other arm against the reference."""
        return [f"{arm} vs {self.arms[0]}" for arm in self.arms[1:]]

    @property
    def averaged(self) -> str:
        """Over whom means are averaged, as a sentence."""
        if self.grid:
            return (
                "Means are at the reference grid: numbers at their mean over the rows, factors at "
                "each level with equal weight."
            )
        return (
            f"Means are averaged over the {len(self.people):,} values of {self.patient} in the "
            f"data, each with its own covariates and set to every {self.treatment} in turn."
        )


def _of_one_outcome(design: Design) -> None:
    axes = () if design.series is None else design.series.axes
    if len(axes) > 1:
        raise BayesmixedError(
            "A trial's analysis is of one outcome by visit, and this model's residuals go over "
            f"{' and '.join(axis.name for axis in axes)}. For adjusted means of each outcome use "
            "means(fit, treatment, by=...) and effects(fit, treatment, by=...)."
        )


def _patient(design: Design, patient: str | None) -> str:
    known = units(design)
    if patient is not None:
        lookup(known, patient, "grouping or series")
        return patient
    if design.series is not None:
        return design.series.structure.within
    if len(known) == 1:
        return next(iter(known))
    raise BayesmixedError(
        'Say which column is the patient: patient="..."'
        + (f", one of {listed(known)}." if known else "; the model has no groups and no series.")
    )


def _few(design: Design, column: str, most: int, what: str) -> tuple[Any, ...]:
    found = levels(design, column)
    if not 2 <= len(found) <= most:
        raise BayesmixedError(
            f"{column} takes {len(found):,} values, and 2 to {most} {what} are needed."
        )
    return found


def _constant(
    frame: pd.DataFrame, who: NDArray[np.intp], names: list[str], what: str, patient: str
) -> None:
    for name in names:
        codes = pd.factorize(frame[name])[0]
        first = np.zeros(who.max() + 1, dtype=np.intp)
        first[who[::-1]] = codes[::-1]
        bad = np.flatnonzero(first[who] != codes)
        if len(bad):
            raise DataError(
                f"{name}, {what}, changes within {patient} {frame[patient].iloc[bad[0]]}"
                + (
                    ', so there is no value of the patient to average over; use average="grid".'
                    if what == "a covariate"
                    else "; an arm is constant within a patient."
                )
            )


def _along(frame: pd.DataFrame, time: str, names: list[str]) -> dict[str, dict[Any, Any]]:
    """Columns that have one value at each visit, such as the week beside the visit's name."""
    found = {}
    for name in names:
        pairs = frame[[time, name]].drop_duplicates()
        if name != time and pairs[time].is_unique and pairs[name].nunique() > 1:
            found[name] = dict(zip(pairs[time], pairs[name], strict=True))
    return found


def _grid(design: Design, people: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Every combination of the factors' levels, numbers at their means over the rows."""
    frame = design.table.frame
    factors = {n: levels(design, n) for n in names if is_factor(design, n)}
    cells = list(product(*factors.values()))
    rows = people.iloc[[0] * len(cells)].reset_index(drop=True)
    values = {n: [cell[k] for cell in cells] for k, n in enumerate(factors)}
    columns = {n: pd.Series(v).astype(frame[n].dtype) for n, v in values.items()}
    means = {n: float(frame[n].mean()) for n in names if n not in factors}
    return rows.assign(**columns, **means)
