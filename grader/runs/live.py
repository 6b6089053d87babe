"""The class's page while the class is graded: there from the start, growing with every submission that ends. Trusted.

What has ended is judged here, once, and its own pages are written. The class's page is for looking only: whatever goes wrong with it is
passed over, since it is written anew at the end, which says what is wrong.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from grader.errors import GraderError
from grader.records import Report, Submission
from grader.runs.batch import Event
from grader.runs.directory import RunDirectory
from grader.runs.publish import USUAL, Judge, write_class_page

__all__ = ["LivePage"]

_SECONDS = 10.0
"""Seconds between two versions of the page, at least: writing that of a large class takes a while."""


class LivePage:
    """Takes in the events of a batch, and shows what has ended; a context manager while the batch runs."""

    def __init__(self, run: RunDirectory, done: Sequence[Submission], total: int) -> None:
        """`done` are submissions that need not be run, of `total` in the class. Raises GraderError when the run cannot be read."""
        self.run, self.total, self.written = run, total, 0.0
        self.judge = Judge(run, USUAL)
        self.judged: dict[str, Report] = {}
        """What was judged here, by id."""
        self.before = {one.id: report for one in done if (report := run.report(one.id)) is not None}
        for submission in done:
            if submission.id not in self.before:
                self._judge(submission)

    def __enter__(self) -> LivePage:
        """Write the page for the first time."""
        self._write(reload=True)
        return self

    def __exit__(self, kind: object, *_error: object) -> None:
        """Stop the page from reloading where the batch was stopped; else it is written anew anyway."""
        if kind is not None:
            self._write(reload=False)

    def __call__(self, event: Event) -> None:
        """Judge what has ended, and write the page when the last version is some seconds old."""
        if event.kind in ("finished", "fault"):
            self._judge(event.submission)
            if time.monotonic() - self.written >= _SECONDS:
                self._write(reload=True)

    def _judge(self, submission: Submission) -> None:
        with contextlib.suppress(GraderError, OSError):
            self.judged[submission.id] = self.judge(submission)

    def _write(self, *, reload: bool) -> None:
        reports = (*self.before.values(), *self.judged.values())
        state = "" if reload else " when grading was stopped"
        progress = f"{len(reports)} of {self.total} have been graded{state}."
        with contextlib.suppress(GraderError, OSError):
            write_class_page(self.run, reports, progress, reload=reload)
        self.written = time.monotonic()
