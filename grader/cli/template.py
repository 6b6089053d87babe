"""`grader template`: the student template from the reference solution."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from grader.authoring import write_template
from grader.cli.common import console
from grader.cli.resources import reference_path, template_path
from grader.errors import UsageError

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Write the template, or with --check only say whether it is in step."""
    reference = options.reference or reference_path()
    template = options.template or template_path() or reference.parents[1] / "student_template" / reference.name
    if not reference.is_file():
        raise UsageError(f"{reference} is not a file")
    if options.check:
        with tempfile.TemporaryDirectory() as folder:
            fresh = Path(folder) / "template.ipynb"
            write_template(reference, fresh)
            same = template.is_file() and fresh.read_bytes() == template.read_bytes()
        console.print(
            "The template is in step." if same else f"{template} is out of step; run `grader template`.", soft_wrap=True
        )
        return 0 if same else 1
    changed = write_template(reference, template)
    console.print(f"{'Wrote' if changed else 'Nothing to change in'} {template}", soft_wrap=True)
    return 0
