"""`grader template`: the student template from the reference solution."""

from __future__ import annotations

from pathlib import Path

import click

from grader.authoring import template_files
from grader.cli.common import say
from grader.cli.options import input_path, output_file
from grader.cli.resources import reference_path, template_path
from grader.runs.directory import write_atomically

__all__ = ["template"]


@click.command()
@click.argument("reference", required=False, type=input_path())
@click.argument("target", required=False, type=output_file(), metavar="[TEMPLATE]")
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 when a notebook is out of step.")
def template(reference: Path | None, target: Path | None, check: bool) -> int:
    """Write the student template from the reference solution, which is brought into its canonical form.

    Without arguments these are the notebooks that ship with the grader.
    """
    reference = reference or reference_path()
    target = target or template_path() or reference.parents[1] / "student_template" / reference.name
    files = template_files(reference, target)
    stale = [path for path, data in files.items() if not path.is_file() or path.read_bytes() != data]
    for path in stale:
        if check:
            say(f"{path} is out of step; run `grader template`.")
        else:
            write_atomically(path, files[path])
            say(f"Wrote {path}")
    if not stale:
        say("The template is in step.")
    return 1 if check and stale else 0
