"""The student's own notebook with what was judged written into it: a summary on top, a verdict below each place.

Trusted code over the student's file, which is parsed but neither run nor checked against the format's schema. Its cells and outputs
stay as they are; all that is added are text cells.
"""

from __future__ import annotations

from typing import Any

from grader.records import CriterionResult, Report
from grader.reports.markdown import criterion_markdown, report_markdown

__all__ = ["MARK", "annotated_notebook"]

MARK = "grader"
"""Key in the metadata of the cells that were added, by which a program tells them from the student's."""


def annotated_notebook(data: bytes, report: Report) -> str | None:
    """Return the notebook in format 4 with its report in it; None where the file is no notebook that nbformat can bring there.

    `report` is the student's: see `grader.reports.for_student`.
    """
    import nbformat  # 0.15 s, for those who write such notebooks only
    from nbformat.reader import reads as read_any

    try:
        notebook = nbformat.convert(read_any(data.decode("utf-8-sig")), 4)
        cells = list(notebook.cells)
        named = (notebook.nbformat, notebook.get("nbformat_minor", 0)) >= (4, 5)
    except Exception:  # a damaged file in whatever way: its report is a page
        return None
    below: dict[int, list[CriterionResult]] = {}
    for result in report.score.criteria:
        if result.cell is not None and result.cell < len(cells):
            below.setdefault(result.cell, []).append(result)
    notebook.cells = [_cell("summary", report_markdown(report), named=named)]
    for index, cell in enumerate(cells):
        notebook.cells.append(cell)
        if index in below:
            text = "\n\n".join(map(criterion_markdown, below[index]))
            notebook.cells.append(_cell(f"below-{index}", text, named=named))
    try:
        return f"{nbformat.v4.writes(notebook)}\n"
    except Exception:
        return None


def _cell(name: str, text: str, *, named: bool) -> Any:
    """A text cell; ids came with format 4.5, and a fixed one gives the same bytes every time."""
    from nbformat.v4 import new_markdown_cell

    identity = {"id": f"{MARK}-{name}"} if named else {}
    cell = new_markdown_cell(text, metadata={MARK: name, "editable": False}, **identity)
    if not named:
        cell.pop("id", None)
    return cell
