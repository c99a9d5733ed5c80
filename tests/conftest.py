"""Fits that several tests look at; each is sampled once."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made import HOSTILE, from_priors

import bayesmixed as bm
from bayesmixed.fit import Fit

mpl.use("Agg")


@pytest.fixture(scope="session")
def reference() -> dict[str, Any]:
    """What lme4, glmmTMB, geepack and metafor give on the data that the package ships."""
    path = Path(__file__).parent / "reference" / "reference.json"
    return json.loads(path.read_text())


@pytest.fixture(scope="session")
def trial_reference() -> dict[str, Any]:
    """What R gives for trials with repeated visits, and what rbmi's vignettes print."""
    path = Path(__file__).parent / "reference" / "trial.json"
    return json.loads(path.read_text())


@pytest.fixture(autouse=True)
def close_figures():
    """Leave no picture open."""
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def trials() -> pd.DataFrame:
    """Log risk ratios of the thirteen trials of BCG."""
    data = bm.datasets.load("bcg")
    return bm.effect_sizes(data, "RR", ai="tpos", bi="tneg", ci="cpos", di="cneg")


@pytest.fixture(scope="session")
def grid_fit(trials) -> Fit:
    """Their meta-analysis on the grid."""
    return bm.meta_analysis(trials, study="trial", method="grid", seed=1)


@pytest.fixture(scope="session")
def antidepressant() -> Fit:
    """A mixed model for repeated measures."""
    data = bm.datasets.load("antidepressant")
    residual = bm.Unstructured(time="week", within="patient")
    formula = "change ~ factor(week) * arm + baseline * factor(week)"
    model = bm.Model(formula, data, residual=residual)
    return model.fit(draws=2000, chains=2, seed=1, progress=False)


@pytest.fixture(scope="session")
def sleepstudy() -> Fit:
    data = bm.datasets.load("sleepstudy")
    return bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1, progress=False)


@pytest.fixture(scope="session")
def medpar() -> Fit:
    data = bm.datasets.load("medpar")
    model = bm.Model("died ~ age80 + factor(type) + (1 | provnum)", data, family="bernoulli")
    return model.fit(seed=1, progress=False)


@pytest.fixture(scope="session")
def pastes() -> Fit:
    data = bm.datasets.load("pastes")
    hierarchy = bm.Hierarchy({"batch": "1", "cask": "1"})
    return bm.Model("strength ~ 1", data, hierarchy=hierarchy).fit(
        seed=1, draws=2000, progress=False
    )


@pytest.fixture(scope="session")
def fitted() -> Callable[..., Fit]:
    """Fit a model on a shipped data set, once for the same request."""

    @cache
    def fit(name: str, formula: str, family: str, sampling_sd: str | None = None) -> Fit:
        data = bm.datasets.load(name)
        model = bm.Model(formula, data, family=family, sampling_sd=sampling_sd)
        return model.fit(seed=1, draws=2000, progress=False)

    return fit


@pytest.fixture(scope="session")
def hostile() -> Fit:
    """Groups and a predictor whose labels are code; nothing is sampled."""
    rng = np.random.default_rng(1)
    labels = [HOSTILE, "'; drop table", "a & b", *(f"ward {i}" for i in range(27))]
    data = pd.DataFrame({"ward": np.repeat(labels, 6)})
    data["arm"] = np.where(rng.random(len(data)) < 0.5, "<b>old</b>", "new")
    data["died"] = rng.integers(0, 2, len(data))
    model = bm.Model("died ~ arm + (1 | ward)", data, family="bernoulli")
    return from_priors(model, 50)
