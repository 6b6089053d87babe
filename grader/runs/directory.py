"""The run directory: every record is a file, written whole or not at all, by one process at a time.

```
RUN/
  run.json               how this run was made: assignment, bundle, grader, isolation (RunInfo)
  secret                 what questions and held-out reviews are drawn from; mode 0600, keep it from students
  intake/ID/...          the files as handed in, byte for byte
  sources/               copies of the sources from which something counts (`grader.intake.sources`)
  roster.csv groups.csv  the class list and the list of groups
  intake.json            what intake found
  names.json             with --pseudonyms, and only here: whose the submissions are; mode 0600
  submissions/ID/        notebook.json execution.json evidence.json done.json report.json report.html annotated.ipynb instructor.html
    results/N/           the same of each result of a submission that `grader regrade` ran again
  overrides.jsonl        points settled by hand; survives `rejudge` and always wins
  class.html scores.csv needs_review.csv feedback.zip feedback-manifest.csv
  gradebook.csv gradebook-preview.csv gradebook.json   to import into Canvas, what that changes, what cells held before
  canvas.jsonl forgotten.jsonl   what was sent by Canvas's API; that somebody was taken out of the run
  stamp                  digest of all of this and of what it was made from (`grader.runs.stamp`)
  .lock .writer          held by the process that writes here, and its name
```
A submission counts as run when its `done.json` is there and names exactly what its evidence would depend on today.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import os
import secrets
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import filelock

from grader import serialization
from grader.assignments import load_assignment
from grader.bundles.bundle import load_bundle
from grader.errors import StoreError, UsageError
from grader.grading.context import RunContext
from grader.grading.settings import Settings
from grader.records import Notice, Report, Submission, SubmissionRun
from grader.rubric.assignment import Assignment

__all__ = [
    "SETTABLE",
    "Again",
    "Done",
    "IntakeRecord",
    "Override",
    "RunDirectory",
    "RunInfo",
    "account",
    "assignment_of",
    "load_context",
    "now",
    "write_atomically",
    "write_derived",
]

T = TypeVar("T")
FORMAT = 1
SETTABLE = ("cpu_seconds", "wall_seconds", "memory_bytes")
"""The limits that can be set from outside."""
_OVERRIDES = "overrides.jsonl"
_BEFORE_A_RUN = ("secret", ".lock", ".writer")
"""Files that a start which was killed may have left where no run is."""


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
    scale: bool = False
    """Whether scores are converted where Canvas's points differ from the rubric's."""
    feedback: str = "notebook"
    """What goes back to students by feedback.zip: the annotated `notebook`, or the page (`html`)."""
    no_notebook_is_zero: bool = False
    """Whether a person has decided that what is no notebook gets 0 points; it has no score before."""
    pseudonyms: bool = False
    """Whether everything but exports shows pseudonyms (see `grader.runs.pseudonyms`)."""
    settings: Settings = field(default_factory=Settings)
    """What the course has set."""
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
class Override:
    """A line of the ledger of points settled by hand."""

    submission: str
    """Id of the submission."""
    criterion: str
    """Id of the criterion."""
    points: int | float | None
    """Points it gets; None takes back what was set before."""
    reason: str
    """Why; the student reads it."""
    by: str = ""
    """Who settled it: the account of the person at the keyboard."""
    at: str = ""
    """When, in UTC (ISO 8601)."""
    file: str | None = None
    """Digest of the file that was judged then; None in ledgers that do not say."""
    notebook: bool = True
    """Whether that was a notebook; else it counts for none that is handed in later."""


@dataclass(frozen=True, slots=True)
class Again:
    """That a person had one submission run again, with limits or a seed of its own (see `grader.runs.results`)."""

    draw: int = 0
    """Which draw of questions and random numbers: 0 is that of the class."""
    reason: str = ""
    """Why; the student reads it."""
    by: str = ""
    """Whose account asked for it."""
    at: str = ""
    """When, in UTC (ISO 8601)."""


@dataclass(frozen=True, slots=True)
class Done:
    """The mark that a submission's evidence is complete."""

    parts: dict[str, str]
    """Digests of what its evidence depends on, by name (see `grader.runs.plan.content_parts`)."""
    seconds: float
    """Wall seconds it took."""
    cpu_seconds: float
    """CPU seconds of the box."""
    fault: str = ""
    """Why the grader or its machine failed, when it did; such a submission is run again next time."""
    outcome: str = ""
    """How the run ended (see `grader.records.Outcome`)."""
    limits: dict[str, int | float] = field(default_factory=dict)
    """What it might use, of `SETTABLE`: when a run that met its limit is asked for with more, it is run again."""
    again: Again | None = None
    """Set when a person had it run again; while the files are the same, later runs are made like this one."""


