"""`grader forget`: one person taken out of a run."""

from __future__ import annotations

from pathlib import Path

import click

from grader.cli.common import say, stderr
from grader.cli.options import run_argument
from grader.cli.override import find_submission
from grader.intake import read_roster
from grader.runs.directory import RunDirectory
from grader.runs.forget import forget as forget_person
from grader.runs.pseudonyms import people
from grader.runs.publish import publish

__all__ = ["forget"]


@click.command()
@run_argument
@click.argument("who")
@click.option("--yes", is_flag=True, help="Really do it; without this nothing is removed.")
def forget(run: Path, who: str, yes: bool) -> int:
    """Remove what a RUN holds of one person: files, evidence, reports, and the rows of every table.

    WHO is an id or a name. Of a group that handed in together only the member goes. A trace stays that somebody was removed, by
    which the person stays out when you grade again. Your download and your class list are yours to clean: see docs/privacy.md.

    \b
      grader forget run 1024 --yes
    """  # noqa: D301 - click: the paragraph is not wrapped
    directory = RunDirectory(run)
    submission, student, what = _person(directory, who)
    if not yes:
        say(f"Nothing was removed. {what} would be taken out of {run}; add --yes.", "bold")
        return 2
    with directory.lock(wait_seconds=60):
        forget_person(directory, submission, student)
        with stderr.status("writing reports"):
            publish(directory)
    say(f"{what} is no longer in {run}.")
    return 0


def _person(directory: RunDirectory, who: str) -> tuple[str, str, str]:
    """Submission, student and words for whom is meant. Raises UsageError when it is nobody or several."""
    submissions, roster = people(directory), directory.root / "roster.csv"
    called = {one.id: one.display_name for one in directory.submissions()}
    for one in submissions:
        if who in one.student_ids and len(one.student_ids) > 1:
            return one.id, who, f"{who} as a member of {called[one.id]}"
    handed_in = {student for one in submissions for student in (one.id, *one.student_ids)}
    listed = read_roster(roster).named(who) if roster.is_file() else ()
    if len(listed) == 1 and listed[0].id not in handed_in:
        return "", listed[0].id, f"{who if directory.info().pseudonyms else listed[0].name}, who handed in nothing,"
    found = find_submission(who, submissions)
    return found, "", called[found]
