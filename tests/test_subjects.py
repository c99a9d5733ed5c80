"""All rows of a subject as one normal: against SciPy, closed forms and refits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made import at, from_priors
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import bayesmixed as bm
from bayesmixed.group_likelihood import group_log_likelihood

LOAD = bm.datasets.load


def _orthodont(formula="distance ~ age * Sex", **options):
    """Unsorted rows, some missing."""
    data = LOAD("orthodont").sample(frac=0.85, random_state=3)
    return bm.Model(formula, data.assign(half=data["Subject"].str[-1] < "5"), **options)


STRUCTURES = {
    "ar1": bm.AR1(time="age", within="Subject", heterogeneous=True),
    "by sex": bm.Unstructured(time="age", within="Subject", by="Sex"),
    "measured": bm.Exponential(time="age", within="Subject", nugget=True),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_subjects_are_multivariate_normal(name):
    """N(X beta, Z G Z' + D P D) in every draw, put together here from the posterior's names."""
    structure = STRUCTURES[name]
    model = _orthodont("distance ~ age * Sex + (1 + age | Subject)", residual=structure)
    fit = from_priors(model)
    found = group_log_likelihood(fit, "Subject")
    frame, design, posterior = fit.design.table.frame, fit.design, fit.posterior
    sigma = np.exp(np.broadcast_to(fit.parameters()["sigma"], (2, 20, len(frame))))
    ages = [8, 10, 12, 14]
    for c, d in ((0, 3), (1, 19)):
        draw = posterior.isel(chain=c, draw=d)
        sd = draw["sd_Subject"].to_numpy()
        G = sd[:, None] * draw["cor_Subject"].to_numpy() * sd
        for j, label in enumerate(found["Subject"].to_numpy()):
            rows = np.flatnonzero(frame["Subject"] == label)
            own = frame.iloc[rows]
            age, at_ = own["age"].to_numpy(), [ages.index(a) for a in own["age"]]
            lags = abs(np.subtract.outer(age, age))
            if name == "ar1":
                P = float(draw["phi"]) ** (lags / 2)
            elif name == "measured":
                share = 1 - float(draw["nugget"])
                P = np.where(lags == 0, 1, share * np.exp(-lags / float(draw["range"])))
            else:
                arm = list(posterior["residual_arm"].to_numpy()).index(own["Sex"].iloc[0])
                P = draw["cor_residual"].to_numpy()[arm][np.ix_(at_, at_)]
            Z = np.column_stack([np.ones(len(age)), age])
            V = Z @ G @ Z.T + sigma[c, d, rows][:, None] * P * sigma[c, d, rows]
            mean = design.predictors["mu"].X[rows] @ draw["beta"].to_numpy()
            expected = multivariate_normal(mean, V).logpdf(design.y[rows])
            assert found[c, d, j] == pytest.approx(expected, rel=1e-8)


def test_without_correlation_the_likelihood_is_that_of_groups():
    """A structure that correlates nothing gives what the integral over effects gives."""
    formula = "distance ~ age + (1 + age | Subject) + (1 | half)"
    plain, apart = (
        from_priors(_orthodont(formula, residual=r))
        for r in (None, bm.Independent(time="age", within="Subject"))
    )
    same = type(plain)(apart.design, plain.tree)
    for unit in ("Subject", "half"):
        expected = group_log_likelihood(plain, unit)
        np.testing.assert_allclose(group_log_likelihood(same, unit), expected, rtol=1e-7)


def test_units_of_several_series_are_multivariate_normal():
    """Wards of children with AR(1) residuals, slopes of children and an intercept of the ward."""
    residual = bm.AR1(time="age", within="Subject")
    fit = from_priors(
        _orthodont("distance ~ age + (1 + age | Subject) + (1 | half)", residual=residual)
    )
    found = group_log_likelihood(fit, "half")
    frame, X = fit.design.table.frame, fit.design.predictors["mu"].X
    for c, d in ((0, 3), (1, 19)):
        draw = fit.posterior.isel(chain=c, draw=d)
        sd = draw["sd_Subject"].to_numpy()
        G = sd[:, None] * draw["cor_Subject"].to_numpy() * sd
        for j, label in enumerate(found["half"].to_numpy()):
            rows = np.flatnonzero(frame["half"] == label)
            own = frame.iloc[rows]
            same = own["Subject"].to_numpy()[:, None] == own["Subject"].to_numpy()
            lags = abs(np.subtract.outer(own["age"].to_numpy(), own["age"].to_numpy())) / 2
            Z = np.column_stack([np.ones(len(rows)), own["age"]])
            V = same * (Z @ G @ Z.T + float(draw["sigma"]) ** 2 * float(draw["phi"]) ** lags)
            V = V + draw["sd_half"].item() ** 2
            r = fit.design.y[rows] - X[rows] @ draw["beta"].to_numpy()
            expected = -0.5 * (r @ np.linalg.solve(V, r) + np.linalg.slogdet(2 * np.pi * V)[1])
            assert found[c, d, j] == pytest.approx(expected, rel=1e-7)


def test_compound_symmetry_is_a_random_intercept():
    sd_u, sigma = 1.7, 1.1
    total = sd_u**2 + sigma**2
    beta = [17.0, 0.5]
    effects = at(
        _orthodont("distance ~ age + (1 | Subject)"), beta=beta, sd_Subject=sd_u, sigma=sigma
    )
    structure = bm.CompoundSymmetry(time="age", within="Subject")
    alone = _orthodont("distance ~ age", residual=structure)
    residual = at(alone, beta=beta, rho=sd_u**2 / total, sigma=total**0.5)
    a, b = (group_log_likelihood(fit, "Subject") for fit in (effects, residual))
    np.testing.assert_allclose(a, b, rtol=1e-10)
    pd.testing.assert_index_equal(a.indexes["Subject"], b.indexes["Subject"])


def test_a_series_in_several_groups_is_refused():
    data = LOAD("orthodont").assign(rater=np.arange(108) % 5)
    structure = bm.AR1(time="age", within="Subject")
    model = bm.Model("distance ~ age + (1 | rater)", data, residual=structure)
    with pytest.raises(bm.BayesmixedError, match="lie in several groups"):
        bm.loo(from_priors(model, 4), "rater")


@pytest.fixture(scope="module")
def orthodont():
    def fit(structure, data=None, formula="distance ~ age * Sex"):
        model = bm.Model(
            formula, LOAD("orthodont") if data is None else data, residual=structure,
            # The defaults are scaled to the rows, which a refit has fewer of.
            priors={
                "Intercept": bm.Prior("Normal", mu=24, sigma=10),
                "beta[age]": bm.Prior("Normal", mu=0, sigma=3),
                "beta[Sex[T.Male]]": bm.Prior("Normal", mu=0, sigma=10),
                "beta[age:Sex[T.Male]]": bm.Prior("Normal", mu=0, sigma=3),
                "sigma": bm.Prior("HalfNormal", sigma=5),
            },
        )  # fmt: skip
        return model.fit(seed=1, draws=1000, progress=False)

    return fit


@pytest.mark.slow
def test_left_out_subjects_agree_with_refits(orthodont):
    """Reweighted elpd is that of a fit without the child, within 4 Monte Carlo errors."""
    data = LOAD("orthodont")
    structure = bm.CompoundSymmetry(time="age", within="Subject")
    fit = orthodont(structure)
    report = bm.loo(fit, "Subject")
    labels = ["M01", "F05", "M10"]
    refits = {one: orthodont(structure, data[data["Subject"] != one]) for one in labels}
    exact = bm.loo(fit, "Subject", refits=refits)
    for label in labels:
        values = report.draws["log_likelihood"].sel(Subject=label)
        ratio = np.exp(-values - logsumexp(-values))
        # Kish's effective number of the reweighted draws; they are hardly autocorrelated.
        spread = values.std() / np.sqrt(1 / (ratio**2).sum())
        gap = report.table.loc[label, "elpd"] - exact.table.loc[label, "elpd"]
        assert abs(gap) < 4 * float(spread) * 2**0.5
        assert np.isnan(exact.table.loc[label, "k_hat"])


@pytest.mark.slow
def test_structures_are_compared_by_subject(orthodont):
    """nlme's AIC of the same models stands in the same order, by about the same distances."""
    fits = {
        "cs": orthodont(bm.CompoundSymmetry(time="age", within="Subject")),
        "none": orthodont(bm.Independent(time="age", within="Subject")),
        "intercepts": orthodont(None, formula="distance ~ age * Sex + (1 | Subject)"),
    }
    table = bm.compare(fits, unit="Subject").table
    assert table.index[-1] == "none"
    # Positive correlation: compound symmetry and random intercepts are one model.
    assert abs(table.loc["cs", "elpd"] - table.loc["intercepts", "elpd"]) < 1
    assert table.loc["none", "elpd_diff"] < -15
