"""Which of a student's files is the notebook to judge, and what the others are.

The files are untrusted bytes in the staging folder; they are looked at here (as JSON, within limits), never run.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from grader.intake.names import shown, without_resubmission_suffix
from grader.records import Notice

__all__ = ["OFFICE", "FileKind", "Selection", "UploadedFile", "code_of", "look_at", "pick"]

_PARSE_BYTES = 64_000_000
_MAGIC = (
    (b"%PDF", "a PDF file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"\x7fELF", "a program"),
    (b"\x93NUMPY", "a numpy array"),
)
OFFICE = (".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp", ".pages", ".numbers")
"""Documents that are zip archives inside, and not worth opening as such."""
_HTML = (b"<!doctype html", b"<html", b"<?xml")


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """One file that a student handed in, in the staging folder."""

    parts: tuple[str, ...]
    """Its path as the student called it; the last component is the file's name."""
    staged: Path
    """Where its bytes lie."""
    size: int
    """Number of bytes."""
    sha256: str
    """Digest of the bytes, in hex."""
    attachment_id: str | None = None
    """Canvas's attachment id; a higher one is newer."""
    kind: str = "file"
    """`file`, `text` or `link`."""
    line: int = -1
    """Which line of the ledger tells what became of it."""

    @property
    def name(self) -> str:
        """Name without folders."""
        return self.parts[-1]


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is, seen from its bytes."""

    what: str
    """`notebook`, `unreadable` (calls itself a notebook, may be repairable), `empty`, or words such as `a PDF file`."""
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


def look_at(path: Path, name: str) -> FileKind:
    """Tell what the file at `path`, handed in as `name`, is. Total: any bytes give an answer."""
    with path.open("rb") as file:
        raw = file.read(_PARSE_BYTES + 1)
    if not raw.strip(b"\0\t\r\n \xef\xbb\xbf"):
        return FileKind("empty")
    for magic, what in _MAGIC:
        if raw.startswith(magic):
            office = what == "a zip archive" and name.casefold().endswith(OFFICE)
            return FileKind("an Office document" if office else what)
    named_notebook = _named_notebook(name)
    if raw.lstrip(b"\xef\xbb\xbf\r\n\t ")[:32].lower().startswith(_HTML):
        return FileKind("a web page")
    if len(raw) > _PARSE_BYTES:
        return FileKind("unreadable" if named_notebook else "a large file")
    if not named_notebook and raw.lstrip(b"\xef\xbb\xbf\xff\xfe\0\r\n\t ")[:1] != b"{":
        return FileKind(_by_extension(name))
    code = code_of(raw)
    if code is None:
        return FileKind("unreadable" if named_notebook else _by_extension(name))
    return FileKind("notebook", code)


def code_of(raw: bytes) -> tuple[str, ...] | None:
    """Return the stripped sources of a notebook's code cells (format 3 or 4), without empty ones; None when it is none."""
    try:
        if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raw = raw.decode("utf-16").encode()
        notebook = json.loads(raw)
        sheets = notebook.get("worksheets", [notebook])
        cells = [cell for sheet in sheets for cell in sheet["cells"] if cell["cell_type"] == "code"]
        sources = [cell.get("source", cell.get("input", "")) for cell in cells]
        texts = ["".join(source).strip() for source in sources]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return tuple(text for text in texts if text)


