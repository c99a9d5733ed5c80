"""Programs: the same density and the same variables as the PyMC model that they evaluate."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bayesmixed as bm
from bayesmixed.graph import interpreted
from bayesmixed.names import effect_names, public_names

LOAD = bm.datasets.load


def _crossed():
    rng = np.random.default_rng(3)
    n = 120
    data = pd.DataFrame(
        {
            "student": rng.integers(0, 15, n),
            "lecturer": rng.integers(0, 6, n),
            "x": rng.normal(size=n),
            "arm": rng.choice(["a", "b"], n),
        }
    )
    data["y"] = data["x"] + data["student"] / 10 + data["lecturer"] / 5 + rng.normal(size=n)
    return data


def _normal(formula, data, **kwargs):
    return bm.Model(formula, data, marginalize=False, **kwargs)


# Between them they use every construct of a program; effects are sampled.
MODELS = {
    "correlated": lambda: _normal("Reaction ~ Days + (Days | Subject)", LOAD("sleepstudy")),
    "standardised": lambda: _normal(
        "Reaction ~ Days + (Days | Subject)", LOAD("sleepstudy"), centered=[]
    ),
    "centred": lambda: _normal(
        "Reaction ~ Days + (Days | Subject)", LOAD("sleepstudy"), centered=["Subject"]
    ),
    "uncorrelated": lambda: _normal("Reaction ~ Days + (Days || Subject)", LOAD("sleepstudy")),
    "raw_intercept": lambda: _normal(
        "Reaction ~ Days + (1 | Subject)", LOAD("sleepstudy"), center=False
    ),
    "no_intercept": lambda: _normal("distance ~ 0 + Sex + Sex:age", LOAD("orthodont")),
    "nested": lambda: _normal("strength ~ 1 + (1 | batch/cask)", LOAD("pastes")),
    "nested_centred": lambda: _normal(
        "strength ~ 1 + (1 | batch/cask)", LOAD("pastes"), centered=["batch", "batch:cask"]
    ),
    "two_blocks": lambda: _normal(
        "distance ~ age + (1 + age | Subject) + (0 + I(age**2) | Subject)", LOAD("orthodont")
    ),
    "priors": lambda: _normal(
        "distance ~ age + Sex + (age | Subject)",
        LOAD("orthodont"),
        priors={
            "beta[age]": bm.Prior("Cauchy", alpha=0, beta=1),
            "sd_Subject[age]": bm.Prior("Uniform", lower=0, upper=3),
            "sigma": bm.Prior("Gamma", alpha=2, beta=0.5),
        },
    ),
    "crossed": lambda: _normal("y ~ x + arm + (x | student) + (1 | lecturer)", _crossed()),
    "modelled_sigma": lambda: _normal(
        "Reaction ~ Days + (1 | Subject)",
        LOAD("sleepstudy"),
        parameters={"sigma": "~ Days + (1 | Subject)"},
    ),
    "known_sd": lambda: _normal(
        "yi ~ 1 + (1 | district/school)", LOAD("konstantopoulos2011"), sampling_sd="sqrt(vi)"
    ),
    "lognormal": lambda: _normal(
        "Reaction ~ Days + (1 | Subject)", LOAD("sleepstudy"), family="lognormal"
    ),
    "nested_slopes": lambda: _normal(
        "weight ~ age",
        LOAD("respiratory").assign(weight=lambda d: d["age"] * d["visit"] + d["id"] % 7),
        hierarchy=bm.Hierarchy({"center": "1 + visit", "id": "1 + visit"}),
        centered=["center", "id"],
    ),
    "nested_partly": lambda: _normal(
        "weight ~ age",
        LOAD("respiratory").assign(weight=lambda d: d["age"] * d["visit"] + d["id"] % 7),
        hierarchy=bm.Hierarchy({"center": "1 + visit", "id": "1 + visit"}),
        centered={"center": 0.3, "id": 0.8},
    ),
    "bernoulli": lambda: bm.Model(
        "died ~ age80 + factor(type) + (1 | provnum)", LOAD("medpar"), family="bernoulli"
    ),
    "probit": lambda: bm.Model(
        "died ~ age80 + (1 | provnum)", LOAD("medpar"), family="bernoulli", link="probit"
    ),
    "binomial": lambda: bm.Model(
        "incidence | trials(size) ~ period + (1 | herd)", LOAD("cbpp"), family="binomial"
    ),
    "cloglog": lambda: bm.Model(
        "incidence | trials(size) ~ period + (1 | herd)",
        LOAD("cbpp"),
        family="binomial",
        link="cloglog",
    ),
    "poisson": lambda: bm.Model(
        "deaths ~ 1 + offset(log(exposure)) + (1 | hospital)",
        LOAD("hearttransplants"),
        family="poisson",
    ),
    "negative_binomial": lambda: bm.Model(
        "y ~ trt + period + (period | subject)", LOAD("epil"), family="negative_binomial"
    ),
    "modelled_alpha": lambda: bm.Model(
        "y ~ trt + (1 | subject)",
        LOAD("epil"),
        family="negative_binomial",
        parameters={"alpha": "~ trt"},
    ),
}


def _series(structure, formula="distance ~ age * Sex + week", **kwargs):
    """Series of correlated residuals, unsorted and with rows missing."""
    rng = np.random.default_rng(4)
    data = LOAD("orthodont").sample(frac=0.85, random_state=2)
    data["week"] = 52 * data["age"] + rng.integers(0, 9, len(data))
    data["east"] = rng.normal(size=len(data))
    if isinstance(structure, bm.Product):
        data["other"] = data["distance"] * 0.5 + rng.normal(size=len(data))
        keys = ["Subject", "age"]
        data = data.melt(keys, ["distance", "other"], var_name="outcome").iloc[3:]
    return _normal(formula, data, residual=structure, **kwargs)


def _of(structure, time="age", **kwargs):
    return lambda: _series(structure(time=time, within="Subject", **kwargs))


def _pooled(structure, formula, **kwargs):
    """A trial, in which many patients are measured alike."""
    data = LOAD("antidepressant").sample(frac=0.97, random_state=2)
    return _normal(formula, data, residual=structure(time="week", within="patient", **kwargs))


MODELS |= {
    "pooled_trial": lambda: _pooled(
        bm.Unstructured, "change ~ 0 + baseline * factor(week) + factor(week) * arm"
    ),
    "pooled_steps": lambda: _pooled(
        bm.Antedependence, "change ~ arm * week + offset(0.1 * baseline)", by="arm"
    ),
    "independent": _of(bm.Independent, heterogeneous=True),
    "compound_symmetry": _of(bm.CompoundSymmetry),
    "ar1_by_arm": _of(bm.AR1, by="Sex"),
    "continuous_ar1": _of(bm.ContinuousAR1, "week"),
    "arma": _of(bm.ARMA11),
    "toeplitz": _of(bm.Toeplitz),
    "toeplitz_by_arm": _of(bm.Toeplitz, by="Sex", heterogeneous=True),
    "bands": _of(bm.Toeplitz, bands=3),
    "one_band": _of(bm.Toeplitz, bands=1),
    "antedependence": _of(bm.Antedependence, heterogeneous=True),
    "unstructured": _of(bm.Unstructured),
    "unstructured_by_arm": _of(bm.Unstructured, by="Sex"),
    "exponential": _of(bm.Exponential, "week"),
    "nugget": _of(bm.Exponential, "week", nugget=True),
    "squared_exponential": _of(bm.SquaredExponential, "week"),
    "matern": _of(bm.Matern, "week", nugget=True),
    "smoother_matern_in_space": _of(bm.Matern, ("week", "east"), smoothness=2.5),
    "product": lambda: _series(
        bm.Product(bm.Unstructured(time="outcome"), bm.AR1(time="age"), within="Subject"),
        "value ~ outcome * age",
    ),
    "sampled_beside_a_series": lambda: _series(
        bm.AR1(time="age", within="Subject"),
        "distance ~ age * Sex + (age | Subject)",
        centered=["Subject"],
        parameters={"sigma": "~ Sex"},
    ),
    "priors_beside_a_series": lambda: _series(
        bm.Unstructured(time="age", within="Subject", heterogeneous=False),
        priors={
            "beta[age]": bm.Prior("HalfNormal", sigma=1),
            "cor_residual": bm.Prior("LKJ", eta=5),
        },
    ),
}


@pytest.fixture(params=MODELS, scope="module")
def model(request):
    return MODELS[request.param]()


def _strip(name):
    """A free variable's name without that of its transform."""
    return re.sub(r"_(log|interval|logodds|cholesky_corr|cholesky-corr)__$", "", name)


