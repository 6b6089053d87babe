"""What a file is, seen from its bytes.

The files are untrusted bytes in the staging folder; they are looked at here (as JSON, within limits), never run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grader.errors import InfrastructureError, SubmissionError
from grader.intake.archive import UploadedFile
from grader.intake.names import is_notebook_name
from grader.notebook import limited, reader

__all__ = ["OFFICE", "FileKind", "code_of", "file_kind"]

_PARSE_BYTES = 64_000_000
_HARMLESS_BYTES = 1_000_000
_EXTENSIONS = {
    ".py": "a Python script",
    ".csv": "a table",
    ".txt": "a text file",
    ".md": "a text file",
    ".json": "a JSON file",
}
OFFICE = (".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp", ".pages", ".numbers")
"""Documents that are zip archives inside, and not worth opening as such."""
_BLANK = b"\xef\xbb\xbf\xff\xfe\0\r\n\t "  # spaces and marks of byte order
_HTML = (b"<!doctype html", b"<html", b"<?xml")


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is, seen from its bytes."""

    what: str
    """`notebook`, `unreadable` (calls itself a notebook, may be repairable), or words such as `a PDF file`."""
    code: tuple[str, ...] = ()
    """Sources of the code cells that hold anything, stripped; empty when it is no readable notebook."""


def file_kind(file: UploadedFile) -> FileKind:
    """Say what a file is. Any bytes give an answer."""
    if file.staged is None:
        return FileKind("a file that was left out")
    with file.staged.open("rb") as stream:
        raw = stream.read(_PARSE_BYTES + 1)
    start, name = raw.lstrip(_BLANK), file.file_name
    if not start:
        return FileKind("an empty file")
    for magic, what in reader.MAGIC:
        if raw.startswith(magic):
            office = raw.startswith(b"PK") and name.casefold().endswith(OFFICE)
            return FileKind("an Office document" if office else what)
    if start[:32].lower().startswith(_HTML):
        return FileKind("a web page")
    other = "a large file"
    if len(raw) <= _PARSE_BYTES:
        if start.startswith(b"{") and (code := code_of(raw)) is not None:
            return FileKind("notebook", code)
        other = _EXTENSIONS.get(Path(name).suffix.casefold(), "not a notebook")
    return FileKind("unreadable" if is_notebook_name(name) else other)


def code_of(raw: bytes) -> tuple[str, ...] | None:
    """Return the stripped sources of a notebook's code cells, without empty ones; None when it cannot be read as one."""
    # What is small and begins as JSON does no harm, and a fork for each takes its time.
    harmless = len(raw) < _HARMLESS_BYTES and raw[:1] == b"{" and 0 not in raw[:4]
    try:
        cells = (reader if harmless else limited).read_notebook(raw).cells
    except (SubmissionError, InfrastructureError):
        return None
    return tuple(text for cell in cells if (text := cell.source.strip()))
