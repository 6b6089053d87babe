"""A control group per submission, where this process may make one: exact CPU time, hard caps on memory and processes.

Trusted. Version 2 (one tree) and version 1 (one tree per controller) are both used where they are writable, which usually means
root or a delegated tree (see `scope.py`); elsewhere `ControlGroup.create` gives None and the watchdog of `meter.py` does what it can.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from grader.sandbox.contract import Limits

__all__ = ["ControlGroup", "allowance", "cores", "entry"]

_ROOT = Path("/sys/fs/cgroup")
_V1 = ("memory", "pids", "cpuacct")
_CLOSE = 4 << 20
"""Bytes below the cap at which a group has met it: memory is charged in pieces."""


def _own_paths(text: str | None) -> dict[str, str]:
    """Controller -> this process's group, from /proc/self/cgroup; the empty name is version 2. Raises OSError, ValueError."""
    text = Path("/proc/self/cgroup").read_text() if text is None else text
    paths = {}
    for line in text.splitlines():
        _number, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _parent(root: Path, own: str) -> Path:
    """The group of version 2 to make groups in: the nearest one above this process that gives its children memory and pids.

    Where there is none, its own group gives them; but a group that does so may hold no process, so that this one moves into a group
    below. Raises OSError.
    """
    for group in _upwards(root, own):
        with contextlib.suppress(OSError):
            given = (group / "cgroup.subtree_control").read_text().split()
            writable = os.access(group, os.W_OK) and os.access(group / "cgroup.procs", os.W_OK)
            if writable and {"memory", "pids"} <= set(given):
                return group
    group = root / own.lstrip("/")
    try:
        _give(group)
    except OSError:
        if (group / "cgroup.procs").read_text().split() != [str(os.getpid())]:
            raise
        below = group / "grader"
        below.mkdir(exist_ok=True)
        (below / "cgroup.procs").write_text(str(os.getpid()))
        _give(group)
    return group


def _give(group: Path) -> None:
    """Let children of a group have their own caps. CPU time is counted in any case. Raises OSError."""
    try:
        (group / "cgroup.subtree_control").write_text("+memory +pids +cpu")
    except OSError:
        (group / "cgroup.subtree_control").write_text("+memory +pids")


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """One submission's group: a folder per controller (version 1), or the same folder for all (version 2)."""

    memory: Path
    """Folder of the memory controller."""
    pids: Path
    """Folder of the process-number controller."""
    cpu: Path
    """Folder of the CPU accounting."""
    unified: bool
    """True for version 2."""

    @property
    def _folders(self) -> set[Path]:
        return {self.memory, self.pids, self.cpu}

    @classmethod
    def create(cls, limits: Limits, name: str, root: Path = _ROOT, own: str | None = None) -> Self | None:
        """Make a group called `name` with `limits`; None where this host does not let us.

        The memory cap is `memory_bytes + disk_bytes`, since files in memory are charged too.
        """
        folders: list[Path] = []
        try:
            paths = _own_paths(own)
            unified = (root / "cgroup.controllers").exists()
            if unified:
                folders = [_parent(root, paths.get("", "/")) / name] * 3
            else:
                folders = [root / controller / paths[controller].lstrip("/") / name for controller in _V1]
            for folder in set(folders):
                folder.mkdir()
            memory, pids, cpu = folders
            group = cls(memory, pids, cpu, unified)
            group._cap_memory(limits.memory_bytes + limits.disk_bytes)
            most = str(limits.processes + 1)  # bubblewrap's first process comes on top
            (group.pids / "pids.max").write_text(most)
        except (OSError, KeyError, ValueError):
            for folder in set(folders):
                with contextlib.suppress(OSError):
                    folder.rmdir()
            return None
        return group

    def _cap_memory(self, total: int) -> None:
        """Set the memory cap to `total` bytes, swap included. Raises OSError."""
        files = ["memory.max"] if self.unified else ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
        cap = self.memory / files[0]
        if not self.unified and cap.exists() and int(cap.read_text()) < total:
            files.reverse()  # the cap that includes swap may never be the lower one
        for name in files:
            if (self.memory / name).exists() or name == files[0]:
                (self.memory / name).write_text(str(total))
        swap = self.memory / "memory.swap.max"
        if self.unified and swap.exists():
            swap.write_text("0")

    def raise_memory(self, more: int) -> None:
        """Raise the memory cap by `more` bytes. Raises OSError."""
        now = self.memory / ("memory.max" if self.unified else "memory.limit_in_bytes")
        self._cap_memory(int(now.read_text()) + more)

    def add(self, pid: int) -> None:
        """Move a process in; its future children are born there. Raises OSError."""
        for folder in self._folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def cpu_seconds(self) -> float:
        """CPU time of all processes that ever were in the group. Raises OSError."""
        if self.unified:
            return entry(self.cpu / "cpu.stat", "usage_usec") / 1e6
        return int((self.cpu / "cpuacct.usage").read_text()) / 1e9

    def memory_bytes(self) -> int:
        """Memory charged now, files included, but not the cache of files on disk. Raises OSError."""
        return _sum(self.memory / "memory.stat", ("anon", "shmem") if self.unified else ("total_rss", "total_shmem"))

    def peak_bytes(self) -> int:
        """Largest charge ever, 0 where the kernel does not keep it."""
        return _number(self.memory / ("memory.peak" if self.unified else "memory.max_usage_in_bytes"))

    def kills(self) -> tuple[int, int]:
        """How many processes the kernel has killed because this group met its own memory cap, and how many although it never did.

        Then a group above, or the machine, had no memory left.
        """
        # read first: what was killed since may have met the cap since
        kills = entry(self.memory / ("memory.events" if self.unified else "memory.oom_control"), "oom_kill")
        return (kills, 0) if self._met_its_cap() else (0, kills)

    def _met_its_cap(self) -> bool:
        """Version 2 counts it at the group whose cap it was (`oom`; this group has none below); of version 1 the peak tells."""
        if self.unified:
            return entry(self.memory / "memory.events", "oom") > 0
        return self.peak_bytes() > _number(self.memory / "memory.limit_in_bytes") - _CLOSE

    def refused_forks(self) -> int:
        """How often a new process or thread was refused."""
        return entry(self.pids / "pids.events", "max")

    def remove(self) -> None:
        """Remove the group once its processes have ended; they may take a moment to be accounted as gone."""
        for folder in self._folders:
            for _attempt in range(100):
                with contextlib.suppress(OSError):
                    folder.rmdir()
                if not folder.exists():
                    break
                time.sleep(0.02)


