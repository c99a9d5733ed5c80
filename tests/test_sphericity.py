"""Classical repeated-measures analysis of variance, against R's, and what a model makes of it."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made import at, from_priors

import bayesmixed as bm
from bayesmixed.reports._repeated_anova import RepeatedAnova, contrasts, epsilon

LOAD = bm.datasets.load


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def _wide(name):
    columns = {
        "orthodont": ("Subject", "age", "distance", "Sex"),
        "antidepressant": ("patient", "week", "change", "arm"),
    }
    who, time, y, group = columns[name]
    data = LOAD(name)
    wide = data.pivot(index=who, columns=time, values=y).dropna()
    groups = data.drop_duplicates(who).set_index(who)[group].loc[wide.index]
    return wide.to_numpy(), pd.factorize(groups)[0]


@pytest.mark.parametrize("name", ["orthodont", "antidepressant"])
@pytest.mark.parametrize("between", [True, False])
def test_classical_numbers_are_those_of_r(trial_reference, name, between):
    """anova.mlm and mauchly.test; R prints epsilon in 4 digits."""
    y, groups = _wide(name)
    reference = trial_reference[f"{name}_anova"]
    expected = reference["between" if between else "one_group"]
    found = RepeatedAnova(y, groups if between else np.zeros(len(y), dtype=int))
    assert len(y) == reference["n"]
    W, p = found.mauchly
    assert pytest.approx(expected["W"], rel=1e-9) == W
    # In the second-order term R puts the number of visits for that of contrasts once (3p).
    assert p == pytest.approx(expected["W_p"], rel=1e-4)
    printed = [float(line.split()[-1]) for line in expected["heading"] if "epsilon" in line]
    gg, hf = found.greenhouse_geisser, found.huynh_feldt
    assert [gg, hf] == pytest.approx(printed, abs=5e-5)
    table = expected["table"]
    for row, is_between in enumerate([False, True][: 1 + between]):
        for by, column in ((1.0, "Pr(>F)"), (gg, "G-G Pr"), (hf, "H-F Pr")):
            F, one, other, p = found.test(is_between, by)
            assert pytest.approx(table["F"][row], rel=1e-9) == F
            assert one == pytest.approx(table["num Df"][row] * by)
            assert other == pytest.approx(table["den Df"][row] * by)
            assert p == pytest.approx(table[column][row], rel=1e-6)


def test_epsilon_is_1_under_sphericity_and_has_its_bound():
    symmetric = 2.0 * (0.6 + 0.4 * np.eye(5))
    assert epsilon(symmetric) == pytest.approx(1)
    # Spherical without compound symmetry: V_ij = a_i + a_j + c [i = j] (Huynh & Feldt 1970).
    a = np.arange(5.0)
    assert epsilon(a[:, None] + a + 3 * np.eye(5)) == pytest.approx(1)
    line = np.outer(a, a)
    assert epsilon(line) == pytest.approx(1 / 4)
    C = contrasts(5)
    np.testing.assert_allclose(C.T @ C, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(C.sum(axis=0), 0, atol=1e-12)


def test_report_at_a_known_covariance():
    """The model's side from a covariance written down: random intercepts, AR(1), sd by visit."""
    sds, phi, sd_u = np.array([1.0, 1.2, 1.5, 1.1]), 0.4, 1.7
    structure = bm.AR1(time="age", within="Subject", heterogeneous=True)
    data = LOAD("orthodont").sample(frac=1, random_state=2)
    model = bm.Model("distance ~ factor(age) + (1 | Subject)", data, residual=structure)
    beta = [22.0, 1.0, 2.5, 4.0]
    fit = at(model, beta=beta, sigma=sds, phi=phi, sd_Subject=sd_u)
    report = bm.sphericity(fit)
    lags = abs(np.subtract.outer(range(4), range(4)))
    V = sd_u**2 + sds[:, None] * phi**lags * sds
    table = report.table["mean"]
    assert table["epsilon", "model"] == pytest.approx(float(epsilon(V)))
    expected = V[1, 1] + V[3, 3] - 2 * V[1, 3]
    assert table["sd of a difference", "14 vs 10"] == pytest.approx(expected**0.5)
    assert table["difference", "14 vs 10"] == pytest.approx(beta[3] - beta[1])
    y, _ = _wide("orthodont")
    classical = report.table.loc[("difference", "14 vs 10")]
    assert classical["classical"] == pytest.approx((y[:, 3] - y[:, 1]).mean())
    mse = (RepeatedAnova(y, np.zeros(27, dtype=int)).error * 2 / 27) ** 0.5
    assert classical["se"] == pytest.approx(mse)
    assert "27 values of Subject with all 4 visits (0 others" in report.caption
    for kind in report.pictures:
        report.plot(kind)


def test_subjects_with_gaps_are_left_out_of_the_classical_part(antidepressant):
    report = bm.sphericity(antidepressant, between="arm")
    assert "128 values of patient" in report.caption
    assert "(44 others" in report.caption
    assert report.table["F"]["test", "week:arm, uncorrected"] == pytest.approx(5.7325836606)
    # The fitted covariance, from all rows, is not spherical, as that of the complete ones.
    row = report.table.loc[("epsilon", "model")]
    assert row["eti95_lb"] < report.table["classical"]["epsilon", "Huynh-Feldt"] < row["eti95_ub"]
    assert row["eti95_ub"] < 1


def test_what_cannot_be_compared_is_refused():
    data = LOAD("orthodont")
    with pytest.raises(bm.BayesmixedError, match="fit the model with"):
        bm.sphericity(from_priors(bm.Model("distance ~ age + (1 | Subject)", data), 3))
    residual = bm.CompoundSymmetry(time="age", within="Subject")
    fit = from_priors(bm.Model("distance ~ age * Sex", data, residual=residual), 3)
    with pytest.raises(bm.BayesmixedError, match="column of the model 'sex'"):
        bm.sphericity(fit, between="sex")
    with pytest.raises(bm.BayesmixedError, match="one in each subject"):
        bm.sphericity(fit, between="age")
    two = data[data["age"] < 11]
    fit = from_priors(bm.Model("distance ~ age", two, residual=residual), 3)
    with pytest.raises(bm.BayesmixedError, match="There are 2 visits"):
        bm.sphericity(fit)
