"""Publication bias: evidences by nested quadrature, metafor's estimates, simulated selection."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.integrate import dblquad, quad
from scipy.optimize import minimize

import bayesmixed as bm
from bayesmixed._errors import BayesmixedError, DataError, PriorError, UnknownNameError
from bayesmixed.meta._bias_grid import Studies, cells
from bayesmixed.meta._bias_models import NoBias, Selection, SmallStudy, default_biases
from bayesmixed.meta._densities import density

REFERENCE = json.loads((Path(__file__).parent / "reference" / "models.json").read_text())[
    "hackshaw1998"
]
TAU = bm.Prior("HalfNormal", sigma=0.5)


@pytest.fixture(scope="module")
def smoking() -> pd.DataFrame:
    return bm.datasets.load("hackshaw1998")


@pytest.fixture(scope="module")
def fit(smoking):
    return bm.meta_analysis(smoking, measure="OR", method="grid", seed=1)


@pytest.fixture(scope="module")
def report(fit):
    return bm.publication_bias(fit, seed=1)


Z = {p: float(stats.norm.isf(p)) for p in (0.025, 0.05, 0.5)}
FEW = Studies(
    np.array([0.5, 0.15, 0.62, -0.1, 0.4]), np.array([0.2, 0.12, 0.3, 0.25, 0.15]), 0.0, 1.0,
    density(TAU),
)  # fmt: skip


def pdf(x):
    return math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def upper(x):
    return 0.5 * math.erfc(x / math.sqrt(2))


def prior(mu, tau):
    """Normal(0, 1) and half-normal(0.5)."""
    return pdf(mu) * 4 * pdf(2 * tau)


def selected(mu, tau, omega, sides, cuts):
    """Likelihood of a step function, its integral by the normal distribution function."""
    edges = [Z[c / sides] for c in cuts]
    value = 1.0
    for y, s in zip(FEW.y.tolist(), FEW.se.tolist(), strict=True):
        sd = math.hypot(s, tau)
        z = y / s if sides == 1 else abs(y / s)
        above = [
            upper((e * s - mu) / sd) + (upper((e * s + mu) / sd) if sides == 2 else 0)
            for e in edges
        ]
        every = [0, *above, 1]
        whole = sum(w * (every[j + 1] - every[j]) for j, w in enumerate(omega))
        value *= omega[sum(z < e for e in edges)] * pdf((y - mu) / sd) / sd / whole
    return value


def small(mu, tau, b, power, scale):
    """Likelihood of a small-study effect times its half-Cauchy prior."""
    value = 2 / (math.pi * scale * (1 + (b / scale) ** 2))
    for y, s in zip(FEW.y.tolist(), FEW.se.tolist(), strict=True):
        sd = math.hypot(s, tau)
        value *= pdf((y - mu - b * s**power) / sd) / sd
    return value


def test_evidence_without_bias_is_that_of_the_exact_grid(smoking, fit, report):
    exact = bm.grid_posterior(fit)
    models = report.models.set_index(["bias", "effect", "heterogeneity"])
    own = models.loc[("none", True, True)]
    assert own["log_evidence"] == pytest.approx(exact.tau.log_evidence, abs=1e-5)
    assert own["mu"] == pytest.approx(exact.effect().mean[0], abs=1e-6)
    assert own["tau"] == pytest.approx(exact.tau.mean, abs=1e-5)
    single = report.table.loc["mu | effect, no bias"]
    assert np.isfinite(single[["median", "eti95_lb", "eti95_ub"]].to_numpy(dtype=float)).all()
    cell = cells(FEW, NoBias())[False, True]
    expected = quad(
        lambda t: np.prod(stats.norm.pdf(FEW.y, 0, np.sqrt(FEW.se**2 + t**2))) * prior(0, t), 0, 8
    )[0] / stats.norm.pdf(0)
    assert cell.log_evidence == pytest.approx(np.log(expected), abs=1e-6)


@pytest.mark.parametrize(("power", "scale"), [(1, 1.0), (2, 5.0)])
def test_evidence_of_small_study_effects_is_that_of_quadrature(power, scale):
    found = cells(FEW, SmallStudy("x", power, scale))

    both = dblquad(
        lambda b, mu: small(mu, 0, b, power, scale) * pdf(mu), -4, 4, 0, 40, epsabs=1e-7
    )[0]
    assert found[True, False].log_evidence == pytest.approx(np.log(both), abs=1e-4)
    spread = dblquad(
        lambda b, t: small(0, t, b, power, scale) * 4 * pdf(2 * t), 0, 3, 0, 40, epsabs=1e-7
    )[0]
    assert found[False, True].log_evidence == pytest.approx(np.log(spread), abs=1e-4)


@pytest.mark.parametrize(("sides", "cut"), [(1, 0.05), (2, 0.05)])
def test_evidence_of_selection_is_that_of_quadrature(sides, cut):
    found = cells(FEW, Selection(sides, (cut,)))
    none = quad(lambda w: selected(0, 0, [1, w], sides, [cut]), 0, 1, epsabs=0, epsrel=1e-9)[0]
    assert found[False, False].log_evidence == pytest.approx(np.log(none), abs=1e-8)
    # By quad within an equally spaced sum, which converges as both ends fall off. Where the
    # effect is negative all is decided near a weight of 0, so that its root is integrated over.
    mu = np.linspace(-1.5, 2, 141)
    inner = [
        quad(lambda v, m=m: 4 * v**3 * selected(m, 0, [1, v**4], sides, [cut]), 0, 1)[0] for m in mu
    ]
    both = (mu[1] - mu[0]) * float(np.array(inner) @ stats.norm.pdf(mu))
    assert found[True, False].log_evidence == pytest.approx(np.log(both), abs=1e-4)


def test_prior_of_weights_is_a_cumulative_dirichlet():
    """Two weights: their density is 2 where the second is below the first."""
    found = cells(FEW, Selection(1, (0.025, 0.5)))[False, False]
    expected = 2 * dblquad(
        lambda low, high: selected(0, 0, [1, high, low], 1, [0.025, 0.5]),
        0, 1, 0, lambda high: high, epsabs=1e-8,
    )[0]  # fmt: skip
    assert found.log_evidence == pytest.approx(np.log(expected), abs=1e-5)
    rng = np.random.default_rng(1)
    drawn = rng.dirichlet(np.ones(4), 200_000).cumsum(axis=1)[:, ::-1]
    omega, weight = Selection(1, (0.025, 0.05, 0.5)).nodes(coarse=False)
    se = drawn.std(axis=0)[1:] / np.sqrt(len(drawn))
    assert (np.abs(drawn.mean(axis=0) - weight @ omega)[1:] < 4 * se).all()
    product = (omega[:, 1] * omega[:, 3]) @ weight
    assert product == pytest.approx((drawn[:, 1] * drawn[:, 3]).mean(), abs=2e-3)


@pytest.mark.slow
def test_full_model_of_selection_is_that_of_quadrature():
    found = cells(FEW, Selection(1, (0.05,)))[True, True]
    mu, (x, w) = np.linspace(-2, 2, 81), np.polynomial.legendre.leggauss(24)
    expected = 0.0
    for tau, weight in zip(1.25 * (1 + x), 1.25 * w, strict=True):
        inner = [
            quad(lambda v, m=m, t=tau: 4 * v**3 * selected(m, t, [1, v**4], 1, [0.05]), 0, 1)[0]
            * prior(m, tau)
            for m in mu
        ]
        expected += weight * (mu[1] - mu[0]) * sum(inner)
    assert found.log_evidence == pytest.approx(np.log(expected), abs=1e-4)


@pytest.mark.parametrize("name", ["step_025", "step_025_50"])
def test_likelihood_of_selection_has_its_maximum_where_metafor_has(smoking, name):
    expected = REFERENCE[name]
    cuts = tuple(np.atleast_1d(expected["steps"]))
    y, se = smoking.yi.to_numpy(), smoking.sei.to_numpy()

    def negative(x):
        omega = np.append(1, np.exp(x[2:]))[None]
        at = np.array([x[0]]), np.array([np.exp(x[1])])
        return -float(Selection(1, cuts).log_likelihood(y, se, at[0][None], at[1], omega)[0, 0, 0])

    theirs = np.array(
        [expected["mu"], 0.5 * np.log(expected["tau2"]), *np.log(expected["delta"][1:])]
    )
    assert -negative(theirs) == pytest.approx(expected["logLik"], abs=1e-6)
    best = minimize(negative, theirs, method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-9})
    assert -best.fun == pytest.approx(expected["logLik"], abs=1e-4)


@pytest.mark.parametrize(("name", "power"), [("pet", 1), ("peese", 2), ("pet_random", 1)])
def test_likelihood_of_small_study_effects_is_metafors(smoking, name, power):
    expected = REFERENCE[name]
    found = SmallStudy("x", power, 1.0).log_likelihood(
        smoking.yi.to_numpy(), smoking.sei.to_numpy(), np.array([expected["beta"][:1]]),
        np.array([expected["tau2"] ** 0.5]), np.array([expected["beta"][1:]]),
    )  # fmt: skip
    assert found[0, 0, 0] == pytest.approx(expected["logLik"], abs=1e-8)


def test_average_is_that_of_its_models(report):
    models, table = report.models, report.table
    assert models["prior"].sum() == pytest.approx(1)
    assert models["posterior"].sum() == pytest.approx(1)
    assert len(models) == 36
    assert table.loc["mu", "mean"] == pytest.approx(models["posterior"] @ models["mu"])
    assert table.loc["tau", "mean"] == pytest.approx(models["posterior"] @ models["tau"])
    assert table.loc[["effect", "heterogeneity", "bias"], "prior"].to_numpy() == pytest.approx(0.5)
    assert table.loc["bias: selection", "prior"] == pytest.approx(0.25)
    inside = models.loc[models.effect, "posterior"].sum()
    assert table.loc["effect", "BF"] == pytest.approx(inside / (1 - inside))
    drawn = report.draws
    for name in ("mu", "tau"):
        se = table.loc[name, "sd"] / np.sqrt(drawn.sizes["draw"])
        assert float(drawn[name].mean()) == pytest.approx(table.loc[name, "mean"], abs=4 * se)
    share = float((drawn["mu"] <= table.loc["mu | effect", "median"]).mean())
    none = 1 - inside
    assert share == pytest.approx(none + inside / 2, abs=4 * 0.5 / np.sqrt(4000))


def test_direction_turns_everything(smoking):
    turned = smoking.assign(yi=-smoking.yi)
    some = ((NoBias(), 0.5), (Selection(1, (0.05,)), 0.5))
    one, two = (
        bm.publication_bias(
            bm.meta_analysis(data, measure="OR", method="grid", draws=5), biases=some, draws=5
        )
        for data in (smoking, turned)
    )
    rows = ["mu", "mu | effect"]
    assert two.table.loc[rows, "mean"].to_numpy() == pytest.approx(
        -one.table.loc[rows, "mean"].to_numpy()
    )
    assert two.table.loc["mu | effect", "eti95_lb"] == pytest.approx(
        -one.table.loc["mu | effect", "eti95_ub"], abs=1e-7
    )
    wrong = bm.publication_bias(
        bm.meta_analysis(turned, measure="OR", method="grid", draws=5),
        "positive", biases=some, draws=5,
    )  # fmt: skip
    # No effect is significant in that direction: nothing is known of the weight.
    assert wrong.table.loc["bias", "BF"] != pytest.approx(two.table.loc["bias", "BF"], rel=0.1)


def published(rng, studies, mu, tau, rest):
    """Studies of which those that are not significant are published with probability `rest`."""
    y, se = [], []
    while len(y) < studies:
        s = rng.uniform(0.1, 0.4)
        value = rng.normal(mu, np.hypot(s, tau))
        if value / s > 1.96 or rng.uniform() < rest:
            y.append(value)
            se.append(s)
    return pd.DataFrame({"study": range(studies), "yi": y, "sei": se})


@pytest.mark.slow
def test_bias_is_reduced_under_selection_and_not_invented_without():
    """Over 6 sets of 40 studies each; the true effect is 0.2."""
    rng, some = np.random.default_rng(5), ((NoBias(), 0.5), (Selection(1, (0.025,)), 0.5))
    rows = []
    for rest in (0.1, 1.0):
        for _ in range(6):
            data = published(rng, 40, 0.2, 0.1, rest)
            fit = bm.meta_analysis(data, measure="SMD", method="grid", draws=5)
            table = bm.publication_bias(fit, "positive", some, draws=5).table
            naive = table.loc["mu | effect, no bias", "mean"]
            rows.append((rest, naive, table.loc["mu", "mean"], table.loc["bias", "posterior"]))
    found = pd.DataFrame(rows, columns=["rest", "naive", "averaged", "bias"]).groupby("rest").mean()
    assert found.loc[0.1, "naive"] > 0.3
    assert abs(found.loc[0.1, "averaged"] - 0.2) < 0.5 * (found.loc[0.1, "naive"] - 0.2)
    assert found.loc[0.1, "bias"] > 0.9
    assert found.loc[1.0, "bias"] < 0.6
    assert found.loc[1.0, "averaged"] == pytest.approx(0.2, abs=0.06)


def test_extremes():
    rng = np.random.default_rng(2)
    some = ((NoBias(), 0.5), (Selection(1, (0.05,)), 0.25), (SmallStudy("PET", 1, 1.0), 0.25))
    many = pd.DataFrame({"study": range(500), "sei": rng.uniform(0.05, 0.5, 500)})
    many["yi"] = rng.normal(0.3, np.hypot(many.sei, 0.2))
    sizes = 10.0 ** np.linspace(-3, 3, 8)
    wide = pd.DataFrame({"study": range(8), "yi": rng.normal(0.1, sizes), "sei": sizes})
    three = pd.DataFrame({"study": [1, 2, 3], "yi": [0.1, 0.2, 0.3], "sei": 0.2})
    for data in (many, wide, three):
        fit = bm.meta_analysis(data, measure="SMD", method="grid", draws=5)
        found = bm.publication_bias(fit, biases=some, draws=5)
        assert np.isfinite(found.models["log_evidence"]).all()
        own = found.models.set_index(["bias", "effect", "heterogeneity"])["log_evidence"]
        exact = bm.grid_posterior(fit).tau.log_evidence
        assert own[("none", True, True)] == pytest.approx(exact, abs=1e-5)
    assert any("say little" in c for c in found.caveats)


def test_pictures_and_text(report, fit):
    for kind in report.pictures:
        report.plot(kind)
    assert "inclusion Bayes factor" in str(report)
    assert report.table.loc["odds ratio", "median"] == pytest.approx(
        np.exp(report.table.loc["mu", "median"])
    )
    plain = bm.publication_bias(fit, biases=[(NoBias(), 1.0)], draws=5)
    assert "bias" not in plain.table.index
    with pytest.raises(BayesmixedError, match="No model has selection"):
        plain.plot("weights")
    assert sum(weight for _, weight in default_biases(2.0)) == pytest.approx(1)


def test_bad_input(smoking, fit):
    def made(**options):
        return bm.meta_analysis(smoking, measure="OR", method="grid", draws=5, **options)

    with pytest.raises(BayesmixedError, match="without moderators"):
        bm.publication_bias(made(moderators="~ year"))
    with pytest.raises(BayesmixedError, match="common=False"):
        bm.publication_bias(made(common=True))
    with pytest.raises(PriorError, match="flat prior"):
        bm.publication_bias(made(priors={"mu": bm.Prior("Flat")}))
    for improper in (bm.Prior("HalfFlat"), "Jeffreys"):
        with pytest.raises(PriorError, match="improper prior of tau"):
            bm.publication_bias(made(priors={"tau": improper}))
    with pytest.raises(UnknownNameError, match="direction"):
        bm.publication_bias(fit, "up")
    with pytest.raises(BayesmixedError, match="above 0"):
        bm.publication_bias(fit, biases=[])
    with pytest.raises(DataError, match="three are needed"):
        bm.publication_bias(bm.meta_analysis(smoking.head(2), measure="OR", method="grid", draws=5))


def test_published_example_of_robma():
    """Bem (2011) in the README of RoBMA 2.0 (github.com/FBartos/RoBMA): Fisher's z of Cohen's d.

    Theirs: inclusion Bayes factors 0.479, 0.143 and 16.323 by bridge sampling, mu 0.037
    [-0.041, 0.213] and tau 0.010 on the scale of d. The standard errors' way to Fisher's z is the
    delta method here, so that 5 % are left to it and to their sampling.
    """
    d = np.array([0.25, 0.20, 0.26, 0.23, 0.22, 0.15, 0.09, 0.19, 0.42])
    se = np.array(
        [0.10155048, 0.08246211, 0.10323629, 0.10182427, 0.10120277, 0.08210765, 0.07085372,
         0.10089846, 0.14752627]
    )  # fmt: skip
    data = pd.DataFrame({"study": range(9), "yi": np.arcsinh(d / 2), "sei": se / np.sqrt(4 + d**2)})
    # Their priors of d, N(0, 1) and inverse gamma(1, 0.15), in Fisher's z.
    priors = {
        "mu": bm.Prior("Normal", mu=0, sigma=0.5),
        "tau": bm.Prior("InverseGamma", alpha=1, beta=0.075),
    }
    fit = bm.meta_analysis(data, measure="ZCOR", method="grid", draws=5, priors=priors)
    table = bm.publication_bias(fit, "positive", draws=5).table
    factors = table.loc[["effect", "heterogeneity", "bias"], "BF"].to_numpy()
    assert factors == pytest.approx([0.479, 0.143, 16.323], rel=0.05)
    mu = 2 * np.sinh(table.loc["mu", ["mean", "eti95_lb", "eti95_ub"]].to_numpy(dtype=float))
    assert mu == pytest.approx([0.037, -0.041, 0.213], abs=0.005)
    assert 2 * table.loc["tau", "mean"] == pytest.approx(0.010, abs=0.001)
