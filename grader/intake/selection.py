"""Which of a student's files is the notebook to judge, and what the others are.

The files are untrusted bytes in the staging folder; they are looked at here (as JSON, within limits), never run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from grader.errors import InfrastructureError, SubmissionError
from grader.intake.archive import UploadedFile
from grader.intake.names import is_notebook_name, shown, without_resubmission_suffix
from grader.notebook import limited, reader
from grader.records import Notice

__all__ = ["OFFICE", "FileKind", "Selection", "code_of", "file_kind", "select"]

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
_HTML = (b"<!doctype html", b"<html", b"<?xml")
_UPLOADED_LAST = "it was uploaded last"
# Why the best file goes before the second, by the place in the ranking where they differ.
_REASONS = (
    "the rest cannot be read as notebooks",
    "the rest is empty or as it was handed out",
    "it has the extension of a notebook",
    _UPLOADED_LAST,
    "it holds most code",
    "it comes last by name",
)


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is, seen from its bytes."""

    what: str
    """`notebook`, `unreadable` (calls itself a notebook, may be repairable), or words such as `a PDF file`."""
    code: tuple[str, ...] = ()
    """Sources of the code cells that hold anything, stripped; empty when it is no readable notebook."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What a student's files come down to."""

    judged: UploadedFile | None
    """The notebook to judge; None when there is none."""
    companions: tuple[UploadedFile, ...]
    """All other files."""
    notices: tuple[Notice, ...] = ()
    """Which file was taken and why, when there was a choice."""
    problem: str | None = None
    """Why there is nothing to judge."""


def file_kind(path: Path, name: str) -> FileKind:
    """Say what the file at `path`, uploaded as `name`, is. Any bytes give an answer."""
    with path.open("rb") as file:
        raw = file.read(_PARSE_BYTES + 1)
    if not raw.strip(b"\0\t\r\n \xef\xbb\xbf"):
        return FileKind("an empty file")
    for magic, what in reader.MAGIC:
        if raw.startswith(magic):
            office = raw.startswith(b"PK") and name.casefold().endswith(OFFICE)
            return FileKind("an Office document" if office else what)
    if raw.lstrip(b"\xef\xbb\xbf\r\n\t ")[:32].lower().startswith(_HTML):
        return FileKind("a web page")
    other = "unreadable" if is_notebook_name(name) else _EXTENSIONS.get(Path(name).suffix.casefold(), "not a notebook")
    if len(raw) > _PARSE_BYTES:
        return FileKind("unreadable" if is_notebook_name(name) else "a large file")
    if raw.lstrip(b"\xef\xbb\xbf\xff\xfe\0\r\n\t ")[:1] != b"{":
        return FileKind(other)
    code = code_of(raw)
    return FileKind(other) if code is None else FileKind("notebook", code)


def code_of(raw: bytes) -> tuple[str, ...] | None:
    """Return the stripped sources of a notebook's code cells, without empty ones; None when it cannot be read as one."""
    # What is small and begins as JSON does no harm, and a fork for each takes its time.
    harmless = len(raw) < _HARMLESS_BYTES and raw[:1] == b"{" and 0 not in raw[:4]
    try:
        cells = (reader if harmless else limited).read_notebook(raw).cells
    except (SubmissionError, InfrastructureError):
        return None
    return tuple(text for cell in cells if (text := cell.source.strip()))


def select(files: Sequence[UploadedFile], starters: Iterable[tuple[str, ...]] = ()) -> Selection:
    """Choose the notebook among one student's staged files; `starters` are the code of notebooks that were handed out.

    A readable notebook goes before a broken one, work before an untouched or empty notebook, a proper `.ipynb` before
    another extension, then the newest attachment, then the one with most code.
    """
    handed_out = [code for code in starters if code]
    kinds = {f: file_kind(f.staged, f.file_name) for f in files if f.kind == "file" and f.staged}

    def rank(file: UploadedFile) -> tuple[bool, bool, bool, int, int, tuple[str, ...]]:
        kind = kinds[file]
        return (
            kind.what == "notebook",
            bool(kind.code) and not _untouched(kind.code, handed_out),
            file.file_name.casefold().endswith(".ipynb"),
            file.attachment,
            sum(map(len, kind.code)),
            file.parts,
        )

    candidates = sorted((f for f, kind in kinds.items() if kind.what in ("notebook", "unreadable")), key=rank)
    if not candidates:
        return Selection(None, tuple(files), problem=_problem(files, kinds))
    *others, judged = candidates
    kind, name = kinds[judged], shown(judged.file_name)
    notices: list[Notice] = []
    if others:
        ranks = zip(_REASONS, rank(judged), rank(others[-1]), strict=True)
        reason = next((reason for reason, best, second in ranks if best != second), _REASONS[-1])
        notices.append(Notice("several-files", _why(judged, others, reason)))
    if not judged.file_name.casefold().endswith(".ipynb"):
        notices.append(Notice("odd-extension", f"{name} holds a notebook under another extension."))
    if kind.what == "notebook" and not kind.code:
        notices.append(Notice("empty-notebook", f"{name} has no code in it."))
    if _untouched(kind.code, handed_out):
        notices.append(Notice("untouched-starter", f"{name} has the same code as the notebook handed out."))
    return Selection(judged, tuple(file for file in files if file is not judged), tuple(notices))


def _untouched(code: tuple[str, ...], starters: Iterable[tuple[str, ...]]) -> bool:
    """Whether nothing was written that had to be; the other cells of a starter hold a course's own addresses."""
    for starter in starters:
        asked = [number for number, cell in enumerate(starter) if "YOUR CODE HERE" in cell] or range(len(starter))
        if len(code) == len(starter) and all(code[number] == starter[number] for number in asked):
            return True
    return False


def _why(judged: UploadedFile, others: Sequence[UploadedFile], reason: str) -> str:
    names = ", ".join(shown(other.file_name, 50) for other in others[:4]) + (" and more" if len(others) > 4 else "")
    if all(other.sha256 == judged.sha256 for other in others):
        reason = "all have the same content"
    elif reason == _UPLOADED_LAST:
        one, second = (without_resubmission_suffix(file.file_name) for file in (judged, others[-1]))
        reason += " under the same name" if one == second else ""
    return (
        f"{len(others) + 1} notebooks were handed in; {shown(judged.file_name)} was graded because {reason}; "
        f"not graded: {names}."
    )


def _problem(files: Sequence[UploadedFile], kinds: dict[UploadedFile, FileKind]) -> str:
    """Say in one sentence what was handed in instead of a notebook."""
    if not files:
        return "No file of this submission could be taken in; there is no notebook to grade."
    uploaded = {file.kind for file in files}
    if uploaded == {"text"}:
        return "Text was typed into the submission form instead of handing in a file; there is no notebook to grade."
    if uploaded == {"link"}:
        return "A link was handed in instead of a file; there is no notebook to grade."
    seen = [
        f"{shown(file.file_name, 60)} is {kinds[file].what}"
        if file in kinds
        else "a typed text"
        if file.kind == "text"
        else "a link"
        for file in files[:4]
    ]
    more = f", and {len(files) - 4} more files" if len(files) > 4 else ""
    return f"No notebook was handed in: {', '.join(seen)}{more}. Hand in the .ipynb file itself."
