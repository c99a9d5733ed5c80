"""Normal outcomes whose residuals are correlated within a series, stated in PyMC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayesmixed.correlated import CorrelatedNormal
from bayesmixed.covariance import CorrelationParameter
from bayesmixed.defaults import AssignedPrior
from bayesmixed.design import Design
from bayesmixed.names import residual_dims
from bayesmixed.series import Floats, Series


def correlated_outcome(
    design: Design, eta: Mapping[str, Any], priors: Mapping[str, AssignedPrior]
) -> None:
    """Create the outcome ``y`` and the parameters of its residual correlations."""
    series, links = design.series, design.links
    assert series is not None
    sigma = links["sigma"].inverse(eta["sigma"])
    each = pt.zeros(len(design.y))
    mu, log_sd = each + links["mu"].inverse(eta["mu"]), each + pt.log(sigma)
    names = ("order", "lengths", "counts")
    shape = [pm.Data(name, getattr(series, name).astype("int32")) for name in names]

    def logp(y: Any, *arguments: Any) -> Any:
        return CorrelatedNormal()(y, *arguments)[0]

    def random(
        mu: Floats, log_sd: Floats, P: Floats, *_: Any, rng: np.random.Generator, size: Any = None
    ) -> Floats:
        return series.draw(rng, mu, np.exp(log_sd), P)

    pm.CustomDist(
        "y",
        mu,
        log_sd,
        _correlations(series, priors),
        *shape,
        logp=logp,
        random=random,
        signature="(n),(n),(p,m,m),(n),(p),(p)->(n)",
        dtype="float64",
        class_name="CorrelatedNormal",
        observed=design.y,
        dims="row",
    )


def _correlations(series: Series, priors: Mapping[str, AssignedPrior]) -> Any:
    """Correlations of every pattern, shape (patterns, longest, longest)."""
    by_arm: list[dict[str, Any]] = []
    matrices = []
    for a in range(len(series.arms)):
        mine = np.flatnonzero(series.arm == a)
        tail = f"_{a}" if len(series.arms) > 1 else ""
        values = {p.name: _variable(series, p, a, tail, priors) for p in series.parameters}
        times = pm.Data(f"times{tail}", series.times[mine])
        fixed = pt.specify_shape(times, (None, None, series.times.shape[-1]))
        # Patterns stand in the order of their arms.
        matrices.append(pt.as_tensor(series.structure.matrix(values, fixed)))
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
    if chosen[0].support == "correlation":
        eta = dict(chosen[0].parameters)["eta"]
        factor = pm.LKJCorr(f"chol_residual{tail}", n=series.size, eta=eta)
        return factor @ factor.T
    label = f"{parameter.name}{tail or ('' if series.structure.by is None else '_0')}"
    if isinstance(parameter.prior, tuple):
        alike = {prior.distribution for prior in chosen}
        if len(alike) > 1:
            return pt.stack([prior.variable(f"{label}_{i}") for i, prior in enumerate(chosen)])
        given = [dict(prior.parameters) for prior in chosen]
        arrays = {key: np.array([each[key] for each in given]) for key in given[0]}
        return getattr(pm, alike.pop())(label, shape=len(chosen), **arrays)
    return chosen[0].variable(label)
