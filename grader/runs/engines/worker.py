"""What happens in a Dask worker: one engine of its own per batch, opened once, warm for all submissions, several of them side by side.

Trusted; what student code brings comes back as JSON text and is decoded by the coordinator. A worker first compares what it is
(versions, code, bundle, questions) with what the coordinator is, because evidence of unequal workers must never be mixed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import multiprocessing.util
import signal
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from grader import serialization
from grader.errors import EngineError
from grader.grading.context import RunContext
from grader.grading.fingerprint import package_digest, versions
from grader.imports import leave_out
from grader.records import Outcome, SubmissionRun
from grader.runs.directory import RunInfo, load_context
from grader.runs.engines import Job, LocalEngine, OnStage, Session, WorkerLostError

__all__ = ["Order", "begin", "end", "identity", "serve"]

_SHORT = 12
_DOUBT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker needs to serve a batch, and what it has to be."""

    info: RunInfo
    """How the run was made."""
    secret: bytes = field(repr=False)
    """The run's secret; kept out of logs."""
    identity: Mapping[str, str]
    """What the coordinator is; see `identity`."""
    token: str
    """Name of this batch among all that a long-lived worker may serve."""


_serving: dict[str, tuple[Session, contextlib.ExitStack]] = {}
"""By token, where this process runs the submissions of a batch, and what ends that."""
_opening = threading.Lock()
_told_to_end = threading.Event()


def identity(context: RunContext) -> dict[str, str]:
    """Everything that must be the same on the coordinator and on each worker, by names that people know.

    Raises BundleError when a file of the bundle is not what its manifest says.
    """
    context.bundle.verify()
    return {
        **versions(),
        "peft": importlib.metadata.version("peft"),
        "grader's code": package_digest()[:_SHORT],
        "bundle": f"{context.bundle.name} {context.bundle.digest[:_SHORT]}",
        "questions": context.question_sample[:_SHORT],
    }


def begin(order: Order, on_stage: OnStage) -> None:
    """Open this process's engine for a batch, once; the first caller's `on_stage` hears of all that it runs.

    Raises EngineError when this worker is not what the coordinator is, SandboxError when no box can be built here.
    """
    with _opening:
        if order.token in _serving:
            return
        _handle_sigterm()
        leave_out()
        context = load_context(order.info, order.secret)
        here, there = order.identity, identity(context)
        unequal = [
            f"{name}: {here.get(name, 'absent')} here, {there.get(name, 'absent')} there"
            for name in sorted({*here, *there})
            if here.get(name) != there.get(name)
        ]
        if unequal:
            raise EngineError(
                f"the worker on {socket.gethostname()} is not what this machine is ({'; '.join(unequal)}). Give all workers the"
                " same environment, grader and bundle, e.g. one virtual environment on a shared file system; see docs/clusters.md"
            )
        with contextlib.ExitStack() as opened:
            session = opened.enter_context(LocalEngine(1).open(order.info, context, on_stage))
            _serving[order.token] = session, opened.pop_all()
        multiprocessing.util.Finalize(None, end, args=(order.token,), exitpriority=10)


def _handle_sigterm() -> None:
    """Remember that this process was told to end, where Dask lets it go on for a while.

    Slurm signals all processes of a job at once, kernels too: a kernel that dies then is not the student's fault. A process
    without a handler ends at once and reports nothing; its boxes end with it.
    """
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(before) or _told_to_end.is_set():
        return

    def handle(number: int, frame: Any) -> None:
        _told_to_end.set()
        before(number, frame)

    signal.signal(signal.SIGTERM, handle)


def end(token: str) -> None:
    """Close the engine of a batch, if this process has one: its zygote and its boxes end."""
    with _opening:
        _, opened = _serving.pop(token, (None, None))
    if opened is not None:
        opened.close()


def serve(order: Order, job: Job, on_stage: OnStage) -> str:
    """Run one submission; returns its `SubmissionRun` as JSON.

    Raises WorkerLostError when this worker was told to end meanwhile: nothing that was seen then counts.
    """
    begin(order, on_stage)
    session, _ = _serving[order.token]
    result: SubmissionRun = session.submit(job).result()
    if result.execution.outcome is Outcome.KERNEL_DIED:
        time.sleep(_DOUBT_SECONDS)  # if the kernel was ended together with us, our signal has come by then
    if _told_to_end.is_set():
        raise WorkerLostError(f"the worker on {socket.gethostname()} was told to end")
    return serialization.dumps(result, compact=True)
