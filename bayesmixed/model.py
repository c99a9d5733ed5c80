"""The front door: a formula or hierarchy, a table, and then a fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import xarray as xr
from rich.console import Console

from bayesmixed._errors import DataError, PriorError, listed, lookup
from bayesmixed.assembly import build_design
from bayesmixed.data import Missing
from bayesmixed.defaults import AssignedPrior, assign_priors
from bayesmixed.design import Design
from bayesmixed.doors import Covariances, Priors, build_spec
from bayesmixed.families import get_family
from bayesmixed.family import Family
from bayesmixed.fit import Fit
from bayesmixed.geometry import Centered, choose_centred, describe, plain
from bayesmixed.hierarchy import Hierarchy
from bayesmixed.integration import Marginalize, choose_integrated, dense_notes
from bayesmixed.links import Link
from bayesmixed.logdensity import LogDensity
from bayesmixed.partitions import Partitions, table_of
from bayesmixed.routes import density_of
from bayesmixed.run import Run, run_density
from bayesmixed.sample import Settings
from bayesmixed.spec import ModelSpec
from bayesmixed.structure import Structure

if TYPE_CHECKING:
    import pymc as pm


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
    residual : Structure, optional
        How the residuals of a patient's visits are correlated, such as
        ``bm.AR1(time="visit", within="Subject")``; see `covariance`. Where the outcome is not
        normal, a process with this structure is added to the linear predictor: one value for each
        time of a patient, ``u_process``, with standard deviation ``sd_process``.
    covariances : mapping of str to DataFrame or Structure, optional
        How the groups of a grouping are correlated, by the grouping's name: a known matrix, such
        as `kinship` or `neighbours` give, whose index and columns are the groups' labels, or a
        structure, such as ``{"hospital:year": bm.AR1(time="year", within="hospital")}``.
    center : bool
        Whether the intercept's prior is for the predictors at their means. The reported
        intercept is on the raw scale either way.
    centered : collection of str, or mapping of str to float, optional
        Groupings whose effects are sampled, and centred, or how far: from 0 (standardised) to 1
        (as values of the groups). Chosen from the data unless given. It
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
    >>> list(model.priors.index)
    ['Intercept', 'beta[Days]', 'sd_Subject[Intercept]', 'sd_Subject[Days]', 'cor_Subject', 'sigma']
    >>> drawn = model.prior_predictive(draws=50, seed=1)
    >>> fit = model.fit(seed=1)
    >>> again = model.with_data(data.query("Days > 1")).fit(seed=1)
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
        residual: Structure | None = None,
        covariances: Covariances | None = None,
        center: bool = True,
        centered: Centered = None,
        marginalize: Marginalize = "auto",
        missing: Missing = "drop",
    ) -> None:
        table = table_of(data)
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
            residual,
            covariances,
        )
        self._meet(spec, table, missing, centered, marginalize, notes)

    def _meet(
        self,
        spec: ModelSpec,
        table: pd.DataFrame | Partitions,
        missing: Missing,
        centered: Centered,
        marginalize: Marginalize,
        notes: tuple[str, ...],
    ) -> None:
        """Check the spec against the data, and decide all that depends on them."""
        self.spec = spec
        self._choices = {
            "missing": missing,
            "centered": plain(centered),
            "marginalize": marginalize,
            "notes": list(notes),
        }
        if isinstance(table, Partitions):
            self.design: Design = table.design(
                spec, missing, lambda design: choose_integrated(design, centered, marginalize)
            )
        else:
            self.design = build_design(spec, table, missing)
        self._priors: Mapping[str, AssignedPrior] = assign_priors(self.design)
        self.integrated = choose_integrated(self.design, centered, marginalize)
        self.centered = choose_centred(self.design, centered, self.integrated)
        dense = dense_notes(self.design, self.integrated)
        self.notes: tuple[str, ...] = (*notes, *self.design.notes, *dense)

    @classmethod
    def from_spec(
        cls,
        spec: ModelSpec,
        data: Any,
        *,
        missing: Missing = "drop",
        centered: Centered = None,
        marginalize: Marginalize = "auto",
        notes: Collection[str] = (),
    ) -> Model:
        """A model from what was asked, as `ModelSpec.from_dict` reads it, and a table.

        Parameters
        ----------
        spec : ModelSpec
            What was asked.
        data, missing, centered, marginalize
            As for `Model`; `choices` has the last three and the notes of another model.
        notes : collection of str
            What was said of the formula.
        """
        model = cls.__new__(cls)
        model._meet(spec, table_of(data), missing, centered, marginalize, tuple(notes))
        return model

    @property
    def choices(self) -> dict[str, Any]:
        """What was chosen besides the spec: keyword arguments of `from_spec`."""
        return dict(self._choices)

    def with_data(self, data: Any) -> Model:
        """The same model for another table with these columns.

        Default priors, centring and the way of sampling are worked out anew; the user's own
        choices stay.
        """
        return self.from_spec(self.spec, data, **self.choices)

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
        spec = replace(self.spec, response=name)
        return self.from_spec(spec, frame.assign(**{name: values}), **self.choices)

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
        from bayesmixed.build import build_model

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
            If a prior is flat, so that nothing can be drawn from it, or draws are impossible.
        """
        flat = [name for name, a in self._priors.items() if not a.prior.is_proper]
        if flat:
            raise PriorError(f"Nothing can be drawn from the flat prior of {listed(flat)}.")
        from bayesmixed.prior_predictive import prior_predictive

        return prior_predictive(self.design, self._graph, draws, seed)

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
            Aimed-at acceptance probability; higher means smaller steps. Unless given it is 0.9,
            0.8 where no effects are sampled and there is no `residual=`, and 0.95 where a
            structure is not positive definite for all its parameters (Toeplitz with 3 bands).
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
            exact = sampler == "nutpie" and len(every) == len(self.integrated)
            target_accept = 0.8 if exact else 0.9
            if self.design.series is not None:
                # Variances between and within series trade places.
                target_accept = 0.9 if self.design.series.structure.is_exact else 0.95
        settings = Settings(draws, tune, chains, seed, target_accept, max_depth, progress, cores)
        ways = {"nutpie": self._run, "pymc": self._run_pymc}
        run = lookup(ways, sampler, "sampler")(settings)
        tree = run.tree(self.design, settings, sampler)
        return Fit(self.design, tree, (*self.notes, *([run.note] if run.note else [])))

    def _run(self, settings: Settings) -> Run:
        """Sample with nutpie, showing what the user waits for."""
        console = Console(stderr=True, quiet=not settings.progress)
        with console.status("Compiling the model"):
            density = self._density
            density(density.start)
        if density.note:
            console.print(density.note, highlight=False)
        return run_density(self.design, density, settings)

    def _run_pymc(self, settings: Settings) -> Run:
        from bayesmixed.run_pymc import run_pymc

        return run_pymc(self.design, self.pymc, settings)

    @cached_property
    def _density(self) -> LogDensity:
        """Kept, because it takes a pass over all rows."""
        parts = (self.design, self._priors, self.centered, self.integrated)
        return density_of(*parts, lambda: self.pymc)

    def __getstate__(self) -> dict[str, Any]:
        """All but what is made of it: a log-density holds addresses in this process's memory."""
        made = ("pymc", "_graph", "_density")
        return {name: value for name, value in vars(self).items() if name not in made}

    def __str__(self) -> str:
        """The model in a few lines."""
        spec, design = self.spec, self.design
        return "\n".join(
            [
                *spec.formula.splitlines(),
                f"{spec.family.name} ({spec.link.name}), {design.size}",
                design.tree(),
                *([f"integrated out: {', '.join(self.integrated)}"] if self.integrated else []),
                *([f"sampled centred: {describe(self.centered)}"] if self.centered else []),
                *self.notes,
            ]
        )

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def __repr__(self) -> str:
        """Name it by its formula."""
        return f"Model({self.spec.formula!r}, family={self.spec.family.name!r})"
