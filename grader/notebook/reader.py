"""Read a notebook file, whatever wrote it, into the record that runs: its code cells, without any of its metadata.

Trusted code over untrusted bytes. The file is never validated against the format's schema: a grader has to open
everything that Jupyter opens and some files that it does not. Outputs, ids, tags, widgets, attachments and kernelspecs
are dropped unread, except that a notebook which names another language than Python is refused.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

from grader.errors import SubmissionError
from grader.records import Cell, Notebook, Notice

__all__ = [
    "CELL_LIMIT",
    "FILE_LIMIT",
    "MAGIC",
    "SOURCE_LIMIT",
    "VALUE_LIMIT",
    "cell_kind",
    "cell_source",
    "is_old",
    "raw_cells",
    "read_document",
    "read_notebook",
]

FILE_LIMIT = 256 * 1024 * 1024
"""Largest file that is read, in bytes; saved outputs can make an honest notebook large."""

SOURCE_LIMIT = 8 * 1024 * 1024
"""Largest sum of all code, in characters."""

VALUE_LIMIT = 4_000_000
"""Most values that a file may hold, counted by their commas and brackets: in memory each takes up to thirty times its bytes."""

CELL_LIMIT = 1_000
"""Most code cells that are taken; a report shows each of them."""

_MOST_NOTICES = 20

_HOW = 'Submit the .ipynb file itself ("File > Download > Download .ipynb" in Colab, "File > Download" in Jupyter).'

MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF file"),
    (b"PK\x03\x04", "a zip archive or a Word file"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"{\\rtf", "an RTF text document"),
    (b"\xd0\xcf\x11\xe0", "an old Word or Excel file"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"\x93NUMPY", "a numpy array"),
)
"""What files renamed to .ipynb usually are, by their first bytes."""

_OTHER_LANGUAGES = frozenset(
    ("bash", "c", "c#", "c++", "clojupyter", "clojure", "csharp", "elixir", "erlang", "f#", "fortran", "go", "groovy", "haskell",
     "ir", "java", "javascript", "julia", "kotlin", "lisp", "lua", "mathematica", "matlab", "ocaml", "octave", "perl", "php",
     "powershell", "prolog", "r", "ruby", "rust", "sas", "scala", "scheme", "sql", "stata", "swift", "typescript", "wolfram", "xonsh")
)  # fmt: skip
"""First words of kernels' names that say their language, where a notebook does not."""
_PYTHON = re.compile(r"python|pyspark|sage", re.IGNORECASE)
_TEXT_CELLS = frozenset({"markdown", "raw", "heading", "html", "text"})
_CONFLICT = re.compile(r"^(<{7}|>{7}|={7}|\|{7})( |$)", re.MULTILINE)


def read_notebook(data: bytes) -> Notebook:
    """The notebook in `data`: its code cells as the student wrote them.

    Raises `SubmissionError`, with a sentence for the student, when the bytes are no Python notebook, or too many.
    """
    notices: list[Notice] = []
    document = read_document(data, notices)
    _refuse_other_languages(document)
    return _collect(document, notices)


def read_document(data: bytes, notices: list[Notice] | None = None) -> dict[str, Any]:
    """The notebook's own JSON object in `data`, in whatever encoding and envelope; `notices` gets what was odd about the file.

    Numbers that JSON does not have (NaN) are text. Raises `SubmissionError` as `read_notebook` does; its language is not looked at.
    """
    if not data.strip(b"\x00 \t\r\n"):
        raise SubmissionError(f"The file is empty ({len(data)} bytes). {_HOW}")
    if len(data) > FILE_LIMIT:
        raise SubmissionError(
            f"The file has {len(data) / 1e6:.0f} MB; at most {FILE_LIMIT / 1e6:.0f} MB are read. "
            'Clear the outputs ("Edit > Clear all outputs"), save, and submit again.'
        )
    for magic, kind in MAGIC:
        if data.startswith(magic):
            raise SubmissionError(f"This is {kind} renamed to .ipynb, not a notebook. {_HOW}")
    if sum(map(data.count, (b",", b"[", b"{"))) > VALUE_LIMIT:
        raise SubmissionError(
            f"The file holds more than {VALUE_LIMIT / 1e6:.0f} million single values, as no notebook needs. "
            'Clear the outputs ("Edit > Clear all outputs"), load large data from a file, and submit again.'
        )
    notices = [] if notices is None else notices
    return _document(_parse(_decode(data, notices), notices))


