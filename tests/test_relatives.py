"""Effects of groups that are not in the fit, given those that they are correlated with."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesmixed as bm
from bayesmixed import conditional, kin, places, relatives
from bayesmixed.fit import Fit
from bayesmixed.known import KnownCovariance
from bayesmixed.linpred import linear_predictor
from bayesmixed.reports._prior_density import log_priors
from tests import made

STRUCTURES = (
    bm.AR1(time="t", within="id"),
    bm.ContinuousAR1(time="t", within="id"),
    bm.CompoundSymmetry(time="t", within="id"),
    bm.Matern(time="t", within="id"),
    bm.AR1(time="t", within="id", by="arm"),
    bm.AR1(time="t", within="id", heterogeneous=True),
    bm.AR1(time="t", within="id", heterogeneous=True, by="arm"),
)


def _table() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows = [(i, t) for i in range(6) for t in sorted(rng.permutation(6)[: rng.integers(3, 6)])]
    table = pd.DataFrame(rows, columns=["id", "t"])
    table["arm"] = np.where(table["id"] < 3, "a", "b")
    # Every visit of both arms is there.
    more = [(i, t, arm) for i, arm in ((6, "a"), (7, "b")) for t in range(6)]
    table = pd.concat([table, pd.DataFrame(more, columns=["id", "t", "arm"])], ignore_index=True)
    table["y"] = rng.poisson(2, len(table))
    return table.sample(frac=1, random_state=2)


def _fit(structure: bm.Structure, formula: str = "y ~ 1", draws: int = 2) -> Fit:
    model = bm.Model(formula, _table(), family="poisson", residual=structure)
    return made.from_priors(model, draws)


def _dense(fit: Fit, rows: pd.DataFrame, draw: int) -> np.ndarray:
    """Covariance of the process at rows of a table, written out."""
    structure = fit.spec.covariances["process"]
    posterior = fit.posterior.isel(chain=0, draw=draw)
    found = np.zeros((len(rows), len(rows)))
    own = {p: posterior[p].to_numpy() for p in ("phi", "rho", "range") if p in posterior}
    for arm in ("a", "b"):
        at = np.flatnonzero(rows["arm"] == arm)
        mine = own if structure.by is None else {n: v["ab".index(arm)] for n, v in own.items()}
        times = rows[["t"]].to_numpy(dtype=float)[at]
        found[np.ix_(at, at)] = structure.matrix(mine, times)
    sd = posterior["sd_process"]
    if sd.sizes.get("process_visit") == 6:
        values = sd.to_numpy()[rows["t"]]
    elif "process_cell" in sd.dims:
        labels = [f"{a},{t}" for a, t in zip(rows["arm"], rows["t"], strict=True)]
        values = sd.sel(process_cell=labels).to_numpy()
    elif "process_arm" in sd.dims:
        values = sd.sel(process_arm=rows["arm"].to_numpy()).to_numpy()
    else:
        values = np.full(len(rows), float(sd.squeeze()))
    same = rows["id"].to_numpy()[:, None] == rows["id"].to_numpy()
    return found * same * values[:, None] * values


@pytest.mark.parametrize("structure", STRUCTURES, ids=str)
def test_a_process_at_new_times_is_the_conditional_normal(structure: bm.Structure) -> None:
    """Against the dense normal distribution of all times, those seen and those to come."""
    fit, seen = _fit(structure), _table()
    every = [(i, t, "b" if i in (3, 4, 5) else "a") for i in range(6) for t in range(6)]
    full = pd.DataFrame(every, columns=["id", "t", "arm"])
    new = full[~full.set_index(["id", "t"]).index.isin(seen.set_index(["id", "t"]).index)]
    rows = pd.concat([new, seen.head(4)], ignore_index=True)
    found = linear_predictor(fit, fit.design.unobserved(rows))
    n, b = len(new), float(fit.posterior["beta"][0, 1, 0])
    V = _dense(fit, pd.concat([new, seen], ignore_index=True), 1)
    labels = [f"{i}:{t}" for i, t in zip(seen["id"], seen["t"], strict=True)]
    u = fit.posterior["u_process"].isel(chain=0, draw=1).sel(process=labels).to_numpy()[:, 0]
    weights = np.linalg.solve(V[n:, n:], V[n:, :n])
    np.testing.assert_allclose(found.centre["mu"][0, 1, :n], b + weights.T @ u, rtol=1e-7)
    np.testing.assert_allclose(found.centre["mu"][0, 1, n:], b + u[:4], rtol=1e-10)
    left = V[:n, :n] - V[:n, n:] @ weights
    np.testing.assert_allclose(
        found.variance["mu"][0, 1, :n], np.diag(left), rtol=1e-6, atol=1e-9 * V.max()
    )
    np.testing.assert_allclose(found.variance["mu"][0, 1, n:], 0, atol=1e-12)


def _repeated(fit: Fit, count: int) -> Fit:
    """The last draw of a fit, many times."""
    one = fit.posterior.isel(chain=[0], draw=[1])
    many = one.isel(draw=np.zeros(count, dtype=int)).assign_coords(draw=np.arange(count))
    stats = xr.Dataset({"diverging": (("chain", "draw"), np.zeros((1, count), dtype=bool))})
    tree = xr.DataTree.from_dict({"posterior": many, "sample_stats": stats})
    return Fit(fit.design, tree)


@pytest.mark.parametrize(
    "structure", [STRUCTURES[1], STRUCTURES[6]], ids=["one sd", "sds by arm and visit"]
)
@pytest.mark.parametrize("whose", ["existing", "new"])
def test_a_process_is_drawn_a_series_at_a_time(structure: bm.Structure, whose: str) -> None:
    """Means and covariances of predictors of one group within five Monte Carlo errors."""
    count = 4000
    plain, seen = _fit(structure), _table()
    sd = plain.posterior["sd_process"]
    sd[:] = 0.3 + 0.1 * np.arange(sd.shape[-1])
    fit = _repeated(plain, count)
    new = pd.DataFrame({"id": [0, 0, 0, 3], "t": [0, 1, 5, 3], "arm": ["a", "a", "a", "b"]})
    if whose == "existing":
        known = seen.set_index(["id", "t"]).index
        full = [(i, t, arm) for i, arm in ((0, "a"), (3, "b"), (4, "b")) for t in range(6)]
        new = pd.DataFrame(full, columns=["id", "t", "arm"])
        new = new[~new.set_index(["id", "t"]).index.isin(known)]
    report = bm.predict(fit, new, groups={"id": whose}, kind="group", seed=1)
    eta = np.log(report.draws["prediction"].to_numpy()[0])
    past = seen if whose == "existing" else seen.head(0)
    V = _dense(fit, pd.concat([new, past], ignore_index=True), 1)
    n = len(new)
    mean, left = np.full(n, float(fit.posterior["beta"][0, 0, 0])), V[:n, :n]
    if whose == "existing":
        labels = [f"{i}:{t}" for i, t in zip(seen["id"], seen["t"], strict=True)]
        u = fit.posterior["u_process"].isel(chain=0, draw=0).sel(process=labels).to_numpy()[:, 0]
        weights = np.linalg.solve(V[n:, n:], V[n:, :n])
        mean, left = mean + weights.T @ u, left - V[:n, n:] @ weights
        assert "in the fit, and is normal given" in report.caption
    sd = np.sqrt(np.diag(left))
    assert (np.abs(eta.mean(axis=0) - mean) < 5 * sd / np.sqrt(count)).all()
    found = np.corrcoef(eta.T)
    np.testing.assert_allclose(found, left / sd / sd[:, None], atol=5 / np.sqrt(count))
    np.testing.assert_allclose(eta.std(axis=0), sd, rtol=5 / np.sqrt(2 * count))


def test_the_mean_of_a_process_is_averaged_over_what_is_left() -> None:
    """E exp(normal) = exp(mean + variance / 2)."""
    fit = _fit(STRUCTURES[1])
    fit.posterior["sd_process"][:] = 0.8
    new = pd.DataFrame({"id": [0, 1], "t": [9.5, 2.5]})
    rows = linear_predictor(fit, fit.design.unobserved(new))
    expected = np.exp(rows.centre["mu"] + rows.variance["mu"] / 2)
    found = bm.predict(fit, new).draws["prediction"]
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_replicates_of_new_subjects_have_new_processes() -> None:
    """Counts of one subject are correlated as the lognormal Poisson of an AR(1) has it."""
    structure = bm.AR1(time="t", within="id")
    plain = _fit(structure)
    plain.posterior["sd_process"][:], plain.posterior["phi"][:] = 0.7, 0.6
    plain.posterior["beta"][:] = 1.0
    fit = _repeated(plain, 4000)
    drawn = bm.posterior_predictive(fit, seed=1, groups={"id": "new"})
    y = drawn.tree["posterior_predictive"]["y"].to_numpy()[0]
    frame = fit.design.table.frame
    at = [np.flatnonzero((frame["id"] == 6) & (frame["t"] == t))[0] for t in range(6)]
    mean = np.exp(1 + 0.49 / 2)
    # A mean of six such counts has an sd of 2.0, so this is nearly five Monte Carlo errors.
    assert y[:, at].mean() == pytest.approx(mean, abs=0.15)
    for lag in (1, 3):
        cov = mean**2 * (np.exp(0.49 * 0.6**lag) - 1)
        correlation = cov / (mean + mean**2 * (np.exp(0.49) - 1))
        found = np.corrcoef(y[:, at[0]], y[:, at[lag]])[0, 1]
        assert found == pytest.approx(correlation, abs=5 * 1.5 / np.sqrt(4000))
    other = np.flatnonzero(frame["id"] == 7)[0]
    assert np.corrcoef(y[:, at[0]], y[:, other])[0, 1] == pytest.approx(0, abs=5 / np.sqrt(4000))


def test_whose_process_it_is_goes_by_the_subject() -> None:
    fit = _fit(STRUCTURES[0])
    rows = pd.DataFrame({"id": ["new", "new"], "t": [1, 2]})
    both = [bm.predict(fit, rows, groups={n: "new"}).table["mean"] for n in ("id", "process")]
    pd.testing.assert_series_equal(*both)
    # One row a subject needs neither its name nor its times.
    alone = bm.predict(fit, pd.DataFrame(index=[0, 1]), groups="new")
    np.testing.assert_allclose(alone.table["mean"], both[0])
    with pytest.raises(bm.BayesmixedError, match="'id' that is not in the fit"):
        bm.predict(fit, rows)
    with pytest.raises(bm.BayesmixedError, match="grouping"):
        bm.predict(fit, rows, groups={"arm": "new"})
    with pytest.raises(bm.BayesmixedError, match="nothing is known"):
        bm.predict(_fit(STRUCTURES[0]), pd.DataFrame({"id": [0], "t": [1.5]}))
    with pytest.raises(bm.BayesmixedError, match="'t'"):
        bm.predict(fit, rows[["id"]], groups="new")
    strays = pd.DataFrame({"id": 0, "t": range(6), "arm": "b"})
    with pytest.raises(bm.BayesmixedError, match="'arm' changes within id 0; a series is of one"):
        bm.predict(_fit(bm.AR1(time="t", within="id", by="arm")), strays)


def test_forecasts_go_on_beyond_the_last_visit() -> None:
    """AR(1), h visits later: mean phi^h u, variance sd^2 (1 - phi^2h) (Box & Jenkins)."""
    fit = _fit(bm.AR1(time="t", within="id"))
    later = pd.DataFrame({"id": [6, 6], "t": [6, 9]})
    found = linear_predictor(fit, fit.design.unobserved(later))
    phi, sd = (fit.posterior[n].to_numpy().reshape(2, -1) for n in ("phi", "sd_process"))
    u = fit.posterior["u_process"].sel(process="6:5").to_numpy()[..., 0]
    beta = fit.posterior["beta"].to_numpy()[..., 0]
    for k, h in enumerate((1, 4)):
        np.testing.assert_allclose(found.centre["mu"][..., k], beta + phi**h * u, rtol=1e-9)
        np.testing.assert_allclose(
            found.variance["mu"][..., k], sd**2 * (1 - phi ** (2 * h)), rtol=1e-6
        )


def test_relatives_that_have_no_data_are_predicted_from_those_that_have() -> None:
    """Henderson's best linear prediction, with slopes that are correlated with levels."""
    rng = np.random.default_rng(3)
    labels = [f"p{i}" for i in range(8)]
    root = rng.normal(size=(8, 12))
    K = pd.DataFrame(root @ root.T / 12, index=labels, columns=labels)
    data = pd.DataFrame({"id": labels[:5] * 3, "x": rng.normal(size=15), "y": rng.normal(size=15)})
    model = bm.Model("y ~ x + (x | id)", data, covariances={"id": K})
    fit = made.from_priors(model, 2)
    new = pd.DataFrame({"id": ["p6", "p2", "p7"], "x": [1.0, -1.0, 0.5]})
    found = linear_predictor(fit, fit.design.unobserved(new))
    u = fit.posterior["u_id"].to_numpy()[1, 1]
    sd, cor = (fit.posterior[f"{n}_id"].to_numpy()[1, 1] for n in ("sd", "cor"))
    G = sd[:, None] * cor * sd
    beta = fit.posterior["beta"].to_numpy()[1, 1]
    dense = K.to_numpy()
    at = [6, 7]
    weights = np.linalg.solve(dense[:5, :5], dense[:5, at])
    left = dense[np.ix_(at, at)] - dense[at, :5] @ weights
    for k, row in enumerate((0, 2)):
        z = np.array([1.0, new["x"][row]])
        centre = z @ beta + z @ (weights[:, k] @ u)
        np.testing.assert_allclose(found.centre["mu"][1, 1, row], centre, rtol=1e-9)
        np.testing.assert_allclose(found.variance["mu"][1, 1, row], left[k, k] * (z @ G @ z))
    assert found.variance["mu"][1, 1, 1] == 0
    with pytest.raises(bm.BayesmixedError, match="not in the fit"):
        bm.predict(fit, new.assign(id="stranger"))


