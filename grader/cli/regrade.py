"""`grader regrade`: one submission run again, with limits or a seed of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from grader.cli.common import limits_of, say, stderr
from grader.cli.options import limit_options, run_argument
from grader.cli.override import find_submission
from grader.cli.progress import ClassProgress
from grader.cli.runs import judge_again
from grader.errors import UsageError
from grader.records import Submission
from grader.runs.batch import run_batch
from grader.runs.directory import Again, RunDirectory, account, load_context, now
from grader.runs.engines import LocalEngine
from grader.runs.plan import RunSelection, make_plan
from grader.runs.pseudonyms import people
from grader.runs.results import keep_result, use_result
from grader.sandbox.contract import Limits

__all__ = ["regrade"]


@click.command()
@run_argument
@click.argument("who")
@click.option("--other-seed", is_flag=True, help="Ask other questions, and train with other random numbers.")
@click.option("--reason", default="", metavar="TEXT", help="Why; the student reads it.")
@click.option("--undo", is_flag=True, help="Let the result before count again; nothing is run.")
@click.option("--use", "number", type=click.IntRange(1), metavar="N", help="Let result N count; nothing is run.")
@limit_options
def regrade(
    run: Path,
    who: str,
    other_seed: bool,
    reason: str,
    undo: bool,
    number: int | None,
    cpu_seconds: float | None,
    wall_seconds: float | None,
    memory_gib: float | None,
) -> int:
    """Run one submission of a RUN again, with other limits or another seed. Both results are kept, and the newer one counts.

    WHO is an id or a name. The pages say that it was run again, which result counts, and what the others were. Where the
    grader or its machine fails, the earlier result stays. What a person set by hand stays, too. `grader grade` on the same folder leaves
    the result as it is; should the grader itself change, it runs the file with these limits again.

    \b
      grader regrade run 1024 --cpu-seconds 1800 --reason "the machine was busy"
      grader regrade run "Åsa Svensson" --other-seed
      grader regrade run 1024 --undo
    """  # noqa: D301 - click: the paragraph is not wrapped
    directory = RunDirectory(run)
    info, submissions = directory.info(), directory.submissions()
    found = find_submission(who, people(directory))
    submission = next(one for one in submissions if one.id == found)
    limits = limits_of(cpu_seconds, memory_gib, info.settings, wall_seconds)
    with directory.lock(wait_seconds=60):
        fault = ""
        if undo or number is not None:
            use_result(directory, submission, number)
        else:
            fault = _run_again(directory, submission, limits, other_seed=other_seed, reason=reason)
        if fault:
            say(f"It could not be run, and the earlier result stays: {fault}", "bold")
        code = judge_again(directory, table=False)
        counts = keep_result(directory, submission.id)
        say(
            f"Result {counts} of {submission.display_name} counts; all are kept in {directory.folder(submission.id) / 'results'}."
        )
        return 4 if fault else code


def _run_again(run: RunDirectory, submission: Submission, limits: Limits, *, other_seed: bool, reason: str) -> str:
    """Run it; returns why the result before still counts, or nothing. Raises UsageError where there is nothing to run."""
    if submission.problem is not None or not submission.path:
        raise UsageError(f"{submission.display_name} has nothing to run: {submission.problem}")
    number = keep_result(run, submission.id)
    before = run.done(submission.id)
    draw = before.again.draw if before is not None and before.again else 0
    again = Again(draw + other_seed, reason.strip(), account(), now())
    context = load_context(run.info(), run.secret())
    (job,) = make_plan(run, context, limits, [submission], RunSelection(force=True)).jobs
    with ClassProgress(1, stderr) as progress:
        run_batch(run, context, [replace(job, limits=limits, again=again)], LocalEngine(1), progress, progress.stopping)
    done = run.done(submission.id)
    if done is None or not done.fault:
        return ""
    if number:
        run.forget(submission.id)
        use_result(run, submission, number)
    return done.fault
