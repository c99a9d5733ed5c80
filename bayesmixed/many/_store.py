"""A directory with the results of many fits: whole netCDF parts, and a manifest of what they are.

A part holds the results that finished within a few seconds. It is written under another name and
then renamed, so that whatever stops a run leaves whole parts only.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import h5netcdf
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import StorageError
from bayesmixed.many._moderation import Moderation
from bayesmixed.many._record import STATISTICS, Record
from bayesmixed.stored_table import decode_table, encode_table

_FORMAT = 1
_MANIFEST, _MODEL, _MODERATION = "manifest.json", "model.nc", "moderation.json"
# Results of one part lie along this dimension; no grouping can have its name.
_STACK = "_fit"
_HEAD = "head"

_PLAIN = (
    *("name", "position", "fingerprint", "reason", "again"),
    *("rows", "seed", "divergences", "seconds", "problems"),
)
_KINDS = ("posterior", "sample_stats", "data")


@dataclass(frozen=True)
class Store:
    """The directory.

    Parameters
    ----------
    path : Path
        Where it is.
    """

    path: Path

    @classmethod
    def begin(cls, path: Path, manifest: Mapping[str, Any], base: pd.DataFrame) -> Store:
        """Make the directory, or go on with one of the same model and settings.

        Parameters
        ----------
        path : Path
            The directory.
        manifest : mapping
            The model and settings, as plain values for JSON; ``version`` may differ.
        base : DataFrame
            The data of the model.

        Raises
        ------
        StorageError
            If it holds something else, with what differs.
        """
        store, plain = cls(path), json.loads(json.dumps(manifest))
        if store.exists:
            store._compare(plain)
            for left in path.glob("*.tmp"):
                left.unlink(missing_ok=True)
            return store
        if path.exists() and (not path.is_dir() or any(path.glob("*.nc"))):
            raise StorageError(f"{path} is not a directory of fit_many; give another `out`.")
        path.mkdir(parents=True, exist_ok=True)
        columns, kinds = encode_table(base)
        columns.attrs["kinds"] = json.dumps(kinds)
        with _whole(path / _MODEL) as draft:
            columns.to_netcdf(draft, engine="h5netcdf")
        # Last, since a directory with a manifest is complete.
        with _whole(path / _MANIFEST) as draft:
            draft.write_text(json.dumps(plain | {"format": _FORMAT}, indent=1))
        return store

    @property
    def exists(self) -> bool:
        """Whether there is something in it to go on with."""
        return (self.path / _MANIFEST).exists()

    @property
    def manifest(self) -> dict[str, Any]:
        """The model and settings.

        Raises
        ------
        StorageError
            If the directory has none.
        """
        if not self.exists:
            raise StorageError(f"{self.path} is not a directory that fit_many wrote.")
        found: dict[str, Any] = json.loads((self.path / _MANIFEST).read_text())
        return found

    def base(self) -> pd.DataFrame:
        """The data of the model."""
        with xr.open_dataset(self.path / _MODEL, engine="h5netcdf") as columns:
            return decode_table(columns.load(), json.loads(columns.attrs["kinds"]))

    def _compare(self, given: Mapping[str, Any]) -> None:
        there = self.manifest
        differing = [
            f"{key} is {_short(there.get(key))} there and {_short(given.get(key))} here"
            for key in given
            if key != "version" and there.get(key) != given[key]
        ]
        if differing:
            raise StorageError(
                f"{self.path} holds fits of another model or with other settings: "
                f"{'; '.join(differing)}. Give another `out`, or the same model and settings to "
                "go on."
            )

    def write(self, records: Sequence[Record]) -> Path:
        """Add a part.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        tree, places = _stacked(records)
        tree[_HEAD] = _head(records, places)
        number = len(list(self.path.glob("part-*.nc"))) + 1
        target = self.path / f"part-{number:06d}-{token_hex(3)}.nc"
        try:
            with _whole(target) as draft:
                xr.DataTree.from_dict(tree).to_netcdf(draft, engine="h5netcdf")
        except OSError as error:
            raise StorageError(f"{target} could not be written: {error}") from error
        return target

    def read(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """What came of every outcome, the latest where there are several, without the draws.

        Returns
        -------
        runs : DataFrame
            A row an outcome, in the order in which they were given.
        lines : DataFrame
            A row a parameter of each, with ``outcome``, ``parameter`` and the `STATISTICS`.
        """
        heads = [_read_head(part) for part in sorted(self.path.glob("part-*.nc"))]
        if not heads:
            columns = (*_PLAIN, "notes", *_KINDS, "part")
            return pd.DataFrame({name: [] for name in columns}), _no_lines().drop(columns="part")
        runs = pd.concat([head for head, _ in heads])
        last = runs[~runs["name"].duplicated(keep="last")].sort_values("position", kind="stable")
        kept = last[["name", "part"]].rename(columns={"name": "outcome"})
        every = pd.concat([lines for _, lines in heads])
        lines = kept.merge(every, on=["outcome", "part"], how="inner")
        return last.reset_index(drop=True), lines.drop(columns="part")

    def done(self) -> dict[str, str]:
        """Fingerprints of the outcomes that need not be fitted again, by name."""
        runs, _ = self.read()
        kept = runs[~runs["again"].astype(bool)]
        return dict(zip(kept["name"], kept["fingerprint"], strict=True))

    def draws(self, run: Mapping[str, Any]) -> dict[str, xr.Dataset]:
        """The draws of one outcome, of which `run` is the row of `read`."""
        found = {}
        for kind in ("posterior", "sample_stats"):
            if run[kind]:
                group, at = str(run[kind]).split()
                with self._open(run, group) as every:
                    found[kind] = every.isel({_STACK: int(at)}).load()
        return found

    def every(self, kind: str, runs: pd.DataFrame) -> Iterator[xr.Dataset]:
        """The draws of several outcomes, of which `runs` are rows of `read`, group by group."""
        places = runs[kind].str.split(expand=True)
        for (part, group), chosen in runs.groupby([runs["part"], places[0]], sort=True):
            at = np.sort(places.loc[chosen.index, 1].to_numpy(dtype=int))
            with self._open({"part": part}, str(group)) as stacked:
                yield stacked.load().isel({_STACK: at})

    def moderation(self, asked: str | None = None) -> Moderation | None:
        """The priors that were learned across outcomes; None if there are none.

        Parameters
        ----------
        asked : str, optional
            Hash of the outcomes that they must have been learned from.

        Raises
        ------
        StorageError
            If they were learned from others.
        """
        file = self.path / _MODERATION
        if not file.exists():
            return None
        saved = json.loads(file.read_text())
        if asked is not None and saved["asked"] != asked:
            raise StorageError(
                f"The priors in {self.path} were learned from other outcomes than these. Give "
                "another `out`, so that all fits have the same priors."
            )
        return Moderation.from_dict(saved["learned"])

    def keep_moderation(self, moderation: Moderation, asked: str) -> None:
        """Write what was learned."""
        with _whole(self.path / _MODERATION) as draft:
            draft.write_text(json.dumps({"asked": asked, "learned": moderation.to_dict()}))

    def table(self, run: Mapping[str, Any]) -> pd.DataFrame | None:
        """The outcome's own columns, of which `run` is the row of `read`; None if not kept."""
        if not run["data"]:
            return None
        group, at = str(run["data"]).split()
        with self._open(run, group) as every:
            ends = np.cumsum(every["rows"].to_numpy())
            end, rows = int(ends[int(at)]), int(every["rows"][int(at)])
            kinds = json.loads(every["kinds"].to_numpy()[int(at)])
            return decode_table(every.isel(row=slice(end - rows, end)).load(), kinds)

    def _open(self, run: Mapping[str, Any], group: str) -> xr.Dataset:
        return xr.open_dataset(self.path / run["part"], group=group, engine="h5netcdf")


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """Write under a name of its own, and give the true one to what is whole."""
    draft = target.with_name(f"{target.name}.tmp")
    try:
        yield draft
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def _stacked(records: Sequence[Record]) -> tuple[dict[str, xr.Dataset], list[dict[str, str]]]:
    """Groups of a part, and for each record where in them its draws and data are."""
    alike: dict[tuple[str, Hashable], list[tuple[int, xr.Dataset]]] = defaultdict(list)
    for i, record in enumerate(records):
        for kind, draws in record.draws.items():
            alike[kind, _signature(draws)].append((i, draws))
        if record.data is not None:
            columns = _columns(record.data)
            alike["data", tuple((n, v.dtype.str) for n, v in columns.items())].append((i, columns))
    tree: dict[str, xr.Dataset] = {}
    places: list[dict[str, str]] = [{} for _ in records]
    for (kind, _), members in alike.items():
        group = f"{kind}_{sum(name.startswith(f'{kind}_') for name in tree)}"
        join = _end_to_end if kind == "data" else _side_by_side
        tree[group] = join([dataset for _, dataset in members])
        for at, (i, _) in enumerate(members):
            places[i][kind] = f"{group} {at}"
    return tree, places


def _signature(draws: xr.Dataset) -> Hashable:
    """What is equal for draws that can lie side by side."""
    variables = tuple((n, v.dims, v.shape, v.dtype.str) for n, v in draws.data_vars.items())
    return variables, tuple((n, tuple(v.to_numpy().tolist())) for n, v in draws.coords.items())


def _side_by_side(several: Sequence[xr.Dataset]) -> xr.Dataset:
    first = several[0]
    variables = {
        name: ((_STACK, *v.dims), np.stack([d[name].to_numpy() for d in several]))
        for name, v in first.data_vars.items()
    }
    return xr.Dataset(variables, coords=first.coords)


def _columns(table: pd.DataFrame) -> xr.Dataset:
    columns, kinds = encode_table(table)
    # The width of codes depends on the number of levels; tables are joined by type.
    codes = [n for n, v in columns.items() if v.dtype.kind == "i" and v.dtype.itemsize < 4]
    return columns.assign({n: columns[n].astype("int32") for n in codes}).assign_attrs(
        kinds=json.dumps(kinds)
    )


def _end_to_end(several: Sequence[xr.Dataset]) -> xr.Dataset:
    joined = {
        name: ("row", np.concatenate([d[name].to_numpy() for d in several])) for name in several[0]
    }
    counts = {
        "rows": (_STACK, np.array([d.sizes["row"] for d in several])),
        "kinds": (_STACK, np.array([d.attrs["kinds"] for d in several], dtype=object)),
    }
    return xr.Dataset(joined | counts)


def _head(records: Sequence[Record], places: Sequence[Mapping[str, str]]) -> xr.Dataset:
    """Everything but the draws and data."""
    columns: dict[str, list[Any]] = {name: [getattr(r, name) for r in records] for name in _PLAIN}
    columns["notes"] = [json.dumps(r.notes) for r in records]
    for kind in _KINDS:
        columns[kind] = [place.get(kind, "") for place in places]
    labels = np.array([p for r in records for p in r.parameters], dtype=object)
    lines = {"parameter": labels, "of": np.repeat(range(len(records)), [*map(_count, records)])}
    numbers = np.concatenate([r.table for r in records])
    lines |= dict(zip(STATISTICS, numbers.T, strict=True))
    return xr.Dataset(
        {name: (_STACK, _array(values)) for name, values in columns.items()}
        | ({name: ("line", values) for name, values in lines.items()} if len(labels) else {})
    )


def _count(record: Record) -> int:
    return len(record.parameters)


def _array(values: list[Any]) -> NDArray[Any]:
    return np.array(values, dtype=object if isinstance(values[0], str) else None)


def _read_head(part: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    with h5netcdf.File(part, "r", decode_vlen_strings=True) as file:
        values = {name: variable[...] for name, variable in file[_HEAD].variables.items()}
    columns = (*_PLAIN, "notes", *_KINDS)
    runs = pd.DataFrame({name: values[name] for name in columns}).assign(part=part.name)
    if "of" not in values:
        return runs, _no_lines()
    lines = {name: values[name] for name in ("parameter", *STATISTICS)}
    named = runs["name"].to_numpy()[values["of"]]
    return runs, pd.DataFrame({"outcome": named, **lines, "part": part.name})


def _no_lines() -> pd.DataFrame:
    texts = {n: pd.Series(dtype="str") for n in ("outcome", "parameter", "part")}
    return pd.DataFrame(texts | {n: pd.Series(dtype=float) for n in STATISTICS})


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
