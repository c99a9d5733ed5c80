"""Priors as machine code: against PyMC, and in the tails against 400 digits."""

import math
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from math import inf, lgamma, nan

import numpy as np
import pymc as pm
import pytensor
import pytest
from numpy.testing import assert_allclose
from scipy.special import erfcx, log_ndtr
from scipy.stats import norm

from bayesmixed import priors
from bayesmixed.encoded import WIDTH, constrain, encode
from bayesmixed.graph import interpreted
from bayesmixed.priors import Prior
from bayesmixed.univariate import log_prior

CASES = [
    Prior("Normal", sigma=2),
    Prior("Normal", mu=1, sigma=2),
    Prior("StudentT", nu=3, sigma=2),
    Prior("StudentT", nu=2.5, mu=-1, sigma=2),
    Prior("Cauchy", alpha=-1, beta=2),
    Prior("Laplace", mu=1, b=2),
    Prior("Logistic", s=2),
    Prior("Logistic", mu=1, s=2),
    Prior("SkewNormal", alpha=-1.5, sigma=4),
    Prior("SkewNormal", alpha=1.5, mu=1, sigma=4),
    Prior("TruncatedNormal", sigma=2),
    Prior("TruncatedNormal", mu=1, sigma=2, lower=-inf, upper=inf),
    Prior("TruncatedNormal", mu=1, sigma=2, lower=0.5),
    Prior("TruncatedNormal", mu=1, sigma=2, upper=3),
    Prior("TruncatedNormal", mu=1, sigma=2, lower=-1, upper=4),
    Prior("TruncatedNormal", mu=-3, sigma=2, lower=1, upper=4),
    Prior("TruncatedNormal", mu=9, sigma=2, lower=1, upper=4),
    Prior("Uniform", lower=-1, upper=2),
    Prior("Flat"),
    Prior("HalfNormal", sigma=2),
    Prior("HalfStudentT", nu=3, sigma=2),
    Prior("HalfCauchy", beta=2),
    Prior("HalfFlat"),
    Prior("Exponential", lam=3),
    Prior("Exponential", scale=3),
    Prior("Gamma", alpha=2, beta=3),
    Prior("Gamma", alpha=0.3, beta=3),
    Prior("Gamma", mu=2, sigma=1.5),
    Prior("InverseGamma", alpha=2, beta=3),
    Prior("InverseGamma", alpha=0.3, beta=3),
    Prior("InverseGamma", mu=2, sigma=1.5),
    Prior("LogNormal", sigma=2),
    Prior("LogNormal", mu=1, sigma=2),
    Prior("LogStudentT", nu=5, sigma=2),
    Prior("LogStudentT", nu=2.5, mu=-1, sigma=0.7),
    Prior("Weibull", alpha=1.5, beta=3),
    Prior("Weibull", alpha=0.5, beta=3),
    Prior("Beta", alpha=2, beta=3),
    Prior("Beta", alpha=1, beta=0.4),
    Prior("Beta", mu=0.4, sigma=0.1),
    Prior("Beta", mu=0.4, nu=5),
]
POINTS = np.array([0.0, -6.0, -3.3, -1.7, -0.4, 0.3, 1.0, 2.2, 6.0])

# PyMC's graph is taken as it stands, unoptimised, which is exact for points such as these.
VALUE, GRADIENT = {"rtol": 1e-10, "atol": 1e-12}, {"rtol": 1e-9, "atol": 1e-12}


def evaluated(prior, points):
    """The four results of `log_prior`, each of the shape of `points`."""
    numbers = encode(prior).numbers
    return np.array([log_prior(float(x), numbers) for x in points]).T


