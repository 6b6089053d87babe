"""Names on disk: ids of submissions and paths of their files, safe whatever the student called them.

Trusted code over untrusted names.
"""

from __future__ import annotations

import re
from collections.abc import Container

from grader.intake.names import safe_file_name, short_digest, slug

__all__ = ["StoragePaths", "identifier"]


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
    kind, value = key[0], key[-1]
    if kind in ("user", "moodle"):
        base = value if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}", value) else slug(value)
    elif kind == "anon":
        base = f"anon-{value}"
    else:
        base = slug(label)
    result, n = base, 0
    while result.casefold() in taken:
        n += 1
        result = f"{base}-{short_digest('/'.join((*key, '' if n == 1 else str(n))))}"
    return result
