"""What a report keeps of a cell: what a person would read below it, and the exception it ended with.

Trusted code that reads untrusted bytes: replies and outputs are the student's and may have any shape.
"""

from __future__ import annotations

import re
from typing import Any

from grader.records import CellError
from grader.sandbox.contract import Outcome

__all__ = ["CellOutputs", "error_of", "plain", "symptom"]

_TEXT, _TRACEBACK, _SHORT = 20_000, 8_000, 1_000
_MOST_PLACES = 20
"""Outputs of a cell that a message updates, should it have displayed them all under one id."""
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x08\x0b-\x1f\x7f]")
_SYMPTOMS = (
    (Outcome.OUT_OF_MEMORY, re.compile(r"^MemoryError|[Cc](an't|annot) allocate memory|not enough memory|bad_alloc")),
    (Outcome.DISK_LIMIT, re.compile(r"No space left on device|File too large")),
    (
        Outcome.PROCESS_LIMIT,
        re.compile(r"can't start new thread|^BlockingIOError: \[Errno 11\]|[Cc]an't start .*thread"),
    ),
)
"""Errors a cell ends with when it met a limit; whoever raises them without need harms only the own report."""


def symptom(error: CellError) -> Outcome | None:
    """The limit that an error speaks of, or None."""
    text = f"{error.name}: {error.message}"
    return next((outcome for outcome, pattern in _SYMPTOMS if pattern.search(text)), None)


class CellOutputs:
    """What is shown below one cell, from the kernel's messages as they come."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._places: dict[str, list[int]] = {}  # id of a display -> which of the texts are shown under it
        self._cleared_by_next = False

    def take(self, kind: str, content: dict[str, Any]) -> None:
        """Take one message. Raises TypeError, KeyError or AttributeError for a malformed one."""
        if kind == "clear_output":
            self._cleared_by_next = bool(content.get("wait"))
            if not self._cleared_by_next:
                self._clear()
        elif kind == "stream":
            self._show(_string(content["text"]))
        elif kind == "error":
            self._show("")  # the reply tells it
        elif kind in ("display_data", "execute_result", "update_display_data"):
            text = _string(content["data"].get("text/plain", "(a figure or widget)")) + "\n"
            name = (content.get("transient") or {}).get("display_id")
            places = self._places.setdefault(name, []) if name and type(name) is str else []
            for place in places:
                self._texts[place] = text
            if kind != "update_display_data":
                self._show(text)
                if len(places) < _MOST_PLACES:  # each message with this id changes all of them
                    places.append(len(self._texts) - 1)

    def _show(self, text: str) -> None:
        if self._cleared_by_next:
            self._clear()
        self._texts.append(text)

    def _clear(self) -> None:
        self._texts.clear()
        for places in self._places.values():
            places.clear()
        self._cleared_by_next = False

    @property
    def text(self) -> str:
        """All of it as a person would read it, its middle cut out when it is long."""
        return plain("".join(self._texts), _TEXT)


def _string(value: Any) -> str:
    """A text as it is. Raises TypeError for anything else, whose text would be made here."""
    if type(value) is not str:
        raise TypeError(type(value).__name__)
    return value


def plain(text: str, most: int) -> str:
    """Text without terminal escapes, its middle cut out when it is long."""
    clean = _ESCAPES.sub("", text)
    if len(clean) <= most:
        return clean
    half = most // 2
    return f"{clean[:half]}\n... ({len(clean) - most} characters left out) ...\n{clean[-half:]}"


def error_of(reply: dict[str, Any]) -> CellError | None:
    """The exception a cell ended with, from its reply."""
    content = reply.get("content")
    if not isinstance(content, dict) or content.get("status") != "error":
        return None
    lines = content.get("traceback")
    text = "\n".join(line for line in lines[:200] if type(line) is str) if isinstance(lines, list) else ""
    name, message = content.get("ename"), content.get("evalue")
    # texts alone: of lists in lists, as deep as can be read, none can be made
    return CellError(
        plain(name if type(name) is str else "Exception", 200),
        plain(message if type(message) is str else "", _SHORT),
        plain(text, _TRACEBACK),
    )
