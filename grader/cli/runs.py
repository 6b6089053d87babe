"""`grader override`, `report` and `rejudge`: what is done with a run that is there already; no kernel is started."""

from __future__ import annotations

import json
from pathlib import Path

import click

from grader.assignments import load_assignment
from grader.cli.common import finish, say, stderr
from grader.cli.options import run_argument
from grader.errors import UsageError
from grader.records import Report
from grader.runs.directory import RunDirectory
from grader.runs.publish import FORMATS, publish

__all__ = ["override", "rejudge", "report"]


@click.command()
@run_argument
def rejudge(run: Path) -> int:
    """Make verdicts, scores and reports of a RUN again from stored evidence, and say what changed.

    No notebook is run: use it after a change of the rubric. Exit code 3 when some submissions need review, 2 when gradebook.csv
    could not be written.
    """
    directory = RunDirectory(run)
    with directory.lock():
        return _judge(directory, table=True)


@click.command()
@run_argument
@click.argument("submission", metavar="ID")
@click.argument("criterion")
@click.argument("points", type=int)
@click.option("--reason", required=True, metavar="TEXT", help="Why; the student reads it.")
def override(run: Path, submission: str, criterion: str, points: int, reason: str) -> int:
    """Set the points of a criterion by hand; they are kept with the RUN, survive rejudge and always win.

    \b
    ID is in the first column of run/scores.csv, CRITERION in the head of its columns:
      grader override run 1024 lora/forward 4 --reason "scales in the constructor"
    """  # noqa: D301 - click: the paragraph is not wrapped
    if not reason.strip():
        raise UsageError("--reason is empty; the student reads it")
    directory = RunDirectory(run)
    assignment = load_assignment(directory.info().assignment)
    if submission not in [known.id for known in directory.submissions()]:
        raise UsageError(f"no submission {submission!r}; ids are in the first column of scores.csv")
    check = assignment.checks.get(criterion)
    if check is None:
        raise UsageError(f"no criterion {criterion!r}; there are {', '.join(assignment.checks)}")
    if not 0 <= points <= check.points:
        raise UsageError(f"{criterion} has {check.points} points; {points} is out of range")
    with directory.lock(wait_seconds=60):
        directory.override(submission, criterion, points, reason)
        return _judge(directory, table=False)


@click.command()
@run_argument
@click.option(
    "--format", "formats", default="html,json,csv", show_default=True, metavar="LIST", help=f"Of {', '.join(FORMATS)}."
)
def report(run: Path, formats: str) -> int:
    """Write the reports of a RUN again, in the formats asked for.

    Exit code 3 when some submissions need review, 2 when gradebook.csv could not be written.
    """
    directory = RunDirectory(run)
    assignment = load_assignment(directory.info().assignment)
    wanted = [name.strip() for name in formats.split(",") if name.strip()]
    if not wanted:
        raise UsageError(f"--format names no format; there are {', '.join(FORMATS)}")
    with stderr.status("judging and writing reports"):
        published = publish(directory, assignment, wanted)
    for message in published.messages:
        say(message, style="yellow")
    reports = published.reports
    say(f"Wrote {', '.join(wanted)} for {len(reports)} submissions to {directory.root}")
    if not published.complete:
        return 2
    return 3 if any(report.score.total is None for report in reports) else 0


def _judge(directory: RunDirectory, *, table: bool) -> int:
    """Judge again; prints every score that changed, then the whole class with `table`."""
    assignment = load_assignment(directory.info().assignment)
    before = {submission.id: _old_points(directory, submission.id) for submission in directory.submissions()}
    with stderr.status("judging and writing reports"):
        published = publish(directory, assignment)
    changes = [line for report in published.reports for line in _changes(before.get(report.submission.id), report)]
    for line in changes:
        say(line)
    count = "1 criterion" if len(changes) == 1 else f"{len(changes)} criteria"
    say(f"{count} changed." if changes else "Nothing changed.")
    return finish(directory, published, table=table)


def _old_points(directory: RunDirectory, submission_id: str) -> dict[str, int | None] | None:
    path = directory.folder(submission_id) / "report.json"
    try:
        criteria = json.loads(path.read_text(encoding="utf-8"))["score"]["criteria"]
        return {entry["id"]: entry["earned"] for entry in criteria}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _changes(old: dict[str, int | None] | None, report: Report) -> list[str]:
    if old is None:
        return []
    name = report.submission.display_name
    return [
        f"{name}: {result.id} {_points(old.get(result.id))} -> {_points(result.earned)}"
        for result in report.score.criteria
        if old.get(result.id) != result.earned
    ]


def _points(points: int | None) -> str:
    return "review" if points is None else str(points)
