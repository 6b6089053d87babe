"""Helper modules: the Python files beside a notebook that it imports."""

from __future__ import annotations

import re
import stat
from collections.abc import Collection
from pathlib import Path

from grader.errors import SubmissionError
from grader.notebook.limited import read_notebook

__all__ = ["imported_helpers"]

_NAMING = re.compile(r"\bimport|%run|\.py\b")
"""What a line holds that names a module or a file of Python code."""
_WORD = re.compile(r"[\w-]+")
_LIMIT = 1 << 20


def imported_helpers(notebook: Path, data: bytes) -> dict[str, bytes]:
    """Read the modules (`*.py`) that a notebook, whose bytes are `data`, or one of them imports from the notebook's folder.

    A module of more than 1 MiB, or one that is no readable file, is left out.
    """
    try:
        texts = [cell.source for cell in read_notebook(data).cells]
    except SubmissionError:  # whoever grades it says so
        return {}
    there = {path.stem: path for path in notebook.absolute().parent.glob("*.py") if path.name != notebook.name}
    found: dict[str, bytes] = {}
    while texts and there:
        for name in sorted(_named_in(texts.pop(), there)):
            path = there.pop(name)
            if (source := _content(path)) is not None:
                found[path.name] = source
                texts.append(source.decode("utf-8", "replace"))
    return found


def _named_in(source: str, modules: Collection[str]) -> set[str]:
    """Those of some modules that a line imports or runs."""
    lines = source.replace("\\\n", " ").splitlines()
    words = (word[0] for line in lines if _NAMING.search(line) for word in _WORD.finditer(line))
    return {word for word in words if word in modules}


def _content(path: Path) -> bytes | None:
    """The bytes of a file; None for a dead link, a pipe, a folder, and for what is too large or may not be read."""
    try:
        known = path.stat()
        return path.read_bytes() if stat.S_ISREG(known.st_mode) and known.st_size < _LIMIT else None
    except OSError:
        return None
