"""Several outcomes over time: the direct product of two structures."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from made import at, from_priors
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

import bayesmixed as bm
from bayesmixed.covariance import structure_from
from bayesmixed.group_likelihood import group_log_likelihood
from bayesmixed.series import Series

LOAD = bm.datasets.load
OUTCOMES = ["diastolic", "heart rate", "systolic"]


def _pressures(patients=30, outcomes=3, visits=4, seed=1, share=0.8):
    """Rows of several outcomes in no order, any of them missing, at whole and at broken times."""
    rng = np.random.default_rng(seed)
    cells = [(i, o, v) for i in range(patients) for o in OUTCOMES[:outcomes] for v in range(visits)]
    frame = pd.DataFrame(cells, columns=["id", "outcome", "visit"])
    frame["arm"] = np.where(frame["id"] % 2, "new", "old")
    frame["time"] = frame["visit"] + 0.1 * (frame["id"] % 3)
    frame["y"] = rng.normal(size=len(frame)) + frame["outcome"].map(len)
    return frame.sample(frac=share, random_state=seed)


def _product(first, second, **more):
    return bm.Product(first, second, within="id", **more)


UN = bm.Unstructured(time="outcome")
SECOND = {
    "CompoundSymmetry": bm.CompoundSymmetry(time="visit"),
    "AR1": bm.AR1(time="visit"),
    "ContinuousAR1": bm.ContinuousAR1(time="time"),
    "ARMA11": bm.ARMA11(time="visit"),
    "Toeplitz": bm.Toeplitz(time="visit", bands=2),
    "Antedependence": bm.Antedependence(time="visit"),
    "Unstructured": bm.Unstructured(time="visit"),
    "Exponential": bm.Exponential(time="time", nugget=True),
    "Independent": bm.Independent(time="visit", heterogeneous=True),
}


@pytest.mark.parametrize("name", SECOND)
@pytest.mark.parametrize("size", range(2, 7))
def test_complete_rows_have_the_kronecker_product(name, size):
    """Of the factors' own matrices, outcomes by visits."""
    rng = np.random.default_rng(size)
    second = SECOND[name]
    R = np.corrcoef(rng.normal(size=(3, 6)))
    P = np.corrcoef(rng.normal(size=(size, 2 * size)))
    own = {"rho": rng.uniform(0, 0.4, size - 1), "cor_residual": P, "phi": 0.6, "theta": -0.3}
    own |= {"range": 1.7, "nugget": 0.2, "partial": rng.uniform(0.3, 0.7, size - 1)}
    names = [p.name for p in second.parameters(size, 1.0)]
    own = {n: own[n] for n in names}
    if name in ("CompoundSymmetry", "Toeplitz"):
        own["rho"] = 0.3 if name == "CompoundSymmetry" else np.array([0.3])
    times = np.arange(size)[:, None] * 1.0
    rows = np.array([(o, t) for o in range(3) for t in range(size)], dtype=float)
    given = {"cor_residual_outcome": R} | {f"{n}_{second.time}": v for n, v in own.items()}
    found = _product(UN, second).matrix(given, rows)
    expected = np.kron(R, second.matrix(own, times))
    np.testing.assert_allclose(found, expected, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "by"),
    [*((name, None) for name in SECOND), ("AR1", "arm"), ("Unstructured", "arm")],
)
def test_patients_are_multivariate_normal(name, by):
    """With slopes of their own: N(X beta, Z G Z' + D (R x P) D), put together by label."""
    structure = _product(UN, SECOND[name], by=by)
    model = bm.Model("y ~ outcome * visit + (1 + visit | id)", _pressures(8), residual=structure)
    fit = from_priors(model, 4)
    found = group_log_likelihood(fit, "id")
    frame, design = fit.design.table.frame, fit.design
    draw = fit.posterior.isel(chain=1, draw=2)
    sd = draw["sd_id"].to_numpy()
    G = sd[:, None] * draw["cor_id"].to_numpy() * sd
    second, times = SECOND[name], sorted(frame[SECOND[name].time].unique())
    for j, label in enumerate(found["id"].to_numpy()):
        rows = np.flatnonzero(frame["id"] == label)
        own = frame.iloc[rows]
        mine = draw if by is None else draw.sel(residual_arm=own["arm"].iloc[0])
        R = mine["cor_residual_outcome"].sel(
            residual_outcome=own["outcome"].to_list(), residual_outcome_bis=own["outcome"].to_list()
        )
        when = own[second.time].to_numpy(float)
        where = np.array([times.index(t) for t in when]) if second.counted else when
        size = len(times)
        names = [p.name for p in second.parameters(size, 1.0)]
        values = {n: mine[f"{n}_{second.time}"].to_numpy() for n in names}
        P = second.matrix(values, where[:, None])
        V = R.to_numpy() * P
        key = [] if by is None else [own["arm"]]
        key += [own["outcome"]] + ([own["visit"]] if second.heterogeneous else [])
        cells = [",".join(map(str, k)) for k in zip(*key, strict=True)]
        s = draw["sigma"].to_series().rename(index=str)[cells].to_numpy()
        Z = np.column_stack([np.ones(len(own)), own["visit"]])
        mean = design.predictors["mu"].X[rows] @ draw["beta"].to_numpy()
        V = Z @ G @ Z.T + s[:, None] * V * s
        expected = multivariate_normal(mean, V).logpdf(design.y[rows])
        assert found[1, 2, j] == pytest.approx(expected, rel=1e-8)


