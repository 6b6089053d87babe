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
from dataclasses import dataclass, replace
from pathlib import Path

from grader.errors import StoreError, SubmissionError
from grader.intake.archive import Stage, UploadedFile, read_zip

__all__ = ["Source", "digest_of", "keep", "kept_in"]

_HEAD, _ORDER = "source.json", "order.json"


@dataclass(frozen=True, slots=True)
class Source:
    """What one source held."""

    label: str
    """How reports name it; students read it, so no path of this machine."""
    path: str
    """Where it lay."""
    files: tuple[UploadedFile, ...]
    """What it held, without what operating systems leave behind; of a single file, itself and the modules beside it."""
    single: bool
    """Whether a person named this very file."""
    digest: str
    """The same for the same files under the same names."""
    kept: Path | None = None
    """The run's copy, when it is of an earlier time; its files are staged by `unpacked`."""

    def unpacked(self, stage: Stage) -> Source:
        """Stage the files of the copy. Raises StoreError when it is damaged."""
        copy = self.kept or Path()
        try:
            found = read_zip(copy, stage, len(self.files) + 1, stage.limits.total_bytes * 2)[1:]
        except SubmissionError as error:
            raise _damaged(copy) from error
        files = tuple(
            replace(file, name=known.name, parts=known.parts) for file, known in zip(found, self.files, strict=False)
        )
        if digest_of(files) != self.digest:
            raise _damaged(copy)
        return replace(self, files=files)


def digest_of(files: Sequence[UploadedFile]) -> str:
    """The same for the same staged files under the same names."""
    taken = [(file.parts, file.sha256) for file in files if file.staged is not None]
    return hashlib.sha256(repr(taken).encode("utf-8", "surrogatepass")).hexdigest()


def kept_in(folder: Path) -> list[Source]:
    """The earlier sources, the oldest first, their files not staged yet. Raises StoreError when a copy is damaged."""
    order = folder / _ORDER
    if not order.exists():
        return []
    copy, found = order, []
    try:
        for digest in json.loads(order.read_bytes()):
            copy = folder / _name(digest)
            with zipfile.ZipFile(copy) as archive:
                head = json.loads(archive.read(_HEAD))
            files = tuple(UploadedFile("/".join(parts), tuple(parts)) for parts in head.pop("names"))
            found.append(Source(**head, files=files, kept=copy))
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(copy) from error
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
    staged = [(file.parts, file.staged) for file in source.files if file.staged is not None]
    head = {name: getattr(source, name) for name in ("label", "path", "single", "digest")}
    with zipfile.ZipFile(folder / "next.part", "w") as archive:
        archive.writestr(zipfile.ZipInfo(_HEAD), json.dumps({**head, "names": [parts for parts, _ in staged]}))
        for number, (_, path) in enumerate(staged):
            with path.open("rb") as data, archive.open(zipfile.ZipInfo(str(number)), "w") as target:
                shutil.copyfileobj(data, target)
    (folder / "next.part").replace(folder / _name(source.digest))


def _name(digest: str) -> str:
    return f"{digest[:16]}.zip"


def _damaged(file: Path) -> StoreError:
    return StoreError(f"{file} is damaged; give all sources again, with --replace")
