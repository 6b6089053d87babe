"""`grader check`: one's own notebook, the same way as it will be graded, with fresh questions."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import click

from grader.assignments import load_assignment
from grader.bundles.bundle import load_bundle
from grader.cli.common import console, exit_code, limits_of, say, stderr, working
from grader.cli.options import FILE, NEW_FILE, assignment_options, config_option, limit_options
from grader.cli.preflight import preflight as preflight_lines
from grader.cli.preflight import shown
from grader.cli.watch import saves
from grader.errors import SubmissionError, UsageError
from grader.grading.context import RunContext
from grader.grading.pipeline import Grader
from grader.grading.settings import settings_for
from grader.records import CriterionResult, Report, Status
from grader.reports import for_student, junit_xml, report_html, report_json, report_markdown, submission_panel
from grader.reports.sanitize import line
from grader.reports.view import review_reasons, status_of
from grader.rubric.shown import ASKED_ANEW
from grader.runs.directory import write_atomically
from grader.sandbox.contract import Limits
from grader.sandbox.host import why_no_box

__all__ = ["check"]

_FORMATS: dict[str, tuple[str, Callable[[Report], str]]] = {
    "html": ("a web page", lambda report: report_html(report, "student")),
    "json": ("JSON", report_json),
    "markdown": ("Markdown (for CI summaries)", report_markdown),
    "junit": ("JUnit XML", lambda report: junit_xml([report])),
}
"""Option that names a file to write -> what it gets, in words, and how that is made."""


def _format_options(command: Callable[..., int]) -> Callable[..., int]:
    for name, (what, _) in reversed(_FORMATS.items()):
        click.option(f"--{name}", type=NEW_FILE, metavar="FILE", help=f"Also write the report as {what}.")(command)
    return command


@click.command()
@click.argument("notebook", type=FILE)
@click.option(
    "--fast", is_flag=True, help="Functions and classes only, from their definitions: no cell is run, nothing trains."
)
@click.option("--step", default="", metavar="PART", help="One part of the assignment only, e.g. lora.")
@click.option("--watch", is_flag=True, help="Again at every save that changes code, until Ctrl-C; quick with --fast.")
@click.option(
    "--preflight", is_flag=True,
    help="Before you hand in: does it run, is everything named as asked, would Canvas take the file, how long does it take.",
)  # fmt: skip
@_format_options
@assignment_options
@config_option
@limit_options
def check(
    notebook: Path,
    fast: bool,
    step: str,
    watch: bool,
    preflight: bool,
    assignment: str,
    bundle: Path | None,
    sandbox: str,
    config: Path | None,
    limits: dict[str, float | None],
    **files: Path | None,
) -> int:
    """Run your own NOTEBOOK and show what each criterion sees, the same way as it will be graded, with other random questions.

    Helper modules (.py) beside it that it imports are taken along, and so are the settings of a grader.toml beside it.

    \b
      grader check finetuning.ipynb --fast --watch    while you work
      grader check finetuning.ipynb --step lora       one part
      grader check finetuning.ipynb --preflight       before you hand in
      grader check finetuning.ipynb --html report.html

    Inside a notebook `!grader` is often not found, since the kernel has another search path. There, `%load_ext grader` and `%check`
    judge what the running kernel holds, at once; `!{sys.executable} -m grader check finetuning.ipynb` (after `import sys`) runs
    this command.

    Exit codes: 0 full marks (with --preflight: ready to hand in; with --watch: stopped), 1 below, 3 a person has to look, 4 the
    grader or its sandbox failed.
    """  # noqa: D301 - click: the paragraph is not wrapped
    if preflight and (fast or step or watch):
        raise UsageError("--preflight looks at the whole notebook, once: leave out --fast, --step and --watch")
    if sandbox == "auto":
        sandbox = "warm" if watch else "cold"  # for a single notebook a zygote would only be one more start
        if why_no_box():  # one's own code may run unprotected where no box can be had
            sandbox = "none"
            stderr.print("No box on this machine (see `grader doctor`); your notebook runs as an ordinary program.")

    def prepared() -> tuple[RunContext, Limits]:
        settings = settings_for(notebook, config)
        whole = RunContext.create(load_assignment(assignment), load_bundle(bundle), secrets.token_bytes(32), settings)
        return whole.only(step, definitions=fast), limits_of(settings.limited(**limits))

    def run() -> Report:
        """Run and judge it, with progress on standard error."""
        what = f"checking {notebook.name}"
        with working(what) as update:
            return asyncio.run(grader.report(notebook, lambda stage: update(description=f"{what}: {stage}")))

    def show(done: Report) -> int:
        student = for_student(replace(done, note=f"{done.note} {ASKED_ANEW}".strip()))
        code = exit_code([done]) or int(done.score.total != done.score.possible)
        if preflight:
            ready = _before_handing_in(done, notebook, grader)
            code = code if code == 4 else int(not ready)
        else:
            console.print(submission_panel(student))
        if fast:
            say(
                "Only functions and classes were looked at. Without --fast the notebook is run, and what it trains is judged."
            )
        elif step:
            say(f"Only {step} was looked at.")
        if code == 4:
            say(f"The box failed: {review_reasons(done)[0].text}", "bold red")
        for name, path in files.items():
            if path is not None:
                write_atomically(path, _FORMATS[name][1](student))
        return code

    def again() -> Report:
        """With other numbers, and settings as they are now."""
        grader.context, grader.limits = prepared()
        report = run()
        show(report)
        return for_student(report)

    context, allowed = prepared()
    with Grader(context, sandbox=sandbox, limits=allowed) as grader:
        return _watch(notebook, config, again) if watch else show(run())


def _before_handing_in(report: Report, notebook: Path, grader: Grader) -> bool:
    """Show what there is to know before it is handed in; gives whether all is as it should be."""
    context = grader.context
    size, questions = notebook.stat().st_size, context.questions("names")
    lines = preflight_lines(report, size, context.assignment, questions, grader.limits)
    console.print(shown(lines))
    ready = all(line.ok is not False for line in lines)
    say("Ready to hand in." if ready else "Not ready yet: see ✗ above.", "bold green" if ready else "bold red")
    say(ASKED_ANEW)
    return ready


def _watch(notebook: Path, config: Path | None, again: Callable[[], Report]) -> int:
    """Check a notebook again at every save, in processes forked from one that stays; ends by Ctrl-C."""
    before: dict[str, CriterionResult] = {}
    try:
        for _ in saves(notebook, config):
            console.rule(time.strftime("%H:%M:%S"))
            try:
                now = {result.id: result for result in again().score.criteria}
            except (SubmissionError, UsageError) as error:  # of a file that is being edited
                say(str(error), "bold red")
                continue
            _say_what_changed(before, now)
            before = now
            stderr.print(f"Watching {notebook.name}: save it to check it again; Ctrl-C ends this.", style="dim")
    except KeyboardInterrupt:
        stderr.print("\nStopped watching.")
    return 0


def _say_what_changed(before: Mapping[str, CriterionResult], now: Mapping[str, CriterionResult]) -> None:
    """Say which criteria pass since the last save, and which no longer do."""
    for name, result in now.items():
        passes = status_of(result) is Status.PASSED
        if name in before and passes is not (status_of(before[name]) is Status.PASSED):
            say(
                f"{'✓ Now right' if passes else '✗ No longer right'}: {line(result.title)}",
                "green" if passes else "bold red",
            )
