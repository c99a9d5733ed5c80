"""Priors: what is refused and how, the defaults, overriding by name, and the variance budget."""

import re
from math import inf, log, nan

import numpy as np
import pandas as pd
import pymc as pm
import pytest

import bayesmixed as bm
from bayesmixed import priors
from bayesmixed._errors import BayesmixedError, PriorError, UnknownNameError
from bayesmixed.budget import VarianceBudget
from bayesmixed.priors import Prior, pymc_distribution

SLEEP = "Reaction ~ Days + (Days | Subject)"
HERDS = "incidence | trials(size) ~ period + (1 | herd)"

# Parameters with which each distribution can be written; more than one where there are two ways.
WRITTEN = {
    "Normal": [{"mu": 1, "sigma": 2}, {"sigma": 2}],
    "StudentT": [{"nu": 3, "mu": 1, "sigma": 2}, {"nu": 3, "sigma": 2}],
    "Cauchy": [{"alpha": -1, "beta": 2}],
    "Laplace": [{"mu": 1, "b": 2}],
    "Logistic": [{"mu": 1, "s": 2}, {"s": 2}],
    "SkewNormal": [{"alpha": -4, "mu": 1, "sigma": 2}, {"alpha": 4, "sigma": 2}],
    "TruncatedNormal": [{"mu": 1, "sigma": 2, "lower": 0, "upper": 3}, {"sigma": 2, "lower": 0}],
    "Uniform": [{"lower": -1, "upper": 2}],
    "Flat": [{}],
    "HalfNormal": [{"sigma": 2}],
    "HalfStudentT": [{"nu": 3, "sigma": 2}],
    "HalfCauchy": [{"beta": 2}],
    "HalfFlat": [{}],
    "Exponential": [{"lam": 2}, {"scale": 2}],
    "Gamma": [{"alpha": 2, "beta": 3}, {"mu": 2, "sigma": 1}],
    "InverseGamma": [{"alpha": 2, "beta": 3}, {"mu": 2, "sigma": 1}],
    "LogNormal": [{"mu": 1, "sigma": 2}, {"sigma": 2}],
    "LogStudentT": [{"nu": 3, "mu": 1, "sigma": 2}, {"nu": 3, "sigma": 2}],
    "Weibull": [{"alpha": 2, "beta": 3}],
    "Beta": [{"alpha": 2, "beta": 3}, {"mu": 0.4, "sigma": 0.1}, {"mu": 0.4, "nu": 5}],
    "LKJ": [{"eta": 2}],
}
EVERY = pytest.mark.parametrize(
    ("name", "parameters"),
    [(n, p) for n, ways in WRITTEN.items() for p in ways],
    ids=lambda v: v if isinstance(v, str) else "-".join(v),
)


def normal(sigma=1.0):
    return Prior("Normal", mu=0, sigma=sigma)


def half(sigma=1.0):
    return Prior("HalfNormal", sigma=sigma)


@pytest.fixture(scope="module")
def sleep():
    return bm.datasets.load("sleepstudy")


@pytest.fixture(scope="module")
def herds():
    return bm.datasets.load("cbpp")


def shown(model, name):
    """A prior as `model.priors` shows it: distribution and parameters."""
    distribution, inner = re.fullmatch(r"(\w+)\((.*)\)", model.priors.loc[name, "prior"]).groups()
    return distribution, {k: float(v) for k, v in (p.split("=") for p in inner.split(", "))}


def check(model, name, distribution, **parameters):
    # Shown to four digits; 1 % also leaves the divisor of a standard deviation (n or n - 1) open.
    assert shown(model, name) == (distribution, pytest.approx(parameters, rel=0.01))


# One prior


def test_every_distribution_is_tried():
    assert set(WRITTEN) == set(priors._DISTRIBUTIONS)


@EVERY
def test_pymc_has_the_distribution_with_these_parameters(name, parameters):
    prior = Prior(name, **parameters)
    assert dict(prior.parameters) == parameters
    if name == "LKJ":
        assert pm.LKJCorr.dist(n=2, **parameters).ndim == 2
    else:
        assert pymc_distribution(name).dist(**parameters).ndim == 0
        with pm.Model() as model:
            variable = prior.variable("x")
        assert model.free_RVs == [variable]