def _to_point(model, values):
    """A program's point from PyMC's unconstrained values."""
    layout = model._density.recover.layout
    return np.linalg.solve(_units(layout), _to_numbers(model, values) - layout.origin)


def _units(layout):
    """The matrix that takes what is sampled to the point, but for the origin."""
    return layout.points(np.eye(layout.size)).T - layout.origin[:, None]


def _to_numbers(model, values):
    """PyMC's unconstrained values (or their gradient) in the order of a program's point."""
    layout = model._density.recover.layout
    bare = {_strip(name): np.asarray(value) for name, value in values.items()}
    x = np.full(layout.size, np.nan)
    for i, name in enumerate(layout.encoded):
        x[i] = _number(model, name, bare)
    for key, e in layout.effects.items():
        several = layout.blocks[key]
        for j, (_, at) in enumerate(several):
            value = bare[f"chol{key}" + (f"_{j}" if len(several) > 1 else "")]
            x[at : at + value.size] = value.ravel()
        value = bare[f"value{key}"] if e.carries else bare[f"z{key}"]
        x[e.at : e.at + value.size] = value.ravel()
    assert not np.isnan(x).any()
    return x


def _number(model, name, values):
    stem, _, inner = name.removesuffix("]").partition("[")
    if stem.startswith("Intercept"):
        tail = stem.removeprefix("Intercept")
        return values.get(f"Intercept_centered{tail}", values.get(stem))
    if stem.startswith("beta"):
        tail = stem.removeprefix("beta")
        predictor = model.design.predictors[tail[1:] or "mu"]
        at = predictor.slopes.index(inner)
        if f"slopes{tail}" in values:
            return values[f"slopes{tail}"][at]
        kinds = {t: model._priors[f"beta[{t}]"].prior.distribution for t in predictor.slopes}
        alike = [t for t, kind in kinds.items() if kind == kinds[inner]]
        (piece,) = [v for k, v in values.items() if re.fullmatch(rf"slopes_\d_{kinds[inner]}", k)]
        return piece[alike.index(inner)]
    if stem.startswith("sd_"):
        for key, e in model._density.recover.layout.effects.items():
            own = effect_names(e.tail, e.random)
            if name in own:
                if f"sd{key}" in values:
                    return values[f"sd{key}"][own.index(name)]
                piece = {"Intercept": "sd_Subject_0_HalfStudentT", "age": "sd_Subject_1_Uniform"}
                return values[piece[inner]][0]
    if name.startswith("sigma["):
        return values["sigma"][model.design.spreads.names.index(name)]
    return _of_series(model.design.series, name, values) if name not in values else values[name]


