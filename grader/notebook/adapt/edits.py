"""Changes to a cell's source by position, so that every other character, and every line number, stays where it was.

Trusted code over untrusted text: the source is parsed, never run.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from grader.records import Adaptation

__all__ = ["Edit", "apply_edits", "has_position", "parse", "segment", "shorten"]

_SHOWN = 160


@dataclass(frozen=True, slots=True)
class Edit:
    """One node's text, to be replaced."""

    node: ast.expr | ast.stmt
    """The node whose text is replaced."""
    text: str
    """One line of Python that stands there afterwards."""
    rule: str
    """Id of the rule."""
    reason: str
    """One sentence for the report."""
    before: str = ""
    """What the report shows as replaced; the node's text when empty."""
    after: str | None = None
    """What the report shows instead; `text` when None."""


def parse(source: str) -> ast.Module | None:
    """The syntax tree of a cell (top-level await allowed), or None when it does not parse."""
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the student's escapes are not our warnings
            tree = compile(source, "<cell>", "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    assert isinstance(tree, ast.Module)
    return tree


def shorten(text: str) -> str:
    """`text` on one line and short enough for a report."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN else flat[: _SHOWN - 2] + " …"


def segment(source: str, node: ast.expr | ast.stmt) -> str:
    """The text of `node` in `source`."""
    start, end = _span(_starts(source.encode()), node)
    return source.encode()[start:end].decode(errors="replace")


def has_position(source: str, node: ast.expr, value: object) -> bool:
    """Whether the text at the node's position is a literal of `value` (inside f-strings, Python 3.11 may point elsewhere)."""
    try:
        return bool(ast.literal_eval(segment(source, node)) == value)
    except (SyntaxError, ValueError, IndexError):
        return False


def apply_edits(source: str, edits: Iterable[Edit], cell: int) -> tuple[str, list[Adaptation]]:
    """`source` with all edits made, and what the report says of them, in the order of the source.

    A text that spanned several lines still does. Of nested edits the outermost is made.
    """
    data = source.encode()
    starts = _starts(data)
    pieces: list[bytes] = []
    done: list[Adaptation] = []
    position = 0
    placed = [(*_span(starts, edit.node), edit) for edit in edits]
    for start, end, edit in sorted(placed, key=lambda item: (item[0], -item[1])):
        if start < position:
            continue
        old = data[start:end]
        lines = old.count(b"\n")
        new = edit.text.encode()
        if lines:
            new = b"(" + (b"None" if new == b"pass" else new) + b"\n" * lines + b")"
        if new == old:
            continue
        pieces += [data[position:start], new]
        position = end
        before = edit.before or old.decode(errors="replace")
        after = edit.text if edit.after is None else edit.after
        done.append(Adaptation(cell, edit.rule, shorten(before), shorten(after), edit.reason))
    pieces.append(data[position:])
    return b"".join(pieces).decode(), done


def _starts(data: bytes) -> list[int]:
    """Byte offset at which each line starts; lines end as the parser counts them."""
    starts = [0]
    for index, byte in enumerate(data):
        if byte == 10:
            starts.append(index + 1)
    return starts


def _span(starts: list[int], node: ast.expr | ast.stmt) -> tuple[int, int]:
    """Byte offsets of the node's start and end."""
    end_line = node.end_lineno or node.lineno
    end_column = node.end_col_offset or 0
    return starts[node.lineno - 1] + node.col_offset, starts[end_line - 1] + end_column
