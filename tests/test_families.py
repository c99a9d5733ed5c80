"""Families as values: what they check of themselves, and how their functions get arguments.

What every family must satisfy numerically is in test_contracts.py.
"""

import dataclasses

import numpy as np
import pytest

from bayesmixed import links
from bayesmixed._errors import BayesmixedError, UnknownNameError
from bayesmixed.families import FAMILIES, Family, Parameter, get_family
from bayesmixed.priors import Prior

MU = Parameter("mu", (links.log,))


def family(**changes):
    """An exponential distribution, with changes."""
    values = {
        "name": "exponential",
        "parameters": (MU,),
        "loglik": lambda y, mu, log_mu: -log_mu - y / mu,
        "mean": lambda mu: mu,
        "variance": lambda mu: mu**2,
        "simulate": lambda rng, mu: rng.exponential(mu),
    }
    return Family(**(values | changes))


def evaluate(name, function, eta, link=None, **other):
    """One of a built-in family's functions at linear predictors on its default links."""
    built_in = FAMILIES[name]
    chosen = {p.name: p.links[0] for p in built_in.parameters} | (link or {})
    return built_in.evaluate(getattr(built_in, function), eta, chosen, **other)


def test_the_list_is_the_documented_one():
    assert list(FAMILIES) == [
        "gaussian",
        "student_t",
        "lognormal",
        "gamma",
        "beta",
        "bernoulli",
        "binomial",
        "beta_binomial",
        "poisson",
        "negative_binomial",
        "zero_inflated_poisson",
        "zero_inflated_negative_binomial",
        "ordinal",
    ]
    assert all(f.name == name for name, f in FAMILIES.items())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gaussian", "identity log inverse"),
        ("student_t", "identity log inverse"),
        ("lognormal", "identity"),
        ("gamma", "log identity inverse"),
        ("beta", "logit probit cloglog"),
        ("bernoulli", "logit probit cloglog"),
        ("binomial", "logit probit cloglog"),
        ("beta_binomial", "logit probit cloglog"),
        ("poisson", "log identity"),
        ("negative_binomial", "log identity"),
        ("zero_inflated_poisson", "log identity"),
        ("zero_inflated_negative_binomial", "log identity"),
        ("ordinal", "logit probit cloglog"),
    ],
)
def test_links_suit_the_family(name, expected):
    assert [link.name for link in FAMILIES[name].parameters[0].links] == expected.split()
    assert FAMILIES[name].link("mu").name == expected.split()[0]


def test_families_are_found_by_name_and_passed_through_as_values():
    own = family()
    assert get_family(own) is own
    assert get_family("beta") is FAMILIES["beta"]
    with pytest.raises(UnknownNameError, match=r"no family 'possion'. Did you mean 'poisson'"):
        get_family("possion")


def test_families_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FAMILIES["beta"].name = "other"


def test_a_family_needs_a_parameter():
    with pytest.raises(BayesmixedError, match="'exponential' needs at least one Parameter"):
        family(parameters=())


def test_a_parameter_needs_a_link():
    with pytest.raises(BayesmixedError, match="'mu' needs at least one Link"):
        family(parameters=(Parameter("mu", ()),))


def test_every_further_parameter_needs_a_default_prior():
    shape = Parameter("shape", (links.log,), "positive")
    with pytest.raises(BayesmixedError, match="'shape' of family 'exponential' needs a default"):
        family(parameters=(MU, shape))
    whole = dataclasses.replace(shape, prior=lambda scale: Prior("HalfNormal", sigma=scale))
    assert family(parameters=(MU, whole)).parameter("shape") is whole


def test_unknown_parameter_and_link_are_refused_by_name():
    gamma = FAMILIES["gamma"]
    with pytest.raises(UnknownNameError, match=r"no parameter of gamma 'alhpa'.*'alpha'"):
        gamma.parameter("alhpa")
    with pytest.raises(UnknownNameError, match=r"no link for mu of family gamma 'logit'.*'log'"):
        gamma.link("mu", "logit")
    assert gamma.link("mu", "inverse") is links.inverse
    own = links.Link("square root", np.sqrt, np.square)
    assert gamma.link("mu", own) is own


def test_functions_get_the_arguments_that_they_name():
    seen = {}

    def loglik(y, mu, log_mu, log1m_mu, eta_mu, link_mu, trials):
        seen.update(locals())

    eta = np.array([-50.0, 0.0, 50.0])
    own = family()
    own.evaluate(loglik, {"mu": eta}, {"mu": links.logit}, y=1, trials=2)
    assert (seen["y"], seen["trials"], seen["link_mu"]) == (1, 2, links.logit)
    assert seen["eta_mu"] is eta
    np.testing.assert_array_equal(seen["mu"], links.logit.inverse(eta))
    # Not log(mu) and log(1 - mu), which would be 0 and minus infinity at the upper end.
    np.testing.assert_allclose(seen["log_mu"], [-50, -np.log(2), -np.exp(-50.0)], rtol=1e-12)
    np.testing.assert_allclose(seen["log1m_mu"], [-np.exp(-50.0), -np.log(2), -50], rtol=1e-12)


def test_a_parameter_whose_name_has_an_underscore_is_not_taken_for_a_derived_one():
    both = {"mu": np.array(1.0), "log_mu": np.array(7.0)}
    assert family().evaluate(lambda log_mu: log_mu, both, dict.fromkeys(both, links.identity)) == 7


