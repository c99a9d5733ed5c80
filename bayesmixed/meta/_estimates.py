"""The quantities of a meta-analysis with their uncertainty: exact from the grid, or from draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.meta._grid import GridPosterior, grid_of
from bayesmixed.meta._measures import MEASURES, Measure
from bayesmixed.meta._mixture import NormalMixture
from bayesmixed.names import sd_name
from bayesmixed.predictor import INTERCEPT

type Floats = NDArray[np.float64]

PROBS = (0.5, 0.025, 0.975)
COLUMNS = ["mean", "sd", "median", "eti95_lb", "eti95_ub"]


@dataclass(frozen=True, eq=False)
class Synthesis:
    """A fit read as a meta-analysis.

    Parameters
    ----------
    fit : Fit
    measure : Measure, optional
        What its effects are, where that is known.
    exact : GridPosterior, optional
        The grid that it was made from.
    """

    fit: Fit
    measure: Measure | None
    exact: GridPosterior | None

    @property
    def design(self) -> Design:
        """The studies."""
        return self.fit.design

    @property
    def groupings(self) -> list[str]:
        """What the effects vary between, outer to inner."""
        randoms = self.design.predictors["mu"].random
        return [r.name for r in sorted(randoms, key=lambda r: len(r.groups.labels))]

    @property
    def label(self) -> str:
        """What the effects are, for axes."""
        return self.measure.title if self.measure else f"effect ({self.fit.spec.response})"

    @property
    def sampling_variance(self) -> Floats:
        """Known variance of each row, shape (rows,)."""
        assert self.design.sampling_sd is not None
        return np.asarray(self.design.sampling_sd**2)

    def tau(self) -> Floats:
        """Sd between studies at each level, shape (chain, draw, level)."""
        posterior = self.fit.posterior
        levels = [posterior[sd_name("", name)].to_numpy() for name in self.groupings]
        shape = (posterior.sizes["chain"], posterior.sizes["draw"], 0)
        return np.concatenate(levels, axis=-1) if levels else np.zeros(shape)

    def mu(self) -> Floats:
        """Effect at the mean of the moderators, shape (chain, draw)."""
        x = self.design.predictors["mu"].X.mean(axis=0)
        return np.asarray(self.fit.posterior["beta"].to_numpy() @ x)

    def prediction(self) -> NormalMixture:
        """Effect in a new study at the mean of the moderators; its draws mixed, not sampled."""
        if self.exact is not None:
            return self.exact.prediction()
        mean, sd = self.mu().reshape(-1, 1), self._new_sd().reshape(-1, 1)
        return NormalMixture(np.full(len(mean), 1 / len(mean)), mean, np.maximum(sd, 1e-300))

    def new_draws(self) -> Floats:
        """A new study's effect in every draw, shape (chain, draw)."""
        mu = self.mu()
        return mu + self._new_sd() * np.random.default_rng(0).normal(size=mu.shape)

    def _new_sd(self) -> Floats:
        return np.asarray(np.sqrt((self.tau() ** 2).sum(axis=-1)))


def read(fit: Fit) -> Synthesis:
    """Take a fit as a meta-analysis.

    Raises
    ------
    BayesmixedError
        If its outcomes have no known sampling sd, or more than the level varies between studies.
    """
    design = fit.design
    if design.sampling_sd is None or not design.spec.is_exact:
        raise BayesmixedError(
            "This report is for effects with known sampling sds, as bm.meta_analysis(...) or "
            "bm.Model(..., sampling_sd=...) of a gaussian outcome has them."
        )
    design.need_rows("A meta-analysis")
    for random in design.predictors["mu"].random:
        if random.effects != (INTERCEPT,):
            raise BayesmixedError(
                f"What varies between {random.name!r} is {', '.join(random.effects)}; this report "
                f"is for (1 | {random.name}). Use bm.variance_components(fit)."
            )
    attributes = fit.posterior.attrs
    measure = MEASURES.get(str(attributes.get("measure", "")))
    exact = grid_of(design) if attributes.get("method") == "grid" else None
    return Synthesis(fit, measure, exact)


def from_draws(draws: Floats) -> Floats:
    """Columns `COLUMNS` of numbers drawn, shape (numbers, 5), from (chain, draw, numbers)."""
    flat = draws.reshape(-1, draws.shape[-1])
    return np.stack(
        [flat.mean(axis=0), flat.std(axis=0), *np.quantile(flat, PROBS, axis=0)], axis=-1
    )


def from_mixture(mixture: NormalMixture) -> Floats:
    """Columns `COLUMNS` of a mixture's numbers, shape (numbers, 5)."""
    quantiles = [mixture.quantile(p) for p in PROBS]
    return np.stack([mixture.mean, mixture.sd, *quantiles], axis=-1)


def from_function_of_tau(
    exact: GridPosterior, function: Callable[[Floats], Floats], power: float
) -> Floats:
    """Columns `COLUMNS` of a rising function of tau, shape (1, 5).

    Parameters
    ----------
    exact : GridPosterior
    function : callable
        Elementwise.
    power : float
        The power of tau that it grows with; 0 where it is bounded.
    """
    tau = exact.tau
    moments = tau.moments / power if power else np.inf
    values = function(tau.tau)
    mean = float(tau.weights @ values)
    sd = float(tau.weights @ (values - mean) ** 2) ** 0.5
    quantiles = [float(function(np.array(tau.quantile(p)))) for p in PROBS]
    return np.array([[mean if moments > 1 else np.inf, sd if moments > 2 else np.inf, *quantiles]])


def frame(rows: dict[str, Floats], index: str) -> pd.DataFrame:
    """A table of rows of `COLUMNS`."""
    return pd.DataFrame(
        np.stack([np.asarray(v, dtype=float).reshape(-1) for v in rows.values()]),
        index=pd.Index(list(rows), name=index),
        columns=COLUMNS,
    )


def named_draws(values: dict[str, Floats]) -> xr.Dataset:
    """Draws of scalars under their names, each of shape (chain, draw)."""
    return xr.Dataset({name: (("chain", "draw"), v) for name, v in values.items()})
