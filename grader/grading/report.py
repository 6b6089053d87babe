"""From what running a submission brought to its report: pure, and the same bytes every time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import grader
from grader.grading.context import RunContext
from grader.grading.fingerprint import question_digest
from grader.records import Attempt, Evidence, Observation, Report, Status, Submission, SubmissionRun, Verdict
from grader.rubric.judge import judge, score
from grader.rubric.questions import Question

__all__ = ["report_for"]


def report_for(
    context: RunContext,
    submission: Submission,
    result: SubmissionRun | None,
    overrides: Mapping[str, tuple[int, str]] | None = None,
) -> Report:
    """Judge stored evidence and fill in a report: pure, and the same bytes every time.

    Without a result (nothing could be run) every criterion fails with the submission's problem as its message.
    """
    if result is None:
        problem = submission.problem or "There is nothing to judge."
        verdicts = {name: Verdict(Status.FAILED, problem) for name in context.assignment.checks}
        return _report(context, submission, None, verdicts, overrides, ())
    questions = context.questions(result.evidence.seed)
    evidence = _still_asked(result.evidence, questions)
    verdicts = judge(context.assignment, evidence, questions)
    review = (f"The grader or its machine failed: {result.fault}",) if result.fault else ()
    metrics = context.assignment.summary(questions, evidence.observations)
    return _report(context, submission, result, verdicts, overrides, review, metrics)


def _report(
    context: RunContext,
    submission: Submission,
    result: SubmissionRun | None,
    verdicts: Mapping[str, Verdict],
    overrides: Mapping[str, tuple[int, str]] | None,
    review: tuple[str, ...],
    metrics: Mapping[str, Any] | None = None,
) -> Report:
    filled = score(context.assignment, verdicts, overrides, review)
    missing = _missing_packages(result) if result is not None and filled.total is not None else ()
    if missing and filled.total != filled.possible and not overrides:
        names = ", ".join(f"`{name}`" for name in missing)
        filled = score(
            context.assignment,
            verdicts,
            overrides,
            (f"The notebook imports {names}, which this grader does not have.",),
        )
    notices = () if result is None else (*result.notebook.notices, *result.execution.notices)
    return Report(
        assignment=context.assignment.id,
        assignment_title=context.assignment.title,
        submission=submission,
        execution=None if result is None else result.execution,
        adaptations=() if result is None else result.notebook.adaptations,
        notices=tuple(dict.fromkeys((*submission.notices, *notices))),
        score=filled,
        metrics=metrics or {},
        groups=context.assignment.groups,
        grader_version=grader.__version__,
    )


def _missing_packages(result: SubmissionRun) -> tuple[str, ...]:
    """Packages a cell asked for in vain: the machine's fault unless the student made them up, so a person decides."""
    errors = [cell.error for cell in result.execution.cells if cell.error is not None]
    found = [e.message.rpartition("named ")[2].strip("' ")[:60] for e in errors if e.name == "ModuleNotFoundError"]
    return tuple(dict.fromkeys(name for name in found if name))


def _still_asked(evidence: Evidence, questions: Mapping[str, Question]) -> Evidence:
    """Take evidence of questions that have changed since as our fault: it can neither pass nor fail anybody."""
    now = {name: question_digest(question) for name, question in questions.items()}
    text = "What is asked here has changed since this was run; run `grader grade` on the same folder again."
    stale = {
        name: Observation(Attempt.FAULT, error=text) for name in evidence.asked if now.get(name) != evidence.asked[name]
    }
    return replace(evidence, observations={**evidence.observations, **stale})
