"""One way to write a notebook down."""

import json

import nbformat
import pytest

from grader.authoring import canonical, read_notebook, write_notebook
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


def test_writing_twice_changes_once_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "a.ipynb"
    assert write_notebook(canonical(notebook(code("å = 1", "a"))), path)
    before = path.read_bytes()
    assert not write_notebook(canonical(read_notebook(path)), path)
    assert path.read_bytes() == before
    assert before.endswith(b"}\n")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"no json", b"\xff\xfe"])
def test_what_is_no_notebook_is_named(tmp_path, content):
    path = tmp_path / "a.ipynb"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.ipynb: is not a Jupyter notebook"):
        read_notebook(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_notebook(tmp_path / "none.ipynb")


@pytest.mark.parametrize("ids", [["a", "a"], ["a", None]])
def test_cells_without_an_id_of_their_own_are_not_given_a_random_one(tmp_path, ids):
    cells = [code("1", cell_id) for cell_id in ids]
    for cell in cells:
        if cell["id"] is None:
            del cell["id"]
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(notebook(*cells)), encoding="utf-8")
    with pytest.raises(UsageError, match="every cell needs an id of its own"):
        read_notebook(path)
