"""Meta-analyses of networks and of two outcomes, written to files and read again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesmixed as bm
from bayesmixed._errors import StorageError
from bayesmixed.meta._densities import LogStudentT, density
from bayesmixed.meta._stored import from_text, to_text

TAUS = {
    "default": {},
    "scipy": {"tau": stats.halfcauchy(scale=0.3)},
    "own name": {"tau": bm.Prior("HalfStudentT", nu=3, sigma=0.5)},
    "flat": {"d": bm.Prior("Flat"), "tau": bm.Prior("HalfFlat")},
}


@pytest.mark.parametrize("priors", TAUS.values(), ids=TAUS)
@pytest.mark.parametrize("common", [False, True])
def test_a_network_is_what_it_was(priors, common, tmp_path):
    arms = bm.datasets.load("senn2013")
    fit = bm.network_meta_analysis(
        arms, "MD", mean="mi", sd="sdi", n="ni", seed=1, draws=10, priors=priors, common=common
    )
    again = bm.load(fit.save(tmp_path / "network.nc"))
    assert isinstance(again, bm.meta.NetworkFit)
    assert again.posterior.identical(fit.posterior)
    assert str(again) == str(fit)
    pd.testing.assert_frame_equal(again.summary(), fit.summary())
    pd.testing.assert_frame_equal(bm.league_table(again).table, bm.league_table(fit).table)
    ranks = [bm.treatment_ranking(one, better="lower").table for one in (again, fit)]
    pd.testing.assert_frame_equal(*ranks)
    if not common and not priors:
        pd.testing.assert_frame_equal(
            bm.network_consistency(again).table, bm.network_consistency(fit).table
        )


@pytest.mark.parametrize("seed", [1, None])
def test_two_outcomes_are_what_they_were(seed, tmp_path):
    data = bm.datasets.load("berkey1998")
    priors = {"tau[PD]": bm.Prior("HalfStudentT", nu=3, sigma=0.5)}
    fit = bm.multivariate_meta_analysis(
        data, "yi", "sei", "trial", rho=0.4, seed=seed, draws=50, priors=priors
    )
    again = bm.load(fit.save(tmp_path / "pairs.nc"))
    assert isinstance(again, bm.meta.MultivariateFit)
    assert again.posterior.identical(fit.posterior)
    assert (again.outcomes, again.studies, again.notes) == (fit.outcomes, fit.studies, fit.notes)
    pd.testing.assert_frame_equal(
        bm.multivariate_effects(again).table, bm.multivariate_effects(fit).table
    )


@pytest.mark.parametrize(
    "prior",
    [
        bm.Prior("HalfNormal", sigma=0.1 + 0.2),
        stats.gamma(2, scale=0.3),
        LogStudentT(5.0, -1.0, 0.7),
        *(
            density(bm.Prior(name, **values))
            for name, values in {
                "HalfNormal": {"sigma": 1 / 3},
                "HalfStudentT": {"nu": 3, "sigma": 0.5},
                "HalfFlat": {},
                "Uniform": {"lower": 0.1, "upper": 3},
                "TruncatedNormal": {"mu": 0.3, "sigma": 1, "lower": 0},
            }.items()
        ),
    ],
    ids=lambda prior: type(prior).__name__,
)
def test_priors_come_back(prior):
    x = np.array([0.2, 0.9, 2.5])
    again = from_text(to_text(prior))
    np.testing.assert_array_equal(density(again).logpdf(x), density(prior).logpdf(x))


def test_what_cannot_be_written_is_said(tmp_path):
    class Own:
        def logpdf(self, x):
            return -np.asarray(x)

        def support(self):
            return 0.0, np.inf

    arms = bm.datasets.load("senn2013")
    columns = {"mean": "mi", "sd": "sdi", "n": "ni"}
    fit = bm.network_meta_analysis(arms, "MD", seed=1, draws=5, priors={"tau": Own()}, **columns)
    with pytest.raises(StorageError, match="of your own making"):
        fit.save(tmp_path / "own.nc")
    fit = bm.network_meta_analysis(arms, "MD", seed=1, draws=5, **columns)
    with pytest.raises(StorageError, match="could not be written"):
        fit.save(tmp_path / "nowhere" / "fit.nc")
