"""From a run to Canvas by its API: one score and one comment per student, whatever breaks on the way. Trusted.

What a push has to do is read from Canvas, so that one that broke off is gone on with by the same command: a comment carries a mark of
the report that it brings, and is never posted where that mark is. Every student has two lines in `canvas.jsonl`, before and
after; a score in Canvas that is neither empty nor our last one was set by hand, and stays. Raw scores are posted: Canvas deducts for
lateness by itself. In an anonymous assignment students have anonymous ids, for which Canvas takes scores and comments, but no files.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from canvasapi.submission import Submission
from canvasapi.upload import Uploader

from grader import serialization
from grader.errors import LmsError
from grader.lms.canvas_api import course_and_assignment, pause, speaking
from grader.lms.gradebook import number_cell, points_factor
from grader.records import Report
from grader.reports import for_student
from grader.reports.view import earned, remarks
from grader.runs.directory import RunDirectory, now
from grader.runs.pseudonyms import with_ids
from grader.runs.publish import ANNOTATED

__all__ = ["Push", "Step", "plan_push", "send"]

LEDGER = "canvas.jsonl"
_TRIES = 4
_COMMENTS = ["submission_comments"]


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the ledger."""

    student: int | str
    """Canvas user id; the anonymous id where there is no other."""
    stage: str
    """`before` or `after` the request."""
    score: float | None
    """The score in Canvas at that moment."""
    sent: float | None
    """The score that is, or was, sent."""
    mark: str
    """The mark of the report."""
    at: str
    """When, in UTC (ISO 8601)."""


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one submission."""

    report: Report
    """What is sent."""
    students: tuple[int | str, ...]
    """Canvas user ids (or the anonymous id, a text) whose score it is; a request for the first serves a group."""
    old: float | None
    """The first one's score in Canvas."""
    new: float | None
    """The score to post; None where nothing is sent."""
    why: str
    """Why, in a few words."""
    mark: str = ""
    """What the comment carries, so that it is posted once."""
    comment: bool = False
    """Whether the comment is still to be posted."""


@dataclass(frozen=True, slots=True)
class Push:
    """A push as it is planned: nothing has been sent."""

    course: str
    """Canvas's id of the course."""
    assignment: Any
    """The assignment, as `canvasapi` gives it."""
    steps: tuple[Step, ...]
    """One per submission of the run, and per member where Canvas grades these one by one."""
    notes: tuple[str, ...]
    """What a person should know before it is sent."""

    @property
    def to_send(self) -> list[Step]:
        """The steps that change something in Canvas."""
        return [step for step in self.steps if step.new is not None]


def plan_push(canvas: Any, run: RunDirectory, course_id: str, assignment_id: str, *, overwrite: bool = False) -> Push:
    """Compare a run with what Canvas has; `overwrite` replaces scores that were set by hand, too.

    Raises UsageError where the points do not fit, LmsError when Canvas cannot be reached or refuses, StoreError for reports that
    are not there.
    """
    _course, assignment = course_and_assignment(canvas, course_id, assignment_id)
    with speaking("the submissions"):
        known = {_student(one): one for one in assignment.get_submissions(include=_COMMENTS)}
    reports = with_ids(run, run.reports())
    possible = getattr(assignment, "points_possible", None)
    own = reports[0].score.possible if reports else None
    remedy = "grade with --scale, or change the points in Canvas"
    factor = points_factor("the assignment", possible, own or None, scale=run.info().scale, remedy=remedy)
    posted = _last_posted(run)
    alone = bool(getattr(assignment, "grade_group_students_individually", False))
    steps: list[Step] = []
    notes: list[str] = []
    for report in reports:
        users: list[int | str] = [int(student) for student in report.submission.student_ids if student.isdecimal()]
        users = users or list(filter(None, [report.submission.anonymous_id]))
        if not users:
            steps.append(Step(report, (), None, None, "no Canvas user id is known"))
            continue
        served = [(user,) for user in users] if alone else [tuple(users)]
        steps += [_step(run, report, s, known.get(s[0]), factor, posted, overwrite=overwrite) for s in served]
    if any(isinstance(one, str) for step in steps for one in step.students):
        notes.append(
            "Canvas takes no files for anonymous hand-ins: comments say what was seen. feedback.zip brings the notebooks"
            " (Upload Submissions on the assignment's page)."
        )
    if reports and getattr(assignment, "rubric", None) and not _rubric_points(assignment, reports[0], factor):
        notes.append(
            "The assignment's rubric is left empty: name its criteria as the grader's parts or criteria to have it filled in."
        )
    return Push(course_id, assignment, tuple(steps), tuple(notes))