def _decode(data: bytes, notices: list[Notice]) -> str:
    """The text of the file; whatever is not UTF-8 is reported."""
    encoding = json.detect_encoding(data[:64])
    if encoding == "utf-8-sig":
        notices.append(Notice("byte-order-mark", "The file starts with a byte order mark, which was ignored."))
    elif encoding != "utf-8":
        notices.append(Notice("encoding", f"The file is stored as {encoding.upper()} and was converted to UTF-8."))
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        notices.append(Notice("encoding", "The file is not valid UTF-8 and was read as Windows-1252 text."))
        return data.decode("cp1252", errors="replace")


def _parse(text: str, notices: list[Notice]) -> Any:
    """The JSON value in `text`."""
    stripped = text.strip("\x00 \t\r\n\ufeff")
    decoder = json.JSONDecoder(strict=False, parse_constant=str)  # raw control characters inside strings do no harm
    try:
        value, end = decoder.raw_decode(stripped)
        if isinstance(value, str):  # a notebook that was stored as a string, JSON within JSON
            value = decoder.decode(value)
    except RecursionError:
        raise SubmissionError(f"The file nests its data too deeply to be a notebook. {_HOW}") from None
    except ValueError as error:
        position = error.pos if isinstance(error, json.JSONDecodeError) else 0
        raise SubmissionError(_explain(stripped, position, str(error))) from None
    if stripped[end:].strip("\x00 \t\r\n") and isinstance(value, dict):
        notices.append(Notice("trailing-text", "Text after the end of the notebook was ignored."))
    return value


def _explain(text: str, position: int, error: str) -> str:
    """Why `text` is no JSON, in a sentence for the student."""
    head = text[:2000].lstrip().lower()
    if head.startswith(("<!doctype html", "<html", "<head", "<?xml")) or "<html" in head[:500]:
        return f"This is a web page (an HTML export), not a notebook. {_HOW}"
    if len({match[1] for match in _CONFLICT.finditer(text)}) >= 2:
        return (
            "The file contains the marks of an unresolved git merge conflict (<<<<<<<, =======, >>>>>>>). "
            "Resolve the conflict, check that the notebook opens in Jupyter, and submit it again."
        )
    if text.startswith(("{", "[", '"')):
        if position >= len(text) - 1 or "Unterminated" in error:
            return (
                "The file ends in the middle: the notebook was cut off while it was saved or uploaded. "
                "Check that it opens in Jupyter, and submit it again."
            )
        line = text.count("\n", 0, position) + 1
        return (
            f"The file is damaged: it is no valid JSON at line {line} ({error.split(':')[0]}). "
            "Check that it opens in Jupyter, save it there, and submit it again."
        )
    if _is_python(text):
        return f"This is a Python script, not a notebook. {_HOW}"
    if text.startswith(("---\n", "# ")) and "```" in text:
        return f"This is a Markdown file, not a notebook. {_HOW}"
    return f"This is not a notebook: the file starts with {text[:30]!r} instead of JSON. {_HOW}"


def _is_python(text: str) -> bool:
    """Whether `text` reads as a script rather than as prose or a single word."""
    try:
        body = ast.parse(text[:200_000]).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return re.search(r"^(import \w+|from \w[\w.]* import |def \w+\()", text, re.MULTILINE) is not None
    return any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in body)


def _document(value: Any) -> dict[str, Any]:
    """The notebook's own object; unwraps the envelope of Jupyter's contents service."""
    if isinstance(value, dict) and value.get("type") == "notebook" and isinstance(value.get("content"), dict):
        value = value["content"]
    if isinstance(value, dict):
        if isinstance(value.get("cells"), list) or isinstance(value.get("worksheets"), list):
            return value
        keys = ", ".join(sorted(str(key)[:30] for key in value)[:6]) or "none"
        what = f"an object without a list of cells (its keys: {keys})"
    elif isinstance(value, list):
        what = "a list"
    else:
        what = f"a single value of type {type(value).__name__}"
    raise SubmissionError(f"The file is JSON but not a notebook: it holds {what}. {_HOW}")


def _refuse_other_languages(document: dict[str, Any]) -> None:
    """Raise when the notebook declares another language: that of its kernel, or, where it has none, the kernel's name."""
    metadata = _mapping(document.get("metadata"))
    spec, info = _mapping(metadata.get("kernelspec")), _mapping(metadata.get("language_info"))
    languages = [
        text.strip() for text in (info.get("name"), spec.get("language")) if isinstance(text, str) and text.strip()
    ]
    if languages:
        other = "" if any(map(_PYTHON.search, languages)) or info.get("mimetype") == "text/x-python" else languages[-1]
    else:
        names = [text.strip() for text in (spec.get("name"), spec.get("display_name")) if isinstance(text, str)]
        first = [re.split(r"[-\s]", name)[0] for name in names]
        known = next((word for word in first if word.lower() in _OTHER_LANGUAGES), "")
        other = "" if any(map(_PYTHON.search, names)) else known
    if other:
        shown = {"r": "R", "ir": "R", "sql": "SQL", "sas": "SAS", "ocaml": "OCaml"}.get(other.lower(), other[:40])
        shown = shown.capitalize() if shown.islower() else shown
        raise SubmissionError(
            f"The notebook is written for {shown}, not for Python. Choose a Python kernel, run all cells, and submit again."
        )