@EVERY
def test_the_stated_support_is_that_of_pymc(name, parameters):
    prior = Prior(name, **parameters)
    if name == "LKJ" or not prior.is_proper:
        assert prior.support == {"LKJ": "correlation", "Flat": "real", "HalfFlat": "positive"}[name]
        return
    draws = pm.draw(
        pymc_distribution(name).dist(**parameters), draws=300, random_seed=1, mode="FAST_COMPILE"
    )
    inside = {"real": True, "positive": draws.min() > 0}
    inside["unit"] = inside["positive"] and draws.max() < 1
    assert inside[prior.support]


@pytest.mark.parametrize(
    ("name", "parameters", "error", "message"),
    [
        ("Norml", {"mu": 0}, UnknownNameError, "no prior distribution 'Norml'. Did you mean 'Norm"),
        ("normal", {"mu": 0}, UnknownNameError, "Did you mean 'Normal'"),
        ("Normal", {"sd": 1}, UnknownNameError, "no parameter of Normal 'sd'. .*mu, sigma"),
        ("Normal", {"mu": 0, "sigm": 1}, UnknownNameError, "Did you mean 'sigma'"),
        ("Normal", {"mu": 0}, PriorError, r"Normal needs mu \(optional\), sigma; given: mu"),
        ("StudentT", {"mu": 0}, PriorError, r"StudentT needs nu, mu \(optional\), sigma; given"),
        ("Exponential", {}, PriorError, "Exponential needs lam or scale; given: nothing"),
        ("Normal", {"mu": 0, "sigma": 0}, PriorError, "sigma=0.*sigma must be above 0"),
        ("HalfNormal", {"sigma": -1}, PriorError, "sigma=-1.*must be above 0"),
        ("LKJ", {"eta": 0}, PriorError, "eta must be above 0"),
        ("Cauchy", {"alpha": 0, "beta": -1}, PriorError, "beta must be above 0"),
        ("Normal", {"mu": nan, "sigma": 1}, PriorError, "mu=nan.*a finite number is needed"),
        ("Normal", {"mu": 0, "sigma": inf}, PriorError, "sigma=inf.*a finite number is needed"),
        ("Normal", {"mu": "a", "sigma": 1}, PriorError, "takes a number, not 'a'"),
        ("Normal", {"mu": None, "sigma": 1}, PriorError, "takes a number, not None"),
        ("Normal", {"mu": [1, 2], "sigma": 1}, PriorError, r"takes a number, not \[1, 2\]"),
        ("Uniform", {"lower": 2, "upper": 1}, PriorError, "lower must be below upper"),
        ("Uniform", {"lower": 1, "upper": 1}, PriorError, "lower must be below upper"),
    ],
)
def test_what_cannot_be_a_prior_is_refused(name, parameters, error, message):
    with pytest.raises(error, match=message):
        Prior(name, **parameters)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Exponential", {"scale": -1}),  # a scale is positive
        ("Exponential", {"lam": 1, "scale": 2}),  # one of the two
        ("Gamma", {"alpha": 1}),  # half of a pair
        ("Gamma", {"alpha": 1, "sigma": 1}),  # of two pairs
        ("Gamma", {"mu": -1, "sigma": 1}),  # the mean of a positive number
        ("Beta", {"alpha": 1}),
        ("Beta", {"mu": 2, "nu": 1}),  # the mean of a number between 0 and 1
        ("Beta", {"mu": 0.5, "sigma": 0.7}),  # more than a number between 0 and 1 can vary
        ("Uniform", {"lower": -inf, "upper": inf}),  # not a distribution
        ("Uniform", {"lower": nan, "upper": 1}),
        ("TruncatedNormal", {"sigma": 1, "lower": nan}),
    ],
)
def test_what_pymc_would_refuse_is_refused_when_it_is_written(name, parameters):
    with pytest.raises(BayesmixedError, match=name):
        Prior(name, **parameters)


def test_bounds_may_be_infinite_and_narrow_the_support():
    assert Prior("TruncatedNormal", sigma=1, lower=0, upper=inf).support == "positive"
    assert Prior("TruncatedNormal", sigma=1, lower=-inf, upper=1).support == "real"
    assert Prior("TruncatedNormal", sigma=1, lower=-1).support == "real"
    assert Prior("Uniform", lower=0, upper=1).support == "unit"
    assert Prior("Uniform", lower=0, upper=2).support == "positive"


