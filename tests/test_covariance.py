"""Correlated residuals: structures, the density of series, and the models that use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytensor
import pytensor.tensor as pt
import pytest
from made import from_priors
from scipy import stats
from scipy.linalg import toeplitz

import bayesmixed as bm
from bayesmixed import backend as bk
from bayesmixed.correlated import Rows, log_density
from bayesmixed.correlated_op import CorrelatedNormal
from bayesmixed.covariance import STRUCTURES
from bayesmixed.elimination import Tree
from bayesmixed.graph import interpreted
from bayesmixed.levinson import autocorrelations
from bayesmixed.names import public_names
from bayesmixed.series import Series
from bayesmixed.structure import CorrelationParameter

LOAD = bm.datasets.load
SIZES = range(2, 7)
SPREAD = 2.0


def _made(name, time="t"):
    """A structure of the catalogue; the product is one of outcomes by these times."""
    if name == "Product":
        first, second = bm.Unstructured(time="outcome"), bm.AR1(time=time)
        return bm.Product(first, second, within="id")
    return STRUCTURES[name](time=time, within="id")


def _draw(structure, size, rng, edge=False):
    """Parameters from their default priors, or close to the ends of their supports."""
    sizes = dict.fromkeys(structure.factors, size)
    return _values(structure.parameters(size, SPREAD), sizes, rng, edge)


def _values(parameters, sizes, rng, edge=False):
    values = {}
    for parameter in parameters:
        if parameter.prior == bm.Prior("LKJ", eta=2):
            size = sizes["" if parameter.dim == "visit" else parameter.dim]
            z = rng.normal(size=(size, size + (0 if edge else 3)))
            P = np.corrcoef(z)
            values[parameter.name] = (P + P.T) / 2  # corrcoef rounds its two halves apart
            continue
        lower, upper = parameter.support
        upper = 50.0 if np.isinf(upper) else upper
        shares = rng.choice([0.001, 0.999], len(parameter.priors)) if edge else None
        if shares is None:
            drawn = [_sample(prior, rng) for prior in parameter.priors]
        else:
            drawn = lower + shares * (upper - lower)
        values[parameter.name] = np.array(drawn if isinstance(parameter.prior, tuple) else drawn[0])
    return values


def _sample(prior, rng):
    given = dict(prior.parameters)
    return {
        "Uniform": lambda: rng.uniform(given["lower"], given["upper"]),
        "Beta": lambda: rng.beta(given["alpha"], given["beta"]),
        "HalfStudentT": lambda: abs(given["sigma"] * rng.standard_t(given["nu"])),
    }[prior.distribution]()


def _power(base, k):
    return float(base) ** k


#: Textbook definitions: correlation of positions i < j at times s < t.
TEXTBOOK = {
    "Independent": lambda p, i, j, s, t: 0.0,
    "CompoundSymmetry": lambda p, i, j, s, t: p["rho"],
    "AR1": lambda p, i, j, s, t: _power(p["phi"], j - i),
    "ContinuousAR1": lambda p, i, j, s, t: p["phi"] ** (t - s),
    "ARMA11": lambda p, i, j, s, t: _arma(p["phi"], p["theta"], j - i),
    "Toeplitz": lambda p, i, j, s, t: _toeplitz(2 * p["partial"] - 1)[j - i],
    "Antedependence": lambda p, i, j, s, t: np.prod(p["rho"][i:j]),
    "Unstructured": lambda p, i, j, s, t: p["cor_residual"][i, j],
    "Exponential": lambda p, i, j, s, t: np.exp(-(t - s) / p["range"]),
    "SquaredExponential": lambda p, i, j, s, t: np.exp(-(((t - s) / p["range"]) ** 2)),
    "Matern": lambda p, i, j, s, t: (
        (1 + 3**0.5 * (t - s) / p["range"]) * np.exp(-(3**0.5) * (t - s) / p["range"])
    ),
    # Of cells (outcome, visit), as many visits as outcomes, visits fastest.
    "Product": lambda p, i, j, s, t: _un_ar(p["cor_residual_outcome"], p["phi_visit"])[i, j],
}


def _un_ar(R, phi):
    lags = abs(np.subtract.outer(*[np.arange(len(R))] * 2))
    return np.kron(R, phi**lags)


def _arma(phi, theta, lag):
    """Autocorrelation of y_t = phi y_(t-1) + e_t + theta e_(t-1), from its moving-average form."""
    psi = np.concatenate([[1.0], (phi + theta) * phi ** np.arange(20_000)])
    return (psi[lag:] @ psi[: len(psi) - lag]) / (psi @ psi)


def _toeplitz(partial):
    """Autocorrelations with these partial ones, from determinants (Yule and Walker)."""
    rho = [1.0]
    for k, value in enumerate(partial, start=1):
        R = np.array([[rho[abs(i - j)] for j in range(k)] for i in range(k)])
        past = np.array(rho[1:k])
        if k == 1:
            rho.append(value)
            continue
        weights = np.linalg.solve(R[:-1, :-1], past)
        spread = 1 - past @ weights
        rho.append(float(past[::-1] @ weights + value * spread))
    return rho


def _times(structure, size, rng):
    if len(structure.columns) > 1:
        return np.indices((size, size)).reshape(2, -1).T.astype(float)
    grid = np.arange(size) if structure.counted else np.sort(rng.uniform(0, 5, size))
    return grid[:, None].astype(float)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", STRUCTURES)
def test_matrices_are_those_of_the_textbooks(name, size):
    rng = np.random.default_rng(size)
    structure = _made(name, "visit" if name == "Product" else "t")
    values, times = _draw(structure, size, rng), _times(structure, size, rng)
    rows = len(times)
    found = np.broadcast_to(structure.matrix(values, times), (rows, rows))
    np.testing.assert_allclose(np.diag(found), 1.0, atol=1e-12)
    for i in range(rows):
        for j in range(i + 1, rows):
            expected = TEXTBOOK[name](values, i, j, times[i, 0], times[j, 0])
            # The moving-average form of an ARMA process is cut off after 20,000 terms.
            assert found[i, j] == pytest.approx(expected, abs=1e-9)
            assert found[j, i] == found[i, j]


@pytest.mark.parametrize("name", STRUCTURES)
def test_matrices_are_positive_definite_over_the_whole_support(name):
    rng = np.random.default_rng(4)
    structure = _made(name)
    for edge in (False, True):
        for _ in range(40):
            size = int(rng.integers(2, 7))
            values, times = _draw(structure, size, rng, edge), _times(structure, size, rng)
            P = np.broadcast_to(structure.matrix(values, times), (len(times),) * 2)
            assert np.linalg.eigvalsh(P).min() > -1e-10, values


def test_names_in_words():
    def name(structure, **more):
        return structure(time="t", within="id", **more).name

    assert name(bm.AR1) == "AR1"
    assert name(bm.ContinuousAR1) == "continuous AR1"
    assert name(bm.CompoundSymmetry, heterogeneous=True) == "heterogeneous compound symmetry"


def test_bounds_are_exact():
    """Just outside the support a matrix is no longer positive definite."""
    for size in SIZES:
        symmetric = bm.CompoundSymmetry(time="t", within="id")
        (rho,) = symmetric.parameters(size, SPREAD)
        times = np.arange(size)[:, None].astype(float)
        outside = symmetric.matrix({"rho": rho.support[0] - 0.01}, times)
        assert np.linalg.eigvalsh(outside).min() < 0
    banded = bm.Toeplitz(time="t", within="id", bands=2)
    (rho,) = banded.parameters(6, SPREAD)
    for inside, sign in ((0.999, 1), (1.01, -1)):
        P = banded.matrix({"rho": np.array([rho.support[1] * inside])}, np.arange(6.0)[:, None])
        assert np.sign(np.linalg.eigvalsh(P).min()) == sign


def test_flat_priors_of_toeplitz_correlations():
    """On three visits the pairs are flat where 1 + 2 r1^2 r2 - 2 r1^2 - r2^2 > 0 (Joe 2006)."""
    structure, rng = bm.Toeplitz(time="t", within="id"), np.random.default_rng(5)
    (partial,) = structure.parameters(3, SPREAD)
    derived = structure.derived(3)["rho"][1]
    draws = np.array(
        [
            derived({"partial": np.array([_sample(prior, rng) for prior in partial.priors])})
            for _ in range(4000)
        ]
    )
    proposed = rng.uniform(-1, 1, (40_000, 2))
    r1, r2 = proposed.T
    flat = proposed[1 + 2 * r1**2 * r2 - 2 * r1**2 - r2**2 > 0]
    for k in range(2):
        assert stats.ks_2samp(draws[:, k], flat[:, k]).pvalue > 0.01


def test_draws_from_the_prior_of_bands_are_flat_where_there_is_a_density():
    """Against rejection: three bands on four visits, uniform where the matrix is one."""
    frame = pd.DataFrame({"id": np.repeat(np.arange(3), 4), "visit": np.tile(np.arange(4), 3)})
    frame["y"] = np.arange(12.0)
    banded = bm.Toeplitz(time="visit", within="id", bands=3)
    drawn = bm.Model("y ~ 1", frame, residual=banded).prior_predictive(draws=500, seed=1)
    rho = drawn["prior"]["rho"].to_numpy()[0]
    assert rho.shape == (500, 2)
    assert np.isfinite(drawn["prior_predictive"]["y"]).all()
    proposed = np.random.default_rng(1).uniform(-1, 1, (10_000, 2))
    whole = np.arange(4.0)[:, None]
    P = np.stack([banded.matrix({"rho": each}, whole) for each in proposed])
    flat = proposed[np.linalg.eigvalsh(P).min(axis=-1) > 0]
    for k in range(2):
        assert stats.ks_2samp(rho[:, k], flat[:, k]).pvalue > 0.01


@pytest.mark.parametrize("lags", [1, 2, 9, 50])
def test_autocorrelations_and_their_slopes(lags):
    """In a graph as in NumPy, with finite differences; the partial ones come back from them."""
    rng = np.random.default_rng(lags)
    partial = rng.uniform(-0.5, 0.5, lags)
    rho = autocorrelations(partial)
    variable = pt.tensor("partial", shape=(lags,), dtype="float64")
    symbolic = autocorrelations(variable)
    weights = rng.normal(size=lags)
    slopes = pytensor.grad((symbolic * weights).sum(), variable)
    with interpreted() as mode:
        found, slope = pytensor.function([variable], [symbolic, slopes], mode=mode)(partial)
    np.testing.assert_allclose(found, rho, atol=1e-13)
    step = rng.normal(size=lags) * 1e-6
    ends = [autocorrelations(partial + sign * step) @ weights for sign in (1, -1)]
    assert (ends[0] - ends[1]) / 2 == pytest.approx(slope @ step, rel=1e-5, abs=1e-10)
    for k in (1, max(1, lags // 2), lags):
        # Yule and Walker: the last coefficient of a regression on the k values before.
        R = toeplitz(np.append(1.0, rho[: k - 1]))
        assert np.linalg.solve(R, rho[:k])[-1] == pytest.approx(partial[k - 1], abs=1e-10)


def _patchy(seed=1):
    """Visits in no order, some missing, at whole and at broken times."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"id": np.repeat(np.arange(12), 5), "visit": np.tile(np.arange(5), 12)})
    frame["arm"] = np.where(frame["id"] % 3 == 0, "old", "new")
    frame["time"] = frame["visit"] + rng.uniform(0, 0.9, len(frame))
    frame["outcome"] = np.where(frame["visit"] % 2, "sbp", "dbp")
    frame["y"] = rng.normal(size=len(frame))
    return frame.sample(frac=0.75, random_state=seed)


