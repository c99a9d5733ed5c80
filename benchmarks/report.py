"""The report: docs/benchmarks.md, from the records."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import compare, plots, records
from benchmarks.peers import OURS, PEERS
from benchmarks.plan import ROWS, SETTINGS
from benchmarks.records import Record
from benchmarks.row import Claim, Entry, Row

_DISTURBED = 0.25  # cores
_INTRO = """\
# Benchmarks

Written by `python -m benchmarks`; every run is in `benchmarks/results`. A number is the median
over repeats, with its range where there was more than one. Within a repeat the packages ran one
after the other, and a ratio is taken within a repeat.
"""
_WORDS = {
    "whole": "time of the whole run",
    "again": "time",
    "rate": "effective draws/s",
    "sample": "time of sampling",
    "outcome": "time an outcome",
    "memory": "peak memory",
}
_METHOD = """\
## How it was measured

- Each run is a process of its own; ‡ marks those that did not have the machine to themselves.
  *Whole run* is from its start to its end, imports and summary included, without the time for
  reading the table. *Compile* is what is done before sampling can start; code that a package keeps
  on disk between processes is there, except in the row that says otherwise. *Sampling* is warm-up
  and draws.
- Effective draws are ArviZ's bulk effective sample size of the slowest of beta, sd, cor, sigma and
  alpha, computed from everybody's draws by the same function. Draws per second are per second of
  sampling, compilation left out, which favours the packages that compile long.
- Everybody has the same priors: normal for the intercept (predictors at their means) and for the
  coefficients, half-t(3) for standard deviations, LKJ(2) for correlations, Gamma(2, 0.1) for alpha.
  A Bambi model has no correlations of effects; its effects are independent.
- Sampling is 4 chains of 1,000 + 1,000 draws on 2 cores unless a table says otherwise. Where a peer
  takes too long it draws less; its draws per second are from that shorter run, whose warm-up is a
  larger part of it.
- Sampling of bayesmixed is the time of a whole `Model.fit` after a first one of 5 draws. That of
  Bambi is PyMC's own `sampling_time`. That of brms is the processor time of its chains over the
  number of cores, less than what its user waits for. A loop over outcomes is timed on a few of them
  and told by the outcome; the first, in which most is compiled, is not counted.
- Peak memory is that of all processes of a run together, pages that they share counted once. That
  of brms is mostly the C++ compiler's.
- *Differs* is the largest difference of posterior means from those of bayesmixed in posterior
  standard deviations, over the parameters that both have.
"""


def write(results: Path, folder: Path) -> None:
    """Write ``benchmarks.md`` and its pictures.

    Parameters
    ----------
    results : Path
        Folder with the records.
    folder : Path
        Where to write.
    """
    loaded = {name: records.load(results / f"{name}.json") for name in ROWS}
    runs = {name: found for name, (_, found) in loaded.items() if found}
    machines = [machine for machine, found in loaded.values() if found]
    parts = [_INTRO, _where(machines, runs), _claims(runs)]
    for name, found in runs.items():
        row = ROWS[name]
        if row.axis:
            plots.draw_growth(row, found, folder / f"benchmarks-{name}.svg")
        parts.append(_details(row, found))
    parts += [_METHOD, _versions(runs)]
    (folder / "benchmarks.md").write_text("\n".join(parts))


def line(record: Record) -> str:
    """A record in one line, to show progress."""
    start = f"{record.row}, {record.point}, {record.peer}, repeat {record.repeat + 1}: "
    if record.failed:
        return f"{start}failed: {record.usage['error']}"
    seconds = ", ".join(f"{stage} {value:.2f}" for stage, value in record.seconds.items())
    text = f"{start}{record.usage['wall']:.1f} s ({seconds}), {record.usage['memory']:.0f} MB"
    if record.quality:
        text += (
            f", {record.value('rate'):.3g} effective draws/s of {record.quality['slowest']}"
            f" ({record.quality['effective']:.0f}, R-hat {record.quality['rhat']:.3f})"
        )
    return f"{text}, others used {record.usage['disturbance']:.2f} cores"


def _where(machines: Sequence[Mapping[str, Any]], runs: Mapping[str, Sequence[Record]]) -> str:
    lines = {
        f"{m['processor']}, {m['cores']} cores, {m['memory_gib']:.0f} GiB, {m['system']}, "
        f"Linux {m['kernel']}"
        for m in machines
    }
    days = sorted({r.session[:10] for found in runs.values() for r in found})
    period = " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "never"
    return f"Run {period} on: {'; '.join(sorted(lines))}.\n"


def _claims(runs: Mapping[str, Sequence[Record]]) -> str:
    lines = [
        "| work | compared | must reach | aim | measured | reached |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in runs.items():
        for k, claim in enumerate(ROWS[name].claims):
            measured = compare.measure(claim, found)
            work = "" if k else f"[{ROWS[name].title}](#{_anchor(ROWS[name])})"
            lines.append(f"| {work} | {_claim(ROWS[name], claim, measured)} |")
    lines.append(
        "\n† the two were not run one after the other; "
        f"‡ others used more than {_DISTURBED} of a core during a run."
    )
    return "\n".join([*lines, ""])


def _claim(row: Row, claim: Claim, found: compare.Measured | None) -> str:
    """A claim's cells after the first."""
    compared, unit = _WORDS[claim.quantity], "×"
    if len(row.points) > 1:
        compared += f" at {claim.point}"
    if claim.against is not None:
        compared += f", against {claim.against.name}"
    elif claim.other is not None:
        compared += f", over that at {claim.other}"
    else:
        unit = " s"
    sign = "≥" if claim.against is not None else "≤"
    asked = f"{compared} | {sign} {_number(claim.must)}{unit} | {sign} {_number(claim.aim)}{unit}"
    if found is None:
        return f"{asked} | not yet | "
    spread = f" ({_number(found.low)} to {_number(found.high)})" if found.runs > 1 else ""
    verdict = "**no**"
    if compare.holds(claim, claim.must, found):
        verdict = "aim" if compare.holds(claim, claim.aim, found) else "must"
    mark = ("" if found.neighbours else " †") + (" ‡" if found.disturbance > _DISTURBED else "")
    return f"{asked} | {_number(found.median)}{unit}{spread}{mark} | {verdict}"