def pick(files: Sequence[UploadedFile], starters: Iterable[tuple[str, ...]] = ()) -> Selection:
    """Choose the notebook among one student's files; `starters` are the code of notebooks that were handed out.

    A readable notebook goes before a broken one, work before an untouched or empty notebook, a proper `.ipynb` before
    another extension, then the newest attachment, then the one with most code.
    """
    untouched = {code for code in starters if code}
    looks = {file: look_at(file.staged, file.name) for file in files if file.kind == "file"}

    def rank(file: UploadedFile) -> tuple[bool, bool, bool, int, int, tuple[str, ...]]:
        look = looks[file]
        return (
            look.what == "notebook",
            bool(look.code) and look.code not in untouched,
            file.name.casefold().endswith(".ipynb"),
            int(file.attachment_id or 0),
            sum(map(len, look.code)),
            file.parts,
        )

    candidates = sorted((f for f in files if f in looks and looks[f].what in ("notebook", "unreadable")), key=rank)
    if not candidates:
        return Selection(None, tuple(files), problem=_problem(files, [looks.get(file) for file in files]))
    judged = candidates[-1]
    look = looks[judged]
    notices: list[Notice] = []
    if len(candidates) > 1:
        notices.append(Notice("several-files", _why(judged, candidates[:-1], looks, untouched)))
    if not judged.name.casefold().endswith(".ipynb"):
        notices.append(Notice("odd-extension", f"{shown(judged.name)} holds a notebook under another extension."))
    if look.what == "notebook" and not look.code:
        notices.append(Notice("empty-notebook", f"{shown(judged.name)} has no code in it."))
    if look.code in untouched:
        notices.append(
            Notice("untouched-starter", f"{shown(judged.name)} has the same code as the notebook handed out.")
        )
    return Selection(judged, tuple(file for file in files if file is not judged), tuple(notices))


def _why(
    judged: UploadedFile,
    others: Sequence[UploadedFile],
    looks: dict[UploadedFile, FileKind],
    untouched: set[tuple[str, ...]],
) -> str:
    names = ", ".join(shown(other.name, 50) for other in others[:4]) + (" and more" if len(others) > 4 else "")
    best, second = looks[judged], looks[others[-1]]
    if all(other.sha256 == judged.sha256 for other in others):
        reason = "all have the same content"
    elif second.what != best.what:
        reason = "the rest cannot be read as notebooks"
    elif (not second.code or second.code in untouched) and best.code and best.code not in untouched:
        reason = "the rest is empty or as it was handed out"
    elif others[-1].name.casefold().endswith(".ipynb") != judged.name.casefold().endswith(".ipynb"):
        reason = "it has the extension of a notebook"
    elif judged.attachment_id and others[-1].attachment_id and judged.attachment_id != others[-1].attachment_id:
        reason = "it was uploaded last"
        if without_resubmission_suffix(judged.name) == without_resubmission_suffix(others[-1].name):
            reason += " under the same name"
    else:
        reason = "it holds most code"
    return f"{len(others) + 1} notebooks were handed in; {shown(judged.name)} was graded because {reason}; not graded: {names}."


def _problem(files: Sequence[UploadedFile], looks: Sequence[FileKind | None]) -> str:
    """Say in one sentence what was handed in instead of a notebook."""
    kinds = {file.kind for file in files}
    if kinds == {"text"}:
        return "Text was typed into the submission form instead of handing in a file; there is no notebook to grade."
    if kinds == {"link"}:
        return "A link was handed in instead of a file; there is no notebook to grade."
    seen = []
    for file, look in zip(files, looks, strict=True):
        if look is None:
            seen.append("a typed text" if file.kind == "text" else "a link")
        else:
            seen.append(f"{shown(file.name, 60)} is {'an empty file' if look.what == 'empty' else look.what}")
    if not seen:
        return "No file of this submission could be taken in; there is no notebook to grade."
    more = f", and {len(seen) - 4} more files" if len(seen) > 4 else ""
    return f"No notebook was handed in: {', '.join(seen[:4])}{more}. Hand in the .ipynb file itself."


def _named_notebook(name: str) -> bool:
    """True for `lab.ipynb`, `lab.ipynb.txt`, `lab.ipynb (1)`, ..."""
    return ".ipynb" in name.casefold()


def _by_extension(name: str) -> str:
    suffix = Path(name).suffix.casefold()
    known = {
        ".py": "a Python script",
        ".csv": "a table",
        ".txt": "a text file",
        ".md": "a text file",
        ".json": "a JSON file",
    }
    return known.get(suffix, "not a notebook")
