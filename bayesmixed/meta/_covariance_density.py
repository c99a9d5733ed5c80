r"""The density of the covariance between studies, with average and studies' effects integrated out.

Given the covariance :math:`G = T T'` everything is normal: with studies whitened, so that
:math:`y_i = Z_i (\mu + u_i) + e_i` with unit errors, :math:`y_i \sim N(Z_i \mu, I + Z_i G Z_i')`.
What is sampled are the logarithms of the sds and the LKJ factor of the correlations alone, so that
no average effect has to follow a tau that goes to 0. The derivative with respect to G is Fisher's
identity. This is machine code, kept on disk.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numba import njit
from numpy.typing import NDArray

from bayesmixed.edition import EDITION, on_disk
from bayesmixed.encoded import constrain, encode
from bayesmixed.lkj import backward, factor, forward
from bayesmixed.logdensity import LogDensity
from bayesmixed.native import LOGP, evaluate
from bayesmixed.pointers import floats, integers, pointers
from bayesmixed.priors import Prior
from bayesmixed.univariate import log_prior

type Floats = NDArray[np.float64]

# Draws times rows that are worked on at once.
_CHUNK = 2_000_000


@dataclass(frozen=True, eq=False)
class Whitened:
    """Studies whose estimates were made independent, with standard error 1.

    Parameters
    ----------
    y : array, shape (rows,)
        Rows of a study stand together.
    Z : array, shape (rows, outcomes)
        What the effects on the outcomes are multiplied by.
    starts : array of int, shape (studies + 1,)
        Where each study begins.
    precision : array, shape (outcomes,)
        Of the normal priors about 0 of the average effects; 0 for flat ones.
    tau : tuple of Prior
        Of the sds between studies.
    eta : float
        Of the LKJ prior of their correlations.
    """

    y: Floats
    Z: Floats
    starts: NDArray[np.int32]
    precision: Floats
    tau: tuple[Prior, ...]
    eta: float

    @cached_property
    def density(self) -> LogDensity:
        """What the sampler takes; it draws all effects for every covariance it keeps."""
        encoded = [encode(prior) for prior in self.tau]
        size = len(self.tau)
        arrays = (
            self.y,
            np.ascontiguousarray(self.Z).ravel(),
            self.precision,
            np.concatenate([e.numbers for e in encoded]),
            np.array([self.eta]),
            self.starts.astype(np.int32),
        )
        where = pointers(arrays)
        start = np.append([e.start for e in encoded], np.zeros(size * (size - 1) // 2))
        at = partial(evaluate, _entry, where=where)
        return LogDensity(start, at, self.recover, _entry, where, arrays)

    def factors(self, x: Floats) -> tuple[Floats, Floats]:
        """Sds between studies, and Cholesky factors of their correlations.

        Parameters
        ----------
        x : array, shape (draws, size)
            Unconstrained numbers.
        """
        count = len(self.tau)
        encoded = [encode(prior) for prior in self.tau]
        tau = np.stack([constrain(x[:, j], encoded[j]) for j in range(count)], axis=-1)
        return tau, factor(x[:, count:], count)

    def given(self, T: Floats) -> tuple[Floats, Floats]:
        """Mean and covariance of the average effects, given factors of the covariance.

        Parameters
        ----------
        T : array, shape (draws, outcomes, outcomes)
        """
        count = self.Z.shape[1]
        information = np.broadcast_to(np.diag(self.precision), (len(T), count, count)).copy()
        right = np.zeros((len(T), count))
        for rows in self._studies:
            W, w = self._whiten(T, rows)
            information += W.mT @ W
            right += np.einsum("dri,dr->di", W, w)
        covariance = np.linalg.inv(information)
        return np.einsum("dij,dj->di", covariance, right), covariance

    def recover(self, x: Floats, rng: np.random.Generator) -> dict[str, Floats]:
        """Everything that a draw of the covariance determines, and all effects drawn given it.

        Parameters
        ----------
        x : array, shape (draws, size)
        rng : Generator

        Returns
        -------
        dict of str to array
            ``beta`` (draws, outcomes), ``tau`` (draws, outcomes), ``cor`` (draws, outcomes,
            outcomes) and ``u`` (draws, studies, outcomes).
        """
        step = max(1, _CHUNK // len(self.y))
        parts = [self._recover(x[i : i + step], rng) for i in range(0, len(x), step)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _recover(self, x: Floats, rng: np.random.Generator) -> dict[str, Floats]:
        tau, L = self.factors(x)
        T = tau[:, :, None] * L
        mean, covariance = self.given(T)
        z = rng.normal(size=mean.shape)
        beta = mean + np.einsum("dij,dj->di", np.linalg.cholesky(covariance), z)
        u = np.stack([self._effects(T, beta, rows, rng) for rows in self._studies], axis=1)
        return {"beta": beta, "tau": tau, "cor": L @ L.mT, "u": u}

    @property
    def _studies(self) -> list[slice]:
        return [slice(*ends) for ends in pairwise(self.starts.tolist())]

    def _whiten(self, T: Floats, rows: slice) -> tuple[Floats, Floats]:
        """Predictors and estimates of a study, made independent of each other by T too."""
        Z, y = self.Z[rows], self.y[rows]
        B = Z @ T
        C = np.linalg.cholesky(np.eye(len(y)) + B @ B.mT)
        both = np.linalg.solve(
            C, np.broadcast_to(np.column_stack([Z, y]), (*B.shape[:2], Z.shape[1] + 1))
        )
        return both[..., :-1], both[..., -1]

    def _effects(self, T: Floats, beta: Floats, rows: slice, rng: np.random.Generator) -> Floats:
        """A study's deviations from the average effects, given these."""
        Z = self.Z[rows]
        B = Z @ T
        K = np.linalg.cholesky(np.eye(T.shape[1]) + B.mT @ B)
        right = np.einsum("drj,dr->dj", B, self.y[rows] - beta @ Z.T)
        half = np.linalg.solve(K, right[..., None]) + rng.normal(size=(*right.shape, 1))
        return np.asarray((T @ np.linalg.solve(K.mT, half))[..., 0])


