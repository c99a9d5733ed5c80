"""Forecasts of a process against quadrature, closed forms and refits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import poisson

import bayesmixed as bm
from bayesmixed.fit import Fit
from tests import made

AR1 = bm.AR1(time="t", within="id")
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(40)


def _table() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows = [(i, t) for i in range(8) for t in range(5)]
    table = pd.DataFrame(rows, columns=["id", "t"])
    table["arm"] = np.where(table["id"] < 4, "a", "b")
    return table.assign(y=rng.poisson(2, len(table))).sample(frac=1, random_state=2)


def _repeated(fit: Fit, count: int) -> Fit:
    """The draws of a fit, one after the other, many times."""
    draws = np.arange(count) % fit.posterior.sizes["draw"]
    many = fit.posterior.isel(chain=[0], draw=draws).assign_coords(draw=np.arange(count))
    stats = xr.Dataset({"diverging": (("chain", "draw"), np.zeros((1, count), dtype=bool))})
    tree = xr.DataTree.from_dict({"posterior": many, "sample_stats": stats})
    return Fit(fit.design, tree)


def _model(formula: str = "y ~ 1", structure: bm.Structure = AR1) -> bm.Model:
    return bm.Model(formula, _table(), family="poisson", residual=structure)


def _posterior(y: np.ndarray, mean: np.ndarray, V: np.ndarray) -> tuple:
    """Predictors of two visits given their counts: nodes, weights and the likelihood."""
    L = np.linalg.cholesky(V)
    z = np.stack(np.meshgrid(NODES, NODES, indexing="ij"), axis=-1).reshape(-1, 2)
    w = np.outer(WEIGHTS, WEIGHTS).ravel() / (2 * np.pi)
    eta = mean + z @ L.T
    w = w * poisson.pmf(y, np.exp(eta)).prod(axis=1)
    return eta, w / w.sum(), w.sum()


def test_a_patient_in_the_fit_goes_on_as_box_and_jenkins_have_it() -> None:
    """AR(1): mean phi^h u, variance sd^2 (1 - phi^2h), and the lognormal's mean over that."""
    fit = made.from_priors(_model("y ~ 1 + (1 | id)"), 3, sd_process=(0.3, 0.9), sd_id=(0.1, 0.6))
    later = pd.DataFrame({"id": [6, 6, 6], "t": [4, 5, 8]})
    found = bm.forecast(fit, None, later, seed=1).draws["forecast"].to_numpy()
    phi, sd = (fit.posterior[n].to_numpy().reshape(2, -1) for n in ("phi", "sd_process"))
    u = fit.posterior["u_process"].sel(process="6:4").to_numpy()[..., 0]
    b = (
        fit.posterior["beta"].to_numpy()[..., 0]
        + fit.posterior["u_id"].sel(id=6).to_numpy()[..., 0]
    )
    for k, h in enumerate((0, 1, 4)):
        expected = np.exp(b + phi**h * u + sd**2 * (1 - phi ** (2 * h)) / 2)
        np.testing.assert_allclose(found[..., k], expected, rtol=1e-6)
    same = bm.predict(fit, later).draws["prediction"].to_numpy()
    np.testing.assert_allclose(found, same, rtol=1e-6)


@pytest.mark.parametrize("intercept", [False, True])
def test_a_new_patient_is_forecast_from_its_visits(intercept: bool) -> None:
    """Quadrature over both visits' predictors; five Monte Carlo errors of 4,000 draws."""
    phi, sd, s_id, beta, count = 0.8, 0.7, 0.5, 0.3, 4000
    formula = "y ~ 1 + (1 | id)" if intercept else "y ~ 1"
    own = {"sd_id": s_id} if intercept else {}
    fit = _repeated(made.at(_model(formula), phi=phi, sd_process=sd, beta=beta, **own), count)
    history = pd.DataFrame({"id": ["new"] * 2, "t": [1, 3], "y": [7, 4]})
    later = pd.DataFrame({"id": ["new"] * 3, "t": [3, 4, 6]})
    times = np.array([1, 3, 3, 4, 6])
    V = sd**2 * phi ** np.abs(times[:, None] - times) + intercept * s_id**2
    eta, w, _ = _posterior(np.array([7, 4]), np.full(2, beta), V[:2, :2])
    weights = np.linalg.solve(V[:2, :2], V[:2, 2:])
    left = np.maximum(np.diag(V[2:, 2:] - V[2:, :2] @ weights), 0)
    centre = beta + (eta - beta) @ weights
    mean = w @ np.exp(centre + left / 2)
    second = w @ np.exp(2 * centre + 2 * left)
    drawn = bm.forecast(fit, history, later, kind="outcome", seed=1).draws["forecast"].to_numpy()[0]
    variance = mean + second - mean**2
    error = np.sqrt(variance / count)
    assert (np.abs(drawn.mean(axis=0) - mean) < 5 * error).all()
    np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=0.2)
    report = bm.forecast(fit, history, later, seed=2)
    # What is expected of it has the spread of the visits' predictors alone, and of intercepts.
    assert (np.abs(report.table["mean"] - mean) < 5 * error).all()
    assert report.table["visits"].to_list() == [2, 2, 2]
    assert "the process, normal given those of all visits so far, is averaged" in report.caption
    assert (report.draws["khat"] < 0.5).all()
    # Later visits of one patient go together: the law of total covariance.
    cross = V[3, 4] - V[3, :2] @ weights[:, 2]
    joint = w @ np.exp(centre[:, 1] + centre[:, 2] + (left[1] + left[2]) / 2 + cross)
    correlation = (joint - mean[1] * mean[2]) / np.sqrt(variance[1] * variance[2])
    assert np.corrcoef(drawn[:, 1], drawn[:, 2])[0, 1] == pytest.approx(
        correlation, abs=5 * 1.5 / np.sqrt(count)
    )


