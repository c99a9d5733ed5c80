"""Replicates: the outcomes of the same rows drawn anew, once for every posterior draw."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.kriging import Kriging
from bayesmixed.linpred import Groups, choices, linear_predictor
from bayesmixed.newcomers import anew
from bayesmixed.sample import generator

type Floats = NDArray[np.float64]


def posterior_predictive(fit: Fit, seed: int | None = None, groups: Groups = "existing") -> Fit:
    """Outcomes of the same rows drawn anew, one set for each posterior draw.

    Where residuals are correlated, those of a series are drawn together with their correlation.

    Parameters
    ----------
    fit : Fit
        The fit.
    seed : int, optional
        The same seed gives the same outcomes.
    groups : {"existing", "new", "average"} or mapping of str to these
        Whether a grouping keeps its effects, has them drawn from the population (the same for all
        rows of a group), or has none.

    Returns
    -------
    Fit
        With the group ``posterior_predictive`` in its tree, variable ``y`` (chain, draw, row), as
        ArviZ's ``plot_ppc_dist`` and the like take it.

    Raises
    ------
    UnknownNameError
        If a grouping or choice is not a valid one.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> fit = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1)
    >>> drawn = bm.posterior_predictive(fit, seed=1)
    >>> drawn.tree["posterior_predictive"]["y"].sizes["row"]
    180
    """
    found = np.concatenate(list(replicates(fit, groups, seed)), axis=1)
    rows = fit.design.table.frame.index.to_numpy()
    drawn = xr.Dataset({"y": (("chain", "draw", "row"), found)}, coords={"row": rows})
    tree = fit.tree.copy()
    tree["posterior_predictive"] = xr.DataTree(drawn)
    return Fit(fit.design, tree, fit.notes)


def replicates(fit: Fit, groups: Groups = "existing", seed: int | None = None) -> Iterator[Floats]:
    """Outcomes drawn anew, some draws at a time; each of shape (chain, draw, row)."""
    rng = generator(seed)
    for piece in fit.pieces():
        yield replicate(piece, piece.design, groups, rng)


def replicate(fit: Fit, design: Design, groups: Groups, rng: np.random.Generator) -> Floats:
    """Outcomes of rows drawn once for every posterior draw, shape (chain, draw, row)."""
    whose = choices(design, groups)
    drawn = {name for name, choice in whose.items() if choice == "new"}
    kept = {n: "average" if n in drawn else choice for n, choice in whose.items()}
    predictor = linear_predictor(fit, design, kept)
    eta = dict(predictor.centre)
    for name, part in design.predictors.items():
        for random in part.random:
            if random.name in drawn:
                u = anew(fit, design, name, random, rng)
                rows = u[..., random.groups.index, :] * random.Z
                eta[name] = eta[name] + rows.sum(axis=-1)
    if fit.design.series is not None:
        return Kriging.of(fit.design, design).draw(fit, eta, rng)
    found = design.family.evaluate(
        design.family.simulate, eta, design.links, rng=rng, **design.known
    )
    return np.asarray(found, dtype=np.float64)
