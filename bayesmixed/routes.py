"""The ways to a model's log-density, from the quickest that it can take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bayesmixed.design import Design
from bayesmixed.geometry import Centring
from bayesmixed.layout import Priors
from bayesmixed.logdensity import LogDensity
from bayesmixed.machine import state
from bayesmixed.names import public_names

if TYPE_CHECKING:
    import pymc as pm


def density_of(
    design: Design,
    priors: Priors,
    centred: Centring,
    integrated: Sequence[str],
    graph: Callable[[], pm.Model],
) -> LogDensity:
    """The log-density: from compiled parts where there are such, or else from a PyMC graph.

    Parameters
    ----------
    design : Design
    priors : mapping of str to AssignedPrior
    centred : Centring
        How far effects are sampled centred.
    integrated : sequence of str
        Groupings whose effects are integrated out, from the inside out.
    graph : callable
        Gives the PyMC model, where it is needed.
    """
    program = state(design, priors, centred, integrated)
    if program is not None:
        return program
    if integrated and design.series is None:
        from bayesmixed.rotated_density import rotated_density

        return rotated_density(design, priors, centred, integrated)
    if integrated:
        from bayesmixed.correlated_density import correlated_density

        return correlated_density(design, priors, centred, integrated)
    from bayesmixed.graph import log_density
    from bayesmixed.preconditioner import preconditioner

    return log_density(graph(), public_names(design), preconditioner(design, priors))
