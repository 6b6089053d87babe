"""What happens in a worker process, wherever it runs: one grader per run, opened once, warm for all submissions.

Trusted; what student code brings comes back as JSON text and is decoded by the coordinator. A worker first compares what it is
(versions, code, bundle, questions) with what the coordinator is, because evidence of unequal workers must never be mixed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import importlib.metadata
import json
import multiprocessing.util
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grader
from grader import serialization
from grader.assignments import load_assignment
from grader.bundles import load_bundle
from grader.errors import EngineError, InfrastructureError
from grader.grading.context import RunContext
from grader.grading.fingerprint import code_digest, question_digest, versions
from grader.grading.pipeline import Grader
from grader.records import Submission
from grader.sandbox.contract import Limits, Outcome

__all__ = [
    "Brought",
    "Job",
    "Order",
    "Setting",
    "begin",
    "differences",
    "end",
    "identity",
    "serve",
    "speak_through",
    "stage_teller",
]

_SHORT = 12
_COORDINATOR_ONLY = {"authoring", "cli", "intake", "lms", "reports"}
_DOUBT_SECONDS = 1.0
_CLEANING_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What every worker process needs to begin."""

    assignment: str
    """Name `load_assignment` takes."""
    bundle_path: str
    """Folder of the bundle; empty for the stand-in that ships with the grader."""
    secret: bytes = field(repr=False)
    """The run's secret; kept out of logs."""
    sandbox: str
    """`auto`, `warm`, `cold` or `none`."""
    limits: Limits
    """What one submission may use."""


@dataclass(frozen=True, slots=True)
class Order:
    """A setting, and what a worker has to be to serve it."""

    setting: Setting
    """What to run submissions with."""
    identity: Mapping[str, str]
    """What the coordinator is; see `identity`. Empty for workers of the same machine and the same files."""
    token: str
    """Name of this batch among all that a long-lived worker may serve."""
    stages: str = ""
    """Folder for small files that say how far each submission is; empty, or not there on this machine, for none."""


@dataclass(frozen=True, slots=True)
class Job:
    """One submission to run."""

    submission: Submission
    """Whose it is."""
    data: bytes = b""
    """The notebook's bytes; read when the job is sent."""
    companions: dict[str, bytes] = field(default_factory=dict)
    """Further files by base name."""
    key: str = ""
    """Its content key."""
    parts: dict[str, str] = field(default_factory=dict)
    """What the key was made of (see `grader.runs.plan.content_parts`)."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What one submission brought; records travel as JSON text, never as pickled objects of the student's making."""

    notebook: str
    """The notebook as it ran."""
    execution: str
    """How it went."""
    evidence: str
    """What was seen."""
    fault: str
    """Why the grader or its machine failed, when it did."""
    seconds: float
    """Wall seconds it took."""
    host: str
    """Machine it ran on."""


_graders: dict[str, Grader] = {}
_speakers: dict[str, Callable[[str, str], None]] = {}
_opening = threading.RLock()  # the handler of a signal may meet a thread that holds it
_told_to_end = threading.Event()


