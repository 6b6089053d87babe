"""`grader override`: settle the points of one criterion by hand."""

from __future__ import annotations

import argparse

from grader.assignments import load_assignment
from grader.cli import rejudge
from grader.errors import UsageError
from grader.runs.directory import RunDirectory

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Write the ledger and judge again."""
    directory = RunDirectory(options.run)
    assignment = load_assignment(directory.info().assignment)
    ids = [submission.id for submission in directory.submissions()]
    if options.submission not in ids:
        raise UsageError(f"no submission {options.submission!r}; ids are in the first column of scores.csv")
    check = assignment.checks.get(options.criterion)
    if check is None:
        raise UsageError(f"no criterion {options.criterion!r}; there are {', '.join(assignment.checks)}")
    if not 0 <= options.points <= check.points:
        raise UsageError(f"{options.criterion} has {check.points} points; {options.points} is out of range")
    directory.override(options.submission, options.criterion, options.points, options.reason)
    return rejudge.run(options)
