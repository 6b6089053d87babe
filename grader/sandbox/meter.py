"""What a running submission uses: read from its control group where it has one, else summed over its processes.

Trusted; reads /proc, whose contents a submission can influence only by really using something. Without a control group, CPU time
of children that nobody waits for and that end between two samples is missed: then the wall clock is the net.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from weakref import WeakSet

import psutil

from grader.sandbox.bubblewrap import Box, statistics
from grader.sandbox.cgroup import ControlGroup, allowance, entry
from grader.sandbox.waiting import WaitMeter

__all__ = ["BoxMeter", "Meter", "Sample", "TreeMeter", "anonymous_bytes", "first_to_be_killed", "machine_kills", "tree"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading."""

    cpu_seconds: float = 0.0
    """CPU seconds so far, of all processes."""
    memory_bytes: int = 0
    """Memory in use, files in memory not included."""
    peak_bytes: int = 0
    """Largest memory until now, files included where a box holds them."""
    disk_bytes: int = 0
    """Bytes of files in the folders of the box."""
    files: int = 0
    """Files there."""
    tasks: int = 0
    """Processes and threads alive; 0 where the control group counts them."""
    killed_for_memory: int = 0
    """Processes the kernel ended because the submission's own memory cap was hit."""
    killed_from_outside: int = 0
    """Processes that ended, or have to, because the machine, or a group above, has no memory left."""
    refused_forks: int = 0
    """Processes or threads refused by the cap on their number."""
    waited_seconds: float = 0.0
    """Seconds that its threads waited for the machine so far, at each time the longest: ready to run without a processor, or for a disk."""


_DOWNLOAD_RATE = 32 << 10
"""Bytes a second: more than machines whisper to each other."""
_FREE_SOCKETS = 64
"""Sockets whose buffers are not counted: those of the kernel itself are fewer."""
_LEAST_LEFT = 128 << 20
_LEAST_SHARE_LEFT = 0.02
"""Of the machine's memory, where that is more than _LEAST_LEFT: with less, kernels without a control group are ended."""

_adding = threading.Lock()


def machine_kills() -> int:
    """How many processes the whole machine's kernel has killed for memory since it started, whoever's limit it was."""
    return entry(Path("/proc/vmstat"), "oom_kill")


def _is_short() -> bool:
    """Whether the machine, or the container this process is in, has next to no memory left: what the kernel itself uses counts."""
    try:
        total, available = _sizes(Path("/proc/meminfo"), "MemTotal:", "MemAvailable:")
    except (OSError, ValueError):
        return False
    return min(available, allowance()[1]) < max(_LEAST_LEFT, _LEAST_SHARE_LEFT * total)


def first_to_be_killed(process: Path) -> None:
    """Let a process be the first that ends when memory is short; it may have taken that back."""
    with contextlib.suppress(OSError):
        (process / "oom_score_adj").write_text("1000")


def _stat(folder: Path) -> tuple[str, float, float, int]:
    """Start time (an identity together with the process id), own CPU seconds, those of children waited for, threads."""
    fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
    tick = os.sysconf("SC_CLK_TCK")
    numbers = [int(field) for field in fields[11:20]]
    return fields[19], (numbers[0] + numbers[1]) / tick, (numbers[2] + numbers[3]) / tick, numbers[6]


def _sizes(file: Path, *keys: str) -> list[int]:
    """Bytes beside each key of a file of /proc; 0 for a key that is not there."""
    found = dict.fromkeys(keys, 0)
    for line in file.read_text().splitlines():
        words = line.split()
        if words and words[0] in found:
            found[words[0]] = int(words[1]) * 1024
    return list(found.values())


@functools.cache
def _number(name: str, column: int = 0) -> int:
    """A number of the system's network settings. Raises OSError, ValueError, IndexError."""
    return int(Path("/proc/sys/net", name).read_text().split()[column])


def anonymous_bytes(pid: int) -> int:
    """Memory of a process that belongs to no file; 0 when it is gone."""
    try:
        return _sizes(Path(f"/proc/{pid}/status"), "RssAnon:")[0]
    except (OSError, ValueError):
        return 0


