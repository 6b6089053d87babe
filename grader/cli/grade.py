"""`grader grade`: a class from a download to reports, continuing where an earlier run on the same folder stopped."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

import grader
from grader.assignments import load_assignment
from grader.bundles.bundle import load_bundle
from grader.cli.common import finish, limits_of, machine, say, stderr
from grader.cli.options import (
    FILE,
    FILE_OR_FOLDER,
    FOLDER,
    NEW_FOLDER,
    assignment_options,
    config_option,
    limit_options,
)
from grader.cli.progress import ClassProgress
from grader.cli.resources import template_path
from grader.errors import UsageError
from grader.grading.settings import read_settings
from grader.imports import leave_out
from grader.intake import read_roster, take_in, with_groups
from grader.records import Notice, Report, Submission
from grader.reports.sanitize import line
from grader.reports.view import duration
from grader.runs.batch import Event, run_batch, slots_for
from grader.runs.directory import IntakeRecord, RunDirectory, RunInfo, load_context, write_derived
from grader.runs.engines import choose_engine
from grader.runs.forget import leave_out_forgotten
from grader.runs.gradebook import refuse_unwritable_gradebook
from grader.runs.plan import Plan, RunSelection, make_plan
from grader.runs.pseudonyms import hidden, pseudonym
from grader.runs.publish import LivePage, Published, publish
from grader.runs.stamp import inputs_of, read_stamped, write_stamp
from grader.sandbox.host import choose
from grader.sandbox.shown import refuse_exposed

__all__ = ["grade"]

_UNPROTECTED = "Running submissions unprotected (--sandbox none): they can read and change your files."


_csv_option = functools.partial(click.option, type=FILE, metavar="CSV")


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="PATH...", type=FILE_OR_FOLDER)
@click.option(
    "--out", required=True, type=NEW_FOLDER, metavar="RUN", help="Folder of the run; made when it is not there."
)
@_csv_option("--roster", help="Canvas gradebook export (or a CSV with columns id,name); remembered.")
@_csv_option("--groups", help="Canvas groups export: every member gets the score of the group's hand-in; remembered.")
@click.option("--column", metavar="TEXT", help="Gradebook column to fill, when there are several; remembered.")
@click.option(
    "--scale/--no-scale",
    default=None,
    help="Convert scores where Canvas's points differ from the rubric's; remembered.",
)
@click.option(
    "--no-notebook",
    "no_notebook_is_zero",
    type=click.Choice(["decide", "0"]),
    callback=lambda _context, _option, told: told and told == "0",
    help="Score of what cannot be read or is no notebook: none until you decide, or 0; remembered.  [default: decide]",
)
@click.option(
    "--feedback",
    type=click.Choice(["notebook", "html"]),
    help="What feedback.zip holds: each student's own notebook with the verdicts in it, or web pages; remembered."
    "  [default: notebook]",
)
@click.option(
    "--pseudonyms",
    is_flag=True,
    default=None,
    help="Show no names: pages and tables have pseudonyms, RUN/names.json says whose they are, and what goes to Canvas"
    " is joined by it. To be given when a run begins; remembered.",
)
@click.option("--title", metavar="TEXT", help="Title of the class report; remembered.")
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
@click.option("--tls", type=FOLDER, metavar="DIR", help="Folder with cert.pem and key.pem for dask:tls://HOST:PORT.")
@click.option("--insecure-tcp", is_flag=True, help="Allow dask:tcp://HOST:PORT beyond this machine, unencrypted.")
@click.option(
    "--secret-file", type=FILE, metavar="FILE", help="Draw questions from this file's bytes instead of new ones."
)
@click.option("--only", multiple=True, metavar="ID", help="Run only this submission (repeatable).")
@click.option(
    "--failed", is_flag=True, help="Run again those that need review or whose run did not complete, nothing else."
)
@click.option(
    "--changed", is_flag=True, help="Run only new and changed files, also when the grader itself has changed."
)
@click.option("--replace", "anew", is_flag=True, help="Leave out what was handed in by earlier sources of this run.")
@click.option("--force", is_flag=True, help="Run everything again, changed or not.")
@click.option("--verbose", is_flag=True, help="Name every submission that is run, and why.")
@assignment_options
@config_option
@limit_options
def grade(
    sources: tuple[Path, ...],
    out: Path,
    roster: Path | None,
    groups: Path | None,
    workers: int | None,
    executor: str,
    tls: Path | None,
    insecure_tcp: bool,
    secret_file: Path | None,
    only: tuple[str, ...],
    failed: bool,
    changed: bool,
    anew: bool,
    force: bool,
    verbose: bool,
    assignment: str,
    bundle: Path | None,
    sandbox: str,
    config: Path | None,
    limits: dict[str, float | None],
    **remembered: Any,
) -> int:
    """Grade a Canvas archive (.zip), a folder or single notebooks.

    Run it again with the same --out to continue: what is finished and has not changed is not run again. Other sources, such as a
    later download, add to those given before; a student's newest upload counts. What it was told is remembered, limits too.
    --only, --failed and --changed narrow down what is run; reports and tables are always written for all.

    \b
      grader grade submissions.zip --roster gradebook.csv --out run

    Exit codes: 0 done, 2 wrong usage or no gradebook.csv, 3 some submissions need review, 4 the grader or its sandbox failed for some.
    """  # noqa: D301 - click: the paragraph is not wrapped
    leave_out(*(path if path.is_dir() else path.parent for path in sources), out)
    loaded, against = load_assignment(assignment), load_bundle(bundle)
    against.verify()
    if sandbox == "none":
        stderr.print(_UNPROTECTED, style="bold red")
    starters = [path for path in (template_path(),) if path is not None]
    info = RunInfo(
        assignment=assignment,
        bundle=against.name,
        bundle_digest=against.digest,
        bundle_path=str(bundle.resolve()) if bundle else "",
        sandbox=choose(sandbox),
        grader_version=grader.__version__,
    )
    course = read_settings(config) if config else None
    students = read_roster(roster) if roster else None  # before the lock: a pipe may take its time
    if info.sandbox != "none":
        refuse_exposed("what was handed in", *sources)
        refuse_exposed("the folder of the run", out)
    slots = workers or slots_for(*machine(), against.model_bytes)
    engine = choose_engine(executor, slots=slots, tls=tls, insecure_tcp=insecure_tcp)
    selection = RunSelection(only, failed, changed, force)
    run = RunDirectory(out)
    with run.lock():
        run.refuse_as_source(sources)
        secret = _secret(secret_file)
        if run.exists():  # what it was told before holds until it is told something else
            run.refuse_another(info, secret)
            before = run.info()
            if remembered["pseudonyms"] and not before.pseudonyms:
                raise UsageError(f"{out} was begun with names; give --pseudonyms with another folder as --out")
            old = {name: getattr(before, name) for name in ("roster", "settings", *remembered)}
            info = replace(info, **old)
        settings = (course.after(info.settings) if course else info.settings).limited(**limits)
        told = {name: value for name, value in remembered.items() if value is not None}
        info = replace(info, settings=settings, **told)
        declared, _ = settings.apply(loaded, against)
        allowed = limits_of(settings)
        kept, members = run.root / "roster.csv", run.root / "groups.csv"
        if students is None and info.roster and kept.is_file():
            students = read_roster(kept)
        if students is not None and (groups is not None or members.is_file()):
            students = with_groups(students, groups or members)
        elif groups is not None:
            raise UsageError("--groups says who of a class is in which group: give the class list, too, with --roster")
        info = replace(info, roster=students is not None)
        if students is not None:  # told before anything is run
            refuse_unwritable_gradebook(run, students, info, declared)
        run.start(info, secret)
        handed_out = [hashlib.sha256(path.read_bytes()).hexdigest() for path in starters]
        listed = hashlib.sha256(students.data + students.groups_data).hexdigest() if students is not None else ""
        inputs = inputs_of(run, sources, repr((allowed, handed_out, listed)))
        published = read_stamped(run, inputs) if selection == RunSelection() and not anew else None
        if published is not None:
            return _nothing_to_do(run, published)
        with stderr.status("taking in submissions"):
            intake = take_in(
                sources, run.root / "intake", students, relative_to=run.root, starters=starters,
                kept=run.root / "sources", replace_kept=anew,
                naming=functools.partial(pseudonym, run) if info.pseudonyms else None,
            )  # fmt: skip
        if info.pseudonyms:
            intake = hidden(run, intake, students, sources)
        _say_sources(intake.notices)
        if students is not None:
            write_derived(kept, students.data)
            if students.groups_data:
                write_derived(members, students.groups_data)
        missing = tuple(entry.name for entry in intake.missing)
        run.write("intake.json", IntakeRecord(intake.submissions, intake.notices, missing))
        leave_out_forgotten(run)
        submissions = run.submissions()
        context = load_context(run.info(), run.secret())
        plan = make_plan(run, context, allowed, submissions, selection)
        judged: Mapping[str, Report] = {}
        _say_plan(submissions, plan, verbose=verbose)
        if plan.jobs:
            began = time.monotonic()
            waiting = {job.submission.id for job in plan.jobs} | {one.id for one in plan.left}
            done = [one for one in submissions if one.id not in waiting]
            page = LivePage(run, done, len(submissions))
            with ClassProgress(len(plan.jobs), stderr) as progress, page:

                def on_event(event: Event) -> None:
                    progress(event)
                    page(event)

                run_batch(run, context, plan.jobs, engine, on_event, progress.stopping)
            judged = page.judged
            say(f"Ran {_count(plan.jobs)} in {duration(time.monotonic() - began)} on {engine.name}.")
        with stderr.status("judging and writing reports"):
            published = publish(run, judged=judged)
            if selection == RunSelection() and published.complete and run.finished(submissions):
                write_stamp(run, inputs, published)
        return finish(run, published)


def _nothing_to_do(run: RunDirectory, published: Published) -> int:
    """Say that all is as it was, and what it was."""
    intake = run.read("intake.json", IntakeRecord)
    _say_sources(intake.notices)
    unchanged = tuple(one for one in intake.submissions if one.path and one.problem is None)
    _say_plan(intake.submissions, Plan((), unchanged))
    return finish(run, published)


def _say_sources(notices: Sequence[Notice]) -> None:
    for notice in notices:
        if notice.kind in ("source", "kept"):
            say(line(notice.text))


def _secret(path: Path | None) -> bytes | None:
    if path is None:
        return None
    secret = path.read_bytes().strip()
    if len(secret) < 8:
        raise UsageError(f"{path} holds {len(secret)} bytes; a secret has at least 8")
    return secret


def _say_plan(submissions: Sequence[Submission], plan: Plan, *, verbose: bool = False) -> None:
    broken = sum(submission.problem is not None for submission in submissions)
    parts = [_count(submissions), f"{len(plan.jobs)} to run"]
    if plan.cached:
        parts.append(f"{len(plan.cached)} unchanged since they were run")
    if broken:
        parts.append(f"{broken} with nothing to run")
    say(", ".join(parts) + ".")
    if verbose or plan.left or any("again" in why for why in plan.reasons):
        sentence = line(plan.sentence(names=verbose))
        say(f"{sentence}." if sentence else "Nothing to run.")


def _count(submissions: Sequence[object]) -> str:
    return f"{len(submissions)} submission{'' if len(submissions) == 1 else 's'}"
