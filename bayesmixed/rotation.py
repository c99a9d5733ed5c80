r"""A normal outcome in the directions in which a known covariance of groups is diagonal.

With one effect for each group, :math:`y = X\beta + Zu + e`, :math:`u \sim N(0, \sigma_u^2 K)`,
:math:`e \sim N(0, \sigma^2 I)` and :math:`D = Z'Z`, the rows of :math:`V'D^{-1/2}Z'` are
orthonormal for :math:`D^{1/2} K D^{1/2} = V \Lambda V'`. In these directions outcomes are
independent with variances :math:`\sigma_u^2\lambda_i + \sigma^2`, and in all that are orthogonal to
them with :math:`\sigma^2`. One decomposition, before anything is sampled, thus makes the likelihood
linear in the number of groups (Kang et al. 2008, Genetics 178:1709; Lippert et al. 2011, Nature
Methods 8:833). Effects of other groupings are part of the mean, and sampled.

Where independent effects :math:`p` of the same groups stand beside these (the permanent
environment of an animal with several records), the sums :math:`t = u + p`, with covariance
:math:`\sigma_u^2 K + \sigma_p^2 I`, are sampled in the directions in which K is diagonal, about the
mean and with the variance that they would have if all groups had the same number of rows;
:math:`u` is integrated out and drawn given :math:`t`, direction by direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bayesmixed.design import Design
from bayesmixed.groups import parents
from bayesmixed.predictor import RandomDesign

type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rotation:
    """A table of rows in these directions.

    Parameters
    ----------
    random : RandomDesign
        The grouping.
    beside : tuple of RandomDesign
        The other groupings, whose effects are sampled.
    values : array, shape (groups,)
        Eigenvalues.
    vectors : array, shape (groups, groups)
        Eigenvectors, in columns.
    scale : array, shape (groups,)
        Square root of the diagonal of D.
    X, y : array, shape (groups, terms) and (groups,)
        Population design and outcome, less the offset, in the directions of the groups.
    Z : tuple of sparse matrix, shape (groups, groups of the other grouping * effects)
        The same for each of the other groupings, but group by group; `way` takes it further.
    way : array, shape (groups, groups)
        From sums over the rows of a group, over the root of their number, to the directions.
    rest_X, rest_y : array, shape (terms + 1 or less, terms) and such
        What has the same sums of squares and products as all other directions; beside other
        groupings the rows less their part in the directions of the groups.
    others : int
        Number of the other directions.
    """

    random: RandomDesign
    beside: tuple[RandomDesign, ...]
    values: Floats
    vectors: Floats
    scale: Floats
    X: Floats
    y: Floats
    Z: tuple[csr_array, ...]
    way: Floats
    rest_X: Floats
    rest_y: Floats
    others: int

    @classmethod
    def of(cls, design: Design) -> Rotation:
        """Rotate the rows of a design for which `rotated` names a grouping."""
        random = rotated(design)
        assert random is not None
        assert random.between is not None
        assert random.between.known is not None
        scale, inside, rest = _split(design, random)
        values, vectors = np.linalg.eigh(scale[:, None] * random.between.known * scale)
        beside = tuple(r for r in _randoms(design) if r is not random)
        return cls(**_turned(random, beside, (values, vectors), scale, vectors.T, inside, rest))

    def draw(self, off: Floats, sd: Floats, sigma: Floats, rng: np.random.Generator) -> Floats:
        """Effects given all else, shape (draws, groups).

        Parameters
        ----------
        off : array, shape (draws, groups)
            Outcomes less what the population part foretells, in the directions of the groups.
        sd, sigma : array, shape (draws,)
        rng : numpy.random.Generator
        """
        spread, noise = sd[:, None] ** 2 * self.values, sigma[:, None] ** 2
        share = spread / (spread + noise)
        z = rng.standard_normal(off.shape)
        return np.asarray((share * off + np.sqrt(share * noise) * z) @ self.vectors.T / self.scale)


@dataclass(frozen=True, eq=False)
class Sums(Rotation):
    """The same where independent effects of the same groups are added, and sums sampled.

    Values and vectors are those of K, and `X`, `y` and `Z` are the groups' means in these
    directions, times the mean number of rows.

    Parameters
    ----------
    twin : RandomDesign
        The grouping of the independent effects.
    place : array of int, shape (groups,)
        Each group's place among those of `twin`.
    inside_X, inside_y : array, shape (groups, terms) and (groups,)
        Population design and outcome group by group, as sums over the root of their number.
    """

    twin: RandomDesign
    place: NDArray[np.intp]
    inside_X: Floats
    inside_y: Floats

    @classmethod
    def of(cls, design: Design) -> Sums:
        """Rotate the rows of a design for which `twin` names a grouping."""
        random, other = rotated(design), twin(design)
        assert random is not None
        assert random.between is not None
        assert other is not None
        scale, inside, rest = _split(design, random)
        spectrum = random.between.spectrum
        beside = tuple(r for r in _randoms(design) if r is not random and r is not other)
        # Of the groups' means, not sums: who shifts all outcomes then shifts all sums alike.
        way = (scale**2).mean() * spectrum[1].T / scale
        place = other.groups.index[random.first]
        return cls(
            **_turned(random, beside, spectrum, scale, way, inside, rest),
            twin=other,
            place=np.asarray(place, dtype=np.intp),
            inside_X=inside[:, :-1],
            inside_y=inside[:, -1],
        )

    @property
    def typical(self) -> float:
        """The mean number of rows of a group."""
        return float((self.scale**2).mean())

    def divide(
        self, x: Floats, sd: Floats, other: Floats, rng: np.random.Generator
    ) -> tuple[Floats, Floats]:
        """Effects of both groupings given their sums, each of shape (draws, groups).

        Parameters
        ----------
        x : array, shape (draws, groups)
            Sums in the directions in which K is diagonal.
        sd, other : array, shape (draws,)
            Of the effects with the known covariance, and of the independent ones.
        rng : numpy.random.Generator
        """
        known, free = sd[:, None] ** 2 * self.values, other[:, None] ** 2
        share = known / (known + free)
        own = share * x + np.sqrt(share * free) * rng.standard_normal(x.shape)
        found = np.empty_like(x)
        found[:, self.place] = (x - own) @ self.vectors.T
        return np.asarray(own @ self.vectors.T), found


def _randoms(design: Design) -> tuple[RandomDesign, ...]:
    return design.predictors[design.family.parameters[0].name].random


def _split(design: Design, random: RandomDesign) -> tuple[Floats, Floats, Floats]:
    """Root of D, and X and the outcome as Z' of them over this, and what rows have besides."""
    predictor = design.predictors[design.family.parameters[0].name]
    index, z, count = random.groups.index, random.Z[:, 0], len(random.groups.labels)
    scale = np.sqrt(np.bincount(index, z**2, minlength=count))
    W = np.column_stack([predictor.X, design.y - predictor.offset])
    sums = np.stack([np.bincount(index, z * w, minlength=count) for w in W.T], axis=1)
    inside = sums / scale[:, None]
    return scale, inside, W - (z / scale[index])[:, None] * inside[index]


