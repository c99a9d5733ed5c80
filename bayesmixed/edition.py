"""The edition of the machine code's source: what its copies on disk are valid for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from zlib import crc32

# Numba looks only at the file of the function that it keeps, not at those that it calls.
_FILES = (
    *("correlated.py", "correlated_likelihood.py", "correlated_op.py", "correlation_kernels.py"),
    *("elimination.py", "evaluator.py", "forms.py", "levinson_slopes.py", "matmul_op.py"),
    *("glue.py", "group_effects.py", "instructions.py", "lkj.py", "machine.py", "marginal.py"),
    *("encoded.py", "normal.py", "pointers.py", "precisions.py", "process.py", "univariate.py"),
)

#: A number above 0 that changes with any of the files.
EDITION = 1 + crc32(b"".join((Path(__file__).parent / name).read_bytes() for name in _FILES))


def on_disk[T](compiled: Callable[[bool], T]) -> T:
    """Compile with numba's cache on disk, or without where there is no place that can be written.

    Parameters
    ----------
    compiled : callable
        Takes whether to use the cache.
    """
    try:
        return compiled(True)
    except RuntimeError:
        return compiled(False)
