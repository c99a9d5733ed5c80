"""A PyMC model's own graph as a log-density, compiled by numba through PyTensor.

It serves every model. `program` makes the same value without a compiler where it can.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.compile.mode import Mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import equal_computations
from pytensor.graph.replace import clone_replace, vectorize_graph
from pytensor.graph.traversal import graph_inputs

from bayesmixed import matmul_op
from bayesmixed.logdensity import LogDensity
from bayesmixed.native import graph_entry
from bayesmixed.pointers import pointers

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int32]  # as `pymc.Data` keeps them

# Inputs, outputs and function of what this process has compiled. Whole graphs are compared, so
# that models of one structure share a function whatever their data, sizes and priors' parameters.
_COMPILED: deque[tuple[list[Any], list[Any], Callable[..., Any]]] = deque(maxlen=20)


@contextmanager
def interpreted() -> Iterator[Mode]:
    """Evaluate graphs with NumPy, without a compiler: right for what is evaluated only once."""
    mode = Mode(linker="py", optimizer=None)
    with pytensor.config.change_flags(cxx="", mode=mode):
        yield mode


def log_density(
    model: pm.Model, public: Sequence[str], units: Mapping[str, Floats] = MappingProxyType({})
) -> LogDensity:
    """Compile a PyMC model's log-density and gradient.

    Parameters
    ----------
    model : pymc.Model
        Any model with continuous free variables.
    public : sequence of str
        Names of the variables to recover from draws.
    units : mapping of str to array, shape (size, size)
        For vectors that are free variables without bounds, what takes a sampled vector to them.
    """
    values = [model.rvs_to_values[rv] for rv in model.free_RVs]
    with interpreted():
        start = model.initial_point()
    parts = [np.asarray(start[str(v.name)], dtype=float) for v in values]
    shapes = tuple(p.shape for p in parts)
    units = {name: A for name, A in units.items() if name in {v.name for v in values}}
    function, floats, integers = _compile(model, values, shapes, units)
    starts = {v.name: p for v, p in zip(values, parts, strict=True)}
    starts |= {name: np.linalg.solve(A, starts[name]) for name, A in units.items()}
    joined = np.concatenate([p.ravel() for p in starts.values()])

    def evaluate(x: Floats) -> tuple[float, Floats]:
        value, gradient = function(x, floats, integers)
        return float(value), gradient

    return LogDensity(
        joined,
        evaluate,
        _recovery(model, values, shapes, public, units),
        lambda: graph_entry(function),
        pointers((floats, integers)),
        (floats, integers),
    )


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
    model: pm.Model,
    values: Sequence[Any],
    shapes: Sequence[tuple[int, ...]],
    units: Mapping[str, Floats],
) -> tuple[Callable[..., Any], Floats, Integers]:
    """Compile ``(point, floats, integers) -> (log-density, gradient)``.

    The compiled code has these three arguments whatever the model, and does not depend on the
    data or their size, so that PyTensor finds it in its cache on disk when it is met again.
    """
    logp = model.logp()
    matrices = {name: pytensor.shared(A) for name, A in units.items()}
    slopes = dict(zip(values, pytensor.grad(logp, list(values)), strict=True))
    slopes |= {v: matrices[v.name].T @ slopes[v] for v in values if v.name in units}
    gradient = pt.concatenate([g.ravel() for g in slopes.values()])
    inputs = graph_inputs([logp, gradient])
    packer, point = _Packer(), pt.dvector("point")
    given, at = {}, 0
    for value, shape in zip(values, shapes, strict=True):
        given[value] = packer.part(point, at, shape)
        at += int(np.prod(shape, dtype=int))
    replaced = packer.pack([v for v in inputs if isinstance(v, SharedVariable)])
    for value, part in given.items():
        inside = value.name in units
        replaced[value] = replaced[matrices[value.name]] @ part if inside else part
    outputs = clone_replace([logp, gradient], replaced)
    own = [point, packer.floats, packer.integers]
    for inputs, known, function in _COMPILED:
        if equal_computations(outputs, known, own, inputs):
            return function, *packer.data()
    with warnings.catch_warnings():
        # numba does without C; PyTensor's remark about a missing BLAS is about C.
        warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS")
        compiled = pm.compile(own, outputs, mode=matmul_op.mode(), on_unused_input="ignore")
    _COMPILED.append((own, outputs, compiled.vm.jit_fn))
    return compiled.vm.jit_fn, *packer.data()


def _recovery(
    model: pm.Model,
    values: Sequence[Any],
    shapes: Sequence[tuple[int, ...]],
    public: Sequence[str],
    units: Mapping[str, Floats],
) -> Callable[[Floats, np.random.Generator], dict[str, Floats]]:
    wanted = model.replace_rvs_by_values([model[name] for name in public])
    batched = {v: v.type.clone(shape=(None, *v.type.shape))(f"{v.name}") for v in values}

    @cache
    def function() -> Any:
        outputs = vectorize_graph(wanted, batched)
        inputs = list(batched.values())
        with interpreted() as mode:
            return pytensor.function(inputs, outputs, mode=mode, on_unused_input="ignore")

    def recover(x: Floats, _: np.random.Generator) -> dict[str, Floats]:
        parts, at = [], 0
        for value, shape in zip(values, shapes, strict=True):
            length = int(np.prod(shape, dtype=int))
            part = x[:, at : at + length].reshape((len(x), *shape))
            parts.append(part @ units[value.name].T if value.name in units else part)
            at += length
        result = function()(*parts)
        # A variable that is the same in every draw comes back without the draws' axis.
        return {
            name: np.broadcast_to(r, (len(x), *r.shape[r.ndim - w.ndim :])).copy()
            for name, r, w in zip(public, result, wanted, strict=True)
        }

    return recover
