"""Volume: how many patients a unit treats, as something that its outcomes may depend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import DataError, UnknownNameError, listed, unknown
from bayesmixed.data import is_numeric, to_pandas
from bayesmixed.design import Design, variables
from bayesmixed.formula import variables as formula_variables
from bayesmixed.groups import Groups

type Floats = NDArray[np.float64]


def with_volume(
    data: Any, unit: str, size: str | None = None, name: str = "log_volume"
) -> pd.DataFrame:
    r"""The data with a column for the volume of each row's unit, on the log scale.

    A random-intercept model pulls small units towards the *overall* average. If small units do
    worse because they are small, that hides it. With this column in the formula, small units are
    pulled towards the average of units of their size [1]_; ``benchmark(fit, unit, volume=name)``
    then counts the effect of volume as the unit's own.

    Parameters
    ----------
    data : table
        A row a patient, or a row a cell with its number in `size`.
    unit : str
        Column of the units.
    size : str, optional
        Column with the size of each row (trials, exposure); 1 unless given.
    name : str
        What the new column is called.

    Returns
    -------
    pandas.DataFrame
        A copy with the column :math:`\log(n_j / \bar n)`, where :math:`\bar n` is the geometric
        mean of the units' volumes.

    Raises
    ------
    UnknownNameError
        If a column is missing.
    DataError
        If the name is taken, a unit is missing, or a volume is not above 0.

    References
    ----------
    .. [1] Silber et al. (2010), Health Serv. Res. 45:1148.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.with_volume({"unit": ["a", "a", "a", "a", "b"]}, "unit")
    >>> data["log_volume"].round(3).tolist()
    [0.693, 0.693, 0.693, 0.693, -0.693]
    """
    frame = to_pandas(data).copy()
    for column in filter(None, (unit, size)):
        if column not in frame:
            raise unknown(column, map(str, frame.columns), "column")
    if name in frame:
        raise DataError(f"There is a column {name!r} already; give another name=...")
    if frame[unit].isna().any():
        raise DataError(f"Missing values in {unit!r}: drop these rows or name their unit.")
    sizes = pd.Series(1.0, frame.index) if size is None else frame[size].astype(float)
    volume = sizes.groupby(frame[unit], observed=True).transform("sum")
    if not (volume > 0).all():
        bad = frame[unit][~(volume > 0)].unique()
        raise DataError(f"The volume of {listed(bad)} is not above 0, so it has no logarithm.")
    logs = np.log(volume)
    each = logs.groupby(frame[unit], observed=True).first()
    frame[name] = logs - each.mean()
    return frame


@dataclass(frozen=True)
class Volume:
    """A column with the units' volumes, which counts as the units' own.

    Parameters
    ----------
    column : str
        Its name.
    values : array, shape (units,)
        Of each unit.
    common : float
        Where units are compared: the mean over the patients.
    """

    column: str
    values: Floats
    common: float

    @classmethod
    def of(cls, design: Design, units: Groups, column: str, weight: Floats) -> Volume:
        """The volumes in the data of a fit.

        Raises
        ------
        UnknownNameError
            If the model has no such column.
        DataError
            If it is not a number, or differs within a unit.
        """
        used = {v for p in design.spec.predictors.values() for v in formula_variables(p.fixed)}
        if column not in used & set(variables(design.spec)):
            raise UnknownNameError(
                f"The formula has no column {column!r} that volume could act through; "
                f"the formula's are: {listed(sorted(used)) or 'none'}. "
                "with_volume(data, unit) makes one."
            )
        values = design.table.frame[column]
        if not is_numeric(values):
            raise DataError(f"Volume is a number for each unit; {column!r} is not numeric.")
        numbers = values.to_numpy(dtype=np.float64)
        each = np.zeros(len(units.labels))
        each[units.index] = numbers
        differs = units.labels[np.unique(units.index[each[units.index] != numbers])]
        if len(differs):
            raise DataError(
                f"{column!r} differs within {listed(differs)}; a unit's volume is the same for all "
                "of its rows."
            )
        return cls(column, each, float(np.average(numbers, weights=weight)))

    def at(self, rows: Design, value: float) -> Design:
        """The same rows in units of one volume."""
        return rows.unobserved(rows.table.frame.assign(**{self.column: value}))

    def is_mixed(self, design: Design) -> bool:
        """Whether the effect of volume depends on the patient or on another grouping."""
        for predictor in design.predictors.values():
            terms = [str(term) for term in predictor.encoder.term_indices if str(term) != "1"]
            within = [str(t) for r in predictor.random for e in r.encoders for t in e.term_indices]
            if any(self.column in formula_variables(t) for t in within if t != "1"):
                return True
            if any({self.column} < set(formula_variables(t)) for t in terms):
                return True
        return any(
            self.column in formula_variables(offset)
            for p in design.predictors.values()
            for offset in p.offsets
        )

    def differences(self, design: Design, parameter: str) -> Floats:
        """Columns of X at each unit's volume less those at the common one, (units, terms)."""
        row = design.table.frame.iloc[:1]
        frame = row.loc[row.index.repeat(len(self.values) + 1)].assign(
            **{self.column: [*self.values, self.common]}
        )
        X = design.predictors[parameter].at(frame).X
        return np.asarray(X[:-1] - X[-1])
