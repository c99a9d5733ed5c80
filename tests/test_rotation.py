"""Groups with a known covariance integrated out of a normal outcome, and drawn afterwards."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

import bayesmixed as bm
from bayesmixed.graph import interpreted
from bayesmixed.integration import choose_integrated
from bayesmixed.rotation import Rotation, rotated

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
        ("y ~ x + (1 | id) + (1 | g)", {}),
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


def test_the_sampler_sees_the_marginal_posterior() -> None:
    """Against prior plus dense normal density, up to a constant, in two points."""
    formula, rows, K = CASES["unequal"]
    model = bm.Model(formula, _table(rows), covariances={"id": K})
    density = model._density
    rng = np.random.default_rng(5)
    points = density.start + 0.3 * rng.normal(size=(4, density.size))
    drawn = density.recover(points, rng)
    assert drawn["u_id"].shape == (4, 7, 1)
    predictor = model.design.predictors["mu"]
    exact = []
    with model.pymc as graph, interpreted():
        prior = {
            rv.name: graph.compile_logp(vars=[rv], jacobian=True)
            for rv in graph.free_RVs
            if rv.name != "z_id"
        }
    for k in range(4):
        beta, sd, sigma = (drawn[n][k] for n in ("beta", "sd_id", "sigma"))
        _, _, V = _dense(model, K, float(sd[0]), float(sigma))
        mean = predictor.X @ beta
        centre = {
            "Intercept_centered": beta[0] + beta[1:] @ predictor.X[:, 1:].mean(axis=0),
            "slopes": beta[1:],
            "sd_id_log__": np.log(sd),
            "sigma_log__": np.log(sigma),
        }
        point = graph.initial_point() | centre
        exact.append(
            multivariate_normal(mean, V).logpdf(model.design.y)
            + sum(float(f(point)) for f in prior.values())
        )
    found = np.array([density(x)[0] for x in points])
    np.testing.assert_allclose(found - found[0], np.array(exact) - exact[0], rtol=1e-8, atol=1e-8)
    step, at = 1e-6, points[1]
    slope = [
        (density(at + step * e)[0] - density(at - step * e)[0]) / (2 * step)
        for e in np.eye(density.size)
    ]
    np.testing.assert_allclose(density(at)[1], slope, rtol=1e-5, atol=1e-6)


def test_a_large_matrix_whose_effects_are_sampled_says_what_it_costs() -> None:
    labels = [f"p{i}" for i in range(1001)]
    K = pd.DataFrame(np.eye(1001) + 0.1, index=labels, columns=labels)
    data = pd.DataFrame({"id": labels, "n": np.arange(1001) % 3})
    given = {"covariances": {"id": K}}
    model = bm.Model("n ~ 1 + (1 | id)", data, family="poisson", **given)
    assert any("1,001 groups of 'id' is a dense matrix" in note for note in model.notes)
    assert not bm.Model("n ~ 1 + (1 | id)", data, **given).notes
