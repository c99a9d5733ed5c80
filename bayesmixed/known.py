"""Known covariances between groups: kinship, neighbourhood, or anything else that was measured."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from zlib import compress, decompress

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, DataError, listed

type Floats = NDArray[np.float64]

# Eigenvalues that are smaller, against the largest, are 0 but for rounding.
_LEAST = 1e-10


@dataclass(frozen=True, eq=False)
class KnownCovariance:
    r"""A covariance between groups, up to the variance that a model learns.

    Parameters
    ----------
    labels : tuple of str
        The groups.
    matrix : array, shape (groups, groups)
        K.
    mixed : bool
        Whether the model learns which share :math:`\phi` of the variance is as known, the rest
        being independent: :math:`(1 - \phi) I + \phi K`.
    """

    labels: tuple[str, ...]
    matrix: Floats
    mixed: bool = False

    @classmethod
    def of(cls, table: pd.DataFrame, group: str) -> KnownCovariance:
        """Check a table whose index and columns are the groups.

        Parameters
        ----------
        table : pandas.DataFrame
        group : str
            The grouping, for messages.

        Raises
        ------
        BayesmixedError
            If it is no table, or its rows and columns are not the same groups.
        DataError
            If it is not a covariance.
        """
        if not isinstance(table, pd.DataFrame):
            raise BayesmixedError(
                f"covariances={{{group!r}: ...}}: give a Structure, or a pandas.DataFrame whose "
                f"index and columns are the labels of {group!r}, not {type(table).__name__}."
            )
        labels = tuple(map(text_of, table.index))
        if len(set(labels)) < len(labels) or labels != tuple(map(text_of, table.columns)):
            raise BayesmixedError(
                f"The covariance of {group!r} needs each group once, in the index and in the same "
                "order in the columns."
            )
        try:
            matrix = np.asarray(table, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"The covariance of {group!r} holds what is no number.") from error
        scale = float(np.abs(matrix).max(initial=0.0))
        if not np.isfinite(matrix).all() or np.abs(matrix - matrix.T).max(initial=0) > 1e-8 * scale:
            raise DataError(f"The covariance of {group!r} is not finite and symmetric.")
        matrix = (matrix + matrix.T) / 2
        # A Cholesky factor costs less than eigenvalues.
        least = 0.0 if _triangle(matrix) is not None else float(np.linalg.eigvalsh(matrix)[0])
        if least < -1e-8 * scale or scale == 0.0:
            raise DataError(
                f"The covariance of {group!r} is not one: its least eigenvalue is {least:.3g}. "
                "Distances are no covariances; use a structure such as Matern for these."
            )
        return cls(labels, matrix)

    def among(self, labels: Sequence[Any], group: str) -> Floats:
        """The covariance of these groups, shape (groups, groups).

        Raises
        ------
        DataError
            If a group is not among those known.
        """
        places = {label: i for i, label in enumerate(self.labels)}
        missing = [label for label in labels if text_of(label) not in places]
        if missing:
            raise DataError(
                f"The covariance of {group!r} has no row for {listed(missing, 5)}; every group in "
                "the data needs one."
            )
        at = [places[text_of(label)] for label in labels]
        return self.matrix[np.ix_(at, at)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the numbers are kept to the bit."""
        packed = b64encode(compress(np.ascontiguousarray(self.matrix, "<f8").tobytes())).decode()
        return {"labels": list(self.labels), "matrix": packed, "mixed": self.mixed}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> KnownCovariance:
        """Rebuild from `to_dict`."""
        labels = tuple(values["labels"])
        numbers = np.frombuffer(decompress(b64decode(values["matrix"])), "<f8")
        matrix = numbers.reshape(len(labels), len(labels)).astype(np.float64)
        return cls(labels, matrix, values.get("mixed", False))

    def __eq__(self, other: object) -> bool:
        """Equal labels and numbers, mixed alike."""
        if not isinstance(other, KnownCovariance):
            return False
        alike = self.labels == other.labels and self.mixed == other.mixed
        return alike and np.array_equal(self.matrix, other.matrix)

    def __hash__(self) -> int:
        """By the labels."""
        return hash(self.labels)

    def __str__(self) -> str:
        """In words."""
        share = "a share phi of " if self.mixed else ""
        return f"{share}a known matrix of {len(self.labels):,} groups"


def root_of(K: Floats) -> Floats:
    """F with F F' = K, shape (groups, rank): triangular where K has an inverse."""
    triangle = _triangle(K)
    if triangle is not None:
        return triangle
    values, vectors = np.linalg.eigh(K)
    kept = values > _LEAST * values[-1]
    return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))


def _triangle(K: Floats) -> Floats | None:
    """The Cholesky factor; None where K has no inverse, or none but for rounding."""
    try:
        L = np.linalg.cholesky(K)
    except np.linalg.LinAlgError:
        return None
    pivots = np.diagonal(L) ** 2
    safe = pivots.min(initial=np.inf) > _LEAST * K.diagonal().max(initial=0.0)
    return np.asarray(L) if safe else None


def stored(labels: Iterable[Any]) -> list[Any]:
    """Labels as a file can hold and a table print them: dates and durations as text."""
    return [text_of(v) if isinstance(v, date | timedelta) else v for v in labels]


def text_of(label: Any) -> str:
    """A label as it is compared: whole numbers, dates and combinations however they are held."""
    if isinstance(label, tuple):
        return ":".join(map(text_of, label))
    if isinstance(label, date):
        return str(pd.Index([pd.Timestamp(label)]).astype(str)[0])
    whole = isinstance(label, float) and label.is_integer()
    return str(int(label) if whole else label)
