"""Tables of more rows than memory holds, read in parts by Dask: what a model needs of all rows.

A model of such a table has a `Design` of some of its rows, so that encoders, labels and checks are
the usual ones: a row of every group and category, and rows that show all that the checks look for.
What enters the likelihood are sums over the rows of each part, added up.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, DataError, listed, lookup
from bayesmixed.assembly import build_design
from bayesmixed.data import (
    Missing,
    Table,
    check_columns,
    check_left,
    check_no_gaps,
    complete_rows,
    to_pandas,
)
from bayesmixed.design import Design, variables
from bayesmixed.hierarchy import Hierarchy
from bayesmixed.spec import Grouping, ModelSpec
from bayesmixed.tally import measured
from bayesmixed.whole import Whole
from bayesmixed.witnesses import Rows, calls, draft_design, telling_rows, wanted, witnesses

_STATEFUL = frozenset({"bs", "cr", "cs", "cc", "poly", "center", "scale", "standardize"})
# Results that are merged at once.
_FAN = 8
# Rows from which it is guessed how effects are best sampled.
_SAMPLE = 100_000
# formulaic changes Python's warnings while it works, which only one thread can do at a time.
_ENCODING = threading.Lock()


@dataclass(frozen=True)
class Partitions:
    """A table that is read in parts.

    Parameters
    ----------
    frame : dask.dataframe.DataFrame
    names : tuple of str
        The columns that are used.
    """

    frame: Any
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: Any) -> Partitions | None:
        """The table where it is one in parts: a Dask DataFrame, or parquet files; else None.

        Parameters
        ----------
        data : dask.dataframe.DataFrame, path, or list of paths
            A path ends in ``.parquet``, is a folder of parquet files, or has a ``*`` in it.

        Raises
        ------
        BayesmixedError
            If Dask is not installed.
        DataError
            If the files cannot be read.
        """
        several = list(data) if isinstance(data, list | tuple) else [data]
        if several and all(isinstance(one, str | PathLike) for one in several):
            paths = [str(one) for one in several]
            if not all(map(_is_parquet, paths)):
                return None
            return cls(_read(paths if isinstance(data, list | tuple) else paths[0]))
        is_dask = type(data).__module__.partition(".")[0] in ("dask", "dask_expr")
        return cls(data) if is_dask and hasattr(data, "to_delayed") else None

    def __len__(self) -> int:
        """Number of parts."""
        return int(self.frame.npartitions)

    def over[T](self, work: Callable[[Table], T], merge: Callable[[Sequence[T]], T]) -> T:
        """Apply a function to each part's complete rows where there are any, and merge the results.

        Parameters
        ----------
        work : callable
            From the complete rows, as they are, to a result.
        merge : callable
            From results to one of the same kind.
        """
        delayed = importlib.import_module("dask").delayed
        # Sent once, and not with every part.
        shared = delayed(partial(_work, self.names, work), traverse=False)
        every = [delayed(_call)(shared, p) for p in self.frame[list(self.names)].to_delayed()]
        joined = delayed(partial(_merge, merge), traverse=False)
        while len(every) > 1:
            every = [
                delayed(_call)(joined, every[i : i + _FAN]) for i in range(0, len(every), _FAN)
            ]
        found: T = every[0].compute()
        return found

    def reduce[T](
        self,
        design: Design,
        function: Callable[[Design], T],
        merge: Callable[[Sequence[T]], T],
    ) -> T:
        """Apply a function to the design of each part's rows, and merge the results."""
        assert design.whole is not None
        bare = replace(design, whole=replace(design.whole, source=None))
        found: T = self.over(partial(_on_design, bare, function), merge)
        return found

    def example(self, hierarchy: Hierarchy | None) -> pd.DataFrame:
        """Some rows that show which groups of a hierarchy lie in which; no rows without one."""
        meta: pd.DataFrame = self.frame._meta
        factors = tuple(name for name, _ in hierarchy.levels) if hierarchy else ()
        if not factors or not set(factors) <= set(meta.columns):
            return meta
        groupings = [Grouping((f,)) for f in factors]
        groupings += [Grouping(factors[: i + 1]) for i in range(1, len(factors))]
        pick = partial(witnesses, groupings=groupings, coded=(), measured=())
        seen = replace(self, names=factors).over(partial(_see, pick), partial(_see_all, pick))
        frame: pd.DataFrame = seen.table.frame
        return frame

    def design(
        self, spec: ModelSpec, missing: Missing, integrated: Callable[[Design], Collection[str]]
    ) -> Design:
        """Check the data against a spec, and encode some of the rows.

        Parameters
        ----------
        spec : ModelSpec
        missing : {"drop", "raise"}
        integrated : callable
            From a design to the groupings whose effects are integrated out.

        Raises
        ------
        BayesmixedError
            As `build_design`, and for families and functions that need all rows at once.
        """
        lookup({"drop": 0, "raise": 1}, missing, "way to treat missing values")
        _check_possible(spec)
        names = variables(spec)
        check_columns(names, self.frame.columns)
        source = replace(self, names=names)
        pick = partial(witnesses, **wanted(spec))
        seen = source.over(partial(_see, pick), partial(_see_all, pick))
        if not seen.rows:
            raise DataError("The data have no rows.")
        table = seen.table
        if missing == "raise":
            check_no_gaps(table)
        check_left(table, seen.rows)
        rows = seen.rows - table.rows_dropped
        whole = Whole(rows, len(self), source=source)
        draft = draft_design(spec, table.frame, whole)
        sampled = [r.name for p in draft.predictors.values() for r in p.random]
        sampled = [name for name in sampled if name not in integrated(draft)]
        tell = partial(telling_rows, sampled=sampled)
        bare = replace(draft, whole=replace(whole, source=None))
        more = draft.reduce(tell, partial(_select_again, draft=bare, pick=tell))
        frame = pd.concat([draft.table.frame, more])
        design = build_design(spec, frame, whole=whole)
        table = replace(table, frame=design.table.frame, kept=rows)
        design = replace(design, table=table)
        return replace(design, whole=measured(design, whole))

    def sample(self, design: Design) -> Design:
        """All rows, or where there are many those of some groups of the finest grouping."""
        assert design.whole is not None
        first = design.predictors[design.family.parameters[0].name]
        finest = max(first.random, key=lambda r: len(r.groups.labels)).name
        sizes = design.whole.sizes[finest]
        order = np.random.default_rng(0).permutation(len(sizes))
        taken = np.zeros(len(sizes), dtype=bool)
        taken[order[np.cumsum(sizes[order]) <= max(_SAMPLE, sizes[order[0]])]] = True
        frames = design.reduce(partial(_taken_rows, finest=finest, taken=taken), _joined)
        return design.at(frames)


