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
    # Layout and words to the letter; draws follow the machine's floating point.
    assert NUMBER.sub("#", printed).split() == NUMBER.sub("#", output).split()
    ours, theirs = (np.array(_rows(text)) for text in (printed, output))
    assert len(ours) == 6
    mean, sd, error = ours[:, 0], ours[:, 1], ours[:, -1]
    # Two runs differ by sqrt(2) Monte Carlo errors, allowed 4 times, and both are rounded.
    np.testing.assert_array_less(np.abs(mean - theirs[:, 0]), 4 * np.sqrt(2) * error + 0.01)
    # An sd from 800 or more effective draws is known to 1 / sqrt(2 * 800) = 2.5 %; likewise.
    np.testing.assert_array_less(np.abs(sd - theirs[:, 1]), 4 * np.sqrt(2) * 0.025 * sd + 0.01)


def _rows(text):
    """The numbers of the table, a row a parameter."""
    table = text[text.index("mcse_mean") :].splitlines()[1:]
    return [[float(n.replace(",", "")) for n in line.split()[1:]] for line in table if line]
