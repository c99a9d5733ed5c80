"""A crew of workers: few tasks under way at a time, and nothing lost when a worker dies."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from concurrent.futures.process import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context, parent_process
from statistics import median
from threading import Thread
from typing import Any

from bayesmixed._errors import SamplingError

type Task[J, R] = Callable[[bytes | None, Sequence[J]], tuple[float, list[R]] | None]
"""What a worker runs: ``(briefing or None, jobs) -> (seconds, results)``.

It returns None where it needs the briefing first. A result stands for each job, failed ones too.
"""

# A task of this many seconds costs little to send, and loses little when its worker dies.
_TASK_SECONDS = 1.5
_MOST_JOBS = 64
# Where an executor does not say how many workers it has.
_WORKERS_UNKNOWN = 32
# So many deaths without a single result are the fault of no job.
_MOST_DEATHS = 5


@dataclass(frozen=True)
class Lost[J]:
    """A job that was given up, and why."""

    job: J
    reason: str


@dataclass(frozen=True)
class _Flight[J]:
    """A task under way, or one that waits to be sent again.

    Parameters
    ----------
    jobs : tuple
        What it is to do.
    losses : int
        How often it came back without results.
    briefed : bool
        Whether the briefing goes with it.
    alone : bool
        Whether nothing else may be under way, so that a death is its own doing.
    executor : Executor, optional
        Where it was sent.
    """

    jobs: tuple[J, ...]
    losses: int = 0
    briefed: bool = False
    alone: bool = False
    executor: Executor | None = None


class Crew[J, R]:
    """Workers on any executor, for one task with many jobs.

    Parameters
    ----------
    task : callable
        See `Task`; it and the jobs must be picklable unless the executor's workers are threads.
    briefing : bytes
        What a worker must know once, sent to those that ask for it.
    executor : concurrent.futures.Executor, optional
        Where tasks run; processes on this machine unless given.
    workers : int, optional
        Number of workers; found from the executor, or the processors, unless given.

    Raises
    ------
    SamplingError
        If `workers` is not a whole number from 1.
    """

    def __init__(
        self,
        task: Task[J, R],
        briefing: bytes,
        executor: Executor | None = None,
        workers: int | None = None,
    ) -> None:
        if workers is not None and (isinstance(workers, bool) or workers < 1):
            raise SamplingError(f"workers={workers!r}: a whole number from 1 is needed.")
        self._task, self._briefing = task, briefing
        self._own = executor is None
        self.workers = workers or _count_workers(executor)
        self._executor = executor or self._hire()
        self._flying: dict[Future[tuple[float, list[R]] | None], _Flight[J]] = {}
        self._waiting: deque[_Flight[J]] = deque()
        self._paces: deque[float] = deque(maxlen=9)
        self._deaths, self._worked = 0, False

    def run(self, jobs: Iterable[J]) -> Generator[R | Lost[J], None, None]:
        """Results in the order in which they arrive; jobs are taken as they are needed.

        A job whose worker dies is sent again; one that kills a worker while nothing else is under
        way, or is lost twice in another manner, comes back as `Lost`.

        Raises
        ------
        SamplingError
            If workers die as soon as they start, or the user's own executor is broken.
        """
        fresh, finished = iter(jobs), False
        try:
            while self._launch(fresh):
                done, _ = wait(self._flying, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from self._land(future)
            finished = True
        finally:
            self._dismiss(now=not finished)

    def _launch(self, fresh: Iterator[J]) -> bool:
        """Fill the window; whether anything is under way."""
        while len(self._flying) < 2 * self.workers:
            if any(flight.alone for flight in self._flying.values()):
                break
            flight = self._next(fresh)
            if flight is None:
                break
            self._submit(flight)
        return bool(self._flying)

    def _next(self, fresh: Iterator[J]) -> _Flight[J] | None:
        if self._waiting:
            if self._waiting[0].alone and self._flying:
                return None
            return self._waiting.popleft()
        pace = median(self._paces) if self._paces else _TASK_SECONDS
        count = int(min(max(1.0, _TASK_SECONDS / max(pace, 1e-9)), _MOST_JOBS))
        jobs = tuple(islice(fresh, count))
        return _Flight(jobs) if jobs else None

    def _submit(self, flight: _Flight[J]) -> None:
        briefing = self._briefing if flight.briefed else None
        try:
            future = self._executor.submit(self._task, briefing, flight.jobs)
        except BrokenExecutor as error:
            self._waiting.appendleft(flight)
            self._replace(self._executor, error)
            return
        sent = _Flight(flight.jobs, flight.losses, flight.briefed, flight.alone, self._executor)
        self._flying[future] = sent

    def _land(self, future: Future[tuple[float, list[R]] | None]) -> Iterator[R | Lost[J]]:
        """What a task brought back."""
        flight = self._flying.pop(future)
        try:
            answer = future.result()
        except BrokenExecutor as error:
            self._replace(flight.executor, error)
            yield from self._again(flight, "its worker died", convict=flight.alone)
        except Exception as error:  # noqa: BLE001  whatever an executor raises is about this task
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            yield from self._again(flight, reason, convict=flight.losses > 0)
        else:
            if answer is None:
                self._waiting.append(_Flight(flight.jobs, flight.losses, True, flight.alone))
                return
            seconds, results = answer
            self._worked = True
            self._paces.append(seconds / len(flight.jobs))
            yield from results

    def _again(self, flight: _Flight[J], reason: str, convict: bool) -> Iterator[Lost[J]]:
        """Send lost jobs once more, one by one, or give them up."""
        if convict:
            yield from (Lost(job, reason) for job in flight.jobs)
            return
        losses = flight.losses + 1
        for job in flight.jobs:
            # Those that were under way with the culprit twice are told from it one at a time.
            self._waiting.append(_Flight((job,), losses, alone=losses > 1))

    def _replace(self, broken: Executor | None, error: Exception) -> None:
        """Hire new workers, once for all tasks that the old ones had."""
        if broken is not self._executor:
            return
        if not self._own:
            raise SamplingError(
                f"The executor is broken ({error}). What was finished is kept: call again with a "
                "new executor and the same `out`."
            ) from error
        self._deaths += 1
        if self._deaths >= _MOST_DEATHS and not self._worked:
            raise SamplingError(
                "Worker processes die before they bring a single result. In a script the call "
                'must stand under `if __name__ == "__main__":`, since workers import the script; '
                "or else there is not enough memory: try workers=1."
            ) from error
        _stop(self._executor, now=True)
        self._executor = self._hire()

    def _hire(self) -> ProcessPoolExecutor:
        # Forking a process that has threads (BLAS, samplers, notebooks) can hang.
        return ProcessPoolExecutor(
            self.workers, mp_context=get_context("spawn"), initializer=_enlist
        )

    def _dismiss(self, now: bool) -> None:
        for future in self._flying:
            future.cancel()
        self._flying.clear()
        if self._own:
            _stop(self._executor, now)


def _count_workers(executor: Executor | None) -> int:
    """Workers of an executor, or the processors of this machine."""
    if executor is None:
        # The former knows which processors this process may use; it came with Python 3.13.
        return int(getattr(os, "process_cpu_count", os.cpu_count)() or 1)
    most = getattr(executor, "_max_workers", None)
    if isinstance(most, int):
        return most
    client: Any = getattr(executor, "_client", None)  # Dask's
    threads = client.nthreads() if hasattr(client, "nthreads") else {}
    return sum(threads.values()) or _WORKERS_UNKNOWN


def _enlist() -> None:
    """Make a new process a worker: Ctrl-C is not for it, and it goes when its employer is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    employer = parent_process()
    if employer is not None:
        Thread(target=_follow, args=(employer.join,), daemon=True).start()


def _follow(gone: Callable[[], None]) -> None:
    # A worker whose employer was killed would wait for tasks for ever.
    gone()
    os._exit(1)


def _stop(executor: Executor, now: bool) -> None:
    processes = list((getattr(executor, "_processes", None) or {}).values()) if now else []
    executor.shutdown(wait=not now, cancel_futures=True)
    for process in processes:
        process.terminate()
