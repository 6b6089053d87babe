"""What a student may see: the same report without other people's ids, the grader's paths and the grader's own troubles.

Trusted. Works on records, so every renderer and every upload that starts from `for_student` is safe by the same few lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from grader.records import (
    Adaptation,
    CellRun,
    CriterionResult,
    Execution,
    Notice,
    Outcome,
    Report,
    Status,
    Submission,
    Verdict,
)
from grader.reports.sanitize import without_paths

__all__ = ["PRIVATE_KINDS", "REVIEW_SENTENCE", "Audience", "for_student", "is_private"]

Audience = Literal["instructor", "student"]

PRIVATE_KINDS = frozenset(
    {
        "ambiguous-name",
        "duplicate",
        "duplicate-student",
        "identical",
        "integrity",
        "not-in-roster",
        "roster",
        "roster-row",
        "several-submissions",
        "similar",
        "suspicious",
    }
)
"""Kinds of notices that only staff sees, as is every kind that starts with `staff-`: they may name other students."""

_ROUTINE = frozenset(
    {"cold-start", "matched-by-name", "no-feedback-file", "same-source"}
)  # of no interest to a student, and no suspicion

REVIEW_SENTENCE = (
    "A person has to look at a part of this submission before it gets a final score. This costs no points."
)
"""What a student reads in place of the reasons for a review, which speak of the grader's inside."""

_FACTS = ("accuracy", "threshold", "trainable", "steps", "seconds")


def is_private(notice: Notice) -> bool:
    """Whether a notice is for staff only, and worth a look."""
    return notice.kind in PRIVATE_KINDS or notice.kind.startswith("staff-")


def for_student(report: Report) -> Report:
    """Return the report as its student may see it. Applying it twice changes nothing more."""
    score = report.score
    criteria = tuple(_criterion(result) for result in score.criteria)
    return replace(
        report,
        submission=_submission(report.submission),
        execution=_execution(report.execution) if report.execution else None,
        adaptations=tuple(_adaptation(item) for item in report.adaptations),
        notices=_notices(report.notices),
        score=replace(score, criteria=criteria, review=(REVIEW_SENTENCE,) if score.review else ()),
        metrics=_metrics(report),
    )


def _submission(submission: Submission) -> Submission:
    return replace(
        submission,
        # A group's entry carries the id of whichever member handed in.
        id="group" if len(submission.student_ids) > 1 else submission.id,
        student_ids=submission.student_ids if len(submission.student_ids) == 1 else (),
        path="",
        anonymous_id=None,
        attachment_id=None,
        section=None,
        companions=tuple(name.replace("\\", "/").rsplit("/", 1)[-1] for name in submission.companions),
        notices=_notices(submission.notices),
        problem=without_paths(submission.problem) if submission.problem else submission.problem,
    )


def _execution(execution: Execution) -> Execution:
    bundle = without_paths(execution.bundle)
    cells = tuple(_cell(cell) for cell in execution.cells)
    if execution.outcome is Outcome.SANDBOX_FAILED:
        return replace(execution, bundle=bundle, cells=cells, notices=())
    return replace(execution, bundle=bundle, cells=cells, notices=_notices(execution.notices))


def _cell(cell: CellRun) -> CellRun:
    error = cell.error
    if error is not None:
        error = replace(error, message=without_paths(error.message), traceback=without_paths(error.traceback))
    return replace(cell, error=error, output=without_paths(cell.output))


def _adaptation(item: Adaptation) -> Adaptation:
    # `before` is the student's own text; what we put in its place may name a folder of ours.
    return replace(item, after=without_paths(item.after), reason=without_paths(item.reason))


def _notices(notices: tuple[Notice, ...]) -> tuple[Notice, ...]:
    shown = (n for n in notices if n.kind not in _ROUTINE and not is_private(n))
    return tuple(replace(notice, text=without_paths(notice.text)) for notice in shown)


def _criterion(result: CriterionResult) -> CriterionResult:
    verdict = result.verdict
    if verdict.status is Status.ERROR:
        message = "The grader could not judge this by itself; a person will look at it."
        # the message may speak of the grader's inside; a hint is always written for students
        return replace(result, verdict=Verdict(Status.ERROR, message, without_paths(verdict.hint)))
    return replace(
        result,
        verdict=replace(
            verdict,
            message=without_paths(verdict.message),
            hint=without_paths(verdict.hint),
            notices=_notices(verdict.notices),
        ),
    )


def _metrics(report: Report) -> dict[str, Any]:
    # Named one by one: a fact that is added later, about held-out reviews say, stays out until somebody decides otherwise.
    kept: dict[str, Any] = {}
    metrics = report.metrics
    methods = metrics.get("methods")
    if isinstance(methods, Mapping):
        kept["methods"] = {
            name: {key: values[key] for key in _FACTS if key in values}
            for name, values in methods.items()
            if name in report.groups and isinstance(values, Mapping)
        }
    if isinstance(metrics.get("runs_seen"), int):
        kept["runs_seen"] = metrics["runs_seen"]
    return kept
