"""The class's page while the class is graded: there from the start, growing with every submission that ends. Trusted.

It is for looking only. Whatever goes wrong with it is passed over: at the end the reports are written anew, and say what is wrong.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from types import TracebackType

from grader.errors import GraderError, StoreError
from grader.records import Report, Submission
from grader.runs.batch import Event
from grader.runs.directory import RunDirectory
from grader.runs.publish import Judge, write_class_page

__all__ = ["LivePage"]

_SECONDS = 10.0
"""Seconds between two versions of the page, at least: writing that of a large class takes a while."""


class LivePage:
    """Takes in the events of a batch, and shows what has ended; a context manager while the batch runs."""

    def __init__(self, run: RunDirectory, done: Sequence[Submission], total: int) -> None:
        """`done` are submissions that need not be run, of `total` in the class."""
        self.run, self.done, self.total, self.written = run, done, total, 0.0
        self.reports: dict[str, Report] = {}
        self.judge: Judge | None = None

    def __enter__(self) -> LivePage:
        """Write the page for the first time."""
        with contextlib.suppress(GraderError, OSError):
            self.judge = Judge(self.run, frozenset({"html", "json"}))
            for submission in self.done:
                try:
                    self.reports[submission.id] = self.run.read(f"submissions/{submission.id}/report.json", Report)
                except StoreError:
                    self.reports[submission.id] = self.judge(submission)
            self._write(reload=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the page from reloading where the batch was stopped; else it is written anew anyway."""
        if kind is not None:
            with contextlib.suppress(GraderError, OSError):
                self._write(reload=False)

    def __call__(self, event: Event) -> None:
        """Judge what has ended, and write the page when the last version is some seconds old."""
        if event.kind not in ("finished", "fault") or self.judge is None:
            return
        with contextlib.suppress(GraderError, OSError):
            self.reports[event.submission.id] = self.judge(event.submission)
            if time.monotonic() - self.written >= _SECONDS:
                self._write(reload=True)

    def _write(self, *, reload: bool) -> None:
        state = "" if reload else " when grading was stopped"
        progress = f"{len(self.reports)} of {self.total} have been graded{state}."
        write_class_page(self.run, tuple(self.reports.values()), progress, reload=reload)
        self.written = time.monotonic()
