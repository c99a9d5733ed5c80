"""Kernels: each equals its family's log-likelihood and the derivative written out, everywhere."""

import ctypes
import importlib.util
import sys
from decimal import Decimal, localcontext
from functools import cache
from itertools import product
from math import fsum, inf, nan, pi, sqrt

import numba
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba.core.ccallback import CFunc
from numba.core.dispatcher import Dispatcher
from scipy import special

from bayesmixed import kernels, likelihoods
from bayesmixed._errors import BayesmixedError
from bayesmixed.families import bernoulli, binomial, negative_binomial, poisson
from bayesmixed.likelihoods import KERNELS
from bayesmixed.links import get_link

# Kernel -> family and links.
FAMILIES = {
    "binomial_logit": (binomial, ("logit",)),
    "binomial_probit": (binomial, ("probit",)),
    "binomial_cloglog": (binomial, ("cloglog",)),
    "poisson_log": (poisson, ("log",)),
    "negative_binomial_log": (negative_binomial, ("log", "log")),
}
NAMES = list(FAMILIES)
BINOMIAL = [name for name in NAMES if name.startswith("binomial")]
# Every choice of which predictors differ between rows.
SHAPES = [
    (name, varies)
    for name, (_, links) in FAMILIES.items()
    for varies in ([(1,), (0,)] if len(links) == 1 else [(1, 0), (1, 1), (0, 1), (0, 0)])
]
EVERY = pytest.mark.parametrize("name", NAMES)
EVERY_SHAPE = pytest.mark.parametrize(("name", "varies"), SHAPES)
EXTREMES = (-1e6, -800.0, -50.0, 0.0, 50.0, 800.0, 1e6)


def pointer(array):
    kind = ctypes.c_double if array.dtype == np.float64 else ctypes.c_int64
    return array.ctypes.data_as(ctypes.POINTER(kind))


def run(name, eta, y, trials=None, index=None, sufficient=None):
    """Log-likelihood and gradient; `eta` has an array (count,) or a number for each predictor."""
    kernel = KERNELS[name]
    y = np.atleast_1d(np.asarray(y, dtype=float))
    index = np.arange(len(y)) if index is None else index
    count = int(index.max()) + 1
    varies = np.array([np.ndim(e) for e in eta], dtype=np.int64)
    sufficient = kernel.sufficient(varies) if sufficient is None else sufficient
    stats, extra = kernel.collapse(y, trials, index, count, sufficient)
    # What a kernel must not read is NaN, as is all that it must set.
    stretches = np.full((len(eta), count), nan)
    for stretch, value in zip(stretches, eta, strict=True):
        stretch[: np.size(value)] = value
    slopes = np.full_like(stretches, nan)
    total = kernel.entry().ctypes(
        count, pointer(varies), pointer(stretches), pointer(stats), extra, pointer(slopes)
    )
    return total, [s if v else s[0] for s, v in zip(slopes, varies, strict=True)]


def loglik(name, eta, y, trials=None):
    """Log-likelihood by the family."""
    family, links = FAMILIES[name]
    family = bernoulli if family is binomial and trials is None else family
    names = [p.name for p in family.parameters]
    predictors = dict(zip(names, eta, strict=True))
    link = {n: get_link(g) for n, g in zip(names, links, strict=True)}
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return np.sum(family.evaluate(family.loglik, predictors, link, y=y, trials=trials))


def _hazard(x):
    return sqrt(2 / pi) / special.erfcx(-x / sqrt(2))


def _rise_slope(y, alpha):
    return -fsum(np.arange(1, y) / (alpha + np.arange(1, y)))


def _negative_binomial_slopes(y, trials, eta, log_alpha):
    alpha, u = np.exp(log_alpha), eta - log_alpha
    share = special.expit(u)
    by_alpha = y * share - alpha * (np.logaddexp(0, u) - share)
    rises = [_rise_slope(*pair) for pair in np.broadcast(y, alpha)]
    return y * special.expit(-u) - alpha * share, by_alpha + rises


