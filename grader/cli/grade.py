"""`grader grade`: a class from a download to reports, continuing where an earlier run on the same folder stopped."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

import grader
from grader.assignments import load_assignment
from grader.bundles import load_bundle
from grader.cli.common import console, finish, limits_of, machine, stderr
from grader.cli.options import assignment_options, input_path, limit_options, output_folder
from grader.cli.progress import ClassProgress
from grader.errors import UsageError
from grader.intake import Intake, Roster, read_roster, take_in
from grader.records import Submission
from grader.reports.sanitize import line
from grader.rubric.assignment import Assignment
from grader.runs.batch import run_batch, slots_for
from grader.runs.directory import IntakeRecord, RunDirectory, RunInfo, load_context, write_derived
from grader.runs.engines import Engine, choose_engine
from grader.runs.plan import Plan, RunSelection, make_plan
from grader.runs.publish import publish
from grader.runs.stamp import inputs_of, read_stamped, write_stamp
from grader.sandbox.host import choose

__all__ = ["grade"]


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="PATH...", type=input_path(folder=True))
@click.option(
    "--out", required=True, metavar="RUN", type=output_folder(), help="Folder of the run; made when it is not there."
)
@click.option(
    "--roster", type=input_path(), metavar="CSV", help="Canvas gradebook export (or a CSV with columns id,name)."
)
@click.option("--column", default="", metavar="TEXT", help="Gradebook column to fill, when there are several.")
@click.option("--title", default="", metavar="TEXT", help="Title of the class report.")
@click.option(
    "--workers", type=click.IntRange(1), metavar="N", help="Submissions side by side.  [default: by cores and memory]"
)
@click.option(
    "--executor",
    default="local",
    show_default=True,
    metavar="ENGINE",
    help="Where to run: local[:N], dask:ADDRESS, slurm:PROFILE.yaml (docs/clusters.md).",
)
@click.option(
    "--tls",
    type=input_path(file=False, folder=True),
    metavar="DIR",
    help="Folder with cert.pem and key.pem for dask:tls://HOST:PORT.",
)
@click.option("--insecure-tcp", is_flag=True, help="Allow dask:tcp://HOST:PORT beyond this machine, unencrypted.")
@click.option(
    "--secret-file",
    type=input_path(),
    metavar="FILE",
    help="Draw questions from this file's bytes instead of new ones.",
)
@click.option("--only", multiple=True, metavar="ID", help="Run only this submission (repeatable).")
@click.option(
    "--failed", is_flag=True, help="Run again those that need review or whose run did not complete, nothing else."
)
@click.option(
    "--changed", is_flag=True, help="Run only new and changed files, also when the grader itself has changed."
)
@click.option("--force", is_flag=True, help="Run everything again, changed or not.")
@click.option("--verbose", is_flag=True, help="Name every submission that is run, and why.")
@assignment_options
@limit_options
def grade(**options: Any) -> int:
    """Grade a Canvas archive (.zip), a folder or single notebooks.

    Run it again with the same --out to continue: what is finished and has not changed is not run again. --only, --failed and
    --changed narrow down what is run; reports and tables are always written for all.

    \b
      grader grade submissions.zip --roster gradebook.csv --out run

    Exit codes: 0 done, 3 some submissions need review, 4 the grader or its sandbox failed for some.
    """  # noqa: D301 - click: the paragraph is not wrapped
    return run(SimpleNamespace(**options))


def run(options: SimpleNamespace) -> int:
    """Grade; 0 done, 3 when some submissions need review, 4 when the sandbox failed for some."""
    assignment = load_assignment(options.assignment)
    bundle = load_bundle(options.bundle)
    bundle.verify()
    sandbox = choose(options.sandbox)
    if options.sandbox == "none":
        stderr.print(
            "Running submissions unprotected (--sandbox none): they can read and change your files.", style="bold red"
        )
    roster = read_roster(options.roster) if options.roster else None
    directory = RunDirectory(options.out)
    info = RunInfo(
        assignment=options.assignment,
        bundle=bundle.name,
        bundle_digest=bundle.digest,
        bundle_path=str(options.bundle.resolve()) if options.bundle else "",
        sandbox=sandbox,
        grader_version=grader.__version__,
        title=options.title,
        roster=roster is not None,
        column=options.column,
    )
    slots = options.workers or slots_for(*machine(), bundle.model_bytes)
    engine = choose_engine(options.executor, slots=slots, tls=options.tls, insecure_tcp=options.insecure_tcp)
    with directory.lock():
        directory.refuse_as_source(options.sources)
        directory.start(info, _secret(options.secret_file))
        return _grade(options, directory, assignment, roster, engine)


def _grade(
    options: SimpleNamespace,
    directory: RunDirectory,
    assignment: Assignment,
    roster: Roster | None,
    engine: Engine,
) -> int:
    """Take in, run, judge and report; the run directory is ours meanwhile."""
    if roster is not None:
        write_derived(directory.root / "roster.csv", roster.data)
    limits = limits_of(options.cpu_seconds, options.memory_gib)
    selection = RunSelection(tuple(options.only), options.failed, options.changed, options.force)
    starters = [hashlib.sha256(path.read_bytes()).hexdigest() for path in _starters()]
    inputs = inputs_of(directory, options.sources, {"limits": repr(limits), "starters": repr(starters)})
    if selection == RunSelection() and (published := read_stamped(directory, inputs)) is not None:
        submissions = directory.submissions()
        runnable = tuple(one for one in submissions if one.path and one.problem is None)
        _say_plan(submissions, Plan((), runnable, {}, ()), verbose=options.verbose)
        return finish(directory, published.reports, published.messages)
    submissions = _take_in(options.sources, directory, roster)
    context = load_context(directory.info(), directory.secret())
    plan = make_plan(directory, context, limits, submissions, selection)
    _say_plan(submissions, plan, verbose=options.verbose)
    if jobs := plan.jobs:
        started = time.monotonic()
        with ClassProgress(len(jobs), stderr) as progress:
            run_batch(directory, context, limits, jobs, engine, progress, progress.stopping)
        console.print(f"Ran {len(jobs)} submissions in {_minutes(time.monotonic() - started)} on {engine.name}.")
    with stderr.status("judging and writing reports"):
        published = publish(directory, assignment)
        if selection == RunSelection() and directory.finished(submissions):
            write_stamp(directory, inputs, published)
    return finish(directory, published.reports, published.messages)


def _secret(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        secret: bytes = path.read_bytes().strip()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(secret) < 8:
        raise UsageError(f"{path} holds {len(secret)} bytes; a secret has at least 8")
    return secret


def _take_in(sources: Sequence[Path], directory: RunDirectory, roster: Roster | None) -> tuple[Submission, ...]:
    with stderr.status("taking in submissions"):
        intake: Intake = take_in(
            sources, directory.root / "intake", roster, relative_to=directory.root, starters=_starters()
        )
    missing = tuple(entry.name for entry in intake.missing)
    directory.write("intake.json", IntakeRecord(intake.submissions, intake.notices, missing))
    return intake.submissions


def _starters() -> list[Path]:
    from grader.cli.resources import template_path

    path = template_path()
    return [path] if path is not None else []


def _say_plan(submissions: Sequence[Submission], plan: Plan, *, verbose: bool) -> None:
    broken = sum(1 for submission in submissions if submission.problem is not None)
    parts = [f"{len(submissions)} submissions", f"{len(plan.jobs)} to run"]
    if plan.cached:
        parts.append(f"{len(plan.cached)} unchanged since they were run")
    if broken:
        parts.append(f"{broken} with nothing to run")
    console.print(", ".join(parts) + ".")
    if verbose or plan.cached or plan.left or any("again" in why for why in plan.reasons.values()):
        sentence = line(plan.sentence(names=verbose))
        console.print(f"{sentence}." if sentence else "Nothing to run.", markup=False, soft_wrap=True)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
