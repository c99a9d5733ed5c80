"""The case studies run from top to bottom, here with few draws, and type no number by hand."""

from __future__ import annotations

import re

import pytest

from case_studies.__main__ import PATHS, QUICK, run

FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
ESTIMATE = re.compile(r"\d+\.\d+")


@pytest.mark.parametrize("name", PATHS)
def test_a_quick_form_runs(name):
    notebook = run(PATHS[name], QUICK[name])
    said = [
        output["data"]["text/markdown"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "text/markdown" in output.get("data", {})
    ]
    assert any(text.strip().startswith(">") for text in said), "no sentence to publish"
    assert not any("nan" in text.split() for text in said)


@pytest.mark.parametrize("name", PATHS)
def test_numbers_in_the_prose_are_computed(name):
    _, _, body = PATHS[name].read_text().split("---\n", 2)
    assert not ESTIMATE.search(FENCED.sub("", body))


@pytest.mark.parametrize("name", PATHS)
def test_it_uses_public_names_only(name):
    source = PATHS[name].read_text()
    assert "import bayesmixed as bm" in source
    assert not re.search(r"from bayesmixed|import bayesmixed\.|bm\._|\._[a-z]", source)


def test_a_parameter_that_is_not_there_is_refused():
    name = next(iter(PATHS))
    with pytest.raises(ValueError, match="no parameter drawss"):
        run(PATHS[name], {"drawss": 10})