def _series(structure, frame):
    series = Series.of(structure, frame)
    at, found = 0, []
    for p, (length, count) in enumerate(zip(series.lengths, series.counts, strict=True)):
        for _ in range(count):
            found.append((p, series.order[at : at + length]))
            at += length
    return series, found


def _without_effects(series):
    """What the density takes besides parameters where no effects are integrated out."""
    none = np.zeros(0, np.int32)
    leaf, further = np.zeros(len(series.order), int), np.zeros(len(series.counts), int)
    rows = Rows(series.order, series.lengths, series.counts, leaf, further)
    return np.zeros((len(series.order), 0)), np.zeros((0, 0)), rows, Tree(none, none, none)


@pytest.mark.parametrize("name", STRUCTURES)
def test_density_and_slopes_of_series(name):
    """Against SciPy's normal patient by patient, and finite differences."""
    time = "visit" if STRUCTURES[name].counted else "time"
    frame, rng = _patchy(), np.random.default_rng(2)
    structure = _made(name, time)
    series, members = _series(structure, frame)
    values = _values(series.parameters, {axis.column: axis.size for axis in series.axes}, rng)
    P = np.broadcast_to(
        structure.matrix(values, series.times), (len(series.lengths), *[series.times.shape[1]] * 2)
    ).copy()
    y, mu = frame["y"].to_numpy(), rng.normal(size=len(frame))
    log_sd = rng.normal(size=len(frame)) * 0.3
    shape = _without_effects(series)
    expected = 0.0
    for p, rows in members:
        assert frame["id"].iloc[rows].nunique() == 1
        assert (
            frame[list(structure.columns)].iloc[rows].apply(tuple, axis=1).is_monotonic_increasing
        )
        sd, m = np.exp(log_sd[rows]), len(rows)
        normal = stats.multivariate_normal(mu[rows], sd[:, None] * P[p, :m, :m] * sd)
        expected += normal.logpdf(y[rows])
    found, *slopes = log_density(y, mu, log_sd, P, *shape)
    assert found == pytest.approx(expected, rel=1e-10)
    steps = structure.steps(values, series.times)
    if steps is not None:
        quick, *others = log_density(y, mu, log_sd, np.array(steps)[..., None], *shape)
        assert quick == pytest.approx(expected, rel=1e-10)
        for one, other in zip(slopes[:2], others, strict=False):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10)
    for k, at in enumerate((mu, log_sd)):
        step = rng.normal(size=at.shape) * 1e-6
        ends = []
        for sign in (1, -1):
            moved = [mu, log_sd]
            moved[k] = at + sign * step
            ends.append(log_density(y, *moved, P, *shape)[0])
        assert (ends[0] - ends[1]) / 2 == pytest.approx(slopes[k] @ step, rel=1e-4, abs=1e-9)
    variables = {k: pt.tensor(k, shape=np.shape(v), dtype="float64") for k, v in values.items()}
    if not variables:
        return
    Z, T, rows, tree = shape
    P = structure.steps(variables, series.times)
    P = structure.matrix(variables, series.times) if P is None else P[..., None]
    total = CorrelatedNormal()(y, mu, log_sd, P, T, Z, *rows, *tree)[0]
    with interpreted() as mode:
        outputs = [total, *pytensor.grad(total, list(variables.values()))]
        function = pytensor.function(list(variables.values()), outputs, mode=mode)
        _, *slopes = function(*values.values())
        change, expected = 0.0, 0.0
        steps = {}
        for (name_, value), slope in zip(values.items(), slopes, strict=True):
            step = rng.normal(size=np.shape(value)) * 1e-6
            step = np.triu(step, 1) + np.triu(step, 1).T if step.ndim == 2 else step
            steps[name_], expected = step, expected + float(np.sum(slope * step))
        ends = [function(*(values[n] + s * steps[n] for n in values))[0] for s in (1, -1)]
        change = float(ends[0] - ends[1]) / 2
    assert change == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("name", ["AR1", "ARMA11", "Antedependence", "CompoundSymmetry"])
