"""What Canvas takes back: the gradebook's CSV file, and the zip of reports for "Upload Submissions".

Trusted code; the names it writes come from students and are written so that neither Canvas nor a spreadsheet runs them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from grader.errors import UsageError
from grader.intake.names import printable
from grader.intake.roster import COLUMN, AssignmentColumn, Roster
from grader.intake.storage import safe_file_name, slug
from grader.records import Notice, Submission

__all__ = [
    "Feedback",
    "FeedbackZip",
    "canvas_feedback_zip",
    "canvas_gradebook",
    "choose_column",
    "csv_text",
    "formula_safe",
    "gradebook_column",
    "number_cell",
]


def canvas_gradebook(
    roster: Roster,
    scores: Mapping[str, float | None],
    column: str | None = None,
    *,
    title: str = "",
    possible: float | None = None,
    scale: bool = False,
) -> str:
    """Return the CSV to import under Grades → Import: one row per scored student of the roster.

    `scores` are points by Canvas user id; None (needs review) is left out, since an empty cell would clear an existing
    score, and so is who is excused (`EX`) in Canvas. `column` (header, title or id) or `title` (of the assignment) picks the
    assignment's column of an exported gradebook; with a plain class list, `column` is the whole header, `Lab 2 (98765)`.
    `possible` is what `scores` are out of: where Canvas's points differ, `scale` converts, else it is refused.
    Raises UsageError as `gradebook_column` does, ValueError for a score that is no finite number.
    """
    wanted = {student: points for student, points in scores.items() if points is not None}
    bad = [student for student, points in wanted.items() if not math.isfinite(points)]
    if bad:
        raise ValueError(f"the score of {bad[0]} is not a finite number")
    chosen = gradebook_column(roster, column, title=title, possible=possible, scale=scale)
    scored = [entry for entry in roster.entries if entry.id in wanted and chosen.id not in entry.excused]
    if roster.identity_header:
        factor = chosen.points / possible if chosen.points is not None and possible else 1.0
        rows = [[*entry.identity, number_cell(wanted[entry.id] * factor)] for entry in scored]
        return csv_text([[*roster.identity_header, chosen.header], *rows])
    rows = [[formula_safe(entry.name), entry.id, entry.section, number_cell(wanted[entry.id])] for entry in scored]
    return csv_text([["Student", "ID", "Section", chosen.header], *rows])


def gradebook_column(
    roster: Roster, column: str | None = None, *, title: str = "", possible: float | None = None, scale: bool = False
) -> AssignmentColumn:
    """Return the column that `canvas_gradebook` fills when it is given the same.

    Raises UsageError when the column is not certain, or its points are not the `possible` ones and may not be converted.
    """
    if roster.identity_header:
        chosen = choose_column(roster, column, title)
        _refuse_other_points(chosen, possible, scale)
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


def _refuse_other_points(column: AssignmentColumn, possible: float | None, scale: bool) -> None:
    if possible is None or column.points is None or math.isclose(column.points, possible):
        return
    if not scale or column.points <= 0 or possible <= 0:
        raise UsageError(
            f"“{column.header}” is worth {number_cell(column.points)} points in Canvas, but these scores are out of "
            f"{number_cell(possible)}: change the points in Canvas and export again, or name another column with --column"
        )


def _words(title: str) -> set[str]:
    return set(re.findall(r"\w+", title.casefold())) - {"the", "a", "an", "of", "and", "for", "with", "in"}


@dataclass(frozen=True, slots=True)
class Feedback:
    """One file for one student or group."""

    submission: Submission
    """Whose it is; needs the Canvas user id (or anonymous id) and the attachment id of the upload that it answers."""
    file_name: str
    """Name of the file, e.g. `report.html`."""
    content: bytes | Path
    """The file, or where it lies, so that the pages of thousands need not be in memory."""


@dataclass(frozen=True, slots=True)
class FeedbackZip:
    """The archive, and what is in it."""

    data: bytes
    """The zip file."""
    manifest: str
    """CSV: entry, user, attachment, sha256, submission; to be kept beside the zip."""
    left_out: tuple[Notice, ...]
    """Who gets no file this way, and why."""


def canvas_feedback_zip(feedback: Iterable[Feedback]) -> FeedbackZip:
    """Pack files under the names by which Canvas finds the student: `<name>_<user id>_<attachment id>_<file name>`.

    The same input gives the same bytes. Canvas accepts a file only for an upload that is still the student's current one, and
    only one file per upload: of several for one attachment the first is packed.
    """
    out = io.BytesIO()
    rows = [["entry", "user", "attachment", "sha256", "submission"]]
    left_out: list[Notice] = []
    seen: set[str] = set()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for item in sorted(feedback, key=lambda f: (f.submission.id, f.file_name)):
            submission = item.submission
            user = submission.anonymous_id or (submission.student_ids[0] if submission.student_ids else None)
            reason = _obstacle(submission, user)
            if not reason and submission.attachment_id in seen:
                reason = "another file is packed for the same upload"
            if reason or user is None or submission.attachment_id is None:
                left_out.append(Notice("no-feedback-file", f"{submission.display_name}: {item.file_name}: {reason}."))
                continue
            seen.add(submission.attachment_id)
            entry = f"{_owner(submission)}_{user}_{submission.attachment_id}_{safe_file_name(item.file_name)}"
            info = zipfile.ZipInfo(entry)  # with its fixed date of 1980
            info.external_attr = 0o644 << 16
            content = item.content.read_bytes() if isinstance(item.content, Path) else item.content
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
            digest = hashlib.sha256(content).hexdigest()
            rows.append([entry, user, submission.attachment_id, digest, submission.id])
    return FeedbackZip(out.getvalue(), csv_text(rows), tuple(left_out))


def _obstacle(submission: Submission, user: str | None) -> str:
    if user is None:
        return "no Canvas id is known for this submission"
    if submission.attachment_id is None:
        return "nothing was uploaded that Canvas could attach it to"
    if not submission.anonymous_id and not user.isdigit():
        return f"{user} is not a Canvas user id"
    return ""


def _owner(submission: Submission) -> str:
    """Return letters only: Canvas takes the first two all-digit tokens as ids, and skips names that begin with `link`."""
    if submission.anonymous_id:
        return "anon"
    letters = re.sub(r"[^a-z]", "", slug(submission.display_name))
    return f"x{letters}" if letters in ("", "anon") or letters.startswith("link") else letters


def csv_text(rows: list[list[str]]) -> str:
    """Write rows as a CSV file."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()
