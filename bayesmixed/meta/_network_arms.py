"""From a table of arms or of contrasts to the trials of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, DataError, listed, lookup
from bayesmixed.data import check_columns, numbers
from bayesmixed.meta._network import Network, Trial

type Floats = NDArray[np.float64]
type Columns = Mapping[str, Floats]

# Rounded to two decimals, the contrasts of one trial still add up within this share.
_ROUNDING = 0.05


@dataclass(frozen=True)
class ArmMeasure:
    """What an arm says on the scale of the analysis.

    Parameters
    ----------
    needs : tuple of str
        Columns.
    formula : callable
        From the columns to the arm's estimate and its sampling variance.
    counted : bool
        Whether 0.5 is added in all arms of a trial that has an arm without events (or others).
    """

    needs: tuple[str, ...]
    formula: Callable[[Columns], tuple[Floats, Floats]]
    counted: bool = False


def _log_odds(c: Columns) -> tuple[Floats, Floats]:
    others = c["n"] - c["events"]
    return np.log(c["events"] / others), 1 / c["events"] + 1 / others


def _risk(c: Columns) -> tuple[Floats, Floats]:
    p = c["events"] / c["n"]
    return p, p * (1 - p) / c["n"]


def _rate(c: Columns) -> tuple[Floats, Floats]:
    return c["events"] / c["time"], c["events"] / c["time"] ** 2


# The difference of two arms has the effect and variance that `effect_sizes` gives.
ARMS: Mapping[str, ArmMeasure] = {
    "OR": ArmMeasure(("events", "n"), _log_odds, True),
    "RR": ArmMeasure(
        ("events", "n"),
        lambda c: (np.log(c["events"] / c["n"]), 1 / c["events"] - 1 / c["n"]),
        True,
    ),
    "RD": ArmMeasure(("events", "n"), _risk, True),
    "MD": ArmMeasure(("mean", "sd", "n"), lambda c: (c["mean"], c["sd"] ** 2 / c["n"])),
    "ROM": ArmMeasure(
        ("mean", "sd", "n"),
        lambda c: (np.log(c["mean"]), c["sd"] ** 2 / (c["n"] * c["mean"] ** 2)),
    ),
    "IRR": ArmMeasure(
        ("events", "time"), lambda c: (np.log(c["events"] / c["time"]), 1 / c["events"]), True
    ),
    "IRD": ArmMeasure(("events", "time"), _rate, True),
}  # fmt: skip


def read_network(
    table: pd.DataFrame,
    measure: str | None,
    study: str,
    treatment: str,
    versus: str | None,
    columns: Mapping[str, str],
    reference: str | None,
) -> Network:
    """The network of a table.

    Raises
    ------
    BayesmixedError
        With what was given, what is valid and what to do.
    """
    labels = [study, treatment, *([versus] if versus else [])]
    check_columns([*labels, *columns.values()], table.columns)
    if not len(table):
        raise DataError("The table has no rows; a network needs a trial or more.")
    gaps = table[[*labels, *columns.values()]].isna().any(axis=1)
    _refuse(table, gaps.to_numpy(), "A row misses a value", " Complete it, or leave the trial out.")
    text = {name: table[name].astype(str) for name in labels}
    every = sorted({*text[treatment], *(text[versus] if versus else ())})
    number = {name: i for i, name in enumerate(every)}
    given = {k: numbers(table[c], len(table), f"Column {c!r} ({k})") for k, c in columns.items()}
    for name in ("se", "sd", "n", "time", "baseline_se"):
        if name in given:
            _refuse(table, ~(given[name] > 0), f"{name} ({columns[name]!r}) must be above 0")
    kind = _contrasts if versus else _arms
    rows = text[study].groupby(text[study], sort=False).indices
    first = text[treatment].map(number).to_numpy()
    second = text[versus].map(number).to_numpy() if versus else None
    values = given if versus else _arm_values(table, measure, columns, given, text[study])
    found = [
        kind(
            str(name),
            first[at],
            None if second is None else second[at],
            {k: v[at] for k, v in values.items()},
            tuple(every),
        )
        for name, at in rows.items()
    ]
    network = Network(tuple(every), tuple(found))
    if reference is None:
        # The treatment in most trials is what the others are most often compared with.
        counts = np.bincount([a for t in network.trials for a in t.arms], minlength=len(every))
        reference = every[int(counts.argmax())]
    return network.with_reference(str(reference))


def _arm_values(
    table: pd.DataFrame,
    measure: str | None,
    columns: Mapping[str, str],
    given: dict[str, Floats],
    study: pd.Series[str],
) -> dict[str, Floats]:
    """Estimate and variance of every arm: ``arm`` and ``variance``, and ``n`` where known."""
    size = {"n": given["n"]} if "n" in given else {}
    if "effect" in given and "se" in given:
        return {"arm": given["effect"], "variance": given["se"] ** 2} | size
    if measure is None:
        raise BayesmixedError(
            f"Say what the arms report: measure= one of {listed(ARMS, 20)} with its columns, or "
            "effect= and se= of every arm; or give contrasts, with versus=, effect= and se=."
        )
    chosen = lookup(ARMS, measure, "measure of arms")
    missing = [name for name in chosen.needs if name not in given]
    if missing:
        raise BayesmixedError(
            f"Measure {measure} needs {', '.join(chosen.needs)} of every arm; missing: "
            f'{listed(missing)}. Name their columns, such as {missing[0]}="{missing[0]}".'
        )
    cells = dict(given)
    if "events" in cells:
        _refuse(table, cells["events"] < 0, f"events ({columns['events']!r}) must be from 0")
        if "n" in chosen.needs:
            over = cells["events"] > cells["n"]
            _refuse(table, over, f"events exceed n ({columns['events']!r}, {columns['n']!r})")
    return _estimates(table, chosen, cells, study) | size


def _estimates(
    table: pd.DataFrame, chosen: ArmMeasure, cells: dict[str, Floats], study: pd.Series[str]
) -> dict[str, Floats]:
    if chosen.counted:
        empty = cells["events"] == 0
        if "n" in chosen.needs:
            empty |= cells["events"] == cells["n"]
        touched = pd.Series(empty).groupby(study.to_numpy()).transform("any").to_numpy()
        cells["events"] = cells["events"] + 0.5 * touched
        if "n" in chosen.needs:
            cells["n"] = cells["n"] + 1.0 * touched
    with np.errstate(all="ignore"):
        arm, variance = chosen.formula(cells)
    bad = ~(np.isfinite(arm) & np.isfinite(variance) & (variance > 0))
    _refuse(table, bad, "The estimate of an arm or its variance cannot be computed")
    return {"arm": arm, "variance": variance}


def _arms(
    name: str, first: Floats, _: Floats | None, values: dict[str, Floats], every: tuple[str, ...]
) -> Trial:
    """A trial from its arms."""
    if len(first) < 2:
        raise DataError(
            f"Trial {name!r} has one arm only ({every[int(first[0])]}), which compares nothing. "
            "Add its other arms, or leave it out."
        )
    if len(set(first.tolist())) < len(first):
        again = [every[int(t)] for t in sorted({t for t in first if (first == t).sum() > 1})]
        raise DataError(
            f"Trial {name!r} has several arms with the same treatment ({listed(again)}). Pool "
            "them to one arm, or give their treatments names of their own."
        )
    arm, variance = values["arm"], values["variance"]
    return Trial(
        name,
        tuple(int(t) for t in first),
        arm[1:] - arm[0],
        np.diag(variance[1:]) + variance[0],
        values.get("n", np.full(len(first), np.nan)),
    )


def _contrasts(
    name: str,
    first: Floats,
    second: Floats | None,
    values: dict[str, Floats],
    every: tuple[str, ...],
) -> Trial:
    """A trial from its contrasts ``first`` less ``second``."""
    assert second is not None
    arms = sorted({*first.tolist(), *second.tolist()})
    pairs = {tuple(sorted(p)) for p in zip(first.tolist(), second.tolist(), strict=True)}
    y, v, count = values["effect"], values["se"] ** 2, len(arms)
    n = np.full(count, np.nan)
    if (first == second).any() or len(pairs) < len(y):
        raise DataError(
            f"Trial {name!r} compares a treatment with itself, or two treatments twice. Give each "
            "comparison of two treatments one row."
        )
    if len(y) == count - 1 and len(set(second.tolist())) == 1:
        if count > 2 and "baseline_se" not in values:
            raise DataError(
                f"Trial {name!r} has {count} arms, so that its contrasts share the arm "
                f"{every[int(second[0])]}: name the column with that arm's own standard error, "
                f"baseline_se=..., or give all {count * (count - 1) // 2} comparisons."
            )
        shared = values["baseline_se"][0] ** 2 if count > 2 else 0.0
        V = np.where(np.eye(count - 1, dtype=bool), v, shared)
        ordered = (int(second[0]), *(int(t) for t in first))
        return Trial(name, ordered, y, _positive(name, V), n)
    if len(y) != count * (count - 1) // 2:
        raise DataError(
            f"Trial {name!r} has {count} arms and {len(y)} comparisons. Give all "
            f"{count * (count - 1) // 2}, or the {count - 1} with one common arm (versus) and its "
            "baseline_se."
        )
    return _all_pairs(name, first, second, y, v, n)


def _all_pairs(name: str, first: Floats, second: Floats, y: Floats, v: Floats, n: Floats) -> Trial:
    """A trial from all its pairwise contrasts, whose variances add up from those of the arms."""
    arms = sorted({int(t) for t in (*first, *second)})
    count = len(arms)
    place = {t: i for i, t in enumerate(arms)}
    plus, minus = np.zeros((2, len(y), count))
    plus[np.arange(len(y)), [place[int(t)] for t in first]] = 1
    minus[np.arange(len(y)), [place[int(t)] for t in second]] = 1
    if count == 2:
        sign = 1.0 if place[int(first[0])] == 1 else -1.0
        return Trial(name, tuple(arms), sign * y, np.diag(v), n)
    arm = np.linalg.lstsq(plus - minus, y, rcond=None)[0]
    variance = np.linalg.lstsq(plus + minus, v, rcond=None)[0]
    off = np.abs((plus - minus) @ arm - y) > _ROUNDING * np.sqrt(v)
    wrong = np.abs((plus + minus) @ variance - v) > _ROUNDING * v
    if off.any() or wrong.any():
        what = "effects" if off.any() else "variances"
        raise DataError(
            f"The {what} of trial {name!r} do not add up: what its arms differ by must be the same "
            "by every way. Check them, or give contrasts with one arm and its baseline_se."
        )
    V = np.diag(variance[1:]) + variance[0]
    return Trial(name, tuple(arms), arm[1:] - arm[0], _positive(name, V), n)


def _positive(name: str, V: Floats) -> Floats:
    if np.linalg.eigvalsh(V)[0] <= 1e-12 * np.trace(V):
        raise DataError(
            f"The contrasts of trial {name!r} have no covariance matrix that could be: the shared "
            "arm's variance is too large for the variances of the contrasts."
        )
    return V


def _refuse(table: pd.DataFrame, bad: NDArray[np.bool_], what: str, advice: str = "") -> None:
    if bad.any():
        raise DataError(f"{what}: row {listed(table.index[bad], 5)}.{advice}")
