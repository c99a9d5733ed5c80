"""The PyMC model: readable, complete, and the same thing that the sampler sees."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from scipy import stats

import bayesmixed as bm
from bayesmixed import matmul_op
from bayesmixed.build import build_model
from bayesmixed.graph import interpreted, log_density
from bayesmixed.names import effect_names, public_names
from bayesmixed.preconditioner import preconditioner

LOAD = bm.datasets.load

# Small models that between them use every construct of the builder.
MODELS = {
    "correlated": lambda: bm.Model("Reaction ~ Days + (Days | Subject)", LOAD("sleepstudy")),
    "uncorrelated": lambda: bm.Model("Reaction ~ Days + (Days || Subject)", LOAD("sleepstudy")),
    "raw_intercept": lambda: bm.Model(
        "Reaction ~ Days + (1 | Subject)", LOAD("sleepstudy"), center=False
    ),
    "no_intercept": lambda: bm.Model("distance ~ 0 + Sex + Sex:age", LOAD("orthodont")),
    "nested": lambda: bm.Model("strength ~ 1 + (1 | batch/cask)", LOAD("pastes")),
    "two_blocks": lambda: bm.Model(
        "distance ~ age + (1 + age | Subject) + (0 + I(age**2) | Subject)", LOAD("orthodont")
    ),
    "mixed_priors": lambda: bm.Model(
        "distance ~ age * Sex + (age | Subject)",
        LOAD("orthodont"),
        priors={
            "beta[age]": bm.Prior("StudentT", nu=4, mu=0, sigma=1),
            "sd_Subject[age]": bm.Prior("Exponential", lam=2),
        },
    ),
    "modelled_sigma": lambda: bm.Model(
        "Reaction ~ Days + (1 | Subject)",
        LOAD("sleepstudy"),
        parameters={"sigma": "~ Days + (1 | Subject)"},
    ),
    "known_sd": lambda: bm.Model(
        "yi ~ 1 + (1 | district/school)", LOAD("konstantopoulos2011"), sampling_sd="sqrt(vi)"
    ),
    "binomial": lambda: bm.Model(
        "incidence | trials(size) ~ period + (1 | herd)", LOAD("cbpp"), family="binomial"
    ),
    "nested_slopes": lambda: bm.Model(
        "weight ~ age",
        LOAD("respiratory").assign(weight=lambda d: d["age"] * d["visit"] + d["id"] % 7),
        hierarchy=bm.Hierarchy({"center": "1 + visit", "id": "1 + visit"}),
        centered={"center": 1, "id": 0.4},
    ),
    "offset": lambda: bm.Model(
        "deaths ~ 1 + offset(log(exposure)) + (1 | hospital)",
        LOAD("hearttransplants"),
        family="poisson",
    ),
    "ordinal": lambda: bm.Model(
        "visit ~ age + (1 | center:id)", LOAD("respiratory"), family="ordinal"
    ),
}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


def _point(pymc_model, seed):
    """A random point on the unconstrained scale, by variable."""
    rng = np.random.default_rng(seed)
    with interpreted():
        start = pymc_model.initial_point()
    return {name: value + rng.uniform(-0.5, 0.5, value.shape) for name, value in start.items()}


def _flat(pymc_model, point):
    """The point as one vector, in the order of the graph's density."""
    return np.concatenate([np.ravel(point[v.name]) for v in pymc_model.value_vars])


def _constrained(pymc_model, names, point):
    """Values of named variables at an unconstrained point, from PyMC's own graph."""
    with interpreted() as mode:
        function = pymc_model.compile_fn(
            pymc_model.replace_rvs_by_values([pymc_model[n] for n in names]),
            inputs=pymc_model.value_vars,
            mode=mode,
            on_unused_input="ignore",
        )
        return dict(zip(names, function(point), strict=True))


def test_names_dims_and_labels(model):
    """Every public variable is in the PyMC model, with dims and coords."""
    names = public_names(model.design)
    assert set(names) <= set(model.pymc.named_vars)
    for name in names:
        dims = model.pymc.named_vars_to_dims.get(name, ())
        assert len(dims) == model.pymc[name].ndim
        assert all(dim in model.pymc.coords for dim in dims)
    for groups in model.design.groups:
        np.testing.assert_array_equal(model.pymc.coords[groups.name], groups.labels)


