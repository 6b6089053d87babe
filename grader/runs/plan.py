"""What has to be run, and why: stored results against what a run would depend on today. Trusted.

A result is taken from the last run while the digests of all that it depends on, kept with it, are the same; they name what changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from grader.errors import StoreError, UsageError
from grader.grading.context import RunContext
from grader.grading.fingerprint import code_digest, digest_of, versions
from grader.records import Outcome, Submission
from grader.runs.directory import SETTABLE, Done, RunDirectory
from grader.runs.engines import Job
from grader.sandbox.contract import Limits

__all__ = ["Plan", "RunSelection", "content_parts", "load_job", "make_plan"]

_HANDFUL = 5
_FIRST = "run for the first time"
_AGAIN = {
    "submission": "file changed",
    "companions": "helper files changed",
    "bundle": "bundle changed",
    "code": "grader's code in the box changed",
    "libraries": "versions of libraries changed",
    "questions": "questions changed",
}


_LEFT_BY_FAILED = "left as they are: --failed runs only what failed"
_LEFT_BY_CHANGED = "left as they are: --changed runs only new and changed files"
_FAULT = "run again: the grader or its machine failed"
_HANDED_IN = {"submission", "companions"}
_LIMITED: Mapping[str, tuple[str, ...]] = {
    Outcome.TIMED_OUT: ("cpu_seconds", "wall_seconds"),
    Outcome.OUT_OF_MEMORY: ("memory_bytes",),
}
"""How a run ends that meets a limit which can be set from outside, and the names of what it may have been."""


def content_parts(context: RunContext, submission: Submission, companions: Mapping[str, bytes]) -> dict[str, str]:
    """Digests of everything that a submission's evidence depends on, by name, so that it can be said what has changed."""
    return {
        "submission": submission.sha256,
        "companions": _digest_of_files(companions),
        "bundle": context.bundle.digest,
        "code": code_digest(),
        "libraries": digest_of(versions()),
        "questions": context.question_sample,
    }


