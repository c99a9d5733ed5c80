"""Small cells: which units must not be shown, so that no number of theirs can be worked out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bayesmixed._errors import DataError

type Floats = NDArray[np.float64]
type Mask = NDArray[np.bool_]


def hidden_units(cells: Sequence[Floats], below: float) -> Mask:
    """Units to suppress, and further ones that keep these from being found by subtraction.

    A unit is suppressed if one of its cells is below the limit. Then the smallest of the others
    are suppressed as well, until there are at least two, whose cells add up to at least the limit:
    so the difference between a total known from elsewhere and the sum of the units shown is no
    small cell either, and belongs to no unit alone (complementary suppression [1]_).

    Parameters
    ----------
    cells : sequence of array, shape (units,) each
        Numbers of rows, events, non-events; the first one says which unit is small.
    below : float
        The limit.

    Returns
    -------
    array of bool, shape (units,)

    Raises
    ------
    DataError
        If no unit is left to show.

    References
    ----------
    .. [1] Cox (1980), J. Am. Stat. Assoc. 75:377.
    """
    hidden: Mask = np.any([cell < below for cell in cells], axis=0)
    for unit in np.argsort(cells[0], kind="stable"):
        covered = hidden.sum() >= 2 and all(cell[hidden].sum() >= below for cell in cells)
        if covered or not hidden.any():
            break
        hidden[unit] = True
    if hidden.all():
        raise DataError(
            f"suppress_below={below:g} leaves no unit to show: of every one a cell (rows, events "
            "or non-events) is smaller, or it is needed to protect one that is. Combine units or "
            "years."
        )
    return hidden
