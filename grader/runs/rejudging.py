"""Judging what a run holds: the same reports every time, from stored evidence, and no kernel is started.

A large class is judged by some processes beside each other, which also write the pages; what they say comes back in order.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from grader.errors import StoreError
from grader.grading.context import RunContext
from grader.grading.report import report_for
from grader.records import (
    Attempt,
    Evidence,
    Execution,
    Notebook,
    Observation,
    Outcome,
    Report,
    Submission,
    SubmissionRun,
    Usage,
)
from grader.runs.directory import Done, RunDirectory, load_context
from grader.sandbox.cgroup import cores

__all__ = ["judge_each", "processes_for", "rejudge", "stored_result"]

_WORTH = 40
"""So many submissions are judged in the time that a further process takes to start (about two seconds)."""
_MOST = 8
_AHEAD = 4
"""Reports of each process that may wait to be published; they are held in memory."""


def processes_for(count: int) -> int:
    """How many processes judge `count` submissions; one means that none is started."""
    return max(1, min(cores(), _MOST, count // _WORTH))


def stored_result(run: RunDirectory, submission: Submission, done: Done) -> SubmissionRun:
    """Read what running a submission brought, `done` being its mark. Raises StoreError when its files are damaged."""
    base = f"submissions/{submission.id}"
    parts = run.read(f"{base}/notebook.json", Notebook), run.read(f"{base}/execution.json", Execution)
    evidence = run.read(f"{base}/evidence.json", Evidence)
    return SubmissionRun(*parts, evidence, done.fault)


@dataclass(frozen=True)
class _Court:
    """What a run's evidence is judged by."""

    run: RunDirectory
    """The run."""
    context: RunContext
    """Its assignment and bundle."""
    settled: Mapping[str, dict[str, tuple[int, str]]]
    """What was settled by hand: points and reason by criterion, by submission."""
    then: Callable[[Report], Report]
    """What is done to each report."""

    @classmethod
    def of(cls, run: RunDirectory, then: Callable[[Report], Report]) -> _Court:
        return cls(run, load_context(run.info(), run.secret()), run.all_overrides(), then)

    def report(self, submission: Submission) -> Report:
        """Judge a submission and do to its report what is to be done."""
        return self.then(self._judge(submission))

    def _judge(self, submission: Submission) -> Report:
        """The report of a submission. One whose files are damaged is forgotten, so that it is run again."""
        overrides = self.settled.get(submission.id, {})
        if submission.problem is not None or not submission.path:
            return report_for(self.context, submission, None, overrides)
        done = self.run.done(submission.id)
        if done is None:
            why = "it has not been run yet; run `grader grade` on the same folder again"
            return self._not_run(submission, why, overrides)
        try:
            return report_for(self.context, submission, stored_result(self.run, submission, done), overrides)
        except StoreError as error:
            self.run.forget(submission.id)
            why = done.fault or f"{error}; run `grader grade` on the same folder again"
            return self._not_run(submission, why, overrides)

    def _not_run(self, submission: Submission, why: str, overrides: dict[str, tuple[int, str]]) -> Report:
        execution = Execution(Outcome.SANDBOX_FAILED, (), Usage(), "none", {}, "")
        lost = {name: Observation(Attempt.FAULT, error=why) for name in self.context.assignment.questions}
        evidence = Evidence(self.context.seed(submission), lost)
        return report_for(self.context, submission, SubmissionRun(Notebook((), 0), execution, evidence, why), overrides)


def _as_it_is(report: Report) -> Report:
    return report


def judge_each(
    run: RunDirectory,
    kept: Mapping[str, Report] | None = None,
    processes: int | None = None,
    then: Callable[[Report], Report] = _as_it_is,
) -> Iterator[Report]:
    """Judge stored evidence of a run again, one submission after the other: no kernel, the same reports every time.

    `kept` are reports that still hold, by submission id; they are passed on as they are. `processes` is how many judge
    (by default as `processes_for` has it). `then` is done to each other report where it was judged, so it can be pickled.
    """
    submissions, known = run.submissions(), kept or {}
    court = _Court.of(run, then)
    unknown = sum(one.id not in known for one in submissions)
    if processes is None:
        processes = processes_for(unknown)
    if processes < 2 or not unknown:
        for one in submissions:
            yield known.get(one.id) or court.report(one)
        return
    context = multiprocessing.get_context("spawn")
    pool = cf.ProcessPoolExecutor(processes, mp_context=context, initializer=_open_court, initargs=(run.root, then))
    waiting: deque[tuple[Submission, Report | cf.Future[Report] | None]] = deque()
    # judged here, so that this process has loaded all code that reports depend on: the run's index has its marks
    first = next(one for one in submissions if one.id not in known)
    try:
        for one in submissions:
            waiting.append((one, known.get(one.id) or (None if one is first else _hand_out(pool, one))))
            if len(waiting) > processes * _AHEAD:
                yield _take(court, *waiting.popleft())
        while waiting:
            yield _take(court, *waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _hand_out(pool: cf.Executor, submission: Submission) -> cf.Future[Report] | None:
    try:
        return pool.submit(_judge, submission)
    except cf.BrokenExecutor:
        return None


def _take(court: _Court, submission: Submission, given: Report | cf.Future[Report] | None) -> Report:
    """The report; made here when the processes were lost (killed, out of memory)."""
    if isinstance(given, Report):
        return given
    if given is not None:
        with contextlib.suppress(cf.BrokenExecutor):
            return given.result()
    return court.report(submission)


_courts: list[_Court] = []
"""In a process that judges: the one it was started for."""


def _open_court(root: Path, then: Callable[[Report], Report]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the terminal is for the process that asked
    _courts.append(_Court.of(RunDirectory(root), then))


def _judge(submission: Submission) -> Report:
    return _courts[-1].report(submission)


def rejudge(run: str | Path) -> dict[str, Report]:
    """Judge a run directory again without running any student code; returns the reports by submission id."""
    return {report.submission.id: report for report in judge_each(RunDirectory(Path(run)))}
