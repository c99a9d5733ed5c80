"""A log-density with gradient on the unconstrained scale, and the way back to named variables.

This is what the sampler sees, however it is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float64]

# Chains start at independent points; the width is the one that PyMC and nutpie use.
_JITTER = 1.0


@dataclass(frozen=True)
class LogDensity:
    """A log-posterior.

    Parameters
    ----------
    start : array, shape (size,)
        A central starting point.
    evaluate : callable
        A point of shape (size,) to the log-density and its gradient.
    recover : callable
        Unconstrained draws of shape (draws, size), and a random generator for what is drawn given
        them, to named variables with the draws as first axis.
    entry : callable
        Makes the machine code that nutpie calls (see `native`).
    pointers : array of int
        Where the machine code finds its data.
    data : tuple
        What must stay in memory while it does.
    note : str
        What was done to make it fast, for the user; empty where there is nothing to say.
    """

    start: Floats
    evaluate: Callable[[Floats], tuple[float, Floats]]
    recover: Callable[[Floats, np.random.Generator], dict[str, Floats]]
    entry: Callable[[], Any]
    pointers: NDArray[np.int64]
    data: tuple[Any, ...]
    note: str = ""

    @property
    def size(self) -> int:
        """Number of unconstrained dimensions."""
        return len(self.start)

    def __call__(self, x: Floats) -> tuple[float, Floats]:
        """Log-density and its gradient at a point of shape (size,)."""
        return self.evaluate(x)

    def initial(self, seed: int) -> Floats:
        """A random starting point, shape (size,)."""
        rng = np.random.default_rng(seed)
        return self.start + rng.uniform(-_JITTER, _JITTER, self.size)
