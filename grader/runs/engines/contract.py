"""What the batch asks of an engine: somewhere to run submissions, several side by side. Trusted.

An engine decides where submissions run. It never records results: the coordinator does that, alone.
"""

from __future__ import annotations

import concurrent.futures as cf
import functools
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from grader.grading.context import RunContext
from grader.grading.pipeline import Grader
from grader.records import Submission, SubmissionRun
from grader.runs.directory import Again, RunInfo
from grader.sandbox.contract import Limits

__all__ = ["Engine", "Job", "OnStage", "Session", "WorkerLostError"]

OnStage = Callable[[str, str], None]
"""Called with a submission's id and the stage it has reached, from whatever thread; must not raise."""


class WorkerLostError(Exception):
    """The worker ended, or was told to end, while it ran a submission, which may be run again."""

    def __init__(self, text: str, *, repeatedly: bool = False) -> None:
        """`repeatedly`: the engine has run it on several workers already, and lost all of them."""
        super().__init__(text)
        self.repeatedly = repeatedly


@dataclass(frozen=True, slots=True)
class Job:
    """One submission to run."""

    submission: Submission
    """Whose it is."""
    limits: Limits
    """What it may use."""
    data: bytes = b""
    """The notebook's bytes; read when the job is sent."""
    companions: dict[str, bytes] = field(default_factory=dict)
    """Further files by base name."""
    parts: dict[str, str] = field(default_factory=dict)
    """Digests of what its evidence depends on, by name (see `grader.runs.plan.content_parts`)."""
    again: Again | None = None
    """Set where a person asked for it."""

    def run_in(self, grader: Grader, on_stage: OnStage) -> Coroutine[Any, Any, SubmissionRun]:
        """Run it where submissions are run."""
        progress = functools.partial(on_stage, self.submission.id)
        draw = self.again.draw if self.again is not None else 0
        return grader.run(self.submission, self.data, self.companions, progress, limits=self.limits, draw=draw)


@dataclass(frozen=True, slots=True)
class Session:
    """Slots that are ready to run submissions."""

    submit: Callable[[Job], cf.Future[Any]]
    """Start a submission. Raises EngineError when nothing can be run any more."""
    window: int
    """How many submissions to keep in flight: one per slot, and on a cluster a few to hide the way there and back."""
    read: Callable[[cf.Future[Any]], SubmissionRun] = lambda future: future.result()
    """The result of a finished future. Raises WorkerLostError when it may be run again, EngineError when nothing can be run."""
    expect: Callable[[int], None] = lambda _left: None
    """Called with the number of submissions that are not finished yet, so that workers nobody needs can go."""


class Engine(Protocol):
    """Where submissions are run."""

    name: str
    """A few words for people, to be read after "on": `this machine, 2 side by side`."""

    def open(self, info: RunInfo, context: RunContext, on_stage: OnStage) -> AbstractContextManager[Session]:
        """Bring workers up, make sure that they are fit for this run, and end or release them at the end.

        Raises EngineError when no worker can be had, or one is unfit; SandboxError when no box can be built here.
        """
        ...
