"""From Canvas to a folder: what students handed in, named as Canvas's own archive names it, and the class list beside it.

The folder is a mirror of the current attempts: what is there already is not fetched again, what a newer attempt has replaced goes, and
what has no name of Canvas's stays.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from grader.errors import UsageError
from grader.intake.names import canvas_readings, compact, safe_file_name
from grader.intake.roster import COLUMN, csv_rows
from grader.lms.canvas_api import course_and_assignment, get, speaking
from grader.lms.gradebook import csv_text, formula_safe, number_cell

__all__ = ["pull"]

_LARGEST = 200 << 20
_TYPED = ("_text.html", "_link.html")  # whose names stay when a newer attempt says something else
_COLUMNS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section", "group_name")


def pull(canvas: Any, course_id: str, assignment_id: str, folder: Path) -> tuple[str, list[str]]:
    """Bring `folder/submissions` and `folder/roster.csv` up to date; returns what that brought, in a sentence, and what was left out.

    The roster is a gradebook export with one assignment and, where there are groups, the column `group_name`.
    Raises LmsError when Canvas cannot be reached or refuses, OSError when the disk does; the same command goes on. Raises UsageError
    for a folder that holds a run or another assignment's hand-ins, which would go.
    """
    course, assignment = course_and_assignment(canvas, course_id, assignment_id)
    _refuse_another(folder, str(assignment.id))
    with speaking("the submissions"):
        grouped = getattr(assignment, "group_category_id", None) is not None
        submissions = list(assignment.get_submissions(include=["user", "group"]))
    target = folder / "submissions"
    target.mkdir(parents=True, exist_ok=True)
    there = {path.name for path in target.iterdir()}
    wanted: set[str] = set()
    left_out: list[str] = []
    new = submitted = 0
    groups_done: set[int] = set()
    for submission in submissions:
        group = _group(submission)
        if grouped and group is not None:  # every member has a copy of the same files
            if group[0] in groups_done:
                continue
            groups_done.add(group[0])
        files = dict(_files(canvas, submission, left_out))
        submitted += bool(files)
        wanted |= files.keys()
        for name, fetch in files.items():
            if name in there and not name.endswith(_TYPED):
                continue
            if (data := fetch()) is None:
                left_out.append(f"{name}: Canvas does not find it any more")
                continue
            part = target / f".{name}.part"
            part.write_bytes(data)
            part.replace(target / name)
            new += name not in there
    # What a person has put there stays.
    stale = {name for name in there - wanted if canvas_readings(name) or canvas_readings(name, anonymous=True)}
    for name in stale:
        (target / name).unlink()
    _write_roster(course, assignment, submissions, folder / "roster.csv")
    brought = f"{new} files fetched, {len(wanted & there)} there already, {len(stale)} of older attempts removed"
    return f"{assignment.name}: {submitted} handed in; {brought}.", left_out


def _refuse_another(folder: Path, assignment_id: str) -> None:
    if (folder / "run.json").exists():
        raise UsageError(f"{folder} holds a run of the grader; choose another folder with --out")
    path = folder / "roster.csv"
    if path.is_file():
        head = csv_rows(path, path.read_bytes())[0]
        if not any((match := COLUMN.fullmatch(cell)) and match["id"] == assignment_id for cell in head):
            raise UsageError(
                f"{path} is the class list of something else ({head[-1]}); choose another folder with --out"
            )


def _group(submission: Any) -> tuple[int, str] | None:
    group = getattr(submission, "group", None) or {}
    return (group["id"], str(group.get("name") or group["id"])) if isinstance(group.get("id"), int) else None


def _files(canvas: Any, submission: Any, left_out: list[str]) -> Iterator[tuple[str, Callable[[], bytes | None]]]:
    """Names of the files of a submission's current attempt, or its text or link as a page, as Canvas's archive has them -> their bytes."""
    anonymous = getattr(submission, "anonymous_id", None)
    user = getattr(submission, "user_id", None)
    late = "LATE_" if getattr(submission, "late", False) else ""
    if user is None and anonymous is None:
        return
    who = f"{_owner(submission)}_{late}{user}" if user is not None else f"{late}anon_{anonymous}"
    for attachment in getattr(submission, "attachments", None) or ():
        name, size = str(attachment.display_name), int(getattr(attachment, "size", 0) or 0)
        if size > _LARGEST:
            left_out.append(f"{name} of {who}: {size >> 20} MB; at most {_LARGEST >> 20} MB are fetched")
            continue
        url = str(attachment.url)
        yield f"{who}_{attachment.id}_{safe_file_name(name)}", functools.partial(get, canvas, url)
    kind = getattr(submission, "submission_type", None)
    text = {"online_text_entry": "body", "online_url": "url"}.get(str(kind))
    if text is not None:
        words = str(getattr(submission, text, "") or "")
        yield f"{who}_{'text' if text == 'body' else 'link'}.html", words.encode


def _owner(submission: Any) -> str:
    """What Canvas writes before the ids: letters and digits of the group's name, or of the student's."""
    user, group = getattr(submission, "user", None) or {}, _group(submission)
    name = group[1] if group else str(user.get("sortable_name") or user.get("name") or "")
    # Students name their groups, and a file's name has 255 bytes at most.
    return compact(name).encode()[:80].decode("utf-8", "ignore") or "x"


def _write_roster(course: Any, assignment: Any, submissions: list[Any], path: Path) -> None:
    by_user = {getattr(s, "user_id", None): s for s in submissions}
    with speaking("the students of the course"):
        sections = {section.id: str(section.name) for section in course.get_sections()}
        users = list(course.get_users(enrollment_type=["student"], include=["enrollments"]))
    possible = getattr(assignment, "points_possible", None)
    rows = [
        [*_COLUMNS, f"{assignment.name} ({assignment.id})"],
        ["    Points Possible", "", "", "", "", "", "" if possible is None else number_cell(float(possible))],
    ]
    for user in users:
        enrolled = [e.get("course_section_id") for e in getattr(user, "enrollments", None) or ()]
        submission = by_user.get(user.id)
        group = _group(submission) if submission is not None else None
        rows.append([
            formula_safe(str(getattr(user, "sortable_name", user.id))),
            str(user.id),
            str(getattr(user, "sis_user_id", None) or ""),
            str(getattr(user, "login_id", None) or ""),
            formula_safe(" and ".join(sections[one] for one in dict.fromkeys(enrolled) if one in sections)),
            formula_safe(group[1]) if group else "",
            _cell(submission),
        ])  # fmt: skip
    part = path.with_name(f".{path.name}.part")  # half a class list would be taken for the class
    part.write_text(csv_text(rows), encoding="utf-8")
    part.replace(path)


def _cell(submission: Any) -> str:
    """The cell that an export of the gradebook would show."""
    if submission is None:
        return "N/A"
    if getattr(submission, "excused", False):
        return "EX"
    score = getattr(submission, "score", None)
    return "" if score is None else number_cell(float(score))
