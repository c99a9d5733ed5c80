"""A task as a folder that Python and R read alike, and the answer that comes back in it.

``task.json`` says what to do; each column is a file of raw little-endian numbers (8-byte floats,
or 4-byte codes of a categorical column). A script answers with ``answer.json``, and with
``draws.bin``, 8-byte floats in the order (parameter, chain, draw), the last fastest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.workloads import Workload


def write_task(folder: Path, workload: Workload, options: Mapping[str, Any]) -> None:
    """Write a task.

    Parameters
    ----------
    folder : Path
        An existing folder.
    workload : Workload
        What to fit.
    options : mapping
        How: draws, tune, chains, cores, seed and what a script needs further.
    """
    columns = [_write_column(folder, str(name), values) for name, values in workload.data.items()]
    if workload.outcomes is not None:
        np.save(folder / "outcomes.npy", workload.outcomes.to_numpy())
    task = {
        "formula": workload.formula,
        "family": workload.family,
        "scales": asdict(workload.scales),
        "residual": workload.residual,
        "rows": len(workload.data),
        "columns": columns,
        **options,
    }
    (folder / "task.json").write_text(json.dumps(task))


def _write_column(folder: Path, name: str, values: pd.Series[Any]) -> dict[str, Any]:
    if isinstance(values.dtype, pd.CategoricalDtype):
        values.cat.codes.to_numpy().astype("<i4").tofile(folder / f"{name}.bin")
        return {"name": name, "levels": [str(level) for level in values.cat.categories]}
    values.to_numpy().astype("<f8").tofile(folder / f"{name}.bin")
    return {"name": name, "levels": None}


def read_answer(folder: Path) -> tuple[dict[str, Any], NDArray[np.float64] | None]:
    """Read an answer.

    Returns
    -------
    tuple
        The answer, and the draws with shape (parameters, chains, draws), if there are any.
    """
    answer: dict[str, Any] = json.loads((folder / "answer.json").read_text())
    if "parameters" not in answer:
        return answer, None
    draws = np.fromfile(folder / "draws.bin", dtype="<f8")
    return answer, draws.reshape((len(answer["parameters"]), answer["chains"], -1))
