"""Getting bytes out of folders and zip archives without believing anything they say.

The bytes and names are untrusted; the code is trusted. Nothing is ever written under a name from an archive: each entry
goes to a numbered file in a staging folder, within limits that hold while it streams, and what is refused says why.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from grader.errors import StoreError, SubmissionError, UsageError
from grader.intake.names import is_noise, repaired

__all__ = [
    "ArchiveEntry",
    "IntakeLimits",
    "Stage",
    "looks_like_zip",
    "read_file",
    "read_folder",
    "read_zip",
    "unpack",
    "walk",
]

_CHUNK = 1 << 20
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_END_RECORD = struct.Struct("<4s4H2LH")
_END_RECORD_64 = 56 + 20  # the record of archives above 4 GB, and its locator


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """How much intake takes in. Sizes are in bytes, unpacked."""

    file_bytes: int = 200_000_000
    """Largest single file; a notebook with 50 MB of outputs is well below."""
    total_bytes: int = 2_000_000_000
    """Most that one archive may unpack to, plus 20 times its own size."""
    ratio: int = 200
    """Largest growth of one entry beyond `ratio_from`; text compresses well, so small entries may grow more."""
    ratio_from: int = 64_000_000
    """Size from which `ratio` applies."""
    entries: int = 50_000
    """Most entries of a source."""
    inner_total_bytes: int = 400_000_000
    """Most that a student's own zip may unpack to."""
    inner_entries: int = 2_000
    """Most entries of a student's own zip."""


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One entry of a source: staged, or refused with a reason."""

    entry: str
    """Name as it stands in the source, repaired; for people and for the ledger."""
    parts: tuple[str, ...]
    """Its path components; never empty, never `..`."""
    staged: Path | None = None
    """Where the bytes lie, in the staging folder; None when refused or noise."""
    size: int = 0
    """Number of bytes staged."""
    sha256: str = ""
    """Digest of the bytes, in hex."""
    refusal: str = ""
    """Why it was not taken, to follow "left out because"; empty when it was."""
    noise: bool = False
    """True for what operating systems and editors leave behind."""
    unsafe: bool = False
    """True when the name pointed outside of the archive."""


@dataclass(slots=True)
class Stage:
    """A folder of numbered files, on the same file system as the run directory."""

    folder: Path
    """Where the files lie."""
    count: int = field(default=0)
    """Number of files made so far."""

    def __enter__(self) -> Stage:
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise StoreError(f"cannot write to {self.folder.parent}: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def take(self, stream: BinaryIO, limit: int) -> tuple[Path, int, str]:
        """Copy `stream` to a new file; returns its path, size and SHA-256.

        Raises SubmissionError beyond `limit` bytes (nothing stays on disk), StoreError when the disk refuses; what
        reading `stream` raises passes through.
        """
        self.count += 1
        path = self.folder / str(self.count)
        digest, size = hashlib.sha256(), 0
        try:
            with _opened_for_writing(path) as target:
                while chunk := stream.read(_CHUNK):
                    size += len(chunk)
                    if size > limit:
                        raise SubmissionError(f"it is larger than {megabytes(limit)}")
                    digest.update(chunk)
                    _write(target, chunk)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path, size, digest.hexdigest()


def looks_like_zip(path: Path) -> bool:
    """Return True when the file begins as zip archives do, whatever its name."""
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")


def read_file(path: Path, stage: Stage, limits: IntakeLimits) -> ArchiveEntry:
    """Stage one file that a person named. Raises UsageError when it cannot be read."""
    name = repaired(path.name)
    try:
        return _staged_file(path, name, (name,), stage, limits)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def read_folder(root: Path, stage: Stage, limits: IntakeLimits, skip: Path) -> list[ArchiveEntry]:
    """Stage all files below `root`, in a fixed order; links and devices are refused.

    The child of `root` that is or holds `skip` (the run's own folder) is not entered. Raises
    UsageError when the folder cannot be listed or holds more entries than a class can have.
    """
    try:
        next(root.iterdir(), None)
    except OSError as error:
        raise UsageError(f"cannot read the folder {root}: {error.strerror}") from error
    found: list[ArchiveEntry] = []
    for path in walk(root, skip.resolve()):
        if len(found) >= limits.entries:
            raise UsageError(f"{root} holds more than {limits.entries} files; give the folder of the submissions only")
        parts = tuple(repaired(part) for part in path.relative_to(root).parts)
        entry = "/".join(parts)
        if is_noise(parts):
            found.append(ArchiveEntry(entry, parts, noise=True))
            continue
        try:
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                found.append(_staged_file(path, entry, parts, stage, limits))
            elif stat.S_ISDIR(mode):
                found.append(ArchiveEntry(entry, parts, refusal="the folder is empty or cannot be listed"))
            else:
                found.append(ArchiveEntry(entry, parts, refusal=f"it is {_special(mode)}, not a file"))
        except OSError as error:
            found.append(ArchiveEntry(entry, parts, refusal=f"it cannot be read ({error.strerror})"))
    return found


def read_zip(path: Path, stage: Stage, limits: IntakeLimits) -> list[ArchiveEntry]:
    """Stage all entries of a class's archive.

    Raises UsageError when it is no zip file, damaged as a whole, or has absurdly many entries.
    """
    try:
        size = path.stat().st_size
        return _read_zip(path, stage, limits, limits.entries, limits.total_bytes + 20 * size)
    except SubmissionError as error:
        raise UsageError(
            f"cannot take in {path}: {error}. Download it again, or unpack it and give the folder."
        ) from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def unpack(path: Path, stage: Stage, limits: IntakeLimits) -> list[ArchiveEntry]:
    """Stage all entries of a student's own zip, one level deep; SubmissionError says why that cannot be done."""
    try:
        return _read_zip(path, stage, limits, limits.inner_entries, limits.inner_total_bytes)
    except OSError as error:
        raise SubmissionError(f"it cannot be read ({error.strerror})") from error


def megabytes(size: int) -> str:
    """Write a size for people, in MB of a million bytes."""
    return f"{size / 1e6:.0f} MB" if size >= 1_000_000 else f"{size} bytes"


def _read_zip(path: Path, stage: Stage, limits: IntakeLimits, entries: int, total: int) -> list[ArchiveEntry]:
    _check_directory(path, entries)
    found: list[ArchiveEntry] = []
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise SubmissionError("it is not a zip file, or it is damaged") from error
    with archive:
        infos = archive.infolist()
        if len(infos) > entries:
            raise SubmissionError(f"it has {len(infos)} entries, more than the {entries} that are allowed")
        for info in infos:
            parts, unsafe = _parts(info.filename)
            entry = repaired(info.filename) or "(no name)"
            if info.filename.endswith("/"):  # is_dir() fails on an empty name
                if info.file_size:
                    found.append(
                        ArchiveEntry(entry, parts, refusal="it calls itself a folder but holds bytes", unsafe=unsafe)
                    )
                continue  # what is in a folder has entries of its own
            if is_noise(parts):
                found.append(ArchiveEntry(entry, parts, noise=True))
                continue
            refusal = _refusal(info, limits, total)
            if refusal:
                found.append(ArchiveEntry(entry, parts, refusal=refusal, unsafe=unsafe))
                continue
            try:
                with archive.open(info) as stream:
                    staged, size, digest = stage.take(stream, min(limits.file_bytes, total))  # type: ignore[arg-type]
            except SubmissionError as error:
                found.append(ArchiveEntry(entry, parts, refusal=str(error), unsafe=unsafe))
            except _DAMAGE:
                found.append(ArchiveEntry(entry, parts, refusal="its bytes in the archive are damaged", unsafe=unsafe))
            else:
                total -= size
                found.append(ArchiveEntry(entry, parts, staged, size, digest, unsafe=unsafe))
    return found


def _check_directory(path: Path, entries: int) -> None:
    """Refuse a directory of millions of entries before zipfile builds an object for each."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - (1 << 16) - _END_RECORD.size - _END_RECORD_64))
        tail = file.read()
    # As zipfile looks for it: at the very end, else the last one that a comment may follow.
    start = len(tail) - _END_RECORD.size
    if start < 0 or tail[start : start + 4] != b"PK\x05\x06" or tail[-2:] != b"\0\0":
        start = tail.rfind(b"PK\x05\x06")
    if start < 0 or len(tail) - start < _END_RECORD.size:
        raise SubmissionError("it is not a zip file, or it is damaged")
    directory_bytes = _END_RECORD.unpack_from(tail, start)[5]
    record = start - _END_RECORD_64
    if record >= 0 and tail[record : record + 4] == b"PK\x06\x06":
        directory_bytes = struct.unpack_from("<Q", tail, record + 40)[0]
    # An entry takes 46 bytes and its name.
    if min(directory_bytes, size) > entries * 400:
        raise SubmissionError(f"it lists more than the {entries} entries that are allowed")


def _refusal(info: zipfile.ZipInfo, limits: IntakeLimits, total: int) -> str:
    mode = info.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return f"it is {_special(mode)}, not a file"
    if info.flag_bits & 0x1:
        return "it is encrypted"
    if info.compress_type not in _METHODS:
        return "it is compressed in a way that is not supported (only stored and deflate are)"
    if info.file_size > limits.file_bytes:
        return (
            f"it unpacks to {megabytes(info.file_size)}, more than the {megabytes(limits.file_bytes)} that are allowed"
        )
    if info.file_size > limits.ratio_from and info.file_size > limits.ratio * info.compress_size:
        return f"it unpacks to {megabytes(info.file_size)}, over {limits.ratio} times its packed size, as zip bombs do"
    if info.file_size > total:
        return "the archive as a whole unpacks to more than is allowed"
    return ""


def _parts(name: str) -> tuple[tuple[str, ...], bool]:
    """Split an entry's name; the flag tells that it pointed outside of the archive (such components are dropped)."""
    path = PurePosixPath(repaired(name).replace("\\", "/"))
    parts = [part for part in path.parts if part not in ("/", "//", "..", ".")]
    unsafe = path.is_absolute() or ".." in path.parts
    if parts and len(parts[0]) == 2 and parts[0][1] == ":":
        parts, unsafe = parts[1:], True
    return tuple(parts) or ("(no name)",), unsafe


def walk(root: Path, skip: Path) -> Iterator[Path]:
    """Yield files, links, devices and empty folders below `root`, sorted, without following links."""
    try:
        children = sorted(root.iterdir(), key=lambda path: repaired(path.name))
    except OSError:
        yield root
        return
    for child in children:
        if not child.is_symlink() and child.is_dir():
            # The run's own folder may lie among the submissions; it is not one of them.
            if skip == child.resolve() or child.resolve() in skip.parents:
                continue
            yielded = False
            for path in walk(child, skip):
                yielded = True
                yield path
            if not yielded:
                yield child
        else:
            yield child


def _staged_file(path: Path, entry: str, parts: tuple[str, ...], stage: Stage, limits: IntakeLimits) -> ArchiveEntry:
    try:
        with path.open("rb") as stream:
            if path.stat().st_size > limits.file_bytes:
                raise SubmissionError(f"it is larger than {megabytes(limits.file_bytes)}")
            staged, size, digest = stage.take(stream, limits.file_bytes)
    except SubmissionError as error:
        return ArchiveEntry(entry, parts, refusal=str(error))
    return ArchiveEntry(entry, parts, staged, size, digest)


def _special(mode: int) -> str:
    return "a symbolic link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "a device or pipe"


def _opened_for_writing(path: Path) -> BinaryIO:
    try:
        return path.open("xb")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error


def _write(target: BinaryIO, chunk: bytes) -> None:
    try:
        target.write(chunk)
    except OSError as error:
        raise StoreError(f"cannot write the submissions to disk: {error.strerror}") from error
