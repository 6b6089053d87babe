"""The student template, generated from the reference notebook.

Trusted: works on the course's own notebook, as text and syntax trees; executes nothing.

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
from collections.abc import Iterator
from dataclasses import dataclass

from nbformat import NotebookNode

from grader.authoring.canonical import canonical
from grader.errors import DeclarationError

__all__ = ["CODE_PLACEHOLDER", "TEXT_PLACEHOLDER", "make_template"]

CODE_PLACEHOLDER = "# YOUR CODE HERE"
TEXT_PLACEHOLDER = "*YOUR ANSWER HERE*"
_MARKERS = {
    "code": re.compile(r"[ \t]*### (BEGIN|END) SOLUTION"),
    "markdown": re.compile(r"[ \t]*<!-- (BEGIN|END) SOLUTION -->"),
}
_ANY_MARKER = re.compile(r"(BEGIN|END)\s*SOLUTION", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Part:
    """A run of lines of a cell: given to the student, or the solution between two markers."""

    lines: tuple[str, ...]  # without the markers
    solution: bool  # whether the student has to write it
    indent: str = ""  # white space before the BEGIN marker


def make_template(reference: NotebookNode) -> NotebookNode:
    """Return the student template of a reference notebook: the same cells and ids, no solution, no outputs.

    Raises:
        DeclarationError: a marker is unpaired, nested or misspelt, there is no solution at all, or the code of a
            cell is not plain Python (write shell lines and magics as comments).

    """
    template = canonical(reference)
    parts = {cell.id: tuple(_split(cell)) for cell in template.cells}
    if not any(part.solution for cell_parts in parts.values() for part in cell_parts):
        raise DeclarationError(
            "the reference marks no solution: put '### BEGIN SOLUTION' and '### END SOLUTION' around it."
        )
    code = [cell for cell in template.cells if cell.cell_type == "code"]
    given = [_names_read(cell.id, _fill(cell.id, parts[cell.id], frozenset())) for cell in code]
    for position, cell in enumerate(code):
        needed = frozenset().union(*given[position:])
        cell.source = _fill(cell.id, parts[cell.id], needed)
        _parse(cell.id, cell.source)
    for cell in template.cells:
        if cell.cell_type != "code":
            cell.source = "\n".join(
                line for part in parts[cell.id] for line in ((TEXT_PLACEHOLDER,) if part.solution else part.lines)
            )
    return template


def _split(cell: NotebookNode) -> Iterator[_Part]:
    """Yield the parts of a cell in order."""
    marker = _MARKERS.get(cell.cell_type)
    lines: list[str] = []
    begin: re.Match[str] | None = None
    for number, line in enumerate(cell.source.split("\n"), start=1):
        match = marker.fullmatch(line) if marker else None
        if match is None:
            if _ANY_MARKER.search(line):
                raise DeclarationError(
                    f"cell {cell.id!r}, line {number}: {line.strip()!r} looks like a marker but is none."
                )
            lines.append(line)
            continue
        if (match[1] == "BEGIN") != (begin is None):
            raise DeclarationError(f"cell {cell.id!r}, line {number}: this {match[1]} SOLUTION has no partner.")
        yield _Part(tuple(lines), begin is not None, begin[0][: -len(begin[0].lstrip())] if begin else "")
        begin, lines = (match, []) if begin is None else (None, [])
    if begin is not None:
        raise DeclarationError(f"cell {cell.id!r}: BEGIN SOLUTION without END SOLUTION.")
    yield _Part(tuple(lines), solution=False)


def _fill(cell_id: str, parts: tuple[_Part, ...], needed: frozenset[str]) -> str:
    """Return the source of a cell with placeholders for its solutions; `needed` are the names that given code reads."""
    lines: list[str] = []
    for part in parts:
        if not part.solution:
            lines += part.lines
            continue
        names = [name for name in _names_assigned(cell_id, part.lines) if name in needed]
        body = [f"{name} = ..." for name in names] or ["..."]
        lines += [part.indent + line for line in (CODE_PLACEHOLDER, *body)]
        if not part.indent and part.lines and not part.lines[-1].strip():
            lines += ["", ""]  # the blank lines before a definition stay
    return "\n".join(lines).strip("\n")


def _names_assigned(cell_id: str, lines: tuple[str, ...]) -> list[str]:
    """Return the variables that a solution assigns at its own level, in order; functions and classes are left out."""
    names: dict[str, None] = {}
    for statement in _parse(cell_id, textwrap.dedent("\n".join(lines))).body:
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
