"""Effects integrated out: against dense normal densities, and drawn as their posterior says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesmixed as bm
from bayesmixed import lkj
from bayesmixed.univariate import log_prior

LOAD = bm.datasets.load


def _school(seed=1, rows=150):
    """Students in classes in schools, with a crossed rater, unsorted, one row in some groups."""
    rng = np.random.default_rng(seed)
    school = rng.integers(0, 4, 12)
    classes = rng.integers(0, 12, 40)
    student = np.concatenate([np.arange(40), rng.integers(0, 30, rows - 40)])
    rng.shuffle(student)
    frame = pd.DataFrame({"student": student, "klass": classes[student]})
    frame["school"] = school[frame["klass"]]
    frame["rater"] = rng.integers(0, 5, rows)
    frame["arm"] = rng.choice(["a", "b"], rows)
    frame["x"] = rng.normal(size=rows)
    frame["se"] = rng.uniform(0.5, 2, rows)
    frame["y"] = frame["x"] + rng.normal(size=4)[frame["school"]] + rng.normal(size=rows)
    return frame


MODELS = {
    "intercepts": lambda: bm.Model("Reaction ~ Days + (1 | Subject)", LOAD("sleepstudy")),
    "slopes": lambda: bm.Model("Reaction ~ Days + (Days | Subject)", LOAD("sleepstudy")),
    "blocks": lambda: bm.Model("y ~ x + (x || student) + (0 + se | student)", _school()),
    "two_levels": lambda: bm.Model("strength ~ 1 + (1 | batch/cask)", LOAD("pastes")),
    "three_levels": lambda: bm.Model(
        "y ~ x + arm",
        _school(),
        hierarchy=bm.Hierarchy({"school": "1 + x", "klass": "1", "student": "1 + x"}),
    ),
    "crossed": lambda: bm.Model(
        "y ~ x + (x | student) + (1 | klass) + (x | rater) + (1 | arm)", _school()
    ),
    "centred": lambda: bm.Model(
        "y ~ x + (x | student) + (1 | rater)", _school(), centered=["rater"]
    ),
    "no_groups": lambda: bm.Model("y ~ x + arm + offset(se)", _school()),
    "sigma_by_arm": lambda: bm.Model(
        "y ~ x + (x | student) + (1 | rater)", _school(), parameters={"sigma": "~ arm"}
    ),
    "sigma_by_row": lambda: bm.Model(
        "y ~ x + (1 | student)", _school(), parameters={"sigma": "~ x + (1 | school)"}
    ),
    "known_sd": lambda: bm.Model(
        "yi ~ 1 + (1 | district/school)", LOAD("konstantopoulos2011"), sampling_sd="sqrt(vi)"
    ),
    "raw_intercept": lambda: bm.Model("y ~ x + (x | student)", _school(), center=False),
    "lognormal": lambda: bm.Model(
        "Reaction ~ Days + (1 | Subject)", LOAD("sleepstudy"), family="lognormal"
    ),
}


@pytest.fixture(params=MODELS, scope="module")
def model(request):
    return MODELS[request.param]()


def _points(density, count, spread=0.7):
    rng = np.random.default_rng(8)
    return density.start + rng.uniform(-spread, spread, (count, density.size))


def _parts(model, values):
    """Mean, integrated covariance and error sd of the rows, at one draw of the variables."""
    design = model.design
    predictor = design.predictors["mu"]
    mean = predictor.X @ values["beta"] if predictor.terms else np.zeros(len(design.y))
    mean = mean + predictor.offset
    covariance = np.zeros((len(mean), len(mean)))
    for random in predictor.random:
        index = random.groups.index
        if random.name in model.integrated:
            sd = values[f"sd_{random.name}"]
            cor = values.get(f"cor_{random.name}", np.eye(len(sd)))
            G = cor * np.outer(sd, sd)
            covariance += (random.Z @ G @ random.Z.T) * (index[:, None] == index)
        else:
            mean = mean + (random.Z * values[f"u_{random.name}"][index]).sum(axis=1)
    if design.sampling_sd is not None:
        sigma = design.sampling_sd
    elif "sigma" in design.predictors:
        p = design.predictors["sigma"]
        log_sigma = p.X @ values["beta_sigma"]
        for random in p.random:
            log_sigma = log_sigma + values[f"u_sigma_{random.name}"][random.groups.index, 0]
        sigma = np.exp(log_sigma)
    else:
        sigma = np.broadcast_to(values["sigma"], len(mean))
    return mean, covariance, sigma


def _log_prior(model, layout, x, values):
    total = sum(log_prior(x[i], e.numbers)[2] for i, e in enumerate(layout.encoded.values()))
    for key, e in layout.effects.items():
        for block, at in layout.blocks[key]:
            n = len(block)
            L = np.zeros((n, n))
            total += lkj.forward(x[at : at + n * (n - 1) // 2], n, layout.etas[key], L)
        if e.at < 0:
            continue
        own = x[e.at : e.at + len(e.random.groups.labels) * e.random.size]
        if e.carries:
            sd, w = values[f"sd{key}"], np.array(e.weights)
            correlation = values.get(f"cor{key}", np.eye(len(sd)))
            normal = stats.multivariate_normal(cov=correlation * np.outer(sd, sd))
            slope = (
                sd * (sd / e.units) ** -w * (w + (1 - w) * np.diag(np.linalg.cholesky(correlation)))
            )
            total += normal.logpdf(values[f"u{key}"]).sum()
            total += len(e.random.groups.labels) * np.log(slope).sum()
        else:
            total += stats.norm.logpdf(own).sum()
    return total


def test_density_is_the_dense_normal_ones(model):
    density = model._density
    layout = density.recover.layout
    y = model.design.family.working(model.design.y)
    found, expected = [], []
    for x in _points(density, 4):
        recovered = density.recover(x[None], np.random.default_rng(1))
        values = {name: v[0] for name, v in recovered.items()}
        mean, covariance, sigma = _parts(model, values)
        dense = stats.multivariate_normal(mean, covariance + np.diag(sigma**2)).logpdf(y)
        point = layout.origin + layout.unit * x
        expected.append(dense + _log_prior(model, layout, point, values))
        found.append(density(x)[0])
    np.testing.assert_allclose(np.diff(found), np.diff(expected), rtol=1e-9, atol=1e-7)


def test_gradient_is_the_slope_of_the_density(model):
    density = model._density
    x = _points(density, 1)[0]
    gradient = density(x)[1]
    steps = 1e-5 * np.eye(len(x))
    # Richardson's extrapolation of central differences leaves an error of order 1e-20 x d5.
    near = np.array([density(x + s)[0] - density(x - s)[0] for s in steps]) / 2e-5
    far = np.array([density(x + 2 * s)[0] - density(x - 2 * s)[0] for s in steps]) / 4e-5
    numerical = (4 * near - far) / 3
    np.testing.assert_allclose(gradient, numerical, rtol=1e-6, atol=1e-5)


def test_effects_are_drawn_from_their_conditional_posterior(model):
    """Many draws given the same parameters, against the dense conditional normal."""
    if not model.integrated:
        assert not model.design.groups
        return
    density = model._density
    x = _points(density, 1, spread=0.3)
    draws = 20_000
    recovered = density.recover(np.repeat(x, draws, axis=0), np.random.default_rng(2))
    values = {name: v[0] for name, v in recovered.items()}
    mean, covariance, sigma = _parts(model, values)
    y = model.design.family.working(model.design.y)
    found, blocks, priors = [], [], []
    for random in model.design.predictors["mu"].random:
        if random.name not in model.integrated:
            continue
        groups = len(random.groups.labels)
        Z = np.zeros((len(y), groups, random.size))
        Z[np.arange(len(y)), random.groups.index] = random.Z
        sd = values[f"sd_{random.name}"]
        G = values.get(f"cor_{random.name}", np.eye(len(sd))) * np.outer(sd, sd)
        found.append(recovered[f"u_{random.name}"].reshape(draws, -1))
        blocks.append(Z.reshape(len(y), -1))
        priors.append(np.kron(np.eye(groups), G))
    Z, G = np.hstack(blocks), _block_diagonal(priors)
    gain = G @ Z.T @ np.linalg.inv(covariance + np.diag(sigma**2))
    u = np.hstack(found)
    expected, spread = gain @ (y - mean), G - gain @ Z @ G
    sd = np.sqrt(np.diag(spread))
    # Five Monte Carlo standard errors: of a mean, and of a covariance (at most sqrt(2) sd sd / n).
    assert (np.abs(u.mean(axis=0) - expected) < 5 * sd / np.sqrt(draws)).all()
    off = np.abs(np.cov(u.T) - spread) / np.outer(sd, sd)
    assert off.max() < 5 * np.sqrt(2 / draws)


def _block_diagonal(blocks):
    size = sum(len(b) for b in blocks)
    whole, at = np.zeros((size, size)), 0
    for b in blocks:
        whole[at : at + len(b), at : at + len(b)] = b
        at += len(b)
    return whole


def test_what_is_integrated_out_follows_the_groupings():
    names = {name: make().integrated for name, make in MODELS.items()}
    assert names["slopes"] == ("Subject",)
    assert names["two_levels"] == ("batch:cask", "batch")
    assert names["three_levels"] == ("student", "klass", "school")
    # The raters cross the students; the arms do, too.
    assert names["crossed"] == ("student", "klass")
    assert names["no_groups"] == ()
    assert "integrated out: student, klass, school" in str(MODELS["three_levels"]())
    counts = bm.Model("y ~ 1 + (1 | subject)", LOAD("epil"), family="poisson")
    assert counts.integrated == ()


def test_asking_for_the_impossible_is_refused():
    with pytest.raises(bm.BayesmixedError, match="not for family poisson with link log"):
        bm.Model("y ~ 1 + (1 | subject)", LOAD("epil"), family="poisson", marginalize=True)
    with pytest.raises(bm.BayesmixedError, match="without random effects"):
        bm.Model("Reaction ~ Days", LOAD("sleepstudy"), marginalize=True)
    with pytest.raises(bm.BayesmixedError, match="True or False"):
        bm.Model("Reaction ~ Days", LOAD("sleepstudy"), marginalize="yes")
