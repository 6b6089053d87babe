"""The student's own notebook with verdicts in it: it opens, nothing of the student's is changed, and each verdict is in its place."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from grader.errors import SubmissionError
from grader.notebook.reader import raw_cells, read_document, read_notebook
from grader.records import Report
from grader.reports import annotated_notebook, for_student
from tests.reports import samples
from tests.reports.odd_notebooks import ODD, PNG, said

PLOT = {"output_type": "display_data", "data": {"image/png": "aGVq", "text/plain": ["<Figure>"]}, "metadata": {"x": 1}}
CELLS: list[dict[str, Any]] = [
    {"cell_type": "markdown", "id": "aa", "metadata": {"tags": ["t"]}, "source": ["# Lab\n", "by me"]},
    {
        "cell_type": "code", "id": "bb", "metadata": {}, "execution_count": 3,
        "source": ["class LoRA:\n", "    pass"], "outputs": [PLOT],
    },
    {"cell_type": "code", "id": "cc", "metadata": {}, "execution_count": None, "source": [], "outputs": []},
]  # fmt: skip


def notebook(minor: int = 5, **more: Any) -> bytes:
    cells = [{key: value for key, value in cell.items() if key != "id" or minor >= 5} for cell in CELLS]
    document = {"nbformat": 4, "nbformat_minor": minor, "metadata": {"colab": {"provenance": []}}, "cells": cells}
    return json.dumps({**document, **more}).encode()


def report(cell: int | None = 1) -> Report:
    made = for_student(samples.mistakes())
    placed = [replace(r, cell=cell if r.id.startswith("lora/") else None) for r in made.score.criteria]
    return replace(made, score=replace(made.score, criteria=tuple(placed)))


def opened(data: bytes, made: Report) -> Any:
    text = annotated_notebook(data, made)
    assert text is not None
    document = nbformat.reads(text, as_version=4)
    nbformat.validate(document)
    return document


@pytest.mark.parametrize("minor", [0, 2, 4, 5])
def test_nothing_of_the_students_is_changed(minor: int) -> None:
    before = nbformat.reads(notebook(minor), as_version=4)
    after = opened(notebook(minor), report())
    assert after.nbformat_minor == minor
    assert after.metadata == before.metadata
    assert [cell for cell in after.cells if "grader" not in cell.metadata] == before.cells


def test_a_summary_on_top_and_verdicts_below_their_cell() -> None:
    made = report()
    cells = opened(notebook(), made).cells
    assert [cell.metadata.get("grader", "") for cell in cells] == ["summary", "", "", "below-1", ""]
    assert cells[0].source.startswith(f"## Comparing fine-tuning methods: {made.score.total} / 100")
    lora = [result for result in made.score.criteria if result.id.startswith("lora/")]
    assert cells[3].source.count(" · ") == len(lora)
    missed = next(result for result in lora if result.earned == 0)
    assert missed.verdict.message.split()[0] in cells[3].source


@pytest.mark.parametrize("cell", [None, 3, 99])
def test_what_has_no_place_is_in_the_summary_only(cell: int | None) -> None:
    cells = opened(notebook(), report(cell)).cells
    assert [name for c in cells if (name := c.metadata.get("grader"))] == ["summary"]


def test_the_same_bytes_every_time() -> None:
    assert annotated_notebook(notebook(), report()) == annotated_notebook(notebook(), report())


@pytest.mark.parametrize("name", ODD)
def test_an_odd_notebook_is_made_one_that_opens(name: str) -> None:
    read = read_notebook(ODD[name])
    made = report(read.cells[0].index if read.cells else None)
    with warnings.catch_warnings(action="error"):
        cells = opened(ODD[name], made).cells
    own = [cell for cell in cells if "grader" not in cell.metadata]
    assert [cell.source.replace("\r\n", "\n").replace("\x00", "") for cell in own if cell.cell_type == "code"] == [
        cell.source for cell in read.cells
    ]
    assert cells[0].metadata.grader == "summary"
    if read.cells:
        after = cells.index(next(cell for cell in own if cell.cell_type == "code")) + 1
        assert cells[after].metadata.grader == f"below-{read.cells[0].index}"
    if "format-3" not in name:
        assert said(raw_cells(read_document(ODD[name]))) == said(own)
    assert annotated_notebook(ODD[name], made) == annotated_notebook(ODD[name], made)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All containers in a document with each of their keys."""
    for key, one in [
        *(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    ]:
        yield value, key
        yield from places(one)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(set(ODD) - {"long-output", "many-outputs"})), st.data())
