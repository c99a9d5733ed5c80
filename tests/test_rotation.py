"""Groups with a known covariance integrated out of a normal outcome, and drawn afterwards."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

import bayesmixed as bm
from bayesmixed.graph import interpreted
from bayesmixed.integration import choose_integrated
from bayesmixed.rotation import Rotation, Sums, rotated

LABELS = [f"p{i}" for i in range(7)]


def _matrix(rank: int = 9) -> pd.DataFrame:
    root = np.random.default_rng(1).normal(size=(7, rank))
    return pd.DataFrame(root @ root.T / rank, index=LABELS, columns=LABELS)


def _table(rows: str) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    ids = {"one each": LABELS, "balanced": LABELS * 3, "unequal": [*LABELS, *LABELS[:5], "p0"]}
    table = pd.DataFrame({"id": ids[rows]})
    return table.assign(
        x=rng.normal(5, 1, len(table)), z=rng.normal(size=len(table)), y=rng.normal(size=len(table))
    ).sample(frac=1, random_state=1)


CASES = {
    "one each": ("y ~ x + (1 | id)", "one each", _matrix()),
    "balanced": ("y ~ x + (1 | id)", "balanced", _matrix()),
    "unequal": ("y ~ x + (1 | id)", "unequal", _matrix()),
    "singular": ("y ~ x + (1 | id)", "unequal", _matrix(4)),
    "slopes": ("y ~ x + (0 + z | id)", "unequal", _matrix()),
    "offset": ("y ~ 1 + offset(x) + (1 | id)", "unequal", _matrix()),
    "no terms": ("y ~ 0 + (1 | id)", "unequal", _matrix()),
}


def _dense(model: bm.Model, K: pd.DataFrame, sd: float, sigma: float):
    random = model.design.predictors["mu"].random[0]
    Z = (random.groups.index[:, None] == np.arange(7)) * random.Z
    G = sd**2 * K.to_numpy()
    return Z, G, Z @ G @ Z.T + sigma**2 * np.eye(len(Z))


@pytest.mark.parametrize("case", CASES)
def test_directions_have_the_density_of_the_rows(case: str) -> None:
    formula, rows, K = CASES[case]
    model = bm.Model(formula, _table(rows), covariances={"id": K})
    assert model.integrated == ("id",)
    found, predictor = Rotation.of(model.design), model.design.predictors["mu"]
    rng = np.random.default_rng(3)
    for sd, sigma in ((0.7, 1.3), (2.0, 0.2)):
        beta = rng.normal(size=len(predictor.terms))
        _, _, V = _dense(model, K, sd, sigma)
        mean = predictor.X @ beta + predictor.offset
        exact = multivariate_normal(mean, V).logpdf(model.design.y)
        variance = sd**2 * found.values + sigma**2
        off, rest = found.y - found.X @ beta, found.rest_y - found.rest_X @ beta
        total = np.log(variance).sum() + (off**2 / variance).sum() + (rest**2).sum() / sigma**2
        total += found.others * np.log(sigma**2) + len(mean) * np.log(2 * np.pi)
        assert -total / 2 == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("case", ["unequal", "singular", "slopes"])
def test_effects_are_drawn_from_their_exact_conditional(case: str) -> None:
    """Means and covariances of 40,000 draws within five Monte Carlo errors."""
    formula, rows, K = CASES[case]
    model = bm.Model(formula, _table(rows), covariances={"id": K})
    turned, predictor = Rotation.of(model.design), model.design.predictors["mu"]
    beta, count = np.ones(len(predictor.terms)), 40_000
    Z, G, V = _dense(model, K, 0.9, 0.6)
    gain = G @ Z.T @ np.linalg.inv(V)
    mean = gain @ (model.design.y - predictor.X @ beta)
    left = G - gain @ Z @ G
    u = turned.draw(
        np.broadcast_to(turned.y - turned.X @ beta, (count, 7)),
        np.full(count, 0.9),
        np.full(count, 0.6),
        np.random.default_rng(1),
    )
    sd = np.sqrt(np.diag(left))
    assert (np.abs(u.mean(axis=0) - mean) < 5 * sd / np.sqrt(count)).all()
    np.testing.assert_allclose(
        np.cov(u.T) / sd / sd[:, None], left / sd / sd[:, None], atol=5 * np.sqrt(2 / count)
    )


def test_what_is_not_diagonal_in_one_basis_is_sampled() -> None:
    data, given = _table("unequal"), {"id": _matrix()}
    data["g"] = np.arange(len(data)) % 4
    for formula, more in (
        ("y ~ x + (x | id)", {}),
        ("y ~ x + (1 | id)", {"parameters": {"sigma": "~ x"}}),
        ("g ~ x + (1 | id)", {"family": "poisson"}),
    ):
        model = bm.Model(formula, data, covariances=given, **more)
        assert rotated(model.design) is None
        assert model.integrated == ()
    plain = bm.Model("y ~ x + (1 | id)", data, covariances=given)
    assert choose_integrated(plain.design, None, False) == ()
    assert choose_integrated(plain.design, ["id"], "auto") == ()
    assert choose_integrated(plain.design, None, True) == ("id",)


BESIDE = {
    "alone": ("y ~ x + (1 | id)", ()),
    "crossed": ("y ~ x + (1 | id) + (1 + z || g)", ("g",)),
    "several, no terms": ("y ~ 0 + (1 | id) + (1 | g) + (0 + x | h)", ("g", "h")),
    "a second known matrix": ("y ~ x + (1 | id) + (1 | k)", ("k",)),
    "the same groups": ("y ~ x + (1 | id) + (1 | pe)", ()),
    "the same groups, crossed": ("y ~ x + (1 | id) + (1 | pe) + (1 | g)", ("g",)),
}


def _crossed(case: str, rows: str = "unequal") -> bm.Model:
    data = _table(rows)
    data["g"], data["h"] = np.arange(len(data)) % 4, np.arange(len(data)) % 3
    # Its labels are in another order than those of the animals.
    data["pe"] = data["id"].map({label: f"q{(3 * i) % 7}" for i, label in enumerate(LABELS)})
    covariances = {"id": _matrix()}
    if "k" in BESIDE[case][1]:
        data["k"] = [f"p{i % 5}" for i in range(len(data))]
        covariances["k"] = _matrix(11)
    return bm.Model(BESIDE[case][0], data, covariances=covariances, centered={})


def _marginal(model: bm.Model, drawn: dict[str, np.ndarray], k: int) -> float:
    """Priors and a dense normal density of the outcome, of one draw of all that is sampled."""
    predictor, sampled = model.design.predictors["mu"], []
    beta = drawn["beta"][k] if "beta" in drawn else np.zeros(0)
    mean, V = predictor.X @ beta, drawn["sigma"][k] ** 2 * np.eye(len(model.design.y))
    for random in predictor.random:
        sd, index = drawn[f"sd_{random.name}"][k], random.groups.index
        Z = (index[:, None] == np.arange(len(random.groups.labels))) * random.Z[:, :1]
        if random.name in model.integrated:
            K = np.eye(7) if random.between is None else _matrix().to_numpy()
            V = V + sd[0] ** 2 * Z @ K @ Z.T
        else:
            sampled.append(random)
            mean = mean + (random.Z * drawn[f"u_{random.name}"][k][index]).sum(axis=1)
    slopes = beta[1:] if predictor.has_intercept else beta
    point = {"sigma_log__": np.log(drawn["sigma"][k])}
    if predictor.has_intercept:
        point["slopes"] = slopes
        point["Intercept_centered"] = beta[0] + slopes @ predictor.X[:, 1:].mean(axis=0)
    for random in predictor.random:
        point[f"sd_{random.name}_log__"] = np.log(drawn[f"sd_{random.name}"][k])
    for random in sampled:
        root = np.eye(len(random.groups.labels)) if random.between is None else random.between.root
        u = drawn[f"u_{random.name}"][k] / drawn[f"sd_{random.name}"][k]
        point[f"z_{random.name}"] = np.linalg.solve(root, u)
    out = {f"z_{name}" for name in model.integrated}
    with model.pymc as graph, interpreted():
        priors = [rv for rv in graph.free_RVs if rv.name not in out]
        total = graph.compile_logp(vars=priors, jacobian=True)(graph.initial_point() | point)
    return float(total + multivariate_normal(mean, V).logpdf(model.design.y))


def _means(density, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the sums' normal density given all else is highest, minus its curvature, and where.

    The log-density is quadratic in them, so that a gradient more for each of them tells it all.
    """
    moved = np.vstack([np.zeros(density.size), np.eye(density.size)])
    drawn = density.recover(moved, np.random.default_rng(1))
    others = [v[1:] != v[:1] for name, v in drawn.items() if name not in ("u_id", "u_pe")]
    at = np.flatnonzero(~np.any([o.reshape(density.size, -1).any(axis=1) for o in others], axis=0))
    assert len(at) == 7
    zero = x.copy()
    zero[at] = 0
    slope = density(zero)[1][at]
    rows = [density(zero + np.eye(density.size)[i])[1][at] - slope for i in at]
    H = -np.array(rows)
    zero[at] = np.linalg.solve(H, slope)
    return zero, H, slope


