"""What a claim asks for and what was measured, from the records of a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.peers import OURS
from benchmarks.records import Record
from benchmarks.row import Claim


@dataclass(frozen=True)
class Measured:
    """A number with its spread over repeats.

    Parameters
    ----------
    median, low, high : float
        Over the repeats.
    runs : int
        How many repeats.
    neighbours : bool
        Whether the runs that were compared ran one after the other.
    disturbance : float
        Cores that others used during the most disturbed of the runs.
    """

    median: float
    low: float
    high: float
    runs: int
    neighbours: bool = True
    disturbance: float = 0.0


def select(records: Sequence[Record], point: str, peer: str) -> list[Record]:
    """The runs of a peer at a point that gave a result."""
    return [r for r in records if (r.point, r.peer) == (point, peer) and not r.failed]


def measure(claim: Claim, records: Sequence[Record]) -> Measured | None:
    """What was measured for a claim, or None if a run is missing."""
    ours = select(records, claim.point, OURS.name)
    if claim.other is not None:
        rest = select(records, claim.other, OURS.name)
        found = _ratio(claim.quantity, ours, rest)
    elif claim.against is not None:
        rest = select(records, claim.point, claim.against.name)
        more_is_better = claim.quantity == "rate"
        over, under = (ours, rest) if more_is_better else (rest, ours)
        found = _ratio(claim.quantity, over, under)
    else:
        rest, found = [], _summary([r.value(claim.quantity) for r in ours])
    if found is None:
        return None
    disturbance = max(float(r.usage["disturbance"]) for r in (*ours, *rest))
    return replace(found, disturbance=disturbance)


def holds(claim: Claim, limit: float, found: Measured) -> bool:
    """Whether the median keeps to a limit: at least for ratios to peers, else at most."""
    return found.median >= limit if claim.against is not None else found.median <= limit


def _ratio(quantity: str, over: Sequence[Record], under: Sequence[Record]) -> Measured | None:
    """Ratios of runs of the same repeat and session; of medians if there are none such."""
    below = {(r.session, r.repeat): r.value(quantity) for r in under}
    pairs = [
        r.value(quantity) / below[r.session, r.repeat]
        for r in over
        if (r.session, r.repeat) in below
    ]
    if pairs:
        return _summary(pairs)
    if not over or not under:
        return None
    ratio = np.median([r.value(quantity) for r in over]) / np.median(list(below.values()))
    return Measured(float(ratio), float(ratio), float(ratio), 1, neighbours=False)


def _summary(values: Sequence[float]) -> Measured | None:
    if not values:
        return None
    return Measured(float(np.median(values)), min(values), max(values), len(values))


def difference(record: Record, ours: Sequence[Record]) -> float | None:
    """Largest difference of posterior means from ours, in posterior sds.

    Only parameters that both name are compared, such as ``sd_group[x]``.
    """
    if not ours or record.quality is None or ours[0].quality is None:
        return None
    mean, sd = ours[0].quality["mean"], ours[0].quality["sd"]
    other = record.quality["mean"]
    # A single effect of a group has no name of its own with us.
    names = {
        name: next((n for n in (name, f"{name}[Intercept]") if n in other), None) for name in mean
    }
    gaps = [abs(other[n] - mean[name]) / sd[name] for name, n in names.items() if n is not None]
    return max(gaps, default=None)