def test_every_prior_is_in_the_model(model):
    """The log-prior is the sum of the priors that `model.priors` lists, and of N(0, 1) effects."""
    point = _point(model.pymc, 1)
    free = {rv.name for rv in model.pymc.free_RVs}
    with model.pymc, interpreted() as mode:
        priors = model.pymc.compile_logp(vars=model.pymc.free_RVs, jacobian=False, mode=mode)(point)
        values = _constrained(model.pymc, free, point)
        expected = sum(stats.norm.logpdf(v).sum() for n, v in values.items() if n.startswith("z_"))
        expected += sum(_centred_density(n, model, point) for n in free if n.startswith("value_"))
        for name, assigned in model._priors.items():
            x, parameters = _value_of(name, values, model), dict(assigned.prior.parameters)
            if assigned.prior.distribution == "LKJ":
                variable = pm.LKJCorr.dist(n=x.shape[0], **parameters)
            else:
                variable = getattr(pm, assigned.prior.distribution).dist(**parameters)
            expected = expected + pytensor.function([], pm.logp(variable, x).sum(), mode=mode)()
    # SciPy's multivariate density goes through eigenvalues and keeps some eight digits.
    np.testing.assert_allclose(priors, expected, rtol=1e-7)


def _names(model, group):
    randoms = model.design.predictors[model.design.family.parameters[0].name].random
    return effect_names("", next(r for r in randoms if r.name == group))


def _centred_density(name, model, point):
    """Log-density of what is sampled of groups whose effects are multivariate normal about 0."""
    group = name.removeprefix("value_")
    names = [f"u_{group}", f"sd_{group}"]
    names += [f"cor_{group}"] if f"cor_{group}" in model.pymc.named_vars else []
    u, sd, *cor = _constrained(model.pymc, names, point).values()
    correlation, w = cor[0] if cor else np.eye(len(sd)), np.array(model.centered[group])
    normal = stats.multivariate_normal(np.zeros(len(sd)), correlation * np.outer(sd, sd))
    units = [model._priors[n].unit for n in _names(model, group)]
    slope = sd * (sd / units) ** -w * (w + (1 - w) * np.diag(np.linalg.cholesky(correlation)))
    return normal.logpdf(u).sum() + len(u) * np.log(slope).sum()


GROUPED = {name: make for name, make in MODELS.items() if name != "no_intercept"}


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("name", GROUPED)
def test_centred_and_non_centred_forms_are_one_model(name, share):
    """Equal joint densities at equal effects, up to the Jacobian of the standardisation."""
    given = GROUPED[name]()
    groupings = given.design.predictors[given.design.family.parameters[0].name].random
    shares = {r.name: tuple(np.linspace(share, 1, r.size)) for r in groupings}
    centred, plain = (build_model(given.design, given._priors, which) for which in (shares, {}))
    point = _point(centred, 5)
    other = {k: v for k, v in point.items() if not k.startswith("value_")}
    jacobian = 0.0
    for random in groupings:
        names = [f"u_{random.name}", f"sd_{random.name}"]
        names += [f"cor_{random.name}"] if random.is_correlated else []
        u, sd, *cor = _constrained(centred, names, point).values()
        factor = np.linalg.cholesky(cor[0]) if cor else np.eye(len(sd))
        other[f"z_{random.name}"] = np.linalg.solve(factor, (u / sd).T).T
        w = np.array(shares[random.name])
        units = [given._priors[n].unit for n in _names(given, random.name)]
        jacobian += len(u) * (w * np.log(sd / units) - np.log(w / np.diag(factor) + 1 - w)).sum()
    with interpreted() as mode:
        values = [
            float(m.compile_logp(mode=mode)(p)) for m, p in ((centred, point), (plain, other))
        ]
    np.testing.assert_allclose(values[0] + jacobian, values[1], rtol=1e-10)


def test_who_is_centred_follows_the_data():
    nested = bm.Model("strength ~ 1 + (1 | batch/cask)", LOAD("pastes"), marginalize=False)
    assert nested.centered["batch:cask"][0] > 0.9
    assert "batch:cask (97 %)" in str(nested)
    schools = bm.Model(
        "yi ~ 1 + (1 | district/school)",
        LOAD("konstantopoulos2011"),
        sampling_sd="sqrt(vi)",
        marginalize=False,
    )
    assert schools.centered.keys() == {"district", "district:school"}
    assert min(share for shares in schools.centered.values() for share in shares) > 0.7
    seizures = bm.Model("y ~ lbase * trt + (1 | subject)", LOAD("epil"), family="poisson")
    assert seizures.centered["subject"][0] > 0.7
    # A variance of exactly 0 is no reason to centre.
    batches = bm.Model("Yield ~ 1 + (1 | Batch)", LOAD("dyestuff2"), marginalize=False)
    assert batches.centered == {}
    half = bm.Model("Yield ~ 1 + (1 | Batch)", LOAD("dyestuff2"), centered={"Batch": 0.5})
    assert half.centered == {"Batch": (0.5,)}
    assert "sampled centred: Batch (50 %)" in str(half)
    assert half.integrated == ()
    with pytest.raises(bm.BayesmixedError, match="from 0"):
        bm.Model("Yield ~ 1 + (1 | Batch)", LOAD("dyestuff2"), centered={"Batch": 2})
    with pytest.raises(bm.BayesmixedError, match="Did you mean 'Subject'"):
        bm.Model("Reaction ~ 1 + (1 | Subject)", LOAD("sleepstudy"), centered=["subject"])


