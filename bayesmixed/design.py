"""Tidy data and a spec -> the arrays of a model; every error in the data is raised here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed import expressions, formula
from bayesmixed._errors import BayesmixedError, DataError, listed, unknown
from bayesmixed.data import (
    Missing,
    Table,
    alike,
    check_not_dates,
    is_numeric,
    numbers,
    select,
)
from bayesmixed.expressions import evaluate
from bayesmixed.family import Family
from bayesmixed.groups import Groups, parents, tree
from bayesmixed.links import Link
from bayesmixed.predictor import Floats, PredictorDesign, build_predictor
from bayesmixed.spec import ModelSpec
from bayesmixed.whole import Counted, Whole

# Names of variables and dimensions in every model; a grouping cannot have one of them too.
_TAKEN = frozenset(
    {
        *("chain", "draw", "row", "term", "slope", "slopes", "beta"),
        *("Intercept", "threshold", "category", "X", "y", "means", "offset", "trials"),
    }
)


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
    """

    spec: ModelSpec
    table: Table
    y: Floats
    predictors: Mapping[str, PredictorDesign]
    trials: Floats | None = None
    sampling_sd: Floats | None = None
    categories: tuple[str, ...] = ()
    whole: Whole | None = None

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
        trials, sampling_sd = _trials(self.spec, frame), _sampling_sd(self.spec, frame)
        y, _ = _outcome(self.spec, frame)
        _check_support(self.family, y, trials, frame)
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
    first = [n for code in expressed if code is not None for n in expressions.variables(code)]
    return tuple(dict.fromkeys([*first, *names]))


def build_design(
    spec: ModelSpec, data: Any, missing: Missing = "drop", whole: Whole | None = None
) -> Design:
    """Check the data against the spec and encode them.

    Parameters
    ----------
    spec : ModelSpec
        What was asked.
    data : table
        pandas, polars, or anything narwhals understands.
    missing : {"drop", "raise"}
        What to do with incomplete rows.
    whole : Whole, optional
        What is known of all rows where `data` holds some of them.

    Raises
    ------
    UnknownNameError
        If a variable is not a column, or a parameter not one of the family's.
    DataError
        If the data cannot identify the model or lie outside the family's support.
    """
    table = select(data, variables(spec), missing)
    frame = table.frame
    family = spec.family
    trials = _trials(spec, frame)
    y, categories = _response(spec, frame)
    _check_support(family, y, trials, frame)
    sampling_sd = _sampling_sd(spec, frame)
    ordered = any(p.support == "ordered" for p in family.parameters)
    predictors = {
        name: build_predictor(p, frame, name, ordered and name == family.parameters[0].name)
        for name, p in spec.predictors.items()
    }
    design = Design(spec, table, y, predictors, trials, sampling_sd, categories, whole)
    _check_names(design)
    _check_row_effects(design)
    _check_same_groups(design)
    return design


def _response(spec: ModelSpec, frame: pd.DataFrame) -> tuple[Floats, tuple[str, ...]]:
    y, categories = _outcome(spec, frame)
    if len(y) > 1 and spec.family.support == Family.support and np.ptp(y) == 0:
        raise DataError(f"The outcome {spec.response!r} is constant ({y[0]:g}) in all rows.")
    return y, categories


def _outcome(spec: ModelSpec, frame: pd.DataFrame) -> tuple[Floats, tuple[str, ...]]:
    value = evaluate(spec.response, frame)
    column = value if isinstance(value, pd.Series) else pd.Series(value, index=frame.index)
    if spec.family.is_categorical:
        return _categories(spec, column)
    check_not_dates(column, f"The outcome {spec.response!r}")
    if not is_numeric(column):
        some = listed(map(repr, column.unique()[:5]))
        raise DataError(
            f"The outcome {spec.response!r} holds text or categories ({some}), not numbers. For a "
            f"yes/no outcome compare it: I({spec.response} == {column.iloc[0]!r}); for ordered "
            'categories use family="ordinal".'
        )
    with np.errstate(all="ignore"):
        y = column.to_numpy(dtype=float)
    return y, ()


def _categories(spec: ModelSpec, column: pd.Series[Any]) -> tuple[Floats, tuple[str, ...]]:
    if not isinstance(column.dtype, pd.CategoricalDtype):
        if not is_numeric(column):
            raise DataError(
                f"The outcome {spec.response!r} holds text, whose order is not known. Make it an "
                "ordered categorical: pd.Categorical(y, categories=[...], ordered=True)."
            )
        column = column.astype("category")
    names = tuple(str(c) for c in column.cat.categories)
    if len(names) < 2:
        raise DataError(f"The outcome {spec.response!r} has one category only ({names[0]}).")
    return np.asarray(column.cat.codes, dtype=np.float64), names


def _numbers(code: str, frame: pd.DataFrame, what: str) -> Floats:
    return numbers(evaluate(code, frame), len(frame), f"{what} {code!r}")


