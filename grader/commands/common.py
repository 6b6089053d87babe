"""What several commands share: building limits, consoles, progress bars."""

from __future__ import annotations

import argparse

import psutil
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from grader.sandbox.cgroup import allowance, cores
from grader.sandbox.contract import Limits

__all__ = ["bar", "console", "limits_of", "machine", "stderr"]

console = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


def limits_of(options: argparse.Namespace) -> Limits:
    """Limits from the command line; the wall net is eight times the CPU time."""
    cpu = float(options.cpu_seconds)
    return Limits(cpu_seconds=cpu, wall_seconds=8 * cpu + 600, memory_bytes=int(options.memory_gib * (1 << 30)))


def machine() -> tuple[int, int]:
    """Whole cores this process may use, at least one, and bytes of memory available to it now: a container's, a job's or the machine's."""
    return cores(), int(min(psutil.virtual_memory().available, allowance()[1]))


def bar(*, unit: bool = True) -> Progress:
    """Progress on standard error: what is going on, how far, how long still."""
    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30)]
    if unit:
        columns += [MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("ETA"), TimeRemainingColumn()]
    else:
        columns += [TimeElapsedColumn()]
    return Progress(*columns, console=stderr, transient=True)
