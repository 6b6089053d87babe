"""When a notebook that somebody works on has been saved, and its code is another than before."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from grader.errors import SubmissionError
from grader.grading.settings import BESIDE
from grader.notebook.helpers import imported_helpers
from grader.notebook.limited import read_notebook

__all__ = ["saves"]

_EVERY = 0.3
"""Seconds between two looks. Looking is what works on every file system, and whether an editor writes into a file or puts
another in its place."""


def saves(notebook: Path, config: Path | None = None, every: float = _EVERY) -> Iterator[None]:
    """Yield now, and again whenever the notebook's code, a module that it imports or the settings have changed; never ends.

    A save that changes no code, as an autosave after a run, is passed over. So is a file that is away or half written: its next state
    is waited for.
    """
    judged: object = None
    looked: object = None
    while True:
        there = _files(notebook, config)
        if there == looked:
            time.sleep(every)
            continue
        looked = there
        if judged is not None:
            time.sleep(every)  # a file that still grows is looked at once more
            if _files(notebook, config) != there:
                looked = None
                continue
        code = _code(notebook, config)
        if code is not None and code != judged:
            judged = code
            yield


def _files(notebook: Path, config: Path | None) -> list[tuple[str, int, int, int]]:
    """What tells a file from its next version, for the notebook and all that may lie beside it."""
    found = []
    for path in (notebook, config or notebook.parent / BESIDE, *sorted(notebook.parent.glob("*.py"))):
        with contextlib.suppress(OSError):
            state = path.stat()
            found.append((path.name, state.st_mtime_ns, state.st_size, state.st_ino))
    return found


def _code(notebook: Path, config: Path | None) -> object:
    """All that is judged; None where the notebook cannot be read at the moment."""
    try:
        data = notebook.read_bytes()
        cells = tuple(cell.source for cell in read_notebook(data).cells)
    except (OSError, SubmissionError):
        return None
    settings = b""
    with contextlib.suppress(OSError):
        settings = (config or notebook.parent / BESIDE).read_bytes()
    return cells, imported_helpers(notebook, data), settings
