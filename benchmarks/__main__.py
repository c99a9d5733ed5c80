"""The command line: run the benchmarks, and write the report."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import records, report
from benchmarks.peers import PEERS
from benchmarks.plan import ROWS
from benchmarks.run import Session, run_row

_HERE = Path(__file__).parent
_console = Console(highlight=False)


def main(
    only: Annotated[list[str] | None, typer.Option(help="Rows to run; all unless given.")] = None,
    peer: Annotated[list[str] | None, typer.Option(help="Peers to run; all unless given.")] = None,
    repeats: Annotated[int, typer.Option(help="Repeats of each run.")] = 3,
    quick: Annotated[bool, typer.Option(help="Small sizes: does it all work?")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds after which a run is ended.")] = 1800,
    report_only: Annotated[bool, typer.Option(help="Run nothing, write the report.")] = False,
) -> None:
    """Run bayesmixed and its peers in turn; write benchmarks/results and docs/benchmarks.md.

    A quick run writes to benchmarks/results/quick instead.
    """
    rows = _known(only, ROWS, "--only")
    peers = _known(peer, PEERS, "--peer")
    results = _HERE / "results" / ("quick" if quick else "")
    results.mkdir(parents=True, exist_ok=True)
    # Whoever ends this process means the run that it waits for as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    session = Session(start, peers, repeats, quick, timeout)
    for name in rows if not report_only else ():
        for new in run_row(ROWS[name], session):
            records.add(results / f"{name}.json", new)
            _console.print(report.line(new), markup=False)
    report.write(results, results if quick else _HERE.parent / "docs")


def _known(given: list[str] | None, known: Mapping[str, object], option: str) -> list[str]:
    wrong = [name for name in given or () if name not in known]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is none of {', '.join(known)}", param_hint=option)
    return list(given or known)


if __name__ == "__main__":
    typer.run(main)