# Derivative of each row's log-likelihood by each predictor, written out.
SLOPES = {
    "binomial_logit": lambda k, n, eta: (k * special.expit(-eta) - (n - k) * special.expit(eta),),
    "binomial_probit": lambda k, n, eta: (k * _hazard(eta) - (n - k) * _hazard(-eta),),
    "binomial_cloglog": lambda k, n, eta: (
        k * np.exp(eta) / np.expm1(np.exp(eta)) - (n - k) * np.exp(eta),
    ),
    "poisson_log": lambda y, n, eta: (y - np.exp(eta),),
    "negative_binomial_log": _negative_binomial_slopes,
}


def outcomes(name, rng, rows):
    """Outcomes and trials."""
    if name in BINOMIAL:
        trials = rng.integers(1, 9, rows).astype(float)
        return rng.binomial(trials.astype(int), 0.4).astype(float), trials
    return rng.negative_binomial(0.7, 0.03, rows).astype(float), None


def predictors(rng, varies, rows):
    """Linear predictors at random."""
    return [rng.normal(0, 1.5, rows) if v else rng.normal(0, 1.5) for v in varies]


@EVERY_SHAPE
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_differences_are_those_of_the_family(name, varies, rows):
    rng = np.random.default_rng(rows)
    y, trials = outcomes(name, rng, rows)
    one, other = predictors(rng, varies, rows), predictors(rng, varies, rows)
    found = run(name, one, y, trials)[0] - run(name, other, y, trials)[0]
    assert found == pytest.approx(
        loglik(name, one, y, trials) - loglik(name, other, y, trials), 1e-10
    )


@EVERY_SHAPE
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_gradient_is_the_derivative_written_out(name, varies, rows):
    rng = np.random.default_rng(rows)
    y, trials = outcomes(name, rng, rows)
    eta = predictors(rng, varies, rows)
    expected = SLOPES[name](y, trials, *eta)
    slopes = run(name, eta, y, trials)[1]
    for p, (slope, differs) in enumerate(zip(slopes, varies, strict=True)):
        by_row = np.broadcast_to(expected[p], rows)
        wanted = by_row if differs else by_row.sum()
        np.testing.assert_allclose(slope, wanted, rtol=1e-9, atol=1e-12 * np.abs(by_row).max())