def test_slopes_at_no_correlation(name):
    """0 is where sampling starts, and where a power of a correlation may lose its slope."""
    structure, size = STRUCTURES[name](time="t", within="id"), 4
    times = np.arange(size)[:, None].astype(float)
    weights = np.random.default_rng(3).normal(size=(size, size))
    values = {
        p.name: np.zeros(len(p.priors)) if p.dim else np.array(0.0)
        for p in structure.parameters(size, SPREAD)
    }
    variables = {k: pt.tensor(k, shape=np.shape(v), dtype="float64") for k, v in values.items()}
    total = (structure.matrix(variables, times) * weights).sum()
    with interpreted() as mode:
        slopes = pytensor.function(
            list(variables.values()), pytensor.grad(total, list(variables.values())), mode=mode
        )(*values.values())
    step = 1e-6
    for (key, value), slope in zip(values.items(), slopes, strict=True):
        for at in np.ndindex(value.shape):
            ends = []
            for sign in (1, -1):
                moved = value.copy()
                moved[at] += sign * step
                ends.append((structure.matrix(values | {key: moved}, times) * weights).sum())
            assert slope[at] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-8)
            assert abs(slope[at]) > 0.01


def test_visits_that_are_counted_though_their_distances_differ():
    frame = _patchy()
    model = bm.Model("y ~ 1", frame, residual=bm.AR1(time="visit", within="id"))
    assert not model.notes
    frame["month"] = frame["visit"] ** 2
    model = bm.Model("y ~ 1", frame, residual=bm.AR1(time="month", within="id"))
    assert any("ContinuousAR1" in note for note in model.notes)
    free = bm.Model("y ~ 1", frame, residual=bm.Unstructured(time="month", within="id"))
    assert not free.notes


