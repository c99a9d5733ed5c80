"""How the effects of different groups are correlated: as known, or as a structure says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import DataError
from bayesmixed.groups import Groups, first_rows
from bayesmixed.known import KnownCovariance, root_of
from bayesmixed.series import Series
from bayesmixed.spec import PROCESS
from bayesmixed.structure import Structure

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Between:
    """The correlation between the groups of one grouping.

    Parameters
    ----------
    group : str
        The grouping's name.
    known : array, shape (groups, groups), optional
        A known covariance K.
    mixed : bool
        Whether a share phi of the variance is learnt that is as known, the rest being independent.
    series : Series, optional
        The groups as series, whose rows are the groups in the order of their labels.
    """

    group: str
    known: Floats | None = None
    mixed: bool = False
    series: Series | None = None

    @property
    def variance(self) -> float:
        """Mean of the known covariance's diagonal."""
        return 1.0 if self.known is None else float(self.known.diagonal().mean())

    @cached_property
    def root(self) -> Floats:
        """F with F F' the known covariance, shape (groups, rank)."""
        assert self.known is not None
        return root_of(self.known)

    @cached_property
    def spectrum(self) -> tuple[Floats, Floats]:
        """Eigenvalues and eigenvectors of the known covariance."""
        assert self.known is not None
        values, vectors = np.linalg.eigh(self.known)
        return np.maximum(values, 0.0), vectors

    @property
    def share(self) -> str:
        """Name of the share that is as known."""
        return self.named("phi")

    def average(self, posterior: xr.Dataset) -> Floats:
        """The variance of an average group, shape (chain, draw, 1, 1) or less."""
        if not self.mixed:
            return np.array([self.variance])
        phi = posterior[self.share].to_numpy()[..., None, None]
        return np.asarray(1 - phi + phi * self.variance)

    @property
    def relates(self) -> bool:
        """Whether any two groups are correlated."""
        if self.known is None:
            return self.series is not None and bool(self.series.parameters)
        K = self.known
        return bool(np.abs(K - np.diag(K.diagonal())).max() > 1e-12 * K.diagonal().max())

    def named(self, name: str) -> str:
        """Name of a structure's parameter in the posterior, such as ``phi_<group>``.

        A process in the place of correlated residuals has the names that these would have.
        """
        stem, bracket, element = name.partition("[")
        return name if self.group == PROCESS else f"{stem}_{self.group}{bracket}{element}"

    @classmethod
    def of(
        cls, covariance: Structure | KnownCovariance, groups: Groups, frame: pd.DataFrame
    ) -> Between:
        """Meet a covariance with the groups of a table.

        Raises
        ------
        DataError
            If a known covariance misses a group, or what a structure needs to know of a group
            differs between its rows.
        """
        if isinstance(covariance, KnownCovariance):
            K = covariance.among(groups.labels.tolist(), groups.name)
            return cls(groups.name, K, covariance.mixed)
        by = () if covariance.by is None else (covariance.by,)
        columns = list(dict.fromkeys([*covariance.columns, covariance.within, *by]))
        of_groups = frame[columns].iloc[first_rows(groups.index, len(groups.labels))]
        for name in columns:
            own = frame[name].to_numpy()
            if (own != of_groups[name].to_numpy()[groups.index]).any():
                raise DataError(
                    f"{name!r} changes within a group of {groups.name!r}; {covariance} is about "
                    "groups that have one each."
                )
        try:
            series = Series.of(covariance, of_groups.reset_index(drop=True))
        except DataError as error:
            raise DataError(f"Among the groups of {groups.name!r}, a row each: {error}") from error
        return cls(groups.name, series=series)
