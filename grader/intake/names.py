"""What file names say: whose a file is, when Canvas or Moodle named it, and how a name is made safe to show.

Trusted code over untrusted text: every name here was chosen by a student or stands in an archive. Names on disk are made
in `grader.intake.storage`; for people they are written by `shown`.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

__all__ = [
    "EntryName",
    "canvas_readings",
    "compact",
    "is_noise",
    "is_notebook_name",
    "moodle_readings",
    "printable",
    "repaired",
    "shown",
    "without_resubmission_suffix",
]

# What follows the id in a name of Canvas: an attachment and the student's own name for it, a typed text, or a link.
_REST = r"_(?:(?P<attachment>[0-9]{1,20})_(?P<original>.+)|(?P<html>text|link)\.html)\Z"
_ANONYMOUS = re.compile(rf"(?P<late>LATE_)?anon_(?P<id>[A-Za-z0-9]+){_REST}", re.DOTALL)
_OWNED = re.compile(rf"_(?P<late>LATE_)?(?P<id>[0-9]{{1,20}}){_REST}", re.DOTALL)
_WRITTEN = re.compile(r"[a-z0-9_\x80-\U0010ffff]*")  # what Canvas makes of a person's or a group's name
_MOODLE = re.compile(
    r"_(?P<id>[0-9]{1,20})_assignsubmission_(?P<kind>file|onlinetext)(?:_(?P<original>.*))?\Z", re.DOTALL
)
_LONGEST = (
    1000  # characters; a file's name has at most 255, a student's zip may hold longer ones that take long to read
)
# Canvas tries -1 to -7, then a UUID, before the whole chain of extensions: `hw.v2.ipynb` becomes `hw-1.v2.ipynb`.
_SUFFIX = re.compile(
    r"-(?:[1-7]|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?=(?:\.[A-Za-z][A-Za-z0-9]*)*\.[A-Za-z0-9]+$)"
)
_NOISE_FOLDERS = frozenset({"__macosx", ".ipynb_checkpoints", "__pycache__", ".git", ".idea", ".vscode", ".venv"})
_NOISE_FILES = frozenset({".ds_store", "thumbs.db", "desktop.ini", ".gitignore", ".gitkeep"})


@dataclass(frozen=True, slots=True)
class EntryName:
    """What the name of one handed-in file says."""

    owner: str
    """The student's or group's name as the system wrote it, e.g. `svenssonåsa`; empty when anonymous."""
    user_id: str | None
    """Canvas user id, or Moodle participant id; None when anonymous."""
    attachment_id: str | None
    """Canvas attachment id; None for text entries, links and Moodle."""
    original: str
    """The file's name as the student called it."""
    kind: str = "file"
    """`file`, `text` (typed into the browser) or `link` (a URL)."""
    late: bool = False
    """True when the name carries Canvas's late mark."""
    anonymous_id: str | None = None
    """Canvas's anonymous id."""


def repaired(name: str) -> str:
    """Return the name in NFC, with UTF-8 that an unzipper took for code page 437 put right."""
    if not name.isascii():
        with contextlib.suppress(UnicodeError):  # raised when it was no mojibake
            name = name.encode("cp437").decode("utf-8")
    return unicodedata.normalize("NFC", name)


def canvas_readings(name: str, *, anonymous: bool = False) -> tuple[EntryName, ...]:
    """All ways to read a name from Canvas's "Download Submissions", from left to right; none when it is not such a name.

    `<name>[_LATE]_<user>_<attachment>_<original>`: `<original>` is the student's text and `<name>` may be a group's, so both may
    hold what looks like ids and marks. What Canvas cannot have written (a name with capitals or blanks, an id that begins with 0)
    is no reading where there is another. `anonymous` names are `[LATE_]anon_<id>_<attachment>_<original>`, read in one way.
    """
    if len(name) > _LONGEST:
        return ()
    name = repaired(name)
    if anonymous:
        match = _ANONYMOUS.match(name)
        return (replace(_canvas_name("", match), user_id=None, anonymous_id=match["id"]),) if match else ()
    readings = _matches(_OWNED, name)
    written = [
        m
        for m in readings
        if _WRITTEN.fullmatch(name[: m.start()]) and not {"0"} & {m["id"][0], (m["attachment"] or "1")[0]}
    ]
    return tuple(_canvas_name(name[: match.start()], match) for match in written or readings)


def moodle_readings(name: str, *, folder: bool) -> tuple[EntryName, ...]:
    """All ways to read a name from Moodle's "Download all submissions", from left to right.

    `<full name>_<participant>_assignsubmission_<kind>_`, followed by the student's name for the file unless it is a folder.
    """
    name = repaired(name)
    found = _matches(_MOODLE, name) if len(name) <= _LONGEST else []
    return tuple(
        EntryName(
            name[: match.start()],
            match["id"],
            None,
            match["original"] or "",
            "text" if match["kind"] == "onlinetext" else "file",
        )
        for match in found
        if match.start() and bool(match["original"]) != folder
    )


def _matches(pattern: re.Pattern[str], name: str) -> list[re.Match[str]]:
    places = (at for at, character in enumerate(name) if character == "_")
    return [match for at in places if (match := pattern.match(name, at))]


def _canvas_name(owner: str, match: re.Match[str]) -> EntryName:
    return EntryName(
        owner,
        match["id"],
        match["attachment"],
        match["original"] or f"{match['html']}.html",
        match["html"] or "file",
        late=match["late"] is not None,
    )


def without_resubmission_suffix(name: str) -> str:
    """Undo Canvas's renaming of a second upload: `lab2-1.ipynb` gives `lab2.ipynb`.

    Ambiguous (`assignment-3.ipynb` may be the student's own name), so only for comparing, or where a `-` is wrong anyway.
    """
    return _SUFFIX.sub("", name, count=1)


def is_noise(parts: Sequence[str]) -> bool:
    """Return True for what operating systems, Jupyter and editors leave behind; never a student's work."""
    *folders, last = (part.casefold() for part in parts)
    if any(folder in _NOISE_FOLDERS for folder in folders):
        return True
    return last in _NOISE_FILES or last.startswith("._") or last in _NOISE_FOLDERS


def is_notebook_name(name: str) -> bool:
    """True for `lab.ipynb`, `lab.ipynb.txt`, `lab.ipynb (1)`, ..."""
    return ".ipynb" in name.casefold()


def compact(name: str) -> str:
    """Write a name as Canvas does in file names: `Svensson, Åsa` gives `svenssonåsa`.

    What stays is Ruby's `[[:word:]]`: letters with their marks, decimal digits, and what connects words.
    """
    name = unicodedata.normalize("NFC", name).lower()
    if name.isascii():
        return re.sub(r"\W", "", name)
    return "".join(c for c in name if unicodedata.category(c).startswith(("L", "M", "Nd", "Pc")))


def printable(text: str) -> str:
    """Drop what cannot be stored or shown: control and direction characters become spaces, lone surrogates `\ufffd`."""
    text = text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text
    text = "".join(c if c.isprintable() else " " for c in unicodedata.normalize("NFC", text))
    return re.sub(r" {2,}", " ", text).strip()


def shown(name: str, limit: int = 80) -> str:
    """Quote a name for a sentence: one line, no control or direction characters, at most `limit` characters."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in name)
    if len(text) > limit:
        half = (limit - 1) // 2
        text = f"{text[:half]}…{text[-half:]}"
    return f"“{text}”"
