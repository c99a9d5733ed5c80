"""How much of the spread between groups each group's own data resolve."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bayesmixed.defaults import outcome_scale
from bayesmixed.fit import Fit
from bayesmixed.linpred import covariance
from bayesmixed.predictor import RandomDesign
from bayesmixed.reports._levels import inside
from bayesmixed.reports._rate import sums

type Floats = NDArray[np.float64]


def reliability(fit: Fit, random: RandomDesign, effect: int | None = None) -> Floats:
    r"""Share of an effect's variance between groups that a group's own data resolve.

    With covariance :math:`G` of the effects and information :math:`M_j` of the group's rows about
    them, the share is :math:`1 - a'(G^{-1} + M_j)^{-1} a \,/\, a'Ga` [1]_, with :math:`a` picking
    one effect, or else the mean of the rows' :math:`z` for the level of the group's outcomes. With
    intercepts alone it is :math:`\sigma_u^2 / (\sigma_u^2 + 1/M_j)`.

    Parameters
    ----------
    fit : Fit
        A piece of one.
    random : RandomDesign
        The grouping, of the first parameter's predictor.
    effect : int, optional
        The effect's place; the level unless given.

    Returns
    -------
    array, shape (chain, draw, group)
        Not a number where residuals are correlated: rows have no information of their own then.

    References
    ----------
    .. [1] Searle, Casella & McCulloch (1992), Variance Components, section 7.4; for groups inside
       groups, the information is that of the marginal model (Woodbury's identity).
    """
    G = covariance(fit, random)[:, :, None]
    if fit.design.series is not None:
        return np.full((*G.shape[:2], len(random.groups.labels)), np.nan)
    M = _effects_information(fit, random)
    left = np.linalg.solve(np.eye(random.size) + G @ M, np.broadcast_to(G, M.shape))
    if effect is not None:
        a = np.zeros((len(random.groups.labels), random.size))
        a[:, effect] = 1
    else:
        a = sums(random.Z.T, random.groups.index).T / random.groups.sizes[:, None]
    before = np.einsum("gi,...gij,gj->...g", a, G, a)
    after = np.einsum("gi,...gij,gj->...g", a, left, a)
    # A group whose level does not vary with its effects (z = 0) has nothing to resolve.
    return np.asarray(1 - after / np.where(before > 0, before, np.inf))


def _effects_information(fit: Fit, random: RandomDesign) -> Floats:
    """Information of each group's rows about its effects, (chain, draw, group, effect, effect).

    Groups inside are eliminated from the finest outwards: what their own variation leaves.
    """
    by_name = {r.name: r for r in fit.design.predictors[_first(fit)].random}
    names = [g.name for g in inside(fit.design, random.groups) if g.name in by_name]
    every = [*(by_name[name] for name in names), random]
    # Positions of each level's columns among those of the levels from it outwards.
    columns = np.column_stack([r.Z for r in every])
    at = np.arange(len(fit.design.y))
    M = _cross_products(row_information(fit), columns, every[0].groups.index)
    for inner, outer in pairwise(every):
        size = inner.size
        G = covariance(fit, inner)[:, :, None]
        A, B, C = M[..., size:, size:], M[..., size:, :size], M[..., :size, :size]
        M = A - B @ np.linalg.solve(np.eye(size) + G @ C, G @ np.swapaxes(B, -1, -2))
        first = np.zeros(len(inner.groups.labels), dtype=np.intp)
        first[inner.groups.index[at]] = at
        at = first
        M = np.moveaxis(sums(np.moveaxis(M, 2, -1), outer.groups.index[at]), -1, 2)
    return np.asarray(M)


def _cross_products(weight: Floats, columns: Floats, index: NDArray[np.intp]) -> Floats:
    """Weighted cross-products of the columns over each group's rows."""
    size = columns.shape[1]
    groups = int(index.max()) + 1
    found = np.empty((*weight.shape[:2], groups, size, size))
    for i in range(size):
        for j in range(i + 1):
            found[..., i, j] = sums(weight * (columns[:, i] * columns[:, j]), index)
            found[..., j, i] = found[..., i, j]
    return found


def correlated_caveats(fit: Fit) -> tuple[str, ...]:
    """Why a report on correlated residuals has no reliabilities."""
    if fit.design.series is None:
        return ()
    return (
        f"Residuals are correlated ({fit.spec.residual}): how much a group's own data resolve does "
        "not add up over its rows, and reliability is left out.",
    )


def row_information(fit: Fit) -> Floats:
    """Observed information of every row about its linear predictor, (chain, draw, row)."""
    design, parameters = fit.design, fit.parameters()
    first = _first(fit)
    step = 1e-3 * outcome_scale(design).unit

    def loglik(shift: float) -> Floats:
        moved = parameters | {first: parameters[first] + shift}
        found = design.family.evaluate(
            design.family.loglik, moved, design.links, y=design.y, **design.known
        )
        return np.asarray(found)

    return np.maximum(2 * loglik(0.0) - loglik(step) - loglik(-step), 0.0) / step**2


def _first(fit: Fit) -> str:
    return fit.design.family.parameters[0].name
