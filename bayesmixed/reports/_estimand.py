"""What an outcome's expectation is called, and how it follows from the linear predictors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, lookup
from bayesmixed.design import Design
from bayesmixed.fit import Fit

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimand:
    """The expected outcome of a row for one trial, or for one unit of exposure.

    Parameters
    ----------
    name : {"risk", "rate", "mean", "mean category"}
        What it is called in contrasts.
    label : str
        What it is in full, for captions and axes.
    has_ratio : bool
        Whether 0 is where nothing is left, so that ratios mean something.
    above : int, optional
        The cut-point to be passed, where it is the probability of a category or a higher one.
    """

    name: str
    label: str
    has_ratio: bool
    above: int | None = None

    @property
    def is_risk(self) -> bool:
        """Whether it is a probability."""
        return self.name == "risk"

    def value(self, design: Design, eta: Mapping[str, Floats]) -> Floats:
        """The expectation at given linear predictors of the family's parameters."""
        family, links = design.family, design.links
        if self.above is None:
            found = family.evaluate(family.mean, eta, links, trials=np.ones(1))
        else:
            first, cuts = family.parameters[0].name, ordered(design)
            assert cuts is not None
            cut = eta[cuts][..., self.above, None]
            found = 1 - links[first].inverse(cut - eta[first])
        return np.asarray(found, dtype=np.float64)


def estimand(fit: Fit, category: str | None = None) -> Estimand:
    """The expected outcome of a fit.

    Parameters
    ----------
    fit : Fit
        The fit.
    category : str, optional
        For an ordinal outcome: the probability of this category or a higher one, in place of the
        mean category.

    Raises
    ------
    UnknownNameError
        If there is no such category.
    BayesmixedError
        If the outcome is not ordinal, or the category is the lowest, which every outcome reaches.
    """
    design, family, response = fit.design, fit.design.family, fit.spec.response
    if category is not None:
        if ordered(design) is None:
            raise BayesmixedError(
                f"category={category!r} is for an ordinal outcome, and {response} is not one; "
                "leave category out."
            )
        place = lookup({c: k for k, c in enumerate(design.categories)}, str(category), "category")
        if place == 0:
            raise BayesmixedError(
                f"Every outcome is at least {category!r}, the lowest category; ask for one of the "
                f"others: {', '.join(design.categories[1:])}."
            )
        label = f"Probability that {response} is {category} or higher"
        return Estimand("risk", label, True, place - 1)
    if family.is_categorical:
        lowest = design.categories[0] if design.categories else "the lowest"
        return Estimand("mean category", f"Mean category of {response} ({lowest} = 0)", False)
    if is_yes_no(design):
        return Estimand("risk", f"Probability of {response}", True)
    if has_exposure(design):
        return Estimand("rate", f"Rate of {response} per unit of exposure", True)
    positive = not np.any(family.valid(np.array([-1.0]), np.ones(1)))
    return Estimand("mean", f"Mean {response}", bool(positive or design.y.min() > 0))


def ordered(design: Design) -> str | None:
    """Name of the parameter that holds an ordinal outcome's cut-points, if it has any."""
    names = (p.name for p in design.family.parameters if p.support == "ordered")
    return next(names, None)


def is_yes_no(design: Design) -> bool:
    """Whether the outcome is yes or no, once or in several trials."""
    if design.family.has_trials:
        return True
    accepted = design.family.valid(np.array([0.0, 0.5, 1.0, 2.0]), np.ones(4))
    return bool(np.array_equal(accepted, [True, False, True, False]))


def is_count(design: Design) -> bool:
    """Whether the outcome counts events."""
    accepted = design.family.valid(np.array([0.0, 0.5, 1.0, 2.0]), np.full(4, 9.0))
    return bool(np.array_equal(accepted, [True, False, True, True]))


def has_exposure(design: Design) -> bool:
    """Whether an offset on the logarithmic scale makes a rate of the mean."""
    offset = design.predictors[design.family.parameters[0].name].offset
    return design.spec.link.name == "log" and bool(offset.any())
