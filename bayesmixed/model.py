"""The front door: a formula or hierarchy, a table, and then a fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import nullcontext
from functools import cached_property
from html import escape
from typing import Any, Literal

import numpy as np
import pandas as pd
import pymc as pm
import xarray as xr
from rich.console import Console

from bayesmixed import build
from bayesmixed._errors import PriorError, SamplingError, listed, lookup
from bayesmixed.data import Missing, to_pandas
from bayesmixed.defaults import AssignedPrior, assign_priors
from bayesmixed.design import Design, build_design
from bayesmixed.doors import Priors, build_spec
from bayesmixed.families import get_family
from bayesmixed.family import Family
from bayesmixed.fit import Fit
from bayesmixed.geometry import rich_groupings
from bayesmixed.hierarchy import Hierarchy
from bayesmixed.links import Link
from bayesmixed.logdensity import interpreted, log_density
from bayesmixed.sample import Draws, Settings, sample


class Model:
    """A mixed model for a table.

    Everything is checked here; nothing is compiled or sampled before `fit`.

    Parameters
    ----------
    formula : str
        ``"y ~ x + (1 + x | g)"`` as in lme4: ``||`` for uncorrelated effects, ``a/b`` for b nested
        in a, ``a:b`` for combinations, ``offset(...)``, and ``k | trials(n)`` on the left.
    data : table
        pandas, polars, or anything narwhals understands; a row for each observation.
    family : str or Family
        The outcome's distribution; see `bayesmixed.families`.
    link : str or Link, optional
        Link of the family's first parameter; the family's default unless given.
    hierarchy : Hierarchy, optional
        Levels of nesting, instead of random terms in the formula.
    parameters : mapping of str to str, optional
        Formulas for further parameters of the family, such as ``{"sigma": "~ arm + (1 | g)"}``.
    priors : mapping of str to Prior, optional
        Priors by name, instead of the defaults; ``{"variance_budget": VarianceBudget(...)}``
        sets all standard deviations at once. `priors` shows the names.
    sampling_sd : str, optional
        Column (or expression such as ``"sqrt(vi)"``) with the known standard deviation of each
        outcome, as in a meta-analysis.
    center : bool
        Whether the intercept's prior is for the predictors at their means. The reported
        intercept is on the raw scale either way.
    centered : collection of str, optional
        Groupings whose effects are sampled centred; chosen from the data unless given. It changes
        how fast the posterior is sampled, and not the posterior.
    missing : {"drop", "raise"}
        What to do with rows that miss a value in a variable of the model.

    Raises
    ------
    BayesmixedError
        With what was given, what is valid and what to do.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> model = bm.Model("Reaction ~ Days + (Days | Subject)", data)
    """

    def __init__(
        self,
        formula: str,
        data: Any,
        family: str | Family = "gaussian",
        *,
        link: str | Link | None = None,
        hierarchy: Hierarchy | None = None,
        parameters: Mapping[str, str] | None = None,
        priors: Priors | None = None,
        sampling_sd: str | None = None,
        center: bool = True,
        centered: Collection[str] | None = None,
        missing: Missing = "drop",
    ) -> None:
        frame = to_pandas(data)
        self.spec, notes = build_spec(
            formula,
            frame,
            get_family(family),
            link,
            hierarchy,
            parameters,
            priors,
            sampling_sd,
            center,
        )
        self.design: Design = build_design(self.spec, frame, missing)
        self._priors: Mapping[str, AssignedPrior] = assign_priors(self.design)
        self.centered = _centered(self.design, centered)
        dropped = self.design.table.note
        self.notes: tuple[str, ...] = (*notes, *([dropped] if dropped else []))

    @property
    def priors(self) -> pd.DataFrame:
        """The prior of every parameter and where it came from."""
        return pd.DataFrame(
            {
                "prior": [str(a.prior) for a in self._priors.values()],
                "source": [a.source for a in self._priors.values()],
            },
            index=pd.Index(self._priors, name="parameter"),
        )

    @cached_property
    def pymc(self) -> pm.Model:
        """The model as an ordinary `pymc.Model`."""
        return build.build_model(self.design, self._priors, self.centered)

    def prior_predictive(self, draws: int = 500, seed: int | None = None) -> xr.DataTree:
        """Draw parameters from the priors, and outcomes from them.

        Parameters
        ----------
        draws : int
            Number of draws.
        seed : int, optional
            The same seed gives the same draws.

        Returns
        -------
        xarray.DataTree
            Groups ``prior`` (under the posterior's names), ``prior_predictive`` and
            ``observed_data``.

        Raises
        ------
        PriorError
            If a prior is flat, so that nothing can be drawn from it.
        """
        flat = [name for name, a in self._priors.items() if not a.prior.is_proper]
        if flat:
            raise PriorError(f"Nothing can be drawn from the flat prior of {listed(flat)}.")
        try:
            with self.pymc, interpreted() as mode, np.errstate(over="ignore"):
                drawn = pm.sample_prior_predictive(
                    draws, random_seed=seed, compile_kwargs={"mode": mode}
                )
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise PriorError(
                f"Some draws from the priors are not possible for family {self.spec.family.name} "
                f"({reason}); use a link that keeps the mean inside its range, or narrower priors."
            ) from error
        prior = drawn["prior"].to_dataset()[build.public_names(self.design)]
        return xr.DataTree.from_dict(
            {
                "prior": prior,
                "prior_predictive": drawn["prior_predictive"].to_dataset(),
                "observed_data": drawn["observed_data"].to_dataset(),
            }
        )

    def fit(
        self,
        draws: int = 1000,
        tune: int = 1000,
        chains: int = 4,
        seed: int | None = None,
        progress: bool = True,
        *,
        target_accept: float = 0.95,
        max_depth: int = 10,
        sampler: Literal["nutpie", "pymc"] = "nutpie",
    ) -> Fit:
        """Sample the posterior by NUTS.

        Ctrl-C returns the draws so far, clearly marked.

        Parameters
        ----------
        draws, tune, chains : int
            Kept draws and warm-up draws of each chain, and the number of chains.
        seed : int, optional
            The same seed gives the same draws on the same machine and versions.
        progress : bool
            Whether to show progress.
        target_accept : float
            Aimed-at acceptance probability; higher means smaller steps.
        max_depth : int
            Deepest tree of NUTS.
        sampler : {"nutpie", "pymc"}
            Which implementation of NUTS.

        Returns
        -------
        Fit

        Raises
        ------
        SamplingError
            If sampling could not start, or was interrupted before a draw was kept.
        """
        settings = Settings(draws, tune, chains, seed, target_accept, max_depth, progress)
        run = lookup({"nutpie": self._nutpie, "pymc": self._pymc}, sampler, "sampler")
        posterior, statistics, interrupted = run(settings)
        tree = xr.DataTree.from_dict(
            {
                "posterior": posterior,
                "sample_stats": statistics,
                "observed_data": xr.Dataset({"y": ("row", self.design.y)}),
            }
        )
        tree.attrs["interrupted"] = int(interrupted)
        return Fit(self.design, tree, self.notes)

    def _nutpie(self, settings: Settings) -> tuple[xr.Dataset, xr.Dataset, bool]:
        names = build.public_names(self.design)
        status = Console(stderr=True).status("Compiling the model") if settings.progress else None
        with status or nullcontext():
            density = log_density(self.pymc, names)
            density(density.start)
        drawn = sample(density, settings)
        return (
            self._named(density.variables(_flat(drawn)), drawn),
            _statistics(drawn),
            (drawn.interrupted),
        )

    def _named(self, values: Mapping[str, Any], drawn: Draws) -> xr.Dataset:
        """Draws under their names, with dims and the data's own labels."""
        model = self.pymc
        chains, draws, _ = drawn.x.shape
        variables = {
            name: (
                ("chain", "draw", *model.named_vars_to_dims.get(name, ())),
                v.reshape((chains, draws, *v.shape[1:])),
            )
            for name, v in values.items()
        }
        used = {d for dims, _ in variables.values() for d in dims}
        coords = {k: np.asarray(v) for k, v in model.coords.items() if k in used}
        return xr.Dataset(
            variables, coords={"chain": np.arange(chains), "draw": np.arange(draws), **coords}
        )

    def _pymc(self, settings: Settings) -> tuple[xr.Dataset, xr.Dataset, bool]:
        names = build.public_names(self.design)
        with self.pymc:
            tree = pm.sample(
                settings.draws,
                tune=settings.tune,
                chains=settings.chains,
                random_seed=settings.seed,
                progressbar=settings.progress,
                target_accept=settings.target_accept,
                nuts={"max_treedepth": settings.max_depth},
                nuts_sampler="pymc",
                compute_convergence_checks=False,
                var_names=names,
            )
        posterior = tree["posterior"].to_dataset()
        if not posterior.sizes.get("draw"):
            raise SamplingError("Sampling was interrupted during warm-up, before a draw was kept.")
        short = posterior.sizes["draw"] < settings.draws
        statistics = tree["sample_stats"].to_dataset()
        return posterior[names], statistics, short or posterior.sizes["chain"] < settings.chains

    def __str__(self) -> str:
        """The model in a few lines."""
        spec, design = self.spec, self.design
        return "\n".join(
            [
                *spec.formula.splitlines(),
                f"{spec.family.name} ({spec.link.name}), {len(design.y):,} rows",
                design.tree(),
                *(
                    [f"sampled centred: {', '.join(sorted(self.centered))}"]
                    if self.centered
                    else []
                ),
                *self.notes,
            ]
        )

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def __repr__(self) -> str:
        """Name it by its formula."""
        return f"Model({self.spec.formula!r}, family={self.spec.family.name!r})"


def _centered(design: Design, given: Collection[str] | None) -> frozenset[str]:
    """The user's choice, checked, or the data's."""
    if given is None:
        return rich_groupings(design)
    known = {r.name: r for r in design.predictors[design.family.parameters[0].name].random}
    for name in given:
        lookup(known, name, "grouping")
    return frozenset(given)


def _flat(drawn: Draws) -> np.ndarray:
    return drawn.x.reshape(-1, drawn.x.shape[-1])


def _statistics(drawn: Draws) -> xr.Dataset:
    return xr.Dataset({n: (("chain", "draw"), v) for n, v in drawn.statistics.items()})
