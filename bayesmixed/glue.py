"""Functions that only call others, which numba compiles with little optimisation.

Numba links whatever a function calls into it and optimises all of that once more, at each step on
the way to the outermost function. Loops are optimised where they are written; for what lies around
them that would take most of the time of compilation, and gain nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
from numba import njit
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


@contextmanager
def _lightly() -> Iterator[None]:
    # At 0 numba finds names of what is called left over, and keeps nothing on disk.
    level = numba.config.OPT
    numba.config.OPT = type(level)("1")
    try:
        yield
    finally:
        numba.config.OPT = level


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    """From typed code to machine code; what is called has been compiled by then."""

    _name = "light_lowering"

    def run_pass(self, state):
        with _lightly():
            done = super().run_pass(state)
            # Callbacks would be linked later.
            state.library._ensure_finalized()
        return done


class Glue(CompilerBase):
    """Numba's usual passes, the last with little optimisation (a ``pipeline_class``)."""

    def define_pipelines(self):
        """Put the light pass in the place of numba's."""
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.passes[:] = [
            (_Lowering, text) if each is NativeLowering else (each, text)
            for each, text in manager.passes
        ]
        manager.finalize()
        return [manager]


def glue(function: Callable[..., Any]) -> Any:
    """Compile a function that calls others, each of them optimised."""
    return njit(error_model="numpy", pipeline_class=Glue)(function)
