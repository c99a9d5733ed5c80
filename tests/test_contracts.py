"""The conformance tests: what every family and link keeps to. A new family adds a `Case` here."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytensor
import pytensor.tensor as pt
import pytest
from scipy import integrate, stats

import bayesmixed as bm
from bayesmixed.families import FAMILIES, Family
from bayesmixed.graph import interpreted
from bayesmixed.links import LINKS, Link

CUTS = np.array([-1.0, 0.2, 1.5])

# Inverse links by other means than the package's; a probability's are distribution functions.
LATENT = {"logit": stats.logistic, "probit": stats.norm, "cloglog": stats.gumbel_l}
INVERSE: Mapping[str, Callable[[Any], Any]] = {
    "identity": np.asarray,
    "log": np.exp,
    "inverse": np.reciprocal,
    **{name: latent.cdf for name, latent in LATENT.items()},
}


def _zero_inflated(y, zi, count):
    return np.log(zi * (y == 0) + (1 - zi) * count)


def _nbinom(y, mu, alpha, pmf=stats.nbinom.pmf):
    return pmf(y, alpha, alpha / (alpha + mu))


@dataclass(frozen=True)
class Case:
    """What the tests need to know of a family, apart from what it says itself.

    `reference` is the log-density by scipy.stats with natural parameters; `outcomes` draws valid
    outcomes; `edges` are outcomes at or near the ends of the support; `invalid` lies outside it;
    `aux` are natural values of the further parameters with moments of every order that the tests
    use; `bounds` are those of a continuous outcome.
    """

    reference: Callable[..., Any]
    outcomes: Callable[..., Any]
    edges: tuple[float, ...]
    invalid: tuple[float, ...]
    aux: Mapping[str, Any] = field(default_factory=dict)
    bounds: tuple[float, float] | None = None


def _real(rng, n):
    return rng.normal(0, 3, n)


def _positive(rng, n):
    return rng.lognormal(0, 1, n)


def _count(rng, n):
    return rng.integers(0, 16, n).astype(float)


def _successes(rng, trials):
    return np.floor(rng.random(len(trials)) * (trials + 1))


ANY = (-np.inf, np.inf)
ABOVE_0 = (0.0, np.inf)
NO_NUMBER = (np.nan, np.inf)
NO_COUNT = (-1.0, 0.5, *NO_NUMBER)

CASES: Mapping[str, Case] = {
    "gaussian": Case(
        lambda y, mu, sigma: stats.norm.logpdf(y, loc=mu, scale=sigma),
        _real,
        (-1e6, 0.0, 1e6),
        NO_NUMBER,
        {"sigma": 1.3},
        ANY,
    ),
    "student_t": Case(
        lambda y, mu, sigma, nu: stats.t.logpdf(y, nu, mu, sigma),
        _real,
        (-1e6, 0.0, 1e6),
        NO_NUMBER,
        {"sigma": 1.3, "nu": 12.0},
        ANY,
    ),
    "lognormal": Case(
        lambda y, mu, sigma: stats.lognorm.logpdf(y, s=sigma, scale=np.exp(mu)),
        _positive,
        (1e-10, 1e10),
        (0.0, -1.0, *NO_NUMBER),
        {"sigma": 0.4},
        ABOVE_0,
    ),
    "gamma": Case(
        lambda y, mu, alpha: stats.gamma.logpdf(y, alpha, scale=mu / alpha),
        _positive,
        (1e-10, 1e6),
        (0.0, -1.0, *NO_NUMBER),
        {"alpha": 2.5},
        ABOVE_0,
    ),
    "beta": Case(
        lambda y, mu, kappa: stats.beta.logpdf(y, mu * kappa, (1 - mu) * kappa),
        lambda rng, n: rng.uniform(0.02, 0.98, n),
        (1e-12, 1 - 1e-12),
        (0.0, 1.0, -0.1, 1.1, *NO_NUMBER),
        {"kappa": 8.0},
        (0.0, 1.0),
    ),
    "bernoulli": Case(
        lambda y, mu: stats.bernoulli.logpmf(y, p=mu),
        lambda rng, n: rng.integers(0, 2, n).astype(float),
        (0.0, 1.0),
        (2.0, *NO_COUNT),
    ),
    "binomial": Case(
        lambda y, mu, trials: stats.binom.logpmf(y, trials, mu),
        _successes,
        (0.0, 20.0),
        (21.0, *NO_COUNT),
    ),
    "beta_binomial": Case(
        lambda y, mu, kappa, trials: stats.betabinom.logpmf(
            y, trials, mu * kappa, (1 - mu) * kappa
        ),
        _successes,
        (0.0, 20.0),
        (21.0, *NO_COUNT),
        {"kappa": 3.0},
    ),
    "poisson": Case(
        lambda y, mu: stats.poisson.logpmf(y, mu=mu),
        _count,
        (0.0, 1e6),
        NO_COUNT,
    ),
    "negative_binomial": Case(
        lambda y, mu, alpha: _nbinom(y, mu, alpha, stats.nbinom.logpmf),
        _count,
        (0.0, 1e6),
        NO_COUNT,
        {"alpha": 1.5},
    ),
    "zero_inflated_poisson": Case(
        lambda y, mu, zi: _zero_inflated(y, zi, stats.poisson.pmf(y, mu)),
        _count,
        (0.0, 1e6),
        NO_COUNT,
        {"zi": 0.3},
    ),
    "zero_inflated_negative_binomial": Case(
        lambda y, mu, alpha, zi: _zero_inflated(y, zi, _nbinom(y, mu, alpha)),
        _count,
        (0.0, 1e6),
        NO_COUNT,
        {"alpha": 1.5, "zi": 0.3},
    ),
    "ordinal": Case(
        lambda y, mu, thresholds, link: _log_category(y, mu, thresholds, LATENT[link]),
        lambda rng, n: rng.integers(0, len(CUTS) + 1, n).astype(float),
        (0.0, 1.0, 3.0),
        NO_COUNT,
        {"thresholds": CUTS},
    ),
}


def _log_category(y, eta, thresholds, latent):
    """P(lower < latent residual < upper), subtracting in the tail where the residual is."""
    ends = np.concatenate([[-np.inf], thresholds, [np.inf]]) - np.asarray(eta)[:, None]
    lower, upper = (ends[np.arange(len(y)), y.astype(int) + k] for k in (0, 1))
    left = latent.cdf(upper) - latent.cdf(lower)
    return np.log(np.where(lower > latent.median(), latent.sf(lower) - latent.sf(upper), left))


PAIRS = [(f, link) for f in FAMILIES.values() for link in f.parameters[0].links]
EVERY = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
EVERY_LINK = pytest.mark.parametrize(
    ("family", "link"), PAIRS, ids=[f"{f.name}-{link.name}" for f, link in PAIRS]
)
TRIALS = 20.0

# Linear predictors: an ordinary range, and as far out as a sampler's first steps go. Identity and
# inverse links need a positive predictor where the mean must be positive.
RANGE = {
    "identity": (-3.0, 3.0),
    "log": (-1.5, 2.0),
    "logit": (-3.0, 3.0),
    "probit": (-2.0, 2.0),
    "cloglog": (-3.0, 1.0),
    "inverse": (0.3, 3.0),
}
EXTREMES = {
    "identity": (-30.0, 30.0),
    "log": (-30.0, 30.0),
    "logit": (-30.0, 30.0),
    "probit": (-8.0, 8.0),
    "cloglog": (-8.0, 8.0),
    "inverse": (1e-6, 1e6),
}


def _within(family: Family, link: Link, table: Mapping[str, tuple[float, float]]):
    """The table's range, positive for the identity link of a mean that must be positive."""
    low, high = table[link.name]
    positive = LINKS["log"] in family.parameters[0].links and family.name not in (
        "gaussian",
        "student_t",
    )
    return (0.1, high) if link.name == "identity" and positive else (low, high)


