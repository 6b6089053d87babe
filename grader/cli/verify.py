"""`grader verify`: proof for CI that the reference gets full marks, the template none, and a labelled corpus what it should."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import io
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.table import Table

from grader.assignments import load_assignment
from grader.bundles import load_bundle
from grader.cli.common import bar, console
from grader.cli.resources import corpus_path, reference_path, template_path
from grader.errors import UsageError
from grader.grading.context import RunContext
from grader.grading.pipeline import Grader, single_submission
from grader.grading.report import report_for
from grader.records import Report, Status
from grader.reports import report_markdown
from grader.runs.directory import write_atomically

__all__ = ["run"]

ASSIGNMENT = "finetuning"
"""The assignment that the corpus of a checkout belongs to."""


def run(options: argparse.Namespace) -> int:
    """Grade both notebooks and judge the corpus; 0 when all are as they should be."""
    tables, wrong = _notebooks(options)
    own = corpus_path() if options.assignment == ASSIGNMENT else None
    folder = None if options.no_corpus else options.corpus or own
    if folder is not None:
        corpus = _load_corpus(folder)
        cases, seconds = _judge(corpus)
        matrix = corpus.matrix(cases)
        tables.append(_show(matrix, seconds))
        wrong += len(matrix.wrong)
    if options.markdown:
        write_atomically(options.markdown, "\n\n".join(tables))
    return 1 if wrong else 0


def _notebooks(options: argparse.Namespace) -> tuple[list[str], int]:
    """Grade the reference and the template; returns their reports as Markdown and how many are not as they should be."""
    reference = options.reference or reference_path()
    template = options.template or template_path()
    if template is None:
        raise UsageError("this installation has no student template; give one with --template")
    assignment = load_assignment(options.assignment)
    context = RunContext.create(assignment, load_bundle(options.bundle), secrets.token_bytes(32))
    reports: list[tuple[str, Report, int]] = []
    with Grader(context, sandbox=options.sandbox) as grader, bar(unit=False) as progress:
        for name, path, wanted in (("reference", reference, assignment.possible), ("template", template, 0)):
            progress.add_task(f"running the {name}", total=None)
            reports.append((name, _graded(grader, path), wanted))
    wrong = 0
    for name, report, wanted in reports:
        total = report.score.total
        right = total == wanted
        wrong += not right
        shown = "needs review" if total is None else f"{total} of {report.score.possible}"
        console.print(f"{'ok ' if right else 'BAD'} {name}: {shown}, {wanted} is right")
        if not right:
            for result in report.score.criteria:
                if (result.verdict.status is Status.PASSED) != (wanted > 0):
                    console.print(f"    {result.id}: {result.verdict.status}: {result.verdict.message}", markup=False)
    return [report_markdown(report) for _, report, _ in reports], wrong


def _graded(grader: Grader, path: Path) -> Report:
    submission, data = single_submission(path)
    result = asyncio.run(grader.run(submission, data))
    return report_for(grader.context, submission, result)


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
    if str(top) not in sys.path:
        sys.path.insert(0, str(top))
    module = importlib.import_module(name)
    for function in ("judged", "matrix"):
        if not callable(getattr(module, function, None)):
            raise UsageError(
                f"{folder} is not a corpus: its __init__.py has no function {function}() (docs/judging.md)"
            )
    return module


def _judge(corpus: ModuleType) -> tuple[list[Any], dict[str, float]]:
    """Judge a corpus; returns its cases, and the wall seconds of each of its parts."""
    cases: list[Any] = []
    seconds: dict[str, float] = {}
    with bar(unit=False) as progress:
        task = progress.add_task("judging the corpus", total=None)
        last = time.perf_counter()
        for case in _silently(corpus.judged()):
            now = time.perf_counter()
            seconds[case.part] = seconds.get(case.part, 0.0) + now - last
            last = now
            cases.append(case)
            progress.update(task, description=f"judging the corpus: {len(cases)} cases, now {case.part}")
    return cases, seconds


def _silently(cases: Iterator[Any]) -> Iterator[Any]:
    """Keep what the cases print off the terminal."""
    while True:
        with contextlib.redirect_stdout(io.StringIO()):
            case = next(cases, None)
        if case is None:
            return
        yield case


def _show(matrix: Any, seconds: dict[str, float]) -> str:
    """Print the matrix of a corpus; returns it as Markdown."""
    table = Table(*matrix.head, title="labelled corpus, by criterion", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    lines = [
        "## Labelled corpus",
        "",
        "| " + " | ".join(matrix.head) + " |",
        "|---|" + "---:|" * (len(matrix.head) - 1),
    ]
    for cells in matrix.rows:
        wrong = any(cell != "0" for title, cell in zip(matrix.head, cells, strict=True) if title in matrix.unwanted)
        table.add_row(*cells, style="red" if wrong else "")
        lines.append("| " + " | ".join(cells) + " |")
    console.print(table)
    for found in matrix.wrong:
        console.print(f"{found.kind}: {found.case}: {found.text}", markup=False, style="red", soft_wrap=True)
    took = ", ".join(f"{part} {spent:.0f} s" for part, spent in seconds.items())
    console.print(f"{'BAD' if matrix.wrong else 'ok '} corpus: {matrix.summary} ({took})", soft_wrap=True)
    lines += ["", f"{matrix.summary}.", *(f"- **{w.kind}** {w.case}: {w.text}" for w in matrix.wrong)]
    return "\n".join(lines) + "\n"