def _trials(spec: ModelSpec, frame: pd.DataFrame) -> NDArray[np.float64] | None:
    if not spec.family.has_trials:
        if spec.trials is not None:
            raise BayesmixedError(
                f"trials(...) is for counts of successes; family {spec.family.name} has none. Use "
                'family="binomial" or "beta_binomial".'
            )
        return None
    if spec.trials is None:
        raise BayesmixedError(
            f"Family {spec.family.name} needs the number of trials: write "
            f'"{spec.response} | trials(n) ~ ..." with a column n or a number, or use '
            'family="bernoulli" for 0/1 outcomes.'
        )
    trials = _numbers(spec.trials, frame, "The number of trials")
    bad = ~(np.isfinite(trials) & (trials >= 1) & (trials == np.floor(trials)))
    if bad.any():
        raise DataError(
            f"The number of trials {spec.trials!r} must be a whole number from 1; it is not at "
            f"{_rows(bad, frame, trials)}."
        )
    return trials


def _sampling_sd(spec: ModelSpec, frame: pd.DataFrame) -> Floats | None:
    if spec.sampling_sd is None:
        return None
    if "sigma" not in {p.name for p in spec.family.parameters} or "sigma" in spec.predictors:
        raise BayesmixedError(
            "sampling_sd is the known residual standard deviation: it goes with a family that has "
            f"sigma (gaussian, student_t, lognormal) and no formula for it, not with "
            f"{spec.family.name}."
        )
    values = _numbers(spec.sampling_sd, frame, "sampling_sd")
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        raise DataError(
            f"sampling_sd {spec.sampling_sd!r} must be above 0 in every row; it is not at "
            f"{_rows(bad, frame, values)}."
        )
    return values


def _rows(bad: NDArray[np.bool_], frame: pd.DataFrame, values: Floats) -> str:
    first = np.flatnonzero(bad)[:5]
    shown = ", ".join(f"row {frame.index[i]} ({values[i]:g})" for i in first)
    rest = int(bad.sum()) - len(first)
    return shown + (f" and {rest:,} more rows" if rest else "")


def _check_support(family: Family, y: Floats, trials: Floats | None, frame: pd.DataFrame) -> None:
    with np.errstate(all="ignore"):
        valid = np.asarray(family.valid(y, trials), dtype=bool)
    if trials is not None and (y > trials).any():
        bad = y > trials
        raise DataError(
            f"More successes than trials at {_rows(bad, frame, y)}; there the trials are "
            f"{listed([f'{t:g}' for t in trials[bad]], 5)}."
        )
    if not valid.all():
        raise DataError(
            f"The outcome of family {family.name} must be {family.support}; it is not at "
            f"{_rows(~valid, frame, y)}."
        )


def _check_names(design: Design) -> None:
    """Refuse grouping columns whose name is also the name of a variable or dimension."""
    names = [p.name for p in design.family.parameters]
    taken = _TAKEN | set(names) | {f"{stem}_{n}" for stem in ("term", "slope") for n in names}
    modelled = tuple(f"{name}_" for name in design.predictors if name != names[0])
    for groups in design.groups:
        if groups.name in taken or groups.name.startswith(modelled):
            raise DataError(
                f"A grouping cannot be called {groups.name!r}, which is like a name in every "
                "posterior; rename the column."
            )
        if "/" in groups.name:
            raise DataError(f"A grouping's name cannot hold '/': {groups.name!r}; rename it.")
    for parameter in design.spec.predictors:
        if parameter not in {p.name for p in design.family.parameters}:
            raise unknown(
                parameter,
                [p.name for p in design.family.parameters],
                f"parameter of family {design.family.name}",
            )


def _check_row_effects(design: Design) -> None:
    """Refuse an effect for every row where the family's own noise cannot be told from it."""
    if design.sampling_sd is not None:
        return
    several = design.family.row_effects and (
        design.trials is None or bool((design.trials > 1).any())
    )
    for predictor in design.predictors.values():
        for random in predictor.random:
            if len(random.groups.labels) == design.rows and not several:
                raise DataError(
                    f"Every row is its own group of {random.name!r}, and family "
                    f"{design.family.name} cannot tell such effects from its own variation. Use a "
                    "coarser grouping, or give the known sampling_sd."
                )


def _check_same_groups(design: Design) -> None:
    """Refuse two groupings with the same groups, whose effects cannot be told apart."""
    for predictor in design.predictors.values():
        for one, other in combinations(predictor.random, 2):
            shared = [effect for effect in one.effects if effect in other.effects]
            if (
                shared
                and len(one.groups.labels) == len(other.groups.labels)
                and parents(one.groups.index, other.groups.index) is not None
            ):
                raise DataError(
                    f"The groups of {one.name!r} and {other.name!r} are the same rows, so what "
                    f"varies between them ({listed(shared)}) cannot be told apart. Leave one out; "
                    "in a hierarchy, check that the levels go from outer to inner."
                )