def links_of(family: Family, link: Link) -> dict[str, Link]:
    first, *others = family.parameters
    return {first.name: link} | {p.name: p.links[0] for p in others}


def known(family: Family, trials: Any = TRIALS) -> dict[str, Any]:
    return {"trials": trials} if family.has_trials else {}


def call(family: Family, link: Link, function: Callable[..., Any], eta, **other):
    return family.evaluate(function, eta, links_of(family, link), **other)


def predictors(family: Family, link: Link, first: Any) -> dict[str, Any]:
    """Linear predictors: the first as given, the others at the case's natural values."""
    eta = {family.parameters[0].name: first}
    for p in family.parameters[1:]:
        eta[p.name] = p.links[0].forward(CASES[family.name].aux[p.name])
    return eta


@dataclass(frozen=True)
class Points:
    """Outcomes with the linear predictors of every row."""

    y: Any
    eta: dict[str, Any]
    known: dict[str, Any]


def random_points(family: Family, link: Link, n: int = 60) -> Points:
    rng = np.random.default_rng(20260101)
    trials = rng.integers(1, 21, n).astype(float)
    eta = predictors(family, link, rng.uniform(*_within(family, link, RANGE), n))
    for p in family.parameters[1:]:
        if p.support != "ordered":
            eta[p.name] = rng.uniform(*RANGE[p.links[0].name], n)
    outcomes = CASES[family.name].outcomes
    y = outcomes(rng, trials) if family.has_trials else outcomes(rng, n)
    return Points(y, eta, known(family, trials))


