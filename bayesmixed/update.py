r"""What more rows say of parameters and of the effects of groups that are not in the fit.

With :math:`\theta` the parameters and effects in the fit, :math:`b = L z` the effects of new
groups, and :math:`y` the new rows' outcomes,

.. math:: p(\theta, z \mid D, y) \propto p(\theta \mid D)\, p(y \mid \theta, z)\, N(z; 0, I).

In every draw of :math:`\theta` a few values of z are proposed: from the exact normal posterior
where the outcome is normal, else from a multivariate t about the mode (Laplace). Importance weights
make the draws exact in either case, and carry what the rows say of :math:`\theta`.

References
----------
Vehtari, Simpson, Gelman, Yao & Gabry (2024), J. Mach. Learn. Res. 25(72), for the smoothed weights
and their diagnostic; Geweke (1989), Econometrica 57:1317, for the proposal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from arviz_stats.base import array_stats
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp, softmax

from bayesmixed._errors import BayesmixedError
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.kriging import Kriging
from bayesmixed.newcomers import Newcomers, centre, runs

type Floats = NDArray[np.float64]
type Index = NDArray[np.intp]

_PROPOSALS = 8
_DF = 7.0
_STEP = 1e-3
_NEWTON_STEPS = 50
# A proposal is at most twice as wide as the prior, also where a likelihood is not log-concave.
_LEAST_PRECISION = 0.25


@dataclass(frozen=True)
class Updated:
    """As many equally weighted draws as the fit has, given more rows.

    Parameters
    ----------
    draw : array of int, shape (samples,)
        Which of the fit's draws each is, chains one after the other; in rising order.
    effects : tuple of array, each (samples, group, effect)
        Effects of the new groups, in the order of `Newcomers`.
    effective : float
        Effective number of the fit's draws under the weights.
    khat : float
        Pareto shape of the largest weights: beyond 0.7 the fit's draws are too far from what the
        rows say.
    """

    draw: Index
    effects: tuple[Floats, ...]
    effective: float
    khat: float


@dataclass(frozen=True)
class Proposals:
    """Values of z for every draw, with their weights.

    Parameters
    ----------
    z : array, shape (chain, draw, proposal, effect)
        Standardised effects of all new groups.
    log_weights : array, shape (chain, draw, proposal)
        Log of p(y | theta, z) N(z) / q(z); the mean weight estimates p(y | theta) without bias.
    """

    z: Floats
    log_weights: Floats


def update(fit: Fit, rows: Design, new: Sequence[Newcomers], rng: np.random.Generator) -> Updated:
    """Draws of parameters and new groups' effects, given the outcomes of more rows.

    Parameters
    ----------
    fit : Fit
        The posterior without these rows.
    rows : Design
        The rows, with outcomes.
    new : sequence of Newcomers
        The rows' groups that are not in the fit.
    rng : numpy.random.Generator
        Source of the proposals and of the resampling.
    """
    found = propose(fit, rows, new, rng)
    chains, draws, proposals = found.log_weights.shape
    samples = chains * draws
    log_weights = found.log_weights.reshape(samples, proposals)
    by_draw, khat = _smoothed(logsumexp(log_weights, axis=1))
    weights = (by_draw[:, None] * softmax(log_weights, axis=1)).ravel()
    # Systematic resampling adds the least noise, and keeps the chains in order.
    at = (np.arange(samples) + rng.random()) / samples
    picked = np.minimum(np.searchsorted(np.cumsum(weights), at), len(weights) - 1)
    draw = picked // proposals
    z = found.z.reshape(samples * proposals, -1)[picked]
    effects, first = [], 0
    for each in new:
        size = each.count * each.random.size
        L = each.root(fit).reshape(samples, each.random.size, each.random.size)[draw]
        own = z[:, first : first + size].reshape(samples, each.count, each.random.size)
        effects.append(own @ L.mT)
        first += size
    return Updated(draw, tuple(effects), float(1 / (by_draw**2).sum()), khat)


def _smoothed(log_weights: Floats) -> tuple[Floats, float]:
    """Pareto-smoothed weights that add up to 1, and the Pareto shape."""
    if np.ptp(log_weights) < 1e-9:
        return np.full(len(log_weights), 1 / len(log_weights)), -np.inf
    # ArviZ smooths weights of draws that leave a row out, and so takes their negative logarithms.
    try:
        with np.errstate(over="raise"):
            smooth, khat = array_stats.psislw(-log_weights)
    except FloatingPointError:
        # Weights over hundreds of powers of ten: their tail is beyond any Pareto's.
        return softmax(log_weights), np.inf
    return softmax(smooth), float(np.nan_to_num(khat, nan=np.inf))


def propose(
    fit: Fit, rows: Design, new: Sequence[Newcomers], rng: np.random.Generator
) -> Proposals:
    """Values of the new groups' standardised effects for every draw, with their weights."""
    size = sum(each.count * each.random.size for each in new)
    parts = []
    for piece in runs(fit, len(rows.y) * max(size, _PROPOSALS)):
        target = _Target.of(piece, rows, new)
        shape = piece.posterior.sizes["chain"], piece.posterior.sizes["draw"]
        z, log_weights = target.propose(rng)
        parts.append((z.reshape(*shape, *z.shape[1:]), log_weights.reshape(*shape, -1)))
    z, log_weights = (np.concatenate(every, axis=1) for every in zip(*parts, strict=True))
    return Proposals(z, log_weights)


