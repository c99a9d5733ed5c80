"""Jobs spread over workers: all come back, whichever worker dies, and few are taken ahead."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import crew_tasks as tasks
import pytest

from bayesmixed import BayesmixedError
from bayesmixed.many._crew import Crew, Lost


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def test_every_job_comes_back_once(threads):
    found = list(Crew(tasks.square, b"", threads).run(range(1000)))
    assert sorted(found) == [n**2 for n in range(1000)]
    assert threads.submit(int, "1").result() == 1  # the user's executor is still open


def test_a_worker_that_asks_is_briefed(threads):
    assert sorted(Crew(tasks.cautious, b"3", threads).run(range(20))) == [*range(0, 60, 3)]


def test_jobs_are_taken_as_they_are_needed(threads):
    taken = 0

    def jobs() -> Iterator[int]:
        nonlocal taken
        for n in range(3000):
            taken += 1
            yield n

    ahead = [
        taken - done
        for done, _ in enumerate(Crew(tasks.square, b"", threads, workers=2).run(jobs()))
    ]
    # Four tasks under way, each of at most 64 jobs, and the results of some.
    assert max(ahead) <= 8 * 64
    assert taken == 3000


def test_what_a_task_raises_is_said_of_the_job_that_raised_it(threads):
    found = list(Crew(tasks.raises, b"", threads).run(range(100)))
    lost = [item for item in found if isinstance(item, Lost)]
    assert lost == [Lost(3, "RuntimeError: three")]
    assert sorted(set(found) - set(lost)) == [n**2 for n in range(100) if n != 3]


def test_jobs_of_a_killed_worker_are_done_by_another(tmp_path):
    task = partial(tasks.dies, (), tmp_path / "once")
    found = list(Crew(task, b"", workers=2).run(range(30)))
    assert (tmp_path / "once").exists()
    assert sorted(found) == [n**2 for n in range(30)]


def test_jobs_that_kill_are_given_up_and_no_others(tmp_path):
    task = partial(tasks.dies, (2, 5), tmp_path / "once")
    found = list(Crew(task, b"", workers=2).run(range(12)))
    lost = {item.job for item in found if isinstance(item, Lost)}
    assert lost == {2, 5}
    assert sorted(n for n in found if not isinstance(n, Lost)) == [
        n**2 for n in range(12) if n not in lost
    ]


def test_workers_that_all_die_are_not_replaced_for_ever(tmp_path):
    task = partial(tasks.dies, range(100), tmp_path / "once")
    with pytest.raises(BayesmixedError, match="__main__"):
        list(Crew(task, b"", workers=1).run(range(100)))


def test_a_broken_executor_of_the_users_stops_the_run(tmp_path):
    task = partial(tasks.dies, (3,), tmp_path / "once")
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(BayesmixedError, match="new executor and the same"),
    ):
        list(Crew(task, b"", pool).run(range(10)))


@pytest.mark.parametrize("workers", [0, -1, True])
def test_number_of_workers_is_checked(workers):
    with pytest.raises(BayesmixedError, match="workers="):
        Crew(tasks.square, b"", None, workers)


def test_what_stops_the_jobs_stops_the_workers():
    def jobs() -> Iterator[int]:
        yield from range(3)
        raise OSError("no more data")

    crew = Crew(tasks.square, b"", workers=1)
    with pytest.raises(OSError, match="no more data"):
        list(crew.run(jobs()))
    with pytest.raises(RuntimeError, match="shutdown"):
        crew._executor.submit(Path, "x")
