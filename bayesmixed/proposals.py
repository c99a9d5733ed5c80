r"""Effects of new groups proposed where their posterior is, with importance weights.

With :math:`\theta` the parameters, :math:`u = m + B z` the effects of new groups and :math:`y` the
outcomes of their rows, values of z are proposed in every draw from the exact normal posterior where
the outcome is normal, else from a multivariate t about the mode (Laplace), in pairs on both sides
of it whose distances are spread evenly over the distribution of such. The mean weight estimates
:math:`p(y \mid \theta)` without bias.

References
----------
Geweke (1989), Econometrica 57:1317, for the proposal; Durbin & Koopman (1997), Biometrika 84:669,
for pairs on both sides of the mode, which cancel the likelihood's skewness.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, gammaln, logit
from scipy.stats import f

from bayesmixed._errors import BayesmixedError
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.kriging import Kriging
from bayesmixed.newcomers import Newcomers, centre

type Floats = NDArray[np.float64]

#: Proposals for each draw, half of them on either side of the mode.
PROPOSALS = 8
_DF = 7.0
STEP = 1e-3
_NEWTON_STEPS = 50
# A proposal is at most twice as wide as the prior, also where a likelihood is not log-concave.
_LEAST_PRECISION = 0.25


@dataclass(frozen=True)
class Peak:
    """Where a log-density is highest, and the normal density that is like it there.

    Parameters
    ----------
    mode : array, shape (sample, effect)
    log_root : array, shape (sample,)
        Half the log-determinant of the precision.
    spread : callable
        From independent standard normal variables, shape (sample, proposal, effect), to such with
        the inverse of the precision as covariance.
    is_normal : bool
        Whether the density is normal.
    """

    mode: Floats
    log_root: Floats
    spread: Callable[[Floats], Floats]
    is_normal: bool = False


class Density(Protocol):
    """A log-density in every draw."""

    def density(self, z: Floats) -> Floats:
        """From (sample, proposal, effect) to (sample, proposal)."""
        ...


def width(each: Newcomers) -> int:
    """How many standard normal numbers new groups have that outcomes say something of."""
    following = each.following
    return each.count * each.random.size if following is None else following.size


@dataclass(frozen=True)
class Target:
    """Density of rows and of the standardised effects z, in every draw.

    Parameters
    ----------
    rows : Design
        The rows, with outcomes.
    base : mapping of str to array, shape (sample, row)
        Predictors at z = 0; axes of length 1 where all share the value.
    loadings : mapping of str to array, shape (sample, row, effect)
        What z is multiplied by, of the parameters with new groups.
    constant : array, shape (sample,)
        What else the log-density has.
    """

    rows: Design
    base: Mapping[str, Floats]
    loadings: Mapping[str, Floats]
    constant: Floats

    @classmethod
    def of(cls, fit: Fit, rows: Design, new: Sequence[Newcomers]) -> Target:
        """The density of rows whose new groups are these, given those in the fit."""
        base = {n: v.reshape(-1, v.shape[-1]) for n, v in centre(fit, rows).items()}
        samples = fit.posterior.sizes["chain"] * fit.posterior.sizes["draw"]
        size = sum(map(width, new))
        loadings: dict[str, Floats] = {}
        first = 0
        for each in new:
            k, following = each.random.size, each.following
            into = loadings.setdefault(each.parameter, np.zeros((samples, len(rows.y), size)))
            if following is not None:
                mean = each.shift(following.mean(fit)[..., None])
                base[each.parameter] = base[each.parameter] + mean
                at = np.flatnonzero(each.index >= 0)
                place = (np.cumsum(following.known) - 1)[each.index[at]]
                last = first + following.size
                into[:, at, first:last] = each.random.Z[at] * following.loadings(fit)[:, place]
                first = last
                continue
            L = each.root(fit).reshape(samples, k, k)
            for group in range(each.count):
                at = np.flatnonzero(each.index == group)
                into[:, at, first : first + k] = each.random.Z[at] @ L
                first += k
        if fit.design.series is not None:
            return cls._of_series(fit, rows, base, loadings, size)
        return cls(rows, base, loadings, np.zeros(samples))

    @classmethod
    def _of_series(
        cls,
        fit: Fit,
        rows: Design,
        base: Mapping[str, Floats],
        loadings: Mapping[str, Floats],
        size: int,
    ) -> Target:
        """Rows of correlated series as independent ones, given the residuals in the fit."""
        if not rows.spec.is_normal or "sigma" in loadings:
            raise BayesmixedError(
                f"Residuals are correlated ({fit.spec.residual}), and further visits update the "
                "effects of new groups only where these add to an outcome with an identity link, "
                "and not where sigma varies between them. Refit with these visits."
            )
        chains, draws = (fit.posterior.sizes[d] for d in ("chain", "draw"))
        eta = {
            n: v.reshape((1, 1, -1) if len(v) == 1 else (chains, draws, -1))
            for n, v in base.items()
        }
        B = loadings.get("mu", np.zeros((chains * draws, len(rows.y), size)))
        e, B, lost = Kriging.of(fit.design, rows, "existing").whiten(fit, eta, B)
        own = replace(
            rows,
            spec=replace(rows.spec, residual=None),
            y=np.zeros(len(rows.y)),
            sampling_sd=None,
            spreads=None,
        )
        unit = {"mu": -e, "sigma": np.zeros((1, 1))}
        return cls(own, unit, {"mu": B} if "mu" in loadings else {}, -lost)

    @property
    def is_normal(self) -> bool:
        """Whether z has a normal posterior."""
        design = self.rows
        return design.spec.is_exact and set(self.loadings) <= {design.family.parameters[0].name}

    def loglik(self, shifts: Mapping[str, Floats]) -> Floats:
        """Log-density of every row at shifted predictors, shape (sample, proposal, row)."""
        design = self.rows
        eta = {n: v[:, None, :] for n, v in self.base.items()}
        eta |= {n: eta[n] + shift for n, shift in shifts.items()}
        with np.errstate(all="ignore"):
            found = design.family.evaluate(
                design.family.loglik, eta, design.links, y=design.y, **design.known
            )
        return np.where(np.isnan(found), -np.inf, found)

    def shifts(self, z: Floats) -> dict[str, Floats]:
        """What z (sample, proposal, effect) adds to the predictors."""
        return {n: z @ B.mT for n, B in self.loadings.items()}

    def density(self, z: Floats) -> Floats:
        """Log of p(y | z) N(z), shape (sample, proposal)."""
        prior = -0.5 * (z**2).sum(axis=-1) - 0.5 * z.shape[-1] * np.log(2 * np.pi)
        found = self.loglik(self.shifts(z)).sum(axis=-1) + prior
        return np.asarray(found + self.constant[:, None])

    def propose(self, rng: np.random.Generator, count: int = PROPOSALS) -> tuple[Floats, Floats]:
        """Values of z (sample, proposal, effect), in random order, and log-weights."""
        if not self.loadings:
            found = self.loglik({}).sum(axis=-1) + self.constant[:, None]
            return np.zeros((*found.shape, 0)), found
        z, log_weights = pairs(self, self.peak(), rng, count)
        order = rng.permuted(np.tile(np.arange(count), (len(z), 1)), axis=1)
        z = np.take_along_axis(z, order[..., None], axis=1)
        return z, np.take_along_axis(log_weights, order, axis=1)

    def peak(self) -> Peak:
        """The mode of z and the root of the precision there."""
        mode, precision = self._normal() if self.is_normal else self._laplace()
        root = np.linalg.cholesky(precision)
        log_root = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=-1)
        return Peak(
            mode, log_root, lambda half: np.linalg.solve(root.mT, half.mT).mT, self.is_normal
        )

    def _normal(self) -> tuple[Floats, Floats]:
        """Mean and precision of z, exactly."""
        design = self.rows
        first = design.family.parameters[0].name
        B, sd = self.loadings[first], design.links["sigma"].inverse(self.base["sigma"])
        residual = design.family.working(design.y) - self.base[first]
        scaled = B / sd[..., None]
        precision = np.eye(B.shape[-1]) + scaled.mT @ scaled
        right = scaled.mT @ (residual / sd)[..., None]
        return np.linalg.solve(precision, right)[..., 0], precision

    def _laplace(self) -> tuple[Floats, Floats]:
        """Mode and curvature there."""
        samples, _, size = next(iter(self.loadings.values())).shape

        def step(z: Floats) -> Floats:
            gradient, precision = self._derivatives(z)
            return np.asarray(np.linalg.solve(precision, gradient[..., None])[..., 0])

        z = climb(self, step, np.zeros((samples, size)))
        return z, self._derivatives(z)[1]

    def _derivatives(self, z: Floats) -> tuple[Floats, Floats]:
        """Gradient, and negative Hessian made positive definite, of the log-density in z.

        Each row's log-likelihood is differentiated by its predictors, in steps of a thousandth of
        their spread over new groups. That is precise enough for a proposal.
        """
        at = self.shifts(z[:, None])
        tiny = np.finfo(float).tiny
        steps = {
            n: STEP * np.maximum(np.linalg.norm(B, axis=-1), tiny**0.25)[:, None]
            for n, B in self.loadings.items()
        }

        def moved(*moves: tuple[str, int]) -> Floats:
            shifted = dict(at)
            for name, sign in moves:
                shifted[name] = shifted[name] + sign * steps[name]
            return self.loglik(shifted)

        middle, bent = moved(), False
        gradient, precision = -z, np.broadcast_to(np.eye(z.shape[-1]), (*z.shape, z.shape[-1]))
        for one, B in self.loadings.items():
            slope = (moved((one, 1)) - moved((one, -1))) / (2 * steps[one])
            gradient = gradient + (_finite(slope)[:, None] @ B)[:, 0]
            for other, C in self.loadings.items():
                if one == other:
                    bend = (moved((one, 1)) - 2 * middle + moved((one, -1))) / steps[one] ** 2
                else:
                    bend = sum(
                        a * b * moved((one, a), (other, b)) for a in (1, -1) for b in (1, -1)
                    ) / (4 * steps[one] * steps[other])
                curve = _finite(bend)
                # A concave likelihood of one predictor leaves it above that of the prior.
                bent = bent or one != other or bool((curve > 0).any())
                precision = precision - (B * curve[..., None]).mT @ C
        if not bent:
            return gradient, precision
        values, vectors = np.linalg.eigh(precision)
        values = np.maximum(values, _LEAST_PRECISION)
        return gradient, (vectors * values[:, None]) @ vectors.mT


def climb(target: Density, step: Callable[[Floats], Floats], start: Floats) -> Floats:
    """The mode in all draws at once, by Newton's method with steps halved until they gain.

    Parameters
    ----------
    target : Density
    step : callable
        Newton's whole step at a point, shape (sample, effect) both.
    start : array, shape (sample, effect)
    """
    z, value = start, target.density(start[:, None])[:, 0]
    for _ in range(_NEWTON_STEPS):
        whole, share = step(z), np.ones(len(z))
        for _ in range(12):
            moved = target.density((z + share[:, None] * whole)[:, None])[:, 0]
            worse = ~(moved >= value - 1e-9)
            if not worse.any():
                break
            share[worse] *= 0.5
        share[worse] = 0.0
        z = z + share[:, None] * whole
        value = np.where(worse, value, moved)
        if np.abs(share[:, None] * whole).max() < 1e-4:
            break
    return z


def _finite(values: Floats) -> Floats:
    """Derivatives (sample, 1, row) as (sample, row), 0 where they cannot be worked out."""
    return np.nan_to_num(values[:, 0], nan=0.0, posinf=0.0, neginf=0.0)


def pairs(
    target: Density, peak: Peak, rng: np.random.Generator, count: int
) -> tuple[Floats, Floats]:
    """Values about the mode, and their log-weights: pairs, in the order of their distance.

    Parameters
    ----------
    target : Target or another density
    peak : Peak
        Its own.
    rng : numpy.random.Generator
    count : int
        The second half of the values is the first one reflected in the mode.

    Returns
    -------
    z : array, shape (sample, proposal, effect)
    log_weights : array, shape (sample, proposal)
    """
    samples, size = peak.mode.shape
    half = rng.standard_normal((samples, count // 2, size))
    log_q = peak.log_root[:, None]
    if peak.is_normal:
        log_q = log_q - 0.5 * (half**2).sum(axis=-1) - 0.5 * size * np.log(2 * np.pi)
    else:
        # With more effects a heavy tail would be most of the volume.
        df = max(_DF, 2.0 * size)
        squares = size * _ratios(size, df, _strata(samples, count // 2, rng))
        half *= np.sqrt(squares / (half**2).sum(axis=-1))[..., None]
        log_q = log_q - 0.5 * (df + size) * np.log1p(squares / df)
        log_q += gammaln((df + size) / 2) - gammaln(df / 2) - 0.5 * size * np.log(np.pi * df)
    off = peak.spread(half)
    z = np.concatenate([peak.mode[:, None] + off, peak.mode[:, None] - off], axis=1)
    return z, target.density(z) - np.concatenate([log_q, log_q], axis=1)


def _strata(samples: int, count: int, rng: np.random.Generator) -> Floats:
    """Logits of a uniform number in each of so many equal parts, shape (samples, count)."""
    u = (np.arange(count) + rng.random((samples, count))) / count
    return logit(np.clip(u, 1e-12, 1 - 1e-12))


def _ratios(size: int, df: float, logits: Floats) -> Floats:
    """Quantiles of F(size, df): a t variable's squared length over its size."""
    return np.exp(np.interp(logits, *_quantiles(size, df)))


@cache
def _quantiles(size: int, df: float) -> tuple[Floats, Floats]:
    at = np.linspace(-28, 28, 4001)
    # The upper half by its tail, which is what is small there.
    found = np.where(at < 0, f.ppf(expit(at), size, df), f.isf(expit(-at), size, df))
    return at, np.log(found)
