"""The student's own notebook with what was judged written into it: a summary on top, a verdict below each place.

Trusted code over the student's file, of which nothing is run. Its cells and outputs stay as they are; what is added are text cells.
Where the file breaks the format's rules, so that Jupyter might not open it, what is missing is filled in and what has no place left out.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from grader.errors import SubmissionError
from grader.notebook.reader import cell_kind, cell_source, is_old, raw_cells, read_document
from grader.records import CriterionResult, Report, Status
from grader.reports import view
from grader.reports.markdown import criterion_markdown, failed_cell_markdown, report_markdown
from grader.rubric.numbers import written_in

__all__ = ["MARK", "annotated_notebook"]

MARK = "grader"
"""Key in the metadata of the cells that were added, by which a program tells them from the student's."""

_YOURS = "The boxes below your cells say what was judged there. Your own cells and outputs are as you handed them in."
_COLOURS = {Status.PASSED: "success", Status.FAILED: "danger", Status.SKIPPED: "warning", Status.ERROR: "info"}
"""Jupyter's names for boxes, in light and dark themes; elsewhere they are plain text."""
_ORDER = ("danger", "warning", "info", "success")  # what is to be done comes first

_MOST_VALUES = 1_000_000
"""In a file: nbformat takes 5 s of CPU time for so many, and whoever is judged has 20 for all."""
_MINOR = 5
"""The newest format is 4.5."""
_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_OUTPUTS: dict[str, dict[str, Any]] = {
    "stream": {"name": "stdout", "text": ""},
    "display_data": {"data": {}, "metadata": {}},
    "execute_result": {"data": {}, "metadata": {}, "execution_count": None},
    "error": {"ename": "", "evalue": "", "traceback": []},
}
"""What the format asks of an output of each kind, with what stands in where it is missing; there may be nothing else."""


def annotated_notebook(data: bytes, report: Report) -> str | None:
    """Return the notebook in format 4 with its report in it; None where the file is none that can be brought there, or too large.

    `report` is the student's: see `grader.reports.for_student`. What an earlier grading added is replaced.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        return None
    try:
        document = read_document(data)
        raw = list(raw_cells(document))
    except SubmissionError:
        return None
    with written_in(report.language):
        boxes = _boxes(report)
    summary = report_markdown(report, icons=view.SYMBOLS) + (f"\n{_YOURS}" if boxes else "")
    for repair in (False, True):
        with contextlib.suppress(Exception):  # against the format's rules, in whatever way
            return _written(document, raw, summary, boxes, repair=repair)
    return None


def _boxes(report: Report) -> dict[int, str]:
    """What is said below a cell, by its place in the file: that it failed, then its criteria, those of one outcome in one box."""
    found: dict[int, list[str]] = {}
    for cell in view.failing_cells(report):
        found.setdefault(cell.index, []).append(_box("warning", [failed_cell_markdown(cell)]))
    placed = [(r.cell, _colour(r), r) for r in report.score.criteria if r.cell is not None]
    placed.sort(key=lambda one: (one[0], _ORDER.index(one[1])))
    for (index, colour), results in groupby(placed, key=lambda one: one[:2]):
        found.setdefault(index, []).append(_box(colour, (criterion_markdown(result) for *_, result in results)))
    return {index: "\n\n".join(boxes) for index, boxes in found.items()}


def _colour(result: CriterionResult) -> str:
    return "warning" if 0 < (result.earned or 0) < result.points else _COLOURS[view.status_of(result)]


def _box(colour: str, texts: Iterable[str]) -> str:
    body = "\n\n".join(texts)
    return f'<div class="alert alert-{colour}">\n\n{body}\n\n</div>'


def _written(document: dict[str, Any], raw: list[Any], summary: str, boxes: Mapping[int, str], *, repair: bool) -> str:
    """The notebook's text. Raises whatever nbformat does where the outcome would be against the format's rules."""
    old = is_old(document)
    version: Any = 4 if old else document.get("nbformat")
    minor: Any = 4 if old else document.get("nbformat_minor")
    metadata = document.get("metadata")
    if repair:
        version, minor = 4, 5 if type(minor) is int and minor >= _MINOR else 4
        metadata = metadata if isinstance(metadata, dict) else {}
    elif type(minor) is not int or not 0 <= minor <= _MINOR:  # nbformat would let much of a future format pass
        raise ValueError("no format that is known")
    cells = [_own("summary", summary)]
    for index, cell in enumerate(raw):
        if old or repair:
            cell = _format_4(cell, old=old)
        if cell is not None and not (cell["cell_type"] == "markdown" and MARK in cell["metadata"]):
            cells.append({**cell})
        if index in boxes:
            cells.append(_own(f"below-{index}", boxes[index]))
    _identify(cells, named=minor >= _MINOR)
    return _text({"nbformat": version, "nbformat_minor": minor, "metadata": metadata, "cells": cells}, repair=repair)


def _text(document: dict[str, Any], *, repair: bool) -> str:
    """Write a notebook. Raises whatever nbformat does where it is against the format's rules."""
    import nbformat  # 0.15 s, for those who write such notebooks only
    from nbformat.validator import normalize

    notebook = nbformat.from_dict(document)
    if repair:
        _, notebook = normalize(notebook, strip_invalid_metadata=True)
    nbformat.validate(notebook)
    text = nbformat.v4.writes(notebook, allow_nan=False)
    return f"{text}\n".encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _own(name: str, text: str) -> dict[str, Any]:
    metadata = {MARK: name, "editable": False}
    return {"cell_type": "markdown", "id": f"{MARK}-{name}", "metadata": metadata, "source": text}