@EVERY_SHAPE
def test_collapsing_rows_changes_nothing(name, varies):
    rng = np.random.default_rng(1)
    rows, count = 300, 11
    y, trials = outcomes(name, rng, rows)
    index = np.concatenate([np.arange(count), rng.integers(0, count, rows - count)])
    if not KERNELS[name].sufficient(varies):
        y = y[index]
    eta = predictors(rng, varies, count)
    total, slopes = run(name, eta, y, trials, index)
    spread = [e[index] if v else e for e, v in zip(eta, varies, strict=True)]
    every, by_row = run(name, spread, y, trials)
    assert total == pytest.approx(every, 1e-12)
    for slope, single, differs in zip(slopes, by_row, varies, strict=True):
        wanted = np.bincount(index, single) if differs else single
        np.testing.assert_allclose(slope, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", BINOMIAL)
@pytest.mark.parametrize("eta", EXTREMES)
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_all_or_no_successes_at_extreme_predictors(name, eta, y):
    total, (slope,) = run(name, [np.full(9, eta)], np.full(9, y))
    single = loglik(name, [np.array([eta])], np.array([y]))
    # The family's exp(eta) underflows where log(1 - exp(-exp(eta))) is eta to all digits.
    single = eta if name == "binomial_cloglog" and y and eta < -700 else single
    # Below 1e-300 there is nothing to tell apart.
    assert total == pytest.approx(9 * single, rel=1e-12, abs=1e-300)
    assert np.all(slope == slope[0])
    assert (slope[0] >= 0) if y else (slope[0] <= 0)
    # A sampler turns round where the likelihood is lost, so its slope must not be.
    assert slope[0] != 0 or total == 0


@pytest.mark.parametrize("y", [0.0, 1.0, 1e6])
@pytest.mark.parametrize("eta", EXTREMES)
def test_poisson_at_extremes(eta, y):
    total, (slope,) = run("poisson_log", [np.array([eta])], [y])
    mu = np.exp(eta) if eta < 709 else inf
    assert total == pytest.approx(y * eta - mu, rel=1e-14, abs=1e-300)
    assert slope[0] == pytest.approx(y - mu, rel=1e-14, abs=1e-300)


@EVERY_SHAPE
def test_nan_in_is_nan_out(name, varies):
    rng = np.random.default_rng(0)
    y, trials = outcomes(name, rng, 9)
    for p in range(len(varies)):
        eta = predictors(rng, varies, 9)
        if varies[p]:
            eta[p][4] = nan
        else:
            eta[p] = nan
        total, slopes = run(name, eta, y, trials)
        assert np.isnan(total)
        assert np.isnan(np.atleast_1d(slopes[p])[4 * varies[p]])


@cache
def rises(y, log_alpha):
    """Log of Gamma(alpha + y) / Gamma(alpha) and its slope by log alpha less y, as Decimals."""
    alpha, j = np.exp(log_alpha), np.arange(1, int(y))
    with localcontext() as context:
        context.prec = 50
        # Sums of doubles of one sign, each exact to its last place.
        units = int(y if alpha >= 1 else min(y, 1))
        steps = np.log1p(j / alpha) if alpha >= 1 else np.log(alpha + j)
        value = Decimal(fsum(steps.tolist())) + units * Decimal(log_alpha)
        return value, -Decimal(fsum((j / (alpha + j)).tolist()))


def exact_negative_binomial(y, eta, log_alpha):
    """Log-likelihood (less log y!), both derivatives; sizes of what first and last are sums of."""
    with localcontext() as context:
        context.prec = 150
        rise, rise_slope = rises(y, log_alpha)
        mu, alpha, y = Decimal(eta).exp(), Decimal(log_alpha).exp(), int(y)
        share, rate = mu / (mu + alpha), (1 + mu / alpha).ln()
        total = rise + y * share.ln() - alpha * rate
        by_alpha = y * share - alpha * (rate - share)
        by_mu = y - (y + alpha) * share
        sizes = max(abs(rise), alpha * rate), max(abs(by_alpha), -rise_slope)
        return tuple(map(float, (total, by_mu, by_alpha + rise_slope, *sizes)))


def check_negative_binomial(y, eta, log_alpha):
    one = exact_negative_binomial(y, eta, log_alpha)
    far = exact_negative_binomial(y + 40.0, eta, log_alpha)
    # A second outcome changes which part of the gamma functions is summed directly. Alpha is one
    # number (with counts of outcomes), or differs by row.
    for times, varying in product((0, 3), (0, 1)):
        outcomes = [y] + [y + 40.0] * times
        total, _, by_alpha, size, alpha_size = (
            a + times * b for a, b in zip(one, far, strict=True)
        )
        alpha = np.full(len(outcomes), log_alpha) if varying else log_alpha
        eta_mu = np.full(len(outcomes), eta)
        found, (by_mu, slopes) = run("negative_binomial_log", [eta_mu, alpha], outcomes)
        assert found == pytest.approx(total, rel=1e-13, abs=1e-14 * size)
        assert by_mu[0] == pytest.approx(one[1], rel=1e-11, abs=1e-15 * y)
        assert np.sum(slopes) == pytest.approx(by_alpha, rel=1e-11, abs=1e-14 * alpha_size)


@pytest.mark.parametrize("y", [0.0, 1.0, 15.0, 16.0, 17.0, 300.0, 1e6])
@pytest.mark.parametrize("alpha", [1e-300, 1e-8, 0.3, 1.0, 20.0, 1e4, 1e8, 1e10])
@pytest.mark.parametrize("eta", [-50.0, 0.5, 14.0, 50.0])
def test_negative_binomial_of_any_size(y, alpha, eta):
    check_negative_binomial(y, eta, float(np.log(alpha)))


@pytest.mark.parametrize("alpha", [1e-8, 0.3, 1.0, 20.0])
@pytest.mark.parametrize("y", [17.0, 30.0, 5000.0])
def test_stirling_is_accurate(y, alpha):
    log_alpha = float(np.log(alpha))
    found, slope = kernels._far_steps(y, 16.0, np.exp(log_alpha))
    value = found + (y - 16) * max(log_alpha, 0)
    wanted = [float(a - b) for a, b in zip(rises(y, log_alpha), rises(16, log_alpha), strict=True)]
    assert (value, slope) == pytest.approx(wanted, rel=2e-14, abs=0)


@settings(deadline=None)  # The first call may compile.
@given(
    y=st.integers(0, 2000),
    eta=st.floats(-60, 60),
    log_alpha=st.floats(-60, 60),
)
@example(y=16, eta=0.0, log_alpha=0.0)
def test_negative_binomial_at_random(y, eta, log_alpha):
    check_negative_binomial(float(y), eta, log_alpha)


def test_negative_binomial_becomes_poisson():
    rng = np.random.default_rng(3)
    y, eta = rng.poisson(4.0, 50).astype(float), rng.normal(1, 1, 50)
    total, (slope, by_alpha) = run("negative_binomial_log", [eta, np.log(1e12)], y)
    limit, (limit_slope,) = run("poisson_log", [eta], y)
    assert total == pytest.approx(limit, rel=1e-9)
    np.testing.assert_allclose(slope, limit_slope, rtol=1e-9, atol=1e-9)
    # The first term of the difference, ((y - mu)^2 - y) / (2 alpha).
    assert by_alpha == pytest.approx(-np.sum((y - np.exp(eta)) ** 2 - y) / 2e12, rel=1e-8)


@pytest.mark.parametrize("varying", [0, 1])
def test_negative_binomial_by_row_needs_no_histogram(varying):
    rng = np.random.default_rng(4)
    y = rng.integers(0, 60, 30).astype(float)
    alpha = np.full(30, 0.4) if varying else 0.4
    eta = [rng.normal(2, 1, 30), alpha]
    by_row = run("negative_binomial_log", eta, y, sufficient=False)
    counted = run("negative_binomial_log", [eta[0], 0.4], y, sufficient=True)
    assert by_row[0] == pytest.approx(counted[0], 1e-12)
    assert np.sum(by_row[1][1]) == pytest.approx(counted[1][1], 1e-11)


def test_negative_binomial_with_a_histogram_needs_one_alpha():
    eta = [np.zeros(3), np.zeros(3)]
    assert np.isnan(run("negative_binomial_log", eta, [1, 2, 3], sufficient=True)[0])


@settings(deadline=None)  # The first call may compile.
@given(
    name=st.sampled_from(BINOMIAL),
    eta=st.floats(-700, 700),
    trials=st.integers(1, 1000),
    share=st.floats(0, 1),
)
def test_binomial_at_random(name, eta, trials, share):
    k, n = float(round(share * trials)), float(trials)
    total, (slope,) = run(name, [np.array([eta])], [k], np.array([n]))
    arguments = [np.array([eta])], np.array([k]), np.array([n])
    constant = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    wanted = loglik(name, *arguments) - constant
    assert total == pytest.approx(wanted, rel=1e-11, abs=1e-12 * (1 + constant))
    with np.errstate(all="ignore"):
        (wanted,) = SLOPES[name](k, n, np.array([eta]))
    if np.isfinite(wanted[0]):
        assert slope[0] == pytest.approx(wanted[0], rel=1e-9, abs=1e-300 + 1e-13 * min(k, n - k))


def decimals(function, x):
    """A function of `decimal`, exact to 60 digits for arguments above 1e-40."""
    with localcontext() as context:
        context.prec = 100
        return [function(Decimal(v)) for v in x]


def units_in_the_last_place(found, exact):
    return max(
        float(abs(Decimal(float(f)) - e) / Decimal(float(np.spacing(abs(float(e))))))
        for f, e in zip(found, exact, strict=True)
    )


def test_exponential_is_accurate():
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.uniform(-708, 709.7, 500), rng.uniform(-1, 1, 500), [-708.0, 0.0]])
    found = [kernels._exp(v) for v in x]
    assert units_in_the_last_place(found, decimals(Decimal.exp, x)) < 1.1
    ends = [kernels._exp(v) for v in (-inf, -709.0, 709.79, inf)]
    assert ends == [0, 0, inf, inf]


