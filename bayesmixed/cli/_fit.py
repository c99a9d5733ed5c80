"""A model fitted from the shell, with what makes it again."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from secrets import randbelow
from typing import Annotated

import typer
from rich.console import Console

import bayesmixed as bm
from bayesmixed.cli._model_file import ModelFile

# Sampled and written, but not converged.
_NOT_CONVERGED = 3

Source = Annotated[Path, typer.Argument(help="A CSV, TSV or parquet file, or a model file, .toml.")]
Formula = Annotated[str | None, typer.Argument(help="The formula, where the source is a table.")]
FamilyName = Annotated[str | None, typer.Option("--family", help="gaussian unless given.")]
LinkName = Annotated[str | None, typer.Option("--link", help="The family's own unless given.")]
Priors = Annotated[
    list[str] | None,
    typer.Option("--prior", help='Such as "beta\\[age]=Normal(mu=0, sigma=2)"; may be repeated.'),
]


def fit(
    source: Source,
    formula: Formula = None,
    family: FamilyName = None,
    link: LinkName = None,
    prior: Priors = None,
    out: Annotated[Path, typer.Option(help="Folder for fit.nc, summary.csv, model.toml.")] = Path(
        "fit"
    ),
    draws: Annotated[int | None, typer.Option(help="Kept draws of each chain.")] = None,
    tune: Annotated[int | None, typer.Option(help="Warm-up draws of each chain.")] = None,
    chains: Annotated[int | None, typer.Option(help="Number of chains.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same draws.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no table.")] = False,
) -> None:
    """Fit a model to a table, or as a model file says.

    bayesmixed fit visits.csv "sbp ~ years + (years | patient)" --out visits

    bayesmixed fit stays.csv "died ~ age + (1 | hospital)" --family bernoulli

    bayesmixed fit model.toml --out again
    """
    file = ModelFile.of(source, formula, prior or [], family=family, link=link)
    given = {"draws": draws, "tune": tune, "chains": chains, "seed": seed}
    file = file.sampled(**{name: value for name, value in given.items() if value is not None})
    # What is written must make the same draws again, also where no seed was asked for.
    file = file.sampled(**{**_defaults(), **file.sampling})
    model = file.model()
    hinted(file.hint(model))
    # Before sampling, so that what cannot be written costs no draws. Then the draws first.
    if out.exists() and not out.is_dir():
        raise bm.BayesmixedError(f"--out {out} is a file; name a folder.")
    out.mkdir(parents=True, exist_ok=True)
    file.write(out / "model.toml")
    over = ", over an earlier fit" if (out / "fit.nc").exists() else ""
    found = model.fit(**file.sampling, progress=not quiet)
    found.save(out / "fit.nc")
    found.summary().to_csv(out / "summary.csv")
    console = Console(highlight=False, soft_wrap=True)
    if not quiet:
        console.print(str(found), "", sep="\n", markup=False)
    console.print(f"Written to {out}{over}: fit.nc, summary.csv, model.toml.", markup=False)
    if not found.converged:
        # The whole verdict stands above, unless nothing was to be printed.
        verdict = str(found.convergence) if quiet else "Not converged; the verdict above says more."
        Console(stderr=True, highlight=False, soft_wrap=True).print(verdict, markup=False)
        raise typer.Exit(_NOT_CONVERGED)


def _defaults() -> dict[str, int]:
    parameters = signature(bm.Model.fit).parameters
    usual = {name: parameters[name].default for name in ("draws", "tune", "chains")}
    return {**usual, "seed": randbelow(2**31)}


def shown(model: bm.Model) -> str:
    """A model and its priors in lines."""
    return f"{model}\n\n{model.priors.to_string(max_colwidth=80)}"


def hinted(words: str) -> None:
    """Say a hint where it does not get into what is read on."""
    if words:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"Hint: {words}", markup=False)
