"""`grader template`: the student template from the reference solution, and the folder that a course hands out."""

from __future__ import annotations

from pathlib import Path

import click

from grader.assignments import load_assignment
from grader.authoring import folder, template_files, values_of
from grader.bundles.bundle import load_bundle
from grader.cli.common import say, stderr
from grader.cli.options import FILE, FOLDER, NEW_FILE, NEW_FOLDER, assignment_option
from grader.cli.resources import reference_path, template_path
from grader.errors import UsageError
from grader.grading.settings import Settings, read_settings
from grader.runs.directory import write_atomically

__all__ = ["template"]


@click.command()
@click.argument("reference", required=False, type=FILE)
@click.argument("target", required=False, type=NEW_FILE, metavar="[TEMPLATE]")
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 when a notebook is out of step.")
@click.option(
    "--out", type=NEW_FOLDER, metavar="FOLDER",
    help="Write the folder to hand out instead: notebook, reviews, README.md, and assignment.md for a web site.",
)  # fmt: skip
@click.option(
    "--config", type=FILE, metavar="TOML",
    help="Deadline, addresses, points and minimum accuracies that the folder tells (docs/handout.md).",
)  # fmt: skip
@click.option(
    "--data", type=FOLDER, metavar="DIR",
    help="Folder with the train.csv and eval.csv to hand out.  [default: the bundle's]",
)  # fmt: skip
@click.option(
    "--bundle", type=FOLDER, metavar="DIR",
    help="What the notebooks will be graded against.  [default: the small stand-in]",
)  # fmt: skip
@click.option("--wheel", type=FILE, metavar="FILE", help="The self-check's wheel, to be handed out as well.")
@assignment_option
def template(
    reference: Path | None,
    target: Path | None,
    check: bool,
    out: Path | None,
    config: Path | None,
    data: Path | None,
    bundle: Path | None,
    wheel: Path | None,
    assignment: str,
) -> int:
    """Write the student template from the reference solution, which is brought into its canonical form.

    Without arguments these are the notebooks that ship with the grader. With --out the folder that a course hands out is made, with
    its own deadline, addresses, points and data:

    \b
      grader template --out lab4 --config grader.toml --data reviews/
    """  # noqa: D301 - click: the paragraph is not wrapped
    own = {"--config": config, "--data": data, "--bundle": bundle, "--wheel": wheel}
    if out is None and (idle := [name for name, value in own.items() if value]):
        raise UsageError(f"{', '.join(idle)} says what the folder to hand out holds: add --out FOLDER")
    if out is not None and (check or target):
        raise UsageError("--out makes the folder to hand out: leave out --check and TEMPLATE")
    reference = reference or reference_path()
    declared, against = load_assignment(assignment), load_bundle(bundle)
    settings = read_settings(config) if config else Settings()
    if out is not None:
        against.verify()
        source = data or against.path
        values = values_of(declared, against, settings, source)
        for name, content in folder(reference, values, source, wheel).items():
            write_atomically(out / name, content)
            say(f"Wrote {out / name}")
        if values["synthetic"]:
            stderr.print(
                "The reviews are the stand-in's, and synthetic. --data DIR hands out a course's own.", soft_wrap=True
            )
        return 0
    target = target or template_path() or reference.parents[1] / "student_template" / reference.name
    files = template_files(reference, target, values_of(declared, against, settings))
    stale = [path for path, content in files.items() if not path.is_file() or path.read_bytes() != content]
    for path in stale:
        if check:
            say(f"{path} is out of step; run `grader template`.")
        else:
            write_atomically(path, files[path])
            say(f"Wrote {path}")
    if not stale:
        say("The template is in step.")
    return 1 if check and stale else 0
