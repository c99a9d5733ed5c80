"""Few series that stand for many: the same density, exactly."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesmixed as bm
from bayesmixed.correlation_kernels import kernel_of
from bayesmixed.correlation_tables import Tables
from bayesmixed.edition import EDITION
from bayesmixed.pooled import Pooled


def _trial(patients=90, visits=4, seed=3):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": np.repeat(np.arange(patients), visits),
            "visit": np.tile(np.arange(visits), patients),
            "arm": np.repeat(rng.choice(["new", "old"], patients), visits),
            "base": np.repeat(rng.normal(25.0, 4.0, patients), visits),
        }
    )
    frame["y"] = 100 + frame["base"] + rng.normal(size=len(frame))
    seen = (frame["visit"] < np.repeat(rng.choice([2, 4], patients, p=[0.3, 0.7]), visits)).tolist()
    return frame[seen].sample(frac=1, random_state=1)


STRUCTURE = bm.Unstructured(time="visit", within="id")


@pytest.mark.parametrize(
    ("formula", "q"),
    [
        ("y ~ visit", 1),
        ("y ~ factor(visit) * arm", 2),
        ("y ~ factor(visit) * arm + factor(visit) * base", 3),
        ("y ~ 0 + factor(visit):arm:base", 3),
    ],
)
def test_as_many_series_as_what_differs_between_patients(formula, q):
    design = bm.Model(formula, _trial(), residual=STRUCTURE).design
    found = Pooled.of(design.series, design.y, design.predictors["mu"].X)
    np.testing.assert_array_equal(sorted(found.counts), [q + 2, q + 4])
    np.testing.assert_array_equal(found.counts + found.further, design.series.counts)


def test_the_density_is_that_of_all_series():
    """Any coefficients and any covariance; constants are those of all patients."""
    design = bm.Model(
        "y ~ factor(visit) * arm + factor(visit) * base", _trial(), residual=STRUCTURE
    ).design
    series, X, y = design.series, design.predictors["mu"].X, design.y
    found = Pooled.of(series, y, X)
    rng = np.random.default_rng(8)
    A = rng.normal(size=(4, 6))
    V, beta = A @ A.T, rng.normal(size=X.shape[1])
    beta[0] = 100.0
    mean, pooled = X @ beta, np.append(found.X @ beta, 0.0)[found.carrying]
    at, begin = 0, 0
    for p, (m, count) in enumerate(zip(series.lengths, series.counts, strict=True)):
        normal = stats.multivariate_normal(np.zeros(m), V[:m, :m])
        rows = series.order[at : at + m * count].reshape(count, m)
        at += m * count
        few = slice(begin, begin + m * found.counts[p])
        begin = few.stop
        own = (found.y[few] - pooled[few]).reshape(-1, m)
        constant = normal.logpdf(np.zeros(m)) * found.further[p]
        total = normal.logpdf(own).sum() + constant
        assert total == pytest.approx(normal.logpdf((y - mean)[rows]).sum(), rel=1e-11)


def test_few_series_stay_as_they_are():
    design = bm.Model("y ~ visit * arm", _trial(patients=9), residual=STRUCTURE).design
    found = Pooled.of(design.series, design.y, design.predictors["mu"].X)
    assert not found.further.any()
    np.testing.assert_array_equal(found.y, design.y[design.series.order])
    np.testing.assert_array_equal(found.carrying, np.arange(len(found.y)))


def test_a_correlation_is_worked_out_once():
    """By distance, by pair of visits, by arm, and of a product for each factor."""
    frame = _trial()

    def sizes(structure, **more):
        series = bm.Model("y ~ visit", frame, residual=structure).design.series
        priors = {"cor_residual": bm.Prior("LKJ", eta=2)}
        return [table.size for table in Tables.of(series, priors).tables]

    where = {"time": "visit", "within": "id"}
    assert sizes(bm.CompoundSymmetry(**where)) == [3]  # as many as there are distances
    assert sizes(bm.ARMA11(**where)) == [3]
    assert sizes(bm.AR1(**where)) == [1]  # a Markov process: the step to the next
    assert sizes(bm.Antedependence(**where)) == [3]
    assert sizes(bm.Unstructured(**where)) == [6]
    assert sizes(bm.ARMA11(by="arm", **where)) == [3, 3]


def test_a_structure_of_ones_own_has_no_kernel():
    class Own(bm.AR1):
        pass

    own = Own(time="visit", within="id")
    assert kernel_of(own, own.parameters(4, 1.0)) is None
    known = bm.AR1(time="visit", within="id")
    assert kernel_of(known, known.parameters(4, 1.0)) is not None


def test_a_predictor_of_a_large_level_is_not_lost():
    """With sd 4 about 1e9, and no centring."""
    frame = _trial().assign(base=lambda d: d["base"] + 1e9)
    design = bm.Model("y ~ factor(visit) * arm + factor(visit) * base", frame, residual=STRUCTURE)
    found = Pooled.of(design.design.series, design.design.y, design.design.predictors["mu"].X)
    np.testing.assert_array_equal(sorted(found.counts), [3 + 2, 3 + 4])


def test_a_kernel_on_disk_is_of_this_edition():
    kernel = kernel_of(STRUCTURE, STRUCTURE.parameters(4, 1.0))
    assert kernel.address
    assert str(EDITION) in kernel.function.__qualname__
