"""Pictures of how time and memory grow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.compare import select
from benchmarks.peers import PEERS
from benchmarks.plan import SETTINGS
from benchmarks.records import Record
from benchmarks.row import Row

# Okabe & Ito's colours, which most people can tell apart.
_COLOURS = dict(
    zip(PEERS, ["#D55E00", "#0072B2", "#56B4E9", "#009E73", "#000000", "#999999"], strict=True)
)
_MARKERS = dict(zip(PEERS, "os^DvX", strict=True))


def draw_growth(row: Row, records: Sequence[Record], path: Path) -> None:
    """Draw time and memory of the whole run against what grows, and save it as SVG.

    Parameters
    ----------
    row : Row
        With `axis` and points that have an `at`.
    records : sequence of Record
        Its runs; those with fewer draws than usual are left out.
    path : Path
        Where to save it.
    """
    full = [r for r in records if not r.failed and _is_full(r)]
    figure, (time, memory) = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    for peer in PEERS:
        _line(time, row, full, peer, "whole", "-")
        _line(memory, row, full, peer, "memory", "-")
    _line(time, row, full, "bayesmixed", "sample", ":", "bayesmixed, sampling")
    time.set_ylabel("time of the whole run (s)\n(dotted: of sampling)")
    memory.set_ylabel("peak memory (MB)")
    for axes in (time, memory):
        axes.set_xlabel(row.axis)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.9g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        at = [point.at for point in row.points if point.at is not None]
        if max(at) / min(at) > 20:
            axes.set_xscale("log")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = time.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    # Without a date and random names, so that the same numbers make the same file.
    with plt.rc_context({"svg.hashsalt": "bayesmixed"}):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _is_full(record: Record) -> bool:
    usual = all(record.options[k] == SETTINGS[k] for k in ("draws", "chains"))
    return usual or not PEERS[record.peer].samples


def _line(
    axes: Axes,
    row: Row,
    records: Sequence[Record],
    peer: str,
    quantity: str,
    style: str,
    label: str | None = None,
) -> None:
    points = []
    for point in row.points:
        values = [r.value(quantity) for r in select(records, point.name, peer)]
        if values and point.at is not None:
            points.append((point.at, float(np.median(values))))
    if points:
        x, y = zip(*points, strict=True)
        axes.plot(
            x, y, style, color=_COLOURS[peer], marker=_MARKERS[peer], ms=5, label=label or peer
        )
