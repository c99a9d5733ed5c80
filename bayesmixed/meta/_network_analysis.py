"""The front door of a network meta-analysis."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, PriorError, listed
from bayesmixed.data import to_pandas
from bayesmixed.fit import write
from bayesmixed.meta._defaults import UnitInformation
from bayesmixed.meta._densities import density
from bayesmixed.meta._estimates import COLUMNS, from_function_of_tau, from_mixture
from bayesmixed.meta._grid import GridPosterior
from bayesmixed.meta._heterogeneity import Density
from bayesmixed.meta._measures import Measure, get_measure
from bayesmixed.meta._network import Network
from bayesmixed.meta._network_arms import read_network
from bayesmixed.meta._regression import Regression
from bayesmixed.meta._stored import priors_from_text, priors_to_text
from bayesmixed.priors import Prior
from bayesmixed.tables import formats

type Floats = NDArray[np.float64]

_ASSUMED_SIZE = 100


@dataclass(frozen=True, eq=False, repr=False)
class NetworkFit:
    """Exact posterior of a network meta-analysis.

    Parameters
    ----------
    network : Network
        Trials and treatments, the reference first.
    grid : GridPosterior
        Heterogeneity on a grid, everything else in closed form given it.
    posterior : xarray.Dataset
        Draws: ``d`` (chain, draw, treatment), effects relative to the reference, and ``tau``.
    priors : mapping of str to Prior
        ``"d"``, of every pairwise effect, and ``"tau"``.
    measure : Measure, optional
        What the effects are, where that is known.
    notes : tuple of str
        What was assumed.
    """

    network: Network
    grid: GridPosterior
    posterior: xr.Dataset
    priors: Mapping[str, Prior | Density]
    measure: Measure | None = None
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What the effects are, for axes."""
        return self.measure.title if self.measure else "effect"

    @property
    def ratio(self) -> str:
        """What exponentials of the effects are called; empty where that means nothing."""
        return self.measure.ratio if self.measure else ""

    def contrast(self, pairs: list[tuple[int, int]]) -> Floats:
        """Rows over the coefficients for effects of the first of each pair to the second."""
        rows = np.zeros((len(pairs), len(self.network.treatments)))
        at = np.arange(len(pairs))
        rows[at, [a for a, _ in pairs]] += 1
        rows[at, [b for _, b in pairs]] -= 1
        return rows[:, 1:]

    def summary(self) -> pd.DataFrame:
        """Effects relative to the reference, and tau.

        Returns
        -------
        pandas.DataFrame
            Mean, sd, median and 95 % equal-tailed interval, exact.
        """
        effects = from_mixture(self.grid.coefficients)
        tau = from_function_of_tau(self.grid, lambda tau: tau, 1.0)
        names = [*(f"d[{name}]" for name in self.network.treatments[1:]), "tau"]
        index = pd.Index(names, name="parameter")
        return pd.DataFrame(np.vstack([effects, tau]), index=index, columns=COLUMNS)

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
        tree = xr.DataTree.from_dict(
            {"posterior": self.posterior, "network": self.network.to_dataset()}
        )
        tree.attrs = {
            "kind": "network",
            "priors": priors_to_text(self.priors),
            "common": int(self.grid.prior is None),
            "measure": self.measure.name if self.measure else "",
            "notes": json.dumps(self.notes),
        }
        return write(tree, path)

    @classmethod
    def restored(cls, tree: xr.DataTree) -> NetworkFit:
        """The fit that `save` wrote."""
        network = Network.from_dataset(tree["network"].to_dataset())
        priors, measure = priors_from_text(tree.attrs["priors"]), tree.attrs["measure"]
        tau = None if tree.attrs["common"] else priors["tau"]
        return cls(
            network,
            network_grid(network, priors["d"], tau),
            tree["posterior"].to_dataset(),
            priors,
            get_measure(measure) if measure else None,
            tuple(json.loads(tree.attrs["notes"])),
        )

    def __str__(self) -> str:
        """The network in a line, the notes and the table."""
        network, table = self.network, self.summary().rename_axis(None)
        multi = sum(len(t.arms) > 2 for t in network.trials)
        lines = [
            f"Network meta-analysis: {len(network.trials)} trials ({multi} with more than two "
            f"arms), {len(network.treatments)} treatments",
            *self.notes,
            "",
            table.to_string(formatters=formats(table)),
        ]
        return "\n".join(lines)