def test_visits_in_tenths_or_by_date_are_counted_as_such():
    frame = _patchy()
    frame["tenths"] = 0.1 * frame["visit"] + 0.1  # 0.1 + 0.2 is not 0.3 to a computer
    model = bm.Model("y ~ 1", frame, residual=bm.AR1(time="tenths", within="id"))
    assert not model.notes
    next_one = 0.1 * (frame["visit"].max() + 1) + 0.1
    (axis,) = model.design.series.axes
    assert axis.positions(pd.Series([next_one])).tolist() == [frame["visit"].max() + 1]
    days = pd.to_timedelta(frame["visit"] ** 2, "D")
    frame["date"] = pd.Timestamp("2024-01-01") + days
    model = bm.Model("y ~ 1", frame, residual=bm.AR1(time="date", within="id"))
    assert "1, 3, 5" in model.notes[0]
    assert "days apart" in model.notes[0]


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        (lambda dates: dates, "2024-01-01"),
        (lambda dates: dates.dt.tz_localize("Europe/Berlin"), "2024-01-01 00:00:00+01:00"),
        (lambda dates: dates.dt.date, "2024-01-01"),
        (lambda dates: dates.dt.to_period("M"), "2024-01"),
    ],
)
def test_dates_as_visits_keep_their_labels_in_a_file(kind, first, tmp_path):
    frame = _patchy()
    frame["when"] = kind(pd.Timestamp("2024-01-01") + pd.to_timedelta(31 * frame["visit"], "D"))
    structure = bm.AR1(time="when", within="id", heterogeneous=True)
    fit = from_priors(bm.Model("y ~ 1", frame, residual=structure), 20)
    assert fit.summary().index[1] == f"sigma[{first}]"
    again = bm.load(fit.save(tmp_path / "fit.nc"))
    assert str(again) == str(fit)
    found = bm.predict(again, frame.iloc[:3], kind="outcome", seed=1).table["mean"]
    assert found.equals(bm.predict(fit, frame.iloc[:3], kind="outcome", seed=1).table["mean"])