def test_logarithm_is_accurate():
    rng = np.random.default_rng(6)
    x = np.concatenate([rng.uniform(0, 1, 500), np.exp(rng.uniform(-90, 700, 500)), [0.0, 1.0]])
    found = np.array([kernels._log1p(v) for v in x])
    assert units_in_the_last_place(found[:, 0], decimals(lambda v: (1 + v).ln(), x)) < 2.1
    exact = decimals(lambda v: (1 + v).ln() - v, x)
    np.testing.assert_allclose(found[:, 1], [float(e) for e in exact], rtol=2e-15, atol=0)
    assert kernels._log1p(inf)[0] == inf


@EVERY
def test_which_outcomes_may_share_a_row(name):
    sufficient = KERNELS[name].sufficient
    assert sufficient([1, 0])
    assert sufficient([1, 1]) == (name != "negative_binomial_log")


def test_outcomes_that_differ_are_not_merged_where_alpha_differs():
    collapse, index = KERNELS["negative_binomial_log"].collapse, np.array([0, 0, 1])
    stats, extra = collapse(np.array([2.0, 2.0, 5.0]), None, index, 2, False)
    assert extra == 0
    np.testing.assert_array_equal(stats, [4, 5, 2, 1])
    with pytest.raises(BayesmixedError, match="different outcomes"):
        collapse(np.array([2.0, 3.0, 5.0]), None, index, 2, False)


