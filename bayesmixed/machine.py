"""Programs as log-densities: the machine code that evaluates them, compiled once, kept on disk."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core.caching import FunctionCache
from numpy.typing import NDArray

from bayesmixed import correlated_likelihood, marginal
from bayesmixed.correlated_program import correlated_program, directions, tables_of
from bayesmixed.design import Design
from bayesmixed.edition import EDITION, on_disk
from bayesmixed.evaluator import log_density
from bayesmixed.geometry import Centring
from bayesmixed.glue import Glue
from bayesmixed.instructions import Program
from bayesmixed.integration import gaussian_program
from bayesmixed.layout import Priors, lay_out
from bayesmixed.likelihoods import KERNELS
from bayesmixed.logdensity import Floats, LogDensity
from bayesmixed.native import LOGP, addressed, evaluate
from bayesmixed.pointers import pointers
from bayesmixed.program import kernel_program
from bayesmixed.recovery import Recovery


def state(
    design: Design, priors: Priors, centred: Centring, integrated: Sequence[str]
) -> LogDensity | None:
    """State a model as a program, or return None where there is no kernel for its likelihood.

    Parameters
    ----------
    design : Design
    priors : mapping of str to AssignedPrior
    centred : Centring
        How far effects are sampled centred.
    integrated : sequence of str
        Groupings whose effects are integrated out, from the inside out.
    """
    name, exact, tables = design.spec.kernel, design.spec.is_exact, tables_of(design, priors)
    if name is None and not exact and tables is None:
        return None
    layout = lay_out(design, priors, centred, integrated)
    if tables is not None:
        _prepare("machine", "correlated_likelihood")
        layout.directions = directions(design, layout, priors)
        program = correlated_program(design, layout, tables, integrated)
        kernel = correlated_likelihood.likelihood().address
    elif name is None:
        _prepare("machine", "marginal")
        program = gaussian_program(design, layout, integrated)
        kernel = marginal.likelihood().address
    else:
        program = kernel_program(design, layout, KERNELS[name])
        kernel = KERNELS[name].entry().address
    machine = Machine(program, kernel)
    recovery = Recovery(design, layout, tuple(integrated), machine.draw)
    note = _note(design, program)
    start = np.zeros(layout.size)
    return LogDensity(start, machine, recovery, _entry, machine.where, tuple(program), note)


@dataclass(frozen=True)
class Machine:
    """A program, evaluated by the machine code.

    Parameters
    ----------
    program : Program
    kernel : int
        Address of the likelihood: the family's kernel, or what sees the whole program.
    """

    program: Program
    kernel: int

    @cached_property
    def where(self) -> NDArray[np.int64]:
        """Where the machine code finds the program, effects to be drawn (none), and the kernel."""
        return np.append(pointers((*self.program, np.empty(0))), self.kernel)

    def __call__(self, z: Floats) -> tuple[float, Floats]:
        """Log-density and its gradient at a point of shape (size,)."""
        return evaluate(_entry, z, self.where)

    def draw(self, z: Floats, effects: Floats) -> None:
        """Draw the integrated effects given all else; see `Recovery`."""
        value, gradient, where = np.empty(1), np.empty(z.shape[1]), self.where.copy()
        points, rooms = np.ascontiguousarray(z), effects.ctypes.data
        where[-2] = effects.shape[1]
        function, first = addressed(_entry), points.ctypes.data
        rest = [a.ctypes.data for a in (gradient, value, where)]
        for i in range(len(points)):
            where[-3] = rooms + i * effects.strides[0]
            function(points.shape[1], first + i * points.strides[0], *rest)


def _note(design: Design, program: Program) -> str:
    """How many distinct rows the likelihood has, where that is fewer than there are rows."""
    rows, distinct = design.rows, 0 if program.shape[4] else int(program.shape[1])
    return f"{rows:,} rows -> {distinct:,} distinct ones" if 0 < distinct < rows else ""


# Address and length of every array and of the effects to be drawn, and the kernel's address.
_LENGTH = 2 * len(Program._fields) + 3


@cache
def _entry() -> Any:
    """The compiled log-density, from disk unless a file that it comes from changed."""
    _prepare("machine")
    return compiled()


@cache
def _prepare(*modules: str) -> None:
    """Have what is not on disk compiled, all of it at the same time.

    Each in a process of its own, even if it is one: in the process that compiles, other copies of
    its parts are linked than in those that load it, and another rounding makes other draws from
    the same seed.
    """
    try:
        kept = Path(FunctionCache(compiled).cache_path)
    except RuntimeError:  # no place that can be written
        return
    started = {}
    for module in modules:
        mark = kept / f"bayesmixed-{module}-{EDITION}-{numba.__version__}"
        if not mark.exists():
            code = f"from bayesmixed.{module} import compiled; compiled()"
            command, quiet = [sys.executable, "-c", code], subprocess.DEVNULL
            started[mark] = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    for mark, process in started.items():
        if process.wait() == 0:
            with suppress(OSError):
                mark.touch()


def compiled() -> Any:
    """Compile the log-density for nutpie, or load it."""
    edition = EDITION

    def logp(size, x, gradient, value, where):
        data = numba.carray(where, _LENGTH)
        out = numba.carray(gradient, size)
        value[0] = log_density(numba.carray(x, size), out, data)
        for i in range(size):
            if not np.isfinite(out[i]):
                return 3
        # The edition has to be mentioned to be part of what numba knows the function by.
        return 0 if np.isfinite(value[0]) and edition else 4

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", numba.NumbaWarning)
        return on_disk(lambda cache: numba.cfunc(LOGP, cache=cache, pipeline_class=Glue)(logp))