@pytest.fixture(scope="module")
def reference():
    """PyMC's start, values, log-densities and gradients for every case."""
    # By PyTensor's own policy the logarithm of 2, a Python number, has single precision.
    with interpreted() as mode, pytensor.config.change_flags(cast_policy="numpy+floatX"):
        with pm.Model() as model:
            for i, prior in enumerate(CASES):
                prior.variable(f"v{i}", shape=len(POINTS))
        values = [model.rvs_to_values[rv] for rv in model.free_RVs]
        densities = model.logp(sum=False)
        total = sum(d.sum() for d in densities)
        # PyMC's flat density does not depend on its number.
        gradients = pytensor.grad(total, values, disconnected_inputs="ignore")
        numbers = model.replace_rvs_by_values(list(model.free_RVs))
        function = pytensor.function(
            values, [*numbers, *densities, *gradients], mode=mode, on_unused_input="ignore"
        )
        found = np.array(function(*[POINTS] * len(CASES))).reshape(3, len(CASES), len(POINTS))
        start = model.initial_point()
    return [point[0] for point in start.values()], *found


@pytest.mark.parametrize("i", range(len(CASES)), ids=lambda i: repr(CASES[i]))
def test_equals_pymc(reference, i):
    start, numbers, densities, gradients = (part[i] for part in reference)
    value, _, density, gradient = evaluated(CASES[i], POINTS)
    assert_allclose(encode(CASES[i]).start, start, rtol=1e-12, atol=1e-14)
    assert_allclose(value, numbers, **VALUE)
    assert_allclose(density, densities, **VALUE)
    assert_allclose(gradient, gradients, **GRADIENT)


@pytest.mark.parametrize(
    ("name", "names"),
    [(d, s.split()) for d, (_, sets) in priors._DISTRIBUTIONS.items() for s in sets],
    ids=str,
)
def test_every_distribution_and_parameter_set_has_a_case(name, names):
    given = [set(dict(p.parameters)) for p in CASES if p.distribution == name]
    for wanted in (
        {n for n in names if not n.endswith("?")},
        {n.rstrip("?") for n in names},
    ):
        assert wanted in given or name == "LKJ"


def test_what_is_not_one_number_has_no_code():
    with pytest.raises(KeyError):
        encode(Prior("LKJ", eta=2))


def test_rows_have_one_width():
    assert {encode(p).numbers.shape for p in CASES} == {(WIDTH,)}
    assert {encode(p).numbers.dtype for p in CASES} == {np.dtype(np.float64)}


# The same in 400 digits, from the textbook's density of the number itself.

TAIL = [-700.0, -38.0, -5.0, 0.1, 27.0, 700.0]
SCALES = [1e-12, 1.0, 1e12]
HALF = Decimal("0.5")
PI = Decimal("3.14159265358979323846264338327950288")


def gamma_ratio(nu):
    return Decimal(lgamma((float(nu) + 1) / 2) - lgamma(float(nu) / 2)) - HALF * (nu * PI).ln()


def beta_log_density(v, a, b):
    constant = Decimal(lgamma(float(a + b)) - lgamma(float(a)) - lgamma(float(b)))
    return constant + (a - 1) * v.ln() + (b - 1) * (1 - v).ln()


