"""Outcomes of series with correlated residuals drawn anew: against dense normals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made import at, from_priors
from scipy import stats
from scipy.special import logsumexp

import bayesmixed as bm
from bayesmixed.newcomers import observed, unknown_to_the_fit
from bayesmixed.update import propose

PHI, SIGMA, BETA = 0.7, 1.3, [2.0, 0.5]


def _frame(people=6, visits=5):
    """Visits in no order; the last of the second person, and the middle of the third, missing."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {"id": np.repeat(np.arange(people), visits), "visit": np.tile(np.arange(visits), people)}
    )
    frame["time"] = frame["visit"] + rng.uniform(0, 0.8, len(frame))
    frame["arm"] = np.where(frame["id"] % 2, "new", "old")
    frame["x"] = rng.normal(size=len(frame))
    frame["y"] = rng.normal(size=len(frame))
    gone = ((frame["id"] == 1) & (frame["visit"] > 2)) | (
        (frame["id"] == 2) & (frame["visit"] == 2)
    )
    return frame[~gone].sample(frac=1, random_state=2), frame[gone]


def _repeated(fit, draws=6000):
    """A fit with one draw, that draw many times."""
    posterior = fit.posterior.isel(draw=np.zeros(draws, int)).assign_coords(draw=np.arange(draws))
    tree = fit.tree.copy()
    tree["posterior"] = posterior
    tree["sample_stats"] = fit.tree["sample_stats"].to_dataset().isel(draw=np.zeros(draws, int))
    return type(fit)(fit.design, tree)


def _drawn(fit, rows, **more):
    report = bm.predict(_repeated(fit), rows, kind="outcome", seed=3, **more)
    return report, report.draws["prediction"].to_numpy()[0]


def _agree(draws, mean, V):
    """Means and covariances within four and a half Monte Carlo errors."""
    n = len(draws)
    assert (abs(draws.mean(axis=0) - mean) < 4.5 * np.sqrt(np.diag(V) / n) + 1e-9).all()
    error = np.sqrt((np.outer(np.diag(V), np.diag(V)) + V**2) / n)
    assert (abs(np.cov(draws.T) - V) < 4.5 * error + 1e-9).all()


def test_forecasts_of_ar1_are_those_of_the_textbook():
    """h visits after the last one: mean phi^h e and variance sigma^2 (1 - phi^(2h))."""
    seen, _ = _frame()
    model = bm.Model("y ~ x", seen, residual=bm.AR1(time="visit", within="id"))
    fit = at(model, beta=BETA, sigma=SIGMA, phi=PHI)
    # Visits 5 and 7 lie beyond all in the data.
    later = pd.DataFrame({"id": 1, "visit": [4, 3, 7, 5], "x": [0.3, -1.0, 0.0, 2.0]})
    report, draws = _drawn(fit, later)
    last = seen[(seen["id"] == 1) & (seen["visit"] == 2)].iloc[0]
    e = last["y"] - BETA[0] - BETA[1] * last["x"]
    h = later["visit"].to_numpy() - 2
    mean = BETA[0] + BETA[1] * later["x"].to_numpy() + PHI**h * e
    lag = abs(np.subtract.outer(h, h))
    V = SIGMA**2 * (PHI**lag - PHI ** (h[:, None] + h))
    np.testing.assert_allclose(np.diag(V), SIGMA**2 * (1 - PHI ** (2 * h)))
    _agree(draws, mean, V)
    assert "in 4 of 4 rows given those seen" in report.caption


