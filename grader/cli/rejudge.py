"""`grader rejudge`: verdicts, scores and reports again from stored evidence; no kernel is started."""

from __future__ import annotations

import argparse
import json

from grader.assignments import load_assignment
from grader.cli.common import console, finish, stderr
from grader.records import Report
from grader.runs.directory import RunDirectory
from grader.runs.hold import hold
from grader.runs.publish import publish

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Judge again; prints every score that changed."""
    directory = RunDirectory(options.run)
    assignment = load_assignment(directory.info().assignment)
    before = {submission.id: _old_points(directory, submission.id) for submission in directory.submissions()}
    with hold(directory.root), stderr.status("judging and writing reports"):
        published = publish(directory, assignment)
    changes = [line for report in published.reports for line in _changes(before.get(report.submission.id), report)]
    for line in changes:
        console.print(line, markup=False)
    console.print(f"{len(changes)} criteria changed." if changes else "Nothing changed.")
    return finish(directory, published.reports, published.messages)


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
