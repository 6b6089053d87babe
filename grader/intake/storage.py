"""Names on disk: ids of submissions and paths of their files, safe whatever the student called them.

Trusted code over untrusted names.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Container

__all__ = ["StoragePaths", "identifier", "safe_file_name", "slug"]

_RESERVED = frozenset({"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(10)})
_MAX_NAME_BYTES = 120


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
