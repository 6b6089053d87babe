"""Close results are decided by running again: what a check calls open is asked again of runs with other random seeds.

Only the questions in doubt are asked again; what was seen first stays, and the further observations lie beside it
(`Observation.again`), so that a verdict can be recomputed from stored evidence.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from grader.errors import SandboxError
from grader.grading.execution import Progress, Ran, sum_usage
from grader.records import Evidence, Notice, Outcome
from grader.rubric.assignment import Assignment
from grader.rubric.judge import judge
from grader.rubric.questions import Question

__all__ = ["RERUNS", "rerun_close_results"]

Shims = tuple[Sequence[str], Mapping[str, Any]]
Run = Callable[[Mapping[str, Question], Shims], Awaitable[Ran]]
"""Runs the notebook and asks the questions: `run_notebook` with its box, limits and notebook given."""

RERUNS: Final = 2
"""Further runs of a submission with a close result: three results, so that their mean is worth more than the first."""
_SEEDS: Final = "grader.inside.seeds"
_SHIFT: Final = 7919
"""Added to every fixed seed per rerun; any number that students do not count in will do."""


def in_doubt(assignment: Assignment, questions: Mapping[str, Question], ran: Ran) -> set[str]:
    """Ids of the questions whose answers by a run with other seeds would decide a verdict."""
    verdicts = judge(assignment, Evidence("", ran.observations), questions)
    return {check.asks for check in assignment.checks.values() if verdicts[check.id].again}


async def rerun_close_results(
    assignment: Assignment,
    ran: Ran,
    run: Run,
    questions: Mapping[str, Question],
    shims: Shims,
    progress: Progress = lambda _stage: None,
) -> Ran:
    """`run` the notebook again where a verdict hangs on luck; returns the first run with further observations beside its own.

    A further run that does not end by itself brings nothing, so that its criterion stays open for a person.
    """
    if ran.outcome is not Outcome.COMPLETED:
        return ran
    doubtful = in_doubt(assignment, questions, ran)
    if not doubtful:
        return ran
    asked = {name: question.whole for name, question in questions.items() if name in doubtful}
    further: list[Ran] = []
    for number in range(1, RERUNS + 1):
        progress(f"other seeds {number} of {RERUNS}")
        modules, config = shims
        try:
            again = await run(asked, ((*modules, _SEEDS), {**config, "seed_shift": number * _SHIFT}))
        except SandboxError:  # the first run stands; who cannot be run again stays open
            continue
        if again.outcome is Outcome.COMPLETED:
            further.append(again)
    if not further:
        return ran
    observations = dict(ran.observations)
    for name in doubtful:
        observations[name] = replace(observations[name], again=tuple(run.observations[name] for run in further))
    times = "once" if len(further) == 1 else "twice"
    notice = Notice(
        "other-seeds",
        f"A result lay within the noise around its minimum, so the notebook was run {times} more with other random seeds;"
        " the mean of all runs counts there.",
    )
    usage = sum_usage([ran.usage, *(run.usage for run in further)])
    return replace(ran, observations=observations, usage=usage, notices=(*ran.notices, notice))
