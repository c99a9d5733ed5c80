"""Simulation-based calibration of correlations: ranks of the truth among posterior draws.

Parameters come from the priors, outcomes from NumPy's own multivariate normals, or counts about
values that are such, and draws from the package's fits. If the fits are right, ranks are uniform
(Talts et al. 2018, arXiv:1804.06788). The likelihood is ranked beside the parameters, as it finds
what single parameters miss (Modrák et al. 2023, Bayesian Analysis 20:461).

``python tests/calibration.py`` records the ranks that the documentation shows.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import pymc as pm
from arviz_stats.base import array_stats

import bayesmixed as bm
from bayesmixed.covariance import STRUCTURES
from bayesmixed.graph import interpreted
from bayesmixed.names import public_names
from bayesmixed.structure import Structure

RECORD = Path(__file__).parent / "reference" / "calibration.json"
KEPT = 99
_THIN = 4

type Case = tuple[str, Structure]


def _visits(structure: type[Structure]) -> dict[str, str]:
    return {"time": "visit" if structure.counted else "time", "within": "id"}


VARIANTS: Mapping[str, Case] = {
    "AR1, sd by visit": ("y ~ x", bm.AR1(time="visit", within="id", heterogeneous=True)),
    "AR1, by arm": ("y ~ x", bm.AR1(time="visit", within="id", by="arm")),
    "AR1, intercepts": ("y ~ x + (1 | id)", bm.AR1(time="visit", within="id")),
    "Toeplitz, 2 bands": ("y ~ x", bm.Toeplitz(time="visit", within="id", bands=2)),
    "Toeplitz, 3 bands": ("y ~ x", bm.Toeplitz(time="visit", within="id", bands=3)),
    "Exponential, nugget": ("y ~ x", bm.Exponential(time="time", within="id", nugget=True)),
    "Matern 5/2": ("y ~ x", bm.Matern(time="time", within="id", smoothness=2.5)),
    "Product": (
        "y ~ x",
        bm.Product(bm.Unstructured(time="part"), bm.AR1(time="turn"), within="id"),
    ),
}
_RING = {i: [(i - 1) % 15, (i + 1) % 15] for i in range(15)}
_ALIKE = pd.DataFrame(0.8 ** np.abs(np.subtract.outer(np.arange(15), np.arange(15))))
#: What is correlated are effects of groups, or a process, in the predictor.
EFFECTS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "counts, AR1": (
        "n ~ x",
        {"family": "poisson", "residual": bm.AR1(time="visit", within="id")},
    ),
    "counts, AR1, sd by visit": (
        "n ~ x",
        {
            "family": "poisson",
            "residual": bm.AR1(time="visit", within="id", heterogeneous=True),
        },
    ),
    "counts, BYM2": (
        "n ~ x + (1 | id)",
        {"family": "poisson", "covariances": {"id": bm.bym2(_RING)}},
    ),
    "known matrix": ("y ~ x + (1 | id)", {"covariances": {"id": _ALIKE}}),
}
#: Every structure of the catalogue that needs no more than visits, and what it is combined with.
CASES: Mapping[str, Case] = {
    name: ("y ~ x", made(**_visits(made)))
    for name, made in STRUCTURES.items()
    if {"time", "within"} <= {field.name for field in fields(made) if field.init}
} | dict(VARIANTS)


@cache
def frame() -> pd.DataFrame:
    """15 subjects with up to 4 visits, in no order, one visit in ten missing."""
    rng = np.random.default_rng(1)
    made = pd.DataFrame({"id": np.repeat(np.arange(15), 4), "visit": np.tile(np.arange(4), 15)})
    made["time"] = made["visit"] + rng.uniform(0, 0.8, len(made))
    made["arm"] = np.where(made["id"] < 8, "a", "b")
    # Two outcomes at two times each.
    made["part"], made["turn"] = made["visit"] // 2, made["visit"] % 2
    made["x"] = rng.normal(size=len(made))
    made["y"] = rng.normal(size=len(made))
    made["n"] = rng.poisson(2, size=len(made))
    return made.sample(frac=0.9, random_state=1)


def model(name: str) -> bm.Model:
    """The model of a case, with priors from which data come that a study might have."""
    formula, given = EFFECTS[name] if name in EFFECTS else (CASES[name][0], {})
    if name in CASES:
        given = {"residual": CASES[name][1]}
    data = frame()
    plain = bm.Model(formula, data, **given)
    unit = {n: bm.Prior("Normal", mu=0, sigma=1) for n in ("Intercept", "beta[x]")}
    spread = bm.Prior("LogNormal", mu=0, sigma=0.3)
    unit |= {n: spread for n in plain.priors.index if n.startswith("sigma")}
    for sd in ("sd_id", "sd_process"):
        if plain.priors.index.str.startswith(sd).any():
            unit[sd] = bm.Prior("HalfNormal", sigma=1)
    if "range" in plain.priors.index:
        unit["range"] = bm.Prior("LogNormal", mu=0, sigma=0.5)
    return bm.Model(formula, data, priors=unit, **given)


type Values = Mapping[str, np.ndarray[Any, Any]]


def predicted(made: bm.Model, values: Values) -> Any:
    """Linear predictors of all rows, with the groups' effects."""
    predictor = next(iter(made.design.predictors.values()))
    eta = predictor.X @ values["beta"]
    for r in predictor.random:
        eta = eta + values[f"u_{r.name}"][r.groups.index, 0]
    return eta


