"""Take one person out of a run: files, records, pages and the rows of every table; a trace says that it was done, not to whom.

The trace is a keyed digest of the person's id (HMAC-SHA256 under the run's secret), by which a later command with the same sources
leaves the person out again. What lies outside of the run, the download and the class list it was given, is not touched.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from grader import serialization
from grader.intake import Intake, Roster, leave_out_of_copies, read_roster
from grader.intake.roster import csv_rows
from grader.lms.gradebook import csv_text
from grader.records import Notice
from grader.runs.directory import IntakeRecord, RunDirectory, now, write_atomically
from grader.runs.pseudonyms import forget_names, people, pseudonym

__all__ = ["forget", "list_without_forgotten", "without_forgotten"]

_TRACE = "forgotten.jsonl"
_LEDGERS = {"overrides.jsonl": "submission", "canvas.jsonl": "student"}
_MADE_AGAIN = (
    "class.html", "scores.csv", "needs_review.csv", "gradebook.csv", "gradebook-preview.csv", "feedback.zip",
    "feedback-manifest.csv", "junit.xml", "moodle.csv", "stamp",
)  # fmt: skip
"""Files that are derived, and made without the person when reports are written again."""


@dataclass(frozen=True, slots=True)
class _Trace:
    """That somebody was forgotten."""

    digest: str
    """Keyed digest of the id."""
    at: str
    """When, in UTC (ISO 8601)."""


def forget(run: RunDirectory, submission_id: str, student: str = "") -> None:
    """Remove a submission and whose it is; with `student` one member of its group, or, without a submission, who handed in nothing.

    Reports have to be written again afterwards. Raises StoreError when the run cannot be read or written, UsageError while
    another process writes.
    """
    with run.lock():
        intake = run.read("intake.json", IntakeRecord)
        own = [one for one in people(run) if one.id == submission_id]
        alone = [one for one in own if not student or one.student_ids == (student,)]
        gone = {submission_id, *(i for one in own for i in one.student_ids)} - {""} if alone else {student}
        gone |= {pseudonym(run, one) for one in gone} if run.info().pseudonyms else set()
        # First what keeps the person out: after a crash the rest is done by the same command.
        _leave_trace(run, sorted(gone))
        path = run.root / "roster.csv"
        names = {entry.name for entry in (read_roster(path).entries if path.is_file() else ()) if entry.id in gone}
        names |= {one.display_name for one in alone}
        kept = [
            replace(
                one,
                student_ids=tuple(member for member in one.student_ids if member not in gone),
                notices=_silent(one.notices, gone | names),
            )
            for one in intake.submissions
            if one.id not in {left.id for left in alone}
        ]
        missing = tuple(name for name in intake.missing if name not in names | gone)
        notices = _silent(intake.notices, gone | names)
        run.write("intake.json", IntakeRecord(tuple(kept), notices, missing))
        roster = read_roster(path) if path.is_file() else None
        leave_out_of_copies(run.root / "sources", roster, lambda identity: bool(_also(run, identity) & gone))
        for one in alone:
            shutil.rmtree(run.root / "intake" / one.id, ignore_errors=True)
            shutil.rmtree(run.folder(one.id), ignore_errors=True)
        forget_names(run, gone)
        _rewrite_tables(run, gone)
        for name in _MADE_AGAIN:
            (run.root / name).unlink(missing_ok=True)


def without_forgotten(run: RunDirectory, intake: Intake, students: Roster | None) -> Intake:
    """What was taken in, without those who were forgotten; their copied files are removed again."""
    known = {trace.digest for trace in _traces(run)}
    if not known:
        return intake
    leave_out_of_copies(
        run.root / "sources", students, lambda identity: any(_digest(run, one) in known for one in _also(run, identity))
    )
    listed = students.entries if students is not None else ()
    words = {word for entry in listed if _digest(run, entry.id) in known for word in (entry.id, entry.name)}
    kept = []
    for one in intake.submissions:
        members = tuple(student for student in one.student_ids if _digest(run, student) not in known)
        if _digest(run, one.id) in known or (one.student_ids and not members):
            shutil.rmtree(run.root / "intake" / one.id, ignore_errors=True)
            words |= {one.id, one.display_name}
        else:
            kept.append(replace(one, student_ids=members))
    told = tuple(replace(one, notices=_silent(one.notices, words)) for one in kept)
    missing = tuple(entry for entry in intake.missing if _digest(run, entry.id) not in known)
    return Intake(told, _silent(intake.notices, words), missing)


def list_without_forgotten(run: RunDirectory, students: Roster, data: bytes) -> bytes:
    """The bytes of a list of these students as they were given, or without the rows of those who were forgotten."""
    known = {trace.digest for trace in _traces(run)}
    gone = {entry.id for entry in students.entries if _digest(run, entry.id) in known} if known else set()
    return _rows_without(Path("the class list"), data, gone).encode() if gone else data


def _silent(notices: Sequence[Notice], words: set[str]) -> tuple[Notice, ...]:
    """The notices that name none of these ids and names."""
    return tuple(notice for notice in notices if not any(word and word in notice.text for word in words))


def _also(run: RunDirectory, identity: str) -> set[str]:
    """An id, and what stands for it in a run without names."""
    return {identity, pseudonym(run, identity)} if run.info().pseudonyms else {identity}


def _digest(run: RunDirectory, identity: str) -> str:
    return hmac.new(run.secret(), b"forgotten/" + identity.encode(), hashlib.sha256).hexdigest()


def _traces(run: RunDirectory) -> list[_Trace]:
    return run.ledger(_TRACE, _Trace)


def _leave_trace(run: RunDirectory, identities: Sequence[str]) -> None:
    run.write_ledger(_TRACE, [*_traces(run), *(_Trace(_digest(run, identity), now()) for identity in identities)])


def _rewrite_tables(run: RunDirectory, gone: set[str]) -> None:
    """Take the person's rows out of the class list, the ledgers and what is known of the gradebook's cells."""
    for roster in (run.root / "roster.csv", run.root / "groups.csv"):
        if roster.is_file():
            write_atomically(roster, _rows_without(roster, roster.read_bytes(), gone))
    for name, key in _LEDGERS.items():
        if (run.root / name).is_file():
            lines = run.ledger(name, dict, log=name == "canvas.jsonl")  # a damaged line goes: it may be the person's
            run.write_ledger(name, [line for line in lines if str(line.get(key)) not in gone])
    cells = run.root / "gradebook.json"
    if cells.is_file():
        known = json.loads(cells.read_text(encoding="utf-8"))
        for column in known["by_column"].values():
            for identity in gone & column.keys():
                del column[identity]
        write_atomically(cells, serialization.dumps(known))


def _rows_without(path: Path, data: bytes, gone: set[str]) -> str:
    """A class list without the rows of these ids, which a spreadsheet may have made decimal numbers."""
    kept = [
        row
        for row in csv_rows(path, data)
        if not gone & {re.sub(r"[.,]0+$", "", cell.strip().removeprefix("Participant ")) for cell in row}
    ]
    return csv_text(kept)
