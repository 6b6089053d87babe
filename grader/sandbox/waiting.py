"""How long a submission's threads wait for the machine: what tells one that sleeps from one that is held up.

Trusted; reads /proc. The scheduler counts for each thread how long it was ready to run and had no processor (schedstat, a control
group's quota included); pressure files say how long something waited for a disk or for memory to be brought back
(Documentation/scheduler/sched-stats.rst and Documentation/accounting/psi.rst of Linux).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from grader.sandbox.cgroup import cores

__all__ = ["WaitMeter"]

_GPUS = ("nvidiactl", "kfd")
"""Devices of a GPU that can compute. How busy one is for a box is not asked: where it has one, it is never taken for a sleeper."""
_STALLED_SHARE = 0.25
_PRESSURE = tuple(Path("/proc/pressure") / name for name in ("io", "memory"))


@dataclass(slots=True)
class WaitMeter:
    """Adds up how long a box waits for the machine, from one reading to the next: as long as that thread of it that waits longest.

    A sum over threads would let a box hold itself up: a hundred that wake at once wait for each other, whatever the machine has to give.
    """

    root: Path
    """The root folder that the processes see."""
    seconds: float = 0.0
    """So many until now."""
    _ready: dict[tuple[str, str], int] = field(default_factory=dict)
    _stalls: float = 0.0
    _last: float | None = None
    _gpu: bool | None = None

    def add(self, processes: Iterable[Path], *, busy_elsewhere: bool = False) -> float:
        """Read again, and return the sum; `processes` are their folders in /proc, `busy_elsewhere` says that they wait for a network."""
        now = time.monotonic()
        gap, self._last = 0.0 if self._last is None else now - self._last, now
        if self._gpu is None:
            self._gpu = any((self.root / "dev" / name).exists() for name in _GPUS)
        tasks = [task for process in processes for task in _tasks(process)]
        ready, counted, longest = self._ready, False, 0
        self._ready = {}
        for task in tasks:
            with contextlib.suppress(OSError, ValueError):
                ran, nanoseconds, _times = map(int, (task / "schedstat").read_text().split())
                key = task.parent.parent.name, task.name
                before = ready.get(key, 0)
                longest = max(longest, nanoseconds - before)
                self._ready[key] = nanoseconds
                counted = counted or ran > 0
        self.seconds += longest / 1e9
        if self._gpu or busy_elsewhere or self._stalled(tasks, gap) or (not counted and _overloaded()):
            self.seconds += gap
        return self.seconds

    def _stalled(self, tasks: list[Path], gap: float) -> bool:
        """Whether the machine's disks were slow during the last `gap` seconds, and one of the tasks waits for one."""
        before, self._stalls = self._stalls, sum(map(_pressure, _PRESSURE))
        return self._stalls - before > _STALLED_SHARE * gap > 0 and any(map(_waits_for_a_disk, tasks))


def _tasks(process: Path) -> list[Path]:
    """The folders of a process's threads."""
    try:
        return list((process / "task").iterdir())
    except OSError:
        return []


def _pressure(file: Path) -> float:
    """Seconds in which some task waited for this resource, since the machine started; 0 where that is not counted."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(file.read_text().split("total=", 2)[1].split()[0]) / 1e6
    return 0.0


def _waits_for_a_disk(task: Path) -> bool:
    with contextlib.suppress(OSError, IndexError):
        return (task / "stat").read_text().rpartition(")")[2].split()[0] == "D"
    return False


def _overloaded() -> bool:
    """Whether more want to compute than there are processors, where the scheduler does not say who waits."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > cores()