@dataclass(frozen=True, slots=True)
class RunSelection:
    """Which submissions the person at the keyboard asked to run."""

    only: tuple[str, ...] = ()
    """Ids to keep to; empty for all."""
    failed: bool = False
    """Run again those that need review or whose run did not complete, and nothing else."""
    changed: bool = False
    """Run only new and changed files, whatever else has changed."""
    force: bool = False
    """Run everything again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run, what is not, and why."""

    jobs: tuple[Job, ...]
    """To run, in the order of reports; their files are read when they are sent (see `load_job`)."""
    cached: tuple[Submission, ...]
    """Stored evidence holds."""
    left: tuple[Submission, ...] = ()
    """Not run because of what was asked for, although the stored evidence does not hold."""
    reasons: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Why some are run, or left as they are although something has changed -> their names."""

    def sentence(self, *, names: bool = False) -> str:
        """One line: what was taken from the last run and what is run again for which reason, the names of up to a handful."""
        parts = [f"{len(self.cached)} taken from the last run"] if self.cached else []
        for why, who in self.reasons.items():
            named = names or (len(who) <= _HANDFUL and why != _FIRST)
            parts.append(f"{len(who)} {why}" + (f" ({', '.join(who)})" if named else ""))
        return "; ".join(parts)


def make_plan(
    run: RunDirectory,
    context: RunContext,
    limits: Limits,
    submissions: Sequence[Submission],
    selection: RunSelection = RunSelection(),
) -> Plan:
    """Compare stored results with what is there now, and with what a submission may use now.

    Raises UsageError for an id that nobody has, StoreError when the files of a submission are gone from the run directory.
    """
    if unknown := sorted(set(selection.only) - {submission.id for submission in submissions}):
        raise UsageError(f"no submission {', '.join(unknown)}; ids are in the first column of scores.csv")
    jobs: list[Job] = []
    cached: list[Submission] = []
    left: list[Submission] = []
    reasons: dict[str, list[str]] = {}
    for submission in (one for one in submissions if not selection.only or one.id in selection.only):
        if submission.problem is not None or not submission.path:
            continue
        parts = content_parts(context, submission, _files(run, submission)[1])
        done = run.done(submission.id)
        why = _why(run, submission, done, parts, limits, selection)
        if not why:
            cached.append(submission)
            continue
        if why in (_LEFT_BY_FAILED, _LEFT_BY_CHANGED):
            left.append(submission)
        else:
            jobs.append(_job(submission, done, parts, limits))
        reasons.setdefault(why, []).append(submission.display_name)
    return Plan(tuple(jobs), tuple(cached), tuple(left), reasons)


def load_job(run: RunDirectory, job: Job) -> Job:
    """Read the files of a planned job, which carries none of them until it is sent: thousands would fill the memory.

    Raises StoreError when they are gone or have changed since the plan was made.
    """
    data, companions = _files(run, job.submission)
    found = {"submission": hashlib.sha256(data).hexdigest(), "companions": _digest_of_files(companions)}
    if any(found[name] != job.parts.get(name) for name in found):
        raise StoreError(
            f"the files of {job.submission.display_name} in {run.root} have changed since this run began; "
            "run the same command again"
        )
    return replace(job, data=data, companions=companions)


def _why(
    run: RunDirectory,
    submission: Submission,
    done: Done | None,
    parts: Mapping[str, str],
    limits: Limits,
    selection: RunSelection,
) -> str:
    """Why to run (or to leave) a submission; empty when its stored evidence holds."""
    failure = _failure(run, submission, done)
    if selection.failed:
        if failure:
            return failure
        return "" if done is not None and done.parts == parts else _LEFT_BY_FAILED
    if done is None:
        return failure
    if selection.force:
        return "run again: asked for by --force"
    changed = {name for name, digest in parts.items() if done.parts.get(name) != digest}
    if selection.changed and not changed & _HANDED_IN:
        return _LEFT_BY_CHANGED if changed or done.fault or _has_more(done, limits) else ""
    if changed:
        # A changed bundle or grader changes the questions, too: the root cause is named.
        return "run again: " + next(text for name, text in _AGAIN.items() if name in changed)
    if done.fault:
        return _FAULT
    return "run again: it met a limit that is higher now" if _has_more(done, limits) else ""


def _job(submission: Submission, done: Done | None, parts: dict[str, str], limits: Limits) -> Job:
    """A job as a person asked for it when the same files were run last, with at least the limits of the class."""
    if done is None or done.again is None or any(done.parts.get(name) != parts[name] for name in _HANDED_IN):
        return Job(submission, limits, parts=parts)
    more = {name: max(getattr(limits, name), done.limits.get(name, 0)) for name in SETTABLE}
    return Job(submission, replace(limits, **more), parts=parts, again=done.again)


def _has_more(done: Done, limits: Limits) -> bool:
    """Tell whether a run met a limit that would be higher if it were run again."""
    names = _LIMITED.get(done.outcome, ())
    return any(name in done.limits and getattr(limits, name) > done.limits[name] for name in names)


def _failure(run: RunDirectory, submission: Submission, done: Done | None) -> str:
    """Why the last result is none to build on; empty when it is one."""
    if done is None:
        report = run.report(submission.id)  # of a PDF that this notebook replaces nothing was run
        begun = run.folder(submission.id).is_dir() and (report is None or report.submission.problem is None)
        return "run again: the last run did not get to its end" if begun else _FIRST
    if done.fault:
        return _FAULT
    report = run.report(submission.id)
    if report is None:
        return "run again: it has no report"
    if report.score.total is None:
        return "run again: it needs review"
    completed = report.execution is not None and report.execution.outcome is Outcome.COMPLETED
    return "" if completed else "run again: its notebook did not run to its end"


def _digest_of_files(files: Mapping[str, bytes]) -> str:
    return digest_of({name: hashlib.sha256(data).hexdigest() for name, data in files.items()})


def _files(run: RunDirectory, submission: Submission) -> tuple[bytes, dict[str, bytes]]:
    try:
        data = (run.root / submission.path).read_bytes()
        companions = {Path(name).name: (run.root / name).read_bytes() for name in submission.companions}
    except OSError as error:
        raise StoreError(f"the files of {submission.display_name} are gone from {run.root}: {error}") from error
    return data, companions
