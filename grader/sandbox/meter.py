"""What a running submission uses: read from its control group where it has one, else summed over its processes.

Trusted; reads /proc, whose contents a submission can influence only by really using something. Without a control group, CPU time
of children that nobody waits for and that end between two samples is missed: then the wall clock is the net.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from grader.sandbox.bubblewrap import Box, statistics
from grader.sandbox.cgroup import ControlGroup

__all__ = ["BoxMeter", "Meter", "Sample", "TreeMeter"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading."""

    cpu_seconds: float = 0.0
    """CPU seconds so far, of all processes."""
    memory_bytes: int = 0
    """Memory in use, files in memory not included."""
    disk_bytes: int = 0
    """Bytes of files in the folders of the box."""
    files: int = 0
    """Files there."""
    processes: int = 0
    """Processes alive."""
    killed_for_memory: int = 0
    """Processes the kernel ended because the memory cap was hit."""
    refused_forks: int = 0
    """Processes or threads refused by the cap on their number."""


class Meter(Protocol):
    """How a session learns what its submission uses."""

    def sample(self) -> Sample:
        """A fresh reading; what is gone counts with what it had used."""

    def peak_bytes(self) -> int:
        """Largest memory seen."""


def _stat(folder: Path) -> tuple[str, float, float]:
    """Start time (an identity together with the process id), own CPU seconds, and those of children waited for."""
    fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
    tick = os.sysconf("SC_CLK_TCK")
    return fields[19], (int(fields[11]) + int(fields[12])) / tick, (int(fields[13]) + int(fields[14])) / tick


def _resident(folder: Path) -> int:
    """Anonymous and shared resident bytes; pages shared with the zygote count fully, so this is an upper bound."""
    total = 0
    for line in (folder / "status").read_text().splitlines():
        if line.startswith(("RssAnon:", "RssShmem:")):
            total += int(line.split()[1]) * 1024
    return total


def _proportional(folder: Path) -> int:
    """Bytes of anonymous and shared memory with shared pages divided among those that share them."""
    total = 0
    for line in (folder / "smaps_rollup").read_text().splitlines():
        if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
            total += int(line.split()[1]) * 1024
    return total


@dataclass(slots=True)
class BoxMeter:
    """Readings of a bubblewrap box."""

    box: Box
    """The box."""
    group: ControlGroup | None
    """Its control group, where there is one."""
    ceiling: int
    """Bytes below which a rough, cheap upper bound of the memory is exact enough."""
    _own: dict[tuple[str, str], float] = field(default_factory=dict)
    _cpu: float = 0.0
    _peak: int = 0

    def _folders(self) -> list[Path]:
        """The process folders of the box's own /proc: exactly its processes."""
        root = self.box.inside / "proc"
        try:
            return [root / name for name in os.listdir(root) if name.isdigit()]
        except OSError:
            return []

    def sample(self) -> Sample:
        """A fresh reading."""
        folders = self._folders()
        memory = 0 if self.group else self._sum_memory(folders)
        disk = files = 0
        with contextlib.suppress(OSError):
            disk, files = statistics(self.box)
        if self.group:
            with contextlib.suppress(OSError):
                self._cpu = max(self._cpu, self.group.cpu_seconds())
            memory = max(0, self.group.memory_bytes() - disk)
        else:
            self._cpu = max(self._cpu, self._sum_cpu(folders))
        self._peak = max(self._peak, memory + disk)
        return Sample(
            cpu_seconds=self._cpu,
            memory_bytes=memory,
            disk_bytes=disk,
            files=files,
            processes=len(folders),
            killed_for_memory=self.group.out_of_memory() if self.group else 0,
            refused_forks=self.group.refused_forks() if self.group else 0,
        )

    def _sum_cpu(self, folders: list[Path]) -> float:
        alive = 0.0
        for folder in folders:
            with contextlib.suppress(OSError, ValueError, IndexError):
                start, own, children = _stat(folder)
                self._own[folder.name, start] = own
                alive += own + children
        # two lower bounds: every process ever seen, and those alive with the children they waited for
        return max(sum(self._own.values()), alive)

    def _sum_memory(self, folders: list[Path]) -> int:
        total = 0
        for read in (_resident, _proportional):
            total = 0
            for folder in folders:
                with contextlib.suppress(OSError, ValueError):
                    total += read(folder)
            if total < self.ceiling:
                break
        return total

    def peak_bytes(self) -> int:
        """Largest memory seen, files included."""
        return max(self._peak, self.group.peak_bytes() if self.group else 0)


@dataclass(slots=True)
class TreeMeter:
    """Readings of a plain subprocess and its descendants, on any system."""

    pid: int
    """The kernel's process id."""
    folder: Path
    """The work folder."""
    _own: dict[tuple[int, float], float] = field(default_factory=dict)
    _peak: int = 0

    def sample(self) -> Sample:
        """A fresh reading; what lies in the work folder is not counted, mode `none` limits no files."""
        memory = count = 0
        for process in tree(self.pid):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                self._own[process.pid, process.create_time()] = times.user + times.system
                memory += process.memory_info().rss
                count += 1
        self._peak = max(self._peak, memory)
        return Sample(cpu_seconds=sum(self._own.values()), memory_bytes=memory, processes=count)

    def peak_bytes(self) -> int:
        """Largest memory seen, processes only."""
        return self._peak


def tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants, as far as they can be told."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []
