"""The command line."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

import bayesmixed as bm
from bayesmixed.cli._check import check
from bayesmixed.cli._datasets import datasets
from bayesmixed.cli._demo import demo
from bayesmixed.cli._fit import fit
from bayesmixed.cli._report import report

__all__ = ["app", "main"]

_CODES = (
    "Exit codes: 0 done; 1 what was given cannot be used; 2 the command is written wrongly; "
    "130 stopped from the keyboard."
)
_SAMPLED = "Exit code 3: sampled and written, but the draws have not converged."

app = typer.Typer(
    help=f"Bayesian mixed models for health data.\n\n{_CODES} fit has {_SAMPLED[5:]}",
    no_args_is_help=True,
    add_completion=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"bayesmixed {bm.__version__}")
        raise typer.Exit


@app.callback()
def _start(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """What comes before a command."""


for _command in (demo, fit, check, report, datasets):
    app.command(epilog=f"{_CODES} {_SAMPLED}" if _command is fit else _CODES)(_command)


def main() -> None:
    """Run the command line; errors of the user's making come without a traceback."""
    try:
        app()
    except (bm.BayesmixedError, OSError) as error:
        # An OSError names a file or folder that cannot be written.
        # Lines as they are, so that a caret stands under its spot.
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        said = str(error)
        if isinstance(error, OSError) and error.filename:
            said = f"{error.filename}: {error.strerror}."
        console.print(f"Error: {said}", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