def log_density(name, v, **given):
    """Textbook log-density of the number `v` under one parameter set of each distribution."""
    p = {k: Decimal(x) for k, x in given.items() if math.isfinite(x)}
    m = p.get("mu", Decimal(0))
    s = p.get("sigma", p.get("scale", p.get("s", p.get("b", p.get("beta", Decimal(1))))))
    z, one, two = (v - m) / s, Decimal(1), Decimal(2)
    t_like = p.get("nu", one)
    normal = -HALF * z * z - s.ln() - HALF * (2 * PI).ln()
    t = gamma_ratio(t_like) - s.ln() - HALF * (t_like + 1) * (1 + z * z / t_like).ln()
    match name:
        case "Normal":
            return normal
        case "TruncatedNormal":
            ends = [
                (given.get(e, d) - float(m)) / float(s)
                for e, d in (("lower", -inf), ("upper", inf))
            ]
            return normal - Decimal(
                math.log(math.exp(log_ndtr(ends[1])) - math.exp(log_ndtr(ends[0])))
            )
        case "HalfNormal":
            return normal + two.ln()
        case "LogNormal":
            z = (v.ln() - m) / s
            return -HALF * z * z - s.ln() - HALF * (2 * PI).ln() - v.ln()
        case "StudentT" | "Cauchy":
            return t
        case "HalfStudentT" | "HalfCauchy":
            return t + two.ln()
        case "LogStudentT":
            z = (v.ln() - m) / s
            t = gamma_ratio(t_like) - s.ln() - HALF * (t_like + 1) * (1 + z * z / t_like).ln()
            return t - v.ln()
        case "Laplace":
            return -abs(z) - (2 * s).ln()
        case "Logistic":
            return -z - s.ln() - 2 * (1 + (-z).exp()).ln()
        case "Exponential":
            return -z - s.ln()
        case "Gamma":
            a, b = p["alpha"], p["beta"]
            return a * b.ln() - Decimal(lgamma(a)) + (a - 1) * v.ln() - b * v
        case "InverseGamma":
            a, b = p["alpha"], p["beta"]
            return a * b.ln() - Decimal(lgamma(a)) - (a + 1) * v.ln() - b / v
        case "Weibull":
            a = p["alpha"]
            return a.ln() - s.ln() + (a - 1) * (v / s).ln() - (a * (v / s).ln()).exp()
        case "Beta":
            return beta_log_density(v, p["alpha"], p["beta"])
        case "Uniform":
            return -(p["upper"] - p["lower"]).ln()
    return Decimal(0)


def scaled(scale):
    """One prior of each kind, of this scale."""
    return [
        Prior("Normal", mu=3 * scale, sigma=scale),
        Prior("StudentT", nu=3, mu=3 * scale, sigma=scale),
        Prior("StudentT", nu=1e-3, sigma=scale),
        Prior("Cauchy", alpha=0, beta=scale),
        Prior("Laplace", mu=3 * scale, b=scale),
        Prior("Logistic", mu=3 * scale, s=scale),
        Prior("TruncatedNormal", mu=scale, sigma=scale, lower=-scale),
        Prior("TruncatedNormal", mu=scale, sigma=scale, upper=3 * scale),
        Prior("TruncatedNormal", mu=scale, sigma=scale, lower=-scale, upper=3 * scale),
        Prior("Uniform", lower=-scale, upper=3 * scale),
        Prior("Flat"),
        Prior("HalfNormal", sigma=scale),
        Prior("HalfStudentT", nu=3, sigma=scale),
        Prior("HalfStudentT", nu=200, sigma=scale),
        Prior("HalfCauchy", beta=scale),
        Prior("HalfFlat"),
        Prior("Exponential", scale=scale),
        Prior("Gamma", alpha=2.5, beta=1 / scale),
        Prior("InverseGamma", alpha=2.5, beta=scale),
        Prior("LogNormal", mu=math.log(scale), sigma=0.5),
        Prior("Weibull", alpha=1.5, beta=scale),
        Prior("Beta", alpha=2.5, beta=0.5),
    ]


def exact(prior, x):
    """Value, slope, log-density and gradient at `x`, by central differences in 400 digits."""
    given = dict(prior.parameters)
    lower, upper = given.get("lower", -inf), given.get("upper", inf)
    if prior.support == "positive" and "lower" not in given:
        lower = 0
    if prior.support == "unit":
        lower, upper = 0, 1

    def number(x):
        if lower == -inf:
            return x if upper == inf else Decimal(upper) - x.exp()
        if upper == inf:
            return Decimal(lower) + x.exp()
        return Decimal(lower) + (Decimal(upper) - Decimal(lower)) / (1 + (-x).exp())

    def slope(x):
        h = Decimal("1e-40")
        return (number(x + h) - number(x - h)) / (2 * h)

    def density(x):
        return log_density(prior.distribution, number(x), **given) + abs(slope(x)).ln()

    context = Context(prec=400, Emax=MAX_EMAX, Emin=MIN_EMIN)
    with localcontext(context):
        x, h = Decimal(x), Decimal("1e-30")
        gradient = (density(x + h) - density(x - h)) / (2 * h)
        return float(number(x)), float(slope(x)), float(density(x)), float(gradient)


