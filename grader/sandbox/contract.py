"""What every sandbox promises: limits, what a box holds, and the errors its methods may raise.

Trusted: records only, built by the grader's own process. Two clocks run for every submission: CPU time is the limit, wall time
is a far higher net that only catches programs which sleep, so that a loaded machine never fails a student.

Errors a caller of a session meets:
```
SandboxError               the box could not be built or broke: ours, never the student's   (outcome SANDBOX_FAILED)
└── MachineFault           the machine had too little memory for a submission, which may be run again
KernelGone                 the submission's kernel has ended; `.outcome` says why            (the student's)
EvidenceError
├── EvidenceTooLarge       one answer was larger than `Limits.message_bytes`; the kernel may still be asked other things
├── QuestionTimedOut       one question used up its time; the kernel was interrupted and may be asked other things
├── QuestionIdle           one question did not compute for `Limits.idle_seconds`; after the third sleeper the session ends (IDLE)
└── QuestionCpuStarved     one question was ready to compute, and waited for the machine nearly all the time: the machine's fault
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from grader.errors import EvidenceError, GraderError, SandboxError
from grader.records import Outcome, Usage

__all__ = [
    "BOX",
    "MODES",
    "BoxSpec",
    "EvidenceTooLarge",
    "KernelGone",
    "Limits",
    "MachineFault",
    "Outcome",
    "QuestionCpuStarved",
    "QuestionIdle",
    "QuestionTimedOut",
    "Usage",
]

BOX = "/box"
"""The work folder as the submission sees it, in the modes that isolate."""

MODES = ("warm", "cold", "none")
"""`warm`: forked from a zygote into a bubblewrap box; `cold`: a fresh interpreter in such a box; `none`: a plain subprocess."""

MIB = 1 << 20
_LEAST_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """What one submission may use, all its processes together."""

    cpu_seconds: float = 900.0
    """CPU seconds (user and system) for all cells, however often the notebook is run; as many again for all questions together."""
    wall_seconds: float = 7200.0
    """Wall seconds for all runs together: a net for programs that do little, far above `cpu_seconds`."""
    idle_seconds: float = 120.0
    """Wall seconds a cell or question may go on without computing; after one that did, the next ones get a twelfth of it."""
    memory_bytes: int = 6144 * MIB
    """Bytes of memory, without files (which live in memory too, and are bounded by `disk_bytes`)."""
    processes: int = 256
    """Processes and threads alive at the same time."""
    disk_bytes: int = 2048 * MIB
    """Bytes of files in the work folder, `/tmp` and `/dev/shm` together."""
    files: int = 20_000
    """Files and folders there."""
    output_bytes: int = 16 * MIB
    """Bytes of all messages that cells print, display or return, and the largest single one."""
    output_messages: int = 50_000
    """Number of such messages."""
    message_bytes: int = 64 * MIB
    """Bytes of one answer to a question, its buffers included."""

    def __post_init__(self) -> None:
        """Refuse limits that cannot be meant: ValueError."""
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"limit {name} must be positive, not {getattr(self, name)!r}")
        if self.wall_seconds < self.cpu_seconds:
            raise ValueError("wall_seconds is a net above cpu_seconds and cannot be smaller")

    def after(self, spent: Usage) -> Limits | None:
        """What a submission that has `spent` so much may still use in a further run; None when a tenth of its time is not left."""
        cpu, wall = self.cpu_seconds - spent.cpu_seconds, self.wall_seconds - spent.wall_seconds
        if min(cpu / self.cpu_seconds, wall / self.wall_seconds) < _LEAST_SHARE:
            return None
        return replace(self, cpu_seconds=min(cpu, wall), wall_seconds=wall)


@dataclass(frozen=True, slots=True)
class BoxSpec:
    """What one submission finds in its box."""

    files: Mapping[str, Path | bytes] = field(default_factory=dict)
    """Path relative to the work folder -> a host file or folder to copy there, or its bytes. The copies are writable."""
    binds: Mapping[str, Path] = field(default_factory=dict)
    """Path relative to the work folder -> a host file or folder shown there read-only (the model); mode `none` copies it."""
    seed: int | None = None
    """One fixed seed for random, numpy and torch at the start; None draws fresh ones for every kernel."""

    def __post_init__(self) -> None:
        """Refuse paths that leave the work folder: ValueError."""
        for name in (*self.files, *self.binds):
            parts = name.replace("\\", "/").split("/")
            if not name or "\0" in name or any(part in ("", ".", "..") for part in parts):
                raise ValueError(f"{name!r} is not a relative path inside the work folder")


class MachineFault(SandboxError):  # noqa: N818 - news of the machine
    """The machine had too little memory for a submission."""


class KernelGone(GraderError):  # noqa: N818 - it is news, not an error of ours
    """The submission's kernel has ended; `outcome` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.sentence)
        self.outcome = outcome


class EvidenceTooLarge(EvidenceError):  # noqa: N818
    """One answer was larger than it may be."""


class QuestionTimedOut(EvidenceError):  # noqa: N818
    """One question used up its CPU time."""


class QuestionIdle(EvidenceError):  # noqa: N818
    """One question did not compute, and no answer came."""


class QuestionCpuStarved(EvidenceError):  # noqa: N818
    """One question was at work and got too little CPU time; its text is for a person who looks."""
