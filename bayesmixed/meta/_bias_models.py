r"""Ways in which published effects are a biased sample, each with its likelihood on a grid.

Effects are turned so that large positive ones are what is expected to be published. Every way has
nuisance parameters on nodes that integrate their prior exactly (Gauss rules), so that an average
over them is a weighted sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, roots_legendre, roots_sh_jacobi

type Floats = NDArray[np.float64]

# Nodes for each weight of a step function with so many of them.
_NODES = {1: 40, 2: 20, 3: 12}
_FEW = 5
_SLOPES = 128
# Products of so many probabilities do not underflow.
_FACTORS = 20


class Bias(Protocol):
    """What `_bias_grid` needs of a way to bias."""

    @property
    def name(self) -> str:
        """In words."""

    def nodes(self, coarse: bool) -> tuple[Floats, Floats]:
        """Nodes of the nuisance parameters, shape (nodes, parameters), and prior weights."""

    def log_likelihood(
        self, y: Floats, se: Floats, mu: Floats, tau: Floats, nuisance: Floats
    ) -> Floats:
        """Shape (nodes, mu, tau), for `mu` of shape (mu, tau): a grid for every tau."""


def _normal(y: Floats, se: Floats, mu: Floats, tau: Floats) -> Floats:
    """Log-likelihood without bias, shape (mu, tau), of effects (..., studies)."""
    total = se**2 + tau[:, None] ** 2
    weight = 1 / total
    constant = -0.5 * np.log(2 * np.pi * total).sum(axis=1)
    centre = (y * weight).sum(axis=-1) / weight.sum(axis=-1)
    spread = (weight * (y - centre[..., None]) ** 2).sum(axis=-1)
    away = weight.sum(axis=-1) * (mu - centre[..., None, :]) ** 2
    return np.asarray(constant - 0.5 * (spread[..., None, :] + away))


@dataclass(frozen=True)
class NoBias:
    """Every study is published."""

    name: str = "none"

    def nodes(self, coarse: bool) -> tuple[Floats, Floats]:
        """One node without parameters."""
        del coarse
        return np.zeros((1, 0)), np.ones(1)

    def log_likelihood(
        self, y: Floats, se: Floats, mu: Floats, tau: Floats, nuisance: Floats
    ) -> Floats:
        """That of independent normals."""
        del nuisance
        return _normal(y[None, None], se, mu, tau)


@dataclass(frozen=True)
class SmallStudy:
    r"""Small studies have larger effects: :math:`y_i \sim N(\mu + b s_i^q, s_i^2 + \tau^2)`.

    PET (Egger's regression) for q = 1, PEESE for q = 2 (Stanley & Doucouliagos 2014, Res. Synth.
    Methods 5:60), with :math:`b \sim` half-Cauchy(scale).
    """

    name: str
    power: int
    scale: float

    def nodes(self, coarse: bool) -> tuple[Floats, Floats]:
        """Quantiles of the half-Cauchy prior at the nodes of a Gauss rule."""
        x, w = roots_legendre(_SLOPES // 4 if coarse else _SLOPES)
        return self.scale * np.tan(np.pi / 4 * (1 + x))[:, None], w / 2

    def log_likelihood(
        self, y: Floats, se: Floats, mu: Floats, tau: Floats, nuisance: Floats
    ) -> Floats:
        """That of a regression."""
        return _normal((y - nuisance * se**self.power)[:, None], se, mu, tau)


@dataclass(frozen=True)
class Selection:
    r"""Results are published with a probability that is a step function of their p-value.

    .. math:: f(y_i) = \frac{\omega(p_i) N(y_i; \mu, s_i^2 + \tau^2)}
                            {\int \omega(p) N(y; \mu, s_i^2 + \tau^2) dy}

    (Hedges 1992, Stat. Sci. 7:246; Vevea & Hedges 1995, Psychometrika 60:419), relative to the
    most significant results, and falling: a cumulative sum of Dirichlet(1, ..., 1) shares.
    """

    sides: int
    cuts: tuple[float, ...]

    @property
    def name(self) -> str:
        """In words."""
        side = "one-sided" if self.sides == 1 else "two-sided"
        return f"selection, {side} p {', '.join(f'{c:g}' for c in self.cuts)}"

    def nodes(self, coarse: bool) -> tuple[Floats, Floats]:
        """Relative probabilities of publication, the most significant first (1)."""
        count = len(self.cuts)
        omega, weight = np.ones((1, 1)), np.ones(1)
        for j in range(count):
            # Of ordered uniform numbers each is the one above times a Beta(left, 1) share.
            left = count - j
            # Nodes of its root lie closer near 0, where the likelihood changes most.
            root, w = roots_sh_jacobi(_FEW if coarse else _NODES.get(count, 8), 2 * left, 2 * left)
            t = root**2
            below = omega[:, None, -1:] * t[None, :, None]
            above = np.broadcast_to(omega[:, None], (len(omega), len(t), j + 1))
            omega = np.concatenate([above, below], axis=2).reshape(-1, j + 2)
            weight = np.outer(weight, w / w.sum()).reshape(-1)
        return omega, weight

    def steps(self, y: Floats, se: Floats) -> NDArray[np.intp]:
        """Which weight each result has."""
        z = y / se if self.sides == 1 else np.abs(y / se)
        return np.asarray((z[:, None] < self._z).sum(axis=1))

    @property
    def _z(self) -> Floats:
        return np.asarray(-ndtri(np.array(self.cuts) / self.sides))

    def log_likelihood(
        self, y: Floats, se: Floats, mu: Floats, tau: Floats, nuisance: Floats
    ) -> Floats:
        """Weighted normals over their integrals."""
        counts = np.bincount(self.steps(y, se), minlength=len(self.cuts) + 1)
        chosen = np.log(nuisance) @ counts
        # Rounding makes nothing of weights whose steps are empty; of no node is any 0.
        found = np.zeros((len(nuisance), mu.size))
        product = np.ones_like(found)
        for i, s in enumerate(se):
            product *= nuisance @ self._shares(s, mu, tau)
            if i % _FACTORS == _FACTORS - 1:
                found -= np.log(product)
                product[:] = 1
        found -= np.log(product)
        return (
            chosen[:, None, None]
            + found.reshape(-1, *mu.shape)
            + _normal(y[None, None], se, mu, tau)
        )

    def _shares(self, se: float, mu: Floats, tau: Floats) -> Floats:
        """Probability of each step, shape (steps, mu x tau)."""
        total = np.sqrt(se**2 + tau**2)
        above = ndtr((mu - self._z[:, None, None] * se) / total)
        if self.sides == 2:
            above = above + ndtr((-mu - self._z[:, None, None] * se) / total)
        edges = np.concatenate([np.zeros_like(above[:1]), above, np.ones_like(above[:1])])
        return np.asarray(np.diff(edges, axis=0).reshape(len(self.cuts) + 1, -1))


def default_biases(unit: float) -> tuple[tuple[Bias, float], ...]:
    """The models of RoBMA-PSMA with their prior probabilities.

    Bartoš, Maier, Wagenmakers, Doucouliagos & Stanley (2022), Res. Synth. Methods 14:99, Table 1:
    half for no bias, a quarter in six weight functions, an eighth each for PET and PEESE.

    Parameters
    ----------
    unit : float
        The unit-information sd; 2 for standardised mean differences, for which the scale of
        PEESE's coefficient is 5.
    """
    steps: Sequence[tuple[int, tuple[float, ...]]] = (
        (2, (0.05,)),
        (2, (0.05, 0.10)),
        (1, (0.05,)),
        (1, (0.025, 0.05)),
        (1, (0.05, 0.5)),
        (1, (0.025, 0.05, 0.5)),
    )
    selections = tuple((Selection(s, cuts), 0.25 / len(steps)) for s, cuts in steps)
    return (
        (NoBias(), 0.5),
        *selections,
        (SmallStudy("PET", 1, 1.0), 0.125),
        (SmallStudy("PEESE", 2, 10.0 / unit), 0.125),
    )
