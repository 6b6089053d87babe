"""Take one person out of a run: files, records, pages and the rows of every table; a trace says that it was done, not to whom.

The trace is a keyed digest of the person's id (HMAC-SHA256 under the run's secret), by which a later command with the same sources
leaves the person out again. What lies outside of the run, the download and the class list it was given, is not touched.
"""

from __future__ import annotations

import hashlib
import hmac
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from grader.intake import Intake, Roster, leave_out_of_copies, read_roster
from grader.intake.roster import rows_without
from grader.lms.gradebook import csv_text
from grader.records import Notice, Submission
from grader.runs.directory import IntakeRecord, RunDirectory, now, write_atomically
from grader.runs.gradebook import forget_cells
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
        own = [one for one in people(run) if one.id == submission_id]
        whole = [one for one in own if not student or one.student_ids == (student,)]
        ids = (i for one in whole for i in (one.id, *one.student_ids, one.anonymous_id or ""))
        gone = {*ids} - {""} if whole else {student}
        gone = {word for identity in gone for word in _also(run, identity)}
        # First what keeps the person out: after a crash the rest is done by the same command.
        traces = [_Trace(_digest(run, identity), now()) for identity in sorted(gone)]
        run.write_ledger(_TRACE, [*run.ledger(_TRACE, _Trace), *traces])
        path = run.root / "roster.csv"
        intake = run.read("intake.json", IntakeRecord)
        students = read_roster(path) if path.is_file() else None
        kept, notices, words = _cleared(run, intake.submissions, intake.notices, students)
        run.write("intake.json", IntakeRecord(kept, notices, tuple(n for n in intake.missing if n not in words)))
        forget_names(run, gone)
        forget_cells(run, gone)
        for roster in (path, run.root / "groups.csv"):
            if roster.is_file():
                write_atomically(roster, csv_text(rows_without(roster, roster.read_bytes(), gone)))
        for name, key in _LEDGERS.items():
            if (run.root / name).is_file():
                # a damaged line of the log goes: it may be the person's
                lines = run.ledger(name, dict, log=name == "canvas.jsonl")
                run.write_ledger(name, [line for line in lines if str(line.get(key)) not in gone])
        for name in _MADE_AGAIN:
            (run.root / name).unlink(missing_ok=True)


def without_forgotten(run: RunDirectory, intake: Intake, students: Roster | None) -> Intake:
    """What was taken in, without those who were forgotten; their copied files are removed again."""
    if not (known := _known(run)):
        return intake
    kept, notices, _ = _cleared(run, intake.submissions, intake.notices, students)
    return Intake(kept, notices, tuple(entry for entry in intake.missing if _digest(run, entry.id) not in known))


def _cleared(
    run: RunDirectory, submissions: Sequence[Submission], notices: Sequence[Notice], students: Roster | None
) -> tuple[tuple[Submission, ...], tuple[Notice, ...], set[str]]:
    """Submissions and notices without those who were forgotten, whose files are removed; and the words that stand for them."""
    known = _known(run)

    def gone(identity: str) -> bool:
        return any(_digest(run, one) in known for one in _also(run, identity))

    leave_out_of_copies(run.root / "sources", students, gone)
    listed = students.entries if students is not None else ()
    words = {word for entry in listed if gone(entry.id) for word in (*_also(run, entry.id), entry.name)}
    kept = []
    for one in submissions:
        members = tuple(student for student in one.student_ids if not gone(student))
        if gone(one.id) or (one.student_ids and not members):
            shutil.rmtree(run.root / "intake" / one.id, ignore_errors=True)
            shutil.rmtree(run.folder(one.id), ignore_errors=True)
            words |= {one.id, one.display_name, *one.student_ids}
        else:
            kept.append(replace(one, student_ids=members))
    return tuple(replace(one, notices=_silent(one.notices, words)) for one in kept), _silent(notices, words), words


def list_without_forgotten(run: RunDirectory, students: Roster, data: bytes) -> bytes:
    """The bytes of a list of these students as they were given, or without the rows of those who were forgotten."""
    known = _known(run)
    gone = {entry.id for entry in students.entries if _digest(run, entry.id) in known} if known else set()
    return csv_text(rows_without(Path("the class list"), data, gone)).encode() if gone else data


def _silent(notices: Sequence[Notice], words: set[str]) -> tuple[Notice, ...]:
    """The notices that name none of these ids and names."""
    return tuple(notice for notice in notices if not any(word and word in notice.text for word in words))


def _also(run: RunDirectory, identity: str) -> set[str]:
    """An id, and what stands for it in a run without names."""
    return {identity, pseudonym(run, identity)} if run.info().pseudonyms else {identity}


def _digest(run: RunDirectory, identity: str) -> str:
    return hmac.new(run.secret(), b"forgotten/" + identity.encode(), hashlib.sha256).hexdigest()


def _known(run: RunDirectory) -> set[str]:
    """Digests of the ids that were forgotten."""
    return {trace.digest for trace in run.ledger(_TRACE, _Trace)}
