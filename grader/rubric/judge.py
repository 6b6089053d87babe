"""Evidence to verdicts to a score: pure, total, deterministic.

A bug in a check is never charged to the student, and there is no total where a person has to look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from grader.records import Attempt, CriterionResult, Evidence, Notice, Observation, Score, Status, Verdict, whole
from grader.rubric.assignment import Assignment, Check
from grader.rubric.compare import failed
from grader.rubric.questions import Question

__all__ = ["Overrides", "judge", "score"]

_NOTHING = Observation(Attempt.NOT_ASKED)
_LONGEST = 2_000
"""Characters of a message: an answer that it shows can have megabytes, and the pages of a class hold every message."""
_UNTOUCHED = "Leave Python, its libraries and the grader's own modules as they are, and define only what is asked for."


Overrides = Mapping[str, tuple[int | float, str]]
"""Criterion id -> points and reason, set by an instructor; they always win."""


def judge(
    assignment: Assignment, evidence: Evidence, questions: Mapping[str, Question], overrides: Overrides | None = None
) -> dict[str, Verdict]:
    """Judge every check in the order of the rubric; returns one verdict per check id and never raises.

    What builds on a criterion that a person has given all its points is judged as if that had passed; on one that needed review and
    got fewer, as if it had not.
    """
    verdicts: dict[str, Verdict] = {}
    settled: dict[str, Verdict] = {}
    for check in assignment.checks.values():
        seen = evidence.observations.get(check.asks, _NOTHING)
        verdict = (
            _blocked(check, settled)
            or _same(assignment, check, seen, settled)
            or _one(check, questions.get(check.asks), seen, settled)
        )
        if seen.renamed and verdict.status is not Status.SKIPPED:
            wanted = (*questions[check.asks].names, "?")[0] if check.asks in questions else "?"
            note = Notice("renamed", f"`{seen.renamed}` was taken for `{wanted}`, by what it does.")
            verdict = replace(verdict, notices=(*verdict.notices, note))
        verdicts[check.id] = verdict
        by_hand = (overrides or {}).get(check.id)
        settled[check.id] = verdict
        if by_hand is not None and (by_hand[0] >= check.points or verdict.status is Status.ERROR):
            status = Status.PASSED if by_hand[0] >= check.points else Status.FAILED
            settled[check.id] = Verdict(status, "Settled by hand.")
    return verdicts


def _blocked(check: Check, verdicts: Mapping[str, Verdict]) -> Verdict | None:
    for other in check.after:
        if verdicts[other].status in (Status.FAILED, Status.SKIPPED):
            root = verdicts[other].because or other
            return Verdict(Status.SKIPPED, f"Not judged, since it builds on `{root}`.", because=root)
        if verdicts[other].status is Status.ERROR:
            return Verdict(Status.ERROR, f"Not judged: `{other}`, on which it builds, needs review.")
    return None


def _same(assignment: Assignment, check: Check, seen: Observation, verdicts: Mapping[str, Verdict]) -> Verdict | None:
    """Skip a criterion of a question without an answer, which an earlier criterion of the same question was charged for."""
    if seen.attempt not in (Attempt.MISSING, Attempt.RAISED, Attempt.NOT_ASKED):
        return None
    charged = (other for other in verdicts if assignment.checks[other].asks == check.asks)
    root = next((other for other in charged if verdicts[other].status is Status.FAILED), "")
    return Verdict(Status.SKIPPED, f"Not judged, for the reason given at `{root}`.", because=root) if root else None


def _one(check: Check, asked: Question | None, seen: Observation, earlier: Mapping[str, Verdict]) -> Verdict:
    if seen.attempt is not Attempt.VALUE:
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
    return replace(verdict, message=verdict.message[:_LONGEST]) if len(verdict.message) > _LONGEST else verdict


def _without_value(seen: Observation) -> Verdict:
    match seen.attempt:
        case Attempt.MISSING:
            return failed(seen.error or "It is not defined in the notebook.", "Use the name the assignment gives.")
        case Attempt.RAISED:
            return failed(f"Calling it raised {seen.error}.", "Run it on a small example of your own first.")
        case Attempt.FORGED:
            return failed(
                "What came back from the notebook is nothing that this question can be answered with.", _UNTOUCHED
            )
        case Attempt.FAULT:
            return Verdict(Status.ERROR, seen.error or "The grader could not ask this question.")
    nothing = "Nothing was there to judge: the notebook did not get that far."
    return failed(seen.error or nothing, "Restart the kernel and run all cells.")


def score(
    assignment: Assignment,
    verdicts: Mapping[str, Verdict],
    overrides: Overrides | None = None,
    review: tuple[str, ...] = (),
) -> Score:
    """Fill in the rubric.

    `review` holds reasons, beyond verdicts of status ERROR, why no final number may be given.
    """
    results: list[CriterionResult] = []
    reasons = list(review)
    for check in assignment.checks.values():
        verdict = verdicts.get(check.id, Verdict(Status.ERROR, "The grader gave no verdict."))
        earned, by_hand = _earned(check.points, verdict), ""
        if overrides and check.id in overrides:
            points, by_hand = overrides[check.id]
            earned = whole(max(0, min(check.points, points)))
        elif earned is None:
            reasons.append(f"{check.id}: {verdict.message}")
        results.append(
            CriterionResult(check.id, check.title, check.points, earned, verdict, by_hand, check.show, read=check.read)
        )
    total = None if reasons else whole(sum(result.earned or 0 for result in results))
    return Score(tuple(results), assignment.possible, total, tuple(reasons))


def _earned(points: int, verdict: Verdict) -> int | float | None:
    """All points, none, whole points of the share that a failed criterion gives (never all), or None where a person decides."""
    if verdict.status is Status.ERROR:
        return None
    if verdict.status is Status.PASSED:
        return points
    partial = verdict.status is Status.FAILED and 0.0 < verdict.share < 1.0
    return int(points * verdict.share + 1e-9) if partial else 0