def extreme_points(family: Family, link: Link) -> Points:
    """Every combination of edge outcomes and far-out, or ordinary, predictors."""
    case = CASES[family.name]
    free = [p for p in family.parameters[1:] if p.support != "ordered"]
    axes = [np.array(case.edges), np.array([*_within(family, link, EXTREMES), 0.7])]
    for p in free:
        axes.append(
            np.array([*EXTREMES[p.links[0].name], float(p.links[0].forward(case.aux[p.name]))])
        )
    y, first, *others = (grid.ravel() for grid in np.meshgrid(*axes))
    eta = predictors(family, link, first) | {p.name: v for p, v in zip(free, others, strict=True)}
    return Points(y, eta, known(family, np.full(len(y), TRIALS)))


@cache
def symbolic(family: Family, link: Link):
    """A function of y, the predictors and the trials: log-likelihood and every gradient."""
    y, trials = pt.dvector("y"), pt.dvector("trials")
    eta = {p.name: pt.dvector(p.name) for p in family.parameters}
    value = call(family, link, family.loglik, eta, y=y, trials=trials)
    gradients = pytensor.grad(value.sum(), list(eta.values()))
    with interpreted() as mode:
        return pytensor.function(
            [y, *eta.values(), trials], [value, *gradients], mode=mode, on_unused_input="ignore"
        )


def by_pytensor(family: Family, link: Link, at: Points):
    """Log-likelihood of every row and its gradients by parameter."""
    trials = at.known.get("trials", np.ones(len(at.y)))
    # Parameters that are one number stand for every row, so that gradients come by row.
    eta = [
        v if family.parameter(n).support == "ordered" else np.broadcast_to(v, at.y.shape)
        for n, v in at.eta.items()
    ]
    with np.errstate(all="ignore"):
        value, *gradients = symbolic(family, link)(at.y, *eta, trials)
    return value, dict(zip(at.eta, gradients, strict=True))


def by_numpy(family: Family, link: Link, at: Points):
    with np.errstate(all="ignore"):
        return call(family, link, family.loglik, at.eta, y=at.y, **at.known)


def by_reference(family: Family, link: Link, at: Points):
    """Log-likelihood by scipy.stats."""
    natural = {n: INVERSE[lk.name](at.eta[n]) for n, lk in links_of(family, link).items()}
    if family.is_categorical:
        natural |= {"mu": at.eta["mu"], "link": link.name}
    return CASES[family.name].reference(at.y, **natural, **at.known)


def test_every_family_has_a_case():
    assert list(CASES) == list(FAMILIES)


@EVERY_LINK
def test_loglik_is_the_reference(family, link):
    at = random_points(family, link)
    expected = by_reference(family, link, at)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(by_numpy(family, link, at), expected, rtol=1e-9, atol=1e-9)


@EVERY_LINK
def test_pytensor_equals_numpy(family, link):
    for at in (random_points(family, link), extreme_points(family, link)):
        # The same operations in the same order, up to library functions: rounding only. The
        # absolute part is for values near 0 that are differences of terms of size 1 or more.
        np.testing.assert_allclose(
            by_pytensor(family, link, at)[0], by_numpy(family, link, at), rtol=1e-10, atol=1e-12
        )