def _mapping(value: Any) -> dict[str, Any]:
    """`value` where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def raw_cells(document: dict[str, Any]) -> Iterator[Any]:
    """All cells in order, from format 4 (`cells`) or from the sheets of formats 2 and 3."""
    if isinstance(document.get("cells"), list):
        yield from document["cells"]
    for sheet in document.get("worksheets") or ():
        cells = _mapping(sheet).get("cells")
        if isinstance(cells, list):
            yield from cells


def is_old(document: dict[str, Any]) -> bool:
    """Whether the notebook is stored in a format before 4."""
    return "worksheets" in document or document.get("nbformat") in (1, 2, 3)


def _collect(document: dict[str, Any], notices: list[Notice]) -> Notebook:
    """The code cells of `document` with a notice for each repair."""
    old, version = is_old(document), document.get("nbformat")
    if "worksheets" in document:
        kind = f"format {version}" if isinstance(version, int) else "an old format"
        notices.append(Notice("old-format", f"The notebook is stored in {kind} and was read as format 4."))
    cells: list[Cell] = []
    count = total = left_out = 0
    for count, raw in enumerate(raw_cells(document), start=1):  # as people count cells
        if count > 100 * CELL_LIMIT:
            raise SubmissionError(f"The file has more than {100 * CELL_LIMIT:,} cells, which is no notebook. {_HOW}")
        if not isinstance(raw, dict):
            notices.append(Notice("bad-cell", f"Cell {count} is no cell but {type(raw).__name__}, and was left out."))
            continue
        kind = cell_kind(raw)
        if kind != "code":
            if kind not in _TEXT_CELLS:
                text = f"Cell {count} has the unknown type {kind[:30]!r}, and was left out."
                notices.append(Notice("bad-cell", text))
            continue
        if len(cells) == CELL_LIMIT:
            left_out += 1
            continue
        source = cell_source(raw, count, notices, old=old)
        total += len(source)
        if total > SOURCE_LIMIT:
            raise SubmissionError(
                f"The notebook has more than {SOURCE_LIMIT / 1e6:.0f} million characters of code. "
                "Load large data from a file instead of pasting it into a cell, and submit again."
            )
        cells.append(Cell(count - 1, source))
    if left_out:
        text = f"The notebook has {len(cells) + left_out} code cells; only the first {CELL_LIMIT} were run."
        notices.insert(0, Notice("many-cells", text))
    if not any(cell.source.strip() for cell in cells):
        notices.append(Notice("no-code", "The notebook has no code: nothing could be run."))
    if (more := len(notices) - _MOST_NOTICES) > 0:
        text = f"{more} more things like these were noticed; they are left out here."
        notices[_MOST_NOTICES:] = [Notice("more-notices", text)]
    return Notebook(tuple(cells), count, (), tuple(notices))


def cell_kind(raw: dict[str, Any]) -> str:
    """The cell's type in lower case; guessed from its other fields where it is missing."""
    kind = raw.get("cell_type")
    if isinstance(kind, str) and kind.strip():
        return kind.strip().lower()
    return "code" if {"outputs", "execution_count", "input", "prompt_number", "code"} & raw.keys() else "markdown"


def cell_source(raw: dict[str, Any], number: int, notices: list[Notice], *, old: bool) -> str:
    """The cell's text with plain line ends and without characters that Python cannot read; its `number` counts from 1.

    In an `old` format the lines of a list may have been stored without their ends (format 2 and early format 3).
    """
    value = next((raw[key] for key in ("source", "input", "code") if raw.get(key) is not None), "")
    parts = value if isinstance(value, list) else [value]
    pieces = [part for part in parts if isinstance(part, str)]
    text = "".join(f"{piece}\n" if old and not piece.endswith(("\n", "\r")) else piece for piece in pieces[:-1])
    text += "".join(pieces[-1:])
    if len(pieces) != len(parts):
        notices.append(Notice("bad-cell", f"Cell {number} holds something that is not text; that part was left out."))
    if "\x00" in text:
        notices.append(Notice("nul-characters", f"NUL characters were taken out of cell {number}."))
        text = text.replace("\x00", "")
    # A lone surrogate can stand in JSON but in no file or message.
    text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