STRUCTURES = {
    "by arm and visit": bm.Unstructured(time="visit", within="id", by="arm"),
    "measured": bm.Exponential(time="time", within="id", nugget=True),
    "bands": bm.Toeplitz(time="visit", within="id", bands=2),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_gaps_are_filled_by_the_conditional_normal(name):
    """Each person's own intercept beside it; two people, of two arms, in one table."""
    seen, gone = _frame()
    model = bm.Model("y ~ x + (1 | id)", seen, residual=STRUCTURES[name])
    prior = from_priors(model, 1)
    fit = type(prior)(prior.design, prior.tree.isel(chain=[0], draw=[0]))
    _, draws = _drawn(fit, gone)
    draw = fit.posterior.isel(chain=0, draw=0)
    whole = pd.concat([seen, gone]).reset_index(drop=True)
    mean = draw["beta"].to_numpy() @ np.stack([np.ones(len(whole)), whole["x"]])
    mean += draw["u_id"].to_numpy()[whole["id"], 0]
    lag = abs(np.subtract.outer(*[whole["time"].to_numpy()] * 2))
    step = abs(np.subtract.outer(*[whole["visit"].to_numpy()] * 2))
    if name == "measured":
        sd = np.full(len(whole), float(draw["sigma"]))
        P = np.where(lag == 0, 1, (1 - float(draw["nugget"])) * np.exp(-lag / float(draw["range"])))
    elif name == "bands":
        sd = np.full(len(whole), float(draw["sigma"]))
        P = np.where(step == 0, 1, np.where(step == 1, float(draw["rho"][0]), 0))
    else:
        arm, visit = (whole["arm"] == "old").to_numpy().astype(int), whole["visit"].to_numpy()
        sigma = draw["sigma"].to_series()
        sd = np.array([sigma[f"{a},{v}"] for a, v in zip(whole["arm"], visit, strict=True)])
        cor = draw["cor_residual"].to_numpy()
        P = cor[arm[:, None], visit[:, None], visit]
    V = sd[:, None] * P * sd * np.equal.outer(*[whole["id"].to_numpy()] * 2)
    n = len(seen)
    weights = np.linalg.solve(V[:n, :n], V[:n, n:])
    expected = mean[n:] + (whole["y"].to_numpy()[:n] - mean[:n]) @ weights
    _agree(draws, expected, V[n:, n:] - V[n:, :n] @ weights)
    # The mean is the expected value given the effects, and no more.
    plain = bm.predict(fit, gone).draws["prediction"].to_numpy()[0, 0]
    np.testing.assert_allclose(plain, mean[n:])


def test_new_subjects_and_rows_that_were_seen_are_series_of_their_own():
    seen, _ = _frame()
    model = bm.Model("y ~ x", seen, residual=bm.AR1(time="visit", within="id"))
    fit = at(model, beta=BETA, sigma=SIGMA, phi=PHI)
    rows = pd.DataFrame({"id": [77, 0, 77, 0], "visit": [0, 2, 3, 3], "x": 0.0})
    V = np.eye(4)
    V[0, 2] = V[2, 0] = PHI**3
    V[1, 3] = V[3, 1] = PHI
    report, draws = _drawn(fit, rows)
    _agree(draws, np.full(4, BETA[0]), SIGMA**2 * V)
    assert "in 4 rows as a series of their own" in report.caption
    # A person's label means nothing where it is asked for as a new one.
    later = pd.DataFrame({"id": 1, "visit": [3, 4], "x": 0.0})
    for groups in ("new", {"id": "new"}):
        _, draws = _drawn(fit, later, groups=groups)
        _agree(draws, np.full(2, BETA[0]), SIGMA**2 * np.array([[1, PHI], [PHI, 1]]))
    # Neither person nor visit is needed then.
    _, draws = _drawn(fit, pd.DataFrame({"x": [0.0, 0.0]}), groups="new")
    _agree(draws, np.full(2, BETA[0]), SIGMA**2 * np.eye(2))


def test_replicates_are_whole_series():
    seen, _ = _frame()
    structure = bm.AR1(time="visit", within="id", heterogeneous=True)
    fit = at(bm.Model("y ~ x", seen, residual=structure), beta=BETA, phi=PHI)
    sd = fit.posterior["sigma"].to_numpy()[0, 0]
    drawn = bm.posterior_predictive(_repeated(fit), seed=1).tree["posterior_predictive"]["y"]
    same = np.equal.outer(*[seen["id"].to_numpy()] * 2)
    lag = abs(np.subtract.outer(*[seen["visit"].to_numpy()] * 2))
    own = sd[seen["visit"]]
    V = same * PHI**lag * own[:, None] * own
    _agree(drawn.to_numpy()[0], BETA[0] + BETA[1] * seen["x"].to_numpy(), V)
    # A mean of a person's visits spreads as the correlation has it.
    table = bm.check(_repeated(fit, 4000), by=seen["id"], seed=1).table
    mine = seen["id"].to_numpy() == 0
    expected = np.sqrt(V[np.ix_(mine, mine)].mean())
    assert table.loc["0", "sd"] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"visit": [3]}, "id"),
        ({"id": [1]}, "visit"),
        ({"id": [1], "visit": [3.5]}, "nothing is known of its residuals"),
        ({"id": [1], "visit": [9]}, "standard deviation at visit 9 is not known"),
    ],
)
def test_what_is_not_known_of_rows_is_said(rows, message):
    seen, _ = _frame()
    structure = bm.AR1(time="visit", within="id", heterogeneous=True)
    fit = from_priors(bm.Model("y ~ x", seen, residual=structure), 2)
    with pytest.raises(bm.BayesmixedError, match=message):
        bm.predict(fit, pd.DataFrame(rows | {"x": 0.0}), kind="outcome")


