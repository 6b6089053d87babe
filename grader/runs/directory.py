"""The run directory: every record is a file, written whole or not at all, by the coordinator alone.

```
RUN/
  run.json               how this run was made: assignment, bundle, grader, isolation (RunInfo)
  secret                 what questions and held-out reviews are drawn from; mode 0600, keep it from students
  intake/ID/...          the files as handed in, byte for byte
  intake.json            what intake found
  submissions/ID/        notebook.json execution.json evidence.json done.json report.json report.html
  overrides.jsonl        points settled by hand; survives `rejudge` and always wins
  class.html scores.csv gradebook.csv needs_review.csv feedback.zip feedback-manifest.csv
  index                  what all of this was made from, so that what has not changed is skipped (`grader.runs.index`)
```
A submission counts as run when its `done.json` is there and names the key of exactly this input.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from grader import serialization
from grader.assignments import load_assignment
from grader.bundles import load_bundle
from grader.errors import StoreError, UsageError
from grader.grading.context import RunContext
from grader.records import Evidence, Execution, Notebook, Notice, Submission

__all__ = ["Done", "IntakeRecord", "RunDirectory", "RunInfo", "load_context", "write_atomically", "write_derived"]

T = TypeVar("T")
FORMAT = 1
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class RunInfo:
    """How a run was made; enough to judge it again."""

    assignment: str
    """Name `load_assignment` takes."""
    bundle: str
    """Name of the bundle."""
    bundle_digest: str
    """Digest of the bundle's manifest."""
    bundle_path: str
    """Folder given by `--bundle`, or empty for the stand-in that ships with the grader."""
    sandbox: str
    """Isolation asked for: `warm`, `cold` or `none`."""
    grader_version: str
    """Version that made the run."""
    title: str = ""
    """Title of the class report."""
    roster: bool = False
    """Whether `roster.csv` lies in the run directory."""
    column: str = ""
    """Column of the gradebook that scores go to, when it was chosen by hand."""
    format: int = FORMAT
    """Format of the run directory."""


@dataclass(frozen=True, slots=True)
class IntakeRecord:
    """What intake found, kept with the run."""

    submissions: tuple[Submission, ...]
    """One per student or group, in the order of reports."""
    notices: tuple[Notice, ...] = ()
    """What concerns no single submission."""
    missing: tuple[str, ...] = ()
    """Students of the roster who handed nothing in, by name."""


@dataclass(frozen=True, slots=True)
class Done:
    """The mark that a submission's evidence is complete."""

    key: str
    """Content key of what was run (see `grader.runs.plan.content_key`)."""
    seconds: float
    """Wall seconds it took."""
    cpu_seconds: float
    """CPU seconds of the box."""
    fault: str = ""
    """Why the grader or its machine failed, when it did; such a submission is run again next time."""
    parts: dict[str, str] = field(default_factory=dict)
    """Digests that the key was made of, by name; they tell what has changed when it is another one."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further figures, e.g. the host it ran on."""


def write_derived(path: Path, data: bytes | str) -> None:
    """Write what can be made again from records, whole or not at all: nothing when it is there already, and no wait for the disk.

    Raises StoreError when the file system refuses, saying what to do.
    """
    payload = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    with contextlib.suppress(OSError):
        if path.stat().st_size == len(payload) and _holds(path, payload):
            return
    write_atomically(path, payload, durable=False)


def _holds(path: Path, payload: bytes) -> bool:
    """Compare in pieces: the archive of a large class should not be in memory twice."""
    with path.open("rb") as file:
        starts = range(0, len(payload), _PIECE)
        return all(file.read(_PIECE) == payload[start : start + _PIECE] for start in starts) and not file.read(1)


def write_atomically(path: Path, data: bytes | str, mode: int = 0o644, *, durable: bool = True) -> None:
    """Write a file so that readers see the old or the new content, never half of it: temp file, fsync, rename.

    Without `durable` there is no fsync: a power cut may then take the file.
    Raises StoreError when the file system refuses, saying what to do.
    """
    payload = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    name = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException as error:  # also a Ctrl-C in the middle
        if name:
            with contextlib.suppress(OSError):
                Path(name).unlink()
        if not isinstance(error, OSError):
            raise
        raise StoreError(
            f"cannot write {path.name} in {path.parent}: {error.strerror or error}; make room or fix the permissions, then run "
            "the same command again: what is finished stays finished"
        ) from error


def _of_a_start(path: Path) -> bool:
    """Tell whether a file is one that a start which was killed may have left: there is no run before there is `run.json`."""
    return path.name == "secret" or path.suffix == ".part"


