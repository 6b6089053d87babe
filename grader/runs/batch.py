"""Many submissions: worker processes run them, the coordinator alone records what they bring.

The pump speaks `concurrent.futures.Executor` and keeps a bounded window in flight, so that an engine for a cluster only has
to supply an executor. What is finished stays finished: a submission whose content key has not changed is not run again.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import functools
import secrets
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from grader import serialization
from grader.errors import EngineError, InfrastructureError
from grader.grading.context import RunContext
from grader.records import Evidence, Execution, Notebook, Submission
from grader.runs.directory import Done, RunDirectory
from grader.runs.engines.contract import Engine
from grader.runs.engines.worker import Brought, Job, Order, Setting, identity, serve
from grader.runs.plan import jobs_for, load_job

__all__ = [
    "Event",
    "Job",
    "Setting",
    "jobs_for",
    "order_for",
    "pump",
    "run_batch",
    "workers_for",
]

T = TypeVar("T")
_GIB = 1 << 30
_LOSSES = 3


@dataclass(frozen=True, slots=True)
class Event:
    """Something a progress display can tell."""

    kind: str
    """`cached` (nothing to do), `started`, `finished`, `fault` (ours: will be run again next time)."""
    submission: Submission
    """Which submission."""
    seconds: float = 0.0
    """Wall seconds it took, when finished."""
    detail: str = ""
    """Why it is a fault, or why it is run again."""


class NotSentError(Exception):
    """The workers had broken down before an item was sent to them: it is not to blame."""


def workers_for(cores: int, memory_bytes: int, model_bytes: int = 0) -> int:
    """How many submissions to run side by side: one per core, as far as the memory that is available goes.

    A worker with its zygote and a kernel that trains takes 0.65 GiB (docs/benchmarks.md) and is given 1 GiB. On top come twelve
    times the model: weights, gradients and Adam's two moments of the one that is trained, and, of three methods, what the
    notebook keeps, the witness's copies, and room for one that is made anew. Everything else has 1 GiB.
    """
    return max(1, min(cores, (memory_bytes - _GIB) // (_GIB + 12 * model_bytes)))


def pump(
    executor: cf.Executor, function: Callable[[T], Any], items: Iterable[T], window: int
) -> Iterator[tuple[T, Any, BaseException | None]]:
    """Yield (item, result, error) as they complete, never more than `window` in flight; every future is dropped when read."""
    waiting = iter(items)
    live: dict[cf.Future[Any], T] = {}
    exhausted = False
    while True:
        while not exhausted and len(live) < window:
            try:
                item = next(waiting)
            except StopIteration:
                exhausted = True
                break
            try:
                live[executor.submit(function, item)] = item
            except cf.BrokenExecutor as error:
                exhausted = True  # no engine is left to give work to; the caller decides what becomes of the rest
                yield item, None, NotSentError(str(error))
        if not live:
            return
        done, _ = cf.wait(live, return_when=cf.FIRST_COMPLETED)
        while done:
            future = done.pop()
            item = live.pop(future)
            failure = cf.CancelledError() if future.cancelled() else future.exception()
            result = None if failure is not None else future.result()
            del future
            yield item, result, failure


def order_for(context: RunContext, setting: Setting) -> Order:
    """Make the order that workers serve: the setting, and what they have to be. Raises BundleError for a damaged bundle."""
    return Order(setting, identity(context), secrets.token_hex(8))


def run_batch(
    run: RunDirectory,
    order: Order,
    jobs: Sequence[Job],
    engine: Engine,
    on_event: Callable[[Event], None] = lambda _event: None,
    on_stop: Callable[[], None] = lambda: None,
) -> None:
    """Run jobs on an engine's workers and record each as it completes.

    A worker that dies (out of memory, killed) is replaced; a submission that loses its worker three times, the third time
    running alone, is recorded as our fault, never as a zero. Ctrl-C once calls `on_stop`, lets running submissions finish (if any)
    and then raises KeyboardInterrupt, twice stops at once; what is recorded stays. Raises EngineError when no fit worker is
    to be had.
    """
    waiting = list(jobs)
    losses: dict[str, int] = {}
    with _gentle_stop(on_stop) as stop:
        while waiting and not stop.wished:
            # who was there when workers were lost may be the cause, or only have run beside it: alone it will show
            suspects = [job for job in waiting if losses.get(job.submission.id, 0) == _LOSSES - 1]
            others = [job for job in waiting if losses.get(job.submission.id, 0) < _LOSSES - 1]
            again = _round(run, order, others or suspects, engine, losses, stop, on_event, alone=not others)
            waiting = [*again, *suspects] if others else again
        if stop.wished:
            raise KeyboardInterrupt


class _Stop:
    """What Ctrl-C wishes."""

    wished = False
    """True after the first one: nothing new is begun."""
    running = False
    """True while submissions are with workers; else there is nothing to finish, and the first Ctrl-C is the last."""


@contextlib.contextmanager
def _gentle_stop(on_stop: Callable[[], None]) -> Iterator[_Stop]:
    """Turn the first Ctrl-C into a wish; the second is the usual KeyboardInterrupt."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def wish(_signum: int, _frame: Any) -> None:
        stop.wished = True
        signal.signal(signal.SIGINT, before)
        if not stop.running:
            raise KeyboardInterrupt
        on_stop()

    signal.signal(signal.SIGINT, wish)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _round(
    run: RunDirectory,
    order: Order,
    jobs: Sequence[Job],
    engine: Engine,
    losses: dict[str, int],
    stop: _Stop,
    on_event: Callable[[Event], None],
    *,
    alone: bool,
) -> list[Job]:
    """Run jobs on one set of workers until it is done or broken, `alone` one at a time; returns what has to be run again."""
    lost: dict[str, tuple[Job, BaseException]] = {}
    started: set[str] = set()
    work = functools.partial(serve, order)
    with engine.open(order) as session:
        left = len(jobs)
        for job, result, error in pump(
            session.executor, work, _announce(run, jobs, started, stop, on_event), 1 if alone else session.window
        ):
            left -= 1
            session.expect(left)
            if error is None:
                _record(run, job, result, on_event)
            elif isinstance(error, EngineError):
                raise error
            elif isinstance(error, NotSentError):
                started.discard(job.submission.id)
            elif isinstance(error, cf.BrokenExecutor | cf.CancelledError | InfrastructureError):
                lost[job.submission.id] = (job, error)
            else:
                _record_fault(run, job, f"{type(error).__name__}: {error}", on_event)
        stop.running = False
    if not started and not stop.wished:
        raise EngineError("the workers broke down before anything could be sent to them; nothing was run")
    again = [job for job in jobs if job.submission.id not in started]
    for name, (job, error) in lost.items():
        losses[name] = losses.get(name, 0) + 1
        if losses[name] < _LOSSES:
            again.append(job)
        else:
            why = f": {error}" if isinstance(error, InfrastructureError) else ""
            _record_fault(run, job, f"the worker was lost {_LOSSES} times while it ran this submission{why}", on_event)
    return again


