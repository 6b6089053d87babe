"""Getting bytes out of folders and zip archives without believing anything they say.

The bytes and names are untrusted; the code is trusted. Nothing is ever written under a name from an archive: each entry
goes to a numbered file in a staging folder, within limits that hold while it streams, and what is refused says why.
"""

from __future__ import annotations

import bz2
import contextlib
import copy
import functools
import hashlib
import io
import lzma
import os
import shutil
import stat
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO

from grader.errors import StoreError, SubmissionError, UsageError
from grader.intake.names import EntryName, Owner, is_noise, repaired

__all__ = ["IntakeLimits", "Stage", "UploadedFile", "looks_like_zip", "read_file", "read_folder", "read_zip", "walk"]

_CHUNK = 1 << 20
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    OverflowError,
)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_LZMA_MEMORY = 300_000_000  # bytes; the largest dictionary of common packers has 64 MB
_LZMA_ENDS = 0x2  # flag of an entry whose stream says where it ends
_LONGEST_NAME = 4_096  # characters; accents in a longer one take long to be put in order
_DIRECTORY_BYTES = 400  # of an entry in an archive's directory: 46 and its name


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
    companions: int = 1_000
    """Most files of a student beside the notebook."""
    companions_bytes: int = 200_000_000
    """Most that they may have together."""


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """One file of an archive or a folder: staged, or refused with a reason."""

    name: str
    """Name as it stands in the source, repaired; for people."""
    parts: tuple[str, ...]
    """Its path components, never empty, never `..`: in the source, and, once it has an owner, as the student called it."""
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
    read_as: EntryName | None = None
    """What the name says of its owner; None when no platform wrote it."""
    owner: Owner | None = None
    """Whose it is; None when it is nobody's, or not known yet."""

    @property
    def file_name(self) -> str:
        """Name without folders."""
        return self.parts[-1]

    @property
    def kind(self) -> str:
        """`file`, `text` (typed into the browser) or `link`."""
        return self.read_as.kind if self.read_as else "file"

    @property
    def attachment(self) -> int:
        """Canvas's attachment id, 0 where there is none; a higher one is newer."""
        return int((self.read_as and self.read_as.attachment_id) or 0)


@dataclass(slots=True)
class Stage:
    """A folder of numbered files, on the same file system as the run directory."""

    folder: Path
    """Where the files lie."""
    limits: IntakeLimits = IntakeLimits()
    """How much may be put there."""
    count: int = 0
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

    def add(self, file: UploadedFile, pieces: Iterable[bytes], most: int = sys.maxsize) -> UploadedFile:
        """The file with its bytes, `pieces`, staged; refused when they cannot be read, or are more than `most` or any file may have.

        Raises StoreError when the disk refuses.
        """
        self.count += 1
        path = self.folder / str(self.count)
        digest, size = hashlib.sha256(), 0
        try:
            with path.open("xb") as target:
                for chunk in _bounded(pieces, min(most, self.limits.file_bytes)):
                    digest.update(chunk)
                    size += target.write(chunk)
        except SubmissionError as error:
            path.unlink(missing_ok=True)
            return replace(file, refusal=str(error))
        except OSError as error:
            raise StoreError(
                f"cannot write the submissions to {self.folder.parent}: {error.strerror}; make room or fix the permissions,"
                " then run the same command again"
            ) from error
        return replace(file, staged=path, size=size, sha256=digest.hexdigest())


def looks_like_zip(path: Path) -> bool:
    """Return True when the file begins as zip archives do, whatever its name."""
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")


def read_file(path: Path, parts: tuple[str, ...], stage: Stage) -> UploadedFile:
    """Stage one file of a folder; links, devices, folders and what cannot be read are refused."""
    file = UploadedFile("/".join(parts), parts, noise=is_noise(parts))
    if file.noise:
        return file
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        return replace(file, refusal=f"it cannot be read ({error.strerror})")
    if stat.S_ISDIR(mode):
        return replace(file, refusal="the folder is empty or cannot be listed")
    if not stat.S_ISREG(mode):
        return replace(file, refusal=f"it is {_special(mode)}, not a file")
    return stage.add(file, _stream(lambda: path.open("rb")))


def read_folder(root: Path, stage: Stage, skip: Path) -> list[UploadedFile]:
    """Stage all files below `root`, in a fixed order, except in the folder `skip` (the run's own).

    Raises OSError when the folder cannot be listed, UsageError when it holds more entries than a class can have.
    """
    next(root.iterdir(), None)
    entries: list[UploadedFile] = []
    for path in walk(root, skip.resolve()):
        if len(entries) >= stage.limits.entries:
            raise UsageError(
                f"{root} holds more than {stage.limits.entries} files; give the folder of the submissions only"
            )
        parts = tuple(repaired(part) for part in path.relative_to(root).parts)
        entries.append(read_file(path, parts, stage))
    return entries


def walk(root: Path, skip: Path) -> Iterator[Path]:
    """Yield files, links, devices and empty or unreadable folders below `root`, sorted, without following links.

    A folder that is or holds `skip` is not entered.
    """
    base = root.resolve()
    hidden = {root / own.relative_to(base) for own in (skip, *skip.parents) if base in own.parents}
    pending = [(root, True)]
    while pending:
        path, is_folder = pending.pop()
        children: list[tuple[Path, bool]] = []
        if is_folder:
            with contextlib.suppress(OSError), os.scandir(path) as listing:
                children = [(Path(child), child.is_dir(follow_symlinks=False)) for child in listing]
        if not children and path != root:
            yield path
        children.sort(key=lambda child: repaired(child[0].name), reverse=True)
        pending += (child for child in children if child[0] not in hidden)


