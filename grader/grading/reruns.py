"""Run again what is close: what a check calls open is asked again of runs with other random seeds.

Only the questions in doubt are asked again; what was seen first stays, and the further observations lie beside it
(`Observation.again`), so that a verdict can be recomputed from stored evidence.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from grader.errors import GuardError, SandboxError
from grader.grading.execution import RunRequest, run_notebook, sum_usage
from grader.records import Notice, Outcome, SubmissionRun
from grader.rubric.assignment import Assignment
from grader.rubric.judge import judge
from grader.sandbox.guard import guarded

__all__ = ["RERUNS", "rerun_close_results"]

RERUNS: Final = 2
"""Further runs of a submission with a close result: three results, so that their mean is worth more than the first."""
_SEEDS: Final = "grader.inside.seeds"
_SHIFT: Final = 7919
"""Added to every fixed seed per rerun; any number that students do not count in will do."""


async def rerun_close_results(assignment: Assignment, request: RunRequest, first: SubmissionRun) -> SubmissionRun:
    """Run a notebook again where a verdict hangs on luck; returns the first run with further observations beside its own.

    A further run that does not end by itself brings nothing, so that its criterion stays open for a person.
    """
    if first.execution.outcome is not Outcome.COMPLETED:
        return first

    def in_doubt() -> list[str]:
        """Ids of the questions whose answers by a run with other seeds would decide a verdict."""
        verdicts = judge(assignment, first.evidence, request.questions)
        return sorted({check.asks for check in assignment.checks.values() if verdicts[check.id].again})

    try:
        doubtful = await asyncio.to_thread(guarded, in_doubt, list[str])
    except GuardError:  # whoever judges it will say so
        return first
    if not doubtful:
        return first
    further, spent = list[SubmissionRun](), first.execution.usage
    for number in range(1, RERUNS + 1):
        request.on_progress(f"other seeds {number} of {RERUNS}")
        once_more = replace(
            request,
            questions={name: request.questions[name].whole for name in doubtful},
            shims=(*request.shims, _SEEDS),
            shim_config={**request.shim_config, "seed_shift": number * _SHIFT},
            spent=spent,
            on_progress=lambda _stage: None,
        )
        try:
            run = await run_notebook(once_more)
        except SandboxError:  # the first run stands; who cannot be run again stays open
            continue
        spent = sum_usage([spent, run.execution.usage])
        if run.execution.outcome is Outcome.COMPLETED:
            further.append(run)
    if not further:
        return first
    observations = dict(first.evidence.observations)
    for name in doubtful:
        again = tuple(run.evidence.observations[name] for run in further)
        observations[name] = replace(observations[name], again=again)
    times = "once" if len(further) == 1 else "twice"
    notice = Notice(
        "other-seeds",
        f"A result lay within the noise around its minimum, so the notebook was run {times} more with other random seeds;"
        " the mean of all runs counts there.",
    )
    execution = replace(
        first.execution,
        usage=sum_usage([run.execution.usage for run in (first, *further)]),
        notices=(*first.execution.notices, notice),
    )
    return replace(first, execution=execution, evidence=replace(first.evidence, observations=observations))
