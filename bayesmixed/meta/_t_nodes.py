r"""Student's t about known standard errors, at many locations and degrees of freedom at once.

The t is a mixture of normals over :math:`x = \log\lambda`. Of one scale and all degrees of freedom
that are alike, nodes of x are the same, so that the normal densities there are computed once, and
the mixing is a product of matrices.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammaln

from bayesmixed.between_studies import LEFT_OUT, NODES, between_t

type Floats = NDArray[np.float64]

# exp(-19) is the relative error of a sum over the nodes.
_DIGITS = 19.0
# Numbers that are worked on at once.
_CHUNK = 4_000_000


def log_likelihood(residual: Floats, s: Floats, tau: float, nu: Floats) -> Floats:
    """Sum over studies of the log-densities of residuals, shape (points, degrees of freedom).

    Parameters
    ----------
    residual : array, shape (points, studies)
    s : array, shape (studies,)
        Standard errors.
    tau : float
        Scale of the t.
    nu : array, shape (degrees of freedom,)
        Its degrees of freedom.
    """
    found = np.empty((len(residual), len(nu)))
    for some in _octaves(nu):
        x, step = _nodes(residual, s, tau, nu[some])
        if len(x) > NODES * len(some):
            found[:, some] = _one_by_one(residual, s, tau, nu[some])
            continue
        shape = nu[some, None] / 2
        mixing = shape * (x - np.expm1(x)) + shape * np.log(shape) - shape - gammaln(shape)
        weight = np.exp(mixing + np.log(step))
        variance = s**2 + tau**2 * np.exp(-x[:, None])
        rows = max(1, _CHUNK // variance.size)
        for first in range(0, len(residual), rows):
            part = slice(first, first + rows)
            found[part, some] = _mixed(residual[part], variance, weight)
    return found


def _mixed(residual: Floats, variance: Floats, weight: Floats) -> Floats:
    """With normal variances (nodes, studies) and weights (degrees of freedom, nodes)."""
    square = residual[:, None, :] ** 2
    log_normal = -0.5 * (square / variance + np.log(2 * np.pi * variance))
    most = log_normal.max(axis=1)
    density = weight @ np.exp(log_normal - most[:, None])
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(density).sum(axis=-1) + most.sum(axis=-1)[:, None])


def _one_by_one(residual: Floats, s: Floats, tau: float, nu: Floats) -> Floats:
    """Each density with nodes of its own."""
    found = np.empty((len(residual), len(nu)))
    rows = max(1, _CHUNK // (NODES * len(s)))
    for j, one in enumerate(nu):
        for first in range(0, len(residual), rows):
            part = slice(first, first + rows)
            given = {"mu": np.zeros(1), "sigma": s, "tau": np.array(tau), "nu": np.array(one)}
            found[part, j] = between_t.loglik(y=residual[part], **given).sum(axis=-1)
    return found


def _octaves(nu: Floats) -> Iterator[NDArray[np.intp]]:
    """Places of degrees of freedom that differ by less than a factor of 2."""
    octave = np.floor(np.log2(np.maximum(nu, 0.5)))
    for one in np.unique(octave):
        yield np.flatnonzero(octave == one)


def _nodes(residual: Floats, s: Floats, tau: float, nu: Floats) -> tuple[Floats, float]:
    """Equally spaced nodes over all that matters for degrees of freedom, and their distance."""
    few, many, square = nu.min(), nu.max(), residual**2
    # As for one density; see `log_mixing`.
    reach = LEFT_OUT / (few / 2 + 0.25)
    share = square / (tau**2 + 1e-12 * (square + s**2))
    pulled = np.log([(n + 1) / (n + share.max()) for n in (few, many)]).min()
    gain = (float((square / (2 * s**2)).max()) + LEFT_OUT) / (few / 2)
    low = max(min(pulled, 0.0) - np.sqrt(2 * reach) - reach, -np.sqrt(2 * gain) - gain)
    high = np.log(1 + reach + np.sqrt(2 * reach))
    count = int(np.ceil((high - low) / _step(2.0 ** np.ceil(np.log2(many))))) + 1
    x = np.linspace(low, high, count)
    return x, float(x[1] - x[0])


@cache
def _step(nu: float) -> float:
    """Distance of nodes at which sums over a gamma's logarithm have enough digits.

    The error is exp(-2 pi v / h) of the integrand at a distance v from the real line, where it is
    larger by cos(v)^(-nu / 2).
    """
    shape = nu / 2

    def digits(h: float) -> float:
        v = np.arctan(2 * np.pi / (h * shape))
        return float(2 * np.pi * v / h + shape * np.log(np.cos(v)))

    return float(brentq(lambda h: digits(h) - _DIGITS, 1e-6, 2.0))