def _identify(cells: Iterable[Any], *, named: bool) -> None:
    """See to ids, which came with format 4.5: each once, and the same bytes every time."""
    taken: set[str] = set()
    for place, cell in enumerate(cells):
        own = cell.pop("id", None)
        if named:
            free = isinstance(own, str) and _ID.fullmatch(own) and own not in taken
            cell["id"] = own if free else f"{MARK}-cell-{place}"
            taken.add(cell["id"])


def _format_4(raw: Any, *, old: bool) -> dict[str, Any] | None:
    """The cell with all that format 4 asks for and nothing that it does not know; None for what is no cell."""
    from nbformat import from_dict
    from nbformat.v4.convert import upgrade_cell

    if not isinstance(raw, dict):
        return None
    kind, text = cell_kind(raw), cell_source(raw, 0, [], old=old)
    if old:
        bare = {"cell_type": kind, "source": text, "input": text}
        try:
            raw = upgrade_cell(from_dict({"outputs": [], **raw, **bare}))
        except Exception:  # what it printed cannot be made out
            raw = upgrade_cell(from_dict({"outputs": [], **bare}))
        kind, text = raw["cell_type"], raw["source"]
    kind = kind if kind in ("code", "markdown") else "raw"
    cell = {"cell_type": kind, **_fitting(raw, {"metadata": {}}), "source": text}
    if kind == "code":
        cell |= {"outputs": [], **_fitting(raw, {"execution_count": None})}

    def fits(**more: Any) -> bool:
        with contextlib.suppress(Exception):
            return bool(
                _text({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [{**cell, **more}]}, repair=True)
            )
        return False

    if not fits():
        cell["metadata"] = {}
    if kind == "code" and isinstance(raw.get("outputs"), list):
        outputs = [one for one in raw["outputs"] if isinstance(one, dict) and str(one.get("output_type")) in _OUTPUTS]
        filled = [{"output_type": (t := one["output_type"]), **_fitting(one, _OUTPUTS[t])} for one in outputs]
        cell["outputs"] = filled if fits(outputs=filled) else [one for one in filled if fits(outputs=[one])]
    elif kind != "code" and "attachments" in raw and fits(attachments=raw["attachments"]):
        cell["attachments"] = raw["attachments"]
    return {**cell, "id": raw.get("id")}


def _fitting(raw: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What is `wanted` of `raw`: its value where that is of the same type as what stands in for it."""
    return {key: raw[key] if _fits(raw.get(key), stand_in) else stand_in for key, stand_in in wanted.items()}


def _fits(value: Any, stand_in: Any) -> bool:
    if stand_in is None:  # a count
        return type(value) is int and value >= 0
    lines = stand_in == "" and isinstance(value, list) and all(isinstance(line, str) for line in value)
    return lines or isinstance(value, type(stand_in))
