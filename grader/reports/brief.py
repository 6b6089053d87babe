"""A report without what only its own pages show, so that the reports of thousands fit into memory side by side.

Trusted; pure. Pages and tables of a class come out the same from brief reports as from whole ones, JUnit's excepted.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import replace

from grader.records import CellRun, CriterionResult, Execution, Report, Status, Verdict
from grader.reports.audience import is_private
from grader.reports.view import all_notices, failing_cells

__all__ = ["brief"]


def brief(report: Report, shared: MutableMapping[CriterionResult, CriterionResult] | None = None) -> Report:
    """Keep what class pages, tables and terminals show of a report. `shared` collects results that are alike in a class."""
    known = {} if shared is None else shared
    criteria = tuple(known.setdefault(result, result) for result in map(_result, report.score.criteria))
    execution = report.execution
    return replace(
        report,
        execution=None if execution is None else _execution(execution, report),
        adaptations=(),
        notices=tuple(notice for notice in all_notices(report) if is_private(notice)),
        score=replace(report.score, criteria=criteria),
        metrics={},
    )


def _result(result: CriterionResult) -> CriterionResult:
    verdict = result.verdict
    # A message is a reason to look where a person has to look; elsewhere it stands on the submission's own page.
    message = verdict.message if verdict.status is Status.ERROR else ""
    return replace(result, verdict=Verdict(verdict.status, message))


def _execution(execution: Execution, report: Report) -> Execution:
    cells = tuple(CellRun(cell.index, cell.status, cell.seconds, cell.cpu_seconds) for cell in failing_cells(report))
    return replace(execution, cells=cells, versions={}, notices=())