def allowance(root: Path = _ROOT, own: str | None = None) -> tuple[float, float]:
    """Cores and bytes of memory that the control groups of this process leave it; infinite where nothing limits them.

    A container or a batch job often has less than its machine. Every group above counts, too.
    Formats: cpu.max, memory.max and memory.stat of version 2; cpu.cfs_quota_us, memory.limit_in_bytes and memory.stat of version 1.
    """
    try:
        paths = _own_paths(own)
    except (OSError, ValueError):
        return math.inf, math.inf
    if (root / "cgroup.controllers").exists():
        both = _upwards(root, paths.get("", "/"))
        return min(map(_cores, both)), min(_left(group, "memory.max", ("anon", "shmem")) for group in both)
    cpu, memory = (_upwards(root / name, paths.get(name, "/")) for name in ("cpu", "memory"))
    in_use = ("total_rss", "total_shmem")
    return min(map(_cores, cpu)), min(_left(group, "memory.limit_in_bytes", in_use) for group in memory)


def cores() -> int:
    """Whole cores this process may use, at least one: those it may run on, as far as its control groups go."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(there, allowance()[0])))


def _upwards(root: Path, path: str) -> list[Path]:
    """A group and all those above it, up to `root`."""
    group = root / path.strip("/")
    return [group, *(above for above in group.parents if above.is_relative_to(root))]


def _cores(group: Path) -> float:
    """Cores whose time a group may use."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (group / "cpu.max").read_text().split()
        return int(quota) / int(period) if quota != "max" else math.inf
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        limit, per = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return limit / per if limit > 0 else math.inf
    return math.inf


def _left(group: Path, limit: str, in_use: tuple[str, str]) -> float:
    """Bytes that a group may still take; its cache of files makes room by itself."""
    with contextlib.suppress(OSError, ValueError):
        return max(0, int((group / limit).read_text()) - _sum(group / "memory.stat", in_use))
    return math.inf


def _number(path: Path) -> int:
    """The number that a file holds; 0 where there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def entry(path: Path, key: str) -> int:
    """The number beside `key` in a flat-keyed file; 0 when it is not there."""
    return _sum(path, (key,))


def _sum(path: Path, keys: tuple[str, ...]) -> int:
    """Sum of the numbers beside `keys` in a flat-keyed file; 0 for what is not there."""
    try:
        rows = (line.partition(" ") for line in path.read_text().splitlines())
        return sum(int(value) for name, _space, value in rows if name in keys)
    except (OSError, ValueError):
        return 0
