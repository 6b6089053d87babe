"""Standard output and error that are closed, full or not UTF-8: known before work begins, and never the end of work that is done."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
import unicodedata
from typing import Any

from grader.errors import StoreError, UsageError

__all__ = ["Output", "claim_streams"]

_ERRORS = "grader-plain"
_PLAIN = {"✓": "+", "✗": "x", "–": "-", "—": "-", "…": "...", "·": "-", "─": "-", "━": "-", "│": "|", "┃": "|"}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace what a terminal cannot show: letters lose their accents, lines are drawn with `-`, `|` and `+`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = ""
    for character in error.object[error.start : error.end]:
        bare = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        corner = "+" if "\u2500" <= character <= "\u257f" else "?"
        shown += _PLAIN.get(character) or bare or corner
    return shown, error.end


class Output:
    """A stream that remembers its first failed write, and drops what comes after it."""

    def __init__(self, stream: Any) -> None:
        """Write to `stream`; whatever else is asked of it, it answers."""
        self._stream = stream
        self._failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Write what is still in memory, or drop it."""
        self._try(self._stream.flush)

    def _try(self, action: Any, *arguments: str) -> None:
        if self._failure is not None:
            return
        try:
            action(*arguments)
        except OSError as error:
            self._failure = error
            with contextlib.suppress(
                OSError, ValueError
            ):  # else Python tries again as it ends, and says so in its own way
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def exit_code(self, code: int) -> int:
        """The exit code of a command that has ended: 4 when part of its output is lost, else `code`."""
        self.flush()
        if self._failure is None or isinstance(self._failure, BrokenPipeError):  # who closes a pipe has read enough
            return code
        why = self._failure.strerror or self._failure
        print(f"grader: standard output cannot be written ({why}); all else was done", file=sys.stderr)
        return 4


def claim_streams() -> tuple[Output, Output]:
    """Take standard output and standard error for a command.

    A stream that was closed becomes `/dev/null`: else the next file that is opened, e.g. a report, would be taken for it.
    Raises UsageError when standard output is closed, StoreError when nothing can be written to it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    codecs.register_error(_ERRORS, _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_ERRORS)
    if sys.stdout is None:
        raise UsageError("standard output is closed; send it to a file, or to /dev/null")
    with contextlib.suppress(ValueError):  # a stream without a descriptor, as in a notebook
        try:
            os.write(sys.stdout.fileno(), b"")
        except OSError as error:
            if error.errno is not None:
                raise StoreError(f"standard output cannot be written: {error.strerror}") from error
    return Output(sys.stdout), Output(sys.stderr or io.StringIO())
