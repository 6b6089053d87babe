"""`grader check`: one's own notebook, the same way as it will be graded, with fresh questions."""

from __future__ import annotations

import argparse

from grader.assignments import load_assignment
from grader.bundles import load_bundle
from grader.cli.common import bar, console, limits_of, stderr
from grader.errors import UsageError
from grader.grading.pipeline import grade
from grader.records import Report
from grader.reports import for_student, junit_xml, report_html, report_json, report_markdown, submission_panel
from grader.runs.directory import write_atomically
from grader.sandbox.host import available_modes

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Check a notebook; 0 for full marks, 1 below, 3 when a person would have to look, 4 when the sandbox failed."""
    if not options.notebook.is_file():
        raise UsageError(f"{options.notebook} is not a file; give the path of your notebook (.ipynb)")
    assignment = load_assignment(options.assignment)
    bundle = load_bundle(options.bundle)
    sandbox = options.sandbox
    if sandbox == "auto":  # one's own code may run unprotected where no box can be had
        usable = available_modes()
        sandbox = next(mode for mode in ("warm", "cold", "none") if not usable[mode])
        if sandbox == "none":
            stderr.print(
                "[dim]No box on this machine (see `grader doctor`); your notebook runs as an ordinary program.[/dim]"
            )
        elif sandbox == "warm":
            sandbox = "cold"  # for a single notebook a zygote would only be one more start
    with bar(unit=False) as progress:
        task = progress.add_task(f"checking {options.notebook.name}", total=None)

        def tell(stage: str) -> None:
            progress.update(task, description=f"checking {options.notebook.name}: {_WORDS.get(stage, stage)}")

        report = grade(
            options.notebook, assignment, bundle=bundle, sandbox=sandbox, limits=limits_of(options), progress=tell
        )
    student = for_student(report)
    _write(options, student)
    console.print(submission_panel(student))
    return exit_code(report)


_WORDS = {"questions": "asking questions", "again": "once more, without the cell that ended the kernel"}


def exit_code(report: Report) -> int:
    """0 full marks, 1 below, 3 review, 4 our failure."""
    if report.execution is not None and report.execution.outcome == "sandbox_failed":
        return 4
    if report.score.total is None:
        return 3
    return 0 if report.score.total == report.score.possible else 1


def _write(options: argparse.Namespace, student: Report) -> None:
    if options.html:
        write_atomically(options.html, report_html(student, "student"))
    if options.json:
        write_atomically(options.json, report_json(student))
    if options.markdown:
        write_atomically(options.markdown, report_markdown(student))
    if options.junit:
        write_atomically(options.junit, junit_xml([student]))
