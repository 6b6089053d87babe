"""The frozen records that pass between the stages; every one of them is a file, or part of one, in a run directory.

Trusted: built by the grader's own process only. What a record holds of a student's (names, sources, tracebacks,
evidence) is untrusted text or plain data, and is escaped where it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Literal

from msgspec import Meta

__all__ = [
    "ARRAY",
    "Adaptation",
    "Attempt",
    "Cell",
    "CellError",
    "CellRun",
    "CriterionResult",
    "Evidence",
    "Execution",
    "Notebook",
    "Notice",
    "Observation",
    "Outcome",
    "Reading",
    "Report",
    "Score",
    "Shown",
    "Status",
    "Submission",
    "SubmissionRun",
    "Usage",
    "Verdict",
    "whole",
]


ARRAY = "__ndarray__"
"""Key of an object that stands for an array where records are stored."""
Count = Annotated[int, Meta(extra_json_schema={"minimum": 0})]
"""A number of things. What is measured is described for readers of reports, and never refused when it is read back."""
Points = Annotated[int | float, Meta(extra_json_schema={"minimum": 0})]
"""Points earned: whole ones as integers, half ones, which only a person gives, as fractions."""
Shown = Literal["all", "titles", "nothing"]
"""What students see of a criterion: all, no more than title and points, or the points only."""
Seconds = Annotated[float, Meta(extra_json_schema={"minimum": 0})]
"""Seconds of wall or CPU time."""


def whole(points: int | float) -> int | float:
    """Points as they are written: `7` for 7.0, `7.5` as it is."""
    return int(points) if points == int(points) else points


class _Word(str, Enum):  # noqa: UP042 - Python 3.10, in students' kernels, has no StrEnum
    """A word from a closed set, which is written as it is."""

    __str__ = str.__str__


class Status(_Word):
    """What a check found. Only FAILED and SKIPPED cost points; ERROR is never the student's fault."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    ERROR = "error"


class Attempt(_Word):
    """What became of one attempt to obtain an observation inside the box."""

    VALUE = "value"
    RAISED = "raised"
    MISSING = "missing"
    NOT_ASKED = "not_asked"
    FORGED = "forged"
    FAULT = "fault"


class Outcome(_Word):
    """How a run ended. SANDBOX_FAILED is ours; all others are the submission's."""

    COMPLETED = "completed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    OUTPUT_LIMIT = "output_limit"
    DISK_LIMIT = "disk_limit"
    PROCESS_LIMIT = "process_limit"
    KERNEL_DIED = "kernel_died"
    IDLE = "asleep"  # as in evidence that was stored under the first name
    SANDBOX_FAILED = "sandbox_failed"

    @property
    def sentence(self) -> str:
        """What a student or a teaching assistant reads."""
        return _SENTENCES[self]


