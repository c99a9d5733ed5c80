r"""Outcomes of series with correlated residuals drawn anew, a whole series at a time.

Given the parameters, standardised residuals :math:`e` of a series are normal with correlations
:math:`P`. Those still to come, :math:`f`, are drawn given those that were seen, :math:`s`:

.. math:: e_f \mid e_s \sim N(P_{fs} P_{ss}^{-1} e_s,\; P_{ff} - P_{fs} P_{ss}^{-1} P_{sf})

which is simple kriging (Cressie 1993, Statistics for Spatial Data, section 3.2), and for AR(1) the
forecast of Box & Jenkins: mean :math:`\phi^h e`, variance :math:`1 - \phi^{2h}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import DataError, listed
from bayesmixed.data import check_columns
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.linpred import Whose, linear_predictor
from bayesmixed.rows import take
from bayesmixed.subjects import Places, correlations, square_root

type Floats = NDArray[np.float64]
type Integers = NDArray[np.intp]

# Numbers in the correlations that are in memory at a time.
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class _Alike:
    """Series that are measured alike: all have one matrix of correlations in a draw.

    Parameters
    ----------
    arm : int
    times : array, shape (seen + coming, columns)
    seen : array of int, shape (series, seen)
        Their rows in the fit.
    coming : array of int, shape (series, coming)
        Their rows to draw.
    """

    arm: int
    times: Floats
    seen: Integers
    coming: Integers


@dataclass(frozen=True)
class Kriging:
    """Rows to draw, and the residuals in the fit that say something of them.

    Parameters
    ----------
    design : Design
        Of the fit.
    rows : Design
        To draw.
    patterns : tuple of _Alike
    """

    design: Design
    rows: Design
    patterns: tuple[_Alike, ...]

    @classmethod
    def of(cls, design: Design, rows: Design, whose: Whose = "new") -> Kriging:
        """Find whose rows these are.

        Parameters
        ----------
        design : Design
            Of a fit with correlated residuals.
        rows : Design
            To draw; in their table the columns with subject and time.
        whose : {"existing", "new", "average"}
            With "existing", rows of the fit's subjects at other times than those in the fit are
            drawn given the residuals that were seen. All else is drawn as a series of its own:
            subjects that are not in the fit, and times that were seen, as if measured anew.

        Raises
        ------
        UnknownNameError
            If a column is missing.
        DataError
            If nothing is known of the residuals at a visit or in an arm.
        """
        series, frame = design.series, rows.table.frame
        assert series is not None
        own = whose == "existing"
        structure = series.structure
        by = () if structure.by is None else (structure.by,)
        if not own and _alone(frame, structure.within):
            # Times do not matter where every row is a subject of its own.
            first = design.table.frame.iloc[0]
            alone = {structure.within: np.arange(len(frame))}
            frame = frame.assign(**alone, **{n: first[n] for n in structure.columns})
        check_columns((structure.within, *structure.columns, *by), frame.columns)
        places = Places.of(series, frame)
        _check_spreads(rows)
        if not own:
            none = Places(places.who[:0], places.arm[:0], places.times[:0])
            return cls(design, rows, tuple(_patterns(none, places)))
        design.need_rows("What is known of a subject's residuals")
        subjects = pd.Index(frame[structure.within].unique())
        before = design.table.frame
        mine = np.flatnonzero(before[structure.within].isin(subjects))
        past = Places.of(series, before.iloc[mine])
        past = Places(
            np.asarray(subjects.get_indexer(pd.Index(before[structure.within].iloc[mine]))),
            past.arm,
            past.times,
        )
        found = []
        for each in _patterns(past, places):
            if len({*past.arm[each.seen[0]], *places.arm[each.coming[0]]}) > 1:
                raise DataError(
                    f"{structure.by!r} changes within {structure.within} "
                    f"{frame[structure.within].iloc[each.coming[0, 0]]}; residuals of one "
                    "series are those of one arm."
                )
            found.append(_Alike(each.arm, each.times, mine[each.seen], each.coming))
        return cls(design, rows, tuple(found))

    @property
    def conditional(self) -> int:
        """How many rows are drawn given residuals that were seen."""
        return sum(each.coming.size for each in self.patterns if each.seen.size)

    def draw(self, fit: Fit, eta: Mapping[str, Floats], rng: np.random.Generator) -> Floats:
        """Outcomes at linear predictors, shape (chain, draw, row).

        Parameters
        ----------
        fit : Fit
            The posterior or, where draws x rows are many, some of its draws.
        eta : mapping of str to array, shape (chain, draw, row) or (chain, draw, 1)
            Of the rows, with the effects of their groups.
        rng : numpy.random.Generator
        """
        chains, draws = (fit.posterior.sizes[d] for d in ("chain", "draw"))
        shape = (chains, draws, len(self.rows.y))
        mean, sd = (a.reshape(-1, shape[-1]).copy() for a in _moments(self.rows, eta, shape))
        seen = np.unique(
            np.concatenate([np.zeros(0, int), *(p.seen.ravel() for p in self.patterns)])
        )
        e = self._seen(fit, seen)
        for each in self.patterns:
            at = np.searchsorted(seen, each.seen)
            m, count = len(each.times), len(each.coming)
            step = max(1, _AT_ONCE // (m * (m + count)))
            for first in range(0, len(mean), step):
                some = slice(first, min(first + step, len(mean)))
                P = correlations(fit, each.arm, each.times, some)
                drawn = _conditional(P, e[some][:, at], each.coming.shape[1], rng)
                mean[some, each.coming] += sd[some, each.coming] * drawn
        return mean.reshape(shape)

    def _seen(self, fit: Fit, rows: Integers) -> Floats:
        """Standardised residuals of rows in the fit, shape (draws, rows)."""
        chains, draws = (fit.posterior.sizes[d] for d in ("chain", "draw"))
        some = take(self.design, rows)
        shape = (chains, draws, len(rows))
        mean, sd = _moments(some, linear_predictor(fit, some).centre, shape)
        return np.asarray(((some.y - mean) / sd).reshape(chains * draws, len(rows)))


def _moments(
    rows: Design, eta: Mapping[str, Floats], shape: tuple[int, ...]
) -> tuple[Floats, Floats]:
    """Means and standard deviations of rows."""
    return (
        np.broadcast_to(rows.links["mu"].inverse(eta["mu"]), shape),
        np.broadcast_to(rows.links["sigma"].inverse(eta["sigma"]), shape),
    )


def _conditional(P: Floats, seen: Floats, coming: int, rng: np.random.Generator) -> Floats:
    """Draw standardised residuals given those seen.

    Parameters
    ----------
    P : array, shape (draws, seen + coming, seen + coming)
    seen : array, shape (draws, series, seen)

    Returns
    -------
    array, shape (draws, series, coming)
    """
    s = P.shape[-1] - coming
    weights = np.linalg.solve(P[:, :s, :s], P[:, :s, s:])
    left = P[:, s:, s:] - P[:, s:, :s] @ weights
    z = rng.standard_normal((*seen.shape[:2], coming))
    try:
        root = np.linalg.cholesky(left)
    except np.linalg.LinAlgError:
        # Two rows at one time are one and the same.
        root = square_root(left)
    return np.asarray(seen @ weights + z @ root.mT)


def _patterns(past: Places, coming: Places) -> Iterator[_Alike]:
    """Series that are measured alike, rows that were seen already apart from the others."""
    found: dict[tuple[Any, ...], list[tuple[Integers, Integers]]] = {}
    none = np.zeros(0, dtype=np.intp)
    order = np.lexsort((*coming.times.T[::-1], coming.who))
    cuts = np.flatnonzero(np.diff(coming.who[order])) + 1
    own = _by_subject(past)
    for rows in np.split(order, cuts) if len(order) else []:
        seen = own.get(int(coming.who[rows[0]]), none)
        known = {t.tobytes() for t in past.times[seen]}
        again = np.array([t.tobytes() in known for t in coming.times[rows]], dtype=bool)
        for before, some in ((none, rows[again]), (seen, rows[~again])):
            if len(some):
                times = np.concatenate([past.times[before], coming.times[some]])
                arms = tuple(coming.arm[some]), tuple(past.arm[before])
                key = (arms, len(before), times.tobytes())
                found.setdefault(key, []).append((before, some))
    for members in found.values():
        before, some = (np.stack(each) for each in zip(*members, strict=True))
        times = np.concatenate([past.times[before[0]], coming.times[some[0]]])
        yield _Alike(int(coming.arm[some[0, 0]]), times, before, some)


def _alone(frame: pd.DataFrame, within: str) -> bool:
    """Whether every row is a subject of its own."""
    return within not in frame.columns or bool(frame[within].is_unique)


def _by_subject(places: Places) -> dict[int, Integers]:
    order = np.argsort(places.who, kind="stable")
    cuts = np.flatnonzero(np.diff(places.who[order])) + 1
    parts: Sequence[Integers] = np.split(order, cuts) if len(order) else []
    return {int(places.who[rows[0]]): rows for rows in parts}


def _check_spreads(rows: Design) -> None:
    """Refuse rows whose residual standard deviation is not known.

    Raises
    ------
    DataError
        Saying of which visit or arm.
    """
    spreads, frame = rows.spreads, rows.table.frame
    if spreads is None or (spreads.index >= 0).all():
        return
    check_columns(spreads.columns, frame.columns)
    strange = frame.loc[spreads.index < 0, list(spreads.columns)].drop_duplicates()
    words = [", ".join(f"{c} {v}" for c, v in row.items()) for _, row in strange.iterrows()]
    raise DataError(
        f"The residual standard deviation at {listed(words, 5)} is not known, as the fit has no "
        f"such row; it has one for each of {listed(spreads.labels)}."
    )
