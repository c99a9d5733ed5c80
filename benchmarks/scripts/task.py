"""What the Python scripts share: reading a task, a stopwatch, answering.

It runs under a peer's interpreter too, so it imports nothing but NumPy and pandas.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FOLDER = Path(sys.argv[1])


def read_task() -> tuple[dict[str, Any], pd.DataFrame]:
    """The task and its table."""
    task = json.loads((FOLDER / "task.json").read_text())
    columns: dict[str, Any] = {}
    for column in task["columns"]:
        path = FOLDER / f"{column['name']}.bin"
        if column["levels"] is None:
            columns[column["name"]] = np.fromfile(path, dtype="<f8")
        else:
            codes = np.fromfile(path, dtype="<i4")
            columns[column["name"]] = pd.Categorical.from_codes(codes, column["levels"])
    return task, pd.DataFrame(columns)


class Stopwatch:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def answer(stopwatch: Stopwatch, packages: list[str], **more: Any) -> None:
    """Write the answer, with the versions of these packages and of Python."""
    versions = {"python": sys.version.split()[0], **{name: version(name) for name in packages}}
    content = {"seconds": stopwatch.seconds, "versions": versions, **more}
    (FOLDER / "answer.json").write_text(json.dumps(content))


def write_draws(draws: dict[str, np.ndarray]) -> dict[str, Any]:
    """Write draws, each (chains, draws), and return what the answer says of them."""
    stacked = np.stack(list(draws.values())).astype("<f8")
    stacked.tofile(FOLDER / "draws.bin")
    return {"parameters": list(draws), "chains": stacked.shape[1]}
