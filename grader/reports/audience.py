"""What a student may see: the same report without other people's ids, the grader's paths and the grader's own troubles.

Trusted. Works on records, so every renderer and every upload that starts from `for_student` is safe by the same few lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, Literal, TypeVar

from grader.records import CriterionResult, Notice, Outcome, Report, Status, Submission, Verdict
from grader.reports.sanitize import without_paths
from grader.rubric.shown import redacted, with_numbers

__all__ = ["PRIVATE_KINDS", "REVIEW_SENTENCE", "Audience", "for_student", "is_private"]

T = TypeVar("T")
Audience = Literal["instructor", "student"]

PRIVATE_KINDS = frozenset({"ambiguous-name", "duplicate-student", "not-in-roster", "roster-row", "several-submissions"})
"""Kinds of notices that only staff sees, as is every kind that starts with `staff-`: they may name other students."""

_ROUTINE = frozenset(
    {"cold-start", "matched-by-name", "no-control-groups", "same-source"}
)  # of no interest to a student, and no suspicion

REVIEW_SENTENCE = (
    "A person has to look at a part of this submission before it gets a final score. This costs no points."
)
"""What a student reads in place of the reasons for a review, which speak of the grader's inside."""

_METRICS = ("accuracy", "threshold", "trainable", "steps", "seconds")
_OWN_TEXT = frozenset({"before", "file_name"})  # fields with the student's own text, shown as it was written


def is_private(notice: Notice) -> bool:
    """Whether a notice is for staff only, and worth a look."""
    return notice.kind in PRIVATE_KINDS or notice.kind.startswith("staff-")


def for_student(report: Report) -> Report:
    """Return the report as its student may see it. Applying it twice changes nothing more."""
    score, execution = report.score, report.execution
    if execution is not None:
        failed = execution.outcome is Outcome.SANDBOX_FAILED
        execution = replace(execution, notices=() if failed else _notices(execution.notices), bundle="")
    shown = replace(
        report,
        submission=_submission(report.submission),
        execution=execution,
        notices=_notices(report.notices),
        score=replace(
            score,
            criteria=tuple(map(_criterion, redacted(score.criteria))),
            review=(REVIEW_SENTENCE,) if score.review else (),
        ),
        metrics=_metrics(report),
        settings=_settings(report),
    )
    return _pathless(shown)


def _settings(report: Report) -> tuple[str, ...]:
    shown = {result.show for result in report.score.criteria}
    private = ["Students see"]
    private += ["Points"] if "nothing" in shown else []  # they name criteria
    private += ["Minimum accuracy"] if shown != {"all"} else []
    return tuple(sentence for sentence in report.settings if not sentence.startswith(tuple(private)))


def _submission(submission: Submission) -> Submission:
    alone = len(submission.student_ids) == 1
    doubtful = any(notice.kind == "ambiguous-name" for notice in submission.notices)
    return replace(
        submission,
        display_name=submission.file_name if doubtful else submission.display_name,
        # A group's entry carries the id of whichever member handed in.
        id="group" if len(submission.student_ids) > 1 else submission.id,
        student_ids=submission.student_ids if alone else (),
        path="",
        anonymous_id=None,
        attachment_id=None,
        section=None,
        companions=tuple(name.replace("\\", "/").rsplit("/", 1)[-1] for name in submission.companions),
        notices=_notices(submission.notices),
    )


def _notices(notices: tuple[Notice, ...]) -> tuple[Notice, ...]:
    return tuple(notice for notice in notices if notice.kind not in _ROUTINE and not is_private(notice))


def _criterion(result: CriterionResult) -> CriterionResult:
    verdict = result.verdict
    if verdict.status is Status.ERROR and result.show == "all":
        message = "The grader could not judge this by itself; a person will look at it."
        # the message may speak of the grader's inside; a hint is always written for students
        return replace(result, verdict=Verdict(Status.ERROR, message, verdict.hint))
    return replace(result, verdict=replace(verdict, notices=_notices(verdict.notices)))


def _metrics(report: Report) -> dict[str, Any]:
    # Named one by one: a number that is added later, about held-out reviews say, stays out until somebody decides otherwise.
    kept = {key: report.metrics[key] for key in ("methods", "runs_seen") if key in report.metrics}
    if "methods" in kept:
        measured = with_numbers(report.score.criteria)
        kept["methods"] = {
            name: {key: values[key] for key in _METRICS if key in values}
            for name, values in kept["methods"].items()
            if name in report.groups and name in measured
        }
    return kept


def _pathless(value: T) -> T:
    """The same record with no folder of this machine in any text, but for what the student wrote."""
    found: Any = value
    if isinstance(value, str) and not isinstance(value, Enum):
        found = without_paths(value)
    elif isinstance(value, tuple):
        found = tuple(map(_pathless, value))
    elif isinstance(value, Mapping):
        found = {key: _pathless(item) for key, item in value.items()}
    elif is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value) if field.name not in _OWN_TEXT]
        found = replace(value, **{name: _pathless(getattr(value, name)) for name in names})
    return found  # type: ignore[no-any-return]
