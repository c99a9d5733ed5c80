"""Areas that are partly like their neighbours, with the share learnt (Riebler et al. 2016)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytensor
import pytest
from scipy import stats

import bayesmixed as bm
from bayesmixed.graph import interpreted
from bayesmixed.linpred import linear_predictor
from bayesmixed.reports._prior_density import log_priors
from tests import made

MAP = {
    "a": ["b", "c"],
    "b": ["a", "c", "d"],
    "c": ["a", "b", "e"],
    "d": ["b", "e"],
    "e": ["c", "d"],
    "f": ["g"],
    "g": ["f"],
    "h": [],
}
SEEN = ["a", "b", "d", "e", "f", "g", "h"]


def _model(areas: list[str] = SEEN, **given) -> bm.Model:
    data = pd.DataFrame({"area": areas * 2, "cases": np.arange(2.0 * len(areas)) % 5})
    return bm.Model(
        "cases ~ 1 + (1 | area)",
        data,
        family="poisson",
        covariances={"area": bm.bym2(MAP)},
        **given,
    )


def test_maps_are_scaled_to_a_generalised_variance_of_one() -> None:
    """Closed forms: a ring's areas are alike; a path of three has the pseudo-inverse by hand."""
    ring = bm.bym2({i: [(i - 1) % 9, (i + 1) % 9] for i in range(9)}).matrix
    np.testing.assert_allclose(np.diag(ring), 1, rtol=1e-10)
    apart = np.abs(np.subtract.outer(np.arange(9), np.arange(9)))
    lag = np.minimum(apart, 9 - apart)
    # Of the ring's Laplacian: (n^2 - 1)/(12 n) - lag (n - lag)/(2 n).
    inverse = (81 - 1) / (12 * 9) - lag * (9 - lag) / (2 * 9)
    np.testing.assert_allclose(ring, inverse / inverse[0, 0], atol=1e-10)
    path = bm.bym2({"w": ["m"], "m": ["w", "e"], "e": ["m"]})
    assert path.labels == ("w", "m", "e")
    np.testing.assert_allclose(np.diag(path.matrix), np.array([5, 2, 5]) / 50 ** (1 / 3))


@pytest.mark.parametrize("phi", [0.02, 0.5, 0.97])
def test_effects_have_the_mixed_covariance(phi: float) -> None:
    """They are linear in independent standard normals: A with A A' the dense covariance."""
    model = _model()
    graph = model.pymc
    u, z = graph["u_area"], graph["z_area"]
    given = {graph["sd_area"]: np.array([1.7]), graph["phi_area"]: np.array(phi)}
    with interpreted() as mode:
        f = pytensor.function([z], u, givens=given, mode=mode, on_unused_input="ignore")
        A = np.column_stack([f(e[:, None])[:, 0] for e in np.eye(len(SEEN))])
    order = [SEEN.index(label) for label in graph.coords["area"]]
    K = bm.neighbours(MAP).loc[SEEN, SEEN].to_numpy()[np.ix_(order, order)]
    dense = 1.7**2 * ((1 - phi) * np.eye(len(SEEN)) + phi * K)
    np.testing.assert_allclose(A @ A.T, dense, atol=1e-10)


def test_the_share_has_a_flat_prior_unless_given() -> None:
    model = _model()
    assert list(model.priors.index) == ["Intercept", "sd_area", "phi_area"]
    assert model.priors.loc["phi_area", "prior"] == "Uniform(lower=0, upper=1)"
    own = _model(priors={"phi_area": bm.Prior("Beta", alpha=0.5, beta=0.5)})
    assert own.priors.loc["phi_area", "source"] == "yours"
    with pytest.raises(bm.BayesmixedError, match="phi_area"):
        _model(priors={"phi_area": bm.Prior("Normal", mu=0, sigma=1)})


def test_the_prior_of_the_share_counts() -> None:
    """SciPy's density of it in every draw, among all priors that the model has."""
    model = _model(priors={"phi_area": bm.Prior("Beta", alpha=2, beta=0.5)})
    fit = made.from_priors(model, 5)
    found = dict(log_priors(fit))
    assert set(found) == set(model.priors.index)
    expected = stats.beta.logpdf(fit.posterior["phi_area"], 2, 0.5)
    np.testing.assert_allclose(found["phi_area"], expected, rtol=1e-9)


def test_areas_without_data_follow_from_their_neighbours() -> None:
    """Against the dense conditional normal; an island and the variance of an average area too."""
    fit = made.from_priors(_model(), 2)
    found = linear_predictor(fit, fit.design.unobserved(pd.DataFrame({"area": ["c", "h"]})))
    labels = fit.posterior["area"].to_numpy().tolist()
    K = bm.neighbours(MAP).loc[[*labels, "c"], [*labels, "c"]].to_numpy()
    for draw in (0, 1):
        one = fit.posterior.isel(chain=1, draw=draw)
        phi, sd = float(one["phi_area"]), float(one["sd_area"].squeeze())
        C = (1 - phi) * np.eye(len(K)) + phi * K
        weights = np.linalg.solve(C[:-1, :-1], C[:-1, -1])
        mean = float(one["beta"].squeeze()) + weights @ one["u_area"].to_numpy()[:, 0]
        assert found.centre["mu"][1, draw, 0] == pytest.approx(mean)
        left = sd**2 * (C[-1, -1] - C[-1, :-1] @ weights)
        assert found.variance["mu"][1, draw, 0] == pytest.approx(left)
        assert found.variance["mu"][1, draw, 1] == 0
    components = bm.variance_components(fit).draws["area.variance"].to_numpy()
    phi = fit.posterior["phi_area"].to_numpy()
    average = 1 - phi + phi * np.diag(K)[:-1].mean()
    # The level's; that of an area with variance 1 stands beside it.
    np.testing.assert_allclose(
        components, fit.posterior["sd_area"].to_numpy()[..., 0] ** 2 * average
    )


def test_a_fit_with_a_learnt_share_is_kept(tmp_path) -> None:
    fit = made.from_priors(_model(), 3)
    assert set(fit.posterior) == {"beta", "sd_area", "phi_area", "u_area"}
    again = bm.load(fit.save(tmp_path / "fit.nc"))
    assert again.spec.covariances["area"].mixed
    assert again.spec.covariances == fit.spec.covariances
    drawn = bm.posterior_predictive(again, seed=1, groups="new")
    assert np.isfinite(drawn.tree["posterior_predictive"]["y"]).all()


def test_an_independent_part_of_single_rows_is_refused_beside_a_residual() -> None:
    data = pd.DataFrame({"area": SEEN, "y": np.arange(7.0)})
    given = {"covariances": {"area": bm.bym2(MAP)}}
    with pytest.raises(bm.BayesmixedError, match="own group"):
        bm.Model("y ~ 1 + (1 | area)", data, **given)
    bm.Model("y ~ 1 + (1 | area)", data, family="poisson", **given)