def test_whatever_is_read_goes_back_as_a_notebook(name: str, data: st.DataObject) -> None:
    document = read_document(ODD[name])
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(list(places(document))))
        container[key] = data.draw(
            st.sampled_from([None, 3, -1, 1.5, True, "x", "", [], ["a", "b"], [1], {}, {"a": None}])
        )
    damaged = json.dumps(document).encode()
    try:
        read = read_notebook(damaged)
    except SubmissionError:
        return
    with warnings.catch_warnings(action="error"):
        cells = opened(damaged, report(read.cells[0].index if read.cells else None)).cells
    own = [cell.source.replace("\r\n", "\n").replace("\x00", "") for cell in cells if cell.cell_type == "code"]
    assert own == [cell.source for cell in read.cells]


def test_an_annotated_notebook_handed_in_again_has_the_new_verdicts_only() -> None:
    first = annotated_notebook(notebook(), report())
    assert first is not None
    cells = opened(first.encode(), report(3)).cells
    assert [cell.metadata.get("grader", "") for cell in cells] == ["summary", "", "", "below-3", ""]


def test_a_cell_that_failed_says_so_below_it() -> None:
    made = for_student(samples.mistakes())
    (failed,) = [cell for cell in made.execution.cells if cell.status == "error"]
    many = json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [CELLS[2]] * 60}).encode()
    cells = {cell.metadata.get("grader"): cell.source for cell in opened(many, made).cells}
    assert (
        f"**Cell {failed.index + 1} failed** when your notebook was run for grading: NameError: name 'trainer"
        in cells[f"below-{failed.index}"]
    )


def test_boxes_have_the_colour_of_the_outcome() -> None:
    (text,) = [cell.source for cell in opened(notebook(), report()).cells if cell.metadata.get("grader") == "below-1"]
    colours = re.findall(r'<div class="alert alert-(\w+)">', text)
    assert colours == ["danger", "success"] and text.count("</div>") == 2, "one of each, what is to be done first"
    partly = report()
    one = replace(partly.score.criteria[-1], earned=1, cell=0)
    partly = replace(partly, score=replace(partly.score, criteria=(one,)))
    assert "alert-warning" in "".join(cell.source for cell in opened(notebook(), partly).cells)


def test_an_old_format_is_brought_to_format_4() -> None:
    sheet = {"cells": [{"cell_type": "code", "input": ["x = 1\n", "y"], "outputs": [], "language": "python"}]}
    old = json.dumps({"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [sheet]}).encode()
    cells = opened(old, report(0)).cells
    assert [cell.cell_type for cell in cells] == ["markdown", "code", "markdown"]
    assert cells[1].source == "x = 1\ny"
    cells = opened(ODD["format-3"], report(2)).cells
    assert [cell.metadata.get("grader", cell.source) for cell in cells] == [
        "summary",
        "## Title",
        "x = 1\nx",
        "x = 1\nx",
        "below-2",
    ]
    assert said([cells[2]]) == said([cells[3]]) == [{"text/plain": "1"}, "tb", {"image/png": PNG}]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"%PDF", b"\xff\xfe\x00", b"[1]", b"{}", b'{"nbformat": 4}', b"[" * 100_000,
        b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": 3}',
    ],
)  # fmt: skip
def test_what_is_no_notebook_has_no_annotated_one(data: bytes) -> None:
    assert annotated_notebook(data, report()) is None


def test_hostile_words_stay_words() -> None:
    made = for_student(samples.hostile())
    placed = replace(made, score=replace(made.score, criteria=tuple(replace(r, cell=0) for r in made.score.criteria)))
    allowed = re.compile(r"</?(details|summary|sub)>|<br>|<div class=\"alert alert-\w+\">|</div>")
    pages = {result.read.url for result in made.score.criteria if result.read}
    for cell in opened(notebook(), placed).cells:
        if "grader" in cell.metadata:
            tokens = MarkdownIt().enable("table").parse(cell.source)
            inner = [child for token in tokens for child in token.children or ()]
            html = "".join(token.content for token in (*tokens, *inner) if token.type.startswith("html_"))
            left = allowed.sub("", html)
            assert "<" not in left and not any(token.type == "image" for token in inner), left
            assert {token.attrs["href"] for token in inner if token.type == "link_open"} <= pages


@pytest.mark.attack
def test_a_notebook_of_millions_of_values_is_not_annotated() -> None:
    """Whoever is judged has 20 s of CPU time for all, and nbformat took them: a person had to look."""
    document = json.loads(notebook())
    document["metadata"]["many"] = [{}] * 500_001
    assert annotated_notebook(json.dumps(document).encode(), report()) is None
    document["metadata"]["many"] = []
    assert annotated_notebook(json.dumps(document).encode(), report()) is not None