def load_context(info: RunInfo, secret: bytes) -> RunContext:
    """Load assignment and bundle of a run. Raises BundleError or UsageError when they are not there."""
    bundle = load_bundle(Path(info.bundle_path) if info.bundle_path else None)
    return RunContext.create(load_assignment(info.assignment), bundle, secret, info.settings)


def assignment_of(info: RunInfo) -> Assignment:
    """The assignment of a run with the points that the course has set."""
    return info.settings.rubric(load_assignment(info.assignment))


def account() -> str:
    """The account of the person at the keyboard, as ledgers keep it; empty for one without a name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def now() -> str:
    """The time in UTC (ISO 8601, seconds), as ledgers keep it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write_derived(path: Path, data: bytes | str) -> None:
    """Write what can be made again from records, whole or not at all: nothing when it is there already, and no wait for the disk.

    Raises StoreError when the file system refuses, saying what to do.
    """
    payload = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    with contextlib.suppress(OSError):
        if path.stat().st_size == len(payload) and path.read_bytes() == payload:
            return
    write_atomically(path, payload, durable=False)


def write_atomically(path: Path, data: bytes | str, mode: int = 0o666, *, durable: bool = True) -> None:
    """Write a file so that readers see the old or the new content, never half of it: temp file, fsync, rename.

    `mode` is what the umask leaves of it. Without `durable` there is no fsync: a power cut may then take the file.
    Raises StoreError when the file system refuses, saying what to do.
    """
    payload = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(payload)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:  # also a Ctrl-C in the middle
        with contextlib.suppress(OSError):
            part.unlink()
        if not isinstance(error, OSError):
            raise
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write {path.name} in {path.parent}: {error.strerror or error}; make room or fix the permissions, then run "
        "the same command again: what is finished stays finished"
    )


