"""A structure from outside the package tried once, since a slip in it would be a wrong density."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, listed
from bayesmixed.backend import is_symbolic
from bayesmixed.structure import CorrelationParameter, Structure

type Floats = NDArray[np.float64]

_TAKEN = ("sigma", "beta", "Intercept", "slopes", "mu", "y", "X", "offset", "chain", "draw", "row")

# Visits that are tried; a slip shows with few.
_MOST = 6


def check_own_structure(structure: Structure, size: int, spread: float, times: Floats) -> None:
    """Refuse a structure whose parameters or matrix cannot be meant, before anything is compiled.

    Parameters
    ----------
    structure : Structure
    size, spread
        What `Structure.parameters` is given.
    times : array, shape (visits, columns)
        Distinct ones, as `Structure.matrix` takes them.

    Raises
    ------
    BayesmixedError
        If parameters are no `CorrelationParameter`, a name is taken or missing, a prior reaches
        beyond its support, or the matrix is no correlation matrix.
    """
    parameters = _parameters(structure, size, spread)
    values = {p.name: _inside(p, size, spread) for p in parameters}
    times = times[:_MOST]
    P = _called(structure, "matrix", values, times)
    m = len(times)
    if P is None or P.shape != (m, m):
        raise _error(
            structure,
            f"matrix(parameters, times) of {m} times has the shape {np.shape(P)}, not {(m, m)}; "
            "times[..., :, None, 0] - times[..., None, :, 0] has the differences of all pairs",
        )
    if not np.isfinite(P).all() or not np.allclose(P, P.T) or not np.allclose(np.diag(P), 1):
        raise _error(
            structure,
            "matrix(parameters, times) is not finite and symmetric with ones on its diagonal at "
            f"{_said(values)}; standard deviations are the model's",
        )
    steps = _called(structure, "steps", values, times)
    if steps is not None and np.shape(steps) != (m - 1,):
        raise _error(
            structure,
            f"steps(parameters, times) of {m} times has the shape {np.shape(steps)}, not "
            f"{(m - 1,)}",
        )
    if steps is not None and not np.allclose(steps, np.diag(P, 1)):
        raise _error(
            structure, "steps(parameters, times) differs from the matrix beside its diagonal"
        )


def _error(structure: Structure, what: str) -> BayesmixedError:
    return BayesmixedError(
        f"{type(structure).__name__}: {what}. The page Extending has an example."
    )


def _parameters(structure: Structure, size: int, spread: float) -> list[CorrelationParameter]:
    try:
        found = structure.parameters(size, spread)
    except NotImplementedError:
        raise _error(
            structure, "parameters(size, spread) is missing, which says what there is to learn"
        ) from None
    every = list(found) if isinstance(found, tuple | list) else [found]
    is_plain = isinstance(found, tuple | list)
    if not is_plain or not all(isinstance(p, CorrelationParameter) for p in every):
        raise _error(
            structure,
            f"parameters(size, spread) gives {found!r}, and not a tuple of bm.CorrelationParameter",
        )
    for p in every:
        if p.name in _TAKEN:
            raise _error(structure, f"a parameter cannot be called {p.name!r}, which is taken")
        for prior in p.priors if not p.is_matrix else ():
            prior.check_support(p.name, p.support)
    return every


def _inside(parameter: CorrelationParameter, size: int, spread: float) -> Any:
    """Values that are neither in the middle of what is possible nor at its edge."""
    if parameter.is_matrix:
        return np.where(np.eye(size, dtype=bool), 1.0, 0.3)
    lower, upper = parameter.support
    if isfinite(lower) and isfinite(upper):
        value = lower + 0.6 * (upper - lower)
    else:
        value = lower + spread if isfinite(lower) else upper - spread if isfinite(upper) else spread
    return np.full(len(parameter.priors), value) if isinstance(parameter.prior, tuple) else value


def _called(structure: Structure, method: str, values: dict[str, Any], times: Floats) -> Any:
    """What a method gives; None where it is not there."""
    try:
        found = getattr(structure, method)(values, times)
    except NotImplementedError:
        raise _error(
            structure, f"{method}(parameters, times) is missing, which makes the matrix"
        ) from None
    except KeyError as error:
        if error.args and error.args[0] in values:
            raise
        raise _error(
            structure,
            f"{method} asks for a parameter {error.args[0]!r}; parameters() has "
            f"{listed(map(repr, values)) or 'none'}",
        ) from None
    if is_symbolic(found):
        found = found.eval()
    return None if found is None else np.asarray(found, dtype=np.float64)


def _said(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={np.round(value, 3)}" for name, value in values.items()) or "all"
