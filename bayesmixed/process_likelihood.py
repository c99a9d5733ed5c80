r"""Likelihood of whole series in every draw, a process and all effects inside them averaged over.

With :math:`u = B z` the values of a process at the times of a unit, and effects of groups in it

.. math:: p(y_j \mid \theta) = \int p(y_j \mid B z, \theta)\, \mathrm N(z; 0, I)\, dz

has as many dimensions as the unit has times. It is the mean of importance weights of values
proposed about the mode, in pairs on both sides of it (see `proposals`); more are proposed where
the weights differ much. What the weights differ by is the Monte Carlo error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.special import logsumexp

from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.groups import Groups, group_keys
from bayesmixed.markov import Markov
from bayesmixed.newcomers import Newcomers, runs
from bayesmixed.predictor import RandomDesign
from bayesmixed.proposals import Target, pairs, width
from bayesmixed.relatives import Relatives
from bayesmixed.rows import take
from bayesmixed.subjects import within

type Floats = NDArray[np.float64]

# Proposals for each draw at first and at most, and the error of log p where they are enough.
_FIRST, _MOST, _ENOUGH = 32, 512, 0.3
_SEED = 1


def series_likelihood(fit: Fit, groups: Groups, rows: Design) -> xr.Dataset:
    """Log-likelihood of units that hold whole series, with its Monte Carlo error.

    Parameters
    ----------
    fit : Fit
    groups : Groups
        Of the fit's rows. Effects of groupings inside them are averaged over; those of groupings
        around them keep their values in the draw.
    rows : Design
        Rows with outcomes; their units need not be in the fit.

    Returns
    -------
    Dataset
        ``log_likelihood`` and ``mcse`` with dims (chain, draw, <group>).
    """
    rows.need_rows("The likelihood of whole series")
    inside = within(fit.design, groups.index)
    if rows is not fit.design:
        groups = Groups.of(groups.grouping, rows.table.frame)
    rng = np.random.default_rng(_SEED)
    found = np.empty((2, *(fit.posterior.sizes[d] for d in ("chain", "draw")), len(groups.labels)))
    order = np.argsort(groups.index, kind="stable")
    units = np.split(order, np.cumsum(groups.sizes)[:-1])
    for j, (at, own) in enumerate(zip(units, rng.spawn(len(units)), strict=True)):
        unit = _as_new(take(rows, at), inside)
        new = list(_newcomers(fit.design, unit, inside))
        first = 0
        probe = next(runs(fit, len(at), most=1))
        dense = 0 if Markov.of(probe, unit, new) is not None else 2 * sum(map(width, new))
        for piece in runs(fit, len(at) * max(_FIRST, dense)):
            shape = piece.posterior.sizes["chain"], piece.posterior.sizes["draw"]
            values = _averaged(Markov.of(piece, unit, new) or Target.of(piece, unit, new), own)
            found[:, :, first : first + shape[1], j] = values.reshape((2, *shape))
            first += shape[1]
    dims = ("chain", "draw", groups.name)
    whole = {"log_likelihood": (dims, found[0]), "mcse": (dims, found[1])}
    return xr.Dataset(whole, {groups.name: groups.labels})


def _averaged(target: Target | Markov, rng: np.random.Generator) -> Floats:
    """Log of the mean weight and its standard error, shape (2, draws)."""
    if isinstance(target, Target) and not target.loadings:
        return np.stack([target.density(np.zeros((1, 1, 0)))[:, 0], np.zeros(len(target.constant))])
    peak = target.peak()
    count = _FIRST
    while True:
        _, log_weights = pairs(target, peak, rng, count)
        one, other = np.split(log_weights, 2, axis=1)
        found = _mean(np.logaddexp(one, other) - np.log(2))
        if count >= _MOST or np.quantile(found[1], 0.9) <= _ENOUGH:
            return found
        count *= 4


def _mean(log_values: Floats) -> Floats:
    """Log of the mean of values given by logarithms, and its standard error, shape (2, draws).

    Each value is of one of equal strata, in their order: neighbours tell how values vary in one
    (Wolter 2007, Introduction to Variance Estimation, section 8.2).
    """
    count = log_values.shape[1]
    total = logsumexp(log_values, axis=1)
    steps = np.diff(np.exp(log_values - total[:, None]), axis=1)
    variance = (steps**2).sum(axis=1) * count / (2 * (count - 1))
    return np.stack([total - np.log(count), np.sqrt(variance)])


def _as_new(unit: Design, inside: Sequence[str]) -> Design:
    """The same rows, whose groups inside the unit are not in the fit."""

    def random(given: RandomDesign) -> RandomDesign:
        if given.name not in inside:
            return given
        groups = replace(given.groups, index=np.full(len(unit.y), -1))
        return replace(given, groups=groups)

    predictors = {
        name: replace(p, random=tuple(map(random, p.random))) for name, p in unit.predictors.items()
    }
    return replace(unit, predictors=predictors)


def _newcomers(design: Design, unit: Design, inside: Sequence[str]) -> Iterator[Newcomers]:
    """The groups inside a unit, as new ones."""
    for parameter, predictor in unit.predictors.items():
        for random in predictor.random:
            if random.name not in inside:
                continue
            relatives = Relatives.unseen(design, unit, parameter, random)
            if relatives is None:
                index, labels = pd.factorize(group_keys(random.groups.grouping, unit.table.frame))
                yield Newcomers(parameter, random, index, len(labels))
            else:
                count = len(relatives.first)
                yield Newcomers(parameter, random, relatives.index, count, relatives)
