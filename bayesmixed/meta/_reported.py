"""From reported estimates with confidence intervals to effects with their sampling variances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from bayesmixed._errors import BayesmixedError, DataError, listed
from bayesmixed.data import check_columns, numbers, to_pandas
from bayesmixed.meta._measures import get_measure

type Floats = NDArray[np.float64]

# How far the estimate may be from the middle of its interval, in half widths.
_OFF_CENTRE = 0.25


def reported_effects(
    data: Any,
    measure: str,
    estimate: str,
    lower: str,
    upper: str,
    *,
    level: float = 0.95,
    n: str | None = None,
    off_centre: float = _OFF_CENTRE,
) -> pd.DataFrame:
    r"""Effect of each study and its sampling variance, from estimates with confidence intervals.

    :math:`y = f(\text{estimate})` and :math:`\text{se} = (f(\text{upper}) - f(\text{lower})) /
    2 z_{(1 + \text{level}) / 2}`, with f the logarithm for ratios (odds, risk, rate and hazard
    ratios, ratios of means) and nothing for other measures [1]_.

    Parameters
    ----------
    data : table
        A row a study.
    measure : str
        What was estimated, as for `effect_sizes`: ``"HR"``, ``"OR"``, ``"RR"``, ``"MD"`` and so on.
    estimate, lower, upper : str
        Columns as they were reported: ratios as ratios, not as logarithms.
    level : float
        Of the confidence intervals.
    n : str, optional
        Column of the sample sizes, which becomes ``ni``.
    off_centre : float
        An estimate further than this share of half the width from the middle of its interval is
        refused: mostly a misprint, or an interval that is not of this kind. Larger where numbers
        are small and have few digits; 1 lets all pass.

    Returns
    -------
    pandas.DataFrame
        The table with columns ``yi``, ``vi``, ``sei``, ``measure`` and, with `n`, ``ni``, which
        `meta_analysis` reads.

    Raises
    ------
    DataError
        If a number is missing or impossible, or an estimate is not in the middle of its interval.
    BayesmixedError
        If `level` or `off_centre` is not between 0 and 1.

    References
    ----------
    .. [1] Parmar, Torri & Stewart (1998), Stat. Med. 17:2815, eq. 7.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> trials = {"study": ["a", "b"], "hr": [0.88, 0.79], "lb": [0.71, 0.66], "ub": [1.07, 0.94]}
    >>> bm.reported_effects(trials, "HR", "hr", "lb", "ub")[["yi", "sei"]].round(3).values.tolist()
    [[-0.128, 0.105], [-0.236, 0.09]]
    """
    chosen, table = get_measure(measure), to_pandas(data).copy()
    if not 0 < level < 1:
        raise BayesmixedError(f"level={level!r}: a number between 0 and 1 is needed, such as 0.95.")
    if not 0 < off_centre <= 1:
        raise BayesmixedError(f"off_centre={off_centre!r}: a share up to 1 is needed.")
    names = [estimate, lower, upper]
    check_columns([*names, *([n] if n else [])], table.columns)
    values = np.stack([numbers(table[c], len(table), f"Column {c!r}") for c in names], axis=-1)
    _refuse(table, ~np.isfinite(values).all(axis=1), "an estimate and both limits are needed")
    if chosen.ratio:
        what = f"a {chosen.ratio} and its limits are above 0 (ratios, not their logarithms)"
        _refuse(table, (values <= 0).any(axis=1), what)
        values = np.log(values)
    y, low, high = values.T
    _refuse(table, ~((low <= y) & (y <= high) & (low < high)), "lower <= estimate <= upper")
    half = (high - low) / 2
    off = np.abs(y - (low + high) / 2) > off_centre * half
    scale = " on the scale of logarithms" if chosen.ratio else ""
    _refuse(
        table, off, f"estimates lie about in the middle of their intervals{scale}",
        " Look for a misprint, for limits of another scale or measure, or for few digits "
        "(off_centre=0.5).",
    )  # fmt: skip
    table["yi"], table["sei"] = y, half / ndtri((1 + level) / 2)
    table["vi"], table["measure"] = table["sei"] ** 2, chosen.name
    if n is not None:
        table["ni"] = numbers(table[n], len(table), f"Column {n!r}")
    return table


def _refuse(table: pd.DataFrame, bad: NDArray[np.bool_], rule: str, advice: str = "") -> None:
    if bad.any():
        where = listed(table.index[bad], 5)
        raise DataError(f"In every row {rule}; that is not so at row {where}.{advice}")