def _shifted(at: Points, name: str, step: Any) -> Points:
    return Points(at.y, at.eta | {name: at.eta[name] + step}, at.known)


def _central(family: Family, link: Link, at: Points, name: str, step: Any, size: float):
    high = by_numpy(family, link, _shifted(at, name, step))
    low = by_numpy(family, link, _shifted(at, name, -step))
    return (high - low) / (2 * size)


@EVERY_LINK
def test_gradients_are_finite_differences(family, link):
    at = random_points(family, link)
    _, gradients = by_pytensor(family, link, at)
    size = 1e-5
    for name, gradient in gradients.items():
        if family.parameter(name).support == "ordered":
            steps = size * np.eye(len(CUTS))
            numeric = [_central(family, link, at, name, s, size).sum() for s in steps]
        else:
            numeric = _central(family, link, at, name, size, size)
        # Truncation is of order size^2 times the third derivative, and rounding of order
        # 1e-16 |loglik| / size, about 1e-9 for the largest values here.
        np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-7, err_msg=name)


@EVERY_LINK
def test_loglik_and_gradients_are_finite_far_out(family, link):
    at = extreme_points(family, link)
    value, gradients = by_pytensor(family, link, at)
    for name, numbers in {"loglik": value, **gradients}.items():
        bad = ~np.isfinite(numbers)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            where = {n: np.broadcast_to(v, at.y.shape)[row] for n, v in at.eta.items() if row}
            pytest.fail(f"{name} is {numbers[row]} at y={at.y[row]}, {where}; {bad.sum()} bad")


def typical(family: Family, link: Link) -> list[float]:
    """Three values of the first linear predictor, the ends away from the range's."""
    low, high = _within(family, link, RANGE)
    return [float(v) for v in low + (high - low) * np.array([0.2, 0.5, 0.9])]


def moments(family: Family, link: Link, first: float) -> list[float]:
    """Total mass, mean and variance of the log-likelihood's distribution."""
    eta = predictors(family, link, np.array([first]))

    def density(y):
        y = np.atleast_1d(np.asarray(y, dtype=float))
        return np.exp(call(family, link, family.loglik, eta, y=y, **known(family)))

    bounds = CASES[family.name].bounds
    if bounds is None:
        last = {"bernoulli": 1, "ordinal": len(CUTS)}.get(family.name, 3000)
        y = np.arange(TRIALS + 1 if family.has_trials else last + 1, dtype=float)
        p = density(y)
        return [p.sum(), p @ y, p @ y**2 - (p @ y) ** 2]

    def integral(power, centre=0.0):
        # Split at the distribution's middle, so that adaptive quadrature finds the mass.
        middle = float(call(family, link, family.mean, eta, **known(family))[0])
        ends = (bounds[0], middle, bounds[1])
        halves = itertools.pairwise(ends)
        return sum(
            integrate.quad(
                lambda y: (y - centre) ** power * density(y)[0], *half, epsabs=1e-11, limit=200
            )[0]
            for half in halves
        )

    mean = integral(1)
    return [integral(0), mean, integral(2, mean)]


def stated(family: Family, link: Link, eta: Mapping[str, Any]) -> list[float]:
    """Mean and variance as the family says."""
    return [
        float(np.ravel(call(family, link, f, eta, **known(family)))[0])
        for f in (family.mean, family.variance)
    ]


@EVERY_LINK
def test_mass_mean_and_variance_are_those_of_the_density(family, link):
    for first in typical(family, link):
        eta = predictors(family, link, np.array([first]))
        # Sums are cut off at 3000, beyond which less than 1e-100 is left; quad reaches 1e-9.
        np.testing.assert_allclose(
            moments(family, link, first), [1.0, *stated(family, link, eta)], rtol=1e-7, atol=1e-9
        )


@EVERY_LINK
def test_simulated_outcomes_have_the_mean_and_variance(family, link):
    n = 200_000
    rng = np.random.default_rng(7)
    for first in typical(family, link):
        eta = predictors(family, link, np.full(n, first))
        trials = known(family, np.full(n, TRIALS))
        y = np.asarray(call(family, link, family.simulate, eta, rng=rng, **trials), dtype=float)
        assert y.shape == (n,)
        assert np.all(family.valid(y, trials.get("trials")))
        mean, variance = stated(family, link, predictors(family, link, np.array([first])))
        centred = y - y.mean()
        # Standard errors of a mean and of a variance: sd / sqrt(n), sqrt((m4 - m2^2) / n).
        error = np.sqrt([variance / n, (np.mean(centred**4) - np.mean(centred**2) ** 2) / n])
        np.testing.assert_array_less(np.abs([y.mean() - mean, y.var() - variance]), 5 * error)


