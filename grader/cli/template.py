"""`grader template`: the student template from the reference solution."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from grader.authoring import write_template
from grader.cli.common import say
from grader.cli.options import input_path, output_file
from grader.cli.resources import reference_path, template_path

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
    if not check:
        changed = write_template(reference, target)
        say(f"{'Wrote' if changed else 'Nothing to change in'} {target}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        made = [(Path(folder) / "reference.ipynb", reference), (Path(folder) / "template.ipynb", target)]
        made[0][0].write_bytes(reference.read_bytes())
        write_template(made[0][0], made[1][0])
        stale = [path for new, path in made if not path.is_file() or path.read_bytes() != new.read_bytes()]
    for path in stale:
        say(f"{path} is out of step; run `grader template`.")
    if not stale:
        say("The template is in step.")
    return 1 if stale else 0