def _of_series(series, name, values):
    """A number of a structure of residual correlation."""
    matrix, _, k = name.partition("#")
    for parameter in series.parameters:
        for arm, names in enumerate(series.names(parameter)):
            if matrix in names:
                tail = f"_{arm}" if len(series.arms) > 1 else ""
                if k:
                    return values[f"chol_{parameter.name}{tail}"].ravel()[int(k)]
                value = values[f"{parameter.name}{tail}"]
                return value[names.index(name)] if value.ndim else value
    raise KeyError(name)


def _points(pymc_model, count):
    rng = np.random.default_rng(5)
    with interpreted():
        start = pymc_model.initial_point()
    return [
        {name: v + rng.uniform(-0.7, 0.7, v.shape) for name, v in start.items()}
        for _ in range(count)
    ]


def test_density_and_gradient_are_the_pymc_models(model):
    density = model._density
    points = _points(model.pymc, 3)
    with model.pymc, interpreted() as mode:
        logp = model.pymc.compile_logp(mode=mode)
        dlogp = model.pymc.compile_dlogp(mode=mode)
    names = [v.name for v in model.pymc.value_vars]
    shapes = [points[0][n].shape for n in names]
    found, expected = [], []
    for point in points:
        value, gradient = density(_to_point(model, point))
        found.append(value)
        expected.append(float(logp(point)))
        flat, parts, at = dlogp(point), {}, 0
        for name, shape in zip(names, shapes, strict=True):
            size = int(np.prod(shape, dtype=int))
            parts[name] = flat[at : at + size].reshape(shape)
            at += size
        slope = _units(density.recover.layout).T @ _to_numbers(model, parts)
        np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-9 * np.abs(slope).max())
    # Constants are dropped, so differences are compared.
    scale = np.abs(expected).max()
    np.testing.assert_allclose(np.diff(found), np.diff(expected), rtol=1e-9, atol=1e-11 * scale)