def read_zip(path: Path, stage: Stage, most: int, total: int) -> list[UploadedFile]:
    """Stage the entries of an archive, at most `most` with `total` bytes together.

    Raises SubmissionError when it is no zip archive, is damaged as a whole, or has too many entries.
    """
    with _ZipReader(path, most) as file:
        try:
            archive = zipfile.ZipFile(file)
        except _DAMAGE as error:
            raise SubmissionError("it is not a zip file, or it is damaged") from error
        with archive:
            file.most = sys.maxsize
            if len(archive.infolist()) > most:
                raise SubmissionError(
                    f"it has {len(archive.infolist())} entries, more than the {most} that are allowed"
                )
            return _staged_entries(archive, stage, total)


def _staged_entries(archive: zipfile.ZipFile, stage: Stage, total: int) -> list[UploadedFile]:
    found: list[UploadedFile] = []
    for info in archive.infolist():
        if len(info.filename) > _LONGEST_NAME:
            name = f"{info.filename[:40]}…"
            found.append(UploadedFile(name, (name,), refusal="its name is longer than that of any file"))
            continue
        if info.filename.endswith("/") and not info.file_size:
            continue  # what is in a folder has entries of its own
        parts, unsafe = _parts(info.filename)
        file = UploadedFile(repaired(info.filename) or "(no name)", parts, unsafe=unsafe, noise=is_noise(parts))
        if not file.noise:
            refusal = _refusal(info, stage.limits, total)
            file = replace(file, refusal=refusal) if refusal else stage.add(file, _member(archive, info), total)
            total -= file.size
        found.append(file)
    return found


class _ZipReader(io.BufferedReader):
    """An archive whose directory is refused when it is too long, before zipfile makes an object of each entry."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(io.FileIO(path))
        self.most = most

    def read(self, size: int | None = -1, /) -> bytes:
        """Read; zipfile reads the whole directory at once."""
        if size is not None and size > self.most * _DIRECTORY_BYTES:
            raise SubmissionError(f"it lists more than the {self.most} entries that are allowed")
        return super().read(size)


def _stream(opened: Callable[[], IO[bytes]]) -> Iterator[bytes]:
    with opened() as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """Read an entry of an archive, at most `_CHUNK` bytes at a time."""
    if info.compress_type in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        return _unpacked(archive, info)
    return _stream(functools.partial(archive.open, info))


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """Unpack bzip2 or LZMA: zipfile gives all that a piece of input becomes at once, gigabytes of a megabyte."""
    packed = copy.copy(info)
    packed.compress_type, packed.file_size = zipfile.ZIP_STORED, info.compress_size
    del packed.CRC  # of what comes out, so that it is checked here
    size, checksum = 0, 0
    with archive.open(packed) as stream:
        unpacker: bz2.BZ2Decompressor | lzma.LZMADecompressor = bz2.BZ2Decompressor()
        data = b""
        if info.compress_type == zipfile.ZIP_LZMA:
            unpacker = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY)
            # A zip has a version and the length of the properties where an .lzma file has, after them, the size.
            properties = stream.read(struct.unpack("<xxH", stream.read(4))[0])
            data = properties + struct.pack("<q", -1 if info.flag_bits & _LZMA_ENDS else info.file_size)
        while not unpacker.eof and size <= info.file_size:
            if not data and unpacker.needs_input and not (data := stream.read(_CHUNK)):
                raise EOFError
            piece, data = unpacker.decompress(data, _CHUNK), b""
            size, checksum = size + len(piece), zlib.crc32(piece, checksum)
            yield piece
    if (size, checksum) != (info.file_size, info.CRC):
        raise zipfile.BadZipFile


def _bounded(pieces: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """Pass pieces on up to `limit` bytes; SubmissionError says why they cannot be read, as a reason to leave them out."""
    size = 0
    try:
        for piece in pieces:
            size += len(piece)
            if size > limit:
                raise SubmissionError(f"it is larger than {_megabytes(limit)}")
            yield piece
    except _DAMAGE as error:
        refused = error.strerror if isinstance(error, OSError) else None  # bzip2 calls damage an OSError, too
        why = f"it cannot be read ({refused})" if refused else "its bytes in the archive are damaged"
        raise SubmissionError(why) from error


def _refusal(info: zipfile.ZipInfo, limits: IntakeLimits, total: int) -> str:
    mode = info.external_attr >> 16
    if info.filename.endswith("/"):
        return "it calls itself a folder but holds bytes"
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return f"it is {_special(mode)}, not a file"
    if info.flag_bits & 0x1:
        return "it is encrypted"
    if info.compress_type not in _METHODS:
        return "it is compressed in a way that is not supported (only stored, deflate, bzip2 and LZMA are)"
    size = _megabytes(info.file_size)
    if info.file_size > limits.file_bytes:
        return f"it unpacks to {size}, more than the {_megabytes(limits.file_bytes)} that are allowed"
    if info.file_size > limits.ratio_from and info.file_size > limits.ratio * info.compress_size:
        return f"it unpacks to {size}, over {limits.ratio} times its packed size, as zip bombs do"
    if info.file_size > total:
        return "the archive as a whole unpacks to more than is allowed"
    return ""


def _parts(name: str) -> tuple[tuple[str, ...], bool]:
    """Split an entry's name; True when it pointed outside of the archive (such components are dropped)."""
    path = PurePosixPath(repaired(name).replace("\\", "/"))
    parts = [part for part in path.parts if part not in ("/", "//", "..", ".")]
    unsafe = path.is_absolute() or ".." in path.parts
    if parts and len(parts[0]) == 2 and parts[0][1] == ":":
        parts, unsafe = parts[1:], True
    return tuple(parts) or ("(no name)",), unsafe


def _special(mode: int) -> str:
    return "a symbolic link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "a device or pipe"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1_000_000 else f"{size} bytes"
