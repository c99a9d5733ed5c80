"""What came of one outcome, as it travels from a worker to the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

STATISTICS = ("mean", "sd", "eti95_lb", "eti95_ub", "ess_bulk", "ess_tail", "rhat", "mcse_mean")
"""Columns of the table of every fit, as in `Fit.summary`."""


@dataclass(frozen=True)
class Record:
    """What came of one outcome.

    Parameters
    ----------
    name : str
        The outcome.
    position : int
        Its place among the outcomes.
    fingerprint : str
        Hash of its data.
    reason : str
        Why there is no fit; empty if there is one.
    again : bool
        Whether to try once more when the run goes on.
    rows, seed, divergences : int
        Rows used, the seed, and divergent transitions.
    seconds : float
        How long it took.
    problems : str
        What the verdict on convergence says; empty if nothing is wrong.
    notes : tuple of str
        What was done to the data.
    parameters : tuple of str
        Names of the population-level parameters.
    table : array, shape (parameters, statistics)
        Their `STATISTICS`.
    draws : mapping of str to Dataset
        ``posterior`` and ``sample_stats``, as far as they are kept.
    data : DataFrame, optional
        The outcome's own columns.
    """

    name: str
    position: int
    fingerprint: str = ""
    reason: str = ""
    again: bool = False
    rows: int = 0
    seed: int = 0
    divergences: int = 0
    seconds: float = float("nan")
    problems: str = ""
    notes: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    table: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, len(STATISTICS))))
    draws: Mapping[str, xr.Dataset] = field(default_factory=dict)
    data: pd.DataFrame | None = None

    @property
    def size(self) -> int:
        """Bytes, about."""
        return 1000 + sum(d.nbytes for d in self.draws.values())
