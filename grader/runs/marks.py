"""Marks of files: what the file system says of them without reading them, so that thousands are known to be unchanged in a moment.

A mark is size, time of the last write, time of the last change of any kind, and file number. The third of them cannot be set
by a program: bytes exchanged under the same size and date are noticed, and so is a file put in another's place. What else
changes a mark (a copy of the folder, other permissions) costs time, never a result. A file changed shortly before its mark was
taken might be changed again within the same tick of the clock: its mark holds a digest of its bytes as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["ABSENT", "aged", "held", "mark", "mark_all", "unchanged"]

ABSENT = ""
"""The mark of a file that is not there."""

_YOUNG_NS = 2_000_000_000  # the coarsest clocks of file systems tick every two seconds


def mark(path: str | Path, *, now: int | None = None) -> str:
    """Take the mark of a file, link or folder; `ABSENT` when there is none. Only files that are young are read."""
    try:
        seen = os.lstat(path)
        text = _text(seen)
        if _is_young(seen, now) and stat.S_ISREG(seen.st_mode):  # a pipe would never end
            text += f" {_digest(path)}"
    except (OSError, ValueError):
        return ABSENT
    return text


def held(path: str | Path, before: str) -> bool:
    """Tell whether a file is what it was when the mark `before` was taken."""
    try:
        seen = _text(os.lstat(path))
        if seen == before:
            return True
        known, _, digest = before.rpartition(" ")
        return bool(known) and known == seen and digest == _digest(path)
    except (OSError, ValueError):
        return before == ABSENT


def aged(path: str | Path, before: str, *, now: int | None = None) -> str:
    """The mark without its digest where the file is still the same and no longer young: from then on nobody has to read it."""
    known, _, digest = before.rpartition(" ")
    with contextlib.suppress(OSError, ValueError):
        seen = os.lstat(path)
        if known == _text(seen) and not _is_young(seen, now) and digest == _digest(path):
            return known
    return before


def mark_all(paths: Iterable[str | Path]) -> dict[str, str]:
    """Take the marks of many files, by path."""
    now = time.time_ns()
    return {str(path): mark(path, now=now) for path in paths}


def unchanged(marks: Mapping[str, str]) -> bool:
    """Tell whether all files are what they were."""
    return all(held(path, before) for path, before in marks.items())


def _is_young(seen: os.stat_result, now: int | None) -> bool:
    return max(seen.st_mtime_ns, seen.st_ctime_ns) > (now or time.time_ns()) - _YOUNG_NS


def _text(seen: os.stat_result) -> str:
    return f"{seen.st_mode:o}-{seen.st_size}-{seen.st_mtime_ns}-{seen.st_ctime_ns}-{seen.st_dev}-{seen.st_ino}"


def _digest(path: str | Path) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
