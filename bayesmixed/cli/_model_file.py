"""A model, its data and its sampling as a TOML file, from which a run can be made again."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from os.path import relpath
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

import bayesmixed as bm
from bayesmixed._errors import DataError, PriorError, lookup
from bayesmixed.cli._residual import structure
from bayesmixed.cli._table import read_table
from bayesmixed.structure import Structure

_TEXT: Mapping[str, type] = {
    "data": str,
    "dataset": str,
    "formula": str,
    "family": str,
    "link": str,
    "missing": str,
    "sampling_sd": str,
    "center": bool,
}
_TABLES = ("hierarchy", "parameters", "priors", "residual", "covariances", "sampling")
_SAMPLING: Mapping[str, tuple[type, ...]] = {
    "draws": (int,),
    "tune": (int,),
    "chains": (int,),
    "seed": (int,),
    "target_accept": (int, float),
    "max_depth": (int,),
}


@dataclass(frozen=True)
class ModelFile:
    """What a model file says.

    Parameters
    ----------
    values : mapping
        Keys ``data`` (a file) or ``dataset`` (one of the package's), ``formula``, ``family``,
        ``link``, ``missing``, ``sampling_sd``, ``center``, and tables ``hierarchy``,
        ``parameters``, ``priors``, ``residual``, ``covariances`` (structures, by grouping).
    folder : Path
        What a relative path of the data starts from.
    sampling : mapping
        Arguments of `Model.fit`.
    source : Path, optional
        The file that it was read from.
    """

    values: Mapping[str, Any]
    folder: Path = Path()
    sampling: Mapping[str, Any] = field(default_factory=dict)
    source: Path | None = None

    @classmethod
    def of(
        cls, source: Path, formula: str | None, priors: list[str], **typed: str | None
    ) -> ModelFile:
        """From a table with a formula, or from a model file, with what was typed beside it.

        Parameters
        ----------
        source : Path
        formula : str, optional
        priors : list of str
            As typed.
        **typed : str, optional
            Other keys of a model file, such as ``family``.

        Raises
        ------
        BayesmixedError
            If there is no such file, a formula is missing, or a key is not one of a model file's.
        """
        if source.suffix == ".toml":
            found = cls.read(source)
        elif formula is None:
            raise bm.BayesmixedError(
                f'A table needs a formula behind it, such as {source} "y ~ x + (1 | group)".'
            )
        else:
            found = cls({"data": str(source)})
        values = dict(found.values)
        typed["formula"] = formula
        values |= {name: value for name, value in typed.items() if value is not None}
        if priors:
            values["priors"] = {**values.get("priors", {}), **dict(map(_typed_prior, priors))}
        return replace(found, values=values)

    @classmethod
    def read(cls, path: Path) -> ModelFile:
        """Read and check a model file."""
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path} is not TOML: {error}.") from error
        known = dict.fromkeys([*_TEXT, *_TABLES])
        for key, value in values.items():
            lookup(known, key, "key of a model file")
            kind = _TEXT.get(key, dict)
            if not isinstance(value, kind):
                words = {str: "text in quotes", bool: "true or false", dict: f"a table, [{key}]"}
                raise DataError(f"{path}: {key} = {value!r} must be {words[kind]}.")
        if "formula" not in values or ("data" in values) == ("dataset" in values):
            raise DataError(f"{path} needs formula, and one of data (a file) and dataset (a name).")
        for table in ("hierarchy", "parameters"):
            for key, value in values.get(table, {}).items():
                if not isinstance(value, str):
                    example = {"hierarchy": '"1 + years"', "parameters": '"~ arm"'}[table]
                    raise DataError(
                        f"{path}: {key} = {value!r} in [{table}] must be text, such as {example}."
                    )
        sampling = values.pop("sampling", {})
        for key, value in sampling.items():
            kinds = lookup(_SAMPLING, key, "key of [sampling]")
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise DataError(f"{path}: {key} = {value!r} in [sampling] must be a number.")
        return cls(values, path.parent, sampling, path)

    def sampled(self, **settings: int) -> ModelFile:
        """The same with other settings of sampling."""
        return replace(self, sampling={**self.sampling, **settings})

    def model(self) -> bm.Model:
        """The model of its data."""
        given: dict[str, Any] = dict(self.values)
        data, name = given.pop("data", None), given.pop("dataset", None)
        table = bm.datasets.load(name) if data is None else read_table(self.folder / data)
        if "hierarchy" in given:
            given["hierarchy"] = bm.Hierarchy(given["hierarchy"])
        if "priors" in given:
            given["priors"] = {n: _prior(n, p) for n, p in given["priors"].items()}
        if "residual" in given:
            given["residual"] = structure(given["residual"])
        if "covariances" in given:
            given["covariances"] = {n: _related(n, c) for n, c in given["covariances"].items()}
        return bm.Model(given.pop("formula"), table, **given)

    def hint(self, model: bm.Model) -> str:
        """What is likely to have been forgotten; empty where nothing is."""
        if "family" in self.values or not np.isin(model.design.y, (0, 1)).all():
            return ""
        return (
            f"{model.spec.response} is 0 or 1 in every row, and is modelled as a measurement; for "
            "probabilities and odds ratios give --family bernoulli."
        )

    def write(self, path: Path) -> None:
        """Write it so that the run can be made again from where the file is.

        Raises
        ------
        BayesmixedError
            If it would be written over the model file that it was read from, which says less.
        """
        values = {**self.values, "sampling": dict(self.sampling)}
        if "data" in values:
            values["data"] = relpath(self.folder / values["data"], path.parent)
        if self.source is not None and path.exists() and path.samefile(self.source):
            if tomllib.loads(path.read_text(encoding="utf-8")) == values:
                return
            raise bm.BayesmixedError(
                f"{path} would be written over, and with it your comments; choose another folder "
                "with --out."
            )
        path.write_text(tomli_w.dumps(values), encoding="utf-8")


def _related(group: str, values: Any) -> Structure:
    """How the groups of a grouping are correlated."""
    if not isinstance(values, dict):
        raise DataError(
            f"{group} = {values!r} in [covariances] must be a table with a structure, such as "
            '{structure = "AR1", time = "year", within = "hospital"}. A known matrix is given in '
            "Python."
        )
    return structure(values, f"covariances.{group}")


def _prior(name: str, values: Any) -> bm.Prior:
    """A prior from ``{distribution = "Normal", mu = 0, sigma = 2}``."""
    if not isinstance(values, dict) or not isinstance(values.get("distribution"), str):
        raise PriorError(
            f"The prior of {name!r} is written "
            '{distribution = "Normal", mu = 0, sigma = 2}, with PyMC\'s names.'
        )
    return bm.Prior(**values)


def _typed_prior(text: str) -> tuple[str, dict[str, Any]]:
    """A prior from ``name=Normal(mu=0, sigma=2)``; nothing of it is run."""
    name, _, written = text.partition("=")
    try:
        call = ast.parse(written.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError
        values = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise PriorError(
            f'--prior {text!r}: write it as "beta[age]=Normal(mu=0, sigma=2)".'
        ) from error
    return name.strip(), {"distribution": call.func.id, **values}