_COLUMNS = (
    "package",
    "sampling",
    "runs",
    "whole run (s)",
    "compile (s)",
    "sampling (s)",
    "effective draws",
    "per s",
    "worst R-hat",
    "memory (MB)",
    "differs",
)


def _anchor(row: Row) -> str:
    """The heading's anchor, as forges and the site make it."""
    return re.sub(r"[^\w\- ]", "", row.title.lower()).replace(" ", "-")


def _details(row: Row, found: Sequence[Record]) -> str:
    parts = [f"## {row.title[0].upper()}{row.title[1:]}\n"]
    for point in row.points:
        lines = ["| " + " | ".join(_COLUMNS) + " |", "|---" * len(_COLUMNS) + "|"]
        ours = compare.select(found, point.name, OURS.name)
        for peer in PEERS:
            runs = [r for r in found if (r.point, r.peer) == (point.name, peer)]
            if runs:
                lines.append(_detail(runs, ours))
        if len(lines) > 2:
            title = [f"**{point.name}**\n"] if len(row.points) > 1 else []
            parts.append("\n".join([*title, *lines, ""]))
    remarks = _remarks(row.entries, found)
    if remarks:
        parts.append(remarks)
    if row.axis:
        parts.append(f"![Time and memory against {row.axis}](benchmarks-{row.name}.svg)\n")
    return "\n".join(parts)


def _remarks(entries: Sequence[Entry], found: Sequence[Record]) -> str:
    ran = {r.peer for r in found}
    lines = {f"- {e.peer.name}: {e.remark}." for e in entries if e.remark and e.peer.name in ran}
    if any(not r.failed and r.usage["disturbance"] > _DISTURBED for r in found):
        lines.add(f"- ‡ others used more than {_DISTURBED} of a core meanwhile.")
    return "\n".join([*sorted(lines), ""]) if lines else ""


def _detail(runs: Sequence[Record], ours: Sequence[Record]) -> str:
    done = [r for r in runs if not r.failed]
    if not done:
        reason = runs[0].usage["error"].splitlines()[-1]
        return f"| {runs[0].peer} | failed: {reason} |" + " |" * (len(_COLUMNS) - 2)
    first = done[0]

    def median(values: Sequence[float]) -> str:
        known = [v for v in values if not np.isnan(v)]
        return _number(float(np.median(known))) if known else ""

    quality = [r.quality for r in done if r.quality]
    gap = compare.difference(first, ours) if first.peer != OURS.name else None
    disturbed = any(r.usage["disturbance"] > _DISTURBED for r in done)
    cells = [
        first.peer + (" ‡" if disturbed else ""),
        _sampling(first),
        str(len(done)),
        median([r.value("whole") for r in done]),
        median([r.value("compile") for r in done]),
        median([r.value("sample") for r in done]),
        median([q["effective"] for q in quality]),
        median([r.value("rate") for r in done if r.quality]),
        f"{max(q['rhat'] for q in quality):.3f}" if quality else "",
        median([r.value("memory") for r in done]),
        "" if gap is None else f"{gap:.2f} sd",
    ]
    return "| " + " | ".join(cells) + " |"


def _sampling(record: Record) -> str:
    if not PEERS[record.peer].samples:
        return "estimates"
    o = record.options
    text = f"{o['chains']} × ({o['tune']:,} + {o['draws']:,})"
    if any(o[k] != SETTINGS[k] for k in ("chains", "tune", "draws")):
        text += ", cut short"
    outcomes = record.facts.get("outcomes")
    if outcomes is None:
        return text
    return f"{outcomes:,} outcomes, {_number(record.value('outcome'))} s each, {text}"


def _versions(runs: Mapping[str, Sequence[Record]]) -> str:
    seen: dict[str, dict[str, set[str]]] = {}
    for found in runs.values():
        for r in found:
            for package, version in r.versions.items():
                seen.setdefault(r.peer, {}).setdefault(package, set()).add(version)
    lines = ["## Versions\n"]
    for peer in filter(seen.__contains__, PEERS):
        versions = (f"{p} {' and '.join(sorted(v))}" for p, v in seen[peer].items())
        lines.append(f"- {peer}: {', '.join(versions)}")
    return "\n".join([*lines, ""])


def _number(value: float) -> str:
    """Three digits, thousands apart."""
    if value >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"
