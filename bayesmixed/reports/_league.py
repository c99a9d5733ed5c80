"""What units achieve and what is expected of them, in every draw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesmixed.data import to_pandas
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.linpred import Whose, linear_predictor
from bayesmixed.predictor import RandomDesign
from bayesmixed.reports._levels import Standing, standing
from bayesmixed.reports._profiles import Profiles, profiles
from bayesmixed.reports._rate import is_count, is_share, rate_of
from bayesmixed.reports._reliability import Information
from bayesmixed.reports._standardise import FEWEST, Reference
from bayesmixed.reports._suppress import hidden_units
from bayesmixed.reports._terms import Terms
from bayesmixed.reports._volume import Volume

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class League:
    """Units with the rows by which they are compared.

    Parameters
    ----------
    units : RandomDesign
        Of the first parameter's predictor.
    standing : Standing
        What every grouping is to a unit.
    weight : array, shape (units,)
        What a unit's outcomes are divided by.
    observed : array, shape (units,)
        Sums of the outcome.
    cases : Profiles
        Each unit's own rows; a total for each unit.
    null : Profiles
        The same rows at the common volume, whatever the unit.
    reference : Reference
        The rows that all units are imagined to treat.
    of_unit : {"new", "average"}
        The unit that the expectation is for.
    """

    units: RandomDesign
    standing: Standing
    weight: Floats
    observed: Floats
    cases: Profiles
    null: Profiles
    reference: Reference
    of_unit: Literal["new", "average"]

    def shown(self, design: Design, below: float | None) -> NDArray[np.intp]:
        """Places of the units that are shown where cells below a limit are suppressed."""
        if below is None:
            return np.arange(len(self.weight))
        # Where there are trials, they are the people, and a row is a cell of them; of an exposure
        # the number of people is not known.
        size, cells = rate_of(design).size, []
        if size != "exposure":
            cells.append(self.weight if size else self.units.groups.sizes.astype(np.float64))
        if is_count(design):
            cells.append(self.observed)
        if is_share(design):
            cells.append(self.weight - self.observed)
        if not cells:
            cells.append(self.units.groups.sizes.astype(np.float64))
        return np.flatnonzero(~hidden_units(cells, below))

    def draws(self, fit: Fit) -> xr.Dataset:
        """Rates of every unit, dims (chain, draw, unit), and the variance that chance gives them.

        ``predicted`` with own effects and ``expected`` without, both for own rows; ``direct_rate``
        for the reference rows; ``reliability``; and ``chance``, unless groups lie inside the units
        or residuals are correlated.
        """
        name = self.units.name
        parts, terms = [], FEWEST
        information = Information.of(fit, self.units)
        rows = (self.cases, self.null, self.reference.rows)
        size = max(information.values, *(len(each.design.y) for each in rows))
        for piece in fit.pieces(size):
            direct, terms = self.reference.rates(piece, terms)
            rates = {"direct_rate": direct, **dict(self._rates(piece))}
            rates["reliability"] = information.reliability(piece)
            parts.append(xr.Dataset({k: (("chain", "draw", name), v) for k, v in rates.items()}))
        return xr.concat(parts, "draw").assign_coords({name: self.units.groups.labels})

    def _rates(self, piece: Fit) -> Iterator[tuple[str, Floats]]:
        inner: dict[str, Whose] = dict.fromkeys(self.standing.inner, "new")
        whose = inner | dict.fromkeys(self.standing.own, self.of_unit)
        predicted = linear_predictor(piece, self.cases.design, inner).mean()
        yield "predicted", self.cases.total(predicted) / self.weight
        expected = linear_predictor(piece, self.null.design, whose).mean()
        yield "expected", self.null.total(expected) / self.weight
        if not inner and piece.design.series is None:
            average: dict[str, Whose] = dict.fromkeys(self.standing.own, "average")
            at_average = linear_predictor(piece, self.null.design, average)
            variance = at_average.evaluate(piece.design.family.variance, at_average.centre)
            yield "chance", self.null.total(variance) / self.weight**2


def league_of(
    fit: Fit,
    units: RandomDesign,
    terms: Terms,
    reference: Any,
) -> League:
    """Put the rows together that a benchmark of units looks at.

    Raises
    ------
    BayesmixedError
        If `within` is not a grouping around the units, `volume` not a number of each unit, or the
        reference rows cannot be used.
    """
    design, groups = fit.design, units.groups
    level = standing(design, groups, terms.within)
    rate = rate_of(design)
    at_volume = None
    if terms.volume is not None:
        at_volume = Volume.of(design, groups, terms.volume, rate.weight)
    common = design if at_volume is None else at_volume.at(design, at_volume.common)
    rows = common if reference is None else _reference(design, level, at_volume, reference)
    any_unit = (*level.inner, *level.own)
    alike = at_volume is None or not at_volume.is_mixed(design)
    imagined = profiles(rows, any_unit, np.zeros(len(rows.y), dtype=np.intp), alike)
    return League(
        units,
        level,
        np.bincount(groups.index, weights=rate.weight),
        np.bincount(groups.index, weights=design.y),
        profiles(design, level.inner, groups.index),
        profiles(common, any_unit, groups.index),
        Reference(imagined, float(rate_of(rows).weight.sum()), level, at_volume),
        terms.of_unit,
    )


def _reference(design: Design, level: Standing, volume: Volume | None, reference: Any) -> Design:
    """The rows of a reference table, which needs no unit nor what goes with one."""
    frame, known = to_pandas(reference).copy(), design.table.frame
    any_unit = {*level.inner, *level.own}
    for groups in (g for g in design.groups if g.name in any_unit):
        for factor in groups.grouping.factors:
            if factor not in frame:
                frame[factor] = known[factor].iloc[0]
    if volume is not None:
        frame[volume.column] = volume.common
    return design.unobserved(frame)
