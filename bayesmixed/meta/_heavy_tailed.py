r"""The posterior of a meta-analysis with Student's t between studies, on a lattice.

Every study's likelihood is an integral over one number. What is left are the coefficients, tau and
perhaps nu. Coefficients are standardised by what the normal model says of them for every tau, as
they are known the better the smaller tau is; the first direction is that of the average effect.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from bayesmixed.meta._densities import density
from bayesmixed.meta._heterogeneity import Density
from bayesmixed.meta._lattice import Axes, Lattice, lattice
from bayesmixed.meta._nodes import cdf, quantile
from bayesmixed.meta._positive import Positive
from bayesmixed.meta._reference_priors import ReferencePrior
from bayesmixed.meta._regression import Regression
from bayesmixed.meta._t_mixture import StudentTMixture
from bayesmixed.meta._t_nodes import log_likelihood
from bayesmixed.priors import Prior

type Floats = NDArray[np.float64]

#: Coefficients, tau and nu that a lattice may have.
MOST = 4
_REACH, _WIDE = 25.0, 60.0
_NU = (1e-3, 1e5)
_DRAWS, _SEED = 4000, 0


@dataclass(frozen=True, eq=False)
class HeavyTailed:
    """Posterior of coefficients, tau and nu.

    Parameters
    ----------
    regression : Regression
        The studies, moderators centred and scaled, with the coefficients' priors.
    raw : array, shape (terms, terms)
        From these coefficients to those on the raw scale.
    x : array, shape (terms,)
        Raw moderators at which the average effect is looked at.
    prior : Density
        Of tau.
    nu : Density or float
        Prior of the degrees of freedom, or these.
    """

    regression: Regression
    raw: Floats
    x: Floats
    prior: Density
    nu: Density | float

    def of(self, studies: NDArray[np.intp]) -> HeavyTailed:
        """The same model and priors for some of the studies."""
        return replace(self, regression=self.regression.of(studies))

    def with_prior(self, prior: Prior | Density | str) -> HeavyTailed:
        """The same studies with another prior of tau."""
        if isinstance(prior, str):
            prior = ReferencePrior(prior, tuple(np.sqrt(self.regression.v)))
        return replace(self, prior=density(prior))

    @cached_property
    def lattice(self) -> Lattice:
        """Weights of standardised coefficients, tau and, unless it is given, nu.

        Raises
        ------
        PriorError
            If the studies do not bound one of them.
        """
        s = np.sqrt(self.regression.v)
        spread = np.ptp(self.regression.y) + s.max()
        tau = Positive(self.prior).ends(s.min() * np.exp(-_REACH), spread * np.exp(_REACH / 2))
        ends = [(-_WIDE, _WIDE)] * len(self.raw) + [tau]
        ends += [] if self._nu is None else [self._nu.ends(*_NU)]
        return lattice(self._log_density, np.array(ends), "the average effect, tau or nu")

    @property
    def mu(self) -> Floats:
        """Mean, sd, median and 95 % equal-tailed interval of the average effect at `x`."""
        nodes, weights = self._average
        mean = float((weights * nodes).sum())
        sd = float((weights * (nodes - mean) ** 2).sum()) ** 0.5
        step = nodes[:, 1:2] - nodes[:, :1]
        ends = nodes.min() - step.max(), nodes.max() + step.max()

        def beyond(at: float, p: float) -> float:
            return cdf(nodes, step, weights, at) - p

        quantiles = [brentq(beyond, *ends, (p,), xtol=1e-10) for p in (0.5, 0.025, 0.975)]
        return np.array([mean, sd, *quantiles])

    def above(self, margin: float) -> float:
        """Probability of an average effect above `margin`."""
        nodes, weights = self._average
        return 1 - cdf(nodes, nodes[:, 1:2] - nodes[:, :1], weights, margin)

    @property
    def tau_median(self) -> float:
        """Median of the t's scale."""
        k = len(self.raw)
        at = quantile(self.lattice.axes[k], self.lattice.margin(k), 0.5)
        return float(Positive(self.prior).value(np.array(at)))

    @property
    def log_evidence(self) -> float:
        """Logarithm of the marginal likelihood."""
        return self.lattice.log_evidence

    @property
    def prediction(self) -> StudentTMixture:
        """Effect in a new study at `x`; its draws mixed."""
        beta, tau, nu = self.sample(_DRAWS, np.random.default_rng(_SEED))
        moments = self.nu if isinstance(self.nu, float) else 0.0
        return StudentTMixture(beta @ self.x, tau, nu, moments)

    def average(self, draws: int, rng: np.random.Generator) -> Floats:
        """Draws of the average effect, shape (draws,)."""
        return np.asarray(self.sample(draws, rng)[0] @ self.x)

    def sample(self, draws: int, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        """Draws of raw coefficients (draws, terms), tau and nu (draws,)."""
        return self.natural(self.lattice.sample(draws, rng))

    def natural(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        """Points of the lattice as raw coefficients, tau and nu."""
        k = len(self.raw)
        tau = Positive(self.prior).value(points[:, k])
        mean, factor = self._standard(tau)
        beta = mean + np.einsum("nij,nj->ni", factor, points[:, :k])
        nu = np.full(len(points), self.nu) if self._nu is None else self._nu.value(points[:, -1])
        return beta @ self.raw.T, tau, nu

    @property
    def _nu(self) -> Positive | None:
        return None if isinstance(self.nu, float) else Positive(self.nu)

    def _standard(self, tau: Floats) -> tuple[Floats, Floats]:
        """Location and factor of the coefficients for every tau.

        Of the factor's columns only the first moves the average effect.
        """
        direction = self.raw.T @ self.x
        basis, _ = np.linalg.qr(np.column_stack([direction, np.eye(len(direction))]))
        basis[:, 0] *= np.sign(basis[:, 0] @ direction)
        _, mean, covariance = self.regression.given(tau)
        return mean, basis @ np.linalg.cholesky(basis.T @ covariance @ basis)

    @property
    def _average(self) -> tuple[Floats, Floats]:
        """Nodes of the average effect and their weights, shape (taus, nodes)."""
        k = len(self.raw)
        others = tuple(j for j in range(len(self.lattice.axes)) if j not in (0, k))
        tau = Positive(self.prior).value(self.lattice.axes[k])
        mean, factor = self._standard(tau)
        row = self.raw.T @ self.x
        nodes = (mean @ row)[:, None] + (factor[:, :, 0] @ row)[:, None] * self.lattice.axes[0]
        return nodes, self.lattice.weights.sum(axis=others).T

    def _log_density(self, axes: Axes) -> Floats:
        k, one = len(self.raw), self.regression
        z = np.stack(np.meshgrid(*axes[:k], indexing="ij"), axis=-1).reshape(-1, k)
        tau = Positive(self.prior).value(axes[k])
        nu = np.array([self.nu]) if self._nu is None else self._nu.value(axes[-1])
        mean, factor = self._standard(tau)
        found = np.empty((len(z), len(tau), len(nu)))
        for j in range(len(tau)):
            beta = mean[j] + z @ factor[j].T
            found[:, j] = log_likelihood(one.y - beta @ one.X.T, np.sqrt(one.v), tau[j], nu)
            found[:, j] -= 0.5 * ((beta - one.mean) ** 2 @ one.precision)[:, None]
        found += (np.linalg.slogdet(factor)[1] + Positive(self.prior).log_prior(axes[k]))[:, None]
        if self._nu is not None:
            found += self._nu.log_prior(axes[-1])
        proper = one.precision[one.precision > 0]
        found += 0.5 * np.log(proper / (2 * np.pi)).sum()
        return found.reshape([len(axis) for axis in axes])
