"""The pages of the site: what they call exists, their code runs, their references are complete."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import bayesmixed as bm
from bayesmixed.expressions import CONTRASTS, FUNCTIONS

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [p for p in sorted(DOCS.rglob("*.md")) if not {"_build", "generated"} & set(p.parts)]
FENCE = re.compile(r"```(?:python|\{code-cell\} ipython3)\n(.*?)```", re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_what_a_page_calls_exists(page):
    text = page.read_text()
    wrong = [f"{ast.unparse(call)}: {why}" for call in _calls(text) if (why := _objection(call))]
    assert not wrong, "\n".join(wrong)


def _calls(text: str) -> Iterator[ast.expr]:
    """Everything of the form ``bm.name`` and ``bm.name(...)`` in code blocks and code spans."""
    blocks = [re.sub(r"^:tags:.*$", "", block, flags=re.MULTILINE) for block in FENCE.findall(text)]
    spans = [
        s.replace("\\|", "|") for s in SPAN.findall(re.sub(r"```.*?```", "", text, flags=re.S))
    ]
    for code in [*blocks, *(s for s in spans if "bm." in s)]:
        # A span may be a part of a call, such as `residual=bm.AR1(...)`, or entries of a mapping.
        forms = (code, f"f({code})", f"{{{code}}}", code.rstrip(";"))
        tree = next(filter(None, map(_parsed, forms)), None)
        assert tree is not None, f"not Python: {code}"
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and _path(n.func)]
        inner = {id(c.func) for c in calls}
        yield from calls
        yield from (
            n
            for n in ast.walk(tree)
            if isinstance(n, ast.Attribute) and _path(n) and id(n) not in inner
        )


def _parsed(code: str) -> ast.Module | None:
    try:
        return ast.parse(code)
    except SyntaxError:
        return None


def _path(node: ast.expr) -> list[str]:
    """Names of ``bm.a.b``, without the first; empty if it is something else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return names if isinstance(node, ast.Name) and node.id == "bm" else []


def _objection(node: ast.expr) -> str:
    """Why the package does not take this, if so."""
    call = node if isinstance(node, ast.Call) else None
    try:
        found = reduce(getattr, _path(call.func if call else node), bm)
    except AttributeError as error:
        return str(error)
    if call is None or any(k.arg is None for k in call.keywords):
        return ""
    # `...` stands for what is left out.
    given = [a for a in call.args if not (isinstance(a, ast.Constant) and a.value is ...)]
    try:
        inspect.signature(found).bind_partial(*given, **{str(k.arg): None for k in call.keywords})
    except TypeError as error:
        return str(error)
    return ""


def test_the_page_on_extending_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "extending.md").read_text(), re.DOTALL)
    assert len(blocks) == 5
    space: dict[str, object] = {"__name__": "extending"}
    for block in blocks:
        exec(compile(block, "extending.md", "exec"), space)  # noqa: S102
    printed = capsys.readouterr().out
    assert "beta[urgent]" in printed
    assert "probability" in printed


QUICK = {"getting-started.md", "priors.md"}  # the others are run by `make docs` and as slow tests
CELLS = re.compile(r"```\{code-cell\} ipython3\n(?::[^\n]*\n)*(.*?)```", re.DOTALL)
NOTEBOOKS = [
    pytest.param(page, marks=[] if page.name in QUICK else [pytest.mark.slow], id=page.name)
    for page in PAGES
    if CELLS.search(page.read_text())
]


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {"__name__": "__main__"}
    for cell in CELLS.findall(page.read_text()):
        exec(compile(cell, page.name, "exec"), space)  # noqa: S102
    plt.close("all")


def test_every_family_is_on_the_page_of_families():
    text = (DOCS / "choose" / "family.md").read_text()
    for name, family in bm.families.FAMILIES.items():
        (row,) = re.findall(rf"^\| `{name}` \| ([^|]+) \| ([^|]+) \|", text, re.MULTILINE)
        assert row[0].split(", ") == [p.name for p in family.parameters]
        links = row[1].removesuffix(" (of the logarithm)").strip().split(", ")
        assert links == [link.name for link in family.parameters[0].links]


@pytest.mark.parametrize(
    "page", ["odds-ratio", "family", "covariance", "priors", "meta-analysis", "trust"]
)
def test_how_to_choose_is_two_clicks_from_the_front_page(page):
    front, choose = (DOCS / "index.md").read_text(), (DOCS / "choose" / "index.md").read_text()
    assert ":link: choose/index" in front
    assert f":link: {page}\n" in choose


@pytest.mark.parametrize("name", bm.__all__)
def test_every_public_name_is_on_a_page_that_is_not_the_reference(name):
    """Who does not know a name cannot look it up."""
    guides = (p for p in PAGES if not {"api", "coming-from", "case-studies"} & set(p.parts))
    assert any(re.search(rf"\b{name}\b", page.read_text()) for page in guides)


def test_formulas_call_what_the_page_of_formulas_says():
    text = (DOCS / "formulas.md").read_text()
    for name in {*FUNCTIONS, *CONTRASTS} - {"cs", "standardize"}:  # other names of `cr`, `scale`
        assert re.search(rf"[`( ]{re.escape(name)}\b", text), name


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_files_that_a_page_at_the_top_links_to_exist(name):
    root = DOCS.parent
    targets = re.findall(r"\]\(([^)#\s]+)", (root / name).read_text())
    missing = [t for t in targets if "://" not in t and not (root / t).exists()]
    assert not missing


def test_the_picture_of_the_front_page_is_small():
    assert (DOCS / "_static" / "hospitals.svg").stat().st_size < 150_000


def test_links_of_a_site_are_checked(tmp_path):
    (tmp_path / "one.html").write_text(
        '<h1 id="top">1</h1><a href="two.html#here">a</a><a href="#top">b</a>'
        '<a href="two.html#no">c</a><img src="none.svg"><a href="https://www.sphinx-doc.org/">d</a>'
    )
    (tmp_path / "two.html").write_text('<p id="here">2</p><a href="one.html">e</a>')
    script = DOCS.parent / "scripts" / "check_links.py"
    run = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert run.stdout.splitlines() == [
        "one.html: no file none.svg",
        "one.html: no anchor two.html#no",
        "https://www.sphinx-doc.org/",
        "5 links inside the site, 2 of them wrong",
    ]


@pytest.mark.parametrize(
    "page", [p for p in PAGES if CELLS.search(p.read_text())], ids=lambda page: page.name
)
def test_what_a_page_runs_has_all_arguments(page):
    """Cells are run by `make docs`, which takes long to say that one lacks an argument."""
    wrong = []
    for cell in CELLS.findall(page.read_text()):
        # What is only for notebooks is not Python.
        lines = [line for line in cell.splitlines() if not line.startswith(("%", "!"))]
        for call in ast.walk(ast.parse("\n".join(lines))):
            if not isinstance(call, ast.Call) or not _path(call.func):
                continue
            if any(isinstance(a, ast.Starred) for a in call.args) or any(
                k.arg is None for k in call.keywords
            ):
                continue
            found = inspect.signature(reduce(getattr, _path(call.func), bm))
            try:
                found.bind(*call.args, **{str(k.arg): None for k in call.keywords})
            except TypeError as error:
                wrong.append(f"{ast.unparse(call)}: {error}")
    assert not wrong, "\n".join(wrong)
