"""The gradebook of a run: what goes back to Canvas, what is left as it is there, and a preview of both. Trusted.

Canvas's importer overwrites what it is given. So the run remembers what the cells held when they were first exported and what was
written into them since: a grade that is neither was set by hand in Canvas, and is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from grader.errors import UsageError
from grader.intake import AssignmentColumn, Roster, RosterEntry, read_roster
from grader.lms.gradebook import (
    BY_HAND,
    EXCUSED,
    NOT_ASSIGNED,
    GradebookRow,
    gradebook_column,
    gradebook_csv,
    gradebook_rows,
    preview_csv,
)
from grader.records import Report
from grader.rubric.assignment import Assignment
from grader.runs.directory import IntakeRecord, RunDirectory, RunInfo, assignment_of, write_derived
from grader.runs.pseudonyms import pseudonym

__all__ = [
    "GRADEBOOK",
    "PREVIEW",
    "forget_cells",
    "refuse_unwritable_gradebook",
    "scores_by_student",
    "write_gradebook",
]

GRADEBOOK, PREVIEW = "gradebook.csv", "gradebook-preview.csv"
_CELLS = "gradebook.json"
_LEFT = {
    EXCUSED: "excused in Canvas (EX)",
    NOT_ASSIGNED: "to whom it is not assigned in Canvas (N/A)",
    BY_HAND: "whose grade was set by hand in Canvas since it was first exported",
}


@dataclass(frozen=True, slots=True)
class _Cells:
    """What the gradebook's cells have held by our doing or before it: assignment id -> student id -> cells."""

    by_column: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    """The cell when it was first exported, then those that were written to be imported."""


def refuse_unwritable_gradebook(run: RunDirectory, students: Roster, info: RunInfo, assignment: Assignment) -> None:
    """Raise UsageError when scores could not go to the gradebook that this class list is; one of an earlier run is removed then."""
    try:
        _column_for(students, info, assignment)
    except UsageError:
        _remove(run)
        raise


def write_gradebook(run: RunDirectory, reports: Sequence[Report], messages: list[str]) -> bool:
    """Write gradebook.csv and its preview, or remove what an earlier run left, so that nobody imports it.

    Appends to `messages` who is left out. Returns False when there should be a gradebook and it could not be written.
    """
    info = run.info()
    assignment = assignment_of(info)
    try:
        students = read_roster(run.root / "roster.csv") if info.roster else Roster(())
        column = _column_for(students, info, assignment) if info.roster else None
    except UsageError as error:
        _remove(run)
        messages.append(f"{GRADEBOOK} was not written: {error}")
        return False
    if column is None:
        _remove(run)
        return True
    cells = run.read(_CELLS, _Cells) if (run.root / _CELLS).is_file() else _Cells()
    known = cells.by_column.get(column.id, {})
    scores, missing = scores_by_student(reports), run.read("intake.json", IntakeRecord).missing

    def shown(entry: RosterEntry) -> str:
        return pseudonym(run, entry.id) if info.pseudonyms else entry.name

    # While it is not decided whose a hand-in is, nobody who it might be of is missing.
    asked = (entry for entry in students.entries if not entry.is_test_student and shown(entry) not in missing)
    reasons = dict.fromkeys((entry.id for entry in asked), "nothing is known to be theirs") | _reasons(reports)
    rows = gradebook_rows(students, scores, column, possible=assignment.possible, known=known, reasons=reasons)
    # What will be imported is known before it can be imported: a cell of ours must never be taken for one set by hand.
    seen = {row.entry.id: tuple(dict.fromkeys((*known.get(row.entry.id, (row.old,)), row.new))) for row in rows}
    run.write(_CELLS, _Cells({**cells.by_column, column.id: seen}))
    write_derived(run.root / PREVIEW, preview_csv(rows))
    write_derived(run.root / GRADEBOOK, gradebook_csv(students, column, rows))
    messages += _left_out(rows, shown)
    return True


def forget_cells(run: RunDirectory, gone: Callable[[str], bool]) -> None:
    """Take students whose id is `gone` out of what is known of the gradebook's cells."""
    if (run.root / _CELLS).is_file():
        kept = {
            column: {student: cell for student, cell in cells.items() if not gone(student)}
            for column, cells in run.read(_CELLS, _Cells).by_column.items()
        }
        run.write(_CELLS, _Cells(kept))


def scores_by_student(reports: Sequence[Report]) -> dict[str, float | None]:
    """Total by student id, of every member of a group; None where a person has to look."""
    return {student: report.score.total for report in reports for student in report.submission.student_ids}


def _column_for(students: Roster, info: RunInfo, assignment: Assignment) -> AssignmentColumn | None:
    """Where scores go in Canvas's gradebook; None for a list that is there for the names only."""
    if not (students.identity_header or info.column):
        return None
    title, possible = assignment.title, assignment.possible
    return gradebook_column(students, info.column or None, title=title, possible=possible, scale=info.scale)


def _reasons(reports: Sequence[Report]) -> dict[str, str]:
    """Why who has no final score has none."""
    return {
        student: "no notebook: decide" if report.submission.problem is not None else "needs review"
        for report in reports
        if report.score.total is None
        for student in report.submission.student_ids
    }


def _left_out(rows: Sequence[GradebookRow], name: Callable[[RosterEntry], str]) -> list[str]:
    found = []
    for why, words in _LEFT.items():
        names = [f"{name(row.entry)}{f' ({row.old})' * (why == BY_HAND)}" for row in rows if row.why == why]
        if names:
            found.append(f"{GRADEBOOK} leaves out {len(names)} {words}: {'; '.join(names)}.")
    return found


def _remove(run: RunDirectory) -> None:
    for name in (GRADEBOOK, PREVIEW):
        (run.root / name).unlink(missing_ok=True)
