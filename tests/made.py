"""Fits without sampling: draws from the priors in the posterior's place."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

import bayesmixed as bm
from bayesmixed.fit import Fit

HOSTILE = '<script>alert("x")</script>'
"""A label that must never be run."""


def from_priors(
    model: bm.Model, draws: int = 20, seed: int = 1, **limits: tuple[float, float]
) -> Fit:
    """A fit whose draws are the priors', two chains of them, for whatever holds in any draw.

    Some priors have tails far beyond what data would leave: `limits` are where a variable is
    squeezed into.
    """
    prior = model.prior_predictive(2 * draws, seed=seed)["prior"].to_dataset()
    halves = [prior.isel(chain=0, draw=slice(k * draws, (k + 1) * draws)) for k in (0, 1)]
    posterior = xr.concat([h.assign_coords(draw=np.arange(draws)) for h in halves], "chain")
    for name, (low, high) in limits.items():
        values = posterior[name]
        posterior[name] = low + (high - low) / (1 + np.exp(-values / float(values.std())))
    return _fit(model, posterior.assign_coords(chain=[0, 1]))


def at(model: bm.Model, **values: Any) -> Fit:
    """A fit with one draw, these values."""
    one = from_priors(model, 1).posterior.isel(chain=[0], draw=[0])
    for name, value in values.items():
        shape = one[name].shape
        one[name] = (one[name].dims, np.broadcast_to(np.asarray(value, dtype=float), shape).copy())
    return _fit(model, one)


def _fit(model: bm.Model, posterior: xr.Dataset) -> Fit:
    shape = tuple(posterior.sizes[d] for d in ("chain", "draw"))
    stats = xr.Dataset({"diverging": (("chain", "draw"), np.zeros(shape, dtype=bool))})
    return Fit(model.design, xr.DataTree.from_dict({"posterior": posterior, "sample_stats": stats}))
