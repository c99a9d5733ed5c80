"""Fits of every kind from the netCDF files that their `save` wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from bayesmixed._errors import StorageError, listed
from bayesmixed.assembly import build_design
from bayesmixed.data import Table
from bayesmixed.design import Design
from bayesmixed.family import Family
from bayesmixed.fit import Fit
from bayesmixed.links import Link
from bayesmixed.meta import restored
from bayesmixed.spec import ModelSpec
from bayesmixed.stored_table import decode_table
from bayesmixed.structure import Structure
from bayesmixed.whole import Whole


def load(
    path: str | PathLike[str],
    family: Family | None = None,
    link: Link | None = None,
    residual: Structure | None = None,
    covariances: Mapping[str, Structure] | None = None,
) -> Fit:
    """Read a fit that `Fit.save` wrote; or `NetworkFit.save`, or `MultivariateFit.save`.

    Parameters
    ----------
    path : path
        The file.
    family, link, residual, covariances : optional
        The family, link or structures of one's own that the model used; the package's are found
        by name.

    Returns
    -------
    Fit
        Of the kind that was saved.

    Raises
    ------
    StorageError
        If there is no such file, or it is not a saved fit.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> fit = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1)
    >>> path = fit.save("sleepstudy.nc")
    >>> bm.load(path).posterior.identical(fit.posterior)
    True
    """
    target = Path(path)
    if not target.exists():
        raise StorageError(f"There is no file {target}.")
    try:
        with xr.open_datatree(target, engine="h5netcdf") as opened:
            tree = opened.load()
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{target} is not a saved fit; it cannot be read as netCDF: {error}"
        ) from error
    if "kind" in tree.attrs:
        # For type checkers a `Fit`, as most files hold one.
        other: Any = restored(tree)
        return other  # type: ignore[no-any-return]
    if "spec" not in tree.attrs or "data" not in tree.children:
        raise StorageError(f"{target} is not a fit saved by bayesmixed.")
    values = json.loads(tree.attrs["spec"])
    own_family, own_link, *own_residual = json.loads(tree.attrs["own"])
    _check_own(target, "family", values["family"], family, own_family)
    _check_own(target, "link", values["link"], link, own_link)
    if any(own_residual) and residual is None and covariances is None:
        structures = [values["residual"], *values.get("covariances", {}).values()]
        names = [s["structure"] for s in structures if s and "structure" in s]
        raise StorageError(
            f"{path} uses the structure {listed(names)}, which is not one of the package's or "
            "holds one; pass it: bm.load(path, residual=...), or covariances={group: ...}."
        )
    spec = ModelSpec.from_dict(values, family, link, residual, covariances)
    frame = decode_table(tree["data"].to_dataset(), json.loads(tree.attrs["columns"]))
    rows_and_parts = json.loads(tree.attrs.get("whole", "null"))
    whole = None
    if rows_and_parts is not None:
        rows, parts, sizes = rows_and_parts
        whole = Whole(rows, parts, {name: np.array(every) for name, every in sizes.items()})
    design = build_design(spec, frame, whole=whole)
    dropped, count = json.loads(tree.attrs["dropped"])
    design = Design(**{**vars(design), "table": Table(design.table.frame, dropped, count)})
    notes = tuple(json.loads(tree.attrs["notes"]))
    del tree["data"]
    kept = ("interrupted", "sampling")
    tree.attrs = {name: tree.attrs[name] for name in kept if name in tree.attrs}
    return Fit(design, tree, notes)


def _check_own(path: Path, kind: str, name: str, given: Family | Link | None, own: bool) -> None:
    """Refuse to read a fit without the family or link of the user's own that it needs."""
    if given is None and own:
        raise StorageError(
            f"{path} uses the {kind} {name!r}, which is not one of the package's; pass it: "
            f"bm.load(path, {kind}=...)."
        )
    if given is not None and given.name != name:
        raise StorageError(f"{path} uses the {kind} {name!r}; {kind}={given.name!r} was passed.")
