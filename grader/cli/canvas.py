"""`grader canvas`: submissions from Canvas, and scores and feedback back, without an archive in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.table import Table

from grader.cli.common import console, say, working
from grader.cli.options import NEW_FOLDER, run_argument
from grader.errors import UsageError
from grader.lms.gradebook import number_cell
from grader.reports.sanitize import line
from grader.runs.directory import RunDirectory

__all__ = ["canvas"]

_EXTRA = "Canvas's API is an extra: pip install 'dat450-grader[canvas]'"


@click.group()
def canvas() -> None:
    """Fetch submissions from Canvas, and send scores and feedback back (docs/canvas.md).

    \b
    COURSE and ASSIGNMENT are the numbers in the address of the assignment's page:
      https://canvas.example.edu/courses/COURSE/assignments/ASSIGNMENT
    CANVAS_API_URL holds the address of your Canvas, CANVAS_API_TOKEN an access token (Account > Settings), or your keyring does.
    """  # noqa: D301 - click: the paragraph is not wrapped


def _connect() -> Any:
    try:
        from grader.lms import canvas_api
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("grader"):
            raise
        raise UsageError(f"{_EXTRA} ({error.name} is not installed)") from error
    return canvas_api.connect()


def _course_options(command: Any) -> Any:
    for name in ("assignment", "course"):
        command = click.argument(name, metavar=name.upper(), callback=_number)(command)
    return command


def _number(_context: Any, _argument: Any, told: str) -> str:
    if not told.isdecimal():
        raise click.BadParameter(f"{told} is not the number in the address of the assignment's page")
    return told


@canvas.command()
@_course_options
@click.option("--out", required=True, type=NEW_FOLDER, metavar="FOLDER", help="Folder for submissions and class list.")
def pull(course: str, assignment: str, out: Path) -> int:
    """Fetch what students handed in, and the class list; only what is new is fetched again.

    \b
      grader canvas pull 1234 98765 --out lab2
      grader grade lab2/submissions --roster lab2/roster.csv --out lab2/run
    """  # noqa: D301 - click: the paragraph is not wrapped
    client = _connect()
    from grader.lms.canvas_pull import pull as fetch

    with working("fetching submissions"):
        brought, left_out = fetch(client, course, assignment, out)
    say(line(brought))
    for why in left_out:
        say(f"Left out: {line(why)}", "yellow")
    say(f"Now: grader grade {out / 'submissions'} --roster {out / 'roster.csv'} --out {out / 'run'}")
    return 0


@canvas.command()
@run_argument
@_course_options
@click.option("--send", is_flag=True, help="Really send it; without this you see what would be sent.")
@click.option("--overwrite", is_flag=True, help="Also replace scores that were set by hand in Canvas.")
def push(run: RunDirectory, course: str, assignment: str, send: bool, overwrite: bool) -> int:
    """Send scores of a RUN to Canvas, with one comment per student that brings the page and the annotated notebook.

    Run it again after it broke off: nothing is sent twice. Exit code 4 when Canvas does not show what was sent.

    \b
      grader canvas push lab2/run 1234 98765
      grader canvas push lab2/run 1234 98765 --send
    """  # noqa: D301 - click: the paragraph is not wrapped
    run.info()  # says so when there is no run
    client = _connect()
    from grader.runs import canvas_push

    with run.lock():
        planned = canvas_push.plan_push(client, run, course, assignment, overwrite=overwrite)
        table = Table(box=None, title=line(str(planned.assignment.name)), title_justify="left")
        for header in ("", "in Canvas", "sent", "why"):
            table.add_column(header, justify="right" if header in ("in Canvas", "sent") else "left")
        for step in planned.steps:
            cells = ("" if score is None else number_cell(score) for score in (step.old, step.new))
            table.add_row(line(step.report.submission.display_name), *cells, step.why)
        console.print(table)
        for note in planned.notes:
            say(note, "yellow")
        count = len(planned.to_send)
        if not send:
            say(f"Nothing was sent. {count} would be; add --send.", "bold")
            return 0
        with working("sending", count) as update:
            different = canvas_push.send(client, run, planned, lambda _step: update(advance=1))
    for text in different:
        say(line(text), "bold red")
    say(f"Sent {count}; {'Canvas shows all of it' if not different else f'{len(different)} are not as sent'}.")
    return 4 if different else 0
