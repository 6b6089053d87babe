"""Temporary folders that nobody outlives: each is locked by the process that made it, and whoever comes next removes the unlocked.

Trusted. A process that is killed together with everything it started (a cluster's job, a host out of memory) removes nothing; the
kernel takes its lock away in any case. Where folders cannot be locked (Windows, some network file systems) nothing is swept.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["LockedTempDir"]


@dataclass(slots=True)
class LockedTempDir:
    """A private temporary folder of a living process."""

    path: Path
    """Where it is."""
    _descriptor: int
    """Holds the lock; negative where there is none."""

    @classmethod
    def make(cls, prefix: str) -> Self:
        """Remove what dead processes have left under this prefix, and make a fresh folder."""
        parent = Path(tempfile.gettempdir())
        for left in parent.glob(f"{prefix}*"):
            _remove_unclaimed(left)
        while True:
            folder = cls(Path(tempfile.mkdtemp(prefix=prefix, dir=parent)), -1)
            folder._descriptor = _lock(folder.path, wait=True)
            if folder.path.exists():  # else another process has taken it for a leftover just before it was locked
                return folder
            folder.remove()

    def remove(self) -> None:
        """Remove it with all that is in it. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _remove_unclaimed(folder: Path) -> None:
    """Remove a folder of this user that no process holds."""
    with contextlib.suppress(OSError):
        if sys.platform != "win32" and folder.lstat().st_uid == os.geteuid():
            descriptor = _lock(folder, wait=False)
            if descriptor >= 0:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(descriptor)


def _lock(folder: Path, *, wait: bool) -> int:
    """A descriptor that holds the folder's lock; negative when it is held by another process or cannot be locked."""
    if sys.platform == "win32":
        return -1
    import fcntl

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return -1
    return descriptor
