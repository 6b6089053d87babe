"""The class and the single submission on a terminal, readable at 40 columns and without colour.

Trusted code over hostile text: strings become `Text`, never rich markup, after terminal commands are taken out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from grader.records import CriterionResult, Report, Status
from grader.reports import view
from grader.reports.sanitize import clean, code_spans, line
from grader.reports.summary import ClassSummary, summarize

__all__ = ["class_table", "sentence", "submission_panel"]

_STYLES = {Status.PASSED: "green", Status.FAILED: "bold red", Status.SKIPPED: "dim", Status.ERROR: "bold magenta"}
_REMARK_STYLES = {"skipped": "dim", "note": "yellow", "by-hand": "yellow"}
_TRACEBACK_LINES = 12
_WIDE = 70  # columns from which on there is room for how a run ended
_TOTAL = 12  # columns of a total with the space around it


def class_table(reports: Sequence[Report]) -> RenderableType:
    """A line per submission with a symbol per criterion, then what a teaching assistant has to do."""
    summary = summarize(reports)
    return Group(_Rows(summary), Text(), *_attention(summary))


@dataclass(frozen=True)
class _Rows:
    """The table of submissions: names and symbols are shortened to the terminal's width, totals never."""

    summary: ClassSummary
    """The class."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        # Rich shortens only columns that may wrap; with no_wrap in its texts none of them really does.
        wide, legend = options.max_width >= _WIDE, self._legend()
        table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
        table.add_column(_cut("Submission"), max_width=min(25, max(6, options.max_width - len(legend) - _TOTAL)))
        table.add_column("Total", justify="right", no_wrap=True)
        table.add_column(legend)
        if wide:
            table.add_column("Ended", max_width=14)
            table.add_column("CPU s", justify="right", no_wrap=True)
        for report in self.summary.reports:
            review, ended, cpu = view.needs_review(report), view.outcome_word(report), view.cpu_seconds(report)
            cells = [
                _cut(_name(report)),
                Text("review", "bold magenta") if review else Text(str(report.score.total)),
                _symbols(report.score.criteria),
                _cut(ended, "" if ended == "completed" else "yellow"),
                Text("–" if cpu is None else f"{cpu:.1f}"),
            ]
            table.add_row(*(cells if wide else cells[:3]))
        yield table

    def _legend(self) -> Text:
        # The first letters of each part, above the symbols of its criteria.
        groups = groupby(criterion.id.partition("/")[0] for criterion in self.summary.criteria)
        widths = ((key, sum(1 for _ in same)) for key, same in groups)
        return _cut(" ".join(key[:width].ljust(width) for key, width in widths) or "Criteria")


def _symbols(criteria: Sequence[CriterionResult]) -> Text:
    text = _cut("")
    for _, group in groupby(criteria, key=lambda result: result.id.partition("/")[0]):
        text.append(" " if text else "")
        for status in map(view.status_of, group):
            text.append(view.SYMBOLS[status], _STYLES[status])
    return text


def _attention(summary: ClassSummary) -> Iterator[RenderableType]:
    plural = "" if len(summary.reports) == 1 else "s"
    median = "" if summary.median is None else f" (median {summary.median:g} of {summary.possible})"
    text = f"{len(summary.reports)} submission{plural}, {len(summary.totals)} with a final score{median}"
    yield Text(f"{text}, {len(summary.review)} to review.", "bold")
    for text in summary.suspicions:
        told = f"Likely a fault of the grader: {text.replace('`', '')}. Check it before scores go out."
        yield Text(told, "bold red")
    for title, style, entries in (
        ("Needs review", "bold magenta", summary.review),
        ("Nothing to grade", "bold red", summary.problems),
        ("Worth a look", "bold yellow", summary.suspicious),
    ):
        if entries:
            yield Text(title, style)
        for report, (first, *others) in entries:
            where = f"{first.where}: " if first.where else ""
            more = f" (and {len(others)} more)" if others else ""
            yield _indented(sentence(f"{_name(report)}: {where}{line(first.text, 160)}{more}"))
    slowest = ", ".join(f"{_name(report)} {view.cpu_seconds(report) or 0:.0f} s" for report in summary.slowest[:3])
    if slowest:
        yield Text(f"Slowest (CPU): {slowest}.", "dim")


def submission_panel(report: Report) -> RenderableType:
    """One submission for its author: what passed in one line each, what did not with what was seen and what to try."""
    colour = "green" if report.score.total == report.score.possible else "red"
    colour = "magenta" if view.needs_review(report) else colour
    name = line(report.submission.display_name or report.submission.file_name, 40)
    title = Text.assemble((view.total(report), colour), "  ", (name, "bold"))
    return Panel(Group(*_blocks(report)), title=title, title_align="left", border_style=colour, padding=(1, 2))


def _blocks(report: Report) -> Iterator[RenderableType]:
    yield from (Text(view.headline(report)), sentence(view.outcome_sentence(report), "dim"))
    if report.note:
        yield sentence(report.note)
    if report.submission.problem:
        yield sentence(report.submission.problem, "bold red")
    yield from (sentence(reason, "bold magenta") for reason in report.score.review[:3])
    for part in view.parts(report):
        yield from (Text(), _row(Text(part.title, "bold"), Text(part.points, "bold")))
        for result in part.criteria:
            yield from _criterion(result)
    for cell in view.failing_cells(report)[:3]:
        if cell.error is not None:
            tail = clean(cell.error.traceback).strip().split("\n")[-_TRACEBACK_LINES:]
            yield from (Text(), Text(f"{view.place(cell.index).capitalize()} failed:", "bold red"))
            yield _indented(Text("\n".join(tail) or line(cell.error.message)))
    measured = [_accuracy(method) for method in view.methods(report) if method.accuracy is not None]
    if measured:
        yield from (Text(), sentence("Accuracy: " + ", ".join(measured)))
    adaptations = report.adaptations
    if adaptations:
        yield from (Text(), Text(f"Adapted so that it runs ({len(adaptations)}), none of it graded:"))
        for places, reason in view.adapted(report)[:8]:
            yield _indented(sentence(f"{places}: {reason}", "dim"))
        if len(view.adapted(report)) > 8:
            yield _indented(Text(f"… and {len(view.adapted(report)) - 8} more", "dim"))
    notices = view.all_notices(report)
    if notices:
        yield from (Text(), *(sentence(f"Note: {notice.text}", "yellow") for notice in notices))


def _criterion(result: CriterionResult) -> Iterator[RenderableType]:
    status = view.status_of(result)
    mark, points = view.SYMBOLS[status], f"{view.earned(result)} / {result.points}"
    yield _row(Text(mark, _STYLES[status]), sentence(result.title), Text(points, _STYLES[status]))
    for remark in view.remarks(result):
        if remark.kind != "measured":
            label = (f"{remark.label}: ", "bold") if remark.label else ""
            yield _indented(Text.assemble(label, sentence(remark.text), style=_REMARK_STYLES.get(remark.kind, "")))
        if remark.url:
            yield _indented(Text(remark.url, f"dim link {remark.url}", overflow="fold"))


def _accuracy(method: view.Method) -> str:
    minimum = "" if method.threshold is None else f" (minimum {method.columns['Minimum']})"
    return f"{method.title} {method.columns['Accuracy']}{minimum}"


def _row(*cells: Text) -> Table:
    """Columns as wide as the terminal: a title, which may take several lines, the points behind it, and perhaps a mark before it."""
    grid = Table.grid(expand=True, padding=(0, 1))
    for _mark in cells[:-2]:
        grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(*cells)
    return grid


def _indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2))


def sentence(text: str, style: str = "") -> Text:
    """A sentence with what stands between backticks as code."""
    found = Text(style=style)
    for index, piece in enumerate(code_spans(text)):
        found.append(piece, "cyan" if index % 2 else None)
    return found


def _cut(text: str, style: str = "") -> Text:
    """Text on one line that is shortened where its column is narrow."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _name(report: Report) -> str:
    return line(report.submission.display_name or report.submission.id, 40)
