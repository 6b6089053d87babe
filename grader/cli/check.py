"""`grader check`: one's own notebook, the same way as it will be graded, with fresh questions."""

from __future__ import annotations

from pathlib import Path

import click

from grader.assignments import load_assignment
from grader.bundles import load_bundle
from grader.cli.common import bar, console, exit_code, limits_of, say, stderr
from grader.cli.options import assignment_options, config_option, input_path, limit_options, output_file
from grader.grading.pipeline import grade
from grader.grading.settings import Settings, read_settings
from grader.reports import for_student, junit_xml, report_html, report_json, report_markdown, submission_panel
from grader.reports.view import review_reasons
from grader.runs.directory import write_atomically
from grader.sandbox.host import available_modes

__all__ = ["check"]


@click.command()
@click.argument("notebook", type=input_path())
@click.option(
    "--fast", is_flag=True, help="Functions and classes only, from their definitions: no cell is run, nothing trains."
)
@click.option("--step", default="", metavar="PART", help="One part of the assignment only, e.g. lora.")
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

    Helper modules (.py) beside it that it imports are taken along.

    \b
      grader check finetuning.ipynb --html report.html
      grader check finetuning.ipynb --fast
      grader check finetuning.ipynb --step lora

    Exit codes: 0 full marks, 1 below, 3 a person has to look, 4 the grader or its sandbox failed.
    """  # noqa: D301 - click: the paragraph is not wrapped
    settings = read_settings(config) if config else Settings()
    declared = load_assignment(assignment).only(step, definitions=fast)
    against = load_bundle(bundle)
    if sandbox == "auto":  # one's own code may run unprotected where no box can be had
        usable = available_modes()
        sandbox = next(mode for mode in ("warm", "cold", "none") if not usable[mode])
        if sandbox == "none":
            stderr.print("No box on this machine (see `grader doctor`); your notebook runs as an ordinary program.")
        elif sandbox == "warm":
            sandbox = "cold"  # for a single notebook a zygote would only be one more start
    with bar(unit=False) as progress:
        task = progress.add_task(f"checking {notebook.name}", total=None)

        def on_progress(stage: str) -> None:
            progress.update(task, description=f"checking {notebook.name}: {stage}")

        limits = limits_of(cpu_seconds, memory_gib, settings, wall_seconds)
        report = grade(
            notebook,
            declared,
            bundle=against,
            sandbox=sandbox,
            limits=limits,
            definitions=fast,
            settings=settings,
            on_progress=on_progress,
        )
    student = for_student(report)
    console.print(submission_panel(student))
    if fast:
        say(
            "Only functions and classes were looked at. Without --fast the notebook is run, and what it trains is judged."
        )
    elif step:
        say(f"Only {step} was looked at.")
    code = exit_code([report]) or int(report.score.total != report.score.possible)
    if code == 4:
        say(f"The box failed: {review_reasons(report)[0].text}", "bold red")
    if html:
        write_atomically(html, report_html(student, "student"))
    if json:
        write_atomically(json, report_json(student))
    if markdown:
        write_atomically(markdown, report_markdown(student))
    if junit:
        write_atomically(junit, junit_xml([student]))
    return code
