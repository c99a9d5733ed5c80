r"""Two outcomes of the same studies: the posterior on a grid of the covariance between studies.

Given both heterogeneities and their correlation everything is normal, so that three numbers are
left, on equally spaced nodes of log tau, log tau and Fisher's z of the correlation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesmixed.meta._heterogeneity import Density
from bayesmixed.meta._nodes import quantile

type Floats = NDArray[np.float64]

_COARSE, _FINE, _CORRELATION = 15, 44, 41
_NEGLIGIBLE, _REACH = 12.0, 14.0
_WIDEST = 6.0


@dataclass(frozen=True, eq=False)
class Pairs:
    """Studies with two outcomes, one of which may be missing.

    Parameters
    ----------
    y : array, shape (studies, 2)
        Effects; 0 where missing.
    V : array, shape (studies, 2, 2)
        Sampling covariances; those of missing effects are not used.
    seen : array of bool, shape (studies, 2)
    scale : array, shape (2,)
        Sd of the normal priors about 0 of the average effects; infinite for flat ones.
    tau : tuple of Density
        Priors of the two sds between studies.
    eta : float
        Of the LKJ prior of their correlation.
    """

    y: Floats
    V: Floats
    seen: NDArray[np.bool_]
    scale: Floats
    tau: tuple[Density, Density]
    eta: float

    def given(self, tau: Floats, rho: Floats) -> tuple[Floats, Floats, Floats]:
        """Log-likelihood, and mean and covariance of the average effects.

        Parameters
        ----------
        tau : array, shape (nodes, 2)
        rho : array, shape (nodes,)
        """
        both = self.seen.all(axis=1)
        # A missing effect is one of variance 1 about 0, which multiplies by a constant.
        a = np.where(self.seen[:, 0], self.V[:, 0, 0] + tau[:, :1] ** 2, 1.0)
        b = np.where(self.seen[:, 1], self.V[:, 1, 1] + tau[:, 1:] ** 2, 1.0)
        c = np.where(both, self.V[:, 0, 1] + (rho * tau[:, 0] * tau[:, 1])[:, None], 0.0)
        determinant = a * b - c**2
        w11, w22 = b / determinant * self.seen[:, 0], a / determinant * self.seen[:, 1]
        w12 = -c / determinant
        y1, y2 = self.y.T
        squares = (w11 * y1**2 + 2 * w12 * y1 * y2 + w22 * y2**2).sum(axis=1)
        precision = self.scale**-2.0
        information = np.empty((len(rho), 2, 2))
        information[:, 0, 0] = w11.sum(axis=1) + precision[0]
        information[:, 1, 1] = w22.sum(axis=1) + precision[1]
        information[:, 0, 1] = information[:, 1, 0] = w12.sum(axis=1)
        right = np.stack(
            [(w11 * y1 + w12 * y2).sum(axis=1), (w12 * y1 + w22 * y2).sum(axis=1)], axis=1
        )
        covariance = np.linalg.inv(information)
        mean = np.einsum("nij,nj->ni", covariance, right)
        fit = np.einsum("ni,ni->n", right, mean)
        proper = precision > 0
        constant = np.log(precision[proper]).sum() - np.log(2 * np.pi) * (
            self.seen.sum() - (~proper).sum()
        )
        logs = np.log(determinant).sum(axis=1) + np.linalg.slogdet(information)[1]
        return 0.5 * (constant - logs - squares + fit), mean, covariance

    def log_prior(self, x: Floats, z: Floats) -> Floats:
        """Of log tau, shape (nodes, 2), and Fisher's z of the correlation, up to a constant."""
        tau = np.exp(x)
        with np.errstate(divide="ignore"):
            found = sum(np.asarray(p.logpdf(tau[:, j])) + x[:, j] for j, p in enumerate(self.tau))
        # (1 - rho^2)^(eta - 1) times the Jacobian 1 - rho^2.
        return np.asarray(found - 2 * self.eta * np.log(np.cosh(z)))


@dataclass(frozen=True, eq=False)
class Nodes:
    """The posterior on the grid.

    Parameters
    ----------
    x1, x2, z : array
        Equally spaced nodes of the two log tau and of Fisher's z.
    weights : array, shape (x1, x2, z)
        Adding up to 1.
    means : array, shape (x1 * x2 * z, 2)
    covariances : array, shape (x1 * x2 * z, 2, 2)
    """

    x1: Floats
    x2: Floats
    z: Floats
    weights: Floats
    means: Floats
    covariances: Floats


def nodes_of(pairs: Pairs) -> Nodes:
    """Find the part of the grid that carries the posterior, and evaluate it there."""
    sizes = np.sqrt(pairs.V[:, [0, 1], [0, 1]][pairs.seen])
    spread = sizes.max() + np.ptp(pairs.y[pairs.seen])
    low = np.full(2, np.log(sizes.min()) - _REACH)
    high = np.full(2, np.log(spread) + _REACH / 2)
    z_ends = np.array([-_WIDEST, _WIDEST])
    for _ in range(8):
        axes = [np.linspace(low[j], high[j], _COARSE) for j in range(2)]
        axes.append(np.linspace(z_ends[0], z_ends[1], _COARSE))
        values = _evaluate(pairs, axes)[0]
        new = []
        for j, axis in enumerate(axes):
            most = values.max(axis=tuple(k for k in range(3) if k != j))
            kept = np.flatnonzero(most > most.max() - _NEGLIGIBLE)
            new.append((axis[max(kept[0] - 1, 0)], axis[min(kept[-1] + 1, _COARSE - 1)]))
        ends = np.array(new)
        old = np.array([[low[0], high[0]], [low[1], high[1]], z_ends])
        narrower = (np.ptp(ends, axis=1) / np.ptp(old, axis=1)).max()
        low, high, z_ends = ends[:2, 0], ends[:2, 1], ends[2]
        if narrower > 0.8:
            break
    axes = [np.linspace(low[j], high[j], _FINE) for j in range(2)]
    axes.append(np.linspace(z_ends[0], z_ends[1], _CORRELATION))
    values, means, covariances = _evaluate(pairs, axes)
    shares = np.exp(values - values.max())
    return Nodes(axes[0], axes[1], axes[2], shares / shares.sum(), means, covariances)


def _evaluate(pairs: Pairs, axes: list[Floats]) -> tuple[Floats, Floats, Floats]:
    """Log posterior on the grid, with the conditional moments of the average effects."""
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    step = max(1, 1_000_000 // len(pairs.y))
    logs, means, covariances = zip(
        *(
            pairs.given(np.exp(part[:, :2]), np.tanh(part[:, 2]))
            for part in (points[i : i + step] for i in range(0, len(points), step))
        ),
        strict=True,
    )
    values = np.concatenate(logs) + pairs.log_prior(points[:, :2], points[:, 2])
    shape = tuple(len(axis) for axis in axes)
    return values.reshape(shape), np.concatenate(means), np.concatenate(covariances)


def margin(
    nodes: Floats, weights: Floats, turn: Callable[[Any], Any], probs: tuple[float, ...]
) -> Floats:
    """Mean, sd and quantiles of a rising function of a number on equally spaced nodes."""
    values = turn(nodes)
    mean = float(weights @ values)
    sd = float(weights @ (values - mean) ** 2) ** 0.5
    return np.array([mean, sd, *(float(turn(quantile(nodes, weights, p))) for p in probs)])
