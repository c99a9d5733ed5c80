"""Every public name is documented with an example, and the examples print what they say."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from numpydoc.docscrape import FunctionDoc, NumpyDocString

import bayesmixed as bm

PUBLIC = {name: getattr(bm, name) for name in bm.__all__}
PUBLIC |= {f"datasets.{name}": getattr(bm.datasets, name) for name in bm.datasets.__all__}
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
API = Path(__file__).parents[1] / "docs" / "api"


@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_prints_what_it_says(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = inspect.getdoc(PUBLIC[name])
    assert NumpyDocString(text)["Examples"], f"{name} has no example"
    # As in a script or notebook of the reader's, where nothing is there but what it imports.
    example = doctest.DocTestParser().get_doctest(
        text, {"__name__": "__main__"}, name, filename=name, lineno=0
    )
    said: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(example, out=said.append)
    plt.close("all")
    assert not said, "".join(said)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_and_error_is_explained(name):
    doc = FunctionDoc(FUNCTIONS[name])
    described = {n.strip(" *") for p in doc["Parameters"] for n in p.name.split(",")}
    assert described == set(inspect.signature(FUNCTIONS[name]).parameters)
    assert doc["Returns"], f"{name} does not say what it returns"


@pytest.mark.parametrize("name", bm.__all__)
def test_the_reference_lists_it(name):
    entries = set(_entries())
    assert name in entries, f"add {name} to a page in docs/api"


def _entries() -> Iterator[str]:
    """The lines of the reference that name something, without the package."""
    for page in API.glob("*.md"):
        for line in page.read_text().splitlines():
            yield line.strip().removeprefix("bayesmixed.")