def test_any_rows_of_the_product_are_positive_definite():
    """Parameters at the ends of their supports, cells missing."""
    rng = np.random.default_rng(2)
    for second in SECOND.values():
        structure = _product(bm.CompoundSymmetry(time="outcome"), second)
        series = Series.of(structure, _pressures(10, seed=3))
        for _ in range(20):
            values = {}
            for p in series.parameters:
                if p.is_matrix:
                    values[p.name] = np.corrcoef(rng.normal(size=(4, 7)))
                    continue
                lower, upper = p.support[0], min(p.support[1], 20.0)
                edge = lower + (upper - lower) * rng.choice([0.001, 0.999], len(p.priors))
                values[p.name] = edge if p.dim else edge[0]
            for length, times in zip(series.lengths, series.times, strict=True):
                P = np.broadcast_to(structure.matrix(values, times[:length]), (length, length))
                assert np.linalg.eigvalsh(P).min() > -1e-10


def test_one_outcome_is_the_structure_over_time_and_one_visit_that_over_outcomes():
    def likelihood(structure, frame, **values):
        model = bm.Model("y ~ visit" if visits else "y ~ outcome", frame, residual=structure)
        # A factor of one value has no parameters.
        assert {p.name for p in model.design.series.parameters} == set(values)
        return group_log_likelihood(at(model, beta=[0.3, 0.2], sigma=1.3, **values), "id")

    visits = True
    frame = _pressures(outcomes=1)
    ar1 = bm.AR1(time="visit")
    both = likelihood(_product(UN, ar1), frame, phi_visit=0.4)
    alone = likelihood(bm.AR1(time="visit", within="id"), frame, phi=0.4)
    np.testing.assert_allclose(both, alone)
    visits = False
    frame, R = _pressures(visits=1, outcomes=2), np.array([[1, 0.6], [0.6, 1]])
    both = likelihood(_product(UN, ar1), frame, cor_residual_outcome=R)
    free = bm.Unstructured(time="outcome", within="id")
    np.testing.assert_allclose(both, likelihood(free, frame, cor_residual=R))


