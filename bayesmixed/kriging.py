r"""Outcomes of series with correlated residuals drawn anew, a whole series at a time.

Given the parameters, standardised residuals :math:`e` of a series are normal with correlations
:math:`P`. Those still to come, :math:`f`, are drawn given those that were seen, :math:`s`:

.. math:: e_f \mid e_s \sim N(P_{fs} P_{ss}^{-1} e_s,\; P_{ff} - P_{fs} P_{ss}^{-1} P_{sf})

which is simple kriging (Cressie 1993, Statistics for Spatial Data, section 3.2), and for AR(1) the
forecast of Box & Jenkins: mean :math:`\phi^h e`, variance :math:`1 - \phi^{2h}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import DataError, listed
from bayesmixed.conditional import draw, regression
from bayesmixed.data import check_columns
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.linpred import Whose, linear_predictor
from bayesmixed.places import Alike, Places, alike, continued, in_runs
from bayesmixed.rows import take
from bayesmixed.subjects import correlations

type Floats = NDArray[np.float64]
type Integers = NDArray[np.intp]


@dataclass(frozen=True)
class Kriging:
    """Rows to draw, and the residuals in the fit that say something of them.

    Parameters
    ----------
    design : Design
        Of the fit.
    rows : Design
        To draw.
    patterns : tuple of Alike
    history : Design, optional
        Further rows that were seen, which count after those of the fit.
    """

    design: Design
    rows: Design
    patterns: tuple[Alike, ...]
    history: Design | None = None

    @classmethod
    def of(
        cls, design: Design, rows: Design, whose: Whose = "new", history: Design | None = None
    ) -> Kriging:
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
        history : Design, optional
            Further rows that were seen, with outcomes.

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
            return cls(design, rows, tuple(alike(none, places)))
        design.need_rows("What is known of a subject's residuals")
        before = design.table.frame
        if history is not None:
            before = pd.concat([before, history.table.frame], ignore_index=True)
        subjects = pd.Index(frame[structure.within].unique())
        mine = np.flatnonzero(before[structure.within].isin(subjects))
        past = Places.of(series, before.iloc[mine])
        who = subjects.get_indexer(pd.Index(before[structure.within].iloc[mine]))
        past = Places(np.asarray(who), past.arm, past.times)
        found = tuple(
            replace(each, seen=mine[each.seen]) for each in continued(series, past, places, frame)
        )
        return cls(design, rows, found, history)

    @property
    def conditional(self) -> int:
        """How many rows are drawn given residuals that were seen."""
        return sum(each.coming.size for each in self.patterns if each.seen.size)

    def draw(
        self,
        fit: Fit,
        eta: Mapping[str, Floats],
        rng: np.random.Generator | None,
        before: Mapping[str, Floats] | None = None,
    ) -> Floats:
        """Outcomes at linear predictors, shape (chain, draw, row).

        Parameters
        ----------
        fit : Fit
            The posterior or, where draws x rows are many, some of its draws.
        eta : mapping of str to array, shape (chain, draw, row) or (chain, draw, 1)
            Of the rows, with the effects of their groups.
        rng : numpy.random.Generator or None
            Expected outcomes, given what was seen, where there is none.
        before : mapping of str to array
            The same as `eta` of the history.
        """
        shape = self._shape(fit)
        mean, sd = (a.reshape(-1, shape[-1]).copy() for a in _moments(self.rows, eta, shape))
        for each, some, P, seen in self._blocks(fit, before):
            drawn = draw(P, seen, each.coming.shape[1], rng)
            mean[some, each.coming] += sd[some, each.coming] * drawn
        return mean.reshape(shape)

    def whiten(
        self, fit: Fit, eta: Mapping[str, Floats], loadings: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """The rows' residuals, given those seen, as independent standard normal variables.

        Parameters
        ----------
        fit : Fit
            Some of the draws.
        eta : mapping of str to array, shape (chain, draw, row) or (chain, draw, 1)
        loadings : array, shape (draws, rows, effects)
            What further effects are multiplied by.

        Returns
        -------
        e : array, shape (draws, rows)
        loadings : array, shape (draws, rows, effects)
        log_scale : array, shape (draws,)
            What the density of the outcomes lacks.
        """
        shape = self._shape(fit)
        mean, sd = (a.reshape(-1, shape[-1]) for a in _moments(self.rows, eta, shape))
        e, B, lost = (self.rows.y - mean) / sd, loadings / sd[..., None], np.log(sd).sum(axis=-1)
        for each, some, P, seen in self._blocks(fit, None):
            weights, left = regression(P, each.coming.shape[1])
            root = np.linalg.cholesky(left)
            off = e[some, each.coming] - seen @ weights
            e[some, each.coming] = np.linalg.solve(root[:, None], off[..., None])[..., 0]
            B[some, each.coming] = np.linalg.solve(root[:, None], B[some, each.coming])
            logs = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=-1)
            lost[some] += len(each.coming) * logs
        return e, B, lost

    def _shape(self, fit: Fit) -> tuple[int, int, int]:
        chains, draws = (fit.posterior.sizes[d] for d in ("chain", "draw"))
        return chains, draws, len(self.rows.y)

    def _blocks(
        self, fit: Fit, before: Mapping[str, Floats] | None
    ) -> Iterator[tuple[Alike, slice, Floats, Floats]]:
        """Series measured alike in some draws, their correlations, and their residuals seen."""
        total = fit.posterior.sizes["chain"] * fit.posterior.sizes["draw"]
        rows = np.unique(np.concatenate([each.seen.ravel() for each in self.patterns]))
        e = self._seen(fit, rows, before)
        for each in self.patterns:
            at = np.searchsorted(rows, each.seen)
            m, count = len(each.times), len(each.coming)
            for some in in_runs(total, m * (m + count)):
                yield each, some, correlations(fit, each.arm, each.times, some), e[some][:, at]

    def _seen(self, fit: Fit, rows: Integers, before: Mapping[str, Floats] | None) -> Floats:
        """Standardised residuals of rows that were seen, shape (draws, rows)."""
        chains, draws = (fit.posterior.sizes[d] for d in ("chain", "draw"))
        count = len(self.design.y)
        own = take(self.design, rows[rows < count])
        parts = [(own, linear_predictor(fit, own).centre)]
        if self.history is not None and before is not None:
            parts.append((self.history, before))
        found = []
        for some, eta in parts:
            mean, sd = _moments(some, eta, (chains, draws, len(some.y)))
            found.append(((some.y - mean) / sd).reshape(chains * draws, len(some.y)))
        further = rows[rows >= count] - count
        return np.concatenate([found[0], *(each[:, further] for each in found[1:])], axis=1)


def _moments(
    rows: Design, eta: Mapping[str, Floats], shape: tuple[int, ...]
) -> tuple[Floats, Floats]:
    """Means and standard deviations of rows."""
    return (
        np.broadcast_to(rows.links["mu"].inverse(eta["mu"]), shape),
        np.broadcast_to(rows.links["sigma"].inverse(eta["sigma"]), shape),
    )


def _alone(frame: pd.DataFrame, within: str) -> bool:
    """Whether every row is a subject of its own."""
    return within not in frame.columns or bool(frame[within].is_unique)


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