@pytest.mark.parametrize("prior", [p for scale in SCALES for p in scaled(scale)], ids=repr)
def test_tails(prior):
    value, slope, density, gradient = evaluated(prior, TAIL)
    expected = np.array([exact(prior, x) for x in TAIL]).T
    assert_allclose(value, expected[0], rtol=1e-13)
    assert_allclose(slope, expected[1], rtol=1e-13)
    assert_allclose(density, expected[2], rtol=1e-10, atol=1e-12)
    finite = np.isfinite(expected[2])
    assert_allclose(gradient[finite], expected[3][finite], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("alpha", [-40.0, -0.01, 3.0, 1e6])
def test_tails_of_the_skew_normal(alpha):
    z = np.array([-700.0, -29.0, -3.0, -0.75, 0.0, 0.2, 0.75, 10.0, 700.0])
    _, _, density, gradient = evaluated(Prior("SkewNormal", alpha=alpha, mu=1, sigma=2), 1 + 2 * z)
    t = alpha * z
    with np.errstate(over="ignore"):
        ratio = np.sqrt(2 / np.pi) / erfcx(-t / np.sqrt(2))
    assert_allclose(density, norm.logpdf(z) + log_ndtr(t), rtol=1e-12)  # 2 over sigma is 1
    assert_allclose(gradient, (alpha * ratio - z) / 2, rtol=1e-10)


@pytest.mark.parametrize(
    ("lower", "upper", "tolerance"),
    [
        (30, 31, 1e-9),
        (-31, -30, 1e-9),
        (30, inf, 1e-9),
        (-inf, -30, 1e-9),
        (-40, 50, 1e-9),
        (0, 1e-9, 1e-9),
        (-2e-6, 1e-6, 1e-9),
        (1e3, 1e3 + 1e-9, 1e-6),
        (1e6, 1e6 + 1.2e-10, 1e-3),
        (1e6, 1e6 + 1e-6, 1e-3),  # the squares of the bounds themselves have no more digits
    ],
)
def test_truncated_normal_integrates_to_one(lower, upper, tolerance):
    grid = np.linspace(-60, 60, 12001)
    prior = Prior("TruncatedNormal", mu=0.0, sigma=1.0, lower=lower, upper=upper)
    density = evaluated(prior, grid)[2]
    assert_allclose(np.exp(density).sum() * (grid[1] - grid[0]), 1, rtol=tolerance)


@pytest.mark.parametrize("prior", CASES + scaled(1e-12) + scaled(1e12), ids=repr)
def test_never_raises(prior):
    _, _, density, gradient = evaluated(prior, [-inf, -1e300, -1e4, 1e4, 1e300, inf, nan])
    assert np.isfinite(gradient).all()
    assert not np.isnan(density).any()
    assert not (density == inf).any()
    assert density[-1] == -inf


@pytest.mark.parametrize("prior", CASES, ids=repr)
def test_draws_are_constrained_alike(prior):
    draws = np.array([TAIL, POINTS[: len(TAIL)]])
    found = constrain(draws, encode(prior))
    assert found.shape == draws.shape
    expected = evaluated(prior, draws.ravel())[0].reshape(draws.shape)
    # Within rounding of the bounds, where 0 lies between them.
    assert_allclose(found, expected, rtol=1e-15, atol=1e-15 * (prior.support == "real"))


def test_draws_beyond_floats_do_not_warn():
    half = encode(Prior("HalfNormal", sigma=1))
    assert constrain(np.array([800.0]), half)[0] == inf


def test_draws_are_copied():
    draws = np.zeros(3)
    assert constrain(draws, encode(Prior("Flat"))) is not draws