def test_the_unit_of_time_matters_to_a_flat_prior_and_that_is_said():
    frame = _patchy()
    frame["day"], frame["year"] = 30 * frame["visit"], frame["visit"] / 12
    structure = bm.ContinuousAR1(time="day", within="id")
    (note,) = bm.Model("y ~ 1", frame, residual=structure).notes
    assert "neighbours lie 30 apart" in note
    # The mean of phi^30 over a flat phi.
    assert f"by {1 / 31:.2g} on average" in note
    own = {"phi": bm.Prior("Beta", alpha=20, beta=1)}
    assert not bm.Model("y ~ 1", frame, residual=structure, priors=own).notes
    assert bm.Model("y ~ 1", frame, residual=bm.ContinuousAR1(time="year", within="id")).notes
    for fine in (bm.ContinuousAR1(time="time", within="id"), bm.AR1(time="day", within="id")):
        assert not bm.Model("y ~ 1", frame, residual=fine).notes


def test_words_as_visits_are_in_the_order_of_the_alphabet_and_that_is_said():
    frame = _patchy()
    words = ["screening", "baseline", "interim", "end", "follow-up", "closing"]
    frame["when"] = [words[v] for v in frame["visit"]]
    structure = bm.AR1(time="when", within="id")
    (note,) = bm.Model("y ~ 1", frame, residual=structure).notes
    assert "order of the alphabet: baseline" in note
    ordered = frame.assign(when=pd.Categorical(frame["when"], words, ordered=True))
    model = bm.Model("y ~ 1", ordered, residual=structure)
    assert not model.notes
    assert model.design.series.labels["visit"] == [w for w in words if w in set(frame["when"])]
    free = bm.Unstructured(time="when", within="id")
    assert not bm.Model("y ~ 1", frame, residual=free).notes


@pytest.mark.parametrize(
    ("structure", "formula", "twice"),
    [
        (bm.Unstructured, "y ~ 1 + (1 | id)", True),
        (bm.CompoundSymmetry, "y ~ 1 + (visit | id)", True),
        (bm.Toeplitz, "y ~ 1 + (1 | id)", True),
        (bm.CompoundSymmetry, "y ~ 1 + (0 + visit | id)", False),
        (bm.Unstructured, "y ~ 1 + (1 | arm)", False),
        (bm.AR1, "y ~ 1 + (1 | id)", False),
    ],
)
def test_a_level_that_is_said_twice_is_said_to_be(structure, formula, twice):
    frame = _patchy()
    notes = bm.Model(formula, frame, residual=structure(time="visit", within="id")).notes
    assert any("said twice" in note for note in notes) == twice
    wide = structure(time="visit", within="id", heterogeneous=True)
    free = structure is bm.Unstructured and twice
    assert any("said twice" in n for n in bm.Model(formula, frame, residual=wide).notes) == free
    # A process of counts says it as well.
    counts = frame.assign(y=1)
    model = bm.Model(formula, counts, "poisson", residual=structure(time="visit", within="id"))
    assert any("said twice" in note for note in model.notes) == twice


def test_a_free_matrix_of_few_series_is_said_to_be_the_priors():
    frame = _patchy()
    free = bm.Unstructured(time="visit", within="id")
    assert not bm.Model("y ~ 1", frame, residual=free).notes  # 12 series of 5 visits
    (note,) = bm.Model("y ~ 1", frame[frame["id"] < 5], residual=free).notes
    assert "10 correlations, and there are 4 values of id" in note
    by_arm = bm.Unstructured(time="visit", within="id", by="arm")
    (note,) = bm.Model("y ~ 1", frame, residual=by_arm).notes
    assert "4 values of id in one arm" in note
    assert not bm.Model("y ~ 1", frame, residual=bm.AR1(time="visit", within="id")).notes


def test_places_in_space():
    """3 x 3 places: 9 distinct ones, whose correlations are reported by distance."""
    rng = np.random.default_rng(6)
    places = pd.DataFrame([(x, z) for x in range(3) for z in range(3)], columns=["x", "z"])
    frame = pd.concat([places.assign(rep=r, y=rng.normal(size=9)) for r in range(4)])
    structure = bm.Exponential(time=("x", "z"), within="rep")
    model = bm.Model("y ~ 1", frame.reset_index(drop=True), residual=structure)
    assert model.design.series.size == 9
    fit = model.fit(draws=50, tune=100, chains=1, seed=1, progress=False)
    table = bm.residual_correlation(fit).table
    assert table["pairs"].sum() == 4 * 9 * 8 / 2
    np.testing.assert_allclose(table.index, [1, 1.414, 2, 2.236, 2.828], atol=1e-3)
    decay = float(np.exp(-1 / fit.posterior["range"]).mean())
    assert table["mean"].iloc[0] == pytest.approx(decay, abs=1e-9)


def test_not_positive_definite_has_no_density():
    P = np.array([[[1.0, 1.2], [1.2, 1.0]]])
    two = np.zeros(2)
    rows = Rows(np.array([0, 1]), np.array([2]), np.array([1]), np.zeros(2, int), np.zeros(1, int))
    none = np.zeros(0, np.int32)
    for given in (P, P[:, :1, 1:]):
        found, *_ = log_density(
            two, two, two, given, np.zeros((2, 0)), np.zeros((0, 0)), rows, Tree(none, none, none)
        )
        assert found == -np.inf


