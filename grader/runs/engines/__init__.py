"""Engines: where submissions run. This machine is the default; clusters are imported when they are asked for. Trusted.

An engine decides where submissions run. It never records results: the coordinator does that, alone.
"""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from grader.errors import UsageError
from grader.grading.context import RunContext
from grader.grading.pipeline import Grader
from grader.records import Submission, SubmissionRun
from grader.runs.directory import Again, RunInfo
from grader.sandbox.contract import Limits

__all__ = ["Engine", "Job", "LocalEngine", "OnStage", "Session", "WorkerLostError", "choose_engine"]

FORMS = "local[:N], dask:ADDRESS or slurm:PROFILE.yaml"
_EXTRA = "engines for clusters are an extra: pip install 'dat450-grader[cluster]'"
_STOP_SECONDS = 10.0
"""How long submissions may take to end their boxes; closing the grader then ends what is left."""

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


class LocalEngine:
    """`slots` submissions side by side in this process, each in a box of its own."""

    def __init__(self, slots: int) -> None:
        """Take the number of submissions side by side; at least one."""
        self.slots = max(1, slots)
        self.name = f"this machine, {self.slots} side by side" if self.slots > 1 else "this machine, one by one"

    @contextlib.contextmanager
    def open(self, info: RunInfo, context: RunContext, on_stage: OnStage) -> Iterator[Session]:
        """Open the sandbox and an event loop; what still runs at the end is stopped, and its box ended."""
        with Grader(context, sandbox=info.sandbox) as grader, _background_loop() as loop:

            def submit(job: Job) -> cf.Future[SubmissionRun]:
                progress = functools.partial(on_stage, job.submission.id)
                draw = job.again.draw if job.again is not None else 0
                run = grader.run(job.submission, job.data, job.companions, progress, limits=job.limits, draw=draw)
                return asyncio.run_coroutine_threadsafe(run, loop)

            yield Session(submit, self.slots)


@contextlib.contextmanager
def _background_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread of its own, so that the main thread keeps Ctrl-C; at the end its tasks are cancelled."""
    started: cf.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = cf.Future()

    async def until_stopped() -> None:
        stop = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(until_stopped()), name="submissions", daemon=True)
    thread.start()
    loop, stop = started.result()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(_STOP_SECONDS)


def choose_engine(text: str, *, slots: int, tls: Path | None = None, insecure_tcp: bool = False) -> Engine:
    """Make the engine that `--executor` names.

    `slots`: submissions side by side on this machine when the text says none; `tls`: folder with `cert.pem` and `key.pem`
    for an address; `insecure_tcp`: allow an address without encryption that is not this machine's.
    Raises UsageError, saying what to write or to install.
    """
    kind, _, rest = text.partition(":")
    if kind == "local":
        if rest and not (rest.isdecimal() and int(rest) > 0):
            raise UsageError(f"--executor {text}: N of local:N is a whole number above 0")
        return LocalEngine(int(rest) if rest else slots)
    if kind not in ("dask", "slurm") or not rest:
        raise UsageError(f"--executor {text} is none of {FORMS}")
    try:
        module = import_module(f"grader.runs.engines.{kind}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("grader"):
            raise
        raise UsageError(f"{_EXTRA} ({error.name} is not installed)") from error
    engine: Engine = (
        module.DaskEngine(rest, tls=tls, insecure_tcp=insecure_tcp)
        if kind == "dask"
        else module.SlurmEngine(Path(rest))
    )
    return engine
