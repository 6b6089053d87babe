"""`grader report`: the reports of a run in the formats asked for."""

from __future__ import annotations

import argparse

from grader.assignments import load_assignment
from grader.cli.common import console
from grader.runs.directory import RunDirectory
from grader.runs.publish import publish

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Write reports; 3 when some submissions need review."""
    directory = RunDirectory(options.run)
    assignment = load_assignment(directory.info().assignment)
    formats = [name.strip() for name in options.format.split(",") if name.strip()]
    published = publish(directory, assignment, formats)
    for sentence in published.messages:
        console.print(sentence, style="yellow", markup=False)
    reports = published.reports
    console.print(f"Wrote {', '.join(formats)} for {len(reports)} submissions to {directory.root}", soft_wrap=True)
    return 3 if any(report.score.total is None for report in reports) else 0
