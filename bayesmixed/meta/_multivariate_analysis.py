"""The front door of a meta-analysis of correlated outcomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from bayesmixed._errors import BayesmixedError, PriorError, listed, lookup
from bayesmixed.fit import Fit, write
from bayesmixed.meta._densities import density
from bayesmixed.meta._measures import Measure, get_measure
from bayesmixed.meta._multivariate import Nodes, Pairs, nodes_of
from bayesmixed.meta._multivariate_sampled import sample_outcomes
from bayesmixed.meta._outcomes import Outcomes, outcomes_of
from bayesmixed.meta._stored import from_text, to_text
from bayesmixed.priors import Prior
from bayesmixed.sample import Settings

_ASSUMED_SIZE = 100


@dataclass(frozen=True, eq=False, repr=False)
class MultivariateFit:
    """Posterior of a meta-analysis of two outcomes, on a grid.

    Parameters
    ----------
    pairs : Pairs
        Studies with the priors.
    outcomes : tuple of str
    studies : tuple of str
    measure : Measure, optional
    draws : int
    seed : int, optional
    notes : tuple of str
        What was assumed.
    """

    pairs: Pairs
    outcomes: tuple[str, str]
    studies: tuple[str, ...]
    measure: Measure | None
    draws: int
    seed: int | None
    notes: tuple[str, ...]

    @cached_property
    def nodes(self) -> Nodes:
        """The posterior on the grid."""
        return nodes_of(self.pairs)

    @cached_property
    def posterior(self) -> xr.Dataset:
        """Draws of ``mu`` and ``tau`` (chain, draw, outcome) and ``rho``."""
        rng, nodes = np.random.default_rng(self.seed), self.nodes
        uniform = (np.arange(self.draws) + rng.random(self.draws)) / self.draws
        total = np.cumsum(nodes.weights.reshape(-1))
        at = np.minimum(np.searchsorted(total, uniform * total[-1]), len(total) - 1)
        points = np.stack(np.meshgrid(nodes.x1, nodes.x2, nodes.z, indexing="ij"), axis=-1)
        widths = [axis[1] - axis[0] for axis in (nodes.x1, nodes.x2, nodes.z)]
        jitter = rng.uniform(-0.5, 0.5, (self.draws, 3)) * widths
        drawn = rng.permutation(points.reshape(-1, 3)[at] + jitter)
        tau, rho = np.exp(drawn[:, :2]), np.tanh(drawn[:, 2])
        _, mean, covariance = self.pairs.given(tau, rho)
        z = rng.normal(size=(self.draws, 2))
        mu = mean + np.einsum("nij,nj->ni", np.linalg.cholesky(covariance), z)
        dims = ("chain", "draw", "outcome")
        return xr.Dataset(
            {"mu": (dims, mu[None]), "tau": (dims, tau[None]), "rho": (dims[:2], rho[None])},
            coords={"outcome": list(self.outcomes)},
        )

    def save(self, path: str | PathLike[str]) -> Path:
        """Write everything to one netCDF file, for `load`.

        Parameters
        ----------
        path : path
            The suffix ``.nc`` is customary.

        Raises
        ------
        StorageError
            If the file cannot be written, or a prior is a distribution of one's own.
        """
        pairs = self.pairs
        stored = xr.Dataset(
            {
                "y": (("study", "outcome"), pairs.y),
                "V": (("study", "outcome", "outcome_bis"), pairs.V),
                "seen": (("study", "outcome"), pairs.seen),
                "scale": ("outcome", pairs.scale),
                "studies": ("study", np.array(self.studies, dtype=object)),
                "outcomes": ("outcome", np.array(self.outcomes, dtype=object)),
            }
        )
        tree = xr.DataTree.from_dict({"posterior": self.posterior, "pairs": stored})
        tree.attrs = {
            "kind": "multivariate",
            "tau": json.dumps([to_text(tau) for tau in pairs.tau]),
            "eta": pairs.eta,
            "measure": self.measure.name if self.measure else "",
            "draws": self.draws,
            "seed": json.dumps(self.seed),
            "notes": json.dumps(self.notes),
        }
        return write(tree, path)

    @classmethod
    def restored(cls, tree: xr.DataTree) -> MultivariateFit:
        """The fit that `save` wrote, with its draws."""
        stored, attributes = tree["pairs"].to_dataset(), tree.attrs
        first, second = (from_text(text) for text in json.loads(attributes["tau"]))
        y, V, seen, scale = (stored[name].to_numpy() for name in ("y", "V", "seen", "scale"))
        one, other = map(str, stored["outcomes"].to_numpy())
        fit = cls(
            Pairs(y, V, seen.astype(bool), scale, (first, second), float(attributes["eta"])),
            (one, other),
            tuple(map(str, stored["studies"].to_numpy())),
            get_measure(attributes["measure"]) if attributes["measure"] else None,
            int(attributes["draws"]),
            json.loads(attributes["seed"]),
            tuple(json.loads(attributes["notes"])),
        )
        # Without a seed other draws would be made.
        vars(fit)["posterior"] = tree["posterior"].to_dataset()
        return fit


def multivariate_meta_analysis(
    data: Any,
    effect: str = "yi",
    se: str | None = None,
    study: str = "study",
    outcome: str = "outcome",
    *,
    rho: float | None = None,
    V: Any = None,
    measure: str | None = None,
    priors: Mapping[str, Prior] | None = None,
    method: Literal["grid", "nuts"] | None = None,
    draws: int | None = None,
    tune: int = 1000,
    chains: int = 4,
    seed: int | None = None,
    progress: bool = True,
) -> MultivariateFit | Fit:
    r"""Meta-analysis of several outcomes of the same patients, whose estimates are correlated.

    .. math:: y_i \sim N(\theta_i, V_i), \quad \theta_i \sim N(\mu, G), \quad
              G_{jk} = \rho_{jk} \tau_j \tau_k

    Studies with some of the outcomes lend strength to the others [1]_. Two outcomes are on a grid;
    of more the covariance between studies is sampled, with all effects integrated out, and these
    are drawn given it.

    Parameters
    ----------
    data : table
        A row a study and outcome.
    effect, se : str
        Columns of effects and, with `rho`, of standard errors.
    study, outcome : str
        Columns of labels; there are two outcomes or more, and at most one row of a study for each.
    rho : float, optional
        Assumed correlation of two estimates of a study, the same in all, such that all of a
        study's can have it; see `correlation_sensitivity`.
    V : array, shape (rows, rows), optional
        Known sampling covariance of the rows, in their order; 0 between studies.
    measure : str, optional
        What the effects are, as for `effect_sizes`.
    priors : mapping of str to Prior, optional
        ``"mu"`` (Normal with ``mu=0``, or Flat) and ``"tau"`` for all outcomes, or
        ``"mu[<outcome>]"``, ``"tau[<outcome>]"`` for one; ``"rho"``, an LKJ prior. Unless given
        N(0, U) and half-normal(0.25 U) with U the unit-information sd of the outcome, as for
        `meta_analysis`, and LKJ(2).
    method : {"grid", "nuts"}, optional
        The grid for two outcomes, and NUTS for more, unless given.
    draws, tune, chains, seed, progress
        As for `Model.fit`; from the grid 4000 draws in all, and with NUTS 1000 of each chain,
        unless given.

    Returns
    -------
    MultivariateFit or Fit
        For `multivariate_effects`; from the grid also for `correlation_sensitivity`. A `Fit` by
        NUTS has ``beta`` (mu), ``sd_<study>`` (tau), ``cor_<study>`` and ``u_<study>``, of rows
        that were made independent.

    Raises
    ------
    BayesmixedError
        With what was given, what is valid and what to do.

    References
    ----------
    .. [1] Jackson, Riley & White (2011), Stat. Med. 30:2481.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("berkey1998")
    >>> fit = bm.multivariate_meta_analysis(data, "yi", "sei", "trial", rho=0.4, seed=1)
    >>> fit.posterior["mu"].sizes["outcome"]
    2
    """
    found = outcomes_of(data, effect, se, study, outcome, rho, V)
    method = _method(method, outcome, found.outcomes)
    chosen = get_measure(measure) if measure else None
    assigned = _priors(found, chosen, dict(priors or {}))
    notes = [
        f"Priors of {o}: mu ~ {assigned[f'mu[{o}]']}, tau ~ {assigned[f'tau[{o}]']}."
        for o in found.outcomes
    ]
    within = f"Assumed correlation within studies: {rho:g}." if rho is not None else ""
    said = tuple(text for text in (within, *notes) if text)
    if method == "nuts":
        # Smaller steps cost little here, where only a covariance is sampled.
        settings = Settings(draws or 1000, tune, chains, seed, 0.99, progress=progress)
        return sample_outcomes(found, assigned, settings, said)
    one, two = found.outcomes
    scale = [dict(assigned[f"mu[{o}]"].parameters).get("sigma", np.inf) for o in (one, two)]
    taus = (density(assigned[f"tau[{one}]"]), density(assigned[f"tau[{two}]"]))
    eta = float(dict(assigned["rho"].parameters)["eta"])
    pairs = Pairs(found.y, found.V, found.seen, np.array(scale), taus, eta)
    return MultivariateFit(pairs, (one, two), found.studies, chosen, draws or 4000, seed, said)


def _method(
    method: Literal["grid", "nuts"] | None, outcome: str, outcomes: tuple[str, ...]
) -> Literal["grid", "nuts"]:
    """How to compute, checked against the number of outcomes."""
    if method is None:
        return "grid" if len(outcomes) == 2 else "nuts"
    lookup({"grid": 0, "nuts": 0}, method, "method")
    if method == "grid" and len(outcomes) > 2:
        raise BayesmixedError(
            f"The grid is for two outcomes; {outcome!r} has {len(outcomes)}: {listed(outcomes)}. "
            'Use method="nuts".'
        )
    return method


def _priors(
    studies: Outcomes, measure: Measure | None, given: dict[str, Prior]
) -> dict[str, Prior]:
    """The prior of every parameter, by name."""
    outcomes, y, V, seen = studies.outcomes, studies.y, studies.V, studies.seen
    valid = ["mu", "tau", "rho", *(f"{n}[{o}]" for n in ("mu", "tau") for o in outcomes)]
    unknown = sorted(set(given) - set(valid))
    if unknown:
        raise PriorError(f"No parameter is called {listed(unknown)}; valid: {listed(valid)}.")
    found: dict[str, Prior] = {}
    for j, name in enumerate(outcomes):
        mine, v = y[seen[:, j], j], V[seen[:, j], j, j]
        unit = measure.unit_sd if measure and measure.unit_sd else None
        if unit is None:
            assumed = float(np.sqrt(_ASSUMED_SIZE * len(mine) / np.sum(1 / v)))
            unit = max(assumed, 4 * float(np.sqrt(np.mean(mine**2))))
        mu = given.get(f"mu[{name}]", given.get("mu", Prior("Normal", mu=0, sigma=unit)))
        values = dict(mu.parameters)
        if mu.distribution not in ("Normal", "Flat") or values.get("mu", 0.0) != 0:
            raise PriorError(f"The prior of mu is Normal with mu=0, or Flat; not {mu}.")
        tau = given.get(f"tau[{name}]", given.get("tau", Prior("HalfNormal", sigma=0.25 * unit)))
        tau.check_support("The standard deviation between studies", "positive")
        found |= {f"mu[{name}]": mu, f"tau[{name}]": tau}
    rho = given.get("rho", Prior("LKJ", eta=2))
    if rho.distribution != "LKJ":
        raise PriorError(f"The prior of rho is LKJ(eta=...); not {rho}.")
    return found | {"rho": rho}
