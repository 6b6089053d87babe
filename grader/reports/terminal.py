"""The class and the single submission on a terminal, readable at 80 columns and without colour.

Trusted code over hostile text: strings become `Text`, never rich markup, after terminal commands are taken out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from grader.records import Adaptation, CriterionResult, Report, Status
from grader.reports.sanitize import clean, line
from grader.reports.summary import ClassSummary, summarize
from grader.reports.view import (
    SYMBOLS,
    Method,
    all_notices,
    cpu_seconds,
    failing_cells,
    headline,
    methods,
    needs_review,
    outcome_sentence,
    outcome_word,
    parts,
    review_reasons,
    status_of,
)

__all__ = ["class_table", "submission_panel"]

_STYLES = {Status.PASSED: "green", Status.FAILED: "bold red", Status.SKIPPED: "dim", Status.ERROR: "bold magenta"}
_CODE = re.compile(r"`([^`\n]+)`")
_TRACEBACK_LINES = 12
_MOST_ROWS = 500


def class_table(reports: Sequence[Report]) -> RenderableType:
    """A line per submission (the first 500) with a symbol per criterion, then what a teaching assistant has to do."""
    summary = summarize(reports)
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("Submission", no_wrap=True, overflow="ellipsis", max_width=25)
    table.add_column("Total", justify="right", no_wrap=True)
    table.add_column(_legend(summary), no_wrap=True)
    table.add_column("Ended", no_wrap=True, overflow="ellipsis", max_width=14)
    table.add_column("CPU s", justify="right", no_wrap=True)
    for report in summary.reports[:_MOST_ROWS]:
        cpu = cpu_seconds(report)
        table.add_row(
            _name(report),
            Text("review", "bold magenta") if needs_review(report) else Text(str(report.score.total)),
            _symbols(report.score.criteria),
            Text(outcome_word(report), "" if outcome_word(report) == "completed" else "yellow"),
            Text("–" if cpu is None else f"{cpu:.1f}"),
        )
    rest = len(summary.reports) - _MOST_ROWS
    more = [Text(f"… and {rest} more: all are in scores.csv and class.html.")] if rest > 0 else []
    return Group(table, *more, Text(), *_todo(summary))


def submission_panel(report: Report) -> RenderableType:
    """One submission for its author: what passed in one line each, what did not with what was seen and what to try."""
    blocks: list[RenderableType] = [Text(headline(report)), _sentence(outcome_sentence(report), "dim")]
    if report.submission.problem:
        blocks.append(_sentence(report.submission.problem, "bold red"))
    blocks += [_sentence(reason, "bold magenta") for reason in report.score.review[:3]]
    for part in parts(report):
        earned = f"{part.earned}{'+?' if part.open else ''} / {part.possible}"
        blocks += [Text(), _row(Text(part.title, "bold"), Text(earned, "bold"))]
        for result in part.criteria:
            blocks += _criterion(result)
    blocks += _errors(report)
    measured = [_accuracy(method) for method in methods(report) if method.accuracy is not None]
    if measured:
        blocks += [Text(), _sentence("Accuracy: " + ", ".join(measured))]
    if report.adaptations:
        blocks += [Text(), Text(f"Adapted before it ran ({len(report.adaptations)}), none of it graded:")]
        blocks += [_indented(_sentence(f"{_where(item)}: {item.reason}", "dim")) for item in report.adaptations[:8]]
        if len(report.adaptations) > 8:
            blocks.append(_indented(Text(f"… and {len(report.adaptations) - 8} more", "dim")))
    notices = all_notices(report)
    if notices:
        blocks += [Text(), *(_sentence(f"Note: {notice.text}", "yellow") for notice in notices)]
    score = report.score
    title = Text.assemble((line(report.submission.display_name or report.submission.file_name, 40), "bold"), "  ")
    title.append("needs review" if needs_review(report) else f"{score.total} / {score.possible}", _colour(report))
    return Panel(Group(*blocks), title=title, title_align="left", border_style=_colour(report), padding=(1, 2))


def _accuracy(method: Method) -> str:
    minimum = "" if method.threshold is None else f" (minimum {method.threshold:.3f})"
    return f"{method.title} {method.accuracy:.3f}{minimum}"


def _colour(report: Report) -> str:
    if needs_review(report):
        return "magenta"
    return "green" if report.score.total == report.score.possible else "red"


def _legend(summary: ClassSummary) -> Text:
    # The first letters of each part, above the symbols of its criteria.
    groups: dict[str, int] = {}
    for criterion in summary.criteria:
        groups[criterion.id.partition("/")[0]] = groups.get(criterion.id.partition("/")[0], 0) + 1
    return Text(" ".join(key[:width].ljust(width) for key, width in groups.items()) or "Criteria")


def _symbols(criteria: Sequence[CriterionResult]) -> Text:
    text = Text()
    for before, result in pairwise([None, *criteria]):
        if result is None:
            continue
        if before is not None and before.id.partition("/")[0] != result.id.partition("/")[0]:
            text.append(" ")
        text.append(SYMBOLS[status_of(result)], _STYLES[status_of(result)])
    return text


def _todo(summary: ClassSummary) -> list[RenderableType]:
    found: list[RenderableType] = []
    counted = f"{len(summary.reports)} submission{'' if len(summary.reports) == 1 else 's'}, {len(summary.totals)} with a final score"
    if summary.median is not None:
        counted += f" (median {summary.median:g} of {summary.possible})"
    found.append(Text(counted + f", {len(summary.review)} to review.", "bold"))
    found += [
        Text(
            f"Likely a fault of the grader: {c.failed} of the {c.passed + c.failed} that reached it fail {c.id}."
            " Check it before scores go out.",
            "bold red",
        )
        for c in summary.suspect
    ]
    if summary.review:
        found.append(Text("Needs review", "bold magenta"))
        for report in summary.review:
            reasons = review_reasons(report)
            more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
            where = f"{reasons[0].where}: " if reasons[0].where else ""
            found.append(_indented(_sentence(f"{_name(report)}: {where}{line(reasons[0].text, 160)}{more}")))
    if summary.problems:
        found.append(Text("Nothing to grade", "bold red"))
        found += [
            _indented(_sentence(f"{_name(r)}: {line(r.submission.problem or '', 160)}")) for r in summary.problems
        ]
    if summary.suspicious:
        found.append(Text("Worth a look", "bold yellow"))
        found += [_indented(_sentence(f"{_name(r)}: {line(why, 160)}")) for r, why in summary.suspicious]
    slowest = ", ".join(f"{_name(r)} {r.execution.usage.cpu_seconds:.0f} s" for r in summary.slowest[:3] if r.execution)
    if slowest:
        found.append(Text(f"Slowest (CPU): {slowest}.", "dim"))
    return found


def _criterion(result: CriterionResult) -> list[RenderableType]:
    verdict = result.verdict
    status = status_of(result)
    style = _STYLES[status]
    title = Text.assemble((SYMBOLS[status], style), " ")
    title.append_text(_sentence(result.title))
    earned = "?" if result.earned is None else str(result.earned)
    found: list[RenderableType] = [_row(title, Text(f"{earned} / {result.points}", style))]
    if verdict.message and verdict.status is not Status.PASSED:
        found.append(_indented(_sentence(verdict.message, "dim" if verdict.status is Status.SKIPPED else "")))
    if verdict.hint and verdict.status in (Status.FAILED, Status.ERROR):
        found.append(_indented(Text.assemble(("Try: ", "bold"), _sentence(verdict.hint))))
    found += [_indented(_sentence(f"Note: {notice.text}", "yellow")) for notice in verdict.notices]
    if result.override:
        found.append(_indented(_sentence(f"Points set by hand: {result.override}", "yellow")))
    return found


def _errors(report: Report) -> list[RenderableType]:
    found: list[RenderableType] = []
    for cell in failing_cells(report)[:3]:
        if cell.error is None:
            continue
        tail = clean(cell.error.traceback).strip().split("\n")[-_TRACEBACK_LINES:]
        found += [
            Text(),
            Text(f"Cell {cell.index + 1} failed:", "bold red"),
            _indented(Text("\n".join(tail) or line(cell.error.message))),
        ]
    return found


def _row(left: Text, right: Text) -> Table:
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(left, right)
    return grid


def _indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2))


def _sentence(text: str, style: str = "") -> Text:
    found = Text(style=style)
    for index, piece in enumerate(_CODE.split(line(text))):
        found.append(piece, "cyan" if index % 2 else None)
    return found


def _name(report: Report) -> Text:
    return Text(line(report.submission.display_name or report.submission.id, 40))


def _where(item: Adaptation) -> str:
    return "whole notebook" if item.cell is None else f"cell {item.cell + 1}"
