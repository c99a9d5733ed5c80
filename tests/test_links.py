"""Links: each is its own inverse's inverse, accurate in the tails, and the same in PyTensor."""

from decimal import Decimal, localcontext
from math import pi

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from scipy import special, stats

from bayesmixed import backend as bk
from bayesmixed._errors import UnknownNameError
from bayesmixed.graph import interpreted
from bayesmixed.links import LINKS, Link, get_link

UNIT = ("logit", "probit", "cloglog")
EVERY = pytest.mark.parametrize("link", LINKS.values(), ids=list(LINKS))
EVERY_UNIT = pytest.mark.parametrize("link", [LINKS[n] for n in UNIT], ids=UNIT)

# The distribution of the latent residual; y = 1 where it is below eta.
LATENT = {"logit": stats.logistic, "probit": stats.norm, "cloglog": stats.gumbel_l}


def _log_cloglog(eta):
    rate = np.exp(eta)
    with np.errstate(divide="ignore"):
        return np.where(eta < 0, np.log(-np.expm1(-rate)), np.log1p(-np.exp(-rate)))


LOG = {"logit": special.log_expit, "probit": special.log_ndtr, "cloglog": _log_cloglog}
LOG1M = {
    "logit": lambda eta: special.log_expit(-eta),
    "probit": lambda eta: special.log_ndtr(-eta),
    "cloglog": lambda eta: -np.exp(eta),
}


def means(link):
    """Valid means, from deep in one tail to deep in the other."""
    if link.domain == (0.0, 1.0):
        return np.concatenate([np.logspace(-12, -2, 11), np.linspace(0.02, 0.98, 33)])
    if link.domain[0] == 0.0:
        return np.logspace(-8, 8, 33)
    return np.linspace(-40, 40, 33)


def predictors(link):
    """Linear predictors out to +-40; the inverse link takes positive ones only."""
    eta = np.linspace(-40, 40, 161)
    return eta[eta > 0] if link.name == "inverse" else eta


def evaluate_symbolic(function, x):
    """Value and derivative of an elementwise function by PyTensor."""
    symbol = pt.dvector()
    value = function(symbol)
    # `0 * symbol` joins a constant function, such as log1m of the log link's, to its argument.
    slope = pytensor.grad((value + 0 * symbol).sum(), symbol)
    with interpreted() as mode:
        return pytensor.function([symbol], [value, slope], mode=mode)(x)


@EVERY
def test_inverse_undoes_forward(link):
    mu = means(link)
    # probit's forward takes 2 mu - 1, which costs 1e-16 / mu of a small mean.
    small = 3e-16 if link.name == "probit" else 0.0
    np.testing.assert_allclose(link.inverse(link.forward(mu)), mu, rtol=1e-11, atol=small)


@EVERY
def test_inverse_is_strictly_monotone(link):
    eta = np.linspace(0.05, 8, 200) if link.name == "inverse" else np.linspace(-8, 3, 200)
    steps = np.diff(link.inverse(eta))
    assert (steps < 0).all() if link.name == "inverse" else (steps > 0).all()


@EVERY
def test_inverse_stays_inside_the_domain(link):
    mu = link.inverse(predictors(link))
    assert np.isfinite(mu).all()
    assert (mu >= link.domain[0]).all()
    assert (mu <= link.domain[1]).all()


@EVERY_UNIT
def test_inverse_is_the_latent_distribution_function(link):
    eta = np.linspace(-30, 30, 121)
    np.testing.assert_allclose(link.inverse(eta), LATENT[link.name].cdf(eta), rtol=1e-12)