def _announce(
    run: RunDirectory,
    jobs: Iterable[Job],
    started: set[str],
    stop: _Stop,
    on_event: Callable[[Event], None],
) -> Iterator[Job]:
    for job in jobs:
        if stop.wished:
            return
        stop.running = True
        started.add(job.submission.id)
        on_event(Event("started", job.submission))
        yield load_job(run, job)


def _record(run: RunDirectory, job: Job, brought: Brought, on_event: Callable[[Event], None]) -> None:
    notebook, execution = (
        serialization.loads(brought.notebook, Notebook),
        serialization.loads(brought.execution, Execution),
    )
    evidence = serialization.loads(brought.evidence, Evidence)
    done = Done(job.key, round(brought.seconds, 3), round(execution.usage.cpu_seconds, 3), brought.fault, job.parts)
    run.save_result(job.submission.id, notebook, execution, evidence, done)
    on_event(Event("fault" if brought.fault else "finished", job.submission, brought.seconds, brought.fault))


def _record_fault(run: RunDirectory, job: Job, fault: str, on_event: Callable[[Event], None]) -> None:
    run.forget(job.submission.id)
    run.write(f"submissions/{job.submission.id}/done.json", Done(job.key, 0.0, 0.0, fault, job.parts))
    on_event(Event("fault", job.submission, 0.0, fault))
