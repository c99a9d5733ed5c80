"""Runs: every peer in turn, then the next repeat, so that runs to be compared are neighbours."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import measure
from benchmarks.exchange import read_answer, write_task
from benchmarks.plan import QUICK, SETTINGS
from benchmarks.records import Record, record
from benchmarks.row import Entry, Point, Row
from benchmarks.workloads import Workload


@dataclass(frozen=True)
class Session:
    """How to run.

    Parameters
    ----------
    name : str
        Date and time; runs of one session are compared pair by pair.
    peers : collection of str
        Names of the peers that take part.
    repeats : int
        How often; less often for entries that say so.
    quick : bool
        Whether to run small sizes and few draws.
    timeout : float
        Seconds after which a run is ended.
    """

    name: str
    peers: Collection[str]
    repeats: int = 3
    quick: bool = False
    timeout: float = 1800.0


def run_row(row: Row, session: Session) -> Iterator[Record]:
    """Run a row of the table, each run in a process of its own.

    Yields
    ------
    Record
    """
    for point in row.points:
        entries = [
            e
            for e in row.entries
            if e.peer.name in session.peers and (e.points is None or point.name in e.points)
        ]
        if not entries:
            continue
        workload = point.workload(session.quick)
        for repeat in range(1 if session.quick else session.repeats):
            for entry in entries:
                if entry.repeats is None or repeat < entry.repeats:
                    yield _run(row, point, workload, entry, repeat, session)


def _run(
    row: Row, point: Point, workload: Workload, entry: Entry, repeat: int, session: Session
) -> Record:
    options = _options(row, entry, repeat, session.quick)
    with TemporaryDirectory(prefix="bayesmixed-benchmark-") as name:
        folder = Path(name)
        write_task(folder, workload, options)
        environment = _empty_caches(folder) if options.get("empty_caches") else {}
        command, log = entry.peer.command(folder), folder / "log"
        usage = measure.run(command, log, session.timeout, environment)
        answer, draws = ({}, None) if usage.error else read_answer(folder)
    return record(
        row.name, point.name, entry.peer.name, repeat, session.name, options, usage, answer, draws
    )


def _options(row: Row, entry: Entry, repeat: int, quick: bool) -> Mapping[str, Any]:
    options = {**SETTINGS, **row.options, **entry.peer.options, **entry.options}
    if quick:
        options |= {name: value for name, value in QUICK.items() if name in options}
    return {**options, "seed": 1 + repeat}


def _empty_caches(folder: Path) -> dict[str, str]:
    """Variables that move every cache of compiled code to a new folder."""
    return {
        "NUMBA_CACHE_DIR": str(folder / "numba"),
        "PYTENSOR_FLAGS": f"base_compiledir={folder / 'pytensor'}",
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
