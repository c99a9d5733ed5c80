r"""A process whose values depend on the value before only, proposed in time linear in their number.

With :math:`x` the values of one series over their standard deviations and :math:`r_i` the
correlation of each with the one before, the prior precision of x is a band,

.. math:: \log p(x) = -\tfrac12 x_1^2 - \tfrac12 \sum_i
    \frac{(x_i - r_i x_{i-1})^2}{1 - r_i^2} + \mathrm{const},

and so are the precision at the mode and its root (Rue & Held 2005, Gaussian Markov Random Fields,
chapter 2). What is proposed is what `Target` does with dense matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.newcomers import Newcomers
from bayesmixed.places import Places, steps
from bayesmixed.proposals import STEP, Peak, Target, climb

type Floats = NDArray[np.float64]
type Integers = NDArray[np.intp]

# What is left of the variance of a value given the one before, at least.
_LEAST = 1e-12


@dataclass(frozen=True)
class Markov:
    """Density of rows and of the values of a process in one series, in every draw.

    Parameters
    ----------
    target : Target
        Of the rows, without the process.
    parameter : str
        To whose predictor it is added.
    index : array of int, shape (rows,)
        The place in time of each row.
    scale : array, shape (sample, row)
        What values with standard deviation 1 are multiplied by.
    r : array, shape (sample, times - 1)
        Correlation of each time with the one before.
    """

    target: Target
    parameter: str
    index: Integers
    scale: Floats
    r: Floats

    @classmethod
    def of(cls, fit: Fit, rows: Design, new: Sequence[Newcomers]) -> Markov | None:
        """Of one series and nothing else; None where there is more, or more memory in it."""
        if len(new) != 1 or new[0].following is None:
            return None
        (each,) = new
        following, between = each.following, each.random.between
        assert following is not None
        assert between is not None
        series = between.series
        if series is None or not series.parameters:
            return None
        first = each.relatives.first if each.relatives is not None else np.zeros(0, dtype=np.intp)
        places = Places.of(series, rows.table.frame.iloc[first])
        order = np.lexsort(places.times.T[::-1])
        times = places.times[order]
        one = {p.name: fit.posterior[between.named(p.name)].to_numpy()[0, 0]
               for p in series.parameters}  # fmt: skip
        if series.structure.by is not None:
            one = {name: values[places.arm[0]] for name, values in one.items()}
        if places.who.max() > 0 or series.structure.steps(one, times) is None:
            return None
        r = steps(series, fit.posterior, int(places.arm[0]), times, between.named)
        scale = following.sds(fit)[:, each.index] * each.random.Z[:, 0]
        place = np.argsort(order)[each.index]
        return cls(Target.of(fit, rows, []), each.parameter, place, scale, r)

    @property
    def size(self) -> int:
        """Number of times."""
        return int(self.r.shape[1]) + 1

    @property
    def _left(self) -> Floats:
        """Variance of each value given the one before, shape (sample, times - 1)."""
        return np.maximum(1 - self.r**2, _LEAST)

    def loglik(self, x: Floats, off: Floats | float = 0.0) -> Floats:
        """Log-density of every row, shape (sample, proposal, row)."""
        return self.target.loglik({self.parameter: x[..., self.index] * self.scale[:, None] + off})

    def density(self, x: Floats) -> Floats:
        """Log of p(y | x) p(x), shape (sample, proposal)."""
        left, r = self._left[:, None], self.r[:, None]
        squares = x[..., 0] ** 2 + ((x[..., 1:] - r * x[..., :-1]) ** 2 / left).sum(axis=-1)
        constant = self.size * np.log(2 * np.pi) + np.log(left).sum(axis=-1)
        found = self.loglik(x).sum(axis=-1) - 0.5 * (squares + constant)
        return np.asarray(found + self.target.constant[:, None])

    def peak(self) -> Peak:
        """The mode, and the root of the precision there."""

        def step(x: Floats) -> Floats:
            gradient, diagonal, beside = self._derivatives(x)
            return _solve(*_root(diagonal, beside), gradient)

        x = climb(self, step, np.zeros((len(self.r), self.size)))
        own, below = _root(*self._derivatives(x)[1:])
        return Peak(x, np.log(own).sum(axis=-1), lambda half: _back(own, below, half))

    def _derivatives(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Gradient of the log-density, and the bands of its negative Hessian."""
        h = STEP * np.maximum(np.abs(self.scale), np.finfo(float).tiny ** 0.25)
        here = x[:, None]
        down, middle, up = (self.loglik(here, k * h[:, None])[:, 0] for k in (-1, 0, 1))
        with np.errstate(all="ignore"):
            slope = np.nan_to_num((up - down) / (2 * h), posinf=0.0, neginf=0.0) * self.scale
            bend = (2 * middle - up - down) / h**2
        # Where a likelihood is not concave, the prior's curvature places the proposals.
        curve = np.maximum(np.nan_to_num(bend, posinf=0.0, neginf=0.0), 0.0) * self.scale**2
        of_times = (self.index[:, None] == np.arange(self.size)).astype(np.float64)
        left, r = self._left, self.r
        diagonal = np.ones_like(x)
        diagonal[:, 1:] = 1 / left
        diagonal[:, :-1] += r**2 / left
        beside = -r / left
        pull = diagonal * x
        pull[:, 1:] += beside * x[:, :-1]
        pull[:, :-1] += beside * x[:, 1:]
        return slope @ of_times - pull, diagonal + curve @ of_times, beside


def _root(diagonal: Floats, beside: Floats) -> tuple[Floats, Floats]:
    """Cholesky factor of matrices with one band on either side of the diagonal."""
    own, below = diagonal.copy(), beside.copy()
    own[:, 0] = np.sqrt(own[:, 0])
    for i in range(below.shape[1]):
        below[:, i] /= own[:, i]
        own[:, i + 1] = np.sqrt(np.maximum(own[:, i + 1] - below[:, i] ** 2, _LEAST))
    return own, below


def _back(own: Floats, below: Floats, values: Floats) -> Floats:
    """The inverse of the transposed factor times values, shape (sample, proposal, times)."""
    found = values.copy()
    found[..., -1] /= own[:, None, -1]
    for i in range(below.shape[1] - 1, -1, -1):
        found[..., i] = (found[..., i] - below[:, None, i] * found[..., i + 1]) / own[:, None, i]
    return found


def _solve(own: Floats, below: Floats, right: Floats) -> Floats:
    """The inverse of the matrix with this factor times a vector, shape (sample, times)."""
    found = right.copy()
    found[:, 0] /= own[:, 0]
    for i in range(below.shape[1]):
        found[:, i + 1] = (found[:, i + 1] - below[:, i] * found[:, i]) / own[:, i + 1]
    return _back(own, below, found[:, None])[:, 0]
