"""The arrays of a model: what was asked, met by a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bayesmixed import expressions, formula
from bayesmixed._errors import BayesmixedError, DataError, listed
from bayesmixed.data import Table, alike, select, to_pandas
from bayesmixed.family import Family
from bayesmixed.groups import Groups, parents, tree
from bayesmixed.links import Link
from bayesmixed.misread import advice
from bayesmixed.outcome import check_support, known_sd, known_trials, outcome
from bayesmixed.predictor import Floats, PredictorDesign
from bayesmixed.series import Series
from bayesmixed.spec import ModelSpec
from bayesmixed.spreads import Spreads
from bayesmixed.structure import Structure
from bayesmixed.whole import Counted, Whole


@dataclass(frozen=True)
class Design:
    """A spec met by data.

    Where the data are more than memory holds, `table`, `y` and the matrices are those of some rows,
    among them one of every group and category, and `whole` says what is known of all of them.

    Parameters
    ----------
    spec : ModelSpec
        What was asked.
    table : Table
        The rows and columns used.
    y : array, shape (rows,)
        The outcome as numbers; for ordered categories their codes from 0.
    predictors : mapping of str to PredictorDesign
        One for each parameter of the family that has a formula.
    trials : array, shape (rows,), optional
        Number of trials.
    sampling_sd : array, shape (rows,), optional
        Known standard deviation of each outcome.
    categories : tuple of str
        Names of an ordinal outcome's categories.
    whole : Whole, optional
        Where not all rows are in memory.
    series : Series, optional
        Where residuals are correlated: whose rows belong together, and when they were measured.
    spreads : Spreads, optional
        Where residual standard deviations differ by visit or arm: which one each row has.
    """

    spec: ModelSpec
    table: Table
    y: Floats
    predictors: Mapping[str, PredictorDesign]
    trials: Floats | None = None
    sampling_sd: Floats | None = None
    categories: tuple[str, ...] = ()
    whole: Whole | None = None
    series: Series | None = None
    spreads: Spreads | None = None

    @property
    def rows(self) -> int:
        """Number of rows, in memory or not."""
        return len(self.y) if self.whole is None else self.whole.rows

    @property
    def size(self) -> str:
        """The number of rows in words."""
        parts = "" if self.whole is None else f" in {self.whole.parts:,} partitions"
        return f"{self.rows:,} rows{parts}"

    def need_rows(self, what: str) -> None:
        """Refuse what takes every row where they are not in memory.

        Raises
        ------
        BayesmixedError
            Saying what to do instead.
        """
        if self.whole is not None:
            raise BayesmixedError(
                f"{what} takes every row, but the {self.size} of this model were read part by part "
                "and are not in memory. Fit the model to a table in memory, such as "
                "pandas.read_parquet(...) of the rows that matter."
            )

    def reduce[T](self, function: Callable[[Design], T], merge: Callable[[Sequence[T]], T]) -> T:
        """Work something out from all rows: at once, or part by part where they are in parts.

        Parameters
        ----------
        function : callable
            From the design of some rows to a result.
        merge : callable
            From results to that of their rows together.

        Raises
        ------
        BayesmixedError
            If the rows can no longer be read.
        """
        if self.whole is None:
            return function(self)
        if self.whole.source is None:
            self.need_rows("Fitting a loaded model")
        assert self.whole.source is not None
        return self.whole.source.reduce(self, function, merge)

    def sample(self) -> Design:
        """All rows or, where they are read in parts, all rows of some groups."""
        if self.whole is None or self.whole.source is None:
            return self
        found: Design = self.whole.source.sample(self)
        return found

    def at(self, frame: pd.DataFrame) -> Design:
        """The same model for the rows of another table, with groups and categories as here.

        Raises
        ------
        DataError
            If a value cannot be used, or a group or category is not among those here.
        """
        frame = alike(frame, self.table.frame)
        trials, sampling_sd = known_trials(self.spec, frame), known_sd(self.spec, frame)
        y, _ = outcome(self.spec, frame)
        check_support(self.family, y, trials, frame)
        predictors = {name: p.at(frame) for name, p in self.predictors.items()}
        for random in (r for p in predictors.values() for r in p.random):
            if (random.groups.index < 0).any():
                raise DataError(
                    f"Some labels of {random.name!r} are written differently in different parts of "
                    "the data; make text of the column beforehand."
                )
        table = Table(frame, {}, 0)
        return replace(
            self,
            table=table,
            y=y,
            predictors=predictors,
            trials=trials,
            sampling_sd=sampling_sd,
        )

    def unobserved(self, data: Any) -> Design:
        """The same model for rows whose outcome is not known, such as those to predict.

        Groups that are not in the fit have the index -1. Counts of successes are out of one trial
        where `data` has no number of trials; its outcomes, if any, are not looked at.

        Parameters
        ----------
        data : table
            The predictors and groupings, and nothing else is needed.

        Raises
        ------
        UnknownNameError
            If a column is missing.
        DataError
            If a value is missing or cannot be used, or a category is not among those here.
        """
        frame, spec = to_pandas(data), self.spec

        def given(code: str | None) -> str | None:
            if code is None or not set(expressions.variables(code)) <= set(frame.columns):
                return None
            return code

        trials = given(spec.trials) or ("1" if self.family.has_trials else None)
        known_sds = given(spec.sampling_sd)
        spec = replace(spec, response="0", trials=trials, sampling_sd=known_sds, residual=None)
        known = [name for name in self.spec.series if name in frame.columns]
        rows = select(frame, dict.fromkeys([*variables(spec), *known]), "raise").frame
        return replace(
            self,
            table=Table(rows, {}, 0),
            y=np.full(len(rows), np.nan),
            predictors={name: p.at(rows) for name, p in self.predictors.items()},
            trials=known_trials(spec, rows),
            sampling_sd=known_sd(spec, rows),
            whole=None,
            series=None,
            spreads=None if self.spreads is None else self.spreads.at(rows),
        )

    def need_unrelated(self, what: str) -> None:
        """Refuse what takes groups that are independent of each other.

        Raises
        ------
        BayesmixedError
            If groups are correlated.
        """
        if self.spec.covariances:
            raise BayesmixedError(
                f"{what} takes groups that are independent of each other, but those of "
                f"{listed(self.spec.covariances)} are correlated in this model (covariances=, or "
                "a process in the place of residuals). Use predict() or effects()."
            )

    @property
    def family(self) -> Family:
        """The outcome's family."""
        return self.spec.family

    @property
    def links(self) -> Mapping[str, Link]:
        """The link of every parameter."""
        first, *others = self.family.parameters
        return {first.name: self.spec.link} | {p.name: p.links[0] for p in others}

    def means(self, parameter: str) -> Floats:
        """What is subtracted from the columns of a predictor's slopes, shape (slopes,).

        Their means, so that the intercept's prior is for the average row; 0 without centring. With
        cut-points in the intercept's place the predictors are centred just the same.
        """
        predictor = self.predictors[parameter]
        X = predictor.X[:, int(predictor.has_intercept) :]
        ordered = any(p.support == "ordered" for p in self.family.parameters)
        replaced = ordered and parameter == self.family.parameters[0].name
        shifted = self.spec.center and (predictor.has_intercept or replaced)
        if not shifted:
            return np.zeros(X.shape[1])
        if self.whole is not None and self.whole.moments is not None:
            return self.whole.moments.means[parameter][int(predictor.has_intercept) :]
        return np.asarray(X.mean(axis=0))

    @property
    def groups(self) -> tuple[Groups, ...]:
        """Every grouping, each once."""
        every = {r.name: r.groups for p in self.predictors.values() for r in p.random}
        return tuple(every.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the data: rows left out, visits, and what was probably misread."""
        every = [] if self.series is None else [self.series]
        for predictor in self.predictors.values():
            related = [r.between for r in predictor.random if r.between is not None]
            every += [between.series for between in related if between.series is not None]
        found = [self.table.note, *(note for each in every for note in each.notes)]
        for axis in (axis for each in every for axis in each.axes):
            if not any(name.startswith(axis.structure.at_one) for name in self.spec.priors):
                found.append(axis.unit_note)
        return tuple(filter(None, (*found, *self._levels_twice, *self._misread)))

    @property
    def _levels_twice(self) -> tuple[str, ...]:
        """A line on effects of series whose correlation holds a level already."""
        every = self.predictors[self.family.parameters[0].name].random
        between = [r.between for r in every if r.between is not None]
        series = [self.series, *(each.series for each in between)]
        structures = [s.structure for s in series if s is not None and s.structure.holds_level]
        return tuple(
            f"A level for each {r.name} is said twice: by its effects, and by {structure}, whose "
            "matrix can hold it. The data cannot tell the two apart, so their priors do, and "
            "sampling is slow; leave one of them out."
            for structure in structures
            for r in every
            if "Intercept" in r.effects and r.between is None and self._is_by(structure, r.groups)
        )

    def _is_by(self, structure: Structure, groups: Groups) -> bool:
        """Whether each of the groups is one series of a structure."""
        who = pd.factorize(self.table.frame[structure.within])[0]
        same = len(groups.labels) == int(who.max()) + 1
        return same and parents(who, groups.index) is not None

    @property
    def _misread(self) -> tuple[str, ...]:
        """A line on every predictor of text that was probably meant to be something else."""
        if self.whole is not None:
            return ()
        fixed = [n for p in self.spec.predictors.values() for n in formula.variables(p.fixed)]
        columns = (self.table.frame[name] for name in dict.fromkeys(fixed))
        return tuple(filter(None, map(advice, columns)))

    @property
    def known(self) -> Mapping[str, Any]:
        """What the family's functions may ask for besides its parameters."""
        return {} if self.trials is None else {"trials": self.trials}

    def tree(self) -> str:
        """Draw the groupings with their number of groups and sizes."""
        groups = self.groups
        if self.whole is not None:
            sizes = self.whole.sizes
            groups = tuple(Counted(g.grouping, g.labels, g.index, sizes[g.name]) for g in groups)
        return tree(groups) if groups else "no groups"


def variables(spec: ModelSpec) -> tuple[str, ...]:
    """The columns that a spec needs, each once."""
    expressed = [spec.response, spec.trials, spec.sampling_sd]
    names: list[str] = []
    for predictor in spec.predictors.values():
        expressed += predictor.offsets
        for text in (predictor.fixed, *(t.effects for t in predictor.random)):
            names += formula.variables(text)
        names += [f for t in predictor.random for f in t.grouping.factors]
    names += spec.series
    first = [n for code in expressed if code is not None for n in expressions.variables(code)]
    return tuple(dict.fromkeys([*first, *names]))
