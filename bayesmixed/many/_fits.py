"""The results of many fits as a small value: tables at once, draws when they are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from bayesmixed._errors import StorageError, listed, lookup
from bayesmixed.families import OURS
from bayesmixed.family import Family
from bayesmixed.fit import Fit
from bayesmixed.links import LINKS, Link
from bayesmixed.many._moderation import Moderation
from bayesmixed.many._record import STATISTICS
from bayesmixed.many._store import Store
from bayesmixed.model import Model
from bayesmixed.plots import BLUE, GREY
from bayesmixed.spec import ModelSpec
from bayesmixed.tables import formats

_MOST_LABELS = 60


@dataclass(frozen=True, repr=False, eq=False)
class Fits(Mapping[str, Fit]):
    """Fits of one model to many outcomes or data sets, by name.

    ``fits[name]`` reads the draws of one from disk; ``len`` and iteration are over those that
    could be fitted.

    Parameters
    ----------
    path : Path
        The directory that they are in.
    model : Model
        The model, with one outcome or data set standing in for all; learned priors among its own.
    asked : tuple of str, optional
        The outcomes that this is about; all in the directory unless given.
    moderation : Moderation, optional
        Priors learned across the outcomes.
    interrupted : bool
        Whether the run was stopped before its end.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> model = bm.Model("Reaction ~ Days + (Days | Subject)", data)
    >>> outcomes = {"time": data["Reaction"], "speed": 1e4 / data["Reaction"]}
    >>> with ThreadPoolExecutor() as threads:
    ...     fits = bm.fit_many(model, outcomes, out="fits", executor=threads, seed=1)
    >>> fits = bm.Fits.open("fits")
    >>> sorted(fits), fits.failures.empty
    (['speed', 'time'], True)
    >>> fits["speed"].posterior["beta"].dims
    ('chain', 'draw', 'term')
    >>> fits.summary("beta[Days]")["mean"].gt(0).to_dict()
    {'time': True, 'speed': False}
    """

    path: Path
    model: Model = field(repr=False)
    asked: tuple[str, ...] | None = None
    moderation: Moderation | None = None
    interrupted: bool = False

    @classmethod
    def open(
        cls, path: str | PathLike[str], family: Family | None = None, link: Link | None = None
    ) -> Fits:
        """Read the directory that `fit_many` wrote.

        Parameters
        ----------
        path : path
            The directory.
        family, link : optional
            The family or link of one's own that the model uses; the package's are found by name.

        Raises
        ------
        StorageError
            If there is none, or it needs a family or link of one's own.
        """
        store = Store(Path(path))
        there = store.manifest
        for kind, given, known in (("family", family, OURS), ("link", link, LINKS)):
            if given is None and there[kind] not in known:
                raise StorageError(
                    f"{path} uses the {kind} {there[kind]!r}, which is not one of the package's; "
                    f"pass it: bm.Fits.open(path, {kind}=...)."
                )
        spec, moderation = ModelSpec.from_dict(there, family, link), store.moderation()
        if moderation is not None:
            spec = replace(spec, priors={**spec.priors, **moderation.priors})
        model = Model.from_spec(spec, store.base(), **there["choices"])
        return cls(store.path, model, None, moderation)

    @cached_property
    def _tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        runs, lines = Store(self.path).read()
        if self.asked is not None:
            # In the order in which they were asked for.
            order = pd.Index(self.asked)
            runs = runs.set_index("name", drop=False).loc[order[order.isin(runs["name"])]]
            lines = lines[lines["outcome"].isin(order)]
            at = order.get_indexer(pd.Index(lines["outcome"]))
            lines = lines.iloc[np.argsort(at, kind="stable")].reset_index(drop=True)
        runs = runs.set_index("name").rename_axis("outcome")
        return runs.assign(converged=runs["problems"] == ""), lines

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the outcomes that could be fitted."""
        runs = self._tables[0]
        return tuple(map(str, runs.index[runs["reason"] == ""]))

    @property
    def failures(self) -> pd.DataFrame:
        """The outcomes that could not be fitted, each with its reason."""
        runs = self._tables[0]
        return runs.loc[runs["reason"] != "", ["reason"]]

    @property
    def runs(self) -> pd.DataFrame:
        """A row a fit: rows of data, seconds, seed, divergences, and the verdict on its draws."""
        runs = self._tables[0]
        columns = ["rows", "seconds", "seed", "divergences", "converged", "problems"]
        return runs.loc[runs["reason"] == "", columns]

    def summary(self, parameter: str | None = None) -> pd.DataFrame:
        """Table of the population-level parameters of all fits; no draws are read.

        Parameters
        ----------
        parameter : str, optional
            One parameter, such as ``"beta[arm]"``; all unless given.

        Returns
        -------
        pandas.DataFrame
            A row for each ``outcome`` and ``parameter`` (with `parameter` given, for each outcome,
            by which it is indexed): mean, sd, 95 % equal-tailed interval, effective draws, R-hat,
            Monte Carlo standard error of the mean, and whether the outcome's fit ``converged``.

        Raises
        ------
        UnknownNameError
            If no fit has this parameter.
        """
        runs, lines = self._tables
        verdicts = runs["converged"].reindex(lines["outcome"]).to_numpy(dtype=bool)
        table = lines.assign(converged=verdicts)
        if parameter is None:
            return table
        lookup(dict.fromkeys(table["parameter"]), parameter, "parameter")
        chosen = table[table["parameter"] == parameter]
        return chosen.drop(columns="parameter").set_index("outcome")

    def __getitem__(self, name: str) -> Fit:
        """The fit of one outcome, read from disk.

        Raises
        ------
        UnknownNameError
            If there is no such outcome.
        StorageError
            If it could not be fitted, or draws were not kept.
        """
        run, store = self._run(name), Store(self.path)
        table = store.table(run)
        if table is None:
            raise StorageError(
                'Draws were not kept; fit_many(..., keep="draws") keeps them. For one outcome, '
                f"fit model.with_outcome or model.with_data with seed={run['seed']}."
            )
        if "outcome" in table.columns and store.manifest["kind"] == "outcomes":
            rows = self.model.design.table.frame.index
            model = self.model.with_outcome(table["outcome"].set_axis(rows))
        else:
            model = self.model.with_data(table)
        data = {"observed_data": xr.Dataset({"y": ("row", model.design.y)})}
        tree = xr.DataTree.from_dict(store.draws(run) | data)
        tree.attrs["interrupted"] = 0
        return Fit(model.design, tree, tuple(json.loads(run["notes"])))

    def _run(self, name: str) -> dict[str, Any]:
        runs = self._tables[0]
        found = runs.loc[lookup(dict(zip(runs.index, runs.index, strict=True)), name, "outcome")]
        if found["reason"]:
            raise StorageError(f"{name!r} could not be fitted: {found['reason']}")
        return {str(key): value for key, value in found.items()}

    def __iter__(self) -> Iterator[str]:
        """Names of the outcomes that could be fitted."""
        return iter(self.names)

    def __len__(self) -> int:
        """How many could be fitted."""
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        """Whether an outcome of this name could be fitted."""
        return name in set(self.names)

    def plot(self, parameter: str, ax: Axes | None = None) -> Axes:
        """Means and 95 % equal-tailed intervals of one parameter, in rising order.

        Parameters
        ----------
        parameter : str
            Such as ``"beta[arm]"``.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure unless given.
        """
        table = self.summary(parameter).sort_values("mean")
        count = len(table)
        if ax is None:
            height = float(np.clip(0.18 * count + 1.5, 3, 12))
            _, ax = plt.subplots(figsize=(7, height), layout="constrained")
        at, thin = np.arange(count), count > _MOST_LABELS
        ax.axvline(0, color=GREY, linewidth=1, linestyle="--", zorder=0)
        ax.hlines(
            at, table["eti95_lb"], table["eti95_ub"], color=BLUE, linewidth=0.6 if thin else 1.5
        )
        ax.scatter(table["mean"], at, s=4 if thin else 14, color=BLUE, zorder=3)
        ax.set_yticks([] if thin else at, [] if thin else table.index.tolist(), fontsize=7)
        ax.set_ylabel(f"{count:,} outcomes, in rising order" if thin else "")
        ax.set_xlabel(f"{parameter}: mean and 95 % equal-tailed interval")
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def __repr__(self) -> str:
        """Name them by their formula."""
        return f"Fits({self.model.spec.formula!r}, {len(self):,} outcomes, {str(self.path)!r})"

    def __str__(self) -> str:
        """How many there are, what went wrong, and the first rows of the table."""
        runs, failures, spec = self.runs, self.failures, self.model.spec
        doubtful = int((~runs["converged"]).sum())
        lines = [
            *spec.formula.splitlines(),
            f"{spec.family.name} ({spec.link.name}), in {self.path}",
            f"{len(runs):,} fitted, {doubtful:,} of them not converged; {len(failures):,} failed.",
        ]
        if self.interrupted:
            lines.append("Interrupted: call fit_many again with the same `out` to go on.")
        if len(failures):
            lines.append(f"Failed (see .failures): {listed(failures.index)}.")
        if self.moderation is not None:
            lines += ["", "Learned across outcomes:", str(self.moderation)]
        table = self.summary().head(10)
        shown = table.to_string(index=False, formatters=formats(table[list(STATISTICS)]))
        return "\n".join([*lines, "", shown, *(["..."] if len(self) > 1 else [])])
