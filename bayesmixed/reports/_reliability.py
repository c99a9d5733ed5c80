"""How much of the spread between groups each group's own data resolve."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bayesmixed._errors import listed
from bayesmixed.compress import unique_rows
from bayesmixed.defaults import outcome_scale
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.groups import Groups
from bayesmixed.linpred import covariance
from bayesmixed.predictor import RandomDesign
from bayesmixed.reports._levels import inside
from bayesmixed.reports._rate import sums
from bayesmixed.reports._series import series_information, whole_series
from bayesmixed.rows import alike, take

type Floats = NDArray[np.float64]
type Integers = NDArray[np.intp]


@dataclass(frozen=True)
class Information:
    """What the rows say about the effects of groups, prepared for any draws.

    Rows whose parameters are the same have the same information, so that it is worked out once for
    each distinct one; beyond it, all that counts is their cross-products of Z by group.

    Parameters
    ----------
    fit : Fit
        The fit.
    random : RandomDesign
        The grouping, of the first parameter's predictor.
    levels : tuple of RandomDesign
        It and what lies inside it, from the inside out.
    parents : tuple of array of int
        For each level but the last, the group around each of its groups.
    rows : Design
        The distinct rows.
    cells : array of int, shape (cells,)
        The distinct row that the rows of a cell are like; cells lie inside the innermost groups.
    starts : array of int, shape (groups,)
        The first cell of each of the innermost groups.
    products : array, shape (cells, effects, effects)
        Cross-products of the levels' Z over the rows of each cell.
    """

    fit: Fit
    random: RandomDesign
    levels: tuple[RandomDesign, ...]
    parents: tuple[Integers, ...]
    rows: Design
    cells: Integers
    starts: Integers
    products: Floats

    @classmethod
    def of(cls, fit: Fit, random: RandomDesign) -> Information:
        """Find what rows have in common."""
        design = fit.design
        by_name = {r.name: r for r in design.predictors[_first(fit)].random}
        names = [g.name for g in inside(design, random.groups) if g.name in by_name]
        levels = (*(by_name[name] for name in names), random)
        known = design.spec.information
        index = levels[0].groups.index
        # Where it is not in closed form, it depends on the outcome too.
        like = (
            alike(design, first=[index], outcome=True)
            if known is None
            else alike(design, design.family.needs(known))
        )
        cells = unique_rows([index, like.index], len(index))
        Z = np.column_stack([r.Z for r in levels])
        products = np.empty((len(cells), Z.shape[1], Z.shape[1]))
        for i, j in np.ndindex(products.shape[1:]):
            products[:, i, j] = np.bincount(cells.index, Z[:, i] * Z[:, j], len(cells))
        return cls(
            fit,
            random,
            levels,
            tuple(_around(inner.groups, outer.groups) for inner, outer in pairwise(levels)),
            take(design, like.first),
            like.index[cells.first],
            np.searchsorted(index[cells.first], np.arange(len(levels[0].groups.labels))),
            products,
        )

    @property
    def is_known(self) -> bool:
        """Whether the information of groups adds up: series lie in one innermost group each.

        Of groups that are correlated each also has what the others' data say of it.
        """
        design = self.fit.design
        if design.spec.covariances:
            return False
        return design.series is None or whole_series(design, self.levels[0].groups.index)

    @property
    def values(self) -> int:
        """About how many values it takes in a draw."""
        rows = self.fit.design.y if self.fit.design.series is not None else self.rows.y
        return max(len(rows), self.products.size)

    def reliability(self, piece: Fit, effect: int | None = None) -> Floats:
        r"""Share of an effect's variance between groups that a group's own data resolve.

        With covariance :math:`G` of the effects and information :math:`M_j` of the group's rows
        about them, the share is :math:`1 - a'(G^{-1} + M_j)^{-1} a \,/\, a'Ga` [1]_, with
        :math:`a` picking one effect, or else the mean of the rows' :math:`z` for the level of the
        group's outcomes. With intercepts alone it is
        :math:`\sigma_u^2 / (\sigma_u^2 + 1/M_j)`.

        Parameters
        ----------
        piece : Fit
            Some of the draws.
        effect : int, optional
            The effect's place; the level unless given.

        Returns
        -------
        array, shape (chain, draw, group)
            Not a number where series of correlated residuals lie in several groups.

        References
        ----------
        .. [1] Searle, Casella & McCulloch (1992), Variance Components, section 7.4; for groups
           inside groups, the information is that of the marginal model (Woodbury's identity).
        """
        random = self.random
        G = covariance(piece, random)[:, :, None]
        if not self.is_known:
            return np.full((*G.shape[:2], len(random.groups.labels)), np.nan)
        M = self._of_groups(piece)
        resolved = G @ M
        left = np.linalg.solve(np.eye(random.size) + resolved, np.broadcast_to(G, resolved.shape))
        if effect is not None:
            a = np.zeros((len(random.groups.labels), random.size))
            a[:, effect] = 1
        else:
            a = sums(random.Z.T, random.groups.index).T / random.groups.sizes[:, None]
        before = np.einsum("gi,...gij,gj->...g", a, G, a)
        after = np.einsum("gi,...gij,gj->...g", a, left, a)
        # A group whose level does not vary with its effects (z = 0) has nothing to resolve.
        return np.asarray(1 - after / np.where(before > 0, before, np.inf))

    def _of_groups(self, piece: Fit) -> Floats:
        """Information about each group's effects, (chain, draw, group, effect, effect).

        Groups inside are eliminated from the finest outwards: what their own variation leaves.
        """
        M = self._of_innermost(piece)
        for inner, above in zip(self.levels, self.parents, strict=False):
            size = inner.size
            G = covariance(piece, inner)[:, :, None]
            A, B, C = M[..., size:, size:], M[..., size:, :size], M[..., :size, :size]
            M = A - B @ np.linalg.solve(np.eye(size) + G @ C, G @ np.swapaxes(B, -1, -2))
            M = np.moveaxis(sums(np.moveaxis(M, 2, -1), above), -1, 2)
        return np.asarray(M)

    def _of_innermost(self, piece: Fit) -> Floats:
        if self.fit.design.series is not None:
            Z = np.column_stack([r.Z for r in self.levels])
            groups = self.levels[0].groups
            return series_information(piece, Z, groups.index, len(groups.labels))
        each = self._of_rows(piece)
        if each.shape[-1] > 1:
            each = each[..., self.cells]
        size = self.products.shape[-1]
        found = np.empty((*each.shape[:2], len(self.starts), size, size))
        for i in range(size):
            for j in range(i + 1):
                weighted = each * self.products[:, i, j]
                found[..., i, j] = np.add.reduceat(weighted, self.starts, axis=-1)
                found[..., j, i] = found[..., i, j]
        return found

    def _of_rows(self, piece: Fit) -> Floats:
        """Information of every distinct row about its linear predictor, (chain, draw, row or 1)."""
        rows, first = self.rows, _first(self.fit)
        parameters = Fit(rows, piece.tree).parameters()
        known = rows.spec.information
        if known is not None:
            exact = rows.family.evaluate(known, parameters, rows.links, **rows.known)
            return np.asarray(exact, dtype=np.float64)
        step = 1e-3 * outcome_scale(self.fit.design).unit

        def loglik(shift: float) -> Floats:
            moved = parameters | {first: parameters[first] + shift}
            found = rows.family.evaluate(
                rows.family.loglik, moved, rows.links, y=rows.y, **rows.known
            )
            return np.asarray(found)

        return np.maximum(2 * loglik(0.0) - loglik(step) - loglik(-step), 0.0) / step**2


def correlated_caveats(fit: Fit, random: RandomDesign) -> tuple[str, ...]:
    """Why a report on correlated residuals or groups has no reliabilities."""
    if fit.spec.covariances:
        return (
            f"Groups of {listed(fit.spec.covariances)} are correlated, so each group's estimate "
            "also has what others' data say of it: reliability, which is the share that its own "
            "data resolve, is left out.",
        )
    if fit.design.series is None or Information.of(fit, random).is_known:
        return ()
    return (
        f"Residuals are correlated ({fit.spec.residual}) across groups of {random.name} or those "
        "inside it: what a group's own data resolve is not told apart, and reliability is left "
        "out.",
    )


def _around(inner: Groups, outer: Groups) -> Integers:
    """The outer group that each inner one lies in; one of them where there are several."""
    found = np.zeros(len(inner.labels), dtype=np.intp)
    found[inner.index] = outer.index
    return found


def _first(fit: Fit) -> str:
    return fit.design.family.parameters[0].name
