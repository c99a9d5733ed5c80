"""Workloads: a formula, a simulated table and the priors that everybody gets.

Each function returns the same table for the same arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed import datasets

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scales:
    """Priors that every peer can state, so that all sample the same posterior.

    Parameters
    ----------
    intercept : tuple of float
        Mean and sd of the normal prior of the intercept, where the predictors have their means.
    coefficient : float
        Sd of the normal priors, about 0, of the coefficients.
    sd : float
        Scale of the half-t(3) priors of the effects' standard deviations, and of sigma.
    """

    intercept: tuple[float, float] = (0.0, 5.0)
    coefficient: float = 2.5
    sd: float = 2.5


@dataclass(frozen=True)
class Workload:
    """What to fit.

    Parameters
    ----------
    formula : str
        As in lme4; every peer reads it.
    family : str
        A family of bayesmixed.
    data : pandas.DataFrame
        Numbers, and categorical columns for the groups and factors.
    scales : Scales
        The priors.
    outcomes : pandas.DataFrame, optional
        Many outcomes for the same rows; the table's own outcome is the first of them.
    residual : dict of str to str, optional
        ``time``, ``within`` and ``structure`` of correlated residuals with one sd.
    """

    formula: str
    family: str
    data: pd.DataFrame
    scales: Scales = Scales()
    outcomes: pd.DataFrame | None = None
    residual: dict[str, str] | None = None


def _groups(index: NDArray[np.intp]) -> Any:
    return _factor(index, [str(i) for i in range(int(index.max()) + 1)])


def _factor(codes: NDArray[np.intp], levels: list[str]) -> Any:
    return pd.Categorical(levels, levels).take(codes)


def sleepstudy() -> Workload:
    """18 people over ten days, correlated intercepts and slopes (Belenky et al. 2003)."""
    data = datasets.load("sleepstudy").astype({"Subject": "category", "Days": float})
    return Workload(
        "Reaction ~ Days + (Days | Subject)",
        "gaussian",
        data,
        Scales((250.0, 100.0), coefficient=50.0, sd=50.0),
    )


def slopes(rows: int, groups: int, effects: int = 2) -> Workload:
    """Correlated effects of one grouping, a Gaussian outcome, equal group sizes.

    Parameters
    ----------
    rows, groups : int
        `rows` is a multiple of `groups`.
    effects : int
        Correlated effects of each group: the intercept and ``effects - 1`` slopes.
    """
    rng = np.random.default_rng([1, rows, groups, effects])
    index = np.repeat(np.arange(groups), rows // groups)
    correlation = 0.3 + 0.7 * np.eye(effects)
    sds = np.full(effects, 0.5)
    sds[0] = 1.0
    u = rng.standard_normal((groups, effects)) @ np.linalg.cholesky(correlation).T * sds
    names = [f"x{k}" for k in range(1, effects)]
    y = 1.0 + u[index, 0] + rng.standard_normal(rows)
    columns: dict[str, Floats] = {}
    for k, name in enumerate(names, start=1):
        columns[name] = rng.standard_normal(rows)
        y += (0.5 + u[index, k]) * columns[name]
    data = pd.DataFrame({"y": y, **columns}).assign(group=_groups(index))
    terms = " + ".join(names) or "1"
    return Workload(f"y ~ {terms} + ({terms} | group)", "gaussian", data)


def schools(schools: int = 70, classes: int = 4, students: int = 25) -> Workload:
    """Students in classes in schools, varying intercepts, a Gaussian outcome."""
    rng = np.random.default_rng([2, schools, classes, students])
    classroom = np.repeat(np.arange(schools * classes), students)
    school = classroom // classes
    ses = rng.standard_normal(classroom.size)
    u = rng.normal(0, 0.5, schools)[school] + rng.normal(0, 0.4, schools * classes)[classroom]
    y = 0.3 * ses + u + rng.standard_normal(classroom.size)
    data = pd.DataFrame({"y": y, "ses": ses}).assign(
        school=_groups(school), classroom=_groups(classroom)
    )
    return Workload("y ~ ses + (1 | school) + (1 | classroom)", "gaussian", data)


def ratings(rows: int = 70_000, students: int = 3_000, lecturers: int = 1_100) -> Workload:
    """Ratings of lecturers by students, crossed and unbalanced, in the shape of InstEval.

    Standard deviations are about those that lme4 estimates for its InstEval.
    """
    rng = np.random.default_rng([3, rows, students, lecturers])
    weights = rng.gamma(1.0, size=lecturers) + 0.05
    lecturer = rng.choice(lecturers, size=rows, p=weights / weights.sum())
    student = rng.integers(0, students, rows)
    # Everybody occurs, so that the numbers of levels are those asked for.
    lecturer[:lecturers], student[:students] = np.arange(lecturers), np.arange(students)
    service = rng.integers(0, 2, rows).astype(float)
    u = rng.normal(0, 0.33, students)[student] + rng.normal(0, 0.52, lecturers)[lecturer]
    y = 3.3 - 0.1 * service + u + rng.normal(0, 1.18, rows)
    data = pd.DataFrame({"y": y, "service": service}).assign(
        student=_groups(student), lecturer=_groups(lecturer)
    )
    return Workload("y ~ service + (1 | student) + (1 | lecturer)", "gaussian", data)


def hospitals(rows: int = 100_000, hospitals: int = 500) -> Workload:
    """Deaths in hospitals of unequal size, with three categorical risk factors (40 cells)."""
    rng = np.random.default_rng([4, rows, hospitals])
    weights = rng.gamma(2.0, size=hospitals) + 0.05
    index = np.sort(rng.choice(hospitals, size=rows, p=weights / weights.sum()))
    index[:hospitals] = np.arange(hospitals)
    factors = {
        "age": (["under50", "50to64", "65to74", "75to84", "over84"], [0, 0.4, 0.8, 1.2, 1.7]),
        "admission": (["elective", "transfer", "urgent", "emergency"], [0, 0.3, 0.5, 0.9]),
        "diabetes": (["no", "yes"], [0, 0.25]),
    }
    eta = -3.5 + rng.normal(0, 0.4, hospitals)[index]
    columns = {}
    for name, (levels, effects) in factors.items():
        code = rng.integers(0, len(levels), rows)
        columns[name] = _factor(code, levels)
        eta += np.array(effects)[code]
    died = (rng.random(rows) < 1 / (1 + np.exp(-eta))).astype(float)
    data = pd.DataFrame({"died": died, **columns}).assign(hospital=_groups(index))
    formula = "died ~ age + admission + diabetes + (1 | hospital)"
    return Workload(formula, "bernoulli", data, Scales((0.0, 2.5), 2.5, 1.0))


def trial(structure: str, patients: int = 800, visits: int = 10) -> Workload:
    """A trial of two arms, patients of whom drop out, residuals of an AR(1).

    Parameters
    ----------
    structure : {"AR1", "Unstructured"}
        What is fitted.
    patients, visits : int
    """
    rng = np.random.default_rng([7, patients, visits])
    visit = np.arange(visits)
    correlation = 0.7 ** np.abs(np.subtract.outer(visit, visit))
    residual = rng.standard_normal((patients, visits)) @ np.linalg.cholesky(correlation).T
    arm, base = rng.integers(0, 2, patients), rng.standard_normal(patients)
    y = residual + 0.5 * base[:, None] - 0.1 * visit - 0.05 * arm[:, None] * visit
    last = np.where(rng.random(patients) < 0.25, rng.integers(2, visits, patients), visits)
    seen = (visit < last[:, None]).ravel()
    data = pd.DataFrame({"y": y.ravel(), "base": np.repeat(base, visits)}).assign(
        arm=_factor(np.repeat(arm, visits), ["old", "new"]),
        visit=_factor(np.tile(visit, patients), [f"v{v}" for v in visit]),
        patient=_groups(np.repeat(np.arange(patients), visits)),
    )
    residuals = {"structure": structure, "time": "visit", "within": "patient"}
    return Workload("y ~ base + arm + visit", "gaussian", data[seen], residual=residuals)


def continuous(family: str, rows: int = 20_000, groups: int = 1_000) -> Workload:
    """A continuous predictor, so that no two rows are equal; poisson or bernoulli."""
    rng = np.random.default_rng([5, rows, groups, len(family)])
    index = np.repeat(np.arange(groups), rows // groups)
    x = rng.standard_normal(index.size)
    eta = 0.5 * x + rng.normal(0, 0.6, groups)[index]
    if family == "poisson":
        y = rng.poisson(np.exp(eta)).astype(float)
    else:
        y = (rng.random(index.size) < 1 / (1 + np.exp(-eta))).astype(float)
    data = pd.DataFrame({"y": y, "x": x}).assign(group=_groups(index))
    return Workload("y ~ x + (1 | group)", family, data, Scales((0.0, 2.5), 2.5, 1.0))


def cells(genes: int, patients: int = 20, cells: int = 100, *, depth: bool = False) -> Workload:
    """Counts of many genes in the cells of treated and untreated patients.

    Parameters
    ----------
    genes, patients, cells : int
        Genes; patients; cells of each patient.
    depth : bool
        Whether cells differ in their sequencing depth, which then is an offset.
    """
    rng = np.random.default_rng([6, patients, cells, depth])
    patient = np.repeat(np.arange(patients), cells)
    treated = (patient % 2).astype(float)
    log_depth = rng.normal(0, 0.4, patient.size) if depth else np.zeros(patient.size)
    counts = np.empty((patient.size, genes))
    for gene in range(genes):
        level, change = rng.normal(0.5, 1.0), rng.normal(0, 0.5)
        u = rng.normal(0, rng.uniform(0.1, 0.7), patients)
        alpha = rng.gamma(4, 0.5) + 0.2
        mean = np.exp(level + change * treated + u[patient] + log_depth)
        counts[:, gene] = rng.poisson(mean * rng.gamma(alpha, 1 / alpha, patient.size))
    outcomes = pd.DataFrame(counts, columns=[f"gene{g}" for g in range(genes)])
    data = pd.DataFrame({"count": counts[:, 0], "treated": treated, "log_depth": log_depth}).assign(
        patient=_groups(patient)
    )
    formula = "count ~ treated + (1 | patient)" + (" + offset(log_depth)" if depth else "")
    scales = Scales((0.0, 2.5), 2.5, 1.0)
    return Workload(formula, "negative_binomial", data, scales, outcomes)
