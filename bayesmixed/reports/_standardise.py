"""Directly standardised rates: every unit's own effect applied to the same patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from bayesmixed.fit import Fit
from bayesmixed.linpred import Whose, linear_predictor
from bayesmixed.reports._levels import Standing
from bayesmixed.reports._profiles import Profiles, of_group
from bayesmixed.reports._volume import Volume

type Floats = NDArray[np.float64]

FEWEST = 8
_PRECISION = 1e-10


@dataclass(frozen=True)
class Reference:
    """The patients that all units are imagined to treat.

    Parameters
    ----------
    rows : Profiles
        With one total, and at the common volume.
    weight : float
        What their outcomes are divided by.
    standing : Standing
        What is the unit's own.
    volume : Volume, optional
        The units' volumes, where they count as the unit's own.
    """

    rows: Profiles
    weight: float
    standing: Standing
    volume: Volume | None = None

    def rates(self, fit: Fit, terms: int = FEWEST) -> tuple[Floats, int]:
        """Each unit's rate among these patients.

        Where a unit moves all linear predictors by the same amount, the rate is one smooth function
        of that amount in each draw, and its Chebyshev series serves all units: as many terms as
        bring the last ones below 1e-10 of the rate. Otherwise each unit is worked out by itself.

        Parameters
        ----------
        fit : Fit
            A piece of one.
        terms : int
            Terms to begin with.

        Returns
        -------
        array, shape (chain, draw, unit)
        int
            Terms that were needed.
        """
        shifts = self._shifts(fit)
        if shifts is None:
            units = range(len(self.standing.units.labels))
            return np.stack([self._rate_of(fit, unit) for unit in units], axis=-1), terms
        whose: dict[str, Whose] = dict.fromkeys(self.standing.own, "average")
        whose |= dict.fromkeys(self.standing.inner, "new")
        base = linear_predictor(fit, self.rows.design, whose)
        first = fit.design.family.parameters[0].name

        def rate(shift: Floats) -> Floats:
            centre = {**base.centre, first: base.centre[first] + shift[..., None]}
            mean = replace(base, centre=centre).mean()
            return self.rows.total(mean)[..., 0] / self.weight

        return _smooth(rate, shifts, terms)

    def _shifts(self, fit: Fit) -> Floats | None:
        """How far each unit moves every linear predictor, (chain, draw, unit), if it is so."""
        name, *others = (p.name for p in fit.design.family.parameters)
        design, own = self.rows.design, self.standing.own
        for other in others:
            predictor = design.predictors.get(other)
            if predictor is None:
                continue
            if self.volume is not None or any(r.name in own for r in predictor.random):
                return None
        posterior, predictor = fit.posterior, design.predictors[name]
        total: Floats = np.zeros(1)
        for random in (r for r in predictor.random if r.name in own):
            if np.ptp(random.Z, axis=0).any():
                return None
            u = posterior[f"u_{random.name}"].to_numpy()[:, :, own[random.name]]
            total = total + u @ random.Z[0]
        if self.volume is not None:
            if self.volume.is_mixed(fit.design):
                return None
            beta = posterior["beta"].to_numpy()
            total = total + beta @ self.volume.differences(fit.design, name).T
        return np.asarray(total)

    def _rate_of(self, fit: Fit, unit: int) -> Floats:
        rows = self.rows.design
        if self.volume is not None:
            rows = self.volume.at(rows, float(self.volume.values[unit]))
        own = {name: int(places[unit]) for name, places in self.standing.own.items()}
        whose: Mapping[str, Whose] = dict.fromkeys(self.standing.inner, "new")
        mean = linear_predictor(fit, of_group(rows, own), whose).mean()
        return self.rows.total(mean)[..., 0] / self.weight


def _smooth(function: Callable[[Floats], Floats], at: Floats, size: int) -> tuple[Floats, int]:
    """A smooth function of one variable, different in each draw, at many values of it.

    Parameters
    ----------
    function : callable
        From a value in every draw, (chain, draw), to the function's.
    at : array, shape (chain, draw, unit)
    size : int
        Terms of the series to begin with.
    """
    low, high = at.min(axis=-1), at.max(axis=-1)
    middle, half = (low + high) / 2, (high - low) / 2
    while size < at.shape[-1]:
        nodes = chebyshev.chebpts1(size)
        values = np.stack([function(middle + half * node) for node in nodes])
        # On these points the polynomials are orthogonal.
        weights = chebyshev.chebvander(nodes, size - 1).T * (2 / size)
        weights[0] /= 2
        series = np.tensordot(weights, values, axes=1)
        tail = np.abs(series[-2:]).max(axis=0)
        if (tail <= _PRECISION * np.abs(values).max(axis=0)).all():
            place = (at - middle[..., None]) / np.where(half > 0, half, 1.0)[..., None]
            return np.asarray(chebyshev.chebval(place, series[..., None], tensor=False)), size
        size *= 2
    return np.stack([function(at[..., unit]) for unit in range(at.shape[-1])], axis=-1), size
