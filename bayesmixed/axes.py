"""Over what residuals are correlated: the distinct visits of a structure, or of each factor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import DataError, listed
from bayesmixed.backend import Array
from bayesmixed.covariance import is_known
from bayesmixed.data import is_numeric
from bayesmixed.known import stored
from bayesmixed.own_structure import check_own_structure
from bayesmixed.structure import CorrelationParameter, Derived, Structure, dim_of, name_of

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Axis:
    """The distinct visits of a structure, or of a factor of one.

    Parameters
    ----------
    structure : Structure
        How measurements along it are correlated.
    column : str
        What names of its parameters end in; empty where it is the only one.
    visits : array
        Labels of the distinct visits in order; where times are measured, the distinct times, and
        in space the distinct places, as text.
    longest : int
        Most distinct visits of a series.
    spread : float
        Half the largest distance within a series.
    gap : float
        Median distance between neighbours in a series, in the units of measured times.
    steps : array
        Distinct distances between neighbouring visits; of dates in days, of text none.
    alphabetical : bool
        Whether the order of the visits is that of words, for want of another.
    """

    structure: Structure
    column: str
    visits: NDArray[Any]
    longest: int
    spread: float
    gap: float
    steps: Floats
    alphabetical: bool

    @property
    def size(self) -> int:
        """Number of distinct visits."""
        return len(self.visits)

    @cached_property
    def own(self) -> tuple[CorrelationParameter, ...]:
        """What there is to learn, under the structure's own names; nothing of a single visit."""
        if self.size < 2:
            return ()
        size = self.longest if self.structure.exchangeable else self.size
        return self.structure.parameters(size, self.spread)

    @property
    def parameters(self) -> tuple[CorrelationParameter, ...]:
        """The same under their names in the posterior."""
        return tuple(parameter.of(self.column) for parameter in self.own)

    @property
    def derived(self) -> Mapping[str, tuple[str, Derived]]:
        """See `Structure.derived`; in terms of the names in the posterior."""
        if self.size < 2:
            return {}
        found = self.structure.derived(self.size).items()
        return {
            name_of(name, self.column): (dim_of(dim, self.column), partial(self._of_own, f))
            for name, (dim, f) in found
        }

    def _of_own(self, function: Derived, values: Mapping[str, Array]) -> Array:
        return function({p.name: values[name_of(p.name, self.column)] for p in self.own})

    @property
    def labels(self) -> dict[str, list[Any]]:
        """Labels along everything that a parameter may run over (see `CorrelationParameter`)."""
        visits = self.visits.tolist()
        found: dict[str, list[Any]] = {
            "visit": visits,
            "lag": list(range(1, self.size)),
            "band": list(range(1, self.size)),
            "step": [f"{a}|{b}" for a, b in pairwise(visits)],
        }
        return {dim_of(dim, self.column): labels for dim, labels in found.items()}

    @property
    def name(self) -> str:
        """The columns."""
        return ", ".join(self.structure.columns)

    @property
    def note(self) -> str | None:
        """What to know of times that are counted, where their distances differ."""
        name = type(self.structure).__name__
        if self.structure.ordered and self.alphabetical:
            return (
                f"{name} takes the visits in {self.name} in the order of the alphabet: "
                f"{listed(self.visits, 12)}. If that is not their order in time, make the column "
                "numbers, or a pandas.Categorical with ordered categories."
            )
        if not self.structure.equally_spaced or len(self.steps) < 2:
            return None
        days = "" if self.visits.dtype.kind in "iuf" else " days"
        return (
            f"{name} counts the visits in {self.name} as 1 to {self.size}, though they lie "
            f"{listed([f'{step:g}' for step in self.steps], 4)}{days} apart; where the distance "
            "matters use a structure of measured times, such as ContinuousAR1."
        )

    @property
    def unit_note(self) -> str | None:
        """What the flat prior of a correlation at a distance of 1 says of neighbours."""
        at_one = self.structure.at_one
        if not at_one or 0.2 <= self.gap <= 5:
            return None
        # If r is uniform, r^gap has the mean 1 / (1 + gap).
        return (
            f"{name_of(at_one, self.column)} is the correlation at a distance of 1 in {self.name}, "
            f"and neighbours lie {self.gap:g} apart (median), so its flat prior takes them to "
            f"correlate by {1 / (1 + self.gap):.2g} on average. Measure {self.name} in a unit near "
            f"that distance, give {at_one} a prior, or use Exponential, whose range has a prior in "
            "the data's units."
        )

    def positions(self, values: pd.Series[Any]) -> Floats:
        """Places of counted visits from 0, also beyond those in the data where that has a meaning.

        Raises
        ------
        DataError
            If a visit is not in the data, and nothing is known of its residuals.
        """
        found: Floats = np.asarray(
            pd.Index(self.visits).get_indexer(pd.Index(stored(values))), dtype=np.float64
        )
        strange = found < 0
        if not strange.any():
            return found
        known = self.visits.dtype.kind in "iuf" and is_numeric(values)
        if self.structure.goes_on and len(self.steps) == 1 and known:
            beyond = ((values[strange] - self.visits[0]) / self.steps[0]).to_numpy(dtype=float)
            found[strange] = _whole(beyond)
            strange &= found % 1 != 0
        if strange.any():
            raise DataError(
                f"{self.name} is {listed(values[strange].unique(), 5)} in some rows, which is not "
                "in the data of the fit, so nothing is known of its residuals."
            )
        return found

    @classmethod
    def of(
        cls, structure: Structure, column: str, frame: pd.DataFrame, who: Integers
    ) -> tuple[Axis, Floats]:
        """Find the visits of a table, and those of all rows (see `Structure.matrix`).

        Raises
        ------
        DataError
            If measured times are not numbers, or visits are text in another order than theirs.
        """
        times, labels = _times(structure, frame, structure.ordered or not column)
        order = np.argsort(who, kind="stable")
        starts = np.flatnonzero(np.diff(who[order], prepend=-1))
        ends = (ufunc.reduceat(times[order], starts) for ufunc in (np.maximum, np.minimum))
        spread = float(np.subtract(*ends).max()) / 2
        distinct = np.unique(np.column_stack([who, times]), axis=0)
        apart = np.diff(distinct, axis=0)
        gaps = np.linalg.norm(apart[apart[:, 0] == 0], axis=1)
        gap = float(np.median(gaps)) if len(gaps) else 1.0
        longest = int(np.bincount(distinct[:, 0].astype(np.int64)).max())
        columns = (frame[name] for name in structure.columns)
        alphabetical = structure.counted and any(map(_is_words, columns))
        visits = np.asarray(labels)
        if visits.dtype.kind in "mMO":
            visits = np.asarray(stored(labels), dtype=object)
        if not is_known(structure) and longest > 1:
            size = longest if structure.exchangeable else len(labels)
            check_own_structure(structure, size, spread, np.unique(times, axis=0))
        axis = cls(structure, column, visits, longest, spread, gap, _steps(labels), alphabetical)
        return axis, times


