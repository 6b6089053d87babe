"""The course's own notebooks, written down in one way, so that a diff shows only what was meant; the student template made from them.

Trusted: works on the course's own notebook, as text and syntax trees; executes nothing. Students' files go through
`grader.notebook.reader` instead.

A solution stands between two marker lines, in code or in Markdown:

    ### BEGIN SOLUTION              <!-- BEGIN SOLUTION -->
    model = build(...)              Full fine-tuning ...
    ### END SOLUTION                <!-- END SOLUTION -->

The template has `# YOUR CODE HERE` there, and `...` as the body. Where given code further down reads a name that the
solution assigns, the placeholder is `name = ...`: so the template runs from top to bottom without an error, and the
student sees which names the rest of the notebook expects.
"""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from grader.errors import DeclarationError, UsageError

__all__ = ["CODE_PLACEHOLDER", "TEXT_PLACEHOLDER", "canonical", "dumps", "make_template", "read_notebook"]

CODE_PLACEHOLDER = "# YOUR CODE HERE"
TEXT_PLACEHOLDER = "*YOUR ANSWER HERE*"
_MARKER = {"code": r"### {} SOLUTION", "markdown": r"<!-- {} SOLUTION -->"}
_SOLUTION = {
    kind: re.compile(
        rf"^(?P<indent>[ \t]*){marker.format('BEGIN')}\n(?P<body>(?:.*\n)*?)[ \t]*{marker.format('END')}$", re.MULTILINE
    )
    for kind, marker in _MARKER.items()
}
_ANY_MARKER = re.compile(r"(BEGIN|END)\s*SOLUTION", re.IGNORECASE)
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


def make_template(reference: NotebookNode) -> NotebookNode:
    """Return the student template of a reference notebook: the same cells and ids, no solution, no outputs.

    Raises:
        DeclarationError: a marker is unpaired, nested or misspelt, there is no solution at all, or the code of a
            cell is not plain Python (write shell lines and magics as comments).

    """
    template = canonical(reference)
    if not [cell for cell in template.cells if _has_solution(cell)]:
        raise DeclarationError(
            "the reference marks no solution: put '### BEGIN SOLUTION' and '### END SOLUTION' around it."
        )
    code = [cell for cell in template.cells if cell.cell_type == "code"]
    given = [_names_read(cell.id, _filled(cell, frozenset())) for cell in code]
    for position, cell in enumerate(code):
        cell.source = _filled(cell, frozenset().union(*given[position:]))
        _parse(cell.id, cell.source)
    for cell in template.cells:
        if cell.cell_type == "markdown":
            cell.source = _SOLUTION["markdown"].sub(TEXT_PLACEHOLDER, cell.source)
    return template


def _has_solution(cell: NotebookNode) -> bool:
    """Whether a cell has a solution. Raises DeclarationError for markers that are no pair."""
    pattern, marker = _SOLUTION.get(cell.cell_type), _MARKER.get(cell.cell_type, "")
    source = pattern.sub(r"\n\g<body>", cell.source) if pattern else cell.source
    for number, line in enumerate(source.split("\n"), start=1):
        if found := _ANY_MARKER.search(line):
            what = f"{line.strip()!r} looks like a marker but is none."
            if line.strip() == marker.format(found[1]):
                what = f"this {found[1]} SOLUTION is without {'END' if found[1] == 'BEGIN' else 'BEGIN'} SOLUTION."
            raise DeclarationError(f"cell {cell.id!r}, line {number}: {what}")
    return bool(source != cell.source)


def _filled(cell: NotebookNode, needed: frozenset[str]) -> str:
    """Return the source of a cell with placeholders for its solutions; `needed` are the names that given code reads."""

    def placeholder(solution: re.Match[str]) -> str:
        indent, body = solution["indent"], solution["body"]
        names = [name for name in _names_assigned(cell.id, body) if name in needed]
        lines = [indent + line for line in (CODE_PLACEHOLDER, *([f"{name} = ..." for name in names] or ["..."]))]
        if not indent and f"\n{body}".endswith("\n\n"):
            lines += ["", ""]  # the blank lines before a definition stay
        return "\n".join(lines)

    return _SOLUTION["code"].sub(placeholder, cell.source).strip("\n")


def _names_assigned(cell_id: str, solution: str) -> list[str]:
    """Return the variables that a solution assigns at its own level, in order; functions and classes are left out."""
    names: dict[str, None] = {}
    for statement in _parse(cell_id, textwrap.dedent(solution)).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        for target in targets:
            names |= {node.id: None for node in ast.walk(target) if isinstance(node, ast.Name)}
    return list(names)


def _names_read(cell_id: str, source: str) -> frozenset[str]:
    """Return the names that the given code of a cell reads."""
    nodes = ast.walk(_parse(cell_id, source))
    return frozenset(node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))


def _parse(cell_id: str, source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise DeclarationError(
            f"cell {cell_id!r}, line {error.lineno}: {error.msg}. The reference must be plain Python."
        ) from error