def test_statistics_are_sums():
    y, index = np.array([1.0, 0.0, 1.0]), np.array([1, 0, 1])
    assert KERNELS["binomial_logit"].collapse(y, None, index, 2, True)[0].tolist() == [0, 2, 1, 2]
    trials = np.array([3.0, 4.0, 5.0])
    assert KERNELS["binomial_probit"].collapse(y, trials, index, 2, True)[0].tolist() == [
        0,
        2,
        4,
        8,
    ]
    assert KERNELS["poisson_log"].collapse(y, None, index, 2, True)[0].tolist() == [0, 2, 1, 2]


def test_near_counts_are_summed_directly():
    y = np.arange(200.0)
    stats, extra = KERNELS["negative_binomial_log"].collapse(y, None, np.arange(200), 200, True)
    assert stats[400:].tolist() == [199, *range(199, 0, -1)]
    assert extra == 200


def test_far_counts_cost_as_much_as_there_are_distinct_ones():
    y = np.array([0.0, 3.0, 3.0, 1e6, 2e6])
    stats, extra = KERNELS["negative_binomial_log"].collapse(y, None, np.arange(5), 5, True)
    tails = [4, 4, 2] + [2] * 12
    assert stats[10:].tolist() == [16, 4, *tails, 1e6, 2e6, 1, 1]
    assert extra == 21
    stats, extra = KERNELS["negative_binomial_log"].collapse(y[3:4], None, np.array([0]), 1, True)
    assert stats[2:].tolist() == [16, *[1] * 16, 1e6, 1]


@pytest.mark.parametrize("name", ["binomial_logit", "binomial_probit", "poisson_log"])
def test_loops_become_vector_code(name):
    code = numba.cfunc(kernels.SIGNATURE, **kernels.SUMS)(KERNELS[name].function).inspect_llvm()
    assert "vector.body" in code


@EVERY
def test_machine_code_is_kept_on_disk(name):
    kernel = KERNELS[name]
    assert kernel.entry() is kernel.entry()
    again = likelihoods._compiled.__wrapped__(kernel.function)
    assert again.cache_hits == 1
    assert again.address


def test_machine_code_needs_no_place_on_disk(monkeypatch):
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    entry = likelihoods._compiled.__wrapped__(KERNELS["poisson_log"].function)
    varies, numbers = np.array([1]), np.array([0.0, 2.0, 1.0, 0.0])
    eta, stats, slope = numbers[:1], numbers[1:3], numbers[3:]
    total = entry.ctypes(1, pointer(varies), pointer(eta), pointer(stats), 0, pointer(slope))
    assert (total, slope[0]) == (-1, 1)


def test_import_compiles_nothing(monkeypatch):
    def refuse(*_):
        raise AssertionError("compiled at import")

    for kind in (CFunc, Dispatcher):
        monkeypatch.setattr(kind, "compile", refuse)
    spec = importlib.util.spec_from_file_location("likelihoods_again", likelihoods.__file__)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    with pytest.raises(AssertionError):
        module.KERNELS["poisson_log"].entry()