MODELS = {
    "ar1": {"residual": bm.AR1(time="visit", within="id")},
    "by arm": {"residual": bm.AR1(time="visit", within="id", by="arm")},
    "unstructured": {"residual": bm.Unstructured(time="visit", within="id", heterogeneous=True)},
    "toeplitz by arm": {"residual": bm.Toeplitz(time="visit", within="id", by="arm")},
    "outcome by visit": {
        "residual": bm.Product(
            bm.Unstructured(time="outcome"), bm.Toeplitz(time="visit"), within="id", by="arm"
        )
    },
    "with known sds": {
        "residual": bm.Exponential(time="time", within="id", nugget=True),
        "sampling_sd": "sd",
    },
}


@pytest.mark.parametrize("name", MODELS)
def test_the_pymc_model_states_the_density(name):
    """The likelihood of the PyMC model at a random point, against SciPy patient by patient."""
    frame = _patchy().assign(sd=lambda d: 0.5 + d["visit"] / 4)
    model = bm.Model("y ~ visit + (1 | arm)", frame, **MODELS[name])
    built, design = model.pymc, model.design
    rng = np.random.default_rng(7)
    point = {k: v + rng.normal(size=np.shape(v)) * 0.3 for k, v in built.initial_point().items()}
    names = [*public_names(design), "y"]
    with interpreted() as mode:
        inputs = built.value_vars
        wanted = built.replace_rvs_by_values([built[n] for n in names[:-1]])
        outputs = [*wanted, built.logp(vars=[built["y"]])]
        function = pytensor.function(inputs, outputs, mode=mode, on_unused_input="ignore")
        *found, density = function(**{v.name: point[v.name] for v in inputs})
    values = dict(zip(names, found, strict=False))
    series, members = _series(design.spec.residual, design.table.frame)
    mu = design.predictors["mu"].eta(
        values["beta"][None, None], {"arm": values["u_arm"][None, None]}
    )[0, 0]
    if design.sampling_sd is not None:
        sd = design.sampling_sd
    elif design.spreads is None:
        sd = np.full(len(frame), values["sigma"])
    else:
        sd = values["sigma"][design.spreads.index]
    expected = 0.0
    for p, rows in members:
        arm, m = series.arm[p], len(rows)
        own = {q.name: values[q.name] for q in series.parameters}
        if design.spec.residual.by is not None:
            own = {n: v[arm] for n, v in own.items()}
        P = design.spec.residual.matrix(own, series.times[p])[:m, :m]
        covariance = sd[rows][:, None] * P * sd[rows]
        expected += stats.multivariate_normal(mu[rows], covariance).logpdf(design.y[rows])
    assert density == pytest.approx(expected, rel=1e-9)
    drawn = model.prior_predictive(draws=20, seed=1)
    assert np.isfinite(drawn["prior_predictive"]["y"]).all()


def test_equivalent_structures():
    rng = np.random.default_rng(3)
    whole = np.arange(5.0)[:, None]
    phi = {"phi": 0.6}
    one, other = (s(time="t", within="id") for s in (bm.AR1, bm.ContinuousAR1))
    np.testing.assert_allclose(one.matrix(phi, whole), other.matrix(phi, whole))
    rho = 0.3
    pair = bm.CompoundSymmetry(time="t", within="id").matrix({"rho": rho}, whole[:2])
    cor = {"cor_residual": np.array([[1, rho], [rho, 1]])}
    np.testing.assert_allclose(bm.Unstructured(time="t", within="id").matrix(cor, whole[:2]), pair)
    alone = bm.Toeplitz(time="t", within="id", bands=1).matrix({}, whole)
    np.testing.assert_allclose(alone, np.eye(5))
    # A random intercept adds one variance to every pair.
    sd_u, sigma = rng.uniform(0.5, 2, 2)
    total = sd_u**2 + sigma**2
    symmetric = bm.CompoundSymmetry(time="t", within="id").matrix({"rho": sd_u**2 / total}, whole)
    np.testing.assert_allclose(total * symmetric, sd_u**2 + sigma**2 * np.eye(5))


@dataclass(frozen=True, kw_only=True)
class Damped(bm.Structure):
    """A structure from outside the package: exp(-rate * lag^2)."""

    counted = False

    def parameters(self, size: int, spread: float) -> tuple[CorrelationParameter, ...]:
        return (CorrelationParameter("rate", bm.Prior("HalfNormal", sigma=1), (0.0, np.inf)),)

    def matrix(self, parameters: Mapping[str, Any], times: Any) -> Any:
        off = times[..., :, None, 0] - times[..., None, :, 0]
        return bk.exp(-parameters["rate"] * off**2)


@pytest.fixture(scope="module")
def orthodont():
    def fit(structure, **more):
        model = bm.Model("distance ~ age * Sex", LOAD("orthodont"), residual=structure, **more)
        return model.fit(seed=1, draws=2000, progress=False)

    return fit


ORTHODONT = {
    "compound_symmetry": bm.CompoundSymmetry(time="age", within="Subject"),
    "ar1": bm.AR1(time="age", within="Subject"),
    "ar1_heterogeneous": bm.AR1(time="age", within="Subject", heterogeneous=True),
    "unstructured": bm.Unstructured(time="age", within="Subject", heterogeneous=True),
}


