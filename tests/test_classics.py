"""Classic meta-analyses as published, under the priors that were stated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import bayesmixed as bm
from bayesmixed._errors import PriorError, UnknownNameError
from bayesmixed.meta._densities import written
from bayesmixed.meta._grid import tau_prior_of
from bayesmixed.meta._reference_priors import ReferencePrior
from bayesmixed.page._code import code
from bayesmixed.page._page import _priors

# Crins et al. (2014), acute rejections: Röver (2020), J. Stat. Softw. 93(6), table 3.
CRINS = pd.DataFrame(
    {
        "study": ["Heffron", "Gibelli", "Schuller", "Ganschow", "Spada", "Gras"],
        "ai": [14, 16, 3, 9, 4, 0],
        "n1i": [61, 28, 18, 54, 36, 50],
        "ci": [15, 19, 8, 29, 11, 3],
        "n2i": [20, 28, 12, 54, 36, 34],
    }
)


@pytest.fixture(scope="module")
def rejections() -> pd.DataFrame:
    return bm.effect_sizes(CRINS, "OR", ai="ai", n1i="n1i", ci="ci", n2i="n2i")


def analysed(data: pd.DataFrame, **priors) -> bm.meta.GridPosterior:
    return bm.grid_posterior(bm.meta_analysis(data, method="grid", draws=5, priors=priors))


def test_acute_rejections(rejections):
    """The output printed in sections 3.3 and 3.4 there.

    mu, the new study and the studies are mixtures over bins of tau there, which agree with ours to
    about 0.001 of a sd; tau is integrated to the digits printed.
    """
    found = analysed(
        rejections,
        mu=bm.Prior("Normal", mu=0, sigma=4),
        tau=bm.Prior("HalfNormal", sigma=0.5),
    )
    tau, mu, new, studies = found.tau, found.effect(), found.prediction(), found.studies
    ours = [tau.quantile(0.5), tau.mean, tau.sd]
    np.testing.assert_allclose(ours, [0.3445023, 0.3810562, 0.2593672], atol=2e-6)
    printed = {
        mu: (-1.5734819, -1.5764365, 0.3295301),
        new: (-1.5701653, -1.5764365, 0.5671855),
    }
    for ours, (median, mean, sd) in printed.items():
        np.testing.assert_allclose(ours.quantile(0.5)[0], median, atol=3e-3 * sd)
        np.testing.assert_allclose(ours.mean[0], mean, atol=3e-3 * sd)
        np.testing.assert_allclose(ours.sd[0], sd, rtol=3e-3)
    # Studies are in the order of their names.
    order = list(found.labels)
    for name, values in (
        ("Heffron", (-1.7411356, -1.7778965, 0.4229425)),
        ("Gibelli", (-1.2821722, -1.2339736, 0.4488759)),
    ):
        j = order.index(name)
        own = [studies.quantile(0.5)[j], studies.mean[j], studies.sd[j]]
        np.testing.assert_allclose(own, values, atol=3e-3 * values[2])


def test_shortest_intervals_of_acute_rejections(rejections):
    """As printed there; ends of shortest intervals are flat in their length, so to 0.003 sd."""
    found = analysed(
        rejections,
        mu=bm.Prior("Normal", mu=0, sigma=4),
        tau=bm.Prior("HalfNormal", sigma=0.5),
    )
    np.testing.assert_allclose(found.tau.shortest(0.95), [0, 0.8607305], atol=1e-3)
    np.testing.assert_allclose(found.effect().shortest(0.95), [-2.2312306, -0.9264079], atol=2e-3)
    new = found.prediction().shortest(0.95)
    np.testing.assert_allclose(new, [-2.7661319, -0.4072970], atol=4e-3)
    heffron = found.studies[list(found.labels).index("Heffron")].shortest(0.95)
    np.testing.assert_allclose(heffron, [-2.6561049, -0.9920023], atol=3e-3)


def test_conditional_moments_of_acute_rejections(rejections):
    """At metafor's REML tau of 0.4670268, with a flat prior: section 3.5 there, seven digits."""
    found = analysed(rejections, mu=bm.Prior("Flat"), tau="Jeffreys")
    mean, covariance = found.conditional(0.4670268)
    np.testing.assert_allclose(mean[0], -1.591513, atol=1e-6)
    np.testing.assert_allclose(covariance[0, 0] ** 0.5, 0.3340882, atol=1e-6)


