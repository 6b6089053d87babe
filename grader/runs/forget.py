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

from grader.intake import Roster, leave_out_of_copies, read_roster
from grader.intake.roster import rows_without
from grader.lms.gradebook import csv_text
from grader.records import Notice
from grader.runs.directory import IntakeRecord, RunDirectory, now, write_atomically
from grader.runs.gradebook import forget_cells
from grader.runs.pseudonyms import forget_names, people, pseudonym

__all__ = ["forget", "leave_out_forgotten"]

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
        gone |= {pseudonym(run, identity) for identity in gone} if run.info().pseudonyms else set()
        # First what keeps the person out: after a crash the same command, or `grader grade`, does the rest.
        traces = [_Trace(_digest(run, identity), now()) for identity in sorted(gone)]
        run.write_ledger(_TRACE, [*run.ledger(_TRACE, _Trace), *traces])
        leave_out_forgotten(run)
        for name in _MADE_AGAIN:
            (run.root / name).unlink(missing_ok=True)


def leave_out_forgotten(run: RunDirectory) -> None:
    """Take out of a run what it holds, or holds again, of those who were forgotten. Raises as `forget` does."""
    known = {trace.digest for trace in run.ledger(_TRACE, _Trace)}
    if not known:
        return
    hides = run.info().pseudonyms

    def gone(identity: str) -> bool:
        """Whether an id, or what stands for it in a run without names, is one of theirs."""
        return _digest(run, identity) in known or (hides and _digest(run, pseudonym(run, identity)) in known)

    path = run.root / "roster.csv"
    students = read_roster(path) if path.is_file() else Roster(())
    listed = [entry for entry in students.entries if gone(entry.id)]
    leave_out_of_copies(run.root / "sources", students, gone)
    words = {word for entry in listed for word in (entry.id, entry.name, pseudonym(run, entry.id))}
    record, kept = run.read("intake.json", IntakeRecord), []
    missing, handed_in = [*record.missing], set[str]()
    for one, person in zip(record.submissions, people(run), strict=True):
        handed_in |= {*person.student_ids}
        if gone(one.id) or (person.student_ids and all(map(gone, person.student_ids))):
            shutil.rmtree(run.root / "intake" / one.id, ignore_errors=True)
            shutil.rmtree(run.folder(one.id), ignore_errors=True)
            words |= {one.id, one.display_name, *one.student_ids}
        else:
            kept.append(replace(one, student_ids=tuple(student for student in one.student_ids if not gone(student))))
    for entry in listed:
        name = pseudonym(run, entry.id) if hides else entry.name
        if entry.id not in handed_in and name in missing:
            missing.remove(name)
    kept = [replace(one, notices=_silent(one.notices, words)) for one in kept]
    run.write("intake.json", IntakeRecord(tuple(kept), _silent(record.notices, words), tuple(missing)))
    forget_names(run, gone)
    forget_cells(run, gone)
    for name, key in _LEDGERS.items():
        if (run.root / name).is_file():
            # a damaged line of the log goes: it may be the person's
            lines = run.ledger(name, dict, log=name == "canvas.jsonl")
            run.write_ledger(name, [line for line in lines if not gone(str(line.get(key)))])
    for roster in (run.root / "groups.csv", path):  # by which the others are known, last
        if roster.is_file() and listed:
            rows = rows_without(roster, roster.read_bytes(), {entry.id for entry in listed})
            write_atomically(roster, csv_text(rows))


def _silent(notices: Sequence[Notice], words: set[str]) -> tuple[Notice, ...]:
    """The notices that name none of these ids and names."""
    return tuple(notice for notice in notices if not any(word and word in notice.text for word in words))


def _digest(run: RunDirectory, identity: str) -> str:
    return hmac.new(run.secret(), b"forgotten/" + identity.encode(), hashlib.sha256).hexdigest()