def test_arms_are_those_of_the_series():
    seen, _ = _frame()
    structure = bm.AR1(time="visit", within="id", by="arm")
    fit = from_priors(bm.Model("y ~ x", seen, residual=structure), 2)
    rows = pd.DataFrame({"id": [1], "visit": [3], "x": 0.0, "arm": "old"})
    with pytest.raises(
        bm.BayesmixedError, match="'arm' changes within id 1; a series is of one arm"
    ):
        bm.predict(fit, rows, kind="outcome")


def _dense(draw, frame, mean):
    """Mean and covariance of AR(1) with intercepts of people integrated out."""
    same = np.equal.outer(*[frame["id"].to_numpy()] * 2)
    lag = abs(np.subtract.outer(*[frame["visit"].to_numpy()] * 2))
    own = float(draw["sigma"]) ** 2 * float(draw["phi"]) ** lag
    return mean, same * (own + float(draw["sd_id"][0]) ** 2)


@pytest.mark.parametrize("structure", [bm.AR1, bm.Unstructured, bm.ContinuousAR1])
def test_a_history_has_one_row_a_time(structure):
    seen, later = _frame()
    model = bm.Model("y ~ x", seen, residual=structure(time="visit", within="id"))
    fit = from_priors(model, 20)
    history = pd.DataFrame({"id": 77, "visit": [1, 0, 1], "x": 0.0, "y": [1.0, 2.0, 3.0]})
    history.index = pd.Index(["a", "b", "c"])
    future = later.iloc[:1].assign(id=77)
    with pytest.raises(bm.BayesmixedError, match="Rows a and c of the history are both of id 77"):
        bm.forecast(fit, history, future, seed=1)
    assert np.isfinite(bm.forecast(fit, history[:2], future, seed=1).table["mean"]).all()
    own = seen[seen["id"] == 1].iloc[:1]
    future = later.iloc[:1].assign(id=1)
    again = bm.forecast(fit, own, future, seed=1)
    assert any("in the fit already" in caveat for caveat in again.caveats)
    with pytest.raises(bm.BayesmixedError, match="which the fit has seen with"):
        bm.forecast(fit, own.assign(y=9.0), future, seed=1)


def test_forecasts_of_new_people_are_conditional_normals():
    """Intercept and residuals of a new person, both from the visits so far; one draw."""
    seen, _ = _frame()
    residual = bm.AR1(time="visit", within="id")
    model = bm.Model("y ~ x + (1 | id)", seen, residual=residual)
    fit = at(model, beta=BETA, sigma=SIGMA, phi=PHI, sd_id=0.9)
    x = np.array([0.2, -1.0, 0.4, 0.0, 1.0])
    person = pd.DataFrame({"id": 50, "visit": [0, 1, 3, 4, 6], "x": x})
    history = person.iloc[:3].assign(y=[2.9, 3.5, 1.0])
    later = person.iloc[3:]
    mean, V = _dense(fit.posterior.isel(chain=0, draw=0), person, BETA[0] + BETA[1] * x)
    weights = np.linalg.solve(V[:3, :3], V[:3, 3:])
    expected = mean[3:] + (history["y"] - mean[:3]) @ weights
    left = V[3:, 3:] - V[3:, :3] @ weights
    many = _repeated(fit)
    drawn = bm.forecast(many, history, later, kind="outcome", seed=1)
    _agree(drawn.draws["forecast"].to_numpy()[0], expected, left)
    assert drawn.table["visits"].tolist() == [3, 3]
    # Expected values are averaged over what is not known of the intercept alone.
    means = bm.forecast(many, history, later, seed=1)
    error = np.sqrt(np.diag(left) / 6000)
    assert (abs(means.table["mean"] - expected) < 4.5 * error).all()
    assert (means.table["sd"] < drawn.table["sd"]).all()
    means.plot()