@dataclass(slots=True, weakref_slot=True, eq=False)
class BoxMeter:
    """Readings of a bubblewrap box."""

    box: Box
    """The box."""
    group: ControlGroup | None
    """Its control group, where there is one."""
    ceiling: int
    """Bytes below which a rough, cheap upper bound of the memory is exact enough."""
    shared: int = 0
    """Bytes that a warm kernel shares with the zygote at its start, and that are not the submission's."""
    imported: int = 0
    """Bytes that a cold kernel had in use before the first cell, and that are not the submission's either."""
    _own: dict[tuple[str, str], float] = field(default_factory=dict)
    _cpu: float = 0.0
    _peak: int = 0
    _waits: WaitMeter = field(init=False)
    _beside: ClassVar[WeakSet[BoxMeter]] = WeakSet()
    """All boxes without a control group whose memory this process watches."""
    _held: int = 0

    def __post_init__(self) -> None:
        """Know where the box has its devices."""
        if self.group is None:
            with _adding:
                self._beside.add(self)
        self._waits = WaitMeter(self.box.inside)

    @property
    def pause(self) -> float:
        """Seconds between two readings: long where a control group caps memory and processes, since a reading costs a millisecond."""
        return 0.5 if self.group else 0.1

    def _folders(self) -> list[Path]:
        """The process folders of the box's own /proc: exactly its processes."""
        root = self.box.inside / "proc"
        try:
            return [folder for folder in root.iterdir() if folder.name.isdigit()]
        except OSError:
            return []

    def begin(self) -> None:
        """Call before the first cell: from now on what a cold kernel has imported is not counted. A warm one's never is."""
        if self.shared:
            return
        self.imported = self.sample().memory_bytes
        if self.group:
            with contextlib.suppress(OSError):
                self.group.raise_memory(self.imported)

    def sample(self) -> Sample:
        """A fresh reading."""
        disk = files = killed = outside = refused = tasks = 0
        with contextlib.suppress(OSError):
            disk, files = statistics(self.box)
        folders = self._folders()
        if self.group:
            with contextlib.suppress(OSError):
                self._cpu = max(self._cpu, self.group.cpu_seconds())
            memory = max(0, self.group.memory_bytes() - disk)
            killed, outside = self.group.kills()
            refused = self.group.refused_forks()
        else:
            memory = self._sum_memory(folders) + self._socket_buffers()
            self._held = (memory + disk) * bool(folders)
            outside = int(self._held > 0 and _is_short() and self._is_largest())
            cpu, tasks = self._sum_processes(folders)
            self._cpu = max(self._cpu, cpu)
        memory = max(0, memory - self.imported)
        self._peak = max(self._peak, memory + disk, self.group.peak_bytes() if self.group else 0)
        waited = self._waits.add(folders)
        return Sample(self._cpu, memory, self._peak, disk, files, tasks, killed, outside, refused, waited)

    def _is_largest(self) -> bool:
        """Whether no box beside this one holds more; of what cannot be counted nobody knows whose it is."""
        with _adding:
            beside = list(self._beside)
        return self._held >= max(meter._held for meter in beside if meter is self or meter._folders())

    def _socket_buffers(self) -> int:
        """Bytes that the sockets of the box may hold, sent along or not: the kernel's own memory, which no process shows."""
        try:
            with Path(f"/proc/{self.box.init}/net/sockstat").open() as lines:
                used = {words[0]: words[1:] for words in map(str.split, lines)}
            sockets, tcp = int(used["sockets:"][1]), used["TCP:"]
            page, buffers = os.sysconf("SC_PAGE_SIZE"), sum(_number(f"core/{way}mem_default") for way in "wr")
            most = sum(_number(f"ipv4/tcp_{way}mem", 2) for way in "wr")
            # what is held by TCP is known of the whole machine only, and of the box how many sockets it has
            streams = min(int(tcp[1]) * most, int(tcp[-1]) * page)
        except (OSError, ValueError, LookupError):
            return 0
        return max(0, sockets - _FREE_SOCKETS) * buffers + streams

    def _sum_processes(self, folders: list[Path]) -> tuple[float, int]:
        """CPU seconds and number of tasks."""
        alive, tasks = 0.0, 0
        for folder in folders:
            with contextlib.suppress(OSError, ValueError, IndexError):
                first_to_be_killed(folder)
                start, own, children, threads = _stat(folder)
                self._own[folder.name, start] = own
                alive += own + children
                tasks += threads
        # two lower bounds of the time: every process ever seen, and those alive with the children they waited for
        return max(sum(self._own.values()), alive), tasks

    def _sum_memory(self, folders: list[Path]) -> int:
        """Memory of the processes; where the zygote's pages are in doubt, in favour of the submission."""
        rough = tables = 0
        for folder in folders:
            with contextlib.suppress(OSError, ValueError):
                *counted, table = _sizes(folder / "status", "RssAnon:", "RssShmem:", "VmPTE:")
                rough, tables = rough + sum(counted), tables + table
        rough += tables
        if rough < self.ceiling + self.imported:
            return max(0, rough - self.shared)
        private = proportional = 0
        for folder in folders:
            with contextlib.suppress(OSError, ValueError):
                own, anonymous, shared = _sizes(folder / "smaps_rollup", "Private_Dirty:", "Pss_Anon:", "Pss_Shmem:")
                private += own
                proportional += anonymous + shared
        return max(private, proportional - self.shared) + tables


@dataclass(slots=True)
class TreeMeter:
    """Readings of a plain subprocess and its descendants, on any system."""

    pid: int
    """The kernel's process id."""
    _own: dict[tuple[int, float], float] = field(default_factory=dict)
    _peak: int = 0
    _waits: WaitMeter = field(default_factory=lambda: WaitMeter(Path("/")))
    _received: tuple[float, int] = (0.0, 0)

    @property
    def pause(self) -> float:
        """Seconds between two readings. Short: nobody else holds a limit."""
        return 0.1

    def begin(self) -> None:
        """Nothing to do: mode `none` imports nothing before the first cell."""

    def sample(self) -> Sample:
        """A fresh reading; what lies in the work folder is not counted, mode `none` limits no files."""
        memory = count = 0
        processes = tree(self.pid)
        for process in processes:
            with contextlib.suppress(psutil.Error):
                times, key = process.cpu_times(), (process.pid, process.create_time())
                if key in self._own or process.pid == self.pid:
                    # not at first sight: a child that has not started its own program yet shows its parent's memory
                    memory += process.memory_info().rss
                self._own[key] = times.user + times.system
                count += 1
        self._peak = max(self._peak, memory)
        waited = self._waits.add([Path(f"/proc/{p.pid}") for p in processes], busy_elsewhere=self._downloads())
        return Sample(sum(self._own.values()), memory, self._peak, tasks=count, waited_seconds=waited)

    def _downloads(self) -> bool:
        """Whether the machine has received much since the last reading, perhaps for this program: nothing keeps it from the network."""
        with contextlib.suppress(OSError, RuntimeError):
            (then, before), self._received = self._received, (time.monotonic(), psutil.net_io_counters().bytes_recv)
            return then > 0 and self._received[1] - before > _DOWNLOAD_RATE * (self._received[0] - then)
        return False


Meter = BoxMeter | TreeMeter
"""How a session learns what its submission uses."""


def tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants, as far as they can be told."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []
