"""Levels of nesting, outer to inner: patients in units, cells in patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from bayesmixed._errors import BayesmixedError, DataError, listed, lookup
from bayesmixed.data import select
from bayesmixed.formula import parse_predictor
from bayesmixed.groups import Groups, offenders, tree
from bayesmixed.spec import Grouping, RandomTerm

type Labels = Literal["auto", "unique", "within_parent"]


@dataclass(frozen=True, init=False)
class Hierarchy:
    """A nested hierarchy and what varies at each of its levels.

    Parameters
    ----------
    levels : mapping of str to str
        Column of each level, outer to inner, and the effects that vary between its groups: the
        left side of lme4's bar, such as ``"1"`` or ``"1 + years"``. End it with ``||`` for
        uncorrelated effects.
    labels : {"auto", "unique", "within_parent"}
        Whether a label names one group in the whole table (``"unique"``), or is used again in
        every parent, as "patient 1" in every unit (``"within_parent"``). ``"auto"`` sees from
        the data which of the two it is, and refuses what is neither.

    Raises
    ------
    BayesmixedError
        If there is no level, or a level's effects cannot be read.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> print(bm.Hierarchy({"unit": "1", "patient": "1 + years"}))
    unit: 1
    └─ patient: 1 + years
    >>> data = bm.datasets.load("pastes")
    >>> casks = bm.Model("strength ~ 1", data, hierarchy=bm.Hierarchy({"batch": "1", "cask": "1"}))
    >>> list(casks.priors.index)
    ['Intercept', 'sd_batch', 'sd_cask', 'sigma']
    """

    levels: tuple[tuple[str, str], ...]
    labels: Labels

    def __init__(self, levels: Mapping[str, str], labels: Labels = "auto") -> None:
        if not isinstance(levels, Mapping) or not levels:
            raise BayesmixedError(
                "A Hierarchy needs at least one level, outer to inner, such as "
                'Hierarchy({"unit": "1", "patient": "1 + years"}).'
            )
        lookup({"auto": 0, "unique": 1, "within_parent": 2}, labels, "kind of labels")
        object.__setattr__(self, "levels", tuple(levels.items()))
        object.__setattr__(self, "labels", labels)
        for name, effects in self.levels:
            if not isinstance(name, str) or not name:
                raise BayesmixedError(f"A level is the name of a column, not {name!r}.")
            code, _ = _effects(name, effects)
            parsed = parse_predictor(code)
            if parsed.random or parsed.offsets:
                raise BayesmixedError(
                    f"Level {name!r}: only the effects are written here, such as '1 + years'; "
                    f"given {effects!r}."
                )

    def terms(self, frame: pd.DataFrame) -> tuple[tuple[RandomTerm, ...], tuple[str, ...]]:
        """The random terms that the hierarchy stands for, and notes on what was recognised.

        Parameters
        ----------
        frame : pandas.DataFrame
            With a column for every level.

        Raises
        ------
        UnknownNameError
            If a level is not a column.
        DataError
            If a group lies in more than one group of the level above.
        """
        terms, notes, outer = list[RandomTerm](), list[str](), tuple[str, ...]()
        columns: Mapping[str, Any] = {str(c): c for c in frame.columns}
        for name, _ in self.levels:
            lookup(columns, name, "column (level of the hierarchy)")
        frame = frame.dropna(subset=[name for name, _ in self.levels])
        for name, effects in self.levels:
            factors: tuple[str, ...] = (name,)
            if outer and self._reused(frame, outer, name):
                factors = (*outer, name)
                notes.append(
                    f"The labels of {name!r} start again within each {outer[-1]!r}, so its groups "
                    f"are identified by {', '.join(outer)} and {name} together."
                )
            code, correlated = _effects(name, effects)
            fixed = parse_predictor(code).fixed
            terms.append(RandomTerm(fixed, Grouping(factors, name), correlated))
            outer = (*outer, name)
        return tuple(terms), tuple(notes)

    def tree(self, data: Any) -> str:
        """Draw the hierarchy with the number of groups and the sizes at each level.

        Parameters
        ----------
        data : table
            pandas, polars, or anything narwhals understands.
        """
        frame = select(data, [name for name, _ in self.levels]).frame
        return tree([Groups.of(term.grouping, frame) for term in self.terms(frame)[0]])

    def _reused(self, frame: pd.DataFrame, outer: tuple[str, ...], name: str) -> bool:
        inner = Groups.of(Grouping((name,)), frame)
        parent = Groups.of(Grouping(outer), frame)
        shared = offenders(inner.index, parent.index)
        if self.labels == "within_parent" or not shared:
            return self.labels == "within_parent"
        # Labels that start again are shared by most; a patient who moved is the exception.
        if self.labels == "auto" and len(shared) > len(inner.labels) / 2:
            return True
        named = [f"{inner.labels[i]} (in {listed(parent.labels[j], 3)})" for i, j in shared.items()]
        raise DataError(
            f"The data are not nested: {len(shared):,} of {len(inner.labels):,} groups of {name!r} "
            f"are found in more than one {outer[-1]!r}: {listed(named, 5)}. Correct "
            "the labels; or, if equal labels stand for different groups, use "
            f'Hierarchy(..., labels="within_parent"); or, if groups really move, write a formula '
            f"with crossed terms: (1 | {outer[-1]}) + (1 | {name})."
        )

    def __str__(self) -> str:
        """Draw the levels and what varies at each."""
        return "\n".join(
            f"{'   ' * (i - 1)}{'└─ ' if i else ''}{name}: {effects}"
            for i, (name, effects) in enumerate(self.levels)
        )


def _effects(name: str, text: str) -> tuple[str, bool]:
    """Split off a trailing ``||``."""
    code = text.strip() if isinstance(text, str) else ""
    correlated = not code.endswith("||")
    code = code.removesuffix("||").strip()
    if not code:
        raise BayesmixedError(
            f"Level {name!r}: what varies between its groups is text such as '1' or '1 + years', "
            f"not {text!r}."
        )
    return code, correlated