@pytest.mark.parametrize("name", ORTHODONT)
def test_orthodont_against_nlme(orthodont, reference, name):
    """REML estimates: means within 0.15 sd and 3 Monte Carlo errors, correlations in 80 %."""
    fit = orthodont(ORTHODONT[name])
    assert fit.converged
    expected = reference["orthodont_gls"]["fits"][name]
    table = fit.summary()
    for row, value in zip(table.index[:4], expected["fixef"].values(), strict=True):
        mean, sd, error = table.loc[row, ["mean", "sd", "mcse_mean"]]
        assert abs(mean - value) < 0.15 * sd + 3 * error, row
    posterior, cor = fit.posterior, expected["correlation"]
    if isinstance(cor, dict):
        ((symbol, value),) = cor.items()
        draws = posterior[symbol.lower()].to_numpy().ravel()
        lower, upper = np.quantile(draws, [0.1, 0.9])
        assert lower < value < upper
        # One correlation from 27 children is well determined.
        assert abs(draws.mean() - value) < 0.05
    else:
        pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
        for (i, j), value in zip(pairs, cor, strict=True):
            lower, upper = posterior["cor_residual"][..., i, j].quantile([0.1, 0.9]).to_numpy()
            assert lower < value < upper


@pytest.mark.parametrize("season", [False, True])
def test_influenza_against_nlme(reference, season):
    """24 districts x 104 periods: season as harmonics, AR(1) residuals."""
    expected = reference["influenza_gls"]["with_season" if season else "without_season"]
    data = LOAD("influenza")
    data["rate"] = np.log((data["cases"] + 0.5) / data["population_fraction"])
    for k in (1, 2):
        angle = 2 * np.pi * k * data["period"] / 13
        data[f"s{k}"], data[f"c{k}"] = np.sin(angle), np.cos(angle)
    right = "s1 + c1 + s2 + c2" if season else "1"
    model = bm.Model(f"rate ~ {right}", data, residual=bm.AR1(time="period", within="district"))
    fit = model.fit(seed=1, progress=False)
    assert fit.converged
    phi = float(fit.posterior["phi"].mean())
    assert phi == pytest.approx(expected["phi"], abs=0.02)
    # The observed correlogram is the raw one: residuals at posterior means are those of gls
    # but for a shift of the coefficients by 0.15 of their sds, 0.006 of a residual sd, and what
    # moves a correlation is its square.
    observed = bm.residual_correlation(fit).table["observed"]
    lags = expected["residual_correlation_lags_0_to_13"][1:14]
    np.testing.assert_allclose(observed.loc[1:13], lags, atol=0.01)
    table = fit.summary()
    mean, sd, error = table.loc["beta[Intercept]", ["mean", "sd", "mcse_mean"]]
    assert abs(mean - expected["fixef"]["(Intercept)"]) < 0.15 * sd + 3 * error


def test_a_structure_from_outside_works_and_is_saved(tmp_path):
    data = LOAD("orthodont")
    model = bm.Model("distance ~ age", data, residual=Damped(time="age", within="Subject"))
    fit = model.fit(draws=100, tune=200, chains=2, seed=1, progress=False)
    assert fit.posterior["rate"].dims == ("chain", "draw")
    path = fit.save(tmp_path / "fit.nc")
    with pytest.raises(bm.BayesmixedError, match="residual="):
        bm.load(path)
    again = bm.load(path, residual=Damped(time="age", within="Subject"))
    assert str(again) == str(fit)
    ours = bm.Model("distance ~ age", data, residual=ORTHODONT["ar1"])
    path = ours.fit(draws=50, tune=100, chains=1, seed=1, progress=False).save(tmp_path / "own.nc")
    assert bm.load(path).spec.residual == ORTHODONT["ar1"]


_FLAT = bm.Prior("Uniform", lower=0, upper=1)
_PHI = (CorrelationParameter("phi", _FLAT, (0.0, 1.0)),)


