"""A log-density with gradient on the unconstrained scale, and the way back to named variables.

This is what the sampler sees. It evaluates the PyMC model's own graph, compiled once by numba;
other ways of evaluating the same model only need to make the same value.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.compile.mode import Mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.replace import clone_replace, vectorize_graph
from pytensor.graph.traversal import graph_inputs

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int32]  # as `pymc.Data` keeps them

# Chains start at independent points; the width is the one that PyMC and nutpie use.
_JITTER = 1.0


@contextmanager
def interpreted() -> Iterator[Mode]:
    """Evaluate graphs with NumPy, without a compiler: right for what is evaluated only once."""
    mode = Mode(linker="py", optimizer=None)
    with pytensor.config.change_flags(cxx="", mode=mode):
        yield mode


@dataclass(frozen=True)
class LogDensity:
    """A log-posterior.

    Parameters
    ----------
    names : tuple of str
        Names of the unconstrained variables.
    shapes : tuple of tuple of int
        Their shapes.
    start : array, shape (size,)
        A central starting point.
    function : callable
        Compiled by numba: ``(point, floats, integers) -> (log-density, gradient)``.
    floats, integers : array
        The data, packed.
    recover : callable
        Draws of the unconstrained variables, each with the draws as first axis, to named
        variables of the model, likewise.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    start: Floats
    function: Callable[[Floats, Floats, Integers], tuple[Any, Floats]]
    floats: Floats
    integers: Integers
    recover: Callable[[Mapping[str, Floats]], dict[str, Floats]]

    @property
    def size(self) -> int:
        """Number of unconstrained dimensions."""
        return len(self.start)

    def __call__(self, x: Floats) -> tuple[float, Floats]:
        """Log-density and its gradient at a point of shape (size,)."""
        value, gradient = self.function(x, self.floats, self.integers)
        return float(value), gradient

    def initial(self, seed: int) -> Floats:
        """A random starting point, shape (size,)."""
        rng = np.random.default_rng(seed)
        return self.start + rng.uniform(-_JITTER, _JITTER, self.size)

    def variables(self, x: Floats) -> dict[str, Floats]:
        """Named variables at draws of shape (draws, size)."""
        parts, at = {}, 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            length = int(np.prod(shape, dtype=int))
            parts[name] = x[:, at : at + length].reshape((len(x), *shape))
            at += length
        return self.recover(parts)


def log_density(model: pm.Model, public: Sequence[str]) -> LogDensity:
    """Compile a PyMC model's log-density and gradient.

    Parameters
    ----------
    model : pymc.Model
        Any model with continuous free variables.
    public : sequence of str
        Names of the variables to recover from draws.
    """
    values = [model.rvs_to_values[rv] for rv in model.free_RVs]
    with interpreted():
        start = model.initial_point()
    names = tuple(str(v.name) for v in values)
    parts = [np.asarray(start[name], dtype=float) for name in names]
    shapes = tuple(p.shape for p in parts)
    function, floats, integers = _compile(model, values, shapes)
    joined = np.concatenate([p.ravel() for p in parts])
    recover = _recovery(model, values, public)
    return LogDensity(names, shapes, joined, function, floats, integers, recover)


