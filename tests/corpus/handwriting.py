"""Notebooks composed from named fragments: one handwriting as the base, and a few cells written otherwise.

Trusted: the fragments are the course's own texts, also where they are wrong on purpose; nothing is executed here.

A file of fragments is Markdown. A second-level heading names a fragment, prose below it says what is special, and a
fenced block holds the cell: `python` for code, `markdown` for text.

    ## lora
    The scaling is forgotten.

    ```python
    class LoRA(nn.Module): ...
    ```
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from grader.authoring.template import canonical
from grader.errors import DeclarationError

__all__ = ["Fragment", "compose", "fragments_of", "read_fragments"]

_SECTION = re.compile(
    r"^## (?P<name>[a-z0-9-]+)\n(?P<why>(?:(?!## |```).*\n)*?)"
    r"^(?P<fence>```+)(?P<language>python|markdown)\n(?P<source>(?:.*\n)*?)^(?P=fence)$",
    re.MULTILINE,
)
_HEADING = re.compile(r"^## (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Fragment:
    """One cell of a handwriting."""

    name: str  # becomes the id of the cell
    source: str  # the text of the cell
    code: bool = True  # a code cell, or else Markdown
    why: str = ""  # what is special about it, one paragraph


def read_fragments(path: Path) -> dict[str, Fragment]:
    """Read a file of fragments, in order.

    Raises:
        DeclarationError: a name is used twice, or a heading has no fenced block of `python` or `markdown`.

    """
    text = path.read_text(encoding="utf-8")
    fragments: dict[str, Fragment] = {}
    for match in _SECTION.finditer(text):
        name = match["name"]
        if name in fragments:
            raise DeclarationError(f"{path.name}: the fragment {name!r} is there twice; rename one.")
        why = " ".join(match["why"].split())
        fragments[name] = Fragment(name, match["source"].rstrip("\n"), match["language"] == "python", why)
    headings = _HEADING.findall(_SECTION.sub(lambda match: f"## {match['name']}", text))
    if lost := [heading for heading in headings if heading not in fragments]:
        raise DeclarationError(
            f"{path.name}: no cell under the heading {lost[0]!r}; add a fenced python or markdown block."
        )
    if len(headings) != len(fragments):
        raise DeclarationError(f"{path.name}: a heading stands inside a cell; use another level there.")
    return fragments


def fragments_of(notebook: NotebookNode) -> dict[str, Fragment]:
    """Return the cells of a notebook as fragments named by cell id: the reference, for one, is a handwriting too."""
    return {cell.id: Fragment(cell.id, cell.source, cell.cell_type == "code") for cell in canonical(notebook).cells}


def compose(
    base: Mapping[str, Fragment],
    replace: Mapping[str, Fragment | str] | None = None,
    *,
    after: Mapping[str, Fragment | str] | None = None,
    drop: Iterable[str] = (),
) -> NotebookNode:
    """Return a notebook with the cells of `base`, some of them changed; a plain string is the source of a code cell.

    Args:
        base: the handwriting, in the order of its cells.
        replace: name of a cell in `base` -> what stands there instead; the cell keeps its id.
        after: name of a cell in `base` -> one more cell below it, with the id `<name>-more`.
        drop: names of cells in `base` that are left out.

    Raises:
        DeclarationError: a name is not in `base`, or is replaced and dropped at once.

    """
    replace, after, gone = dict(replace or {}), dict(after or {}), frozenset(drop)
    if unknown := sorted({*replace, *after, *gone} - set(base)):
        raise DeclarationError(f"the handwriting has no cell {unknown[0]!r}; it has {', '.join(base)}.")
    if both := sorted(gone & {*replace, *after}):
        raise DeclarationError(f"the cell {both[0]!r} is dropped and changed at once; choose one.")
    cells = []
    for name, fragment in base.items():
        if name not in gone:
            cells.append(_cell(name, replace.get(name, fragment)))
        if name in after:
            cells.append(_cell(f"{name}-more", after[name]))
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.nbformat_minor = 5
    return canonical(notebook)


def _cell(cell_id: str, fragment: Fragment | str) -> NotebookNode:
    if isinstance(fragment, str):
        fragment = Fragment(cell_id, fragment)
    new = nbformat.v4.new_code_cell if fragment.code else nbformat.v4.new_markdown_cell
    return new(fragment.source, id=cell_id)
