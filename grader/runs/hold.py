"""One writer at a time in a run directory, and a broom for what a killed one has left half-written.

Trusted. The lock is the kernel's: it goes with the process that holds it, however that ends. A file `.lock` that still names its
holder was not put away, so that process was killed. Where files cannot be locked (Windows, some network file systems) nobody is kept out.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from grader.errors import StoreError, UsageError

__all__ = ["hold"]

_NAME = ".lock"


@contextlib.contextmanager
def hold(root: Path) -> Iterator[None]:
    """Keep a run directory for this process; remove temporary files in it when the last holder was killed.

    Raises UsageError while another process holds it, StoreError when the file system refuses.
    """
    path = root / _NAME
    try:
        descriptor = _locked(path)
        killed = os.read(descriptor, 1) != b""
    except OSError as error:
        raise StoreError(
            f"cannot write {_NAME} in {root}: {error.strerror or error}; make room or fix the permissions, then run the same"
            " command again"
        ) from error
    try:
        if killed:
            _sweep(root)
        with contextlib.suppress(OSError):  # a full disk: whatever has to be written says so
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _locked(path: Path) -> int:
    """A descriptor of the file at `path`, locked where that can be."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if sys.platform == "win32":
            return descriptor
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise UsageError(
                f"another grader writes in {path.parent} ({holder or 'it has just begun'}); wait until it has ended, or"
                " choose another folder with --out"
            ) from None
        except OSError:
            return descriptor
        with contextlib.suppress(OSError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)  # its holder put it away just before we had it


def _sweep(root: Path) -> None:
    """Remove files that were being written."""
    with contextlib.suppress(OSError):
        for part in (*root.glob(".*.part"), *root.glob("submissions/*/.*.part")):  # what students handed in stays
            part.unlink()
