"""A command in a process of its own: its time, its memory, and who else used the machine."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

_POLL = 0.2  # seconds
_SELDOM = 5  # times less often
_TICK = os.sysconf("SC_CLK_TCK")
_ERROR_LINES = 15


@dataclass(frozen=True)
class Usage:
    """What a command used.

    Parameters
    ----------
    wall, processor : float
        Seconds from its start to its end; seconds of processor time, all cores together.
    memory : float
        Peak memory of all of its processes together, what they share counted once (MB). The
        kernel's figure for a finished child cannot serve: it starts from the parent's memory.
    disturbance : float
        Mean number of cores that others used meanwhile.
    error : str or None
        Why it failed; the end of what it wrote to standard error.
    """

    wall: float
    processor: float
    memory: float
    disturbance: float
    error: str | None = None


@dataclass
class _Watch:
    """Follows a process and its descendants until told to stop."""

    pid: int
    memory: float = 0.0
    cpu: dict[int, float] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def follow(self) -> None:
        for look in count():
            tree = _tree(self.pid)
            for pid in tree:
                self.cpu[pid] = max(self.cpu.get(pid, 0.0), _cpu(pid))
                # A process's own peak is kept by the kernel, exact and free.
                self.memory = max(self.memory, _field(pid, "status", "VmHWM:"))
            # What several share is counted page by page, so it is asked for seldom.
            if len(tree) > 1 and look % _SELDOM == 0:
                together = sum(_field(pid, "smaps_rollup", "Pss:") for pid in tree)
                self.memory = max(self.memory, together)
            if self._stop.wait(_POLL):
                return

    def stop(self) -> None:
        self._stop.set()


def run(
    command: Sequence[str], log: Path, timeout: float, environment: Mapping[str, str] | None = None
) -> Usage:
    """Run a command to its end.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    log : Path
        Where its output goes.
    timeout : float
        Seconds after which it is ended, and failed.
    environment : mapping, optional
        Variables besides those of this process.

    Returns
    -------
    Usage
    """
    busy, start = _busy(), time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        watch = _Watch(process.pid)
        thread = threading.Thread(target=watch.follow, daemon=True)
        thread.start()
        timer = threading.Timer(timeout, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            wall = time.perf_counter() - start
            timer.cancel()
            watch.stop()
            thread.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    own = max(sum(watch.cpu.values()), used.ru_utime + used.ru_stime)
    return Usage(
        wall,
        own,
        watch.memory,
        max(0.0, (_busy() - busy - own) / wall),
        _error(process.returncode, wall, timeout, log),
    )


def _error(code: int, wall: float, timeout: float, log: Path) -> str | None:
    if code == 0:
        return None
    if wall >= timeout:
        return f"ended after {timeout:.0f} s"
    last = log.read_text(errors="replace").splitlines()[-_ERROR_LINES:]
    return "\n".join([f"exit code {code}", *last])


def _tree(root: int) -> list[int]:
    """A process and its living descendants."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            waiting.extend(int(child) for child in _read(children).split())
    return found


def _field(pid: int, file: str, name: str) -> float:
    """A size that /proc tells of a process (MB)."""
    for line in _read(Path(f"/proc/{pid}/{file}")).splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return 0.0


def _cpu(pid: int) -> float:
    """Seconds of processor time so far."""
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK if fields else 0.0


def _busy() -> float:
    """Seconds of processor time that the machine has worked, stolen time included."""
    user, nice, system, _idle, _wait, irq, softirq, steal = (
        int(f) for f in _read(Path("/proc/stat")).split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICK


def _read(path: Path) -> str:
    """A file under /proc, or nothing if its process has just ended."""
    try:
        return path.read_text()
    except OSError:
        return ""
