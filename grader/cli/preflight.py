"""`grader check --preflight`: what a student wants to know before a notebook is handed in, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from grader.notebook.reader import FILE_LIMIT
from grader.records import CriterionResult, Outcome, Report, Status
from grader.reports import view
from grader.reports.terminal import sentence
from grader.rubric.assignment import Assignment
from grader.rubric.questions import Question
from grader.sandbox.contract import Limits

__all__ = ["Line", "preflight", "shown"]

_SLOW = 0.1
"""Part of the whole time from which on a cell is called slow."""
_MOST = 5
_MARKS = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("·", "dim")}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at."""

    ok: bool | None
    """Whether it is as it should be; None for what is only told."""
    text: str
    """What was seen, and where it is not right what to do."""


def preflight(
    report: Report, size: int, assignment: Assignment, questions: Mapping[str, Question], limits: Limits
) -> tuple[Line, ...]:
    """Look at the run of a notebook of `size` bytes. `report` is the whole one: names, not what was seen of them, are told."""
    return (
        *_file(report, size),
        *_run(report),
        *_names(report, assignment, questions),
        *_time(report, limits),
        *_adapted(report),
        Line(None, f"{view.headline(report)} Without --preflight you see each of them."),
    )


def shown(lines: tuple[Line, ...]) -> Table:
    """The lines for a terminal of any width."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for line in lines:
        mark, style = _MARKS[line.ok]
        table.add_row(Text(mark, style), sentence(line.text, "bold" if line.ok is False else ""))
    return table


def _file(report: Report, size: int) -> Iterator[Line]:
    """Whether Canvas takes the file, and what tells it from others."""
    submission = report.submission
    name, digest = submission.file_name, submission.sha256
    if submission.problem:
        yield Line(False, submission.problem)
    if not name.casefold().endswith(".ipynb"):
        yield Line(False, f"Its name is `{name}`: Canvas takes files that end in `.ipynb`. Rename it.")
    elif size > FILE_LIMIT:
        yield Line(
            False, f"It has {_bytes(size)}, more than the {_bytes(FILE_LIMIT)} that are taken. Clear its outputs."
        )
    elif not submission.problem:
        yield Line(True, f"A notebook that Canvas takes: `{name}`, {_bytes(size)}.")
    yield Line(
        None,
        f"Its SHA-256 begins with `{digest[:12]}`. The report you get back names the file it judged by the same digits.",
    )


def _run(report: Report) -> Iterator[Line]:
    """Whether it runs from top to bottom."""
    if report.execution is None:
        yield Line(False, "It could not be run.")
        return
    right = report.execution.outcome is Outcome.COMPLETED and not view.failing_cells(report)
    yield Line(right, "It runs from top to bottom in a fresh kernel." if right else view.outcome_sentence(report))
    for cell in view.failing_cells(report)[:_MOST]:
        if cell.error is not None:
            yield Line(False, f"{view.place(cell.index).capitalize()}: {cell.error.name}: {cell.error.message[:200]}")


def _names(report: Report, assignment: Assignment, questions: Mapping[str, Question]) -> Iterator[Line]:
    """Whether everything that is asked for has the name it was asked for by."""
    for asks in dict.fromkeys(check.asks for check in assignment.checks.values()):  # in the order of the rubric
        names = questions[asks].names
        results = [result for result in report.score.criteria if assignment.checks[result.id].asks == asks]
        if names and results:
            yield _named(names[0], results)


def _named(name: str, results: list[CriterionResult]) -> Line:
    cell = next((result.cell for result in results if result.cell is not None), None)
    where = "" if cell is None else f", in {view.place(cell)}"
    renamed = next((note.text for r in results for note in r.verdict.notices if note.kind == "renamed"), "")
    if renamed:
        return Line(
            None, f"`{name}` was asked for. {renamed} That costs nothing, and the name that was asked for is safer."
        )
    if cell is None and not any(result.verdict.status is Status.PASSED for result in results):
        return Line(False, f"There is no `{name}`: it is asked for by this name.")
    return Line(True, f"`{name}` is there{where}.")


def _time(report: Report, limits: Limits) -> Iterator[Line]:
    """How long it took, of what it may take, and which cells took most of it."""
    if report.execution is None:
        return
    used = report.execution.usage
    right = report.execution.outcome is not Outcome.TIMED_OUT
    yield Line(
        right,
        f"{view.duration(used.cpu_seconds)} of CPU time of the {view.duration(limits.cpu_seconds)} that a submission has;"
        f" {view.duration(used.wall_seconds)} by the clock.",
    )
    slow = sorted(report.execution.cells, key=lambda cell: -cell.cpu_seconds)[:_MOST]
    slow = [cell for cell in slow if cell.cpu_seconds > max(1.0, _SLOW * used.cpu_seconds)]
    if slow:
        cells = ", ".join(f"{view.place(cell.index)} ({view.duration(cell.cpu_seconds)})" for cell in slow)
        yield Line(None, f"Slowest: {cells}.")


def _adapted(report: Report) -> Iterator[Line]:
    """What is changed while it is graded, each kind once."""
    found = view.adapted(report)
    for places, reason in found[:_MOST]:
        yield Line(None, f"Adapted while it is graded, nothing for you to change: {reason} ({places})")
    if len(found) > _MOST:
        yield Line(None, f"… and {len(found) - _MOST} more adaptations; the report has them all.")


def _bytes(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e6 else f"{max(1, number // 1000)} KB"
