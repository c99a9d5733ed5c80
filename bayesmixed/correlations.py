"""Correlations within series and the parameters that they have, stated in PyMC."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor import shared

from bayesmixed.between import Between
from bayesmixed.defaults import AssignedPrior
from bayesmixed.names import between_dims, residual_dims
from bayesmixed.series import Series
from bayesmixed.structure import CorrelationParameter


def correlations(
    series: Series, priors: Mapping[str, AssignedPrior], between: Between | None = None
) -> Any:
    """Correlations of every pattern, as `correlated.log_density` takes them.

    Parameters
    ----------
    series : Series
    priors : mapping of str to AssignedPrior
    between : Between, optional
        Whose series they are, if not the residuals'.
    """
    label, named = ("", str) if between is None else (f"_{between.group}", between.named)
    by_arm: list[dict[str, Any]] = []
    matrices = []
    for a in range(len(series.arms)):
        mine = np.flatnonzero(series.arm == a)
        tail = f"_{a}" if len(series.arms) > 1 else ""
        values = {p.name: _variable(series, p, a, tail, priors, named) for p in series.parameters}
        times = pm.Data(f"times{label}{tail}", series.times[mine])
        fixed = pt.specify_shape(times, (None, None, series.times.shape[-1]))
        # Patterns stand in the order of their arms.
        steps = series.structure.steps(values, fixed)
        matrix = series.structure.matrix(values, fixed) if steps is None else steps[..., None]
        matrices.append(pt.as_tensor(matrix))
        derived = {name: f(values) for name, (_, f) in series.derived.items()}
        by_arm.append(values | derived)
    dims = residual_dims(series) if between is None else between_dims(between)
    for name in residual_dims(series):
        every = [values[name] for values in by_arm]
        if named(name) not in pm.modelcontext(None).named_vars:
            whole = every[0] if series.structure.by is None else pt.stack(every)
            pm.Deterministic(named(name), whole, dims=dims[named(name)])
    return pt.concatenate(matrices)


def _variable(
    series: Series,
    parameter: CorrelationParameter,
    arm: int,
    tail: str,
    priors: Mapping[str, AssignedPrior],
    named: Callable[[str], str],
) -> Any:
    """One arm's number, vector or matrix."""
    chosen = [priors[named(name)].prior for name in series.names(parameter)[arm]]
    if parameter.is_matrix:
        eta, size = dict(chosen[0].parameters)["eta"], len(series.labels[parameter.dim])
        factor = pm.LKJCorr(f"chol_{named(parameter.name)}{tail}", n=size, eta=eta)
        return factor @ factor.T
    label = f"{named(parameter.name)}{tail or ('' if series.structure.by is None else '_0')}"
    if isinstance(parameter.prior, tuple):
        alike = {prior.distribution for prior in chosen}
        if len(alike) > 1:
            return pt.stack([prior.variable(f"{label}_{i}") for i, prior in enumerate(chosen)])
        given = [dict(prior.parameters) for prior in chosen]
        arrays = {key: shared(np.array([each[key] for each in given], float)) for key in given[0]}
        return getattr(pm, alike.pop())(label, shape=len(chosen), **arrays)
    return chosen[0].variable(label)