def _times(
    structure: Structure, frame: pd.DataFrame, ordered: bool
) -> tuple[Floats, pd.Index[Any]]:
    """Times or places of all rows, shape (rows, columns), and the distinct ones in order."""
    columns = []
    visits: pd.Index[Any] = pd.Index([])
    for name in structure.columns:
        if structure.counted:
            if frame[name].dtype.kind == "m":
                raise DataError(
                    f"The visits in {name!r} are durations, which have no unit by themselves. Make "
                    f"a number of them, such as days: data[{name!r}].dt.days."
                )
            values, visits = pd.factorize(frame[name], sort=True)
            if ordered:
                _check_order(name, visits)
        elif is_numeric(frame[name]):
            values = frame[name].to_numpy(dtype=float)
        else:
            raise DataError(
                f"{type(structure).__name__} measures times, but {name!r} does not hold numbers; "
                "make it days or months, or use a structure that counts visits, such as AR1."
            )
        columns.append(values)
    times = np.stack(columns, axis=1).astype(np.float64)
    if not structure.counted:
        distinct = np.unique(times, axis=0)
        visits = pd.Index(distinct[:, 0])
        if len(columns) > 1:
            visits = pd.Index([", ".join(f"{v:g}" for v in place) for place in distinct])
    return times, visits


def _steps(labels: pd.Index[Any]) -> Floats:
    """Distinct distances between neighbouring visits that are numbers or dates (then in days)."""
    if all(isinstance(label, date) for label in labels):
        moments = pd.to_datetime(labels, utc=True)
        visits = np.asarray((moments - moments[0]) / pd.Timedelta(1, "D"))
    else:
        visits = np.asarray(labels)
    if visits.dtype.kind not in "iuf":
        return np.zeros(0)
    steps: Floats = np.unique(np.diff(visits.astype(np.float64)))
    # 0.1 to 0.2 and 0.2 to 0.3 differ in the last digit of what is stored, and not in length.
    apart = np.diff(steps, prepend=-np.inf) > 1e-9 * np.abs(visits).max()
    return np.compress(apart, steps)


def _whole(values: Floats) -> Floats:
    """Numbers that are whole but for rounding made whole."""
    whole: Floats = np.round(values)
    near: Floats = np.where(np.abs(values - whole) < 1e-6, whole, values)
    return near


def _is_words(column: pd.Series[Any]) -> bool:
    """Whether labels are text, of which some has no number that could say the order."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return False
    return any(isinstance(v, str) and not re.search(r"\d", v) for v in column.unique())


def _check_order(name: str, labels: Any) -> None:
    """Visits that are text stand in alphabetical order, where week10 is before week8.

    Raises
    ------
    DataError
        If the numbers in the text say another order, or the text is dates that begin with a day.
    """
    if isinstance(labels, pd.CategoricalIndex) or not all(isinstance(v, str) for v in labels):
        return
    if any(re.fullmatch(r"\d{1,2}([-/.])\d{1,2}\1\d{2,4}.*", v) for v in labels):
        raise DataError(
            f"The visits in {name!r} are dates as text, such as {labels[0]!r}, ordered by "
            f"their letters. Make dates of them: pd.to_datetime(data[{name!r}], dayfirst=True)."
        )
    by_number = sorted(labels, key=lambda v: [int(n) for n in re.findall(r"\d+", v)])
    if by_number != list(labels):
        raise DataError(
            f"The visits in {name!r} are text, in the order {listed(labels)}, but their numbers "
            f"say {listed(by_number)}. Make the column numbers, or a pandas.Categorical with "
            "ordered categories."
        )
