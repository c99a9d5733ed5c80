r"""Classical analysis of variance of repeated measurements: F tests, sphericity, corrections.

With orthonormal contrasts C of the m visits (:math:`C'1 = 0`), :math:`T = YC` and E the residual
cross-products of T within groups, a hypothesis with cross-products H has
:math:`F = \{\mathrm{tr} H / (p q)\} / \{\mathrm{tr} E / (p f)\}`, p = m - 1, q degrees of freedom
of the hypothesis and f of the residual; F has p q and p f degrees of freedom where :math:`C' V C`
is a multiple of the identity (sphericity), and both times epsilon elsewhere (Box 1954).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2
from scipy.stats import f as f_distribution

type Floats = NDArray[np.float64]


def contrasts(visits: int) -> Floats:
    """Orthonormal contrasts (Helmert's), shape (visits, visits - 1)."""
    raw = np.triu(np.ones((visits, visits)))[:, :-1].T - np.diag(np.arange(1, visits), 1)[:-1]
    return np.asarray((raw / np.linalg.norm(raw, axis=1)[:, None]).T)


def epsilon(V: Floats) -> Floats:
    """Box's epsilon of covariances (..., visits, visits): 1 under sphericity, at least 1/(m-1)."""
    C = contrasts(V.shape[-1])
    inner = C.T @ V @ C
    squares = (inner**2).sum(axis=(-2, -1))
    return np.asarray(np.trace(inner, axis1=-2, axis2=-1) ** 2 / (C.shape[1] * squares))


@dataclass(frozen=True)
class RepeatedAnova:
    """An analysis of complete subjects.

    Parameters
    ----------
    y : array, shape (subjects, visits)
    groups : array of int, shape (subjects,)
        The between-subject factor from 0; all 0 without one.
    """

    y: Floats
    groups: NDArray[np.intp]

    @property
    def p(self) -> int:
        """Number of contrasts."""
        return int(self.y.shape[1]) - 1

    @property
    def degrees(self) -> int:
        """Subjects less groups."""
        return len(self.y) - int(self.groups.max()) - 1

    @cached_property
    def _cross(self) -> tuple[Floats, Floats, Floats]:
        """Cross-products of the overall mean, between groups, and within them."""
        T = self.y @ contrasts(self.y.shape[1])
        counts = np.bincount(self.groups)
        means = np.array([T[self.groups == g].mean(axis=0) for g in range(len(counts))])
        overall, within = T.mean(axis=0), T - means[self.groups]
        between = means - overall
        return (
            len(T) * np.outer(overall, overall),
            (between * counts[:, None]).T @ between,
            within.T @ within,
        )

    @property
    def error(self) -> float:
        """Mean square within subjects: half the variance of a difference under sphericity."""
        return float(np.trace(self._cross[2]) / (self.p * self.degrees))

    @property
    def greenhouse_geisser(self) -> float:
        """Epsilon of the observed covariance (Greenhouse & Geisser 1959)."""
        E = self._cross[2]
        return float(np.trace(E) ** 2 / (self.p * (E**2).sum()))

    @property
    def huynh_feldt(self) -> float:
        """Less biased, at most 1 (Huynh & Feldt 1976, as corrected by Lecoutre 1991)."""
        gg, f, p = self.greenhouse_geisser, self.degrees, self.p
        return min(1.0, ((f + 1) * p * gg - 2) / (p * (f - p * gg)))

    @property
    def mauchly(self) -> tuple[float, float]:
        """Mauchly's W and the probability of a smaller one under sphericity."""
        E, p, f = self._cross[2], self.p, self.degrees
        log_w = np.linalg.slogdet(E)[1] - p * np.log(np.trace(E) / p)
        # The chi-squared approximation to second order (Box 1949; Anderson 2003, 10.7.4).
        rho = 1 - (2 * p**2 + p + 2) / (6 * p * f)
        terms = (p + 2) * (p - 1) * (p - 2) * (2 * p**3 + 6 * p**2 + 3 * p + 2)
        second = terms / (288 * (f * p * rho) ** 2)
        z, d = -f * rho * log_w, p * (p + 1) / 2 - 1
        if d <= 0:
            return 1.0, np.nan
        first = chi2.sf(z, d)
        return float(np.exp(log_w)), float(first + second * (chi2.sf(z, d + 4) - first))

    def test(self, between: bool, epsilon: float = 1.0) -> tuple[float, float, float, float]:
        """F, its two degrees of freedom and p, of the visits or of their interaction with groups.

        Parameters
        ----------
        between : bool
            Whether of the interaction.
        epsilon : float
            By which degrees of freedom are multiplied.
        """
        q = int(self.groups.max()) if between else 1
        F = float(np.trace(self._cross[between])) / (self.p * q) / self.error
        one, other = self.p * q * epsilon, self.p * self.degrees * epsilon
        return F, one, other, float(f_distribution.sf(F, one, other))