@dataclass(frozen=True)
class _Target:
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
    def of(cls, fit: Fit, rows: Design, new: Sequence[Newcomers]) -> _Target:
        base = {n: v.reshape(-1, v.shape[-1]) for n, v in centre(fit, rows).items()}
        samples = fit.posterior.sizes["chain"] * fit.posterior.sizes["draw"]
        size = sum(each.count * each.random.size for each in new)
        loadings: dict[str, Floats] = {}
        first = 0
        for each in new:
            k = each.random.size
            L = each.root(fit).reshape(samples, k, k)
            into = loadings.setdefault(each.parameter, np.zeros((samples, len(rows.y), size)))
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
    ) -> _Target:
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

    def propose(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Values of z, shape (sample, proposal, effect), and log-weights (sample, proposal)."""
        if not self.loadings:
            found = self.loglik({}).sum(axis=-1) + self.constant[:, None]
            return np.zeros((*found.shape, 0)), found
        mode, precision = self._normal() if self.is_normal else self._laplace()
        values, vectors = np.linalg.eigh(precision)
        values = np.maximum(values, _LEAST_PRECISION)
        samples, size = mode.shape
        e = rng.standard_normal((samples, _PROPOSALS, size))
        log_q = 0.5 * np.log(values).sum(axis=-1)[:, None]
        if self.is_normal:
            log_q = log_q - 0.5 * (e**2).sum(axis=-1) - 0.5 * size * np.log(2 * np.pi)
        else:
            e = e * np.sqrt(_DF / rng.chisquare(_DF, (samples, _PROPOSALS, 1)))
            log_q = log_q - 0.5 * (_DF + size) * np.log1p((e**2).sum(axis=-1) / _DF)
            log_q += gammaln((_DF + size) / 2) - gammaln(_DF / 2) - 0.5 * size * np.log(np.pi * _DF)
        z = mode[:, None] + (e / np.sqrt(values)[:, None]) @ vectors.mT
        return z, self.density(z) - log_q

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
        """Mode and curvature there, by Newton's method in all draws at once."""
        samples, _, size = next(iter(self.loadings.values())).shape
        z = np.zeros((samples, size))
        value = self.density(z[:, None])[:, 0]
        for _ in range(_NEWTON_STEPS):
            gradient, precision = self._derivatives(z)
            step = np.linalg.solve(precision, gradient[..., None])[..., 0]
            share = np.ones(samples)
            for _ in range(12):
                moved = self.density((z + share[:, None] * step)[:, None])[:, 0]
                worse = ~(moved >= value - 1e-9)
                if not worse.any():
                    break
                share[worse] *= 0.5
            share[worse] = 0.0
            z = z + share[:, None] * step
            value = np.where(worse, value, moved)
            if np.abs(share[:, None] * step).max() < 1e-4:
                break
        return z, self._derivatives(z)[1]

    def _derivatives(self, z: Floats) -> tuple[Floats, Floats]:
        """Gradient, and negative Hessian made positive definite, of the log-density in z.

        Each row's log-likelihood is differentiated by its predictors, in steps of a thousandth of
        their spread over new groups. That is precise enough for a proposal.
        """
        at = self.shifts(z[:, None])
        tiny = np.finfo(float).tiny
        steps = {
            n: _STEP * np.maximum(np.linalg.norm(B, axis=-1), tiny**0.25)[:, None]
            for n, B in self.loadings.items()
        }

        def moved(*moves: tuple[str, int]) -> Floats:
            shifted = dict(at)
            for name, sign in moves:
                shifted[name] = shifted[name] + sign * steps[name]
            return self.loglik(shifted)

        middle = moved()
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
                precision = precision - (B * _finite(bend)[..., None]).mT @ C
        values, vectors = np.linalg.eigh(precision)
        values = np.maximum(values, _LEAST_PRECISION)
        return gradient, (vectors * values[:, None]) @ vectors.mT


def _finite(values: Floats) -> Floats:
    """Derivatives (sample, 1, row) as (sample, row), 0 where they cannot be worked out."""
    return np.nan_to_num(values[:, 0], nan=0.0, posinf=0.0, neginf=0.0)
