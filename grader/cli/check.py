"""`grader check`: one's own notebook, the same way as it will be graded, with fresh questions."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click

from grader.assignments import load_assignment
from grader.bundles import load_bundle
from grader.cli.common import bar, console, exit_code, limits_of, say, stderr
from grader.cli.options import assignment_options, config_option, input_path, limit_options, output_file
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
from grader.sandbox.host import available_modes

__all__ = ["check"]


@click.command()
@click.argument("notebook", type=input_path())
@click.option(
    "--fast", is_flag=True, help="Functions and classes only, from their definitions: no cell is run, nothing trains."
)
@click.option("--step", default="", metavar="PART", help="One part of the assignment only, e.g. lora.")
@click.option("--watch", is_flag=True, help="Again at every save that changes code, until Ctrl-C; quick with --fast.")
@click.option(
    "--preflight",
    is_flag=True,
    help="Before you hand in: does it run, is everything named as asked, would Canvas take the file, how long does it take.",
)
@click.option("--html", type=output_file(), metavar="FILE", help="Also write the report as a web page.")
@click.option("--json", type=output_file(), metavar="FILE", help="Also write the report as JSON.")
@click.option(
    "--markdown", type=output_file(), metavar="FILE", help="Also write the report as Markdown (for CI summaries)."
)
@click.option("--junit", type=output_file(), metavar="FILE", help="Also write the report as JUnit XML.")
@assignment_options
@config_option
@limit_options
def check(
    notebook: Path,
    fast: bool,
    step: str,
    watch: bool,
    preflight: bool,
    html: Path | None,
    json: Path | None,
    markdown: Path | None,
    junit: Path | None,
    assignment: str,
    bundle: Path | None,
    sandbox: str,
    config: Path | None,
    cpu_seconds: float | None,
    wall_seconds: float | None,
    memory_gib: float | None,
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
    usable = available_modes()
    if sandbox == "auto":  # one's own code may run unprotected where no box can be had
        sandbox = next(mode for mode in ("warm", "cold", "none") if not usable[mode])
        if sandbox == "none":
            stderr.print("No box on this machine (see `grader doctor`); your notebook runs as an ordinary program.")
        elif sandbox == "warm" and not watch:
            sandbox = "cold"  # for a single notebook a zygote would only be one more start
    writers: dict[Path | None, Callable[[Report], str]] = {
        html: lambda report: report_html(report, "student"),
        json: report_json,
        markdown: report_markdown,
        junit: lambda report: junit_xml([report]),
    }

    def prepared() -> tuple[RunContext, Limits]:
        settings = settings_for(notebook, config)
        whole = RunContext.create(load_assignment(assignment), load_bundle(bundle), secrets.token_bytes(32), settings)
        return whole.only(step, definitions=fast), limits_of(cpu_seconds, memory_gib, settings, wall_seconds)

    def show(done: Report, checked: _Check) -> int:
        own = replace(done, note=f"{done.note} {ASKED_ANEW}".strip())
        student = for_student(own)
        if preflight:
            ready = checked.before_handing_in(done)
        else:
            console.print(submission_panel(student))
        if fast:
            say(
                "Only functions and classes were looked at. Without --fast the notebook is run, and what it trains is judged."
            )
        elif step:
            say(f"Only {step} was looked at.")
        code = exit_code([done]) or int(done.score.total != done.score.possible)
        if code == 4:
            say(f"The box failed: {review_reasons(done)[0].text}", "bold red")
        for path, write in writers.items():
            if path is not None:
                write_atomically(path, write(student))
        return int(not ready) if preflight and code != 4 else code

    context, limits = prepared()
    with Grader(context, sandbox=sandbox, limits=limits) as grader:
        checked = _Check(notebook, grader, fast)
        return _watch(checked, config, prepared, show) if watch else show(checked.run(), checked)


@dataclass(frozen=True)
class _Check:
    """A notebook and where it is run."""

    notebook: Path
    """The file."""
    grader: Grader
    """Where it is run; open while it is."""
    fast: bool
    """Whether only definitions are taken."""

    def run(self) -> Report:
        """Run and judge it, with progress on standard error."""
        what = f"checking {self.notebook.name}"
        with bar(unit=False) as progress:
            task = progress.add_task(what, total=None)

            def on_progress(stage: str) -> None:
                progress.update(task, description=f"{what}: {stage}")

            return asyncio.run(self.grader.report(self.notebook, on_progress, definitions=self.fast))

    def before_handing_in(self, report: Report) -> bool:
        """Show what there is to know before it is handed in; gives whether all is as it should be."""
        context = self.grader.context
        lines = preflight_lines(
            report, self.notebook.stat().st_size, context.assignment, context.questions("names"), self.grader.limits
        )
        console.print(shown(lines))
        ready = all(line.ok is not False for line in lines)
        say("Ready to hand in." if ready else "Not ready yet: see ✗ above.", "bold green" if ready else "bold red")
        say(ASKED_ANEW)
        return ready


def _watch(
    checked: _Check,
    config: Path | None,
    prepared: Callable[[], tuple[RunContext, Limits]],
    show: Callable[[Report, _Check], int],
) -> int:
    """Check a notebook again at every save, in processes forked from one that stays; ends by Ctrl-C."""
    before: dict[str, CriterionResult] = {}
    try:
        for _ in saves(checked.notebook, config):
            console.rule(time.strftime("%H:%M:%S"))
            try:
                # with other numbers, and settings as they are now
                checked.grader.context, checked.grader.limits = prepared()
                report = checked.run()
            except (SubmissionError, UsageError) as error:  # of a file that is being edited
                say(str(error), "bold red")
                continue
            show(report, checked)
            now = {result.id: result for result in for_student(report).score.criteria}
            _say_what_changed(before, now)
            before = now
            stderr.print(f"Watching {checked.notebook.name}: save it to check it again; Ctrl-C ends this.", style="dim")
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
