"""Correlated residuals are calibrated: the ranks of the truth are uniform."""

from __future__ import annotations

import json

import pytest
from calibration import CASES, EFFECTS, KEPT, RECORD, ranks, uniformity

# Some 130 quantities are tested: a false alarm in one of a hundred runs.
_LEAST = 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CASES, *EFFECTS])
def test_ranks_are_uniform(name):
    """Parameters, effects, functions of both and the likelihood, in 100 data sets."""
    for label, found in ranks(name, 100).items():
        assert uniformity(found) > _LEAST, (label, found)


def test_the_ranks_that_the_documentation_shows():
    """They are of every structure, and a shift or a spread of them would be found."""
    recorded = json.loads(RECORD.read_text())
    assert recorded["draws"] == KEPT
    assert set(recorded["ranks"]) == {*CASES, *EFFECTS}
    for name, quantities in recorded["ranks"].items():
        for label, found in quantities.items():
            assert len(found) >= 100
            assert uniformity(found) > _LEAST, (name, label)
            assert uniformity([min(KEPT, r + 20) for r in found]) < _LEAST
            assert uniformity([25 + r // 2 for r in found]) < _LEAST
