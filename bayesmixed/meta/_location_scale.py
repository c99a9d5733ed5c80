r"""The posterior of a meta-analysis whose heterogeneity has a formula, on a lattice.

Given the coefficients of log tau the others integrate out in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bayesmixed.meta._lattice import Axes, Lattice, lattice
from bayesmixed.meta._mixture import NormalMixture
from bayesmixed.meta._nodes import quantile
from bayesmixed.meta._regression import Regression

type Floats = NDArray[np.float64]

_REACH = 25.0
_DRAWS, _SEED = 4000, 0


@dataclass(frozen=True, eq=False)
class LocationScale:
    """Posterior of the coefficients of the effects and of log tau.

    Parameters
    ----------
    regression : Regression
        The studies, moderators centred and scaled, with the coefficients' priors.
    raw : array, shape (terms, terms)
        From these coefficients to those on the raw scale.
    x : array, shape (terms,)
        Raw moderators at which the average effect is looked at.
    Z : array, shape (studies, scale terms)
        Moderators of log tau, centred and scaled.
    offset : array, shape (studies,)
        Of log tau.
    raw_scale : array, shape (scale terms, scale terms)
        As `raw`, of log tau.
    z : array, shape (scale terms,)
        Moderators of log tau, centred and scaled, at which tau is looked at.
    mean, precision : array, shape (scale terms,)
        Of the normal priors of the coefficients of log tau.
    """

    regression: Regression
    raw: Floats
    x: Floats
    Z: Floats
    offset: Floats
    raw_scale: Floats
    z: Floats
    mean: Floats
    precision: Floats

    def of(self, studies: NDArray[np.intp]) -> LocationScale:
        """The same model and priors for some of the studies."""
        return replace(
            self, regression=self.regression.of(studies), Z=self.Z[studies],
            offset=self.offset[studies],
        )  # fmt: skip

    @cached_property
    def lattice(self) -> Lattice:
        """Weights of the coefficients of log tau for centred and scaled moderators.

        Raises
        ------
        PriorError
            If the studies do not bound one of them.
        """
        known = self.precision > 0
        middle = np.where(known, self.mean, 0.0)
        if not known[0]:
            middle[0] = 0.5 * np.log(np.median(self.regression.v))
        half = np.where(known, 8 / np.sqrt(np.where(known, self.precision, 1.0)), _REACH)
        ends = np.stack([middle - half, middle + half], axis=-1)
        return lattice(self._log_density, ends, "the heterogeneity")

    @property
    def mu(self) -> Floats:
        """Mean, sd, median and 95 % equal-tailed interval of the average effect at `x`."""
        effect = self.effect
        quantiles = [effect.quantile(p)[0] for p in (0.5, 0.025, 0.975)]
        return np.array([effect.mean[0], effect.sd[0], *quantiles])

    @property
    def effect(self) -> NormalMixture:
        """The average effect at `x`."""
        kept = self.lattice.weights.ravel() > 1e-14
        share = self.lattice.weights.ravel()[kept]
        mean, covariance = self.given(self.lattice.points[kept])
        row = self.raw.T @ self.x
        sd = np.sqrt(np.einsum("i,nij,j->n", row, covariance, row))
        return NormalMixture(share / share.sum(), (mean @ row)[:, None], sd[:, None])

    @property
    def tau_median(self) -> float:
        """Median of tau at `z`."""
        middle = float(self.offset.mean())
        at, *others = np.flatnonzero(np.abs(self.z) > 1e-9).tolist()
        if not others:
            log_tau = self.z[at] * quantile(self.lattice.axes[at], self.lattice.margin(at), 0.5)
        else:
            drawn = self.lattice.sample(_DRAWS, np.random.default_rng(_SEED))
            log_tau = float(np.median(drawn @ self.z))
        return float(np.exp(log_tau + middle))

    def average(self, draws: int, rng: np.random.Generator) -> Floats:
        """Draws of the average effect, shape (draws,)."""
        return np.asarray(self.sample(draws, rng)[0] @ self.x)

    def sample(self, draws: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draws of raw coefficients of the effects, and of log tau; shape (draws, terms)."""
        alpha = self.lattice.sample(draws, rng)
        mean, covariance = self.given(alpha)
        z = rng.normal(size=mean.shape)
        beta = mean + np.einsum("dij,dj->di", np.linalg.cholesky(covariance), z)
        return beta @ self.raw.T, alpha @ self.raw_scale.T

    def given(self, alpha: Floats) -> tuple[Floats, Floats]:
        """Mean and covariance of the effects' coefficients, given those of log tau."""
        _, mean, covariance = self.regression.given(self._tau(alpha))
        return mean, covariance

    def _tau(self, alpha: Floats) -> Floats:
        return np.asarray(np.exp(np.clip(alpha @ self.Z.T + self.offset, -300, 300)))

    def _log_density(self, axes: Axes) -> Floats:
        count = len(axes)
        alpha = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, count)
        found = self.regression.given(self._tau(alpha))[0]
        found = found - 0.5 * ((alpha - self.mean) ** 2) @ self.precision
        return np.asarray(found.reshape([len(axis) for axis in axes]))
