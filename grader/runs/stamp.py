"""One stamp over all that a finished run was made from, and all that it holds: while both are the same there is nothing to do.

Trusted. It decides nothing by itself: without it everything is looked at again, with the same outcome. Files are known by what the
file system says of them without reading them: size, times of the last write and of the last change of any kind, file number.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from grader.errors import StoreError
from grader.grading.fingerprint import package_digest, versions
from grader.intake.archive import looks_like_zip, walk
from grader.runs.directory import RunDirectory
from grader.runs.publish import Published

__all__ = ["inputs_of", "read_stamped", "write_stamp"]

_NAME = "stamp"


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What was so at the end of a run that left nothing to do."""

    digest: str
    """Digest of what it was made from, taken before the sources were read, and of what lies in its folder."""
    messages: tuple[str, ...]
    """What was said of what could not be written."""


def inputs_of(run: RunDirectory, sources: Sequence[Path], options: str) -> str:
    """Digest of sources, code, versions and options. Empty when a source is a single notebook: modules beside it count, too."""
    files: list[Path] = []
    for source in sources:
        if source.is_file() and not looks_like_zip(source):
            return ""
        files += walk(source.resolve(), (run.root / "intake").resolve()) if source.is_dir() else [source.resolve()]
    own = sys.modules.get(run.info().assignment.partition(":")[0])
    files += Path(own.__file__).parent.rglob("*.py") if own is not None and own.__file__ else ()
    parts = [options, run.info(), run.secret().hex(), package_digest(), versions(), sys.executable, _digest_of(files)]
    return hashlib.sha256(repr([*map(str, sources), *parts]).encode()).hexdigest()


def read_stamped(run: RunDirectory, inputs: str) -> Published | None:
    """What a run that was made from the same inputs has published; None unless it left nothing to do and is as it was."""
    try:
        stamp = run.read(_NAME, _Stamp)
        unchanged = inputs != "" and stamp.digest == _digest_of(_files_of(run), inputs)
        return Published(run.reports(), stamp.messages) if unchanged else None
    except StoreError:
        return None


def write_stamp(run: RunDirectory, inputs: str, published: Published) -> None:
    """Remember that a run left nothing to do. Raises StoreError when the disk refuses."""
    run.write(_NAME, _Stamp(_digest_of(_files_of(run), inputs), published.messages))


def _files_of(run: RunDirectory) -> Iterable[Path]:
    for folder, _, names in os.walk(run.root):
        yield from (Path(folder, name) for name in names if name not in (_NAME, ".lock", ".writer"))


def _digest_of(files: Iterable[Path], inputs: str = "") -> str:
    digest = hashlib.sha256(inputs.encode())
    for name in sorted(map(os.fsencode, files)):
        seen = os.lstat(name)
        digest.update(name + b"\0%d %d %d %d\n" % (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino))
    return digest.hexdigest()
