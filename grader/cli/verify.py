"""`grader verify`: proof for CI that the reference gets full marks, the template none, and a labelled corpus what it should."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from rich.table import Table

from grader.assignments import load_assignment
from grader.bundles.bundle import load_bundle
from grader.cli.common import console, say, working
from grader.cli.options import FILE, FOLDER, NEW_FILE, assignment_options
from grader.cli.resources import corpus_path, reference_path, template_path
from grader.errors import UsageError
from grader.grading.pipeline import grade
from grader.records import Report, Status
from grader.reports import report_markdown
from grader.runs.directory import write_atomically

__all__ = ["verify"]

ASSIGNMENT = "finetuning"
"""The assignment that the corpus of a checkout belongs to."""


@click.command()
@click.option("--reference", type=FILE, metavar="FILE", help="Notebook that must get full marks.")
@click.option("--template", type=FILE, metavar="FILE", help="Notebook that must get nothing.")
@click.option(
    "--corpus", type=FOLDER, metavar="FOLDER",
    help="Labelled submissions to judge: a Python package (docs/judging.md).  [default: tests/corpus of a checkout]",
)  # fmt: skip
@click.option("--no-corpus", is_flag=True, help="Only the two notebooks.")
@click.option("--markdown", type=NEW_FILE, metavar="FILE", help="Also write a summary as Markdown (for CI).")
@assignment_options
def verify(
    reference: Path | None,
    template: Path | None,
    corpus: Path | None,
    no_corpus: bool,
    markdown: Path | None,
    assignment: str,
    bundle: Path | None,
    sandbox: str,
) -> int:
    """Grade the reference solution and the empty template, and judge the labelled corpus.

    Exit code 1 when one of them is not as it should be.
    """
    declared = load_assignment(assignment)
    reference = reference or reference_path()
    template = template or template_path()
    if template is None:
        raise UsageError("this installation has no student template; give one with --template")
    found = load_bundle(bundle)
    summaries: list[str] = []
    wrong = 0
    for name, path, wanted in (("reference", reference, declared.possible), ("template", template, 0)):
        with working(f"running the {name}"):
            report = grade(path, declared, bundle=found, sandbox=sandbox)
        wrong += not _is_right(name, report, wanted)
        summaries.append(report_markdown(report))
    own = corpus_path() if assignment == ASSIGNMENT else None
    folder = None if no_corpus else corpus or own
    if folder is not None:
        table, differences = _judge(folder)
        summaries.append(table)
        wrong += differences
    if markdown:
        write_atomically(markdown, "\n\n".join(summaries))
    return 1 if wrong else 0


def _is_right(name: str, report: Report, wanted: int) -> bool:
    """Print what a notebook got, and what is not as `wanted`."""
    total = report.score.total
    shown = "needs review" if total is None else f"{total} of {report.score.possible}"
    say(f"{'ok ' if total == wanted else 'BAD'} {name}: {shown}, {wanted} is right")
    if total != wanted:
        for result in report.score.criteria:
            if (result.verdict.status is Status.PASSED) != (wanted > 0):
                say(f"    {result.id}: {result.verdict.status}: {result.verdict.message}")
    return total == wanted


def _load_corpus(folder: Path) -> ModuleType:
    """Import the package of a corpus; trusted code, it is run as it is. Raises UsageError where the folder is no such package.

    Its `judged()` yields the cases, each with the `part` of the corpus that it belongs to; its `matrix(cases)` returns what is
    printed here (see `tests/corpus/matrix.py`).
    """
    folder = folder.resolve()
    if not (folder / "__init__.py").is_file():
        raise UsageError(f"{folder} is not a corpus: it has no __init__.py (docs/judging.md)")
    top, name = folder.parent, folder.name
    while (top / "__init__.py").is_file():
        top, name = top.parent, f"{top.name}.{name}"
    sys.path.insert(0, str(top))
    try:
        module = importlib.import_module(name)
    finally:
        sys.path.remove(str(top))
    for function in ("judged", "matrix"):
        if not callable(getattr(module, function, None)):
            raise UsageError(
                f"{folder} is not a corpus: its __init__.py has no function {function}() (docs/judging.md)"
            )
    return module


def _judge(folder: Path) -> tuple[str, int]:
    """Judge a corpus and print its matrix; returns the matrix as Markdown, and how many cases differ from their labels."""
    corpus = _load_corpus(folder)
    began = time.monotonic()
    cases: list[Any] = []
    with (
        working("judging the corpus") as update,
        contextlib.redirect_stdout(io.StringIO()),
    ):  # what the cases print is not shown
        for case in corpus.judged():
            cases.append(case)
            update(description=f"judging the corpus: {len(cases)} cases, now {case.part}")
    matrix = corpus.matrix(cases)
    table = Table(*matrix.head, title="labelled corpus, by criterion", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for cells in matrix.rows:
        wrong = any(cell != "0" for title, cell in zip(matrix.head, cells, strict=True) if title in matrix.unwanted)
        table.add_row(*cells, style="red" if wrong else "")
    console.print(table)
    for found in matrix.wrong:
        say(f"{found.kind}: {found.case}: {found.text}", "red")
    say(f"{'BAD' if matrix.wrong else 'ok '} corpus: {matrix.summary} ({time.monotonic() - began:.0f} s)")
    return matrix.markdown, len(matrix.wrong)
