"""A fitted model as a value: spec, design, posterior; saved to netCDF."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import xarray as xr

from bayesmixed._errors import BayesmixedError, StorageError
from bayesmixed.convergence import Convergence, assess
from bayesmixed.covariance import is_known
from bayesmixed.design import Design
from bayesmixed.families import OURS
from bayesmixed.family import Parameter
from bayesmixed.links import LINKS
from bayesmixed.names import suffix
from bayesmixed.spec import ModelSpec
from bayesmixed.stored_table import encode_table
from bayesmixed.structure import Structure
from bayesmixed.tables import formats

_FORMAT = 1
_MAX_EFFECTS_CHECKED = 1000
_MAX_VALUES = 10_000_000


@dataclass(frozen=True, repr=False)
class Fit:
    """A posterior with the model and data that it belongs to.

    Parameters
    ----------
    design : Design
        The spec met by the data.
    tree : xarray.DataTree
        ``posterior``, ``sample_stats``, ``observed_data``; every ArviZ function takes it.
    notes : tuple of str
        What was done to the data.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> fit = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1)
    >>> fit.converged
    True
    >>> fit.posterior["u_Subject"].dims
    ('chain', 'draw', 'Subject', 'Subject_effect')
    >>> summary = fit.summary()
    >>> summary.index[:2].to_list(), round(float(summary.loc["beta[Days]", "mean"]))
    (['beta[Intercept]', 'beta[Days]'], 10)
    >>> fit.with_log_likelihood().tree["log_likelihood"]["y"].sizes["row"]
    180
    """

    design: Design
    tree: xr.DataTree = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def spec(self) -> ModelSpec:
        """What was asked."""
        return self.design.spec

    @property
    def posterior(self) -> xr.Dataset:
        """Posterior draws, dims (chain, draw, ...)."""
        return self.tree["posterior"].to_dataset()

    @property
    def interrupted(self) -> bool:
        """Whether sampling was stopped before its end."""
        return bool(self.tree.attrs.get("interrupted", 0))

    @cached_property
    def convergence(self) -> Convergence:
        """The verdict on the draws, with what to try."""
        population, effects = self.scalars(), self.scalars(effects=True)
        step = -(-effects.sizes["parameter"] // _MAX_EFFECTS_CHECKED) or 1
        statistics = self.tree["sample_stats"].to_dataset()
        return assess(population, effects[..., ::step], statistics, self.interrupted)

    @property
    def converged(self) -> bool:
        """Whether the draws can be used; `convergence` says why not."""
        return bool(self.convergence)

    def scalars(self, effects: bool = False) -> xr.DataArray:
        """Every parameter as one labelled number, such as ``beta[Days]``.

        Parameters
        ----------
        effects : bool
            The effects of the groups, instead of the population-level parameters.

        Returns
        -------
        DataArray (chain, draw, parameter)
        """
        labels: list[str] = []
        columns: list[Any] = []
        for name, values in self.posterior.data_vars.items():
            if str(name).startswith("u_") != effects:
                continue
            numbers: Any = values.to_numpy()
            for at, label in _elements(str(name), values):
                labels.append(label)
                columns.append(numbers[..., *at])
        shape = (self.posterior.sizes["chain"], self.posterior.sizes["draw"], 0)
        stacked = np.stack(columns, axis=-1) if columns else np.zeros(shape)
        return xr.DataArray(
            stacked, dims=("chain", "draw", "parameter"), coords={"parameter": labels}
        )

    def summary(self, effects: bool = False, prob: float = 0.95) -> pd.DataFrame:
        """Table of the posterior.

        Parameters
        ----------
        effects : bool
            The groups' effects instead of the population-level parameters.
        prob : float
            Mass of the equal-tailed intervals.

        Returns
        -------
        pandas.DataFrame
            One row a parameter: mean, sd, interval, effective draws, R-hat, and the Monte Carlo
            standard error of the mean.
        """
        values = self.scalars(effects)
        table: pd.DataFrame = az.summary(
            values.to_dataset(name="value"), ci_prob=prob, ci_kind="eti", round_to="none"
        )
        table.index = pd.Index(values["parameter"].to_numpy(), name="parameter")
        table = table.rename(columns={"r_hat": "rhat"})
        return table.drop(columns="mcse_sd")

    def eta(
        self, parameter: str | None = None, without: Collection[str] | None = ()
    ) -> xr.DataArray:
        """Linear predictor of the rows in the data.

        Parameters
        ----------
        parameter : str, optional
            A parameter that has a formula; the first one unless given.
        without : collection of str, optional
            Groupings whose effects are set to 0; None for all of them.

        Returns
        -------
        DataArray (chain, draw, row)
        """
        self.design.need_rows("The linear predictor")
        name = parameter or self.design.family.parameters[0].name
        predictor, tail = self.design.predictors[name], suffix(self.design, name)
        posterior = self.posterior
        chains, draws = posterior.sizes["chain"], posterior.sizes["draw"]
        beta = (
            posterior[f"beta{tail}"].to_numpy() if predictor.terms else np.zeros((chains, draws, 0))
        )
        kept = [r for r in predictor.random if without is not None and r.name not in without]
        u = {r.name: posterior[f"u{tail}_{r.name}"].to_numpy() for r in kept}
        rows = self.design.table.frame.index
        return xr.DataArray(
            predictor.eta(beta, u), dims=("chain", "draw", "row"), coords={"row": rows.to_numpy()}
        )

    def parameters(self, only: Collection[str] | None = None) -> dict[str, Any]:
        """Every family parameter of every row on its link's scale, draws first.

        Parameters
        ----------
        only : collection of str, optional
            Those that are needed; all of them unless given.

        Returns
        -------
        dict of str to array, shape (chain, draw, row) or (chain, draw, 1)
            Cut-points have the shape (chain, draw, threshold).
        """
        design, found = self.design, dict[str, Any]()
        for parameter in design.family.parameters:
            name = parameter.name
            if only is not None and name not in only:
                continue
            if name in design.predictors:
                found[name] = self.eta(name).to_numpy()
            elif name == "sigma" and design.sampling_sd is not None:
                found[name] = np.log(design.sampling_sd)[None, None]
            else:
                found[name] = self.constant(parameter, design)
        return found

    def constant(self, parameter: Parameter, rows: Design) -> Any:
        """A parameter without a formula on its link's scale, draws first.

        Parameters
        ----------
        parameter : Parameter
            One of the family's.
        rows : Design
            For which rows: residual standard deviations may differ by visit or arm.

        Returns
        -------
        array, shape (chain, draw, 1), (chain, draw, row) or (chain, draw, threshold)
        """
        value = self.posterior[parameter.name].to_numpy()
        if parameter.support == "ordered":
            return value
        found = parameter.links[0].forward(value)
        if parameter.name == "sigma" and rows.spreads is not None:
            return rows.spreads.of_rows(found)
        return found[..., None]

    def pieces(self, values: int | None = None) -> Iterator[Fit]:
        """The fit cut into runs of consecutive draws, so that draws x values fit in memory.

        Parameters
        ----------
        values : int, optional
            How many values a draw takes; as many as rows unless given.
        """
        self.design.need_rows("What is worked out row by row")
        posterior = self.posterior
        a_draw = max(1, posterior.sizes["chain"] * (values or len(self.design.y)))
        step = max(1, _MAX_VALUES // a_draw)
        for first in range(0, posterior.sizes["draw"], step):
            part = posterior.isel(draw=slice(first, first + step))
            yield Fit(self.design, xr.DataTree.from_dict({"posterior": part}))

    def report(
        self,
        path: str | PathLike[str],
        title: str | None = None,
        units: Collection[str] | None = None,
    ) -> Path:
        """Write the fit as one self-contained HTML page.

        Parameters
        ----------
        path, title, units
            See `bayesmixed.report`.
        """
        # Pages are made of reports, which are made of fits: this door is opened when it is used.
        written: Path = import_module("bayesmixed.page").report(self, path, title, units)
        return written

    def with_log_likelihood(self) -> Fit:
        """The same fit with the group ``log_likelihood`` in its tree, as ArviZ's ``loo`` needs.

        Returns
        -------
        Fit

        Raises
        ------
        BayesmixedError
            If residuals are correlated.
        """
        design = self.design
        if design.series is not None:
            within = design.series.structure.within
            raise BayesmixedError(
                f"With correlated residuals ({self.spec.residual}) the likelihood is not a product "
                "over rows, so a row has none of its own. loo(fit) leaves out rows, each foretold "
                f'from its series, and loo(fit, "{within}") whole series.'
            )
        values = design.family.evaluate(
            design.family.loglik, self.parameters(), design.links, y=design.y, **design.known
        )
        coords = {"row": design.table.frame.index.to_numpy()}
        group = xr.Dataset({"y": (("chain", "draw", "row"), values)}, coords=coords)
        tree = self.tree.copy()
        tree["log_likelihood"] = xr.DataTree(group)
        return Fit(design, tree, self.notes)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write everything to one netCDF file: draws, data used, and the model as JSON.

        Parameters
        ----------
        path : path
            The suffix ``.nc`` is customary.

        Raises
        ------
        StorageError
            If the file cannot be written; the fit in memory is untouched.
        """
        return write(self._with_data(), path)

    def _with_data(self) -> xr.DataTree:
        """The tree with the data used and the model, from which the rest can be rebuilt."""
        tree, table = self.tree.copy(), self.design.table
        columns, kinds = encode_table(table.frame)
        tree["data"] = xr.DataTree(columns)
        structures = (self.spec.residual, *self.spec.covariances.values())
        own = [
            self.spec.family is not OURS.get(self.spec.family.name),
            self.spec.link is not LINKS.get(self.spec.link.name),
            any(isinstance(s, Structure) and not is_known(s) for s in structures),
        ]
        tree.attrs |= {
            "bayesmixed_format": _FORMAT,
            "spec": json.dumps(self.spec.to_dict()),
            "columns": json.dumps(kinds),
            "dropped": json.dumps([dict(table.dropped), table.rows_dropped]),
            "notes": json.dumps(self.notes),
            "own": json.dumps(own),
            "whole": json.dumps(_whole(self.design)),
        }
        return tree

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def __repr__(self) -> str:
        """Name it by its formula."""
        return f"Fit({self.spec.formula!r}, family={self.spec.family.name!r})"

    def __str__(self) -> str:
        """The model, the verdict and the table."""
        table = self.summary().rename_axis(None)
        lines = [
            *self.spec.formula.splitlines(),
            f"{self.spec.family.name} ({self.spec.link.name}), {self.design.size}",
            self.design.tree(),
            *self.notes,
            "",
            str(self.convergence),
            "",
            table.to_string(formatters=formats(table)),
        ]
        return "\n".join(lines)


