r"""Likelihood of a whole group's rows in every draw, its effects integrated out.

Leaving a group out says how well a model foretells a new group, so the group's own effects, and
those of whatever lies inside it, must not be known: they are averaged over the population,
:math:`p(y_j \mid \theta) = \int p(y_j \mid u, \theta)\, \mathrm N(u; 0, G)\, du` (Merkle, Furr &
Rabe-Hesketh 2019, Psychometrika 84:802). Normal outcomes have a closed form. Elsewhere the integral
is worked out level by level, from the inside out, with nodes about each group's own mode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, lookup
from bayesmixed.adaptive_quadrature import log_average
from bayesmixed.conditional import square_root
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.groups import Groups, parents
from bayesmixed.linpred import covariance, linear_predictor
from bayesmixed.names import suffix
from bayesmixed.places import Places
from bayesmixed.process_likelihood import series_likelihood
from bayesmixed.quadrature import fine_enough
from bayesmixed.rows import alike, take
from bayesmixed.subjects import Normal, need_apart, unit_rows, units, within

type Floats = NDArray[np.float64]
type Integers = NDArray[np.intp]

_MOST_EFFECTS = 3
INSTEAD = (
    "residual_correlation(fit) shows how its structure fits; or model the rows without residual=."
)
"""What to do where the likelihood of rows is asked for and they are not independent."""
# Draws x rows worked on at a time: what a processor's cache holds.
_AT_ONCE = 200_000
_PROBES = 6
_TOLERANCE = 1e-7


def group_log_likelihood(fit: Fit, group: str | Groups, rows: Design | None = None) -> xr.DataArray:
    """Log-likelihood of each group's rows, with its effects and those inside it integrated out.

    Effects of groupings that lie around the group, or cross it, keep their values in the draw.

    Parameters
    ----------
    fit : Fit
        The posterior.
    group : str or Groups
        A grouping of the fit, whose rows make a series of correlated residuals (such as the
        patient), or any groups of its rows.
    rows : Design, optional
        Rows with outcomes, whose groups need not be in the fit; those of the fit unless given.
        With correlated residuals their table has the columns with subject and time.

    Returns
    -------
    DataArray (chain, draw, <group>)
        Exact for a normal outcome with an identity link; otherwise to about 1e-7 of its size, but
        with a process, which is integrated out by importance sampling (see `group_likelihood`).

    Raises
    ------
    UnknownNameError
        If there is no such grouping.
    BayesmixedError
        If the groupings inside it cross one another, an integral has more than 3 dimensions, or
        a series of correlated residuals or of a process lies in several groups.
    """
    found: xr.DataArray = group_likelihood(fit, group, rows)["log_likelihood"]
    return found


def group_likelihood(fit: Fit, group: str | Groups, rows: Design | None = None) -> xr.Dataset:
    """Log-likelihood of each group's rows, and where it is estimated its Monte Carlo error.

    Returns
    -------
    Dataset
        ``log_likelihood``, as `group_log_likelihood` gives it, and with a process ``mcse``.
    """
    related = [r for p in fit.design.predictors.values() for r in p.random if r.between]
    if related:
        groups = (
            group if isinstance(group, Groups) else lookup(units(fit.design), group, "grouping")
        )
        need_apart(fit.design, groups, "The likelihood of a group without its effects", "unit")
        return series_likelihood(fit, groups, fit.design if rows is None else rows)
    return xr.Dataset({"log_likelihood": _of_independent(fit, group, rows)})


def _of_independent(fit: Fit, group: str | Groups, rows: Design | None) -> xr.DataArray:
    """The likelihood of groups that are independent of each other, as are those inside them."""
    if fit.design.series is not None:
        return _of_series(fit, group, fit.design if rows is None else rows)
    chain = _chain(fit.design, group)
    design = fit.design if rows is None else rows
    if rows is not None:
        chain = tuple(Groups.of(g.grouping, rows.table.frame) for g in chain)
    # Equal rows count as one to a power; the distinct ones are sorted by group.
    like = alike(design, first=[g.index for g in chain], outcome=True)
    inside_out = take(design, like.first)
    counts = np.bincount(like.index).astype(np.float64)
    indices = {g.name: _numbered(g.index[like.first]) for g in chain}
    parts = []
    for piece in fit.pieces(len(like)):
        integral = _integral(piece, inside_out, counts, indices)
        step = integral.fine_step()
        found = np.concatenate([cut.value(step) for cut in integral.cuts()])
        sizes = piece.posterior.sizes
        parts.append(found.reshape((sizes["chain"], sizes["draw"], -1)))
    name = chain[0].name
    return xr.DataArray(
        np.concatenate(parts, axis=1),
        dims=("chain", "draw", name),
        coords={name: chain[0].labels},
    )


def _of_series(fit: Fit, group: str | Groups, rows: Design) -> xr.DataArray:
    """The likelihood of groups that hold whole series of correlated residuals."""
    groups = group if isinstance(group, Groups) else lookup(units(fit.design), group, "grouping")
    inside = within(fit.design, groups.index)
    series, frame = fit.design.series, rows.table.frame
    assert series is not None
    if rows is not fit.design:
        groups = Groups.of(groups.grouping, frame)
    places = Places.of(series, frame)
    members = unit_rows(series, places, groups)
    parts = []
    for piece in Fit(rows, fit.tree).pieces():
        one = Fit(fit.design, piece.tree)
        found = Normal(one, rows, places, inside).log_likelihood(members)
        sizes = one.posterior.sizes
        parts.append(found.reshape((sizes["chain"], sizes["draw"], -1)))
    return xr.DataArray(
        np.concatenate(parts, axis=1),
        dims=("chain", "draw", groups.name),
        coords={groups.name: groups.labels},
    )


def need_independent(design: Design, what: str, instead: str) -> None:
    """Refuse what takes rows that are independent given the groups' effects, saying what to do.

    Raises
    ------
    BayesmixedError
        If residuals are correlated.
    """
    if design.series is not None:
        raise BayesmixedError(
            f"{what} takes rows that are independent given the groups' effects, but this model has "
            f"correlated residuals ({design.spec.residual}). {instead}"
        )


def _chain(design: Design, group: str | Groups) -> tuple[Groups, ...]:
    """The groups and those inside them, from the outside in."""
    every = {g.name: g for g in design.groups}
    outer = group if isinstance(group, Groups) else lookup(every, group, "grouping")
    inside = [
        g
        for g in design.groups
        if g.name != outer.name and parents(g.index, outer.index) is not None
    ]
    chain = (outer, *sorted(inside, key=lambda g: len(g.labels)))
    for around, inner in pairwise(chain):
        if parents(inner.index, around.index) is None:
            raise BayesmixedError(
                f"{around.name!r} and {inner.name!r} cross each other inside {outer.name!r}, so "
                "their effects cannot be integrated out one after the other. Leave out groups of "
                f"{around.name!r} or {inner.name!r} instead."
            )
    return chain


@dataclass(frozen=True)
class _Level:
    """Effects to integrate out of one grouping, for rows that are sorted by group.

    Parameters
    ----------
    index : array of int, shape (rows,)
        Each row's group.
    starts : array of int, shape (groups,)
        Where each group begins among the groups of the next level, or among the rows.
    parts : mapping of str to tuple of array
        By parameter of the family: Z of shape (rows, effects), and a root of G, shape
        (draws, effects, effects), that takes standard normal variables to effects.
    """

    index: Integers
    starts: Integers
    parts: Mapping[str, tuple[Floats, Floats]]

    @property
    def size(self) -> int:
        return sum(Z.shape[1] for Z, _ in self.parts.values())

    def moved(self, eta: Mapping[str, Floats], z: Floats) -> dict[str, Floats]:
        """The predictors with the groups' effects, standardised in z (draws, groups, size)."""
        found, first = dict(eta), 0
        for name, (Z, root) in self.parts.items():
            u = np.einsum("sgk,sjk->sgj", z[..., first : first + Z.shape[1]], root)
            first += Z.shape[1]
            for k in range(Z.shape[1]):
                found[name] = found[name] + u[:, self.index, k] * Z[:, k]
        return found

    def only(self, *names: str) -> _Level:
        return replace(self, parts={n: p for n, p in self.parts.items() if n in names})

    def at(self, draws: Any) -> _Level:
        parts = {n: (Z, root[draws]) for n, (Z, root) in self.parts.items()}
        return replace(self, parts=parts)


