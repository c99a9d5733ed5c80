"""Means, spreads and medians over all rows of data that are read in parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bayesmixed.compress import Sums, add_up
from bayesmixed.design import Design
from bayesmixed.whole import Moments, Whole

type Floats = NDArray[np.float64]

# Distinct numbers among which a median is looked for at once; they are in memory then.
_FEW = 1_000_000


@dataclass(frozen=True)
class _Tally:
    """Number of rows, means, and sums of squares about them; and sizes of groups."""

    rows: int
    mean: Floats
    squares: Floats
    sizes: Mapping[str, NDArray[np.intp]]


def _columns(design: Design) -> Floats:
    """All columns whose moments are needed, side by side."""
    every = [p.X for p in design.predictors.values()]
    every += [r.Z for p in design.predictors.values() for r in p.random]
    offset = design.predictors[design.family.parameters[0].name].offset
    working = np.asarray(design.family.working(design.y), dtype=float)
    exposure = np.exp(offset) if design.spec.link.name == "log" else np.ones(len(offset))
    return np.column_stack([*every, working - offset, working, design.y, exposure])


def _tally(design: Design) -> _Tally:
    columns = _columns(design)
    mean = columns.mean(axis=0)
    sizes = {g.name: g.sizes for g in design.groups}
    return _Tally(len(columns), mean, ((columns - mean) ** 2).sum(axis=0), sizes)


def _add_tallies(parts: Sequence[_Tally]) -> _Tally:
    """Add them up after Chan, Golub & LeVeque (1983), Am. Stat. 37:242."""
    rows = sum(p.rows for p in parts)
    # From the first one on, so that nothing large is multiplied.
    mean = parts[0].mean + sum(p.rows / rows * (p.mean - parts[0].mean) for p in parts)
    squares = np.asarray(sum(p.squares + p.rows * (p.mean - mean) ** 2 for p in parts))
    sizes = {name: np.asarray(sum(p.sizes[name] for p in parts)) for name in parts[0].sizes}
    return _Tally(rows, mean, squares, sizes)


def measured(design: Design, whole: Whole) -> Whole:
    """What is known of all rows, with their moments and the groups' sizes.

    Parameters
    ----------
    design : Design
        Some of the rows, which knows where all of them can be read.
    whole : Whole
        What was known before.
    """
    tally = design.reduce(_tally, _add_tallies)
    means, spreads, effect_spreads = dict[str, Floats](), dict[str, Floats](), {}
    at, sd = 0, np.sqrt(tally.squares / tally.rows)
    for name, p in design.predictors.items():
        end = at + len(p.terms)
        means[name], spreads[name], at = tally.mean[at:end], sd[at:end], end
    for name, p in design.predictors.items():
        for r in p.random:
            effect_spreads[name, r.name], at = sd[at : at + r.size], at + r.size
    degrees = max(tally.rows - 1, 1)
    outcome = {
        "centre": float(tally.mean[at]),
        "mad": 0.0,
        "sd": float(np.sqrt(tally.squares[at] / degrees)) if tally.rows > 1 else 1.0,
        "spread": float(sd[at + 1]),
        "mean": float(tally.mean[at + 2]),
        "exposure": float(tally.mean[at + 3]),
    }
    if design.spec.link.name == "identity":
        if design.family.parameters[0].links[0].domain[0] != 0:
            outcome["centre"] = _median(design, 0.0, tally.rows, absolute=False)
        outcome["mad"] = _median(design, outcome["centre"], tally.rows, absolute=True)
    moments = Moments(means, spreads, effect_spreads, outcome)
    return replace(whole, moments=moments, sizes=tally.sizes)


def _median(design: Design, centre: float, rows: int, absolute: bool) -> float:
    """The exact median of the outcome less its offset, or of its distances from a centre.

    Numbers are counted by their leading bits, then those between which the median lies by more.
    """
    low, high, below = 0, 2**64 - 1, 0
    targets = np.array([(rows - 1) // 2, rows // 2])
    shift = 40
    while True:
        count = partial(
            _count_bits, centre=centre, absolute=absolute, low=low, high=high, shift=shift
        )
        bins = design.reduce(count, add_up)
        ends = below + np.cumsum(bins.sums[0])
        one, other = np.searchsorted(ends, targets, side="right")
        keys = bins.keys[0]
        if not shift:
            return float(np.mean(_number(keys[[one, other]])))
        below = int(ends[one] - bins.sums[0][one])
        low, high = int(keys[one]) << shift, ((int(keys[other]) + 1) << shift) - 1
        shift = 0 if ends[other] - below <= _FEW or shift == 20 else 20


def _count_bits(
    design: Design, centre: float, absolute: bool, low: int, high: int, shift: int
) -> Sums:
    working = np.asarray(design.family.working(design.y), dtype=float)
    values = working - design.predictors[design.family.parameters[0].name].offset
    values = np.abs(values - centre) if absolute else values
    bits = np.ascontiguousarray(values).view(np.uint64)
    sign = np.uint64(1 << 63)
    # In the numbers' own order.
    ordered = np.where(bits & sign, ~bits, bits | sign)
    inside = ordered[(ordered >= np.uint64(low)) & (ordered <= np.uint64(high))]
    keys, counts = np.unique(inside >> np.uint64(shift), return_counts=True)
    return Sums((keys,), (counts,))


def _number(ordered: NDArray[np.uint64]) -> Floats:
    sign = np.uint64(1 << 63)
    return np.where(ordered & sign, ordered & ~sign, ~ordered).view(np.float64)
