"""The command line: run the case studies, and keep what they show.

A case study is a text notebook (MyST markdown, by jupytext). What a quick run changes stands in the
notebook's cell tagged ``parameters``, as papermill has it: another cell follows it in the run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import jupytext
import nbformat
import typer
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from rich.console import Console

HERE = Path(__file__).parent
PATHS = {path.stem: path for path in sorted(HERE.glob("*.md"))}
_FEW = {"draws": 60, "tune": 140, "chains": 4, "seed": 1, "progress": False}
QUICK: dict[str, dict[str, Any]] = {
    "01-blood-pressure": {"sampling": _FEW},
    "02-hospitals": {"sampling": _FEW, "studies": 20},
    "03-cells": {"sampling": _FEW, "genes": 12, "cells": [10, 20, 30]},
    "04-bcg-vaccine": {"sampling": _FEW},
    "05-influenza": {"sampling": _FEW},
    "06-toenail": {"sampling": _FEW},
    "07-trial": {"sampling": _FEW},
    "08-million-rows": {
        "sampling": _FEW,
        "patients": 100,
        "readings": [5, 20, 100],
        "hospital_sizes": (5, 20),
    },
}
"""What the parameters of each notebook are in a quick run: does it all work?"""

_console = Console(highlight=False)


def main(
    only: Annotated[list[str] | None, typer.Argument(help="Which; all unless given.")] = None,
    quick: Annotated[bool, typer.Option(help="Few draws: does it all work?")] = False,
    out: Annotated[Path, typer.Option(help="Where the notebooks go.")] = Path("build/case_studies"),
) -> None:
    """Run case studies from top to bottom and write them as notebooks with what they show."""
    for name in only or PATHS:
        if name not in PATHS:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(PATHS)}")
    out.mkdir(parents=True, exist_ok=True)
    trouble = False
    for name in only or PATHS:
        start = perf_counter()
        try:
            notebook = run(PATHS[name], QUICK[name] if quick else {})
        except CellExecutionError as error:
            _console.print(f"{name}: {error.ename}: {error.evalue}\n{error}", markup=False)
            trouble = True
            continue
        nbformat.write(notebook, out / f"{name}.ipynb")
        _console.print(f"{out / name}.ipynb: {perf_counter() - start:.0f} s", markup=False)
        for line in () if quick else complaints(notebook):
            _console.print(f"{name}: {line}", markup=False)
            trouble = True
    raise typer.Exit(int(trouble))


def run(path: Path, parameters: dict[str, Any]) -> nbformat.NotebookNode:
    """Execute a text notebook, with other parameters where some are given.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    ValueError
        If the notebook has no such parameter.
    """
    notebook = jupytext.read(path)
    if parameters:
        at = next(
            k
            for k, cell in enumerate(notebook.cells)
            if "parameters" in cell.metadata.get("tags", ())
        )
        for name, value in parameters.items():
            if f"{name} = " not in notebook.cells[at].source:
                raise ValueError(f"{path.name} has no parameter {name}.")
            line = nbformat.v4.new_code_cell(f"{name} = {value!r}")
            notebook.cells.insert(at + 1, line)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # chains share the cores
    client = NotebookClient(
        notebook, timeout=1800, startup_timeout=300, resources={"metadata": {"path": str(HERE)}}
    )
    return client.execute()


def complaints(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Warnings, and reports that say their fit has not converged."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                yield f"a cell warns: {output.text.strip()}"
            data = output.get("data", {})
            shown = data.get("text/html", data.get("text/plain", output.get("text", "")))
            for line in shown.splitlines():
                if "Convergence: " in line or line.startswith("Do not use these draws"):
                    yield line


if __name__ == "__main__":
    typer.run(main)
