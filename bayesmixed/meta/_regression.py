"""Normal effects about a regression, given the heterogeneity: everything in closed form."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float64]

# Numbers that are worked on at once.
_CHUNK = 4_000_000


@dataclass(frozen=True, eq=False)
class Regression:
    r"""Studies with known sampling variances about a linear predictor with normal priors.

    Given :math:`\tau`, :math:`y_i \sim N(x_i'\beta, v_i + \tau^2)`.

    Parameters
    ----------
    y, v : array, shape (studies,)
        Effects and sampling variances.
    X : array, shape (studies, terms)
        Moderators.
    mean, precision : array, shape (terms,)
        Of the independent normal priors; precision 0 for a flat one.
    """

    y: Floats
    v: Floats
    X: Floats
    mean: Floats
    precision: Floats

    def given(self, tau: Floats) -> tuple[Floats, Floats, Floats]:
        r"""Log marginal likelihood, and mean and covariance of the coefficients, given tau.

        Parameters
        ----------
        tau : array, shape (nodes,) or (nodes, studies)
            The same for all studies, or each study's own.

        Returns
        -------
        log_likelihood : array, shape (nodes,)
            :math:`\log p(y \mid \tau)`; with flat priors their density is taken as 1.
        mean : array, shape (nodes, terms)
        covariance : array, shape (nodes, terms, terms)
        """
        step = max(1, _CHUNK // max(self.X.size, 1))
        parts = [self._given(tau[i : i + step]) for i in range(0, len(tau), step)]
        first, second, third = (np.concatenate(part) for part in zip(*parts, strict=True))
        return first, second, third

    def _given(self, tau: Floats) -> tuple[Floats, Floats, Floats]:
        studies, terms = self.X.shape
        total = self.v + (tau if tau.ndim == 2 else tau[:, None]) ** 2
        weight = 1 / total
        cross = (self.X[:, :, None] * self.X[:, None, :]).reshape(studies, -1)
        information = (weight @ cross).reshape(-1, terms, terms) + np.diag(self.precision)
        right = weight @ (self.X * self.y[:, None]) + self.precision * self.mean
        covariance = np.linalg.inv(information)
        mean = np.einsum("tij,tj->ti", covariance, right)
        # One step of refinement: residuals are small where y is far from 0.
        residual = self.y - mean @ self.X.T
        left = (weight * residual) @ self.X + self.precision * (self.mean - mean)
        mean = mean + np.einsum("tij,tj->ti", covariance, left)
        residual = self.y - mean @ self.X.T
        squares = (weight * residual**2).sum(axis=1)
        squares += ((mean - self.mean) ** 2) @ self.precision
        proper = self.precision > 0
        log_determinant = np.linalg.slogdet(information)[1] + np.log(total).sum(axis=1)
        constant = np.log(self.precision[proper]).sum() - np.log(2 * np.pi) * (
            studies - int((~proper).sum())
        )
        return 0.5 * (constant - log_determinant - squares), mean, covariance

    def without(self, study: int) -> Regression:
        """The same regression without one of the studies."""
        kept = np.arange(len(self.y)) != study
        return self.of(np.flatnonzero(kept))

    def of(self, studies: NDArray[np.intp]) -> Regression:
        """The same regression for some of the studies."""
        return replace(self, y=self.y[studies], v=self.v[studies], X=self.X[studies])

    @property
    def is_identified(self) -> bool:
        """Whether proper priors and the studies together determine the coefficients."""
        proper = np.diag((self.precision > 0).astype(float)) * max(len(self.X), 1)
        values = np.linalg.eigvalsh(self.X.T @ self.X + proper)
        return bool(values[0] > 1e-10 * values[-1])

    @property
    def typical_variance(self) -> float:
        r"""The typical sampling variance of Higgins & Thompson (2002), Stat. Med. 21:1539, eq. 9.

        With moderators :math:`(k - p) / \mathrm{tr}(P)`, as in metafor; not a number where
        there are no more studies than coefficients.
        """
        weight = 1 / self.v
        cross = self.X.T @ (weight[:, None] * self.X)
        outer = self.X.T @ (weight[:, None] ** 2 * self.X)
        studies, terms = self.X.shape
        if studies <= terms:
            return float("nan")
        trace = weight.sum() - np.trace(np.linalg.solve(cross, outer))
        return float((studies - terms) / trace)
