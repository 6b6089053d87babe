"""From what running a submission brought to its report: pure, and the same bytes every time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import grader
from grader.grading.context import Ground
from grader.grading.fingerprint import question_digest
from grader.records import Attempt, Evidence, Execution, Notebook, Observation, Report, Status, Submission, Verdict
from grader.rubric.judge import judge
from grader.rubric.questions import Question
from grader.rubric.scoring import score

__all__ = ["Result", "report_for"]


@dataclass(frozen=True, repr=False)  # asyncio.run makes a text of what it returns: half a second for all this evidence
class Result:
    """What running one submission brought; with the ground it is enough to judge."""

    notebook: Notebook
    """The notebook as it ran."""
    execution: Execution
    """How it went."""
    evidence: Evidence
    """What was seen."""
    fault: str = ""
    """Why the grader or its machine failed, when it did."""
    sample: str = ""
    """`Ground.sample` of the questions that were asked, where it is known: what it vouches for need not be compared."""


def report_for(
    ground: Ground,
    submission: Submission,
    result: Result | None,
    overrides: Mapping[str, tuple[int, str]] | None = None,
) -> Report:
    """Judge stored evidence and fill in a report: pure, and the same bytes every time.

    Without a result (nothing could be run) every criterion fails with the submission's problem as its message.
    """
    if result is None:
        problem = submission.problem or "There is nothing to judge."
        verdicts = {name: Verdict(Status.FAILED, problem) for name in ground.assignment.checks}
        return _report(ground, submission, None, verdicts, overrides, ())
    questions = ground.questions(result.evidence.seed)
    evidence = result.evidence
    if not result.sample or result.sample != ground.sample:
        evidence = _still_asked(evidence, questions)
    verdicts = judge(ground.assignment, evidence, questions)
    review = (f"The grader or its machine failed: {result.fault}",) if result.fault else ()
    facts = ground.assignment.summary(questions, evidence.observations)
    return _report(ground, submission, result, verdicts, overrides, review, facts)


def _report(
    ground: Ground,
    submission: Submission,
    result: Result | None,
    verdicts: Mapping[str, Verdict],
    overrides: Mapping[str, tuple[int, str]] | None,
    review: tuple[str, ...],
    facts: Mapping[str, Any] | None = None,
) -> Report:
    filled = score(ground.assignment, verdicts, overrides, review)
    missing = _missing_packages(result) if result is not None and filled.total is not None else ()
    if missing and filled.total != filled.possible and not overrides:
        names = ", ".join(f"`{name}`" for name in missing)
        filled = score(
            ground.assignment, verdicts, overrides, (f"The notebook imports {names}, which this grader does not have.",)
        )
    notices = () if result is None else (*result.notebook.notices, *result.execution.notices)
    return Report(
        assignment=ground.assignment.id,
        assignment_title=ground.assignment.title,
        submission=submission,
        execution=None if result is None else result.execution,
        adaptations=() if result is None else result.notebook.adaptations,
        notices=tuple(dict.fromkeys((*submission.notices, *notices))),
        score=filled,
        facts=facts or {},
        grader_version=grader.__version__,
    )


def _missing_packages(result: Result) -> tuple[str, ...]:
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
