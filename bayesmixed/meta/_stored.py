"""Priors of the heterogeneity as text, for files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from scipy import stats

from bayesmixed._errors import StorageError
from bayesmixed.meta import _densities
from bayesmixed.meta._densities import Flat
from bayesmixed.meta._heterogeneity import Density
from bayesmixed.meta._reference_priors import ReferencePrior
from bayesmixed.priors import Prior


def to_text(prior: Prior | Density | None) -> str:
    """A prior as text.

    Raises
    ------
    StorageError
        If it is a distribution of the user's own.
    """
    return json.dumps(_plain(prior))


def from_text(text: str) -> Any:
    """The prior that `to_text` wrote."""
    kind, name, *values = json.loads(text)
    if kind == "prior":
        return Prior(name, **values[0])
    if kind == "scipy":
        return getattr(stats, name)(*values[0], **values[1])
    if kind == "reference":
        return ReferencePrior(name, tuple(values[0]))
    if kind == "own":
        return getattr(_densities, name)(**values[0])
    return None


def _plain(prior: Any) -> list[Any]:
    if prior is None:
        return ["none", ""]
    if isinstance(prior, Prior):
        return ["prior", prior.distribution, dict(prior.parameters)]
    if isinstance(prior, ReferencePrior):
        return ["reference", prior.name, list(prior.se)]
    name = type(prior).__name__
    if type(prior) is getattr(_densities, name, None) and (is_dataclass(prior) or name == "Flat"):
        values = {} if isinstance(prior, Flat) else asdict(prior)
        return ["own", name, values]
    family = getattr(getattr(prior, "dist", None), "name", "")
    if hasattr(stats, family or "?"):
        args = [float(value) for value in prior.args]
        return ["scipy", family, args, {k: float(v) for k, v in prior.kwds.items()}]
    raise StorageError(
        f"The prior {prior!r} is of your own making and cannot be written to a file; use "
        "bm.Prior(...) or a scipy.stats distribution."
    )


def priors_to_text(priors: Mapping[str, Prior | Density]) -> str:
    """Priors by name, as one text."""
    return json.dumps({name: _plain(prior) for name, prior in priors.items()})


def priors_from_text(text: str) -> dict[str, Any]:
    """The priors that `priors_to_text` wrote."""
    return {name: from_text(json.dumps(plain)) for name, plain in json.loads(text).items()}