@njit(error_model="numpy")
def _cholesky(A: Floats) -> float:
    """Overwrite a matrix by its lower factor; the sum of the logarithms of its diagonal."""
    total = 0.0
    for i in range(len(A)):
        for j in range(i + 1):
            left = A[i, j]
            for k in range(j):
                left -= A[i, k] * A[j, k]
            A[i, j] = np.sqrt(left) if i == j else left / A[j, j]
        total += np.log(A[i, i])
    return total


@njit(error_model="numpy")
def _solve(C: Floats, b: Floats) -> None:
    """Overwrite b by the solution of C x = b, with C lower triangular."""
    for i in range(len(b)):
        for k in range(i):
            b[i] -= C[i, k] * b[k]
        b[i] /= C[i, i]


@njit(error_model="numpy")
def _solve_transposed(C: Floats, b: Floats) -> None:
    """Overwrite b by the solution of C' x = b, with C lower triangular."""
    for i in range(len(b) - 1, -1, -1):
        for k in range(i + 1, len(b)):
            b[i] -= C[k, i] * b[k]
        b[i] /= C[i, i]


@njit(error_model="numpy")
def _independent(Z: Floats, y: Floats, T: Floats, W: Floats, w: Floats) -> float:
    """Make a study's estimates independent; the logarithm of what they are divided by."""
    B = Z @ T
    S = np.eye(len(y)) + B @ B.T
    total = _cholesky(S)
    w[:] = y
    _solve(S, w)
    for j in range(Z.shape[1]):
        W[:, j] = Z[:, j]
        _solve(S, W[:, j])
    return float(total)


@njit(error_model="numpy")
def _marginal(y: Floats, Z: Floats, starts: Any, precision: Floats, T: Floats, dT: Floats) -> float:
    """Log-likelihood of the factor of the covariance, to `dT` its derivative."""
    count = len(precision)
    W, w = np.empty_like(Z), np.empty_like(y)
    value = 0.0
    for i in range(len(starts) - 1):
        at = slice(starts[i], starts[i + 1])
        value -= _independent(Z[at], y[at], T, W[at], w[at])
    information = W.T @ W
    mean = W.T @ w
    for j in range(count):
        information[j, j] += precision[j]
    value -= _cholesky(information)
    _solve(information, mean)
    _solve_transposed(information, mean)
    e = w - W @ mean
    value -= 0.5 * (e @ e)
    dG = np.zeros((count, count))
    for j in range(count):
        value -= 0.5 * precision[j] * mean[j] * mean[j]
    for i in range(len(starts) - 1):
        at = slice(starts[i], starts[i + 1])
        score = W[at].T @ e[at]
        A = W[at].T @ W[at]
        # A M^-1 A by the factor of M.
        half = A.copy()
        for j in range(count):
            _solve(information, half[:, j])
        dG += 0.5 * (np.outer(score, score) - A + half.T @ half)
    dT[:] = 2.0 * (dG @ T)
    return float(value)


@njit(error_model="numpy")
def log_density(x: Floats, gradient: Floats, where: Any) -> float:
    """Log-posterior of the unconstrained numbers up to a constant, to `gradient` its gradient."""
    y, precision, numbers = floats(where, 0), floats(where, 2), floats(where, 3)
    starts, eta = integers(where, 5), floats(where, 4)[0]
    count = len(precision)
    Z = floats(where, 1).reshape((len(y), count))
    width = len(numbers) // count
    gradient[:] = 0.0
    L, T, dT = np.empty((count, count)), np.empty((count, count)), np.empty((count, count))
    value = forward(x[count:], count, eta, L)
    tau, slope = np.empty(count), np.empty(count)
    for j in range(count):
        tau[j], slope[j], density, d_density = log_prior(x[j], numbers[j * width : (j + 1) * width])
        value += density
        gradient[j] = d_density
        T[j] = tau[j] * L[j]
    value += _marginal(y, Z, starts, precision, T, dT)
    for j in range(count):
        gradient[j] += slope[j] * (dT[j] @ L[j])
        dT[j] *= tau[j]
    backward(x[count:], count, eta, L, dT, gradient[count:])
    return float(value)


_ARRAYS = 6


@cache
def _entry() -> Any:
    """The density as nutpie calls it, from disk unless what it calls changed."""
    edition, length = EDITION, 2 * _ARRAYS

    def logp(size, x, gradient, value, where):
        out = numba.carray(gradient, size)
        value[0] = log_density(numba.carray(x, size), out, numba.carray(where, length))
        for i in range(size):
            if not np.isfinite(out[i]):
                return 3
        # The edition has to be mentioned to be part of what numba knows the function by.
        return 0 if np.isfinite(value[0]) and edition else 4

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", numba.NumbaWarning)
        return on_disk(lambda cache: numba.cfunc(LOGP, cache=cache)(logp))
