"""A run of a sampler: draws under their names, with what the sampler says of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from bayesmixed.design import Design
from bayesmixed.logdensity import LogDensity
from bayesmixed.names import coords, dims
from bayesmixed.sample import Draws, Settings, sample


@dataclass(frozen=True)
class Run:
    """What a sampler brought.

    Parameters
    ----------
    posterior : Dataset
        Draws, dims (chain, draw, ...), labelled with the data's own labels.
    statistics : Dataset
        The sampler's statistics, dims (chain, draw), under ArviZ's names.
    interrupted : bool
        Whether it was stopped before its end.
    note : str
        What was done to make it fast; empty where there is nothing to say.
    """

    posterior: xr.Dataset
    statistics: xr.Dataset
    interrupted: bool
    note: str = ""

    def tree(self, design: Design, settings: Settings, sampler: str) -> xr.DataTree:
        """The tree of a `Fit`: these, the outcomes where all are in memory, and how it was sampled.

        Parameters
        ----------
        design : Design
        settings : Settings
        sampler : {"nutpie", "pymc"}
        """
        groups = {"posterior": self.posterior, "sample_stats": self.statistics}
        if design.whole is None:
            groups["observed_data"] = xr.Dataset({"y": ("row", design.y)})
        tree = xr.DataTree.from_dict(groups)
        names = ("draws", "tune", "chains", "seed", "target_accept")
        chosen = {name: getattr(settings, name) for name in names} | {"sampler": sampler}
        tree.attrs = {
            "interrupted": int(self.interrupted),
            "sampling": json.dumps(chosen, default=int),
        }
        return tree


def run_density(design: Design, density: LogDensity, settings: Settings) -> Run:
    """Sample a log-density with nutpie.

    Raises
    ------
    SamplingError
        As `sample`.
    """
    drawn = sample(density, settings)
    rng = np.random.default_rng(settings.seed)
    values = density.recover(drawn.x.reshape(-1, density.size), rng)
    statistics = xr.Dataset({n: (("chain", "draw"), v) for n, v in drawn.statistics.items()})
    return Run(_named(design, values, drawn), statistics, drawn.interrupted, density.note)


def _named(design: Design, values: Mapping[str, Any], drawn: Draws) -> xr.Dataset:
    """Draws under their names, with dims and labels."""
    chains, draws, _ = drawn.x.shape
    inner, labels = dims(design), coords(design)
    variables = {
        name: (("chain", "draw", *inner[name]), v.reshape((chains, draws, *v.shape[1:])))
        for name, v in values.items()
    }
    used = {d for names, _ in variables.values() for d in names}
    known = {k: np.asarray(v) for k, v in labels.items() if k in used}
    return xr.Dataset(
        variables, coords={"chain": np.arange(chains), "draw": np.arange(draws), **known}
    )