# Each compiles a graph of its own.
_SLOW = ("crossed", "several, no terms", "a second known matrix", "the same groups")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] if c in _SLOW else []) for c in BESIDE]
)
def test_the_sampler_sees_the_marginal_posterior(case: str) -> None:
    """Against priors plus dense normal densities, up to a constant; sums integrated exactly."""
    model = _crossed(case)
    summed = "pe" in BESIDE[case][0]
    assert model.integrated == (("id", "pe") if summed else ("id",))
    density, rng = model._density, np.random.default_rng(5)
    points = density.start + 0.3 * rng.normal(size=(3, density.size))
    found = []
    for k, x in enumerate(points):
        if summed:
            points[k], H, _ = _means(density, x)
            found.append(density(points[k])[0] - np.linalg.slogdet(H)[1] / 2)
        else:
            found.append(density(x)[0])
    drawn = density.recover(points, rng)
    assert drawn["u_id"].shape == (3, 7, 1)
    exact = [_marginal(model, drawn, k) for k in range(3)]
    found = np.array(found)
    np.testing.assert_allclose(found - found[0], np.array(exact) - exact[0], rtol=1e-8, atol=1e-8)
    step, at = 1e-6, points[1] + 0.1
    slope = [
        (density(at + step * e)[0] - density(at - step * e)[0]) / (2 * step)
        for e in np.eye(density.size)
    ]
    np.testing.assert_allclose(density(at)[1], slope, rtol=1e-5, atol=1e-5)