def test_names_and_labels():
    frame = _pressures()
    names = bm.Model("y ~ outcome", frame, residual=_product(UN, SECOND["AR1"])).priors.index
    sds = [f"sigma[{name}]" for name in OUTCOMES]
    assert list(names[-5:]) == [*sds, "cor_residual_outcome", "phi_visit"]
    cells = _product(UN, bm.Unstructured(time="visit"), by="arm")
    model = bm.Model("y ~ outcome", frame, residual=cells)
    assert model.design.spreads.labels[:2] == ("new,diastolic,0", "new,diastolic,1")
    posterior = from_priors(model, 2).posterior
    assert posterior["cor_residual_visit"].dims[2:] == (
        "residual_arm",
        "residual_visit",
        "residual_visit_bis",
    )
    assert list(posterior["residual_outcome"].to_numpy()) == OUTCOMES
    toeplitz = _product(bm.CompoundSymmetry(time="outcome"), bm.Toeplitz(time="visit"))
    posterior = from_priors(bm.Model("y ~ outcome", frame, residual=toeplitz), 2).posterior
    assert posterior["rho_visit"].dims[2:] == ("residual_visit_lag",)
    assert posterior["sigma"].dims == posterior["rho_outcome"].dims == ("chain", "draw")
    # Two factors of which one's column ends in the other's.
    near = bm.Product(bm.AR1(time="visit"), bm.AR1(time="old_visit"), within="id")
    found = near.matrix({"phi_visit": 0.5, "phi_old_visit": 0.1}, np.array([[0, 0], [1, 0]]))
    assert found[0, 1] == 0.5