def _step(
    run: RunDirectory,
    report: Report,
    students: tuple[int | str, ...],
    there: Any,
    factor: float,
    posted: dict[int | str, float],
    *,
    overwrite: bool,
) -> Step:
    if there is None:
        return Step(report, students, None, None, "not assigned to this student in Canvas")
    old = _score(there)
    if report.score.total is None:
        return Step(report, students, old, None, "needs review")
    if getattr(there, "excused", False):
        return Step(report, students, old, None, "excused in Canvas")
    uploads = {str(one.id) for one in getattr(there, "attachments", None) or ()}
    typed = getattr(there, "submission_type", None) in ("online_text_entry", "online_url")
    if report.submission.attachment_id and report.submission.attachment_id not in uploads:
        why = (
            "resubmitted since: pull and grade again" if typed or uploads else "no upload there: is it this assignment?"
        )
        return Step(report, students, old, None, why)
    new = round(report.score.total * factor, 2)
    mark = _mark(run, report)
    comment = not _has_comment(there, mark)
    if _same(old, new) and not comment:
        return Step(report, students, old, None, "as it is in Canvas", mark)
    if old is not None and not _same(old, new) and not _same(old, posted.get(students[0])) and not overwrite:
        return Step(report, students, old, None, "set by hand in Canvas")
    return Step(report, students, old, new, "new" if old is None else "changed", mark, comment)


def _student(submission: Any) -> int | str | None:
    """Whose a submission is to Canvas: the user's id, or the anonymous one where Canvas tells no other."""
    user: int | str | None = getattr(submission, "user_id", None) or getattr(submission, "anonymous_id", None)
    return user


def send(canvas: Any, run: RunDirectory, push: Push, on_step: Callable[[Step], None] = lambda _step: None) -> list[str]:
    """Carry a plan out, and read everything back; returns what is not in Canvas as it was sent.

    Raises LmsError when it breaks off; the same command then goes on where it stopped.
    """
    if push.to_send:  # a line that a kill cut off goes, so that the next one is not written behind it
        run.write_ledger(LEDGER, run.ledger(LEDGER, _Line, log=True))
    for step in push.to_send:
        _note(run, step, "before", step.old)
        _carry_out(canvas, run, push, step)
        _note(run, step, "after", step.new)
        on_step(step)
    with speaking("reading back what was sent"):
        known = {_student(one): one for one in push.assignment.get_submissions(include=_COMMENTS)}
    return [
        f"{step.report.submission.display_name}: {number_cell(step.new or 0)} was sent, Canvas has "
        + ("no such student" if user not in known else f"{_score(known[user])}")
        for step in push.to_send
        for user in step.students
        if user not in known or not _same(_score(known[user]), step.new) or not _has_comment(known[user], step.mark)
    ]


def _carry_out(canvas: Any, run: RunDirectory, push: Push, step: Step) -> None:
    """Post score and comment in one request; when its fate is not known, Canvas is asked before it is tried again."""
    comment, place = step.comment, _place(push, step)
    with speaking(f"{step.report.submission.display_name}; run the same command again to go on from there"):
        for number in range(_TRIES):
            try:
                _post(canvas, run, push, step, comment=comment)
                return
            except requests.RequestException:  # what Canvas itself refuses it has not done
                if number == _TRIES - 1:
                    raise
            time.sleep(pause(number))
            asked = [("include[]", one) for one in _COMMENTS]
            there = Submission(None, canvas._Canvas__requester.request("GET", place, _kwargs=asked).json())
            comment = step.comment and not _has_comment(there, step.mark)
            if _same(_score(there), step.new) and not comment:
                return