def network_meta_analysis(
    data: Any,
    measure: str | None = None,
    *,
    study: str = "study",
    treatment: str = "treatment",
    versus: str | None = None,
    reference: str | None = None,
    common: bool = False,
    priors: Mapping[str, Prior | Density] | None = None,
    draws: int = 1000,
    chains: int = 4,
    seed: int | None = None,
    **columns: str,
) -> NetworkFit:
    r"""Network meta-analysis under consistency, exactly, in milliseconds.

    .. math:: y_i \sim N(X_i d, V_i + \tau^2 Z), \quad Z_{jj} = 1, Z_{jk} = 1/2

    for the contrasts :math:`y_i` of trial i with one of its arms: a trial of three or more arms
    has correlated contrasts, through the sampling error of the shared arm and through its true
    effect [1]_ [2]_. Consistency is that the effect of A to C is that of A to B plus that of B to
    C; `network_consistency` checks it.

    Parameters
    ----------
    data : table
        A row an arm; or a row a contrast, with `versus`.
    measure : {"OR", "RR", "RD", "MD", "ROM", "IRR", "IRD"}, optional
        What is analysed, from columns of arms: `events` and `n`, `mean`, `sd` and `n`, or `events`
        and `time`. With `effect` and `se` it only names the scale.
    study, treatment : str
        Columns of labels.
    versus : str, optional
        Column of the treatment that the row's treatment is compared with; `effect` and `se` then
        are of the comparison. A trial with k arms has all k (k - 1) / 2 rows, or k - 1 with one
        common arm and the column `baseline_se` with that arm's own standard error.
    reference : str, optional
        Treatment to which ``d`` is relative; that in most trials unless given. It changes no
        comparison.
    common : bool
        Whether trials of the same comparison have the same effect, so that tau is 0.
    priors : mapping of str to Prior, optional
        ``"d"``: of the effect of *every* treatment relative to every other (the same for all
        pairs, so that none is favoured), Normal with ``mu=0`` or Flat; ``"tau"``. Unless given
        N(0, U) and half-normal(0.25 U), with U the unit-information sd; for log odds ratios
        N(0, 2) and half-normal(0.5).
    draws, chains, seed
        Stratified draws from the exact posterior.
    **columns : str
        Names of the columns: `events`, `n`, `mean`, `sd`, `time`, `effect`, `se`, `baseline_se`.
        A trial with an arm without events (or with nothing else) gets 0.5 added to each cell of
        all its arms.

    Returns
    -------
    NetworkFit
        For `league_table`, `treatment_ranking` and `network_consistency`.

    Raises
    ------
    BayesmixedError
        With what was given, what is valid and what to do; a network that falls into parts is
        refused, and the parts named.

    References
    ----------
    .. [1] Salanti, Higgins, Ades & Ioannidis (2008), Stat. Methods Med. Res. 17:279.
    .. [2] Higgins & Whitehead (1996), Stat. Med. 15:2733, section 4.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> arms = bm.datasets.load("senn2013")
    >>> fit = bm.network_meta_analysis(arms, "MD", mean="mi", sd="sdi", n="ni", seed=1)
    >>> fit.network.treatments[0], fit.posterior["d"].shape
    ('placebo', (4, 1000, 10))
    """
    valid = ("events", "n", "mean", "sd", "time", "effect", "se", "baseline_se")
    for name in columns:
        if name not in valid:
            raise BayesmixedError(f"There is no column {name!r} to name; valid: {listed(valid)}.")
    chosen = get_measure(measure) if measure else None
    if versus is not None and not {"effect", "se"} <= set(columns):
        raise BayesmixedError("Contrasts (versus=...) need the columns effect= and se=.")
    table = to_pandas(data)
    table = table if table.index.is_unique else table.reset_index(drop=True)
    network = read_network(table, measure, study, treatment, versus, columns, reference)
    unit = _unit(network, chosen)
    assigned, noted = _priors(unit, priors)
    grid = network_grid(network, assigned["d"], None if common else assigned["tau"])
    notes = (f"Effects are relative to {network.treatments[0]}.", *noted)
    posterior = _drawn(network, grid, draws, chains, seed)
    return NetworkFit(network, grid, posterior, assigned, chosen, notes)


