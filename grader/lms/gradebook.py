"""The gradebook's CSV file that Canvas imports.

Trusted code; the names it writes come from students and are written so that neither Canvas nor a spreadsheet runs them.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from grader.errors import UsageError
from grader.intake.names import printable
from grader.intake.roster import COLUMN, AssignmentColumn, Roster, RosterEntry, number

__all__ = [
    "BY_HAND",
    "EXCUSED",
    "NOT_ASSIGNED",
    "GradebookRow",
    "choose_column",
    "csv_text",
    "formula_safe",
    "gradebook_column",
    "gradebook_csv",
    "gradebook_rows",
    "number_cell",
    "points_factor",
    "preview_csv",
]


@dataclass(frozen=True, slots=True)
class GradebookRow:
    """What becomes of one student's cell in Canvas."""

    entry: RosterEntry
    """The student."""
    old: str
    """The cell as exported."""
    new: str
    """What is imported; empty where the cell stays as it is."""
    why: str
    """Why, in a few words for the preview."""


def gradebook_rows(
    roster: Roster,
    scores: Mapping[str, float | None],
    column: AssignmentColumn,
    *,
    possible: float,
    known: Mapping[str, Collection[str]] = MappingProxyType({}),
    reasons: Mapping[str, str] = MappingProxyType({}),
) -> list[GradebookRow]:
    """Decide what becomes of every student's cell; `scores` are points by Canvas user id, None for who needs review.

    `known` holds, by student id, the cells that Canvas had when it was first exported, and those that were written since: what is
    neither was set there by hand, and stays. `reasons` says why who has no score has none. Where the column's points differ
    from `possible`, scores are converted. Raises ValueError for a score that is no finite number.
    """
    factor = column.points / possible if column.points is not None and possible else 1.0
    found = []
    for entry in roster.entries:
        old, points = entry.grades.get(column.id, ""), scores.get(entry.id)
        if points is not None and not math.isfinite(points):
            raise ValueError(f"the score of {entry.id} is not a finite number")
        new, why = "", reasons.get(entry.id, "handed in nothing")
        if points is not None and not (why := _kept(old, known.get(entry.id))):
            new = number_cell(points * factor)
            why = "as it is in Canvas" if _same(old, new) else "changed" if old else "new"
        found.append(GradebookRow(entry, old, new, why))
    return found


EXCUSED, NOT_ASSIGNED, BY_HAND = "excused in Canvas", "not assigned in Canvas", "set by hand in Canvas"


def _kept(old: str, known: Collection[str] | None) -> str:
    """Why a cell stays as it is although there is a score for it; empty when it does not."""
    if old.upper() == "EX":
        return EXCUSED
    if old.upper() == "N/A":
        return NOT_ASSIGNED
    return BY_HAND if old and known is not None and not any(_same(old, cell) for cell in known) else ""


def _same(cell: str, other: str) -> bool:
    """Whether two cells hold the same points: Canvas shows two decimals at most."""
    one, two = number(cell), number(other)
    return cell == other if one is None or two is None else abs(one - two) < 0.006


def gradebook_csv(roster: Roster, column: AssignmentColumn, rows: Iterable[GradebookRow]) -> str:
    """Return the CSV to import under Grades → Import: only the cells that have a new value, since an empty one would clear a score."""
    header = list(roster.identity_header) or ["Student", "ID", "Section"]
    table = [[*header, column.header]]
    for row in rows:
        entry = row.entry
        if row.new:
            identity = entry.identity if roster.identity_header else (formula_safe(entry.name), entry.id, entry.section)
            table.append([*identity, row.new])
    return csv_text(table)


def preview_csv(rows: Iterable[GradebookRow]) -> str:
    """Return a table for people: every student of the class, the cell in Canvas, what is imported, and why."""
    cells = [[formula_safe(r.entry.name), r.entry.id, formula_safe(r.old), r.new, formula_safe(r.why)] for r in rows]
    return csv_text([["Student", "ID", "In Canvas", "Imported", "Why"], *cells])


def gradebook_column(
    roster: Roster, column: str | None = None, *, title: str = "", possible: float | None = None, scale: bool = False
) -> AssignmentColumn:
    """Return the column that scores out of `possible` go to: of an export, or the one that `column` names as Canvas does.

    Raises UsageError when the column is not certain, or its points are not the `possible` ones and may not be converted (`scale`).
    """
    if roster.identity_header:
        chosen = choose_column(roster, column, title)
        remedy = "convert them with --scale, change the points in Canvas and export again, or name another column with --column"
        points_factor(f"“{chosen.header}”", chosen.points, possible, scale=scale, remedy=remedy)
        return chosen
    match = COLUMN.fullmatch((column or "").strip())
    if match is None:
        raise UsageError(
            "without Canvas's gradebook export (--roster) name the column as Canvas does, with the assignment's id: "
            '--column "Lab 2 (98765)"; a title without its id would make a new assignment in Canvas'
        )
    return AssignmentColumn(match[0], match["title"], match["id"])


def choose_column(roster: Roster, column: str | None = None, title: str = "") -> AssignmentColumn:
    """Return the gradebook column that is meant: by `column`, else by the assignment's `title`, else the only one.

    Raises UsageError, listing the columns, when none or several fit.
    """
    candidates = roster.assignments
    listing = "; ".join(f"“{c.header}”" for c in candidates[:20]) or "none"
    if column is not None:
        text = column.strip()
        tests = (
            lambda c: text in (c.header, c.id),
            lambda c: c.title == text,
            lambda c: text.casefold() in c.header.casefold(),
        )
        found = next((hits for test in tests if (hits := [c for c in candidates if test(c)])), [])
        if len(found) != 1:
            what = "fits several columns" if found else "is no column"
            raise UsageError(f"“{column}” {what} of the gradebook. Its assignments: {listing}. Name one with --column.")
        return found[0]
    if len(candidates) == 1:
        return candidates[0]
    words = _words(title)
    likely = [c for c in candidates if words and len(words & _words(c.title)) * 2 > len(words)]
    if len(likely) != 1:
        raise UsageError(
            f"which column of the gradebook is this assignment? Name it with --column (its id is enough). "
            f"Its assignments: {listing}."
        )
    return likely[0]


def number_cell(value: float) -> str:
    """Write points with at most two decimals and a decimal point: `85`, `8.5`, `8.33`."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def formula_safe(cell: str) -> str:
    """Guard a text that a spreadsheet would run: `=A1` becomes `="=A1"`, which is Canvas's own way."""
    text = printable(cell)
    return '="' + text.replace('"', '""') + '"' if text[:1] in ("=", "+", "-", "@") else text


def points_factor(what: str, points: float | None, possible: float | None, *, scale: bool, remedy: str) -> float:
    """By how much scores out of `possible` are multiplied where Canvas's `points` differ; 1 where either is not known.

    Raises UsageError, which names `what` and ends in its `remedy`, where they differ and may not be converted.
    """
    if possible is None or points is None or math.isclose(points, possible):
        return 1.0
    if not scale or points <= 0 or possible <= 0:
        raise UsageError(
            f"{what} is worth {number_cell(points)} points in Canvas, but these scores are out of {number_cell(possible)}:"
            f" {remedy if points > 0 else 'set its points there first'}"
        )
    return points / possible


def _words(title: str) -> set[str]:
    return set(re.findall(r"\w+", title.casefold())) - {"the", "a", "an", "of", "and", "for", "with", "in"}


def csv_text(rows: list[list[str]]) -> str:
    """Write rows as a CSV file."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()
