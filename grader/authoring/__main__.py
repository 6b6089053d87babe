"""`python -m grader.authoring`: bring the reference notebook into its canonical form and generate the template from it.

Trusted. `--check` writes nothing and exits with 1 where something would change.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from grader.authoring.canonical import canonical, dumps, read_notebook
from grader.authoring.template import make_template, write_template
from grader.errors import GraderError

REFERENCE = Path("reference_solution/finetuning.ipynb")
TEMPLATE = Path("student_template/finetuning.ipynb")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 done or in step, 1 out of step (`--check`), 2 the notebooks cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m grader.authoring", description="Generate the student template.")
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="default: %(default)s")
    parser.add_argument("--template", type=Path, default=TEMPLATE, help="default: %(default)s")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if something would change")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            return _check(options.reference, options.template)
        changed = write_template(options.reference, options.template)
    except GraderError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.template}: {'written' if changed else 'already in step'} ({options.reference})")
    return 0


def _check(reference_path: Path, template_path: Path) -> int:
    """Compare the files with what would be written."""
    reference = canonical(read_notebook(reference_path))
    expected = {reference_path: dumps(reference), template_path: dumps(make_template(reference))}
    stale = [path for path, text in expected.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{path}: out of step; run python -m grader.authoring", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
