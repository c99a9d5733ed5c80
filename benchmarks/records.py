"""Results: one record a run, kept in a JSON file for each row of the table."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from benchmarks.measure import Usage


@dataclass(frozen=True)
class Quality:
    """What the draws of a run are worth, computed alike for every peer.

    Parameters
    ----------
    effective : float
        Bulk effective draws (Vehtari et al. 2021) of the slowest of beta, sd, cor, sigma, alpha.
    slowest : str
        Which that is.
    rhat : float
        Largest rank-normalised R-hat of them.
    mean, sd : mapping of str to float
        Of the posterior, by parameter.
    """

    effective: float
    slowest: str
    rhat: float
    mean: Mapping[str, float]
    sd: Mapping[str, float]


@dataclass(frozen=True)
class Record:
    """One run of one peer.

    Parameters
    ----------
    row, point, peer : str
        What ran.
    repeat, session : int, str
        Which repeat of which session; runs that share both ran one after the other.
    options : mapping
        Draws, warm-up draws, chains, cores, seed.
    usage : mapping
        Wall and processor time (s), memory (MB), disturbance (cores), error; see `Usage`.
    seconds, versions : mapping
        Time of each stage (s), and versions, both as the peer's script gave them.
    quality : mapping, optional
        See `Quality`.
    facts : mapping
        What else the script said: divergences, outcomes, notes, estimates.
    """

    row: str
    point: str
    peer: str
    repeat: int
    session: str
    options: Mapping[str, Any]
    usage: Mapping[str, Any]
    seconds: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    quality: Mapping[str, Any] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it gave no result."""
        return self.usage["error"] is not None

    def value(self, quantity: str) -> float:
        """A quantity that claims are about; see `benchmarks.row.Claim`."""
        seconds = self.seconds
        # Reading the table from the exchange folder is nobody's merit.
        whole = self.usage["wall"] - seconds["data"]
        if quantity == "outcome":
            spent = seconds["build"] + seconds.get("fit", seconds["sample"])
            return spent / float(self.facts["outcomes"])
        if quantity == "rate":
            assert self.quality is not None
            return float(self.quality["effective"]) / seconds["sample"]
        known: dict[str, float] = {**seconds, "whole": whole, "memory": self.usage["memory"]}
        return known.get(quantity, float("nan"))


def quality(parameters: list[str], draws: NDArray[np.float64]) -> Quality:
    """Effective draws, R-hat and moments.

    Parameters
    ----------
    parameters : list of str
        Names.
    draws : array, shape (parameters, chains, draws)
        Their draws.
    """
    data = xr.Dataset({"value": (("parameter", "chain", "draw"), draws)})
    effective = az.ess(data, method="bulk")["value"].to_numpy()
    slowest = int(effective.argmin())
    return Quality(
        float(effective[slowest]),
        parameters[slowest],
        float(az.rhat(data)["value"].max()),
        dict(zip(parameters, draws.mean(axis=(1, 2)).tolist(), strict=True)),
        dict(zip(parameters, draws.std(axis=(1, 2)).tolist(), strict=True)),
    )


def record(
    row: str,
    point: str,
    peer: str,
    repeat: int,
    session: str,
    options: Mapping[str, Any],
    usage: Usage,
    answer: Mapping[str, Any],
    draws: NDArray[np.float64] | None,
) -> Record:
    """Put together what a run gave."""
    told = ("seconds", "versions", "parameters", "chains")
    rest = {k: v for k, v in answer.items() if k not in told}
    return Record(
        row,
        point,
        peer,
        repeat,
        session,
        options,
        asdict(usage),
        answer.get("seconds", {}),
        answer.get("versions", {}),
        None if draws is None else asdict(quality(answer["parameters"], draws)),
        rest,
    )


def machine() -> dict[str, Any]:
    """What this machine is."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "system": platform.freedesktop_os_release()["PRETTY_NAME"],
        "kernel": platform.release(),
    }


def load(path: Path) -> tuple[dict[str, Any], list[Record]]:
    """The machine and the records of a row; empty if there are none yet."""
    if not path.exists():
        return {}, []
    content = json.loads(path.read_text())
    return content["machine"], [Record(**r) for r in content["records"]]


def add(path: Path, new: Record) -> None:
    """Add a record; it takes the place of earlier sessions' records of the same peer and point.

    A failed run takes the place of failed ones only.
    """
    _, records = load(path)

    def stays(old: Record) -> bool:
        same = (old.point, old.peer) == (new.point, new.peer)
        again = old.session == new.session and old.repeat != new.repeat
        return not same or again or (new.failed and not old.failed)

    kept = [asdict(r) for r in (*filter(stays, records), new)]
    content = {"machine": machine(), "records": kept}
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(content, indent=1) + "\n")
    scratch.replace(path)
