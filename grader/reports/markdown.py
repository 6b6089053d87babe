"""A report as GitHub-flavoured Markdown: for step summaries, merge requests and comments.

Trusted code over hostile text: whatever a student wrote is escaped, fenced, or both.
"""

from __future__ import annotations

import re

from grader.records import CriterionResult, Report, Status
from grader.reports.sanitize import clean, line
from grader.reports.view import (
    all_notices,
    failing_cells,
    headline,
    isolation,
    methods,
    needs_review,
    outcome_sentence,
    parts,
    status_of,
)

__all__ = ["report_markdown"]

_ICONS = {Status.PASSED: "✅", Status.FAILED: "❌", Status.SKIPPED: "➖", Status.ERROR: "🔎"}
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;", "|": "&#124;", "$": "&#36;"}
_SPECIAL = re.compile(r"[\\`*_{}\[\]#~!]|(?<=\w):(?=//)")
_LIST = re.compile(r"^(\d*)([-+=.)])")
_CODE = re.compile(r"(`[\w .,:;/()=+*·'\"\[\]-]+`)")


def report_markdown(report: Report) -> str:
    """Write a report as one Markdown document; the tables are readable as plain text too."""
    score = report.score
    total = "needs review" if needs_review(report) else f"{score.total} / {score.possible}"
    lines = [
        f"## {_text(report.assignment_title)}: {total}",
        "",
        f"**{_text(report.submission.display_name)}** · {_text(report.submission.file_name)}",
    ]
    lines += ["", _text(headline(report))]
    if report.submission.problem:
        lines += ["", f"> ⚠️ {_text(report.submission.problem)}"]
    lines += [line_ for reason in score.review for line_ in ("", f"> 🔎 {_text(reason)}")]
    lines += ["", "|   | Criterion | Points |", "|:-:|:--|--:|"]
    for part in parts(report):
        lines.append(f"|   | **{_text(part.title)}** | **{part.earned} / {part.possible}** |")
        lines += [_row(result) for result in part.criteria]
    lines += _methods(report)
    lines += _run(report)
    if report.adaptations:
        lines += [
            "",
            f"<details><summary>{len(report.adaptations)} adaptation(s) made before the run, none of them graded</summary>",
            "",
        ]
        lines += [f"- {_cell(item.cell)}: {_text(item.rule)}: {_text(item.reason)}" for item in report.adaptations]
        lines += ["", "</details>"]
    notices = all_notices(report)
    if notices:
        lines += ["", "### Notices", "", *(f"- {_text(notice.text)}" for notice in notices)]
    version = f" · grader {_text(report.grader_version)}" if report.grader_version else ""
    if report.execution:
        lines += [
            "",
            f"<sub>Run {_text(isolation(report.execution.sandbox))} · bundle {_text(report.execution.bundle)}{version}</sub>",
        ]
    return "\n".join(lines) + "\n"


def _row(result: CriterionResult) -> str:
    verdict = result.verdict
    words = [_text(result.title)]
    if verdict.status is not Status.PASSED and verdict.message:
        words.append(_text(verdict.message))
    if verdict.status in (Status.FAILED, Status.ERROR) and verdict.hint:
        words.append(f"*Try:* {_text(verdict.hint)}")
    if result.override:
        words.append(f"*Set by hand:* {_text(result.override)}")
    words += [f"*Note:* {_text(notice.text)}" for notice in verdict.notices]
    earned = "?" if result.earned is None else str(result.earned)
    return f"| {_ICONS[status_of(result)]} | {'<br>'.join(words)} | {earned} / {result.points} |"


def _methods(report: Report) -> list[str]:
    found = methods(report)
    if not found:
        return []
    lines = ["", "| Method | Accuracy | Minimum | Trainable parameters | CPU time |", "|:--|--:|--:|--:|--:|"]
    for method in found:
        accuracy = "" if method.accuracy is None else f"{method.accuracy:.3f}"
        threshold = "" if method.threshold is None else f"{method.threshold:.3f}"
        trainable = "" if method.trainable is None else f"{method.trainable:,}"
        seconds = "" if method.seconds is None else f"{method.seconds:.1f} s"
        lines.append(f"| {_text(method.title)} | {accuracy} | {threshold} | {trainable} | {seconds} |")
    return lines


def _run(report: Report) -> list[str]:
    lines = ["", f"**How it ran.** {_text(outcome_sentence(report))}"]
    for cell in failing_cells(report)[:10]:
        if cell.error is None:
            continue
        text = clean(cell.error.traceback or cell.error.message)
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
        summary = f"{_cell(cell.index)}: {_html(cell.error.name)}: {_html(line(cell.error.message, 120))}"
        lines += ["", f"<details><summary>{summary}</summary>", "", f"{fence}text", text, fence, "", "</details>"]
    return lines


def _cell(index: int | None) -> str:
    return "whole notebook" if index is None else f"cell {index + 1}"


def _text(text: str) -> str:
    # Short pieces in backticks stay code, as the assignment's sentences mean them; every other backtick is escaped.
    pieces = _CODE.split(line(text))
    return "".join(piece if index % 2 else _escaped(piece, first=index == 0) for index, piece in enumerate(pieces))


def _escaped(text: str, *, first: bool) -> str:
    text = _SPECIAL.sub(lambda match: "\\" + match.group(), text)
    if first:
        text = _LIST.sub(r"\1\\\2", text)
    return "".join(_ENTITIES.get(char, char) for char in text)


def _html(text: str) -> str:
    return "".join(_ENTITIES.get(char, char) for char in line(text))
