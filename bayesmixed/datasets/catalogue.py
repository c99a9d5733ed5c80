"""The data sets that come with the package: their list, descriptions and tables."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd

from bayesmixed._errors import lookup
from bayesmixed.datasets.dataset import Dataset

_HERE = files("bayesmixed.datasets")


def _with_log_risk_ratio(d: pd.DataFrame) -> pd.DataFrame:
    vaccinated, control = d.tpos + d.tneg, d.cpos + d.cneg
    return d.assign(
        yi=np.log(d.tpos / vaccinated) - np.log(d.cpos / control),
        sei=np.sqrt(1 / d.tpos - 1 / vaccinated + 1 / d.cpos - 1 / control),
    )


def _with_standard_error(d: pd.DataFrame) -> pd.DataFrame:
    return d.assign(sei=np.sqrt(d.vi))


# Adds the columns that the catalogue calls derived, so that every suggested model runs as it is.
_DERIVE: Mapping[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "toenail": lambda d: d.assign(severe=(d.outcome == "moderate or severe").astype("int64")),
    "bcg": _with_log_risk_ratio,
    "konstantopoulos2011": _with_standard_error,
    "berkey1998": _with_standard_error,
    "hackshaw1998": _with_standard_error,
    "senn2013": lambda d: d.assign(sei=d.sdi / np.sqrt(d.ni)),
    "nielweise2007": lambda d: d.assign(events=d.ai + d.ci, log_size_ratio=np.log(d.n1i / d.n2i)),
}


@cache
def _catalogue() -> Mapping[str, Dataset]:
    entries = tomllib.loads((_HERE / "catalogue.toml").read_text(encoding="utf-8"))
    return {name: Dataset.from_entry(name, entry) for name, entry in entries.items()}


def describe(name: str) -> Dataset:
    """Everything that is known about a data set.

    Parameters
    ----------
    name : str
        A name from `list`.

    Returns
    -------
    Dataset
        Title, description, variables, source, licence and a model to start with; ``print`` it.

    Raises
    ------
    UnknownNameError
        If there is no such data set.

    Examples
    --------
    >>> from bayesmixed import datasets
    >>> datasets.describe("cbpp").formula
    'incidence | trials(size) ~ period + (1 | herd)'
    """
    return lookup(_catalogue(), name, "data set")


def load(name: str) -> pd.DataFrame:
    """Load a data set as a table.

    Labels are text, categories have the levels that `describe` lists (the reference first), and
    everything else is a number. Group numbers such as ``provnum`` stay integers.

    Parameters
    ----------
    name : str
        A name from `list`.

    Returns
    -------
    pandas.DataFrame
        A new table; its ``attrs["dataset"]`` is `name`.

    Raises
    ------
    UnknownNameError
        If there is no such data set.

    Examples
    --------
    >>> from bayesmixed import datasets
    >>> datasets.load("sleepstudy").shape
    (180, 3)
    """
    dataset = describe(name)
    with (_HERE / "data" / f"{name}.csv").open(encoding="utf-8") as file:
        data = pd.read_csv(file, dtype=dict.fromkeys((*dataset.text, *dataset.levels), str))
    for column, levels in dataset.levels.items():
        kind = pd.CategoricalDtype(pd.Index(levels), ordered=column in dataset.ordered)
        data[column] = data[column].astype(kind)
    if name in _DERIVE:
        data = _DERIVE[name](data)
    data.attrs["dataset"] = name
    return data


def list() -> pd.DataFrame:
    """List the data sets that `load` knows.

    Returns
    -------
    pandas.DataFrame
        One row per data set: ``name``, ``rows``, ``title``, ``formula`` and ``family``.

    Examples
    --------
    >>> from bayesmixed import datasets
    >>> datasets.list().name.head(2).to_list()
    ['sleepstudy', 'cbpp']
    """
    columns = ("name", "rows", "title", "formula", "family")
    return pd.DataFrame(
        [{c: getattr(dataset, c) for c in columns} for dataset in _catalogue().values()]
    )
