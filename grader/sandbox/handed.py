"""The file that a kernel hands out: taken from its box, and given to another kernel when the first one has ended.

Trusted; what lies there is not. The file is opened, never copied: its pages live as long as its descriptor, also when the box is gone.
Nothing that a student puts in the way (a link, a pipe, a folder, another size) is followed or waited for.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from grader.inside.tensors import HANDED

__all__ = ["HandedOut"]


@dataclass(slots=True)
class HandedOut:
    """A file that was handed out, or none; a context manager that gives it up."""

    descriptor: int = -1
    """Open for reading; negative where there is no such file."""
    path: Path | None = None
    """Where it lies, on systems that hand over no descriptors."""

    @classmethod
    def take(cls, root: Path, work: str, keep: Path) -> Self:
        """Take the file from the work folder `work` below `root`; where descriptors do not pass it is moved to `keep`."""
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                return cls(path=Path(shutil.move(root / work / HANDED, keep)))
            folder = os.open(root / work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                found = cls(os.open(HANDED, flags, dir_fd=folder))
            finally:
                os.close(folder)
            if stat.S_ISREG(os.fstat(found.descriptor).st_mode):
                return found
            found.close()
        return cls()

    def close(self) -> None:
        """Give it up; idempotent."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