def test_visits_say_something_of_the_parameters() -> None:
    """Two draws with different processes are weighed by the probability of the visits."""
    plain = made.from_priors(_model(), 2)
    for name, values in {"phi": [0.9, -0.5], "sd_process": [0.9, 0.4], "beta": [0.2, 1.0]}.items():
        plain.posterior[name].isel(chain=0)[:] = np.reshape(
            values, (2, *[1] * (plain.posterior[name].ndim - 2))
        )
    count = 4000
    fit = _repeated(plain, count)
    y = np.array([6, 9])
    likelihood, means = [], []
    for phi, sd, b in ((0.9, 0.9, 0.2), (-0.5, 0.4, 1.0)):
        V = sd**2 * np.array([[1, phi, phi**2], [phi, 1, phi], [phi**2, phi, 1]])
        eta, w, p = _posterior(y, np.full(2, b), V[:2, :2])
        weights = np.linalg.solve(V[:2, :2], V[:2, 2])
        left = V[2, 2] - V[2, :2] @ weights
        likelihood.append(p)
        means.append(w @ np.exp(b + (eta - b) @ weights + left / 2))
    share = likelihood[0] / sum(likelihood)
    history = pd.DataFrame({"id": ["new"] * 2, "t": [1, 2], "y": y})
    report = bm.forecast(fit, history, pd.DataFrame({"id": ["new"], "t": [3]}), seed=1)
    expected = share * means[0] + (1 - share) * means[1]
    found = report.draws["forecast"].to_numpy().ravel()
    assert found.mean() == pytest.approx(expected, abs=5 * found.std() / np.sqrt(count / 4))
    assert 0.02 < share < 0.98


def test_further_visits_of_a_patient_in_the_fit() -> None:
    """Given its values in the fit: quadrature over the predictors of two more visits."""
    phi, sd, beta, count = 0.7, 0.8, 0.4, 4000
    fit = _repeated(made.at(_model(), phi=phi, sd_process=sd, beta=beta), count)
    u = float(fit.posterior["u_process"].sel(process="6:4").isel(chain=0, draw=0).squeeze())
    times = np.array([4, 5, 7, 8])
    V = sd**2 * phi ** np.abs(times[:, None] - times)
    gain = V[1:, 0] / V[0, 0]
    left = V[1:, 1:] - np.outer(gain, V[0, 1:])
    mean = beta + gain * u
    y = np.array([1, 0])
    eta, w, _ = _posterior(y, mean[:2], left[:2, :2])
    weights = np.linalg.solve(left[:2, :2], left[:2, 2])
    rest = left[2, 2] - left[2, :2] @ weights
    values = np.exp(mean[2] + (eta - mean[:2]) @ weights + rest / 2)
    expected = w @ values
    history = pd.DataFrame({"id": [6, 6], "t": [5, 7], "y": y})
    report = bm.forecast(fit, history, pd.DataFrame({"id": [6], "t": [8]}), seed=1)
    spread = np.sqrt(w @ values**2 - expected**2)
    assert report.table["mean"].item() == pytest.approx(expected, abs=5 * spread / np.sqrt(count))
    assert report.table["sd"].item() == pytest.approx(spread, rel=0.15)
    assert report.table["visits"].item() == 7
    # Visits are what lies on the horizontal axis, though the formula does not have them.
    assert report.plot("6").get_xlabel() == "t"
    known = _table().query("id == 6")
    again = bm.forecast(
        fit, pd.concat([known, history]), pd.DataFrame({"id": [6], "t": [8]}), seed=1
    )
    assert again.table["mean"].item() == report.table["mean"].item()
    assert any("are in the fit already" in caveat for caveat in again.caveats)