def _lags(times):
    return abs(times[..., :, None, 0] - times[..., None, :, 0])


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({}, r"parameters\(size, spread\) is missing"),
        ({"parameters": lambda s, size, spread: _PHI}, r"matrix\(parameters, times\) is missing"),
        ({"parameters": lambda s, size, spread: _PHI[0]}, "not a tuple of bm.CorrelationParameter"),
        (
            {"parameters": lambda s, size, spread: (CorrelationParameter("sigma", _FLAT),)},
            "cannot be called 'sigma'",
        ),
        (
            {
                "parameters": lambda s, size, spread: (
                    CorrelationParameter("phi", bm.Prior("Normal", mu=0, sigma=1), (0.0, 1.0)),
                )
            },
            "phi lies between 0 and 1",
        ),
        ({"matrix": lambda s, p, times: p["phi"] ** times}, r"shape \(5, 1\), not \(5, 5\)"),
        ({"matrix": lambda s, p, times: p["rho"] ** _lags(times)}, "a parameter 'rho'.* 'phi'"),
        ({"matrix": lambda s, p, times: 2 * p["phi"] ** _lags(times)}, "ones on its diagonal"),
        (
            {"steps": lambda s, p, times: p["phi"] + 0 * times[..., 1:, 0] / 2 + 0.1},
            "differs from the matrix",
        ),
    ],
)
def test_slips_in_a_structure_from_outside_are_found_at_once(methods, message):
    whole = {
        "parameters": lambda s, size, spread: _PHI,
        "matrix": lambda s, p, times: p["phi"] ** _lags(times),
    }
    given = methods if not methods or "parameters" in methods else whole | methods
    own = type("Own", (bm.Structure,), given)(time="visit", within="id")
    with pytest.raises(bm.BayesmixedError, match=message):
        bm.Model("y ~ 1", _patchy(), residual=own)
    right = type("Own", (bm.Structure,), whole)(time="visit", within="id")
    assert "phi" in bm.Model("y ~ 1", _patchy(), residual=right).priors.index


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data": lambda d: pd.concat([d, d.iloc[[3]]])}, "both of id"),
        ({"residual": "ar1"}, "write residual="),
        ({"residual": bm.AR1(time="visits", within="id")}, "Did you mean 'visit'"),
        ({"residual": bm.AR1(time="visit", within="id", by="sex")}, "changes within id"),
        ({"residual": bm.ContinuousAR1(time="arm", within="id")}, "does not hold numbers"),
        ({"residual": bm.AR1(time="visit", within="row")}, "nothing to learn"),
        ({"residual": bm.AR1(time="week", within="id")}, "week4, week8, week12"),
        ({"residual": bm.AR1(time="since", within="id")}, r"durations.*\['since'\]\.dt\.days"),
        ({"residual": bm.AR1(time="visit", within="arm/id")}, r'Paste .* data\["arm"\]\.astype'),
        ({"family": "student_t"}, "cannot be correlated"),
        ({"priors": {"phi": bm.Prior("Normal", mu=0, sigma=1)}}, "lies between -1 and 1"),
        (
            {
                "residual": bm.AR1(time="visit", within="id", heterogeneous=True),
                "sampling_sd": "sd",
            },
            "given twice",
        ),
        ({"marginalize": True, "formula": "y ~ visit + (1 | visit)"}, "whole series"),
    ],
)
def test_bad_input_has_its_own_sentence(changed, message):
    change = dict(changed)
    frame = _patchy().assign(sd=1.0, row=lambda d: range(len(d)))
    frame["sex"] = np.where(np.arange(len(frame)) % 2, "f", "m")
    frame["since"] = pd.to_timedelta(frame["visit"], "D")
    frame["week"] = "week" + (4 * frame["visit"] + 4).astype(str)
    frame = change.pop("data", lambda d: d)(frame)
    options = {"residual": bm.AR1(time="visit", within="id")} | change
    formula = options.pop("formula", "y ~ visit + (1 | arm)")
    with pytest.raises(bm.BayesmixedError, match=message):
        bm.Model(formula, frame, **options)


@pytest.mark.parametrize(
    ("made", "given", "message"),
    [
        (bm.AR1, {"time": None}, r"AR1\(time=None\): name the column with the visit"),
        (bm.Unstructured, {"time": 3}, r"time=3\): name the column"),
        (bm.AR1, {"time": ("x", "y")}, "counts visits, which are one column"),
        (bm.Exponential, {"time": ["x", "y"]}, r'time=\("x", "y"\)'),
        (bm.Exponential, {"time": ()}, "name the column"),
        (bm.CompoundSymmetry, {"within": None}, "whose values share a series"),
        (bm.Toeplitz, {"within": ("a", "b")}, "whose values share a series"),
        (bm.AR1, {"by": True}, "name one column that is constant"),
        (bm.AR1, {"heterogeneous": "visit"}, "True or False"),
        (bm.Toeplitz, {"bands": True}, "whole number from 1"),
        (bm.Toeplitz, {"bands": 0}, "whole number from 1"),
        (bm.Toeplitz, {"bands": 2.0}, "whole number from 1"),
        (bm.Exponential, {"nugget": 0.1}, r"nugget=0.1\): True or False"),
        (bm.Matern, {"nugget": "yes"}, "True or False"),
        (bm.Matern, {"smoothness": 0.5}, "0.5 is Exponential"),
        (bm.Matern, {"smoothness": True}, "1.5 or 2.5"),
    ],
)
def test_wrong_fields_are_refused_at_once(made, given, message):
    with pytest.raises(bm.BayesmixedError, match=message):
        made(**({"time": "visit", "within": "id"} | given))


def test_what_takes_rows_as_independent_is_refused(orthodont):
    fit = orthodont(ORTHODONT["ar1"])
    with pytest.raises(bm.BayesmixedError, match="not a product over rows"):
        fit.with_log_likelihood()
    assert np.isfinite(bm.means(fit, "Sex", population="average").table["mean"]).all()
