"""What a source held, and the copies that a run keeps of them, so that later sources add to earlier ones.

Trusted code over untrusted bytes and names. A copy is a zip archive: `source.json` says where it came from and how its files were
called, the files bear numbers.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from grader.errors import StoreError, SubmissionError
from grader.intake.archive import ArchiveEntry, IntakeLimits, Stage, read_zip

__all__ = ["KeptSource", "Source", "keep", "kept_in"]

_HEAD, _ORDER = "source.json", "order.json"


@dataclass(frozen=True, slots=True)
class Source:
    """What one source held, staged."""

    label: str
    """How reports name it; students read it, so no path of this machine."""
    path: str
    """Where it lay."""
    entries: tuple[ArchiveEntry, ...]
    """What it held, without what operating systems leave behind; of a single file, itself and the modules beside it."""
    single: bool = False
    """Whether a person named this very file."""
    kept: Path | None = None
    """The run's copy, when it is of an earlier time."""

    @property
    def digest(self) -> str:
        """The same for the same files under the same names."""
        taken = [(entry.parts, entry.sha256) for entry in self.entries if entry.staged is not None]
        return hashlib.sha256(repr(taken).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class KeptSource:
    """The copy of an earlier source, not read yet."""

    file: Path
    """The archive."""
    label: str
    """As in `Source`."""
    path: str
    """As in `Source`."""
    single: bool
    """As in `Source`."""
    digest: str
    """As in `Source`."""
    names: tuple[tuple[str, ...], ...] = field(repr=False)
    """Path components of each file, in their order."""

    def staged(self, stage: Stage, limits: IntakeLimits) -> Source:
        """Stage what it holds. Raises StoreError when the copy is damaged."""
        try:
            found = read_zip(self.file, stage, limits, len(self.names) + 1, limits.total_bytes * 2)[1:]
        except SubmissionError as error:
            raise _damaged(self.file) from error
        entries = tuple(
            replace(entry, name="/".join(parts), parts=parts) for entry, parts in zip(found, self.names, strict=False)
        )
        source = Source(self.label, self.path, entries, self.single, self.file)
        if source.digest != self.digest:
            raise _damaged(self.file)
        return source


def kept_in(folder: Path) -> list[KeptSource]:
    """The copies of earlier sources, the oldest first. Raises StoreError when one is damaged."""
    order = folder / _ORDER
    if not order.exists():
        return []
    file, found = order, []
    try:
        for digest in json.loads(order.read_bytes()):
            file = folder / _name(digest)
            with zipfile.ZipFile(file) as archive:
                head = json.loads(archive.read(_HEAD))
            names = tuple(tuple(map(str, parts)) for parts in head["names"])
            found.append(KeptSource(file, head["label"], head["path"], head["single"], head["digest"], names))
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(file) from error
    return found


def keep(sources: Sequence[Source], folder: Path) -> None:
    """Have copies of these sources, of which the last is the newest, and of no others. Raises StoreError when the disk refuses."""
    order = list(dict.fromkeys(source.digest for source in reversed(sources)))[::-1]
    text = json.dumps(order)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source in sources:
            if not (folder / _name(source.digest)).exists():
                _copy(source, folder)
        if not (folder / _ORDER).exists() or (folder / _ORDER).read_text(encoding="ascii") != text:
            (folder / "next.part").write_text(text, encoding="ascii")
            (folder / "next.part").replace(folder / _ORDER)
        for file in {*folder.glob("*.zip")} - {folder / _name(digest) for digest in order}:
            file.unlink()
    except OSError as error:
        raise StoreError(f"cannot keep copies of the sources in {folder}: {error.strerror}; make room") from error


def _copy(source: Source, folder: Path) -> None:
    staged = [(entry.parts, entry.staged) for entry in source.entries if entry.staged is not None]
    head = {
        "label": source.label,
        "path": source.path,
        "single": source.single,
        "digest": source.digest,
        "names": [parts for parts, _ in staged],
    }
    with zipfile.ZipFile(folder / "next.part", "w") as archive:
        archive.writestr(zipfile.ZipInfo(_HEAD), json.dumps(head))
        for number, (_, path) in enumerate(staged):
            with path.open("rb") as data, archive.open(zipfile.ZipInfo(str(number)), "w") as target:
                shutil.copyfileobj(data, target)
    (folder / "next.part").replace(folder / _name(source.digest))


def _name(digest: str) -> str:
    return f"{digest[:16]}.zip"


def _damaged(file: Path) -> StoreError:
    return StoreError(f"{file} is damaged; give all sources again, with --replace")
