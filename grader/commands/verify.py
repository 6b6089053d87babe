"""`grader verify`: proof for CI that the reference gets full marks and the template none."""

from __future__ import annotations

import argparse
import asyncio
import secrets
from pathlib import Path

from grader.assignments import load_assignment
from grader.bundles import load_bundle
from grader.commands.common import bar, console
from grader.commands.resources import reference_path, template_path
from grader.errors import UsageError
from grader.pipeline import Ground, Workplace, report_for, single_submission
from grader.records import Report, Status
from grader.reports import report_markdown
from grader.store import write_atomically

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Grade both notebooks; 0 when both are as they should be."""
    reference = options.reference or reference_path()
    template = options.template or template_path()
    if template is None:
        raise UsageError("this installation has no student template; give one with --template")
    assignment = load_assignment(options.assignment)
    ground = Ground.lay(assignment, load_bundle(options.bundle), secrets.token_bytes(32))
    reports: list[tuple[str, Report, int]] = []
    with Workplace(ground, sandbox=options.sandbox) as workplace, bar(unit=False) as progress:
        for name, path, wanted in (("reference", reference, assignment.possible), ("template", template, 0)):
            progress.add_task(f"running the {name}", total=None)
            reports.append((name, _graded(workplace, path), wanted))
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
    if options.markdown:
        write_atomically(options.markdown, "\n\n".join(report_markdown(report) for _, report, _ in reports))
    return 1 if wrong else 0


def _graded(workplace: Workplace, path: Path) -> Report:
    submission, data = single_submission(path)
    result = asyncio.run(workplace.run(submission, data))
    return report_for(workplace.ground, submission, result)
