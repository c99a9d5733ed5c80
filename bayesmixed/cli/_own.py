"""Families, links and structures of the user's own, from the Python file that defines them."""

from __future__ import annotations

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import h5py

from bayesmixed._errors import BayesmixedError, StorageError, listed
from bayesmixed.family import Family
from bayesmixed.links import Link
from bayesmixed.structure import Structure

_KINDS = ("family", "link", "residual")


def own_parts(saved: Path, source: Path | None) -> dict[str, Any]:
    """What `bayesmixed.load` has to be passed for a saved fit.

    Parameters
    ----------
    saved : Path
        The fit.
    source : Path, optional
        A Python file with a `Family`, `Link` or `Structure` under any name.

    Raises
    ------
    StorageError
        If the fit needs such a file and none was given.
    BayesmixedError
        If the file cannot be run, or does not define what the fit needs.
    """
    needed = _needed(saved)
    if not needed:
        return {}
    if source is None:
        every = listed(f"the {kind} {name!r}" for kind, (name, _) in needed.items())
        raise StorageError(
            f"{saved} uses {every}, which is not one of the package's. Name the Python file that "
            f"defines it: bayesmixed report {saved} --own FILE.py."
        )
    defined = list(_defined(source).values())
    return {kind: _find(kind, *what, defined, source) for kind, what in needed.items()}


def _needed(saved: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Kind, name and fields of what is the user's own; nothing where the file says nothing."""
    try:
        with h5py.File(saved) as file:
            spec, own = json.loads(file.attrs["spec"]), json.loads(file.attrs["own"])
    except (OSError, KeyError):
        # Loading it will say what is wrong with the file.
        return {}
    found = {}
    for kind, needs in zip(_KINDS, own, strict=False):
        if needs:
            fields = dict(spec[kind]) if kind == "residual" else {}
            name = fields.pop("structure") if fields else spec[kind]
            found[kind] = (str(name), fields)
    return found


def _defined(source: Path) -> dict[str, Any]:
    made = spec_from_file_location(source.stem, source)
    if made is None or made.loader is None or not source.exists():
        raise BayesmixedError(f"There is no Python file {source}.")
    module = module_from_spec(made)
    try:
        made.loader.exec_module(module)
    except Exception as error:
        kind = type(error).__name__
        raise BayesmixedError(f"{source} cannot be run: {kind}: {error}") from error
    return vars(module)


def _find(kind: str, name: str, fields: dict[str, Any], defined: list[Any], source: Path) -> Any:
    if kind == "residual":
        for value in defined:
            if isinstance(value, type) and issubclass(value, Structure) and value.__name__ == name:
                time = fields.pop("time")
                return value(time=time if isinstance(time, str) else tuple(time), **fields)
    for value in defined:
        wanted = Family if kind == "family" else Link
        if isinstance(value, wanted) and value.name == name:
            return value
    what = "Structure" if kind == "residual" else kind.capitalize()
    raise BayesmixedError(f"{source} defines no {what} {name!r}, which the fit was made with.")
