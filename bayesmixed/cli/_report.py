"""A saved fit as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import bayesmixed as bm


def report(
    fit: Annotated[Path, typer.Argument(help="A file that a fit was saved in.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    title: Annotated[str | None, typer.Option(help="Its heading.")] = None,
) -> None:
    """Write a saved fit as one HTML page that opens without a network.

    Example: bayesmixed report hospitals/fit.nc --out hospitals.html
    """
    written = bm.report(bm.load(fit), out, title)
    Console(highlight=False, soft_wrap=True).print(f"Written to {written}.", markup=False)
