"""Where a grouping stands among the others: what lies inside it, and what it lies in."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, listed
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.groups import Groups, parents
from bayesmixed.spec import PROCESS

type Integers = NDArray[np.intp]


def related_caveats(fit: Fit) -> tuple[str, ...]:
    """What is not counted where groups are correlated."""
    spec, found = fit.spec, list[str]()
    if spec.process is not None:
        found.append(
            f"The process ({spec.process}) counts as residual variance; that it makes rows of one "
            f"{spec.process.within} alike by the time between them is left out."
        )
    names = [n for n in spec.covariances if spec.process is None or n != PROCESS]
    if not names:
        return tuple(found)
    return (
        *found,
        f"Groups of {listed(names)} are correlated: rows of different groups are "
        "alike too, which this does not count. The variance is that of an average group (sd "
        "squared times the mean diagonal of a known matrix).",
    )


def inside(design: Design, groups: Groups) -> tuple[Groups, ...]:
    """Groupings whose groups each lie in one of this grouping's, from fine to coarse."""
    found = [
        other
        for other in design.groups
        if len(other.labels) > len(groups.labels) and parents(other.index, groups.index) is not None
    ]
    return tuple(sorted(found, key=lambda other: -len(other.labels)))


@dataclass(frozen=True)
class Standing:
    """What every grouping is to a unit.

    Parameters
    ----------
    units : Groups
        The units.
    inner : tuple of str
        Groupings inside the units, such as patients: integrated over.
    own : mapping of str to array of int, shape (units,)
        What counts as the unit's own, with each unit's place in it: the unit, and groupings that
        it lies in.
    """

    units: Groups
    inner: tuple[str, ...]
    own: dict[str, Integers]


def standing(design: Design, units: Groups, within: Collection[str]) -> Standing:
    """What every grouping is to a unit.

    Raises
    ------
    BayesmixedError
        If a grouping in `within` is not one that the units lie in.
    """
    around = {
        other.name: above
        for other in design.groups
        if len(other.labels) < len(units.labels)
        and (above := parents(units.index, other.index)) is not None
    }
    wrong = [name for name in within if name not in around]
    if wrong:
        valid = f"it lies in: {listed(around)}" if around else "there is none"
        raise BayesmixedError(
            f"within={listed(wrong)} is not a grouping that {units.name!r} lies in; {valid}."
        )
    own = {units.name: np.arange(len(units.labels))}
    own |= {name: above for name, above in around.items() if name not in within}
    return Standing(units, tuple(g.name for g in inside(design, units)), own)
