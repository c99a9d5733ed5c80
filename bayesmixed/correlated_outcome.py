"""Normal outcomes whose residuals are correlated within a series, stated in PyMC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor import shared

from bayesmixed.correlated_op import CorrelatedNormal
from bayesmixed.defaults import AssignedPrior
from bayesmixed.design import Design
from bayesmixed.groups import enclosing
from bayesmixed.names import residual_dims
from bayesmixed.predictor import RandomDesign
from bayesmixed.series import Floats, Series
from bayesmixed.structure import CorrelationParameter

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
    arguments = (mu, log_sd, _correlations(series, priors), T)
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
        "sizes": [r.size for r in levels],
        "group_counts": [len(r.groups.labels) for r in levels],
        "parents": enclosing(indices),
    }
    Z = np.column_stack([np.zeros((len(design.y), 0)), *(r.Z for r in levels)])
    return {"Z": Z} | {name: np.asarray(array).astype("int32") for name, array in whole.items()}


def _correlations(series: Series, priors: Mapping[str, AssignedPrior]) -> Any:
    """Correlations of every pattern, as `correlated.log_density` takes them."""
    by_arm: list[dict[str, Any]] = []
    matrices = []
    for a in range(len(series.arms)):
        mine = np.flatnonzero(series.arm == a)
        tail = f"_{a}" if len(series.arms) > 1 else ""
        values = {p.name: _variable(series, p, a, tail, priors) for p in series.parameters}
        times = pm.Data(f"times{tail}", series.times[mine])
        fixed = pt.specify_shape(times, (None, None, series.times.shape[-1]))
        # Patterns stand in the order of their arms.
        steps = series.structure.steps(values, fixed)
        matrix = series.structure.matrix(values, fixed) if steps is None else steps[..., None]
        matrices.append(pt.as_tensor(matrix))
        derived = {name: f(values) for name, (_, f) in series.derived.items()}
        by_arm.append(values | derived)
    for name, dims in residual_dims(series).items():
        every = [values[name] for values in by_arm]
        if name not in pm.modelcontext(None).named_vars:
            whole = every[0] if series.structure.by is None else pt.stack(every)
            pm.Deterministic(name, whole, dims=dims)
    return pt.concatenate(matrices)


def _variable(
    series: Series,
    parameter: CorrelationParameter,
    arm: int,
    tail: str,
    priors: Mapping[str, AssignedPrior],
) -> Any:
    """One arm's number, vector or matrix."""
    chosen = [priors[name].prior for name in series.names(parameter)[arm]]
    if parameter.is_matrix:
        eta, size = dict(chosen[0].parameters)["eta"], len(series.labels[parameter.dim])
        factor = pm.LKJCorr(f"chol_{parameter.name}{tail}", n=size, eta=eta)
        return factor @ factor.T
    label = f"{parameter.name}{tail or ('' if series.structure.by is None else '_0')}"
    if isinstance(parameter.prior, tuple):
        alike = {prior.distribution for prior in chosen}
        if len(alike) > 1:
            return pt.stack([prior.variable(f"{label}_{i}") for i, prior in enumerate(chosen)])
        given = [dict(prior.parameters) for prior in chosen]
        arrays = {key: shared(np.array([each[key] for each in given], float)) for key in given[0]}
        return getattr(pm, alike.pop())(label, shape=len(chosen), **arrays)
    return chosen[0].variable(label)