def _turned(
    random: RandomDesign,
    beside: tuple[RandomDesign, ...],
    spectrum: tuple[Floats, Floats],
    scale: Floats,
    way: Floats,
    inside: Floats,
    rest: Floats,
) -> dict[str, Any]:
    """What a `Rotation` consists of, with the way from groups to directions."""
    values, vectors = spectrum
    turned, others = way @ inside, len(rest) - len(inside)
    if not beside:
        rest = np.linalg.qr(rest, mode="r") if others else rest[:0]
    return {
        "random": random,
        "beside": beside,
        "values": np.maximum(values, 0.0),
        "vectors": vectors,
        "scale": scale,
        "X": turned[:, :-1],
        "y": turned[:, -1],
        "Z": tuple(_sums(random, r, scale) for r in beside),
        "way": way,
        "rest_X": rest[:, :-1],
        "rest_y": rest[:, -1],
        "others": others,
    }


def _sums(random: RandomDesign, other: RandomDesign, scale: Floats) -> csr_array:
    """Z' of one grouping times Z of another, over the root of the groups' numbers of rows."""
    index, size = random.groups.index, other.size
    values = (random.Z / scale[index, None] * other.Z).ravel()
    columns = (other.groups.index[:, None] * size + np.arange(size)).ravel()
    shape = (len(scale), len(other.groups.labels) * size)
    return csr_array((values, (np.repeat(index, size), columns)), shape=shape)


def rotated(design: Design) -> RandomDesign | None:
    """The grouping of a normal outcome whose known covariance can be made diagonal, if any.

    One effect varies between its groups, and residuals are independent with one sd. Of several
    such groupings it is the one with the most groups.
    """
    spec, family = design.spec, design.family
    predictor = design.predictors[family.parameters[0].name]
    plain = spec.is_normal and family.working(2.0) == 2.0 and spec.residual is None
    if not plain or len(design.predictors) > 1 or design.sampling_sd is not None:
        return None
    if design.whole is not None:
        return None
    fitting = [random for random in predictor.random if _is_diagonal(random)]
    return max(fitting, key=lambda r: len(r.groups.labels), default=None)


def twin(design: Design) -> RandomDesign | None:
    """The grouping with independent effects of the same groups as `rotated`, if any."""
    random = rotated(design)
    if random is None:
        return None
    for other in _randoms(design):
        alike = other.between is None and other.size == 1 and np.array_equal(other.Z, random.Z)
        if alike and len(other.groups.labels) == len(random.groups.labels):
            within = parents(random.groups.index, other.groups.index)
            if within is not None:
                return other
    return None


def _is_diagonal(random: RandomDesign) -> bool:
    between = random.between
    if between is None or between.known is None or between.mixed or random.size > 1:
        return False
    squares = np.bincount(random.groups.index, random.Z[:, 0] ** 2, len(random.groups.labels))
    return bool(squares.min() > 0)
