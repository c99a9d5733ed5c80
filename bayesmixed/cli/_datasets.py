"""The data sets that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import bayesmixed as bm


def datasets(
    name: Annotated[str | None, typer.Argument(help="One of them, to be described.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write its table as CSV.")] = None,
) -> None:
    """List the data sets, describe one, or write one as CSV.

    bayesmixed datasets

    bayesmixed datasets medpar --out medpar.csv
    """
    console = Console(highlight=False, soft_wrap=True)
    if name is not None:
        console.print(str(bm.datasets.describe(name)), markup=False)
        if out is not None:
            bm.datasets.load(name).to_csv(out, index=False)
            console.print(f"\nWritten to {out}.", markup=False)
        return
    if out is not None:
        raise bm.BayesmixedError("--out writes one data set; name it: bayesmixed datasets NAME.")
    listing = bm.datasets.list()[["name", "rows", "family", "title"]]
    table = Table(box=None, pad_edge=False)
    for column in listing.columns:
        table.add_column(column, no_wrap=column != "title")
    for row in listing.itertuples(index=False):
        table.add_row(*map(str, row))
    Console(highlight=False).print(table)
