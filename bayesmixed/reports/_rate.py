"""What an outcome is counted in: trials, exposure or rows; and sums over groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesmixed.design import Design

type Floats = NDArray[np.float64]
type Integers = NDArray[np.intp]


@dataclass(frozen=True)
class Rate:
    """What sums of the outcome are divided by.

    Parameters
    ----------
    weight : array, shape (rows,)
        Trials, exposure, or 1.
    size : str
        What the weight is, ``"trials"`` or ``"exposure"``; empty for rows.
    label : str
        The quotient in words.
    """

    weight: Floats
    size: str
    label: str


def rate_of(design: Design) -> Rate:
    """The denominator of a design's outcome."""
    response = design.spec.response
    offset = design.predictors[design.family.parameters[0].name].offset
    if design.trials is not None:
        return Rate(design.trials, "trials", f"Proportion {response}")
    if design.spec.link.name == "log" and offset.any():
        return Rate(np.exp(offset), "exposure", f"Rate of {response} per unit of exposure")
    what = "Proportion" if is_share(design) else "Mean"
    return Rate(np.ones(len(design.y)), "", f"{what} {response}")


def takes(design: Design, value: float) -> bool:
    """Whether the outcome's family knows this value (out of one trial)."""
    return bool(np.all(design.family.valid(np.array([value]), np.ones(1))))


def is_count(design: Design) -> bool:
    """Whether outcomes are numbers of events, so that sums of them are as well."""
    return not design.family.is_categorical and takes(design, 1.0) and not takes(design, 0.5)


def is_share(design: Design) -> bool:
    """Whether outcomes are events out of a known number."""
    return is_count(design) and not takes(design, 2.0)


def sums(values: Floats, index: Integers) -> Floats:
    """Sums over each group's elements of the last axis; every group has some."""
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(index.max() + 1))
    return np.asarray(np.add.reduceat(values[..., order], starts, axis=-1))
