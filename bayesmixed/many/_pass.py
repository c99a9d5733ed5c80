"""One go through the outcomes: those not yet there go to the crew, what comes back to disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from time import monotonic
from uuid import uuid4

import cloudpickle
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bayesmixed.families import OURS
from bayesmixed.many._crew import Crew, Lost
from bayesmixed.many._outcomes import Outcome, Outcomes
from bayesmixed.many._record import Record
from bayesmixed.many._store import Store
from bayesmixed.many._worker import Plan, perform
from bayesmixed.model import Model

type Watch = Callable[[Record | None], None]

# A part on disk holds what finished in so many seconds, or so many bytes of it.
_PART_SECONDS = 5.0
_PART_BYTES = 64_000_000


@dataclass(frozen=True)
class Pass:
    """One go through the outcomes.

    Parameters
    ----------
    given : Outcomes
        What to fit.
    store : Store
        Where results go, and where those of an earlier run are.
    model : Model
        The model.
    plan : Plan
        What workers must know.
    executor : concurrent.futures.Executor, optional
        Where to fit.
    workers : int, optional
        How many fits run at the same time.
    met : dict of str to str
        Fingerprints of the outcomes that have been met, by name; filled by `run`.
    """

    given: Outcomes
    store: Store
    model: Model
    plan: Plan
    executor: Executor | None
    workers: int | None
    met: dict[str, str] = field(default_factory=dict)
    _refused: list[Record] = field(default_factory=list)

    def run(self, title: str, progress: bool) -> bool:
        """Fit what is not yet there.

        Parameters
        ----------
        title : str
            What the progress bar says.
        progress : bool
            Whether to show one.

        Returns
        -------
        bool
            False if it was interrupted; what had finished is on disk.
        """
        with _watched(title, self.given.count, progress) as watch:
            whole = self._keep(self._results(watch), watch)
        if not whole:
            Console(stderr=True).print(
                f"Interrupted. What is finished is in {self.store.path}; call fit_many again with "
                "the same `out` to go on."
            )
        return whole

    def _jobs(self, watch: Watch) -> Iterator[Outcome]:
        """The outcomes that are to be fitted."""
        done = self.store.done()
        for outcome in self.given:
            self.met[outcome.name] = outcome.fingerprint
            if outcome.reason:
                self._refused.append(_failed(outcome, outcome.reason))
            elif done.get(outcome.name) == outcome.fingerprint:
                watch(None)
            else:
                yield outcome

    def _results(self, watch: Watch) -> Iterator[Record]:
        """What came of each, in the order of arrival."""
        jobs = self._jobs(watch)
        first = next(jobs, None)
        if first is None:
            yield from self._refused
            return
        task = partial(perform, uuid4().hex)
        crew = Crew[Outcome, Record](
            task, cloudpickle.dumps(self.plan), self.executor, self.workers
        )
        self._compile()
        with closing(crew.run(chain([first], jobs))) as arriving:
            for item in arriving:
                # Another worker, or another day, may have more luck.
                yield _failed(item.job, item.reason, again=True) if isinstance(item, Lost) else item
                while self._refused:
                    yield self._refused.pop()
        yield from self._refused

    def _compile(self) -> None:
        """Have the machine code on disk, so that workers need not compile it, each for itself.

        What is read from disk may also round otherwise than what has just been compiled.
        """
        family = self.model.spec.family
        if family is OURS.get(family.name) and self.plan.settings["sampler"] == "nutpie":
            # What goes wrong here is said of the outcomes that it goes wrong for.
            with suppress(Exception):
                self.model.fit(draws=1, tune=1, chains=1, seed=0, progress=False)

    def _keep(self, results: Iterator[Record], watch: Watch) -> bool:
        """Write results as they come; False if that was interrupted."""
        waiting: list[Record] = []
        since, size = monotonic(), 0
        try:
            for record in results:
                waiting.append(record)
                watch(record)
                size += record.size
                if size > _PART_BYTES or monotonic() - since > _PART_SECONDS:
                    self.store.write(waiting)
                    waiting, since, size = [], monotonic(), 0
        except KeyboardInterrupt:
            return False
        finally:
            if waiting:
                self.store.write(waiting)
        return True


def _failed(outcome: Outcome, reason: str, again: bool = False) -> Record:
    return Record(outcome.name, outcome.position, outcome.fingerprint, reason, again)


@contextmanager
def _watched(title: str, count: int | None, show: bool) -> Iterator[Watch]:
    """Progress with what failed, the rate, and the time that remains."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not show,
    )
    with bar:
        task = bar.add_task(title, total=count, failed=0, rate="")
        failed = before = 0

        def watch(record: Record | None) -> None:
            nonlocal failed, before
            if record is None:
                # What was there before says nothing about the rate.
                before += 1
                total = None if count is None else count - before
                bar.update(task, total=total, description=f"{title} ({before:,} were there)")
                return
            failed += bool(record.reason)
            bar.update(task, advance=1, failed=failed, rate=_rate(bar.tasks[0].speed))

        yield watch


def _rate(speed: float | None) -> str:
    """Fits in a second, or in a minute where they are slow."""
    if not speed:
        return ""
    return f"{speed:.1f}/s" if speed >= 1 else f"{60 * speed:.1f}/min"
