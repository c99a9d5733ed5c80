"""Priors for standard deviations from what is known about the variance and its shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import logit, logsumexp, ndtri

from bayesmixed._errors import PriorError
from bayesmixed.priors import Prior

type Floats = NDArray[np.float64]

# How far, on the log and logit scales, a stated quantile may be missed.
_TOLERANCE = 0.1


@dataclass(frozen=True)
class VarianceBudget:
    r"""Priors for all standard deviations from what is known about the variance and its shares.

    People know "systolic pressure has an SD of about 12 mmHg, and 5 to 15 % of its variance is
    between units" better than they know a standard deviation of unit intercepts. The budget
    turns such sentences into independent lognormal priors of the standard deviations, chosen so
    that the total and each share have the stated central ranges.

    Parameters
    ----------
    shares : mapping of str to (float, float)
        Range of the share of the total variance for each grouping, as fractions of 1.
    total_sd : float or (float, float), optional
        The outcome's total standard deviation given the predictors, in the outcome's units (those
        of its logarithm for the lognormal family), or a range for it; a single number means within
        a factor of 1.2. Needed where the family has a residual ``sigma``; not used for yes/no
        outcomes, whose latent residual variance is fixed by the link.
    mass : float
        The probability that each stated range holds.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> budget = bm.VarianceBudget({"unit": (0.05, 0.15)}, total_sd=12)
    >>> budget.priors(None)["sd_unit"]
    LogNormal(mu=1.263, sigma=0.1383)
    """

    shares: Mapping[str, tuple[float, float]]
    total_sd: float | tuple[float, float] | None = None
    mass: float = 0.9

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises
        ------
        PriorError
            If a share is not a range inside (0, 1), the shares leave nothing for the residual,
            or a number is not positive.
        """
        if not 0 < self.mass < 1:
            raise PriorError(f"mass={self.mass!r}: a probability between 0 and 1 is needed.")
        if not self.shares:
            raise PriorError("A variance budget needs the share of at least one grouping.")
        for group, share in self.shares.items():
            if not (isinstance(share, tuple | list) and len(share) == 2):
                raise PriorError(f"shares[{group!r}] must be a range such as (0.05, 0.15).")
            if not 0 < share[0] < share[1] < 1:
                raise PriorError(
                    f"shares[{group!r}] = {share}: two fractions of 1 are needed, the lower first, "
                    "such as (0.05, 0.15) for 5 to 15 %."
                )
        if sum(high for _, high in self.shares.values()) >= 1:
            raise PriorError(
                "The upper ends of the shares add up to 1 or more and leave nothing for the "
                f"residual: {dict(self.shares)}."
            )
        if self.total_sd is not None:
            low, high = self.total_range
            if not 0 < low < high:
                raise PriorError(f"total_sd={self.total_sd!r}: a positive number or a range.")

    @property
    def total_range(self) -> tuple[float, float]:
        """The range of the total standard deviation."""
        if self.total_sd is None:
            raise PriorError(
                "This family has a residual standard deviation, so the variance budget needs "
                "total_sd, the outcome's total SD in its own units, such as total_sd=12."
            )
        if isinstance(self.total_sd, tuple | list):
            low, high = self.total_sd
            return float(low), float(high)
        return self.total_sd / 1.2, self.total_sd * 1.2

    def priors(self, latent_variance: float | None) -> dict[str, Prior]:
        """The priors, by name (``sd_<group>``, and ``sigma`` where it is estimated).

        Parameters
        ----------
        latent_variance : float or None
            The link's fixed residual variance; None where the residual SD is estimated.

        Raises
        ------
        PriorError
            If the ranges cannot hold together.
        """
        names = [f"sd_{group}" for group in self.shares]
        estimated = latent_variance is None
        if estimated:
            names.append("sigma")
        centre, spread = self._fit(latent_variance)
        return {
            name: Prior("LogNormal", mu=float(m), sigma=float(s))
            for name, m, s in zip(names, centre, spread, strict=True)
        }

    def _fit(self, latent_variance: float | None) -> tuple[Floats, Floats]:
        """Centres and spreads of the log standard deviations that give the stated quantiles."""
        shares = np.array(list(self.shares.values()))
        middle = np.sqrt(shares.prod(axis=1))
        # The last column is the residual: estimated, with a range for the total; or known.
        middle = np.append(middle, 1 - middle.sum())
        targets = [logit(shares)]
        if latent_variance is None:
            targets.append(np.log([self.total_range]))
            size = np.prod(self.total_range)
            known = np.zeros(0)
        else:
            size = latent_variance / middle[-1]
            known = np.array([np.log(latent_variance) / 2])
        count = len(middle) - len(known)
        normals = _normals(count)
        tails = [(1 - self.mass) / 2, (1 + self.mass) / 2]

        def misses(x: Floats) -> Floats:
            log_sd = x[:count] + np.exp(x[count:]) * normals
            log_sd = np.hstack([log_sd, np.broadcast_to(known, (len(normals), len(known)))])
            log_total = logsumexp(2 * log_sd, axis=1, keepdims=True)
            log_share = (2 * log_sd - log_total)[:, : len(shares)]
            found = [log_share - np.log(-np.expm1(log_share))]
            if latent_variance is None:
                found.append(log_total / 2)
            quantiles = np.quantile(np.hstack(found), tails, axis=0).T
            return np.asarray(quantiles - np.vstack(targets)).ravel()

        start = [np.log(size * middle[:count]) / 2, np.full(count, np.log(0.15))]
        best = least_squares(misses, np.concatenate(start))
        if np.abs(best.fun).max() > _TOLERANCE:
            raise PriorError(
                f"The ranges of the {self} cannot hold together with independent standard "
                "deviations; make the range of total_sd narrower or those of the shares wider."
            )
        return best.x[:count], np.exp(best.x[count:])

    def __str__(self) -> str:
        """Summarise the budget in a line."""
        parts = ", ".join(f"{g} {lo:.0%} to {hi:.0%}" for g, (lo, hi) in self.shares.items())
        total = "" if self.total_sd is None else f"total SD {self.total_range[0]:.3g} to "
        total += "" if self.total_sd is None else f"{self.total_range[1]:.3g}; "
        return f"variance budget: {total}{parts} of the variance"


def _normals(dimensions: int, points: int = 4096) -> Floats:
    """Evenly spread standard normal points, by the additive recurrence of Roberts (2018)."""
    root = 2.0
    for _ in range(30):
        root = (1 + root) ** (1 / (dimensions + 1))
    steps = root ** -np.arange(1, dimensions + 1)
    return np.asarray(ndtri((0.5 + np.outer(np.arange(1, points + 1), steps)) % 1), dtype=float)