def _related(covariance: pd.DataFrame | KnownCovariance, draws: int) -> Fit:
    labels = list(covariance.index if isinstance(covariance, pd.DataFrame) else covariance.labels)
    data = pd.DataFrame({"id": labels[:-1] * 2, "n": np.arange(2 * len(labels) - 2) % 4})
    model = bm.Model("n ~ 1 + (1 | id)", data, family="poisson", covariances={"id": covariance})
    return made.from_priors(model, draws)


@pytest.mark.parametrize("mixed", [False, True])
def test_what_draws_have_in_common_is_worked_out_once(mixed: bool, monkeypatch) -> None:
    """A regression on 2,000 relatives takes a tenth of a second, and there are 4,000 draws."""
    near = {i: [j for j in (i - 1, i + 1) if 0 <= j < 7] for i in range(7)}
    fit = _related((bm.bym2 if mixed else bm.neighbours)(near), 5)
    new = fit.design.unobserved(pd.DataFrame({"id": [6]}))

    def expected_and_drawn() -> tuple[np.ndarray, ...]:
        found = linear_predictor(fit, new)
        drawn = bm.posterior_predictive(fit, seed=1, groups="new").tree["posterior_predictive"]
        return found.centre["mu"], found.variance["mu"], drawn["y"].to_numpy()

    whole = expected_and_drawn()
    solved, halved = [], []

    def regression(P: np.ndarray, coming: int) -> tuple[np.ndarray, np.ndarray]:
        solved.append(len(P))
        return conditional.regression(P, coming)

    def root(G: np.ndarray) -> np.ndarray:
        halved.append(len(G))
        return conditional.root(G)

    monkeypatch.setattr(kin, "regression", regression)
    for module in (kin, relatives):
        monkeypatch.setattr(module, "root", root)
    # As if there were too many groups for two draws in memory.
    monkeypatch.setattr(places, "_AT_ONCE", 1)
    cut = expected_and_drawn()
    # The mean and the variance, and the replicates; once more the effects' own covariance.
    assert solved == ([] if mixed else [1, 1])
    assert len(halved) == (0 if mixed else 1) + 1
    for a, b in zip(whole, cut, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


class _Units:
    """In the place of random numbers, one after the other the unit vectors."""

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.eye(shape[0]).reshape(shape)


@pytest.mark.parametrize("phi", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("seen", [0, 5])
def test_a_learnt_share_is_conditioned_on_in_one_basis(phi: float, seen: int) -> None:
    """Means, variances and the covariance of draws against a dense regression in every draw.

    The map is singular: a ring of six with an island, and two more areas.
    """
    ring = {i: [(i - 1) % 6, (i + 1) % 6] for i in range(6)} | {6: [], 7: [8], 8: [7]}
    K = bm.neighbours(ring).to_numpy()[np.ix_(order := [0, 2, 3, 6, 7, 1, 4, 5, 8], order)]
    fit = _related(bm.bym2(ring), 9 // 2 + 1).posterior
    fit = fit.isel(draw=np.zeros(9, dtype=int), chain=[0]).assign_coords(draw=np.arange(9))
    fit["phi_id"][:] = phi
    given = Fit(_related(bm.bym2(ring), 2).design, xr.DataTree.from_dict({"posterior": fit}))
    part = kin.MixedPart(np.arange(seen)[None], np.arange(9 - seen)[None], K, "phi_id")
    P = (1 - phi) * np.eye(9) + phi * K
    weights, left = conditional.regression(P[None], 9 - seen)
    u = np.random.default_rng(1).normal(size=(9, seen, 2))
    expected = np.einsum("dsk,sn->dnk", u, weights[0])
    np.testing.assert_allclose(part.mean(given, u)[:, 0], expected, atol=1e-9)
    np.testing.assert_allclose(part.share(given), np.tile(np.diag(left[0]), (9, 1)), atol=1e-9)
    A = part.draw(given, 1, _Units())[:, 0, :, 0]
    np.testing.assert_allclose(A.T @ A, left[0], atol=1e-9)


RELATED = {
    "process": {"formula": "y ~ 1", "residual": STRUCTURES[0]},
    "process by arm": {"formula": "y ~ 1", "residual": STRUCTURES[6]},
    "slopes": {"formula": "y ~ t + (t | id)", "covariances": {"id": pd.DataFrame(np.eye(8))}},
    "visits": {
        "formula": "y ~ 1 + (1 | id:t)",
        "covariances": {"id:t": bm.ContinuousAR1(time="t", within="id")},
    },
}


@pytest.mark.parametrize("given", RELATED.values(), ids=RELATED)
def test_every_prior_of_a_model_with_relatives_counts(given: dict) -> None:
    """As many log-densities as the model has priors, each a number in every draw."""
    options = dict(given)
    model = bm.Model(options.pop("formula"), _table(), family="poisson", **options)
    found = dict(log_priors(made.from_priors(model, 3)))
    assert set(found) == set(model.priors.index)
    assert all(np.isfinite(v).all() and v.shape == (2, 3) for v in found.values())


@pytest.mark.parametrize("family", ["poisson", "gaussian"])
def test_visits_of_an_arm_are_found_among_floats(family: str) -> None:
    """A gap elsewhere in a table makes 2.0 of visit 2."""
    structure = bm.AR1(time="t", within="id", heterogeneous=True, by="arm")
    model = bm.Model("y ~ 1", _table(), family=family, residual=structure)
    fit = made.from_priors(model, 2)
    new = pd.DataFrame({"id": [0, 50, 50], "t": [2, 3, 5], "arm": ["a", "b", "b"]})
    floats = new.assign(t=new["t"].astype(float))
    for groups, count in (("new", 3), ("existing", 1)):
        whole, gap = (
            bm.predict(fit, each[:count], groups=groups, kind="outcome", seed=1).draws
            for each in (new, floats)
        )
        np.testing.assert_array_equal(whole["prediction"], gap["prediction"])
    again = bm.Model("y ~ 1", _table().astype({"t": float}), family=family, residual=structure)
    assert list(again.priors.index) == list(model.priors.index)
