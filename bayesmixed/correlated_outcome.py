"""Normal outcomes whose residuals are correlated within a series, stated in PyMC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayesmixed.correlated_op import CorrelatedNormal
from bayesmixed.correlations import correlations
from bayesmixed.defaults import AssignedPrior
from bayesmixed.design import Design
from bayesmixed.groups import enclosing
from bayesmixed.predictor import RandomDesign
from bayesmixed.series import Floats

#: Names of what the outcome's density takes, in its order.
ARGUMENTS = ("y_mean", "y_log_sd", "y_correlations", "y_factors")


def correlated_outcome(
    design: Design,
    eta: Mapping[str, Any],
    priors: Mapping[str, AssignedPrior],
    levels: Sequence[RandomDesign] = (),
    factors: Sequence[Any] = (),
) -> None:
    """Create the outcome ``y`` and the parameters of its residual correlations.

    Parameters
    ----------
    design : Design
    eta : mapping of str to tensor
        Linear predictors.
    priors : mapping of str to AssignedPrior
    levels : sequence of RandomDesign
        Groupings whose effects are not in the predictor but integrated out, from the inside out.
    factors : sequence of tensor, shape (effects, effects)
        Factors of their covariances.
    """
    series, links = design.series, design.links
    assert series is not None
    sigma = links["sigma"].inverse(eta["sigma"])
    each = pt.zeros(pm.modelcontext(None).dim_lengths["row"])
    mu, log_sd = each + links["mu"].inverse(eta["mu"]), each + pt.log(sigma)
    data = [pm.Data(name, array) for name, array in arrays(design, levels).items()]
    T = pt.linalg.block_diag(*factors) if factors else pt.zeros((0, 0))
    arguments = (mu, log_sd, correlations(series, priors), T)
    if factors:
        # For draws of the effects afterwards.
        for name, value in zip(ARGUMENTS, arguments, strict=True):
            pm.Deterministic(name, value)

    def logp(y: Any, *arguments: Any) -> Any:
        return CorrelatedNormal()(y, *arguments, *data)[0]

    def random(
        mu: Floats,
        log_sd: Floats,
        P: Floats,
        T: Floats,
        rng: np.random.Generator,
        size: Any = None,
    ) -> Floats:
        assert not T.size, "outcomes are drawn from the model with all effects"
        return series.draw(rng, mu, np.exp(log_sd), P)

    pm.CustomDist(
        "y",
        *arguments,
        logp=logp,
        random=random,
        signature="(n),(n),(p,m,k),(f,f)->(n)",
        dtype="float64",
        class_name="CorrelatedNormal",
        observed=pm.Data("outcome_of_rows", design.y, dims="row"),
        dims="row",
    )


def arrays(design: Design, levels: Sequence[RandomDesign]) -> dict[str, Any]:
    """What the density takes besides parameters: see `correlated.log_density`.

    Parameters
    ----------
    design : Design
    levels : sequence of RandomDesign
        Groupings whose effects are integrated out, from the inside out.
    """
    series = design.series
    assert series is not None
    indices = [r.groups.index for r in levels]
    whole = {
        "order": series.order,
        "lengths": series.lengths,
        "counts": series.counts,
        "leaf": indices[0][series.order] if levels else np.zeros(len(design.y)),
        "further": np.zeros(len(series.counts)),
        "sizes": [r.size for r in levels],
        "group_counts": [len(r.groups.labels) for r in levels],
        "parents": enclosing(indices),
    }
    Z = np.column_stack([np.zeros((len(design.y), 0)), *(r.Z for r in levels)])
    return {"Z": Z} | {name: np.asarray(array).astype("int32") for name, array in whole.items()}
