"""What is known about one data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any, Self

_WIDTH = 96


@dataclass(frozen=True)
class Dataset:
    """What is known about a data set; prints as a page.

    Parameters
    ----------
    name : str
        What `load` takes.
    title, description : str
        Who, what was measured, what question.
    rows : int
        Number of rows.
    variables : mapping of str to str
        Meaning and unit of every column, in the order of the columns.
    source : str
        Where the data were published.
    origin : str
        The package that the table was taken from.
    licence : str
        The licence of that package.
    formula, family : str
        A model to start with.
    sampling_sd : str, optional
        The column that holds known standard errors, for that model.
    levels : mapping of str to tuple of str
        Categorical columns and their levels in order, the reference first.
    ordered : tuple of str
        The categorical columns whose order has a meaning.
    text : tuple of str
        Columns of labels that are read as text.
    derived : tuple of str
        Columns that `load` computes from the others.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> bcg = bm.datasets.describe("bcg")
    >>> bcg.rows, bcg.sampling_sd
    (13, 'sei')
    """

    name: str
    title: str
    description: str
    rows: int
    variables: Mapping[str, str]
    source: str
    origin: str
    licence: str
    formula: str
    family: str
    sampling_sd: str | None = None
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ordered: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()

    @classmethod
    def from_entry(cls, name: str, entry: Mapping[str, Any]) -> Self:
        """Read an entry of catalogue.toml, whose arrays arrive as lists."""
        values: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()
        }
        values["levels"] = {c: tuple(order) for c, order in entry.get("levels", {}).items()}
        return cls(name=name, **values)

    def __str__(self) -> str:
        facts = {
            "rows": f"{self.rows:,}",
            "formula": self.formula,
            "family": self.family,
            **({"sampling_sd": self.sampling_sd} if self.sampling_sd else {}),
            **{f"levels of {c}": self._levels_of(c) for c in self.levels},
            "source": self.source,
            "origin": self.origin,
            "licence": self.licence,
        }
        return "\n".join(
            [
                f"{self.name}: {self.title}",
                "",
                *wrap(self.description, _WIDTH, break_on_hyphens=False),
                "",
                *_aligned(self.variables),
                "",
                *_aligned(facts),
            ]
        )

    def _levels_of(self, column: str) -> str:
        return (" < " if column in self.ordered else ", ").join(self.levels[column])


def _aligned(pairs: Mapping[str, str]) -> Iterator[str]:
    """Names on the left, their texts in one column on the right."""
    left = max(map(len, pairs)) + 2
    for name, text in pairs.items():
        first, *rest = wrap(text, _WIDTH - left, break_on_hyphens=False)
        yield f"{name:<{left}}{first}"
        yield from (" " * left + line for line in rest)
