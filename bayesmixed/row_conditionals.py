r"""Rows of a series with correlated residuals, each given other rows of it.

With :math:`V` the covariance of a series, :math:`e = y - \mu`, :math:`V = LL'` and
:math:`Q = V^{-1}`, a row less what the others foretell of it, and the variance that is left, are

.. math:: (Qe)_i / Q_{ii}, \; 1/Q_{ii} \qquad \text{and} \qquad L_{ii} (L^{-1}e)_i, \; L_{ii}^2

given all others (Bürkner, Gabry & Vehtari 2021, Comput. Stat. 36:1243, eq. 14) and given those
before it in time. Densities of the second kind multiply to that of the series.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.places import Places
from bayesmixed.rows import take
from bayesmixed.subjects import Normal, within

type Floats = NDArray[np.float64]
type Integers = NDArray[np.intp]
type Given = Literal["effects", "earlier", "others"]


def row_blocks(design: Design, most: int) -> list[Integers]:
    """All rows in blocks of about so many, each series in one piece and those alike together."""
    rows = len(design.y)
    if design.series is None:
        return [np.arange(i, min(i + most, rows)) for i in range(0, rows, most)]
    lengths = np.repeat(design.series.lengths, design.series.counts)
    ends = np.cumsum(lengths)
    cuts = ends[np.flatnonzero(np.diff((ends - 1) // most))]
    return [np.asarray(part, dtype=np.intp) for part in np.split(design.series.order, cuts)]


def departures(fit: Fit, rows: Integers, given: Given) -> tuple[Floats, Floats]:
    """How far outcomes are from their conditional means, and the conditional standard deviations.

    Parameters
    ----------
    fit : Fit
        With correlated residuals.
    rows : array of int
        Rows of whole series, such as a block of `row_blocks`.
    given : {"effects", "earlier", "others"}
        What is known of a row's series besides parameters and effects of groups: nothing, the
        earlier rows, or all other rows. With these, effects of groups that lie inside a series are
        integrated out, so that they are known from the other rows alone; but for groupings with
        ``covariances=``, whose effects keep their values in the draw.

    Returns
    -------
    off, sd : array, shape (chain, draw, row)
        In units of the outcome.
    """
    design = take(fit.design, rows)
    inside = _inside(fit.design) if given == "others" else ()
    normal = Normal(fit, design, Places.of(fit.design.series, design.table.frame), inside)
    off, sd = design.y - normal.mean, np.array(normal.sd)
    if given != "effects":
        for members in normal.alike():
            for some in normal.runs(members.shape[1] * (members.shape[1] + len(members))):
                V, e = normal.covariance(members[0], some), off[some][:, members]
                here = np.arange(normal.draws)[some][:, None, None], members
                off[here], sd[here] = _earlier(V, e) if given == "earlier" else _others(V, e)
    shape = (fit.posterior.sizes["chain"], fit.posterior.sizes["draw"], len(rows))
    return off.reshape(shape), sd.reshape(shape)


def row_log_density(fit: Fit, rows: Integers, given: Given) -> Floats:
    """Log-density of each row, as `departures` has it; shape (chain, draw, row)."""
    off, sd = departures(fit, rows, given)
    return np.asarray(norm.logpdf(off, scale=sd))


def _inside(design: Design) -> tuple[str, ...]:
    """Groupings whose groups lie inside a series and can be integrated out.

    Groups with variances of their own, or with relatives in other series, keep their effects.
    """
    assert design.series is not None
    spread = design.predictors.get("sigma")
    kept = {r.name for r in spread.random} if spread else set()
    kept |= {r.name for r in design.predictors["mu"].random if r.between is not None}
    return tuple(name for name in within(design, design.series.index) if name not in kept)


def _earlier(V: Floats, e: Floats) -> tuple[Floats, Floats]:
    """Given the rows before; V (draws, m, m), e (draws, series, m)."""
    L = np.linalg.cholesky(V)
    scale = np.diagonal(L, axis1=1, axis2=2)[:, None]
    return np.linalg.solve(L, e.mT).mT * scale, np.broadcast_to(scale, e.shape)


def _others(V: Floats, e: Floats) -> tuple[Floats, Floats]:
    """Given all other rows; V (draws, m, m), e (draws, series, m)."""
    Q = np.linalg.inv(V)
    variance = 1 / np.diagonal(Q, axis1=1, axis2=2)[:, None]
    return e @ Q * variance, np.broadcast_to(np.sqrt(variance), e.shape)