class RunDirectory:
    """Reads and writes the files of one run."""

    def __init__(self, root: Path) -> None:
        """Take a folder as it is; nothing is created before something is written."""
        self.root = root

    # ------------------------------------------------------------ the run itself

    def exists(self) -> bool:
        """Tell whether the folder holds a run."""
        return (self.root / "run.json").is_file()

    def start(self, info: RunInfo, secret: bytes | None = None) -> RunInfo:
        """Begin a run, or continue the one that is there.

        Raises UsageError when the folder holds something else, or a run of another assignment, bundle or secret.
        """
        if self.exists():
            self._check_same(info, secret)
        elif self.root.is_dir() and any(not _of_a_start(path) for path in self.root.iterdir()):
            raise UsageError(f"{self.root} is not empty and holds no run; choose another folder with --out")
        else:
            write_atomically(self.root / "secret", (secret or secrets.token_bytes(32)).hex() + "\n", 0o600)
        self.write("run.json", info)
        return info

    def _check_same(self, info: RunInfo, secret: bytes | None) -> None:
        old = self.info()
        if (old.assignment, old.bundle_digest) != (info.assignment, info.bundle_digest):
            raise UsageError(
                f"{self.root} holds a run of {old.assignment} on bundle {old.bundle}; "
                f"this is {info.assignment} on {info.bundle}. Choose another folder with --out"
            )
        if secret is not None and secret != self.secret():
            raise UsageError(
                f"{self.root} was made with another secret; leave --secret-file out or choose another --out"
            )

    def info(self) -> RunInfo:
        """How the run was made. Raises UsageError when the folder holds no run."""
        if not self.exists():
            raise UsageError(f"{self.root} holds no run; it is made by `grader grade ... --out {self.root}`")
        info = self.read("run.json", RunInfo)
        if info.format != FORMAT:
            raise UsageError(f"{self.root} has format {info.format}; this grader reads format {FORMAT}")
        return info

    def secret(self) -> bytes:
        """Bytes that questions and held-out reviews are drawn from."""
        try:
            return bytes.fromhex((self.root / "secret").read_text(encoding="ascii").strip())
        except (OSError, ValueError) as error:
            raise StoreError(f"the secret of {self.root} cannot be read: {error}") from error

    # ------------------------------------------------------------ records

    def write(self, name: str, record: Any, *, compact: bool = False) -> None:
        """Write a record as JSON at a path relative to the run; `compact` where there is much of it."""
        write_atomically(self.root / name, serialization.dumps(record, compact=compact))

    def read(self, name: str, cls: type[T]) -> T:
        """Read a record. Raises StoreError when it is absent or damaged."""
        try:
            data = (self.root / name).read_bytes()
        except OSError as error:
            raise StoreError(f"{name} of {self.root} cannot be read: {error.strerror or error}") from error
        return serialization.loads(data, cls)

    def folder(self, submission_id: str) -> Path:
        """Folder of a submission's records."""
        return self.root / "submissions" / submission_id

    def submissions(self) -> tuple[Submission, ...]:
        """All submissions of the run, in the order of reports."""
        return self.read("intake.json", IntakeRecord).submissions

    def save_result(
        self, submission_id: str, notebook: Notebook, execution: Execution, evidence: Evidence, done: Done
    ) -> None:
        """Store what a run of one submission brought; the mark that it is complete comes last."""
        base = f"submissions/{submission_id}"
        self.forget(submission_id)
        self.write(f"{base}/notebook.json", notebook)
        self.write(f"{base}/execution.json", execution)
        self.write(f"{base}/evidence.json", evidence, compact=True)
        self.write(f"{base}/done.json", done)

    def forget(self, submission_id: str) -> None:
        """Take away the mark that a submission is complete."""
        with contextlib.suppress(FileNotFoundError):
            (self.folder(submission_id) / "done.json").unlink()

    def done(self, submission_id: str) -> Done | None:
        """Read the mark of a complete submission; None when it was not run or its mark is damaged."""
        try:
            return self.read(f"submissions/{submission_id}/done.json", Done)
        except StoreError:
            return None

    def finished(self, submissions: Iterable[Submission]) -> bool:
        """Tell whether all that can be run has been run, and nothing failed for a fault of ours."""
        marks = (self.done(one.id) for one in submissions if one.problem is None and one.path)
        return all(done is not None and not done.fault for done in marks)

    # ------------------------------------------------------------ overrides

    def overrides(self, submission_id: str) -> dict[str, tuple[int, str]]:
        """Points settled by hand for a submission: criterion -> (points, reason); the last line for a criterion wins."""
        return self.all_overrides().get(submission_id, {})

    def all_overrides(self) -> dict[str, dict[str, tuple[int, str]]]:
        """Points settled by hand, by submission; the ledger is read once."""
        found: dict[str, dict[str, tuple[int, str]]] = {}
        for entry in self._ledger():
            settled = found.setdefault(str(entry.get("submission")), {})
            settled[str(entry["criterion"])] = (int(entry["points"]), str(entry["reason"]))
        return found

    def override(self, submission_id: str, criterion: str, points: int, reason: str) -> None:
        """Settle the points of one criterion by hand. The ledger only grows."""
        entry = {"submission": submission_id, "criterion": criterion, "points": points, "reason": reason}
        lines = [json.dumps(e, ensure_ascii=False) for e in [*self._ledger(), entry]]
        write_atomically(self.root / "overrides.jsonl", "\n".join(lines) + "\n")

    def _ledger(self) -> Iterator[dict[str, Any]]:
        path = self.root / "overrides.jsonl"
        if not path.is_file():
            return
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise StoreError(f"overrides.jsonl, line {number}, is not JSON: {error}") from error


def load_context(info: RunInfo, secret: bytes) -> RunContext:
    """Load assignment and bundle of a run. Raises BundleError or UsageError when they are not there."""
    bundle = load_bundle(Path(info.bundle_path) if info.bundle_path else None)
    return RunContext.create(load_assignment(info.assignment), bundle, secret)
