"""The results of a submission that a person had run again (`grader regrade`): all are kept, one of them counts. Trusted.

What counts lies in the submission's folder, as for all others. Copies of each result with its pages lie in its `results/N`, counted
from 1, so that a kill at any moment leaves them whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grader.errors import UsageError
from grader.records import Notice, Submission
from grader.rubric.numbers import date, decimal
from grader.runs.directory import Done, RunDirectory, write_atomically

__all__ = ["keep_result", "notices_of_results", "use_result"]

_RECORDS = ("notebook.json", "execution.json", "evidence.json", "done.json")
"""What a result is; the mark that it is complete comes last."""
_PAGES = ("report.json", "report.html", "instructor.html", "annotated.ipynb")


@dataclass(frozen=True, slots=True)
class _Result:
    """One result of a submission."""

    number: int
    """Counted from 1, the run of the class."""
    done: Done
    """Its mark."""
    points: str
    """The points it got when it was kept."""
    counts: bool
    """Whether it is the one that counts."""


def keep_result(run: RunDirectory, submission_id: str) -> int:
    """Copy the result that counts among the kept ones, where it is not there yet; returns its number, 0 where none counts."""
    folder, kept = run.folder(submission_id), _kept(run, submission_id)
    mark = folder / "done.json"
    if not mark.is_file():
        return 0
    for number, path in enumerate(kept, 1):
        if (path / "done.json").read_bytes() == mark.read_bytes():
            return number
    part = folder / "results" / ".part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name in (*_RECORDS, *_PAGES):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, part / name)
    part.replace(folder / "results" / str(len(kept) + 1))
    return len(kept) + 1


def use_result(run: RunDirectory, submission: Submission, number: int | None = None) -> int:
    """Let a kept result count, or the one before that which counts; returns its number. Reports have to be written afterwards.

    Raises UsageError where there is none, or it is of a file that was replaced since.
    """
    keep_result(run, submission.id)
    results = {one.number: one for one in _results(run, submission.id)}
    if number is None:
        number = next((one.number for one in results.values() if one.counts), len(results) + 1) - 1
    if number not in results:
        raise UsageError(f"{submission.display_name} has {len(results)} results, counted from 1; there is no {number}")
    if results[number].done.parts.get("submission") != submission.sha256:
        raise UsageError(f"result {number} of {submission.display_name} is of a file that was replaced since")
    run.forget(submission.id)
    for name in _RECORDS:
        kept = run.folder(submission.id) / "results" / str(number) / name
        write_atomically(run.folder(submission.id) / name, kept.read_bytes())
    return number


def notices_of_results(run: RunDirectory, submission: Submission) -> Iterator[Notice]:
    """What readers of a report should know where there are several results of the same file."""
    results = [one for one in _results(run, submission.id) if one.done.parts.get("submission") == submission.sha256]
    again = [one.done.again for one in results if one.done.again is not None]
    if not again:
        return
    reason = f" ({again[-1].reason})" if again[-1].reason else ""
    which = next((f"Result {one.number} of {len(results)} counts" for one in results if one.counts), "None counts now")
    yield Notice("run-again", f"The notebook was run again on {date(again[-1].at)}{reason}. {which}.")
    lines = (f"{one.number}: {one.points}{_how(one.done)}" for one in results)
    yield Notice(
        "staff-results",
        f"Results: {'; '.join(lines)}. `grader regrade RUN {submission.id} --use N` lets another one count.",
    )


def _how(done: Done) -> str:
    seconds, memory = done.limits.get("cpu_seconds", 0), done.limits.get("memory_bytes", 0) / (1 << 30)
    limits = f"{decimal(seconds)} CPU seconds, {decimal(round(memory, 2))} GiB"
    if done.again is None:
        return f"{limits}, with the class"
    by = f" by {done.again.by}" if done.again.by else ""
    when = f"{date(done.again.at)}, {done.again.at[11:16]} UTC"
    return f"{limits}{', other seed' if done.again.draw else ''}, run again{by} on {when}"


def _kept(run: RunDirectory, submission_id: str) -> list[Path]:
    """Folders of the kept results, in their order."""
    return sorted((run.folder(submission_id) / "results").glob("[0-9]*"), key=lambda path: int(path.name))


def _results(run: RunDirectory, submission_id: str) -> list[_Result]:
    """All results, that which counts among them whether it was kept already or not; none for who was run once."""
    kept, current = _kept(run, submission_id), run.done(submission_id)
    found = []
    for number, path in enumerate(kept, 1):
        name = str(path.relative_to(run.folder("")))
        done, report = run.done(name), run.report(name)
        if done is None:
            continue
        points = ""
        if report is not None and report.score.total is not None:
            points = f"{decimal(report.score.total)} of {decimal(report.score.possible)} points, "
        found.append(_Result(number, done, points, done == current))
    if kept and current is not None and not any(one.counts for one in found):
        found.append(_Result(len(kept) + 1, current, "", counts=True))
    return found