@EVERY
def test_functions_broadcast_over_draws(family):
    """Posterior draws come as (chain, draw, row), or (chain, draw, 1) for single numbers."""
    link = family.parameters[0].links[0]
    at = random_points(family, link, 5)
    offset = np.array([[0.0, 0.1, 0.2], [0.3, 0.4, 0.5]])[..., None]
    eta = {n: np.asarray(v) + offset for n, v in at.eta.items()}
    together = call(family, link, family.loglik, eta, y=at.y, **at.known)
    assert together.shape == (2, 3, 5)
    one = Points(at.y, {n: v[1, 2] for n, v in eta.items()}, at.known)
    np.testing.assert_allclose(together[1, 2], by_numpy(family, link, one), rtol=1e-12)


@EVERY
def test_support_is_checked_and_described(family):
    case = CASES[family.name]
    edges, invalid = np.array(case.edges), np.array(case.invalid)
    assert np.all(family.valid(edges, TRIALS))
    assert not np.any(family.valid(invalid, TRIALS))
    assert family.support
    assert family.reference


@EVERY
@pytest.mark.parametrize("scale", [0.01, 1.0, 500.0])
def test_default_priors_live_on_the_support(family, scale):
    for parameter in family.parameters[1:]:
        parameter.prior(scale).check_support(parameter.name, parameter.support)
        if parameter.support != "ordered":
            # Where the intercept's prior is centred once the parameter has a formula.
            assert np.isfinite(parameter.links[0].forward(parameter.typical(scale)))


# Models


def table(family: Family, rows: int, groups: int, eta: Mapping[str, Any] | None = None):
    """Data simulated from the family: slope 0.5, sd 0.6 between groups, first link."""
    rng = np.random.default_rng(11)
    link = family.parameters[0].links[0]
    x = rng.normal(size=rows)
    group = rng.permutation(np.arange(rows) % groups)
    first = TRUTH["Intercept"] * (not family.is_categorical) + TRUTH["x"] * x
    first = first + (TRUTH["sd"] * _standard(rng.normal(size=groups)))[group]
    values = predictors(family, link, first) | {n: f(x) for n, f in (eta or {}).items()}
    values = {
        n: v if family.parameter(n).support == "ordered" else np.broadcast_to(v, rows)
        for n, v in values.items()
    }
    trials = known(family, np.full(rows, TRIALS))
    y = call(family, link, family.simulate, values, rng=rng, **trials)
    return pd.DataFrame({"y": y, "x": x, "g": group, "n": TRIALS})


TRUTH = {"Intercept": 0.4, "x": 0.5, "sd": 0.6}


def _standard(z):
    """Centred and scaled, so that the groups' effects have just the stated sd."""
    return (z - z.mean()) / z.std()


def formula(family: Family) -> str:
    return f"y{' | trials(n)' if family.has_trials else ''} ~ x + (1 | g)"


def start(model: bm.Model) -> tuple[float, np.ndarray]:
    """Log-density and gradient of a PyMC model at its initial point."""
    with interpreted() as mode, np.errstate(all="ignore"):
        point = model.pymc.initial_point()
        values = model.pymc.value_vars
        logp = model.pymc.logp()
        gradient = pt.concatenate([g.ravel() for g in pytensor.grad(logp, values)])
        f = pytensor.function(values, [logp, gradient], mode=mode)
        value, slope = f(*(point[v.name] for v in values))
    return float(value), slope


@EVERY
def test_a_model_with_a_formula_on_every_parameter_starts_finite(family):
    others = {p.name: "~ x + (1 | g)" for p in family.parameters[1:] if p.support != "ordered"}
    model = bm.Model(formula(family), table(family, 60, 6), family, parameters=others)
    value, gradient = start(model)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    names = set(model.pymc.named_vars)
    assert {f"beta_{n}" for n in others} | {f"u_{n}_g" for n in others} <= names
    assert not names & set(others)  # a parameter with a formula is no single number any more


