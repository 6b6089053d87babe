"""`grader report` and `rejudge`: what is made again of a run that is there already; no kernel is started."""

from __future__ import annotations

from pathlib import Path

import click

from grader.cli.common import finish, say, stderr
from grader.cli.options import config_option, run_argument
from grader.errors import UsageError
from grader.grading.settings import read_settings
from grader.records import Report
from grader.runs.directory import RunDirectory
from grader.runs.publish import FORMATS, publish

__all__ = ["judge_again", "rejudge", "report"]


@click.command()
@run_argument
@config_option
def rejudge(run: Path, config: Path | None) -> int:
    """Make verdicts, scores and reports of a RUN again from stored evidence, and say what changed.

    No notebook is run: use it after a change of the rubric, or with --config to set points and minimum accuracies.
    Exit code 3 when some submissions need review, 2 when gradebook.csv could not be written.
    """
    directory = RunDirectory(run)
    with directory.lock():
        if config is not None:
            directory.configure(read_settings(config))
        return judge_again(directory, table=True)


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
    directory.info()  # says so when there is no run
    wanted = [name.strip() for name in formats.split(",") if name.strip()]
    if not wanted:
        raise UsageError(f"--format names no format; there are {', '.join(FORMATS)}")
    with stderr.status("judging and writing reports"):
        published = publish(directory, wanted)
    for message in published.messages:
        say(message, style="yellow")
    reports = published.reports
    say(f"Wrote {', '.join(wanted)} for {len(reports)} submissions to {directory.root}")
    if not published.complete:
        return 2
    return 3 if any(report.score.total is None for report in reports) else 0


def judge_again(directory: RunDirectory, *, table: bool) -> int:
    """Judge again; prints every score that changed, then the whole class with `table`."""
    directory.info()  # says so when there is no run
    before = {one.id: _points(directory.report(one.id)) for one in directory.submissions()}
    with stderr.status("judging and writing reports"):
        published = publish(directory)
    changes = [
        f"{one.submission.display_name}:{name} {old.get(name, 'review')} -> {points}"
        for one in published.reports
        if (old := before[one.submission.id])
        for name, points in _points(one).items()
        if old.get(name, "review") != points
    ]
    for change in changes:
        say(change)
    count = "1 criterion" if len(changes) == 1 else f"{len(changes)} criteria"
    say(f"{count} changed." if changes else "Nothing changed.")
    return finish(directory, published, table=table)


def _points(report: Report | None) -> dict[str, str]:
    """What a report gives, by criterion; without a notebook there is one score and no criterion to tell apart."""
    if report is None:
        return {}
    found = {f" {result.id}": result.earned for result in report.score.criteria}
    if report.submission.problem:
        found = {"": report.score.total}
    return {name: "review" if points is None else str(points) for name, points in found.items()}
