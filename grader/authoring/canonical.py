"""One way to write a notebook down, so that two equal notebooks are equal files and a diff shows only what was meant.

Trusted: reads and writes the course's own notebooks. Students' files go through `grader.notebook.reader` instead.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.warnings import DuplicateCellId, MissingIDFieldWarning

from grader.errors import DeclarationError, UsageError

__all__ = ["canonical", "dumps", "read_notebook", "write_notebook"]

_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_CELL_ID = re.compile(r"[a-z0-9-]{1,64}")


def read_notebook(path: Path) -> NotebookNode:
    """Read one of the course's notebooks, in any version that nbformat knows.

    Raises:
        UsageError: there is no such file, or it is not a notebook, or its cells have no ids of their own.

    """
    try:
        with warnings.catch_warnings():
            # nbformat would give such cells a random id, another one each time.
            warnings.simplefilter("error", DuplicateCellId)
            warnings.simplefilter("error", MissingIDFieldWarning)
            return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    except (DuplicateCellId, MissingIDFieldWarning) as error:
        raise UsageError(f"{path}: every cell needs an id of its own ({error}).") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}). Give the path of a notebook.") from error
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: is not a Jupyter notebook. Open and save it in Jupyter, then try again.") from error


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


def write_notebook(notebook: NotebookNode, path: Path) -> bool:
    """Write `notebook` to `path` unless it already says the same; return whether the file changed.

    The file is replaced in one step, so that a reader never sees half of it.
    """
    data = dumps(notebook).encode()
    if path.is_file() and path.read_bytes() == data:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
    return True