@EVERY_LINK
def test_the_model_states_the_familys_likelihood(family, link):
    """Near the start, which is valid for identity and inverse links too."""
    data = table(family, 30, 5)
    model = bm.Model(formula(family), data, family, link=link.name)
    assert model.design.links == links_of(family, link)
    pm_model = model.pymc
    names = ["beta", "u_g", *(p.name for p in family.parameters[1:])]
    names = [n for n in names if n in pm_model.named_vars]
    with interpreted() as mode, np.errstate(all="ignore"):
        point = pm_model.initial_point()
        outputs = [
            *pm_model.logp(vars=pm_model.observed_RVs, sum=False),
            *pm_model.replace_rvs_by_values([pm_model[n] for n in names]),
        ]
        f = pytensor.function(pm_model.value_vars, outputs, mode=mode, on_unused_input="ignore")
        logp, *values = f(*(point[v.name] + 0.01 for v in pm_model.value_vars))
    found = dict(zip(names, values, strict=True))
    terms = model.design.predictors["mu"].terms
    beta = dict(zip(terms, found["beta"], strict=True))
    eta = {"mu": beta.get("Intercept", 0.0) + beta["x"] * data["x"] + found["u_g"][data["g"], 0]}
    for p in family.parameters[1:]:
        eta[p.name] = p.links[0].forward(found[p.name])
    at = Points(data["y"].to_numpy(float), eta, known(family, data["n"]))
    assert np.isfinite(logp).all()
    np.testing.assert_allclose(logp, by_numpy(family, link, at), rtol=1e-10)


# Recovery of the parameters that simulated the data

GAUSSIAN_SIGMA = {"sigma": lambda x: -0.5 + 0.4 * x}


def _recover(family: Family, parameters=None, eta=None):
    """Fit simulated data; the posterior and the true value of every population parameter."""
    eta = eta or {}
    data = table(family, 900, 30, eta)
    fit = bm.Model(formula(family), data, family, parameters=parameters).fit(
        draws=500, tune=500, chains=2, seed=3, progress=False
    )
    truth = {"beta[x]": TRUTH["x"], "sd_g": TRUTH["sd"]}
    truth |= {} if family.is_categorical else {"beta[Intercept]": TRUTH["Intercept"]}
    for p in family.parameters[1:]:
        value = CASES[family.name].aux[p.name]
        if p.name in (parameters or {}):
            truth |= {f"beta_{p.name}[Intercept]": -0.5, f"beta_{p.name}[x]": 0.4}
        elif p.support == "ordered":
            cuts = fit.posterior[p.name]["threshold"].to_numpy()
            truth |= {f"{p.name}[{k}]": v for k, v in zip(cuts, value, strict=True)}
        else:
            truth[p.name] = p.links[0].inverse(eta[p.name](0.0)) if p.name in eta else value
    summary = fit.summary().loc[list(truth)]
    return summary, pd.Series(truth)


def _check_recovery(summary, truth):
    # A thousand draws, of which the intercept's may be worth 25: hence the Monte Carlo error in z.
    assert (summary["rhat"] < 1.1).all(), summary.to_string()
    # About 65 parameters in all, seeds fixed: a z-score above 4 has probability below 0.5 %.
    z = (summary["mean"] - truth) / np.hypot(summary["sd"], summary["mcse_mean"])
    assert (z.abs() < 4).all(), z
    # And the data must have spoken: sd well below the prior's, relative for large parameters.
    assert (summary["sd"] < 0.3 * np.maximum(1, truth.abs())).all(), summary.to_string()


# Degrees of freedom are identified where the tails are heavy.
HEAVY = {"student_t": {"nu": lambda x: np.log(4.0) + 0 * x}}
QUICK = ("bernoulli", "negative_binomial", "ordinal")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in FAMILIES]
)
def test_sampling_recovers_the_parameters(name):
    _check_recovery(*_recover(FAMILIES[name], eta=HEAVY.get(name)))


def test_sampling_recovers_a_formula_for_sigma():
    family = FAMILIES["gaussian"]
    _check_recovery(*_recover(family, {"sigma": "~ x"}, GAUSSIAN_SIGMA))