@pytest.mark.parametrize(
    ("support", "fits", "does_not"),
    [
        ("real", ["Normal", "HalfNormal", "Beta", "Uniform"], ["LKJ"]),
        ("ordered", ["Normal", "StudentT"], ["HalfNormal", "Beta", "LKJ"]),
        ("positive", ["HalfNormal", "Gamma", "Beta"], ["Normal", "Uniform", "LKJ"]),
        ("unit", ["Beta"], ["HalfNormal", "Normal", "Uniform", "LKJ"]),
        ("correlation", ["LKJ"], ["Normal", "Beta"]),
    ],
)
def test_support_is_checked_against_the_parameters(support, fits, does_not):
    for name in fits:
        Prior(name, **WRITTEN[name][0]).check_support("x", support)
    for name in does_not:
        prior = Prior(name, **WRITTEN[name][0])
        words = {"unit": "a number between 0 and 1", "correlation": "a correlation matrix"}
        with pytest.raises(PriorError, match=f"x is .*{words.get(support, '')}.*{name}") as error:
            prior.check_support("x", support)
        assert fits[0] in str(error.value).partition("Valid there:")[2]


def test_repr_is_what_one_would_write():
    prior = Prior("StudentT", nu=3, mu=0, sigma=2.5)
    assert repr(prior) == "StudentT(nu=3, mu=0, sigma=2.5)"
    assert prior == Prior("StudentT", nu=3, mu=0, sigma=2.5)
    assert prior != Prior("StudentT", nu=3, mu=0, sigma=2)
    assert hash(prior) == hash(Prior("StudentT", nu=3, mu=0, sigma=2.5))


# Defaults: the table "Decisions on defaults" of the design


def test_defaults_of_a_gaussian_model(sleep):
    model = bm.Model(SLEEP, sleep)
    y, x = sleep["Reaction"], sleep["Days"]
    mad = 1.4826 * (y - y.median()).abs().median()
    check(model, "Intercept", "StudentT", nu=3, mu=y.median(), sigma=mad)
    check(model, "beta[Days]", "Normal", mu=0, sigma=2.5 * y.std() / x.std())
    check(model, "sd_Subject[Intercept]", "HalfStudentT", nu=3, sigma=y.std())
    # A slope's standard deviation is in units of the outcome for a standard deviation of Days.
    check(model, "sd_Subject[Days]", "HalfStudentT", nu=3, sigma=y.std() / x.std())
    check(model, "cor_Subject", "LKJ", eta=2)
    check(model, "sigma", "HalfStudentT", nu=3, sigma=y.std())
    assert len(model.priors) == 6
    assert model.priors["source"].str.startswith("default").all()


def test_the_intercepts_scale_is_at_least_2_5(sleep):
    seconds = sleep.assign(Reaction=sleep["Reaction"] / 1000)
    check(bm.Model(SLEEP, seconds), "Intercept", "StudentT", nu=3, mu=0.2887, sigma=2.5)


def test_defaults_of_a_logit_model(herds):
    model = bm.Model(HERDS, herds, "binomial")
    check(model, "Intercept", "Normal", mu=0, sigma=2.5)
    for period in ("2", "3", "4"):
        (name,) = [n for n in model.priors.index if n.startswith("beta[") and period in n]
        dummy = herds["period"].astype(str) == period
        check(model, name, "Normal", mu=0, sigma=2.5 / dummy.std())
    check(model, "sd_herd", "HalfStudentT", nu=3, sigma=1)
    assert len(model.priors) == 5


def test_defaults_of_a_log_model(herds):
    model = bm.Model("incidence ~ (1 | herd)", herds, "negative_binomial")
    check(model, "Intercept", "Normal", mu=log(herds["incidence"].mean()), sigma=2.5)
    check(model, "sd_herd", "HalfStudentT", nu=3, sigma=1)
    check(model, "alpha", "InverseGamma", alpha=0.4, beta=0.3)


