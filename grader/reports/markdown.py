"""A report as GitHub-flavoured Markdown: for step summaries, merge requests and comments.

Trusted code over hostile text: whatever a student wrote is escaped, fenced, or both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from grader.records import CellRun, CriterionResult, Report, Status
from grader.reports import view
from grader.reports.sanitize import clean, line
from grader.rubric.numbers import decimal, written_in

__all__ = ["criterion_markdown", "failed_cell_markdown", "report_markdown"]

_ICONS = {Status.PASSED: "✅", Status.FAILED: "❌", Status.SKIPPED: "➖", Status.ERROR: "🔎"}
_TIED = "\u00a0"  # a blank at which no line is broken
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;", "|": "&#124;", "$": "&#36;"}
_SPECIAL = re.compile(r"[\\`*_{}\[\]#~!]|(?<=\w):(?=//)")
_LIST = re.compile(r"^(\d*)([-+=.)])")
_CODE = re.compile(r"(`[\w .,:;/()=+*·'\"\[\]-]+`)")


def report_markdown(report: Report, *, icons: Mapping[Status, str] = _ICONS) -> str:
    """Write a report as one Markdown document; the tables are readable as plain text too. `icons` has one sign per status."""
    with written_in(report.language):
        return "\n".join(_lines(report, icons)) + "\n"


def _lines(report: Report, icons: Mapping[Status, str]) -> Iterator[str]:
    who = report.submission
    yield f"## {_text(report.assignment_title)}: {view.total(report)}"
    yield from ("", f"**{_text(who.display_name)}** · {_text(who.file_name)}", "", _text(view.headline(report)))
    if report.note:
        yield from ("", _text(report.note))
    if who.problem:
        yield from ("", f"> ⚠️ {_text(who.problem)}")
    for reason in report.score.review:
        yield from ("", f"> 🔎 {_text(reason)}")
    yield from ("", "|   | Criterion | Points |", "|:-:|:--|--:|")
    for part in view.parts(report):
        yield f"|   | **{_text(part.title)}** | **{part.points.replace(' ', _TIED)}** |"
        yield from (_row(result, icons) for result in part.criteria)
    found = view.methods(report)
    if found:
        yield from ("", f"| Method | {' | '.join(found[0].columns)} |", "|:--|" + "--:|" * len(found[0].columns))
        yield from (f"| {_text(method.title)} | {' | '.join(method.columns.values())} |" for method in found)
    yield from ("", f"**How it ran.** {_text(view.outcome_sentence(report))}")
    for cell in view.failing_cells(report)[:10]:
        if cell.error is not None:
            title = f"{view.place(cell.index)}: {line(cell.error.name)}: {line(cell.error.message, 120)}"
            yield from _folded(_html(title), _fenced(cell.error.traceback or cell.error.message))
    if report.adaptations:
        title = f"{len(report.adaptations)} adaptation(s) made so that it runs here, none of them graded"
        adapted = (f"{view.place(item.cell)}: {item.reason}" for item in report.adaptations)
        yield from _folded(title, [f"- {_text(item)}" for item in adapted])
    notices = view.all_notices(report)
    if notices:
        yield from ("", "### Notices", "", *(f"- {_text(notice.text)}" for notice in notices))
    if report.execution:
        version = f" · grader {_text(report.grader_version)}" if report.grader_version else ""
        how = _text(view.isolation(report.execution.sandbox))
        bundle = f" · bundle {_text(report.execution.bundle)}" if report.execution.bundle else ""
        digest = f" · file SHA-256 {who.sha256[:12]}…" if who.sha256 else ""
        yield from ("", f"<sub>Run {how}{bundle}{version}{digest}</sub>")


def criterion_markdown(result: CriterionResult) -> str:
    """Write one criterion as a paragraph: points, what it asks, what was seen and what to try. Its sign is in every font."""
    sign = view.SYMBOLS[view.status_of(result)]
    head = f"{sign} **{view.earned(result)} / {decimal(result.points)}** · {_text(result.title)}"
    return "<br>".join((head, *_remarks(result)))


def failed_cell_markdown(cell: CellRun) -> str:
    """Write as a paragraph that a cell failed, and with what."""
    what = f"{cell.error.name}: {line(cell.error.message, 300)}" if cell.error else "the kernel ended in it."
    return f"**{view.place(cell.index).capitalize()} failed** when your notebook was run for grading: {_text(what)}"


def _remarks(result: CriterionResult) -> list[str]:
    remarks = [remark for remark in view.remarks(result) if remark.kind != "measured"]
    return [(f"*{remark.label}:* " if remark.label else "") + _linked(remark) for remark in remarks]


def _linked(remark: view.Remark) -> str:
    return f"[{_text(remark.text)}]({remark.url})" if remark.url else _text(remark.text)


def _row(result: CriterionResult, icons: Mapping[Status, str]) -> str:
    cell = "<br>".join((_text(result.title), *_remarks(result)))
    return f"| {icons[view.status_of(result)]} | {cell} | {view.earned(result)} / {decimal(result.points)} |"


def _folded(title: str, lines: list[str]) -> Iterator[str]:
    yield from ("", f"<details><summary>{title}</summary>", "", *lines, "", "</details>")


def _fenced(text: str) -> list[str]:
    text = clean(text)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return [f"{fence}text", text, fence]


def _text(text: str) -> str:
    # Short pieces in backticks stay code, as the assignment's sentences mean them; every other backtick is escaped.
    pieces = _CODE.split(line(text))
    return "".join(piece if index % 2 else _escaped(piece, first=index == 0) for index, piece in enumerate(pieces))


def _escaped(text: str, *, first: bool) -> str:
    text = _SPECIAL.sub(lambda match: "\\" + match.group(), text)
    return _html(_LIST.sub(r"\1\\\2", text) if first else text)


def _html(text: str) -> str:
    return "".join(_ENTITIES.get(char, char) for char in text)