@functools.cache
def _package_digest() -> str:
    root = Path(grader.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        if path.relative_to(root).parts[0].removesuffix(".py") in _COORDINATOR_ONLY:
            continue
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def identity(context: RunContext) -> dict[str, str]:
    """Everything that must be the same on the coordinator and on each worker, by names that people know.

    Raises BundleError when a file of the bundle is not what its manifest says.
    """
    context.bundle.verify()
    questions = {name: question_digest(question) for name, question in context.questions("identity").items()}
    return {
        **versions(),
        "peft": _version_of("peft"),
        "grader's code": _package_digest()[:_SHORT],
        "code in the box": code_digest()[:_SHORT],
        "bundle": f"{context.bundle.name} {context.bundle.digest[:_SHORT]}",
        "questions": hashlib.sha256(json.dumps(questions, sort_keys=True).encode()).hexdigest()[:_SHORT],
    }


def differences(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """Name what differs between coordinator (`here`) and worker (`there`), one phrase each."""
    names = sorted({*here, *there})
    return [
        f"{name}: {here.get(name, 'absent')} here, {there.get(name, 'absent')} there"
        for name in names
        if here.get(name) != there.get(name)
    ]


def begin(order: Order) -> str:
    """Open this process's grader for an order, once; returns the host's name.

    Raises EngineError when this worker is not what the coordinator is, SandboxError when no box can be built here.
    """
    host = socket.gethostname()
    with _opening:
        if order.token in _graders:
            return host
        _hear_sigterm()
        setting = order.setting
        bundle = load_bundle(Path(setting.bundle_path) if setting.bundle_path else None)
        context = RunContext.create(load_assignment(setting.assignment), bundle, setting.secret)
        unequal = differences(order.identity, identity(context)) if order.identity else []
        if unequal:
            raise EngineError(
                f"the worker on {host} is not what this machine is ({'; '.join(unequal)}). Give all workers the same "
                "environment, grader and bundle, e.g. one virtual environment on a shared file system; see docs/clusters.md"
            )
        opened = Grader(context, sandbox=setting.sandbox, limits=setting.limits)
        opened.__enter__()
        _graders[order.token] = opened
        multiprocessing.util.Finalize(None, end, args=(order.token,), exitpriority=10)
    return host


def _hear_sigterm() -> None:
    """Remember that this process was told to end, then do what it does anyway, or clean up and end.

    Slurm tells all processes of a job at once, kernels, too: what looks like a kernel that died is none of the student's doing.
    """
    if threading.current_thread() is not threading.main_thread() or _told_to_end.is_set():
        return
    before = signal.getsignal(signal.SIGTERM)

    def told(number: int, frame: Any) -> None:
        _told_to_end.set()
        if callable(before):
            before(number, frame)
            return
        late = threading.Timer(_CLEANING_SECONDS, os._exit, args=(128 + number,))
        late.daemon = True
        late.start()
        for token in list(_graders):
            with contextlib.suppress(Exception):
                end(token)
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, told)


def end(token: str) -> None:
    """Close the grader of an order, if this process has one: its zygote and its boxes end."""
    with _opening:
        opened = _graders.pop(token, None)
    if opened is not None:
        opened.__exit__(None, None, None)


def stage_teller(folder: str, submission_id: str) -> Callable[[str], None]:
    """Make a function that leaves a submission's stage where a progress display finds it; it never raises."""
    path = Path(folder) / submission_id

    def tell(stage: str) -> None:
        if folder:
            with contextlib.suppress(OSError):  # no such folder here, a full disk: of no consequence
                path.write_text(stage, encoding="utf-8")

    return tell


def speak_through(token: str, speak: Callable[[str, str], None] | None) -> None:
    """Let an engine carry stages to its coordinator: `speak(submission id, stage)`, which must never raise; None to end it."""
    if speak is None:
        _speakers.pop(token, None)
    else:
        _speakers[token] = speak


def serve(order: Order, job: Job) -> Brought:
    """Run one submission; a worker that no engine could warm up begins here.

    Raises InfrastructureError when this worker was told to end meanwhile: nothing that was seen then counts.
    """
    speak, name = _speakers.get(order.token), job.submission.id
    tell = functools.partial(speak, name) if speak is not None else stage_teller(order.stages, name)
    tell("starting")
    host = begin(order)
    start = time.monotonic()
    result = asyncio.run(_graders[order.token].run(job.submission, job.data, job.companions, tell))
    if result.execution.outcome is Outcome.KERNEL_DIED:
        time.sleep(_DOUBT_SECONDS)  # if the same hand ended the kernel, its word has reached us by then
    if _told_to_end.is_set():
        raise InfrastructureError(f"the worker on {host} was told to end while it ran this submission")
    write = functools.partial(serialization.dumps, compact=True)
    texts = write(result.notebook), write(result.execution), write(result.evidence)
    return Brought(*texts, result.fault, time.monotonic() - start, host)