def table_of(data: Any) -> pd.DataFrame | Partitions:
    """A user's data in partitions where they come in such, else as one table."""
    partitions = Partitions.of(data)
    return to_pandas(data) if partitions is None else partitions


def _is_parquet(path: str) -> bool:
    """Whether a path is one of parquet files: by its ending, a pattern, or a folder."""
    return "*" in path or path.endswith((".parquet", ".parq", ".pq")) or Path(path).is_dir()


def _read(paths: str | list[str]) -> Any:
    try:
        dask = importlib.import_module("dask.dataframe")
    except ImportError:
        raise BayesmixedError(
            "Parquet files are read by Dask, which is not installed; install the extra: pip "
            'install "bayesmixed[dask]".'
        ) from None
    try:
        frame = dask.read_parquet(paths)
        if not len(frame.columns):
            raise OSError("there is no such file, or it has no columns")
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{paths} cannot be read as parquet files: {error}. data is a table, a Dask DataFrame, "
            "or the path, pattern or list of parquet files."
        ) from None
    return frame


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(frames)


def _call(function: Callable[[Any], Any], argument: Any) -> Any:
    return function(argument)


def _work(names: Sequence[str], work: Callable[[Table], Any], part: pd.DataFrame) -> Any:
    return work(complete_rows(part, names))


def _merge(merge: Callable[[Sequence[Any]], Any], results: Sequence[Any]) -> Any:
    some = [result for result in results if result is not None]
    return merge(some) if some else None


def _on_design(design: Design, function: Callable[[Design], Any], table: Table) -> Any:
    if not len(table.frame):
        return None
    with _ENCODING:
        rows = design.at(table.frame)
    return function(rows)


def _check_possible(spec: ModelSpec) -> None:
    """Refuse models that take all rows at once."""
    family, link = spec.family, spec.link.name
    if spec.residual is not None:
        raise BayesmixedError(
            f"Correlated residuals ({spec.residual}) need every row in memory. Pass a table, such "
            "as pandas.read_parquet(...)."
        )
    if spec.covariances:
        raise BayesmixedError(
            f"Correlated groups ({listed(spec.covariances)}) need every row in memory. Pass a "
            "table, such as pandas.read_parquet(...)."
        )
    if spec.kernel is None and not spec.is_exact:
        raise BayesmixedError(
            f"Family {family.name} with link {link} needs every row in memory. Data in partitions "
            "are for normal outcomes with identity link, and for yes/no outcomes and counts with "
            "their usual links. Pass a table, such as pandas.read_parquet(...)."
        )
    for function, call, _ in calls(spec):
        if function in _STATEFUL:
            raise BayesmixedError(
                f"{call} takes every row at once, but the data are read in parts. Make a column of "
                "it beforehand and write that."
            )


@dataclass(frozen=True)
class _Seen:
    """Picked rows, with the number of rows and of missing values in all of them."""

    table: Table
    rows: int


def _see(pick: Callable[[pd.DataFrame], Rows], table: Table) -> _Seen:
    frame = table.frame
    kept = frame.iloc[pick(frame)] if len(frame) else frame
    return _Seen(replace(table, frame=kept), len(frame) + table.rows_dropped)


def _see_all(pick: Callable[[pd.DataFrame], Rows], parts: Sequence[_Seen]) -> _Seen:
    some = [p.table.frame for p in parts if len(p.table.frame)] or [parts[0].table.frame]
    frame = pd.concat(some)
    kept = frame.iloc[pick(frame)] if len(frame) else frame
    names = dict.fromkeys(n for p in parts for n in p.table.dropped)
    dropped = {n: sum(p.table.dropped.get(n, 0) for p in parts) for n in names}
    gone = sum(p.table.rows_dropped for p in parts)
    return _Seen(Table(kept, dropped, gone), sum(p.rows for p in parts))


def _select_again(
    parts: Sequence[pd.DataFrame], draft: Design, pick: Callable[[Design], pd.DataFrame]
) -> pd.DataFrame:
    frame = pd.concat(parts)
    with _ENCODING:
        design = draft.at(frame)
    return pick(design)


def _taken_rows(design: Design, finest: str, taken: NDArray[np.bool_]) -> pd.DataFrame:
    first = design.predictors[design.family.parameters[0].name]
    index = next(r.groups.index for r in first.random if r.name == finest)
    return design.table.frame[taken[index]]
