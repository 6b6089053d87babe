"""How far a class is, on standard error: a line per running submission with its stage, and when all will be done. Trusted.

Without a terminal there is one plain line per finished submission.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta

from rich.console import Console
from rich.progress import Progress, TaskID, TextColumn, TimeElapsedColumn

from grader.reports.sanitize import line
from grader.runs.batch import Event

__all__ = ["ClassProgress"]

_SHOWN = 16
_SPEED_SECONDS = 3600
"""Submissions that finished this many seconds ago or later tell when all will be done."""


class ClassProgress:
    """Follows the events of a batch; a context manager while it shows them."""

    def __init__(self, total: int, console: Console) -> None:
        """`total` submissions, shown on `console`."""
        columns = (
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[stage]}", markup=False),
            TimeElapsedColumn(),
        )
        self._progress = Progress(
            *columns,
            console=console,
            transient=True,
            disable=not console.is_terminal,
            speed_estimate_period=_SPEED_SECONDS,
        )
        self._class = self._progress.add_task(f"0 of {total} done", total=total, stage="")
        self._running: dict[str, TaskID] = {}

    def __enter__(self) -> ClassProgress:
        """Begin to show; lines that draw themselves anew only on a terminal."""
        self._progress.start()
        self._progress.advance(self._class, 0)  # what is measured begins here
        return self

    def __exit__(self, *_error: object) -> None:
        """Take the lines away."""
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Take in an event of the batch."""
        name = line(event.submission.display_name, 40)
        if event.kind == "stage":
            with contextlib.suppress(KeyError):  # it comes from another thread, perhaps too late
                self._progress.update(self._running[event.submission.id], stage=line(event.detail, 40))
            return
        if (task := self._running.pop(event.submission.id, None)) is not None:
            self._progress.remove_task(task)
        if event.kind == "started":
            shown = len(self._running) < _SHOWN
            task = self._progress.add_task(f"  {name}", total=None, stage="starting", visible=shown)
            self._running[event.submission.id] = task
        else:
            self._finished(event, name)

    def _finished(self, event: Event, name: str) -> None:
        """Count a submission, and say what became of it."""
        for waiting in list(self._running.values())[:_SHOWN]:
            self._progress.update(waiting, visible=True)
        self._progress.advance(self._class)
        known = self._progress.tasks[0]
        count = f"{known.completed:.0f} of {known.total:.0f}"
        left = f"{timedelta(seconds=known.time_remaining)} left" if known.time_remaining else ""
        self._progress.update(self._class, description=f"{count} done", stage=left)
        console = self._progress.console
        if event.kind == "fault":
            console.print(f"{name}: {line(event.detail, 300)}", style="red", markup=False, soft_wrap=True)
        elif self._progress.disable:
            parts = (f"{count}: {name}, {event.seconds:.1f} s", left)
            console.print("; ".join(filter(None, parts)), markup=False, soft_wrap=True)

    def stopping(self) -> None:
        """Say what the first Ctrl-C does."""
        self._progress.console.print("finishing what runs; press Ctrl-C again to stop now", style="yellow")
