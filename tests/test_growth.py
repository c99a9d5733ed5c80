"""Potthoff and Roy's growth data under nine structures of covariance: R, and what SAS printed."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import at

import bayesmixed as bm
from bayesmixed.fit import Fit
from bayesmixed.group_likelihood import group_log_likelihood

REFERENCE = json.loads((Path(__file__).parent / "reference" / "structures.json").read_text())
_VISITS: dict[str, Any] = {"time": "age", "within": "Subject"}
#: By SAS's names.
STRUCTURES = {
    "un": bm.Unstructured(**_VISITS),
    "cs": bm.CompoundSymmetry(**_VISITS),
    "csh": bm.CompoundSymmetry(**_VISITS, heterogeneous=True),
    "ar1": bm.AR1(**_VISITS),
    "arh1": bm.AR1(**_VISITS, heterogeneous=True),
    "toep": bm.Toeplitz(**_VISITS),
    "toeph": bm.Toeplitz(**_VISITS, heterogeneous=True),
    "ante1": bm.Antedependence(**_VISITS, heterogeneous=True),
    "sp_exp": bm.Exponential(**_VISITS),
}


def _model(structure: bm.Structure, formula: str = "distance ~ age * Sex") -> bm.Model:
    data = bm.datasets.load("orthodont").sample(frac=1, random_state=1)
    return bm.Model(formula, data, residual=structure)


def _correlation(values: list[float]) -> Any:
    found = np.eye(4)
    for (i, j), value in zip(combinations(range(4), 2), values, strict=True):
        found[i, j] = found[j, i] = value
    return found


def _estimate(name: str, method: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Estimates by the posterior's names, and all that R says."""
    known = REFERENCE[method][name]
    values = {
        n: known[n] for n in ("beta", "sigma", "rho", "phi", "range", "partial") if n in known
    }
    if "cor_residual" in known:
        values["cor_residual"] = _correlation(known["cor_residual"])
    return values, known


@pytest.mark.parametrize("name", STRUCTURES)
def test_likelihood_at_the_estimates_is_that_of_r(name: str) -> None:
    """The same number as nlme's (ante-dependence: optim's), and less a step away."""
    values, known = _estimate(name, "ML")
    model = _model(STRUCTURES[name])
    found = float(group_log_likelihood(at(model, **values), "Subject").sum())
    assert found == pytest.approx(known["logLik"], abs=2e-6)
    step = values | {"sigma": 1.01 * np.asarray(values["sigma"])}
    assert float(group_log_likelihood(at(model, **step), "Subject").sum()) < found


@pytest.mark.parametrize("name", ["un", "toep", "ar1"])
def test_estimates_are_those_that_sas_printed(name: str) -> None:
    """-2 log likelihood to the printed digits; SAS stops where the third digit of it is settled.

    Near the maximum the deviance is flat: 1e-4 of a variance changes it by less than 1e-6.
    """
    values, _ = _estimate(name, "ML")
    fit = at(_model(STRUCTURES[name]), **values)
    printed = REFERENCE["published"]
    deviance = -2 * float(group_log_likelihood(fit, "Subject").sum())
    assert deviance == pytest.approx(printed["minus_2_log_likelihood"][name], abs=6e-4)
    sd = np.broadcast_to(values["sigma"], 4)
    R = bm.residual_correlation(fit).table["mean"].to_numpy()
    if name == "un":
        pairs = list(combinations(range(4), 2))
        covariance = [r * sd[i] * sd[j] for r, (i, j) in zip(R, pairs, strict=True)]
        np.testing.assert_allclose(sd**2, printed["un"]["variance"], atol=6e-3)
        np.testing.assert_allclose(covariance, printed["un"]["covariance"], atol=6e-3)
    else:
        np.testing.assert_allclose(sd[0] ** 2, printed[name]["variance"], rtol=2e-4)
        np.testing.assert_allclose(R[:3], printed[name]["correlation"], atol=2e-4)


def check_posterior(fit: Fit, name: str) -> None:
    """Coefficients within 0.15 sd of REML, and parameters within their 90 % intervals."""
    assert fit.converged, fit.convergence.problems
    values, known = _estimate(name, "REML")
    table = fit.summary()
    for row, value in zip(table.index[:4], known["beta"], strict=True):
        mean, sd, error = table.loc[row, ["mean", "sd", "mcse_mean"]]
        assert abs(mean - value) < 0.15 * sd + 3 * error, (row, mean, value, sd)
    for parameter in set(values) - {"beta"}:
        draws = fit.posterior[parameter].to_numpy()
        low, high = np.quantile(draws, [0.05, 0.95], axis=(0, 1))
        value = np.asarray(values[parameter])
        inside = ((low <= value) & (value <= high)) | (draws.std(axis=(0, 1)) == 0)
        assert inside.all(), (parameter, low, value, high)


@pytest.mark.slow
@pytest.mark.parametrize("name", STRUCTURES)
def test_posterior_at_the_defaults_agrees_with_reml(name: str) -> None:
    check_posterior(_model(STRUCTURES[name]).fit(seed=1, progress=False), name)


@pytest.mark.slow
def test_ar1_beside_random_intercepts_converges_at_the_defaults() -> None:
    formula = "distance ~ age * Sex + (1 | Subject)"
    fit = _model(STRUCTURES["ar1"], formula).fit(seed=1, progress=False)
    assert fit.converged, fit.convergence.problems
