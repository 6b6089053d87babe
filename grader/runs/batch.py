"""Many submissions: an engine runs them, the coordinator alone records what they bring.

A bounded number is in flight at a time. What is finished stays finished: a submission is not run again while
what its evidence depends on has not changed.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from grader.errors import EngineError
from grader.grading.context import RunContext
from grader.records import Submission, SubmissionRun
from grader.runs.directory import Done, RunDirectory
from grader.runs.engines.contract import Batch, Engine, Job, Session, WorkerLostError
from grader.runs.plan import load_job
from grader.sandbox.contract import Limits

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
    limits: Limits,
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
    known = {job.submission.id: job.submission for job in jobs}

    def on_stage(submission_id: str, stage: str) -> None:
        with contextlib.suppress(Exception):  # what is only shown is never a reason to fail
            on_event(Event("stage", known[submission_id], detail=stage))

    with _gentle_stop(on_stop) as stop:
        with engine.open(Batch(run.info(), context, limits), on_stage) as session:
            _BatchRun(run, limits, session, jobs, stop, on_event).run_all()
        if stop.requested:
            raise KeyboardInterrupt


class _Stop:
    """What Ctrl-C asks for."""

    requested = False
    """True after the first one: nothing new is begun."""
    running = False
    """True while submissions run; else there is nothing to finish, and the first Ctrl-C is the last."""


@contextlib.contextmanager
def _gentle_stop(on_stop: Callable[[], None]) -> Iterator[_Stop]:
    """Turn the first Ctrl-C into a request; the second is the usual KeyboardInterrupt."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def request(_signum: int, _frame: Any) -> None:
        stop.requested = True
        signal.signal(signal.SIGINT, before)
        if not stop.running:
            raise KeyboardInterrupt
        on_stop()

    signal.signal(signal.SIGINT, request)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


class _BatchRun:
    """Keeps a session busy until all jobs are recorded, or a stop is requested."""

    def __init__(
        self,
        run: RunDirectory,
        limits: Limits,
        session: Session,
        jobs: Sequence[Job],
        stop: _Stop,
        on_event: OnEvent,
    ) -> None:
        self.run, self.limits, self.session, self.stop, self.on_event = run, limits, session, stop, on_event
        self.waiting = deque(jobs)
        self.suspects = deque[Job]()
        """Jobs that lost their worker twice, perhaps because of another one that ran beside them: each is run alone."""
        self.losses = Counter[str]()
        self.live: dict[cf.Future[Any], tuple[Job, float]] = {}

    def run_all(self) -> None:
        """Start jobs, and record those that end; every future is dropped when it was read (Dask would keep its result)."""
        while True:
            while (job := self._next()) is not None:
                self._start(job)
            if not self.live:
                self.stop.running = False
                return
            done, _ = cf.wait(self.live, return_when=cf.FIRST_COMPLETED)
            while done:
                future = done.pop()
                job, began = self.live.pop(future)
                self.session.expect(len(self.waiting) + len(self.suspects) + len(self.live))
                self._finish(job, future, time.monotonic() - began)
                del future

    def _next(self) -> Job | None:
        if self.stop.requested:
            return None
        if self.waiting:
            return self.waiting.popleft() if len(self.live) < self.session.window else None
        return self.suspects.popleft() if self.suspects and not self.live else None

    def _start(self, job: Job) -> None:
        self.stop.running = True
        self.on_event(Event("started", job.submission))
        self.live[self.session.submit(load_job(self.run, job))] = job, time.monotonic()

    def _finish(self, job: Job, future: cf.Future[Any], seconds: float) -> None:
        try:
            result = self.session.read(future)
        except EngineError:
            raise
        except (WorkerLostError, cf.CancelledError) as error:
            self._lost(job, error)
        except Exception as error:  # a bug of ours must not stop the batch
            self._record_fault(job, f"{type(error).__name__}: {error}")
        else:
            self._record(job, result, seconds)

    def _lost(self, job: Job, error: BaseException) -> None:
        name = job.submission.id
        self.losses[name] += 2 if isinstance(error, WorkerLostError) and error.repeatedly else 1
        if self.losses[name] < _LOSSES - 1:
            self.waiting.append(job)
        elif self.losses[name] < _LOSSES:
            self.suspects.append(job)
        else:
            why = f": {error}" if str(error) else ""
            self._record_fault(job, f"the worker was lost {_LOSSES} times while it ran this submission{why}")

    def _record(self, job: Job, result: SubmissionRun, seconds: float) -> None:
        execution, limits = result.execution, job.again.limits if job.again else self.limits
        done = Done(
            seconds=round(seconds, 3),
            cpu_seconds=round(execution.usage.cpu_seconds, 3),
            fault=result.fault,
            parts=job.parts,
            outcome=execution.outcome.value,
            limits={name: getattr(limits, name) for name in ("cpu_seconds", "wall_seconds", "memory_bytes")},
            again=job.again,
        )
        self.run.save_result(job.submission.id, result, done)
        self.on_event(Event("fault" if result.fault else "finished", job.submission, seconds, result.fault))

    def _record_fault(self, job: Job, fault: str) -> None:
        self.run.forget(job.submission.id)
        self.run.write(f"submissions/{job.submission.id}/done.json", Done(job.parts, 0.0, 0.0, fault, again=job.again))
        self.on_event(Event("fault", job.submission, 0.0, fault))
