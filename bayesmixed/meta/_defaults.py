r"""Default priors of a meta-analysis, in units of the unit-information standard deviation.

What one participant tells is the unit in which a prior is weak or strong: tau as large as the
unit-information sd would mean that studies differ as much as participants do (Röver, Bender, Dias,
Schmid, Schmidli, Sturtz, Weber & Friede 2021, Res. Synth. Methods 12:448, section 2.2). The average
effect has the unit-information prior, which counts as much as one participant (Kass & Wasserman
1995, J. Am. Stat. Assoc. 90:928). For logarithms of ratios of events that makes N(0, 2), and
half-normal(0.5) for tau.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesmixed.design import Design
from bayesmixed.meta._measures import Measure
from bayesmixed.names import effect_name
from bayesmixed.predictor import INTERCEPT
from bayesmixed.priors import Prior

type Floats = NDArray[np.float64]

# Participants of the median study where nothing tells how many there were.
_ASSUMED_SIZE = 100


@dataclass(frozen=True)
class UnitInformation:
    """The unit-information standard deviation and how it was found.

    Parameters
    ----------
    sd : float
    source : str
        In words.
    """

    sd: float
    source: str

    def __str__(self) -> str:
        """One line."""
        return f"unit-information sd {self.sd:.3g} ({self.source})"


def unit_information(
    design: Design, measure: Measure | None, size: Floats | None
) -> UnitInformation:
    """The sd that one participant's worth of data (for ratios: one event's) has about the effect.

    One rule for every way in: sample sizes that were named count first, then what theory says of
    the measure, and where neither is there it is assumed.

    Parameters
    ----------
    design : Design
        The studies.
    measure : Measure, optional
    size : array, shape (rows,), optional
        Sample sizes.
    """
    assert design.sampling_sd is not None
    if size is not None:
        sd = float(np.sqrt(size.sum() / np.sum(design.sampling_sd**-2.0)))
        return UnitInformation(
            sd, "from sample sizes and standard errors, Röver et al. 2021, eq. 6"
        )
    if measure is not None and measure.unit_sd is not None:
        return UnitInformation(measure.unit_sd, f"of a {measure.title}, equal groups")
    # Standard errors of thousandths beside effects of ones must not draw the average to 0.
    assumed = np.sqrt(_ASSUMED_SIZE) * float(np.median(design.sampling_sd))
    spread = 2 * float(np.sqrt(np.mean(design.y**2)))
    unknown = "assumed, as there is no measure=... and no n=...: "
    if assumed > spread:
        return UnitInformation(assumed, f"{unknown}{_ASSUMED_SIZE} in the median study")
    return UnitInformation(spread, f"{unknown}twice the root mean square of the effects")


def default_priors(
    design: Design, measure: Measure | None, unit: UnitInformation
) -> dict[str, Prior]:
    """Priors of the average effect, of moderators and of the sds between studies, by name."""
    location, mean_sd, between = 0.0, unit.sd, 0.25 * unit.sd
    if measure is not None and not measure.compares:
        # A rate or proportion has no natural 0 that the average could be near.
        location = float(np.mean(design.y))
        mean_sd = max(2 * unit.sd, 2.5 * float(np.std(design.y)))
    predictor = design.predictors["mu"]
    priors: dict[str, Prior] = {}
    for k, term in enumerate(predictor.terms):
        if term == INTERCEPT:
            priors["Intercept"] = Prior("Normal", mu=location, sigma=mean_sd)
        elif predictor.has_intercept:
            spread = float(np.std(predictor.X[:, k]))
            priors[f"beta[{term}]"] = Prior("Normal", mu=0, sigma=mean_sd / spread)
        else:
            priors[f"beta[{term}]"] = Prior("Normal", mu=location, sigma=mean_sd)
    for random in predictor.random:
        for effect in random.effects:
            priors[effect_name("", random, effect)] = Prior("HalfNormal", sigma=between)
    return priors
