"""What goes back to students, opened in JupyterLab: it opens, verdicts can be seen, and the student's cells are what they were."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from grader.errors import SubmissionError
from grader.notebook.reader import raw_cells, read_document, read_notebook
from grader.records import Report
from grader.reports import annotated_notebook, for_student
from tests.jupyterlab import jupyterlab
from tests.reports import samples
from tests.reports.odd_notebooks import ODD, joined, said

CLASS = Path(__file__).parents[2] / "data" / "sample_class" / "submissions.zip"


def placed(data: bytes) -> Report | None:
    """A report with a verdict below every code cell; None where there is no notebook."""
    try:
        cells = [cell.index for cell in read_notebook(data).cells]
    except SubmissionError:
        return None
    made = for_student(samples.mistakes())
    criteria = (replace(r, cell=cells[n % len(cells)] if cells else None) for n, r in enumerate(made.score.criteria))
    return replace(made, execution=None, score=replace(made.score, criteria=tuple(criteria)))


def handed_in() -> dict[str, bytes]:
    with zipfile.ZipFile(CLASS) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()} | {
            f"{name}.ipynb": data for name, data in ODD.items()
        }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_annotated_notebooks_open_in_jupyterlab(tmp_path) -> None:
    from playwright.sync_api import expect

    seen = 0
    with jupyterlab(tmp_path) as lab:
        for name, data in handed_in().items():
            made = placed(data)
            if made is None:
                continue
            text = annotated_notebook(data, made)
            assert text is not None, name
            (lab.folder / "lab.ipynb").write_text(text, encoding="utf-8")
            cells = lab.open("lab.ipynb")["cells"]
            panel = lab.page.locator(".jp-NotebookPanel:visible")
            panel.get_by_role("heading", name="Comparing fine-tuning methods: 67 / 100").wait_for()
            boxes = sum(joined(cell["source"]).count("<div class=") for cell in cells)
            expect(panel.locator(".alert"), name).to_have_count(boxes, timeout=60_000)
            assert boxes or not read_notebook(data).cells
            assert all(box.is_visible() for box in panel.locator(".alert").all()), name
            assert lab.dialogs() == [] and lab.faults == [], name
            own = [cell for cell in cells if "grader" not in cell["metadata"]]
            code = [joined(cell["source"]) for cell in own if cell["cell_type"] == "code"]
            read = [cell.source for cell in read_notebook(data).cells]
            assert [one.replace("\x00", "").replace("\r", "") for one in code] == read, name
            if "format-3" not in name:
                assert said(own) == said(raw_cells(read_document(data))), name
            seen += 1
            lab.close()
    assert seen == 15 + len(ODD)
