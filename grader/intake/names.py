"""What file names say: whose a file is, when Canvas or Moodle named it; and how a name is made safe to show and to store.

Trusted code over untrusted text: every name here was chosen by a student or stands in an archive.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import unicodedata
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

__all__ = [
    "EntryName",
    "Owner",
    "StoragePaths",
    "canvas_readings",
    "compact",
    "identifier",
    "is_noise",
    "is_notebook_name",
    "moodle_readings",
    "printable",
    "repaired",
    "safe_file_name",
    "shown",
    "slug",
    "some",
    "without_resubmission_suffix",
]

# What follows the id in a name of Canvas: an attachment and the student's own name for it, a typed text, or a link.
_REST = r"_(?:(?P<attachment>[0-9]{1,20})_(?P<original>.+)|(?P<page>(?P<kind>text|link)\.html))\Z"
_ANONYMOUS = re.compile(rf"(?P<late>LATE_)?anon_(?P<anonymous>[A-Za-z0-9]+){_REST}", re.DOTALL)
_OWNED = re.compile(rf"_(?P<late>LATE_)?(?P<user>[0-9]{{1,20}}){_REST}", re.DOTALL)
_WRITTEN = re.compile(r"[a-z0-9_\x80-\U0010ffff]*")  # what Canvas makes of a person's or a group's name
_MOODLE = re.compile(
    r"_(?P<user>[0-9]{1,20})_assignsubmission_(?:file|online(?P<kind>text))(?:_(?P<original>.*))?\Z", re.DOTALL
)
_LONGEST = 1000  # characters; of files 255 bytes at most, but a student's zip may hold names that take long to read
# Canvas tries -1 to -7, then a UUID, before the whole chain of extensions: `hw.v2.ipynb` becomes `hw-1.v2.ipynb`.
_SUFFIX = re.compile(
    r"-(?:[1-7]|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?=(?:\.[A-Za-z][A-Za-z0-9]*)*\.[A-Za-z0-9]+$)"
)
_NOISE_FOLDERS = frozenset({"__macosx", ".ipynb_checkpoints", "__pycache__", ".git", ".idea", ".vscode", ".venv"})
_NOISE_FILES = frozenset({".ds_store", "thumbs.db", "desktop.ini", ".gitignore", ".gitkeep"})
_RESERVED = frozenset({"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(10)})
_MAX_NAME_BYTES = 120


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


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose something is, as far as a source and the roster tell."""

    key: tuple[str, ...]
    """Who: `("user", id)`, `("anon", id)`, or something unique to the source such as `("folder", source, name)`."""
    label: str
    """The name as the source writes it."""
    matched: bool = False
    """True when found in the roster by name, not by id."""
    doubt: str = ""
    """Why it cannot be said whose it is, in a sentence with the names; empty when it can."""
    possible: tuple[str, ...] = ()
    """Ids of the roster that it may be of, when in doubt."""

    @property
    def system(self) -> str:
        """What knows the owner by the id that ends the key: `user` (Canvas), `moodle`, `anon`; else what the key is made from."""
        return self.key[0]


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
        return (_reading(match),) if match else ()
    readings = _matches(_OWNED, name)
    written = [
        m
        for m in readings
        if _WRITTEN.fullmatch(name[: m.start()]) and not {"0"} & {m["user"][0], (m["attachment"] or "1")[0]}
    ]
    return tuple(map(_reading, written or readings))


def moodle_readings(name: str, *, folder: bool) -> tuple[EntryName, ...]:
    """All ways to read a name from Moodle's "Download all submissions", from left to right.

    `<full name>_<participant>_assignsubmission_<kind>_`, followed by the student's name for the file unless it is a folder.
    """
    found = _matches(_MOODLE, repaired(name)) if len(name) <= _LONGEST else []
    return tuple(_reading(m) for m in found if m.start() and bool(m["original"]) != folder)


def _matches(pattern: re.Pattern[str], name: str) -> list[re.Match[str]]:
    places = (at for at, character in enumerate(name) if character == "_")
    return [match for at in places if (match := pattern.match(name, at))]