@dataclass(frozen=True)
class _Integral:
    """The likelihood of groups of rows, as an integral over the effects at every level.

    Parameters
    ----------
    design : Design
        The rows, sorted by group.
    counts : array, shape (rows,)
        How often each occurs.
    eta : mapping of str to array, shape (draws, rows) or (draws, 1)
        Predictors without the effects.
    levels : tuple of _Level
        From the outside in.
    modes : dict
        By depth, where the last integral had its modes, which is near those of the next.
    """

    design: Design
    counts: Floats
    eta: Mapping[str, Floats]
    levels: tuple[_Level, ...]
    modes: dict[int, Floats] = field(default_factory=dict)

    @property
    def draws(self) -> int:
        return max(len(v) for v in self.eta.values())

    @property
    def closed(self) -> bool:
        """Whether the first parameter's effects can be integrated in closed form."""
        first = self.design.family.parameters[0].name
        others = [set(level.parts) - {first} for level in self.levels[1:]]
        return self.design.spec.is_exact and not any(others)

    def at(self, draws: Any) -> _Integral:
        eta = {n: v[draws] if len(v) > 1 else v for n, v in self.eta.items()}
        levels = tuple(level.at(draws) for level in self.levels)
        return _Integral(self.design, self.counts, eta, levels)

    def cuts(self) -> list[_Integral]:
        size = max(1, _AT_ONCE // len(self.design.y))
        return [self.at(slice(i, i + size)) for i in range(0, self.draws, size)]

    def fine_step(self) -> float:
        """Distance of the nodes, from some draws and the one with the widest effects."""
        width = sum(
            (root**2).sum(axis=(1, 2)) for level in self.levels for _, root in level.parts.values()
        )
        some = np.linspace(0, self.draws - 1, _PROBES).astype(int)
        probe = self.at(np.unique([*some, int(np.argmax(width))]))
        return fine_enough(probe.value, _TOLERANCE)

    def value(self, step: float) -> Floats:
        """Log-likelihood of the outermost groups, shape (draws, groups)."""
        if not self.closed:
            return self._nested(0, self.eta, step)
        first = self.design.family.parameters[0].name
        outer = self.levels[0].only(*(set(self.levels[0].parts) - {first}))
        if not outer.parts:
            return self._normal(self.eta)
        return self._average(0, outer, lambda z: self._normal(outer.moved(self.eta, z)), step)

    def _nested(self, depth: int, eta: Mapping[str, Floats], step: float) -> Floats:
        """Log-likelihood of each group at a level, and of each row below the last."""
        if depth == len(self.levels):
            return self._rows(eta)
        level = self.levels[depth]

        def given(z: Floats) -> Floats:
            inner = self._nested(depth + 1, level.moved(eta, z), step)
            return np.add.reduceat(inner, level.starts, axis=1)

        if not level.parts:
            return given(np.zeros((self.draws, len(level.starts), 0)))
        return self._average(depth, level, given, step)

    def _average(
        self, depth: int, level: _Level, function: Callable[[Floats], Floats], step: float
    ) -> Floats:
        if level.size > _MOST_EFFECTS:
            raise BayesmixedError(
                f"A group has {level.size} effects of its own, and integrals over more than "
                f"{_MOST_EFFECTS} are not worked out. Use fewer effects, or leave out rows: "
                'unit="row".'
            )
        start = self.modes.get(depth)
        if start is None:
            start = np.zeros((self.draws, len(level.starts), level.size))
        found, self.modes[depth] = log_average(function, start, step)
        return found

    def _rows(self, eta: Mapping[str, Floats]) -> Floats:
        design = self.design
        found = design.family.evaluate(
            design.family.loglik, eta, design.links, y=design.y, **design.known
        )
        return np.asarray(found * self.counts, dtype=np.float64)

    def _normal(self, eta: Mapping[str, Floats]) -> Floats:
        r"""The closed form, :math:`\log\mathrm N(y; X\beta, ZGZ' + D)` by group.

        Level by level the effects are eliminated from the cross-products of
        :math:`D^{-1/2}[Z G^{1/2}, y - X\beta]`, so a group costs its rows and not their square.
        """
        design, first = self.design, self.design.family.parameters[0].name
        # A row that occurs n times is one with a standard deviation smaller by the root of n.
        sigma = design.links["sigma"].inverse(eta["sigma"]) / np.sqrt(self.counts)
        residual = (design.family.working(design.y) - eta[first]) / sigma
        columns = [
            np.einsum("nj,sjk->snk", *level.parts[first]) / sigma[..., None]
            for level in reversed(self.levels)
            if first in level.parts
        ]
        joined = np.concatenate([*columns, residual[..., None]], axis=-1)
        cross = np.einsum("sni,snj->snij", joined, joined)
        found = self._rows(eta) + 0.5 * residual**2
        for level in reversed(self.levels):
            cross = np.add.reduceat(cross, level.starts, axis=1)
            found = np.add.reduceat(found, level.starts, axis=1)
            if first in level.parts:
                size = level.parts[first][0].shape[1]
                A, B = np.eye(size) + cross[..., :size, :size], cross[..., :size, size:]
                cross = cross[..., size:, size:] - B.mT @ np.linalg.solve(A, B)
                found = found - 0.5 * np.linalg.slogdet(A)[1]
        return np.asarray(found - 0.5 * cross[..., 0, 0])


def _numbered(index: Integers) -> Integers:
    """Groups numbered in the order of sorted rows, in which each is in one piece."""
    return np.cumsum(np.diff(index, prepend=index[0]) != 0)


def _integral(
    fit: Fit, design: Design, counts: Floats, indices: Mapping[str, Integers]
) -> _Integral:
    """The integral for sorted rows, draws of all chains in one axis."""
    own = {g.name for g in fit.design.groups}
    average = linear_predictor(fit, design, {n: "average" for n in indices if n in own})
    eta = {name: _flat(values, fit) for name, values in average.centre.items()}
    inner = [*list(indices.values())[1:], np.arange(len(design.y))]
    levels = []
    for (name, index), below in zip(indices.items(), inner, strict=True):
        parts = {}
        for parameter, predictor in fit.design.predictors.items():
            for k, random in enumerate(predictor.random):
                if random.name == name:
                    G = covariance(fit, random, suffix(fit.design, parameter))
                    Z = design.predictors[parameter].random[k].Z
                    parts[parameter] = (Z, _flat(square_root(G), fit))
        # Rows are sorted, so a group begins where its first group of the next level does.
        firsts = np.searchsorted(index, np.arange(index[-1] + 1))
        levels.append(_Level(index, below[firsts], parts))
    return _Integral(design, counts, eta, tuple(levels))


def _flat(values: Floats, fit: Fit) -> Floats:
    """Chains and draws in one axis."""
    draws = (fit.posterior.sizes["chain"], fit.posterior.sizes["draw"])
    if values.shape[:2] != draws:
        return values.reshape((1, *values.shape[2:]))
    return values.reshape((-1, *values.shape[2:]))