def network_grid(
    network: Network,
    effects: Prior | Density,
    tau: Prior | Density | None,
    extra: Floats | None = None,
    names: tuple[str, ...] = (),
) -> GridPosterior:
    """The grid posterior of a network, with columns beyond consistency where these are given.

    Parameters
    ----------
    network : Network
    effects : Prior
        Normal about 0 or Flat, of every pairwise effect.
    tau : Prior or Density, optional
        None for a common effect.
    extra : array, shape (rows, columns), optional
        In the independent coordinates of `Network.stacked`.
    names : tuple of str
        Of the extra columns.
    """
    y, v, X = network.stacked()
    count = len(network.treatments) - 1
    scale = effect_scale(effects)
    # Effects to the reference with covariance s^2 (1 + I) / 2 give every pair variance s^2.
    factor = np.linalg.cholesky((np.eye(count) + 1) / 2)
    X = X[:, 1:]
    if extra is not None:
        X = np.hstack([X, extra])
        factor = np.block(
            [
                [factor, np.zeros((count, extra.shape[1]))],
                [np.zeros((extra.shape[1], count)), np.eye(extra.shape[1])],
            ]
        )
    raw = factor if np.isinf(scale) else factor * scale
    precision = np.full(X.shape[1], 0.0 if np.isinf(scale) else 1.0)
    regression = Regression(y, v, X @ raw, np.zeros(X.shape[1]), precision)
    terms = (*network.treatments[1:], *names)
    prior = None if tau is None else density(tau)
    return GridPosterior(regression, raw, network.names, terms, prior)


def effect_scale(prior: Prior | Density) -> float:
    """The sd of the prior of pairwise effects; infinite for a flat one.

    Raises
    ------
    PriorError
        If it is another one.
    """
    values = dict(prior.parameters) if isinstance(prior, Prior) else {"mu": np.nan}
    name = prior.distribution if isinstance(prior, Prior) else ""
    if name == "Flat":
        return np.inf
    if name != "Normal" or values.get("mu", 0.0) != 0:
        raise PriorError(
            f'The prior "d" is of every pairwise effect, whichever way round: Normal with mu=0, '
            f"or Flat; not {prior}."
        )
    return float(values["sigma"])


def _unit(network: Network, measure: Measure | None) -> UnitInformation:
    """The unit-information sd, over all comparisons that trials make (Röver et al. 2021, eq. 6)."""
    variances, sizes = [], []
    for trial in network.trials:
        rows = trial.rows(len(network.treatments))[:, list(trial.arms)]
        # Covariance of arms up to a constant, so that every pair's variance follows.
        inner = np.linalg.pinv(rows) @ trial.V @ np.linalg.pinv(rows).T
        for a, b in combinations(range(len(trial.arms)), 2):
            variances.append(inner[a, a] + inner[b, b] - 2 * inner[a, b])
            sizes.append(trial.n[a] + trial.n[b])
    precision = float(np.sum(1 / np.array(variances)))
    if measure is not None and measure.ratio and measure.unit_sd is not None:
        # Sizes of trials with few events would make it larger than any ratio that is met.
        return UnitInformation(measure.unit_sd, f"of a {measure.title}, equal groups")
    if np.isfinite(sizes).all():
        sd = float(np.sqrt(np.sum(sizes) / precision))
        return UnitInformation(sd, "from sample sizes and standard errors")
    if measure is not None and measure.unit_sd is not None:
        return UnitInformation(measure.unit_sd, f"of a {measure.title}, equal groups")
    sd = float(np.sqrt(_ASSUMED_SIZE * len(variances) / precision))
    return UnitInformation(sd, f"assumed: no sample sizes (n=...); {_ASSUMED_SIZE} a comparison")


def _priors(
    unit: UnitInformation, given: Mapping[str, Prior | Density] | None
) -> tuple[dict[str, Prior | Density], tuple[str, ...]]:
    """Priors by name, and what to say of those that were not given."""
    found: dict[str, Prior | Density] = {
        "d": Prior("Normal", mu=0, sigma=unit.sd),
        "tau": Prior("HalfNormal", sigma=0.25 * unit.sd),
    }
    unknown = set(given or {}) - set(found)
    if unknown:
        raise PriorError(
            f'The priors of a network are "d" (pairwise effects) and "tau"; given: '
            f"{listed(sorted(unknown))}."
        )
    defaults = [name for name in found if name not in (given or {})]
    found |= given or {}
    effect_scale(found["d"])
    density(found["tau"])
    shown = "; ".join(f"{name} ~ {found[name]}" for name in defaults)
    return found, (f"Default priors ({unit}): {shown}.",) if defaults else ()


def _drawn(
    network: Network, grid: GridPosterior, draws: int, chains: int, seed: int | None
) -> xr.Dataset:
    if not (draws > 0 and chains > 0):
        raise BayesmixedError(f"draws={draws} and chains={chains} must be above 0.")
    drawn = grid.sample(chains * draws, seed)
    effects = np.concatenate([np.zeros((chains * draws, 1)), drawn["beta"]], axis=1)
    return xr.Dataset(
        {
            "d": (("chain", "draw", "treatment"), effects.reshape(chains, draws, -1)),
            "tau": (("chain", "draw"), drawn["tau"].reshape(chains, draws)),
        },
        coords={
            "chain": np.arange(chains),
            "draw": np.arange(draws),
            "treatment": list(network.treatments),
        },
    )
