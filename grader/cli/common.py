"""What several commands share: building limits, consoles, progress bars, closing messages."""

from __future__ import annotations

from collections.abc import Sequence

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

from grader.records import Report
from grader.reports import class_table
from grader.reports.sanitize import line
from grader.runs.directory import RunDirectory
from grader.sandbox.cgroup import allowance, cores
from grader.sandbox.contract import Limits

__all__ = ["bar", "console", "finish", "limits_of", "machine", "stderr"]

console = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


def limits_of(cpu_seconds: float, memory_gib: float) -> Limits:
    """Limits from the command line; the wall net is eight times the CPU time."""
    memory = int(memory_gib * (1 << 30))
    return Limits(cpu_seconds=cpu_seconds, wall_seconds=8 * cpu_seconds + 600, memory_bytes=memory)


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


def finish(directory: RunDirectory, reports: Sequence[Report], messages: Sequence[str]) -> int:
    """Print the class's table and where everything is; returns the exit code."""
    console.print(class_table(reports))
    for sentence in messages:
        console.print(line(sentence), style="yellow", markup=False)
    review = [report for report in reports if report.score.total is None]
    failed = [
        report for report in review if report.execution is not None and report.execution.outcome == "sandbox_failed"
    ]
    if failed:
        console.print(f"[bold]{len(failed)} could not be run because of the grader or its machine.[/bold]")
        console.print("Run the same command again to try them once more.")
    if review:
        console.print(f"[bold]{len(review)} need review:[/bold] {directory.root / 'needs_review.csv'}")
    console.print(f"Class report: {directory.root / 'class.html'}", soft_wrap=True)
    return 4 if failed else 3 if review else 0
