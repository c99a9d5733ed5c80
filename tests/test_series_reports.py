"""Design effects and reliabilities where residuals are correlated, against closed forms."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made import at, from_priors

import bayesmixed as bm

PHI, SIGMA = 0.6, 1.7


def _frame(people=8, visits=4):
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {"id": np.repeat(np.arange(people), visits), "visit": np.tile(np.arange(visits), people)}
    )
    frame["site"], frame["x"] = frame["id"] % 3, rng.normal(size=len(frame))
    frame["y"] = rng.normal(size=len(frame))
    return frame


def _effect(fit, **more):
    return bm.design_effect(fit, **more).table["mean"]


def test_design_effect_of_ar1_is_the_textbooks():
    """1 + 2 sum (1 - k/n) phi^k; the effective size is that of the whole sample."""
    frame = _frame()
    model = bm.Model("y ~ x", frame, residual=bm.AR1(time="visit", within="id"))
    fit = at(model, phi=PHI, sigma=SIGMA)
    k = np.arange(1, 4)
    expected = 1 + 2 * ((1 - k / 4) * PHI**k).sum()
    for more in ({}, {"level": "id"}):
        found = _effect(fit, **more)
        assert found["design_effect"] == pytest.approx(expected)
        assert found["se_inflation"] == pytest.approx(expected**0.5)
        assert found["effective_sample_size"] == pytest.approx(32 / expected)
    # It is that of a mean: its variance over what independent rows would give, by simulation.
    drawn = bm.posterior_predictive(from_priors_times(fit, 4000), seed=1)
    y = drawn.tree["posterior_predictive"]["y"].to_numpy()[0]
    ratio = y.mean(axis=1).var() / (SIGMA**2 / 32)
    # A variance of n draws has a relative error of sqrt(2 / n).
    assert ratio == pytest.approx(expected, rel=4 * (2 / 4000) ** 0.5)


def from_priors_times(fit, draws):
    """The one draw of a fit, many times."""
    tree = fit.tree.copy()
    for name in ("posterior", "sample_stats"):
        many = fit.tree[name].to_dataset().isel(draw=np.zeros(draws, int))
        tree[name] = many.assign_coords(draw=np.arange(draws))
    return type(fit)(fit.design, tree)


def test_compound_symmetry_is_a_random_intercept():
    frame, sd, sigma = _frame().sample(frac=0.8, random_state=1), 0.9, 1.2
    total = sd**2 + sigma**2
    effects = at(bm.Model("y ~ x + (1 | id)", frame), sd_id=sd, sigma=sigma)
    structure = bm.CompoundSymmetry(time="visit", within="id")
    symmetric = at(
        bm.Model("y ~ x", frame, residual=structure), rho=sd**2 / total, sigma=total**0.5
    )
    one, other = (_effect(f, level="id")["design_effect"] for f in (effects, symmetric))
    assert one == pytest.approx(other)
    # So it is for how much the rows of a site, with several people, tell of it.
    beside = bm.Model("y ~ x + (1 | site) + (1 | id)", frame)
    nested = at(beside, sd_site=0.7, sd_id=sd, sigma=sigma)
    model = bm.Model("y ~ x + (1 | site)", frame, residual=structure)
    correlated = at(model, sd_site=0.7, rho=sd**2 / total, sigma=total**0.5)
    tables = [bm.shrinkage(f, "site").table["reliability"] for f in (nested, correlated)]
    np.testing.assert_allclose(*tables, rtol=1e-9)
    assert tables[0].between(0.1, 0.9).all()


def test_against_dense_matrices():
    """Slopes, sites around the people, visits with sds of their own, rows in no order."""
    frame = _frame().sample(frac=0.8, random_state=3)
    structure = bm.AR1(time="visit", within="id", heterogeneous=True)
    model = bm.Model("y ~ x + (1 + x | id) + (1 | site)", frame, residual=structure)
    fit = from_priors(model, 5)
    table = {level: bm.design_effect(fit, level=level).draws for level in (None, "id", "site")}
    people, sites = bm.shrinkage(fit, "id"), bm.shrinkage(fit, "site")
    slopes = bm.shrinkage(fit, "id", "x")
    same = {n: np.equal.outer(*[frame[n].to_numpy()] * 2) for n in ("id", "site")}
    Z = np.column_stack([np.ones(len(frame)), frame["x"]])
    lag = abs(np.subtract.outer(*[frame["visit"].to_numpy()] * 2))
    for c, d in ((0, 0), (1, 4)):
        draw = fit.posterior.isel(chain=c, draw=d)
        sd = draw["sd_id"].to_numpy()
        G = sd[:, None] * draw["cor_id"].to_numpy() * sd
        own = draw["sigma"].to_numpy()[frame["visit"]]
        R = same["id"] * own[:, None] * float(draw["phi"]) ** lag * own
        inner = R + same["id"] * (Z @ G @ Z.T)
        V = inner + same["site"] * draw["sd_site"].item() ** 2
        for level, mask in ((None, 1.0), ("id", same["id"]), ("site", same["site"])):
            found = float(table[level]["design_effect"][c, d])
            assert found == pytest.approx((V * mask).sum() / np.trace(V), rel=1e-9)
        person, site = frame["id"].iloc[0], frame["site"].iloc[0]
        mine = (frame["id"] == person).to_numpy()
        M = Z[mine].T @ np.linalg.solve(R[np.ix_(mine, mine)], Z[mine])
        left = np.linalg.inv(np.linalg.inv(G) + M)
        a = Z[mine].mean(axis=0)
        for report, v in ((people, a), (slopes, np.array([0.0, 1.0]))):
            found = float(report.draws["reliability"].sel(id=person)[c, d])
            assert found == pytest.approx(1 - v @ left @ v / (v @ G @ v), rel=1e-7)
        mine = (frame["site"] == site).to_numpy()
        told = np.linalg.solve(inner[np.ix_(mine, mine)], np.ones(mine.sum())).sum()
        share = 1 - 1 / (1 + draw["sd_site"].item() ** 2 * told)
        assert float(sites.draws["reliability"].sel(site=site)[c, d]) == pytest.approx(
            share, rel=1e-7
        )


def test_clusters_that_cut_series_are_refused():
    frame = _frame()
    structure = bm.AR1(time="visit", within="id")
    fit = from_priors(bm.Model("y ~ x + (1 | visit)", frame, residual=structure), 3)
    with pytest.raises(bm.BayesmixedError, match='Use level="id"'):
        bm.design_effect(fit, "visit")
    with pytest.raises(bm.BayesmixedError, match="leave out cluster_size"):
        bm.design_effect(fit, "id", cluster_size=10)
    with pytest.raises(bm.BayesmixedError, match="There is no grouping or series 'ids'"):
        bm.design_effect(fit, "ids")
    report = bm.shrinkage(fit, "visit")
    assert report.table["reliability"].isna().all()
    assert any("reliability is left out" in c for c in report.caveats)


def test_correlations_of_each_arm_have_a_picture_of_their_own():
    data = bm.datasets.load("antidepressant")
    visits = bm.Unstructured(time="week", within="patient", by="arm")
    report = bm.residual_correlation(
        from_priors(bm.Model("change ~ factor(week) * arm", data, residual=visits), 20)
    )
    assert list(report.pictures)[:2] == ["matrix placebo", "matrix drug"]
    table = report.table.xs("drug", level="arm")
    ax = report.plot("matrix drug")
    shown = np.asarray(ax.images[0].get_array())
    assert shown[0, 1] == pytest.approx(table.loc[(1, 2), "observed"])
    assert shown[1, 0] == pytest.approx(table.loc[(1, 2), "mean"])
    # Nothing of the picture is cut off at the left.
    figure = ax.get_figure(root=True)
    figure.canvas.draw()
    assert ax.get_tightbbox(figure.canvas.get_renderer()).x0 >= 0
    plt.close(figure)