def _reading(match: re.Match[str]) -> EntryName:
    found = match.groupdict()
    return EntryName(
        match.string[: match.start()],
        found.get("user"),
        found.get("attachment"),
        found["original"] or found.get("page") or "",
        found["kind"] or "file",
        late=bool(found.get("late")),
        anonymous_id=found.get("anonymous"),
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


def some(names: Iterable[str]) -> str:
    """Quote the first four of some names for a sentence."""
    quoted = [shown(name, 40) for name in names]
    return ", ".join(quoted[:4]) + (", …" if len(quoted) > 4 else "")


class StoragePaths:
    """Gives out relative paths that neither collide nor need a file to be a folder, on any common file system."""

    def __init__(self) -> None:
        self._files: set[tuple[str, ...]] = set()
        self._folders: set[tuple[str, ...]] = set()

    def give(self, parts: tuple[str, ...]) -> tuple[str, ...]:
        """Return a safe path for the file that the student called `parts`."""
        safe = tuple(safe_file_name(part) for part in (parts if len(parts) <= 6 else parts[-1:]))
        wanted, n = safe, 1
        while self._clashes(wanted):
            n += 1
            stem, dot, extension = safe[-1].partition(".")
            wanted = (f"{stem}~{n}{dot}{extension}",)
        key = tuple(part.casefold() for part in wanted)
        self._files.add(key)
        self._folders.update(key[:i] for i in range(1, len(key)))
        return wanted

    def _clashes(self, parts: tuple[str, ...]) -> bool:
        key = tuple(part.casefold() for part in parts)
        return key in self._files or key in self._folders or any(key[:i] in self._files for i in range(1, len(key)))


def identifier(key: tuple[str, ...], label: str, taken: Container[str]) -> str:
    """Return an id, safe as a file name, that is not among `taken` (which are casefolded): the platform's own where there is one."""
    base = f"anon-{key[-1]}" if key[0] == "anon" else key[-1]
    if key[0] not in ("user", "moodle", "anon"):
        base = f"undecided-{slug(label)}" if key[0] == "doubt" else slug(label)
    elif not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}", base):
        base = slug(base)
    result, n = base, 0
    while result.casefold() in taken:
        n += 1
        result = f"{base}-{_short_digest('/'.join((*key, '' if n == 1 else str(n))))}"
    return result


def safe_file_name(name: str) -> str:
    """Return a name that is one path component on every common file system, at most 120 bytes long, never empty.

    Letters of any script stay; separators, wildcards, control and direction characters become `_`.
    """
    name = unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode("utf-8"))
    name = "".join("_" if c in '/\\:*?"<>|' or not c.isprintable() else c for c in name).rstrip(". ")
    if name.startswith((".", " ")):
        name = f"_{name[1:]}"
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension) > 12:
        stem, dot, extension = name, "", ""
    room = _MAX_NAME_BYTES - len((dot + extension).encode())
    stem = stem.encode()[:room].decode("utf-8", "ignore").rstrip()
    if not stem or stem.split(".")[0].strip().casefold() in _RESERVED:
        stem = f"_{stem}"
    return stem + dot + extension


def slug(name: str) -> str:
    """Return a short ASCII name, safe as an id and a file name; it ends in a digest when letters were lost."""
    plain = unicodedata.normalize("NFKD", name.encode("utf-8", "replace").decode("utf-8"))
    lost = any(not c.isascii() and not unicodedata.combining(c) for c in plain)
    words = re.findall(r"[a-z0-9]+", plain.encode("ascii", "ignore").decode().lower())
    text = "-".join(words)
    if len(text) > 48:
        text, lost = text[:48].rstrip("-"), True
    if not text or text in _RESERVED:
        text, lost = text or "submission", True
    return f"{text}-{_short_digest(name)}" if lost else text


def _short_digest(text: str) -> str:
    """Return six hex digits that depend on `text` only."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]
