"""Studies with several outcomes, whose estimates are correlated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, DataError, listed
from bayesmixed.data import check_columns, numbers, to_pandas

type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Estimates of studies, of which any but one may be missing.

    Parameters
    ----------
    y : array, shape (studies, outcomes)
        0 where missing.
    V : array, shape (studies, outcomes, outcomes)
        Sampling covariances; 1 on the diagonal, and 0 off it, where missing.
    seen : array of bool, shape (studies, outcomes)
    studies, outcomes : tuple of str
    study : str
        What the column of studies is called.
    """

    y: Floats
    V: Floats
    seen: NDArray[np.bool_]
    studies: tuple[Any, ...]
    outcomes: tuple[str, ...]
    study: str

    def with_correlation(self, rho: float) -> Outcomes:
        """The same estimates with one correlation within all studies.

        Raises
        ------
        BayesmixedError
            If the estimates of a study cannot have it.
        """
        _check_correlation(rho, int(self.seen.sum(axis=1).max()))
        sd = np.sqrt(np.diagonal(self.V, axis1=1, axis2=2))
        both = self.seen[:, :, None] & self.seen[:, None, :]
        V = np.asarray(rho * both * sd[:, :, None] * sd[:, None, :], dtype=float)
        at = np.arange(len(self.outcomes))
        V[:, at, at] = sd**2
        return replace(self, V=V)


def outcomes_of(
    data: Any, effect: str, se: str | None, study: str, outcome: str, rho: float | None, V: Any
) -> Outcomes:
    """Read a table with a row a study and outcome, all of it checked.

    Raises
    ------
    BayesmixedError
        With what was given, what is valid and what to do.
    """
    table = to_pandas(data).reset_index(drop=True)
    check_columns([effect, study, outcome, *([se] if se else [])], table.columns)
    if (V is None) == (rho is None):
        raise BayesmixedError(
            "Give V, the known sampling covariance of the rows, or rho, an assumed correlation of "
            "a study's two estimates with se=...; one of them."
        )
    table = table.astype({study: str, outcome: "object"})
    outcomes = tuple(dict.fromkeys(table[outcome].astype(str)))
    if len(outcomes) < 2:
        raise DataError(
            f"multivariate_meta_analysis is for two outcomes or more; {outcome!r} has "
            f"{len(outcomes)}: {listed(outcomes)}. Use meta_analysis."
        )
    if table.duplicated([study, outcome]).any():
        raise DataError(
            f"Some {study!r} have several rows for one outcome. Give each one row, or use "
            'meta_analysis(..., study="study/effect").'
        )
    covariance = _covariance(table, effect, se, study, rho, V)
    studies = tuple(dict.fromkeys(table[study]))
    row = table[study].map({s: i for i, s in enumerate(studies)}).to_numpy()
    column = table[outcome].astype(str).map({o: j for j, o in enumerate(outcomes)}).to_numpy()
    y = np.zeros((len(studies), len(outcomes)))
    y[row, column] = numbers(table[effect], len(table), effect)
    seen = np.zeros(y.shape, dtype=bool)
    seen[row, column] = True
    if (seen.sum(axis=0) < 2).any():
        raise DataError("Each outcome needs two studies or more.")
    block = np.tile(np.eye(len(outcomes)), (len(studies), 1, 1))
    first, second = np.nonzero(row[:, None] == row)
    block[row[first], column[first], column[second]] = covariance[first, second]
    return Outcomes(y, block, seen, studies, outcomes, study)


def _check_correlation(rho: float, most: int) -> None:
    """Refuse a correlation that not all estimates of a study can have."""
    if not -1 < rho < 1:
        raise BayesmixedError(f"rho={rho}: a correlation between -1 and 1 is needed.")
    if rho <= -1 / max(most - 1, 1):
        raise BayesmixedError(
            f"rho={rho}: {most} estimates of a study cannot all be correlated by less than "
            f"{-1 / (most - 1):.3g}. Give a larger rho, or V."
        )


def _covariance(
    table: pd.DataFrame, effect: str, se: str | None, study: str, rho: float | None, V: Any
) -> Floats:
    """Sampling covariance of the rows, checked."""
    count = len(table)
    if not np.isfinite(numbers(table[effect], count, f"Column {effect!r}")).all():
        raise DataError(f"Column {effect!r} misses values; leave these rows out.")
    same = table[study].to_numpy()[:, None] == table[study].to_numpy()
    if rho is not None:
        _check_correlation(rho, int(table[study].value_counts().max()))
        if se is None:
            raise BayesmixedError("rho= needs the column of standard errors, se=...")
        sd = numbers(table[se], count, f"Column {se!r}")
        if not (sd > 0).all():
            raise DataError(f"A standard error is above 0; in {se!r} some are not.")
        return np.asarray(np.outer(sd, sd) * np.where(np.eye(count, dtype=bool), 1, rho * same))
    found = np.asarray(V, dtype=float)
    if found.shape != (count, count) or not np.allclose(found, found.T):
        raise DataError(f"V is symmetric with a row for each of the {count} rows of the table.")
    if np.any(found[~same] != 0):
        raise DataError("V is not 0 between rows of different studies.")
    if not np.isfinite(found).all() or np.linalg.eigvalsh(found)[0] <= 0:
        raise DataError("V is no covariance matrix: not positive definite.")
    return found