class _Zeros:
    """In the place of random numbers, zeros."""

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape)


@pytest.mark.parametrize(
    "case", [pytest.param("crossed", marks=pytest.mark.slow), "the same groups, crossed"]
)
def test_effects_beside_others_have_their_conditional_means(case: str) -> None:
    """Of both kinds of effects, at the sums' conditional mean; against dense normals (BLUP)."""
    model = _crossed(case)
    density = model._density
    x = density.start + 0.3 * np.random.default_rng(6).normal(size=density.size)
    summed = len(model.integrated) > 1
    if summed:
        x, *_ = _means(density, x)
    drawn = {n: v[0] for n, v in density.recover(x[None], _Zeros()).items()}
    predictor = model.design.predictors["mu"]
    off, V, cross = model.design.y - predictor.X @ drawn["beta"], drawn["sigma"] ** 2, {}
    V = V * np.eye(len(off))
    for random in predictor.random:
        index, sd = random.groups.index, drawn[f"sd_{random.name}"]
        if random.name not in model.integrated:
            off = off - (random.Z * drawn[f"u_{random.name}"][index]).sum(axis=1)
            continue
        Z = (index[:, None] == np.arange(7)) * random.Z
        K = np.eye(7) if random.between is None else _matrix().to_numpy()
        cross[random.name] = sd[0] ** 2 * K @ Z.T
        V = V + Z @ cross[random.name]
    for name, G in cross.items():
        np.testing.assert_allclose(drawn[f"u_{name}"][:, 0], G @ np.linalg.solve(V, off), atol=1e-8)


