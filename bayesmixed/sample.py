"""NUTS: from a log-density to draws, with progress, seeds, and nothing lost on an interrupt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import nutpie
import pyarrow
from numpy.typing import NDArray

from bayesmixed._errors import SamplingError
from bayesmixed.logdensity import LogDensity
from bayesmixed.native import native_model

type Floats = NDArray[np.float64]
type Chain = tuple[Floats, Mapping[str, NDArray[Any]]]

# Names of nutpie's statistics and the names that ArviZ and PyMC give them.
_STATISTICS = {
    "diverging": "diverging",
    "depth": "tree_depth",
    "maxdepth_reached": "reached_max_treedepth",
    "n_steps": "n_steps",
    "step_size_bar": "step_size",
    "energy": "energy",
    "logp": "lp",
    "mean_tree_accept": "acceptance_rate",
}


@dataclass(frozen=True)
class Settings:
    """How to sample.

    Parameters
    ----------
    draws, tune, chains : int
        Kept draws and warm-up draws of each chain, and the number of chains.
    seed : int, optional
        The same seed gives the same draws on the same machine and versions.
    target_accept : float
        Aimed-at acceptance probability; higher means smaller steps.
    max_depth : int
        Deepest tree: at most ``2**max_depth`` gradients for a draw.
    progress : bool
        Whether to show progress.
    cores : int, optional
        Chains that run at the same time; as many as there are processors unless given.

    Raises
    ------
    SamplingError
        If a number is out of range.
    """

    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    seed: int | None = None
    target_accept: float = 0.9
    max_depth: int = 10
    progress: bool = True
    cores: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, least in (
            ("draws", 1),
            ("tune", 1),
            ("chains", 1),
            ("max_depth", 1),
            ("cores", 1),
        ):
            value = getattr(self, name)
            if name == "cores" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise SamplingError(f"{name}={value!r}: a whole number from {least} is needed.")
        target = self.target_accept
        if not isinstance(target, int | float | np.floating) or not 0 < target < 1:
            raise SamplingError(
                f"target_accept={self.target_accept!r}: a number between 0 and 1 is needed, "
                "such as 0.95 or 0.99."
            )
        check_seed(self.seed)


def check_seed(seed: int | None) -> None:
    """Refuse a seed that is none.

    Raises
    ------
    SamplingError
        If it is not a whole number from 0, or None.
    """
    if seed is not None and (not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63):
        raise SamplingError(f"seed={seed!r}: a whole number from 0 is needed.")


def generator(seed: int | None) -> np.random.Generator:
    """Random numbers from a seed, once `check_seed` lets it pass."""
    check_seed(seed)
    return np.random.default_rng(seed)


@dataclass(frozen=True)
class Draws:
    """What a sampler returned.

    Parameters
    ----------
    x : array, shape (chains, draws, size)
        Unconstrained draws.
    statistics : mapping of str to array, shape (chains, draws)
        Sampler statistics under ArviZ's names.
    interrupted : bool
        Whether sampling was stopped before its end.
    """

    x: Floats
    statistics: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    interrupted: bool = False


def sample(density: LogDensity, settings: Settings) -> Draws:
    """Draw from a log-density with nutpie's NUTS (Hoffman & Gelman 2014, JMLR 15:1593).

    Ctrl-C returns the draws so far, marked as interrupted.

    Raises
    ------
    SamplingError
        If no valid starting point was found, or it was interrupted before a draw was kept.
    """
    compiled = native_model(density)
    try:
        sampler = nutpie.sample(
            compiled,
            draws=settings.draws,
            tune=settings.tune,
            chains=settings.chains,
            cores=settings.cores,
            seed=None if settings.seed is None else int(settings.seed),
            target_accept=settings.target_accept,
            maxdepth=settings.max_depth,
            progress_bar=settings.progress,
            return_raw_trace=True,
            blocking=False,
        )
        interrupted = False
        try:
            trace = sampler.wait()
        except KeyboardInterrupt:
            trace = sampler.abort()
            interrupted = True
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SamplingError(
            f"Sampling stopped: {reason} Look at model.priors and model.prior_predictive(): very "
            "wide or very narrow priors, or a link that allows impossible values, leave no valid "
            "starting point."
        ) from error
    tables = zip(*trace.get_arrow_trace(), strict=True)
    return _rectangle([_kept(x, stats, density.size) for x, stats in tables], interrupted)


def _kept(draws: Any, statistics: Any, size: int) -> Chain:
    """A chain's draws (draws, size) and statistics after warm-up, from tables of Arrow's."""
    first = int(pyarrow.array(statistics.column("tuning")).to_numpy(False).sum())
    values = pyarrow.array(draws.column("x")).flatten().to_numpy()
    return values.reshape((draws.num_rows, size))[first:], {
        ours: pyarrow.array(statistics.column(theirs)).to_numpy(False)[first:]
        for theirs, ours in _STATISTICS.items()
        if theirs in statistics.column_names
    }


def _rectangle(kept: Sequence[Chain], interrupted: bool) -> Draws:
    """Keep the chains and the length that keep most of an interrupted run."""
    lengths = np.array([len(x) for x, _ in kept], dtype=int)
    if not lengths.any():
        raise SamplingError("Sampling was interrupted during warm-up, before a draw was kept.")
    x, statistics = zip(*kept, strict=True)
    order = np.argsort(-lengths, kind="stable")
    best = int((lengths[order] * np.arange(1, len(order) + 1)).argmax())
    chains, length = np.sort(order[: best + 1]), int(lengths[order[best]])
    return Draws(
        np.stack([x[c][:length] for c in chains]),
        {n: np.stack([statistics[c][n][:length] for c in chains]) for n in statistics[0]},
        interrupted,
    )
