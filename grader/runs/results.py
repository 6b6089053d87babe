"""The results of a submission that a person had run again (`grader regrade`): all are kept, one of them counts. Trusted.

What counts lies in the submission's folder, as for all others. Copies of each result with its pages lie in its `results/N`, counted
from 1, so that a kill at any moment leaves them whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from grader.errors import UsageError
from grader.records import Notice, Submission
from grader.rubric.numbers import date, decimal
from grader.runs.directory import Done, RunDirectory, write_atomically

__all__ = ["keep_result", "notices_of_results", "use_result"]

_RECORDS = ("notebook.json", "execution.json", "evidence.json", "done.json")
"""What a result is; the mark that it is complete comes last."""
_PAGES = ("report.json", "report.html", "instructor.html", "annotated.ipynb")


def keep_result(run: RunDirectory, submission_id: str) -> int:
    """Copy the result that counts among the kept ones, where it is not there yet; returns its number, 0 where none counts."""
    current, results = run.done(submission_id), _results(run, submission_id)
    if current is None:
        return 0
    folder = run.folder(submission_id)
    number = next((n for n, done in results.items() if done == current), 1)
    if (folder / "results" / str(number)).is_dir():
        return number
    part = folder / "results" / ".part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name in (*_RECORDS, *_PAGES):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, part / name)
    part.replace(folder / "results" / str(number))
    return number


def use_result(run: RunDirectory, submission: Submission, number: int | None = None) -> int:
    """Let a kept result count, or the one before that which counts; returns its number. Reports have to be written afterwards.

    Raises UsageError where there is none, or it is of a file that was replaced since.
    """
    keep_result(run, submission.id)
    results, current = _results(run, submission.id), run.done(submission.id)
    if number is None:
        number = next((n for n, done in results.items() if done == current), len(results) + 1) - 1
    if number not in results:
        raise UsageError(f"{submission.display_name} has {len(results)} results, counted from 1; there is no {number}")
    if results[number].parts.get("submission") != submission.sha256:
        raise UsageError(f"result {number} of {submission.display_name} is of a file that was replaced since")
    run.forget(submission.id)
    for name in _RECORDS:
        kept = run.folder(submission.id) / "results" / str(number) / name
        write_atomically(run.folder(submission.id) / name, kept.read_bytes())
    return number


def notices_of_results(run: RunDirectory, submission: Submission) -> Iterator[Notice]:
    """What readers of a report should know where there are several results of the same file."""
    counts, found = run.done(submission.id), _results(run, submission.id)
    results = {n: done for n, done in found.items() if done.parts.get("submission") == submission.sha256}
    again = [done.again for done in results.values() if done.again is not None]
    if not again:
        return
    reason = f" ({again[-1].reason})" if again[-1].reason else ""
    which = next(
        (f"Result {n} of {len(results)} counts" for n, done in results.items() if done == counts), "None counts now"
    )
    yield Notice("run-again", f"The notebook was run again on {date(again[-1].at)}{reason}. {which}.")
    lines = (f"{n}: {_points(run, submission.id, n)}{_how(done)}" for n, done in results.items())
    yield Notice(
        "staff-results",
        f"Results: {'; '.join(lines)}. `grader regrade RUN {submission.id} --use N` lets another one count.",
    )


def _points(run: RunDirectory, submission_id: str, number: int) -> str:
    """The points that a result got when it was kept."""
    report = run.report(f"{submission_id}/results/{number}")
    if report is None or report.score.total is None:
        return ""
    return f"{decimal(report.score.total)} of {decimal(report.score.possible)} points, "


def _how(done: Done) -> str:
    seconds, memory = done.limits.get("cpu_seconds", 0), done.limits.get("memory_bytes", 0) / (1 << 30)
    limits = f"{decimal(seconds)} CPU seconds, {decimal(round(memory, 2))} GiB"
    if done.again is None:
        return f"{limits}, with the class"
    by = f" by {done.again.by}" if done.again.by else ""
    when = f"{date(done.again.at)}, {done.again.at[11:16]} UTC"
    return f"{limits}{', other seed' if done.again.draw else ''}, run again{by} on {when}"


def _results(run: RunDirectory, submission_id: str) -> dict[int, Done]:
    """The marks of all results by number, that which counts among them whether it was kept already or not; none for who was run once."""
    numbers = sorted(int(path.name) for path in (run.folder(submission_id) / "results").glob("[0-9]*"))
    found = {n: done for n in numbers if (done := run.done(f"{submission_id}/results/{n}")) is not None}
    current = run.done(submission_id)
    if numbers and current is not None and current not in found.values():
        found[numbers[-1] + 1] = current
    return found