_SENTENCES = {
    Outcome.COMPLETED: "The notebook ran to its end.",
    Outcome.TIMED_OUT: "The notebook used up its time, over all its runs together.",
    Outcome.OUT_OF_MEMORY: "The notebook asked for more memory than a submission may use, all its processes together.",
    Outcome.OUTPUT_LIMIT: "The notebook printed or displayed more than a report can hold.",
    Outcome.DISK_LIMIT: "The notebook wrote more bytes or more files than a submission may write.",
    Outcome.PROCESS_LIMIT: "The notebook started more processes or threads than a submission may have at once.",
    Outcome.KERNEL_DIED: "The kernel ended before the notebook did: an exit call, a crash in native code, or a signal to itself.",
    Outcome.IDLE: "The notebook's code slept: it used next to no CPU time and was interrupted, and after a third time ended.",
    Outcome.SANDBOX_FAILED: "The grader's own sandbox failed; this is not the student's fault and has to be run again.",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a reader of the report should know about a submission, without points attached."""

    kind: str
    """A stable word: `late`, `several-files`, `renamed`, `not-a-notebook`, `rerun`, ..."""
    text: str
    """One sentence for people."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One student's (or group's) hand-in, as intake found it. The bytes never change after intake."""

    id: str
    """Stable within a run and safe as a file name, e.g. `12345` (Canvas user id) or a slug of the file name."""
    student_ids: tuple[str, ...]
    """Canvas user ids this submission counts for; empty when none is known (single file, anonymous)."""
    display_name: str
    """Name to show to an instructor: roster name if known, else what the file name says."""
    file_name: str
    """Name of the judged file as the student called it."""
    path: str
    """Where the judged file lies, relative to the run directory; empty when nothing could be taken in."""
    sha256: Annotated[str, Meta(extra_json_schema={"pattern": "^([0-9a-f]{64})?$"})]
    """Digest of the judged file's bytes, in hex; empty when there is no file."""
    late: bool = False
    """True when the source marks it late."""
    anonymous_id: str | None = None
    """Canvas's anonymous id, for anonymously graded assignments."""
    attachment_id: str | None = None
    """Canvas's attachment id, needed to send a file back."""
    section: str | None = None
    """Course section from the roster."""
    companions: tuple[str, ...] = ()
    """Paths (relative to the run directory) of further files handed in: helper modules, images."""
    notices: tuple[Notice, ...] = ()
    """What intake had to decide or noticed."""
    problem: str | None = None
    """Why nothing can be graded (not a notebook, no file, a text entry); None when there is a file to judge."""


@dataclass(frozen=True, slots=True)
class Adaptation:
    """One change made so that a notebook runs in the box, always of something that is not graded."""

    cell: Count | None
    """Index of the cell in the submitted notebook, or None for the notebook as a whole."""
    rule: str
    """Stable id of the rule, e.g. `pip-install`, `colab-path`, `renamed-argument`."""
    before: str
    """The text that stood there, shortened."""
    after: str
    """The text that ran instead, shortened; empty when removed."""
    reason: str
    """One sentence: why this is not the student's fault."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One code cell. Cells that are not code are left out."""

    index: int
    """Index of the cell in the submitted notebook, counting all cells from 0."""
    source: str
    """Source as the student wrote it, and as it runs."""


@dataclass(frozen=True, slots=True)
class Notebook:
    """A submission ready to run: no tags, outputs, kernelspec, widgets or attachments of the student survive."""

    cells: tuple[Cell, ...]
    """The code cells in their order in the file."""
    cell_count: int
    """Number of cells of any kind in the file."""
    adaptations: tuple[Adaptation, ...] = ()
    """Everything that was changed, in order."""
    notices: tuple[Notice, ...] = ()
    """Repairs of the file format and other things worth telling."""


@dataclass(frozen=True, slots=True)
class CellError:
    """The exception a cell ended with."""

    name: str
    """Class name of the exception."""
    message: str
    """Its text, shortened."""
    traceback: str
    """Plain text, the student's own lines, shortened."""


@dataclass(frozen=True, slots=True)
class CellRun:
    """What happened to one cell."""

    index: int
    """Index of the cell in the submitted notebook."""
    status: Annotated[str, Meta(extra_json_schema={"enum": ["ok", "error", "killed", "not_run"]})]
    """`ok`, `error` (an exception), `killed` (the kernel died or was stopped in it) or `not_run`."""
    seconds: Seconds
    """Wall time of the cell."""
    cpu_seconds: Seconds
    """CPU time the box used meanwhile."""
    error: CellError | None = None
    """The exception, when status is `error`."""
    output: str = ""
    """Printed text, shortened; shown to people, never judged."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a submission has used so far."""

    cpu_seconds: Seconds = 0.0
    """CPU seconds of all its processes, ended ones included as well as the host can tell."""
    wall_seconds: Seconds = 0.0
    """Seconds since the kernel was started."""
    peak_bytes: Count = 0
    """Largest memory seen, files in memory included. From the control group where there is one, else sampled."""
    output_bytes: Count = 0
    """Bytes of messages received from its cells."""


@dataclass(frozen=True, slots=True)
class Execution:
    """How the run of a notebook went; written by the parent, never by the kernel."""

    outcome: Outcome
    """How it ended, from a closed set."""
    cells: tuple[CellRun, ...]
    """One entry per code cell."""
    usage: Usage
    """CPU, wall time, memory and output of the whole submission."""
    sandbox: str
    """How it was isolated: `warm`, `cold` or `none`."""
    versions: Mapping[str, str]
    """Versions of Python and of the libraries grading depends on."""
    bundle: str
    """Name and digest of the bundle it ran against."""
    notices: tuple[Notice, ...] = ()
    """Second runs, cells left out, and why."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one question brought to light. `value` is plain data that has passed the wire's limits; still a claim."""

    attempt: Attempt
    """Whether there is a value, the student's code raised, the asked-for name is missing, nothing was asked, or what came back is
    nothing that the grader's code in the box ever says."""
    value: Any = None
    """None, bool, int, float, str, list, dict or numpy array; nothing else."""
    error: str = ""
    """`ExceptionName: text`, when the student's code raised (the text where the question is public only) or the question failed."""
    renamed: str = ""
    """The stand-in's name, when the asked-for name was missing and its single plausible stand-in was used."""
    cpu_seconds: float = 0.0
    """CPU time of the question."""
    again: tuple[Observation, ...] = ()
    """What the same question brought to light when the submission was run again with other random seeds."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything a verdict is made from; with the assignment and the bundle it is enough to judge again."""

    seed: str
    """Hex seed the questions were drawn from. For the instructor's eyes only."""
    observations: Mapping[str, Observation]
    """Question id -> what was seen."""
    asked: Mapping[str, str] = field(default_factory=dict)
    """Question id -> digest of the question as it was asked; evidence of another question proves nothing."""


@dataclass(
    frozen=True, slots=True, repr=False
)  # asyncio.run calls repr() on what it returns: half a second of evidence
class SubmissionRun:
    """What running one submission brought; with the run's context it is enough to judge."""

    notebook: Notebook
    """The notebook as it ran."""
    execution: Execution
    """How it went."""
    evidence: Evidence
    """What was seen."""
    fault: str = ""
    """Why the grader or its machine failed, when it did."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check says about one submission."""

    status: Status
    """Passed, failed, skipped or error."""
    message: str = ""
    """What was seen: shapes, dtypes, numbers."""
    hint: str = ""
    """What to try."""
    because: str = ""
    """Id of the criterion that already cost points for the same root cause, when skipped."""
    notices: tuple[Notice, ...] = ()
    """Things worth telling that cost nothing, e.g. that a renamed function was found."""
    share: Annotated[float, Meta(extra_json_schema={"minimum": 0, "maximum": 1})] = 0.0
    """Part of the points that a failed criterion still earns, 0 to 1; rounded down to whole points."""
    again: bool = False
    """True when evidence of a further run with other random seeds would decide it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Where to read on: a page of a library's documentation, or a paper."""

    title: str
    """What is read there, in a few words."""
    url: str
    """Its address, `https://...`."""


@dataclass(frozen=True, slots=True)
class CriterionResult:
    """One line of the rubric for one submission."""

    id: str
    """Stable id of the criterion, e.g. `mean/value`."""
    title: str
    """The sentence the student reads."""
    points: Count
    """Points possible."""
    earned: Points | None
    """Points earned; None while it needs review."""
    verdict: Verdict
    """Status, message and hint."""
    override: str = ""
    """The instructor's reason, when the points were set by hand."""
    show: Shown = "all"
    """What a student sees of it: all, no more than title and points, or the points only."""
    cell: Count | None = None
    """Index of the cell whose work it is, counted from 0 with text cells; None where that cannot be told."""
    read: Reading | None = None
    """Where a student reads on who has not passed it; None where nothing is known."""


@dataclass(frozen=True, slots=True)
class Score:
    """The rubric filled in. A score that needs review has no total."""

    criteria: tuple[CriterionResult, ...]
    """One result per criterion, in the order of the rubric."""
    possible: Count
    """Sum of all points."""
    total: Points | None
    """Sum of earned points, or None when something needs review."""
    review: tuple[str, ...] = ()
    """Why a person has to look, in sentences; empty when none has to."""

    @property
    def earned(self) -> int | float:
        """Points certain so far: the sum over all criteria that do not need review."""
        return whole(sum(result.earned or 0 for result in self.criteria))


@dataclass(frozen=True, slots=True)
class Report:
    """All of one submission, ready for rendering; `for_student()` takes out what a student must not see."""

    assignment: str
    """Id of the assignment."""
    assignment_title: str
    """Title for people."""
    submission: Submission
    """Whose it is and how it came in."""
    execution: Execution | None
    """How the run went; None when nothing could be run."""
    adaptations: tuple[Adaptation, ...]
    """What was changed so that it runs in the box."""
    notices: tuple[Notice, ...]
    """Everything worth telling, from intake to judging."""
    score: Score
    """The rubric filled in."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Numbers worth showing, by name. `methods` holds those of each training: `accuracy` and `threshold` (0 to 1), `reviews` it was
    measured on, `trainable` parameters, optimizer `steps`, CPU `seconds`. A number that was not finite is null; keys may be added."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Heading of each group of criteria, by what stands before the `/` in their ids; the assignment's."""
    grader_version: str = ""
    """Version of the grader that judged."""
    note: str = ""
    """The course's word to all students."""
    language: str = "en"
    """Language (ISO 639-1) whose way to write numbers and dates pages have."""
    settings: tuple[str, ...] = ()
    """What the course has set otherwise than assignment and bundle, and the limits, in sentences."""
