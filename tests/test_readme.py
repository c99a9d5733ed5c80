"""The README's example, run as it stands, prints what the README says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

README = Path(__file__).parent.parent / "README.md"
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def _blocks():
    text = README.read_text()
    code, output = re.findall(r"```(?:python|text)\n(.*?)```", text, flags=re.DOTALL)[:2]
    return text, code, output


def test_the_example_is_short_and_early():
    text, code, _ = _blocks()
    assert len(code.strip().splitlines()) <= 12
    assert text[: text.index("```python")].count("\n") + 1 < 40


def test_the_example_prints_what_the_readme_says(capsys):
    _, code, output = _blocks()
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102
    printed = capsys.readouterr().out
    # Layout and words to the letter. Draws follow the machine's floating point, so numbers may
    # differ by Monte Carlo error; the example's largest is that of effective draws, about 15 %.
    assert NUMBER.sub("#", printed).split() == NUMBER.sub("#", output).split()
    ours, theirs = (
        np.array([float(n.replace(",", "")) for n in NUMBER.findall(t)]) for t in (printed, output)
    )
    np.testing.assert_allclose(ours, theirs, rtol=0.5, atol=0.2)
