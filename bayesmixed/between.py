"""How the effects of different groups are correlated: as known, or as a structure says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import DataError
from bayesmixed.groups import Groups
from bayesmixed.known import KnownCovariance
from bayesmixed.series import Series
from bayesmixed.spec import PROCESS
from bayesmixed.structure import Structure


@dataclass(frozen=True)
class Between:
    """The correlation between the groups of one grouping.

    Parameters
    ----------
    group : str
        The grouping's name.
    factor : array, shape (groups, rank), optional
        Of a known covariance.
    variance : float
        Mean over the groups of the known covariance's diagonal: the variance of a group for an
        effect with standard deviation 1.
    series : Series, optional
        The groups as series, whose rows are the groups in the order of their labels.
    """

    group: str
    factor: NDArray[np.float64] | None = None
    variance: float = 1.0
    series: Series | None = None

    @property
    def relates(self) -> bool:
        """Whether any two groups are correlated."""
        if self.factor is None:
            return self.series is not None and bool(self.series.parameters)
        K = self.factor @ self.factor.T
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
            F = covariance.factor(groups.labels.tolist(), groups.name)
            return cls(groups.name, F, float((F**2).sum(axis=1).mean()))
        columns = list(dict.fromkeys([*covariance.columns, covariance.within]))
        first = np.full(len(groups.labels), -1)
        first[groups.index[::-1]] = np.arange(len(frame))[::-1]
        of_groups = frame[columns].iloc[first]
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