def test_sums_are_divided_as_their_parts_are_normal_given_them() -> None:
    """The covariance of draws, one unit vector of random numbers after the other."""
    model = _crossed("the same groups")
    sums = Sums.of(model.design)

    class Units:
        def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray:
            return np.eye(*shape)

    own, other = sums.divide(np.zeros((7, 7)), np.full(7, 1.3), np.full(7, 0.6), Units())
    G, T = 1.69 * _matrix().to_numpy(), 1.69 * _matrix().to_numpy() + 0.36 * np.eye(7)
    np.testing.assert_allclose(own.T @ own, G - G @ np.linalg.solve(T, G), atol=1e-10)
    np.testing.assert_allclose(other[:, sums.place], -own, atol=1e-12)


def test_sums_of_groups_of_one_size_are_standard_normal() -> None:
    """Given all else, at any parameters: the sampler meets nothing that depends on these."""
    model = _crossed("the same groups, crossed", "balanced")
    density = model._density
    for seed in (7, 8):
        x = density.start + 0.5 * np.random.default_rng(seed).normal(size=density.size)
        _, H, slope = _means(density, x)
        np.testing.assert_allclose(H, np.eye(7), atol=1e-8)
        np.testing.assert_allclose(slope, 0, atol=1e-8)


def _animals() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Records of 400 animals of overlapping generations, in 15 herds, and their pedigree."""
    rng, ids = np.random.default_rng(1), [f"a{i}" for i in range(400)]
    parents = [
        (f"a{rng.integers(0, i - 20)}", f"a{5 * rng.integers(0, i // 6)}") for i in range(50, 400)
    ]
    parents = [(None, None)] * 50 + [(m, f if f != m else "a1") for m, f in parents]
    pedigree = pd.DataFrame(parents, columns=["mother", "father"]).assign(id=ids)
    K = bm.kinship(pedigree).loc[ids, ids].to_numpy()
    who = np.repeat(np.arange(400), 1 + rng.poisson(3, 400))
    herd, x = rng.integers(0, 15, len(who)), rng.normal(size=len(who))
    effects = np.linalg.cholesky(K) @ rng.normal(size=400) + 0.8 * rng.normal(size=400)
    y = 5 + 0.5 * x + effects[who] + 0.6 * rng.normal(size=15)[herd] + rng.normal(size=len(who))
    data = pd.DataFrame({"y": y, "x": x, "animal": np.array(ids)[who], "herd": herd})
    return data.assign(pe=data["animal"]), pedigree


def _reml(data: pd.DataFrame, pedigree: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """REML by Henderson's mixed-model equations, the inverse of A by his rules.

    Logarithms of the sds (animal, pe, herd, sigma), their standard errors, and the coefficients.
    """
    place = {name: i for i, name in enumerate(pedigree["id"])}
    inverse = np.zeros((len(place), len(place)))
    inbreeding = np.diag(bm.kinship(pedigree).loc[list(place), list(place)]) - 1
    for row in pedigree.itertuples():
        parents = [place[p] for p in (row.mother, row.father) if pd.notna(p)]
        # Mendelian sampling variance, with both parents known or neither.
        d = 0.5 - 0.25 * inbreeding[parents].sum() if parents else 1.0
        way = np.zeros(len(place))
        way[place[row.id]] = 1
        for p in parents:
            way[p] -= 0.5
        at = np.flatnonzero(way)
        inverse[np.ix_(at, at)] += np.outer(way[at], way[at]) / d
    animal = data["animal"].map(place).to_numpy()
    Z = [animal[:, None] == np.arange(400), data["herd"].to_numpy()[:, None] == np.arange(15)]
    W = np.column_stack([np.ones(len(data)), data["x"], Z[0], Z[0], Z[1]]).astype(float)
    WW, Wy, yy = W.T @ W, W.T @ data["y"].to_numpy(), float(data["y"] @ data["y"])
    blocks = [(2, inverse), (402, np.eye(400)), (802, np.eye(15))]

    def solve(log_sd: np.ndarray) -> tuple[float, np.ndarray]:
        sd = np.exp(log_sd)
        C = WW / sd[3] ** 2
        for (first, Q), s in zip(blocks, sd[:3], strict=True):
            part = slice(first, first + len(Q))
            C[part, part] += Q / s**2
        found = np.linalg.solve(C, Wy) / sd[3] ** 2
        sizes = np.array([400, 400, 15, len(data)])
        total = np.linalg.slogdet(C)[1] + 2 * sizes @ log_sd + (yy - found @ Wy) / sd[3] ** 2
        return total / 2, found[:2]

    best = minimize(lambda t: solve(t)[0], np.zeros(4), method="BFGS", options={"gtol": 1e-3}).x
    step = 0.02 * np.eye(4)
    curvature = [
        [solve(best + a + b)[0] - solve(best + a - b)[0] - solve(best - a + b)[0]
         + solve(best - a - b)[0] for a in step]
        for b in step
    ]  # fmt: skip
    errors = np.sqrt(np.diag(np.linalg.inv(np.array(curvature) / (4 * 0.02**2))))
    return best, errors, solve(best)[1]


@pytest.mark.slow
def test_an_animal_model_with_permanent_environments_and_herds_agrees_with_reml() -> None:
    """Coefficient within 0.15 sd, sds inside 80 % intervals, as uncertain as REML says (20 %)."""
    data, pedigree = _animals()
    model = bm.Model(
        "y ~ x + (1 | animal) + (1 | pe) + (1 | herd)",
        data,
        covariances={"animal": bm.kinship(pedigree)},
    )
    assert model.integrated == ("animal", "pe")
    fit = model.fit(seed=1, progress=False)
    assert fit.converged, fit.convergence.problems
    log_sd, errors, beta = _reml(data, pedigree)
    x = fit.posterior["beta"].sel(term="x")
    assert abs(float(x.mean()) - beta[1]) < 0.15 * float(x.std())
    for k, name in enumerate(("sd_animal", "sd_pe", "sd_herd", "sigma")):
        draws = np.log(fit.posterior[name].to_numpy().ravel())
        low, high = np.quantile(draws, [0.1, 0.9])
        assert low < log_sd[k] < high, name
        if name != "sd_herd":
            assert draws.std() == pytest.approx(errors[k], rel=0.2), name


def test_a_user_may_have_independent_effects_of_the_same_groups_sampled() -> None:
    data = _table("unequal").assign(pe=lambda d: d["id"])
    given = {"covariances": {"id": _matrix()}}
    formula = "y ~ x + (1 | id) + (1 | pe)"
    assert bm.Model(formula, data, centered=["pe"], **given).integrated == ("id",)
    # Slopes are no effect of the same rows.
    other = bm.Model("y ~ x + (1 | id) + (0 + z | pe)", data, **given)
    assert other.integrated == ("id",)


def test_a_large_matrix_whose_effects_are_sampled_says_what_it_costs() -> None:
    labels = [f"p{i}" for i in range(1001)]
    K = pd.DataFrame(np.eye(1001) + 0.1, index=labels, columns=labels)
    data = pd.DataFrame({"id": labels, "n": np.arange(1001) % 3})
    given = {"covariances": {"id": K}}
    model = bm.Model("n ~ 1 + (1 | id)", data, family="poisson", **given)
    assert any("1,001 groups of 'id' is a dense matrix" in note for note in model.notes)
    assert not bm.Model("n ~ 1 + (1 | id)", data, **given).notes
    twice = pd.concat([data, data.head(3)]).assign(pe=lambda d: d["id"])
    model = bm.Model("n ~ 1 + (1 | id) + (1 | pe)", twice, **given)
    assert any("sums of their effects and those of 'pe' are sampled" in n for n in model.notes)
