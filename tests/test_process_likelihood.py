"""The likelihood of a series with its process integrated out, and leaving it out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import logsumexp
from scipy.stats import bernoulli, poisson

import bayesmixed as bm
from bayesmixed.fit import Fit
from bayesmixed.group_likelihood import group_likelihood, group_log_likelihood
from bayesmixed.markov import Markov
from bayesmixed.newcomers import Newcomers
from bayesmixed.process_likelihood import _as_new
from bayesmixed.proposals import Target
from bayesmixed.relatives import Relatives
from bayesmixed.rows import take
from tests import made

AR1 = bm.AR1(time="t", within="id")
STRUCTURES = (
    AR1,
    bm.AR1(time="t", within="id", by="arm", heterogeneous=True),
    bm.ContinuousAR1(time="t", within="id"),
    bm.Matern(time="t", within="id"),
    bm.Unstructured(time="t", within="id"),
)


def _table(people: int = 8, visits: int = 3, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [(i, t) for i in range(people) for t in range(visits)]
    table = pd.DataFrame(rows, columns=["id", "t"])
    table["arm"] = np.where(table["id"] % 2, "a", "b")
    table["ward"] = "w" + (table["id"] // 2).astype(str)
    table["x"] = rng.normal(size=len(table))
    table["n"] = rng.poisson(2, len(table))
    table["line"] = range(len(table))
    return table.assign(high=(table["n"] > 2).astype(int)).sample(frac=1, random_state=2)


def _covariance(fit: Fit, rows: pd.DataFrame, chain: int, draw: int) -> np.ndarray:
    """Of the predictors of rows of one series: the process, and an intercept if there is one."""
    structure = fit.spec.process
    one = fit.posterior.isel(chain=chain, draw=draw)
    arm = rows["arm"].iloc[0]
    names = [p for p in ("phi", "rho", "range", "cor_residual", "cor_process") if p in one]
    own = {n: one[n].to_numpy() if structure.by is None else one[n].sel(process_arm=arm).to_numpy()
           for n in names}  # fmt: skip
    P = structure.matrix(own, rows[["t"]].to_numpy(dtype=float))
    sd = one["sd_process"]
    if "process_cell" in sd.dims:
        values = sd.sel(process_cell=[f"{arm},{t}" for t in rows["t"]]).to_numpy()
    elif "process_visit" in sd.dims:
        values = sd.sel(process_visit=rows["t"].to_numpy()).to_numpy()
    else:
        values = np.full(len(rows), sd.item())
    V = P * values[:, None] * values
    return V + (one["sd_id"].item() ** 2 if "sd_id" in one else 0.0)


SHORT = [("poisson", structure) for structure in STRUCTURES] + [("bernoulli", STRUCTURES[-1])]


@pytest.mark.parametrize("intercept", [False, True], ids=["alone", "with intercepts"])
@pytest.mark.parametrize(("family", "structure"), SHORT, ids=str)
def test_short_series_against_quadrature(
    family: str, structure: bm.Structure, intercept: bool
) -> None:
    """Gauss-Hermite rules of 24 nodes in each of two or three dimensions, all visits or fewer."""
    table = _table(6).iloc[:-3]
    left = "n" if family == "poisson" else "high"
    formula = f"{left} ~ x" + (" + (1 | id)" if intercept else "")
    model = bm.Model(formula, table, family=family, residual=structure)
    limits = {"sd_process": (0.2, 0.9)} | ({"sd_id": (0.1, 0.6)} if intercept else {})
    fit = made.from_priors(model, 2, **limits)
    fit.posterior["beta"][:] = 0.3 * np.tanh(fit.posterior["beta"])
    found = group_likelihood(fit, "id")
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    density = poisson.logpmf if family == "poisson" else bernoulli.logpmf
    off = []
    for label, rows in table.sort_values("t").groupby("id"):
        z = np.stack(np.meshgrid(*[nodes] * len(rows), indexing="ij"), -1).reshape(-1, len(rows))
        w = np.log(np.stack(np.meshgrid(*[weights] * len(rows), indexing="ij"), -1)).sum(-1).ravel()
        for chain, draw in np.ndindex(2, 2):
            L = np.linalg.cholesky(_covariance(fit, rows, chain, draw))
            beta = fit.posterior["beta"][chain, draw].to_numpy()
            eta = beta[0] + beta[1] * rows["x"].to_numpy() + z @ L.T
            mean = np.exp(eta) if family == "poisson" else 1 / (1 + np.exp(-eta))
            total = density(rows[left].to_numpy(), mean).sum(axis=1)
            exact = logsumexp(total + w) - len(rows) * np.log(2 * np.pi) / 2
            one = found.sel(id=label).isel(chain=chain, draw=draw)
            off.append((one["log_likelihood"].item() - exact, one["mcse"].item()))
    error, mcse = np.array(off).T
    # Standard errors from sixteen pairs are rough themselves: six of them, and a rounding.
    assert (np.abs(error) < 6 * mcse + 1e-3).all()
    assert mcse.max() < 0.1
    assert np.abs(error).max() < 0.2


def _both(count: int, visits: int, people: int) -> tuple[Fit, Fit]:
    """A process of compound symmetry, and intercepts of people and rows that say the same."""
    table = _table(people, visits, seed=4)
    exchangeable = bm.CompoundSymmetry(time="t", within="id")
    process = bm.Model("n ~ x", table, family="poisson", residual=exchangeable)
    nested = bm.Model("n ~ x + (1 | id) + (1 | line)", table, family="poisson")
    rng = np.random.default_rng(5)
    sd, rho = rng.uniform(0.4, 0.9, (2, count, 1)), rng.uniform(0.2, 0.8, (2, count))
    beta = [0.5, 0.2] + 0.05 * rng.normal(size=(2, count, 2))
    one, other = made.from_priors(process, count), made.from_priors(nested, count)
    for fit in (one, other):
        fit.posterior["beta"][:] = beta
    one.posterior["sd_process"][:] = sd
    one.posterior["rho"][:] = rho
    other.posterior["sd_id"][:] = sd * np.sqrt(rho)[..., None]
    other.posterior["sd_line"][:] = sd * np.sqrt(1 - rho)[..., None]
    return one, other


def test_long_series_against_nested_quadrature() -> None:
    """Compound symmetry is an intercept of a person and one of each row, which nest.

    What the errors are called is what they are, in 160 of them: mcse is from differences of
    neighbours, which vary a little more than what is in a stratum.
    """
    one, other = _both(10, 10, 8)
    found, exact = group_likelihood(one, "id"), group_log_likelihood(other, "id")
    error = (found["log_likelihood"] - exact).to_numpy()
    mcse = found["mcse"].to_numpy()
    assert np.abs(error).max() < 0.5
    z = (error / mcse).ravel()
    assert 0.3 < (z**2).mean() < 1.5
    assert abs(z.mean()) < 5 * z.std() / np.sqrt(160)


MARKOV = (
    AR1,
    bm.AR1(time="t", within="id", by="arm", heterogeneous=True),
    bm.ContinuousAR1(time="t", within="id"),
    bm.Antedependence(time="t", within="id"),
    bm.Exponential(time="t", within="id"),
)


@pytest.mark.parametrize("structure", MARKOV, ids=str)
def test_bands_propose_what_dense_matrices_do(structure: bm.Structure) -> None:
    """The same modes and densities, for series with visits that are missing and two rows at one."""
    table = _table(6, 12, seed=8).iloc[:-9]
    twice = table.groupby("id").head(1).assign(n=3)
    table = pd.concat([table, twice], ignore_index=True)
    model = bm.Model("n ~ x", table, family="poisson", residual=structure)
    fit = made.from_priors(model, 3, sd_process=(0.2, 0.9))
    fit.posterior["beta"][:] = 0.3 * np.tanh(fit.posterior["beta"])
    rows = _as_new(take(fit.design, np.flatnonzero(table["id"] == 0)), ["process"])
    process = rows.predictors["mu"].random[0]
    relatives = Relatives.unseen(fit.design, rows, "mu", process)
    assert relatives is not None
    new = [Newcomers("mu", process, relatives.index, len(relatives.first), relatives)]
    band, dense = Markov.of(fit, rows, new), Target.of(fit, rows, new)
    assert band is not None
    one, other = band.peak(), dense.peak()
    # By time: u = sd x = L z.
    first = table[table["id"] == 0].iloc[relatives.first].sort_values("t")
    V = np.array([_covariance(fit, first, c, d) for c, d in np.ndindex(2, 3)])
    sd, L = np.sqrt(np.diagonal(V, axis1=1, axis2=2)), np.linalg.cholesky(V)
    B = np.linalg.norm(dense.loadings["mu"], axis=2)
    np.testing.assert_allclose(B, np.abs(band.scale), rtol=1e-8)
    shifts = (dense.loadings["mu"] @ other.mode[..., None])[..., 0]
    np.testing.assert_allclose(one.mode[:, band.index] * band.scale, shifts, atol=2e-4)
    # A density of x is that of z over the volume that one takes up in the other.
    volume = np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1) - np.log(sd).sum(axis=1)
    found = band.density(one.mode[:, None])[:, 0] + volume
    np.testing.assert_allclose(found, dense.density(other.mode[:, None])[:, 0], atol=1e-6)
    np.testing.assert_allclose(one.log_root + volume, other.log_root, atol=2e-3)


def test_wards_of_series_with_intercepts_against_draws_from_the_population() -> None:
    """The mean likelihood over 400,000 draws of everything in a ward, in one posterior draw."""
    table = _table(4, 3, seed=6).assign(n=lambda d: d["n"].clip(upper=2))
    model = bm.Model("n ~ 1 + (1 | ward) + (1 | id)", table, family="poisson", residual=AR1)
    fit = made.at(model, sd_ward=0.3, sd_id=0.3, sd_process=0.5, phi=0.6, beta=0.2)
    found = group_likelihood(fit, "ward")
    lag = np.abs(np.arange(3)[:, None] - np.arange(3))
    L = 0.5 * np.linalg.cholesky(0.6**lag)
    rng = np.random.default_rng(7)
    for label, rows in table.groupby("ward"):
        y = rows.sort_values(["id", "t"])["n"].to_numpy().reshape(2, 3)
        u = rng.normal(size=(400_000, 2, 3)) @ L.T
        u += 0.3 * rng.normal(size=(400_000, 2, 1)) + 0.3 * rng.normal(size=(400_000, 1, 1))
        p = np.exp(poisson.logpmf(y, np.exp(0.2 + u)).sum(axis=(1, 2)))
        error = p.std() / p.mean() / np.sqrt(len(p))
        one = found.sel(ward=label)
        both = np.hypot(error, one["mcse"].item())
        assert one["log_likelihood"].item() == pytest.approx(np.log(p.mean()), abs=6 * both)
        assert both < 0.2


def test_leaving_out_series_with_a_process(tmp_path) -> None:
    one, other = _both(60, 4, 12)
    report = bm.loo(one, "id")
    nested = bm.loo(other, "id")
    difference = (report.table["elpd"] - nested.table["elpd"]).to_numpy()
    share = report.draws["mcse"].mean().item()
    assert np.abs(difference).max() < 6 * share
    # The error of the sum in the caveat, which is of draws that count unequally.
    (said,) = (c for c in report.caveats if "importance sampling" in c)
    error = float(said.split()[-1].rstrip("."))
    assert abs(difference.sum()) < 6 * error + 0.01 * len(difference)
    assert "averaged over process" in report.caption
    assert any("Durbin" in r for r in report.references)
    table = bm.compare({"process": one, "nested": other}, unit="id")
    assert abs(table.table["elpd_diff"].iloc[1]) < 6 * error + 0.2
    assert any(c.startswith("process: The process was integrated") for c in table.caveats)
    assert report.save_plot(tmp_path / "elpd.png", "elpd").stat().st_size > 5000
    with pytest.raises(bm.BayesmixedError, match="unit to leave out"):
        bm.loo(one, "process")
    with pytest.raises(bm.BayesmixedError, match='Use unit="id"'):
        bm.loo(one_with_arms(), "t")


def one_with_arms() -> Fit:
    table = _table()
    model = bm.Model("n ~ 1 + (1 | t)", table, family="poisson", residual=AR1)
    return made.from_priors(model, 2)


def test_refits_take_the_place_of_the_reweighting() -> None:
    """A fit without a person says what it foretells of them: the mean over its own draws."""
    table = _table(10, 3)
    whole, without = (
        made.from_priors(
            bm.Model("n ~ x", rows, family="poisson", residual=AR1), 50, sd_process=(0.2, 0.9)
        )
        for rows in (table, table[table["id"] != 3])
    )
    report = bm.loo(whole, "id", refits={3: without})
    assert np.isnan(report.table.loc[3, "k_hat"])
    # The same parameters with the data of the first fit, whose values of the process are not used.
    process = whole.posterior["u_process"]
    posterior = without.posterior.drop_vars(["u_process", "z_process"], errors="ignore")
    posterior = posterior.drop_dims("process").assign(u_process=process)
    fit = Fit(whole.design, xr.DataTree.from_dict({"posterior": posterior}))
    values = group_log_likelihood(fit, "id").sel(id=3)
    expected = logsumexp(values) - np.log(values.size)
    assert report.table.loc[3, "elpd"] == pytest.approx(expected, abs=0.05)
