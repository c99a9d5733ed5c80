"""A family of the user's own is one value, and goes wherever a built-in one goes."""

from math import pi

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesmixed as bm
from bayesmixed import backend as bk
from bayesmixed import links
from bayesmixed._errors import DataError, UnknownNameError
from bayesmixed.families import Parameter

# Variance mu^3 / shape; Tweedie (1957), Ann. Math. Stat. 28:362.
INVERSE_GAUSSIAN = bm.Family(
    name="inverse_gaussian",
    parameters=(
        Parameter("mu", (links.log,)),
        Parameter(
            "shape",
            (links.log,),
            "positive",
            prior=lambda scale: bm.Prior("Gamma", alpha=2, beta=0.1),
            typical=lambda scale: 5.0,
        ),
    ),
    loglik=lambda y, mu, shape, log_shape: (
        0.5 * (log_shape - bk.log(2 * pi) - 3 * bk.log(y)) - shape * (y / mu - 1) ** 2 / (2 * y)
    ),
    mean=lambda mu: mu,
    variance=lambda mu, shape: mu**3 / shape,
    simulate=lambda rng, mu, shape: rng.wald(mu, shape),
    valid=lambda y, trials: np.isfinite(y) & (y > 0),
    support="above 0",
)
TRUTH = {"beta[Intercept]": 0.5, "beta[x]": 0.4, "sd_g": 0.5, "shape": 4.0}


def simulated(rows=400, groups=20):
    rng = np.random.default_rng(2)
    effects = rng.normal(size=groups)
    effects = TRUTH["sd_g"] * (effects - effects.mean()) / effects.std()
    x, g = rng.normal(size=rows), np.arange(rows) % groups
    mu = np.exp(TRUTH["beta[Intercept]"] + TRUTH["beta[x]"] * x + effects[g])
    return pd.DataFrame({"y": rng.wald(mu, TRUTH["shape"]), "x": x, "g": g})


@pytest.fixture(scope="module")
def model():
    return bm.Model("y ~ x + (1 | g)", simulated(), INVERSE_GAUSSIAN)


@pytest.fixture(scope="module")
def fit(model):
    return model.fit(draws=300, tune=300, chains=2, seed=1, progress=False)


@pytest.fixture(scope="module")
def saved(fit, tmp_path_factory):
    return fit.save(tmp_path_factory.mktemp("fits") / "fit.nc")


def test_its_parameters_have_priors(model):
    assert list(model.priors.index) == ["Intercept", "beta[x]", "sd_g", "shape"]
    assert model.priors.loc["shape", "prior"] == "Gamma(alpha=2, beta=0.1)"
    own = bm.Model(
        "y ~ 1", simulated(), INVERSE_GAUSSIAN, priors={"shape": bm.Prior("HalfNormal", sigma=9)}
    )
    assert own.priors.loc["shape", "source"] == "yours"


def test_its_support_is_checked_with_its_own_words():
    data = simulated(40, 4)
    data.loc[3, "y"] = -1.0
    with pytest.raises(DataError, match=r"inverse_gaussian must be above 0.*row 3 \(-1\)"):
        bm.Model("y ~ x", data, INVERSE_GAUSSIAN)


def test_its_parameters_can_have_formulas(model):
    both = bm.Model("y ~ x", simulated(), INVERSE_GAUSSIAN, parameters={"shape": "~ x"})
    assert both.priors.loc["Intercept_shape", "prior"] == "Normal(mu=1.609, sigma=2.5)"
    with pytest.raises(UnknownNameError, match=r"inverse_gaussian 'shap'. Did you mean 'shape'"):
        bm.Model("y ~ x", simulated(), INVERSE_GAUSSIAN, parameters={"shap": "~ x"})


def test_prior_predictive_draws_from_it(model):
    drawn = model.prior_predictive(50, seed=1)
    outcomes = drawn["prior_predictive"]["y"]
    assert outcomes.sizes["draw"] == 50
    assert outcomes.sizes["row"] == 400
    assert (outcomes > 0).all()
    assert set(drawn["prior"].data_vars) == {"beta", "sd_g", "shape", "u_g"}


def test_the_fit_recovers_its_parameters(fit):
    summary = fit.summary().loc[list(TRUTH)]
    z = (summary["mean"] - pd.Series(TRUTH)) / summary["sd"]
    # 600 draws of an intercept that trades off against 20 groups' effects: a rough bound.
    assert (summary["rhat"] < 1.1).all(), summary
    # Four parameters, seed fixed: a z-score above 4 has probability below 0.03 %.
    assert (z.abs() < 4).all(), z
    assert (summary["sd"] < 0.5).all(), summary


def test_its_log_likelihood_is_that_of_scipy(fit):
    found = fit.with_log_likelihood().tree["log_likelihood"]["y"]
    posterior, data = fit.posterior, simulated()
    beta, u = posterior["beta"].to_numpy(), posterior["u_g"].to_numpy()[..., 0]
    mu = np.exp(beta[..., :1] + beta[..., 1:] * data["x"].to_numpy() + u[..., data["g"]])
    shape = posterior["shape"].to_numpy()[..., None]
    # scipy's invgauss has mean mu / lambda times its scale lambda.
    expected = stats.invgauss.logpdf(data["y"], mu / shape, scale=shape)
    np.testing.assert_allclose(found.to_numpy(), expected, rtol=1e-9, atol=1e-9)


def test_a_saved_fit_is_loaded_with_the_family(fit, saved):
    again = bm.load(saved, family=INVERSE_GAUSSIAN)
    assert again.spec.family is INVERSE_GAUSSIAN
    assert again.posterior.identical(fit.posterior)
    pd.testing.assert_frame_equal(again.summary(), fit.summary())
    pd.testing.assert_frame_equal(again.design.table.frame, fit.design.table.frame)
    found, expected = (
        f.with_log_likelihood().tree["log_likelihood"]["y"].to_numpy() for f in (again, fit)
    )
    np.testing.assert_array_equal(found, expected)


def test_a_saved_fit_without_the_family_is_refused(saved):
    with pytest.raises(bm.BayesmixedError, match=r"'inverse_gaussian', .* bm\.load\(path, family="):
        bm.load(saved)


def test_a_saved_fit_with_another_family_is_refused(saved):
    with pytest.raises(bm.BayesmixedError, match="inverse_gaussian"):
        bm.load(saved, family=bm.families.gaussian)


def test_a_link_of_the_users_own_is_taken():
    # The square-root link of a Poisson outcome.
    root = links.Link("sqrt", bk.sqrt, lambda eta: eta**2, domain=(0.0, np.inf))
    data = simulated().assign(y=lambda d: np.round(d["y"]))
    model = bm.Model("y ~ x + (1 | g)", data, "poisson", link=root)
    mean = data["y"].mean()
    # Half the log link's 2.5 times the mean's root: what doubles the mean moves its root so far.
    expected = bm.Prior("Normal", mu=np.sqrt(mean), sigma=2.5 * np.sqrt(mean) / 2)
    assert model.priors.loc["Intercept", "prior"] == str(expected)
    outcomes = model.prior_predictive(20, seed=1)["prior_predictive"]["y"]
    assert (outcomes >= 0).all()
    assert outcomes.max() > 0
