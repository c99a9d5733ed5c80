"""A saved fit as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import bayesmixed as bm
from bayesmixed.cli._own import own_parts


def report(
    fit: Annotated[Path, typer.Argument(help="A file that a fit was saved in.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    title: Annotated[str | None, typer.Option(help="Its heading.")] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(help="Show the groups of this grouping only; may be repeated."),
    ] = None,
    own: Annotated[
        Path | None,
        typer.Option(help="A Python file with the family, link or structure of your own."),
    ] = None,
) -> None:
    """Write a saved fit as one HTML page that opens without a network.

    bayesmixed report hospitals/fit.nc --out hospitals.html

    bayesmixed report waits/fit.nc --own rayleigh.py
    """
    found = bm.load(fit, **own_parts(fit, own))
    written = bm.report(found, out, title, unit or None)
    Console(highlight=False, soft_wrap=True).print(f"Written to {written}.", markup=False)
