"""Verdicts to a score: declared integers only, and no total where a person has to look."""

from __future__ import annotations

from collections.abc import Mapping

from grader.records import CriterionResult, Score, Status, Verdict
from grader.rubric.assignment import Assignment

__all__ = ["score"]


def score(
    assignment: Assignment,
    verdicts: Mapping[str, Verdict],
    overrides: Mapping[str, tuple[int, str]] | None = None,
    review: tuple[str, ...] = (),
) -> Score:
    """Fill in the rubric. `overrides` maps criterion id to (points, reason) set by an instructor and always wins.

    `review` holds reasons, beyond verdicts of status ERROR, why no final number may be given.
    """
    settled = overrides or {}
    results: list[CriterionResult] = []
    reasons = list(review)
    for check in assignment.checks.values():
        verdict = verdicts.get(check.id, Verdict(Status.ERROR, "The grader gave no verdict."))
        if check.id in settled:
            points, reason = settled[check.id]
            earned: int | None = max(0, min(check.points, points))
            results.append(CriterionResult(check.id, check.title, check.points, earned, verdict, reason))
            continue
        if verdict.status is Status.ERROR:
            earned = None
            reasons.append(f"{check.id}: {verdict.message}")
        else:
            earned = check.points if verdict.status is Status.PASSED else _partial(check.points, verdict)
        results.append(CriterionResult(check.id, check.title, check.points, earned, verdict))
    total = None if reasons else sum(result.earned or 0 for result in results)
    return Score(tuple(results), assignment.possible, total, tuple(reasons))


def _partial(points: int, verdict: Verdict) -> int:
    """Whole points of a failed criterion that gives a share of them; never all."""
    if verdict.status is not Status.FAILED or not 0.0 < verdict.share < 1.0:
        return 0
    return int(points * verdict.share + 1e-9)