def subjects(made: bm.Model, values: Values) -> Iterator[tuple[Any, Any, Any]]:
    """Rows, means and covariances of every subject, from variables by their public names."""
    design, residual = made.design, made.spec.residual
    assert residual is not None
    assert design.series is not None
    mean = design.predictors["mu"].X @ values["beta"]
    if "u_id" in values:
        mean = mean + values["u_id"][design.groups[0].index, 0]
    sigma = values["sigma"]
    sd = sigma[design.spreads.index] if design.spreads is not None else np.full(len(mean), sigma)
    own = {p.name: values[p.name] for p in design.series.parameters}
    for at, arm, times in _measured(residual.columns):
        mine = own if residual.by is None else {n: v[arm] for n, v in own.items()}
        P = np.broadcast_to(residual.matrix(mine, times), (len(at),) * 2)
        yield at, mean[at], sd[at, None] * P * sd[at]


@cache
def _measured(columns: tuple[str, ...]) -> list[tuple[Any, int, Any]]:
    """Every subject's rows in order, arm and times."""
    found, data = [], frame()
    for own in data.groupby("id").indices.values():
        at = own[np.argsort(data["time"].to_numpy()[own])]
        arm = int(data["arm"].iloc[at[0]] == "b")
        found.append((at, arm, data[list(columns)].to_numpy(dtype=float)[at]))
    return found


def log_likelihood(made: bm.Model, values: Values, y: Any) -> float:
    """Log-density of all rows, but for its constant."""
    if made.spec.residual is None:
        eta = predicted(made, values)
        if "sigma" in values:
            return float(-0.5 * ((y - eta) ** 2).sum() / values["sigma"] ** 2)
        return float((y * eta - np.exp(eta)).sum())
    total = 0.0
    for rows, mean, V in subjects(made, values):
        off = y[rows] - mean
        total -= 0.5 * (off @ np.linalg.solve(V, off) + np.linalg.slogdet(V)[1])
    return total


def truths(made: bm.Model, count: int, seed: int) -> Iterator[tuple[Values, Any]]:
    """Parameters from the priors, where these are a model's, and outcomes from them."""
    names = public_names(made.design)
    with made.pymc, interpreted() as mode:
        drawn = pm.sample_prior_predictive(
            4 * count, var_names=names, random_seed=seed, compile_kwargs={"mode": mode}
        )["prior"].isel(chain=0)
    rng, found = np.random.default_rng(seed), 0
    for k in range(4 * count):
        values = {n: drawn[n].isel(draw=k).to_numpy() for n in names}
        if made.spec.residual is None:
            if found < count:
                found += 1
                yield values, _outcome(made, values, rng)
            continue
        parts = list(subjects(made, values))
        # Bands of correlations have no density where a matrix is not positive definite.
        if found == count or min(np.linalg.eigvalsh(V).min() for *_, V in parts) <= 0:
            continue
        found += 1
        y = np.empty(len(made.design.y))
        for rows, mean, V in parts:
            y[rows] = mean + np.linalg.cholesky(V) @ rng.normal(size=len(rows))
        yield values, y
    assert found == count