def _value_of(name, values, model):
    """The free variable's value that a prior of this name is for."""
    stem, _, label = name.partition("[")
    label = label[:-1]
    if stem.startswith("Intercept"):
        tail = stem.removeprefix("Intercept")
        return values.get(f"Intercept_centered{tail}", values.get(f"Intercept{tail}"))
    if stem.startswith("beta"):
        tail = stem.removeprefix("beta")
        at = list(model.pymc.coords[f"slope{tail}"]).index(label)
        return _element(f"slopes{tail}", at, values)
    if stem.startswith("sd_"):
        dims = model.pymc.named_vars_to_dims[stem]
        at = list(model.pymc.coords[dims[0]]).index(label) if label else 0
        return _element(stem, at, values)
    if stem.startswith("cor"):
        return values["chol" + stem.removeprefix("cor")]
    return values[stem] if stem in values else values[f"{stem}_centered"]


def _element(name, at, values):
    """An element of a vector that may be in pieces, one for each kind of prior."""
    if name in values:
        return values[name][at]
    # Pieces are in alphabetical order of their distributions; only "mixed_priors" has them.
    order = {
        "slopes": [("Normal", 1), ("Normal", 2), ("StudentT", 0)],
        "sd_Subject": [("Exponential", 1), ("HalfStudentT", 0)],
    }[name]
    kinds = list(dict.fromkeys(kind for kind, _ in order))
    kind = next(kind for kind, i in order if i == at)
    within = [i for k, i in order if k == kind].index(at)
    return values[f"{name}_{kinds.index(kind)}_{kind}"][within]


def test_density_of_the_sampler_is_the_models(model):
    """Compiled log-density and gradient against the interpreted graph of the PyMC model."""
    density = log_density(model.pymc, public_names(model.design))
    point = _point(model.pymc, 2)
    x = _flat(model.pymc, point)
    value, gradient = density(x)
    with model.pymc, interpreted() as mode:
        expected = model.pymc.compile_logp(mode=mode)(point)
        slope = model.pymc.compile_dlogp(mode=mode)(point)
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    np.testing.assert_allclose(gradient, slope, rtol=1e-7, atol=1e-9)


def test_recovered_variables_are_the_models(model):
    """Recovery for many draws at once against PyMC's own deterministics, draw by draw."""
    names = public_names(model.design)
    density = log_density(model.pymc, names)
    points = [_point(model.pymc, seed) for seed in range(3)]
    x = np.stack([_flat(model.pymc, point) for point in points])
    recovered = density.recover(x, np.random.default_rng(1))
    for i, point in enumerate(points):
        for name, expected in _constrained(model.pymc, names, point).items():
            np.testing.assert_allclose(recovered[name][i], expected, rtol=1e-10, atol=1e-12)


def test_coefficients_sampled_in_other_directions_are_the_same_model():
    """Density, gradient and recovery at A z are those at the coefficients themselves."""
    formula = "distance ~ age * Sex + (1 | Subject)"
    model = bm.Model(formula, LOAD("orthodont"), family="student_t")
    names, units = public_names(model.design), preconditioner(model.design, model._priors)
    plain, other = (log_density(model.pymc, names, u) for u in ({}, units))
    A = np.eye(plain.size)
    first = _flat(model.pymc, {**_point(model.pymc, 1)})
    place = {v.name: i for i, v in enumerate(model.pymc.value_vars)}["slopes"]
    at = sum(int(np.prod(s.shape)) for s in list(_point(model.pymc, 1).values())[:place])
    A[at : at + 3, at : at + 3] = units["slopes"]
    np.testing.assert_allclose(A @ other.start, plain.start, atol=1e-12)
    z = np.linalg.solve(A, first)
    (value, gradient), (expected, slope) = other(z), plain(first)
    assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(gradient, A.T @ slope, rtol=1e-9, atol=1e-9)
    rng = np.random.default_rng(1)
    for name, found in other.recover(z[None], rng).items():
        np.testing.assert_allclose(found, plain.recover(first[None], rng)[name], rtol=1e-10)
    # Uncorrelated and equally told where rows are independent.
    X = model.design.predictors["mu"].X[:, 1:]
    told = units["slopes"].T @ np.cov(X.T) @ units["slopes"]
    np.testing.assert_allclose(told, told[0, 0] * np.eye(3), atol=1e-9 * told[0, 0])


