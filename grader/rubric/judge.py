"""Evidence to verdicts: pure, total, deterministic. A bug in a check is never charged to the student."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from grader.records import Attempt, Evidence, Notice, Observation, Status, Verdict
from grader.rubric.assignment import Assignment, Check
from grader.rubric.questions import Question

__all__ = ["judge"]

_NOTHING = Observation(Attempt.NOT_ASKED)


def judge(assignment: Assignment, evidence: Evidence, questions: Mapping[str, Question]) -> dict[str, Verdict]:
    """Judge every check in the order of the rubric; returns one verdict per check id and never raises."""
    verdicts: dict[str, Verdict] = {}
    for check in assignment.checks.values():
        seen = evidence.observations.get(check.asks, _NOTHING)
        verdict = _blocked(check, verdicts) or _one(check, questions.get(check.asks), seen, verdicts)
        if seen.renamed and verdict.status is not Status.SKIPPED:
            note = Notice("renamed", f"`{seen.renamed}` was taken for the asked-for name, by what it does.")
            verdict = replace(verdict, notices=(*verdict.notices, note))
        verdicts[check.id] = verdict
    return verdicts


def _blocked(check: Check, verdicts: Mapping[str, Verdict]) -> Verdict | None:
    for other in check.after:
        if verdicts[other].status in (Status.FAILED, Status.SKIPPED):
            root = verdicts[other].because or other
            return Verdict(Status.SKIPPED, f"Not judged, since it builds on `{root}`.", because=root)
        if verdicts[other].status is Status.ERROR:
            return Verdict(Status.ERROR, f"Not judged: `{other}`, on which it builds, needs review.")
    return None


def _one(check: Check, asked: Question | None, seen: Observation, earlier: Mapping[str, Verdict]) -> Verdict:
    if seen.attempt not in check.takes:
        return _without_value(seen)
    if asked is None:
        return Verdict(Status.ERROR, "The grader has lost the question of this criterion.")
    try:
        verdict: Any = check.judge(asked, seen, earlier) if check.sees_earlier else check.judge(asked, seen)
    except Exception as error:
        return Verdict(
            Status.ERROR, f"The check itself failed ({type(error).__name__}: {error}); a person has to look."
        )
    if not isinstance(verdict, Verdict):
        return Verdict(Status.ERROR, f"The check returned {type(verdict).__name__} where a verdict is due.")
    return verdict


def _without_value(seen: Observation) -> Verdict:
    if seen.attempt is Attempt.MISSING:
        return Verdict(
            Status.FAILED, seen.error or "It is not defined in the notebook.", "Use the name the assignment gives."
        )
    if seen.attempt is Attempt.RAISED:
        return Verdict(
            Status.FAILED, f"Calling it raised {seen.error}.", "Run it on a small example of your own first."
        )
    if seen.attempt is Attempt.FAULT:
        return Verdict(Status.ERROR, seen.error or "The grader could not ask this question.")
    return Verdict(
        Status.FAILED,
        seen.error or "Nothing was there to judge: the notebook did not get that far.",
        "Restart the kernel and run all cells.",
    )
