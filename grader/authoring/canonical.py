"""One way to write a notebook down, so that two equal notebooks are equal files and a diff shows only what was meant.

Trusted: reads and writes the course's own notebooks. Students' files go through `grader.notebook.reader` instead.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from grader.errors import DeclarationError, UsageError

__all__ = ["canonical", "dumps", "read_notebook"]

_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_CELL_ID = re.compile(r"[a-z0-9-]{1,64}")


def read_notebook(path: Path) -> NotebookNode:
    """Read one of the course's notebooks. Raises UsageError where there is none."""
    try:
        notebook: NotebookNode = nbformat.v4.reads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}). Give the path of a notebook.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: is not a Jupyter notebook. Open and save it in Jupyter, then try again.") from error
    return notebook


def canonical(notebook: NotebookNode) -> NotebookNode:
    """Return a copy without outputs, counters, tags and the traces of an editor; cell ids stay.

    Raises:
        DeclarationError: two cells share an id, or an id is not made of `a-z`, `0-9` and `-`; readable ids
            survive edits, and corpus cases name cells by them.

    """
    cells: list[dict[str, object]] = []
    for number, cell in enumerate(notebook.cells, start=1):
        cell_id = str(cell.get("id", ""))
        if not _CELL_ID.fullmatch(cell_id):
            raise DeclarationError(f"cell {number} has the id {cell_id!r}: give it a name made of a-z, 0-9 and '-'.")
        if any(other["id"] == cell_id for other in cells):
            raise DeclarationError(f"cell {number} repeats the id {cell_id!r}: give it another name.")
        source = "\n".join(line.rstrip() for line in str(cell.source).splitlines()).strip("\n")
        entry = {"cell_type": cell.cell_type, "id": cell_id, "metadata": {}, "source": source}
        if cell.cell_type == "code":
            entry |= {"execution_count": None, "outputs": []}
        cells.append(entry)
    return nbformat.from_dict({"cells": cells, "metadata": _METADATA, "nbformat": 4, "nbformat_minor": 5})


def dumps(notebook: NotebookNode) -> str:
    """Return the text of a notebook as Jupyter would write it, with a newline at the end.

    Raises:
        DeclarationError: the notebook does not follow the notebook format.

    """
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        raise DeclarationError(f"not a valid notebook: {error}") from error
    return str(nbformat.writes(notebook, version=nbformat.NO_CONVERT)).rstrip("\n") + "\n"
