"""`grader override`: points settled by hand, one by one or from a table, and taken back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from grader.cli.options import input_path, run_argument
from grader.cli.runs import judge_again
from grader.errors import UsageError
from grader.intake.names import compact
from grader.intake.roster import csv_rows, number
from grader.records import Submission, whole
from grader.rubric.assignment import Assignment
from grader.runs.directory import Override, RunDirectory, account, assignment_of, now
from grader.runs.pseudonyms import people

__all__ = ["find_submission", "override"]

_COLUMNS = ("submission", "criterion", "give", "explanation")


@click.command()
@run_argument
@click.argument("what", nargs=-1, metavar="[WHO] [CRITERION] [POINTS]")
@click.option("--reason", default="", metavar="TEXT", help="Why; the student reads it.")
@click.option("--all", "for_all", is_flag=True, help="For the whole class: leave WHO out.")
@click.option("--undo", is_flag=True, help="Take back what was set by hand: leave POINTS out.")
@click.option(
    "--from", "table", type=input_path(), metavar="CSV",
    help="Many at once: RUN/needs_review.csv, with its columns `give` and `explanation` filled in.",
)  # fmt: skip
def override(run: Path, what: tuple[str, ...], reason: str, for_all: bool, undo: bool, table: Path | None) -> int:
    """Set points by hand; they are kept with the RUN, survive rejudge and always win.

    WHO is an id (first column of run/scores.csv) or a name, CRITERION stands in the head of its columns, POINTS may be half ones.
    What builds on a criterion that gets all its points is judged again.

    \b
      grader override run 1024 lora/forward 4 --reason "scales in the constructor"
      grader override run "Åsa Svensson" lora/forward --undo
      grader override run --all head/trained 5 --reason "the question was unclear"
      grader override run --from run/needs_review.csv
    """  # noqa: D301 - click: the paragraph is not wrapped
    directory = RunDirectory(run)
    assignment = assignment_of(directory.info())
    submissions = directory.submissions()
    if table is not None:
        if what or reason or for_all or undo:
            raise UsageError("--from takes everything from the table; leave all else out")
        entries = list(_from_table(table, assignment, submissions))
    else:
        words = (["WHO"] if not for_all else []) + ["CRITERION"] + (["POINTS"] if not undo else [])
        if len(what) != len(words):
            raise UsageError(f"give {', '.join(words)} after the run (or --from CSV); there are {len(what)}")
        given = dict(zip(words, what, strict=True))
        if not (reason.strip() or undo):
            raise UsageError("--reason is empty; the student reads it")
        ids = [one.id for one in submissions] if for_all else [find_submission(given["WHO"], people(directory))]
        criterion = given["CRITERION"]
        points = _points(criterion, None if undo else given["POINTS"], assignment)
        entries = [_entry(submission, criterion, points, reason) for submission in ids]
    with directory.lock(wait_seconds=60):
        directory.override(entries)
        return judge_again(directory, table=False)


def _from_table(path: Path, assignment: Assignment, submissions: Sequence[Submission]) -> Iterator[Override]:
    """Read a table that was filled in; rows without points are passed over. Raises UsageError, naming the row, before anything is set."""
    header, *rows = csv_rows(path, path.read_bytes())
    names = [cell.strip().casefold() for cell in header]
    if missing := [name for name in _COLUMNS if name not in names]:
        raise UsageError(f"{path} has no column {', '.join(missing)}; fill in a copy of needs_review.csv")
    known = {one.id for one in submissions}
    filled = 0
    for count, cells in enumerate(rows, 2):
        row = dict(zip(names, (cell.strip() for cell in cells), strict=False))
        submission, criterion, give, why = (row.get(name, "") for name in _COLUMNS)
        if not give:
            continue
        filled += 1
        try:
            if submission not in known:
                raise UsageError(f"no submission {submission!r}")
            if not why:
                raise UsageError("`explanation` is empty; the student reads it")
            if not criterion and number(give) != 0:
                raise UsageError("without a criterion only 0 can be given, for all of them")
            for name in [criterion] if criterion else assignment.checks:
                yield _entry(submission, name, _points(name, give, assignment), why)
        except UsageError as error:
            raise UsageError(f"{path}, row {count}: {error}; nothing was set") from error
    if not filled:
        raise UsageError(f"{path} has nothing in its column `give`")


def find_submission(text: str, submissions: Sequence[Submission]) -> str:
    """The id of the submission that an id, a student's id or a name means. Raises UsageError when it is none or several."""
    wanted = compact(text)
    for found in (
        [one for one in submissions if one.id == text],
        [one for one in submissions if text in one.student_ids],
        [one for one in submissions if compact(one.display_name) == wanted or _turned(one.display_name) == wanted],
    ):
        if len(found) == 1:
            return found[0].id
        if found:
            raise UsageError(f"{text} is the name of several: {', '.join(one.id for one in found)}; give the id")
    near = [one.display_name for one in submissions if wanted and wanted in compact(one.display_name)][:5]
    hint = f"did you mean {' or '.join(near)}?" if near else "ids are in the first column of scores.csv"
    raise UsageError(f"no submission {text!r}; {hint}")


def _turned(name: str) -> str:
    last, _, first = name.partition(",")
    return compact(first + last)


def _points(criterion: str, text: str | None, assignment: Assignment) -> float | None:
    check = assignment.checks.get(criterion)
    if check is None:
        raise UsageError(f"no criterion {criterion!r}; there are {', '.join(assignment.checks)}")
    if text is None:
        return None
    points = number(text)
    if points is None or points * 2 % 1:
        raise UsageError(f"{text} is not a number of points; whole and half ones can be given")
    if not 0 <= points <= check.points:
        raise UsageError(f"{criterion} has {check.points} points; {text} is out of range")
    return whole(points)


def _entry(submission: str, criterion: str, points: float | None, reason: str) -> Override:
    return Override(submission, criterion, points, reason.strip(), account(), now())
