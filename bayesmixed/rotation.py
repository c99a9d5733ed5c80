r"""A normal outcome in the directions in which a known covariance of groups is diagonal.

With one effect for each group, :math:`y = X\beta + Zu + e`, :math:`u \sim N(0, \sigma_u^2 K)`,
:math:`e \sim N(0, \sigma^2 I)` and :math:`D = Z'Z`, the rows of :math:`V'D^{-1/2}Z'` are
orthonormal for :math:`D^{1/2} K D^{1/2} = V \Lambda V'`. In these directions outcomes are
independent with variances :math:`\sigma_u^2\lambda_i + \sigma^2`, and in all that are orthogonal to
them with :math:`\sigma^2`. One decomposition, before anything is sampled, thus makes the likelihood
linear in the number of groups (Kang et al. 2008, Genetics 178:1709; Lippert et al. 2011, Nature
Methods 8:833).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesmixed.design import Design
from bayesmixed.predictor import RandomDesign

type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rotation:
    """A table of rows in these directions.

    Parameters
    ----------
    random : RandomDesign
        The grouping.
    values : array, shape (groups,)
        Eigenvalues.
    vectors : array, shape (groups, groups)
        Eigenvectors, in columns.
    scale : array, shape (groups,)
        Square root of the diagonal of D.
    X, y : array, shape (groups, terms) and (groups,)
        Population design and outcome, less the offset, in the directions of the groups.
    rest_X, rest_y : array, shape (terms + 1 or less, terms) and such
        What has the same sums of squares and products as all other directions.
    others : int
        Number of the other directions.
    """

    random: RandomDesign
    values: Floats
    vectors: Floats
    scale: Floats
    X: Floats
    y: Floats
    rest_X: Floats
    rest_y: Floats
    others: int

    @classmethod
    def of(cls, design: Design) -> Rotation:
        """Rotate the rows of a design for which `rotated` names a grouping."""
        random = rotated(design)
        assert random is not None
        predictor = design.predictors[design.family.parameters[0].name]
        index, z = random.groups.index, random.Z[:, 0]
        count = len(random.groups.labels)
        scale = np.sqrt(np.bincount(index, z**2, minlength=count))
        W = np.column_stack([predictor.X, design.y - predictor.offset])
        sums = np.stack([np.bincount(index, z * w, minlength=count) for w in W.T], axis=1)
        inside = sums / scale[:, None]
        assert random.between is not None
        assert random.between.known is not None
        values, vectors = np.linalg.eigh(scale[:, None] * random.between.known * scale)
        turned = vectors.T @ inside
        left = W - (z / scale[index])[:, None] * inside[index]
        R = np.linalg.qr(left, mode="r")
        others = len(W) - count
        R = R if others else R[:0]
        return cls(
            random,
            np.maximum(values, 0.0),
            vectors,
            scale,
            turned[:, :-1],
            turned[:, -1],
            R[:, :-1],
            R[:, -1],
            others,
        )

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


def rotated(design: Design) -> RandomDesign | None:
    """The grouping of a normal outcome whose known covariance can be made diagonal, if any.

    It is the only one, one effect varies, and residuals are independent with one sd.
    """
    spec, family = design.spec, design.family
    predictor = design.predictors[family.parameters[0].name]
    plain = spec.is_normal and family.working(2.0) == 2.0 and spec.residual is None
    if not plain or len(design.predictors) > 1 or design.sampling_sd is not None:
        return None
    if len(predictor.random) != 1 or design.whole is not None:
        return None
    (random,) = predictor.random
    between = random.between
    if between is None or between.known is None or between.mixed or random.size > 1:
        return None
    squares = np.bincount(random.groups.index, random.Z[:, 0] ** 2, len(random.groups.labels))
    return random if squares.min() > 0 else None