@pytest.mark.parametrize("argument", ["nonsense", "log_nonsense", "trials"])
def test_an_argument_that_does_not_exist_is_refused_by_name(argument):
    function = {
        "nonsense": lambda nonsense: nonsense,
        "log_nonsense": lambda log_nonsense: log_nonsense,
        "trials": lambda trials: trials,
    }[argument]
    with pytest.raises(UnknownNameError, match=f"argument for family exponential '{argument}'"):
        family().evaluate(function, {"mu": np.array(0.0)}, {"mu": links.log}, y=1)


def test_student_t_has_no_mean_or_variance_where_its_tails_are_too_heavy():
    eta = {"mu": np.zeros(3), "sigma": np.zeros(3), "nu": np.log([0.9, 1.5, 3.0])}
    np.testing.assert_array_equal(evaluate("student_t", "mean", eta), [np.nan, 0, 0])
    np.testing.assert_allclose(evaluate("student_t", "variance", eta), [np.inf, np.inf, 3])


def test_zero_inflation_of_0_is_the_plain_count():
    y = np.array([0.0, 1.0, 7.0])
    plain = {"mu": np.full(3, 0.7), "alpha": np.zeros(3)}
    inflated = plain | {"zi": np.full(3, -700.0)}
    np.testing.assert_allclose(
        evaluate("zero_inflated_negative_binomial", "loglik", inflated, y=y),
        evaluate("negative_binomial", "loglik", plain, y=y),
        rtol=1e-12,
    )


def test_negative_binomial_tends_to_poisson():
    y = np.arange(8.0)
    eta = {"mu": np.full(8, 0.7), "alpha": np.full(8, np.log(1e6))}
    # The difference is of order y^2 / alpha, 6e-5 here.
    np.testing.assert_allclose(
        evaluate("negative_binomial", "loglik", eta, y=y),
        evaluate("poisson", "loglik", {"mu": eta["mu"]}, y=y),
        atol=1e-4,
    )


@pytest.mark.parametrize("link", [links.logit, links.probit, links.cloglog])
def test_two_ordered_categories_are_a_yes_no_outcome(link):
    eta, y = np.linspace(-3, 3, 7), np.arange(7.0) % 2
    ordinal = evaluate(
        "ordinal", "loglik", {"mu": eta, "thresholds": np.array([0.4])}, {"mu": link}, y=y
    )
    # P(y <= 0) = F(0.4 - eta): the outcome 0 is the event of the yes/no family.
    binary = evaluate("bernoulli", "loglik", {"mu": 0.4 - eta}, {"mu": link}, y=1 - y)
    np.testing.assert_allclose(ordinal, binary, rtol=1e-12)


def test_ordinal_keeps_its_accuracy_in_the_upper_tail():
    thresholds = np.array([30.0, 31.0])
    found = evaluate(
        "ordinal", "loglik", {"mu": np.zeros(1), "thresholds": thresholds}, y=np.ones(1)
    )
    # logistic(31) - logistic(30) is 5.9e-14 and loses three digits as a difference of numbers
    # near 1; the difference of the tails is exp(-30) (1 - exp(-1)) up to a factor 1 - 1e-13.
    assert found[0] == pytest.approx(-30 + np.log1p(-np.exp(-1.0)), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "link"), [(n, k) for n, family in FAMILIES.items() for k in family.information]
)
def test_information_is_minus_the_second_derivative_whatever_the_outcome(name, link):
    """Central differences; their error is of the order of the step squared, 1e-6."""
    chosen = FAMILIES[name]
    eta = {p.name: np.array([0.3, 0.8, 1.7]) for p in chosen.parameters}
    of_links = {p.name: p.links[0] for p in chosen.parameters} | {"mu": chosen.link("mu", link)}
    known = {"trials": np.array([3.0, 5.0, 2.0])} if chosen.has_trials else {}
    exact = chosen.evaluate(chosen.information[link], eta, of_links, **known)
    step = 1e-3
    for y in (np.array([1.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0]) if "b" in name else eta["mu"]):
        below, here, above = (
            chosen.evaluate(chosen.loglik, eta | {"mu": eta["mu"] + shift}, of_links, y=y, **known)
            for shift in (-step, 0.0, step)
        )
        np.testing.assert_allclose((2 * here - below - above) / step**2, exact, rtol=1e-5)


def test_a_family_knows_which_parameters_a_function_needs():
    ordinal, binomial = FAMILIES["ordinal"], FAMILIES["negative_binomial"]
    assert ordinal.needs(ordinal.mean) == {"mu", "thresholds"}
    assert binomial.needs(binomial.mean) == {"mu"}
    assert binomial.needs(binomial.loglik) == {"mu", "alpha"}


def test_flags_say_what_the_outcome_is():
    def having(flag):
        return {name for name, f in FAMILIES.items() if getattr(f, flag)}

    assert having("has_trials") == {"binomial", "beta_binomial"}
    assert having("is_categorical") == {"ordinal"}
    assert having("row_effects") == {"binomial", "poisson", "zero_inflated_poisson"}


def test_repr_is_short():
    assert repr(FAMILIES["beta"]) == "Family('beta')"
