"""The front door: a formula or hierarchy, a table, and then a fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property
from html import escape
from typing import Any, Literal

import numpy as np
import pandas as pd
import pymc as pm
import xarray as xr
from rich.console import Console

from bayesmixed._errors import BayesmixedError, DataError, PriorError, SamplingError, listed, lookup
from bayesmixed.build import build_model
from bayesmixed.data import Missing, to_pandas
from bayesmixed.defaults import AssignedPrior, assign_priors
from bayesmixed.design import Design, build_design
from bayesmixed.doors import Priors, build_spec
from bayesmixed.families import get_family
from bayesmixed.family import Family
from bayesmixed.fit import Fit
from bayesmixed.geometry import rich_groupings
from bayesmixed.graph import interpreted, log_density
from bayesmixed.hierarchy import Hierarchy
from bayesmixed.integration import chain
from bayesmixed.links import Link
from bayesmixed.logdensity import LogDensity
from bayesmixed.machine import state
from bayesmixed.names import coords, dims, public_names
from bayesmixed.partitions import Partitions
from bayesmixed.sample import Draws, Settings, sample
from bayesmixed.spec import ModelSpec

type Marginalize = Literal["auto", True, False]


class Model:
    """A mixed model for a table.

    Everything is checked here; nothing is compiled or sampled before `fit`.

    Parameters
    ----------
    formula : str
        ``"y ~ x + (1 + x | g)"`` as in lme4: ``||`` for uncorrelated effects, ``a/b`` for b nested
        in a, ``a:b`` for combinations, ``offset(...)``, and ``k | trials(n)`` on the left.
    data : table
        pandas, polars, or anything narwhals understands; a row for each observation. A Dask
        DataFrame, or the path, pattern or list of parquet files, is read part by part and never
        held in memory.
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
        Groupings whose effects are sampled, and centred; chosen from the data unless given. It
        changes how fast the posterior is sampled, and not the posterior.
    marginalize : {"auto", True, False}
        Whether normal effects are integrated out exactly instead of sampled: wherever that can be
        done, or an error where it cannot, or never. It changes how fast the posterior is sampled,
        and not the posterior.
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
        marginalize: Marginalize = "auto",
        missing: Missing = "drop",
    ) -> None:
        table = _table(data)
        spec, notes = build_spec(
            formula,
            table.example(hierarchy) if isinstance(table, Partitions) else table,
            get_family(family),
            link,
            hierarchy,
            parameters,
            priors,
            sampling_sd,
            center,
        )
        self._meet(spec, table, missing, centered, marginalize, notes)

    def _meet(
        self,
        spec: ModelSpec,
        table: pd.DataFrame | Partitions,
        missing: Missing,
        centered: Collection[str] | None,
        marginalize: Marginalize,
        notes: tuple[str, ...],
    ) -> None:
        """Check the spec against the data, and decide all that depends on them."""
        self.spec, self._chosen = spec, (missing, centered, marginalize, notes)
        if isinstance(table, Partitions):
            self.design: Design = table.design(
                spec, missing, lambda design: _integrated(design, centered, marginalize)
            )
        else:
            self.design = build_design(spec, table, missing)
        self._priors: Mapping[str, AssignedPrior] = assign_priors(self.design)
        self.integrated = _integrated(self.design, centered, marginalize)
        self.centered = _centered(self.design, centered, self.integrated)
        dropped = self.design.table.note
        self.notes: tuple[str, ...] = (*notes, *([dropped] if dropped else []))

    @classmethod
    def from_spec(cls, spec: ModelSpec, data: Any, *, missing: Missing = "drop") -> Model:
        """A model from what was asked, as `ModelSpec.from_dict` reads it, and a table."""
        model = cls.__new__(cls)
        model._meet(spec, _table(data), missing, None, "auto", ())
        return model

    def with_data(self, data: Any) -> Model:
        """The same model for another table with these columns.

        Default priors, centring and the way of sampling are worked out anew; the user's own
        choices stay.
        """
        model = type(self).__new__(type(self))
        model._meet(self.spec, _table(data), *self._chosen)
        return model

    def with_outcome(self, values: pd.Series[Any]) -> Model:
        """The same model for another outcome of the same rows.

        Parameters
        ----------
        values : pandas.Series
            The outcome as the formula's left side would give it, with the index of the rows in
            `design`'s table; a row without a value is left out.

        Raises
        ------
        DataError
            If a row has no counterpart, or the outcome is not possible for the family.
        """
        self.design.need_rows("Another outcome")
        frame, name = self.design.table.frame, "outcome"
        if not values.index.is_unique or not values.index.isin(frame.index).all():
            raise DataError(
                "The outcome's index must be that of the rows in the model's data, each once; "
                f"the model has {len(frame):,} rows, the outcome {len(values):,} values."
            )
        while name in frame.columns:
            name += "_"
        model = type(self).__new__(type(self))
        spec = replace(self.spec, response=name)
        model._meet(spec, frame.assign(**{name: values}), *self._chosen)
        return model

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
        """The model as an ordinary `pymc.Model`.

        Raises
        ------
        BayesmixedError
            If the rows are not in memory.
        """
        self.design.need_rows("The PyMC model")
        return self._graph

    @cached_property
    def _graph(self) -> pm.Model:
        """The PyMC model of the rows in the design, which are some of those in partitions."""
        return build_model(self.design, self._priors, self.centered, self.integrated)

    def prior_predictive(self, draws: int = 500, seed: int | None = None) -> xr.DataTree:
        """Draw parameters from the priors, and outcomes from them.

        Where the data are read in partitions, the outcomes are those of some rows.

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
            with self._graph, interpreted() as mode, np.errstate(over="ignore"):
                drawn = pm.sample_prior_predictive(
                    draws, random_seed=seed, compile_kwargs={"mode": mode}
                )
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise PriorError(
                f"Some draws from the priors are not possible for family {self.spec.family.name} "
                f"({reason}); use a link that keeps the mean inside its range, or narrower priors."
            ) from error
        prior = drawn["prior"].to_dataset()[public_names(self.design)]
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
        target_accept: float | None = None,
        max_depth: int = 10,
        sampler: Literal["nutpie", "pymc"] = "nutpie",
        cores: int | None = None,
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
            Aimed-at acceptance probability; higher means smaller steps. Unless given it is 0.95,
            and 0.8 where no effects are sampled.
        max_depth : int
            Deepest tree of NUTS.
        sampler : {"nutpie", "pymc"}
            Which implementation of NUTS.
        cores : int, optional
            Chains that run at the same time; as many as there are processors unless given.

        Returns
        -------
        Fit

        Raises
        ------
        SamplingError
            If sampling could not start, or was interrupted before a draw was kept.
        """
        if target_accept is None:
            every = [r for p in self.design.predictors.values() for r in p.random]
            smooth = sampler == "nutpie" and len(every) == len(self.integrated)
            target_accept = 0.8 if smooth else 0.95
        settings = Settings(draws, tune, chains, seed, target_accept, max_depth, progress, cores)
        run = lookup({"nutpie": self._nutpie, "pymc": self._pymc}, sampler, "sampler")
        posterior, statistics, interrupted, note = run(settings)
        groups = {"posterior": posterior, "sample_stats": statistics}
        if self.design.whole is None:
            groups["observed_data"] = xr.Dataset({"y": ("row", self.design.y)})
        tree = xr.DataTree.from_dict(groups)
        tree.attrs["interrupted"] = int(interrupted)
        return Fit(self.design, tree, (*self.notes, *([note] if note else [])))

    def _nutpie(self, settings: Settings) -> tuple[xr.Dataset, xr.Dataset, bool, str]:
        console = Console(stderr=True, quiet=not settings.progress)
        with console.status("Compiling the model"):
            density = self._density()
            density(density.start)
        if density.note:
            console.print(density.note, highlight=False)
        drawn = sample(density, settings)
        rng = np.random.default_rng(settings.seed)
        values = density.recover(drawn.x.reshape(-1, density.size), rng)
        return self._named(values, drawn), _statistics(drawn), drawn.interrupted, density.note

    def _density(self) -> LogDensity:
        """The log-density: from compiled parts where there are such, or else the PyMC graph's."""
        program = state(self.design, self._priors, self.centered, self.integrated)
        if program is None:
            self.design.need_rows("A prior that only PyMC can evaluate")
        return program or log_density(self.pymc, public_names(self.design))

    def _named(self, values: Mapping[str, Any], drawn: Draws) -> xr.Dataset:
        """Draws under their names, with dims and the data's own labels."""
        chains, draws, _ = drawn.x.shape
        inner, labels = dims(self.design), coords(self.design)
        variables = {
            name: (("chain", "draw", *inner[name]), v.reshape((chains, draws, *v.shape[1:])))
            for name, v in values.items()
        }
        used = {d for names, _ in variables.values() for d in names}
        known = {k: np.asarray(v) for k, v in labels.items() if k in used}
        return xr.Dataset(
            variables, coords={"chain": np.arange(chains), "draw": np.arange(draws), **known}
        )

    def _pymc(self, settings: Settings) -> tuple[xr.Dataset, xr.Dataset, bool, str]:
        names = public_names(self.design)
        with self.pymc:
            tree = pm.sample(
                settings.draws,
                tune=settings.tune,
                chains=settings.chains,
                cores=settings.cores,
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
        short = short or posterior.sizes["chain"] < settings.chains
        return posterior[names], statistics, short, ""

    def __str__(self) -> str:
        """The model in a few lines."""
        spec, design = self.spec, self.design
        return "\n".join(
            [
                *spec.formula.splitlines(),
                f"{spec.family.name} ({spec.link.name}), {design.size}",
                design.tree(),
                *([f"integrated out: {', '.join(self.integrated)}"] if self.integrated else []),
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


def _table(data: Any) -> pd.DataFrame | Partitions:
    partitions = Partitions.of(data)
    return to_pandas(data) if partitions is None else partitions


def _centered(
    design: Design, given: Collection[str] | None, integrated: Collection[str]
) -> frozenset[str]:
    """The user's choice, checked, or the data's; none that are integrated out."""
    known = {r.name: r for r in design.predictors[design.family.parameters[0].name].random}
    if given is None:
        if known.keys() <= set(integrated):
            return frozenset()
        return rich_groupings(design.sample()) - set(integrated)
    for name in given:
        lookup(known, name, "grouping")
    return frozenset(given) - set(integrated)


def _integrated(
    design: Design, centered: Collection[str] | None, marginalize: Marginalize
) -> tuple[str, ...]:
    """Groupings whose effects are integrated out, from the inside out."""
    if marginalize not in ("auto", True, False):
        raise BayesmixedError(f'marginalize={marginalize!r}: "auto", True or False is needed.')
    predictor = design.predictors[design.family.parameters[0].name]
    exact = design.family.is_normal and design.spec.link.name == "identity"
    if marginalize is True and not (exact and predictor.random):
        raise BayesmixedError(
            "marginalize=True: effects can be integrated out exactly where there are some and the "
            f"outcome is normal with identity link, not for family {design.family.name} with link "
            f"{design.spec.link.name}"
            + ("." if predictor.random else " without random effects.")
            + ' Use marginalize="auto".'
        )
    if not (exact and marginalize):
        return ()
    return tuple(r.name for r in chain(predictor) if r.name not in (centered or ()))


def _statistics(drawn: Draws) -> xr.Dataset:
    return xr.Dataset({n: (("chain", "draw"), v) for n, v in drawn.statistics.items()})