class _Packer:
    """Lays arrays out in two flat vectors, and says in PyTensor where each of them is.

    Offsets and shapes are data as well, so the graph does not depend on any size.
    """

    def __init__(self) -> None:
        self.floats, self.integers = pt.dvector("floats"), pt.ivector("integers")
        self._floats: list[Floats] = []
        self._numbers: list[int] = []
        self._integers: list[Integers] = []

    def number(self, value: int) -> Any:
        """A whole number, kept as data."""
        self._numbers.append(value)
        return self.integers[len(self._numbers) - 1]

    def part(self, vector: Any, first: int, shape: tuple[int, ...]) -> Any:
        """The part of a vector that begins at `first`, in this shape."""
        if not shape:
            return vector[self.number(first)]
        length = int(np.prod(shape, dtype=int))
        part = vector[self.number(first) : self.number(first + length)]
        return part if len(shape) == 1 else part.reshape([self.number(n) for n in shape])

    def pack(self, variables: Sequence[Any]) -> dict[Any, Any]:
        """Pack shared variables; returns what stands for each of them in the graph."""
        arrays = {v: np.asarray(v.get_value(borrow=True)) for v in variables}
        replaced, at = {}, 0
        for variable, array in arrays.items():
            if array.dtype.kind == "f":
                replaced[variable] = self.part(self.floats, at, array.shape)
                self._floats.append(np.ravel(array).astype(np.float64))
                at += array.size
            elif not array.ndim:
                replaced[variable] = self.number(int(array)).astype(variable.dtype)
        # Numbers stand first among the integers, so whole arrays come when they are all known.
        whole = {v: a for v, a in arrays.items() if a.dtype.kind != "f" and a.ndim}
        at = len(self._numbers) + sum(2 + (a.ndim if a.ndim > 1 else 0) for a in whole.values())
        for variable, array in whole.items():
            part = self.part(self.integers, at, array.shape)
            replaced[variable] = part.astype(variable.dtype)
            self._integers.append(np.ravel(array).astype(np.int32))
            at += array.size
        return replaced

    def data(self) -> tuple[Floats, Integers]:
        """The two vectors."""
        numbers = np.array(self._numbers, dtype=np.int32)
        floats = np.concatenate([np.zeros(0), *self._floats])
        return floats, np.concatenate([numbers, *self._integers])


def _compile(
    model: pm.Model, values: Sequence[Any], shapes: Sequence[tuple[int, ...]]
) -> tuple[Callable[..., Any], Floats, Integers]:
    """Compile ``(point, floats, integers) -> (log-density, gradient)``.

    The compiled code has these three arguments whatever the model, and does not depend on the
    data or their size, so that PyTensor finds it in its cache on disk when it is met again.
    """
    logp = model.logp()
    gradient = pt.concatenate([g.ravel() for g in pytensor.grad(logp, list(values))])
    inputs = graph_inputs([logp, gradient])
    packer, point = _Packer(), pt.dvector("point")
    replaced, at = {}, 0
    for value, shape in zip(values, shapes, strict=True):
        replaced[value] = packer.part(point, at, shape)
        at += int(np.prod(shape, dtype=int))
    replaced |= packer.pack([v for v in inputs if isinstance(v, SharedVariable)])
    outputs = clone_replace([logp, gradient], replaced)
    with warnings.catch_warnings():
        # numba does without C; PyTensor's remark about a missing BLAS is about C.
        warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS")
        function = pm.compile(
            [point, packer.floats, packer.integers],
            outputs,
            mode="NUMBA",
            on_unused_input="ignore",
        )
    return function.vm.jit_fn, *packer.data()


def _recovery(
    model: pm.Model, values: Sequence[Any], public: Sequence[str]
) -> Callable[[Mapping[str, Floats]], dict[str, Floats]]:
    wanted = model.replace_rvs_by_values([model[name] for name in public])
    batched = {v: v.type.clone(shape=(None, *v.type.shape))(f"{v.name}") for v in values}

    def recover(draws: Mapping[str, Floats]) -> dict[str, Floats]:
        outputs = vectorize_graph(wanted, batched)
        with interpreted() as mode:
            function = pytensor.function(
                list(batched.values()), outputs, mode=mode, on_unused_input="ignore"
            )
            count = len(next(iter(draws.values())))
            result = function(*(draws[str(v.name)] for v in values))
        # A variable that is the same in every draw comes back without the draws' axis.
        return {
            name: np.broadcast_to(r, (count, *r.shape[r.ndim - w.ndim :])).copy()
            for name, r, w in zip(public, result, wanted, strict=True)
        }

    return recover