def test_defaults_of_a_modelled_parameter(sleep):
    model = bm.Model(SLEEP, sleep, parameters={"sigma": "~ Days + (1 | Subject)"})
    y, x = sleep["Reaction"], sleep["Days"]
    check(model, "Intercept_sigma", "Normal", mu=log(y.std()), sigma=2.5)
    check(model, "beta_sigma[Days]", "Normal", mu=0, sigma=2.5 / x.std())
    check(model, "sd_sigma_Subject", "HalfStudentT", nu=3, sigma=1)
    assert "sigma" not in model.priors.index


def test_defaults_are_in_the_model(sleep):
    """The table and the PyMC model agree: the standard deviation of prior draws."""
    given = {"beta": normal(3), "sd_Subject": half(5), "sigma": half(7), "Intercept": normal(11)}
    model = bm.Model(SLEEP, sleep, priors=given)
    prior = model.prior_predictive(2000, seed=1)["prior"]
    # The sd of 2000 draws has a relative standard error of 1.6 % (normal) or 2.2 % (half-normal);
    # a half-normal's sd is sigma sqrt(1 - 2 / pi).
    half_sd = np.sqrt(1 - 2 / np.pi)
    assert float(prior["beta"].sel(term="Days").std()) == pytest.approx(3, rel=0.08)
    assert float(prior["sigma"].std()) == pytest.approx(7 * half_sd, rel=0.11)
    np.testing.assert_allclose(prior["sd_Subject"].std(["chain", "draw"]), 5 * half_sd, rtol=0.11)
    # The stated intercept is at the mean of Days, 4.5; the reported one is on the raw scale.
    expected = np.hypot(11, 4.5 * 3)
    assert float(prior["beta"].sel(term="Intercept").std()) == pytest.approx(expected, rel=0.08)


# Overriding by name


def test_single_elements_are_overridden(sleep):
    given = {
        "beta[Days]": normal(20),
        "sd_Subject[Days]": half(9),
        "cor_Subject": Prior("LKJ", eta=5),
    }
    table, default = bm.Model(SLEEP, sleep, priors=given).priors, bm.Model(SLEEP, sleep).priors
    assert {n: table.loc[n, "prior"] for n in given} == {n: str(p) for n, p in given.items()}
    assert (table.loc[list(given), "source"] == "yours").all()
    pd.testing.assert_frame_equal(table.drop(list(given)), default.drop(list(given)))


def test_a_whole_vector_is_overridden_and_single_elements_go_before_it(sleep):
    for order in (1, -1):
        given = dict([("sd_Subject", half(5)), ("sd_Subject[Days]", half(9))][::order])
        model = bm.Model(SLEEP, sleep, priors={**given, "beta": normal(4)})
        check(model, "sd_Subject[Intercept]", "HalfNormal", sigma=5)
        check(model, "sd_Subject[Days]", "HalfNormal", sigma=9)
        check(model, "beta[Days]", "Normal", mu=0, sigma=4)
    # "beta" is the slopes; the intercept has a name of its own.
    assert shown(model, "Intercept")[0] == "StudentT"


