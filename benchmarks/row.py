"""What a row of the table is: sizes, peers, and what must be reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.peers import Peer
from benchmarks.workloads import Workload

type Quantity = Literal["whole", "again", "rate", "sample", "outcome", "memory"]


@dataclass(frozen=True)
class Point:
    """One size of a row's workload.

    Parameters
    ----------
    name : str
        As the report names it.
    simulate : callable
        Makes the workload.
    size, quick : mapping
        Its arguments, and those that differ in a quick run.
    at : float, optional
        Where the point lies on the axis of a growth plot.
    """

    name: str
    simulate: Callable[..., Workload]
    size: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)
    at: float | None = None

    def workload(self, quick: bool) -> Workload:
        """The workload itself."""
        return self.simulate(**{**self.size, **(self.quick if quick else {})})


@dataclass(frozen=True)
class Entry:
    """A peer in a row.

    Parameters
    ----------
    peer : Peer
        Who.
    points : tuple of str, optional
        At which points only.
    options : mapping
        Where its task differs from the row's, such as fewer draws.
    repeats : int, optional
        At most so many repeats; long runs need few.
    remark : str
        What the report says of it.
    """

    peer: Peer
    points: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    repeats: int | None = None
    remark: str = ""


@dataclass(frozen=True)
class Claim:
    """What a row must reach.

    Parameters
    ----------
    quantity : str
        What is compared: ``whole`` run (s), ``again`` in the same process (s), ``rate`` (effective
        draws per second of sampling), ``sample`` (s), ``outcome`` (s an outcome), ``memory`` (MB).
    point : str
        Where.
    must, aim : float
        What is needed, and what is hoped for.
    against : Peer, optional
        How many times better than this peer; without, ours alone is judged.
    other : str, optional
        Ours at `point` over ours at this point, instead: how flat it is.
    """

    quantity: Quantity
    point: str
    must: float
    aim: float
    against: Peer | None = None
    other: str | None = None


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Parameters
    ----------
    name, title : str
        For files and options; for people.
    points : tuple of Point
        Sizes.
    entries : tuple of Entry
        Ours first.
    claims : tuple of Claim
        What must be reached.
    options : mapping
        How everybody samples.
    axis : str
        What grows over the points, with its unit, if that is to be drawn.
    """

    name: str
    title: str
    points: tuple[Point, ...]
    entries: tuple[Entry, ...]
    claims: tuple[Claim, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    axis: str = ""
