"""Each kind of trouble is seen, named, and comes with what to try."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from bayesmixed.convergence import assess

CHAINS, DRAWS = 4, 1000


def _values(array, labels):
    return xr.DataArray(
        array, dims=("chain", "draw", "parameter"), coords={"parameter": list(labels)}
    )


@pytest.fixture
def good():
    rng = np.random.default_rng(1)
    shape = (CHAINS, DRAWS)
    statistics = {
        "diverging": np.zeros(shape, dtype=bool),
        "reached_max_treedepth": np.zeros(shape, dtype=bool),
        "energy": rng.normal(size=shape),
    }
    return {
        "population": _values(rng.normal(size=(*shape, 2)), ["beta[x]", "sigma"]),
        "effects": _values(rng.normal(size=(*shape, 3)), ["u_g[a]", "u_g[b]", "u_g[c]"]),
        "statistics": xr.Dataset({n: (("chain", "draw"), v) for n, v in statistics.items()}),
    }


def test_good_draws_pass(good):
    verdict = assess(**good)
    assert verdict
    assert str(verdict).startswith("Converged: R-hat at most 1.00")


def test_chains_that_disagree(good):
    good["population"][0, :, 1] += 1
    verdict = assess(**good)
    assert not verdict
    assert "R-hat above 1.01) for sigma (1." in str(verdict)
    assert "beta[x]" not in str(verdict)
    assert "Run longer" in str(verdict)


def test_effects_of_groups_are_checked_too(good):
    good["effects"][2, :, 0] += 2
    assert "for u_g[a] (1." in str(assess(**good))


def test_few_effective_draws(good):
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(CHAINS, DRAWS))
    slow = np.zeros((CHAINS, DRAWS))
    for i in range(1, DRAWS):
        slow[:, i] = 0.97 * slow[:, i - 1] + noise[:, i]
    good["population"][..., 0] = slow
    text = str(assess(**good))
    assert "Fewer than 400 effective draws for beta[x] (" in text
    assert "(-" not in text


def test_divergences(good):
    good["statistics"]["diverging"][0, :3] = True
    text = str(assess(**good))
    assert "3 of 4,000 transitions diverged" in text
    assert "target_accept=0.99" in text


def test_deep_trees(good):
    good["statistics"]["reached_max_treedepth"][:2] = True
    assert "50% of the draws reached the deepest tree" in str(assess(**good))


def test_energy(good):
    energy = np.cumsum(np.random.default_rng(3).normal(size=(CHAINS, DRAWS)), axis=1)
    good["statistics"]["energy"] = (("chain", "draw"), energy)
    assert "E-BFMI is 0.0" in str(assess(**good))


def test_interrupted_runs_are_marked(good):
    assert "interrupted: 4 chain(s) of 1,000 draws" in str(assess(**good, interrupted=True))


def test_one_chain_is_not_enough(good):
    one = {name: values.isel(chain=slice(0, 1)) for name, values in good.items()}
    assert "one chain" in str(assess(**one))
