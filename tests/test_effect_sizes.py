"""Effect sizes against metafor's escalc (its own tests, and reference.json) and delta-method sums.

The published numbers have four decimals, so the tolerance is half a unit of the last one.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesmixed as bm
from bayesmixed._errors import BayesmixedError, DataError, UnknownNameError
from bayesmixed.meta._measures import MEASURES

BCG = {"ai": "tpos", "bi": "tneg", "ci": "cpos", "di": "cneg"}
NORMAND = pd.DataFrame(
    {
        "n1": [155, 31, 75, 18],
        "m1": [55, 27, 64, 66],
        "s1": [47, 7, 17, 20],
        "n2": [156, 32, 71, 18],
        "m2": [75, 29, 119, 137],
        "s2": [64, 4, 29, 48],
    }
)
MEANS = {"m1i": "m1", "sd1i": "s1", "n1i": "n1", "m2i": "m2", "sd2i": "s2", "n2i": "n2"}


def test_risk_ratios_of_bcg(reference):
    found = bm.effect_sizes(bm.datasets.load("bcg"), "RR", **BCG)
    np.testing.assert_allclose(found["yi"], reference["bcg"]["yi"], atol=5e-9)
    np.testing.assert_allclose(found["vi"], reference["bcg"]["vi"], atol=5e-9)
    np.testing.assert_allclose(found["sei"] ** 2, found["vi"])
    assert found["ni"].iloc[0] == 4 + 119 + 11 + 128


@pytest.mark.parametrize(
    ("measure", "yi", "vi"),
    [
        ("SMD", [-0.3552, -0.3479, -2.3176, -1.8880], [0.0131, 0.0645, 0.0458, 0.1606]),
        ("ROM", [-0.3102, -0.0715, -0.6202, -0.7303], [0.0094, 0.0028, 0.0018, 0.0119]),
    ],
)
def test_means_as_in_metafors_tests(measure, yi, vi):
    """metafor, tests/testthat/test_misc_escalc.r, dat.normand1999.

    Its log ratios of means are from before the correction of Lajeunesse (2015), which is here
    written out and taken off.
    """
    found = bm.effect_sizes(NORMAND, measure, **MEANS)
    correction = 0.0
    if measure == "ROM":
        one, two = (
            NORMAND[f"s{j}"] ** 2 / (NORMAND[f"n{j}"] * NORMAND[f"m{j}"] ** 2) for j in "12"
        )
        correction = (one - two) / 2
    np.testing.assert_allclose(found["yi"] - correction, yi, atol=5.1e-5)
    np.testing.assert_allclose(found["vi"], vi, atol=5.1e-5)


@pytest.mark.parametrize(
    ("measure", "yi", "vi"),
    [
        ("COR", [0.62, 0.99, -0.13], [0.0271, 0.0001, 0.0242]),
        ("ZCOR", [0.7250, 2.6467, -0.1307], [0.0833, 0.3333, 0.0263]),
    ],
)
def test_correlations_as_in_metafors_tests(measure, yi, vi):
    """dat.mcdaniel1994, rows 13, 33 and 102."""
    data = pd.DataFrame({"r": [0.62, 0.99, -0.13], "n": [15, 6, 41]})
    found = bm.effect_sizes(data, measure, ri="r", ni="n")
    np.testing.assert_allclose(found["yi"], yi, atol=5.1e-5)
    np.testing.assert_allclose(found["vi"], vi, atol=5.1e-5)


def _logrank(rng: np.random.Generator, size: int, n: int):
    """Observed less expected events in the first of two groups that are alike, and its variance."""
    first = rng.permuted(np.tile(np.arange(n) < n // 2, (size, 1)), axis=1)
    ahead = np.arange(n, 0, -1)
    share = np.cumsum(first[:, ::-1], axis=1)[:, ::-1] / ahead
    return {"oe": (first - share).sum(axis=1), "v": (share * (1 - share)).sum(axis=1)}


def _simulated(measure: str, rng: np.random.Generator, size: int):
    """Large studies of one kind, and what the measure is in truth."""
    n = 2000
    if MEASURES[measure].inputs is MEASURES["OR"].inputs:
        p1, p2 = (0.5, 0.5) if measure == "PETO" else (0.3, 0.4)
        a, c = rng.binomial(n, p1, size), rng.binomial(n, p2, size)
        truth = {
            "OR": np.log(p1 / (1 - p1) / (p2 / (1 - p2))),
            "RR": np.log(p1 / p2),
            "RD": p1 - p2,
            "AS": np.arcsin(p1**0.5) - np.arcsin(p2**0.5),
            "PETO": 0.0,
        }[measure]
        return {"ai": a, "n1i": np.full(size, n), "ci": c, "n2i": np.full(size, n)}, truth
    if "m1i" in MEASURES[measure].inputs.names:
        one, two = rng.normal(10, 2, (size, n)), rng.normal(9, 2, (size, n))
        truth = {"MD": 1.0, "SMD": 0.5, "ROM": np.log(10 / 9)}[measure]
        columns = {}
        for j, x in ((1, one), (2, two)):
            columns |= {f"m{j}i": x.mean(1), f"sd{j}i": x.std(1, ddof=1), f"n{j}i": n + 0 * x[:, 0]}
        return columns, truth
    if "x1i" in MEASURES[measure].inputs.names:
        x1, x2 = rng.poisson(0.4 * 1000, size), rng.poisson(0.5 * 900, size)
        truth = {"IRR": np.log(0.4 / 0.5), "IRD": -0.1}[measure]
        return {"x1i": x1, "t1i": np.full(size, 1000), "x2i": x2, "t2i": np.full(size, 900)}, truth
    if "ri" in MEASURES[measure].inputs.names:
        x = rng.normal(size=(size, n))
        y = 0.6 * x + 0.8 * rng.normal(size=(size, n))
        x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
        r = (x * y).sum(1) / np.sqrt((x**2).sum(1) * (y**2).sum(1))
        return {"ri": r, "ni": np.full(size, n)}, {"COR": 0.6, "ZCOR": np.arctanh(0.6)}[measure]
    if "mi" in MEASURES[measure].inputs.names:
        truth = {
            "PR": 0.3,
            "PLN": np.log(0.3),
            "PLO": np.log(0.3 / 0.7),
            "PAS": np.arcsin(0.3**0.5),
        }[measure]
        return {"xi": rng.binomial(n, 0.3, size), "ni": np.full(size, n)}, truth
    if measure == "HR":
        return _logrank(rng, size, 600), 0.0
    truth = {"IR": 0.4, "IRLN": np.log(0.4)}[measure]
    return {"xi": rng.poisson(400, size), "ti": np.full(size, 1000)}, truth


@pytest.mark.parametrize("measure", MEASURES)
def test_every_variance_is_that_of_the_estimates(measure):
    """2,000 simulated studies: z-scores have mean 0 and sd 1.

    Their mean has Monte Carlo error 0.022 (and the measure a bias of order 1/sqrt(n), below 0.01),
    their sd 0.016; four errors are allowed.
    """
    columns, truth = _simulated(measure, np.random.default_rng(3), 2000)
    found = bm.effect_sizes(columns, measure, **{name: name for name in columns})
    z = (found["yi"] - truth) / found["sei"]
    assert abs(z.mean()) < 0.1
    assert abs(z.std() - 1) < 0.064


def test_zero_cells_are_corrected_in_their_own_study_only():
    data = pd.DataFrame({"a": [0, 5], "b": [10, 5], "c": [3, 4], "d": [7, 6]})
    found = bm.effect_sizes(data, "OR", ai="a", bi="b", ci="c", di="d")
    by_hand = np.log(0.5 / 10.5) - np.log(3.5 / 7.5), np.log(1) - np.log(4 / 6)
    np.testing.assert_allclose(found["yi"], by_hand)
    np.testing.assert_allclose(found["vi"].iloc[0], 1 / 0.5 + 1 / 10.5 + 1 / 3.5 + 1 / 7.5)
    assert list(found["ni"]) == [20, 20]
    plain = bm.effect_sizes(data, "AS", ai="a", bi="b", ci="c", di="d")
    np.testing.assert_allclose(plain["yi"].iloc[0], -np.arcsin(0.3**0.5))
    with pytest.raises(DataError, match=r"cannot be computed for row 0.*add=0\.5"):
        bm.effect_sizes(data, "OR", ai="a", bi="b", ci="c", di="d", add=0)


@pytest.mark.parametrize(
    ("measure", "yi", "vi"),
    [
        ("RD", [0.006993, -0.223776, 0.166667], [0.006789, 0.019079, 0.043519]),
        ("PETO", [0.167832, -1.544056, 0.658120], [4.027972, 1.158042, 0.723932]),
        ("AS", [0.0, -0.523599, 0.169918], [0.045833] * 3),
    ],
)
def test_zero_cells_as_in_metafor(measure, yi, vi):
    """escalc of metafor 3.8.1 with its defaults; six decimals were printed."""
    data = {"e1": [0, 0, 5], "n1": [10] * 3, "e2": [0, 3, 4], "n2": [12] * 3}
    found = bm.effect_sizes(data, measure, ai="e1", n1i="n1", ci="e2", n2i="n2")
    np.testing.assert_allclose(found["yi"], yi, atol=5.1e-7)
    np.testing.assert_allclose(found["vi"], vi, atol=5.1e-7)
    if measure == "RD":
        plain = bm.effect_sizes(
            pd.DataFrame(data).iloc[1:], "RD", ai="e1", n1i="n1", ci="e2", n2i="n2", add=0
        )
        np.testing.assert_allclose(plain["yi"].iloc[0], -0.25)
        np.testing.assert_allclose(plain["vi"].iloc[0], 0.25 * 0.75 / 12)


def test_ratios_of_means_of_opposite_signs_have_their_sentence():
    data = NORMAND.assign(m1=[55, -27, 64, 66])
    with pytest.raises(DataError, match=r"ratio of means.*same sign.*row 1.*MD.*SMD"):
        bm.effect_sizes(data, "ROM", **MEANS)


def test_studies_without_events():
    data = pd.DataFrame({"e1": [0, 2], "n1": [20, 30], "e2": [0, 5], "n2": [20, 30]})
    names = {"ai": "e1", "n1i": "n1", "ci": "e2", "n2i": "n2"}
    assert bm.effect_sizes(data, "RR", **names)["yi"].iloc[0] == 0
    assert len(bm.effect_sizes(data, "RR", double_zero="drop", **names)) == 1
    with pytest.raises(DataError, match="none is left"):
        bm.effect_sizes(data.iloc[:1], "RR", double_zero="drop", **names)


def test_bad_input_has_its_own_sentence():
    data = bm.datasets.load("bcg")
    with pytest.raises(UnknownNameError, match="Did you mean 'RR'"):
        bm.effect_sizes(data, "RRR", **BCG)
    with pytest.raises(BayesmixedError, match=r"missing: bi, di \(n1i may stand for bi\)"):
        bm.effect_sizes(data, "OR", ai="tpos", ci="cpos")
    with pytest.raises(UnknownNameError, match="no column of measure OR 'x1i'"):
        bm.effect_sizes(data, "OR", x1i="tpos")
    with pytest.raises(UnknownNameError, match="Did you mean 'tpos'"):
        bm.effect_sizes(data, "OR", **BCG | {"ai": "tposs"})
    with pytest.raises(DataError, match="ai must be from 0, and is below: row 2"):
        bm.effect_sizes(data.assign(tpos=data.tpos.where(data.index != 2, -1)), "OR", **BCG)
    with pytest.raises(DataError, match=r"Column 'tpos' \(ai\) has no value: row 2"):
        bm.effect_sizes(data.assign(tpos=data.tpos.where(data.index != 2)), "OR", **BCG)
    with pytest.raises(DataError, match=r"ai \('tneg'\) exceeds n1i"):
        bm.effect_sizes(data, "OR", ai="tneg", n1i="tpos", ci="cpos", di="cneg")
    with pytest.raises(DataError, match="between -1 and 1"):
        bm.effect_sizes({"r": [1.2], "n": [20]}, "COR", ri="r", ni="n")
    with pytest.raises(DataError, match="must hold numbers"):
        bm.effect_sizes(data, "OR", **BCG | {"ai": "author"})
    with pytest.raises(BayesmixedError, match="add=-1"):
        bm.effect_sizes(data, "OR", add=-1, **BCG)


# Hinks et al. (2010), the data set HinksEtAl2010 of bayesmeta, with the standard errors that its
# code computes from 95 % intervals.
HINKS = pd.DataFrame(
    {
        "study": ["Prahalad", "Hinks", "Lindner"],
        "or": [0.88, 0.79, 0.82],
        "lb": [0.71, 0.66, 0.63],
        "ub": [1.07, 0.94, 1.08],
    }
)


def test_estimates_with_intervals():
    found = bm.reported_effects(HINKS, "OR", "or", "lb", "ub")
    z = stats.norm.ppf(0.975)
    expected = [(np.log(u) - np.log(o)) / (2 * z) for o, u in zip(HINKS.lb, HINKS.ub, strict=True)]
    np.testing.assert_allclose(found["sei"], expected)
    np.testing.assert_allclose(found["vi"], np.square(expected))
    np.testing.assert_allclose(np.exp(found["yi"]), HINKS["or"])
    assert set(found["measure"]) == {"OR"}
    fit = bm.meta_analysis(found, method="grid", draws=5)
    assert "odds ratio" in bm.pooled_effects(fit).table.index
    assert "hazard ratio" in bm.pooled_effects(
        bm.meta_analysis(found.assign(measure="HR"), method="grid", draws=5)
    ).table.index  # fmt: skip


def test_what_was_reported_comes_back():
    """Effects with intervals of 90 %, made from counts, are the effects of these counts."""
    counts = {"a": [10, 30, 5], "n": [50, 90, 40], "c": [20, 25, 9], "m": [52, 88, 38]}
    known = bm.effect_sizes(counts, "RR", ai="a", n1i="n", ci="c", n2i="m")
    half = stats.norm.ppf(0.95) * known["sei"]
    reported = known[["ni"]].assign(
        rr=np.exp(known["yi"]), lb=np.exp(known["yi"] - half), ub=np.exp(known["yi"] + half)
    )
    found = bm.reported_effects(reported, "RR", "rr", "lb", "ub", level=0.9, n="ni")
    np.testing.assert_allclose(found[["yi", "vi", "ni"]], known[["yi", "vi", "ni"]])


def test_misreported_intervals_have_their_sentence():
    def refused(match, error=DataError, **change):
        options = {"level": change.pop("level", 0.95)}
        with pytest.raises(error, match=match):
            bm.reported_effects(HINKS.assign(**change), "HR", "or", "lb", "ub", **options)

    refused("above 0", lb=[0.7, -0.2, 0.6])
    refused("lower <= estimate <= upper; that is not so at row 0", ub=[0.5, 0.94, 1.08])
    refused(r"middle of their intervals on the scale of log.*row 2", ub=[1.07, 0.94, 2.08])
    refused("both limits", lb=[np.nan, 0.66, 0.63])
    refused("between 0 and 1", BayesmixedError, level=95)
    refused("must hold numbers", lb="a")