def test_names_of_outcomes_have_no_order_but_visits_have():
    names = dict(zip(OUTCOMES, ("IL10", "IL6", "TNF"), strict=True))
    frame = _pressures().assign(marker=lambda d: d["outcome"].map(names))
    free = _product(bm.Unstructured(time="marker"), bm.AR1(time="visit"))
    bm.Model("y ~ marker", frame, residual=free)
    with pytest.raises(bm.BayesmixedError, match="their numbers say"):
        bm.Model("y ~ 1", frame, residual=_product(bm.AR1(time="marker"), bm.AR1(time="visit")))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: _product(UN, "ar1"), "has two structures"),
        (lambda: _product(UN, _product(UN, SECOND["AR1"])), "has two structures"),
        (lambda: _product(UN, bm.AR1(time="visit", within="patient")), "said once"),
        (lambda: _product(bm.AR1(time="visit", by="arm"), SECOND["AR1"]), "said once"),
        (lambda: _product(bm.AR1(time="visit"), SECOND["Unstructured"]), "columns of their own"),
        (lambda: _product(bm.Unstructured(time="arm"), SECOND["AR1"]), "cannot be called 'arm'"),
        (lambda: bm.Product(UN, SECOND["AR1"]), "within="),
        (lambda: bm.AR1(time="visit"), "within="),
        (lambda: _product(bm.Unstructured(time="outcomes"), SECOND["AR1"]), "Did you mean"),
        (lambda: bm.Product(UN, SECOND["AR1"], within="cell_"), "nothing to learn"),
        (lambda: bm.Product(UN, SECOND["AR1"], within="row"), "two values of 'outcome'"),
        (lambda: _product(UN, bm.ContinuousAR1(time="row")), "does not hold numbers"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_compiled(made, message):
    frame = _pressures().assign(cell_=lambda d: range(len(d)))
    frame["row"] = frame["id"].astype(str) + frame["outcome"]
    with pytest.raises(bm.BayesmixedError, match=message):
        bm.Model("y ~ outcome", frame, residual=made())


def test_two_rows_of_an_outcome_at_a_visit_are_named():
    frame = _pressures(share=1.0).reset_index(drop=True)
    again = pd.concat([frame, frame.iloc[[17]]], ignore_index=True)
    row = frame.loc[17]
    at_ = f"outcome {row['outcome']}, visit {row['visit']}"
    message = f"Rows 17 and {len(frame)} are both of id {row['id']} at {at_}"
    with pytest.raises(bm.BayesmixedError, match=message):
        bm.Model("y ~ outcome", again, residual=_product(UN, SECOND["AR1"]))


def test_visits_that_are_counted_are_noted_of_each_factor():
    frame = _pressures().assign(month=lambda d: d["visit"] ** 2)
    model = bm.Model("y ~ outcome", frame, residual=_product(UN, bm.AR1(time="month")))
    assert any("ContinuousAR1" in note for note in model.notes)


def test_a_product_is_written_and_read(tmp_path):
    structure = _product(UN, SECOND["Exponential"], by="arm")
    assert structure_from(json.loads(json.dumps(structure.to_dict()))) == structure
    places = bm.Product(UN, bm.Matern(time=("x", "z"), smoothness=2.5), within="id")
    assert structure_from(json.loads(json.dumps(places.to_dict()))) == places
    fit = from_priors(bm.Model("y ~ outcome", _pressures(), residual=structure), 4)
    again = bm.load(fit.save(tmp_path / "fit.nc"))
    assert again.spec.residual == structure
    assert structure.name == "heterogeneous unstructured by exponential"


def _likelihood(parameters, groups, outcomes, visits):
    """Minus the log-likelihood of two outcomes with means of their own, UN@AR(1)."""
    means, sds = parameters[:outcomes], np.exp(parameters[outcomes : 2 * outcomes])
    rho, phi = np.tanh(parameters[2 * outcomes :])
    total = 0.0
    for o, v, y in groups:
        R = np.where(o[:, None] == o, 1.0, rho)
        V = sds[o][:, None] * R * phi ** abs(v[:, None] - v) * sds[o]
        total -= multivariate_normal(means[o], V).logpdf(y)
    return total


def test_posterior_of_two_outcomes_against_maximum_likelihood():
    """120 patients x 2 outcomes x 4 visits: priors that say nothing leave the likelihood's peak.

    The posterior means of 1,000 draws, with about 600 effective, have errors of 0.04 sds; the
    posterior of 700 rows is normal up to a skewness of some hundredths, which moves its mean from
    its mode by less than 0.1 sds.
    """
    rng = np.random.default_rng(6)
    frame = _pressures(patients=120, outcomes=2, seed=5, share=1.0)
    frame = frame.sort_values(["id", "outcome", "visit"])
    lags = abs(np.subtract.outer(np.arange(4), np.arange(4)))
    S = np.array([[4.0, -1.2], [-1.2, 1.0]])
    L = np.linalg.cholesky(np.kron(S, 0.7**lags))
    frame["y"] = (rng.normal(size=(120, 8)) @ L.T).ravel() + 5
    frame = frame.sample(frac=0.75, random_state=6)
    o = (frame["outcome"] == OUTCOMES[1]).to_numpy().astype(int)
    groups = [
        (o[rows], frame["visit"].to_numpy()[rows], frame["y"].to_numpy()[rows])
        for rows in frame.groupby("id").indices.values()
    ]
    best = minimize(_likelihood, np.array([5, 5, 0.5, 0, -0.5, 0.8]), (groups, 2, 4))
    model = bm.Model("y ~ 0 + outcome", frame, residual=_product(UN, SECOND["AR1"]))
    fit = model.fit(draws=500, tune=500, chains=2, seed=1, progress=False)
    assert fit.converged
    posterior = fit.posterior
    found = {
        "mean": (posterior["beta"], best.x[:2]),
        "sigma": (posterior["sigma"], np.exp(best.x[2:4])),
        "rho": (posterior["cor_residual_outcome"][..., 0, 1], np.tanh(best.x[4])),
        "phi": (posterior["phi_visit"], np.tanh(best.x[5])),
    }
    for name, (draws, expected) in found.items():
        off = (draws.mean(("chain", "draw")) - expected) / draws.std(("chain", "draw"))
        assert (abs(off) < 0.25).all(), name
    assert abs(found["rho"][1] + 0.6) < 0.15
    assert abs(found["phi"][1] - 0.7) < 0.1


@pytest.fixture(scope="module")
def fit():
    return from_priors(bm.Model("y ~ arm * outcome", _pressures(), residual=_product(UN, AR1H)))


AR1H = bm.AR1(time="visit", heterogeneous=True)


def test_residual_correlation_shows_each_factor(fit):
    report = bm.residual_correlation(fit)
    table = report.table
    assert table.index.names == ["factor", "visit", "other"]
    assert len(table) == 3 + 6
    R = fit.posterior["cor_residual_outcome"].mean(("chain", "draw")).to_numpy()
    phi = fit.posterior["phi_visit"]
    fitted = table["mean"]
    assert fitted["outcome", "diastolic", "systolic"] == pytest.approx(R[0, 2])
    assert fitted["visit", 0, 3] == pytest.approx(float((phi**3).mean()))
    # Pearson's over the patients' pairs, from the frame.
    frame = fit.design.table.frame
    mean = fit.design.predictors["mu"].eta(
        fit.posterior["beta"].to_numpy(), {}
    ).mean((0, 1))  # fmt: skip
    sd = fit.design.spreads.of_rows(fit.posterior["sigma"].to_numpy()).mean((0, 1))
    wide = frame.assign(r=(fit.design.y - mean) / sd).pivot(
        index=["id", "visit"], columns="outcome", values="r"
    )
    pairs = wide[["diastolic", "systolic"]].dropna()
    row = table.loc[("outcome", "diastolic", "systolic")]
    assert row["pairs"] == len(pairs)
    assert row["observed"] == pytest.approx(pairs.corr().iloc[0, 1])
    assert list(report.pictures) == ["outcome", "visit", "cells", "correlogram", "semivariogram"]


@pytest.mark.parametrize("kind", ["outcome", "visit", "cells", "correlogram", "semivariogram"])
def test_pictures(fit, kind, tmp_path):
    path = bm.residual_correlation(fit).save_plot(tmp_path / f"{kind}.png", kind)
    assert path.stat().st_size > 5000


def test_many_times_are_shown_by_lag():
    frame = _pressures(outcomes=2, visits=14)
    fit = from_priors(bm.Model("y ~ outcome", frame, residual=_product(UN, SECOND["AR1"])), 3)
    table = bm.residual_correlation(fit).table
    assert len(table) == 1 + 13
    phi = fit.posterior["phi_visit"]
    assert table.loc[("visit", "lag", 5), "mean"] == pytest.approx(float((phi**5).mean()))


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (bm.sphericity, "one outcome at a time"),
        (lambda fit: bm.trial_analysis(fit, "arm", "visit"), "one outcome"),
        (lambda fit: bm.dropout_sensitivity(fit, "arm", "visit"), "one outcome"),
    ],
)
def test_reports_of_one_outcome_refuse_several(fit, report, message):
    with pytest.raises(bm.BayesmixedError, match=message):
        report(fit)