def test_recovered_variables_are_the_pymc_models(model):
    density, names = model._density, public_names(model.design)
    points = _points(model.pymc, 2)
    with model.pymc, interpreted() as mode:
        variables = model.pymc.replace_rvs_by_values([model.pymc[n] for n in names])
        evaluate = model.pymc.compile_fn(variables, mode=mode, on_unused_input="ignore")
    x = np.stack([_to_point(model, p) for p in points])
    recovered = density.recover(x, np.random.default_rng(1))
    assert list(recovered) == names
    for i, point in enumerate(points):
        for name, expected in zip(names, evaluate(point), strict=True):
            np.testing.assert_allclose(recovered[name][i], expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["pooled_trial", "pooled_steps"])
def test_few_series_stand_for_those_that_are_measured_alike(name):
    model = MODELS[name]()
    program, series = model._density.evaluate.program, model.design.series
    complete = series.counts.argmax()
    assert program.repeats[complete] <= 8 < series.counts[complete] / 5
    np.testing.assert_array_equal(program.repeats + program.further, series.counts)


def test_equal_rows_are_put_together_and_that_is_said():
    data = LOAD("medpar")
    model = bm.Model("died ~ white + (1 | provnum)", data, family="bernoulli")
    distinct = len(data[["white", "provnum"]].drop_duplicates())
    fit = model.fit(draws=50, tune=100, chains=1, seed=1, progress=False)
    assert fit.notes == (f"{len(data):,} rows -> {distinct:,} distinct ones",)
    assert fit.notes[0] in str(fit)
    # What refers to rows still has all of them.
    assert fit.with_log_likelihood().tree["log_likelihood"]["y"].shape == (1, 50, len(data))


def test_a_changed_copy_of_a_family_is_not_taken_for_the_family():
    """Its likelihood may be another: the fast ones are for the package's own values only."""
    data = LOAD("epil")
    poisson = replace(
        bm.families.poisson,
        loglik=lambda y, mu, log_mu: bm.families.poisson.loglik(y, 2 * mu, log_mu + np.log(2)),
    )
    model = bm.Model("y ~ 1", data, family=poisson)
    value = float(data["y"].mean())
    # Where 2 mu is the mean of the counts, the slope of the log-likelihood is 0; the prior's is
    # (log mean - log mean / 2) / 2.5^2.
    x = np.log([value / 2])
    assert model._density(x)[1] == pytest.approx(np.log(2) / 2.5**2, rel=1e-6)
    wide = replace(
        bm.families.gaussian,
        loglik=lambda y, mu, sigma, log_sigma: bm.families.gaussian.loglik(
            y, mu, 2 * sigma, log_sigma + np.log(2)
        ),
    )
    sleep = bm.Model("Reaction ~ Days + (Days | Subject)", LOAD("sleepstudy"), family=wide)
    assert sleep.integrated == ()
    assert not sleep.spec.is_exact