def test_further_visits_of_people_in_the_fit_continue_their_series():
    """Without groups: h visits after the last of the history, by the textbook."""
    seen, _ = _frame()
    model = bm.Model("y ~ x", seen, residual=bm.AR1(time="visit", within="id"))
    fit = _repeated(at(model, beta=BETA, sigma=SIGMA, phi=PHI))
    history = pd.DataFrame({"id": [1], "visit": [4], "x": [0.5], "y": [4.0]})
    later = pd.DataFrame({"id": 1, "visit": [3, 6], "x": 0.0})
    e = 4.0 - BETA[0] - BETA[1] * 0.5
    last = seen[(seen["id"] == 1) & (seen["visit"] == 2)].iloc[0]
    first = last["y"] - BETA[0] - BETA[1] * last["x"]
    # Visit 3 lies between visits 2 and 4: a bridge.
    between = PHI / (1 + PHI**2) * (first + e)
    found = bm.forecast(fit, history, later, kind="mean", seed=1)
    np.testing.assert_allclose(found.table["mean"], BETA[0] + np.array([between, PHI**2 * e]))
    drawn = bm.forecast(fit, history, later, kind="outcome", seed=1)
    V = SIGMA**2 * np.diag([(1 - PHI**2) / (1 + PHI**2), 1 - PHI**4])
    _agree(drawn.draws["forecast"].to_numpy()[0], found.table["mean"].to_numpy(), V)
    # Rows that the fit has seen count once.
    again = pd.concat([history, seen[seen["id"] == 1]])
    twice = bm.forecast(fit, again, later, kind="mean", seed=1)
    np.testing.assert_allclose(twice.table["mean"], found.table["mean"])


def test_further_visits_weigh_the_draws_by_their_likelihood():
    """Of a new person, and of one in the fit given the visits there; dense, draw by draw."""
    seen, _ = _frame()
    residual = bm.AR1(time="visit", within="id")
    fit = from_priors(bm.Model("y ~ x + (1 | id)", seen, residual=residual), 10)
    new = pd.DataFrame({"id": 50, "visit": [0, 1, 3], "x": 0.0, "y": [2.9, 3.5, 1.0]})
    known = pd.DataFrame({"id": 1, "visit": [3, 4], "x": 0.0, "y": [1.0, 0.5]})
    for rows in (new, known):
        given = observed(fit.design, rows)
        (groups,) = unknown_to_the_fit(given)
        found = propose(fit, given, groups, np.random.default_rng(1)).log_weights
        total = logsumexp(found, axis=-1) - np.log(found.shape[-1])
        for c, d in ((0, 2), (1, 7)):
            draw = fit.posterior.isel(chain=c, draw=d)
            own = seen[seen["id"] == rows["id"].iloc[0]]
            both = pd.concat([own, rows])
            mean = draw["beta"].to_numpy() @ np.stack([np.ones(len(both)), both["x"]])
            mean, V = _dense(draw, both, mean)
            if len(own):
                mean = mean + draw["u_id"].sel(id=1).item()
                V = V - float(draw["sd_id"][0]) ** 2
            n, off = len(own), both["y"] - mean
            density = stats.multivariate_normal(np.zeros(len(both)), V).logpdf(off)
            if n:
                density -= stats.multivariate_normal(np.zeros(n), V[:n, :n]).logpdf(off[:n])
            assert total[c, d] == pytest.approx(density, rel=1e-6)