def test_reports_that_serve(fit):
    """A patient's rows can be left out; means and predictions of an outcome are the model's."""
    assert np.isfinite(bm.loo(fit, "id").table.to_numpy(dtype=float)).any()
    means = bm.means(fit, "arm", by="outcome").table
    assert len(means) == 6
    rows = pd.DataFrame({"arm": ["new", "new"], "outcome": OUTCOMES[:2]})
    found = bm.predict(fit, rows).table["mean"].to_numpy()
    np.testing.assert_allclose(found, means.loc["new", "mean"].to_numpy()[:2])
    again = bm.predict(fit, fit.design.table.frame.head(4), kind="outcome", seed=1).table
    assert np.isfinite(again["mean"]).all()
    with pytest.raises(bm.BayesmixedError, match="no column 'id'"):
        bm.predict(fit, rows, kind="outcome")


def test_shares_and_the_page(tmp_path):
    """The residual of an outcome is its own; a page has its parts, one for each factor's matrix."""
    model = bm.Model("y ~ outcome + (1 | id)", _pressures(), residual=_product(UN, SECOND["AR1"]))
    fit = from_priors(model, 4)
    between = fit.posterior["sd_id"].to_numpy()[..., 0] ** 2
    found = bm.icc(fit, at={"outcome": OUTCOMES}).draws["latent"].isel(group=0)
    sigma = fit.posterior["sigma"].to_numpy()
    np.testing.assert_allclose(found, between[..., None] / (between[..., None] + sigma**2))
    residual = bm.variance_components(fit).table["mean"]["residual", "", "variance"]
    rows = fit.design.spreads.of_rows(sigma)
    assert residual == pytest.approx((rows**2).mean())
    page = bm.report(fit, tmp_path / "page.html").read_text()
    assert "Residual correlation" in page
    assert "outcome" in page
