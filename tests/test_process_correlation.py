"""Correlation of a process, and of the residuals that it is to account for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesmixed as bm
from bayesmixed.fit import Fit
from bayesmixed.reports._lags import by_lag, times_of
from bayesmixed.reports._row_pairs import RowPairs
from tests import made

AR1 = bm.AR1(time="t", within="person")


def _table(people: int, visits: int, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [(i, t) for i in range(people) for t in range(visits)]
    table = pd.DataFrame(rows, columns=["person", "t"])
    return table.assign(n=rng.poisson(2, len(table)), arm=np.where(table["person"] % 3, "a", "b"))


def _many(fit: Fit, count: int) -> Fit:
    """The only draw of a fit, many times."""
    posterior = fit.posterior.isel(draw=np.zeros(count, dtype=int)).assign_coords(
        draw=np.arange(count)
    )
    stats = xr.Dataset({"diverging": (("chain", "draw"), np.zeros((1, count), dtype=bool))})
    tree = xr.DataTree.from_dict({"posterior": posterior, "sample_stats": stats})
    return Fit(fit.design, tree)


def _simulated(sd: float, phi: float, beta: float, people: int = 600, visits: int = 4):
    """Counts with an AR(1) process, and a fit at given values."""
    rng = np.random.default_rng(3)
    table = _table(people, visits)
    P = phi ** np.abs(np.arange(visits)[:, None] - np.arange(visits))
    u = sd * rng.normal(size=(people, visits)) @ np.linalg.cholesky(P).T
    table["n"] = rng.poisson(np.exp(beta + u.ravel()))
    return table


def test_expected_correlations_are_those_of_the_lognormal_poisson() -> None:
    """cov/var = m^2 (exp(s^2 phi^h) - 1) / (m + m^2 (exp(s^2) - 1)), and what is drawn from it.

    A correlation of 600 pairs has an sd of about 1.5/sqrt(600), heavier tails allowed for.
    """
    sd, phi, beta, draws = 0.6, 0.7, 0.5, 60
    table = _simulated(sd, phi, beta)
    model = bm.Model("n ~ 1", table, family="poisson", residual=AR1)
    fit = _many(made.at(model, sd_process=sd, phi=phi, beta=beta), draws)
    found = bm.residual_correlation(fit).table
    m = np.exp(beta + sd**2 / 2)
    lag = np.array([other - one for one, other in found.index])
    exact = m * np.expm1(sd**2 * phi**lag) / (1 + m * np.expm1(sd**2))
    alone = 1.5 / np.sqrt(600)
    np.testing.assert_allclose(found["mean"], phi**lag)
    np.testing.assert_allclose(found["expected"], exact, atol=5 * alone / np.sqrt(draws))
    np.testing.assert_allclose(found["observed"], exact, atol=4 * alone)
    spread = (found["expected_ub"] - found["expected_lb"]) / 3.92
    assert (spread > 0.5 / np.sqrt(600)).all()
    assert (spread < 2 / np.sqrt(600)).all()
    assert found["p"].between(0.005, 0.995).all()
    wrong = _many(made.at(model, sd_process=sd, phi=0.0, beta=beta), draws)
    assert (bm.residual_correlation(wrong).table["p"] == 0).all()


def test_observed_correlations_are_of_pearson_residuals_of_the_draw() -> None:
    """With the mean and variance of the lognormal Poisson written out, and effects as drawn."""
    rng = np.random.default_rng(2)
    table = _table(40, 5).iloc[rng.permutation(200)[:150]].reset_index(drop=True)
    model = bm.Model("n ~ t + (1 | person)", table, family="poisson", residual=AR1)
    fit = made.from_priors(model, 1, sd_process=(0.2, 0.9), sd_person=(0.1, 0.6))
    fit.posterior["beta"][:] = 0.1 * fit.posterior["beta"]
    report = bm.residual_correlation(fit)
    residuals = []
    for chain in (0, 1):
        one = fit.posterior.isel(chain=chain, draw=0)
        u = one["u_person"].sel(person=table["person"].to_numpy()).to_numpy()[:, 0]
        eta = one["beta"].to_numpy() @ np.stack([np.ones(150), table["t"]]) + u
        s2 = float(one["sd_process"].squeeze()) ** 2
        m = np.exp(eta + s2 / 2)
        residuals.append((table["n"] - m) / np.sqrt(m + m**2 * np.expm1(s2)))
    wide = [table.assign(r=r).pivot(index="person", columns="t", values="r") for r in residuals]
    for (one, other), row in report.table.iterrows():
        both = [w[[one, other]].dropna() for w in wide]
        assert row["pairs"] == len(both[0])
        expected = np.mean([np.corrcoef(b.T)[0, 1] for b in both])
        assert row["observed"] == pytest.approx(expected, rel=1e-7), (one, other)
    assert "the effects of person" in report.caption


def test_pairs_by_lag_are_all_pairs_of_a_series() -> None:
    """Also of two rows at one time, which have one value of the process."""
    rng = np.random.default_rng(4)
    table = _table(6, 7).iloc[rng.permutation(42)[:30]]
    table = pd.concat([table, table.head(5)], ignore_index=True)
    model = bm.Model("n ~ 1", table, family="poisson", residual=AR1)
    process = model.design.predictors["mu"].random[0]
    series = process.between.series
    lags = by_lag(series, times_of(series))
    found = RowPairs.of(series, process.groups.index, lags)
    r = rng.normal(size=len(table))
    for k, (_, lag) in enumerate(lags):
        pairs = [
            (r[i], r[j])
            for i, j in np.ndindex(len(table), len(table))
            if table["person"][i] == table["person"][j] and table["t"][j] - table["t"][i] == lag
        ]
        x, y = np.array(pairs).T
        assert found.sizes[k] == len(pairs)
        if len(pairs) > 2:
            assert found.correlation(r)[k] == pytest.approx(np.corrcoef(x, y)[0, 1])
            assert found.semivariance(r)[k] == pytest.approx(np.mean((x - y) ** 2) / 2)


def _irregular() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    table = _table(30, 5)
    return table.assign(t=rng.uniform(0, 10, len(table)).round(2), score=rng.integers(1, 4, 150))


KINDS = {
    "counts": ("n ~ 1", "poisson", AR1, 4),
    "by arm": ("n ~ 1", "negative_binomial", bm.AR1(time="t", within="person", by="arm"), 4),
    "each visit": (
        "high ~ 1",
        "bernoulli",
        bm.CompoundSymmetry(time="t", within="person", heterogeneous=True),
        4,
    ),
    "categories": ("score ~ arm", "ordinal", AR1, 4),
    "many visits": ("n ~ 1", "poisson", AR1, 15),
    "irregular": ("n ~ 1", "poisson", bm.ContinuousAR1(time="t", within="person"), 0),
    "product": (
        "n ~ 1",
        "poisson",
        bm.Product(bm.CompoundSymmetry(time="what"), bm.AR1(time="t"), within="person"),
        3,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_of_every_kind_of_process(kind: str, tmp_path) -> None:
    formula, family, structure, visits = KINDS[kind]
    table = _table(30, visits) if visits else _irregular()
    if kind == "product":
        table = pd.concat([table.assign(what=w) for w in ("x", "y")], ignore_index=True)
    table = table.assign(high=(table["n"] > 2).astype(int), score=1 + table["n"].clip(upper=3))
    model = bm.Model(formula, table, family=family, residual=structure)
    fit = made.from_priors(model, 5, sd_process=(0.3, 0.9))
    report = bm.residual_correlation(fit)
    assert {"correlogram", "semivariogram"} <= set(report.pictures)
    for name in report.pictures:
        assert report.save_plot(tmp_path / f"{name}.png", name).stat().st_size > 5000
    columns = ["mean", "sd", "observed", "expected", "expected_lb", "expected_ub", "p", "pairs"]
    assert set(columns) <= set(report.table.columns)
    enough = report.table["pairs"] >= 3
    assert np.isfinite(report.table.loc[enough, "mean"]).all()
    assert ("matrix" in report.pictures) == (kind in ("counts", "each visit", "categories"))
    assert len(report.table) == {"by arm": 12, "product": 4, "many visits": 14}.get(
        kind, 30 if kind == "irregular" else 6
    )


def test_the_picture_has_the_sd_of_every_visit() -> None:
    _, _, structure, _ = KINDS["each visit"]
    model = bm.Model("n ~ 1", _table(20, 3), family="poisson", residual=structure)
    fit = made.at(model, sd_process=[0.31, 0.52, 0.73], rho=0.4)
    ax = bm.residual_correlation(fit).plot("matrix")
    texts = {text.get_text() for text in ax.texts}
    assert {"sd 0.31", "sd 0.52", "sd 0.73", "0.40", "±0.00"} == texts


def test_replicates_without_an_event_do_not_count() -> None:
    """Three people and a rare event: in some replicates no residual varies."""
    table = _table(4, 3).assign(high=lambda d: (d.index == 5).astype(int))
    model = bm.Model("high ~ 1", table, family="bernoulli", residual=AR1)
    fit = made.from_priors(model, 60, sd_process=(0.2, 0.9))
    fit.posterior["beta"][:] = -1.5 + 0.1 * np.tanh(fit.posterior["beta"])
    table = bm.residual_correlation(fit).table
    columns = ["expected", "expected_lb", "expected_ub"]
    assert np.isfinite(table[columns]).all(axis=None)
    assert (table["expected_lb"] <= table["expected_ub"]).all()
    # Of the visits without an event nothing is observed to compare with.
    assert (table["observed"].isna() == table["p"].isna()).all()
