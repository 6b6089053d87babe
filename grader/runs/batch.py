"""Many submissions: an engine runs them, the coordinator alone records what they bring.

A bounded number is in flight at a time. What is finished stays finished: a submission is not run again while
what its evidence depends on has not changed.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import functools
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from grader.errors import EngineError
from grader.grading.context import RunContext
from grader.records import Submission, SubmissionRun
from grader.runs.directory import SETTABLE, Done, RunDirectory
from grader.runs.engines import Engine, Job, Session, WorkerLostError
from grader.runs.plan import load_job

__all__ = ["Event", "run_batch", "slots_for"]

_GIB = 1 << 30
_LOSSES = 3


@dataclass(frozen=True, slots=True)
class Event:
    """Something a progress display can tell."""

    kind: str
    """`started`, `stage` (it has reached `detail`), `finished` or `fault` (ours: it will be run again next time)."""
    submission: Submission
    """Which submission."""
    seconds: float = 0.0
    """Wall seconds it took, when finished."""
    detail: str = ""
    """The stage it has reached, or why it is a fault."""


OnEvent = Callable[[Event], None]


def slots_for(cores: int, memory_bytes: int, model_bytes: int = 0) -> int:
    """How many submissions to run side by side: one per core, as far as the memory that is available goes.

    A kernel that trains takes 0.65 GiB (docs/benchmarks.md) and is given 1 GiB. On top come twelve times the model: weights,
    gradients and Adam's two moments of the one that is trained, and, of three methods, what the notebook keeps, the witness's
    copies, and room for one that is made anew. Everything else has 1 GiB.
    """
    return max(1, min(cores, (memory_bytes - _GIB) // (_GIB + 12 * model_bytes)))


def run_batch(
    run: RunDirectory,
    context: RunContext,
    jobs: Sequence[Job],
    engine: Engine,
    on_event: OnEvent = lambda _event: None,
    on_stop: Callable[[], None] = lambda: None,
) -> None:
    """Run jobs on an engine and record each as it completes.

    A submission that loses its worker is run again; one that loses it three times, the third time running alone, is recorded as
    our fault, never as a zero. `on_event` is called for every event; for stages from other threads than this one. Ctrl-C once calls
    `on_stop`, lets running submissions finish (if any) and then raises KeyboardInterrupt, twice stops at once; what is recorded
    stays. Raises EngineError or SandboxError when nothing can be run.
    """
    batch = _BatchRun(run, context, jobs, on_event, on_stop)
    with batch.gentle_stop():
        with engine.open(run.info(), context, batch.on_stage) as session:
            batch.run_all(session)
        if batch.stopping:
            raise KeyboardInterrupt


class _BatchRun:
    """Keeps a session busy until all jobs are recorded, or a stop is requested."""

    stopping = False
    """True after the first Ctrl-C: nothing new is begun."""
    running = False
    """True while submissions run; else there is nothing to finish, and the first Ctrl-C is the last."""

    def __init__(
        self,
        run: RunDirectory,
        context: RunContext,
        jobs: Sequence[Job],
        on_event: OnEvent,
        on_stop: Callable[[], None],
    ) -> None:
        self.run, self.context, self.on_event, self.on_stop = run, context, on_event, on_stop
        self.known = {job.submission.id: job.submission for job in jobs}
        self.waiting = deque(jobs)
        self.suspects = deque[Job]()
        """Jobs that lost their worker twice, perhaps because of another one that ran beside them: each is run alone."""
        self.losses = Counter[str]()
        self.live: dict[cf.Future[Any], tuple[Job, float]] = {}

    @contextlib.contextmanager
    def gentle_stop(self) -> Iterator[None]:
        """Turn the first Ctrl-C into a request; the second is the usual KeyboardInterrupt."""
        before = signal.getsignal(signal.SIGINT)

        def request(_signum: int, _frame: Any) -> None:
            self.stopping = True
            signal.signal(signal.SIGINT, before)
            if not self.running:
                raise KeyboardInterrupt
            self.on_stop()

        signal.signal(signal.SIGINT, request)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def on_stage(self, submission_id: str, stage: str) -> None:
        """Pass on which stage a submission has reached."""
        with contextlib.suppress(Exception):  # what is only shown is never a reason to fail
            self.on_event(Event("stage", self.known[submission_id], detail=stage))

    def run_all(self, session: Session) -> None:
        """Start jobs, and record those that end; every future is dropped when it was read (Dask would keep its result)."""
        while True:
            while (job := self._next(session.window)) is not None:
                self.running = True
                self.on_event(Event("started", job.submission))
                self.live[session.submit(load_job(self.run, job))] = job, time.monotonic()
            if not self.live:
                self.running = False
                return
            done, _ = cf.wait(self.live, return_when=cf.FIRST_COMPLETED)
            while done:
                future = done.pop()
                job, began = self.live.pop(future)
                session.expect(len(self.waiting) + len(self.suspects) + len(self.live))
                self._finish(job, functools.partial(session.read, future), began)
                del future

    def _next(self, window: int) -> Job | None:
        if self.stopping:
            return None
        if self.waiting:
            return self.waiting.popleft() if len(self.live) < window else None
        return self.suspects.popleft() if self.suspects and not self.live else None

    def _finish(self, job: Job, read: Callable[[], SubmissionRun], began: float) -> None:
        """Record what a submission brought, or why nothing came of it; one that has lost its worker is run again."""
        name = job.submission.id
        try:
            result = read()
        except EngineError:
            raise
        except (WorkerLostError, cf.CancelledError) as error:
            self.losses[name] += 2 if isinstance(error, WorkerLostError) and error.repeatedly else 1
            if self.losses[name] < _LOSSES:
                (self.waiting if self.losses[name] < _LOSSES - 1 else self.suspects).append(job)
                return
            why = f": {error}" if str(error) else ""
            lost = f"the worker was lost {_LOSSES} times while it ran this submission{why}"
            result = self.context.unseen(job.submission, lost)
        except Exception as error:  # a bug of ours must not stop the batch
            result = self.context.unseen(job.submission, f"{type(error).__name__}: {error}")
        seconds = time.monotonic() - began
        execution, fault = result.execution, result.fault
        done = Done(
            seconds=round(seconds, 3),
            cpu_seconds=round(execution.usage.cpu_seconds, 3),
            fault=fault,
            parts=job.parts,
            outcome=execution.outcome.value,
            limits={name: getattr(job.limits, name) for name in SETTABLE},
            again=job.again,
        )
        self.run.save_result(name, result, done)
        self.on_event(Event("fault" if fault else "finished", job.submission, seconds, fault))
