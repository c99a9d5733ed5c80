"""What the workers in test_crew.py run; it imports next to nothing, so that they start at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path


def square(briefing: bytes | None, jobs: Sequence[int]) -> tuple[float, list[int]]:
    return 0.01 * len(jobs), [job**2 for job in jobs]


def cautious(briefing: bytes | None, jobs: Sequence[int]) -> tuple[float, list[int]] | None:
    """Work only when told what about."""
    return None if briefing is None else (1.0, [int(briefing) * job for job in jobs])


def dies(poison: Sequence[int], once: Path, briefing: bytes | None, jobs: Sequence[int]):
    """Be killed by some jobs always, and by job 7 the first time."""
    for job in jobs:
        if job in poison or (job == 7 and not once.exists()):
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
    return 0.5 * len(jobs), [job**2 for job in jobs]


def raises(briefing: bytes | None, jobs: Sequence[int]) -> tuple[float, list[int]]:
    if 3 in jobs:
        raise RuntimeError("three\nand more")
    return 0.5, [job**2 for job in jobs]