def test_a_single_standard_deviation_goes_by_either_name(herds):
    for name in ("sd_herd", "sd_herd[Intercept]"):
        model = bm.Model(HERDS, herds, "binomial", priors={name: half(0.7)})
        check(model, "sd_herd", "HalfNormal", sigma=0.7)
        assert len(model.priors) == 5


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("beta[Day]", r"beta\[Days\]"),
        ("sd_subject", "sd_Subject"),
        ("cor_Subjct", "cor_Subject"),
        ("sgma", "sigma"),
        ("intercept", "Intercept"),
        ("sd_Subject[Dayss]", r"sd_Subject\[Days\]"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(sleep, name, near):
    with pytest.raises(UnknownNameError, match=f"Did you mean .*'{near}'") as error:
        bm.Model(SLEEP, sleep, priors={name: half()})
    assert repr(name) in str(error.value)


def test_a_prior_outside_the_support_is_refused(sleep):
    with pytest.raises(PriorError, match=r"sd_Subject\[Days\] is a number above 0.*HalfNormal"):
        bm.Model(SLEEP, sleep, priors={"sd_Subject[Days]": normal()})
    with pytest.raises(PriorError, match="sigma is a number above 0"):
        bm.Model(SLEEP, sleep, priors={"sigma": normal()})
    with pytest.raises(PriorError, match=r"cor_Subject is a correlation matrix.*LKJ"):
        bm.Model(SLEEP, sleep, priors={"cor_Subject": half()})
    with pytest.raises(PriorError, match=r"beta\[Days\] is a number on the real line"):
        bm.Model(SLEEP, sleep, priors={"beta": Prior("LKJ", eta=2)})


def test_what_is_not_a_prior_is_refused(sleep):
    with pytest.raises(PriorError, match=r"'sigma' must be a Prior, such as .*not 3"):
        bm.Model(SLEEP, sleep, priors={"sigma": 3})
    with pytest.raises(PriorError, match="'variance_budget' must be a VarianceBudget"):
        bm.Model(SLEEP, sleep, priors={"variance_budget": half()})


def test_a_flat_prior_cannot_be_drawn_from(sleep):
    model = bm.Model(SLEEP, sleep, priors={"beta[Days]": Prior("Flat")})
    with pytest.raises(PriorError, match=r"flat prior of beta\[Days\]"):
        model.prior_predictive(10)


# The variance budget


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shares": {}}, "at least one grouping"),
        ({"shares": {"g": 0.1}}, r"shares\['g'\] must be a range"),
        ({"shares": {"g": (0.1,)}}, r"shares\['g'\] must be a range"),
        ({"shares": {"g": (0.2, 0.1)}}, "two fractions of 1 are needed, the lower first"),
        ({"shares": {"g": (5, 15)}}, r"such as \(0.05, 0.15\) for 5 to 15 %"),
        ({"shares": {"g": (0.0, 0.1)}}, "two fractions of 1"),
        ({"shares": {"g": (0.1, 0.6), "h": (0.1, 0.4)}}, "leave nothing for the residual"),
        ({"shares": {"g": (0.1, 0.2)}, "total_sd": -1}, "total_sd=-1: a positive number"),
        ({"shares": {"g": (0.1, 0.2)}, "total_sd": (3, 2)}, r"total_sd=\(3, 2\)"),
        ({"shares": {"g": (0.1, 0.2)}, "mass": 90}, "mass=90: a probability"),
    ],
)
def test_an_impossible_budget_is_refused(arguments, message):
    with pytest.raises(PriorError, match=message):
        VarianceBudget(**arguments)


def test_a_budget_is_refused_where_the_model_cannot_take_it(sleep, herds):
    def model(formula, data, family, **arguments):
        return bm.Model(
            formula, data, family, priors={"variance_budget": VarianceBudget(**arguments)}
        )

    one = {"herd": (0.05, 0.15)}
    with pytest.raises(PriorError, match="needs total_sd"):
        model(SLEEP, sleep, "gaussian", shares={"Subject": (0.1, 0.2)})
    with pytest.raises(UnknownNameError, match=r"'hrd'. Did you mean 'herd'"):
        model(HERDS, herds, "binomial", shares={"hrd": (0.1, 0.2)})
    with pytest.raises(PriorError, match="poisson with link log has neither"):
        model("incidence ~ (1 | herd)", herds, "poisson", shares=one)
    with pytest.raises(PriorError, match="beta_binomial with link logit has neither"):
        model(HERDS, herds, "beta_binomial", shares=one)


def test_a_term_without_an_intercept_is_not_taken_for_one(sleep):
    formula = "Reaction ~ Days + (0 + Days | Subject)"
    budget = VarianceBudget({"Subject": (0.1, 0.2)}, total_sd=50)
    with pytest.raises(BayesmixedError, match="no intercept that varies"):
        bm.Model(formula, sleep, priors={"variance_budget": budget})
    with pytest.raises(UnknownNameError, match="Intercept"):
        bm.Model(formula, sleep, priors={"sd_Subject[Intercept]": half()})
    check(
        bm.Model(formula, sleep, priors={"sd_Subject[Days]": half(3)}),
        "sd_Subject",
        "HalfNormal",
        sigma=3,
    )


