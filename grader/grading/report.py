"""From what running a submission brought to its report: pure, and the same bytes every time."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import grader
from grader.grading.causes import explained, follow_ons, with_originals
from grader.grading.context import RunContext
from grader.grading.fingerprint import question_digest
from grader.records import (
    Attempt,
    Evidence,
    Notice,
    Observation,
    Report,
    Status,
    Submission,
    SubmissionRun,
    Verdict,
)
from grader.rubric.judge import Overrides, judge, score
from grader.rubric.questions import Question

__all__ = ["report_for"]


def report_for(
    context: RunContext,
    submission: Submission,
    run: SubmissionRun | None,
    overrides: Overrides | None = None,
    *,
    no_notebook_is_zero: bool = False,
    limits: Mapping[str, float] | None = None,
) -> Report:
    """Judge stored evidence and fill in a report: pure, and the same bytes every time.

    `overrides` maps criterion id to points and reason set by hand. What could not be read or is no notebook has the reason as its
    `problem` and no score until a person has decided: by an override, or for all with `no_notebook_is_zero`; then what nobody set is
    0. `limits` are those it was run with, to be shown.
    """
    assignment, review, metrics = context.assignment, list[str](), dict[str, Any]()
    notices, cells = submission.notices, dict[str, int | None]()
    if run is not None and (unreadable := [n.text for n in run.notebook.notices if n.kind == "unreadable"]):
        submission, run = replace(submission, problem=unreadable[0]), None
    if run is None:
        problem = submission.problem or "There is nothing to judge."
        decided = no_notebook_is_zero or bool(overrides)
        status = Status.FAILED if decided else Status.ERROR
        verdicts = {name: Verdict(status, problem) for name in assignment.checks}
        review += [] if decided else [f"No notebook: decide. {problem}"]
    else:
        run = with_originals(run)
        questions = context.questions(run.evidence.seed)
        run = replace(run, evidence=_still_asked(run.evidence, questions))
        verdicts = explained(assignment, run, judge(assignment, run.evidence, questions, overrides), questions)
        with contextlib.suppress(ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            metrics = assignment.metrics(questions, run.evidence.observations)  # empty where they cannot be told
        cells = {id_: _cell_of(id_, check.asks, run, questions, metrics) for id_, check in assignment.checks.items()}
        notices += (*run.notebook.notices, *run.execution.notices, *follow_ons(run), *_forged(run.evidence))
        review += [f"The grader or its machine failed: {run.fault}"] if run.fault else []
    review += [
        f"Whose it is: decide. {notice.text}" for notice in submission.notices if notice.kind == "ambiguous-name"
    ]
    filled = score(assignment, verdicts, overrides, tuple(review))
    missing = "" if run is None or overrides else _missing_packages(run)
    if missing and filled.total not in (None, filled.possible):
        why = f"The notebook uses {missing}, which this grader does not have."
        filled = score(assignment, verdicts, None, (why,))
    return Report(
        assignment=assignment.id,
        assignment_title=assignment.title,
        submission=submission,
        execution=None if run is None else run.execution,
        adaptations=() if run is None else run.notebook.adaptations,
        notices=tuple(dict.fromkeys(notices)),
        score=replace(filled, criteria=tuple(replace(r, cell=cells.get(r.id)) for r in filled.criteria)),
        metrics=metrics,
        groups=assignment.groups,
        grader_version=grader.__version__,
        note=context.settings.note,
        language=context.settings.language,
        settings=context.settings.sentences(limits),
    )


def _cell_of(
    id_: str, asks: str, run: SubmissionRun, questions: Mapping[str, Question], metrics: Mapping[str, Any]
) -> int | None:
    """In which cell it is that a criterion judges: the last that defines what is asked about, or that began the training.

    It is for display only: what the box says of it decides nothing.
    """
    seen = run.evidence.observations.get(asks)
    names = (seen.renamed,) if seen is not None and seen.renamed else questions[asks].names
    if not names:
        began = metrics.get("methods", {}).get(id_.partition("/")[0], {}).get("cell")
        return began if any(cell.index == began for cell in run.notebook.cells) else None
    defines = re.compile(
        rf"^[ \t]*(?:(?:async[ \t]+)?def|class)[ \t]+(?:{'|'.join(map(re.escape, names))})\b", re.MULTILINE
    )
    return next((cell.index for cell in reversed(run.notebook.cells) if defines.search(cell.source)), None)


def _missing_packages(run: SubmissionRun) -> str:
    """Packages a cell asked for in vain, or in whose place a stand-in took part: a person decides what the machine may have caused."""
    errors = [cell.error for cell in run.execution.cells if cell.error is not None]
    found = [e.message.rpartition("named ")[2].strip("' ")[:60] for e in errors if e.name == "ModuleNotFoundError"]
    found += [change.before[:60] for change in run.notebook.adaptations if change.rule == "stand-in"]
    return ", ".join(f"`{name}`" for name in dict.fromkeys(found) if name)


def _forged(evidence: Evidence) -> tuple[Notice, ...]:
    """What staff should know of answers that the grader's code in the box never gives."""
    return tuple(
        Notice(
            "staff-forged",
            f"The answer to `{name}` was forged or damaged by the notebook's code, so it earns nothing: {seen.error}.",
        )
        for name, seen in evidence.observations.items()
        if seen.attempt is Attempt.FORGED
    )


def _still_asked(evidence: Evidence, questions: Mapping[str, Question]) -> Evidence:
    """Take evidence of questions that have changed since as our fault: it can neither pass nor fail anybody."""
    now = {name: question_digest(question) for name, question in questions.items()}
    text = "What is asked here has changed since this was run; run `grader grade` on the same folder again."
    stale = {
        name: Observation(Attempt.FAULT, error=text) for name in evidence.asked if now.get(name) != evidence.asked[name]
    }
    return replace(evidence, observations={**evidence.observations, **stale})