def _whole(design: Design) -> Any:
    """What is known of rows that are not in memory, as JSON has it."""
    if design.whole is None:
        return None
    sizes = {name: every.tolist() for name, every in design.whole.sizes.items()}
    return [design.whole.rows, design.whole.parts, sizes]


def write(tree: xr.DataTree, path: str | PathLike[str]) -> Path:
    """Write a tree to one netCDF file.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    target = Path(path)
    try:
        tree.to_netcdf(target, engine="h5netcdf")
    except (OSError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise StorageError(f"The fit could not be written to {target}: {reason}") from error
    return target


def _elements(name: str, values: xr.DataArray) -> list[tuple[tuple[int, ...], str]]:
    """Index and label of every element that is a number of its own."""
    dims = [d for d in values.dims if d not in ("chain", "draw")]
    labels = [values[d].to_numpy() if d in values.coords else range(values.sizes[d]) for d in dims]
    numbers, found = values.to_numpy(), []
    for at in np.ndindex(*(values.sizes[d] for d in dims)):
        # A correlation matrix holds each number twice, ones, and zeros between independent effects.
        if name.startswith("cor_") and (at[-2] >= at[-1] or not numbers[..., *at].any()):
            continue
        inner = ",".join(str(axis[i]) for axis, i in zip(labels, at, strict=True))
        alone = name.startswith("sd_") and len(labels[0]) == 1
        found.append((at, f"{name}[{inner}]" if at and not alone else name))
    return found
