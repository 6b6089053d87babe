"""Read a notebook under limits of time and memory, in a guard: whatever a file does to its reader, the class goes on."""

from __future__ import annotations

from grader.errors import GuardError, InfrastructureError, SubmissionError
from grader.notebook import reader
from grader.records import Notebook
from grader.sandbox.guard import GuardKilledError, GuardLimits, guarded

__all__ = ["read_notebook"]

_CPU_SECONDS, _SECONDS_PER_MB = 20.0, 0.2
_MEMORY, _MEMORY_PER_BYTE = 512 << 20, 12
"""Bytes: an honest file is there as bytes, as text of up to four bytes a character, and as values."""
_HOW = 'Clear the outputs ("Edit > Clear all outputs"), check that the notebook opens in Jupyter, and submit it again.'


def read_notebook(data: bytes) -> Notebook:
    """The notebook in `data`, as `grader.notebook.reader.read_notebook` reads it; callable from any thread.

    Raises `SubmissionError`, with a sentence for the student, when it is none, or reading it takes too much time or memory, and
    InfrastructureError when the process that reads is killed again and again.
    """
    seconds = int(_CPU_SECONDS + _SECONDS_PER_MB * len(data) / 1e6)
    limits = GuardLimits(_MEMORY + _MEMORY_PER_BYTE * len(data), seconds, wall_seconds=30.0 * seconds)
    try:
        return guarded(lambda: reader.read_notebook(data), Notebook, limits)
    except GuardKilledError as error:
        raise InfrastructureError(
            f"the process that reads notebooks {error}, perhaps for want of memory here"
        ) from error
    except GuardError as error:
        raise SubmissionError(f"The file could not be read: doing so {error}. {_HOW}") from error
