"""Effects of groups integrated out beside correlated residuals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytensor
import pytest
from scipy import stats

import bayesmixed as bm
from bayesmixed.build import build_model
from bayesmixed.correlated import Rows, draw_effects, log_density
from bayesmixed.correlated_density import correlated_density
from bayesmixed.correlated_outcome import arrays
from bayesmixed.elimination import Tree
from bayesmixed.graph import interpreted
from bayesmixed.names import public_names

LOAD = bm.datasets.load


def _trial(seed=1):
    """Patients in wards; visits in no order, some missing, at whole and at broken times."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"id": np.repeat(np.arange(12), 5), "visit": np.tile(np.arange(5), 12)})
    frame["ward"] = "w" + (frame["id"] // 4).astype(str)
    frame["arm"] = np.where(frame["id"] % 3 == 0, "old", "new")
    frame["time"] = frame["visit"] + rng.uniform(0, 0.9, len(frame))
    frame["y"] = rng.normal(size=len(frame)) + frame["id"] % 5
    return frame.sample(frac=0.75, random_state=seed).reset_index(drop=True)


STRUCTURES = {
    "markov": bm.AR1(time="visit", within="id"),
    "markov in time": bm.Exponential(time="time", within="id"),
    "antedependence": bm.Antedependence(time="visit", within="id"),
    "dense": bm.CompoundSymmetry(time="visit", within="id"),
    "by arm": bm.AR1(time="visit", within="id", by="arm"),
    "heterogeneous": bm.Unstructured(time="visit", within="id"),
}
RIGHT = {
    "intercepts": ("(1 | id)", ["id"]),
    "slopes": ("(1 + time | id)", ["id"]),
    "nested": ("(1 + time | id) + (1 | ward)", ["id", "ward"]),
    "uncorrelated": ("(1 + time || id) + (1 | visit)", ["id"]),
    "wards of whole series": ("(1 | ward)", ["ward"]),
}


def _inputs(design, levels, rng):
    """Everything that the density takes, at random values, and the dense matrices of the same."""
    n, series = len(design.y), design.series
    mu, log_sd = rng.normal(size=n), rng.normal(size=n) * 0.3
    known = arrays(design, levels)
    Z = known.pop("Z")
    names = list(known.values())
    rows, tree = Rows(*names[:5]), Tree(*names[5:])
    T, first = np.zeros((Z.shape[1],) * 2), 0
    whole = np.zeros((n, n))
    for level in levels:
        q, index = level.size, level.groups.index
        T[first : first + q, first : first + q] = np.tril(rng.normal(size=(q, q)))
        G = T[first : first + q, first : first + q]
        first += q
        whole += (level.Z @ G @ G.T @ level.Z.T) * (index[:, None] == index)
    longest = series.times.shape[1]
    rho = rng.uniform(-0.9, 0.9, (len(series.lengths), longest - 1, 1))
    dense = np.zeros((len(rho), longest, longest))
    for p, steps in enumerate(rho[..., 0]):
        for i in range(longest):
            for j in range(longest):
                dense[p, i, j] = np.prod(steps[min(i, j) : max(i, j)])
    sd = np.exp(log_sd)
    for p, at, m in _members(series):
        rows_ = series.order[at : at + m]
        whole[np.ix_(rows_, rows_)] += sd[rows_][:, None] * dense[p, :m, :m] * sd[rows_]
    return mu, log_sd, {"markov": rho, "dense": dense}, Z, T, rows, tree, whole


def _members(series):
    at = 0
    for p, (m, count) in enumerate(zip(series.lengths, series.counts, strict=True)):
        for _ in range(count):
            yield p, at, m
            at += m


def _levels(model):
    randoms = {r.name: r for r in model.design.predictors["mu"].random}
    return [randoms[name] for name in model.integrated]


@pytest.mark.parametrize("way", ["markov", "dense"])
@pytest.mark.parametrize("right", RIGHT)
def test_density_and_slopes_with_effects(right, way):
    """Against one dense normal of all rows, and finite differences."""
    text, expected = RIGHT[right]
    model = bm.Model(f"y ~ time + {text}", _trial(), residual=STRUCTURES["markov"])
    assert list(model.integrated) == expected
    rng, y = np.random.default_rng(2), model.design.y
    mu, log_sd, P, Z, T, rows, tree, whole = _inputs(model.design, _levels(model), rng)
    point = [mu, log_sd, P[way], T]

    def density(mu, log_sd, P, T):
        return log_density(y, mu, log_sd, P, Z, T, rows, tree)

    found, *slopes = density(*point)
    assert found == pytest.approx(stats.multivariate_normal(mu, whole).logpdf(y), rel=1e-10)
    for k, slope in enumerate(slopes):
        step = rng.normal(size=point[k].shape) * 1e-6
        if k == 2 and way == "dense":
            step = step + step.swapaxes(1, 2)
        if k == 3:
            step = np.where(T != 0, step, 0.0)
        ends = [density(*point[:k], point[k] + sign * step, *point[k + 1 :])[0] for sign in (1, -1)]
        assert (ends[0] - ends[1]) / 2 == pytest.approx(np.sum(slope * step), rel=1e-4, abs=1e-9)


def test_drawn_effects_have_the_dense_conditional_mean_and_covariance():
    """Draws are affine in the noise: mean and covariance follow exactly from its unit vectors."""
    model = bm.Model(
        "y ~ time + (1 + time | id) + (1 | ward)", _trial(), residual=STRUCTURES["markov"]
    )
    design, levels = model.design, _levels(model)
    mu, log_sd, P, Z, T, rows, tree, whole = _inputs(design, levels, np.random.default_rng(3))
    full, factor = [], []
    first = 0
    for level in levels:
        count, q = len(level.groups.labels), level.size
        G = T[first : first + q, first : first + q]
        first += q
        own = np.zeros((len(mu), count, q))
        own[np.arange(len(mu)), level.groups.index] = level.Z @ G
        full.append(own.reshape(len(mu), -1))
        factor.append(count * q)
    columns = np.hstack(full)
    gain = np.linalg.solve(whole, columns).T
    mean = gain @ (design.y - mu)
    covariance = np.eye(columns.shape[1]) - gain @ columns
    for given in P.values():
        size = columns.shape[1]
        noise = np.vstack([np.zeros(size), np.eye(size)])

        def repeated(value, times=size + 1):
            return np.broadcast_to(value, (times, *value.shape)).copy()

        draw_effects()(
            design.y, *map(repeated, (mu, log_sd, given)), Z, repeated(T), rows, tree, noise
        )
        np.testing.assert_allclose(noise[0], mean, atol=1e-10)
        spread = (noise[1:] - noise[0]).T
        np.testing.assert_allclose(spread @ spread.T, covariance, atol=1e-10)


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_marginal_model_is_the_stated_model_with_effects_integrated(name):
    """The outcome's density given parameters, against that of the stated model's moments."""
    frame = _trial()
    model = bm.Model("y ~ time + (1 + time | id) + (1 | ward)", frame, residual=STRUCTURES[name])
    design = model.design
    built = build_model(design, model._priors, model.centered, model.integrated, marginal=True)
    rng = np.random.default_rng(7)
    point = {k: v + rng.normal(size=np.shape(v)) * 0.3 for k, v in built.initial_point().items()}
    names = [n for n in public_names(design) if not n.startswith("u_")]
    with interpreted() as mode:
        inputs = built.value_vars
        wanted = built.replace_rvs_by_values([built[n] for n in names])
        outputs = [*wanted, built.logp(vars=[built["y"]])]
        function = pytensor.function(inputs, outputs, mode=mode, on_unused_input="ignore")
        *found, density = function(**{v.name: point[v.name] for v in inputs})
    values = dict(zip(names, found, strict=True))
    mu = design.predictors["mu"].X @ values["beta"]
    differs = design.spreads is not None
    sd = values["sigma"][design.spreads.index] if differs else np.full(len(frame), values["sigma"])
    whole = np.zeros((len(frame),) * 2)
    for random in design.predictors["mu"].random:
        scale = values[f"sd_{random.name}"]
        cor = values.get(f"cor_{random.name}", np.eye(random.size))
        index = random.groups.index
        G = scale[:, None] * cor * scale
        whole += (random.Z @ G @ random.Z.T) * (index[:, None] == index)
    series, structure = design.series, design.spec.residual
    for p, at, m in _members(series):
        rows = series.order[at : at + m]
        own = {q.name: values[q.name] for q in series.parameters}
        if structure.by is not None:
            own = {n: v[series.arm[p]] for n, v in own.items()}
        P = np.broadcast_to(structure.matrix(own, series.times[p, :m]), (m, m))
        whole[np.ix_(rows, rows)] += sd[rows][:, None] * P * sd[rows]
    expected = stats.multivariate_normal(mu, whole).logpdf(design.y)
    assert density == pytest.approx(expected, rel=1e-9)


def test_autoregression_beside_intercepts_against_quadrature():
    """AR(1) within children and an intercept for each: the posterior on a grid of sds and phi.

    The coefficients' normal prior integrates out in closed form. Means within four Monte Carlo
    errors and the grid's own error, which halving its steps showed to be below 1e-3 sds.
    """
    data = LOAD("orthodont").assign(age=lambda d: d["age"] - 11)
    priors = {
        "Intercept": bm.Prior("Normal", mu=24, sigma=10),
        "beta[age]": bm.Prior("Normal", mu=0, sigma=2),
        "sd_Subject": bm.Prior("HalfNormal", sigma=3),
        "sigma": bm.Prior("HalfNormal", sigma=3),
    }
    model = bm.Model(
        "distance ~ age + (1 | Subject)",
        data,
        priors=priors,
        center=False,
        residual=bm.AR1(time="age", within="Subject"),
    )
    fit = model.fit(draws=2000, seed=1, progress=False)
    assert fit.converged
    expected = _grid(model.design)
    for name, (mean, sd) in expected.items():
        draws = fit.posterior[name.partition("[")[0]]
        draws = draws.sel(term=name[5:-1]) if name.startswith("beta") else draws
        row = name if name in fit.summary().index else "sd_Subject"
        error = fit.summary().loc[row, "mcse_mean"]
        assert abs(float(draws.mean()) - mean) < 4 * error + 1e-3 * sd, name
        assert float(draws.std()) == pytest.approx(sd, rel=0.08), name


def _grid(design):
    """Posterior means and sds by quadrature over sd_Subject, sigma and phi."""
    Y = design.y.reshape(27, 4)
    X = design.predictors["mu"].X.reshape(27, 4, 2)
    grids = np.linspace(1e-3, 5, 60), np.linspace(0.6, 4.5, 60), np.linspace(-0.95, 0.995, 80)
    sd, sigma, phi = (g.ravel() for g in np.meshgrid(*grids, indexing="ij"))
    lags = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    V = sd[:, None, None] ** 2 + sigma[:, None, None] ** 2 * phi[:, None, None] ** lags
    Q, logs = np.linalg.inv(V), np.linalg.slogdet(V)[1]
    prior, centre = np.diag([1 / 100, 1 / 4]), np.array([24.0, 0.0])
    A = np.einsum("sia,gij,sjb->gab", X, Q, X, optimize=True) + prior
    b = np.einsum("sia,gij,sj->ga", X, Q, Y, optimize=True) + prior @ centre
    beta = np.linalg.solve(A, b[..., None])[..., 0]
    squares = np.einsum("gij,ij->g", Q, Y.T @ Y)
    log = -0.5 * (27 * logs + squares + np.linalg.slogdet(A)[1] - (b * beta).sum(axis=1))
    log = log - (sd**2 + sigma**2) / 18
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    found = {}
    for name, value in {"sd_Subject": sd, "sigma": sigma, "phi": phi}.items():
        mean = weight @ value
        found[name] = (mean, np.sqrt(weight @ (value - mean) ** 2))
    spread = np.linalg.inv(A)
    for k, name in enumerate(("beta[Intercept]", "beta[age]")):
        mean = weight @ beta[:, k]
        found[name] = (mean, np.sqrt(weight @ (spread[:, k, k] + (beta[:, k] - mean) ** 2)))
    return found


def test_effects_come_back_under_their_names():
    """Posterior of the intercepts: shrunken towards 0, of the children as labelled."""
    data = LOAD("orthodont")
    model = bm.Model(
        "distance ~ age + (1 + age | Subject)",
        data,
        residual=bm.AR1(time="age", within="Subject", by="Sex"),
    )
    assert model.integrated == ("Subject",)
    density = correlated_density(model.design, model._priors, model.centered, model.integrated)
    x = density.start + np.random.default_rng(1).normal(size=(30, density.size)) * 0.1
    found = density.recover(x, np.random.default_rng(2))
    assert list(found) == public_names(model.design)
    assert found["u_Subject"].shape == (30, 27, 2)
    assert found["phi"].shape == (30, 2)


def test_residual_sds_by_visit_and_arm():
    """One for each visit, each arm, or each visit that an arm has, under the data's labels."""
    frame = _trial().query("arm == 'new' or visit < 3")

    def names(**more):
        model = bm.Model("y ~ time", frame, residual=bm.AR1(time="visit", within="id", **more))
        priors = model.priors
        assert (priors.loc[priors.index.str.startswith("sigma"), "prior"].nunique()) == 1
        return [n for n in priors.index if n.startswith("sigma")]

    assert names() == ["sigma"]
    assert names(heterogeneous=True) == [f"sigma[{v}]" for v in range(5)]
    assert names(by="arm") == ["sigma[new]", "sigma[old]"]
    cells = [f"new,{v}" for v in range(5)] + [f"old,{v}" for v in range(3)]
    assert names(by="arm", heterogeneous=True) == [f"sigma[{cell}]" for cell in cells]
    one = {"sigma[2]": bm.Prior("HalfNormal", sigma=1)}
    structure = bm.AR1(time="visit", within="id", heterogeneous=True)
    priors = bm.Model("y ~ time", frame, residual=structure, priors=one).priors
    assert priors.loc["sigma[2]", "source"] == "yours"
    assert priors.loc["sigma[1]", "source"] == "default"
    exponential = bm.Exponential(time="time", within="id", heterogeneous=True)
    with pytest.raises(bm.BayesmixedError, match="which can tell little of each"):
        bm.Model("y ~ time", frame, residual=exponential)


def test_rows_of_other_visits_have_means_but_no_residual_sd():
    frame = _trial()
    structure = bm.AR1(time="visit", within="id", heterogeneous=True)
    design = bm.Model("y ~ visit", frame, residual=structure).design
    rows = design.unobserved(pd.DataFrame({"visit": [2.0, 2.5]}))
    found = rows.spreads.of_rows(np.arange(5.0))
    np.testing.assert_array_equal(found, [2, np.nan])


def test_compound_symmetry_reaches_down_to_what_the_longest_series_allows():
    """Series of 3 at 9 distinct times: -1/2, not -1/8."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"id": np.repeat(np.arange(3), 3), "time": np.arange(9.0)})
    frame["y"] = rng.normal(size=9)
    structure = bm.CompoundSymmetry(time="time", within="id")
    (rho,) = bm.Model("y ~ 1", frame, residual=structure).design.series.parameters
    assert rho.support == (-0.5, 1.0)
