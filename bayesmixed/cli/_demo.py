"""The main job on real data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import bayesmixed as bm


def demo(
    out: Annotated[Path, typer.Option(help="Where to put the fit, picture and page.")] = Path(
        "bayesmixed-demo"
    ),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Benchmark 54 hospitals on real Medicare stays: the main job, from table to picture."""
    console = Console(highlight=False, soft_wrap=True)
    data = bm.datasets.load("medpar")
    model = bm.Model("died ~ age80 + factor(type) + (1 | provnum)", data, family="bernoulli")
    console.print(str(model), markup=False)
    out.mkdir(parents=True, exist_ok=True)
    fit = model.fit(seed=1, progress=not quiet)
    console.print("", str(fit.convergence), "", sep="\n", markup=False)
    console.print(str(bm.variance_components(fit)), "", sep="\n", markup=False)
    report = bm.shrinkage(fit, "provnum")
    console.print(str(report), "", sep="\n", markup=False)
    saved = fit.save(out / "medpar.nc")
    picture = report.save_plot(out / "hospitals.png")
    page = fit.report(out / "report.html", "Deaths in 54 hospitals")
    console.print(f"Saved the fit to {saved} and the picture to {picture}.", markup=False)
    console.print(f"Open {page} in a browser: all of it as one page.", markup=False)
