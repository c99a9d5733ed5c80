"""Data and model checked, without sampling."""

from __future__ import annotations

from rich.console import Console

from bayesmixed.cli._fit import FamilyName, Formula, LinkName, Priors, Source, hinted, shown
from bayesmixed.cli._model_file import ModelFile


def check(
    source: Source,
    formula: Formula = None,
    family: FamilyName = None,
    link: LinkName = None,
    prior: Priors = None,
) -> None:
    """Check data and model, and show groups and priors; nothing is sampled.

    bayesmixed check visits.csv "sbp ~ years + (years | patient)"

    bayesmixed check model.toml
    """
    file = ModelFile.of(source, formula, prior or [], family=family, link=link)
    model = file.model()
    Console(highlight=False, soft_wrap=True).print(shown(model), markup=False)
    hinted(file.hint(model))