def test_without_visits_a_whole_new_process_is_drawn() -> None:
    """Counts of a new patient have the moments of the lognormal Poisson."""
    phi, sd, beta, count = 0.6, 0.7, 0.5, 4000
    structure = bm.AR1(time="t", within="id", by="arm", heterogeneous=True)
    fit = _repeated(
        made.at(_model(structure=structure), phi=[phi, 0.1], sd_process=sd, beta=beta), count
    )
    later = pd.DataFrame({"id": ["new"] * 2, "t": [1, 3], "arm": "a"})
    drawn = bm.forecast(fit, None, later, kind="outcome", seed=1).draws["forecast"].to_numpy()[0]
    m = np.exp(beta + sd**2 / 2)
    variance = m + m**2 * np.expm1(sd**2)
    assert (np.abs(drawn.mean(axis=0) - m) < 5 * np.sqrt(variance / count)).all()
    expected = m**2 * np.expm1(sd**2 * phi**2) / variance
    assert np.corrcoef(drawn.T)[0, 1] == pytest.approx(expected, abs=5 * 1.5 / np.sqrt(count))
    np.testing.assert_allclose(bm.forecast(fit, None, later, seed=1).table["mean"], m, rtol=1e-6)


def test_patients_of_a_new_ward_learn_from_each_other() -> None:
    """Their processes are their own; the ward is one. It is drawn together with both."""
    data = _table().assign(ward=lambda d: "w" + (d["id"] // 2).astype(str))
    model = bm.Model("y ~ 1 + (1 | ward)", data, family="poisson", residual=AR1)
    fit = made.from_priors(model, 400, sd_process=(0.2, 0.4), sd_ward=(0.9, 1.1))
    fit.posterior["beta"][:] = 1 + 0.01 * fit.posterior["beta"]
    later = pd.DataFrame({"id": ["p", "q"], "ward": "new", "t": 3})
    high = pd.DataFrame({"id": "p", "ward": "new", "t": [0, 1, 2], "y": 30})
    low = high.assign(y=1)
    one, other = (bm.forecast(fit, h, later, group="id", seed=1).table["mean"] for h in (high, low))
    assert (one > 3 * other).all()
    assert (one < 60).all()


def test_what_a_forecast_of_a_process_refuses() -> None:
    fit = made.from_priors(_model(), 2)
    later = pd.DataFrame({"id": ["x"], "t": [2]})
    with pytest.raises(bm.BayesmixedError, match="grouping"):
        bm.forecast(fit, None, later, group="process")
    with pytest.raises(bm.BayesmixedError, match="'t'"):
        bm.forecast(fit, None, later[["id"]])
    with pytest.raises(bm.BayesmixedError, match="nothing is known"):
        bm.forecast(fit, None, later.assign(t=2.5))
    data = _table().assign(year=lambda d: d["t"], hospital=lambda d: d["id"] % 2)
    years = bm.AR1(time="year", within="hospital")
    model = bm.Model(
        "y ~ 1 + (1 | id) + (1 | hospital:year)",
        data,
        family="poisson",
        covariances={"hospital:year": years},
    )
    with pytest.raises(bm.BayesmixedError, match=r"lie in several of them\. Use group=.hospital"):
        bm.forecast(made.from_priors(model, 2), None, data.head(1), group="id")


def test_hospitals_with_years_that_are_alike_are_forecast() -> None:
    """An AR(1) of years by covariances=: the next year follows from the last."""
    data = _table().assign(year=lambda d: d["t"], hospital=lambda d: d["id"] % 2)
    model = bm.Model(
        "y ~ 1 + (1 | hospital:year)",
        data.assign(site=data["hospital"]),
        family="poisson",
        covariances={"hospital:year": bm.AR1(time="year", within="hospital")},
    )
    fit = made.from_priors(model, 2)
    names = ("phi_hospital:year", "sd_hospital:year")
    phi, sd = (fit.posterior[n].to_numpy().reshape(2, -1) for n in names)
    u = fit.posterior["u_hospital:year"].sel({"hospital:year": "1:4"}).to_numpy()[..., 0]
    later = pd.DataFrame({"hospital": [1], "year": [6]})
    found = bm.forecast(fit, None, later, seed=1).draws["forecast"].to_numpy()[..., 0]
    b = fit.posterior["beta"].to_numpy()[..., 0]
    np.testing.assert_allclose(found, np.exp(b + phi**2 * u + sd**2 * (1 - phi**4) / 2), rtol=1e-6)


@pytest.mark.slow
def test_a_forecast_of_counts_equals_a_refit_with_the_visits() -> None:
    """Seizures of one patient left out, then two periods of it as history or in the fit."""
    data = bm.datasets.load("epil")
    structure = bm.AR1(time="period", within="subject")
    last = data["subject"] == 58
    early = data["period"] <= 2
    fits = [
        bm.Model("y ~ trt + lbase + lage", rows, family="poisson", residual=structure).fit(
            seed=1, draws=2000, progress=False
        )
        for rows in (data[~last], data[~last | early])
    ]
    future = data[last & ~early]
    found = bm.forecast(fits[0], data[last & early], future, seed=1)
    expected = bm.forecast(fits[1], None, future, seed=1)
    error = expected.table["sd"] / np.sqrt(400)
    assert (np.abs(found.table["mean"] - expected.table["mean"]) < 5 * error).all()
    np.testing.assert_allclose(found.table["sd"], expected.table["sd"], rtol=0.2)
