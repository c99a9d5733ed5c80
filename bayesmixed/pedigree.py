"""Relationship between individuals from their pedigree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bayesmixed._errors import DataError, listed, lookup
from bayesmixed.data import to_pandas
from bayesmixed.known import text_of


def kinship(pedigree: Any, id: str = "id", mother: str = "mother", father: str = "father") -> Any:
    r"""The additive relationship of individuals: twice the probability that alleles are the same.

    .. math:: A_{ij} = (A_{i,m(j)} + A_{i,f(j)})/2, \qquad A_{jj} = 1 + A_{m(j),f(j)}/2

    for :math:`i` no descendant of :math:`j`; a parent who is not known counts as unrelated to all
    (Henderson 1976, Biometrics 32:69). The variance of an effect with this covariance is that of
    breeding values; over the whole variance it is the heritability.

    Parameters
    ----------
    pedigree : table
        A row for each individual, in any order; parents without a row of their own are founders.
    id, mother, father : str
        Columns with the individual and its parents; missing where a parent is not known.

    Returns
    -------
    pandas.DataFrame
        Shape (individuals, individuals), labels as text; for ``Model(covariances={"id": ...})``.

    Raises
    ------
    DataError
        If an individual has two rows, or is its own ancestor.

    Examples
    --------
    Two full sibs, and the child of both:

    >>> import pandas as pd
    >>> import bayesmixed as bm
    >>> pedigree = pd.DataFrame(
    ...     {"id": ["a", "b", "c"], "mother": ["m", "m", "a"], "father": ["f", "f", "b"]}
    ... )
    >>> bm.kinship(pedigree).loc["c", ["m", "a", "c"]].tolist()
    [0.5, 0.75, 1.25]
    """
    frame = to_pandas(pedigree)
    for name in (id, mother, father):
        lookup({str(c): c for c in frame.columns}, name, "column of the pedigree")
    ids, mothers, fathers = (
        [None if pd.isna(label) else text_of(label) for label in frame[name].tolist()]
        for name in (id, mother, father)
    )
    if None in ids or len(set(ids)) < len(ids):
        again = [label for label in dict.fromkeys(ids) if label is None or ids.count(label) > 1]
        raise DataError(f"A pedigree has one row for each individual: {listed(again, 5)}.")
    _check_founders(set(mothers) - set(ids), set(fathers) - set(ids))
    parents: dict[Any, tuple[Any, Any]] = dict(
        zip(ids, zip(mothers, fathers, strict=True), strict=True)
    )
    named = [p for pair in parents.values() for p in pair if p is not None and p not in parents]
    parents = dict.fromkeys(named, (None, None)) | parents
    order = _oldest_first(parents)
    place = {label: i for i, label in enumerate(order)}
    A = np.zeros((len(order), len(order)))
    for j, label in enumerate(order):
        known = [place[p] for p in parents[label] if p is not None]
        A[j, :j] = A[:j, j] = A[known, :j].sum(axis=0) / 2
        A[j, j] = 1.0 + (A[known[0], known[1]] / 2 if len(known) == 2 else 0.0)
    return pd.DataFrame(A, index=order, columns=order).loc[list(parents), list(parents)]


def _check_founders(mothers: set[Any], fathers: set[Any]) -> None:
    """Refuse what stands for an unknown parent, and would be everybody's ancestor."""
    placeholders = {"0", "", ".", "-", "NA", "nan", "None", "unknown"}
    strange = sorted((mothers | fathers) & placeholders | (mothers & fathers) - {None})
    if strange:
        raise DataError(
            f"{listed(strange, 5)} among the parents, without a row of its own, would be an "
            "ancestor of all that have it. A parent who is not known is missing (None, NaN); a "
            "founder who is mother and father needs a row of its own."
        )


def _oldest_first(parents: dict[Any, tuple[Any, Any]]) -> list[Any]:
    """Individuals after their parents."""
    order: list[Any] = []
    done: set[Any] = set()
    left = list(parents)
    while left:
        ready = [x for x in left if all(p is None or p in done for p in parents[x])]
        if not ready:
            raise DataError(
                f"In this pedigree {listed(left, 5)} are their own ancestors, or descend from one."
            )
        order += ready
        done |= set(ready)
        left = [x for x in left if x not in done]
    return order