SE = np.array([14.9, 10.2, 16.3, 11.0, 9.4, 11.4, 10.4, 17.6])
# As bayesmeta's manual writes them; those that are proper are normed.
FORMULAS = {
    "uniform": lambda t: 1.0,
    "sqrt": lambda t: t**-0.5,
    "Jeffreys": lambda t: np.sqrt(np.sum((t / (SE**2 + t**2)) ** 2)),
    "overallJeffreys": lambda t: np.sqrt(
        np.sum(1 / (SE**2 + t**2)) * np.sum((t / (SE**2 + t**2)) ** 2)
    ),
    "BergerDeely": lambda t: np.prod((t / (SE**2 + t**2)) ** (1 / 8)),
    "conventional": lambda t: np.prod((t / (SE**2 + t**2) ** 1.5) ** (1 / 8)),
    "DuMouchel": lambda t: (s := np.sqrt(8 / np.sum(SE**-2))) / (s + t) ** 2,
    "shrinkage": lambda t: 2 * (s := 8 / np.sum(SE**-2)) * t / (s + t**2) ** 2,
    "I2": lambda t: (
        2 * (s := 7 * np.sum(SE**-2) / (np.sum(SE**-2) ** 2 - np.sum(SE**-4))) * t / (s + t**2) ** 2
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_priors_by_name_are_their_formulas(name):
    prior, tau = ReferencePrior(name, tuple(SE)), np.array([1e-3, 0.7, 9.0, 40.0, 1e4])
    expected = np.array([FORMULAS[name](t) for t in tau])
    if name == "conventional":
        expected /= sum(
            integrate.quad(FORMULAS[name], *ends, epsrel=1e-11)[0]
            for ends in ((0, 10), (10, 200), (200, np.inf))
        )
    np.testing.assert_allclose(np.exp(prior.logpdf(tau)), expected, rtol=1e-7)
    assert prior.proper == (name in ("conventional", "DuMouchel", "shrinkage", "I2"))
    assert np.isfinite(prior.logpdf(np.array([1e-200, 1e200]))).all()
    if prior.proper:
        total = integrate.quad(lambda u: np.exp(prior.logpdf(np.exp(u)) + u), -60, 60, limit=500)
        np.testing.assert_allclose(total[0], 1, atol=1e-8)


def test_jeffreys_of_mu_and_tau_is_said_to_be_improper_together_with_mu():
    """Its integral over tau is finite; bayesmeta 3.4 has it among the improper ones all the same.

    (`tau.prior.proper <- FALSE` for uniform, Jeffreys, overallJeffreys, BergerDeely and sqrt.)
    """
    prior = ReferencePrior("overallJeffreys", tuple(SE))
    total = integrate.quad(lambda u: np.exp(prior.logpdf(np.exp(u)) + u), -40, 40, limit=500)
    assert 0 < total[0] < np.inf
    tail = np.exp(prior.logpdf(np.array([1e4, 1e5])))
    np.testing.assert_allclose(tail[0] / tail[1], 100, rtol=1e-3)
    assert not prior.proper
    assert "improper together with mu" in str(prior)


REFERENCE = json.loads((Path(__file__).parent / "reference" / "bayesmeta.json").read_text())
CASES = {f"{c['data']}, {c['tau_prior']}": c for c in REFERENCE["posteriors"]}


@pytest.mark.parametrize("name", CASES)
def test_posteriors_are_bayesmetas(name):
    """bayesmeta 3.4 run on its own data sets (tests/reference/make_bayesmeta.R).

    Quantiles of tau come from integrals with a tolerance of 1e-11 there; those of mu and of a new
    study from mixtures over bins of tau.
    """
    case = CASES[name]
    studies = REFERENCE["studies"][case["data"]]
    data = pd.DataFrame({"study": range(len(studies["y"])), "yi": studies["y"]})
    data["sei"] = studies["se"]
    kind, *scale = case["tau_prior"].split()
    own = {"HalfNormal": "sigma", "HalfCauchy": "beta"}
    tau = bm.Prior(kind, **{own[kind]: float(scale[0])}) if scale else kind
    centre, width = case["mu_prior"]
    mu = bm.Prior("Flat") if width is None else bm.Prior("Normal", mu=centre, sigma=width)
    found = analysed(data, mu=mu, tau=tau)
    ours = {"tau": found.tau, "mu": found.effect(), "new": found.prediction()}
    for what, distribution in ours.items():
        mean, sd, *quantiles = case[what]
        atol = (2e-5 if what == "tau" else 2e-3) * (sd or quantiles[-1])
        if mean is not None and what != "new":
            np.testing.assert_allclose(np.squeeze(distribution.mean), mean, atol=atol)
        if sd is not None and what == "tau":
            np.testing.assert_allclose(distribution.sd, sd, rtol=1e-4)
        for p, value in zip((0.5, 0.025, 0.975), quantiles, strict=True):
            # Density falls towards the ends.
            allowed = atol * (1 if p == 0.5 else 5)
            np.testing.assert_allclose(np.squeeze(distribution.quantile(p)), value, atol=allowed)
    np.testing.assert_allclose(found.studies.mean, case["theta_mean"], atol=2e-3 * max(SE) / 10)
    if case["log_evidence"] is not None:
        np.testing.assert_allclose(found.tau.log_evidence, case["log_evidence"], atol=1e-5)


def test_priors_by_name_in_reports_and_files(rejections, tmp_path):
    fit = bm.meta_analysis(
        rejections, method="grid", seed=1, priors={"mu": bm.Prior("Flat"), "tau": "DuMouchel"}
    )
    assert any("DuMouchel" in note for note in fit.notes)
    assert "DuMouchel" in bm.pooled_effects(fit).caption
    again = bm.load(fit.save(tmp_path / "fit.nc"))
    for report in (bm.pooled_effects, bm.leave_one_out, bm.study_effects):
        pd.testing.assert_frame_equal(report(again).table, report(fit).table)
    table = bm.prior_robustness(fit, {"Jeffreys": "Jeffreys", "half": stats.halfnorm(scale=0.5)})
    assert table.table.index[0].startswith("DuMouchel")
    assert np.isnan(table.table.loc["Jeffreys", "log_BF"])
    half = bm.meta_analysis(
        rejections, method="grid", seed=1,
        priors={"mu": bm.Prior("Flat"), "tau": stats.halfnorm(scale=0.5)},
    )  # fmt: skip
    mean = bm.grid_posterior(half).effect().mean[0]
    np.testing.assert_allclose(table.table.loc["half", "mean"], mean)


@pytest.mark.parametrize("prior", ["DuMouchel", stats.halfnorm(scale=0.5)], ids=["name", "scipy"])
def test_a_prior_that_the_spec_does_not_carry_is_not_taken_for_a_flat_one(rejections, prior):
    fit = bm.meta_analysis(rejections, method="grid", seed=1, priors={"tau": prior})
    assert any("fit.spec does not carry it, and has HalfFlat" in note for note in fit.notes)
    assert str(fit.spec.priors["sd_study"]) == "HalfFlat()"
    with pytest.raises(bm.BayesmixedError, match=r"prior_robustness\(fit\), or fit with a Prior"):
        bm.prior_sensitivity(fit)
    shown = _priors(fit).loc["sd_study", "prior"]
    assert shown == written(tau_prior_of(fit))
    table = bm.prior_robustness(fit, {"half": bm.Prior("HalfNormal", sigma=0.5)}).table
    assert table.index[0] == f"{shown}, of the fit"
    assert shown in bm.pooled_effects(fit).caption
    # The page's lines make the same fit again.
    here = {"data": rejections}
    exec(code(fit), here)  # noqa: S102
    np.testing.assert_array_equal(here["fit"].posterior["beta"], fit.posterior["beta"])


def test_names_are_for_tau_on_the_grid(rejections):
    def refused(error, match, **options):
        with pytest.raises(error, match=match):
            bm.meta_analysis(rejections, **{"method": "grid"} | options)

    refused(UnknownNameError, "no prior of tau 'Jefreys'", priors={"tau": "Jefreys"})
    refused(PriorError, r'method="grid".*HalfNormal', priors={"tau": "I2"}, method="nuts")
    refused(PriorError, r'method="grid"', priors={"tau": "I2"}, between="t")
    refused(PriorError, "prior of mu is a Prior", priors={"mu": "uniform"})
    refused(PriorError, "prior of tau2 is a Prior", priors={"tau2": "uniform"})
