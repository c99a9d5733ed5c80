"""The command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import bayesmixed as bm

app = typer.Typer(
    help="Bayesian mixed models for health data.", no_args_is_help=True, add_completion=False
)


@app.callback()
def _root() -> None:
    """Bayesian mixed models for health data."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where to put the picture and the fit.")] = Path(
        "bayesmixed-demo"
    ),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Benchmark 54 hospitals on real Medicare stays: the main job, from table to picture."""
    console = Console(highlight=False, soft_wrap=True)
    data = bm.datasets.load("medpar")
    model = bm.Model("died ~ age80 + factor(type) + (1 | provnum)", data, family="bernoulli")
    console.print(str(model), markup=False)
    fit = model.fit(seed=1, progress=not quiet)
    console.print("", str(fit.convergence), "", sep="\n", markup=False)
    console.print(str(bm.variance_components(fit)), "", sep="\n", markup=False)
    report = bm.shrinkage(fit, "provnum")
    console.print(str(report), "", sep="\n", markup=False)
    out.mkdir(parents=True, exist_ok=True)
    saved = fit.save(out / "medpar.nc")
    picture = report.save_plot(out / "hospitals.png")
    console.print(f"Saved the fit to {saved} and the picture to {picture}.", markup=False)


@app.command()
def datasets() -> None:
    """List the data sets that come with the package."""
    listing = bm.datasets.list()
    table = Table(box=None)
    for i, column in enumerate(map(str, listing.columns)):
        table.add_column(column, no_wrap=i == 0, overflow="fold")
    for row in listing.itertuples(index=False):
        table.add_row(*map(str, row))
    Console(highlight=False).print(table)


def main() -> None:
    """Run the command line; errors of the user's making come without a traceback."""
    try:
        app()
    except bm.BayesmixedError as error:
        Console(stderr=True, highlight=False).print(f"Error: {error}", markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