class RunDirectory:
    """Reads and writes the files of one run."""

    def __init__(self, root: Path) -> None:
        """Take a folder as it is; nothing is created before something is written."""
        self.root = root
        self._lock = filelock.FileLock(root / ".lock")

    # ------------------------------------------------------------ the run itself

    def exists(self) -> bool:
        """Tell whether the folder holds a run."""
        return (self.root / "run.json").is_file()

    @contextlib.contextmanager
    def lock(self, wait_seconds: float = 0.0) -> Iterator[None]:
        """Keep the run for this process, which may enter several times; make its folder when it is not there.

        The lock is the kernel's: it goes with the process that holds it, however that ends. After one that was killed, its
        temporary files are removed. Where files cannot be locked (some network file systems) nobody is kept out.
        Raises UsageError while another process writes here, or when the folder holds something else than a run; StoreError when
        the file system refuses.
        """
        writer = self.root / ".writer"
        try:
            there = self.root.iterdir() if self.root.is_dir() and not self.exists() else ()
            if any(path.name not in _BEFORE_A_RUN and path.suffix != ".part" for path in there):
                raise UsageError(f"{self.root} is not empty and holds no run; choose another folder with --out")
            self.root.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(NotImplementedError):
                self._lock.acquire(timeout=wait_seconds)
        except filelock.Timeout:
            holder = ""
            with contextlib.suppress(OSError):
                holder = writer.read_text(encoding="utf-8").strip()
            raise UsageError(
                f"another grader writes in {self.root} ({holder or 'it has just begun'}); wait until it has ended, or"
                " choose another folder with --out"
            ) from None
        except OSError as error:
            raise _refused(self.root / ".lock", error) from error
        outermost = self._lock.lock_counter == 1
        try:
            if outermost:
                if writer.exists():  # who wrote last was killed; what was handed in is not looked through
                    for part in (*self.root.glob(".*.part"), *self.root.glob("submissions/*/.*.part")):
                        part.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # a full disk: whatever has to be written says so
                    writer.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
            yield
        finally:
            if outermost:
                writer.unlink(missing_ok=True)
            self._lock.release()

    def start(self, info: RunInfo, secret: bytes | None = None) -> RunInfo:
        """Begin a run, or continue the one that is there; a caller that goes on to write keeps the `lock` meanwhile.

        Raises UsageError when the folder holds something else, or a run of another assignment, bundle or secret.
        """
        with self.lock():
            if self.exists():
                self.refuse_another(info, secret)
            else:
                write_atomically(self.root / "secret", (secret or secrets.token_bytes(32)).hex() + "\n", 0o600)
            write_derived(self.root / "run.json", serialization.dumps(info))
        return info

    def configure(self, settings: Settings) -> None:
        """Set what the course sets from now on. Raises UsageError for what there is not, or while another process writes."""
        with self.lock():
            info = self.info()
            info = replace(info, settings=settings.after(info.settings))
            load_context(info, self.secret())
            write_derived(self.root / "run.json", serialization.dumps(info))

    def refuse_as_source(self, sources: Iterable[Path]) -> None:
        """Raise UsageError when one of the sources of submissions lies in the run's own folder, or is it."""
        for source in sources:
            if source.resolve().is_relative_to(self.root.resolve()):
                raise UsageError(f"{source} lies in the folder of the run, {self.root}: give what students handed in")

    def refuse_another(self, info: RunInfo, secret: bytes | None = None) -> None:
        """Raise UsageError when the folder holds a run of another assignment, bundle or secret."""
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
        try:
            return serialization.loads(data, cls)
        except StoreError as error:
            raise StoreError(f"{name} of {self.root} is damaged: {error}") from error

    def folder(self, submission_id: str) -> Path:
        """Folder of a submission's records."""
        return self.root / "submissions" / submission_id

    def submissions(self) -> tuple[Submission, ...]:
        """All submissions of the run, in the order of reports."""
        return self.read("intake.json", IntakeRecord).submissions

    def save_result(self, submission_id: str, result: SubmissionRun, done: Done) -> None:
        """Store what a run of one submission brought; the mark that it is complete comes last."""
        base = f"submissions/{submission_id}"
        self.forget(submission_id)
        self.write(f"{base}/notebook.json", result.notebook)
        self.write(f"{base}/execution.json", result.execution)
        self.write(f"{base}/evidence.json", result.evidence, compact=True)
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

    def report(self, submission_id: str) -> Report | None:
        """The report of a submission as it was published last; None when there is none that can be read."""
        try:
            return self.read(f"submissions/{submission_id}/report.json", Report)
        except StoreError:
            return None

    def reports(self) -> tuple[Report, ...]:
        """All reports as they were published last. Raises StoreError when one is absent or damaged."""
        return tuple(self.read(f"submissions/{one.id}/report.json", Report) for one in self.submissions())

    def finished(self, submissions: Iterable[Submission]) -> bool:
        """Tell whether all that can be run has been run, and nothing failed for a fault of ours."""
        marks = (self.done(one.id) for one in submissions if one.problem is None and one.path)
        return all(done is not None and not done.fault for done in marks)

    # ------------------------------------------------------------ overrides

    def overrides(self) -> dict[str, dict[str, Override]]:
        """Points settled by hand: submission id -> criterion -> the last line for it, where that gives points."""
        found: dict[str, dict[str, Override]] = {}
        for entry in self.ledger(_OVERRIDES, Override):
            settled = found.setdefault(entry.submission, {})
            settled.pop(entry.criterion, None)
            if entry.points is not None:
                settled[entry.criterion] = entry
        return found

    def override(self, entries: Iterable[Override]) -> None:
        """Settle points by hand, all of them or none. The ledger only grows. Raises UsageError while another process writes."""
        with self.lock():
            self.write_ledger(_OVERRIDES, [*self.ledger(_OVERRIDES, Override), *entries])

    def ledger(self, name: str, cls: type[T], *, log: bool = False) -> list[T]:
        """Read a file of one record per line; empty when it is not there. A last line that a kill cut off was never written.

        Raises StoreError, which names the line that is damaged; in a `log`, on which nothing depends, such lines are passed over.
        """
        path = self.root / name
        *whole, cut = path.read_bytes().split(b"\n") if path.is_file() else [b""]
        entries: list[T] = []
        for number, line in enumerate([*whole, cut], 1):
            try:
                entries += [serialization.loads(line, cls)] if line.strip() else []
            except StoreError as error:
                if not log and number <= len(whole):
                    raise StoreError(f"{name} of {self.root}, line {number}: {error}") from error
        return entries

    def write_ledger(self, name: str, entries: Iterable[Any]) -> None:
        """Write a file of one record per line, whole or not at all."""
        write_atomically(self.root / name, "".join(serialization.dumps(entry, compact=True) for entry in entries))