def _post(canvas: Any, run: RunDirectory, push: Push, step: Step, *, comment: bool) -> None:
    requester, place = canvas._Canvas__requester, _place(push, step)
    form: list[tuple[str, Any]] = [("submission[posted_grade]", number_cell(step.new or 0))]
    if comment:
        files = []
        if isinstance(step.students[0], str):
            seen = _in_words(step.report)
        else:
            files = [_upload(requester, f"{place}/comments/files", path) for path in _files(run, step.report)]
            seen = "What was seen, and what to try, is in the attached files."
        text = f"{number_cell(step.new or 0)} points. {seen} [{step.mark}]"
        form += [("comment[text_comment]", text), ("comment[group_comment]", len(step.students) > 1)]
        form += [("comment[file_ids][]", one) for one in files]
    factor = (step.new or 0) / step.report.score.total if step.report.score.total else 1.0
    for criterion, points in _rubric_points(push.assignment, step.report, factor).items():
        form.append((f"rubric_assessment[{criterion}][points]", number_cell(points)))
    requester.request("PUT", place, _kwargs=form)


def _place(push: Push, step: Step) -> str:
    kind = "anonymous_submissions" if isinstance(step.students[0], str) else "submissions"
    return f"courses/{push.course}/assignments/{push.assignment.id}/{kind}/{step.students[0]}"


def _in_words(report: Report) -> str:
    """What the student reads where no file can be attached: each criterion that lost points, with what was seen and what to try."""
    lost = [result for result in for_student(report).score.criteria if result.earned != result.points]
    lines = [
        f"{result.title} {earned(result)} of {result.points}. " + " ".join(remark.text for remark in remarks(result))
        for result in lost
    ]
    return "\n\n".join(["All criteria passed." if not lines else "What was seen, and what to try:", *lines, ""])


def _upload(requester: Any, url: str, path: Path) -> int:
    """Upload a file for a comment: Canvas's three steps. A file that nothing refers to is harmless, so it may be sent again."""
    done, answer = False, {}
    with contextlib.suppress(ValueError):  # no JSON, or not what belongs into it: of something between Canvas and here
        done, answer = Uploader(requester, url, str(path)).start()
    if not done or not isinstance(answer.get("id"), int):
        raise LmsError(f"Canvas did not take the file {path.name}; run the same command again to go on from there")
    return int(answer["id"])


def _files(run: RunDirectory, report: Report) -> list[Path]:
    folder = run.folder(report.submission.id)
    return [path for path in (folder / "report.html", folder / ANNOTATED) if path.is_file()]


def _mark(run: RunDirectory, report: Report) -> str:
    """Changes with what the student reads, and with nothing else."""
    digest = hashlib.sha256()
    for path in _files(run, report):
        digest.update(path.read_bytes())
    return f"report {digest.hexdigest()[:10]}"


def _has_comment(submission: Any, mark: str) -> bool:
    comments = getattr(submission, "submission_comments", None) or ()
    return any(f"[{mark}]" in str(one.get("comment", "")) for one in comments if isinstance(one, dict))


def _score(submission: Any) -> float | None:
    score = getattr(submission, "entered_score", None)  # before Canvas deducts for lateness
    score = getattr(submission, "score", None) if score is None else score
    return float(score) if isinstance(score, int | float) else None


def _same(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and abs(one - other) < 0.006


def _rubric_points(assignment: Any, report: Report, factor: float) -> dict[str, float]:
    """Points of each criterion of Canvas's rubric, by its id; of none unless each is called as a part or a criterion of ours."""
    found: dict[str, float] = {}
    for line in getattr(assignment, "rubric", None) or ():
        called = " ".join(str(line.get("description", "")).casefold().split())
        ours = [
            result
            for result in report.score.criteria
            if called
            in (result.id, result.title.casefold(), report.groups.get(result.id.partition("/")[0], "").casefold())
        ]
        if not ours:
            return {}
        found[str(line["id"])] = sum(result.earned or 0 for result in ours) * factor
    return found


def _note(run: RunDirectory, step: Step, stage: str, score: float | None) -> None:
    with (run.root / LEDGER).open("ab") as file:
        for student in step.students:
            line = _Line(student, stage, score, step.new, step.mark, now())
            file.write(serialization.dumps(line, compact=True).encode())


def _last_posted(run: RunDirectory) -> dict[int | str, float]:
    """Our last score by student, whether it arrived or not."""
    return {one.student: one.sent for one in run.ledger(LEDGER, _Line, log=True) if one.sent is not None}
