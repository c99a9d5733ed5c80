"""Parameters drawn from the priors, and outcomes from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import PriorError, listed
from bayesmixed.design import Design
from bayesmixed.graph import interpreted
from bayesmixed.names import public_names

# Where fewer of the draws are possible ones, no more are tried.
_LEAST_SHARE = 0.01


def prior_predictive(design: Design, model: Any, draws: int, seed: int | None) -> xr.DataTree:
    """Draw parameters from the priors, under the posterior's names, and outcomes.

    Parameters
    ----------
    design : Design
    model : pymc.Model
        With all effects as variables.
    draws : int
    seed : int, optional

    Raises
    ------
    PriorError
        If some draws are not possible for the family, or next to no correlations are positive
        definite.
    """
    drawn = _sample(design, model, draws, seed)
    possible = _possible(design, drawn)
    if not possible.all():
        # Correlations in bands have priors that end where a matrix is no longer one.
        more = int(1.5 * draws / max(float(possible.mean()), _LEAST_SHARE)) + 20
        drawn = _sample(design, model, more, seed)
        possible = _possible(design, drawn)
    if int(possible.sum()) < draws:
        raise PriorError(
            f"Hardly any draw from the priors of {listed(_structures(design))} has correlations "
            "that are positive definite together; give narrower priors, or fewer bands."
        )
    kept = np.flatnonzero(possible)[:draws]
    groups = {n: drawn[n].to_dataset().isel(draw=kept) for n in ("prior", "prior_predictive")}
    groups = {n: each.assign_coords(draw=np.arange(draws)) for n, each in groups.items()}
    groups["prior"] = groups["prior"][public_names(design)]
    return xr.DataTree.from_dict({**groups, "observed_data": drawn["observed_data"].to_dataset()})


def _sample(design: Design, model: Any, draws: int, seed: int | None) -> Any:
    try:
        with model, interpreted() as mode, np.errstate(over="ignore"):
            return pm.sample_prior_predictive(
                draws, random_seed=seed, compile_kwargs={"mode": mode}
            )
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise PriorError(
            f"Some draws from the priors are not possible for family {design.family.name} "
            f"({reason}); use a link that keeps the mean inside its range, or narrower priors."
        ) from error


def _possible(design: Design, drawn: Any) -> NDArray[np.bool_]:
    """Which draws have outcomes and effects: there are none where correlations are impossible."""
    y = drawn["prior_predictive"]["y"].isel(chain=0).to_numpy()
    possible = np.ones(len(y), dtype=bool)
    if design.series is not None:
        possible &= ~np.isnan(y).all(axis=-1)
    for name in design.spec.covariances:
        u = drawn["prior"][f"u_{name}"].isel(chain=0).to_numpy()
        possible &= np.isfinite(u).all(axis=(-2, -1))
    return possible


def _structures(design: Design) -> list[str]:
    """What has correlations, in words."""
    residual = [] if design.spec.residual is None else [design.spec.residual]
    return [str(each) for each in (*residual, *design.spec.covariances.values())]