@pytest.mark.parametrize("residual", [None, bm.AR1(time="age", within="Subject")])
def test_other_data_of_another_size_compile_nothing(residual):
    """Outcome, rows, groups and priors' parameters are data of one compiled function."""
    whole = LOAD("orthodont")
    fewer = whole[whole["Subject"] != "M01"].assign(distance=lambda d: d["distance"] * 1.7)
    family = "student_t" if residual is None else "gaussian"
    formula = "distance ~ age * Sex + (1 | Subject)"
    models = [
        bm.Model(formula, d, family=family, residual=residual, marginalize=False)
        for d in (whole, fewer)
    ]
    densities = [log_density(m.pymc, public_names(m.design)) for m in models]
    assert densities[0].entry() is densities[1].entry()
    point = _point(models[1].pymc, 3)
    with models[1].pymc, interpreted() as mode:
        expected = models[1].pymc.compile_logp(mode=mode)(point)
    found, _ = densities[1](_flat(models[1].pymc, point))
    assert found == pytest.approx(expected, rel=1e-9)


def test_intercept_is_reported_on_the_raw_scale():
    model = MODELS["correlated"]()
    names = ["beta", "Intercept_centered", "slopes"]
    beta, centred, slopes = _constrained(model.pymc, names, _point(model.pymc, 4)).values()
    np.testing.assert_allclose(beta, [centred - 4.5 * slopes[0], slopes[0]])


def test_prior_predictive_follows_the_priors():
    model = MODELS["mixed_priors"]()
    draws = 2000
    prior = model.prior_predictive(draws=draws, seed=1)
    ages = prior["prior"]["beta"].sel(term="age").to_numpy().ravel()
    # Kolmogorov-Smirnov at a level of one in a thousand, the seed being fixed.
    assert stats.kstest(ages, stats.t(4).cdf).pvalue > 1e-3
    sd = prior["prior"]["sd_Subject"].sel(Subject_effect="age").to_numpy().ravel()
    assert stats.kstest(sd, stats.expon(scale=0.5).cdf).pvalue > 1e-3
    cor = prior["prior"]["cor_Subject"].to_numpy()[..., 0, 1].ravel()
    # LKJ(2) of size 2: (r + 1) / 2 is Beta(2, 2).
    assert stats.kstest((cor + 1) / 2, stats.beta(2, 2).cdf).pvalue > 1e-3
    assert prior["prior_predictive"]["y"].shape == (1, draws, 108)
    again = model.prior_predictive(draws=draws, seed=1)
    np.testing.assert_array_equal(again["prior"]["beta"], prior["prior"]["beta"])


def test_prior_thresholds_are_in_order():
    prior = MODELS["ordinal"]().prior_predictive(draws=300, seed=2)
    centred = prior["prior"]["thresholds"].to_numpy()
    assert (np.diff(centred, axis=-1) > 0).all()
    assert set(np.unique(prior["prior_predictive"]["y"])) <= {0.0, 1.0, 2.0, 3.0}


def test_flat_priors_cannot_be_drawn_from():
    model = bm.Model("Reaction ~ Days", LOAD("sleepstudy"), priors={"beta[Days]": bm.Prior("Flat")})
    with pytest.raises(bm.BayesmixedError, match=r"flat prior of beta\[Days\]"):
        model.prior_predictive()


def test_order_of_rows_and_group_labels_does_not_matter():
    data = LOAD("sleepstudy")
    shuffled = data.sample(frac=1, random_state=1).assign(
        Subject=lambda d: d["Subject"].map(lambda s: f"p{1000 - int(s)}")
    )
    formula = "Reaction ~ Days + (1 | Subject)"
    values = []
    for table in (data, shuffled):
        pymc_model = bm.Model(formula, pd.DataFrame(table)).pymc
        with interpreted() as mode:
            point = pymc_model.initial_point()
            values.append(float(pymc_model.compile_logp(mode=mode)(point)))
    np.testing.assert_allclose(values[0], values[1], rtol=1e-12)


@pytest.mark.parametrize("shapes", [((5, 3), (3, 1)), ((1, 4), (4, 6)), ((3, 3), (3, 3))])
@pytest.mark.parametrize("turned", [False, True])
def test_products_as_loops_are_products(shapes, turned):
    """Of rows one after another or columns, and in a graph that had PyTensor's own."""
    rng = np.random.default_rng(2)
    A, B = (rng.normal(size=shape) for shape in shapes)
    given = np.asfortranarray(A) if turned else A
    np.testing.assert_allclose(matmul_op._matmul(given, B), A @ B, rtol=1e-13)
    a, b = pt.dmatrix(), pt.dmatrix()
    with pytensor.config.change_flags(cxx=""):
        function = pytensor.function([a, b], a @ b, mode=matmul_op.mode())
    assert matmul_op.Matmul() in {node.op for node in function.maker.fgraph.apply_nodes}
    np.testing.assert_allclose(function(given, B), A @ B, rtol=1e-13)
