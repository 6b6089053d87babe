"""One way to write a notebook down."""

import json

import nbformat
import pytest

from grader.authoring import canonical, read_notebook
from grader.errors import DeclarationError, UsageError


def notebook(*cells):
    content = {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return nbformat.from_dict(content)  # unchecked, unlike new_notebook


def code(source, cell_id, **more):
    cell = {
        "cell_type": "code",
        "id": cell_id,
        "source": source,
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }
    return cell | more


def test_outputs_counters_tags_and_trailing_space_go_and_ids_stay():
    output = nbformat.v4.new_output("stream", text="0.99")
    messy = notebook(code("\nx = 1  \n\n", "first", execution_count=7, outputs=[output], metadata={"tags": ["t"]}))
    messy.metadata = {"widgets": {}, "colab": {}}
    (cell,) = canonical(messy).cells
    assert (cell.source, cell.id, cell.outputs, cell.execution_count, cell.metadata) == ("x = 1", "first", [], None, {})
    assert set(canonical(messy).metadata) == {"kernelspec", "language_info"}
    assert messy.cells[0].execution_count == 7, "the original must not change"


@pytest.mark.parametrize("cell_id", ["", "Ab", "a b", "x" * 65])
def test_unreadable_ids_are_refused(cell_id):
    with pytest.raises(DeclarationError, match="cell 1"):
        canonical(notebook(code("1", cell_id)))


def test_two_cells_with_one_id_are_refused():
    with pytest.raises(DeclarationError, match="cell 2 repeats"):
        canonical(notebook(code("1", "a"), code("2", "a")))


@pytest.mark.parametrize(
    "content", [b"", b"no json", b"\xff\xfe", b"[]", b"{}", b'{"cells": [1]}', b'{"cells": [{"source": 1}]}']
)
def test_what_is_no_notebook_is_named(tmp_path, content):
    path = tmp_path / "a.ipynb"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.ipynb: is not a Jupyter notebook"):
        read_notebook(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_notebook(tmp_path / "none.ipynb")


def test_cells_get_no_random_id(tmp_path):
    cell = code("1", "a")
    del cell["id"]
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(notebook(cell)), encoding="utf-8")
    with pytest.raises(DeclarationError, match="cell 1 has the id ''"):
        canonical(read_notebook(path))