def test_a_budget_sets_what_it_is_about_and_the_users_priors_go_before_it(sleep):
    budget = VarianceBudget({"Subject": (0.2, 0.5)}, total_sd=50)
    table = bm.Model(SLEEP, sleep, priors={"variance_budget": budget}).priors
    about = table.index[table["source"].str.startswith("variance budget: total SD 41.7 to 60")]
    assert set(about) == {"sd_Subject[Intercept]", "sigma"}
    both = bm.Model(SLEEP, sleep, priors={"variance_budget": budget, "sigma": half(3)})
    check(both, "sigma", "HalfNormal", sigma=3)


DRAWS = 4000
TWO_GROUPINGS = {"g": (0.05, 0.15), "h": (0.2, 0.4)}


def budget_draws(family, shares):
    """Prior draws of the total standard deviation, and of the shares of its square."""
    data = pd.DataFrame({"g": np.arange(24) % 4, "h": np.arange(24) // 6, "y": np.arange(24) % 2})
    data["y"] += 0.0 if family == "bernoulli" else np.arange(24)
    budget = VarianceBudget(shares, None if family == "bernoulli" else (10, 14), mass=0.9)
    model = bm.Model(
        "y ~ " + " + ".join(f"(1 | {group})" for group in shares),
        data,
        family,
        priors={"variance_budget": budget},
    )
    prior = model.prior_predictive(DRAWS, seed=5)["prior"]
    variances = {g: prior[f"sd_{g}"].to_numpy().ravel() ** 2 for g in shares}
    rest = prior["sigma"].to_numpy().ravel() ** 2 if family == "gaussian" else np.pi**2 / 3
    total = rest + sum(variances.values())
    return np.sqrt(total), {g: v / total for g, v in variances.items()}


EVERY_BUDGET = pytest.mark.parametrize("family", ["gaussian", "bernoulli"])
EVERY_SHARES = pytest.mark.parametrize(
    "shares", [{"g": (0.05, 0.15)}, TWO_GROUPINGS], ids=["one grouping", "two groupings"]
)


@EVERY_BUDGET
@EVERY_SHARES
def test_the_budgets_ranges_hold_with_the_stated_mass(family, shares):
    total, share = budget_draws(family, shares)
    held = {g: np.mean((share[g] > low) & (share[g] < high)) for g, (low, high) in shares.items()}
    held |= {"total": np.mean((total > 10) & (total < 14))} if family == "gaussian" else {}
    # Four Monte Carlo standard errors, 0.0047 each, are 0.02.
    assert held == pytest.approx(dict.fromkeys(held, 0.9), abs=0.02)


@EVERY_BUDGET
@EVERY_SHARES
def test_the_budgets_middles_are_those_of_the_ranges(family, shares):
    total, share = budget_draws(family, shares)
    for group, (low, high) in shares.items():
        # The middle on the log and the logit scale differ by less than 5 % for these ranges.
        assert np.median(share[group]) == pytest.approx(np.sqrt(low * high), rel=0.07)
    if family == "gaussian":
        assert np.median(total) == pytest.approx(np.sqrt(140), rel=0.04)


def test_coefficients_without_an_intercept_can_carry_the_level():
    data = pd.DataFrame({"arm": np.repeat(["a", "b"], 20), "temp": 310 + np.arange(40) / 40})
    prior = bm.Model("temp ~ 0 + arm", data)._priors["beta[arm[a]]"].prior
    assert dict(prior.parameters)["sigma"] > 310


def test_a_budget_is_for_every_grouping():
    data = pd.DataFrame({"y": np.arange(24.0), "g": np.arange(24) % 4, "h": np.arange(24) % 6})
    budget = VarianceBudget({"g": (0.05, 0.15)}, total_sd=12)
    with pytest.raises(BayesmixedError, match="no share for h"):
        bm.Model("y ~ (1 | g) + (1 | h)", data, priors={"variance_budget": budget})


@pytest.mark.parametrize("family", ["poisson", "negative_binomial", "beta"])
def test_default_priors_can_always_be_drawn_from(family):
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"x": rng.normal(size=60), "g": np.arange(60) % 6})
    data["y"] = rng.beta(2, 3, 60) if family == "beta" else rng.poisson(3, 60)
    drawn = bm.Model("y ~ x + (1 + x | g)", data, family=family).prior_predictive(300, seed=4)
    assert np.isfinite(drawn["prior_predictive"]["y"]).all()