@EVERY_UNIT
def test_log_and_log1m_keep_their_accuracy_in_both_tails(link):
    eta = predictors(link)
    # The values span e^40 to e^-1e17: relative error, a few units in the last place.
    np.testing.assert_allclose(link.log(eta), LOG[link.name](eta), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(link.log1m(eta), LOG1M[link.name](eta), rtol=1e-12, atol=1e-300)


def test_log_of_the_log_link_does_not_underflow():
    assert LINKS["log"].log(-1000.0) == -1000.0


@EVERY
def test_pytensor_gives_the_same_values(link):
    functions = [link.inverse, link.log, link.log1m] if link.name in UNIT else [link.inverse]
    functions += [link.log] if link.domain[0] == 0.0 else []
    for function in functions:
        value, _ = evaluate_symbolic(function, predictors(link))
        np.testing.assert_allclose(value, function(predictors(link)), rtol=1e-12, atol=1e-300)
    value, slope = evaluate_symbolic(link.forward, means(link))
    np.testing.assert_allclose(value, link.forward(means(link)), rtol=1e-12, atol=1e-15)
    assert np.isfinite(slope).all()


@EVERY_UNIT
def test_gradients_are_finite_and_right_in_both_tails(link):
    eta = predictors(link)
    density = LATENT[link.name]
    # d log F = f/F and d log(1 - F) = -f/(1 - F), through logarithms so that nothing underflows.
    # 1e-9: erfcx's derivative is a difference that loses 1 / eta^2 of its digits.
    for function, log_value, sign in ((link.log, LOG, 1), (link.log1m, LOG1M, -1)):
        _, slope = evaluate_symbolic(function, eta)
        expected = sign * np.exp(density.logpdf(eta) - log_value[link.name](eta))
        near = np.abs(eta) < 30
        assert np.isfinite(slope).all()
        np.testing.assert_allclose(slope[near], expected[near], rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("name", LINKS)
def test_latent_variance_is_that_of_the_latent_residual(name):
    expected = LATENT[name].var() if name in LATENT else None
    assert LINKS[name].latent_variance == (expected and pytest.approx(expected, rel=1e-12))


def test_a_link_of_ones_own_gets_its_logarithms_from_its_inverse():
    cauchit = Link(
        "cauchit",
        lambda mu: np.tan(pi * (mu - 0.5)),
        lambda eta: 0.5 + np.arctan(eta) / pi,
        domain=(0.0, 1.0),
    )
    eta = np.linspace(-5, 5, 11)
    np.testing.assert_allclose(cauchit.log(eta), stats.cauchy.logcdf(eta), rtol=1e-12)
    np.testing.assert_allclose(cauchit.log1m(eta), stats.cauchy.logsf(eta), rtol=1e-12)
    assert get_link(cauchit) is cauchit


def test_links_are_found_by_name():
    assert {name: get_link(name) for name in LINKS} == dict(LINKS)
    with pytest.raises(UnknownNameError, match=r"no link 'logitt'. Did you mean 'logit'"):
        get_link("logitt")


def test_log1mexp_is_accurate_at_both_ends_and_minus_infinity_at_0():
    x = np.array([-1e-12, -0.1, -0.7, -5.0, -50.0])
    expected = [np.log(1e-12) - 5e-13, *np.log(-np.expm1(x[1:4])), -np.exp(-50.0)]
    np.testing.assert_allclose(bk.log1mexp(x), expected, rtol=1e-13)
    assert bk.log1mexp(0.0) == -np.inf


def test_softplus_is_accurate_to_the_last_digits_at_both_ends():
    """Against log(1 + exp(x)) with 400 decimals."""
    x = np.array([-700.0, -50.0, -20.3, -1.1, -1e-9, 0.0, 1e-9, 0.7, 17.2, 36.5, 40.0, 700.0])
    with localcontext(prec=400):
        expected = [float((1 + Decimal(v).exp()).ln()) for v in x.tolist()]
    np.testing.assert_allclose(bk.softplus(x), expected, rtol=1e-15)
    assert bk.softplus(np.array([-np.inf, np.inf, np.nan])).tolist()[:2] == [0.0, np.inf]
    assert np.isnan(bk.softplus(np.nan))
    assert float(bk.softplus(3)) == pytest.approx(np.log1p(np.exp(3)), rel=1e-15)


def test_xlogy_is_0_where_x_is_0_in_value_and_gradient():
    assert bk.xlogy(np.array([0.0, 2.0]), np.array([-np.inf, 3.0])).tolist() == [0.0, 6.0]
    value, slope = evaluate_symbolic(
        lambda log_y: bk.xlogy(pt.as_tensor([0.0, 2.0]), log_y), np.array([-np.inf, 3.0])
    )
    assert value.tolist() == [0.0, 6.0]
    assert slope.tolist() == [0.0, 2.0]


def test_backend_tells_numpy_from_pytensor():
    assert bk.is_symbolic(1.0, pt.dscalar())
    assert not bk.is_symbolic(1.0, np.zeros(2), "pytensor")