def _outcome(made: bm.Model, values: Values, rng: np.random.Generator) -> Any:
    """Outcomes given the effects, these anew from their dense normal distribution."""
    (random,) = next(iter(made.design.predictors.values())).random
    data = frame()
    if random.name == "process":
        structure = made.spec.covariances["process"]
        who, when = (data[n].to_numpy() for n in ("id", "visit"))
        whole = structure.matrix({"phi": values["phi"]}, np.arange(4.0)[:, None])
        K = np.asarray(whole)[np.ix_(when, when)] * (who[:, None] == who)
        sd = values["sd_process"]
        sd = sd[when] if len(sd) > 1 else np.full(len(data), sd[0])
        u = sd * (np.linalg.cholesky(K) @ rng.normal(size=len(data)))
        values["u_process"][random.groups.index, 0] = u
    else:
        K = made.spec.covariances["id"].matrix
        if "phi_id" in values:
            K = (1 - values["phi_id"]) * np.eye(len(K)) + values["phi_id"] * K
        values["u_id"][:, 0] = values["sd_id"][0] * np.linalg.cholesky(K) @ rng.normal(size=len(K))
    eta = predicted(made, values)
    if "sigma" in values:
        return eta + values["sigma"] * rng.normal(size=len(eta))
    return rng.poisson(np.exp(eta)).astype(float)


def scalars(made: bm.Model, values: Values) -> dict[str, Any]:
    """What is ranked of draws: the last axes are the variables' own, those before draws."""
    found = {"beta[Intercept]": values["beta"][..., 0], "beta[x]": values["beta"][..., 1]}
    for name in set(values) - {"beta"}:
        v = values[name]
        if name.startswith("u_"):
            sd = values[f"sd_{name[2:]}"]
            # One subject's line and effect in units of its sd: joint with the parameters.
            found[f"{name}[first]"] = v[..., 0, 0]
            found["line of first"] = v[..., 0, 0] + values["beta"][..., 0]
            found[f"{name}[last] / sd"] = v[..., -1, 0] / sd[..., 0]
        elif name.startswith("cor_residual"):
            for i, j in combinations(range(v.shape[-1]), 2):
                found[f"cor[{i},{j}]"] = v[..., i, j]
        elif v.ndim == values["beta"].ndim:
            found |= {f"{name}[{k}]": v[..., k] for k in range(v.shape[-1])}
        else:
            found[name] = v
    return dict(sorted(found.items()))


def ranks(name: str, count: int) -> dict[str, list[int]]:
    """Ranks from 0 to `KEPT` of the truth among draws, in `count` data sets."""
    made, seed = model(name), crc32(name.encode())
    index, found = made.design.table.frame.index, {}
    for i, (values, y) in enumerate(truths(made, count, seed)):
        fit = made.with_outcome(pd.Series(y, index=index)).fit(
            draws=_THIN * (KEPT + 1), tune=400, chains=1, seed=seed + i, progress=False
        )
        thin = fit.posterior.isel(chain=0, draw=slice(0, _THIN * KEPT, _THIN))
        draws = {n: thin[n].to_numpy() for n in values}
        truth, sampled = scalars(made, values), scalars(made, draws)
        truth["likelihood"] = log_likelihood(made, values, y)
        sampled["likelihood"] = np.array(
            [log_likelihood(made, {n: v[k] for n, v in draws.items()}, y) for k in range(KEPT)]
        )
        for label, value in truth.items():
            found.setdefault(label, []).append(int((sampled[label] < value).sum()))
    return found


def uniformity(found: list[int], seed: int = 0) -> float:
    """p-value of uniform ranks, by ArviZ's test of ordered values (its default, pot_c)."""
    jitter = np.random.default_rng(seed).uniform(size=len(found))
    return float(array_stats.uniformity_test((np.array(found) + jitter) / (KEPT + 1))[0])


def record(count: int, names: list[str]) -> None:
    """Write the ranks of some cases, or of all, beside those that are recorded."""
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {"ranks": {}}
    packages = ("bayesmixed", "pymc", "nutpie", "numba", "numpy")
    known["made by"] = f"python tests/calibration.py {count}"
    known["versions"] = {"Python": platform.python_version()} | {n: version(n) for n in packages}
    known["draws"] = KEPT
    for name in names or [*CASES, *EFFECTS]:
        known["ranks"][name] = found = ranks(name, count)
        worst = {label: round(uniformity(each), 4) for label, each in found.items()}
        sys.stdout.write(f"{name}: {worst}\n")
        sys.stdout.flush()
        RECORD.write_text(json.dumps(known) + "\n")


if __name__ == "__main__":
    record(int(sys.argv[1]), sys.argv[2:])
