"""What several commands share: building limits, consoles, progress, closing messages."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence

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

from grader.errors import UsageError
from grader.grading.settings import Settings
from grader.records import Outcome, Report
from grader.reports import class_table
from grader.reports.sanitize import line
from grader.reports.view import about_machines
from grader.runs.directory import RunDirectory
from grader.runs.gradebook import GRADEBOOK, PREVIEW
from grader.runs.publish import FEEDBACK, Published
from grader.sandbox.cgroup import allowance, cores
from grader.sandbox.contract import Limits

__all__ = ["console", "exit_code", "finish", "limits_of", "machine", "say", "stderr", "working"]

_EMPTY_ZIP = 22
"""Bytes of an archive with nothing in it."""

console = Console(highlight=False, markup=False, emoji=False)
"""Standard output. `[x]` and `:x:`, e.g. in the name of a file, are shown as they are."""
stderr = Console(stderr=True, highlight=False, markup=False, emoji=False)


def say(text: str, style: str = "") -> None:
    """Print a line on standard output, unbroken however long it is, so that a path in it can be copied."""
    console.print(text, style=style, soft_wrap=True)


def limits_of(settings: Settings) -> Limits:
    """What settings tell, else 900 CPU seconds, 6 GiB, and as a wall net eight times the CPU time and ten minutes. Raises UsageError."""
    told = settings.limits
    cpu_seconds = told.get("cpu_seconds", 900.0)
    wall_seconds = told.get("wall_seconds", 8 * cpu_seconds + 600)
    if wall_seconds < cpu_seconds:
        raise UsageError(
            f"--wall-seconds ({wall_seconds:g}) is a net above --cpu-seconds ({cpu_seconds:g}) and cannot be smaller: give both"
        )
    return Limits(cpu_seconds, wall_seconds, memory_bytes=int(told.get("memory_gib", 6.0) * (1 << 30)))


def machine() -> tuple[int, int]:
    """Whole cores this process may use, at least one, and bytes of memory available to it now: a container's, a job's or the machine's."""
    return cores(), int(min(psutil.virtual_memory().available, allowance()[1]))


@contextlib.contextmanager
def working(what: str, total: int | None = None, *, counted: bool = False) -> Iterator[Callable[..., None]]:
    """Show on standard error what is going on, and, of a `total` or where it is `counted`, how far and how long still.

    Gives what tells of progress: `Progress.update` of this one task.
    """
    columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=30)]
    if counted or total is not None:
        columns += [MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("ETA"), TimeRemainingColumn()]
    else:
        columns += [TimeElapsedColumn()]
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        yield functools.partial(progress.update, progress.add_task(what, total=total))


def finish(directory: RunDirectory, published: Published, *, table: bool = True) -> int:
    """Print the class's table, unless it is not wanted, and where everything is; returns the exit code."""
    reports = published.reports
    if table:
        console.print(class_table(reports))
    for message in published.messages:
        say(line(message), "yellow")
    for notice in about_machines(reports):
        say(line(notice.text), "yellow")
    if failed := len(_lost(reports)):
        say(f"{failed} could not be run because of the grader or its machine.", "bold")
        say("Run `grader grade` on the same folder again to try them once more.")
    if undecided := sum(bool(report.submission.problem) and report.score.total is None for report in reports):
        say(f"{undecided} handed in no notebook that can be read: no score until you decide.", "bold")
        say("Look at them and use `grader override`, or give all of them 0 with `grader grade ... --no-notebook 0`.")
    if review := sum(report.score.total is None for report in reports):
        say(f"{review} need review: {directory.root / 'needs_review.csv'}", "bold")
    if (directory.root / GRADEBOOK).is_file():
        say(f"To import in Canvas: {directory.root / GRADEBOOK}; what that changes: {directory.root / PREVIEW}")
    feedback = directory.root / FEEDBACK
    if feedback.is_file() and feedback.stat().st_size > _EMPTY_ZIP:
        say(f"To send back with Upload Submissions: {feedback}")
    say(f"Class report: {directory.root / 'class.html'}")
    return exit_code(reports) if published.complete else 2


def exit_code(reports: Sequence[Report]) -> int:
    """4 when the sandbox failed for a submission, 3 when one needs review, else 0."""
    if _lost(reports):
        return 4
    return 3 if any(report.score.total is None for report in reports) else 0


def _lost(reports: Sequence[Report]) -> list[Report]:
    """Reports of submissions without a score for which the sandbox failed."""
    review = [report for report in reports if report.score.total is None]
    return [report for report in review if report.execution and report.execution.outcome is Outcome.SANDBOX_FAILED]
